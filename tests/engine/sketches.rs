//! Sketches kept as columns: what is merged of parts is the sketch of the whole, bit for bit, however it was made.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, LargeBinaryArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datasketches::hll::{HllSketch, HllType, HllUnion};
use proptest::prelude::*;
use thalweg::config::Exchange;
use thalweg::window::Windowing;
use thalweg::{
    Aggregate, Config, Error, Kind, Stream, approx_distinct, count, cumulate, event_time, hopping, median, merge_distinct, merge_quantile,
    millis, quantile, rolling_rows, session, sum, tumbling,
};
use thalweg_kernels::hll_to_datasketches;

/// Rows in time, of a few keys, with so many users and magnitudes.
#[derive(Debug, Clone)]
struct Rows {
    rows: u64,
    keys: u64,
    users: u64,
    magnitudes: u64,
}

/// The finaliser of SplitMix64.
fn scramble(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Rows {
    fn key(&self, row: u64) -> i64 {
        (scramble(row * 4 + 1) % self.keys) as i64
    }

    fn user(&self, row: u64) -> Option<i64> {
        let drawn = scramble(row * 4 + 2);
        (!drawn.is_multiple_of(19)).then_some((drawn / 19 % self.users) as i64)
    }

    fn value(&self, row: u64) -> Option<f64> {
        let drawn = scramble(row * 4 + 3);
        match drawn % 23 {
            0 => None,
            1 => Some(0.0),
            2 => Some(f64::NAN),
            3 => Some(f64::INFINITY),
            sign => Some((if sign % 3 == 0 { -1.0 } else { 1.0 }) * 1.3f64.powi((drawn / 23 % self.magnitudes) as i32)),
        }
    }

    fn records(&self) -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            ("ts", Arc::new(Int64Array::from_iter_values((0..self.rows).map(|row| (row / 3) as i64)))),
            ("key", Arc::new(Int64Array::from_iter_values((0..self.rows).map(|row| self.key(row))))),
            ("user", Arc::new((0..self.rows).map(|row| self.user(row)).collect::<Int64Array>())),
            ("value", Arc::new((0..self.rows).map(|row| self.value(row)).collect::<Float64Array>())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }
}

fn config(batch_rows: usize, workers: usize, exchange: Exchange) -> Config {
    let mut config = Config::default();
    (config.batch_rows, config.workers, config.exchange) = (batch_rows, workers, exchange);
    config
}

/// All results, ordered by key and window.
fn results(stream: &Stream, config: Config) -> RecordBatch {
    let table = stream.batches(config).unwrap().into_table().unwrap();
    let batch = concat_batches(&table.schema(), table.batches()).unwrap();
    let order = batch.columns()[..3].iter().map(|column| arrow::compute::SortColumn { values: Arc::clone(column), options: None });
    take_record_batch(&batch, &lexsort_to_indices(&order.collect::<Vec<_>>(), None).unwrap()).unwrap()
}

fn sketches() -> [Aggregate; 3] {
    [
        approx_distinct("user").sketch().alias("users"),
        median("value").sketch().alias("values"),
        approx_distinct("user").filter("value > 2").sketch().alias("some"),
    ]
}

fn merged() -> [Aggregate; 3] {
    [
        merge_distinct("users").sketch().alias("users"),
        merge_quantile("values", 0.5).sketch().alias("values"),
        merge_distinct("some").sketch().alias("some"),
    ]
}

fn roll_up(stream: &Stream, windows: impl Into<Windowing>, aggregates: impl IntoIterator<Item = Aggregate>) -> Stream {
    stream.window(windows).by(["key"]).agg(aggregates)
}

fn last_windows(kind: usize) -> Windowing {
    match kind {
        0 => tumbling(millis(1_000)).into(),
        1 => hopping(millis(1_000), millis(200)).into(),
        2 => cumulate(millis(1_000), millis(200)).into(),
        _ => hopping(millis(200), millis(100)).into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_roll_up_of_sketches_is_the_sketch_of_the_whole(
        rows in 0..6_000_u64,
        keys in 1..8_u64,
        users in prop_oneof![Just(5_u64), Just(64), Just(70), Just(2_000)],
        magnitudes in prop_oneof![Just(3_u64), Just(40), Just(300)],
        batch_rows in prop_oneof![Just(13_usize), Just(64), Just(1_000), Just(10_000)],
        workers in 1..4_usize,
        exchange in 0..4_usize,
        kind in 0..4_usize,
    ) {
        let rows = Rows { rows, keys, users, magnitudes };
        let stream = Stream::from_arrow([rows.records()]).event_time("ts");
        let whole = results(&roll_up(&stream, last_windows(kind), sketches()), config(4_096, 1, Exchange::Auto));
        let config = config(batch_rows, workers, [Exchange::Auto, Exchange::Hash, Exchange::TwoPhases, Exchange::Windows][exchange]);
        let seconds = roll_up(&stream, tumbling(millis(20)), sketches());
        let minutes = roll_up(&seconds, hopping(millis(100), millis(100)), merged());
        prop_assert_eq!(&results(&roll_up(&minutes, last_windows(kind), merged()), config.clone()), &whole);
        prop_assert_eq!(&results(&roll_up(&seconds, last_windows(kind), merged()), config.clone()), &whole);
        prop_assert_eq!(&results(&roll_up(&stream, last_windows(kind), sketches()), config), &whole);
    }
}

/// Estimates of merges and of single sketches, against the values themselves.
#[test]
fn estimates_are_within_their_bounds_of_exact() {
    for (users, magnitudes, rows) in [(40, 4, 300), (64, 20, 3_000), (3_000, 90, 60_000)] {
        let rows = Rows { rows, keys: 3, users, magnitudes };
        let stream = Stream::from_arrow([rows.records()]).event_time("ts");
        let small = roll_up(&stream, tumbling(millis(10)), sketches());
        let estimates = [
            merge_distinct("users").alias("n"),
            merge_quantile("values", 0.9).alias("p90"),
            merge_distinct("users").sketch().alias("users"),
            merge_quantile("values", 0.9).sketch().alias("values"),
            merge_distinct("users").filter("key = 1").alias("first"),
        ];
        let by_sql = [("n_sql", "sketch_distinct(users)"), ("p90_sql", "sketch_quantile(values, 0.9)")];
        let windows = roll_up(&small, tumbling(millis(100_000)), estimates).with_columns(by_sql);
        let batch = results(&windows, Config::default());
        assert_eq!(batch.num_rows(), 3);
        assert_eq!(batch.column_by_name("n"), batch.column_by_name("n_sql"));
        assert_eq!(batch.column_by_name("p90"), batch.column_by_name("p90_sql"));
        let whole = |name: &str, row: usize| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row);
        for group in 0..3 {
            let key = whole("key", group);
            let of_key = || (0..rows.rows).filter(|&row| rows.key(row) == key);
            let distinct = of_key().filter_map(|row| rows.user(row)).collect::<HashSet<_>>().len();
            let slack = if distinct <= 64 { 0.0 } else { 4.0 * 0.0163 * distinct as f64 };
            assert!((whole("n", group) - distinct as i64).abs() as f64 <= slack, "{} of {distinct}", whole("n", group));
            assert_eq!(whole("first", group), if key == 1 { whole("n", group) } else { 0 });
            // NaN is the largest.
            let mut values: Vec<f64> =
                of_key().filter_map(|row| rows.value(row)).map(|value| if value.is_nan() { f64::NAN } else { value }).collect();
            values.sort_by(f64::total_cmp);
            let want = values[(0.9 * (values.len() - 1) as f64) as usize];
            let got = batch.column_by_name("p90").unwrap().as_primitive::<Float64Type>().value(group);
            assert!(got == want || (got - want).abs() <= 0.01 * want.abs(), "{got} is not {want}");
        }
    }
}

/// One window of all rows of a stream with `ts`.
fn once(columns: Vec<(&str, ArrayRef)>, aggregates: impl IntoIterator<Item = Aggregate>) -> thalweg::Result<RecordBatch> {
    let rows = columns[0].1.len() as i64;
    let times = ("ts", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef);
    let records = RecordBatch::try_from_iter(std::iter::once(times).chain(columns)).unwrap();
    Stream::from_arrow([records]).event_time("ts").window(tumbling(millis(1_000_000))).agg(aggregates).collect()?.to_batch()
}

fn bytes(batch: &RecordBatch, name: &str) -> Vec<u8> {
    batch.column_by_name(name).unwrap().as_binary::<i32>().value(0).to_vec()
}

#[test]
fn nulls_are_passed_over_and_a_group_of_nothing_has_no_sketch() {
    let columns = || -> Vec<(&str, ArrayRef)> {
        vec![
            ("x", Arc::new(Int64Array::from(vec![None::<i64>; 3])) as ArrayRef),
            ("d", Arc::new(BinaryArray::from(vec![None::<&[u8]>; 3])) as ArrayRef),
        ]
    };
    let wanted = [
        approx_distinct("x").sketch(),
        quantile("x", 0.5).sketch(),
        merge_distinct("d").sketch(),
        merge_quantile("d", 0.5).sketch(),
        merge_distinct("d"),
        merge_quantile("d", 0.5),
    ];
    let batch = once(columns(), wanted).unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected = [
        "distinct_sketch_x",
        "quantile_sketch_x",
        "merge_distinct_sketch_d",
        "merge_quantile_sketch_d",
        "merge_distinct_d",
        "merge_median_d",
    ];
    assert_eq!(names[2..], expected);
    for column in &batch.columns()[2..6] {
        assert_eq!((column.data_type(), column.null_count()), (&DataType::Binary, 1));
    }
    assert_eq!(batch.column(6).as_primitive::<Int64Type>().value(0), 0);
    assert!(batch.column(7).is_null(0));

    let sketch = once(vec![("x", Arc::new(Int64Array::from(vec![4, 9, 4])))], [approx_distinct("x").sketch().alias("d")]).unwrap();
    let some = BinaryArray::from(vec![None, Some(bytes(&sketch, "d").as_slice()), None]);
    let merged = once(vec![("d", Arc::new(some.clone()))], [merge_distinct("d").alias("n")]).unwrap();
    assert_eq!(merged.column_by_name("n").unwrap().as_primitive::<Int64Type>().value(0), 2);
    for other in [DataType::LargeBinary, DataType::BinaryView] {
        let again = once(vec![("d", cast(&some, &other).unwrap())], [merge_distinct("d").alias("n")]).unwrap();
        assert_eq!(again.column_by_name("n"), merged.column_by_name("n"), "{other}");
    }
}

/// Their sketches of the same values add nothing to ours, whichever reads the other.
#[test]
fn sketches_are_those_of_datasketches() {
    for size in [3_i64, 20, 64, 65, 5_000] {
        let mut theirs = HllSketch::new(12, HllType::Hll4).unwrap();
        (0..size).for_each(|value| theirs.update(value));
        let ours = once(vec![("x", Arc::new(Int64Array::from_iter_values(0..size)))], [approx_distinct("x").sketch().alias("d")]).unwrap();
        let ours = bytes(&ours, "d");
        assert_eq!(
            ours.len() as i64,
            if size <= 8 {
                8 + 4 * size
            } else if size <= 64 {
                12 + 4 * size
            } else {
                4_136
            }
        );

        let mut union = HllUnion::new(12).unwrap();
        union.update(&theirs);
        union.update(&HllSketch::deserialize(&ours).unwrap());
        let united = union.to_sketch(HllType::Hll8).estimate();
        assert!((united / size as f64 - 1.0).abs() < 0.05, "{united} of {size}");

        let both: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&ours, &theirs.serialize()]));
        let merged = once(vec![("d", both)], [merge_distinct("d").alias("n"), merge_distinct("d").sketch().alias("d")]).unwrap();
        let merged = once(vec![("d", Arc::clone(merged.column_by_name("d").unwrap()))], [merge_distinct("d").alias("n")]).unwrap();
        let alone: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&ours]));
        assert_eq!(merged.column_by_name("n"), once(vec![("d", alone)], [merge_distinct("d").alias("n")]).unwrap().column_by_name("n"));
    }
}

/// Values of one meaning have one hash, whatever their type.
#[test]
fn values_count_as_for_datasketches() {
    let strings: ArrayRef = Arc::new(StringArray::from(vec!["a", "bc", "longer than sixteen bytes", "a"]));
    let sketch = |array: ArrayRef| bytes(&once(vec![("x", array)], [approx_distinct("x").sketch().alias("d")]).unwrap(), "d");
    for other in [DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::BinaryView] {
        assert_eq!(sketch(cast(&strings, &other).unwrap()), sketch(Arc::clone(&strings)), "{other}");
    }
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 1, 0]));
    for other in [DataType::Int8, DataType::UInt64, DataType::Boolean, DataType::Date64] {
        assert_eq!(sketch(cast(&numbers, &other).unwrap()), sketch(Arc::clone(&numbers)), "{other}");
    }
    let floats = cast(&numbers, &DataType::Float64).unwrap();
    assert_eq!(sketch(cast(&floats, &DataType::Float32).unwrap()), sketch(floats));
}

fn refused(columns: Vec<(&str, ArrayRef)>, aggregate: Aggregate) -> (Kind, String) {
    let error: Error = once(columns, [aggregate]).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn bytes_of_something_else_are_refused_with_their_place() {
    let made = once(
        vec![("x", Arc::new(Int64Array::from_iter_values(0..500)))],
        [approx_distinct("x").sketch().alias("d"), quantile("x", 0.5).error(0.02).sketch().alias("q")],
    );
    let made = made.unwrap();
    let (distinct, quantiles) = (bytes(&made, "d"), bytes(&made, "q"));
    let mut coarse = Vec::new();
    hll_to_datasketches(&[3; 1 << 10], &mut coarse);
    let column = |second: &[u8]| -> Vec<(&str, ArrayRef)> { vec![("s", Arc::new(LargeBinaryArray::from(vec![None, Some(second)])))] };
    let cases: [(&[u8], Aggregate, Kind, &str); 8] = [
        (b"", merge_distinct("s"), Kind::Decode, "cut short"),
        (b"no sketch", merge_distinct("s"), Kind::Decode, "not an image"),
        (&distinct[..4_000], merge_distinct("s"), Kind::Decode, "4000 bytes, 4136 are needed"),
        (&quantiles, merge_distinct("s"), Kind::Decode, "not an image"),
        (&coarse, merge_distinct("s"), Kind::Schema, "2^10 registers"),
        (&distinct, merge_quantile("s", 0.5), Kind::Decode, "not a DDSketch"),
        (&quantiles[..quantiles.len() - 1], merge_quantile("s", 0.5), Kind::Decode, "cut short"),
        (&quantiles, merge_quantile("s", 0.5), Kind::Schema, "ask for `error` 0.02"),
    ];
    for (image, aggregate, kind, why) in cases {
        let (got, said) = refused(column(image), aggregate.clone());
        assert!(got == kind && said.contains(why) && said.contains("column `s`, row 1"), "{aggregate}: {said}");
        // A row that does not count is not looked at.
        assert!(once(column(image), [aggregate.filter("ts = 0")]).is_ok());
    }
    assert!(once(column(&quantiles), [merge_quantile("s", 0.5).error(0.02)]).is_ok());
    assert!(
        once(column(&quantiles), [merge_quantile("s", 0.5).error(0.02).sketch().alias("q")])
            .is_ok_and(|merged| bytes(&merged, "q") == quantiles)
    );

    let numbers = || -> Vec<(&str, ArrayRef)> { vec![("x", Arc::new(Int64Array::from(vec![1])))] };
    let (kind, said) = refused(numbers(), merge_distinct("x"));
    assert!(kind == Kind::Schema && said.contains("of type Binary, not Int64; `approx_distinct` makes them"), "{said}");
    let (kind, said) = refused(numbers(), sum("x").sketch());
    assert!(kind == Kind::Config && said.contains("there is no sketch of it"), "{said}");
    let (kind, said) = refused(numbers(), merge_quantile("x", 2.0));
    assert!(kind == Kind::Config && said.contains("from 0 to 1, not 2"), "{said}");
    let lists = once(numbers(), [thalweg::collect_list("x", 1).alias("l")]).unwrap();
    let (kind, said) = refused(vec![("l", Arc::clone(lists.column_by_name("l").unwrap()))], approx_distinct("l").sketch());
    assert!(kind == Kind::Schema && said.contains("cast it first"), "{said}");
    let rolling = Stream::from_arrow([Rows { rows: 1, keys: 1, users: 1, magnitudes: 1 }.records()]).event_time("ts");
    let said = rolling.window(rolling_rows(3)).agg([count().sketch()]).schema().unwrap_err().to_string();
    assert!(said.contains("there is no sketch of it"), "{said}");
}

#[test]
fn expressions_estimate_from_sketches() {
    let rows = Rows { rows: 900, keys: 4, users: 30, magnitudes: 9 };
    let stream = Stream::from_arrow([rows.records()]).event_time(event_time("ts"));
    let exact =
        [thalweg::count_distinct("user").alias("n"), approx_distinct("user").sketch().alias("d"), median("value").sketch().alias("q")];
    let windows = roll_up(&stream, session(millis(50)), exact);
    let kept = windows.filter("sketch_distinct(d) = n AND sketch_quantile(q, 0) <= sketch_quantile(q, 1)");
    assert_eq!(results(&kept, Config::default()).num_rows(), 4);
    let nulls = windows.select(["key", "window_start", "n", "sketch_distinct(NULL) AS a", "sketch_quantile(q, NULL) AS b"]);
    let batch = results(&nulls, Config::default());
    assert_eq!((batch.column(3).null_count(), batch.column(4).null_count()), (4, 4));
    assert_eq!((batch.column(3).data_type(), batch.column(4).data_type()), (&DataType::Int64, &DataType::Float64));
    let why = |expression: &str| windows.with_columns([("x", expression)]).collect().unwrap_err().to_string();
    assert!(why("sketch_distinct(n)").contains("takes a column of sketches, of type Binary"), "{}", why("sketch_distinct(n)"));
    assert!(why("sketch_distinct(q)").contains("in row 0, not an image of a HyperLogLog"), "{}", why("sketch_distinct(q)"));
    assert!(why("sketch_quantile(d, 0.5)").contains("in row 0, not a DDSketch"), "{}", why("sketch_quantile(d, 0.5)"));
    assert!(why("sketch_quantile(q, 7)").contains("from 0 to 1, not 7"), "{}", why("sketch_quantile(q, 7)"));
}

/// Sessions of sketches, whose groups are merged in place.
#[test]
fn sessions_merge_sketches() {
    let rows = Rows { rows: 4_000, keys: 3, users: 400, magnitudes: 60 };
    let stream = Stream::from_arrow([rows.records()]).event_time("ts");
    let small = roll_up(&stream, tumbling(millis(5)), sketches());
    let sessions = results(&roll_up(&small, session(millis(20)), merged()), config(64, 2, Exchange::Hash));
    let whole = results(&roll_up(&stream, session(millis(20)), sketches()), Config::default());
    let by_key = |batch: &RecordBatch| -> BTreeMap<i64, Vec<Vec<u8>>> {
        let images =
            |row| ["users", "values", "some"].map(|name| batch.column_by_name(name).unwrap().as_binary::<i32>().value(row).to_vec());
        (0..batch.num_rows()).map(|row| (batch.column(0).as_primitive::<Int64Type>().value(row), images(row).to_vec())).collect()
    };
    assert_eq!((sessions.num_rows(), by_key(&sessions).len()), (3, 3));
    assert_eq!(by_key(&sessions), by_key(&whole));
}
