//! A worker: a thread that works on a subtask of its own, and on those of others when it has nothing else to do.
//!
//! The first worker is the pipeline's thread: with as many workers as cores none waits for a core. That thread also reads the
//! source, shares the rows out and puts the results together; how much work that is beside the steps differs from query to query, but
//! as all lend each other a hand, all are busy. Rows and results do not depend on who does a task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::{BATCH_RING, Config};
use crate::error::{Error, Result};
use crate::metrics::SharedCounters;
use crate::ring::{Consumer, Empty, Producer, spsc_waiting};
use crate::runtime::graph::Graph;
use crate::runtime::subtask::{Entry, Reply, Subtask, Task, panicked};

/// How often, and how long at a time, a worker looks for tasks of its own between looks at those of others before it sleeps until
/// it has one of its own: together some ten microseconds.
const LOOKS: u32 = 8;
const LOOK: Duration = Duration::from_micros(1);

/// The subtasks of all workers, each with its lock: whoever holds it does the tasks, in their order.
#[derive(Clone)]
pub(super) struct Subtasks(Arc<[Mutex<Subtask>]>);

impl Subtasks {
    pub fn new(subtasks: impl IntoIterator<Item = Subtask>) -> Subtasks {
        Subtasks(subtasks.into_iter().map(Mutex::new).collect())
    }

    /// Does one task: the next of a subtask that has one and that nobody works on, of `last` if it is such. Whether there was one; `last`
    /// is then the subtask that it was of: whose state is in the caches of this core.
    pub fn help(&self, last: &mut usize) -> bool {
        let (before, from) = self.0.split_at(*last);
        let done = from.iter().chain(before).position(|subtask| match subtask.try_lock() {
            Ok(mut subtask) => subtask.try_next(),
            Err(TryLockError::Poisoned(subtask)) => subtask.into_inner().try_next(),
            Err(TryLockError::WouldBlock) => false,
        });
        *last = (*last + done.unwrap_or(0)) % self.0.len();
        done.is_some()
    }

    /// The subtask of this number, once nobody works on it.
    fn lock(&self, number: usize) -> MutexGuard<'_, Subtask> {
        self.0[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread of a worker does, until there is no more to come for its own subtask.
    fn work(&self, number: usize) {
        let (mut looks, mut last) = (0, number);
        loop {
            if self.help(&mut last) {
                looks = 0;
                continue;
            }
            let mut own = self.lock(number);
            if own.is_over {
                break;
            }
            if looks == LOOKS {
                own.next();
            } else if !own.next_within(LOOK) {
                looks += 1;
                continue;
            }
            looks = 0;
        }
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
    /// The most tasks that may be on their way: such as every worker has some of, and where windows go to the workers in turn, of which
    /// several must be on their way for all to have some.
    pub const MOST_OWED: usize = BATCH_RING;
    pub const MOST_OWED_OF_WINDOWS: usize = 4 * BATCH_RING;

    /// A worker and its subtask, of the steps of `copy`; so far it has no thread.
    pub fn new(copy: (Graph, Vec<Entry>), config: &Config, counters: &SharedCounters) -> (Worker, Subtask) {
        let (tasks, incoming) = spsc_waiting(Worker::MOST_OWED_OF_WINDOWS, config.wait);
        let (outgoing, replies) = spsc_waiting(Worker::MOST_OWED_OF_WINDOWS, config.wait);
        let subtask = Subtask::new(copy, incoming, outgoing, Arc::clone(counters));
        (Worker { tasks: Some(tasks), replies: Some(replies), thread: None, owed: 0 }, subtask)
    }

    /// Starts the thread of a worker, whose number is that of its subtask.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be started.
    pub fn start(&mut self, number: usize, subtasks: &Subtasks) -> Result<()> {
        let subtasks = subtasks.clone();
        let thread = std::thread::Builder::new().name(format!("thalweg-{number}")).spawn(move || subtasks.work(number));
        self.thread = Some(thread.map_err(|error| Error::io("cannot start a worker thread", error))?);
        Ok(())
    }

    /// Hands over a task; there may not be [`Worker::MOST_OWED_OF_WINDOWS`] on their way already.
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
        // The other end of the ring is with the subtask, which lives as long as all workers do.
        let reply = self.replies.as_mut().ok_or_else(panicked)?.try_pop();
        self.owed -= usize::from(reply.is_some());
        reply.transpose()
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
