//! The dated record of a run: JSON with every round, and Markdown for the README.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::contest::{Contest, Timing};
use crate::machine::Machine;
use crate::report::{Report, rate};

/// Writes `benches/record/<date>-<cpu>.json` and `.md`, and returns the path of the latter. A record that is there
/// already is kept: the next of the day is numbered.
pub fn write(report: &Report) -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/record");
    fs::create_dir_all(&folder)?;
    let stem = format!("{}-{}", report.machine.date, slug(&report.machine.cpu));
    let named = |number: u32| if number == 1 { stem.clone() } else { format!("{stem}-{number}") };
    let free = (1..).map(named).find(|name| !folder.join(format!("{name}.json")).exists());
    let path = folder.join(free.unwrap_or(stem));
    report.write_json(&path.with_added_extension("json"))?;
    let markdown_path = path.with_added_extension("md");
    fs::write(&markdown_path, markdown(report)?)?;
    Ok(markdown_path)
}

/// Writes `benches/record/<date>-<name>-<cpu>.md` and returns its path. One of the same day is written over.
pub fn write_text(machine: &Machine, name: &str, text: &str) -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/record");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}-{name}-{}.md", machine.date, slug(&machine.cpu)));
    fs::write(&path, text)?;
    Ok(path)
}

/// Lower-case letters and digits, joined by hyphens.
fn slug(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

fn markdown(report: &Report) -> Result<String> {
    let mut text = format!("{}\n", report.machine);
    if report.timing == Timing::Cpu {
        text.push_str("Seconds are those on the core, not on the wall: the machine was busy with other things.\n");
    }
    text.push_str(
        "\n| measurement | contender | median (least–greatest) | of memory bandwidth | times as fast as |\n|---|---|---|---|---|\n",
    );
    report.contests.iter().try_for_each(|contest| rows(&mut text, contest))?;
    text.push_str("\n| target | measured | |\n|---|---|---|\n");
    for goal in report.contests.iter().flat_map(|contest| contest.goals.iter().map(move |goal| (contest, goal))) {
        let (contest, goal) = goal;
        let (median, low, high) = (goal.ratio.median, goal.ratio.low, goal.ratio.high);
        let met = if goal.met { "met" } else { "not met" };
        writeln!(
            text,
            "| {}: {} ≥ {}× {} | {median:.2}× ({low:.2}–{high:.2}) | {met} |",
            contest.name, goal.who, goal.at_least, goal.against
        )?;
    }
    for contest in &report.contests {
        let Some((recorded, at_least, met)) = contest.recorded.as_ref().and_then(|it| Some((it, it.at_least?, it.met?))) else { continue };
        let met = if met { "met" } else { "not met" };
        writeln!(text, "| {}: ≥ {at_least}× {} | {:.2}× | {met} |", contest.name, recorded.source, recorded.ratio)?;
    }
    for latency in &report.latencies {
        let met = if latency.met { "met" } else { "not met" };
        writeln!(
            text,
            "| {}, {} events/s: p99 < {} ms | {:.2} ms | {met} |",
            latency.name, latency.rate, latency.promised_p99, latency.p99
        )?;
    }
    if !report.latencies.is_empty() {
        text.push_str("\n| latency | events/s | p50 | p90 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|\n");
    }
    for l in &report.latencies {
        writeln!(
            text,
            "| {} | {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms |",
            l.name, l.rate, l.p50, l.p90, l.p99, l.p999, l.max
        )?;
    }
    Ok(text)
}

fn rows(text: &mut String, contest: &Contest) -> Result<()> {
    for (number, entry) in contest.entries.iter().enumerate() {
        let name = if number == 0 { contest.name.as_str() } else { "" };
        let share = entry.share_of_bandwidth.map_or_else(String::new, |share| format!("{:.0}%", share * 100.0));
        let ratio = match number {
            0 => String::new(),
            _ => format!("{:.2} ({:.2}–{:.2})", entry.first_to_this.median, entry.first_to_this.low, entry.first_to_this.high),
        };
        let (low, high) = entry.range();
        let (unit, median) = (contest.unit, rate(entry.median));
        writeln!(text, "| {name} | {} | {median} {unit} ({}–{}) | {share} | {ratio} |", entry.name, rate(low), rate(high))?;
    }
    if let Some(recorded) = &contest.recorded {
        writeln!(text, "| | {} | {} {} | | {:.2} |", recorded.source, rate(recorded.rate), contest.unit, recorded.ratio)?;
    }
    Ok(())
}
