//! Windows against a slow model: one screen, obviously right. Whatever the batch size, the answer is the same.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::{
    Config, Stream, Table, count, count_of, cumulate, event_time, hopping, hours, max, mean, millis, min, std, sum, tumbling, var,
};

use crate::trace::{Groups, Row, key_of, records, traces, windows_by, windows_of};

/// With `moments`, variances too: windows of many panes with and without them are two operators.
fn run(rows: &[Row], (text_keys, moments): (bool, bool), (size, slide): (i64, i64), delay: i64, batch_rows: usize) -> Table {
    let spec = if size == slide { tumbling(millis(size as u64)) } else { hopping(millis(size as u64), millis(slide as u64)) };
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    let plain = [
        count().alias("n"),
        sum("value"),
        min("value"),
        max("value"),
        mean("value"),
        sum("whole"),
        min("whole"),
        max("whole"),
        mean("whole"),
    ];
    let variances = if moments { vec![var("value"), std("whole")] } else { Vec::new() };
    Stream::from_arrow([records(rows, text_keys)])
        .event_time(event_time("ts").max_delay(millis(delay as u64)))
        .window(spec)
        .by(["key"])
        .agg(plain.into_iter().chain(variances))
        .batches(config)
        .unwrap()
        .into_table()
        .unwrap()
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
            let rows = expected.remove(&group).unwrap_or_else(|| panic!("{group:?} came twice or is not there"));
            assert_eq!(whole(3, row), Some(rows.len() as i64), "{group:?}");
            let values: Vec<f64> = rows.iter().filter_map(|row| row.value).collect();
            let wholes: Vec<i64> = rows.iter().filter_map(|row| row.whole).collect();
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
            if batch.num_columns() == 12 {
                continue;
            }
            assert_variance(float(12, row), variance(&values), &values);
            let wholes: Vec<f64> = wholes.iter().map(|&whole| whole as f64).collect();
            assert_variance(float(13, row).map(|deviation| deviation * deviation), variance(&wholes), &wholes);
        }
    }
    assert!(expected.is_empty(), "windows that never came: {expected:?}");
    assert_eq!(table.metrics().late_rows, late as u64);
    assert_eq!(table.late().iter().map(RecordBatch::num_rows).sum::<usize>(), late);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_the_model_whatever_the_batch_size(
        rows in traces(),
        kinds in any::<(bool, bool)>(),
        (size, slide) in prop_oneof![Just((100, 100)), Just((100, 25)), Just((100, 30)), Just((60, 40)), Just((7, 1)), Just((1, 1)), Just((60, 1)), Just((100, 3)), Just((400, 20))],
        delay in prop_oneof![Just(0), Just(10), Just(150)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let (expected, late) = windows_of(&rows, size, slide, delay);
        let table = run(&rows, kinds, (size, slide), delay, batch_rows);
        check(&table, expected, late, size);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Counts and sums of windows of every other kind.
    #[test]
    fn offsets_and_cumulating_windows_equal_the_model(
        rows in traces(),
        (cumulates, size, step, offset) in prop_oneof![
            Just((true, 120, 30, 0)), Just((true, 120, 120, 7)), Just((true, 700, 7, 50)),
            Just((false, 100, 30, 17)), Just((false, 100, 100, 99)), Just((false, 60, 40, 1_000)),
        ],
        delay in prop_oneof![Just(0), Just(150)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let windows = |time: i64| -> Vec<(i64, i64)> {
            let local = time - offset;
            let bounds: Vec<(i64, i64)> = if cumulates {
                let start = local.div_euclid(size) * size;
                (1..=size / step).map(|steps| (start, start + steps * step)).collect()
            } else {
                let last = local.div_euclid(step);
                (0..=size / step).map(|back| ((last - back) * step, (last - back) * step + size)).collect()
            };
            bounds.into_iter().filter(|(start, end)| (*start..*end).contains(&local)).map(|(a, b)| (a + offset, b + offset)).collect()
        };
        let (expected, late) = windows_by(&rows, delay, windows);
        let [size, step, offset] = [size, step, offset].map(|length| millis(length as u64));
        let spec = if cumulates { cumulate(size, step) } else { hopping(size, step) };
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let stream = Stream::from_arrow([records(&rows, false)]).event_time(event_time("ts").max_delay(millis(delay as u64)));
        let stream = stream.window(spec.offset(offset)).by(["key"]).agg([count().alias("n"), sum("whole")]);
        let table = stream.batches(config).unwrap().into_table().unwrap();
        let mut got = BTreeMap::new();
        for batch in table.batches() {
            let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().value(row);
            let (counts, sums) = (batch.column(3).as_primitive::<Int64Type>(), batch.column(4).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let answer = (counts.value(row), sums.is_valid(row).then(|| sums.value(row)));
                prop_assert!(got.insert((time(1, row), time(2, row), key_of(batch, row)), answer).is_none(), "a window came twice");
            }
        }
        let answer = |rows: Vec<Row>| (rows.len() as i64, rows.iter().filter_map(|row| row.whole).reduce(|a, b| a + b));
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(window, rows)| (window, answer(rows))).collect();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(table.metrics().late_rows, late as u64);
    }
}

/// The numbers of a group: rows, values, the extremes and the sum of them, the extremes and the mean of the wholes.
type Numbers = (usize, usize, [Option<f64>; 3], [Option<i64>; 2], Option<f64>);

fn numbers_of(rows: &[Row]) -> Numbers {
    let values: Vec<f64> = rows.iter().filter_map(|row| row.value).collect();
    let wholes: Vec<i64> = rows.iter().filter_map(|row| row.whole).collect();
    let ends = [values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max)];
    let sum = values.iter().copied().reduce(|a, b| a + b);
    let mean = (!wholes.is_empty()).then(|| wholes.iter().sum::<i64>() as f64 / wholes.len() as f64);
    (rows.len(), values.len(), [ends[0], ends[1], sum], [wholes.iter().copied().min(), wholes.iter().copied().max()], mean)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Windows of many panes whose results are numbers of a group each, and those of them that a condition keeps.
    #[test]
    fn numbers_of_windows_of_many_panes_equal_the_model_with_and_without_a_condition(
        rows in traces(),
        (size, slide) in prop_oneof![Just((60, 1)), Just((100, 3)), Just((400, 20))],
        delay in prop_oneof![Just(0), Just(150)],
        batch_rows in prop_oneof![Just(7), Just(64), Just(10_000)],
        least in prop_oneof![Just(None), Just(Some(-5e5)), Just(Some(0.0)), Just(Some(9e5))],
    ) {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let rows_of = Stream::from_arrow([records(&rows, false)]).event_time(event_time("ts").max_delay(millis(delay as u64)));
        let windows = rows_of.window(hopping(millis(size as u64), millis(slide as u64))).by(["key"]).agg([
            count().alias("n"),
            count_of("value").alias("values"),
            min("value").alias("lo"),
            max("value"),
            sum("value"),
            min("whole"),
            max("whole"),
            mean("whole"),
        ]);
        let stream = match least {
            Some(least) => windows.filter(format!("lo >= {least:?}")),
            None => windows,
        };
        let table = stream.batches(config).unwrap().into_table().unwrap();
        let mut got = BTreeMap::new();
        for batch in table.batches() {
            let whole = |column: usize, row: usize| {
                let column = batch.column(column).as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let float = |column: usize, row: usize| {
                let column = batch.column(column).as_primitive::<Float64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let starts = batch.column(1).as_primitive::<TimestampMillisecondType>();
            for row in 0..batch.num_rows() {
                let [n, values] = [3, 4].map(|column| whole(column, row).unwrap() as usize);
                let numbers = (n, values, [5, 6, 7].map(|column| float(column, row)), [8, 9].map(|column| whole(column, row)), float(10, row));
                prop_assert!(got.insert((starts.value(row), key_of(batch, row)), numbers).is_none(), "a group came twice");
            }
        }
        let (expected, late) = windows_of(&rows, size, slide, delay);
        let mut expected: BTreeMap<_, Numbers> = expected.into_iter().map(|(group, rows)| (group, numbers_of(&rows))).collect();
        expected.retain(|_, (_, _, [lo, ..], ..)| least.is_none_or(|least| lo.is_some_and(|lo| lo >= least)));
        prop_assert!(got.keys().eq(expected.keys()));
        for (group, (_, _, [_, _, sum], ..)) in &mut got {
            let want = expected[group].2[2];
            // The last bits depend on the order of additions.
            if let (Some(got), Some(want)) = (*sum, want) {
                prop_assert!((got - want).abs() <= 1e-12 * 300.0 * 1e6);
                *sum = Some(want);
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(table.metrics().late_rows, late as u64);
    }
}

#[test]
fn days_follow_the_clock_of_the_place() {
    let hour = 3_600_000;
    // Every half hour of three days by UTC, around the night in which the clock is put back there.
    let start = 1_729_900_800_000;
    let rows: Vec<Row> = (0..144).map(|half| Row { time: start + half * hour / 2, key: Some(1), value: None, whole: None }).collect();
    for batch_rows in [1, 50, 1_000] {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let stream = Stream::from_arrow([records(&rows, false)]).event_time("ts").window(tumbling(hours(24)).zone("Europe/Berlin"));
        let table = stream.agg([count()]).batches(config).unwrap().into_table().unwrap().to_batch().unwrap();
        let starts = table.column(0).as_primitive::<TimestampMillisecondType>().values();
        let ends = table.column(1).as_primitive::<TimestampMillisecondType>().values();
        let lengths: Vec<i64> = starts.iter().zip(ends).map(|(start, end)| (end - start) / hour).collect();
        assert_eq!(lengths, [24, 25, 24, 24]);
        assert_eq!(starts[1], start + 22 * hour);
        assert_eq!(table.column(2).as_primitive::<Int64Type>().values(), &[44, 50, 48, 2]);
    }
}

#[test]
fn a_row_that_is_late_for_one_window_still_counts_in_the_next() {
    let at = |time| Row { time, key: Some(1), value: Some(1.0), whole: None };
    let rows = [at(0), at(95), at(110), at(60), at(10), at(200)];
    for (batch_rows, moments) in [(1, false), (2, false), (100, false), (1, true), (2, true), (100, true)] {
        for slide in [50, 5] {
            let table = run(&rows, (false, moments), (100, slide), 0, batch_rows);
            let (expected, late) = windows_of(&rows, 100, slide, 0);
            assert_eq!(late, 1, "only the row at 10 has no window left");
            check(&table, expected, late, 100);
        }
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
    let (expected, late) = windows_of(&rows, 1_000, 1_000, 0);
    check(&run(&rows, (false, true), (1_000, 1_000), 0, 10_000), expected, late, 1_000);
}

#[test]
fn results_of_many_windows_that_are_due_at_once_all_come_before_the_watermark() {
    // One batch, at whose end four hundred windows fire: more rows than go on their way together.
    let rows: Vec<Row> = (0..3_000).map(|n| Row { time: n / 10, key: Some(n % 500), value: None, whole: Some(n) }).collect();
    let stream = Stream::from_arrow([records(&rows, false)]).event_time("ts").with_columns([("other", "whole % 2")]);
    let windows = stream.window(hopping(millis(100), millis(1))).by(["key", "other"]).agg([count().alias("n")]);
    let table = windows.collect().unwrap();
    let mut last = i64::MIN;
    let (mut groups, mut counted) = (std::collections::BTreeSet::new(), 0);
    for batch in table.batches() {
        let [keys, counts] = [0, 4].map(|column| batch.column(column).as_primitive::<Int64Type>());
        let ends = batch.column(3).as_primitive::<TimestampMillisecondType>();
        for row in 0..batch.num_rows() {
            assert!(ends.value(row) >= last && groups.insert((ends.value(row), keys.value(row))));
            (last, counted) = (ends.value(row), counted + counts.value(row));
        }
    }
    assert_eq!((counted, table.batches().len() > 2), (3_000 * 100, true));
    let again = windows.window(tumbling(millis(50))).agg([sum("n").alias("n"), count().alias("groups")]).collect().unwrap();
    let sum_of = |column: usize| {
        again
            .batches()
            .iter()
            .map(|batch| batch.column(column))
            .map(|column| column.as_primitive::<Int64Type>().values().iter().sum::<i64>())
            .sum::<i64>()
    };
    assert_eq!((sum_of(2), sum_of(3), again.metrics().late_rows), (counted, groups.len() as i64, 0));
}
