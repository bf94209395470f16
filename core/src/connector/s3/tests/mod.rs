//! Objects appear whole, failures say what they are, and nothing is said of secrets.

#![allow(clippy::unwrap_used)]

mod stub;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::config::Config;
use crate::error::Kind;
use crate::format::Format;
use crate::sink::{ArrowIpc, Csv, Ndjson, NdjsonOptions, Parquet, PartOptions, Sink};
use crate::source::{FileFormat, FileSet, Files, OpenSource, Source, Watch, arrow_blobs, parquet_blobs};
use crate::time::{SimulatedClock, secs};
use stub::{KEY, SECRET, Stub};

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    let words: ArrayRef = Arc::new(StringArray::from_iter_values(range.clone().map(|n| ["a/b", "c"][n as usize % 2])));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("n", numbers), ("word", words)]).unwrap()
}

/// A row of so many bytes of text that does not compress away.
fn long(bytes: usize) -> RecordBatch {
    let text: String = (0..bytes).map(|n| char::from(b'a' + (n * n / 7 % 26) as u8)).collect();
    RecordBatch::try_from_iter([("word", Arc::new(StringArray::from(vec![text])) as ArrayRef)]).unwrap()
}

fn open<S: Sink>(mut sink: S, batch: &RecordBatch) -> S {
    sink.open(&batch.schema()).unwrap();
    sink
}

/// The numbers of a source to its end.
fn read(source: &dyn OpenSource) -> Result<Vec<i64>> {
    let clock: crate::time::SharedClock = SimulatedClock::shared();
    let mut source: Box<dyn Source> = source.open(&Config::default(), &clock)?;
    let mut numbers = Vec::new();
    loop {
        let delivery = source.poll(secs(1))?;
        if let Some(batch) = &delivery.batch {
            numbers.extend(batch.records["n"].as_primitive::<Int64Type>().values());
        }
        if delivery.end {
            return Ok(numbers);
        }
    }
}

fn error<T>(result: Result<T>) -> Error {
    result.err().expect("it must fail")
}

#[test]
fn objects_appear_whole_at_the_commit() {
    let stub = Stub::start();
    let parts = PartOptions { partition_by: vec!["word".parse().unwrap()], ..Default::default() };
    let sink = Ndjson::at(stub.at("s3://lake/out/")).options(NdjsonOptions { parts, ..Default::default() });
    let mut sink = open(sink, &numbers(0..0));
    sink.write(&numbers(0..4)).unwrap();
    assert!(stub.keys().is_empty());
    sink.commit().unwrap();
    let keys = stub.keys();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].starts_with("out/word=a%2Fb/part-") && keys[1].starts_with("out/word=c/part-"), "{keys:?}");
    assert_eq!(stub.store().objects[&keys[0]], b"{\"n\":0}\n{\"n\":2}\n");
    assert!(!stub.store().requests.iter().any(|request| request.starts_with("POST")), "small ones are put at once");
    sink.write(&numbers(4..8)).unwrap();
    sink.abort();
    assert_eq!(stub.keys(), keys);
}

#[test]
fn a_commit_of_many_parts_shows_all_or_says_which_it_could_not() {
    let stub = Stub::start();
    let parts = PartOptions { max_rows: 1, ..Default::default() };
    let make = || Ndjson::at(stub.at("s3://lake/out")).options(NdjsonOptions { parts: parts.clone(), ..Default::default() });
    let mut sink = open(make(), &numbers(0..0));
    sink.write(&numbers(0..100)).unwrap();
    assert!(stub.keys().is_empty());
    sink.commit().unwrap();
    let texts: Vec<Vec<u8>> = stub.store().objects.values().cloned().collect();
    let expected: Vec<Vec<u8>> = numbers(0..100).column(1).as_string::<i32>().iter().zip(0..).map(|(word, n)| line(n, word)).collect();
    assert_eq!(texts, expected, "numbered in their order");
    stub.store().faults.extend([("PUT out/part-00150", 500); 3]);
    sink.write(&numbers(0..100)).unwrap();
    let error = error(sink.commit());
    assert!(error.is_retriable() && error.to_string().starts_with("cannot write `s3://lake/out/part-00150-"), "{error}");
    assert!(!stub.keys().iter().any(|key| key.starts_with("out/part-00150")));
}

fn line(n: i64, word: Option<&str>) -> Vec<u8> {
    format!("{{\"n\":{n},\"word\":\"{}\"}}\n", word.unwrap()).into_bytes()
}

#[test]
fn large_objects_are_sent_while_they_grow() {
    let stub = Stub::start();
    let row = long(3 << 20);
    let mut sink = open(Csv::at(stub.at("s3://lake")), &row);
    (0..12).for_each(|_| sink.write(&row).unwrap());
    assert_eq!(stub.store().requests.iter().filter(|request| request.contains("partNumber")).count(), 4);
    assert!(stub.keys().is_empty());
    sink.commit().unwrap();
    let keys = stub.keys();
    assert_eq!(stub.store().objects[&keys[0]].len(), "word\n".len() + 12 * ((3 << 20) + 1));
    assert!(stub.store().uploads.is_empty());
    (0..12).for_each(|_| sink.write(&row).unwrap());
    assert_eq!(stub.store().uploads.len(), 1);
    sink.abort();
    assert_eq!(stub.uploads_and_keys(), (0, keys), "an abort aborts the upload");
}

#[test]
fn a_store_that_fails_for_a_while_is_asked_again_and_then_given_up() {
    let stub = Stub::start();
    let row = long(1 << 20);
    for begins in ["PUT part-00000", "POST part-00000", "PUT part-00000", "POST part-00000"] {
        stub.store().faults.extend([(begins, 500), (begins, 503)]);
        let mut sink = open(Csv::at(stub.at("s3://lake")), &row);
        (0..9).for_each(|_| sink.write(&row).unwrap());
        sink.commit().unwrap();
        assert!(stub.store().faults.is_empty());
    }
    let keys = stub.keys();
    assert_eq!(keys.len(), 4);
    for begins in ["POST part-00000", "PUT part-00000"] {
        stub.store().faults.extend([(begins, 500), (begins, 500), (begins, 500), (begins, 500), (begins, 500), (begins, 500)]);
        let mut sink = open(Csv::at(stub.at("s3://lake")), &row);
        let failed = (0..9).try_for_each(|_| sink.write(&row)).and_then(|()| sink.commit());
        let error = error(failed);
        let text = error.to_string();
        assert!(text.starts_with("cannot write `s3://lake/part-00000-") && text.contains("has been asked again and again"), "{text}");
        assert!(text.contains("InternalError: We encountered an internal error"), "{text}");
        assert_eq!((error.kind(), error.is_retriable()), (Kind::Connector, true));
        stub.store().faults.clear();
        drop(sink);
        assert_eq!(stub.uploads_and_keys(), (0, keys.clone()), "nothing of it is left");
    }
    let gone = S3::new("s3://lake/x").set("endpoint_url", "http://127.0.0.1:1").set("allow_http", "true").set("max_retries", "1");
    let mut sink = Parquet::at(gone.set("access_key", KEY).set("secret_key", SECRET));
    let error = error(sink.open(&row.schema()));
    assert!(error.is_retriable() && error.to_string().starts_with("cannot use `s3://lake/x`"), "{error}");
}

#[test]
fn a_wrong_bucket_and_wrong_keys_are_named_at_once_and_secrets_never() {
    let stub = Stub::start();
    let schema = numbers(0..0).schema();
    let refused = |store: S3| {
        let shown = format!("{store:?}");
        let listed = error(store.list());
        let error = error(Parquet::at(store).open(&schema));
        let all = format!("{shown} {error} {error:?} {listed}");
        for secret in [SECRET, "wrong-secret", "the-token"] {
            assert!(!all.contains(secret), "{all}");
        }
        assert!(!error.is_retriable());
        error.to_string()
    };
    let text = refused(stub.at("s3://pond/out"));
    assert!(text.starts_with("cannot use `s3://pond/out`: there is no such bucket; check its name"), "{text}");
    let wrong = stub.without_keys("s3://lake/out").set("access_key", "AKIAOTHER").set("secret_key", "wrong-secret");
    let text = refused(wrong.set("session_token", "the-token"));
    assert!(text.contains("the store does not take the credentials; check `access_key`"), "{text}");
    assert!(text.contains("InvalidAccessKeyId: The AWS Access Key Id you provided does not exist"), "{text}");
    let with_password = S3::new("s3://AKIA:hunter2@lake/out");
    assert_eq!(FileSet::describe(&with_password), "s3://");
    assert!(refused(with_password).contains("without user or password"));
}

#[test]
fn settings_are_checked_by_name_and_secrets_come_from_where_they_are_said_to_be() {
    let stub = Stub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let by_file = stub.without_keys("s3://lake/out").set("access_key", format!("file:{}", file.display())).set("secret_key", SECRET);
    assert_eq!(by_file.list().unwrap(), []);
    for (name, value, says) in [
        ("endpoint", "x", "an object store has no setting `endpoint`; there are endpoint_url, region"),
        ("allow_http", "hunter2", "the setting `allow_http` is not true or false"),
        ("max_retries", "hunter2", "the setting `max_retries` is not a number"),
        ("retry_timeout", "hunter2", "the setting `retry_timeout` is not a duration"),
        ("allow_http", "false", "`endpoint_url` is not encrypted; use https, or set `allow_http` to true"),
        ("secret_key", "env:THALWEG_NO_SUCH_VARIABLE", "the setting `secret_key`: the environment has no variable"),
    ] {
        let error = error(stub.at("s3://lake/out").set(name, value).list());
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains(says) && !error.to_string().contains("hunter2"), "{error}");
    }
    let error = error(stub.without_keys("s3://lake").set("access_key", KEY).list());
    assert!(error.to_string().contains("`access_key` and `secret_key` go together"), "{error}");
}

#[test]
fn every_format_is_read_back() {
    let stub = Stub::start();
    let write = |sink: &mut dyn Sink| {
        sink.open(&numbers(0..0).schema()).unwrap();
        for start in [0, 20_000] {
            sink.write(&numbers(start..start + 20_000)).unwrap();
            sink.commit().unwrap();
        }
    };
    write(&mut Parquet::at(stub.at("s3://lake/p/x=1/y")));
    write(&mut Parquet::at(stub.at("s3://lake/p/x=2/y")));
    write(&mut ArrowIpc::at(stub.at("s3://lake/a")));
    write(&mut Csv::at(stub.at("s3://lake/c")));
    write(&mut Ndjson::at(stub.at("s3://lake/j")));
    let sorted = |source: &dyn OpenSource| {
        let mut numbers = read(source).unwrap();
        numbers.sort_unstable();
        numbers
    };
    let once: Vec<i64> = (0..40_000).collect();
    let twice: Vec<i64> = (0..40_000).flat_map(|n| [n, n]).collect();
    let csv = Format::Csv { delimiter: b',', header: true };
    let schema = numbers(0..0).schema();
    assert_eq!(sorted(&parquet_blobs(stub.at("s3://lake/p/x=*/y/*.parquet")).unwrap()), twice);
    assert_eq!(sorted(&*arrow_blobs(stub.at("s3://lake/a/part-*")).unwrap()), once);
    assert_eq!(sorted(&*Files::at(stub.at("s3://lake/c/*")).format(csv).find().unwrap()), once);
    assert_eq!(sorted(&*Files::at(stub.at("s3://lake/j/*.ndjson")).schema(schema).find().unwrap()), once);
    let key = stub.keys().into_iter().find(|key| key.starts_with("j/part-00000")).unwrap();
    let one = Files::at(stub.at(&format!("s3://lake/{key}"))).find().unwrap();
    assert_eq!(read(&*one).unwrap(), (0..20_000).collect::<Vec<_>>());
    assert!(one.describe().starts_with("read_ndjson(s3://lake/j/part-00000"), "{}", one.describe());
    assert!(error(parquet_blobs(stub.at("s3://lake"))).to_string().contains("write for example `s3://lake/*.parquet`"));
    for nothing in ["s3://lake/none/*.parquet", "s3://lake/none"] {
        let error = error(parquet_blobs(stub.at(nothing)));
        assert_eq!(error.to_string(), format!("no file matches `{nothing}`; check the path"));
    }
}

#[test]
fn parquet_is_read_by_ranges_and_a_replaced_object_is_an_error() {
    let stub = Stub::start();
    let mut sink = open(Parquet::at(stub.at("s3://lake/p")), &numbers(0..0));
    let noise = |n: i64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
    let batch = |step: i64| {
        let noise = Int64Array::from_iter_values((0..100_000).map(|n| noise(n + step * 100_000)));
        RecordBatch::try_new(numbers(0..0).schema(), vec![Arc::new(noise), numbers(0..100_000).column(1).clone()]).unwrap()
    };
    (0..8).for_each(|step| sink.write(&batch(step)).unwrap());
    sink.commit().unwrap();
    let size = stub.store().objects.values().next().unwrap().len();
    assert!(size > 5 << 20, "{size}");
    stub.store().requests.clear();
    let source = parquet_blobs(stub.at("s3://lake/p/*.parquet")).unwrap();
    assert_eq!(read(&source).unwrap().len(), 800_000);
    let reads = stub.store().requests.iter().filter(|request| request.starts_with("GET p/part")).count();
    assert!((4..=20).contains(&reads), "{reads} reads for {size} bytes");

    let clock: crate::time::SharedClock = SimulatedClock::shared();
    let mut running = source.open(&Config::default(), &clock).unwrap();
    running.poll(secs(1)).unwrap();
    stub.store().objects.values_mut().for_each(|object| object.push(0));
    let error = (0..1_000).find_map(|_| running.poll(secs(1)).err()).expect("it must fail");
    assert!(error.to_string().contains("it was replaced while it was read; read it again"), "{error}");

    stub.store().objects.values_mut().for_each(|object| object.truncate(size));
    let mut running = source.open(&Config::default(), &clock).unwrap();
    running.poll(secs(1)).unwrap();
    stub.store().faults.extend([("GET p/part", 500); 3]);
    let error = (0..1_000).find_map(|_| running.poll(secs(1)).err()).expect("it must fail");
    assert!(error.is_retriable() && error.kind() == Kind::Connector, "{error}");
}

#[test]
fn new_objects_below_a_prefix_are_watched_for() {
    let stub = Stub::start();
    let put = |key: &str, text: &str| _ = stub.store().objects.insert(key.to_owned(), text.as_bytes().to_vec());
    put("in/a.ndjson", "{\"n\": 1}\n");
    put("in/_b.ndjson", "{\"n\": 100}\n");
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let watch = Watch::at(stub.at("s3://lake/in/*.ndjson"), FileFormat::Bytes(Format::Ndjson)).schema(schema).checked().unwrap();
    let clock: crate::time::SharedClock = SimulatedClock::shared();
    let mut source = watch.open(&Config::default(), &clock).unwrap();
    let mut next = || {
        let deliveries = (0..20).map(|_| source.poll(secs(1)).unwrap());
        deliveries
            .filter_map(|delivery| delivery.batch)
            .flat_map(|batch| batch.records["n"].as_primitive::<Int64Type>().values().to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(next(), [1]);
    put("in/c.ndjson", "{\"n\": 2}\n{\"n\": 3}\n");
    assert_eq!(next(), [2, 3]);
}

#[test]
fn nobody_is_kept_waiting_inside_a_runtime() {
    let stub = Stub::start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = error(runtime.block_on(async { stub.at("s3://lake/*").list() }));
    assert!(error.kind() == Kind::Config && error.to_string().contains("inside an asynchronous runtime"), "{error}");
}
