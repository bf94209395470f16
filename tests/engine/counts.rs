//! Windows of a number of rows against a slow model. Whatever the batch size, the answer is the same.

use std::collections::BTreeMap;

use crate::trace::{Row, key_of, records, traces};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::{
    Config, Stream, Table, collect_list, count, count_distinct, count_window, event_time, first, hours, median, millis, sum, tumbling,
};

type Window = (i64, i64, i64, Option<i64>, i64, Option<f64>, Vec<i64>);

fn window(rows: &[Row]) -> Window {
    let mut by_time = rows.to_vec();
    by_time.sort_by_key(|row| row.time);
    let wholes: Vec<i64> = by_time.iter().filter_map(|row| row.whole).collect();
    let mut values: Vec<f64> = rows.iter().filter_map(|row| row.value).collect();
    values.sort_by(f64::total_cmp);
    let median = (!values.is_empty()).then(|| values[(values.len() - 1) / 2]);
    let mut distinct = wholes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let sum = wholes.iter().copied().reduce(|a, b| a + b);
    let list = wholes.into_iter().take(3).collect();
    (by_time[0].time, by_time[by_time.len() - 1].time, rows.len() as i64, sum, distinct.len() as i64, median, list)
}

/// After every `slide` rows of a key its last `size` rows; at the end those since, with the ones before them that fit.
fn model(rows: &[Row], size: usize, slide: usize) -> BTreeMap<Option<i64>, Vec<Window>> {
    let mut keys: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| keys.entry(row.key).or_default().push(row.clone()));
    let windows = |rows: &Vec<Row>| {
        let mut windows: Vec<Window> =
            (slide..=rows.len()).step_by(slide).map(|end| window(&rows[end.saturating_sub(size)..end])).collect();
        let complete = rows.len() / slide * slide;
        if complete < rows.len() {
            windows.push(window(&rows[complete.saturating_sub(size - slide)..]));
        }
        windows
    };
    keys.iter().map(|(key, rows)| (*key, windows(rows))).collect()
}

fn run(rows: &[Row], text_keys: bool, size: u32, slide: u32, batch_rows: usize) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    let spec = if size == slide { count_window(size) } else { count_window(size).slide(slide) };
    let windows = Stream::from_arrow([records(rows, text_keys)])
        .event_time(event_time("ts").max_delay(millis(50)))
        .window(spec)
        .by(["key"])
        .agg([count().alias("n"), sum("whole"), count_distinct("whole"), median("value"), collect_list("whole", 3), first("text")]);
    windows.batches(config).unwrap().into_table().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_the_model_whatever_the_batch_size(
        rows in traces(),
        text_keys in any::<bool>(),
        (size, slide) in prop_oneof![Just((1, 1)), Just((5, 5)), Just((4, 2)), Just((9, 6)), Just((7, 1)), Just((6, 5))],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let table = run(&rows, text_keys, size, slide, batch_rows);
        let mut got: BTreeMap<Option<i64>, Vec<Window>> = BTreeMap::new();
        for batch in table.batches() {
            let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().value(row);
            let whole = |column: usize, row: usize| {
                let column = batch.column(column).as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            for row in 0..batch.num_rows() {
                let medians = batch.column(6).as_primitive::<Float64Type>();
                let median = medians.is_valid(row).then(|| medians.value(row));
                let list = batch.column(7).as_list::<i32>().value(row).as_primitive::<Int64Type>().values().to_vec();
                let window =
                    (time(1, row), time(2, row), whole(3, row).unwrap(), whole(4, row), whole(5, row).unwrap(), median, list);
                got.entry(key_of(batch, row)).or_default().push(window);
            }
        }
        prop_assert_eq!(got, model(&rows, size as usize, slide as usize));
        prop_assert_eq!(table.metrics().late_rows, 0);
    }
}

#[test]
fn windows_of_windows_of_rows_miss_none() {
    let at = |row: i64| Row { time: row * 7 % 400, key: Some(row % 5), value: None, whole: Some(1) };
    let rows: Vec<Row> = (0..500).map(at).collect();
    for batch_rows in [1, 64, 1_000] {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let threes =
            Stream::from_arrow([records(&rows, false)]).event_time("ts").window(count_window(3)).by(["key"]).agg([sum("whole").alias("n")]);
        let table = threes.window(tumbling(hours(1))).agg([sum("n").alias("n")]).batches(config).unwrap().into_table().unwrap();
        let total: i64 = table.batches().iter().flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values().to_vec()).sum();
        assert_eq!((total, table.metrics().late_rows), (500, 0));
    }
}

#[test]
fn impossible_windows_are_refused() {
    let stream = Stream::from_arrow([records(&[], false)]).event_time("ts");
    for spec in [count_window(0), count_window(3).slide(0), count_window(3).slide(4)] {
        let why = stream.window(spec).agg([count()]).schema().unwrap_err().to_string();
        assert!(why.contains("at least one row"), "{why}");
    }
}
