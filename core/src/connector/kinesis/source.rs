//! The source: chunks of records to columns, and checkpoints back to the lease table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::columns::{Columns, Extras};
use super::event::{Checkpoints, Event};
use super::position::{Checkpoint, Sequence};
use super::reader::{Reader, Reading, Setting};
use super::settings::Settings;
use crate::batch::PartitionId;
use crate::config::{BATCH_RING, Config};
use crate::connector::records::{self, Chunk, Gathered, Gatherer, Pending, Shared};
use crate::error::{Error, Result};
use crate::ring::{self, spsc_waiting};
use crate::source::{Committed, Delivery, Source};
use crate::time::SharedClock;

/// Reads a stream. Poll it on one thread only.
pub(super) struct KinesisSource {
    gathered: Gathered,
    columns: Columns,
    /// The names of shards by their numbers.
    shards: BTreeMap<u32, String>,
    positions: Option<Pending<Checkpoint>>,
    checkpoints: Arc<Checkpoints>,
    shared: Arc<Shared>,
    ring: Option<ring::Consumer<Event>>,
    thread: Option<JoinHandle<()>>,
}

impl KinesisSource {
    /// Starts the thread that reads.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be started.
    pub(super) fn start(
        reading: Reading,
        settings: &Settings,
        (gathered, columns): (Gathered, Columns),
        config: &Config,
        clock: &SharedClock,
    ) -> Result<KinesisSource> {
        let (producer, ring) = spsc_waiting(BATCH_RING, config.wait);
        let (shared, checkpoints) = (Arc::new(Shared::default()), Arc::new(Checkpoints::default()));
        let setting = Setting {
            layout: gathered.layout(),
            shared: Arc::clone(&shared),
            checkpoints: Arc::clone(&checkpoints),
            ring: producer,
            clock: SharedClock::clone(clock),
        };
        let positions = reading.application.is_some().then(Pending::default);
        let settings = settings.clone();
        let thread = std::thread::Builder::new().name("thalweg-kinesis".to_owned()).spawn(move || Reader::run(setting, reading, &settings));
        let thread = thread.map_err(|error| Error::io("cannot start the thread that reads from Kinesis", error))?;
        Ok(KinesisSource {
            gathered,
            columns,
            shards: BTreeMap::new(),
            positions,
            checkpoints,
            shared,
            ring: Some(ring),
            thread: Some(thread),
        })
    }

    /// Takes the records of a chunk in.
    fn decode(&mut self, chunk: &Chunk, extras: &Extras) -> Result<()> {
        let KinesisSource { gathered, columns, shards, positions, .. } = self;
        let bad = gathered.news.rejected.len();
        gathered.decode(chunk, true, |place, rows| {
            let shard = shards.get(&chunk.records[place].partition).map_or("", String::as_str);
            columns.push(extras, place, rows, shard);
        })?;
        for rejected in &mut gathered.news.rejected[bad..] {
            let here = (rejected.partition.0, rejected.offset);
            if let Some(place) = chunk.records.iter().position(|record| (record.partition, record.offset as u64) == here) {
                rejected.error = format!("{} (sequence number {})", rejected.error, extras.sequence(place));
            }
        }
        let Some(positions) = positions else { return Ok(()) };
        let mut at = 0;
        for stretch in chunk.records.chunk_by(|one, next| one.partition == next.partition) {
            at += stretch.len();
            let sequence = Sequence::parse(extras.sequence(at - 1))?;
            let checkpoint = Checkpoint::After { sequence, sub_sequence: extras.records[at - 1].sub_sequence };
            positions.reach(stretch[0].partition, checkpoint);
        }
        Ok(())
    }
}

impl Gatherer for KinesisSource {
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
            Event::Opened(shards) => {
                for (number, name) in shards {
                    self.gathered.open(number, name.clone());
                    self.shards.insert(number, name);
                }
            }
            Event::Ended { shard, for_good } => {
                self.gathered.end(shard);
                if let (true, Some(positions)) = (for_good, &mut self.positions) {
                    positions.reach(shard, Checkpoint::ShardEnd);
                }
            }
            Event::Lost(shards) => {
                shards.iter().for_each(|shard| self.gathered.end(*shard));
                self.positions.iter_mut().for_each(|positions| positions.forget(&shards));
                return Ok(true);
            }
            Event::Behind(behind) => {
                let named = |(shard, behind): (u32, Duration)| Some((self.shards.get(&shard)?.clone(), behind));
                self.gathered.news.behind = behind.into_iter().filter_map(named).collect();
            }
            Event::Gap => self.gathered.news.gaps += 1,
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
        if let Some(positions) = &mut self.positions {
            positions.deliver(Vec::new());
        }
        self.gathered.deliver(self.columns.finish())
    }
}

impl Source for KinesisSource {
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

    fn committed(&mut self, committed: Committed) -> Result<()> {
        let Some(positions) = &mut self.positions else { return Ok(()) };
        if committed.finished {
            positions.settle(committed.deliveries);
        }
        let fresh = positions.take_fresh();
        let ready = positions.ready().filter(|(shard, _)| fresh.contains(shard)).map(|(shard, checkpoint)| (shard, checkpoint.clone()));
        let ready: Vec<_> = ready.collect();
        let written = match (committed.last, ready.is_empty()) {
            (true, _) => self.checkpoints.wait(self.checkpoints.want(ready, true)),
            (false, true) => self.checkpoints.check(),
            (false, false) => {
                self.checkpoints.want(ready, false);
                self.checkpoints.check()
            }
        };
        written.map_err(|error| error.context("the results are committed, the checkpoints in DynamoDB are not"))
    }
}

impl Drop for KinesisSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        // Without its consumer a push that waits returns, and the thread ends.
        self.ring = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
