//! Tokens that a function makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thalweg::connector::kafka::{End, Kafka as Topics, KafkaSink, Repartition, Token};
use thalweg::{Error, Query, Result, Stream};

use crate::Test;
use crate::rig::{Rig, collect, failure, numbers, reading, sorted, until, values};

pub const TESTS: &[Test] = &[
    ("tokens_of_a_function_let_everything_in", tokens_of_a_function_let_everything_in),
    ("a_token_is_asked_for_again_before_it_expires", a_token_is_asked_for_again_before_it_expires),
    ("a_sink_asks_for_tokens_as_well", a_sink_asks_for_tokens_as_well),
    ("a_function_that_makes_no_token_says_why", a_function_that_makes_no_token_says_why),
];

/// Milliseconds since the Unix epoch.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A token without a signature (RFC 7519, section 6), as the broker takes it, that is good for so long. It takes no fractions of a second, but
/// for the life that the client knows of.
fn token(life: Duration) -> Token {
    let expires_at = now() + life.as_millis() as i64;
    let claims = format!(r#"{{"sub":"alice","iat":{},"exp":{}}}"#, now() / 1000 - 1, expires_at / 1000 + 1);
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    Token::new(format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(&claims)), expires_at).principal("alice")
}

fn minute() -> Result<Token> {
    Ok(token(Duration::from_secs(60)))
}

fn over_sasl(topics: Topics, make: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Topics {
    topics.set("security.protocol", "sasl_plaintext").oauth_token(make)
}

fn tokens_of_a_function_let_everything_in(rig: &Rig) {
    let (topic, sasl) = (rig.topic(3), rig.kafka.address("sasl"));
    let by_number = Repartition::new(sasl, &topic, ["a"]).set("security.protocol", "sasl_plaintext").oauth_token(minute);
    let absent = Repartition::new(sasl, rig.name("absent"), ["a"]).set("security.protocol", "sasl_plaintext").oauth_token(minute);
    by_number.clone().partitions(3).create().unwrap();
    let error = by_number.partitions(4).create().unwrap_err().to_string();
    assert!(error.contains("has 3 partitions, not 4"), "{error}");
    let error = absent.create().unwrap_err().to_string();
    assert!(error.contains("there is no topic `absent-") && error.contains("make it with 12 partitions"), "{error}");
    rig.send_numbers(&topic, 0, 0..3);
    for group in [None, Some(rig.name("group"))] {
        let topics = over_sasl(numbers(sasl, &topic), minute).end(End::Latest);
        assert_eq!(values(&collect(group.map_or(topics.clone(), |group| topics.group(group)))), [0, 1, 2]);
    }
}

fn a_token_is_asked_for_again_before_it_expires(rig: &Rig) {
    let topic = rig.topic(1);
    rig.send_numbers(&topic, 0, 0..3);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // The second cannot be had, for a reason that may pass; the third is asked for ten seconds later.
    let make = move || match count.fetch_add(1, SeqCst) {
        0 => Ok(token(Duration::from_secs(2))),
        1 => Err(Error::connector("the provider is asleep").retriable_if(true)),
        _ => minute(),
    };
    let mut live = reading(over_sasl(numbers(rig.kafka.address("sasl"), &topic), make).group(rig.name("group")), |_| {});
    live.wait_for(3);
    until("a token is asked for again", || asked.load(SeqCst) >= 3);
    rig.send_numbers(&topic, 0, 3..5);
    live.wait_for(5);
    assert_eq!(sorted(live), [0, 1, 2, 3, 4]);
    let asked = Arc::new(AtomicUsize::new(0));
    let make = move || match asked.fetch_add(1, SeqCst) {
        0 => Ok(token(Duration::from_secs(2))),
        _ => Err(Error::connector("the secret was changed")),
    };
    let mut live = reading(over_sasl(numbers(rig.kafka.address("sasl"), &topic), make), |_| {});
    live.wait_for(5);
    let error = live.query.wait().unwrap_err();
    assert!(error.to_string().contains("no token could be made: the secret was changed"), "{error}");
    assert!(!error.is_retriable());
}

fn a_sink_asks_for_tokens_as_well(rig: &Rig) {
    let (from, to) = (rig.topic(1), rig.topic(1));
    rig.send_numbers(&from, 0, 0..3);
    let sink = |make: fn() -> Result<Token>| {
        KafkaSink::new(rig.kafka.address("sasl"), &to)
            .set("security.protocol", "sasl_plaintext")
            .transactional_id(rig.name("writer"))
            .oauth_token(make)
    };
    let read = Stream::read_kafka(rig.numbers(&from)).unwrap();
    Query::new().sink(&read, sink(minute)).start().unwrap().wait().unwrap();
    assert_eq!(values(&collect(rig.numbers(&to))), [0, 1, 2]);
    let refused = Query::new().sink(&read, sink(|| Err(Error::connector("the provider is asleep")))).start();
    let error = refused.and_then(|mut query| query.wait()).unwrap_err();
    assert!(error.to_string().contains("no token could be made: the provider is asleep"), "{error}");
}

fn a_function_that_makes_no_token_says_why(rig: &Rig) {
    const SECRET: &str = "hunter2";
    let topic = rig.topic(1);
    let fails = |make: fn() -> Result<Token>| {
        let topics = over_sasl(numbers(rig.kafka.address("sasl"), &topic), make);
        let shown = format!("{topics:?} {}", Stream::read_kafka(topics.clone()).unwrap().explain().unwrap());
        let error = failure(topics);
        assert!(!shown.contains(SECRET) && !error.contains(SECRET), "{shown} {error}");
        error
    };
    let asleep = fails(|| Err(Error::connector("the provider is asleep").retriable_if(true)));
    assert!(asleep.ends_with("no token could be made: the provider is asleep [connector, retriable]"), "{asleep}");
    let panicked = fails(|| panic!("{SECRET}"));
    assert!(panicked.ends_with("no token could be made: the function panicked [connector, final]"), "{panicked}");
    let expired = fails(|| Ok(Token::new(SECRET, 1_000)));
    assert!(expired.contains("cannot be used: it has expired") && expired.ends_with("[connector, final]"), "{expired}");
    let line = fails(|| Ok(Token::new(format!("{SECRET}\n"), i64::MAX)));
    assert!(line.contains("such as a line end"), "{line}");
    let wrong = fails(|| Ok(Token::new(SECRET, now() + 60_000)));
    assert!(wrong.contains("check the credentials") && wrong.ends_with("[connector, final]"), "{wrong}");
}
