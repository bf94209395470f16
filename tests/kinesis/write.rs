//! What becomes of rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use thalweg::connector::kinesis::{End, Kinesis, KinesisSink, Value};
use thalweg::format::avro::{Avro, AvroWriter};
use thalweg::format::protobuf::{Protobuf, ProtobufWriter};
use thalweg::{Error, Format, Kind, Query, Sink, Stream};

use crate::Test;
use crate::rig::{KEY, REGION, Rig, SECRET, at};
use crate::stub::{Fault, STREAM, Sent, Stub, WHOLE};

pub const TESTS: &[Test] = &[
    ("rows_arrive_with_their_keys", rows_arrive_with_their_keys),
    ("hash_keys_choose_shards", hash_keys_choose_shards),
    ("rows_without_a_key_are_spread", rows_without_a_key_are_spread),
    ("every_format_is_read_as_it_was_written", every_format_is_read_as_it_was_written),
    ("bad_rows_are_written_too", bad_rows_are_written_too),
    ("requests_are_no_longer_than_allowed", requests_are_no_longer_than_allowed),
    ("only_what_failed_is_sent_again", only_what_failed_is_sent_again),
    ("a_service_that_fails_is_asked_again", a_service_that_fails_is_asked_again),
    ("patience_ends", patience_ends),
    ("what_cannot_succeed_is_said_at_once", what_cannot_succeed_is_said_at_once),
    ("rows_go_to_a_stream_of_this_arn", rows_go_to_a_stream_of_this_arn),
    ("what_is_not_there_is_named", what_is_not_there_is_named),
    ("many_rows_are_one_record", many_rows_are_one_record),
    ("rows_of_a_shard_that_was_split_find_theirs", rows_of_a_shard_that_was_split_find_theirs),
    ("an_abort_drops_what_was_not_sent", an_abort_drops_what_was_not_sent),
];

fn batch(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef)]).unwrap()
}

fn write(batches: impl IntoIterator<Item = RecordBatch>, sink: KinesisSink) -> Result<(), Error> {
    Query::new().sink(&Stream::from_arrow(batches), sink).run().map(drop)
}

fn open(mut sink: KinesisSink) -> KinesisSink {
    sink.open(&batch([]).schema()).unwrap();
    sink
}

fn failure(sink: KinesisSink) -> Error {
    let error = write([batch([1])], sink).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    error
}

/// The numbers that were taken, sorted.
fn taken(sent: &[Sent]) -> Vec<i64> {
    let mut all: Vec<i64> = sent.iter().flat_map(|sent| numbers(&sent.data)).collect();
    all.sort_unstable();
    all
}

/// The numbers of the rows in a record, which may be many.
fn numbers(data: &[u8]) -> Vec<i64> {
    let text = String::from_utf8_lossy(data).into_owned();
    let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    text.split("{\"a\":").skip(1).map(digits).collect()
}

fn rows_arrive_with_their_keys(rig: &Rig) {
    let stream = rig.stream(3);
    write([batch(0..1_000), batch(1_000..2_345)], rig.sink(&stream).partition_key(["a"])).unwrap();
    let records = rig.records(&stream);
    let mut keys: Vec<i64> = records.iter().map(|record| record.key.parse().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..2_345).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.text() == format!("{{\"a\":{}}}", record.key)));
    let shards: BTreeSet<&str> = records.iter().map(|record| record.shard.as_str()).collect();
    assert_eq!(shards.len(), 3);
}

fn hash_keys_choose_shards(rig: &Rig) {
    let stream = rig.stream(2);
    let columns: [(&str, ArrayRef); 3] = [
        ("text", Arc::new(StringArray::from(vec!["low", "high", "low"]))),
        ("user", Arc::new(StringArray::from(vec![Some("u"), Some("u"), None]))),
        // One less than the highest, which moto takes for none of any shard.
        ("hash", Arc::new(StringArray::from(vec!["0", "340282366920938463463374607431768211454", "1"]))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
    let sink = rig.sink(&stream).value(Value::Column("text".to_owned())).partition_key(["user"]).explicit_hash_key("hash");
    write([rows], sink).unwrap();
    let shards = rig.shards(&stream);
    let texts = |shard: &str| rig.records_of(&stream, shard).iter().map(|record| record.text().to_owned()).collect::<Vec<_>>();
    assert_eq!((texts(&shards[0]), texts(&shards[1])), (vec!["low".to_owned(), "low".to_owned()], vec!["high".to_owned()]));
    let keys: BTreeSet<String> = rig.records(&stream).into_iter().map(|record| record.key).collect();
    assert!(keys.len() == 2 && keys.contains("u"), "{keys:?}");
}

fn rows_without_a_key_are_spread(rig: &Rig) {
    let stream = rig.stream(4);
    write([batch(0..1_000)], rig.sink(&stream)).unwrap();
    for shard in rig.shards(&stream) {
        let count = rig.records_of(&stream, &shard).len();
        // Seven standard deviations of a binomial distribution.
        assert!((154..=346).contains(&count), "{shard} has {count} of 1000");
    }
}

fn every_format_is_read_as_it_was_written(rig: &Rig) {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"text","type":["null","string"]}]}"#;
    let texts = StringArray::from_iter((0..1_000).map(|row| (row % 5 > 0).then(|| format!("{row}, \"é\"\n"))));
    let columns: [(&str, ArrayRef); 2] = [("a", Arc::new(Int64Array::from_iter_values(0..1_000))), ("text", Arc::new(texts))];
    let all = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
    // A file with a message of proto2: `optional int64 a = 1; optional string text = 2;`.
    let file = b"\n\x1e\x22\x1c\n\x01R\x12\x09\n\x01a\x18\x01\x20\x01\x28\x03\x12\x0c\n\x04text\x18\x02\x20\x01\x28\x09";
    let protobuf = || Protobuf::new(file, "R").unwrap();
    let cases: [(Value, Format, usize); 5] = [
        (Value::parse("csv").unwrap(), Format::parse("csv").unwrap(), 1_000),
        (Value::Avro(AvroWriter::bare(schema)), Format::Avro(Avro::bare(schema)), 1_000),
        (Value::Avro(AvroWriter::single_object(schema)), Format::Avro(Avro::single_object([schema]).unwrap()), 1_000),
        (Value::Protobuf(ProtobufWriter::bare(protobuf())), Format::Protobuf(protobuf()), 1_000),
        (Value::ArrowIpc, Format::ArrowIpc, 1),
    ];
    for (value, format, count) in cases {
        let stream = rig.stream(1);
        write([all.clone()], rig.sink(&stream).value(value)).unwrap();
        assert_eq!(rig.records(&stream).len(), count, "{format}");
        let source = Kinesis::new(&stream).format(format.clone(), all.schema()).end(End::Latest);
        let source = source.set("endpoint_url", rig.endpoint()).set("allow_http", "true").set("region", REGION);
        let table = Stream::read_kinesis(source.set("access_key", KEY).set("secret_key", SECRET)).unwrap().collect().unwrap();
        let found = concat_batches(&table.schema(), table.batches()).unwrap();
        // Kinesis keeps no order of records that are sent at once.
        let order = sort_to_indices(found.column(0), None, None).unwrap();
        assert_eq!(take_record_batch(&found, &order).unwrap(), all, "{format}");
    }
    // Rows of a key are one record, and no record is longer than Kinesis takes.
    let stream = rig.stream(1);
    let long = StringArray::from_iter_values((0..40).map(|row| format!("{row:02}{}", "x".repeat(100_000))));
    let columns: [(&str, ArrayRef); 2] =
        [("a", Arc::new(Int64Array::from_iter_values((0..40).map(|row| row / 20)))), ("text", Arc::new(long))];
    write([RecordBatch::try_from_iter(columns).unwrap()], rig.sink(&stream).value(Value::ArrowIpc).partition_key(["a"])).unwrap();
    let records = rig.records(&stream);
    let keys: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    assert!(keys.len() >= 4 && keys.contains(&"0") && keys.contains(&"1"), "{keys:?}");
    assert!(records.iter().all(|record| record.data.len() + record.key.len() <= 1 << 20));
}

fn bad_rows_are_written_too(rig: &Rig) {
    let stream = rig.stream(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.ndjson");
    std::fs::write(&path, "{\"a\": 1}\npoison\n").unwrap();
    let files = thalweg::Files::new(path.to_str().unwrap()).format(Format::Ndjson).schema(batch([]).schema());
    let metrics = Query::new().sink(&Stream::read_files(files).unwrap(), rig.sink(&stream)).quarantine(rig.sink(&stream)).run().unwrap();
    assert_eq!(metrics.quarantined_rows, 1);
    let mut texts: Vec<String> = rig.records(&stream).iter().map(|record| record.text().to_owned()).collect();
    texts.sort();
    assert_eq!(texts[0], r#"{"a":1}"#);
    assert!(texts[1].contains("\"706f69736f6e\""), "the bytes, hexadecimal: {}", texts[1]);
}

fn requests_are_no_longer_than_allowed(_: &Rig) {
    let stub = Stub::start([]);
    let long = |count: i64, bytes: usize| {
        let texts = StringArray::from_iter_values((0..count).map(|number| format!("{number:09}{}", "x".repeat(bytes - 9))));
        RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap()
    };
    let sink = || stub.sink().value(Value::Column("text".to_owned()));
    write([long(40, 1_000_000)], sink()).unwrap();
    write([long(5_000, 10)], sink()).unwrap();
    let service = stub.service();
    assert_eq!(service.taken.len(), 5_040);
    for request in &service.requests {
        let bytes: usize = request.iter().map(|sent| sent.data.len() + sent.key.len()).sum();
        assert!(request.len() <= 500 && bytes <= 5 << 20, "{} records, {bytes} bytes", request.len());
    }
    // 8 of five long ones and 10 full ones, and few that began with what there was.
    assert!((18..=30).contains(&service.requests.len()), "{} requests", service.requests.len());
}

fn only_what_failed_is_sent_again(_: &Rig) {
    let throttled = Fault::Some(|place| place % 3 == 1, "ProvisionedThroughputExceededException");
    let failed = Fault::Some(|place| place == 0, "InternalFailure");
    let stub = Stub::start([throttled.clone(), failed, throttled.clone(), throttled.clone(), throttled]);
    write([batch(0..3_000)], stub.sink().partition_key(["a"])).unwrap();
    let service = stub.service();
    assert_eq!(taken(&service.taken), (0..3_000).collect::<Vec<_>>(), "each once");
    let sent: usize = service.requests.iter().map(Vec::len).sum();
    let refused: usize = sent - service.taken.len();
    assert!(refused > 0 && refused <= 4 * 167 + 1, "{refused} records were sent again");
}

fn a_service_that_fails_is_asked_again(_: &Rig) {
    let stub = Stub::start([
        Fault::All(500, "InternalFailure", "Oh."),
        Fault::All(400, "ProvisionedThroughputExceededException", "Slow down."),
        Fault::All(503, "ServiceUnavailableException", "Away."),
        Fault::All(400, "KMSThrottlingException", "Slow down."),
    ]);
    write([batch(0..2_000)], stub.sink()).unwrap();
    assert_eq!(taken(&stub.service().taken), (0..2_000).collect::<Vec<_>>());
    // An answer that is lost: what was taken is sent again, and nothing is missing.
    let stub = Stub::start([Fault::Silence]);
    write([batch(0..100)], stub.sink()).unwrap();
    let mut numbers = taken(&stub.service().taken);
    numbers.dedup();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

fn patience_ends(_: &Rig) {
    let stub = Stub::start([]);
    stub.service().always = Some(Fault::Some(|place| place < 2, "ProvisionedThroughputExceededException"));
    let error = failure(stub.sink().set("delivery_timeout", "300ms"));
    assert!(error.is_retriable() && error.kind() == Kind::Connector, "{error}");
    let text = error.to_string();
    assert!(text.contains("1 records were not delivered to stream `payments`") && text.contains("300ms"), "{text}");
    assert!(text.contains("ProvisionedThroughputExceededException: Rate exceeded for shard 0"), "{text}");
    assert!(stub.service().requests.len() > 1);
    // Rows that wait for room are told too.
    let mut sink = open(stub.sink().set("delivery_timeout", "300ms"));
    stub.service().always = Some(Fault::All(500, "InternalFailure", "Oh."));
    let error = sink.write(&batch(0..10_000)).unwrap_err();
    assert!(error.to_string().contains("records were not delivered") && error.to_string().contains("InternalFailure: Oh."), "{error}");
    let error = sink.commit().unwrap_err();
    assert!(error.to_string().contains("has ended, as an error before this says"), "{error}");
    sink.abort();
}

fn what_cannot_succeed_is_said_at_once(_: &Rig) {
    let stub = Stub::start([]);
    stub.service().always = Some(Fault::All(400, "AccessDeniedException", "User may not: kinesis:PutRecords\nhunter2"));
    let error = failure(stub.sink());
    assert!(!error.is_retriable() && error.to_string().contains("the credentials do not allow it"), "{error}");
    assert_eq!(stub.service().requests.len(), 1);
    stub.service().always = None;
    // Who may write need not be allowed to ask.
    stub.service().describe = Some(Fault::All(400, "AccessDeniedException", "User may not: kinesis:DescribeStreamSummary"));
    write([batch([1])], stub.sink()).unwrap();
    stub.service().describe = Some(Fault::All(400, "UnrecognizedClientException", "The security token is invalid.\nhunter2"));
    let error = failure(stub.sink());
    assert!(error.to_string().contains("the credentials are not taken"), "{error}");
    stub.service().describe = None;
    stub.service().status = Some("CREATING");
    let error = failure(stub.sink());
    assert!(error.is_retriable() && error.to_string().contains("it is being created"), "{error}");
}

fn what_is_not_there_is_named(rig: &Rig) {
    let error = failure(rig.sink("no-such-stream"));
    assert!(
        error.to_string().contains("cannot write to stream `no-such-stream`: there is nothing of that name in region `eu-west-1`"),
        "{error}"
    );
    assert!(!error.is_retriable());
    let nobody = at(KinesisSink::new(STREAM), "http://127.0.0.1:1").set("max_attempts", "1");
    let error = failure(nobody);
    assert!(error.is_retriable() && error.to_string().contains("cannot be reached"), "{error}");
    for (name, value, says) in [
        ("no_such_setting", SECRET, "Kinesis has no setting `no_such_setting`"),
        ("delivery_timeout", SECRET, "`delivery_timeout` is not a duration"),
        ("allow_http", "false", "`endpoint_url` is not encrypted"),
        ("secret_key", "env:THALWEG_NO_SUCH_VARIABLE", "`THALWEG_NO_SUCH_VARIABLE`"),
    ] {
        let error = failure(rig.sink("stream").set(name, value));
        assert!(error.kind() == Kind::Config && error.to_string().contains(says), "{error}");
    }
    let error = failure(rig.sink("stream").partition_key(["b"]));
    assert!(error.kind() == Kind::Schema && error.to_string().contains("no column `b` to write to Kinesis"), "{error}");
    assert!(!format!("{:?}", rig.sink("stream")).contains(SECRET));
}

fn rows_go_to_a_stream_of_this_arn(rig: &Rig) {
    let stream = rig.stream(2);
    let sink = |arn: &str| {
        let sink = KinesisSink::new(arn).set("endpoint_url", rig.endpoint()).set("allow_http", "true");
        sink.set("access_key", KEY).set("secret_key", SECRET).partition_key(["a"])
    };
    // The region is nowhere else.
    let arn = format!("arn:aws:kinesis:{REGION}:123456789012:stream/{stream}");
    write([batch(0..10)], sink(&arn)).unwrap();
    write([batch(10..20)], sink(&arn).aggregate(true)).unwrap();
    let mut all: Vec<i64> = rig.records(&stream).iter().flat_map(|record| numbers(&record.data)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
    let error = failure(sink(&format!("{arn}/consumer")));
    assert!(error.kind() == Kind::Config && error.to_string().contains("is not the ARN of a stream of Kinesis"), "{error}");
}

fn many_rows_are_one_record(rig: &Rig) {
    let stream = rig.stream(2);
    write([batch(0..5_000)], rig.sink(&stream).partition_key(["a"]).aggregate(true)).unwrap();
    let records = rig.records(&stream);
    // A row takes some 25 bytes there, and a record has up to 50 KiB.
    assert!((3..=8).contains(&records.len()), "{} records", records.len());
    assert!(records.iter().all(|record| record.data.starts_with(b"\xF3\x89\x9A\xC2") && record.data.len() <= 51_200));
    let mut all: Vec<i64> = records.iter().flat_map(|record| numbers(&record.data)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..5_000).collect::<Vec<_>>());
    let single = rig.stream(1);
    write([batch([7])], rig.sink(&single).aggregate(true)).unwrap();
    assert_eq!(rig.records(&single)[0].text(), "{\"a\":7}");
}

fn rows_of_a_shard_that_was_split_find_theirs(_: &Rig) {
    let stub = Stub::start([]);
    let rows = |numbers: std::ops::Range<i64>| {
        let hashes = StringArray::from_iter_values(numbers.clone().map(|number| if number % 3 == 0 { u128::MAX } else { 0 }.to_string()));
        let columns: [(&str, ArrayRef); 2] = [("a", Arc::new(Int64Array::from_iter_values(numbers))), ("hash", Arc::new(hashes))];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let mut sink = stub.sink().explicit_hash_key("hash").aggregate(true);
    sink.open(&rows(0..0).schema()).unwrap();
    sink.write(&rows(0..90)).unwrap();
    sink.commit().unwrap();
    assert_eq!(stub.service().taken.len(), 1, "one record");
    let (low, high) = (("low", 0, u128::MAX / 2, false), ("high", u128::MAX / 2 + 1, u128::MAX, false));
    stub.service().shards = vec![(WHOLE.0, WHOLE.1, WHOLE.2, true), low, high];
    for numbers in [1..91, 91..181] {
        sink.write(&rows(numbers)).unwrap();
        sink.commit().unwrap();
    }
    let service = stub.service();
    // What readers of a shard keep of what came there: the records of its range.
    let kept = |(shard, sent): (&&str, &Sent)| {
        let of_low = |number: &i64| number % 3 != 0;
        numbers(&sent.data).into_iter().filter(|number| *shard == WHOLE.0 || (*shard == "low") == of_low(number)).collect::<Vec<_>>()
    };
    let mut all: Vec<i64> = service.taken_by.iter().zip(&service.taken).skip(1).flat_map(kept).collect();
    all.sort_unstable();
    assert_eq!(all, (1..181).collect::<Vec<_>>(), "none is lost, and none is there twice");
    // One that came to the wrong shard, its thirty strays, and then one of each shard.
    assert_eq!(service.taken.len(), 1 + 1 + 30 + 2);
}

fn an_abort_drops_what_was_not_sent(_: &Rig) {
    let stub = Stub::start([]);
    stub.service().always = Some(Fault::All(500, "InternalFailure", "Oh."));
    let mut sink = open(stub.sink());
    sink.write(&batch(0..100)).unwrap();
    sink.abort();
    stub.service().always = None;
    assert!(sink.commit().unwrap_err().to_string().contains("the sink is not open"));
    sink.open(&batch([]).schema()).unwrap();
    sink.write(&batch(100..200)).unwrap();
    sink.commit().unwrap();
    sink.write(&batch(200..300)).unwrap();
    sink.commit().unwrap();
    assert_eq!(taken(&stub.service().taken), (100..300).collect::<Vec<_>>());
}
