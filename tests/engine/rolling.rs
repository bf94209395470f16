//! Rolling windows against a slow model: one screen, obviously right. Whatever the batch size, the answer is the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float64Type, Int64Type, Schema};
use proptest::prelude::*;
use thalweg::window::RollingSpec;
use thalweg::{
    Aggregate, Config, Kind, Stream, Table, count, count_of, event_time, max, mean, millis, min, rolling_range, rolling_rows, secs, sum,
    tumbling, zscore,
};

#[derive(Debug, Clone)]
struct Row {
    time: i64,
    key: Option<i64>,
    value: Option<f64>,
    whole: Option<i64>,
    /// Where the row stood in the input.
    number: i64,
}

/// What a row's window holds, the row last; and the rows before it that its score is against.
#[derive(Debug)]
struct Expected {
    row: Row,
    window: Vec<Row>,
    before: Vec<Row>,
}

/// Rows on time in order of event time, each with its window; and how many were late. Without a delay there is no event time.
fn model(rows: &[Row], spec: RollingSpec, delay: Option<i64>) -> (Vec<Expected>, usize) {
    let (mut on_time, mut greatest) = (Vec::new(), i64::MIN);
    for row in rows {
        if delay.is_none_or(|delay| row.time > greatest.saturating_sub(delay + 1)) {
            on_time.push(row.clone());
        }
        greatest = greatest.max(row.time);
    }
    if delay.is_some() {
        on_time.sort_by_key(|row| row.time);
    }
    let late = rows.len() - on_time.len();
    let mut seen: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    let answer = |row: Row| {
        let seen = seen.entry(row.key).or_default();
        let before: Vec<Row> = match spec {
            RollingSpec::Rows(rows) => seen[seen.len().saturating_sub(rows as usize)..].to_vec(),
            RollingSpec::Range(length) => seen.iter().filter(|other| other.time >= row.time - length.as_millis() as i64).cloned().collect(),
        };
        seen.push(row.clone());
        let mut window: Vec<Row> = before.iter().chain([&row]).cloned().collect();
        if let RollingSpec::Rows(rows) = spec {
            window.drain(..window.len().saturating_sub(rows as usize));
        }
        Expected { row, window, before }
    };
    (on_time.into_iter().map(answer).collect(), late)
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
        Field::new("number", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.time)).collect::<Int64Array>()),
        keys,
        Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.whole).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.number)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn aggregates() -> [Aggregate; 13] {
    [
        count().alias("n"),
        count_of("value"),
        sum("value"),
        mean("value"),
        thalweg::var("value"),
        thalweg::std("value"),
        min("value"),
        max("value"),
        zscore("value"),
        sum("whole"),
        mean("whole"),
        min("whole"),
        max("whole"),
    ]
}

fn run(rows: &[Row], text_keys: bool, spec: RollingSpec, delay: Option<i64>, batch_rows: usize) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    let stream = Stream::from_arrow([records(rows, text_keys)]);
    let stream = match delay {
        Some(delay) => stream.event_time(event_time("ts").max_delay(millis(delay as u64))),
        None => stream,
    };
    stream.window(spec).by(["key"]).agg(aggregates()).batches(config).unwrap().into_table().unwrap()
}

fn value<T: ArrowPrimitiveType>(records: &RecordBatch, column: &str, row: usize) -> Option<T::Native> {
    let column = records.column_by_name(column).unwrap().as_primitive::<T>();
    column.is_valid(row).then(|| column.value(row))
}

/// Equal, or both nothing, or nearly equal in units of `scale`.
fn assert_close(got: Option<f64>, want: Option<f64>, scale: f64, what: &str) {
    let close = match (got, want) {
        (Some(got), Some(want)) => got == want || got.is_nan() && want.is_nan() || (got - want).abs() <= 1e-12 * scale,
        (got, want) => got.is_none() && want.is_none(),
    };
    assert!(close, "{what}: {got:?} is not {want:?}");
}

/// Holds the results against the model, row by row.
fn check(table: &Table, expected: &[Expected]) {
    let records = concat_batches(&table.schema(), table.batches()).unwrap();
    assert_eq!(records.num_rows(), expected.len());
    for (number, Expected { row, window, before }) in expected.iter().enumerate() {
        let float = |column: &str| value::<Float64Type>(&records, column, number);
        let whole = |column: &str| value::<Int64Type>(&records, column, number);
        assert_eq!((whole("number"), whole("ts")), (Some(row.number), Some(row.time)));
        assert_eq!((float("value").map(f64::to_bits), whole("whole")), (row.value.map(f64::to_bits), row.whole));
        let values: Vec<f64> = window.iter().filter_map(|row| row.value).collect();
        let wholes: Vec<i64> = window.iter().filter_map(|row| row.whole).collect();
        assert_eq!((whole("n"), whole("count_value")), (Some(window.len() as i64), Some(values.len() as i64)));
        let scale = values.iter().map(|value| value.abs()).sum::<f64>().max(1e-100);
        let (count, total) = (values.len() as f64, values.iter().sum::<f64>());
        let some = |least: usize, value: f64| (values.len() >= least).then_some(value);
        assert_close(float("sum_value"), some(1, total), scale, "sum");
        assert_close(float("mean_value"), some(1, total / count), scale, "mean");
        let variance = values.iter().map(|value| (value - total / count).powi(2)).sum::<f64>() / (count - 1.0);
        // Of values that are nearly one, the model itself has rounding only.
        assert_close(float("var_value"), some(2, variance), 100.0 * variance.max(1e-18 * scale * scale), "var");
        assert_close(float("std_value"), some(2, variance.sqrt()), 100.0 * variance.sqrt().max(1e-4 * scale), "std");
        assert_close(float("min_value"), values.iter().copied().min_by(f64::total_cmp), 0.0, "min");
        assert_close(float("max_value"), values.iter().copied().max_by(f64::total_cmp), 0.0, "max");
        assert_eq!(whole("sum_whole"), (!wholes.is_empty()).then(|| wholes.iter().sum()));
        assert_eq!((whole("min_whole"), whole("max_whole")), (wholes.iter().min().copied(), wholes.iter().max().copied()));
        let (scale, total) = (wholes.iter().map(|whole| whole.abs()).sum::<i64>() as f64, wholes.iter().sum::<i64>() as f64);
        assert_close(float("mean_whole"), (!wholes.is_empty()).then(|| total / wholes.len() as f64), scale, "mean of integers");
        let expected = score(row, before);
        // Where the rows before are nearly one, rounding is all that they deviate by.
        let scale = expected.filter(|score| score.abs() < 1e9).map_or(f64::MAX, |score| 1e4 * (1.0 + score.abs()));
        assert_close(float("zscore_value"), expected, scale, "score");
    }
}

/// How far the row lies from the mean of the rows before it, in their deviations.
fn score(row: &Row, before: &[Row]) -> Option<f64> {
    let values: Vec<f64> = before.iter().filter_map(|row| row.value).collect();
    let value = row.value.filter(|value| value.is_finite())?;
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)).sqrt();
    Some((value - mean) / deviation.max(1e-9 * mean.abs().max(1e-300)))
}

/// Rows of one shape of trace: in order, in order with ties, disordered a little, or wildly.
fn trace() -> impl Strategy<Value = Vec<Row>> {
    let row = (0i64..60, 0u64..400, prop_oneof![4 => -1e3..1e3_f64, 1 => Just(1.0), 1 => Just(f64::NAN)], any::<u8>(), -1_000i64..1_000);
    let keys = prop_oneof![Just(1i64), Just(3), Just(200)];
    (prop::collection::vec(row, 0..400), 0..4_usize, keys, any::<bool>()).prop_map(|(rows, shape, keys, nan)| {
        let mut now = 0;
        let rows = rows.into_iter().enumerate().map(|(number, (step, back, value, salt, whole)): (usize, (i64, u64, f64, u8, i64))| {
            now += if shape == 1 { i64::from(step > 45) } else { step };
            let back = [0, 0, back as i64 / 4, back as i64 * 3][shape];
            Row {
                time: now - back,
                key: (salt % 11 > 0).then_some(whole.rem_euclid(keys)),
                value: (salt % 7 > 0 && (nan || !value.is_nan())).then_some(value),
                whole: (salt % 5 > 0).then_some(whole),
                number: number as i64,
            }
        });
        rows.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_row_has_the_answer_of_the_definition(
        rows in trace(),
        text_keys in any::<bool>(),
        spec in prop_oneof![
            Just(rolling_rows(1)), Just(rolling_rows(2)), Just(rolling_rows(7)), Just(rolling_rows(100)),
            Just(rolling_range(millis(0))), Just(rolling_range(millis(50))), Just(rolling_range(secs(2))),
        ],
        delay in prop_oneof![Just(0), Just(100), Just(800)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let (expected, late) = model(&rows, spec, Some(delay));
        let table = run(&rows, text_keys, spec, Some(delay), batch_rows);
        prop_assert_eq!(table.metrics().late_rows as usize, late);
        check(&table, &expected);
        if let RollingSpec::Rows(_) = spec {
            let (expected, _) = model(&rows, spec, None);
            check(&run(&rows, text_keys, spec, None, batch_rows), &expected);
        }
    }
}

fn steady(rows: i64, keys: i64) -> Vec<Row> {
    let row = |number| Row { time: number, key: Some(number % keys), value: Some(number as f64), whole: Some(number), number };
    (0..rows).map(row).collect()
}

#[test]
fn keys_whose_rows_have_left_the_range_are_forgotten() {
    let mut config = Config::default();
    // Every row has a key of its own: kept for good, they would be over the bound.
    let rows = steady(200_000, i64::MAX);
    config.max_keys = 40_000;
    let stream = Stream::from_arrow([records(&rows, false)]).event_time("ts").window(rolling_range(millis(1_000))).by(["key"]);
    let table = stream.agg([count().alias("n")]).batches(config).unwrap().into_table().unwrap();
    assert_eq!(table.num_rows(), 200_000);
}

#[test]
fn state_over_its_bound_is_an_error_that_says_what_to_do() {
    let mut config = Config::default();
    config.max_state_bytes = 1 << 20;
    let stream = Stream::from_arrow([records(&steady(200_000, 50_000), false)]);
    for stream in [stream.clone(), stream.event_time(event_time("ts").max_delay(secs(3_600)))] {
        let stream = stream.window(rolling_rows(100)).by(["key"]).agg([mean("value")]);
        let error = stream.batches(config.clone()).unwrap().into_table().unwrap_err();
        assert_eq!(error.kind(), Kind::State);
        assert!(error.to_string().contains("raise `max_state_bytes`"), "{error}");
    }
}

#[test]
fn what_cannot_work_is_refused_when_it_is_planned() {
    let stream = Stream::from_arrow([records(&steady(10, 2), true)]);
    let kind = |stream: Stream| stream.schema().unwrap_err().kind();
    assert_eq!(kind(stream.window(rolling_range(secs(1))).agg([count()])), Kind::Config);
    assert_eq!(kind(stream.window(rolling_rows(0)).agg([count()])), Kind::Config);
    assert_eq!(kind(stream.window(rolling_rows(2)).agg([mean("value").alias("value")])), Kind::Schema);
    assert_eq!(kind(stream.window(rolling_rows(2)).agg([mean("key")])), Kind::Schema);
    assert_eq!(kind(stream.window(rolling_rows(2)).agg([count()]).event_time("ts")), Kind::Config);
    assert_eq!(kind(stream.event_time("ts").window(tumbling(secs(1))).agg([zscore("value")])), Kind::Config);
    let finer = rolling_range(std::time::Duration::from_nanos(1));
    assert_eq!(kind(stream.event_time("ts").window(finer).agg([count()])), Kind::Config);
}

#[test]
fn windows_follow_windows() {
    let rows = steady(10_000, 3);
    let sums = Stream::from_arrow([records(&rows, false)]).event_time("ts").window(tumbling(millis(100))).by(["key"]).agg([sum("whole")]);
    let smooth = sums.window(rolling_rows(4)).by(["key"]).agg([mean("sum_whole").alias("smooth")]);
    let counts = smooth.window(tumbling(secs(1))).agg([count().alias("n")]);
    let table = counts.collect().unwrap();
    let per_second: Vec<i64> =
        table.batches().iter().flat_map(|batch| batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(per_second, vec![30; 10]);
}
