//! The thread that polls: it never waits for the pipeline, so that the group does not take the consumer for dead.

mod trouble;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::assignment::Partitions;
use super::client::{Consumer, Rebalance, reach, unassign};
use super::event::Event;
use super::extras::Extras;
use super::positions::{ANSWER, Cluster, Offsets, Place, list};
use super::settings::{Settings, failed};
use super::{End, OutOfRange, Start, Topics};
use crate::connector::records::{Chunk, Layout, Shared};
use crate::error::Result;
use crate::ring::{Producer, Refused};
use crate::time::{SharedClock, SystemClock};

/// The longest wait for records before another look at everything else.
const IDLE: Duration = Duration::from_millis(50);
/// How long a full ring is waited for before partitions are paused, at most: pausing throws away what was fetched ahead.
const PATIENCE: Duration = Duration::from_millis(500);
/// The name under which records are read where no group is named; nothing is committed to it.
const NO_GROUP: &str = "thalweg";

/// What is read, from where to where.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) topics: Topics,
    pub(super) group: Option<String>,
    pub(super) start: Start,
    pub(super) end: Option<End>,
    pub(super) on_out_of_range: OutOfRange,
}

impl Reading {
    /// Whether the source is a member of its group, which then deals out partitions.
    fn is_member(&self) -> bool {
        self.group.is_some() && self.end.is_none() && matches!(self.topics, Topics::Named(_))
    }

    /// The settings of the consumer.
    ///
    /// # Errors
    /// As [`Settings::client`].
    pub(super) fn settings(&self, settings: &Settings) -> Result<ClientConfig> {
        let fixed = [
            ("group.id", self.group.as_deref().unwrap_or(NO_GROUP)),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", if self.end.is_some() { "true" } else { "false" }),
        ];
        // A second, which is librdkafka's own, is many times what a full queue lasts: reading a backlog would mostly wait.
        let defaults = [("client.id", "thalweg"), ("statistics.interval.ms", "1000"), ("fetch.queue.backoff.ms", "10")];
        settings.client(&defaults, &fixed)
    }
}

/// The state of the polling thread.
pub(super) struct Poller {
    consumer: Consumer,
    reading: Reading,
    brokers: String,
    limits: Limits,
    layout: Layout,
    with_extras: bool,
    shared: Arc<Shared>,
    ring: Producer<Event>,
    /// Events for which the ring has no room yet.
    outbox: VecDeque<Event>,
    chunk: Chunk,
    extras: Extras,
    partitions: Partitions,
    /// Partitions that librdkafka has fetched to their ends. It says so in statistics, which overtake records: they are at an end when
    /// nothing is queued any more. Its count of what is queued is older than what it says of fetches, so that is not to be gone by.
    fetched: BTreeSet<u32>,
    /// Partitions that the pipeline wants paused.
    asked: BTreeSet<u32>,
    /// Whether all are paused because the ring is full.
    throttled: bool,
    /// Rebalances that could not be dealt with, as the cluster did not answer.
    rebalances: VecDeque<Rebalance>,
    revocations: u64,
    /// What was warned of last, until records come again.
    said: Option<Code>,
    /// When new partitions are looked for again, in `timer`'s nanoseconds.
    refresh_at: u64,
    /// The pipeline's clock, for when records came.
    clock: SharedClock,
    /// The clock that the cluster goes by.
    timer: SharedClock,
}

/// Times that settings decide.
struct Limits {
    /// How long the cluster has to answer at first.
    connect: Duration,
    /// How long a hand-over may take.
    hand_over: Duration,
    /// How long a full ring is waited for.
    patience: Duration,
    /// How often new partitions are looked for; `None` for never.
    refresh: Option<Duration>,
}

impl Limits {
    fn new(settings: &Settings) -> Limits {
        let poll = settings.millis("max.poll.interval.ms", Duration::from_secs(300));
        // Minus one, which is no number here, is librdkafka's word for never.
        let never = settings.get("topic.metadata.refresh.interval.ms") == Some("-1");
        let refresh = settings.millis("topic.metadata.refresh.interval.ms", Duration::from_secs(300));
        Limits {
            connect: settings.millis("socket.timeout.ms", ANSWER),
            hand_over: poll / 2,
            patience: PATIENCE.min(poll / 4),
            refresh: (!never).then_some(refresh),
        }
    }
}

/// What the polling thread needs beside what is read.
pub(super) struct Setting {
    pub(super) consumer: Consumer,
    pub(super) layout: Layout,
    pub(super) with_extras: bool,
    pub(super) shared: Arc<Shared>,
    pub(super) ring: Producer<Event>,
    pub(super) clock: SharedClock,
}

impl Poller {
    pub(super) fn new(setting: Setting, reading: Reading, settings: &Settings) -> Poller {
        Poller {
            consumer: setting.consumer,
            reading,
            brokers: settings.brokers().to_owned(),
            limits: Limits::new(settings),
            layout: setting.layout,
            with_extras: setting.with_extras,
            shared: setting.shared,
            ring: setting.ring,
            outbox: VecDeque::new(),
            chunk: Chunk::default(),
            extras: Extras::default(),
            partitions: Partitions::default(),
            fetched: BTreeSet::new(),
            asked: BTreeSet::new(),
            throttled: false,
            rebalances: VecDeque::new(),
            revocations: 0,
            said: None,
            refresh_at: 0,
            clock: setting.clock,
            timer: SystemClock::shared(),
        }
    }

    /// Reads until there is no more, something breaks or the source is gone.
    pub(super) fn run(mut self) {
        let last = match self.read() {
            Ok(()) => Event::End,
            Err(error) => Event::Failed(error.context(format!("Kafka at {}", self.brokers))),
        };
        self.outbox.push_back(last);
        for event in self.outbox {
            if self.ring.push(event).is_err() {
                return;
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        self.connect()?;
        if !self.is_stopped() {
            self.begin()?;
        }
        while !self.is_stopped() && !self.is_over() {
            self.hand_over()?;
            self.poll()?;
            self.chores()?;
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Relaxed) || self.ring.is_closed()
    }

    /// Whether a bounded read has come to its end.
    fn is_over(&self) -> bool {
        self.reading.end.is_some() && self.partitions.open_ones().next().is_none()
    }

    fn cluster(&self) -> Cluster<'_> {
        Cluster { consumer: &self.consumer, brokers: &self.brokers }
    }

    /// Waits until the cluster answers.
    fn connect(&self) -> Result<()> {
        let poll = || drop(self.consumer.poll(Duration::ZERO));
        reach(self.consumer.client(), &poll, "__consumer_offsets", self.limits.connect, &|| self.is_stopped())
    }

    /// Subscribes, or assigns itself what there is.
    fn begin(&mut self) -> Result<()> {
        let until = self.timer.monotonic().saturating_add(self.limits.connect.as_nanos() as u64);
        let places = loop {
            match self.cluster().partitions(&self.reading.topics) {
                // A topic that was just made has no leader yet.
                Err(error) if error.is_retriable() && self.timer.monotonic() < until && !self.is_stopped() => self.shared.wait(IDLE),
                places => break places?,
            }
        };
        if let (true, Topics::Named(topics)) = (self.reading.is_member(), &self.reading.topics) {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            return self.consumer.subscribe(&topics).map_err(|error| failed("cannot subscribe", error));
        }
        let starts = self.cluster().starts(&places, &self.reading.start, self.reading.group.is_some())?;
        let ends = self.reading.end.as_ref().map(|end| self.cluster().ends(&places, end)).transpose()?;
        let assigned = list(starts.iter().map(|(place, offset)| (place, Offset::Offset(*offset))))?;
        self.consumer.assign(&assigned).map_err(|error| failed("cannot read partitions", error))?;
        self.refresh_at = self.next_refresh();
        self.open(&starts, ends.as_ref());
        Ok(())
    }

    fn next_refresh(&self) -> u64 {
        self.limits.refresh.map_or(u64::MAX, |every| self.timer.monotonic().saturating_add(every.as_nanos() as u64))
    }

    /// Takes over partitions.
    fn open(&mut self, starts: &Offsets, ends: Option<&Offsets>) {
        let mut opened = Vec::with_capacity(starts.len());
        let mut ended = Vec::new();
        for (place, &start) in starts {
            let end = ends.and_then(|ends| ends.get(place).copied());
            let number = self.partitions.open(place, start, end);
            opened.push((number, place.clone(), start));
            if end.is_some_and(|end| start >= end) {
                self.partitions.get(number).open = false;
                ended.push(number);
            }
        }
        self.outbox.push_back(Event::Opened(opened));
        if !ended.is_empty() {
            self.outbox.push_back(Event::Ended(ended));
        }
    }

    /// Puts events into the ring; pauses all partitions if it stays full, so that polling goes on.
    fn hand_over(&mut self) -> Result<()> {
        let wait = if self.throttled { Duration::ZERO } else { self.limits.patience };
        let full = !self.drain(wait);
        if full != self.throttled {
            self.throttled = full;
            self.pause()?;
        }
        Ok(())
    }

    /// Puts events into the ring, waiting for room; returns whether none is left.
    fn drain(&mut self, wait: Duration) -> bool {
        while let Some(event) = self.outbox.pop_front() {
            if let Err(Refused::Full(event) | Refused::Closed(event)) = self.ring.push_timeout(event, wait) {
                self.outbox.push_front(event);
                return false;
            }
        }
        true
    }

    /// Takes records until a chunk is full or there is none.
    fn poll(&mut self) -> Result<()> {
        let consumer = Arc::clone(&self.consumer);
        let mut wait = IDLE;
        loop {
            match consumer.poll(wait) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => {
                    self.close_chunk();
                    return self.trouble(error);
                }
                None => {
                    self.end_fetched();
                    break;
                }
            }
            if self.chunk.is_full() {
                break;
            }
            wait = Duration::ZERO;
        }
        self.close_chunk();
        Ok(())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let Some(number) = self.partitions.of(message) else { return };
        let partition = self.partitions.get(number);
        // What was fetched before a pause or past the end.
        if !partition.open || message.offset() < partition.next {
            return;
        }
        partition.next = message.offset() + 1;
        let (within, over) = match partition.end {
            Some(end) => (message.offset() < end, partition.next >= end),
            None => (true, false),
        };
        if within {
            if self.chunk.records.is_empty() {
                self.chunk.received = self.clock.monotonic();
            }
            self.chunk.push(number, message.offset(), message.payload(), self.layout);
            if self.with_extras {
                self.extras.push(message);
            }
        }
        if over {
            self.end(number);
        }
    }

    fn close_chunk(&mut self) {
        if !self.chunk.records.is_empty() {
            self.said = None;
            self.outbox.push_back(Event::Records(std::mem::take(&mut self.chunk), std::mem::take(&mut self.extras)));
        }
    }

    /// A partition was read to its end.
    fn end(&mut self, number: u32) {
        self.partitions.get(number).open = false;
        self.close_chunk();
        self.outbox.push_back(Event::Ended(vec![number]));
    }

    /// Nothing is queued: partitions that were fetched to their ends are read to them, though the last records were none for us.
    fn end_fetched(&mut self) {
        for number in std::mem::take(&mut self.fetched) {
            if self.partitions.get(number).open {
                self.end(number);
            }
        }
    }

    /// What is to be done beside reading.
    fn chores(&mut self) -> Result<()> {
        while let Some(rebalance) = self.consumer.context().take_rebalance() {
            self.rebalances.push_back(rebalance);
        }
        while let Some(rebalance) = self.rebalances.pop_front() {
            match rebalance {
                Rebalance::Assigned(partitions) => {
                    if !self.assigned(partitions)? {
                        break;
                    }
                }
                Rebalance::Revoked(partitions) => self.revoked(&partitions),
            }
        }
        if let Some(error) = self.consumer.context().take_refusal() {
            return Err(error);
        }
        if let Some(statistics) = self.consumer.context().take_statistics() {
            self.look_at(&statistics);
        }
        let asked = self.shared.take_pause();
        self.asked = asked.unwrap_or_else(|| std::mem::take(&mut self.asked));
        self.pause()?;
        self.refresh()
    }

    /// Pauses and resumes as is due.
    fn pause(&mut self) -> Result<()> {
        let (pause, resume) = self.partitions.pauses(self.throttled, &self.asked);
        let doing = |error| failed("cannot pause or resume partitions", error);
        if !resume.is_empty() {
            self.consumer.resume(&list(resume.iter().map(|place| (place, Offset::Invalid)))?).map_err(doing)?;
        }
        if !pause.is_empty() {
            // What was fetched is thrown away, and fetched again later.
            self.fetched.clear();
            self.consumer.pause(&list(pause.iter().map(|place| (place, Offset::Invalid)))?).map_err(doing)?;
        }
        Ok(())
    }

    /// Takes over what the group has dealt out; false if the cluster did not say where to begin, so that it is tried again.
    fn assigned(&mut self, partitions: TopicPartitionList) -> Result<bool> {
        let places: Vec<Place> = partitions.elements().iter().map(|each| (each.topic().to_owned(), each.partition())).collect();
        let starts = match self.cluster().starts(&places, &self.reading.start, true) {
            Ok(starts) => starts,
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "the group has dealt out partitions, and where to begin is not known yet");
                self.rebalances.push_front(Rebalance::Assigned(partitions));
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let begun = list(starts.iter().map(|(place, offset)| (place, Offset::Offset(*offset))))?;
        let assigned = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&begun),
            _ => self.consumer.assign(&begun),
        };
        match assigned {
            Ok(()) => self.open(&starts, None),
            // The group has thought better of it meanwhile and will say so.
            Err(error) => tracing::warn!(%error, "partitions that the group had dealt out cannot be taken over"),
        }
        Ok(true)
    }

    /// Gives back what the group takes away, once the pipeline has committed what it has of it.
    fn revoked(&mut self, partitions: &TopicPartitionList) {
        let lost = self.consumer.assignment_lost();
        let elements = partitions.elements();
        let numbers = self.partitions.close(elements.iter().map(|each| (each.topic(), each.partition())));
        self.outbox.push_back(Event::Revoked { partitions: numbers, lost });
        self.revocations += 1;
        if !lost {
            self.await_release();
        }
        if let Err(error) = unassign(&self.consumer, partitions) {
            tracing::warn!(%error, "partitions that the group takes away cannot be given back");
        }
    }

    fn await_release(&mut self) {
        let until = self.timer.monotonic().saturating_add(self.limits.hand_over.as_nanos() as u64);
        while !self.is_stopped() && self.timer.monotonic() < until {
            if !self.drain(IDLE) {
                continue;
            }
            if self.shared.are_released(self.revocations, IDLE) {
                return;
            }
        }
        if !self.is_stopped() {
            tracing::warn!("the group takes partitions away, and the pipeline was too slow to commit first: some rows will come again");
        }
    }

    /// How far behind it is, and whether partitions have ended whose last records were no records for us.
    fn look_at(&mut self, statistics: &Statistics) {
        let mut newest = Vec::new();
        for (number, partition) in self.partitions.open_ones() {
            let known = statistics.topics.get(&partition.place.0).and_then(|topic| topic.partitions.get(&partition.place.1));
            let Some(known) = known else { continue };
            let high = if known.ls_offset >= 0 { known.ls_offset } else { known.hi_offset };
            if high >= 0 {
                newest.push((number, high));
            }
            if !partition.paused && partition.end.is_some_and(|end| known.next_offset >= end) {
                self.fetched.insert(number);
            }
        }
        if !newest.is_empty() {
            self.outbox.push_back(Event::Newest(newest));
        }
    }

    /// Looks for new partitions now and then, if nobody deals them out.
    fn refresh(&mut self) -> Result<()> {
        let by_itself = !self.reading.is_member() && self.reading.end.is_none() && matches!(self.reading.topics, Topics::Named(_));
        if !by_itself || self.timer.monotonic() < self.refresh_at {
            return Ok(());
        }
        self.refresh_at = self.next_refresh();
        let found = match self.cluster().partitions(&self.reading.topics) {
            Err(error) if error.is_retriable() => return Ok(()),
            found => self.partitions.unknown(found?),
        };
        if found.is_empty() {
            return Ok(());
        }
        let starts = self.cluster().starts(&found, &Start::Earliest, self.reading.group.is_some())?;
        let added = list(starts.iter().map(|(place, offset)| (place, Offset::Offset(*offset))))?;
        self.consumer.incremental_assign(&added).map_err(|error| failed("cannot read new partitions", error))?;
        self.open(&starts, None);
        Ok(())
    }
}
