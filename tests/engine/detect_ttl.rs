//! A key that is forgotten begins anew: what it gets is what a key gets that was never seen before.

use std::collections::HashMap;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatchOptions;
use proptest::prelude::*;
use std::sync::Arc;
use thalweg::{Config, Detection, Stream, event_time, ewma, millis, novelty};

use crate::detect::{Row, batches, detections, records, series, stopped};

/// The rows with a key for each life of a key: one ends where more than `ttl` lies between two of its rows, or where the watermark has come
/// as far past the latest of them before the next row comes.
fn lives(rows: &[Row], ttl: i64) -> Vec<Row> {
    let (mut known, mut watermark) = (HashMap::new(), i64::MIN);
    let life = |&(time, key, value): &Row| {
        let (life, latest): &mut (i64, i64) = known.entry(key).or_insert((0, time));
        let over = time - *latest > ttl || *latest + ttl <= watermark;
        (*life, *latest) = if over { (*life + 1, time) } else { (*life, time.max(*latest)) };
        watermark = watermark.max(time - 1);
        (time, key + 1_000 * *life, value)
    };
    rows.iter().map(life).collect()
}

/// What is added to the rows of a stream.
fn added(batches: Vec<RecordBatch>, detection: &Detection, workers: usize) -> RecordBatch {
    let mut config = Config::default();
    config.workers = workers;
    let stream = Stream::from_batches(records(&[]).schema(), batches).event_time(event_time("at")).detect(detection.clone());
    let table = stream.batches(config).unwrap().into_table().unwrap();
    without_rows(&concat_batches(&table.schema(), table.batches()).unwrap())
}

fn without_rows(found: &RecordBatch) -> RecordBatch {
    found.project(&(3..found.num_columns()).collect::<Vec<_>>()).unwrap()
}

/// Keys in turns, each with pauses of its own, and now and then a pause of all.
fn traces() -> impl Strategy<Value = Vec<Row>> {
    let pauses = prop::collection::vec((0_usize..3, 0_usize..200, 1_usize..40), 0..8);
    let gaps = prop::collection::vec((0_usize..200, 0_i64..60), 0..4);
    (prop::collection::vec(series(), 1..4), pauses, gaps, any::<u64>()).prop_map(|(keys, pauses, gaps, salt)| {
        let longest = keys.iter().map(Vec::len).max().unwrap_or(0);
        let row = |n: usize, key: usize| {
            let jitter = (salt.wrapping_mul(n as u64 + 1) >> 60) as i64 % 4;
            let gap: i64 = gaps.iter().filter(|(from, _)| *from <= n).map(|(_, gap)| gap).sum();
            let pauses = pauses.iter().any(|&(of, from, rows)| of == key && (from..from + rows).contains(&n));
            keys[key].get(n).filter(|_| !pauses).map(|value| (n as i64 + jitter + gap, key as i64, *value))
        };
        (0..longest).flat_map(|n| (0..keys.len()).filter_map(move |key| row(n, key)).collect::<Vec<_>>()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_life_of_a_key_is_that_of_a_key_of_its_own(
        rows in traces().prop_filter("no rows", |rows| !rows.is_empty()), ttl in prop_oneof![Just(1_i64), Just(5), Just(30)],
        size in prop_oneof![Just(1), Just(7), Just(10_000)], stop in 0.0..1.0_f64,
    ) {
        let batches = batches(&rows, size);
        let stop = (stop * batches.len() as f64) as usize;
        let slow = vec![records(&lives(&rows, ttl))];
        for (name, detection) in detections() {
            let expected = added(slow.clone(), &detection, 1);
            let mortal = detection.ttl(millis(ttl as u64));
            prop_assert_eq!(&added(batches.clone(), &mortal, 1), &expected, "{} in batches of {}", name, size);
            let resumed = without_rows(&stopped(&batches, stop, &mortal));
            prop_assert_eq!(&resumed, &expected, "{} stopped after {}", name, stop);
        }
        // The rows of a key stay in order whatever the workers.
        let detection = novelty().on(["value"]).by(["key"]).with_p();
        let expected = sorted(&records(&rows), &added(slow, &detection, 1));
        let found = Stream::from_batches(records(&[]).schema(), batches).event_time(event_time("at")).detect(detection.ttl(millis(ttl as u64)));
        let mut config = Config::default();
        config.workers = 2;
        let table = found.batches(config).unwrap().into_table().unwrap();
        let found = concat_batches(&table.schema(), table.batches()).unwrap();
        prop_assert_eq!(sorted(&found.project(&[0, 1, 2]).unwrap(), &without_rows(&found)), expected);
    }
}

/// Rows with what was added to them, in words, in an order of their own.
fn sorted(rows: &RecordBatch, added: &RecordBatch) -> Vec<String> {
    let columns: Vec<ArrayRef> = rows.columns().iter().chain(added.columns()).cloned().collect();
    let fields = rows.schema_ref().fields().iter().chain(added.schema_ref().fields()).cloned();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let all = RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new()).unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&[all]).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn state_is_bounded_by_the_keys_that_are_alive() {
    let rows: Vec<Row> = (0..20_000).map(|n| (n, n / 2, Some(n as f64))).collect();
    let mut config = Config::default();
    (config.max_keys, config.batch_rows) = (500, 100);
    let stream = |detection: Detection| Stream::from_batches(records(&[]).schema(), batches(&rows, 100)).event_time("at").detect(detection);
    let run = |detection: Detection| stream(detection).batches(config.clone()).unwrap().into_table();
    let detection = ewma(0.1).on(["value"]).by(["key"]).with_p();
    let error = run(detection.clone()).unwrap_err().to_string();
    assert!(error.contains("more than 500 keys are live at once"), "{error}");
    let table = run(detection.ttl(millis(100))).unwrap();
    assert_eq!(table.num_rows(), 20_000);
    let bytes = table.metrics().state_bytes;
    assert!((1..2_000_000).contains(&bytes), "{bytes} bytes for at most 300 keys of 1.1 kB");
}

#[test]
fn a_ttl_needs_event_time_and_is_shown() {
    let times: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let stream = Stream::from_arrow([RecordBatch::try_from_iter([("at", times)]).unwrap()]);
    let detection = ewma(0.1).on(["at"]).ttl(millis(5));
    let error = stream.detect(detection.clone()).schema().unwrap_err().to_string();
    assert!(error.contains("`ttl` counts event time, and the stream has none; call `event_time(column)` before `detect`"), "{error}");
    let text = stream.event_time("at").detect(detection).to_string();
    assert!(text.ends_with("ttl 5ms)"), "{text}");
}
