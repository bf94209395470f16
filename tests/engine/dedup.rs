//! Duplicates against a slow model. Whatever the batch size, the answer is the same.

use std::sync::Arc;

use crate::trace::{Row, records, traces};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;
use thalweg::sink::Memory;
use thalweg::{Config, Kind, Query, Stream, Table, count, event_time, millis, mins, secs, tumbling};

/// What becomes of rows, which go by their numbers.
#[derive(Debug, Default, PartialEq)]
struct Fates {
    kept: Vec<i64>,
    late: Vec<i64>,
    duplicates: u64,
}

/// A row is a duplicate if one of its key that was kept, and that rows on time may still repeat, is near; else it is late if it is
/// behind the watermark.
fn model(rows: &[Row], within: i64, delay: i64) -> Fates {
    let (mut fates, mut greatest) = (Fates::default(), i64::MIN);
    let mut kept: Vec<&Row> = Vec::new();
    for (number, row) in (0..).zip(rows) {
        let watermark = greatest.saturating_sub(delay + 1);
        let repeats = |kept: &&Row| kept.key == row.key && (kept.time - row.time).abs() <= within && kept.time + within > watermark;
        if kept.iter().any(repeats) {
            fates.duplicates += 1;
        } else if row.time <= watermark {
            fates.late.push(number);
        } else {
            kept.push(row);
            fates.kept.push(number);
        }
        greatest = greatest.max(row.time);
    }
    fates
}

/// The rows of a trace, whose `whole` is their number.
fn numbered(mut rows: Vec<Row>) -> Vec<Row> {
    (0..).zip(&mut rows).for_each(|(number, row)| row.whole = Some(number));
    rows
}

fn deduplicated(rows: &[Row], text_keys: bool, within: u64, delay: u64) -> Stream {
    let time = event_time("ts").max_delay(millis(delay));
    Stream::from_arrow([records(rows, text_keys)]).event_time(time).dedup(["key"], millis(within))
}

fn collect(stream: &Stream, batch_rows: usize) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    stream.batches(config).unwrap().into_table().unwrap()
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column_by_name("whole").unwrap().as_primitive::<Int64Type>().values().to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_model_agrees(
        rows in traces().prop_map(numbered),
        within in prop_oneof![0..5_u64, 0..100_u64, 0..5_000_u64],
        delay in prop_oneof![Just(0_u64), 0..300_u64],
        text_keys: bool,
    ) {
        let expected = model(&rows, within as i64, delay as i64);
        for batch_rows in [1, 7, 1_000] {
            let table = collect(&deduplicated(&rows, text_keys, within, delay), batch_rows);
            let fates = Fates {
                kept: numbers(table.batches()),
                late: numbers(table.late()),
                duplicates: table.metrics().duplicate_rows,
            };
            prop_assert_eq!(&fates, &expected, "in batches of {}", batch_rows);
            prop_assert_eq!(table.metrics().late_rows as usize, expected.late.len());
        }
    }
}

fn orders(rows: &[(i64, &str)]) -> Stream {
    let records = RecordBatch::try_from_iter([
        ("ts", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()) as _),
        ("order", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<arrow::array::StringArray>()) as _),
    ]);
    Stream::from_arrow([records.unwrap()])
}

#[test]
fn rows_of_several_columns_go_on_into_windows() {
    let rows = [(0, "a"), (10, "b"), (20, "a"), (1_200, "a"), (1_201, "c"), (100, "a"), (1_210, "c")];
    let once = orders(&rows).event_time(event_time("ts").max_delay(millis(500))).dedup(["order"], secs(1));
    let counts = once.window(tumbling(secs(1))).agg([count()]).collect().unwrap();
    let values = counts.to_batch().unwrap().column(2).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(values, [2, 2]);
    // At 100 the watermark is at 700: the first `a` is still remembered.
    assert_eq!((counts.metrics().duplicate_rows, counts.metrics().late_rows), (3, 0));
    assert_eq!(once.to_string().lines().last().unwrap().trim(), "→ dedup([order] within 1s)");
}

#[test]
fn late_rows_of_both_steps_go_to_one_sink() {
    let rows = [(0, "a"), (5_000, "b"), (1_000, "c"), (3_000, "a")];
    let once = orders(&rows).event_time("ts").dedup(["order"], secs(1));
    let (results, late) = (Memory::new(), Memory::new());
    let taken = late.collected();
    let windows = once.window(tumbling(secs(1))).agg([count()]);
    let metrics = Query::new().sink(&windows, results).late(late).run().unwrap();
    assert_eq!((metrics.late_rows, taken.rows()), (2, 2));
    let only = once.collect().unwrap();
    assert_eq!((only.num_rows(), only.late().iter().map(RecordBatch::num_rows).sum::<usize>()), (2, 2));
}

#[test]
fn keys_are_forgotten_so_that_state_is_bounded() {
    let ids = Int64Array::from_iter_values(0..100_000);
    let schema = Schema::new(vec![Field::new("ts", DataType::Int64, false)]);
    let records = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids)]).unwrap();
    let once = |within| Stream::from_arrow([records.clone()]).event_time("ts").dedup(["ts"], millis(within));
    let mut config = Config::default();
    (config.max_keys, config.batch_rows) = (3_000, 500);
    let table = once(2_000).batches(config.clone()).unwrap().into_table().unwrap();
    assert_eq!(table.num_rows(), 100_000);
    let error = once(5_000).batches(config.clone()).unwrap().into_table().unwrap_err();
    assert_eq!(error.kind(), Kind::State);
    assert!(error.to_string().contains("raise `max_keys`"), "{error}");
    config.max_keys = 1 << 20;
    config.max_state_bytes = 100_000;
    let error = once(50_000).batches(config).unwrap().into_table().unwrap_err();
    assert!(error.to_string().contains("raise `max_state_bytes`"), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let said = |stream: &Stream| stream.schema().unwrap_err().to_string();
    let stream = orders(&[(0, "a")]);
    assert!(said(&stream.dedup(["order"], mins(1))).contains("call `event_time(column)` before `dedup`"));
    assert!(said(&stream.dedup(["order"], mins(1)).event_time("ts")).contains("`dedup` needs event times"));
    let timed = stream.event_time("ts");
    assert!(said(&timed.dedup(["ordre"], mins(1))).contains("there is no column `ordre`"));
    assert!(said(&timed.dedup(Vec::<String>::new(), mins(1))).contains("at least one column"));
    assert!(said(&timed.dedup(["order"], std::time::Duration::from_nanos(1))).contains("finer unit"));
}
