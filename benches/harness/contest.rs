//! Contenders that take turns, and who wins by how much.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::answer::Answer;
use crate::{Common, Result, machine};

/// One run: how long it took and what came out.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// By the clock on the wall.
    pub seconds: f64,
    /// On the core, where the work is done by one thread.
    pub cpu_seconds: Option<f64>,
    pub answer: Answer,
}

impl Run {
    /// Times `work` of this thread alone.
    pub fn time(work: impl FnOnce() -> Result<Answer>) -> Result<Run> {
        let (start, cpu_start) = (Instant::now(), machine::thread_seconds());
        let answer = work()?;
        let cpu_seconds = machine::thread_seconds().zip(cpu_start).map(|(end, start)| end - start);
        Ok(Run { seconds: start.elapsed().as_secs_f64(), cpu_seconds, answer })
    }
}

/// Which seconds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Timing {
    /// Those on the wall.
    Wall,
    /// Those on the core, for all contenders that work in one thread: where a machine is busy with other things too.
    Cpu,
}

impl Timing {
    fn seconds(self, run: &Run) -> f64 {
        match self {
            Timing::Wall => run.seconds,
            Timing::Cpu => run.cpu_seconds.unwrap_or(run.seconds),
        }
    }
}

/// Someone who does the work, once per call.
pub struct Contender<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() -> Result<Run> + 'a>,
    pub expected: Answer,
}

impl<'a> Contender<'a> {
    pub fn new(name: impl Into<String>, expected: Answer, run: impl FnMut() -> Result<Run> + 'a) -> Contender<'a> {
        Contender { name: name.into(), run: Box::new(run), expected }
    }
}

/// The work of one run: how much of which unit, for example `20e6` of `M rows/s` with `scale` `1e6`.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub amount: f64,
    pub unit: &'static str,
    pub scale: f64,
}

impl Work {
    pub fn rows(rows: usize) -> Work {
        Work { amount: rows as f64, unit: "M rows/s", scale: 1e6 }
    }

    pub fn bytes(bytes: usize) -> Work {
        Work { amount: bytes as f64, unit: "MB/s", scale: 1e6 }
    }
}

/// A measurement of several contenders at the same work.
#[derive(Debug, Clone, Serialize)]
pub struct Contest {
    pub name: String,
    pub unit: &'static str,
    pub entries: Vec<Entry>,
    pub goals: Vec<Goal>,
    pub recorded: Option<Recorded>,
    pub notes: Vec<String>,
}

/// What one contender reached, round by round.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub name: String,
    pub rates: Vec<f64>,
    pub median: f64,
    /// The first contender's rate over this one's in the same round.
    pub first_to_this: Ratio,
    /// Bytes of the columns that the query touches per second, over what one core reads from memory.
    pub share_of_bandwidth: Option<f64>,
}

impl Entry {
    /// The least and the greatest rate.
    pub fn range(&self) -> (f64, f64) {
        self.rates.iter().fold((f64::INFINITY, 0.0), |(low, high), &rate| (rate.min(low), rate.max(high)))
    }
}

/// The median of the ratios within each round, with the least and the greatest.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// A promise: `who` is at least `at_least` times as fast as `against`.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    pub who: String,
    pub against: String,
    pub at_least: f64,
    pub ratio: Ratio,
    pub met: bool,
}

/// A rate that was measured elsewhere and at another time, of someone who does not take part.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    /// Whose rate it is, on which machine and when.
    pub source: &'static str,
    pub rate: f64,
    /// The first contender's rate over this one.
    pub ratio: f64,
    pub at_least: Option<f64>,
    pub met: Option<bool>,
}

impl Recorded {
    pub fn new(source: &'static str, rate: f64, at_least: Option<f64>, first: &Entry) -> Recorded {
        let ratio = first.median / rate;
        Recorded { source, rate, ratio, at_least, met: at_least.map(|at_least| ratio >= at_least) }
    }
}

/// The middle of `values`; of an even number, the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

impl Ratio {
    fn of(rates: &[f64], against: &[f64]) -> Ratio {
        let ratios: Vec<f64> = rates.iter().zip(against).map(|(rate, against)| rate / against).collect();
        let (low, high) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), &ratio| (low.min(ratio), high.max(ratio)));
        Ratio { median: median(&ratios), low, high }
    }
}

impl Contest {
    /// Lets the contenders take turns for `rounds` rounds, checking every answer.
    ///
    /// # Errors
    /// If a contender fails or gives a wrong answer.
    pub fn hold(name: &str, work: Work, common: &Common, mut contenders: Vec<Contender<'_>>) -> Result<Contest> {
        let (name, rounds) = (name.to_owned(), common.runs);
        let bar = ProgressBar::new((rounds * contenders.len()) as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        let mut rates = vec![Vec::with_capacity(rounds); contenders.len()];
        for _ in 0..rounds {
            for (contender, rates) in contenders.iter_mut().zip(&mut rates) {
                bar.set_message(format!("{name}: {}", contender.name));
                let run = (contender.run)().map_err(|error| format!("{name}, {}: {error}", contender.name))?;
                run.answer.agree(&contender.expected, &format!("{name}, {}", contender.name))?;
                rates.push(work.amount / common.timing.seconds(&run) / work.scale);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let first = rates.first().cloned().unwrap_or_default();
        let entry = |(contender, rates): (Contender<'_>, Vec<f64>)| Entry {
            name: contender.name,
            median: median(&rates),
            first_to_this: Ratio::of(&first, &rates),
            rates,
            share_of_bandwidth: None,
        };
        let entries = contenders.into_iter().zip(rates).map(entry).collect();
        Ok(Contest { name, unit: work.unit, entries, goals: Vec::new(), recorded: None, notes: Vec::new() })
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name.starts_with(name))
    }

    /// Adds the promise that `who` is `at_least` times as fast as `against`, if both took part; names may be cut short.
    pub fn goal(mut self, who: &str, against: &str, at_least: f64) -> Contest {
        if let (Some(a), Some(b)) = (self.entry(who), self.entry(against)) {
            let ratio = Ratio::of(&a.rates, &b.rates);
            let goal = Goal { who: a.name.clone(), against: b.name.clone(), at_least, ratio, met: ratio.median >= at_least };
            self.goals.push(goal);
        }
        self
    }

    /// Says what share of the bandwidth of memory each entry reaches, if it reads `bytes` per unit of work.
    pub fn reading(mut self, bytes: usize, gb_per_s: f64) -> Contest {
        for entry in &mut self.entries {
            entry.share_of_bandwidth = Some(entry.median * 1e6 * bytes as f64 / 1e9 / gb_per_s);
        }
        self
    }
}
