//! How event time goes on: what moves the watermark, and what waits for it. On a clock that moves only when told to.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::{Config, Stream, Table, count, event_time, millis, tumbling};

const SIZE: i64 = 100;

fn int64(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Counts by window, and how many rows were late.
fn counts(table: &Table) -> (BTreeMap<i64, i64>, u64) {
    let mut counts = BTreeMap::new();
    for batch in table.batches() {
        let starts = batch.column_by_name("window_start").unwrap().as_primitive::<TimestampMillisecondType>();
        let rows = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
        for (start, rows) in starts.values().iter().zip(rows.values()) {
            assert_eq!(counts.insert(*start, *rows), None, "the window at {start} fired twice");
        }
    }
    (counts, table.metrics().late_rows)
}

fn windows(stream: &Stream) -> Stream {
    stream.window(tumbling(millis(SIZE as u64))).agg([count().alias("n")])
}

fn run(stream: &Stream, batch_rows: usize) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    windows(stream).batches(config).unwrap().into_table().unwrap()
}

/// A row counts unless what was said before it has closed its window. A row says up to when nothing will come after it.
fn model(rows: &[(i64, Option<i64>)]) -> (BTreeMap<i64, i64>, u64) {
    let (mut counts, mut late, mut watermark) = (BTreeMap::new(), 0, i64::MIN);
    for &(time, said) in rows {
        let start = time.div_euclid(SIZE) * SIZE;
        match start + SIZE - 1 <= watermark {
            true => late += 1,
            false => *counts.entry(start).or_default() += 1,
        }
        watermark = watermark.max(said.unwrap_or(i64::MIN));
    }
    (counts, late)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_punctuates_decides_whatever_the_batch_size(
        steps in prop::collection::vec((0..40_i64, 0..400_i64, prop::option::weighted(0.2, 0..150_i64)), 1..200),
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let mut now = 0;
        let rows: Vec<(i64, Option<i64>)> = steps.into_iter().map(|(step, back, behind)| {
            now += step;
            (now - back, behind.map(|behind| now - behind))
        }).collect();
        let times = int64(rows.iter().map(|row| row.0));
        let said: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
        let flags: ArrayRef = Arc::new(rows.iter().map(|row| row.1.map(|_| true)).collect::<BooleanArray>());
        let records = RecordBatch::try_from_iter([("ts", times), ("said", said), ("flag", flags)]).unwrap();
        let stream = Stream::from_arrow([records]);

        let by_time = run(&stream.event_time(event_time("ts").punctuated_by("said")), batch_rows);
        prop_assert_eq!(counts(&by_time), model(&rows));

        let by_flag = run(&stream.event_time(event_time("ts").punctuated_by("flag")), batch_rows);
        let rows: Vec<_> = rows.iter().map(|&(time, said)| (time, said.map(|_| time - 1))).collect();
        prop_assert_eq!(counts(&by_flag), model(&rows));
    }
}

#[test]
fn rows_alone_move_no_punctuated_watermark() {
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![None, Some(false), Some(true), None]));
    let records = RecordBatch::try_from_iter([("ts", int64([0, 5_000, 300, 250])), ("done", flags)]).unwrap();
    let table = run(&Stream::from_arrow([records]).event_time(event_time("ts").punctuated_by("done")), 1);
    assert_eq!(counts(&table), (BTreeMap::from([(0, 1), (300, 1), (5_000, 1)]), 1), "only the row at 250 comes after the word on it");
}

#[test]
fn a_column_that_cannot_punctuate_is_refused() {
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]));
    let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["a"]));
    let records = RecordBatch::try_from_iter([("ts", int64([1])), ("us", micros), ("text", text)]).unwrap();
    let said = |time| Stream::from_arrow([records.clone()]).event_time(time).schema().unwrap_err().to_string();
    let by = |column: &str| event_time("ts").punctuated_by(column);
    assert!(said(by("text")).contains("`text` is of type Utf8; a column that punctuates is a boolean or a time"), "{}", said(by("text")));
    assert!(said(by("us")).contains("`us` counts Microseconds and the event time `ts` counts Milliseconds"), "{}", said(by("us")));
    assert!(said(by("nope")).contains("there is no column `nope`"));
    let both = said(by("ts").max_delay(millis(5)));
    assert!(both.contains("`max_delay` has no say where `ts` punctuates the stream"), "{both}");
}

#[test]
fn seconds_punctuate_in_seconds() {
    let said: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), None]));
    let records = RecordBatch::try_from_iter([("ts", int64([1, 2, 1])), ("said", said)]).unwrap();
    let time = event_time("ts").unit(arrow::datatypes::TimeUnit::Second).punctuated_by("said");
    let stream = Stream::from_arrow([records]).event_time(time);
    assert_eq!(stream.to_string().lines().last().unwrap().trim(), "→ event_time(ts, punctuated by said, idle after 5s)");
    let seconds = stream.window(tumbling(millis(1))).agg([count().alias("n")]).collect().unwrap();
    assert_eq!(counts(&seconds), (BTreeMap::from([(1_000, 1), (2_000, 1)]), 1));
}
