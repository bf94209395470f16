//! Object stores as places and sources, against a store that others wrote (moto, see `tests/services/aws`). Where it cannot be had the tests
//! show as ignored; with `THALWEG_REQUIRE_SERVICES=1` that is a failure.

#![allow(clippy::unwrap_used)]

mod rig;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use libtest_mimic::{Arguments, Failed, Trial};
use thalweg::sink::{ArrowIpc, Csv, Ndjson, Parquet, ParquetOptions, PartOptions};
use thalweg::source::{FileFormat, Watch};
use thalweg::{Compression, Files, Format, Kind, Sink, Stream, Table};

use rig::{REQUIRED, Rig};

type Test = (&'static str, fn(&Rig));

const TESTS: &[Test] = &[
    ("every_format_goes_there_and_back", every_format_goes_there_and_back),
    ("large_objects_are_uploaded_in_pieces_or_not_at_all", large_objects_are_uploaded_in_pieces_or_not_at_all),
    ("partitions_are_read_by_their_folders", partitions_are_read_by_their_folders),
    ("a_prefix_is_watched", a_prefix_is_watched),
    ("what_is_not_there_is_named", what_is_not_there_is_named),
];

fn main() {
    let arguments = Arguments::from_args();
    let started = if arguments.list { Err("not needed for a list".to_owned()) } else { Rig::start() };
    let ignored = started.is_err() && std::env::var_os(REQUIRED).is_none();
    if let Err(why) = &started {
        eprintln!("no object store, its tests are left out: {why}");
    }
    // For the life of the process, so that every test may borrow it; it is ended below, as nothing else would.
    let rig: &'static Result<Rig, String> = Box::leak(Box::new(started));
    let trial = |(name, test): Test| {
        let run = move || match rig {
            Ok(rig) => {
                test(rig);
                Ok(())
            }
            Err(why) => Err(Failed::from(why)),
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    let conclusion = libtest_mimic::run(&arguments, TESTS.iter().copied().map(trial).collect());
    if let Ok(rig) = rig {
        rig.end();
    }
    conclusion.exit();
}

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    let words: ArrayRef = Arc::new(StringArray::from_iter_values(range.clone().map(|n| ["Paris", "São Paulo", "a/b"][n as usize % 3])));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("city", words), ("n", numbers)]).unwrap()
}

/// Runs rows into a sink.
fn write(range: std::ops::Range<i64>, sink: impl Sink + 'static) {
    Stream::from_arrow([numbers(range)]).run(sink).unwrap().wait().unwrap();
}

fn sorted(table: &Table) -> Vec<i64> {
    let mut all: Vec<i64> = table.batches().iter().flat_map(|batch| batch["n"].as_primitive::<Int64Type>().values().to_vec()).collect();
    all.sort_unstable();
    all
}

fn every_format_goes_there_and_back(rig: &Rig) {
    let bucket = rig.bucket();
    let at = |path: &str| rig.at(&format!("s3://{bucket}/{path}"));
    let arrow = thalweg::sink::ArrowIpcOptions { compression: Compression::Zstd, ..Default::default() };
    write(0..50_000, Parquet::at(at("parquet")));
    write(0..50_000, ArrowIpc::at(at("arrow")).options(arrow));
    write(0..50_000, Csv::at(at("csv")));
    write(0..50_000, Ndjson::at(at("ndjson")));
    let csv = Format::Csv { delimiter: b',', header: true };
    for (name, stream) in [
        ("parquet", Stream::read_parquet_at(at("parquet/*.parquet"))),
        ("arrow", Stream::read_arrow_at(at("arrow/*.arrow"))),
        ("csv", Stream::read_files(Files::at(at("csv/*.csv")).format(csv))),
        ("ndjson", Stream::read_files(Files::at(at("ndjson/*")))),
    ] {
        let stream = stream.unwrap();
        assert!(stream.explain().unwrap().contains(&format!("s3://{bucket}/{name}/")));
        assert_eq!(sorted(&stream.collect().unwrap()), (0..50_000).collect::<Vec<_>>(), "{name}");
    }
}

fn large_objects_are_uploaded_in_pieces_or_not_at_all(rig: &Rig) {
    let bucket = rig.bucket();
    let noise = |n: i64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
    let batch = |step: i64| {
        let values = Int64Array::from_iter_values((0..500_000).map(|n| noise(step * 500_000 + n)));
        RecordBatch::try_from_iter([("n", Arc::new(values) as ArrayRef)]).unwrap()
    };
    let options = ParquetOptions { row_group_rows: 500_000, ..Default::default() };
    let mut sink = Parquet::at(rig.at(&format!("s3://{bucket}/big"))).options(options);
    sink.open(&batch(0).schema()).unwrap();
    for step in 0..10 {
        sink.write(&batch(step)).unwrap();
    }
    assert!(rig.uploads(&bucket).contains("<Key>big/part-00000"), "it is under way");
    assert!(!rig.list(&bucket).contains("<Key>"), "and not seen");
    sink.commit().unwrap();
    assert!(rig.list(&bucket).contains("<Key>big/part-00000"));
    for step in 0..10 {
        sink.write(&batch(step)).unwrap();
    }
    sink.abort();
    assert!(!rig.uploads(&bucket).contains("<Key>"), "aborted, it is not kept");
    let read = Stream::read_parquet_at(rig.at(&format!("s3://{bucket}/big/*.parquet"))).unwrap().collect().unwrap();
    let mut expected: Vec<i64> = (0..5_000_000).map(noise).collect();
    expected.sort_unstable();
    assert!(sorted(&read) == expected, "{} rows", read.num_rows());
}

fn partitions_are_read_by_their_folders(rig: &Rig) {
    let bucket = rig.bucket();
    let parts = PartOptions { partition_by: vec!["city".parse().unwrap()], max_rows: 100, ..Default::default() };
    let options = ParquetOptions { parts, ..Default::default() };
    write(0..900, Parquet::at(rig.at(&format!("s3://{bucket}/sales"))).options(options));
    for (folder, remainder) in [("city=Paris", 0), ("city=São Paulo", 1), ("city=a%2Fb", 2)] {
        let read = Stream::read_parquet_at(rig.at(&format!("s3://{bucket}/sales/{folder}/*.parquet"))).unwrap();
        assert_eq!(sorted(&read.collect().unwrap()), (0..900).filter(|n| n % 3 == remainder).collect::<Vec<_>>(), "{folder}");
    }
    let all = Stream::read_parquet_at(rig.at(&format!("s3://{bucket}/sales/*/*.parquet"))).unwrap();
    assert_eq!(all.collect().unwrap().num_rows(), 900);
    assert!(all.explain().unwrap().contains("9 files"));
}

fn a_prefix_is_watched(rig: &Rig) {
    let bucket = rig.bucket();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    rig.put(&bucket, "in/a.ndjson", "{\"n\": 1}\n{\"n\": 2}\n");
    rig.put(&bucket, "in/_b.ndjson", "{\"n\": 100}\n");
    rig.put(&bucket, "in/c.ndjson", "{\"n\": 3}\nnot JSON\n");
    let watch = Watch::at(rig.at(&format!("s3://{bucket}/in/*.ndjson")), FileFormat::Bytes(Format::Ndjson)).schema(schema).bounded(true);
    let table = Stream::watch(watch).unwrap().collect().unwrap();
    assert_eq!((sorted(&table), table.metrics().quarantined_rows), (vec![1, 2, 3], 1));
}

fn what_is_not_there_is_named(rig: &Rig) {
    let bucket = rig.bucket();
    let error = Stream::read_parquet_at(rig.at(&format!("s3://{bucket}/none/*.parquet"))).err().unwrap();
    assert_eq!(error.to_string(), format!("no file matches `s3://{bucket}/none/*.parquet`; check the path"));
    let error = Stream::read_parquet_at(rig.at("s3://no-such-bucket/a/*.parquet")).err().unwrap();
    assert!(error.to_string().contains("there is no such bucket"), "{error}");
    let sink = Parquet::at(rig.at("s3://no-such-bucket/a"));
    let error = Stream::from_arrow([numbers(0..1)]).run(sink).and_then(|mut query| query.wait()).unwrap_err();
    assert!(error.kind() == Kind::Connector && error.to_string().contains("there is no such bucket"), "{error}");
}
