//! Several windows over one stream share panes: each gives what it gives alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::trace::{Row, records, traces};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;
use thalweg::sink::Callback;
use thalweg::state::{Reader, Snapshot, Writer};
use thalweg::testing::{batch, eof, source};
use thalweg::window::WindowSpec;
use thalweg::{
    Aggregate, AggregateFunction, Config, Metrics, Query, Result, Stream, approx_distinct, collect_list, count, cumulate, custom,
    event_time, first, hopping, last, max, median, millis, sum, tumbling,
};

type Lines = Arc<Mutex<Vec<String>>>;

fn keep(lines: &Lines) -> Callback<impl FnMut(&RecordBatch) -> Result<()> + Send + use<>> {
    let lines = Arc::clone(lines);
    Callback::new(move |batch: &RecordBatch| {
        let options = FormatOptions::default().with_null("-");
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
        lines.lock().unwrap().extend((0..batch.num_rows()).map(line));
        Ok(())
    })
}

/// Windows whose edges fall together now and then, with aggregates that they have in common and such that they have not.
fn windows() -> Vec<(WindowSpec, Vec<Aggregate>)> {
    vec![
        (tumbling(millis(100)), vec![count().alias("n"), sum("whole").alias("total"), first("text").alias("first")]),
        (hopping(millis(200), millis(50)), vec![count().alias("n"), max("whole").alias("most"), last("whole").alias("last")]),
        (cumulate(millis(300), millis(100)), vec![median("value"), approx_distinct("text"), count().alias("n")]),
        (tumbling(millis(50)).offset(millis(25)), vec![sum("whole").filter("whole > 0").alias("n"), collect_list("text", 3)]),
        (tumbling(millis(1_000)), vec![count().alias("n")]),
        (hopping(millis(2_000), millis(50)), vec![sum("whole").alias("total"), max("value").alias("most"), count().alias("n")]),
        (tumbling(millis(100)), vec![custom(Longest, ["text", "whole"]).filter("whole > 0").alias("longest"), last("text")]),
    ]
}

/// The longest text, and how many rows had one.
struct Longest;

impl AggregateFunction for Longest {
    type State = (u64, u64);

    fn data_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn accumulate(&self, state: &mut (u64, u64), rows: &[ArrayRef]) -> Result<()> {
        let lengths = rows[0].as_string::<i32>().iter().flatten().map(|text| text.len() as u64);
        *state = lengths.fold(*state, |(longest, rows), length| (longest.max(length), rows + 1));
        Ok(())
    }

    fn merge(&self, state: &mut (u64, u64), other: &(u64, u64)) -> Result<()> {
        *state = (state.0.max(other.0), state.1 + other.1);
        Ok(())
    }

    fn finish(&self, states: &[&(u64, u64)]) -> Result<ArrayRef> {
        Ok(Arc::new(states.iter().map(|(longest, rows)| 1_000 * rows + longest).collect::<UInt64Array>()))
    }

    fn save(&self, state: &(u64, u64), out: &mut Writer) -> Result<()> {
        out.words(&[state.0, state.1]);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<(u64, u64)> {
        let [longest, rows] = from.words()?;
        Ok((longest, rows))
    }
}

/// Runs the windows `chosen` in one query over batches; stops after so many, and goes on from a snapshot with so many workers.
fn run(batches: &[RecordBatch], delay: i64, chosen: &[usize], stop: Option<(usize, usize)>) -> (Vec<Vec<String>>, Metrics) {
    let lines: Vec<Lines> = chosen.iter().map(|_| Lines::default()).collect();
    let query = |part: &[RecordBatch], workers: usize| {
        let mut config = Config::default();
        config.workers = workers;
        let empty = RecordBatch::new_empty(batches[0].schema());
        let script = std::iter::once(batch(empty)).chain(part.iter().cloned().map(batch)).chain([eof()]);
        let stream: Stream = source(script).unwrap().event_time(event_time("ts").max_delay(millis(delay as u64)));
        chosen.iter().zip(&lines).fold(Query::new().config(config), |query, (&number, lines)| {
            let (spec, aggregates) = windows().swap_remove(number);
            query.sink(&stream.window(spec).by(["key"]).agg(aggregates), keep(lines))
        })
    };
    let metrics = match stop {
        None => query(batches, 1).run().unwrap(),
        Some((stop, workers)) => {
            let mut pipeline = query(&batches[..stop], 1).build().unwrap();
            let mut deliveries = 0;
            let ended = pipeline.step_until(Duration::from_secs(3_600), &mut || {
                deliveries += 1;
                deliveries > stop + 1
            });
            assert!(!ended.unwrap());
            let snapshot = Snapshot::from_bytes(&pipeline.snapshot().unwrap().to_bytes().unwrap()).unwrap();
            query(&batches[stop..], workers).restore(snapshot).run().unwrap()
        }
    };
    (lines.iter().map(|lines| std::mem::take(&mut *lines.lock().unwrap())).collect(), metrics)
}

fn cut(rows: &[Row], batch_rows: usize) -> Vec<RecordBatch> {
    let all = records(rows, rows.len().is_multiple_of(2));
    (0..rows.len()).step_by(batch_rows).map(|start| all.slice(start, batch_rows.min(rows.len() - start))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_that_share_panes_give_what_each_gives_alone(
        rows in traces(),
        delay in prop_oneof![Just(0), Just(30), Just(400)],
        batch_rows in prop_oneof![Just(1_usize), Just(7), Just(64), Just(1_000)],
        chosen in prop::sample::subsequence(vec![0, 1, 2, 3, 4, 5, 6], 2..=7),
        stop in prop::option::of((0.0..1.0_f64, 1..3_usize)),
    ) {
        let batches = cut(&rows, batch_rows);
        let stop = stop.map(|(place, workers)| ((place * (batches.len() + 1) as f64) as usize, workers));
        let (shared, metrics) = run(&batches, delay, &chosen, stop);
        let mut late = 0;
        for (number, mut found) in chosen.iter().zip(shared) {
            let (mut alone, metrics) = run(&batches, delay, &[*number], None);
            late += metrics.late_rows;
            // The groups of a window come in the order of its panes, which are others.
            found.sort();
            alone[0].sort();
            prop_assert_eq!(&found, &alone[0], "{:?}", windows()[*number].0);
        }
        if stop.is_none() {
            prop_assert_eq!(metrics.late_rows, late);
        }
    }
}

#[test]
fn keys_that_come_once_each_are_not_accumulated_twice() {
    let rows: Vec<Row> = (0..100_000).map(|row| Row { time: row / 100, key: Some(row), value: Some(1.0), whole: Some(row) }).collect();
    let batches = cut(&rows, 1_000);
    let chosen = [0, 4, 6];
    let (shared, _) = run(&batches, 0, &chosen, None);
    for (number, found) in chosen.iter().zip(shared) {
        assert_eq!(found, run(&batches, 0, &[*number], None).0[0]);
    }
}
