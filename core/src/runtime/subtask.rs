//! A subtask: one of the parallel copies of the steps that workers share, between the ring of what it is asked for and the ring of what
//! came of it.
//!
//! Each task is answered by one reply, in order. So whoever counts both knows what is on its way, and never has more tasks out than
//! either ring holds: no push of a reply ever waits, and nothing can lock up.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::metrics::SharedCounters;
use crate::operator::PartialPane;
use crate::ring::{Consumer, Empty, Producer};
use crate::runtime::exchange::Share;
use crate::runtime::graph::{Graph, Target};
use crate::state::Saved;

/// Where an exchange's rows enter a subtask's graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// What takes the rows.
    pub target: Target,
    /// The operator in two phases that puts out panes, and gets emptied ones back.
    pub window: Option<usize>,
}

/// What one exchange has for a subtask.
pub(crate) struct Part {
    pub entry: usize,
    pub batches: Vec<Share>,
    /// Emptied panes, for rows to come.
    pub spare: Vec<PartialPane>,
}

/// What a subtask is asked for.
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

/// See the [module documentation](self).
pub(super) struct Subtask {
    graph: Graph,
    entries: Vec<Entry>,
    tasks: Consumer<Task>,
    replies: Producer<Result<Reply>>,
    counters: SharedCounters,
    /// Whether something has gone wrong, or nobody waits for replies any more: no task is done after that.
    pub is_over: bool,
}

impl Subtask {
    /// One with the steps of `graph`, whose exchanges' rows come in at `entries`.
    pub fn new(
        (graph, entries): (Graph, Vec<Entry>),
        tasks: Consumer<Task>,
        replies: Producer<Result<Reply>>,
        counters: SharedCounters,
    ) -> Subtask {
        Subtask { graph, entries, tasks, replies, counters, is_over: false }
    }

    /// Does the next task, if it is there; whether it was.
    pub fn try_next(&mut self) -> bool {
        let task = if self.is_over { None } else { self.tasks.try_pop() };
        task.map(|task| self.answer(task)).is_some()
    }

    /// Does the next task, waiting for it no longer than `wait`; whether it came.
    pub fn next_within(&mut self, wait: Duration) -> bool {
        match self.tasks.pop_timeout(wait) {
            Ok(task) => self.answer(task),
            Err(empty) => {
                self.is_over |= empty == Empty::Closed;
                return false;
            }
        }
        true
    }

    /// Waits for the next task, and does it.
    pub fn next(&mut self) {
        match self.tasks.pop() {
            Some(task) => self.answer(task),
            None => self.is_over = true,
        }
    }

    fn answer(&mut self, task: Task) {
        let reply = catch_unwind(AssertUnwindSafe(|| self.run(task))).unwrap_or_else(|_| Err(panicked()));
        let failed = reply.is_err();
        self.is_over |= self.replies.push(reply).is_err() || failed;
    }

    /// Does a task.
    fn run(&mut self, task: Task) -> Result<Reply> {
        let mut reply = match task {
            Task::Rows(work) => self.take(work)?,
            Task::Save => Reply { saved: self.graph.save()?, panes: self.put_out(), ..Reply::default() },
            Task::Restore(steps) => {
                steps.into_iter().try_for_each(|(node, saved)| self.graph.restore(node, &saved))?;
                Reply::default()
            }
            Task::Trim => {
                self.graph.trim()?;
                Reply::default()
            }
        };
        reply.state_bytes = self.graph.state_bytes();
        reply.waits_for = self.graph.waits_for();
        Ok(reply)
    }

    /// Takes rows, and the watermark after them.
    fn take(&mut self, work: Work) -> Result<Reply> {
        let mut reply = Reply::default();
        let graph = &mut self.graph;
        graph.received = work.received;
        let mut advanced = Vec::with_capacity(work.parts.len());
        for mut part in work.parts {
            let entry = self.entries[part.entry];
            if let (Some(window), false) = (entry.window, part.spare.is_empty()) {
                graph.absorb(window, &mut part.spare)?;
            }
            for share in part.batches {
                share.take()?.map_or(Ok(()), |batch| graph.send(entry.target, batch, &self.counters))?;
            }
            advanced.push(entry.target);
        }
        reply.rows = std::mem::take(&mut graph.left);
        for target in advanced {
            let Some(watermark) = work.watermark else { break };
            graph.advance_target(target, watermark, &self.counters)?;
        }
        reply.fired = std::mem::take(&mut graph.left);
        reply.panes = self.put_out();
        if work.trim {
            self.graph.trim()?;
        }
        Ok(reply)
    }

    /// The panes that were put out, by entry.
    fn put_out(&mut self) -> Vec<(usize, Vec<PartialPane>)> {
        let mut by_entry: BTreeMap<usize, Vec<PartialPane>> = BTreeMap::new();
        for (node, pane) in std::mem::take(&mut self.graph.panes) {
            if let Some(entry) = self.entries.iter().position(|entry| entry.window == Some(node)) {
                by_entry.entry(entry).or_default().push(pane);
            }
        }
        by_entry.into_iter().collect()
    }
}

/// What is said of a subtask that answers no more.
pub(super) fn panicked() -> Error {
    Error::state("a worker has panicked, see its message above; if it was not in a function of yours, this is a defect, please report it")
}
