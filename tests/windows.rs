//! Windows against a slow model: one screen, obviously right. Whatever the batch size, the answer is the same.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::{Config, Stream, Table, count, event_time, hopping, max, mean, millis, min, std, sum, tumbling, var};

#[derive(Debug, Clone)]
struct Row {
    time: i64,
    key: Option<i64>,
    value: Option<f64>,
    whole: Option<i64>,
}

/// The groups of one window: row count, values of the float column, values of the integer column.
type Groups = BTreeMap<(i64, Option<i64>), (i64, Vec<f64>, Vec<i64>)>;

/// Every window by itself: a row counts in each window that covers it and was not closed when the row came.
fn model(rows: &[Row], size: i64, slide: i64, delay: i64) -> (Groups, usize) {
    let (mut groups, mut late, mut greatest) = (Groups::new(), 0, i64::MIN);
    for row in rows {
        let watermark = greatest.saturating_sub(delay + 1);
        let last_start = row.time.div_euclid(slide) * slide;
        let starts = (0..).map(|back| last_start - back * slide).take_while(|start| start + size > row.time);
        let open: Vec<i64> = starts.filter(|start| start + size - 1 > watermark).collect();
        late += usize::from(open.is_empty());
        for start in open {
            let group = groups.entry((start, row.key)).or_default();
            group.0 += 1;
            group.1.extend(row.value);
            group.2.extend(row.whole);
        }
        greatest = greatest.max(row.time);
    }
    (groups, late)
}

fn records(rows: &[Row], text_keys: bool) -> RecordBatch {
    let keys: ArrayRef = match text_keys {
        true => Arc::new(rows.iter().map(|row| row.key.map(|key| format!("key-{key}"))).collect::<StringArray>()),
        false => Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
    };
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Int64, false),
        Field::new("key", keys.data_type().clone(), true),
        Field::new("value", DataType::Float64, true),
        Field::new("whole", DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.time)).collect::<Int64Array>()),
        keys,
        Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.whole).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn run(rows: &[Row], text_keys: bool, size: i64, slide: i64, delay: i64, batch_rows: usize) -> Table {
    let spec = if size == slide { tumbling(millis(size as u64)) } else { hopping(millis(size as u64), millis(slide as u64)) };
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    Stream::from_arrow([records(rows, text_keys)])
        .event_time(event_time("ts").max_delay(millis(delay as u64)))
        .window(spec)
        .by(["key"])
        .agg([
            count().alias("n"),
            sum("value"),
            min("value"),
            max("value"),
            mean("value"),
            sum("whole"),
            min("whole"),
            max("whole"),
            mean("whole"),
            var("value"),
            std("whole"),
        ])
        .batches(config)
        .unwrap()
        .into_table()
        .unwrap()
}

fn key_of(batch: &RecordBatch, row: usize) -> Option<i64> {
    let keys = batch.column(0);
    if keys.is_null(row) {
        return None;
    }
    Some(match keys.data_type() {
        DataType::Utf8 => keys.as_string::<i32>().value(row).trim_start_matches("key-").parse().unwrap(),
        _ => keys.as_primitive::<Int64Type>().value(row),
    })
}

/// The variance as a sample in two passes.
fn variance(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let distances: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| distances / (count - 1.0))
}

/// What two passes round away is relative to the squares of the values.
fn assert_variance(got: Option<f64>, want: Option<f64>, values: &[f64]) {
    let scale = values.iter().map(|value| value * value).fold(f64::MIN_POSITIVE, f64::max);
    match (got, want) {
        (Some(got), Some(want)) => assert!((got - want).abs() <= 1e-10 * scale, "{got} is not {want}: {values:?}"),
        _ => assert_eq!(got, want, "{values:?}"),
    }
}

/// Holds the results against the model's groups; every group must come exactly once.
fn check(table: &Table, mut expected: Groups, late: usize, size: i64) {
    for batch in table.batches() {
        let starts = batch.column(1).as_primitive::<TimestampMillisecondType>();
        let ends = batch.column(2).as_primitive::<TimestampMillisecondType>();
        let whole = |column: usize, row: usize| {
            let column = batch.column(column);
            (!column.is_null(row)).then(|| column.as_primitive::<Int64Type>().value(row))
        };
        let float = |column: usize, row: usize| {
            let column = batch.column(column);
            (!column.is_null(row)).then(|| column.as_primitive::<Float64Type>().value(row))
        };
        for row in 0..batch.num_rows() {
            assert_eq!(ends.value(row) - starts.value(row), size);
            let group = (starts.value(row), key_of(batch, row));
            let (rows, values, wholes) = expected.remove(&group).unwrap_or_else(|| panic!("{group:?} came twice or is not there"));
            assert_eq!(whole(3, row), Some(rows), "{group:?}");
            let exact: f64 = values.iter().sum();
            let scale: f64 = values.iter().map(|value| value.abs()).sum();
            let close = |got: Option<f64>, want: f64| {
                let got = got.expect("a value");
                assert!((got - want).abs() <= 1e-12 * scale.max(f64::MIN_POSITIVE), "{group:?}: {got} is not {want}");
            };
            if values.is_empty() {
                assert_eq!([float(4, row), float(5, row), float(6, row), float(7, row)], [None; 4]);
            } else {
                close(float(4, row), exact);
                close(float(7, row), exact / values.len() as f64);
                assert_eq!(float(5, row), values.iter().copied().reduce(f64::min));
                assert_eq!(float(6, row), values.iter().copied().reduce(f64::max));
            }
            assert_eq!(whole(8, row), (!wholes.is_empty()).then(|| wholes.iter().sum()));
            assert_eq!(whole(9, row), wholes.iter().copied().min());
            assert_eq!(whole(10, row), wholes.iter().copied().max());
            let average = (!wholes.is_empty()).then(|| wholes.iter().sum::<i64>() as f64 / wholes.len() as f64);
            assert_eq!(float(11, row), average);
            assert_variance(float(12, row), variance(&values), &values);
            let wholes: Vec<f64> = wholes.iter().map(|&whole| whole as f64).collect();
            assert_variance(float(13, row).map(|deviation| deviation * deviation), variance(&wholes), &wholes);
        }
    }
    assert!(expected.is_empty(), "windows that never came: {expected:?}");
    assert_eq!(table.metrics().late_rows, late as u64);
    assert_eq!(table.late().iter().map(RecordBatch::num_rows).sum::<usize>(), late);
}

/// Shapes of trace: steps forward by up to `step`, with rows up to `back` behind.
fn traces() -> impl Strategy<Value = Vec<Row>> {
    let shapes = prop_oneof![Just((2, 0)), Just((5, 20)), Just((3, 200)), Just((500, 50)), Just((40, 2_000))];
    let row = |step: i64, back: i64| {
        (
            0..=step,
            0..=back,
            prop::option::weighted(0.9, -3..8_i64),
            prop::option::weighted(0.8, -1e6..1e6),
            prop::option::weighted(0.8, -1_000..1_000_i64),
        )
    };
    (shapes, -5_000..5_000_i64).prop_flat_map(move |((step, back), start)| {
        prop::collection::vec(row(step, back), 1..300).prop_map(move |steps| {
            let mut now = start;
            let place = |(step, back, key, value, whole): (i64, i64, _, _, _)| {
                now += step;
                Row { time: now - back, key, value, whole }
            };
            steps.into_iter().map(place).collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_the_model_whatever_the_batch_size(
        rows in traces(),
        text_keys in any::<bool>(),
        (size, slide) in prop_oneof![Just((100, 100)), Just((100, 25)), Just((100, 30)), Just((60, 40)), Just((7, 1)), Just((1, 1))],
        delay in prop_oneof![Just(0), Just(10), Just(150)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let (expected, late) = model(&rows, size, slide, delay);
        let table = run(&rows, text_keys, size, slide, delay, batch_rows);
        check(&table, expected, late, size);
    }
}

#[test]
fn a_row_that_is_late_for_one_window_still_counts_in_the_next() {
    let at = |time| Row { time, key: Some(1), value: Some(1.0), whole: None };
    let rows = [at(0), at(95), at(110), at(60), at(10), at(200)];
    for batch_rows in [1, 2, 100] {
        let table = run(&rows, false, 100, 50, 0, batch_rows);
        let (expected, late) = model(&rows, 100, 50, 0);
        assert_eq!(late, 1, "only the row at 10 has no window left");
        check(&table, expected, late, 100);
    }
}

#[test]
fn late_rows_that_a_filter_took_out_open_no_window() {
    let at = |time, value| Row { time, key: Some(1), value: Some(value), whole: None };
    let rows = [at(0, 1.0), at(950, 1.0), at(5, -1.0), at(990, 1.0), at(1_900, 1.0), at(7, -1.0), at(1_950, 1.0)];
    for batch_rows in [1, 3, 100] {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let windows = Stream::from_arrow([records(&rows, false)])
            .event_time("ts")
            .filter("value > 0")
            .window(tumbling(millis(100)))
            .by(["key"])
            .agg([count().alias("n")]);
        let table = windows.batches(config).unwrap().into_table().unwrap();
        let starts: Vec<i64> =
            table.batches().iter().flat_map(|batch| batch.column(1).as_primitive::<TimestampMillisecondType>().values().to_vec()).collect();
        assert_eq!((starts, table.metrics().late_rows), (vec![0, 900, 1_900], 0));
    }
}

#[test]
fn rows_far_apart_neither_fill_memory_nor_lose_windows() {
    let rows: Vec<Row> =
        (0..2_000).map(|day| Row { time: day * 86_400_000, key: Some(day % 5), value: Some(day as f64), whole: None }).collect();
    let (expected, late) = model(&rows, 1_000, 1_000, 0);
    check(&run(&rows, false, 1_000, 1_000, 0, 10_000), expected, late, 1_000);
}
