//! What each detector is worth, and all of them together: which share of the frauds is among the riskiest transactions.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Float64Type, Int64Type};
use clap::Args;
use thalweg::operator::detect::Ewma;
use thalweg::{Detection, Stream, event_time, mins};

use crate::Result;
use crate::detect::schema;
use crate::signals::{ALERTS, NAMES, signals};
use crate::simulator::{DAY, FIRST_DAY, Simulator, World};
use crate::words::grouped;

/// Days of which no fraud counts: what is usual for a card is not known yet.
const SETTLED: i64 = 30;

/// Transactions of a batch.
const BATCH: usize = 8_192;

/// Kinds of fraud.
const KINDS: usize = 4;

/// The arguments of `fraud evaluate`.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Simulated days, of which the first 30 do not count
    #[arg(long, default_value_t = 120)]
    pub days: i64,
    /// Decides every transaction
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Card holders
    #[arg(long, default_value_t = 5_000)]
    pub customers: usize,
    /// Terminals at which they pay
    #[arg(long, default_value_t = 10_000)]
    pub terminals: usize,
}

/// Shares of the frauds that are among the riskiest transactions by one column: of all, and of each kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    pub name: String,
    pub all: f64,
    pub kinds: [f64; KINDS],
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Transactions that count, and frauds of each kind among them.
    pub transactions: usize,
    pub frauds: [usize; KINDS],
    /// By column; the last is all together.
    pub recalls: Vec<Recall>,
}

/// Transactions in the order in which they arrive, and the kind of fraud of each, 0 for none.
fn transactions(options: &Evaluate) -> Result<(Vec<RecordBatch>, Vec<u8>)> {
    let world = World { customers: options.customers, terminals: options.terminals, radius: 5.0, seed: options.seed };
    let simulator = Simulator::new(world)?;
    let places = simulator.places.clone();
    let all: Vec<_> = simulator.take_while(|transaction| transaction.arrival < FIRST_DAY + options.days * DAY).collect();
    let kinds = all.iter().map(|transaction| transaction.scenario.map_or(0, |scenario| scenario as u8)).collect();
    let batch = |(number, rows): (usize, &[crate::simulator::Transaction])| {
        let floats = |of: &dyn Fn(usize) -> f64| Arc::new((0..rows.len()).map(of).collect::<Float64Array>()) as ArrayRef;
        let texts = |of: &dyn Fn(usize) -> String| Arc::new((0..rows.len()).map(|row| Some(of(row))).collect::<StringArray>()) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| Some(row.ts)).collect::<TimestampMillisecondArray>()),
            Arc::new(Int64Array::from_iter_values((0..rows.len()).map(|row| (number * BATCH + row) as i64))),
            texts(&|row| format!("c-{:06}", rows[row].customer)),
            texts(&|row| format!("t-{:05}", rows[row].terminal)),
            floats(&|row| f64::from(rows[row].cents) / 100.0),
            floats(&|row| places[rows[row].terminal as usize].0),
            floats(&|row| places[rows[row].terminal as usize].1),
        ];
        RecordBatch::try_new(schema(), columns)
    };
    Ok((all.chunks(BATCH).enumerate().map(batch).collect::<Result<_, _>>()?, kinds))
}

/// The share of frauds among the riskiest transactions, as many as may be looked at. Of those that are as risky as the last of them a share counts.
fn recall(name: &str, scores: &[f64], kinds: &[u8]) -> Recall {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut left = ALERTS * scores.len() as f64;
    let (mut found, mut frauds) = ([0.0; KINDS], [0.0_f64; KINDS]);
    for group in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let share = (left / group.len() as f64).clamp(0.0, 1.0);
        left -= group.len() as f64;
        for kind in group.iter().map(|row| usize::from(kinds[*row])).filter(|kind| *kind > 0) {
            found[kind - 1] += share;
            frauds[kind - 1] += 1.0;
        }
    }
    let share = |found: f64, frauds: f64| found / frauds.max(1.0);
    Recall {
        name: name.to_owned(),
        all: share(found.iter().sum(), frauds.iter().sum()),
        kinds: std::array::from_fn(|kind| share(found[kind], frauds[kind])),
    }
}

/// Runs the detectors over what the simulator makes, beside the amount alone and its deviation from what is usual for the card.
pub fn evaluate(options: &Evaluate) -> Result<Evaluation> {
    let (batches, kinds) = transactions(options)?;
    let payments = Stream::from_batches(schema(), batches).event_time(event_time("ts").max_delay(mins(10)));
    let ewma = Ewma { alpha: 0.02, warmup: 40 };
    let scored =
        payments.detect(Detection::new(ewma).on(["amount"]).by(["card"])).select(["id", "ts", "amount", "score AS deviation"]).collect()?;
    let signalled = signals(&payments).collect()?;
    let mut columns: Vec<(&str, Vec<f64>)> = ["amount", "deviation"].into_iter().chain(NAMES).map(|name| (name, Vec::new())).collect();
    let mut counted = Vec::new();
    for (name, values) in &mut columns {
        let table = if ["amount", "deviation"].contains(name) { &scored } else { &signalled };
        for batch in table.batches() {
            let number = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"));
            let (ids, times) = (number("id")?.as_primitive::<Int64Type>(), number("ts")?);
            let times = times.as_primitive::<arrow::datatypes::TimestampMillisecondType>();
            let scores = number(name)?.as_primitive::<Float64Type>();
            let settled = (0..batch.num_rows()).filter(|row| times.value(*row) >= FIRST_DAY + SETTLED * DAY);
            if *name == "amount" {
                counted.extend(settled.clone().map(|row| kinds[ids.value(row) as usize]));
            }
            values.extend(settled.map(|row| scores.value(row)));
        }
    }
    let recalls = columns.iter().map(|(name, scores)| recall(name, scores, &counted)).collect();
    let frauds = std::array::from_fn(|kind| counted.iter().filter(|counted| usize::from(**counted) == kind + 1).count());
    Ok(Evaluation { transactions: counted.len(), frauds, recalls })
}

/// Runs `fraud evaluate`.
pub fn run(options: &Evaluate) -> Result<()> {
    let Evaluation { transactions, frauds, recalls } = evaluate(options)?;
    let [amount, terminal, card, clone] = frauds;
    println!(
        "{} transactions after {SETTLED} days, {} frauds; recall at {}% alerts",
        grouped(transactions as u64),
        frauds.iter().sum::<usize>(),
        ALERTS * 100.0
    );
    println!("{:10} {:>7} {:>15} {:>15} {:>15} {:>15}", "by", "all", "1 large amount", "2 terminal", "3 leaked card", "4 cloned card");
    println!("{:10} {:>7} {amount:>15} {terminal:>15} {card:>15} {clone:>15}", "", "");
    for Recall { name, all, kinds } in recalls {
        let [amount, terminal, card, clone] = kinds.map(|share| format!("{:.1}%", 100.0 * share));
        println!("{name:10} {:>6.1}% {amount:>15} {terminal:>15} {card:>15} {clone:>15}", 100.0 * all);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_detectors_together_find_more_than_any_rule_alone() {
        let options = Evaluate { days: 60, seed: 11, customers: 2_000, terminals: 4_000 };
        let Evaluation { frauds, recalls, .. } = evaluate(&options).unwrap();
        assert!(frauds.iter().all(|frauds| *frauds > 10), "{frauds:?}");
        let (together, alone) = recalls.split_last().unwrap();
        let best = alone.iter().map(|recall| recall.all).fold(0.0, f64::max);
        assert!(together.all > 1.1 * best, "{together:?} against {alone:?}");
        assert!(together.kinds[0] > 0.9 && together.kinds[3] > 0.5, "{together:?}");
        let of = |name: &str| recalls.iter().find(|recall| recall.name == name).unwrap();
        assert!(of("habits").all > of("deviation").all, "{recalls:?}");
    }

    #[test]
    fn of_rows_that_are_as_risky_a_share_is_among_the_riskiest() {
        let scores: Vec<f64> = (0..400)
            .map(|row| {
                if row < 2 {
                    9.0
                } else if row < 6 {
                    5.0
                } else {
                    1.0
                }
            })
            .collect();
        let mut kinds = vec![0; 400];
        (kinds[0], kinds[2], kinds[3], kinds[9]) = (1, 3, 3, 4);
        let recall = recall("score", &scores, &kinds);
        assert_eq!((recall.all, recall.kinds), (0.5, [1.0, 0.0, 0.5, 0.0]));
    }
}
