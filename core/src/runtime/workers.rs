//! The workers of a pipeline: rows go out to them, results come back, step by step.
//!
//! A step is a batch and the watermark after it. Every worker gets its part of every step, be it empty, and the replies to a step are put
//! together when all are there. So results come in the order of steps, whatever worker is the fastest: windows in order of
//! their end, the rows of a key as one worker would give them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::Result;
use crate::metrics::{Counters, SharedCounters};
use crate::operator::PartialPane;
use crate::runtime::exchange::{Exchange, Routed, Router, Share, Way};
use crate::runtime::graph::{Graph, Target};
use crate::runtime::merge::merge;
use crate::runtime::subtask::{Entry, Part, Reply, Subtask, Task, Work};
use crate::runtime::worker::{Subtasks, Worker};
use crate::state::Saved;

/// The longest wait for a reply before another look at whether there is something to do meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// What a plan compiles to where steps are shared by workers.
pub(crate) struct Sharing {
    /// For each worker its copy of the steps; the rows of exchange `e` enter at `2e` by key hash or window, at `2e + 1` in two phases.
    pub copies: Vec<(Graph, Vec<Entry>)>,
    /// For each node of the copies, the one of the pipeline's graph that it is a copy of, and the exchange whose rows it gets by key hash.
    pub nodes: Vec<(usize, Option<usize>)>,
    pub exchanges: Vec<Exchange>,
    /// Ports of the pipeline's graph.
    pub ports: Vec<Port>,
    /// Ports of the workers' graphs.
    pub exits: Vec<Exit>,
}

/// Where rows leave the pipeline's graph for an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Port {
    pub exchange: usize,
    /// Whether steps before the exchange are still to come.
    pub early: bool,
}

/// Where rows that come back from workers go.
pub(crate) enum Exit {
    /// Results of a step.
    Rows(Vec<Target>),
    /// Late rows, to this outlet.
    Late(usize),
}

/// A batch and a watermark on their way through the workers.
struct Step {
    watermark: Option<i64>,
    received: u64,
    /// The exchanges that took part.
    exchanges: Vec<usize>,
}

/// See the [module documentation](self).
pub(crate) struct Workers {
    /// The first is the pipeline's thread.
    workers: Vec<Worker>,
    subtasks: Subtasks,
    /// The subtask that this thread worked on last.
    last: usize,
    routers: Vec<Router>,
    ports: Vec<Port>,
    exits: Vec<Exit>,
    nodes: Vec<(usize, Option<usize>)>,
    /// Replies of each worker to steps that others have still to reply to.
    replies: Vec<VecDeque<Reply>>,
    /// State and earliest window of each worker, by its last reply.
    state: Vec<(usize, Option<i64>)>,
    /// Oldest first.
    steps: VecDeque<Step>,
    /// Emptied panes, by exchange, on their way back to the workers.
    spare: Vec<Vec<PartialPane>>,
    /// How far event time has come.
    watermark: Option<i64>,
    /// Whether the workers shall give back memory that they keep for rows to come, with every task.
    pub trims: bool,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn start(sharing: Sharing, config: &Config, counters: &SharedCounters) -> Result<Workers> {
        let copies = sharing.copies.into_iter().map(|copy| Worker::new(copy, config, counters));
        let (mut workers, subtasks): (Vec<Worker>, Vec<Subtask>) = copies.unzip();
        let subtasks = Subtasks::new(subtasks);
        (0..).zip(&mut workers).skip(1).try_for_each(|(number, worker)| worker.start(number, &subtasks))?;
        let count = workers.len();
        let routers: Vec<Router> = sharing.exchanges.into_iter().map(|exchange| Router::new(exchange, count, config)).collect();
        Ok(Workers {
            replies: workers.iter().map(|_| VecDeque::new()).collect(),
            state: vec![(0, None); count],
            workers,
            subtasks,
            last: 0,
            spare: routers.iter().map(|_| Vec::new()).collect(),
            routers,
            ports: sharing.ports,
            exits: sharing.exits,
            nodes: sharing.nodes,
            steps: VecDeque::new(),
            watermark: None,
            trims: false,
        })
    }

    /// Whether results are on their way.
    pub fn is_busy(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Bytes of state that the workers hold, by their last replies, and of emptied panes on their way to them.
    pub fn state_bytes(&self) -> usize {
        let spare: usize = self.spare.iter().flatten().map(PartialPane::bytes).sum();
        self.state.iter().map(|(bytes, _)| bytes).sum::<usize>() + spare
    }

    /// Lets the workers give back memory that they keep for rows to come, and waits until they have.
    ///
    /// # Errors
    /// As [`Workers::step`], and if memory cannot be given back, which would be a defect.
    pub fn trim(&mut self, graph: &mut Graph, counters: &Counters) -> Result<()> {
        self.settle(graph, counters)?;
        self.spare.iter_mut().for_each(Vec::clear);
        self.workers.iter_mut().try_for_each(|worker| worker.send(Task::Trim))?;
        for worker in 0..self.workers.len() {
            let reply = self.answer(worker)?;
            self.state[worker] = (reply.state_bytes, reply.waits_for);
        }
        Ok(())
    }

    /// The end of the earliest window that waits, by the last replies.
    pub fn waits_for(&self) -> Option<i64> {
        self.state.iter().filter_map(|(_, end)| *end).min()
    }

    /// Sends what has left `graph` to the workers, and the watermark, if it has moved; takes in what is there of their results.
    ///
    /// # Errors
    /// What goes wrong in a worker, or in the steps after them.
    pub fn step(&mut self, graph: &mut Graph, watermark: Option<i64>, counters: &Counters) -> Result<()> {
        let received = graph.received;
        let mut batches = self.route(graph, counters)?;
        self.watermark = watermark.or(self.watermark);
        if batches.iter().flatten().any(|batches| !batches.is_empty()) || watermark.is_some() {
            let exchanges = (0..self.routers.len()).filter(|&exchange| self.routers[exchange].way().is_some()).collect();
            self.send(Step { watermark, received, exchanges }, &mut batches, graph, counters)?;
        }
        self.collect(graph, counters)
    }

    /// No batches for any worker, by exchange.
    fn nothing(&self) -> Vec<Vec<Vec<Share>>> {
        self.workers.iter().map(|_| self.routers.iter().map(|_| Vec::new()).collect()).collect()
    }

    /// The batches for each worker, by exchange.
    fn route(&mut self, graph: &mut Graph, counters: &Counters) -> Result<Vec<Vec<Vec<Share>>>> {
        let mut batches: Vec<Vec<Vec<Share>>> = self.nothing();
        while !graph.left.is_empty() {
            for (port, batch) in std::mem::take(&mut graph.left) {
                let Port { exchange, early } = self.ports[port];
                if batch.rows() == 0 {
                    continue;
                }
                if self.routers[exchange].way().is_none() {
                    self.begin(exchange, &batch, early, graph, counters)?;
                }
                match self.routers[exchange].route(batch, early)? {
                    Routed::Node(node, batch) => graph.send(Target::Node(node), batch, counters)?,
                    Routed::Workers(parts) => parts.into_iter().for_each(|(worker, batch)| batches[worker][exchange].push(batch)),
                }
            }
        }
        Ok(batches)
    }

    /// Chooses how an exchange shares its rows out, and tells the workers how far event time has come without it.
    fn begin(&mut self, exchange: usize, batch: &Batch, early: bool, graph: &mut Graph, counters: &Counters) -> Result<()> {
        let choice = self.routers[exchange].choose(batch, early)?;
        tracing::info!("{choice}");
        counters.note_exchange(choice);
        match self.watermark {
            None => Ok(()),
            Some(_) => {
                let step = Step { watermark: self.watermark, received: graph.received, exchanges: vec![exchange] };
                let mut nothing: Vec<Vec<Vec<Share>>> = self.nothing();
                self.send(step, &mut nothing, graph, counters)
            }
        }
    }

    fn send(&mut self, step: Step, batches: &mut [Vec<Vec<Share>>], graph: &mut Graph, counters: &Counters) -> Result<()> {
        if step.exchanges.is_empty() {
            return Ok(());
        }
        let (exchanges, watermark, received) = (step.exchanges.clone(), step.watermark, step.received);
        let by_window = exchanges.iter().any(|&exchange| matches!(self.routers[exchange].way(), Some(Way::Windows(_))));
        let most = if by_window { Worker::MOST_OWED_OF_WINDOWS } else { Worker::MOST_OWED };
        self.steps.push_back(step);
        for (worker, batches) in batches.iter_mut().enumerate() {
            while self.workers[worker].owed >= most {
                self.work(worker, LOOK)?;
                self.collect(graph, counters)?;
            }
            let part = |&exchange: &usize| Part {
                entry: 2 * exchange + usize::from(self.routers[exchange].way() == Some(Way::TwoPhases)),
                batches: std::mem::take(&mut batches[exchange]),
                spare: self.spare[exchange].pop().into_iter().collect(),
            };
            let parts = exchanges.iter().map(part).collect();
            self.workers[worker].send(Task::Rows(Work { parts, watermark, received, trim: self.trims }))?;
        }
        Ok(())
    }

    /// Does a task that is there, or takes in what comes within `wait` from the worker that the oldest step waits for.
    ///
    /// # Errors
    /// As [`Workers::step`].
    pub fn wait(&mut self, wait: Duration, graph: &mut Graph, counters: &Counters) -> Result<()> {
        if let Some(slowest) = self.replies.iter().position(VecDeque::is_empty).filter(|_| self.is_busy()) {
            self.work(slowest, wait)?;
        }
        self.collect(graph, counters)
    }

    /// Waits until nothing is on its way.
    ///
    /// # Errors
    /// As [`Workers::step`].
    pub fn settle(&mut self, graph: &mut Graph, counters: &Counters) -> Result<()> {
        while self.is_busy() {
            self.wait(LOOK, graph, counters)?;
        }
        Ok(())
    }

    /// The state of the steps that the workers have, by node of the pipeline's graph, in parts; what they hold for windows that share panes goes
    /// to these. Nothing is on its way.
    ///
    /// # Errors
    /// If a step cannot be saved.
    pub fn save(&mut self, graph: &mut Graph) -> Result<Vec<(usize, Saved)>> {
        self.workers.iter_mut().try_for_each(|worker| worker.send(Task::Save))?;
        let mut parts = Vec::new();
        for worker in 0..self.workers.len() {
            let reply = self.answer(worker)?;
            for (entry, mut panes) in reply.panes {
                graph.absorb(self.routers[entry / 2].exchange.node, &mut panes)?;
                self.spare[entry / 2].append(&mut panes);
            }
            parts.extend(self.nodes.iter().map(|(node, _)| *node).zip(reply.saved));
        }
        Ok(parts)
    }

    /// Takes up the states of the steps, by node of the pipeline's graph, before any rows; event time had come to `watermark`. How an
    /// exchange shares out its rows goes by the state of its steps, if they have any. Returns the nodes whose state is with the workers.
    ///
    /// # Errors
    /// If a step does not know its state.
    pub fn restore(&mut self, saved: &[&Saved], watermark: Option<i64>, counters: &Counters) -> Result<Vec<usize>> {
        self.watermark = watermark;
        let mut taken = Vec::new();
        for exchange in 0..self.routers.len() {
            let copies = (0..).zip(&self.nodes).filter(|(_, (_, of))| *of == Some(exchange));
            let copies: Vec<(usize, usize)> = copies.map(|(copy, (node, _))| (copy, *node)).collect();
            let router = &mut self.routers[exchange];
            let own: Vec<&Saved> = router.exchange.steps.iter().map(|&node| saved[node]).collect();
            let of_chain = copies.iter().map(|(_, node)| saved[*node]).chain(own.iter().copied());
            let rows = of_chain.map(Saved::rows).max().unwrap_or(0);
            if rows == 0 {
                continue;
            }
            counters.note_exchange(router.resume(rows, &own)?);
            if router.way() != Some(Way::Hash) {
                continue;
            }
            for worker in 0..self.workers.len() {
                let router = &self.routers[exchange];
                let part = |&(copy, node): &(usize, usize)| Ok((copy, saved[node].select(|table| router.owned(worker, table))?));
                let steps = copies.iter().map(part).collect::<Result<_>>()?;
                self.workers[worker].send(Task::Restore(steps))?;
                self.answer(worker)?;
            }
            taken.extend(copies.iter().map(|(_, node)| *node));
        }
        Ok(taken)
    }

    /// Does a task that nobody works on, or else waits for a reply of `worker`, no longer than `wait`.
    fn work(&mut self, worker: usize, wait: Duration) -> Result<()> {
        if !self.subtasks.help(&mut self.last) {
            let reply = self.workers[worker].receive(wait)?;
            self.take_in(worker, reply);
        }
        Ok(())
    }

    /// The reply of a worker to a task that is the only one of its on its way.
    fn answer(&mut self, worker: usize) -> Result<Reply> {
        loop {
            self.subtasks.help(&mut self.last);
            if let Some(reply) = self.workers[worker].receive(LOOK)? {
                return Ok(reply);
            }
        }
    }

    fn take_in(&mut self, worker: usize, reply: Option<Reply>) {
        if let Some(reply) = reply {
            self.state[worker] = (reply.state_bytes, reply.waits_for);
            self.replies[worker].push_back(reply);
        }
    }

    /// Takes in the replies that are there, and finishes the steps that all workers have replied to.
    fn collect(&mut self, graph: &mut Graph, counters: &Counters) -> Result<()> {
        for worker in 0..self.workers.len() {
            while self.workers[worker].owed > 0 {
                let Some(reply) = self.workers[worker].try_receive()? else { break };
                self.take_in(worker, Some(reply));
            }
        }
        while self.is_busy() && self.replies.iter().all(|replies| !replies.is_empty()) {
            let replies = self.replies.iter_mut().filter_map(VecDeque::pop_front).collect();
            if let Some(step) = self.steps.pop_front() {
                let received = std::mem::replace(&mut graph.received, step.received);
                self.finish(&step, replies, graph, counters)?;
                graph.received = received;
            }
        }
        Ok(())
    }

    /// Hands on what the workers have made of a step: of its rows, then of its watermark.
    fn finish(&mut self, step: &Step, replies: Vec<Reply>, graph: &mut Graph, counters: &Counters) -> Result<()> {
        let mut fired: BTreeMap<usize, Vec<Vec<Batch>>> = BTreeMap::new();
        let mut panes: BTreeMap<usize, Vec<PartialPane>> = BTreeMap::new();
        let workers = replies.len();
        for (worker, reply) in replies.into_iter().enumerate() {
            reply.rows.into_iter().try_for_each(|(exit, batch)| self.hand_on(exit, batch, graph, counters))?;
            for (exit, batch) in reply.fired {
                fired.entry(exit).or_insert_with(|| vec![Vec::new(); workers])[worker].push(batch);
            }
            reply.panes.into_iter().for_each(|(entry, given)| panes.entry(entry / 2).or_default().extend(given));
        }
        for (exit, batches) in fired {
            merge(batches)?.into_iter().try_for_each(|batch| self.hand_on(exit, batch, graph, counters))?;
        }
        for (exchange, mut panes) in panes {
            graph.absorb(self.routers[exchange].exchange.node, &mut panes)?;
            self.spare[exchange].append(&mut panes);
        }
        let Some(watermark) = step.watermark else { return Ok(()) };
        for &exchange in &step.exchanges {
            let router = &self.routers[exchange];
            if router.way() == Some(Way::TwoPhases) {
                graph.advance_target(Target::Node(router.exchange.node), watermark, counters)?;
                continue;
            }
            for &exit in &router.exchange.exits {
                let Exit::Rows(targets) = &self.exits[exit] else { continue };
                targets.iter().try_for_each(|&target| graph.advance_target(target, watermark, counters))?;
            }
        }
        Ok(())
    }

    fn hand_on(&self, exit: usize, mut batch: Batch, graph: &mut Graph, counters: &Counters) -> Result<()> {
        batch.received = graph.received;
        match &self.exits[exit] {
            Exit::Rows(targets) => graph.fan_out(targets, batch, counters),
            Exit::Late(outlet) => graph.outlets[*outlet].write(&batch, counters),
        }
    }
}
