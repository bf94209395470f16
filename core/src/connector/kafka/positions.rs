//! Which partitions there are, and which offsets a read begins and ends at.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{Array, StringArray};
use arrow::compute::kernels::regexp::regexp_is_match_scalar;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use super::client::Context;
use super::settings::failed;
use super::{End, Start, Topics, name_of};
use crate::error::{Error, Result};

/// The longest that a cluster which has answered before is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// A partition, by its topic and number.
pub(super) type Place = (String, i32);

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<Place, i64>;

/// What a cluster is asked for.
pub(super) struct Cluster<'a> {
    pub(super) consumer: &'a BaseConsumer<Context>,
    pub(super) brokers: &'a str,
}

impl Cluster<'_> {
    /// The partitions of `topics` there are now.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if a topic or partition does not exist or may not be read.
    pub(super) fn partitions(&self, topics: &Topics) -> Result<Vec<Place>> {
        match topics {
            Topics::Named(names) => {
                let mut places = Vec::new();
                for name in names {
                    match name.starts_with('^') {
                        true => places.extend(self.matching(name)?),
                        false => places.extend(self.of_topic(name)?),
                    }
                }
                places.sort();
                places.dedup();
                Ok(places)
            }
            Topics::Partitions(wanted) => {
                for place in wanted {
                    let known = self.of_topic(&place.0)?;
                    if !known.contains(place) {
                        let (name, brokers, count) = (name_of(&place.0, place.1), self.brokers, known.len());
                        return Err(Error::connector(format!("there is no {name} at {brokers}: the topic has {count} partitions")));
                    }
                }
                Ok(wanted.clone())
            }
        }
    }

    /// The partitions of one topic.
    pub(super) fn of_topic(&self, topic: &str) -> Result<Vec<Place>> {
        let doing = || format!("cannot look for the topic `{topic}` at {}", self.brokers);
        let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER).map_err(|error| failed(doing(), error))?;
        let Some(found) = metadata.topics().first() else { return Err(self.no_topic(topic)) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(places(found).collect()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Err(self.no_topic(topic)),
            Some(code) => Err(Error::connector(format!("{}: {code}", doing())).retriable_if(super::settings::is_retriable(code))),
        }
    }

    fn no_topic(&self, topic: &str) -> Error {
        Error::connector(format!("there is no topic `{topic}` at {}; create it first, or correct the name", self.brokers))
    }

    fn matching(&self, pattern: &str) -> Result<Vec<Place>> {
        let doing = || format!("cannot list the topics at {}", self.brokers);
        let metadata = self.consumer.fetch_metadata(None, ANSWER).map_err(|error| failed(doing(), error))?;
        let topics: Vec<&MetadataTopic> = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")).collect();
        let names = StringArray::from_iter_values(topics.iter().map(|topic| topic.name()));
        let matches = regexp_is_match_scalar(&names, pattern, None)
            .map_err(|error| Error::config(format!("`{pattern}` is not a regular expression")).with_source(error))?;
        let matching = topics.iter().enumerate().filter(|(position, _)| !matches.is_null(*position) && matches.value(*position));
        Ok(matching.flat_map(|(_, topic)| places(topic)).collect())
    }

    /// Where to begin in `places`: where the group has committed, if it is one's name that the consumer has, else as `start` says.
    ///
    /// # Errors
    /// If the cluster does not answer or `start` does not say where.
    pub(super) fn starts(&self, places: &[Place], start: &Start, in_group: bool) -> Result<Offsets> {
        let mut known = if in_group { self.committed(places)? } else { Offsets::new() };
        let rest: Vec<Place> = places.iter().filter(|place| !known.contains_key(*place)).cloned().collect();
        let found = match start {
            Start::Earliest => self.offsets(&rest, Offset::Beginning)?,
            Start::Latest => self.offsets(&rest, Offset::End)?,
            Start::Timestamp(time) => self.at_time(&rest, *time)?,
            Start::Offsets(given) => of_given(&rest, given, "start")?,
            Start::Committed => match rest.first() {
                None => Offsets::new(),
                Some((topic, number)) => {
                    let name = name_of(topic, *number);
                    return Err(Error::connector(format!("the group has committed nothing of {name}; let `start` be somewhere else")));
                }
            },
        };
        known.extend(found);
        Ok(known)
    }

    /// Where to end in `places`.
    ///
    /// # Errors
    /// As [`Cluster::starts`].
    pub(super) fn ends(&self, places: &[Place], end: &End) -> Result<Offsets> {
        match end {
            End::Latest => self.offsets(places, Offset::End),
            End::Timestamp(time) => self.at_time(places, *time),
            End::Offsets(given) => of_given(places, given, "end"),
        }
    }

    /// The oldest offset there is, or the one behind the newest, of each.
    pub(super) fn offsets(&self, places: &[Place], which: Offset) -> Result<Offsets> {
        let found = self.look_up(places, which)?;
        let missing = places.iter().find(|place| !found.contains_key(*place));
        missing.map_or(Ok(()), |(topic, number)| {
            Err(Error::connector(format!("{} has no offsets at {}", name_of(topic, *number), self.brokers)))
        })?;
        Ok(found)
    }

    fn at_time(&self, places: &[Place], time: i64) -> Result<Offsets> {
        if time < 0 {
            return Err(Error::config(format!("{time} is no time of a record: it counts milliseconds from 1970 on")));
        }
        let mut found = self.look_up(places, Offset::Offset(time))?;
        let later: Vec<Place> = places.iter().filter(|place| !found.contains_key(*place)).cloned().collect();
        found.extend(self.offsets(&later, Offset::End)?);
        Ok(found)
    }

    /// The offsets that belong to a time or one of the two ends; of partitions that have none, none.
    fn look_up(&self, places: &[Place], at: Offset) -> Result<Offsets> {
        if places.is_empty() {
            return Ok(Offsets::new());
        }
        let doing = || format!("cannot look for offsets at {}", self.brokers);
        let asked = list(places.iter().map(|place| (place, at)))?;
        let told = self.consumer.offsets_for_times(asked, ANSWER).map_err(|error| failed(doing(), error))?;
        offsets_of(&told, &doing)
    }

    fn committed(&self, places: &[Place]) -> Result<Offsets> {
        if places.is_empty() {
            return Ok(Offsets::new());
        }
        let doing = || format!("cannot look for what the group has committed at {}", self.brokers);
        let asked = list(places.iter().map(|place| (place, Offset::Invalid)))?;
        let told = self.consumer.committed_offsets(asked, ANSWER).map_err(|error| failed(doing(), error))?;
        offsets_of(&told, &doing)
    }
}

fn places(topic: &MetadataTopic) -> impl Iterator<Item = Place> {
    topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id()))
}

fn offsets_of(told: &TopicPartitionList, doing: &dyn Fn() -> String) -> Result<Offsets> {
    let mut found = Offsets::new();
    for element in told.elements() {
        element.error().map_err(|error| failed(format!("{} of {}", doing(), name_of(element.topic(), element.partition())), error))?;
        if let Offset::Offset(offset) = element.offset() {
            found.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(found)
}

fn of_given(places: &[Place], given: &[(String, i32, i64)], what: &str) -> Result<Offsets> {
    let known: Offsets = given.iter().map(|(topic, number, offset)| ((topic.clone(), *number), *offset)).collect();
    places
        .iter()
        .map(|place| match known.get(place) {
            Some(offset) => Ok((place.clone(), *offset)),
            None => Err(Error::config(format!("`{what}` has no offset of {}; give one of every partition", name_of(&place.0, place.1)))),
        })
        .collect()
}

/// A list of partitions as librdkafka takes it.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if an offset is negative.
pub(super) fn list<'a>(places: impl Iterator<Item = (&'a Place, Offset)>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, number), offset) in places {
        let added = list.add_partition_offset(topic, *number, offset);
        added.map_err(|error| Error::config(format!("{} has no offset {offset:?}", name_of(topic, *number))).with_source(error))?;
    }
    Ok(list)
}
