//! The source: chunks of records to columns, and offsets back to the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;

use super::client::Consumer;
use super::columns::Columns;
use super::event::Event;
use super::extras::Extras;
use super::name_of;
use super::offsets::Offsets;
use super::poller::{Poller, Reading, Setting};
use super::positions::{Place, list};
use super::settings::{Settings, failed, is_retriable};
use crate::batch::PartitionId;
use crate::config::{BATCH_RING, Config};
use crate::connector::records::{self, Chunk, Gathered, Gatherer, Pending, Shared};
use crate::error::{Error, Result};
use crate::ring::{self, spsc_waiting};
use crate::source::{BeforeCommit, Committed, Delivery, Source};
use crate::time::SharedClock;

/// How often offsets are committed at the end while the group is busy with a rebalance, and how far apart: ten seconds in all.
const PATIENT_TRIES: usize = 200;
const BUSY: Duration = Duration::from_millis(50);

/// Reads topics. Poll it on one thread only.
pub(super) struct KafkaSource {
    gathered: Gathered,
    columns: Columns,
    seen: BTreeMap<u32, Seen>,
    offsets: Option<Pending<i64>>,
    /// Where offsets go that a sink commits, instead of this.
    tied: Option<Offsets>,
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

impl KafkaSource {
    /// Starts the polling thread.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be started.
    pub(super) fn start(
        consumer: Consumer,
        reading: Reading,
        settings: &Settings,
        (gathered, columns): (Gathered, Columns),
        tied: Option<Offsets>,
        (config, clock): (&Config, &SharedClock),
    ) -> Result<KafkaSource> {
        let (producer, ring) = spsc_waiting(BATCH_RING, config.wait);
        let shared = Arc::new(Shared::default());
        let setting = Setting {
            consumer: Arc::clone(&consumer),
            layout: gathered.layout(),
            with_extras: columns.need_extras(),
            shared: Arc::clone(&shared),
            ring: producer,
            clock: SharedClock::clone(clock),
        };
        if let Some(tied) = &tied {
            tied.begin(&consumer);
        }
        let offsets = reading.group.is_some().then(Pending::default);
        let poller = Poller::new(setting, reading, settings);
        let thread = std::thread::Builder::new().name("thalweg-kafka".to_owned()).spawn(move || poller.run());
        let thread = thread.map_err(|error| Error::io("cannot start the thread that polls Kafka", error))?;
        Ok(KafkaSource {
            gathered,
            columns,
            seen: BTreeMap::new(),
            offsets,
            tied,
            consumer,
            shared,
            ring: Some(ring),
            thread: Some(thread),
        })
    }

    /// Partitions go to others.
    fn revoke(&mut self, partitions: Vec<u32>, lost: bool) -> bool {
        partitions.iter().for_each(|number| self.gathered.end(*number));
        if lost {
            self.offsets.iter_mut().for_each(|offsets| offsets.forget(&partitions));
        } else {
            self.gathered.news.commit = true;
            self.gathered.revoked.push(partitions);
        }
        true
    }

    /// Takes the records of a chunk in.
    fn decode(&mut self, chunk: &Chunk, extras: &Extras) -> Result<()> {
        let KafkaSource { gathered, columns, seen, offsets, tied, .. } = self;
        let with_columns = !columns.is_empty();
        gathered.decode(chunk, with_columns, |place, rows| {
            if let (true, Some(seen)) = (with_columns, seen.get(&chunk.records[place].partition)) {
                columns.push((chunk, extras), place, rows, (&seen.place.0, seen.place.1));
            }
        })?;
        for stretch in chunk.records.chunk_by(|one, next| one.partition == next.partition) {
            let Some(last) = stretch.last() else { continue };
            if let Some(seen) = seen.get_mut(&last.partition) {
                seen.next = last.offset + 1;
                tied.iter().for_each(|tied| tied.reach(last.partition, &seen.place, seen.next));
            }
            if let Some(offsets) = offsets {
                offsets.reach(last.partition, last.offset + 1);
            }
        }
        Ok(())
    }

    /// Commits what is ready, of one partition or all.
    fn commit(&self, mode: CommitMode, which: impl Fn(u32) -> bool) -> Result<(), KafkaError> {
        if self.tied.is_some() {
            return Ok(());
        }
        let ready = self.offsets.iter().flat_map(Pending::ready).filter(|(partition, _)| which(*partition));
        let places = ready.filter_map(|(partition, next)| Some((&self.seen.get(&partition)?.place, Offset::Offset(*next))));
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
        let fresh = offsets.take_fresh();
        self.commit(CommitMode::Async, |partition| again || fresh.contains(&partition))
    }
}

impl Gatherer for KafkaSource {
    type Event = Event;

    fn gathered(&mut self) -> &mut Gathered {
        &mut self.gathered
    }

    fn ring(&mut self) -> Option<&mut ring::Consumer<Event>> {
        self.ring.as_mut()
    }

    fn take_in(&mut self, event: Event, now: u64) -> Result<bool> {
        match event {
            Event::Records(chunk, extras) => {
                self.decode(&chunk, &extras)?;
                return Ok(false);
            }
            Event::Opened(partitions) => {
                for (number, place, next) in partitions {
                    let name = name_of(&place.0, place.1);
                    self.gathered.open(number, name.clone());
                    self.seen.insert(number, Seen { place, name, next });
                }
            }
            Event::Ended(partitions) => partitions.into_iter().for_each(|number| self.gathered.end(number)),
            Event::Revoked { partitions, lost } => return Ok(self.revoke(partitions, lost)),
            Event::Newest(newest) => {
                let ahead = |(number, high): (u32, i64)| {
                    let seen = self.seen.get(&number)?;
                    Some((seen.name.clone(), u64::try_from(high - seen.next).unwrap_or(0)))
                };
                self.gathered.news.lag = newest.into_iter().filter_map(ahead).collect();
            }
            Event::Skipped(records) => self.gathered.news.skipped_records += records,
            Event::Failed(error) => return Err(error),
            Event::End => {
                self.gathered.news.end = true;
                return Ok(true);
            }
        }
        self.gathered.changed(now);
        Ok(false)
    }

    fn deliver(&mut self) -> Result<Delivery> {
        if let Some(offsets) = &mut self.offsets {
            offsets.deliver(std::mem::take(&mut self.gathered.revoked));
        }
        self.tied.iter().for_each(Offsets::deliver);
        self.gathered.deliver(self.columns.finish())
    }
}

impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        self.gathered.schema()
    }

    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        records::poll(self, wait)
    }

    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        self.shared.pause(partitions.iter().map(|partition| partition.0).collect());
        Ok(())
    }

    fn before_commit(&self) -> Option<Arc<dyn BeforeCommit>> {
        self.tied.clone().map(|tied| Arc::new(tied) as Arc<dyn BeforeCommit>)
    }

    fn committed(&mut self, committed: Committed) -> Result<()> {
        let Some(offsets) = &mut self.offsets else { return Ok(()) };
        if committed.finished {
            offsets.settle(committed.deliveries);
        }
        while let Some(partitions) = self.offsets.as_mut().and_then(|offsets| offsets.given_back(committed.deliveries)) {
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
