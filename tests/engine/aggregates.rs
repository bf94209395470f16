//! Every aggregate against its definition, over windows of every kind. Whatever the batch size, the answer is the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::trace::{Row, key_of, records, traces, windows_of, word};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::{
    Aggregate, AggregateFunction, Config, Error, Kind, Result, Stream, Table, approx_distinct, arg_max, arg_min, collect_list, corr, count,
    count_distinct, count_of, covar, custom, delta, event_time, first, histogram, hopping, last, max, median, millis, quantile, rate,
    rate_of, secs, sum, top_k, tumbling,
};

const EDGES: [f64; 4] = [-500_000.0, -10.0, 0.0, 250_000.0];
const LIMIT: usize = 3;

fn aggregates() -> Vec<Aggregate> {
    vec![
        first("value").alias("first"),
        last("text").alias("last"),
        arg_min("text", "value").alias("arg_min"),
        arg_max("whole", "value").alias("arg_max"),
        count_distinct("text").alias("count_distinct"),
        approx_distinct("whole").alias("approx_distinct"),
        median("value").alias("median"),
        quantile("whole", 0.9).alias("p90"),
        histogram("value", EDGES).alias("histogram"),
        covar("value", "whole").alias("covar"),
        corr("value", "whole").alias("corr"),
        top_k("text", 2).alias("top_k"),
        collect_list("whole", LIMIT).alias("collect"),
        rate().alias("rate"),
        rate_of("whole").alias("rate_of"),
        delta("whole").alias("delta"),
        count().filter("value > 0").alias("positive"),
        sum("whole").filter("value > 0").alias("sum_positive"),
        first("text").filter("whole % 2 = 0").alias("first_even"),
        rate().filter("value > 0").alias("rate_positive"),
        count_of("text").alias("texts"),
    ]
}

fn run(rows: &[Row], text_keys: bool, size: i64, slide: i64, delay: i64, batch_rows: usize) -> Table {
    let spec = if size == slide { tumbling(millis(size as u64)) } else { hopping(millis(size as u64), millis(slide as u64)) };
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    let windows = Stream::from_arrow([records(rows, text_keys)])
        .event_time(event_time("ts").max_delay(millis(delay as u64)))
        .window(spec)
        .by(["key"])
        .agg(aggregates());
    windows.batches(config).unwrap().into_table().unwrap()
}

/// Cells of one row of results, by name.
struct Answer<'a>(&'a RecordBatch, usize);

impl Answer<'_> {
    fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.0.column_by_name(name).filter(|column| column.is_valid(self.1))
    }

    fn float(&self, name: &str) -> Option<f64> {
        self.column(name).map(|column| column.as_primitive::<Float64Type>().value(self.1))
    }

    fn whole(&self, name: &str) -> Option<i64> {
        self.column(name).map(|column| column.as_primitive::<Int64Type>().value(self.1))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.column(name).map(|column| column.as_string::<i32>().value(self.1).to_owned())
    }

    fn wholes(&self, name: &str) -> Vec<i64> {
        let list = self.column(name).unwrap().as_list::<i32>().value(self.1);
        list.as_primitive::<Int64Type>().values().to_vec()
    }

    fn pairs(&self, name: &str) -> Vec<(String, i64)> {
        let list = self.column(name).unwrap().as_list::<i32>().value(self.1);
        let pairs = list.as_struct();
        let (values, counts) = (pairs.column(0).as_string::<i32>(), pairs.column(1).as_primitive::<Int64Type>());
        values.iter().zip(counts.values()).map(|(value, count)| (value.unwrap().to_owned(), *count)).collect()
    }
}

fn close(got: Option<f64>, want: Option<f64>, scale: f64) {
    match (got, want) {
        (Some(got), Some(want)) => assert!((got - want).abs() <= 1e-9 * scale.max(f64::MIN_POSITIVE), "{got} is not {want}"),
        _ => assert_eq!(got, want),
    }
}

/// Holds one group's results against its rows, in order of arrival.
fn check(answer: &Answer<'_>, rows: &[Row], seconds: f64) {
    // A sort that keeps the order of arrival among rows of one time.
    let mut by_time = rows.to_vec();
    by_time.sort_by_key(|row| row.time);
    let values = || rows.iter().filter_map(|row| row.value);
    let wholes = || rows.iter().filter_map(|row| row.whole);
    assert_eq!(answer.float("first"), by_time.iter().find_map(|row| row.value));
    assert_eq!(answer.text("last"), by_time.iter().rev().find_map(|row| row.whole).map(word));
    let pairs: Vec<(f64, i64)> = rows.iter().filter_map(|row| Some((row.value?, row.whole?))).collect();
    let least = pairs.iter().copied().reduce(|best, next| if next.0 < best.0 { next } else { best });
    let greatest = pairs.iter().copied().reduce(|best, next| if next.0 > best.0 { next } else { best });
    assert_eq!(answer.text("arg_min"), least.map(|pair| word(pair.1)));
    assert_eq!(answer.whole("arg_max"), greatest.map(|pair| pair.1));
    let mut counts = BTreeMap::<i64, i64>::new();
    wholes().for_each(|whole| *counts.entry(whole).or_default() += 1);
    assert_eq!(answer.whole("count_distinct"), Some(counts.len() as i64));
    let distinct = answer.whole("approx_distinct").unwrap();
    let slack = if counts.len() <= 64 { 0.0 } else { 0.1 * counts.len() as f64 };
    assert!((distinct - counts.len() as i64).abs() as f64 <= slack, "{distinct} of {}", counts.len());
    let quantile = |mut values: Vec<f64>, q: f64| {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| values[(q * (values.len() - 1) as f64) as usize])
    };
    assert!(rows.len() <= 256 + 44, "longer traces need the error of the sketch");
    let exactly = |count: usize, got: Option<f64>, want: Option<f64>| match count {
        ..=256 => assert_eq!(got, want),
        _ => close(got, want, 1e7 * want.unwrap_or(0.0).abs()),
    };
    exactly(values().count(), answer.float("median"), quantile(values().collect(), 0.5));
    exactly(wholes().count(), answer.float("p90"), quantile(wholes().map(|whole| whole as f64).collect(), 0.9));
    let mut bins = vec![0; EDGES.len() + 1];
    values().for_each(|value| bins[EDGES.iter().filter(|edge| value >= **edge).count()] += 1);
    assert_eq!(answer.wholes("histogram"), bins);
    check_pairs(answer, &pairs);
    let ranked = answer.pairs("top_k");
    let mut highest: Vec<i64> = counts.values().copied().collect();
    highest.sort_unstable_by(|a, b| b.cmp(a));
    highest.truncate(2);
    assert_eq!(ranked.iter().map(|(_, count)| *count).collect::<Vec<_>>(), highest);
    for (value, count) in &ranked {
        assert!(counts.iter().any(|(whole, occurrences)| word(*whole) == *value && occurrences == count));
    }
    assert_eq!(answer.wholes("collect"), by_time.iter().filter_map(|row| row.whole).take(LIMIT).collect::<Vec<_>>());
    let total: Option<i64> = wholes().reduce(|a, b| a + b);
    close(answer.float("rate"), Some(rows.len() as f64 / seconds), rows.len() as f64 / seconds);
    close(answer.float("rate_of"), total.map(|total| total as f64 / seconds), total.unwrap_or(0).abs() as f64 / seconds);
    let in_time: Vec<i64> = by_time.iter().filter_map(|row| row.whole).collect();
    assert_eq!(answer.whole("delta"), in_time.last().map(|last| last - in_time[0]));
    let positive: Vec<&Row> = rows.iter().filter(|row| row.value.is_some_and(|value| value > 0.0)).collect();
    assert_eq!(answer.whole("positive"), Some(positive.len() as i64));
    assert_eq!(answer.whole("sum_positive"), positive.iter().filter_map(|row| row.whole).reduce(|a, b| a + b));
    close(answer.float("rate_positive"), Some(positive.len() as f64 / seconds), rows.len() as f64);
    let even = by_time.iter().filter_map(|row| row.whole).find(|whole| whole % 2 == 0);
    assert_eq!(answer.text("first_even"), even.map(word));
    assert_eq!(answer.whole("texts"), Some(wholes().count() as i64));
}

fn check_pairs(answer: &Answer<'_>, pairs: &[(f64, i64)]) {
    let count = pairs.len() as f64;
    let mean = |of: &dyn Fn(&(f64, i64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|pair| pair.0), mean(&|pair| pair.1 as f64));
    let moment = |of: &dyn Fn(&(f64, i64)) -> f64| (pairs.len() > 1).then(|| pairs.iter().map(of).sum::<f64>() / (count - 1.0));
    let covariance = moment(&|pair| (pair.0 - x) * (pair.1 as f64 - y));
    let deviations = [moment(&|pair| (pair.0 - x).powi(2)), moment(&|pair| (pair.1 as f64 - y).powi(2))];
    close(answer.float("covar"), covariance, 1e9);
    match (answer.float("corr"), covariance, deviations) {
        (Some(corr), Some(covariance), [Some(a), Some(b)]) if a * b > 0.0 => {
            assert!((corr - covariance / (a * b).sqrt()).abs() < 1e-6, "{corr}");
        }
        (Some(corr), ..) => assert!(corr.is_nan(), "{corr} of a column that does not vary"),
        (None, covariance, _) => assert_eq!(covariance, None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_their_definition_whatever_the_batch_size(
        rows in traces(),
        text_keys in any::<bool>(),
        (size, slide) in prop_oneof![Just((100, 100)), Just((100, 25)), Just((100, 30)), Just((60_000, 60_000))],
        delay in prop_oneof![Just(0), Just(150)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let (mut expected, late) = windows_of(&rows, size, slide, delay);
        let table = run(&rows, text_keys, size, slide, delay, batch_rows);
        for batch in table.batches() {
            let starts = batch.column(1).as_primitive::<TimestampMillisecondType>();
            for row in 0..batch.num_rows() {
                let group = (starts.value(row), key_of(batch, row));
                let rows = expected.remove(&group).unwrap_or_else(|| panic!("{group:?} came twice or is not there"));
                check(&Answer(batch, row), &rows, size as f64 / 1_000.0);
            }
        }
        assert!(expected.is_empty(), "windows that never came: {expected:?}");
        assert_eq!(table.metrics().late_rows, late as u64);
    }
}

fn over(columns: Vec<(&str, ArrayRef)>, aggregates: impl IntoIterator<Item = Aggregate>) -> RecordBatch {
    let rows = columns[0].1.len() as i64;
    let times = ("ts", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef);
    let records = RecordBatch::try_from_iter(std::iter::once(times).chain(columns)).unwrap();
    let mut config = Config::default();
    config.batch_rows = 4_096;
    let windows = Stream::from_arrow([records]).event_time("ts").window(tumbling(secs(3_600))).agg(aggregates);
    windows.batches(config).unwrap().into_table().unwrap().to_batch().unwrap()
}

#[test]
fn sketches_of_many_values_are_within_their_errors() {
    let rows = 100_000;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row * 7_919 % rows + 1)));
    let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("user-{}", row % 20_000))));
    let wanted = [approx_distinct("word"), quantile("n", 0.5), quantile("n", 0.99), quantile("n", 0.99).error(0.001).alias("near")];
    let result = over(vec![("n", numbers), ("word", words)], wanted);
    let answer = Answer(&result, 0);
    let distinct = answer.whole("approx_distinct_word").unwrap() as f64;
    assert!((distinct / 20_000.0 - 1.0).abs() < 5.0 * 0.0163, "{distinct}");
    for (name, want, error) in [("median_n", 50_000.0, 0.01), ("quantile_0.99_n", 99_000.0, 0.01), ("near", 99_000.0, 0.001)] {
        let got = answer.float(name).unwrap();
        assert!((got / want - 1.0).abs() <= error, "{name}: {got} is not {want}");
    }
}

#[test]
fn zeros_are_one_value_and_so_are_nans() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0, 1.0, 1.0]));
    let result = over(vec![("x", values)], [count_distinct("x"), approx_distinct("x"), top_k("x", 1), max("x"), median("x")]);
    let answer = Answer(&result, 0);
    assert_eq!((answer.whole("count_distinct_x"), answer.whole("approx_distinct_x")), (Some(3), Some(3)));
    assert_eq!(answer.float("median_x"), Some(1.0));
    let top = answer.column("top_1_x").unwrap().as_list::<i32>().value(0);
    assert_eq!(top.as_struct().column(0).as_primitive::<Float64Type>().value(0), 1.0);
    assert!(answer.float("max_x").unwrap().is_nan());
}

#[test]
fn parameters_out_of_range_and_wrong_types_are_refused_with_the_reason() {
    let stream = Stream::from_arrow([records(&[], false)]).event_time("ts");
    let refused = |aggregate: Aggregate| {
        let error = stream.window(tumbling(secs(1))).agg([aggregate]).schema().unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, why) = refused(quantile("value", 1.5));
    assert!(kind == Kind::Config && why.contains("from 0 to 1, not 1.5"), "{why}");
    let (kind, why) = refused(histogram("value", [1.0, 1.0]));
    assert!(kind == Kind::Config && why.contains("greater than the one before"), "{why}");
    let (kind, why) = refused(median("text"));
    assert!(kind == Kind::Schema && why.contains("does not take a column of type Utf8"), "{why}");
    let (kind, why) = refused(arg_max("text", "key_"));
    assert!(kind == Kind::Schema && why.contains("there is no column `key_`"), "{why}");
    let (_, why) = refused(count().filter("value"));
    assert!(why.contains("must be true or false"), "{why}");
    assert!(refused(top_k("text", 0)).1.contains("at least one"));
    assert!(refused(collect_list("text", 0)).1.contains("at least one"));
    let rolling = stream.window(thalweg::rolling_rows(5)).agg([median("value")]).schema().unwrap_err().to_string();
    assert!(rolling.contains("rolling windows know count"), "{rolling}");
}

/// The greatest value less the least, and the words seen: a state with memory of its own, that merges in any order.
struct Spread;

impl AggregateFunction for Spread {
    type State = (Option<(f64, f64)>, Vec<String>);

    fn data_type(&self, inputs: &[DataType]) -> Result<DataType> {
        assert_eq!(inputs, [DataType::Float64, DataType::Utf8]);
        Ok(DataType::Utf8)
    }

    fn accumulate(&self, state: &mut Self::State, rows: &[ArrayRef]) -> Result<()> {
        assert!(!rows[0].is_empty());
        for value in rows[0].as_primitive::<Float64Type>().iter().flatten() {
            let (low, high) = state.0.unwrap_or((value, value));
            state.0 = Some((low.min(value), high.max(value)));
        }
        state.1.extend(rows[1].as_string::<i32>().iter().flatten().map(str::to_owned));
        Ok(())
    }

    fn merge(&self, state: &mut Self::State, other: &Self::State) -> Result<()> {
        if let (Some((low, high)), Some((a, b))) = (state.0, other.0) {
            state.0 = Some((low.min(a), high.max(b)));
        }
        state.0 = state.0.or(other.0);
        state.1.extend(other.1.iter().cloned());
        Ok(())
    }

    fn finish(&self, states: &[&Self::State]) -> Result<ArrayRef> {
        let said = |state: &&Self::State| {
            let mut words = state.1.clone();
            words.sort();
            format!("{:?} {}", state.0, words.join(","))
        };
        Ok(Arc::new(StringArray::from_iter_values(states.iter().map(said))))
    }
}

/// What [`Spread`] should say of some rows.
fn spread<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let rows: Vec<&Row> = rows.collect();
    let values = || rows.iter().filter_map(|row| row.value);
    let bounds = values().reduce(f64::min).zip(values().reduce(f64::max));
    let mut words: Vec<String> = rows.iter().filter_map(|row| row.whole).map(word).collect();
    words.sort();
    format!("{bounds:?} {}", words.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_aggregate_of_ones_own_sees_the_rows_of_its_groups(
        rows in traces(),
        (size, slide) in prop_oneof![Just((100, 100)), Just((100, 30))],
        batch_rows in prop_oneof![Just(1), Just(7), Just(10_000)],
    ) {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let table = Stream::from_arrow([records(&rows, false)])
            .event_time(event_time("ts").max_delay(millis(50)))
            .window(hopping(millis(size as u64), millis(slide as u64)))
            .by(["key"])
            .agg([custom(Spread, ["value", "text"]).alias("all"), custom(Spread, ["value", "text"]).filter("whole > 0").alias("some")])
            .batches(config)
            .unwrap()
            .into_table()
            .unwrap();
        let (expected, _) = windows_of(&rows, size, slide, 50);
        prop_assert_eq!(table.num_rows(), expected.len());
        for batch in table.batches() {
            for row in 0..batch.num_rows() {
                let group = &expected[&(batch.column(1).as_primitive::<TimestampMillisecondType>().value(row), key_of(batch, row))];
                prop_assert_eq!(batch.column(3).as_string::<i32>().value(row), spread(group.iter()));
                let positive = |row: &&Row| row.whole.is_some_and(|whole| whole > 0);
                prop_assert_eq!(batch.column(4).as_string::<i32>().value(row), spread(group.iter().filter(positive)));
            }
        }
    }
}

/// Fails where it is told to.
struct Broken(&'static str);

impl AggregateFunction for Broken {
    type State = ();

    fn data_type(&self, _: &[DataType]) -> Result<DataType> {
        if self.0 == "type" { Err(Error::schema("it takes no such column")) } else { Ok(DataType::Int64) }
    }

    fn accumulate(&self, (): &mut (), _: &[ArrayRef]) -> Result<()> {
        if self.0 == "accumulate" { Err(Error::state("it has had enough")) } else { Ok(()) }
    }

    fn merge(&self, (): &mut (), (): &()) -> Result<()> {
        if self.0 == "merge" { Err(Error::state("it keeps to itself")) } else { Ok(()) }
    }

    fn finish(&self, states: &[&()]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(vec![0; if self.0 == "finish" { 0 } else { states.len() }])))
    }
}

#[test]
fn an_aggregate_of_ones_own_that_fails_ends_the_run_and_says_why() {
    let rows: Vec<Row> = (0..10).map(|time| Row { time: time * 10, key: Some(1), value: None, whole: None }).collect();
    let why = |at| {
        let windows = Stream::from_arrow([records(&rows, false)]).event_time("ts").window(hopping(millis(40), millis(20)));
        windows.agg([custom(Broken(at), ["value"])]).collect().unwrap_err().to_string()
    };
    assert!(why("type").contains("broken(value) AS broken_value: it takes no such column"), "{}", why("type"));
    assert!(why("accumulate").contains("it has had enough"));
    assert!(why("merge").contains("`broken` could not merge two states: it keeps to itself"), "{}", why("merge"));
    assert!(why("finish").contains("finished 1 groups as 0 values of Int64"), "{}", why("finish"));
}
