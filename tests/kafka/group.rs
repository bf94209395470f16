//! Consumer groups: who reads what, and what is committed when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use thalweg::connector::kafka::{Kafka as Topics, Start};
use thalweg::{Query, Stream, count, event_time, millis, tumbling};

use crate::Test;
use crate::rig::{Rig, collect, failure, numbers, reading, sorted, until, values};

pub const TESTS: &[Test] = &[
    ("a_group_goes_on_where_it_was", a_group_goes_on_where_it_was),
    ("members_share_partitions_and_hand_them_over", members_share_partitions_and_hand_them_over),
    ("a_slow_step_does_not_cost_the_membership", a_slow_step_does_not_cost_the_membership),
    ("steps_with_state_commit_at_the_end_alone", steps_with_state_commit_at_the_end_alone),
];

fn a_group_goes_on_where_it_was(rig: &Rig) {
    let (topic, group) = (rig.topic(2), rig.name("group"));
    let read = || values(&collect(rig.numbers(&topic).group(&group)));
    let error = failure(rig.numbers(&topic).group(&group).start(Start::Committed));
    assert!(error.contains(&format!("the group has committed nothing of {topic}[0]")), "{error}");
    rig.send_numbers(&topic, 0, 0..10);
    rig.send_numbers(&topic, 1, 10..15);
    assert_eq!(read(), (0..15).collect::<Vec<_>>());
    assert_eq!(rig.ask(&format!("committed {group}")), format!("{topic}[0]=10 {topic}[1]=5"));
    assert!(read().is_empty());
    rig.send_numbers(&topic, 1, 15..17);
    assert_eq!(values(&collect(rig.numbers(&topic).group(&group).start(Start::Committed))), [15, 16]);
    // With the source on a thread of its own likewise.
    rig.send_numbers(&topic, 0, 17..20);
    let mut config = thalweg::Config::default();
    config.source_thread = true;
    let table = Stream::read_kafka(rig.numbers(&topic).group(&group)).unwrap().batches(config).unwrap().into_table().unwrap();
    assert_eq!(values(&table), [17, 18, 19]);
    assert_eq!(rig.ask(&format!("committed {group}")), format!("{topic}[0]=13 {topic}[1]=7"));
}

fn members_share_partitions_and_hand_them_over(rig: &Rig) {
    let protocols: [&[(&str, &str)]; 4] = [
        &[("partition.assignment.strategy", "range")],
        &[("partition.assignment.strategy", "cooperative-sticky")],
        &[("group.protocol", "consumer")],
        &[("partition.assignment.strategy", "range"), ("group.instance.id", "me")],
    ];
    for settings in protocols {
        let (topic, group) = (rig.topic(4), rig.name("group"));
        let member = |number: usize| {
            let topics = settings.iter().fold(numbers(rig.bootstrap(), &topic).group(&group), |topics, (name, value)| {
                let own = if *name == "group.instance.id" { format!("{value}-{number}") } else { (*value).to_owned() };
                topics.set(*name, own)
            });
            reading(
                if settings[0].1 == "consumer" {
                    topics
                } else {
                    topics.set("heartbeat.interval.ms", "200").set("session.timeout.ms", "3000")
                },
                |_| {},
            )
        };
        let send = |from: i64| {
            (0..4).for_each(|partition| {
                rig.send_numbers(&topic, partition, from + 25 * i64::from(partition)..from + 25 * i64::from(partition) + 25)
            })
        };
        send(0);
        let mut first = member(1);
        first.wait_for(100);
        let mut second = member(2);
        until("both are members", || rig.ask(&format!("members {group}")) == "2");
        // Until the second has had its share.
        let mut sent = 100;
        until("the second has its share", || {
            send(sent);
            sent += 100;
            until("all have come", || first.look() + second.look() >= sent as usize);
            !second.seen.is_empty()
        });
        let mut all = sorted(first);
        // What the first had is the second's now.
        send(sent);
        sent += 100;
        second.wait_for(sent as usize - all.len());
        all.extend(sorted(second));
        all.sort_unstable();
        assert_eq!(all, (0..sent).collect::<Vec<_>>(), "every record once, whoever reads it: {settings:?}");
        let offset = sent / 4;
        let committed: Vec<String> = (0..4).map(|partition| format!("{topic}[{partition}]={offset}")).collect();
        assert_eq!(rig.ask(&format!("committed {group}")), committed.join(" "));
    }
}

fn a_slow_step_does_not_cost_the_membership(rig: &Rig) {
    let (topic, group) = (rig.topic(1), rig.name("group"));
    rig.send_numbers(&topic, 0, 0..60_000);
    let interval = Duration::from_secs(3);
    let topics = |interval: Duration| -> Topics {
        let millis = interval.as_millis().to_string();
        numbers(rig.bootstrap(), &topic)
            .group(&group)
            .set("session.timeout.ms", "2000")
            .set("heartbeat.interval.ms", "200")
            .set("max.poll.interval.ms", millis)
    };
    let (release, released) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (held, holding) = (Arc::clone(&release), Arc::clone(&released));
    let mut live = reading(topics(interval), move |_| {
        holding.store(true, SeqCst);
        while !held.load(SeqCst) {
            std::thread::yield_now();
        }
    });
    until("the first batch is in the sink", || released.load(SeqCst));
    let since = Instant::now();
    while since.elapsed() < interval * 2 {
        assert_eq!(rig.ask(&format!("members {group}")), "1", "after {:?}", since.elapsed());
    }
    release.store(true, SeqCst);
    live.wait_for(60_000);
    assert_eq!(sorted(live), (0..60_000).collect::<Vec<_>>(), "each once, though partitions were paused meanwhile");
}

fn steps_with_state_commit_at_the_end_alone(rig: &Rig) {
    let (topic, group) = (rig.topic(1), rig.name("group"));
    rig.send_numbers(&topic, 0, 0..10);
    let stream = Stream::read_kafka(numbers(rig.bootstrap(), &topic).group(&group)).unwrap();
    let windows = stream.event_time(event_time("a")).window(tumbling(millis(2))).agg([count().alias("n")]);
    let mut config = thalweg::Config::default();
    config.commit_every = millis(1);
    let mut query = Query::new().config(config).sink(&windows, thalweg::sink::Memory::default()).start().unwrap();
    until("rows have come", || query.metrics().rows_in == 10 && query.metrics().rows_out > 0);
    // Commits of the sink have come and gone by the time that the source is polled again.
    let batches = query.metrics().batches_in;
    rig.send_numbers(&topic, 0, 10..11);
    until("another batch has come", || query.metrics().batches_in > batches);
    assert_eq!(rig.kafka.ask(&format!("committed {group}")).unwrap_or_default(), "");
    query.stop();
    query.wait().unwrap();
    assert_eq!(rig.ask(&format!("committed {group}")), format!("{topic}[0]=11"));
}
