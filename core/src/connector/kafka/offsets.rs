//! Offsets on their way from a read to the transactions of a sink.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::{Offset, TopicPartitionList};

use super::client::Consumer;
use super::positions::{Place, list};
use crate::connector::records::Pending;
use crate::error::{Error, Result};
use crate::source::{BeforeCommit, Committed};

/// Ties a read to a sink, so that the sink's transactions hold the offsets of what was read: give the same to
/// [`Kafka::offsets`](super::Kafka::offsets) and [`KafkaSink::offsets`](super::KafkaSink::offsets). Both are of one cluster and one query, and
/// tied to nothing else.
#[derive(Clone, Default)]
pub struct Offsets(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The member of the group; `None` until the query runs.
    consumer: Option<Consumer>,
    places: BTreeMap<u32, Place>,
    pending: Pending<i64>,
}

impl Offsets {
    /// A tie that nobody has yet.
    pub fn new() -> Offsets {
        Offsets::default()
    }

    /// A run begins.
    pub(super) fn begin(&self, consumer: &Consumer) {
        *self.lock() = State { consumer: Some(Arc::clone(consumer)), ..State::default() };
    }

    /// A partition is at `next` after records of the next delivery.
    pub(super) fn reach(&self, number: u32, place: &Place, next: i64) {
        let mut state = self.lock();
        state.places.entry(number).or_insert_with(|| place.clone());
        state.pending.reach(number, next);
    }

    /// A delivery is made.
    pub(super) fn deliver(&self) {
        self.lock().pending.deliver(Vec::new());
    }

    /// What the next transaction has to hold, with who commits it; `None` if there is nothing new.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if no query reads for this sink.
    pub(super) fn take(&self) -> Result<Option<(TopicPartitionList, ConsumerGroupMetadata)>> {
        let mut state = self.lock();
        let fresh = state.pending.take_fresh();
        let consumer = state.consumer.as_ref().ok_or_else(|| {
            Error::config("a sink of Kafka is to commit offsets, and nothing reads them; give the same `offsets` to the read")
        })?;
        let ready = state.pending.ready().filter(|(number, _)| fresh.contains(number));
        let places = ready.filter_map(|(number, next)| Some((state.places.get(&number)?, Offset::Offset(*next))));
        let list = list(places)?;
        if list.count() == 0 {
            return Ok(None);
        }
        let group = consumer.group_metadata();
        Ok(Some((list, group.ok_or_else(|| Error::connector("the consumer has no group whose offsets a transaction could hold"))?)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BeforeCommit for Offsets {
    fn committing(&self, committing: Committed) {
        if committing.finished {
            self.lock().pending.settle(committing.deliveries);
        }
    }
}

impl fmt::Debug for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offsets")
    }
}
