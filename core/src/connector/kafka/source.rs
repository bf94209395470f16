//! The source: chunks of records to columns, and offsets back to the group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;

use super::chunk::Chunk;
use super::client::Consumer;
use super::columns::Columns;
use super::link::{Event, Shared};
use super::name_of;
use super::poller::{Poller, Reading, Setting};
use super::positions::{Place, list};
use super::settings::{Settings, failed, is_retriable};
use super::values::{Outcome, Values};
use crate::batch::{Batch, PartitionId, Segment};
use crate::config::{BATCH_RING, Config};
use crate::error::{Error, Result};
use crate::quality::Rejected;
use crate::ring::{self, Empty, spsc_waiting};
use crate::source::linger::{Linger, nanos};
use crate::source::{Committed, Delivery, Source};
use crate::time::SharedClock;

/// Deliveries whose offsets are told apart until the sinks have committed; beyond that the oldest are taken together.
const TOLD_APART: usize = 64;

/// How often offsets are committed at the end while the group is busy with a rebalance, and how far apart: ten seconds in all.
const PATIENT_TRIES: usize = 200;
const BUSY: Duration = Duration::from_millis(50);

/// Reads topics. Poll it on one thread only.
pub(super) struct KafkaSource {
    schema: SchemaRef,
    values: Values,
    columns: Columns,
    outcome: Outcome,
    seen: BTreeMap<u32, Seen>,
    gathered: Gathered,
    batch_rows: usize,
    linger: Linger,
    clock: SharedClock,
    offsets: Option<OffsetsToCommit>,
    consumer: Consumer,
    shared: Arc<Shared>,
    ring: Option<ring::Consumer<Event>>,
    thread: Option<JoinHandle<()>>,
}

/// A partition that is being read.
struct Seen {
    place: Place,
    name: String,
    /// The offset after the last record that was decoded.
    next: i64,
}

/// What there is since the last delivery.
#[derive(Default)]
struct Gathered {
    delivery: Delivery,
    segments: Vec<Segment>,
    /// When the first record came, and when anything else did, in the clock's nanoseconds.
    received: Option<u64>,
    changed: Option<u64>,
    /// Partitions to give back once the sinks have committed.
    revoked: Vec<Vec<u32>>,
}

/// Offsets on their way to the group.
#[derive(Default)]
struct OffsetsToCommit {
    /// Deliveries so far.
    deliveries: u64,
    /// Where partitions are after the records since the last delivery.
    since: BTreeMap<u32, i64>,
    /// The same after each delivery that was not committed.
    history: VecDeque<(u64, BTreeMap<u32, i64>)>,
    /// What can be committed, and of which partitions there is more than was.
    ready: BTreeMap<u32, i64>,
    fresh: BTreeSet<u32>,
    /// Partitions to give back, and the delivery after which they can be.
    revoked: VecDeque<(u64, Vec<u32>)>,
}

impl OffsetsToCommit {
    /// A delivery is made, after which `revoked` are to be given back.
    fn deliver(&mut self, revoked: Vec<Vec<u32>>) {
        self.deliveries += 1;
        self.revoked.extend(revoked.into_iter().map(|partitions| (self.deliveries, partitions)));
        if self.since.is_empty() {
            return;
        }
        self.history.push_back((self.deliveries, std::mem::take(&mut self.since)));
        if self.history.len() > TOLD_APART
            && let (Some((_, first)), Some((_, second))) = (self.history.pop_front(), self.history.front_mut())
        {
            for (partition, next) in first {
                second.entry(partition).or_insert(next);
            }
        }
    }

    /// The first deliveries were committed, and nobody needs their rows.
    fn settle(&mut self, deliveries: u64) {
        while let Some((_, offsets)) = self.history.pop_front_if(|(number, _)| *number <= deliveries) {
            self.fresh.extend(offsets.keys());
            self.ready.extend(offsets);
        }
    }

    /// Forgets partitions that are others' now.
    fn forget(&mut self, partitions: &[u32]) {
        let offsets = self.history.iter_mut().map(|(_, offsets)| offsets).chain([&mut self.ready, &mut self.since]);
        offsets.for_each(|offsets| offsets.retain(|partition, _| !partitions.contains(partition)));
    }
}

impl KafkaSource {
    /// Starts the polling thread.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be started.
    pub(super) fn start(
        consumer: Consumer,
        reading: Reading,
        settings: &Settings,
        (values, columns, schema): (Values, Columns, SchemaRef),
        config: &Config,
        clock: &SharedClock,
    ) -> Result<KafkaSource> {
        let (producer, ring) = spsc_waiting(BATCH_RING, config.wait);
        let shared = Arc::new(Shared::default());
        let setting = Setting {
            consumer: Arc::clone(&consumer),
            layout: values.layout(),
            with_extras: columns.need_extras(),
            shared: Arc::clone(&shared),
            ring: producer,
            clock: SharedClock::clone(clock),
        };
        let offsets = reading.group.is_some().then(OffsetsToCommit::default);
        let poller = Poller::new(setting, reading, settings);
        let thread = std::thread::Builder::new().name("thalweg-kafka".to_owned()).spawn(move || poller.run());
        let thread = thread.map_err(|error| Error::io("cannot start the thread that polls Kafka", error))?;
        Ok(KafkaSource {
            schema,
            values,
            columns,
            outcome: Outcome::default(),
            seen: BTreeMap::new(),
            gathered: Gathered::default(),
            batch_rows: config.batch_rows,
            linger: Linger::new(config),
            clock: SharedClock::clone(clock),
            offsets,
            consumer,
            shared,
            ring: Some(ring),
            thread: Some(thread),
        })
    }

    /// Takes an event in; returns whether what was gathered has to be handed on at once.
    fn take_in(&mut self, event: Event, now: u64) -> Result<bool> {
        match event {
            Event::Records(chunk) => {
                self.decode(&chunk)?;
                return Ok(false);
            }
            Event::Opened(partitions) => {
                for (number, place, next) in partitions {
                    let name = name_of(&place.0, place.1);
                    self.gathered.delivery.opened.push(PartitionId(number));
                    self.gathered.delivery.names.push((PartitionId(number), name.clone()));
                    self.seen.insert(number, Seen { place, name, next });
                }
            }
            Event::Ended(partitions) => partitions.into_iter().for_each(|number| self.end(number)),
            Event::Revoked { partitions, lost } => return Ok(self.revoke(partitions, lost)),
            Event::Newest(newest) => {
                let ahead = |(number, high): (u32, i64)| {
                    let seen = self.seen.get(&number)?;
                    Some((seen.name.clone(), u64::try_from(high - seen.next).unwrap_or(0)))
                };
                self.gathered.delivery.lag = newest.into_iter().filter_map(ahead).collect();
            }
            Event::Skipped(records) => self.gathered.delivery.skipped_records += records,
            Event::Failed(error) => return Err(error),
            Event::End => {
                self.gathered.delivery.end = true;
                return Ok(true);
            }
        }
        self.gathered.changed.get_or_insert(now);
        Ok(false)
    }

    fn end(&mut self, number: u32) {
        self.values.end(PartitionId(number));
        self.gathered.delivery.ended.push(PartitionId(number));
    }

    /// Partitions go to others.
    fn revoke(&mut self, partitions: Vec<u32>, lost: bool) -> bool {
        partitions.iter().for_each(|number| self.end(*number));
        if lost {
            self.offsets.iter_mut().for_each(|offsets| offsets.forget(&partitions));
        } else {
            self.gathered.delivery.commit = true;
            self.gathered.revoked.push(partitions);
        }
        true
    }

    /// Decodes a chunk, stretch by stretch of one partition.
    fn decode(&mut self, chunk: &Chunk) -> Result<()> {
        self.gathered.received.get_or_insert(chunk.received);
        let mut at = 0;
        while let Some(first) = chunk.records.get(at) {
            let same =
                chunk.records[at..].iter().take_while(|record| (record.partition, record.is_null) == (first.partition, first.is_null));
            let range = at..at + same.count();
            at = range.end;
            match first.is_null {
                true => range.clone().for_each(|place| self.take_null(chunk, place)),
                false => {
                    self.values.decode(chunk, range.clone(), &mut self.outcome)?;
                    self.take_rows(chunk, range.start);
                }
            }
            let (last, bytes) = (&chunk.records[at - 1], chunk.records[at - 1].end - first.start);
            self.gathered.delivery.bytes += bytes as u64;
            if let Some(seen) = self.seen.get_mut(&last.partition) {
                seen.next = last.offset + 1;
            }
            if let Some(offsets) = &mut self.offsets {
                offsets.since.insert(last.partition, last.offset + 1);
            }
        }
        Ok(())
    }

    /// Takes note of where the rows of the last stretch, which begins at `first`, come from.
    fn take_rows(&mut self, chunk: &Chunk, first: usize) {
        for (place, &rows) in (first..).zip(&self.outcome.rows) {
            if rows > 0 {
                let record = &chunk.records[place];
                extend(&mut self.gathered.segments, PartitionId(record.partition), record.offset as u64, rows);
                if let (false, Some(seen)) = (self.columns.is_empty(), self.seen.get(&record.partition)) {
                    self.columns.push(chunk, place, rows, (&seen.place.0, seen.place.1));
                }
            }
        }
        for (place, error) in self.outcome.bad.drain(..) {
            let record = &chunk.records[place];
            let rejected = Rejected::new(PartitionId(record.partition), record.offset as u64, &chunk.original(record), error);
            self.gathered.delivery.rejected.push(rejected);
        }
    }

    /// A record without a value.
    fn take_null(&mut self, chunk: &Chunk, place: usize) {
        let record = &chunk.records[place];
        let (partition, offset) = (PartitionId(record.partition), record.offset as u64);
        if self.columns.is_empty() {
            self.gathered.delivery.null_values += 1;
        } else if let Some(column) = self.values.refuses_null() {
            let error = format!("the record has no value, and `{column}` may not be null");
            self.gathered.delivery.rejected.push(Rejected::new(partition, offset, &[], error));
        } else if let Some(seen) = self.seen.get(&record.partition) {
            self.values.push_null();
            self.columns.push(chunk, place, 1, (&seen.place.0, seen.place.1));
            extend(&mut self.gathered.segments, partition, offset, 1);
        }
    }

    /// When what there is has to be handed on; `None` if there is nothing.
    fn due(&self) -> Option<u64> {
        let rows = self.values.rows() > 0 || !self.gathered.delivery.rejected.is_empty();
        let since = [self.gathered.received.filter(|_| rows), self.gathered.changed].into_iter().flatten().min()?;
        Some(self.linger.due(since))
    }

    /// Hands everything on.
    fn deliver(&mut self) -> Result<Delivery> {
        let now = self.clock.monotonic();
        let Gathered { mut delivery, segments, received, revoked, .. } = std::mem::take(&mut self.gathered);
        if let Some(mut columns) = self.values.take()? {
            let received = received.unwrap_or(now);
            columns.extend(self.columns.finish());
            let records = RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)?;
            self.linger.handed(received, now);
            delivery.batch = Some(Batch { records, time: None, segments, received, sequence: None });
        }
        if let Some(offsets) = &mut self.offsets {
            offsets.deliver(revoked);
        }
        Ok(delivery)
    }

    /// Commits what is ready, of one partition or all.
    fn commit(&self, mode: CommitMode, which: impl Fn(u32) -> bool) -> Result<(), KafkaError> {
        let ready = self.offsets.iter().flat_map(|offsets| &offsets.ready).filter(|(partition, _)| which(**partition));
        let places = ready.filter_map(|(partition, next)| Some((&self.seen.get(partition)?.place, Offset::Offset(*next))));
        match list(places) {
            Ok(list) if list.count() > 0 => self.consumer.commit(&list, mode),
            _ => Ok(()),
        }
    }

    /// Commits all that is ready and waits until it is, for as long as the group is busy with itself.
    fn commit_all(&self) -> Result<(), KafkaError> {
        for _ in 0..PATIENT_TRIES {
            match self.commit(CommitMode::Sync, |_| true) {
                Err(error) if error.rdkafka_error_code().is_some_and(is_retriable) => self.shared.wait(BUSY),
                done => return done,
            }
        }
        self.commit(CommitMode::Sync, |_| true)
    }

    /// Commits without waiting what was not committed, or not successfully.
    fn commit_fresh(&mut self) -> Result<(), KafkaError> {
        let again = self.consumer.context().take_uncommitted();
        let Some(offsets) = &mut self.offsets else { return Ok(()) };
        let fresh = std::mem::take(&mut offsets.fresh);
        self.commit(CommitMode::Async, |partition| again || fresh.contains(&partition))
    }
}

/// Adds rows of the record at `offset`: they continue the last segment if the record follows its last one.
fn extend(segments: &mut Vec<Segment>, partition: PartitionId, offset: u64, rows: usize) {
    match segments.last_mut() {
        Some(last) if last.partition == partition && last.offset + last.rows as u64 == offset => last.rows += rows,
        _ => segments.push(Segment { partition, rows, offset }),
    }
}

impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let mut now = self.clock.monotonic();
        self.linger.back(now);
        let deadline = now.saturating_add(nanos(wait));
        loop {
            let due = self.due().unwrap_or(u64::MAX);
            let wait = Duration::from_nanos(due.min(deadline).saturating_sub(now));
            let Some(ring) = &mut self.ring else { return Ok(Delivery { end: true, ..Delivery::default() }) };
            let event = match ring.pop_timeout(wait) {
                Ok(event) => Some(event),
                Err(Empty::TimedOut) => None,
                Err(Empty::Closed) => {
                    return Err(Error::connector("the thread that polls Kafka has panicked; this is a defect, please report it"));
                }
            };
            now = self.clock.monotonic();
            let came = event.is_some();
            let at_once = event.map_or(Ok(false), |event| self.take_in(event, now))?;
            // While more is there the batch grows, past the linger if need be: it is full soon.
            let lingered = !came && due <= deadline;
            if at_once || lingered || self.values.rows() >= self.batch_rows || now >= deadline {
                return self.deliver();
            }
        }
    }

    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        self.shared.pause(partitions.iter().map(|partition| partition.0).collect());
        Ok(())
    }

    fn committed(&mut self, committed: Committed) -> Result<()> {
        let Some(offsets) = &mut self.offsets else { return Ok(()) };
        if committed.finished {
            offsets.settle(committed.deliveries);
        }
        while let Some((_, partitions)) =
            self.offsets.as_mut().and_then(|offsets| offsets.revoked.pop_front_if(|(delivery, _)| *delivery <= committed.deliveries))
        {
            if let Err(error) = self.commit(CommitMode::Sync, |partition| partitions.contains(&partition)) {
                tracing::warn!(%error, "partitions go to others before their offsets could be committed: some rows will come again");
            }
            self.offsets.iter_mut().for_each(|offsets| offsets.forget(&partitions));
            self.shared.release();
        }
        let done = if committed.last { self.commit_all() } else { self.commit_fresh() };
        done.map_err(|error| failed("the results are committed, the offsets in Kafka are not", error))
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        // Without its consumer a push that waits returns, and the thread ends.
        self.ring = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.consumer.context().close();
    }
}
