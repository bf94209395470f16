//! Who may read, and that secrets stay secret.

use thalweg::Stream;
use thalweg::connector::kafka::Kafka as Topics;

use crate::Test;
use crate::rig::{Rig, collect, failure, numbers, values};

pub const TESTS: &[Test] = &[("every_way_to_log_in_works_and_tells_nothing", every_way_to_log_in_works_and_tells_nothing)];

/// The password of `tests/services/kafka`.
const SECRET: &str = "wonderland";

fn set(topics: Topics, settings: &[(&str, &str)]) -> Topics {
    settings.iter().fold(topics, |topics, (name, value)| topics.set(*name, *value))
}

fn every_way_to_log_in_works_and_tells_nothing(rig: &Rig) {
    let topic = rig.topic(1);
    rig.send_numbers(&topic, 0, 0..3);
    let (ca, store) = (rig.kafka.address("ca"), rig.kafka.address("keystore"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let from_file = format!("file:{}", file.display());
    let sasl = |mechanism| [("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", mechanism), ("sasl.username", "alice")];
    let tls = [("security.protocol", "ssl"), ("ssl.ca.location", ca)];
    let oauth = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", "principal=alice"),
    ];
    let ways: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("sasl", [&sasl("PLAIN")[..], &[("sasl.password", SECRET)]].concat()),
        ("sasl", [&sasl("SCRAM-SHA-256")[..], &[("sasl.password", &from_file)]].concat()),
        ("sasl", [&sasl("SCRAM-SHA-512")[..], &[("sasl.password", SECRET)]].concat()),
        ("sasl", oauth.to_vec()),
        ("ssl", tls.to_vec()),
        ("mtls", [&tls[..], &[("ssl.keystore.location", store), ("ssl.keystore.password", SECRET)]].concat()),
    ];
    for (listener, settings) in ways {
        let topics = set(numbers(rig.kafka.address(listener), &topic), &settings).end(thalweg::connector::kafka::End::Latest);
        let shown = format!("{topics:?} {}", Stream::read_kafka(topics.clone()).unwrap().explain().unwrap());
        assert!(!shown.contains(SECRET), "{shown}");
        assert_eq!(values(&collect(topics)), [0, 1, 2], "{settings:?}");
    }
    let wrong = [&sasl("SCRAM-SHA-256")[..], &[("sasl.password", "hunter2")]].concat();
    let error = failure(set(numbers(rig.kafka.address("sasl"), &topic), &wrong));
    assert!(error.contains("the cluster cannot be reached; check the credentials") && error.ends_with("[connector, final]"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let stranger = failure(set(numbers(rig.kafka.address("ssl"), &topic), &[("security.protocol", "ssl")]));
    assert!(stranger.contains("check the credentials and certificates"), "{stranger}");
}
