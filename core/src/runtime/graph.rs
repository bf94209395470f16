//! The operators of a pipeline and who feeds whom: batches and watermarks go from the roots to the sinks.

use std::sync::atomic::Ordering::Relaxed;

use crate::batch::Batch;
use crate::error::Result;
use crate::metrics::Counters;
use crate::operator::{Operator, Output, PartialPane};
use crate::runtime::outlet::Outlet;
use crate::state::Saved;
use crate::time::Unit;

/// Where a batch goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Node(usize),
    Outlet(usize),
    /// Out of this graph: to the workers, or from one of them back.
    Port(usize),
}

struct Node {
    /// What the step is, for error messages.
    label: String,
    operator: Box<dyn Operator>,
    next: Vec<Target>,
    /// What takes this operator's late rows: an outlet or a port.
    late: Option<Target>,
    /// Whether it is no step of the plan: all its state belongs to the steps that follow.
    is_inner: bool,
}

/// A directed acyclic graph of operators that ends in outlets, or in ports where it goes on elsewhere.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    roots: Vec<Target>,
    pub outlets: Vec<Outlet>,
    /// What the event time counts.
    pub unit: Unit,
    /// When the oldest row of the batch arrived that is on its way, in the clock's nanoseconds. Results of
    /// windows inherit it: they are due because of this batch.
    pub received: u64,
    /// What has left through ports, in order.
    pub left: Vec<(usize, Batch)>,
    /// Panes that operators have put out for others elsewhere, each with the node of its operator.
    pub panes: Vec<(usize, PartialPane)>,
}

impl Graph {
    /// No operators yet; event time counts `unit`s.
    pub fn new(unit: Unit) -> Graph {
        Graph { unit, ..Graph::default() }
    }

    /// Adds an operator; connect it with [`Graph::connect`].
    pub fn add(&mut self, label: impl Into<String>, operator: Box<dyn Operator>) -> usize {
        self.nodes.push(Node { label: label.into(), operator, next: Vec::new(), late: None, is_inner: false });
        self.nodes.len() - 1
    }

    /// Lets an operator take in the rows that go to `nodes`, which follow `from`, and these follow it. It comes after all steps of the plan.
    pub fn add_before(&mut self, from: Option<usize>, nodes: &[usize], label: impl Into<String>, operator: Box<dyn Operator>) -> usize {
        let inner = self.add(label, operator);
        self.nodes[inner].is_inner = true;
        self.nodes[inner].next = nodes.iter().map(|&node| Target::Node(node)).collect();
        let next = from.map_or(&mut self.roots, |from| &mut self.nodes[from].next);
        next.retain(|target| !matches!(target, Target::Node(node) if nodes.contains(node)));
        next.push(Target::Node(inner));
        inner
    }

    /// Lets another operator do the step of `node`.
    pub fn replace(&mut self, node: usize, operator: Box<dyn Operator>) {
        self.nodes[node].operator = operator;
    }

    /// Lets `target` follow node `from`, or begin at the source.
    pub fn connect(&mut self, from: Option<usize>, target: Target) {
        match from {
            Some(node) => self.nodes[node].next.push(target),
            None => self.roots.push(target),
        }
    }

    /// The operator of a node.
    pub fn operator(&self, node: usize) -> &dyn Operator {
        self.nodes[node].operator.as_ref()
    }

    /// Sends the late rows of `node` to an outlet or a port.
    pub fn bind_late(&mut self, node: usize, target: Target) {
        self.nodes[node].late = Some(target);
    }

    /// Where the late rows of `node` go.
    pub fn late_of(&self, node: usize) -> Option<Target> {
        self.nodes[node].late
    }

    /// What follows node `from`, or the source.
    pub fn next_of(&self, from: Option<usize>) -> &[Target] {
        from.map_or(&self.roots, |node| &self.nodes[node].next)
    }

    /// Lets `target` follow node `from`, or the source, in the place of node `node`.
    pub fn redirect(&mut self, from: Option<usize>, node: usize, target: Target) {
        let next = from.map_or(&mut self.roots, |from| &mut self.nodes[from].next);
        next.iter_mut().filter(|next| **next == Target::Node(node)).for_each(|next| *next = target);
    }

    /// Gives an operator panes of another one, see [`Operator::absorb`].
    pub fn absorb(&mut self, node: usize, panes: &mut Vec<PartialPane>) -> Result<()> {
        let node = &mut self.nodes[node];
        node.operator.absorb(panes).map_err(|error| error.context(&node.label))
    }

    /// Sends a batch of the source on its way.
    pub fn push(&mut self, batch: Batch, counters: &Counters) -> Result<()> {
        let roots = self.roots.clone();
        self.fan_out(&roots, batch, counters)
    }

    /// Tells all operators how far event time has come.
    pub fn advance(&mut self, watermark: i64, counters: &Counters) -> Result<()> {
        for root in self.roots.clone() {
            self.advance_target(root, watermark, counters)?;
        }
        Ok(())
    }

    /// Tells the operators from `target` on how far event time has come.
    pub fn advance_target(&mut self, target: Target, watermark: i64, counters: &Counters) -> Result<()> {
        let Target::Node(index) = target else { return Ok(()) };
        let mut more = true;
        while more {
            let mut out = Output::default();
            let node = &mut self.nodes[index];
            node.operator.on_watermark(watermark, &mut out).map_err(|error| error.context(&node.label))?;
            more = out.more;
            self.deliver(index, out, counters)?;
        }
        for next in self.nodes[index].next.clone() {
            self.advance_target(next, watermark, counters)?;
        }
        Ok(())
    }

    fn deliver(&mut self, index: usize, mut out: Output, counters: &Counters) -> Result<()> {
        counters.duplicate_rows.fetch_add(out.duplicates, Relaxed);
        self.hand_on_panes(index, &mut out.panes)?;
        for late in out.late.drain(..) {
            counters.count_late(late.key_groups());
            match self.nodes[index].late {
                Some(Target::Outlet(outlet)) => self.outlets[outlet].write(&late.into_batch(self.unit)?, counters)?,
                Some(Target::Port(port)) => self.left.push((port, late.into_batch(self.unit)?)),
                Some(Target::Node(_)) | None => {}
            }
        }
        if out.batches.is_empty() {
            return Ok(());
        }
        let received = self.received;
        out.batches.iter_mut().for_each(|batch| batch.received = received);
        let next = std::mem::take(&mut self.nodes[index].next);
        let sent = out.batches.into_iter().try_for_each(|batch| self.fan_out(&next, batch, counters));
        self.nodes[index].next = next;
        sent
    }

    /// Gives panes to the windows that follow and share them, or out of this graph.
    fn hand_on_panes(&mut self, index: usize, panes: &mut Vec<PartialPane>) -> Result<()> {
        if !self.nodes[index].is_inner || panes.is_empty() {
            self.panes.extend(panes.drain(..).map(|pane| (index, pane)));
            return Ok(());
        }
        for next in self.nodes[index].next.clone() {
            let Target::Node(next) = next else { continue };
            let node = &mut self.nodes[next];
            node.operator.share(panes).map_err(|error| error.context(&node.label))?;
        }
        self.absorb(index, panes)
    }

    /// Sends a batch to each of `targets`.
    pub fn fan_out(&mut self, targets: &[Target], batch: Batch, counters: &Counters) -> Result<()> {
        let Some((last, others)) = targets.split_last() else { return Ok(()) };
        for target in others {
            self.send(*target, batch.clone(), counters)?;
        }
        self.send(*last, batch, counters)
    }

    /// Sends a batch to `target`.
    pub fn send(&mut self, target: Target, batch: Batch, counters: &Counters) -> Result<()> {
        match target {
            Target::Outlet(index) => {
                counters.rows_out.fetch_add(batch.rows() as u64, Relaxed);
                self.outlets[index].write(&batch, counters)
            }
            Target::Port(port) => {
                self.left.push((port, batch));
                Ok(())
            }
            Target::Node(index) => {
                let mut out = Output::default();
                let node = &mut self.nodes[index];
                node.operator.on_batch(batch, &mut out).map_err(|error| error.context(&node.label))?;
                self.deliver(index, out, counters)
            }
        }
    }

    /// The names of the steps.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|node| !node.is_inner).map(|node| node.label.as_str())
    }

    /// The state of each step; what operators hold for others elsewhere is among the panes then.
    ///
    /// # Errors
    /// If one of them cannot be saved.
    pub fn save(&mut self) -> Result<Vec<Saved>> {
        for node in 0..self.nodes.len() {
            let mut out = Output::default();
            self.nodes[node].operator.hand_over(&mut out)?;
            self.hand_on_panes(node, &mut out.panes)?;
        }
        let steps = self.nodes.iter_mut().filter(|node| !node.is_inner);
        steps.map(|node| node.operator.snapshot().map_err(|error| error.context(&node.label))).collect()
    }

    /// Gives the operator of `node` the state of its step.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it does not know it.
    pub fn restore(&mut self, node: usize, saved: &Saved) -> Result<()> {
        let follows = |before: &Node| before.is_inner && before.next.contains(&Target::Node(node));
        self.nodes.iter_mut().filter(|before| follows(before)).try_for_each(|inner| inner.operator.restore(saved))?;
        let node = &mut self.nodes[node];
        node.operator.restore(saved).map_err(|error| error.context(&node.label))
    }

    /// Whether any operator's late rows have an outlet.
    pub fn takes_late(&self) -> bool {
        self.nodes.iter().any(|node| node.late.is_some())
    }

    /// The end of the earliest window that has rows and waits for event time to reach it.
    pub fn waits_for(&self) -> Option<i64> {
        self.nodes.iter().filter_map(|node| node.operator.waits_for()).min()
    }

    /// Lets the operators give back memory that they keep for rows to come.
    ///
    /// # Errors
    /// As [`Operator::trim`].
    pub fn trim(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.operator.trim().map_err(|error| error.context(&node.label)))
    }

    /// The step with the most state, and how many bytes that is.
    pub fn largest(&self) -> Option<(&str, usize)> {
        let steps = self.nodes.iter().map(|node| (node.label.as_str(), node.operator.state_bytes()));
        steps.max_by_key(|(_, bytes)| *bytes).filter(|(_, bytes)| *bytes > 0)
    }

    /// Bytes of state that the operators hold.
    pub fn state_bytes(&self) -> usize {
        self.nodes.iter().map(|node| node.operator.state_bytes()).sum()
    }
}
