//! A pipeline that runs in the background.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::metrics::{Metrics, SharedCounters};
use crate::runtime::held_back::SharedHeldBack;
use crate::runtime::{HeldBack, Pipeline};
use crate::time::SharedClock;

/// A pipeline on a thread of its own. Dropping it stops the pipeline and waits for it.
pub struct Running {
    counters: SharedCounters,
    clock: SharedClock,
    held_back: SharedHeldBack,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// Starts `pipeline` on a thread.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the thread cannot be started.
    pub fn start(mut pipeline: Pipeline) -> Result<Running> {
        let (counters, stop) = (pipeline.counters(), pipeline.stop_flag());
        let (clock, held_back) = (SharedClock::clone(&pipeline.clock), pipeline.watch.shared());
        let thread = std::thread::Builder::new().name("thalweg-worker".to_owned()).spawn(move || pipeline.run());
        let thread = thread.map_err(|error| Error::io("cannot start the worker thread", error))?;
        Ok(Running { counters, clock, held_back, stop, thread: Some(thread) })
    }

    /// The counters now.
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot()
    }

    /// Why the earliest window that waits has not fired, as it was a tenth of a second ago at most: which partition holds the
    /// watermark back, where it is and when it last had rows. `None` if no window waits or the pipeline has ended.
    pub fn why_not_firing(&self) -> Option<HeldBack> {
        let held = self.held_back.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|_| !self.is_finished()).map(|held| held.aged(self.clock.monotonic()))
    }

    /// Asks the pipeline to finish: it takes no more input, fires the windows that are open and commits its sinks.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether the pipeline has ended, well or badly.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end and returns the final counters.
    ///
    /// # Errors
    /// What made the pipeline end, if it was not the end of the input or [`Running::stop`].
    pub fn wait(&mut self) -> Result<Metrics> {
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| Error::state("the worker thread panicked; this is a defect, please report it"))??;
        }
        Ok(self.metrics())
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("counters", &self.counters).field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = self.wait() {
            tracing::error!(%error, "a pipeline that nobody waited for failed");
        }
    }
}
