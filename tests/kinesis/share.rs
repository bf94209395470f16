//! Applications: checkpoints, and programs that share shards out among themselves.

use serde_json::json;
use thalweg::connector::kinesis::{Column, Kinesis, OnExpired};
use thalweg::{Query, Stream, count, event_time, millis, secs, tumbling};

use crate::Test;
use crate::live::{At, failure_of, last_column, reading, until};
use crate::rig::Rig;

pub const TESTS: &[Test] = &[
    ("a_program_goes_on_where_the_last_one_stopped", a_program_goes_on_where_the_last_one_stopped),
    ("steps_with_state_commit_at_their_end", steps_with_state_commit_at_their_end),
    ("programs_share_shards_out", programs_share_shards_out),
    ("the_shards_of_a_program_that_is_gone_are_taken_over", the_shards_of_a_program_that_is_gone_are_taken_over),
    ("a_shard_that_splits_is_handed_on_with_its_checkpoint", a_shard_that_splits_is_handed_on_with_its_checkpoint),
    ("records_that_have_gone_are_not_passed_over_in_silence", records_that_have_gone_are_not_passed_over_in_silence),
];

impl At {
    /// A row of the lease table, as DynamoDB has it.
    fn lease(&self, application: &str, shard: &str) -> serde_json::Value {
        let key = json!({"TableName": application, "Key": {"leaseKey": {"S": shard}}});
        self.ask("DynamoDB_20120810.GetItem", &key)["Item"].clone()
    }

    fn shared(&self, stream: &str, application: &str) -> Kinesis {
        self.numbers_of(stream).application(application).failover(secs(2))
    }
}

fn a_program_goes_on_where_the_last_one_stopped(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 2), rig.name("app"));
    let read = || service.shared(&stream, &application);
    service.put_numbers(&stream, 0..50);
    let mut live = reading(read());
    live.wait_for(50);
    assert_eq!(sorted(live.stop()), (0..50).collect::<Vec<_>>());
    // What Amazon's library would find.
    for shard in service.shards(&stream) {
        let lease = service.lease(&application, &shard);
        let (last, _) = service.records(&stream, &shard).pop().unwrap();
        assert_eq!(lease["checkpoint"]["S"], json!(last), "{lease}");
        assert_eq!((&lease["checkpointSubSequenceNumber"]["N"], &lease["ownerSwitchesSinceCheckpoint"]["N"]), (&json!("0"), &json!("0")));
        assert!(lease["leaseOwner"].is_null() && lease["startingHashKey"]["S"].is_string(), "{lease}");
    }
    service.write_aggregated(&stream, 50..80);
    let mut live = reading(read());
    live.wait_for(30);
    assert_eq!(sorted(live.stop()), (50..80).collect::<Vec<_>>());
    // Nothing new, and no word of the old.
    let mut live = reading(read());
    service.put_numbers(&stream, 80..81);
    live.wait_for(1);
    assert_eq!(live.stop(), [80]);
}

fn steps_with_state_commit_at_their_end(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 1), rig.name("app"));
    service.put_numbers(&stream, 0..10);
    let rows = Stream::read_kinesis(service.shared(&stream, &application)).unwrap();
    let rows = rows.event_time(event_time("a").unit(arrow::datatypes::TimeUnit::Second));
    let counted = rows.window(tumbling(secs(1_000_000))).agg([count().alias("n")]);
    let (sender, arrived) = std::sync::mpsc::channel();
    let sink = thalweg::sink::Callback::new(move |batch: &arrow::array::RecordBatch| {
        let _ = sender.send(batch.clone());
        Ok(())
    });
    let mut config = thalweg::Config::default();
    config.commit_every = millis(50);
    let mut query = Query::new().config(config).sink(&counted, sink).start().unwrap();
    until("the rows are read", || query.metrics().rows_in == 10);
    let shard = service.shards(&stream).remove(0);
    until("the lease is renewed", || service.lease(&application, &shard)["leaseCounter"]["N"].as_str().is_some_and(|text| text != "1"));
    assert_eq!(service.lease(&application, &shard)["checkpoint"]["S"], json!("TRIM_HORIZON"));
    query.stop();
    query.wait().unwrap();
    let batch = arrived.try_iter().last().unwrap();
    assert_eq!(last_column(&batch), [10]);
    assert_eq!(service.lease(&application, &shard)["checkpoint"]["S"], json!(service.records(&stream, &shard)[9].0));
}

fn programs_share_shards_out(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 4), rig.name("app"));
    let read = || service.shared(&stream, &application).metadata([Column::Shard]);
    let mut one = reading(read());
    service.put_numbers(&stream, 0..80);
    one.wait_for(80);
    let mut two = reading(read());
    let owners = || {
        let owner = |shard: &String| service.lease(&application, shard)["leaseOwner"]["S"].as_str().unwrap_or_default().to_owned();
        let mut owners: Vec<String> = service.shards(&stream).iter().map(owner).collect();
        owners.sort();
        owners
    };
    until("each has two", || {
        let owners = owners();
        owners[0] == owners[1] && owners[2] == owners[3] && owners[1] != owners[2] && !owners[0].is_empty()
    });
    service.put_numbers(&stream, 80..400);
    until("all of it is read", || {
        let mut all = [one.seen.as_slice(), two.seen.as_slice()].concat();
        all.sort_unstable();
        all.dedup();
        (one.look(), two.look(), all.len()).2 == 400
    });
    assert!(two.look() > 0);
    // One that stops gives its shards up at once.
    one.stop();
    let before = two.look();
    service.put_numbers(&stream, 400..480);
    two.wait_for(before + 80);
    let seen = two.stop();
    assert!((400..480).all(|number| seen.contains(&number)));
}

fn the_shards_of_a_program_that_is_gone_are_taken_over(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 2), rig.name("app"));
    let way = double.another_way();
    let mut one = reading(way.at.shared(&stream, &application).set("max_attempts", "1"));
    service.put_numbers(&stream, 0..40);
    one.wait_for(40);
    // It can neither read nor renew any more, which from outside is as good as dead.
    way.cut(true);
    service.put_numbers(&stream, 40..80);
    let mut two = reading(service.shared(&stream, &application));
    until("the new one has the rest", || {
        two.look();
        (40..80).all(|number| two.seen.contains(&number))
    });
    // Back again, it takes what is its share, and what it says of the past is refused.
    way.cut(false);
    service.put_numbers(&stream, 80..120);
    until("both have all", || {
        one.look();
        two.look();
        (80..120).all(|number| one.seen.contains(&number) || two.seen.contains(&number))
    });
    let owner = |shard: &String| service.lease(&application, shard)["leaseOwner"]["S"].as_str().unwrap_or_default().to_owned();
    until("each has one", || {
        let owners: Vec<String> = service.shards(&stream).iter().map(owner).collect();
        owners[0] != owners[1] && !owners[0].is_empty() && !owners[1].is_empty()
    });
    one.stop();
    two.stop();
}

fn a_shard_that_splits_is_handed_on_with_its_checkpoint(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 1), rig.name("app"));
    let mut live = reading(service.shared(&stream, &application));
    service.put_numbers(&stream, 0..20);
    live.wait_for(20);
    let parent = service.shards(&stream).remove(0);
    service.split(&stream, &parent);
    service.put_numbers(&stream, 20..60);
    live.wait_for(60);
    until("the end of the parent is known", || service.lease(&application, &parent)["checkpoint"]["S"] == json!("SHARD_END"));
    let lease = service.lease(&application, &parent);
    let children: Vec<String> = service.shards(&stream).split_off(1);
    let mut told: Vec<&str> = lease["childShardIds"]["SS"].as_array().unwrap().iter().filter_map(serde_json::Value::as_str).collect();
    told.sort_unstable();
    assert_eq!(told, children);
    assert_eq!(service.lease(&application, &children[0])["parentShardId"]["SS"], json!([parent]));
    assert_eq!(sorted(live.stop()), (0..60).collect::<Vec<_>>());
    // Another begins behind all that.
    let mut live = reading(service.shared(&stream, &application));
    service.put_numbers(&stream, 60..80);
    live.wait_for(20);
    assert_eq!(sorted(live.stop()), (60..80).collect::<Vec<_>>());
}

fn records_that_have_gone_are_not_passed_over_in_silence(rig: &Rig) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 1), rig.name("app"));
    // The first sequence number is that of another stream's record, so that this one cannot have it.
    service.put_numbers(&service.stream(rig, 1), 0..1);
    service.put_numbers(&stream, 0..10);
    let mut live = reading(service.shared(&stream, &application));
    live.wait_for(10);
    live.stop();
    // A checkpoint of a record that the stream does not have any more.
    let shard = service.shards(&stream).remove(0);
    let update = json!({
        "TableName": application, "Key": {"leaseKey": {"S": shard}}, "UpdateExpression": "SET checkpoint = :c",
        "ExpressionAttributeValues": {":c": {"S": "1"}},
    });
    service.ask("DynamoDB_20120810.UpdateItem", &update);
    let error = failure_of(service.shared(&stream, &application));
    assert!(error.contains(&format!("records of {shard} of stream `{stream}` have gone before they were read")), "{error}");
    assert!(error.contains("`on_expired`"), "{error}");
    let mut live = reading(service.shared(&stream, &application).on_expired(OnExpired::TrimHorizon));
    live.wait_for(10);
    assert_eq!(live.query.metrics().gaps, 1);
    assert_eq!(live.stop(), (0..10).collect::<Vec<_>>());
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}
