//! The operators of a pipeline and who feeds whom: batches and watermarks go from the roots to the sinks.

use std::sync::atomic::Ordering::Relaxed;

use crate::batch::Batch;
use crate::error::Result;
use crate::metrics::Counters;
use crate::operator::{Operator, Output};
use crate::runtime::outlet::Outlet;
use crate::state::{Saved, Snapshot};

/// Where a batch goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Node(usize),
    Outlet(usize),
}

struct Node {
    /// What the step is, for error messages.
    label: String,
    operator: Box<dyn Operator>,
    next: Vec<Target>,
    /// The outlet that takes this operator's late rows.
    late: Option<usize>,
}

/// A directed acyclic graph of operators that ends in outlets.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    roots: Vec<Target>,
    pub outlets: Vec<Outlet>,
    /// When the oldest row of the batch arrived that is on its way, in the clock's nanoseconds. Results of
    /// windows inherit it: they are due because of this batch.
    pub received: u64,
}

impl Graph {
    /// Adds an operator; connect it with [`Graph::connect`].
    pub fn add(&mut self, label: impl Into<String>, operator: Box<dyn Operator>) -> usize {
        self.nodes.push(Node { label: label.into(), operator, next: Vec::new(), late: None });
        self.nodes.len() - 1
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

    /// Sends the late rows of `node` to `outlet`.
    pub fn bind_late(&mut self, node: usize, outlet: usize) {
        self.nodes[node].late = Some(outlet);
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

    fn advance_target(&mut self, target: Target, watermark: i64, counters: &Counters) -> Result<()> {
        let Target::Node(index) = target else { return Ok(()) };
        let mut out = Output::default();
        let node = &mut self.nodes[index];
        node.operator.on_watermark(watermark, &mut out).map_err(|error| error.context(&node.label))?;
        self.deliver(index, out, counters)?;
        for next in self.nodes[index].next.clone() {
            self.advance_target(next, watermark, counters)?;
        }
        Ok(())
    }

    fn deliver(&mut self, index: usize, mut out: Output, counters: &Counters) -> Result<()> {
        counters.duplicate_rows.fetch_add(out.duplicates, Relaxed);
        for late in out.late.drain(..) {
            counters.late_rows.fetch_add(late.rows() as u64, Relaxed);
            if let Some(outlet) = self.nodes[index].late {
                self.outlets[outlet].write(&late, counters)?;
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

    fn fan_out(&mut self, targets: &[Target], batch: Batch, counters: &Counters) -> Result<()> {
        let Some((last, others)) = targets.split_last() else { return Ok(()) };
        for target in others {
            self.send(*target, batch.clone(), counters)?;
        }
        self.send(*last, batch, counters)
    }

    fn send(&mut self, target: Target, batch: Batch, counters: &Counters) -> Result<()> {
        match target {
            Target::Outlet(index) => {
                counters.rows_out.fetch_add(batch.rows() as u64, Relaxed);
                self.outlets[index].write(&batch, counters)
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
        self.nodes.iter().map(|node| node.label.as_str())
    }

    /// Puts the state of all operators into a snapshot.
    ///
    /// # Errors
    /// If one of them cannot be saved.
    pub fn save(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        for node in &mut self.nodes {
            let saved = node.operator.snapshot().map_err(|error| error.context(&node.label))?;
            snapshot.push(&node.label, saved);
        }
        Ok(())
    }

    /// Gives each operator the state of its step.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if one of them does not know it.
    pub fn restore<'a>(&mut self, saved: impl Iterator<Item = &'a Saved>) -> Result<()> {
        let mut nodes = self.nodes.iter_mut().zip(saved);
        nodes.try_for_each(|(node, saved)| node.operator.restore(saved).map_err(|error| error.context(&node.label)))
    }

    /// Whether any operator's late rows have an outlet.
    pub fn takes_late(&self) -> bool {
        self.nodes.iter().any(|node| node.late.is_some())
    }

    /// The end of the earliest window that has rows and waits for event time to reach it.
    pub fn waits_for(&self) -> Option<i64> {
        self.nodes.iter().filter_map(|node| node.operator.waits_for()).min()
    }

    /// Bytes of state that the operators hold.
    pub fn state_bytes(&self) -> usize {
        self.nodes.iter().map(|node| node.operator.state_bytes()).sum()
    }
}
