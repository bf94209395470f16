//! Running a pipeline: one loop on one thread that takes deliveries from the source and pushes them through.
//!
//! With several [`workers`](crate::Config::workers) that thread is the first of them; it shares out the rows of the steps that can be shared,
//! and puts the results together.

mod budget;
mod exchange;
mod feed;
mod graph;
mod held_back;
mod merge;
mod outlet;
mod running;
mod subtask;
mod time_stage;
mod worker;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::metrics::{Counters, SharedCounters};
use crate::operator::devices::Devices;
use crate::operator::{Operator, Output};
use crate::quality::{self, Rejected};
use crate::source::{Delivery, Source};
use crate::state::{Saved, Snapshot};
use crate::time::SharedClock;
use crate::watermark::{END, Hold};
use budget::Budget;
pub(crate) use exchange::Exchange;
use feed::Feed;
pub(crate) use graph::{Graph, Target};
use held_back::Watch;
pub use held_back::{HeldBack, SlowPartition};
pub(crate) use outlet::Outlet;
pub use running::Running;
pub(crate) use subtask::Entry;
pub(crate) use time_stage::{Origin, TimeStage};
use workers::Workers;
pub(crate) use workers::{Exit, Port, Sharing};

/// What the stage of event time is called in snapshots.
const EVENT_TIME: &str = "event time";

/// The longest that one look at the source waits, so that a stop is seen soon.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// The longest wait for results of workers before another look at the source.
const RESULT_WAIT: Duration = Duration::from_millis(1);

/// What a plan compiles to.
pub(crate) struct Parts {
    pub source: Box<dyn Source>,
    /// Stateless steps before the event time is taken.
    pub prelude: Vec<(String, Box<dyn Operator>)>,
    pub time: Option<TimeStage>,
    pub graph: Graph,
    /// Whether a step keeps rows, or what it made of them, for later.
    pub keeps_state: bool,
    /// The steps that workers share.
    pub sharing: Option<Sharing>,
    /// The outlet that takes quarantined rows.
    pub quarantine: Option<usize>,
    pub config: Config,
    pub clock: SharedClock,
    pub devices: Devices,
}

/// A compiled pipeline. It runs on whichever thread calls [`Pipeline::step`].
pub struct Pipeline {
    feed: Feed,
    prelude: Vec<(String, Box<dyn Operator>)>,
    time: Option<TimeStage>,
    graph: Graph,
    /// Those that share steps, until the end.
    workers: Option<Workers>,
    quarantine: Option<usize>,
    keeps_state: bool,
    clock: SharedClock,
    devices: Devices,
    config: Config,
    counters: SharedCounters,
    stop: Arc<AtomicBool>,
    state: State,
    last_commit: u64,
    watch: Watch,
    budget: Option<Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Running,
    Ended,
}

impl Pipeline {
    pub(crate) fn new(parts: Parts) -> Result<Pipeline> {
        let feed = Feed::new(parts.source, &parts.config)?;
        let counters = Counters::shared();
        let workers = parts.sharing.map(|sharing| Workers::start(sharing, &parts.config, &counters)).transpose()?;
        Ok(Pipeline {
            feed,
            prelude: parts.prelude,
            time: parts.time,
            graph: parts.graph,
            workers,
            quarantine: parts.quarantine,
            keeps_state: parts.keeps_state,
            last_commit: parts.clock.monotonic(),
            watch: Watch::new(parts.config.held_back_warning),
            budget: Budget::new(&parts.config),
            clock: parts.clock,
            devices: parts.devices,
            config: parts.config,
            counters,
            stop: Arc::new(AtomicBool::new(false)),
            state: State::Fresh,
        })
    }

    /// The counters of this pipeline, which may be read from any thread.
    pub fn counters(&self) -> SharedCounters {
        Arc::clone(&self.counters)
    }

    /// The state of all steps as it is now, between two batches: what [`Query::restore`](crate::Query::restore) takes up. It says nothing of
    /// how far the source was read, and what sinks were given before is theirs. Another number of workers may take it up.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a step cannot be saved: a [`Process`](crate::Process) without `save`;
    /// [`Kind::State`](crate::error::Kind::State) if the pipeline has ended.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        if self.state == State::Ended {
            return Err(Error::state("the pipeline has ended and has no state any more; take a snapshot between two steps"));
        }
        let mut shared = Vec::new();
        if let Some(workers) = &mut self.workers {
            workers.settle(&mut self.graph, &self.counters)?;
            shared = workers.save(&mut self.graph)?;
        }
        let mut snapshot = Snapshot::default();
        for (label, operator) in &mut self.prelude {
            snapshot.push(&*label, operator.snapshot().map_err(|error| error.context(&*label))?);
        }
        if let Some(stage) = &self.time {
            snapshot.push(EVENT_TIME, stage.snapshot(self.clock.monotonic())?);
        }
        let mut saved = self.graph.save()?;
        shared.into_iter().try_for_each(|(node, part)| saved[node].merge(part))?;
        self.graph.steps().zip(saved).for_each(|(step, saved)| snapshot.push(step, saved));
        Ok(snapshot)
    }

    /// Gives back memory that is kept for rows to come, and that of keys, windows and rows that are gone, as the pipeline does by itself while
    /// its state is over its [budget](Config::state_budget). No result changes; those that are due at one moment may come in another order.
    ///
    /// # Errors
    /// What goes wrong with results that are on their way from workers.
    pub fn trim(&mut self) -> Result<()> {
        self.prelude.iter_mut().try_for_each(|(label, operator)| operator.trim().map_err(|error| error.context(&*label)))?;
        if let Some(workers) = &mut self.workers {
            workers.trim(&mut self.graph, &self.counters)?;
        }
        self.graph.trim()?;
        self.counters.state_bytes.store(self.state_bytes() as u64, Relaxed);
        Ok(())
    }

    /// Takes up a snapshot; nothing was read yet.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let prelude = self.prelude.iter().map(|(label, _)| label.clone());
        let time = self.time.iter().map(|_| EVENT_TIME.to_owned());
        let steps: Vec<String> = prelude.chain(time).chain(self.graph.steps().map(str::to_owned)).collect();
        let mut saved = snapshot.of(&steps)?;
        for ((label, operator), saved) in self.prelude.iter_mut().zip(saved.by_ref()) {
            operator.restore(saved).map_err(|error| error.context(&*label))?;
        }
        if let Some(stage) = &mut self.time {
            saved.next().map_or(Ok(()), |saved| stage.restore(saved, self.clock.monotonic()))?;
        }
        let saved: Vec<&Saved> = saved.collect();
        let elsewhere = match &mut self.workers {
            Some(workers) => workers.restore(&saved, self.time.as_ref().and_then(TimeStage::watermark), &self.counters)?,
            None => Vec::new(),
        };
        let own = saved.into_iter().enumerate().filter(|(node, _)| !elsewhere.contains(node));
        own.into_iter().try_for_each(|(node, saved)| self.graph.restore(node, saved))
    }

    /// A flag that, once true, makes the pipeline finish: it takes no more input, fires what is open and commits.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Works for about `budget` and returns whether the pipeline has ended: its input was read to the end or it
    /// was told to stop, every window has fired and every sink has committed.
    ///
    /// # Errors
    /// Any error of source, operators or sinks; the sinks have then taken back what was not committed.
    pub fn step(&mut self, budget: Duration) -> Result<bool> {
        self.step_until(budget, &mut || false)
    }

    /// As [`Pipeline::step`], but returns early once `enough` says so; it is asked after each delivery.
    ///
    /// # Errors
    /// As [`Pipeline::step`].
    pub fn step_until(&mut self, budget: Duration, enough: &mut dyn FnMut() -> bool) -> Result<bool> {
        let result = self.try_step(budget, enough);
        if result.is_err() {
            self.abort();
        }
        result
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// As [`Pipeline::step`].
    pub fn run(&mut self) -> Result<()> {
        while !self.step(Duration::from_secs(1))? {}
        Ok(())
    }

    /// Ends without firing or committing anything.
    pub fn abort(&mut self) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.workers = None;
            self.graph.outlets.iter_mut().for_each(Outlet::abort);
        }
    }

    fn try_step(&mut self, budget: Duration, enough: &mut dyn FnMut() -> bool) -> Result<bool> {
        if self.state == State::Fresh {
            self.graph.outlets.iter_mut().try_for_each(Outlet::open)?;
            self.state = State::Running;
        }
        let deadline = self.clock.monotonic().saturating_add(budget.as_nanos() as u64);
        while self.state == State::Running {
            if self.stop.load(Relaxed) {
                self.finish()?;
                break;
            }
            let left = Duration::from_nanos(deadline.saturating_sub(self.clock.monotonic()));
            if left.is_zero() || enough() {
                break;
            }
            let delivery = self.poll(left.min(MAX_WAIT))?;
            self.take(delivery)?;
        }
        Ok(self.state == State::Ended)
    }

    /// The next delivery. While results are on their way from the workers, it is those that are waited for.
    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let Some(workers) = self.workers.as_mut().filter(|workers| workers.is_busy()) else { return self.feed.poll(wait) };
        let delivery = self.feed.poll(Duration::ZERO)?;
        if delivery.batch.is_none() && !delivery.end {
            workers.wait(wait.min(RESULT_WAIT), &mut self.graph, &self.counters)?;
        }
        Ok(delivery)
    }

    fn take(&mut self, delivery: Delivery) -> Result<()> {
        let now = self.clock.monotonic();
        self.count(&delivery);
        if let Some(time) = &mut self.time {
            time.tick(self.clock.as_ref());
            time.open(&delivery, now);
        }
        let mut rejected = delivery.rejected;
        let has_rows = delivery.batch.is_some();
        if let Some(batch) = delivery.batch {
            self.counters.rows_in.fetch_add(batch.rows() as u64, Relaxed);
            self.counters.batches_in.fetch_add(1, Relaxed);
            self.process(batch, now, &mut rejected)?;
        }
        self.reject(&rejected)?;
        if let Some(time) = &mut self.time {
            time.close(&delivery.ended);
        }
        self.progress(now)?;
        if has_rows || self.budget.as_ref().is_some_and(Budget::is_over) {
            self.account()?;
        }
        self.align(now)?;
        self.watch_time(now);
        self.watch_devices();
        if delivery.end {
            return self.finish();
        }
        if delivery.commit || now.saturating_sub(self.last_commit) >= self.config.commit_every.as_nanos() as u64 {
            self.last_commit = now;
            self.feed.committing(!self.keeps_state, false);
            self.graph.outlets.iter_mut().try_for_each(Outlet::commit)?;
            self.feed.committed(!self.keeps_state)?;
        }
        Ok(())
    }

    /// Counts what the source says of itself.
    fn count(&self, delivery: &Delivery) {
        self.counters.bytes_in.fetch_add(delivery.bytes, Relaxed);
        self.counters.skipped_records.fetch_add(delivery.skipped_records, Relaxed);
        self.counters.null_values.fetch_add(delivery.null_values, Relaxed);
        self.counters.missing_files.fetch_add(delivery.missing_files, Relaxed);
        self.counters.gaps.fetch_add(delivery.gaps, Relaxed);
        if !delivery.lag.is_empty() {
            self.counters.note_lag(&delivery.lag);
        }
        if !delivery.behind.is_empty() {
            self.counters.note_behind(&delivery.behind);
        }
    }

    /// Counts the bytes of state, and sees to it that they are within the budget.
    fn account(&mut self) -> Result<()> {
        let mut held = self.state_bytes();
        if let Some(was_over) = self.budget.as_ref().filter(|budget| !budget.allows(held)).map(Budget::is_over) {
            self.graph.trim()?;
            // While it stays over, workers do so with every task, without being waited for.
            if let (Some(workers), false) = (&mut self.workers, was_over) {
                workers.trim(&mut self.graph, &self.counters)?;
            }
            held = self.state_bytes();
        }
        if let Some(budget) = &mut self.budget {
            budget.judge(held, || self.graph.largest())?;
            self.workers.iter_mut().for_each(|workers| workers.trims = budget.is_over());
        }
        self.counters.state_bytes.store(held as u64, Relaxed);
        Ok(())
    }

    /// Bytes of state that all steps hold.
    fn state_bytes(&self) -> usize {
        let prelude: usize = self.prelude.iter().map(|(_, operator)| operator.state_bytes()).sum();
        prelude + self.graph.state_bytes() + self.workers.as_ref().map_or(0, Workers::state_bytes)
    }

    /// Keeps partitions from being read that are too far ahead, or for which there is no room.
    fn align(&mut self, now: u64) -> Result<()> {
        let Some(stage) = &mut self.time else { return Ok(()) };
        let hold = self.budget.as_ref().map_or(Hold::Nothing, |budget| budget.hold(stage.is_by_clock()));
        stage.align(now, hold).map_or(Ok(()), |paused| self.feed.pause(paused))
    }

    /// Pushes one batch of the source through the prelude, the event-time stage and the graph.
    fn process(&mut self, batch: Batch, now: u64, rejected: &mut Vec<Rejected>) -> Result<()> {
        let mut batches = vec![batch];
        for (label, operator) in &mut self.prelude {
            let mut out = Output::default();
            for batch in batches {
                operator.on_batch(batch, &mut out).map_err(|error| error.context(&*label))?;
            }
            batches = out.batches;
        }
        for batch in batches {
            let Some(stage) = &self.time else {
                self.push(batch)?;
                self.advance(None)?;
                continue;
            };
            for piece in stage.take(batch, rejected)? {
                self.push_piece(piece, now)?;
            }
        }
        Ok(())
    }

    fn push_piece(&mut self, mut piece: Batch, now: u64) -> Result<()> {
        if let Some(stage) = &mut self.time {
            stage.observe(&mut piece, now)?;
        }
        self.push(piece)?;
        self.progress(now)
    }

    /// Sends rows on their way, unless there is no room for them.
    fn push(&mut self, batch: Batch) -> Result<()> {
        self.graph.received = batch.received;
        if self.budget.as_ref().is_some_and(Budget::sheds) {
            self.counters.shed_rows.fetch_add(batch.rows() as u64, Relaxed);
            return Ok(());
        }
        self.graph.push(batch, &self.counters)
    }

    /// Fires what the watermark has passed.
    fn progress(&mut self, now: u64) -> Result<()> {
        let watermark = self.time.as_mut().and_then(|stage| stage.progress(now));
        if let Some(watermark) = watermark {
            self.counters.watermark.store(watermark, Relaxed);
        }
        self.advance(watermark)
    }

    /// Tells the steps how far event time has come, if it has moved, and hands the workers what is theirs.
    fn advance(&mut self, watermark: Option<i64>) -> Result<()> {
        if let Some(watermark) = watermark {
            self.graph.advance(watermark, &self.counters)?;
        }
        match &mut self.workers {
            Some(workers) => workers.step(&mut self.graph, watermark, &self.counters),
            None => Ok(()),
        }
    }

    /// Why the earliest window that waits has not fired: who holds the watermark back. `None` if no window waits.
    pub fn why_not_firing(&self) -> Option<HeldBack> {
        let stage = self.time.as_ref().filter(|_| self.state != State::Ended)?;
        let shared = self.workers.as_ref().and_then(Workers::waits_for);
        let end = self.graph.waits_for().into_iter().chain(shared).min()?;
        Some(stage.held_back(end, self.clock.monotonic()))
    }

    /// Now and then, looks why windows do not fire, and says so if that goes on for long.
    fn watch_time(&mut self, now: u64) {
        if self.time.is_none() || !self.watch.is_due(now) {
            return;
        }
        let held = self.why_not_firing();
        if let (Some(waited), Some(held)) = (self.watch.look(held.as_ref(), now), held) {
            tracing::warn!("the watermark has stood still for {waited:.0?}: {held}");
        }
    }

    /// Counts what each device took, and says once what became of a GPU.
    fn watch_devices(&self) {
        let usage = self.devices.usage();
        self.counters.kernel_rows_cpu.store(usage.cpu_rows, Relaxed);
        self.counters.kernel_rows_gpu.store(usage.gpu_rows, Relaxed);
        self.counters.gpu_break_even_rows.store(usage.break_even.unwrap_or(u64::MAX), Relaxed);
        while let Some(warning) = self.devices.take_warning() {
            tracing::warn!("{warning}");
        }
    }

    /// Counts quarantined rows and hands them to their outlet.
    fn reject(&mut self, rejected: &[Rejected]) -> Result<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        self.counters.quarantined_rows.fetch_add(rejected.len() as u64, Relaxed);
        let Some(outlet) = self.quarantine else { return Ok(()) };
        self.graph.outlets[outlet].write(&Batch::new(quality::to_records(rejected)?, 0, 0), &self.counters)
    }

    /// Fires everything that is open and commits.
    fn finish(&mut self) -> Result<()> {
        self.advance(Some(END))?;
        if let Some(mut workers) = self.workers.take() {
            workers.settle(&mut self.graph, &self.counters)?;
        }
        self.watch_devices();
        self.feed.committing(true, true);
        self.graph.outlets.iter_mut().try_for_each(Outlet::commit)?;
        self.feed.finish()?;
        self.state = State::Ended;
        self.watch.look(None, self.last_commit);
        self.warn_of_dropped_rows();
        Ok(())
    }

    /// Dropping rows is something one asks for: what nobody took is said.
    fn warn_of_dropped_rows(&self) {
        let metrics = self.counters.snapshot();
        if metrics.late_rows > 0 && !self.graph.takes_late() {
            tracing::warn!(
                rows = metrics.late_rows,
                "rows came after their windows had fired and no late output takes them; raise max_delay or bind one"
            );
        }
        if metrics.shed_rows > 0 {
            tracing::warn!(rows = metrics.shed_rows, "rows were shed because the state was over its budget; raise `state_budget`");
        }
        if metrics.quarantined_rows > 0 && self.quarantine.is_none() {
            tracing::warn!(rows = metrics.quarantined_rows, "rows did not decode and no quarantine takes them; bind one to see them");
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.abort();
    }
}
