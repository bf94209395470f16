//! Late rows say where they stand in the source, whatever steps they went through before they were found to be late.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type, UInt64Type};
use proptest::prelude::*;
use thalweg::format::Format;

use thalweg::source::Files;
use thalweg::testing::{Step, assert_table, batch_of, rows_of, source};
use thalweg::{
    Config, Stream, Table, count, count_window, cumulate, event_time, ewma, global, hopping, millis, rolling_range, rolling_rows, secs,
    session, sum, tumbling, windows_by,
};

/// What a row of a partition is: its event time, its key, and whether a filter keeps it.
type Row = (u32, i64, u8, bool);

/// The rows as steps of a script: runs of one partition in batches. Each row says itself which partition it is of, and which of its rows.
fn script(rows: &[Row]) -> Vec<Step> {
    let mut next = [0_i64; 3];
    let runs = rows.chunk_by(|one, other| one.0 == other.0);
    let step = |run: &[Row]| {
        let partition = run[0].0;
        let first = next[partition as usize];
        next[partition as usize] += run.len() as i64;
        let int64 = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let keys: StringArray = run.iter().map(|row| Some(["a", "b", "c"][row.2 as usize])).collect();
        let columns: [(&str, ArrayRef); 5] = [
            ("ts", int64(run.iter().map(|row| row.1).collect())),
            ("key", Arc::new(keys)),
            ("keep", Arc::new(run.iter().map(|row| Some(row.3)).collect::<BooleanArray>())),
            ("of", int64(vec![i64::from(partition); run.len()])),
            ("at", int64((first..first + run.len() as i64).collect())),
        ];
        batch_of(partition, RecordBatch::try_from_iter(columns).unwrap())
    };
    runs.map(step).collect()
}

fn run(stream: &Stream, workers: usize, batch_rows: usize) -> Table {
    let mut config = Config::default();
    (config.workers, config.batch_rows) = (workers, batch_rows);
    stream.batches(config).unwrap().into_table().unwrap()
}

/// All late rows are there, and say what the columns `of` and `at` of each say; returns how many they are.
fn check(table: &Table) -> usize {
    let mut rows = 0;
    for late in table.late() {
        let number = |name: &str| late.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        let partitions = late.column_by_name("partition").unwrap().as_primitive::<UInt32Type>();
        let offsets = late.column_by_name("offset").unwrap().as_primitive::<UInt64Type>();
        assert_eq!(
            partitions.iter().map(|partition| partition.map(i64::from)).collect::<Vec<_>>(),
            number("of").into_iter().map(Some).collect::<Vec<_>>()
        );
        assert_eq!(
            offsets.iter().map(|offset| offset.map(|offset| offset as i64)).collect::<Vec<_>>(),
            number("at").into_iter().map(Some).collect::<Vec<_>>()
        );
        rows += late.num_rows();
    }
    assert_eq!(table.metrics().late_rows, rows as u64);
    rows
}

/// Steps that lead to late rows: filters before and after the event time, columns of one's own, windows of several kinds.
fn pipelines(rows: &[Row]) -> Vec<Stream> {
    let stream = source(script(rows)).unwrap().filter("keep").with_columns([("twice", "at * 2")]);
    let timed = stream.event_time(event_time("ts").max_delay(millis(20)));
    let other = timed.filter("twice % 6 <> 2");
    let scored = other.detect(ewma(0.1).on(["twice"]).by(["key"]));
    let n = || [count().alias("n")];
    let latest = |rows: &Stream| rows.window(rolling_rows(3)).by(["key"]).agg([sum("twice").alias("sum")]);
    vec![
        other.window(tumbling(millis(100))).by(["key"]).agg(n()),
        other.window(session(millis(10))).by(["key"]).agg(n()),
        other.window(tumbling(millis(100))).allowed_lateness(millis(30)).by(["key"]).agg(n()),
        other.dedup(["key", "at"], millis(50)),
        // The rows change workers between the two steps.
        scored.window(tumbling(millis(100))).by(["of"]).agg([sum("twice").alias("sum")]),
        latest(&scored),
        // Late is late for the rolling windows: what these put out is in order.
        latest(&scored).window(tumbling(millis(100))).by(["of"]).agg(n()),
        other.window(rolling_range(millis(50))).by(["key"]).agg(n()).filter("n > 1").window(session(millis(10))).by(["key"]).agg(n()),
        other.dedup(["key", "at"], millis(50)).with_columns([("thrice", "at * 3")]).window(tumbling(millis(100))).agg(n()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn late_rows_know_their_partition_and_offset(
        rows in rows_behind(), batch_rows in prop_oneof![Just(1), Just(5), Just(1_000)],
    ) {
        for stream in pipelines(&rows) {
            let late: Vec<usize> = [1, 2].into_iter().map(|workers| check(&run(&stream, workers, batch_rows))).collect();
            prop_assert_eq!(late[0], late[1]);
        }
    }
}

/// Steps behind which no row is late, on the rows of a script.
fn steps_in_order(rows: &Stream) -> Vec<(&'static str, Stream)> {
    let n = || [count().alias("n"), sum("at").alias("sum")];
    let own = windows_by("own", |row, windows| windows.push((row.time.div_euclid(40) * 40, row.time.div_euclid(40) * 40 + 70)));
    vec![
        ("tumbling", rows.window(tumbling(millis(30))).by(["key"]).agg(n())),
        ("hopping", rows.window(hopping(millis(90), millis(30))).by(["key"]).agg(n())),
        ("cumulating", rows.window(cumulate(millis(90), millis(30))).by(["key"]).agg(n())),
        ("sessions", rows.window(session(millis(15))).by(["key"]).agg(n())),
        ("of one's own", rows.window(own).by(["key"]).agg(n())),
        ("of rows", rows.window(count_window(4).slide(2)).by(["key"]).agg(n())),
        ("of rows that go", rows.window(count_window(4).slide(2)).ttl(millis(60)).by(["key"]).agg(n())),
        ("global", rows.window(global().rows(3).every(millis(60))).by(["key"]).agg(n())),
        ("global, of keys that go", rows.window(global().rows(3).purge()).ttl(millis(60)).by(["key"]).agg(n())),
        ("rolling rows", rows.window(rolling_rows(3)).by(["key"]).agg(n())),
        ("rolling range", rows.window(rolling_range(millis(60))).by(["key"]).agg(n())),
        ("dedup", rows.dedup(["key", "at"], millis(60))),
    ]
}

/// Rows of three partitions, some of them far behind.
fn rows_behind() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0_u32..3, 0..60_i64, 0..400_i64, 0_u8..3, any::<bool>()), 1..150).prop_map(|steps| {
        let mut now = 0;
        let row = |(partition, step, back, key, keep)| {
            now += step;
            (partition, now - back, key, keep)
        };
        steps.into_iter().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_late_behind_steps_that_put_rows_out_in_order(rows in rows_behind(), batch_rows in prop_oneof![Just(1), Just(5), Just(1_000)]) {
        let timed = source(script(&rows)).unwrap().event_time(event_time("ts").max_delay(millis(20)));
        for (name, step) in steps_in_order(&timed) {
            let alone = run(&step, 1, batch_rows).metrics().late_rows;
            let behind = step.window(tumbling(millis(100))).agg([count().alias("all")]);
            prop_assert_eq!(behind.late_schema().unwrap(), step.late_schema().unwrap(), "{}", name);
            for workers in [1, 2] {
                prop_assert_eq!(run(&behind, workers, batch_rows).metrics().late_rows, alone, "{}, {} workers", name, workers);
            }
        }
    }
}

#[test]
fn a_result_that_is_late_has_no_place_in_the_source() {
    let stream = source([rows_of(0, "ts: int64\n 0\n 2_500"), rows_of(0, "ts\n 10"), rows_of(0, "ts\n 4_000")]);
    let revised = stream.unwrap().event_time("ts").window(tumbling(secs(1))).allowed_lateness(secs(5)).agg([count().alias("n")]);
    let table = run(&revised.window(tumbling(secs(1))).agg([sum("n")]), 1, 100);
    assert_table(table.late(), "n | partition | offset\n 2 | null | null");
}

#[test]
fn a_late_row_is_found_in_its_partition_behind_rolling_windows_and_detectors() {
    let stream = source([
        rows_of(0, "ts: int64 | amount: int64\n 0 | 5\n 2_500 | 7"),
        rows_of(1, "ts | amount\n 2_400 | 1\n 10 | 3\n 30 | 8"),
        rows_of(0, "ts | amount\n 2_600 | 2\n 50 | 9"),
    ]);
    let timed = stream.unwrap().event_time("ts");
    let rolling = |rows: &Stream| rows.window(rolling_rows(2)).agg([sum("amount").alias("both")]);
    let detect = |rows: &Stream| rows.detect(ewma(0.5).on(["amount"]));
    let counted = |rows: &Stream| rows.window(tumbling(secs(1))).agg([count().alias("n")]);
    let places = " 10 | 3 | 1 | 1\n 30 | 8 | 1 | 2\n 50 | 9 | 0 | 3";
    for workers in [1, 2] {
        for late in [counted(&rolling(&timed)), counted(&detect(&timed)), rolling(&detect(&timed))] {
            assert_table(run(&late, workers, 100).late(), &format!("ts | amount | partition | offset\n{places}"));
        }
    }
}

#[test]
fn a_late_row_is_found_in_its_partition_behind_a_filter() {
    let stream = source([
        rows_of(0, "ts: int64 | amount: int64\n 0 | 5\n 100 | 0\n 2_500 | 7"),
        rows_of(1, "ts | amount\n 2_400 | 1\n 10 | 0\n 20 | 0\n 30 | 8"),
        rows_of(0, "ts | amount\n 40 | 0\n 50 | 9"),
    ]);
    let timed = stream.unwrap().event_time("ts").filter("amount > 0").with_columns([("half", "amount / 2.0")]);
    for workers in [1, 2] {
        let table = run(&timed.window(tumbling(secs(1))).agg([count().alias("n")]), workers, 100);
        assert_table(table.late(), "ts | amount | partition | offset\n 30 | 8 | 1 | 3\n 50 | 9 | 0 | 4");
    }
}

/// Lines of a file with one column, `ts`, and one that says at which byte each line begins.
fn lines(format: &Format) -> String {
    let json = matches!(format, Format::Ndjson);
    let mut text = if json { String::new() } else { "ts,at\n".to_owned() };
    for row in 0..500_i64 {
        let (ts, at) = (row * 10 % 1_700, text.len());
        let line = match (row % 50, json) {
            (7, _) => String::new(),
            (9, true) => "{\"ts\":\"no\"}".to_owned(),
            (9, false) => "no,number".to_owned(),
            (_, true) => format!("{{\"ts\":{ts},\"at\":{at}}}"),
            (_, false) => format!("{ts},{at}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[test]
fn late_rows_of_files_know_the_byte_where_they_begin() {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Ndjson, Format::Csv { delimiter: b',', header: true }] {
        let path = folder.path().join("rows.txt");
        std::fs::write(&path, lines(&format)).unwrap();
        let columns = Schema::new(["ts", "at"].map(|name| Field::new(name, DataType::Int64, true)).to_vec());
        let files = Files::new(path.to_str().unwrap()).format(format).schema(Arc::new(columns));
        let stream = Stream::read_files(files).unwrap().with_columns([("of", "0")]).filter("at % 7 <> 3");
        let windows = stream.event_time("ts").window(tumbling(millis(100))).agg([count().alias("n")]);
        for batch_rows in [3, 10_000] {
            let late = check(&run(&windows, 2, batch_rows));
            assert!(late > 150, "{late}");
        }
    }
}
