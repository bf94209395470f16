//! Settings of librdkafka under its own names, and what becomes of its errors.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::token::{self, Token, Tokens};
use crate::config::given;
use crate::error::{Error, Kind, Result};

/// Settings that have a method of their own here, or on which promises rest.
const OURS: &[(&str, &str)] = &[
    ("auto.offset.reset", "`start` and `on_out_of_range`"),
    ("bootstrap.servers", "the first argument"),
    ("enable.auto.commit", "nothing: offsets are committed when the results are"),
    ("enable.auto.offset.store", "nothing: offsets are committed when the results are"),
    ("enable.partition.eof", "`end`"),
    ("group.id", "`group`"),
    ("log_level", "the level of your own logs, where librdkafka's come as `debug`"),
    ("metadata.broker.list", "the first argument"),
    ("transactional.id", "`transactional_id`"),
];

/// Where a cluster is and how to talk to it. What values hold is never shown, as any may be a secret.
#[derive(Clone, Default)]
pub(super) struct Settings {
    brokers: String,
    values: BTreeMap<String, String>,
    tokens: Option<Tokens>,
}

impl Settings {
    pub(super) fn new(brokers: impl Into<String>) -> Settings {
        Settings { brokers: brokers.into(), ..Settings::default() }
    }

    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// Lets a function make the tokens that the brokers ask for.
    pub(super) fn oauth_token(&mut self, make: impl Fn() -> Result<Token> + Send + Sync + 'static) {
        self.tokens = Some(Tokens::new(make));
    }

    pub(super) fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A setting in milliseconds, if it is set to a number.
    pub(super) fn millis(&self, name: &str, default: Duration) -> Duration {
        self.values.get(name).and_then(|value| value.parse().ok()).map_or(default, Duration::from_millis)
    }

    /// All of them for a client, behind `defaults` and before `fixed`, with secrets looked up.
    ///
    /// # Errors
    /// [`Kind::Config`] if a setting is not for users or its secret cannot be had.
    pub(super) fn client(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.values {
            if let Some((_, instead)) = OURS.iter().find(|(ours, _)| ours == name) {
                return Err(Error::config(format!("`{name}` is not set by hand; use {instead}")));
            }
            if let Some(error) = token::fetches(name) {
                return Err(error);
            }
            config.set(name, given(value).map_err(|error| error.context(format!("Kafka's setting `{name}`")))?);
        }
        token::fit(&mut config, self.tokens())?;
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        Ok(config)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("brokers", &self.brokers).field("names", &self.values.keys()).finish()
    }
}

/// Why a client could not be made. What librdkafka says of a setting holds its value, so only the name is passed on.
pub(super) fn not_made(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, name, _) if description.starts_with("No such") => {
            Error::config(format!("Kafka has no setting `{name}`; librdkafka's CONFIGURATION.md lists them"))
        }
        KafkaError::ClientConfig(_, _, name, _) => {
            Error::config(format!("Kafka's setting `{name}` has a value that librdkafka does not take; see its CONFIGURATION.md"))
        }
        KafkaError::ClientCreation(why) => Error::config(format!("Kafka's settings do not fit together: {why}")),
        error => Error::config("a Kafka client cannot be made").with_source(error),
    }
}

/// An error of a call to the cluster: what was being done, and whether another try may help.
pub(super) fn failed(doing: impl Into<String>, error: KafkaError) -> Error {
    let retriable = error.rdkafka_error_code().is_some_and(is_retriable);
    Error::new(Kind::Connector, doing).with_source(error).retriable_if(retriable)
}

/// Whether the cause may go away by itself.
pub(super) fn is_retriable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::AssignmentLost
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::ConcurrentTransactions
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::IllegalGeneration
            | Code::LeaderNotAvailable
            | Code::MessageTimedOut
            | Code::NetworkException
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotLeaderForPartition
            | Code::OperationTimedOut
            | Code::RebalanceInProgress
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::Retry
            | Code::TimedOutQueue
            | Code::UnknownMemberId
            | Code::WaitingForCoordinator
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    fn made(name: &str, value: &str) -> Result<BaseConsumer> {
        let mut settings = Settings::new("127.0.0.1:1");
        settings.set(name, value);
        settings.client(&[], &[("group.id", "g")])?.create().map_err(not_made)
    }

    #[test]
    fn a_setting_that_is_wrong_is_named_and_its_value_is_not() {
        for (name, value, says) in [
            ("no.such.setting", "hunter2", "Kafka has no setting `no.such.setting`"),
            ("security.protocol", "hunter2", "Kafka's setting `security.protocol` has a value that librdkafka does not take"),
            ("fetch.wait.max.ms", "hunter2", "Kafka's setting `fetch.wait.max.ms` has a value"),
            ("group.id", "hunter2", "`group.id` is not set by hand; use `group`"),
            ("sasl.oauthbearer.method", "oidc", "tokens are not fetched by settings (OIDC) here; give a function that does"),
            ("sasl.oauthbearer.client.secret", "hunter2", "Kafka's setting `sasl.oauthbearer.client.secret`: tokens are not fetched"),
            ("sasl.password", "env:THALWEG_NO_SUCH_VARIABLE", "`THALWEG_NO_SUCH_VARIABLE`"),
            ("sasl.password", "file:/no/such/file", "/no/such/file"),
        ] {
            let error = made(name, value).err().unwrap();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().contains(says), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(made("client.id", "checkout").is_ok());
    }

    #[test]
    fn values_are_never_shown() {
        let mut settings = Settings::new("b:9092");
        settings.set("sasl.password", "hunter2");
        assert_eq!(format!("{settings:?}"), r#"Settings { brokers: "b:9092", names: ["sasl.password"] }"#);
    }
}
