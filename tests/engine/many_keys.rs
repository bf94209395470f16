//! Windows of so many keys that hardly any comes twice: rows wait to be told apart together there, and nobody can tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use thalweg::config::Exchange;
use thalweg::state::Snapshot;
use thalweg::testing::{batch, eof, source};
use thalweg::{Config, Query, count, event_time, first, last, max, millis, min, sum, tumbling};

use crate::lines::{Lines, keep};

/// Rows of a window, and windows.
const ROWS: u64 = 12_000;
const WINDOWS: u64 = 8;

/// Length of a window, and how late rows may come.
const SIZE: i64 = 1_000;
const DELAY: i64 = 400;

/// A row: its time, both columns of its key, its value.
type Row = (i64, Option<i64>, i32, i64);

fn scramble(number: u64) -> u64 {
    let mixed = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8
}

/// Rows whose keys are `key` of a random number, slightly disordered.
fn rows(key: impl Fn(u64) -> (Option<i64>, i32)) -> Vec<Row> {
    let row = |number: u64| {
        let time = (number * SIZE as u64 / ROWS) as i64 - (scramble(number + 7) % DELAY as u64) as i64;
        let (one, other) = key(scramble(number));
        (time, one, other, (scramble(number + 99) % 1_000) as i64)
    };
    (0..ROWS * WINDOWS).map(row).collect()
}

fn records(rows: &[Row], nullable: bool) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Int64, false),
        Field::new("one", DataType::Int64, nullable),
        Field::new("other", DataType::Int32, false),
        Field::new("value", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// The times and values of the rows of each key of a window.
type Groups = BTreeMap<String, Vec<(i64, i64)>>;

/// Every window's groups, in the order in which their keys first came.
fn model(rows: &[Row], key: impl Fn(&Row) -> String) -> Vec<String> {
    let mut windows: BTreeMap<i64, (Vec<String>, Groups)> = BTreeMap::new();
    for row in rows {
        let (order, groups) = windows.entry(row.0.div_euclid(SIZE)).or_default();
        let values = groups.entry(key(row)).or_default();
        if values.is_empty() {
            order.push(key(row));
        }
        values.push((row.0, row.3));
    }
    let line = |key: &String, rows: &[(i64, i64)]| {
        let values = || rows.iter().map(|(_, value)| *value);
        let (sum, min, max): (i64, _, _) = (values().sum(), values().min().unwrap(), values().max().unwrap());
        // Of rows of one time, the first that came and the last.
        let first = rows.iter().min_by_key(|(time, _)| *time).unwrap().1;
        let last = rows.iter().max_by_key(|(time, _)| *time).unwrap().1;
        format!("{key} | {} | {sum} | {min} | {max} | {first} | {last}", rows.len())
    };
    windows.into_values().flat_map(|(order, groups)| order.iter().map(|key| line(key, &groups[key])).collect::<Vec<_>>()).collect()
}

/// What is done with the pipeline at half of the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Break {
    None,
    Trim,
    Restore,
}

/// What comes out, without the bounds of the windows: they are checked by their order.
fn run(batches: &[RecordBatch], by: &[&str], workers: usize, exchange: Exchange, at_half: Break) -> Vec<String> {
    let lines = Lines::default();
    let build = |part: &[RecordBatch], snapshot: Option<&[u8]>| {
        let mut config = Config::default();
        // Every batch of the script is one delivery.
        (config.workers, config.exchange, config.batch_rows) = (workers, exchange, (ROWS * WINDOWS) as usize);
        let stream = source(part.iter().cloned().map(batch).chain([eof()]))
            .unwrap()
            .event_time(event_time("ts").max_delay(millis(DELAY as u64)))
            .window(tumbling(millis(SIZE as u64)))
            .by(by.iter().copied())
            .agg([
                count().alias("n"),
                sum("value").alias("sum"),
                min("value").alias("min"),
                max("value").alias("max"),
                first("value").alias("first"),
                last("value").alias("last"),
            ])
            .select(by.iter().copied().chain(["n", "sum", "min", "max", "first", "last"]));
        let query = Query::new().config(config).sink(&stream, keep(&lines));
        match snapshot {
            Some(bytes) => query.restore(Snapshot::from_bytes(bytes).unwrap()).build().unwrap(),
            None => query.build().unwrap(),
        }
    };
    let half = batches.len() / 2;
    let mut pipeline = build(if at_half == Break::Restore { &batches[..half] } else { batches }, None);
    if at_half != Break::None {
        // Asked before each delivery.
        let mut deliveries = 0;
        let mut stop = || {
            deliveries += 1;
            deliveries > half
        };
        assert!(!pipeline.step_until(Duration::from_secs(3_600), &mut stop).unwrap());
    }
    match at_half {
        Break::None => {}
        Break::Trim => pipeline.trim().unwrap(),
        Break::Restore => {
            let bytes = pipeline.snapshot().unwrap().to_bytes().unwrap();
            pipeline = build(&batches[half..], Some(&bytes));
        }
    }
    pipeline.run().unwrap();
    std::mem::take(&mut *lines.lock().unwrap())
}

fn check(rows: &[Row], nullable: bool, by: &[&str]) {
    let text = |key: Option<i64>| key.map_or("-".to_owned(), |key| key.to_string());
    let expected = match by {
        ["one"] => model(rows, |row| text(row.1)),
        ["other"] => model(rows, |row| row.2.to_string()),
        _ => model(rows, |row| format!("{} | {}", text(row.1), row.2)),
    };
    for batch_rows in [1_000, 17_000] {
        let batches: Vec<RecordBatch> = rows.chunks(batch_rows).map(|rows| records(rows, nullable)).collect();
        for (workers, exchange) in [(1, Exchange::Auto), (2, Exchange::Hash), (2, Exchange::TwoPhases), (2, Exchange::Windows)] {
            for at_half in [Break::None, Break::Trim, Break::Restore] {
                let mut found = run(&batches, by, workers, exchange, at_half);
                let mut expected = expected.clone();
                if exchange == Exchange::Hash || at_half == Break::Restore || nullable {
                    // Workers put out what they have, a snapshot's groups come by key group, null comes behind the other keys of a batch.
                    found.sort();
                    expected.sort();
                }
                let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
                assert!(
                    found.len() == expected.len() && differs.is_none(),
                    "batches of {batch_rows}, {workers} workers, {exchange:?}, {at_half:?}: {} of {} rows, {differs:?}",
                    found.len(),
                    expected.len()
                );
            }
        }
    }
}

#[test]
fn keys_far_apart_are_told_apart_alike_whether_rows_wait_or_not() {
    check(&rows(|number| (Some((number % 40_000) as i64 * 0x1_0000_0001), 0)), false, &["one"]);
}

#[test]
fn keys_close_together_are_told_apart_alike_whether_rows_wait_or_not() {
    check(&rows(|number| (Some(0), (number % 700_000) as i32 - 350_000)), false, &["other"]);
}

#[test]
fn nulls_among_keys_end_the_waiting() {
    check(&rows(|number| ((number % 1_000 > 0).then_some(number as i64), 0)), true, &["one"]);
}

#[test]
fn keys_of_two_columns_do_not_wait() {
    check(&rows(|number| (Some((number % 10) as i64), (number % 40_000) as i32)), false, &["one", "other"]);
}
