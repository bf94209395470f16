//! Several windows over one stream share panes: each gives what it gives alone, whatever the number of workers.

use std::sync::Arc;
use std::time::Duration;

use crate::lines::{Lines, keep};
use crate::trace::{Row, cut, records, traces};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use thalweg::config::Exchange;
use thalweg::state::{Reader, Snapshot, Writer};
use thalweg::testing::{batch, eof, source};
use thalweg::window::WindowSpec;
use thalweg::{
    Aggregate, AggregateFunction, Config, Metrics, Query, Result, Stream, approx_distinct, collect_list, count, cumulate, custom,
    event_time, first, hopping, last, max, median, millis, sum, tumbling,
};

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

/// How many workers there are, and how they share the rows.
type Workers = (usize, Exchange);

const ONE: Workers = (1, Exchange::Auto);

fn workers() -> impl Strategy<Value = Workers> {
    (1..4_usize, prop_oneof![Just(Exchange::Auto), Just(Exchange::Hash), Just(Exchange::TwoPhases), Just(Exchange::Windows)])
}

/// Runs the windows `chosen` in one query over batches; stops after so many, and goes on from a snapshot with so many workers.
fn run(
    batches: &[RecordBatch],
    delay: i64,
    chosen: &[usize],
    workers: Workers,
    stop: Option<(usize, Workers)>,
) -> (Vec<Vec<String>>, Metrics) {
    let lines: Vec<Lines> = chosen.iter().map(|_| Lines::default()).collect();
    let query = |part: &[RecordBatch], (workers, exchange): Workers| {
        let mut config = Config::default();
        (config.workers, config.exchange) = (workers, exchange);
        let empty = RecordBatch::new_empty(batches[0].schema());
        let script = std::iter::once(batch(empty)).chain(part.iter().cloned().map(batch)).chain([eof()]);
        let stream: Stream = source(script).unwrap().event_time(event_time("ts").max_delay(millis(delay as u64)));
        chosen.iter().zip(&lines).fold(Query::new().config(config), |query, (&number, lines)| {
            let (spec, aggregates) = windows().swap_remove(number);
            query.sink(&stream.window(spec).by(["key"]).agg(aggregates), keep(lines))
        })
    };
    let metrics = match stop {
        None => query(batches, workers).run().unwrap(),
        Some((stop, others)) => {
            let mut pipeline = query(&batches[..stop], workers).build().unwrap();
            let mut deliveries = 0;
            let ended = pipeline.step_until(Duration::from_secs(3_600), &mut || {
                deliveries += 1;
                deliveries > stop + 1
            });
            assert!(!ended.unwrap());
            let snapshot = Snapshot::from_bytes(&pipeline.snapshot().unwrap().to_bytes().unwrap()).unwrap();
            query(&batches[stop..], others).restore(snapshot).run().unwrap()
        }
    };
    (lines.iter().map(|lines| std::mem::take(&mut *lines.lock().unwrap())).collect(), metrics)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_that_share_panes_give_what_each_gives_alone(
        rows in traces(),
        delay in prop_oneof![Just(0), Just(30), Just(400)],
        batch_rows in prop_oneof![Just(1_usize), Just(7), Just(64), Just(1_000)],
        chosen in prop::sample::subsequence(vec![0, 1, 2, 3, 4, 5, 6], 2..=7),
        workers in workers(),
        stop in prop::option::of((0.0..1.0_f64, workers())),
    ) {
        let batches = cut(&rows, batch_rows);
        let stop = stop.map(|(place, workers)| ((place * (batches.len() + 1) as f64) as usize, workers));
        let (shared, metrics) = run(&batches, delay, &chosen, workers, stop);
        let together = format!("panes that {} windows share: ", chosen.len());
        prop_assert!(metrics.exchanges.iter().all(|exchange| exchange.starts_with(&together)), "{:?}", metrics.exchanges);
        prop_assert!(stop.is_some() || metrics.exchanges.len() == usize::from(workers.0 > 1), "{:?}", metrics.exchanges);
        let mut late = 0;
        for (number, mut found) in chosen.iter().zip(shared) {
            let (mut alone, of_alone) = run(&batches, delay, &[*number], ONE, None);
            late += of_alone.late_rows;
            // The groups of a window come in the order of its panes, which are others.
            found.sort();
            alone[0].sort();
            prop_assert_eq!(&found, &alone[0], "{:?}, {:?}", windows()[*number].0, metrics.exchanges);
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
    let (shared, _) = run(&batches, 0, &chosen, ONE, None);
    for (number, found) in chosen.iter().zip(shared) {
        assert_eq!(found, run(&batches, 0, &[*number], ONE, None).0[0]);
    }
}

#[test]
fn workers_share_many_keys_alike() {
    let rows: Vec<Row> = (0..60_000)
        .map(|row| Row { time: row / 60, key: Some(row * 7_919 % 3_000), value: Some((row % 17) as f64), whole: Some(row % 100) })
        .collect();
    let batches = cut(&rows, 5_000);
    let chosen = [0, 1, 4, 5];
    for exchange in [Exchange::Hash, Exchange::TwoPhases] {
        let (mut found, metrics) = run(&batches, 10, &chosen, (3, exchange), None);
        assert_eq!(metrics.exchanges.len(), 1, "{:?}", metrics.exchanges);
        for (number, found) in chosen.iter().zip(&mut found) {
            let (mut alone, _) = run(&batches, 10, &[*number], ONE, None);
            found.sort();
            alone[0].sort();
            assert_eq!(found, &alone[0], "{exchange:?} {number}");
        }
    }
}

#[test]
fn a_plan_of_several_streams_says_what_they_share() {
    let stream: Stream = source([batch(records(&[], false)), eof()]).unwrap().event_time("ts");
    let plan = |workers: usize, chosen: &[usize]| {
        let mut config = Config::default();
        (config.workers, config.exchange) = (workers, Exchange::Hash);
        let query = chosen.iter().fold(Query::new().config(config), |query, &number| {
            let (spec, aggregates) = windows().swap_remove(number);
            query.sink(&stream.window(spec).by(["key"]).agg(aggregates), keep(&Lines::default()))
        });
        query.explain().unwrap()
    };
    let one = plan(1, &[1, 3, 4]);
    assert!(one.contains("panes of 25ms by [key] are shared by `window(hopping(200ms, 50ms)"), "{one}");
    assert!(one.trim_end().ends_with("window(tumbling(1s) by [key]: count(*) AS n)`"), "{one}");
    let three = plan(3, &[1, 3, 4]);
    assert!(three.ends_with(", in each worker") && three.matches("3 workers share its rows by key hash").count() == 3, "{three}");
    assert!(!plan(3, &[1]).contains("are shared by"));
    let error = Query::new().explain().unwrap_err().to_string();
    assert!(error.contains("at least one stream bound to a sink"), "{error}");
}
