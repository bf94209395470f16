//! How a worker gets its deliveries: from the source itself, or through a ring from a thread that reads it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::batch::PartitionId;
use crate::config::{BATCH_RING, Config};
use crate::error::{Error, Result};
use crate::ring::{Consumer, Empty, spsc_waiting};
use crate::source::{BeforeCommit, Committed, Delivery, Source};

/// The longest that a source thread waits before it looks whether it shall stop.
const SOURCE_WAIT: Duration = Duration::from_millis(50);

/// Deliveries of a source, counted.
pub(crate) struct Feed {
    from: From,
    before_commit: Option<Arc<dyn BeforeCommit>>,
    /// Deliveries that were taken.
    taken: u64,
}

enum From {
    /// Read and decode on the worker's own thread: no hop.
    Inline(Box<dyn Source>),
    /// Read and decode on a thread of their own.
    Thread(SourceThread),
}

struct SourceThread {
    ring: Option<Consumer<Result<Delivery>>>,
    stop: Arc<AtomicBool>,
    orders: SharedOrders,
    /// Gives the source back at the end.
    thread: Option<JoinHandle<Box<dyn Source>>>,
}

/// What the source is told between two deliveries.
#[derive(Default)]
struct Orders {
    /// The partitions to pause, if they are others than before.
    paused: Option<BTreeSet<PartitionId>>,
    committed: Option<Committed>,
}

/// Orders until the source thread has taken note of them.
type SharedOrders = Arc<Mutex<Orders>>;

impl Orders {
    fn give(self, source: &mut dyn Source) -> Result<()> {
        self.paused.map_or(Ok(()), |partitions| source.pause(&partitions))?;
        self.committed.map_or(Ok(()), |committed| source.committed(committed))
    }
}

impl Feed {
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the source thread cannot be started.
    pub fn new(source: Box<dyn Source>, config: &Config) -> Result<Feed> {
        let before_commit = source.before_commit();
        if !config.source_thread {
            return Ok(Feed { from: From::Inline(source), before_commit, taken: 0 });
        }
        let (mut producer, consumer) = spsc_waiting(BATCH_RING, config.wait);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let orders = SharedOrders::default();
        let given = Arc::clone(&orders);
        let read = move || {
            let mut source = source;
            while !stopped.load(Relaxed) {
                let given = std::mem::take(&mut *locked(&given));
                let delivery = given.give(source.as_mut()).and_then(|()| source.poll(SOURCE_WAIT));
                let last = !matches!(&delivery, Ok(delivery) if !delivery.end);
                if producer.push(delivery).is_err() || last {
                    break;
                }
            }
            source
        };
        let thread = std::thread::Builder::new().name("thalweg-source".to_owned()).spawn(read);
        let thread = thread.map_err(|error| Error::io("cannot start the source thread", error))?;
        let from = From::Thread(SourceThread { ring: Some(consumer), stop, orders, thread: Some(thread) });
        Ok(Feed { from, before_commit, taken: 0 })
    }

    /// The next delivery, waiting for it no longer than `wait`.
    pub fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let delivery = match &mut self.from {
            From::Inline(source) => source.poll(wait)?,
            From::Thread(source) => match source.consumer()?.pop_timeout(wait) {
                Ok(delivery) => delivery?,
                Err(Empty::TimedOut) => return Ok(Delivery::default()),
                Err(Empty::Closed) => return Err(gone()),
            },
        };
        self.taken += 1;
        Ok(delivery)
    }

    /// Lets the source read these partitions, and only these, no further for now.
    pub fn pause(&mut self, partitions: BTreeSet<PartitionId>) -> Result<()> {
        match &mut self.from {
            From::Inline(source) => source.pause(&partitions),
            From::Thread(source) => {
                locked(&source.orders).paused = Some(partitions);
                Ok(())
            }
        }
    }

    /// The sinks are about to commit what was taken; `finished` and `last` as in [`Committed`].
    pub fn committing(&self, finished: bool, last: bool) {
        if let Some(before) = &self.before_commit {
            before.committing(Committed { deliveries: self.taken, finished, last });
        }
    }

    /// The sinks have committed what was taken; `finished` if no step needs its rows any more.
    pub fn committed(&mut self, finished: bool) -> Result<()> {
        let committed = Committed { deliveries: self.taken, finished, last: false };
        match &mut self.from {
            From::Inline(source) => source.committed(committed),
            From::Thread(source) => {
                locked(&source.orders).committed = Some(committed);
                Ok(())
            }
        }
    }

    /// As [`Feed::committed`], with nothing more to be taken and every step done with what was.
    pub fn finish(&mut self) -> Result<()> {
        let committed = Committed { deliveries: self.taken, finished: true, last: true };
        match &mut self.from {
            From::Inline(source) => source.committed(committed),
            From::Thread(thread) => thread.end().map_or(Ok(()), |mut source| source.committed(committed)),
        }
    }
}

fn locked(orders: &SharedOrders) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SourceThread {
    fn consumer(&mut self) -> Result<&mut Consumer<Result<Delivery>>> {
        self.ring.as_mut().ok_or_else(gone)
    }

    /// Ends the thread and takes the source back, once.
    fn end(&mut self) -> Option<Box<dyn Source>> {
        self.stop.store(true, Relaxed);
        // Without its consumer a push that waits returns, and the thread ends.
        self.ring = None;
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

fn gone() -> Error {
    Error::connector("the source thread has ended without a word: a decoder or source has panicked; this is a defect, please report it")
}

impl Drop for SourceThread {
    fn drop(&mut self) {
        self.end();
    }
}
