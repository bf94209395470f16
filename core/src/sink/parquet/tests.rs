//! Parts that appear whole, in their folders, in their order.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{ArrayRef, AsArray, Date32Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::sink::{ArrowIpc, Csv, Ndjson};
use crate::time::{SharedClock, SimulatedClock, secs};

fn batch(values: std::ops::Range<i64>) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(values.clone().map(|n| format!("row {n}"))));
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef), ("name", names)]).unwrap()
}

/// Options with these of parts.
fn rolled(parts: PartOptions) -> ParquetOptions {
    ParquetOptions { parts, ..Default::default() }
}

fn open(mut sink: Parquet) -> Parquet {
    sink.open(&batch(0..0).schema()).unwrap();
    sink
}

fn listing(folder: &Path) -> (Vec<PathBuf>, usize) {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (mut visible, hidden): (Vec<_>, Vec<_>) = paths.partition(|path| path.extension().is_some_and(|end| end == "parquet"));
    visible.sort();
    (visible, hidden.len())
}

fn read(path: &Path) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn read_parts(folder: &Path) -> Vec<Vec<i64>> {
    listing(folder).0.iter().map(|path| read(path)).collect()
}

#[test]
fn parts_appear_whole_at_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/out");
    let mut sink = open(Parquet::directory(&path).options(rolled(PartOptions { max_rows: 4, ..Default::default() })));
    sink.write(&batch(0..10)).unwrap();
    assert_eq!(listing(&path), (vec![], 3), "two complete parts and an open one, all hidden");
    sink.commit().unwrap();
    assert_eq!(read_parts(&path), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    sink.commit().unwrap();
    sink.write(&batch(10..11)).unwrap();
    sink.commit().unwrap();
    sink.write(&batch(11..20)).unwrap();
    sink.abort();
    assert_eq!(read_parts(&path), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9], vec![10]]);
    assert_eq!(listing(&path).1, 0);
    let name = listing(&path).0[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("part-00000-") && name.len() == "part-00000-0123456789abcdef.parquet".len(), "{name}");
}

#[test]
fn a_run_without_rows_leaves_no_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = open(Parquet::directory(folder.path()));
    sink.write(&batch(0..0)).unwrap();
    sink.commit().unwrap();
    drop(sink);
    assert_eq!(listing(folder.path()), (vec![], 0));
}

#[test]
fn parts_are_rolled_by_bytes_and_age() {
    let folder = tempfile::tempdir().unwrap();
    let mut by_bytes = open(Parquet::directory(folder.path()).options(rolled(PartOptions { max_bytes: 1, ..Default::default() })));
    for n in 0..3 {
        by_bytes.write(&batch(n..n + 1)).unwrap();
    }
    by_bytes.commit().unwrap();
    assert_eq!(read_parts(folder.path()), [[0], [1], [2]]);

    let folder = tempfile::tempdir().unwrap();
    let clock = SimulatedClock::shared();
    let max_age = Some((secs(10), clock.clone() as SharedClock));
    let mut by_age = open(Parquet::directory(folder.path()).options(rolled(PartOptions { max_age, ..Default::default() })));
    for n in 0..4 {
        by_age.write(&batch(n..n + 1)).unwrap();
        clock.advance(secs(5));
    }
    by_age.commit().unwrap();
    assert_eq!(read_parts(folder.path()), [[0, 1], [2, 3]]);
}

#[test]
fn a_single_file_holds_all_commits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.parquet");
    let mut sink = open(Parquet::file(&path));
    sink.write(&batch(0..2)).unwrap();
    assert!(!path.exists());
    sink.commit().unwrap();
    sink.write(&batch(2..4)).unwrap();
    assert_eq!(read(&path), [0, 1]);
    sink.commit().unwrap();
    sink.commit().unwrap();
    sink.write(&batch(4..5)).unwrap();
    drop(sink);
    assert_eq!(read(&path), [0, 1, 2, 3]);
    open(Parquet::file(&path)).commit().unwrap();
    assert_eq!(read(&path), [0; 0], "a new run replaces the file, with a schema even if without rows");
    assert_eq!(listing(folder.path()), (vec![path], 0));
}

#[test]
fn options_out_of_range_and_calls_out_of_order_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let with = |options| Parquet::directory(folder.path()).options(options).open(&batch(0..0).schema()).unwrap_err().to_string();
    assert_eq!(with(rolled(PartOptions { max_rows: 0, ..Default::default() })), "`max_rows` is 0; it may be 1 or more");
    assert_eq!(with(ParquetOptions { zstd_level: 40, ..Default::default() }), "`zstd_level` is 40; it may be 1 to 22");
    assert!(Parquet::directory(folder.path()).write(&batch(0..1)).unwrap_err().to_string().contains("not open"));
    assert!(Parquet::directory(folder.path()).commit().is_err());
    let other = Arc::new(Schema::new(vec![Field::new("other", DataType::Utf8, true)]));
    let mut sink = open(Parquet::directory(folder.path()));
    let wrong = RecordBatch::new_empty(other);
    assert!(sink.write(&wrong).is_ok(), "no rows, no matter");
    drop(sink);
    assert_eq!(listing(folder.path()), (vec![], 0));
    assert!(Parquet::directory("/dev/null/out").open(&batch(0..0).schema()).unwrap_err().to_string().contains("`/dev/null/out`"));
}

/// Runs the test `name` again in a process of its own whose working folder is `folder`, behind `before` in a shell.
fn rerun(name: &str, folder: &Path, before: &str) -> bool {
    std::fs::write(folder.join(name), "").unwrap();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before}; exec \"$0\" --exact sink::parquet::tests::{name} --test-threads 1"));
    shell.arg(std::fs::read_link("/proc/self/exe").unwrap()).current_dir(folder).output().unwrap().status.success()
}

#[test]
fn a_full_disk_keeps_what_was_committed() {
    let values = |step: i64| {
        batch(0..2_000)
            .column(0)
            .as_primitive::<Int64Type>()
            .unary::<_, Int64Type>(|n| (n + step).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64))
    };
    let random = |step| RecordBatch::try_from_iter([("n", Arc::new(values(step)) as ArrayRef)]).unwrap();
    if Path::new("a_full_disk_keeps_what_was_committed").exists() {
        let mut sink = Parquet::directory("out").options(ParquetOptions { row_group_rows: 2_000, ..Default::default() });
        sink.open(&random(0).schema()).unwrap();
        sink.write(&random(0)).unwrap();
        sink.commit().unwrap();
        let error = (1..1_000).find_map(|step| sink.write(&random(step)).err()).unwrap().to_string();
        assert!(error.contains("cannot write `out/part-00001-") && error.contains("no space is left"), "{error}");
        assert!(sink.commit().is_err(), "the run is over");
        assert_eq!(listing(Path::new("out")).1, 0, "the unfinished part was removed at once");
        let others: [(&str, Box<dyn Sink>); 3] = [
            ("csv", Box::new(Csv::directory("csv"))),
            ("json", Box::new(Ndjson::directory("json"))),
            ("ipc", Box::new(ArrowIpc::directory("ipc"))),
        ];
        for (folder, mut sink) in others {
            sink.open(&random(0).schema()).unwrap();
            sink.write(&random(0)).unwrap();
            sink.commit().unwrap();
            let error = (1..1_000).find_map(|step| sink.write(&random(step)).err()).unwrap().to_string();
            assert!(error.contains(&format!("cannot write `{folder}/part-00001-")) && error.contains("no space is left"), "{error}");
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "what was committed");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of a file fails a write as a full disk does, but needs no privilege to set up.
    assert!(rerun("a_full_disk_keeps_what_was_committed", folder.path(), "trap '' XFSZ; ulimit -f 256"));
    assert_eq!(read_parts(&folder.path().join("out")), [values(0).values().to_vec()]);
}

#[test]
fn a_crash_leaves_commits_and_the_next_run_cleans_up() {
    if Path::new("a_crash_leaves_commits_and_the_next_run_cleans_up").exists() {
        let mut sink = open(Parquet::directory("out").options(rolled(PartOptions { max_rows: 2, ..Default::default() })));
        sink.write(&batch(0..2)).unwrap();
        sink.commit().unwrap();
        sink.write(&batch(2..7)).unwrap();
        std::process::abort();
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(!rerun("a_crash_leaves_commits_and_the_next_run_cleans_up", folder.path(), "ulimit -c 0"));
    let out = folder.path().join("out");
    assert_eq!((read_parts(&out), listing(&out).1), (vec![vec![0, 1]], 3));
    let mut next = open(Parquet::directory(&out));
    assert_eq!(listing(&out).1, 1, "its own");
    next.write(&batch(2..7)).unwrap();
    next.commit().unwrap();
    let mut rows = read_parts(&out).concat();
    rows.sort_unstable();
    assert_eq!(rows, [0, 1, 2, 3, 4, 5, 6]);
}

/// Rows of cities, days and numbers.
fn sales(rows: &[(Option<&str>, i64, i64)]) -> RecordBatch {
    let cities: ArrayRef = Arc::new(rows.iter().map(|(city, ..)| *city).collect::<StringArray>());
    let times: ArrayRef = Arc::new(rows.iter().map(|(_, hour, _)| Some(hour * 3_600_000 + 1)).collect::<TimestampMillisecondArray>());
    let numbers: ArrayRef = Arc::new(rows.iter().map(|(.., number)| Some(*number)).collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("city", cities, true), ("ts", times, true), ("n", numbers, true)]).unwrap()
}

/// The files below a folder, by the folder that each is in, with the numbers in them.
fn tree(root: &Path) -> Vec<(String, Vec<i64>)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<i64>)>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                walk(root, &entry, found);
            } else {
                let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&entry).unwrap()).unwrap().build().unwrap();
                let numbers = reader.flat_map(|batch| batch.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec()).collect();
                found.push((folder.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), numbers));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

fn parted<const N: usize>(by: [&str; N]) -> ParquetOptions {
    rolled(PartOptions { partition_by: by.iter().map(|by| by.parse().unwrap()).collect(), ..Default::default() })
}

#[test]
fn rows_go_to_the_folders_of_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let rows =
        [(Some("Paris"), 0, 1), (None, 23, 2), (Some("a/b=c%"), 24, 3), (Some("Paris"), 25, 4), (Some("Paris"), -1, 5), (Some(""), 0, 6)];
    let mut sink = Parquet::directory(folder.path()).options(parted(["city", "day(ts)"]));
    sink.open(&sales(&[]).schema()).unwrap();
    sink.write(&sales(&rows[..3])).unwrap();
    sink.write(&sales(&rows[3..])).unwrap();
    assert!(listing(folder.path()).0.is_empty());
    sink.commit().unwrap();
    let expected = [
        ("city=/ts_day=1970-01-01", vec![6]),
        ("city=Paris/ts_day=1969-12-31", vec![5]),
        ("city=Paris/ts_day=1970-01-01", vec![1]),
        ("city=Paris/ts_day=1970-01-02", vec![4]),
        ("city=__HIVE_DEFAULT_PARTITION__/ts_day=1970-01-01", vec![2]),
        ("city=a%2Fb%3Dc%25/ts_day=1970-01-02", vec![3]),
    ];
    let expected = expected.map(|(folder, numbers)| (folder.to_owned(), numbers));
    assert_eq!(tree(folder.path()), expected);
    let file = std::fs::read_dir(folder.path().join("city=Paris/ts_day=1970-01-01")).unwrap().next().unwrap().unwrap().path();
    let written = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().schema().clone();
    let names: Vec<&str> = written.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["ts", "n"], "the column is in the folder's name, the time stays");
    sink.write(&sales(&rows)).unwrap();
    sink.abort();
    assert_eq!(tree(folder.path()).len(), expected.len(), "an abort leaves nothing behind");
}

#[test]
fn times_are_counted_in_years_months_days_and_hours() {
    let day = |days| {
        RecordBatch::try_from_iter([("d", Arc::new(Date32Array::from(vec![days])) as ArrayRef), ("n", Arc::new(Int64Array::from(vec![1])))])
    };
    for (by, days, expected) in [
        ("year(d)", 20_000, "d_year=2024"),
        ("month(d)", 20_000, "d_month=2024-10"),
        ("month(d)", -1, "d_month=1969-12"),
        ("day(d)", 20_000, "d_day=2024-10-04"),
        ("hour(d)", 20_000, "d_hour=2024-10-04-00"),
        ("d", 20_000, "d=2024-10-04"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let batch = day(days).unwrap();
        let mut sink = Parquet::directory(folder.path()).options(parted([by]));
        sink.open(&batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        sink.commit().unwrap();
        assert_eq!(tree(folder.path()), [(expected.to_owned(), vec![1])], "{by}");
    }
    let hours = sales(&[(None, -1, 1), (None, 49, 2)]);
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Parquet::directory(folder.path()).options(parted(["hour(ts)"]));
    sink.open(&hours.schema()).unwrap();
    sink.write(&hours).unwrap();
    sink.commit().unwrap();
    assert_eq!(tree(folder.path()), [("ts_hour=1969-12-31-23".to_owned(), vec![1]), ("ts_hour=1970-01-03-01".to_owned(), vec![2])]);
}

#[test]
fn partitions_that_cannot_be_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |sink: Parquet, options| sink.options(options).open(&sales(&[]).schema()).unwrap_err().to_string();
    let out = || Parquet::directory(folder.path().join("out"));
    assert_eq!(refused(out(), parted(["town"])), "there is no column `town`; the columns are `city`, `ts`, `n`");
    assert!(refused(out(), parted(["day(n)"])).contains("partitioned by `day(n)`, whose column is of type Int64"));
    assert!(refused(out(), parted(["ts"])).contains("cast it first"));
    assert!(refused(Parquet::file(folder.path().join("a.parquet")), parted(["city"])).contains("a single file cannot be partitioned"));
    assert!("week(ts)".parse::<crate::sink::PartitionBy>().unwrap_err().to_string().contains("none of year, month, day and hour"));
    let only = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    assert!(out().options(parted(["n"])).open(&only.schema()).unwrap_err().to_string().contains("none is left for the files"));
    let options = ParquetOptions { bloom_filters: vec!["x".to_owned()], ..Default::default() };
    assert!(refused(out(), options).contains("no column `x`"));
    assert!(!folder.path().join("out").exists() && !folder.path().join("a.parquet").exists());
}

#[test]
fn parts_are_sorted_and_tell_what_they_do_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let options = ParquetOptions {
        parts: PartOptions { max_rows: 1_000, sort_by: vec!["city".to_owned(), "n".to_owned()], ..Default::default() },
        row_group_rows: 250,
        bloom_filters: vec!["n".to_owned()],
        ..Default::default()
    };
    let mut sink = Parquet::directory(folder.path()).options(options);
    sink.open(&sales(&[]).schema()).unwrap();
    let rows: Vec<(Option<&str>, i64, i64)> =
        (0..2_000).map(|n| ([Some("b"), None, Some("a")][n as usize % 3], 0, n * 7_919 % 2_000)).collect();
    rows.chunks(333).for_each(|rows| sink.write(&sales(rows)).unwrap());
    sink.commit().unwrap();
    let files = listing(folder.path()).0;
    assert_eq!(files.len(), 2);
    for (file, rows) in files.iter().zip(rows.chunks(1_000)) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
        let metadata = builder.metadata().clone();
        assert_eq!(metadata.num_row_groups(), 4);
        let sorted: Vec<i32> = metadata.row_group(0).sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
        assert_eq!(sorted, [0, 2]);
        let holds = |group: usize, n: i64| {
            let filter = builder.get_row_group_column_bloom_filter(group, 2).unwrap().unwrap();
            filter.check(&n)
        };
        let known = rows.iter().map(|row| row.2);
        assert!(known.clone().all(|n| (0..4).any(|group| holds(group, n))), "no false negative");
        let absent = (5_000..6_000).filter(|n| (0..4).any(|group| holds(group, *n))).count();
        assert!(absent < 250, "{absent} of 1000 values that are in no row group are said to be");
        let schema = builder.schema().clone();
        let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
        let mut expected = rows.to_vec();
        expected.sort_by_key(|row| (row.0, row.2));
        assert_eq!(concat_batches(&schema, &batches).unwrap(), sales(&expected));
    }
}

#[test]
fn more_folders_than_may_be_open_lose_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Parquet::directory(folder.path()).options(parted(["city"]));
    sink.open(&sales(&[]).schema()).unwrap();
    let names: Vec<String> = (0..2 * config::OPEN_PARTS).map(|n| format!("city {n}")).collect();
    let rows: Vec<(Option<&str>, i64, i64)> = names.iter().enumerate().map(|(n, name)| (Some(name.as_str()), 0, n as i64)).collect();
    for _ in 0..2 {
        sink.write(&sales(&rows)).unwrap();
        let Destination::Parts(parts) = &sink.0 else { panic!("a folder was given") };
        assert!(parts.open.len() <= config::OPEN_PARTS);
    }
    sink.commit().unwrap();
    let mut numbers: Vec<i64> = tree(folder.path()).into_iter().flat_map(|(_, numbers)| numbers).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..rows.len() as i64).flat_map(|n| [n, n]).collect::<Vec<_>>());
}

#[test]
fn what_a_dead_writer_left_in_a_partition_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let partition = folder.path().join("city=Paris");
    std::fs::create_dir(&partition).unwrap();
    let left = partition.join(".part-00000-0123456789abcdef.parquet.tmp-4194305-0");
    std::fs::write(&left, "half").unwrap();
    let mut sink = Parquet::directory(folder.path()).options(parted(["city"]));
    sink.open(&sales(&[]).schema()).unwrap();
    assert!(!left.exists());
}
