//! Memory that is given back: no result changes by it, and the state is as small then as if the keys that are gone had never come.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use thalweg::config::{Exchange, OverBudget};
use thalweg::operator::detect::{How, Limit};
use thalweg::operator::process::heartbeat::Heartbeat;
use thalweg::operator::process::{Context, Rows};
use thalweg::state::{Reader, Snapshot, Writer};
use thalweg::testing::{batch, eof, source};
use thalweg::{
    Config, Detection, Kind, Pipeline, Process, Query, Result, Stream, approx_distinct, auto, collect_list, count, count_window, cumulate,
    ensemble, event_time, ewma, first, global, hopping, last, left_discord, max, median, millis, min, random_cut_forest, rolling_range,
    rolling_rows, session, sum, tumbling, velocity, windows_by, zscore,
};

use crate::lines::{Lines, keep};
use crate::trace::{Row, cut};

/// How long keys without rows are kept, where a step is told.
const TTL: Duration = millis(100);

/// Counts the rows of a key, and says so when it has had none for a while.
struct Tally {
    in_order: bool,
}

impl Process for Tally {
    /// Rows, and when to say so.
    type State = (i64, Option<i64>);

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let number = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        Ok(Arc::new(Schema::new(vec![Arc::clone(&input.fields()[1]), number("rows"), number("at")])))
    }

    fn on_rows(&self, rows: &Rows<'_>, (seen, due): &mut (i64, Option<i64>), context: &mut Context<'_>) -> Result<()> {
        *seen += rows.times.len() as i64;
        due.iter().for_each(|due| context.delete_timer(*due));
        let next = context.time().unwrap_or_default() + 70;
        *due = Some(next);
        context.set_timer(next)?;
        context.set_timer(next + 10)
    }

    fn on_timer(&self, time: i64, (seen, _): &mut (i64, Option<i64>), context: &mut Context<'_>) -> Result<()> {
        let mut columns = context.key()?.columns().to_vec();
        columns.extend([*seen, time].map(|number| Arc::new(Int64Array::from(vec![number])) as ArrayRef));
        let fields = [("key", 0), ("rows", 1), ("at", 2)].map(|(name, column)| (name, Arc::clone(&columns[column]), column == 0));
        context.emit(RecordBatch::try_from_iter_with_nullable(fields)?);
        Ok(())
    }

    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn ttl(&self) -> Option<Duration> {
        Some(TTL)
    }

    fn in_order(&self) -> bool {
        self.in_order
    }

    fn save(&self, (seen, due): &(i64, Option<i64>), out: &mut Writer) -> Result<()> {
        out.words(&[*seen as u64, u64::from(due.is_some()), due.unwrap_or_default() as u64]);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<(i64, Option<i64>)> {
        let [seen, is_due, due] = from.words()?;
        Ok((seen as i64, (is_due == 1).then_some(due as i64)))
    }
}

/// A step, and whether its rows come in one order whatever is given back: that of the rows that go in.
type Step = (&'static str, bool, fn(&Stream) -> Stream);

fn windows() -> Vec<Step> {
    vec![
        ("tumbling", false, |rows| rows.window(tumbling(millis(50))).by(["key"]).agg([count(), sum("whole"), first("text")])),
        ("hopping", false, |rows| {
            rows.window(hopping(millis(150), millis(50))).by(["key"]).agg([
                count(),
                median("value"),
                approx_distinct("text"),
                last("whole"),
            ])
        }),
        ("hopping of many panes", false, |rows| {
            rows.window(hopping(millis(320), millis(10))).by(["key"]).agg([count(), sum("whole"), max("value"), min("whole")])
        }),
        ("cumulating", false, |rows| {
            rows.window(cumulate(millis(200), millis(50))).by(["key"]).agg([sum("value"), collect_list("text", 3)])
        }),
        ("revised", false, |rows| {
            rows.window(hopping(millis(100), millis(50)))
                .allowed_lateness(millis(40))
                .early(millis(20))
                .by(["key"])
                .agg([count(), sum("whole")])
        }),
        ("sessions", false, |rows| rows.window(session(millis(30))).by(["key"]).agg([count(), sum("whole"), median("value")])),
        ("sessions, revised", false, |rows| {
            rows.window(session(millis(30))).allowed_lateness(millis(50)).early(millis(20)).by(["key"]).agg([count(), last("whole")])
        }),
        ("of one's own", false, |rows| {
            let own = windows_by("own", |row, windows| windows.push((row.time.div_euclid(40) * 40, row.time.div_euclid(40) * 40 + 70)));
            rows.window(own).by(["key"]).agg([count(), first("whole")])
        }),
        ("of rows", false, |rows| {
            rows.window(count_window(6).slide(2)).ttl(TTL).by(["key"]).agg([count(), sum("whole"), collect_list("text", 9)])
        }),
        ("global", false, |rows| {
            rows.window(global().rows(3).every(millis(60))).ttl(TTL).by(["key"]).agg([count(), sum("whole"), median("value")])
        }),
        ("global, purged", false, |rows| rows.window(global().rows(4).purge()).ttl(TTL).by(["key"]).agg([count(), last("text")])),
    ]
}

fn rows_in_order() -> Vec<Step> {
    vec![
        ("dedup", true, |rows| rows.dedup(["key", "whole"], millis(80))),
        ("process", true, |rows| rows.process(["key"], Tally { in_order: false })),
        ("process in order", true, |rows| rows.process(["key"], Tally { in_order: true })),
        ("heartbeat", true, |rows| rows.heartbeat(["key"], Heartbeat { warmup: 2, ..Heartbeat::default() })),
        ("rolling rows", true, |rows| {
            rows.window(rolling_rows(5)).ttl(TTL).by(["key"]).agg([count(), sum("whole"), max("value"), zscore("value")])
        }),
        ("rolling range", true, |rows| {
            rows.window(rolling_range(TTL)).by(["key"]).agg([count(), sum("value"), min("whole"), sum("whole")])
        }),
    ]
}

fn detected(rows: &Stream, detection: Detection) -> Stream {
    rows.detect(detection.on(["value"]).by(["key"]).ttl(TTL))
}

fn detections() -> Vec<Step> {
    vec![
        ("ewma with all that can be asked for", true, |rows| {
            detected(rows, ewma(0.1).with_p().refractory(millis(20)).region(8).with_expected().with_attribution())
        }),
        ("the top of rows", true, |rows| detected(rows, ewma(0.1).top_k(2, 5))),
        ("the top of a span", true, |rows| detected(rows, ewma(0.1).top_k(2, millis(60)))),
        ("velocity", true, |rows| detected(rows, velocity([Limit::rows(3, millis(40)), Limit::sum(1e6, millis(90))]))),
        ("auto", true, |rows| detected(rows, auto())),
        ("forest", true, |rows| detected(rows, random_cut_forest())),
        ("ensemble", true, |rows| detected(rows, ensemble([ewma(0.2), left_discord()], How::Max))),
    ]
}

fn query(batches: &[RecordBatch], step: fn(&Stream) -> Stream, workers: usize, lines: &Lines) -> Query {
    let mut config = Config::default();
    config.workers = workers;
    let script = std::iter::once(batch(RecordBatch::new_empty(batches[0].schema()))).chain(batches.iter().cloned().map(batch));
    let stream = source(script.chain([eof()])).unwrap().event_time(event_time("ts").max_delay(millis(40)));
    Query::new().config(config).sink(&step(&stream), keep(lines))
}

/// Takes one delivery; returns whether the input has ended.
fn try_deliver(pipeline: &mut Pipeline) -> Result<bool> {
    let mut polls = 0;
    let enough = &mut || {
        polls += 1;
        polls > 1
    };
    pipeline.step_until(Duration::from_secs(3_600), enough)
}

fn deliver(pipeline: &mut Pipeline) -> bool {
    try_deliver(pipeline).unwrap()
}

/// What comes of the batches when memory is given back after those that `trims` says, and the pipeline goes on from a snapshot after `stop`.
fn run(batches: &[RecordBatch], (name, ordered, step): Step, workers: usize, trims: &[bool], stop: Option<usize>) -> Vec<String> {
    let lines = Lines::default();
    let mut pipeline = query(batches, step, workers, &lines).build().unwrap();
    let mut number = 0;
    while !deliver(&mut pipeline) {
        if trims.get(number) == Some(&true) {
            let before = pipeline.snapshot().unwrap();
            pipeline.trim().unwrap();
            let after = pipeline.snapshot().unwrap();
            // Rolling windows forget keys whose rows make no difference any more when they look next; medians keep their values in no order.
            let is_same = name.starts_with("rolling") || ["hopping", "sessions", "global"].contains(&name);
            assert!(before == after || is_same, "{name}: the snapshot is another one");
        }
        // The first delivery has no rows.
        if stop == Some(number) && number < batches.len() {
            let snapshot = Snapshot::from_bytes(&pipeline.snapshot().unwrap().to_bytes().unwrap()).unwrap();
            drop(pipeline);
            pipeline = query(&batches[number..], step, workers, &lines).restore(snapshot).build().unwrap();
            deliver(&mut pipeline);
        }
        number += 1;
    }
    drop(pipeline);
    let mut lines = std::mem::take(&mut *lines.lock().unwrap());
    if !ordered || workers > 1 {
        lines.sort();
    }
    lines
}

/// Keys that come and go, now and then many at once.
fn churn() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..12_i64, 0..50_i64, 0..5_i64, prop::option::weighted(0.9, -1e3..1e3), prop::option::weighted(0.9, -20..20_i64));
    let bursts = prop::collection::vec((0..400_usize, 1..120_i64), 0..4);
    (prop::collection::vec(row, 30..400), bursts).prop_map(|(steps, bursts)| {
        let (mut now, mut rows) = (0, Vec::new());
        for (number, (step, back, key, value, whole)) in steps.into_iter().enumerate() {
            now += step;
            let key = (key > 0).then_some(now / 150 * 3 + key);
            rows.push(Row { time: now - back, key, value, whole });
            for (_, keys) in bursts.iter().filter(|(at, _)| *at == number) {
                rows.extend((0..*keys).map(|key| Row { time: now, key: Some(10_000 + 1_000 * number as i64 + key), value, whole }));
            }
        }
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn giving_memory_back_changes_no_result_and_no_snapshot(
        rows in churn(), batch_rows in prop_oneof![Just(1_usize), Just(13), Just(100)],
        trims in prop::collection::vec(prop::bool::weighted(0.3), 400), stop in prop::option::of(0..30_usize), workers in 1..3_usize,
    ) {
        let batches = cut(&rows, batch_rows);
        for step in windows().into_iter().chain(rows_in_order()) {
            let expected = run(&batches, step, 1, &[], None);
            let mut expected = if workers > 1 { let mut sorted = expected; sorted.sort(); sorted } else { expected };
            let mut found = run(&batches, step, workers, &trims, stop);
            if stop.is_some() {
                expected.sort();
                found.sort();
            }
            prop_assert_eq!(found, expected, "{} in batches of {}", step.0, batch_rows);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn giving_memory_back_changes_no_score(rows in churn(), trims in prop::collection::vec(prop::bool::weighted(0.3), 400)) {
        let batches = cut(&rows, 13);
        for step in detections() {
            prop_assert_eq!(run(&batches, step, 1, &trims, None), run(&batches, step, 1, &[], None), "{}", step.0);
        }
    }
}

/// Ten keys, for much longer than any key or window is kept.
fn tail() -> Vec<Row> {
    (0..4_000).map(|row| Row { time: 1_000 + row, key: Some(row % 10), value: Some(row as f64), whole: Some(row % 90) }).collect()
}

/// Bytes of state after all rows, before and after memory is given back.
fn held(rows: &[Row], step: Step, workers: usize) -> (u64, u64) {
    let batches = cut(rows, 500);
    let mut pipeline = query(&batches, step.2, workers, &Lines::default()).build().unwrap();
    (0..=batches.len()).for_each(|_| assert!(!deliver(&mut pipeline)));
    let before = pipeline.counters().snapshot().state_bytes;
    pipeline.trim().unwrap();
    (before, pipeline.counters().snapshot().state_bytes)
}

#[test]
fn the_state_is_that_of_the_keys_that_are_left() {
    let steps = windows().into_iter().chain(rows_in_order()).chain(detections());
    for step in steps.filter(|(name, ..)| *name != "heartbeat") {
        let flood = (0..20_000).map(|key| Row { time: key / 500, key: Some(100 + key), value: Some(1.0), whole: Some(key) });
        for workers in [1, 2] {
            let (before, after) = held(&flood.clone().chain(tail()).collect::<Vec<_>>(), step, workers);
            let (_, alone) = held(&tail(), step, workers);
            assert!(after <= before, "{}, {workers} workers: {after} of {before} bytes", step.0);
            assert!(
                2 * after <= 3 * alone + 60_000,
                "{}, {workers} workers: {after} bytes of {before}, {alone} without the keys that are gone",
                step.0
            );
        }
    }
}

/// Floods of keys, each of which is gone when the next one comes; `whole` says which it is.
fn floods(count: i64) -> Vec<Row> {
    let flood = |number: i64| {
        let row = move |time: i64, key: i64| Row { time: 5_000 * number + time, key: Some(key), value: Some(1.0), whole: Some(number) };
        let flood = (0..20_000).map(move |key| row(key / 500, 100_000 * (1 + number) + key));
        flood.chain((0..2_000).map(move |time| row(1_000 + time, time % 10)))
    };
    (0..count).flat_map(flood).collect()
}

/// Takes two floods apart, within so many bytes. Returns the most state that it held, and what came out.
fn take_apart(floods: i64, workers: usize, budget: Option<usize>) -> Result<(u64, Vec<String>)> {
    let (batches, lines) = (cut(&self::floods(floods), 500), Lines::default());
    let mut config = Config::default();
    (config.workers, config.exchange, config.state_budget, config.over_budget) = (workers, Exchange::Hash, budget, OverBudget::Error);
    let stream = source(batches.into_iter().map(batch).chain([eof()])).unwrap().event_time("ts");
    let query = ["whole = 0", "whole = 1"].into_iter().fold(Query::new().config(config), |query, flood| {
        query.sink(&stream.filter(flood).dedup(["key"], millis(50)).select(["ts", "key"]), keep(&lines))
    });
    let (mut pipeline, mut most) = (query.build()?, 0);
    let counters = pipeline.counters();
    while !try_deliver(&mut pipeline)? {
        most = most.max(counters.snapshot().state_bytes);
    }
    drop(pipeline);
    let mut lines = std::mem::take(&mut *lines.lock().unwrap());
    lines.sort();
    Ok((most, lines))
}

#[test]
fn workers_give_memory_back_before_there_is_an_error() {
    for workers in [1, 2, 3] {
        let (of_one, _) = take_apart(1, workers, None).unwrap();
        let (free, expected) = take_apart(2, workers, None).unwrap();
        let budget = 3 * of_one / 2;
        assert!(free > budget, "{workers} workers: the memory of keys that are gone is kept, {free} bytes, {of_one} of one flood");
        let (held, found) = take_apart(2, workers, Some(budget as usize)).unwrap();
        assert_eq!(found, expected, "{workers} workers");
        assert!(held <= budget, "{workers} workers: {held} bytes of {budget}");
        // What is in use cannot be given back.
        let error = take_apart(2, workers, Some(of_one as usize / 2)).unwrap_err();
        assert_eq!(error.kind(), Kind::State);
        assert!(error.to_string().contains(&format!("over its budget of {} bytes; use shorter windows", of_one / 2)), "{error}");
    }
}
