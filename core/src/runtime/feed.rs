//! How a worker gets its deliveries: from the source itself, or through a ring from a thread that reads it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::batch::PartitionId;
use crate::config::{BATCH_RING, Config};
use crate::error::{Error, Result};
use crate::ring::{Consumer, Empty, spsc_waiting};
use crate::source::{Delivery, Source};

/// The longest that a source thread waits before it looks whether it shall stop.
const SOURCE_WAIT: Duration = Duration::from_millis(50);

pub(crate) enum Feed {
    /// Read and decode on the worker's own thread: no hop.
    Inline(Box<dyn Source>),
    /// Read and decode on a thread of their own.
    Thread(SourceThread),
}

pub(crate) struct SourceThread {
    ring: Option<Consumer<Result<Delivery>>>,
    stop: Arc<AtomicBool>,
    paused: SharedPause,
    thread: Option<JoinHandle<()>>,
}

/// The partitions to pause, until the source thread has taken note of them.
type SharedPause = Arc<Mutex<Option<BTreeSet<PartitionId>>>>;

impl Feed {
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the source thread cannot be started.
    pub fn new(source: Box<dyn Source>, config: &Config) -> Result<Feed> {
        if !config.source_thread {
            return Ok(Feed::Inline(source));
        }
        let (mut producer, consumer) = spsc_waiting(BATCH_RING, config.wait);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let paused = SharedPause::default();
        let asked = Arc::clone(&paused);
        let read = move || {
            let mut source = source;
            while !stopped.load(Relaxed) {
                let paused = asked.lock().unwrap_or_else(PoisonError::into_inner).take();
                let paused = paused.map_or(Ok(()), |partitions| source.pause(&partitions));
                let delivery = paused.and_then(|()| source.poll(SOURCE_WAIT));
                let last = !matches!(&delivery, Ok(delivery) if !delivery.end);
                if producer.push(delivery).is_err() || last {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("thalweg-source".to_owned()).spawn(read);
        let thread = thread.map_err(|error| Error::io("cannot start the source thread", error))?;
        Ok(Feed::Thread(SourceThread { ring: Some(consumer), stop, paused, thread: Some(thread) }))
    }

    /// The next delivery, waiting for it no longer than `wait`.
    pub fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        match self {
            Feed::Inline(source) => source.poll(wait),
            Feed::Thread(source) => match source.consumer()?.pop_timeout(wait) {
                Ok(delivery) => delivery,
                Err(Empty::TimedOut) => Ok(Delivery::default()),
                Err(Empty::Closed) => Err(gone()),
            },
        }
    }

    /// Lets the source read these partitions, and only these, no further for now.
    pub fn pause(&mut self, partitions: BTreeSet<PartitionId>) -> Result<()> {
        match self {
            Feed::Inline(source) => source.pause(&partitions),
            Feed::Thread(source) => {
                *source.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(partitions);
                Ok(())
            }
        }
    }
}

impl SourceThread {
    fn consumer(&mut self) -> Result<&mut Consumer<Result<Delivery>>> {
        self.ring.as_mut().ok_or_else(gone)
    }
}

fn gone() -> Error {
    Error::connector("the source thread has ended without a word: a decoder or source has panicked; this is a defect, please report it")
}

impl Drop for SourceThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Without its consumer a push that waits returns, and the thread ends.
        self.ring = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
