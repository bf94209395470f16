//! The end of a run: does everything add up, and were the alerts right?

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use arrow::array::AsArray;
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type};
use thalweg::Stream;

use crate::Result;
use crate::detect::{Alert, Outcome};
use crate::generate::Sent;
use crate::words::{grouped, short};

/// Prints what came out and checks that no event is missing.
///
/// # Errors
/// If the numbers do not add up, or a file cannot be read.
pub fn print(outcome: &Outcome, sent: Option<&Sent>, truth: Option<&Path>) -> Result<()> {
    let metrics = &outcome.metrics;
    let rate = metrics.rows_in as f64 / outcome.took.as_secs_f64().max(1e-3);
    let latency = metrics.latency;
    println!("\nspeed");
    println!("  {} transactions in {:.1} s: {} a second", grouped(metrics.rows_in), outcome.took.as_secs_f64(), grouped(rate as u64));
    let (p50, p99, p999, slowest) = (short(latency.p50), short(latency.p99), short(latency.p999), short(latency.max));
    println!("  from arrival to decision or result: p50 {p50}, p99 {p99}, p99.9 {p999}, slowest {slowest}");
    if let Some(sent) = sent {
        println!("  {} simulated days; the sender was at most {:.1} ms behind its schedule", sent.days, sent.behind_ms);
    }
    let balance = Balance::of(outcome, sent)?;
    println!("\nnothing vanishes\n{balance}");
    if let Some(truth) = truth {
        let frauds = read_truth(truth)?;
        println!("\nalerts against the truth, which the pipeline did not see\n{}", Judgement::of(&frauds, &outcome.alerts));
    }
    print_places(&outcome.out);
    balance.check()
}

fn print_places(out: &Path) {
    let out = out.display();
    println!("\nwhere to look");
    println!("  {out}/windows/*.parquet   what each card spent each day");
    println!("  {out}/alerts.ndjson       transactions to act on");
    println!("  {out}/late.ndjson         transactions that came after their day was closed");
    println!("  duckdb -c \"SELECT card, max(total) AS most FROM '{out}/windows/*.parquet' GROUP BY card ORDER BY most DESC LIMIT 5\"");
}

/// Where the events went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Balance {
    sent: Option<u64>,
    rows_in: u64,
    decided: u64,
    in_windows: u64,
    late: u64,
    quarantined: u64,
}

impl Balance {
    /// Counts the rows in windows from the files that were written, not from a counter.
    fn of(outcome: &Outcome, sent: Option<&Sent>) -> Result<Balance> {
        let metrics = &outcome.metrics;
        let windows = Stream::read_parquet(&outcome.out.join("windows/*.parquet").to_string_lossy())?.select(["n"]).collect()?;
        let mut in_windows = 0;
        for batch in windows.batches() {
            let counts = compute::cast(batch.column(0), &DataType::Int64)?;
            in_windows += compute::sum(counts.as_primitive::<Int64Type>()).unwrap_or(0) as u64;
        }
        Ok(Balance {
            sent: sent.map(|sent| sent.events),
            rows_in: metrics.rows_in,
            decided: outcome.decided,
            in_windows,
            late: metrics.late_rows,
            quarantined: metrics.quarantined_rows,
        })
    }

    /// # Errors
    /// Which numbers differ.
    fn check(&self) -> Result<()> {
        let Balance { sent, rows_in, decided, in_windows, late, quarantined } = *self;
        let mut wrong = Vec::new();
        let arrived = rows_in + quarantined;
        if sent.is_some_and(|sent| sent != arrived) {
            wrong.push(format!("{} events were sent, but {arrived} arrived", sent.unwrap_or(0)));
        }
        if rows_in != in_windows + late {
            wrong.push(format!("{rows_in} rows came in, but {in_windows} are in windows and {late} were late"));
        }
        if decided != rows_in {
            wrong.push(format!("{rows_in} rows came in, but {decided} got a decision"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("events are missing or double: {}", wrong.join("; ")).into()) }
    }
}

impl std::fmt::Display for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sent = self.sent.map_or("unknown".to_owned(), grouped);
        writeln!(f, "  sent {sent}, decided {}", grouped(self.decided))?;
        let (late, quarantined) = (grouped(self.late), grouped(self.quarantined));
        let total = self.in_windows + self.late + self.quarantined;
        write!(f, "  in windows {} + late {late} + quarantined {quarantined} = {}", grouped(self.in_windows), grouped(total))
    }
}

/// Ids of the frauds with their scenarios, 1 to 4.
fn read_truth(path: &Path) -> Result<HashMap<u64, u8>> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut frauds = HashMap::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let fields = line.split_once(',').and_then(|(id, scenario)| Some((id.parse().ok()?, scenario.parse().ok()?)));
        let (id, scenario) = fields
            .filter(|(_, scenario)| (1..=4).contains(scenario))
            .ok_or_else(|| format!("{} line {}: `{line}` is not an id and a scenario from 1 to 4", path.display(), number + 1))?;
        frauds.insert(id, scenario);
    }
    Ok(frauds)
}

/// A share of a whole, in percent; none of nothing is 0%.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    fn count(&mut self, hit: bool) {
        self.part += u64::from(hit);
        self.whole += 1;
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = 100.0 * self.part as f64 / self.whole.max(1) as f64;
        write!(f, "{percent:>5.1}%  ({} of {})", grouped(self.part), grouped(self.whole))
    }
}

/// How good the alerts were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Judgement {
    /// Right alerts among those over the limit and the others.
    precision: [Share; 2],
    /// Frauds that were caught, by scenario.
    recall: [Share; 4],
}

impl Judgement {
    fn of(frauds: &HashMap<u64, u8>, alerts: &[Alert]) -> Judgement {
        let mut judgement = Judgement::default();
        let raised: HashSet<u64> = alerts.iter().map(|alert| alert.id).collect();
        for alert in alerts {
            judgement.precision[usize::from(!alert.over_limit)].count(frauds.contains_key(&alert.id));
        }
        for (id, scenario) in frauds {
            judgement.recall[usize::from(*scenario) - 1].count(raised.contains(id));
        }
        judgement
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total = |shares: &[Share]| {
            shares.iter().fold(Share::default(), |sum, share| Share { part: sum.part + share.part, whole: sum.whole + share.whole })
        };
        let [limit, unlike] = self.precision;
        let [amount, terminal, card, clone] = self.recall;
        writeln!(f, "  precision                       {}", total(&self.precision))?;
        writeln!(f, "    amount over 220               {limit}")?;
        writeln!(f, "    unlike the card               {unlike}")?;
        writeln!(f, "  recall                          {}", total(&self.recall))?;
        writeln!(f, "    1 large amount                {amount}")?;
        writeln!(f, "    2 compromised terminal        {terminal}  leaves no trace in these columns")?;
        writeln!(f, "    3 leaked card                 {card}")?;
        write!(f, "    4 cloned card                 {clone}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WHOLE: Balance = Balance { sent: Some(10), rows_in: 9, decided: 9, in_windows: 7, late: 2, quarantined: 1 };

    #[test]
    fn a_balance_that_adds_up_passes_and_every_other_says_why() {
        assert!(WHOLE.check().is_ok());
        assert!(Balance { sent: None, ..WHOLE }.check().is_ok());
        let why = |balance: Balance| balance.check().unwrap_err().to_string();
        assert_eq!(why(Balance { sent: Some(11), ..WHOLE }), "events are missing or double: 11 events were sent, but 10 arrived");
        assert_eq!(
            why(Balance { in_windows: 6, decided: 8, ..WHOLE }),
            "events are missing or double: 9 rows came in, but 6 are in windows and 2 were late; 9 rows came in, but 8 got a decision"
        );
    }

    #[test]
    fn alerts_are_judged_by_rule_and_frauds_by_scenario() {
        let frauds = HashMap::from([(1, 1), (2, 2), (3, 3), (4, 3)]);
        let alert = |id, over_limit| Alert { id, over_limit };
        let judgement = Judgement::of(&frauds, &[alert(1, true), alert(3, false), alert(9, false)]);
        let share = |part, whole| Share { part, whole };
        assert_eq!(judgement.precision, [share(1, 1), share(1, 2)]);
        assert_eq!(judgement.recall, [share(1, 1), share(0, 1), share(1, 2), share(0, 0)]);
        let text = judgement.to_string();
        assert!(text.starts_with("  precision                        66.7%  (2 of 3)\n"), "{text}");
        assert!(text.contains("  recall                           50.0%  (2 of 4)\n"), "{text}");
    }

    #[test]
    fn a_truth_file_that_is_none_is_refused_by_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "id,scenario\n5,1\n6,5\n").unwrap();
        let error = read_truth(file.path()).unwrap_err().to_string();
        assert!(error.ends_with("line 3: `6,5` is not an id and a scenario from 1 to 4"), "{error}");
    }
}
