//! librdkafka's consumer, and what it says between records.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::settings::{Settings, not_made};
use super::token::{Tokens, unsecured};
use crate::error::{Error, Result};
use crate::time::SystemClock;

/// Waits for an answer of librdkafka, whose own thread wakes this one.
pub(super) fn now<T>(answer: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = task::Context::from_waker(&waker);
    let mut answer = pin!(answer);
    loop {
        match answer.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// The longest of several tries to reach a cluster.
const TRY: Duration = Duration::from_millis(500);

/// A consumer that the polling thread and the source share.
pub(super) type Consumer = Arc<BaseConsumer<Context>>;

/// Takes note of what librdkafka says, to be dealt with after the call of `poll` in which it says so.
#[derive(Default)]
pub(super) struct Context {
    /// Whether the consumer is being closed, so that nobody will deal with it.
    closing: AtomicBool,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// The last error of the client as a whole: a code and words.
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
    statistics: Mutex<Option<Statistics>>,
    /// Whether offsets were not committed that nobody waited for.
    uncommitted: AtomicBool,
    /// Why a record was not delivered, of the first such.
    undelivered: Mutex<Option<RDKafkaErrorCode>>,
    /// What makes tokens, if a function of the user's does.
    tokens: Option<Tokens>,
    /// Why the last token that was asked for could not be had.
    refused: Mutex<Option<Error>>,
}

/// What the group has decided.
pub(super) enum Rebalance {
    Assigned(TopicPartitionList),
    Revoked(TopicPartitionList),
}

impl Context {
    /// For a client of these settings.
    pub(super) fn new(settings: &Settings) -> Context {
        Context { tokens: settings.tokens().cloned(), ..Context::default() }
    }

    /// A consumer of its own.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if librdkafka does not take the settings.
    pub(super) fn consumer(config: &ClientConfig, settings: &Settings) -> Result<Consumer> {
        config.create_with_context(Context::new(settings)).map(Arc::new).map_err(not_made)
    }

    /// Lets the group go without asking anybody.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub(super) fn take_rebalance(&self) -> Option<Rebalance> {
        locked(&self.rebalances).pop_front()
    }

    pub(super) fn take_trouble(&self) -> Option<(RDKafkaErrorCode, String)> {
        locked(&self.trouble).take()
    }

    /// Whether offsets were not committed, since it was asked last, that nobody waited for.
    pub(super) fn take_uncommitted(&self) -> bool {
        self.uncommitted.swap(false, Relaxed)
    }

    /// Why a record was not delivered, if one was not.
    pub(super) fn undelivered(&self) -> Option<RDKafkaErrorCode> {
        *locked(&self.undelivered)
    }

    /// Why there is no new token, if trying again will not help.
    pub(super) fn take_refusal(&self) -> Option<Error> {
        locked(&self.refused).take_if(|error| !error.is_retriable())
    }

    pub(super) fn take_statistics(&self) -> Option<Statistics> {
        locked(&self.statistics).take()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives partitions back.
pub(super) fn unassign(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// More events than a client has to tell of in one wait for the cluster.
const MANY_EVENTS: usize = 64;

/// Waits until the cluster answers when it is asked for a topic, which need not be there. `poll` makes the client tell what it has to tell,
/// and ask for a token: a first one that cannot be had ends the wait.
///
/// # Errors
/// [`Kind::Connector`](crate::error::Kind::Connector) if it does not within `wait`, or will not let the client in.
pub(super) fn reach(client: &Client<Context>, poll: &dyn Fn(), topic: &str, wait: Duration, stopped: &dyn Fn() -> bool) -> Result<()> {
    let timer = SystemClock::shared();
    let until = timer.monotonic().saturating_add(wait.as_nanos() as u64);
    let mut why = None;
    while !stopped() {
        if client.context().tokens.is_some() {
            why = hear(client.context(), poll).or(why);
            if let Some(error) = locked(&client.context().refused).take() {
                return Err(error);
            }
        }
        let Err(error) = client.fetch_metadata(Some(topic), TRY) else { return Ok(()) };
        why = hear(client.context(), poll).or(why);
        let hopeless = why.as_ref().is_some_and(is_hopeless);
        if hopeless || timer.monotonic() >= until {
            let said = why.map_or_else(|| error.to_string(), |(_, reason)| reason);
            let advice = if hopeless { "check the credentials and certificates" } else { "is it running, and is the address right?" };
            return Err(Error::connector(format!("the cluster cannot be reached; {advice} ({said})")).retriable_if(!hopeless));
        }
    }
    Ok(())
}

/// What the client as a whole has to say, which comes by polling: the first that is hopeless, else the last.
fn hear(context: &Context, poll: &dyn Fn()) -> Option<(RDKafkaErrorCode, String)> {
    let mut heard = None;
    for _ in 0..MANY_EVENTS {
        poll();
        heard = context.take_trouble().or(heard);
        if heard.as_ref().is_some_and(is_hopeless) {
            break;
        }
    }
    heard
}

/// Whether a client will not be let in, however often it tries.
fn is_hopeless((code, _): &(RDKafkaErrorCode, String)) -> bool {
    matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL | RDKafkaErrorCode::UnsupportedSASLMechanism)
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn stats(&self, statistics: Statistics) {
        *locked(&self.statistics) = Some(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        if let Some(code) = error.rdkafka_error_code() {
            *locked(&self.trouble) = Some((code, reason.to_owned()));
        }
    }

    /// Makes a token when one is needed, by the thread that polls. librdkafka asks again ten seconds after an error.
    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        if self.closing.load(Relaxed) {
            return Err("the client is being closed".into());
        }
        match self.tokens.as_ref().map_or_else(|| Err(unsecured()), Tokens::make) {
            Ok(token) => {
                *locked(&self.refused) = None;
                Ok(token)
            }
            Err(error) => {
                let words = error.to_string();
                if self.tokens.is_some() {
                    tracing::warn!(%error, "there is no new token for Kafka");
                    *locked(&self.refused) = Some(error);
                }
                Err(words.into())
            }
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            locked(&self.undelivered).get_or_insert(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown));
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Relaxed) {
            if let (false, Err(error)) = (assigned, unassign(consumer, partitions)) {
                tracing::debug!(%error, "partitions cannot be given back");
            }
            return;
        }
        let partitions = partitions.clone();
        locked(&self.rebalances).push_back(if assigned { Rebalance::Assigned(partitions) } else { Rebalance::Revoked(partitions) });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets were not committed to Kafka; the next commit tries again");
            self.uncommitted.store(true, Relaxed);
        }
    }
}
