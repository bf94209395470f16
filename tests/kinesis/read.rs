//! What comes of records, wherever their shards go.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, UInt64Type};
use serde_json::json;
use thalweg::connector::kinesis::{Column, End, Kinesis, Start};
use thalweg::time::SystemClock;
use thalweg::{Format, Stream, count, event_time, millis, secs, tumbling};

use crate::Test;
use crate::double::Fault;
use crate::live::{KEYS, collect, column, failure, last_column, reading, schema, until, values};
use crate::rig::{KEY, REGION, Rig, SECRET};

pub const TESTS: &[Test] = &[
    ("a_bounded_read_has_all_there_is", a_bounded_read_has_all_there_is),
    ("a_read_begins_where_it_is_told_to", a_read_begins_where_it_is_told_to),
    ("a_read_begins_at_sequence_numbers", a_read_begins_at_sequence_numbers),
    ("a_stream_is_named_by_its_arn", a_stream_is_named_by_its_arn),
    ("shards_are_followed_when_they_split_and_merge", shards_are_followed_when_they_split_and_merge),
    ("aggregated_records_are_taken_apart", aggregated_records_are_taken_apart),
    ("poisoned_records_go_to_quarantine", poisoned_records_go_to_quarantine),
    ("trouble_passes_and_nothing_is_lost", trouble_passes_and_nothing_is_lost),
    ("what_cannot_be_read_is_said", what_cannot_be_read_is_said),
    ("enhanced_fan_out_pushes_records", enhanced_fan_out_pushes_records),
    ("windows_fire_over_shards", windows_fire_over_shards),
];

fn a_bounded_read_has_all_there_is(rig: &Rig) {
    let service = rig.moto();
    let stream = service.stream(rig, 3);
    service.put_numbers(&stream, 0..100);
    let table = collect(service.numbers(&stream).metadata(Column::ALL));
    assert_eq!(values(&table), (0..100).collect::<Vec<_>>());
    let all = concat_batches(&table.schema(), table.batches()).unwrap();
    let names: Vec<String> = all.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "_partition_key", "_sequence_number", "_sub_sequence_number", "_shard", "_timestamp"]);
    assert_eq!(all.column(5).data_type(), &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
    assert_eq!(all.column(5).null_count(), 0);
    // What the service says of each record, by its number.
    let of = |row: usize| {
        let text = |column: usize| all.column(column).as_string::<i32>().value(row).to_owned();
        (all.column(0).as_primitive::<Int64Type>().value(row), (text(1), text(2), text(4)))
    };
    let told: BTreeMap<i64, _> = (0..all.num_rows()).map(of).collect();
    let shards = rig.records(&stream).into_iter().map(|record| {
        let number: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
        (number["a"].as_i64().unwrap(), (record.key, record.sequence, format!("{stream}/{}", record.shard)))
    });
    assert_eq!(told, shards.collect());
    let shards: BTreeSet<_> = told.values().map(|(_, _, shard)| shard).collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    assert!(all.column(3).as_primitive::<Int64Type>().values().iter().all(|sub| *sub == 0));
    // As they are, in one column.
    let text = Stream::read_kinesis(service.at(Kinesis::new(&stream)).text().end(End::Latest)).unwrap().collect().unwrap();
    assert_eq!((text.num_rows(), text.schema().field(0).data_type()), (100, &DataType::Utf8));
}

fn a_read_begins_where_it_is_told_to(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 2);
    service.put_numbers(&stream, 0..10);
    let mut live = reading(service.numbers_of(&stream).start(Start::Latest));
    // It begins when it has an iterator: what is put until then may or may not be before.
    let mut number = 10;
    until("records that are put now arrive", || {
        service.put_numbers(&stream, number..number + 1);
        number += 1;
        live.look() > 0
    });
    let seen = live.stop();
    assert!(seen.iter().all(|seen| *seen >= 10), "{seen:?}");
    let start = number;
    // A millisecond on both sides tells before from after.
    let clock = SystemClock::shared();
    clock.sleep(millis(2));
    let now = clock.wall() / 1_000_000;
    clock.sleep(millis(2));
    service.put_numbers(&stream, 1_000..1_010);
    assert_eq!(values(&collect(service.numbers(&stream).start(Start::Timestamp(now)))), (1_000..1_010).collect::<Vec<_>>());
    assert_eq!(collect(service.numbers_of(&stream).end(End::Timestamp(now))).num_rows() as i64, start);
    assert_eq!(collect(service.numbers(&stream)).num_rows() as i64, start + 10);
}

fn a_read_begins_at_sequence_numbers(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 1);
    service.put_numbers(&stream, 0..20);
    let parent = service.shards(&stream).remove(0);
    let place = |shard: &str, record: usize| vec![(shard.to_owned(), service.records(&stream, shard)[record].0.clone())];
    let read = |start: Start| values(&collect(service.numbers(&stream).start(start)));
    assert_eq!(read(Start::At(place(&parent, 10))), (10..20).collect::<Vec<_>>());
    assert_eq!(read(Start::After(place(&parent, 10))), (11..20).collect::<Vec<_>>());
    service.split(&stream, &parent);
    service.put_numbers(&stream, 20..40);
    assert_eq!(read(Start::At(place(&parent, 10))), (10..40).collect::<Vec<_>>(), "what descends from it is read");
    let halves = service.shards(&stream).split_off(1);
    let both = [place(&halves[0], 0), place(&halves[1], 1)].concat();
    let rest = read(Start::After(both));
    assert_eq!(rest.len(), 17, "all of the halves, less one and two, and nothing of the parent");
    assert!(rest.iter().all(|number| *number >= 20));
    let error = failure(service.numbers(&stream).start(Start::At(place(&halves[0], 0))));
    assert!(error.contains(&format!("`start` names neither {} of stream `{stream}` nor", halves[1])), "{error}");
    // Only where there is no checkpoint.
    let application = rig.name("app");
    let shared = || service.numbers_of(&stream).application(&application).start(Start::At(place(&parent, 10)));
    let mut live = reading(shared());
    live.wait_for(30);
    let mut seen = live.stop();
    seen.sort_unstable();
    assert_eq!(seen, (10..40).collect::<Vec<_>>());
    let mut live = reading(shared());
    service.put_numbers(&stream, 40..41);
    live.wait_for(1);
    assert_eq!(live.stop(), [40]);
    let error = failure(service.numbers(&stream).start(Start::At(vec![(parent, "x1".to_owned())])));
    assert!(error.contains("is not a sequence number of Kinesis") && error.contains("config"), "{error}");
}

fn a_stream_is_named_by_its_arn(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 2);
    service.put_numbers(&stream, 0..20);
    let arn = format!("arn:aws:kinesis:{REGION}:123456789012:stream/{stream}");
    let read = |arn: &str| {
        let read = Kinesis::new(arn).set("endpoint_url", format!("http://{}", service.address)).set("allow_http", "true");
        read.set("access_key", KEY).set("secret_key", SECRET).format(Format::Ndjson, schema())
    };
    // The region is nowhere else.
    let table = collect(read(&arn).end(End::Latest).metadata([Column::Shard]));
    assert_eq!(values(&table), (0..20).collect::<Vec<_>>());
    let shard = table.batches()[0].column(1).as_string::<i32>().value(0).to_owned();
    assert!(shard.starts_with(&format!("{arn}/shardId-00000000000")), "{shard}");
    let mut live = reading(read(&arn).application(rig.name("app")).enhanced_fan_out("dashboard"));
    live.wait_for(20);
    live.stop();
    assert_eq!((double.asked("DescribeStreamSummary"), double.asked("RegisterStreamConsumer")), (0, 1));
    for (arn, region, says) in [
        (arn.as_str(), Some("us-east-1"), "leave `region` away"),
        ("arn:aws:s3:::payments", None, "\"arn:aws:s3:::payments\" is not the ARN of a stream of Kinesis"),
    ] {
        let error = failure(region.into_iter().fold(read(arn).end(End::Latest), |read, region| read.set("region", region)));
        assert!(error.contains(says) && error.ends_with("[config, final]"), "{error}");
    }
}

/// Numbers of a key, which the service keeps in order within a shard, and a reader from one shard to the next.
fn shards_are_followed_when_they_split_and_merge(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 2);
    let read = service.numbers_of(&stream).metadata([Column::PartitionKey]);
    let mut live = reading(read);
    service.put_numbers(&stream, 0..40);
    live.wait_for(40);
    let first = service.shards(&stream);
    service.split(&stream, &first[0]);
    service.put_numbers(&stream, 40..80);
    let halves: Vec<String> = service.shards(&stream).split_off(2);
    service.split(&stream, &halves[1]);
    service.put_numbers(&stream, 80..120);
    live.wait_for(120);
    let quarters: Vec<String> = service.shards(&stream).split_off(4);
    service.merge(&stream, &halves[0], &quarters[0]);
    service.put_numbers(&stream, 120..160);
    live.wait_for(160);
    in_order(&live.stop(), 160);
    // All of it anew, parents before children.
    let table = collect(service.numbers(&stream));
    in_order(&table.batches().iter().flat_map(column).collect::<Vec<_>>(), 160);
}

/// Each of the numbers came once, and those of one key in order.
fn in_order(seen: &[i64], count: i64) {
    let mut sorted = seen.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..count).collect::<Vec<_>>());
    for key in 0..KEYS {
        let of_key: Vec<i64> = seen.iter().copied().filter(|number| number % KEYS == key).collect();
        assert!(of_key.is_sorted(), "key {key}: {of_key:?}");
    }
}

fn aggregated_records_are_taken_apart(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 1);
    service.write_aggregated(&stream, 0..50);
    let records = service.records(&stream, &service.shards(&stream)[0]);
    assert!(records.len() < 50, "{} records are not aggregated", records.len());
    let table = collect(service.numbers(&stream).metadata([Column::SubSequenceNumber]));
    assert_eq!(values(&table), (0..50).collect::<Vec<_>>());
    let subs: Vec<i64> = table.batches().iter().flat_map(|batch| batch.column(1).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(subs.iter().filter(|sub| **sub == 0).count(), records.len());
    // After a split what was aggregated before stays whole, and a sibling leaves what is not its own.
    let shards = service.shards(&stream);
    service.split(&stream, &shards[0]);
    let halves = service.shards(&stream).split_off(1);
    let again = |half: &str| {
        service.put_to(&stream, half, &records[0].1);
        values(&collect(service.numbers(&stream))).len() - 50
    };
    let first = subs[1..].iter().position(|sub| *sub == 0).map_or(50, |position| position + 1);
    let (one, both) = (again(&halves[0]), again(&halves[1]));
    assert!(0 < one && one < first, "{one} of {first} belong to the first half");
    assert_eq!(both, first, "and the rest to the other");
}

fn poisoned_records_go_to_quarantine(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 1);
    service.put_numbers(&stream, 0..2);
    service.put(&stream, ("k", 0), b"{\"a\": \"poison\"}");
    service.put_numbers(&stream, 2..4);
    let table = collect(service.numbers(&stream));
    assert_eq!((values(&table), table.metrics().quarantined_rows), (vec![0, 1, 2, 3], 1));
    let rejected = &table.quarantined()[0];
    let (sequence, _) = &service.records(&stream, &service.shards(&stream)[0])[2];
    assert_eq!(rejected.column(1).as_primitive::<UInt64Type>().values(), &[2]);
    assert_eq!(rejected.column(2).as_binary::<i32>().value(0), b"{\"a\": \"poison\"}");
    let error = rejected.column(3).as_string::<i32>().value(0);
    assert!(error.ends_with(&format!("(sequence number {sequence})")), "{error}");
}

fn trouble_passes_and_nothing_is_lost(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 1);
    service.put_numbers(&stream, 0..10);
    let way = double.another_way();
    let mut live = reading(way.at.numbers_of(&stream).set("max_attempts", "1"));
    live.wait_for(10);
    let throttled = Fault::Code(400, "ProvisionedThroughputExceededException");
    double.fail("GetRecords", [throttled, Fault::Code(400, "ExpiredIteratorException"), Fault::Code(500, "InternalFailure")]);
    double.fail("GetShardIterator", [Fault::Cut]);
    service.put_numbers(&stream, 10..20);
    live.wait_for(20);
    let asked = double.asked("GetShardIterator");
    assert!(asked >= 3, "an expired iterator is had anew: {asked}");
    // Nobody there for a while.
    way.cut(true);
    service.put_numbers(&stream, 20..30);
    let asked = double.asked("GetRecords");
    until("the service is missed", || double.asked("GetRecords") > asked);
    way.cut(false);
    live.wait_for(30);
    assert_eq!(live.stop(), (0..30).collect::<Vec<_>>());
}

fn what_cannot_be_read_is_said(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let error = failure(service.numbers("no-such-stream"));
    assert!(error.contains("cannot list the shards of stream `no-such-stream`: there is nothing of that name"), "{error}");
    assert!(error.ends_with("[connector, final]"), "{error}");
    let stream = service.stream(rig, 1);
    double.fail("ListShards", [Fault::Code(400, "AccessDeniedException")]);
    let error = failure(service.numbers(&stream));
    assert!(error.contains("the credentials do not allow it"), "{error}");
    double.fail("GetShardIterator", [Fault::Code(400, "UnrecognizedClientException")]);
    let error = failure(service.numbers(&stream));
    assert!(error.contains("cannot read shardId-000000000000") && error.contains("the credentials are not taken"), "{error}");
    let error = failure(service.numbers(&stream).set("endpoint_url", "http://127.0.0.1:1"));
    assert!(error.contains("cannot be reached") && error.ends_with("[connector, retriable]"), "{error}");
    for (name, value) in [("no_such", "1"), ("timeout", "soon"), ("endpoint_url", SECRET)] {
        let error = failure(service.numbers(&stream).set(name, value));
        assert!(error.contains(&format!("`{name}`")) && !error.contains(SECRET), "{error}");
    }
    let both = failure(service.numbers(&stream).application("app"));
    assert!(both.contains("leave `end` or `application` away"), "{both}");
    // The stream goes while it is read.
    let mut live = reading(service.numbers_of(&stream));
    service.put_numbers(&stream, 0..1);
    live.wait_for(1);
    service.ask("Kinesis_20131202.DeleteStream", &json!({"StreamName": stream}));
    let error = live.query.wait().unwrap_err().to_string();
    assert!(error.contains("there is nothing of that name"), "{error}");
}

fn enhanced_fan_out_pushes_records(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 1);
    service.put_numbers(&stream, 0..20);
    // A subscription that lasts five minutes at AWS lasts three events here.
    double.end_after(3);
    let read = || service.numbers_of(&stream).enhanced_fan_out("dashboard");
    let mut live = reading(read());
    live.wait_for(20);
    let shards = service.shards(&stream);
    service.split(&stream, &shards[0]);
    service.put_numbers(&stream, 20..60);
    live.wait_for(60);
    double.fail("SubscribeToShard", [Fault::Code(400, "ResourceInUseException"), Fault::Cut]);
    service.put_numbers(&stream, 60..80);
    live.wait_for(80);
    in_order(&live.stop(), 80);
    assert_eq!((double.asked("GetRecords"), double.asked("RegisterStreamConsumer")), (0, 1));
    assert!(double.subscriptions() > 3, "{} subscriptions", double.subscriptions());
    // The consumer is there already, and the read bounded.
    let table = collect(read().end(End::Latest));
    assert_eq!(values(&table), (0..80).collect::<Vec<_>>());
}

fn windows_fire_over_shards(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let stream = service.stream(rig, 3);
    service.put_numbers(&stream, 0..300);
    let rows = Stream::read_kinesis(service.numbers(&stream)).unwrap().event_time(event_time("a").unit(TimeUnit::Second));
    let counted = rows.window(tumbling(secs(100))).agg([count().alias("n")]).collect().unwrap();
    let counts: Vec<i64> = counted.batches().iter().flat_map(last_column).collect();
    assert_eq!(counts, [100, 100, 100]);
    let plan = Stream::read_kinesis(service.numbers(&stream)).unwrap().explain().unwrap();
    assert!(plan.contains(&format!("read_kinesis({stream}), {}", Format::Ndjson)), "{plan}");
    assert!(!plan.contains(SECRET), "{plan}");
}
