//! A worker: a thread with its own copy of the steps that are shared out, fed through one ring and answering through another.
//!
//! Each task is answered by one reply, in order. So whoever counts both knows what is on its way, and never has more tasks out than
//! either ring holds: no push of a worker ever waits, and nothing can lock up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::batch::Batch;
use crate::config::{BATCH_RING, Config};
use crate::error::{Error, Result};
use crate::metrics::{Counters, SharedCounters};
use crate::operator::PartialPane;
use crate::ring::{Consumer, Empty, Producer, spsc_waiting};
use crate::runtime::exchange::Share;
use crate::runtime::graph::{Graph, Target};
use crate::state::Saved;

/// Where an exchange's rows enter a worker's graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// What takes the rows.
    pub target: Target,
    /// The operator in two phases that puts out panes, and gets emptied ones back.
    pub window: Option<usize>,
}

/// What one exchange has for a worker.
pub(crate) struct Part {
    pub entry: usize,
    pub batches: Vec<Share>,
    /// Emptied panes, for rows to come.
    pub spare: Vec<PartialPane>,
}

/// What a worker is asked for.
pub(crate) enum Task {
    /// To take rows.
    Rows(Work),
    /// For the state of its steps.
    Save,
    /// To take up the state of some steps.
    Restore(Vec<(usize, Saved)>),
    /// To give back memory that is kept for rows to come.
    Trim,
}

/// Rows, then how far event time has come after them.
pub(crate) struct Work {
    pub parts: Vec<Part>,
    pub watermark: Option<i64>,
    pub received: u64,
    /// Whether to give back memory that is kept for rows to come.
    pub trim: bool,
}

/// What became of a task.
#[derive(Default)]
pub(crate) struct Reply {
    /// What came of the rows, by exit.
    pub rows: Vec<(usize, Batch)>,
    /// What the watermark brought about, by exit.
    pub fired: Vec<(usize, Batch)>,
    /// Panes that are due, by entry.
    pub panes: Vec<(usize, Vec<PartialPane>)>,
    pub state_bytes: usize,
    pub waits_for: Option<i64>,
    /// By step, if it was asked for.
    pub saved: Vec<Saved>,
}

/// The pipeline's end of a worker.
pub(crate) struct Worker {
    tasks: Option<Producer<Task>>,
    replies: Option<Consumer<Result<Reply>>>,
    thread: Option<JoinHandle<()>>,
    /// Tasks without a reply so far.
    pub owed: usize,
}

impl Worker {
    /// The most tasks that may be on their way.
    pub const MOST_OWED: usize = BATCH_RING;

    /// Starts a worker on `graph`, whose exchanges' rows come in at `entries`.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the thread cannot be started.
    pub fn start(number: usize, mut graph: Graph, entries: Vec<Entry>, config: &Config, counters: &SharedCounters) -> Result<Worker> {
        let (tasks, mut incoming) = spsc_waiting(Worker::MOST_OWED, config.wait);
        let (mut outgoing, replies) = spsc_waiting(Worker::MOST_OWED, config.wait);
        let counters = Arc::clone(counters);
        let work = move || {
            while let Some(task) = incoming.pop() {
                let reply = run(&mut graph, &entries, task, &counters);
                let failed = reply.is_err();
                if outgoing.push(reply).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("thalweg-{number}")).spawn(work);
        let thread = thread.map_err(|error| Error::io("cannot start a worker thread", error))?;
        Ok(Worker { tasks: Some(tasks), replies: Some(replies), thread: Some(thread), owed: 0 })
    }

    /// Hands over a task; there may not be [`Worker::MOST_OWED`] on their way already.
    pub fn send(&mut self, task: Task) -> Result<()> {
        let ring = self.tasks.as_mut().ok_or_else(gone)?;
        self.owed += 1;
        // Of a worker that is gone the replies tell why.
        let _ = ring.push(task);
        Ok(())
    }

    /// The next reply, if it is there.
    ///
    /// # Errors
    /// What went wrong in the task; [`Kind::State`](crate::error::Kind::State) if the worker has panicked.
    pub fn try_receive(&mut self) -> Result<Option<Reply>> {
        let ring = self.replies.as_mut().ok_or_else(gone)?;
        let reply = match ring.try_pop() {
            Some(reply) => reply?,
            None if ring.is_closed() => match ring.try_pop() {
                Some(reply) => reply?,
                None => return Err(gone()),
            },
            None => return Ok(None),
        };
        self.owed -= 1;
        Ok(Some(reply))
    }

    /// The next reply.
    ///
    /// # Errors
    /// As [`Worker::try_receive`].
    pub fn answer(&mut self) -> Result<Reply> {
        loop {
            if let Some(reply) = self.receive(Duration::from_secs(1))? {
                return Ok(reply);
            }
        }
    }

    /// The next reply, waiting for it no longer than `wait`.
    ///
    /// # Errors
    /// As [`Worker::try_receive`].
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Reply>> {
        match self.replies.as_mut().ok_or_else(gone)?.pop_timeout(wait) {
            Ok(reply) => {
                self.owed -= 1;
                reply.map(Some)
            }
            Err(Empty::TimedOut) => Ok(None),
            Err(Empty::Closed) => Err(gone()),
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

fn gone() -> Error {
    Error::state(
        "a worker thread has panicked, see its message above; if it was not in a function of yours, this is a defect, please report it",
    )
}

/// Does a task.
fn run(graph: &mut Graph, entries: &[Entry], task: Task, counters: &Counters) -> Result<Reply> {
    let mut reply = match task {
        Task::Rows(work) => take(graph, entries, work, counters)?,
        Task::Save => Reply { saved: graph.save()?, panes: put_out(graph, entries), ..Reply::default() },
        Task::Restore(steps) => {
            steps.into_iter().try_for_each(|(node, saved)| graph.restore(node, &saved))?;
            Reply::default()
        }
        Task::Trim => {
            graph.trim()?;
            Reply::default()
        }
    };
    reply.state_bytes = graph.state_bytes();
    reply.waits_for = graph.waits_for();
    Ok(reply)
}

/// Takes rows, and the watermark after them.
fn take(graph: &mut Graph, entries: &[Entry], work: Work, counters: &Counters) -> Result<Reply> {
    let mut reply = Reply::default();
    graph.received = work.received;
    let mut advanced = Vec::with_capacity(work.parts.len());
    for mut part in work.parts {
        let entry = entries[part.entry];
        if let (Some(window), false) = (entry.window, part.spare.is_empty()) {
            graph.absorb(window, &mut part.spare)?;
        }
        for share in part.batches {
            share.take()?.map_or(Ok(()), |batch| graph.send(entry.target, batch, counters))?;
        }
        advanced.push(entry.target);
    }
    reply.rows = std::mem::take(&mut graph.left);
    for target in advanced {
        let Some(watermark) = work.watermark else { break };
        graph.advance_target(target, watermark, counters)?;
    }
    reply.panes = put_out(graph, entries);
    reply.fired = std::mem::take(&mut graph.left);
    if work.trim {
        graph.trim()?;
    }
    Ok(reply)
}

/// The panes that were put out, by entry.
fn put_out(graph: &mut Graph, entries: &[Entry]) -> Vec<(usize, Vec<PartialPane>)> {
    let mut by_entry: BTreeMap<usize, Vec<PartialPane>> = BTreeMap::new();
    for (node, pane) in std::mem::take(&mut graph.panes) {
        if let Some(entry) = entries.iter().position(|entry| entry.window == Some(node)) {
            by_entry.entry(entry).or_default().push(pane);
        }
    }
    by_entry.into_iter().collect()
}
