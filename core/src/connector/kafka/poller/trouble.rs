//! What goes wrong while reading: what librdkafka mends itself, and what ends the run.

use std::collections::BTreeSet;

use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::super::event::Event;
use super::super::positions::Place;
use super::super::settings::failed;
use super::super::{End, OutOfRange, Topics, name_of};
use super::Poller;
use crate::error::{Error, Result};

impl Poller {
    /// Deals with what librdkafka reports: what it can mend itself is said once.
    pub(super) fn trouble(&mut self, error: KafkaError) -> Result<()> {
        let why = self.consumer.context().take_trouble().map_or_else(|| error.to_string(), |(_, reason)| reason);
        match error {
            KafkaError::PartitionEOF(partition) => {
                // Offsets that were named may be of records to come.
                let is_end = !matches!(self.reading.end, Some(End::Offsets(_)));
                if let Some(number) = self.partitions.alone(partition).filter(|_| is_end) {
                    self.end(number);
                }
                Ok(())
            }
            KafkaError::MessageConsumptionFatal(code) => Err(Error::connector(format!("reading has ended for good: {code}: {why}"))),
            KafkaError::MessageConsumption(code) => self.trouble_of(code, &why),
            other => Err(failed("reading has failed", other)),
        }
    }

    fn trouble_of(&mut self, code: Code, why: &str) -> Result<()> {
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => return self.out_of_range(why),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                return Err(Error::connector(format!("this user may not read: {why}; have it allowed (ACL)")));
            }
            Code::InconsistentGroupProtocol | Code::InvalidGroupId | Code::InvalidSessionTimeout | Code::UnsupportedVersion => {
                return Err(Error::connector(format!("the group does not take this consumer: {why}; check the group's settings")));
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => self.look_for_topics()?,
            _ => {}
        }
        if self.said != Some(code) {
            self.said = Some(code);
            tracing::warn!(brokers = self.brokers, %code, "Kafka: {why}; librdkafka goes on trying");
        }
        Ok(())
    }

    /// Whether all topics that are read still exist.
    fn look_for_topics(&self) -> Result<()> {
        let mut topics: BTreeSet<String> = self.partitions.places().into_iter().map(|(topic, _)| topic).collect();
        if let Topics::Named(named) = &self.reading.topics {
            topics.extend(named.iter().filter(|name| !name.starts_with('^')).cloned());
        }
        for topic in topics {
            match self.cluster().of_topic(&topic) {
                Err(error) if !error.is_retriable() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Does as was asked with partitions whose next offset the broker does not have.
    fn out_of_range(&mut self, why: &str) -> Result<()> {
        let places = self.partitions.places();
        let (oldest, newest) = (self.cluster().offsets(&places, Offset::Beginning)?, self.cluster().offsets(&places, Offset::End)?);
        let mut moved = Vec::new();
        for (number, next, low, high) in self.partitions.out_of_range(&oldest, &newest) {
            let place = self.partitions.get(number).place.clone();
            let name = name_of(&place.0, place.1);
            let to = match self.reading.on_out_of_range {
                OutOfRange::Error => {
                    return Err(Error::connector(format!(
                        "{name} has no offset {next}, it has {low} to {high}: what was to be read next was deleted. Go on with the oldest record \
                         (on_out_of_range earliest), behind the newest (latest), or commit another offset to the group and start again ({why})"
                    )));
                }
                OutOfRange::Earliest => low,
                OutOfRange::Latest => high,
            };
            let skipped = u64::try_from(to - next).unwrap_or(0);
            tracing::warn!(
                partition = name,
                next,
                to,
                skipped,
                "the offset to be read next is gone; reading goes on elsewhere, as was asked for"
            );
            self.partitions.get(number).next = to;
            self.outbox.push_back(Event::Skipped(skipped));
            moved.push((place, Offset::Offset(to)));
        }
        if moved.is_empty() {
            // Whichever it was, librdkafka reads it no more: all are begun again where they are.
            moved.extend(self.partitions.open_ones().map(|(_, each)| (each.place.clone(), Offset::Offset(each.next))));
        }
        self.reassign(&moved).map_err(|error| failed("cannot go on at another offset", error))
    }

    /// Reads partitions on elsewhere. librdkafka has given them up, so that it can seek no more.
    fn reassign(&mut self, moved: &[(Place, Offset)]) -> KafkaResult<()> {
        let of = |places: &[(Place, Offset)]| {
            let mut list = TopicPartitionList::new();
            places.iter().try_for_each(|((topic, number), offset)| list.add_partition_offset(topic, *number, *offset)).map(|()| list)
        };
        if matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Eager) {
            let all: Vec<_> = self.partitions.open_ones().map(|(_, each)| (each.place.clone(), Offset::Offset(each.next))).collect();
            return self.consumer.assign(&of(&all)?);
        }
        self.consumer.incremental_unassign(&of(moved)?)?;
        self.consumer.incremental_assign(&of(moved)?)
    }
}
