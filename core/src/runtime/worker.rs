//! A worker: a thread that works on a subtask of its own, and on that of the pipeline's thread when it has nothing else to do.
//!
//! The first worker is the pipeline's thread itself: with as many workers as cores none waits for a core. That thread also reads the
//! source, shares the rows out and puts the results together; how much work that is beside the steps differs from query to query, and as
//! the others lend a hand, all are busy all the same. Rows and results do not depend on who does a task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::{BATCH_RING, Config};
use crate::error::{Error, Result};
use crate::metrics::SharedCounters;
use crate::ring::{Consumer, Empty, Producer, spsc_waiting};
use crate::runtime::graph::Graph;
use crate::runtime::subtask::{Entry, Reply, Subtask, Task, panicked};

/// How often, and how long at a time, a worker looks for tasks of its own between looks at those of the pipeline's thread before it sleeps
/// until it has one of its own: together some ten microseconds.
const LOOKS: u32 = 8;
const LOOK: Duration = Duration::from_micros(1);

/// The subtask of the pipeline's thread, on which whoever has nothing else to do works too.
#[derive(Clone)]
pub(super) struct Common(Arc<Mutex<Subtask>>);

impl Common {
    /// Does the next task, if there is one on which nobody works; whether there was.
    pub fn help(&self) -> bool {
        match self.0.try_lock() {
            Ok(mut subtask) => subtask.try_next(),
            Err(TryLockError::Poisoned(subtask)) => subtask.into_inner().try_next(),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Does the next task, once nobody works on another one; whether there was one left.
    pub fn work(&self) -> bool {
        let mut subtask: MutexGuard<'_, Subtask> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subtask.try_next()
    }
}

/// The pipeline's end of a worker.
pub(super) struct Worker {
    tasks: Option<Producer<Task>>,
    replies: Option<Consumer<Result<Reply>>>,
    /// None for the pipeline's own.
    thread: Option<JoinHandle<()>>,
    /// Tasks without a reply so far.
    pub owed: usize,
}

impl Worker {
    /// The most tasks that may be on their way.
    pub const MOST_OWED: usize = BATCH_RING;

    /// The worker that is the pipeline's thread, and its subtask.
    pub fn own(copy: (Graph, Vec<Entry>), config: &Config, counters: &SharedCounters) -> (Worker, Common) {
        let (worker, subtask) = Worker::new(copy, config, counters);
        (worker, Common(Arc::new(Mutex::new(subtask))))
    }

    /// Starts a thread that works on the subtask of `copy`, and helps with `common`.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the thread cannot be started.
    pub fn start(number: usize, copy: (Graph, Vec<Entry>), config: &Config, counters: &SharedCounters, common: &Common) -> Result<Worker> {
        let (mut worker, subtask) = Worker::new(copy, config, counters);
        let common = common.clone();
        let thread = std::thread::Builder::new().name(format!("thalweg-{number}")).spawn(move || work(subtask, &common));
        worker.thread = Some(thread.map_err(|error| Error::io("cannot start a worker thread", error))?);
        Ok(worker)
    }

    fn new(copy: (Graph, Vec<Entry>), config: &Config, counters: &SharedCounters) -> (Worker, Subtask) {
        let (tasks, incoming) = spsc_waiting(Worker::MOST_OWED, config.wait);
        let (outgoing, replies) = spsc_waiting(Worker::MOST_OWED, config.wait);
        let subtask = Subtask::new(copy, incoming, outgoing, Arc::clone(counters));
        (Worker { tasks: Some(tasks), replies: Some(replies), thread: None, owed: 0 }, subtask)
    }

    /// Hands over a task; there may not be [`Worker::MOST_OWED`] on their way already.
    pub fn send(&mut self, task: Task) -> Result<()> {
        let ring = self.tasks.as_mut().ok_or_else(panicked)?;
        self.owed += 1;
        // Of a worker that is gone the replies tell why.
        let _ = ring.push(task);
        Ok(())
    }

    /// The next reply, if it is there.
    ///
    /// # Errors
    /// What went wrong in the task; [`Kind::State`](crate::error::Kind::State) if it has panicked.
    pub fn try_receive(&mut self) -> Result<Option<Reply>> {
        let ring = self.replies.as_mut().ok_or_else(panicked)?;
        let reply = match ring.try_pop() {
            Some(reply) => reply?,
            None if ring.is_closed() => match ring.try_pop() {
                Some(reply) => reply?,
                None => return Err(panicked()),
            },
            None => return Ok(None),
        };
        self.owed -= 1;
        Ok(Some(reply))
    }

    /// The next reply, waiting for it no longer than `wait`.
    ///
    /// # Errors
    /// As [`Worker::try_receive`].
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Reply>> {
        match self.replies.as_mut().ok_or_else(panicked)?.pop_timeout(wait) {
            Ok(reply) => {
                self.owed -= 1;
                reply.map(Some)
            }
            Err(Empty::TimedOut) => Ok(None),
            Err(Empty::Closed) => Err(panicked()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        (self.tasks, self.replies) = (None, None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a worker's thread does.
fn work(mut own: Subtask, common: &Common) {
    let mut looks = 0;
    while !own.is_over {
        if own.try_next() || common.help() || (looks < LOOKS && own.next_within(LOOK)) {
            looks = 0;
        } else if looks < LOOKS {
            looks += 1;
        } else {
            looks = 0;
            own.next();
        }
    }
}
