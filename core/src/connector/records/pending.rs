//! Positions on their way back to the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Deliveries whose positions are told apart until the sinks have committed; beyond that the oldest are taken together.
const TOLD_APART: usize = 64;

/// Where partitions are after each delivery, until the sinks have committed it. A position is that of the next record to read, or whatever
/// else the broker keeps.
pub(in crate::connector) struct Pending<P> {
    /// Deliveries so far.
    deliveries: u64,
    /// Where partitions are after the records since the last delivery.
    since: BTreeMap<u32, P>,
    /// The same after each delivery that was not committed.
    history: VecDeque<(u64, BTreeMap<u32, P>)>,
    /// What can be committed, and of which partitions there is more than was.
    ready: BTreeMap<u32, P>,
    fresh: BTreeSet<u32>,
    /// Partitions to give back, and the delivery after which they can be.
    revoked: VecDeque<(u64, Vec<u32>)>,
}

impl<P> Default for Pending<P> {
    fn default() -> Pending<P> {
        Pending {
            deliveries: 0,
            since: BTreeMap::new(),
            history: VecDeque::new(),
            ready: BTreeMap::new(),
            fresh: BTreeSet::new(),
            revoked: VecDeque::new(),
        }
    }
}

impl<P> Pending<P> {
    /// A partition is at `position` after records of the next delivery.
    pub(in crate::connector) fn reach(&mut self, partition: u32, position: P) {
        self.since.insert(partition, position);
    }

    /// A delivery is made, after which `revoked` are to be given back.
    pub(in crate::connector) fn deliver(&mut self, revoked: Vec<Vec<u32>>) {
        self.deliveries += 1;
        self.revoked.extend(revoked.into_iter().map(|partitions| (self.deliveries, partitions)));
        if self.since.is_empty() {
            return;
        }
        self.history.push_back((self.deliveries, std::mem::take(&mut self.since)));
        if self.history.len() > TOLD_APART
            && let (Some((_, first)), Some((_, second))) = (self.history.pop_front(), self.history.front_mut())
        {
            for (partition, position) in first {
                second.entry(partition).or_insert(position);
            }
        }
    }

    /// The first deliveries were committed, and nobody needs their rows.
    pub(in crate::connector) fn settle(&mut self, deliveries: u64) {
        while let Some((_, positions)) = self.history.pop_front_if(|(number, _)| *number <= deliveries) {
            self.fresh.extend(positions.keys());
            self.ready.extend(positions);
        }
    }

    /// Partitions that can be given back, as the sinks have committed so many deliveries.
    pub(in crate::connector) fn given_back(&mut self, deliveries: u64) -> Option<Vec<u32>> {
        self.revoked.pop_front_if(|(delivery, _)| *delivery <= deliveries).map(|(_, partitions)| partitions)
    }

    /// Forgets partitions that are others' now.
    pub(in crate::connector) fn forget(&mut self, partitions: &[u32]) {
        let positions = self.history.iter_mut().map(|(_, positions)| positions).chain([&mut self.ready, &mut self.since]);
        positions.for_each(|positions| positions.retain(|partition, _| !partitions.contains(partition)));
    }

    /// What can be committed.
    pub(in crate::connector) fn ready(&self) -> impl Iterator<Item = (u32, &P)> {
        self.ready.iter().map(|(partition, position)| (*partition, position))
    }

    /// The partitions of which more can be committed than at the last call.
    pub(in crate::connector) fn take_fresh(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(pending: &Pending<i64>) -> Vec<(u32, i64)> {
        pending.ready().map(|(partition, position)| (partition, *position)).collect()
    }

    #[test]
    fn positions_are_ready_when_their_delivery_is_committed() {
        let mut pending = Pending::default();
        pending.reach(0, 5);
        pending.reach(1, 7);
        pending.deliver(Vec::new());
        pending.reach(0, 9);
        pending.deliver(vec![vec![1]]);
        assert_eq!((ready(&pending), pending.given_back(1)), (vec![], None));
        pending.settle(1);
        assert_eq!((ready(&pending), pending.take_fresh()), (vec![(0, 5), (1, 7)], BTreeSet::from([0, 1])));
        pending.settle(2);
        assert_eq!((ready(&pending), pending.take_fresh()), (vec![(0, 9), (1, 7)], BTreeSet::from([0])));
        assert_eq!(pending.given_back(2), Some(vec![1]));
        pending.forget(&[1]);
        assert_eq!((ready(&pending), pending.given_back(9)), (vec![(0, 9)], None));
    }

    #[test]
    fn deliveries_that_wait_long_are_taken_together() {
        let mut pending = Pending::default();
        for delivery in 0..TOLD_APART as i64 + 3 {
            pending.reach(delivery as u32 % 2, delivery);
            pending.deliver(Vec::new());
        }
        pending.settle(3);
        assert_eq!(ready(&pending), [], "the first three are one with the fourth");
        pending.settle(4);
        assert_eq!(ready(&pending), [(0, 2), (1, 3)]);
    }
}
