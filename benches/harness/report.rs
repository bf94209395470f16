//! What was measured, as a table for eyes and as JSON.

use std::fmt::{self, Write};
use std::fs::File;
use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::contest::{Contest, Ratio, Recorded, Timing};
use crate::latency::Latency;
use crate::machine::Machine;

/// Everything that one call of the harness measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub timing: Timing,
    pub contests: Vec<Contest>,
    pub latencies: Vec<Latency>,
}

impl Report {
    pub fn new(machine: Machine, timing: Timing) -> Report {
        Report { machine, timing, contests: Vec::new(), latencies: Vec::new() }
    }

    /// Adds a measurement and prints it at once: a long run shows what it has.
    pub fn add(&mut self, contest: Contest) {
        println!("{contest}");
        self.contests.push(contest);
    }

    /// As [`Report::add`].
    pub fn add_latency(&mut self, latency: Latency) {
        println!("{latency}");
        self.latencies.push(latency);
    }

    pub fn write_json(&self, path: &Path) -> Result<()> {
        Ok(serde_json::to_writer_pretty(File::create(path)?, self)?)
    }
}

/// A rate with three digits.
pub fn rate(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        let width = self.entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or_default();
        for (number, entry) in self.entries.iter().enumerate() {
            let (low, high) = entry.range();
            let mut line = format!("  {:width$}  {:>7} {} ({}–{})", entry.name, rate(entry.median), self.unit, rate(low), rate(high));
            if let Some(share) = entry.share_of_bandwidth {
                write!(line, ", {:.0}% of memory bandwidth", share * 100.0)?;
            }
            if number > 0 {
                let Ratio { median, low, high } = entry.first_to_this;
                write!(line, "; {} is {median:.2}× as fast ({low:.2}–{high:.2})", self.entries[0].name)?;
            }
            writeln!(f, "{line}")?;
        }
        for goal in &self.goals {
            let Ratio { median, low, high } = goal.ratio;
            let verdict = if goal.met { "met" } else { "NOT MET" };
            writeln!(f, "  target {verdict}: {} ≥ {}× {}: {median:.2}× ({low:.2}–{high:.2})", goal.who, goal.at_least, goal.against)?;
        }
        if let Some(Recorded { source, rate: recorded, ratio, at_least, met }) = &self.recorded {
            writeln!(f, "  {source}: {} {}; {} is {ratio:.2}× as fast", rate(*recorded), self.unit, self.entries[0].name)?;
            if let (Some(at_least), Some(met)) = (at_least, met) {
                writeln!(f, "  target {}: ≥ {at_least}× that: {ratio:.2}×", if *met { "met" } else { "NOT MET" })?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { name, rate, results, p50, p90, p99, p999, max, promised_p99, met } = self;
        writeln!(f, "{name}, {rate} events/s, {results} results")?;
        writeln!(f, "  p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")?;
        writeln!(f, "  target {}: p99 < {promised_p99} ms", if *met { "met" } else { "NOT MET" })
    }
}
