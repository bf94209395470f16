//! What one worker knows of the lease table, and what it does about it: renew, take, steal.
//!
//! Source: the Kinesis Client Library, `DynamoDBLeaseTaker` and `DynamoDBLeaseRenewer`, whose rules are copied:
//!
//! * A lease whose counter was not seen to change for the time `failover` has expired. Clocks are not compared: each worker measures with
//!   its own how long it saw no change.
//! * Each worker should have its share: leases divided by workers, rounded up. Workers are those that own a lease that has not expired, and
//!   this one. With fewer than its share it takes leases that nobody owns or that have expired, as many as it lacks. If there are none, it
//!   steals one from the worker with the most: if that one has more than the share, or if it has just the share and this worker lacks two
//!   or more. So counts end within one of each other, and then nobody steals.
//!
//! Only leases of shards that are to be read are counted and taken, which the caller says; the KCL counts all.
//!
//! A worker holds a lease for `failover` from when it *made* the last write that was done. Whoever takes the lease as expired saw that
//! write's counter later than that, so the two holds do not overlap, if clocks run alike and writes are done in the order given. A stolen
//! lease is held by both until the former owner's next write is refused, a third of `failover` at most: both may read the same records, as
//! with the KCL, but the former can checkpoint none.

use std::collections::{BTreeMap, BTreeSet};

use super::lease::{Kind, Lease, Write};
use super::position::Checkpoint;

/// The KCL's `maxLeasesToStealAtOneTime`.
const MAX_STEAL: usize = 1;

/// The leases of one stream as one worker knows them. Times are nanoseconds of a clock that never goes back.
#[derive(Debug)]
pub(super) struct Table {
    me: String,
    failover: u64,
    leases: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    lease: Lease,
    /// When the counter was last seen to change.
    changed: u64,
    /// When the last write that was done was made, if the lease is held.
    held: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// A write is on its way. There is one at a time, or the second would be refused.
    Busy,
    /// The row is not as known: wait for the next list.
    Stale,
}

/// What a list of the table tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Leases that are held no longer: stop reading their shards.
    pub(super) lost: Vec<String>,
    /// Leases whose rows are no longer there: others have forgotten their shards.
    pub(super) gone: Vec<String>,
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// As before.
    None,
    /// It is held from now on: read the shard from the checkpoint of [`Table::lease`].
    Acquired,
    /// It is held no longer: stop reading the shard.
    Lost,
}

impl Table {
    /// An empty table. `me` is this worker's name, which no other has, not even one that was before; `failover` is in nanoseconds.
    pub(super) fn new(me: impl Into<String>, failover: u64) -> Table {
        Table { me: me.into(), failover, leases: BTreeMap::new() }
    }

    /// Takes a whole list of the table's rows, read before `now`, and tells what it changes beside places and owners.
    pub(super) fn listed(&mut self, list: Vec<Lease>, now: u64) -> Listed {
        let mut lost = Vec::new();
        let seen: BTreeSet<&str> = list.iter().map(|lease| lease.key.as_str()).collect();
        let is_gone = |(key, known): &(&String, &Known)| known.is_loose() && !seen.contains(key.as_str());
        let gone: Vec<String> = self.leases.iter().filter(is_gone).map(|(key, _)| key.clone()).collect();
        self.leases.retain(|key, _| !gone.contains(key));
        for lease in list {
            let Some(known) = self.leases.get_mut(&lease.key) else {
                self.leases.insert(lease.key.clone(), Known { lease, changed: now, held: None, state: State::Idle });
                continue;
            };
            if known.state == State::Stale {
                known.state = State::Idle;
            }
            if known.held.is_some() {
                // What is no newer than our last write was read before it.
                if lease.counter <= known.lease.counter {
                    continue;
                }
                if lease.owner.as_ref() != Some(&self.me) {
                    known.held = None;
                    lost.push(lease.key.clone());
                }
            }
            if known.lease.counter != lease.counter {
                known.changed = now;
            }
            known.lease = lease;
        }
        Listed { lost, gone }
    }

    /// The renewals that are due: of each lease that is held, a third of `failover` after its last write. A lease in this worker's name
    /// that it does not hold, because the answer to a take never came, is renewed at once, and so acquired.
    pub(super) fn renewals(&mut self, now: u64) -> Vec<Write> {
        let due = self.failover / 3;
        let (me, leases) = (&self.me, &mut self.leases);
        let mine = leases.values_mut().filter(|known| known.state == State::Idle && known.lease.owner.as_ref() == Some(me));
        let due = mine.filter(|known| known.held.is_none_or(|made| now.saturating_sub(made) >= due));
        due.map(|known| known.busy(known.lease.renew(now))).collect()
    }

    /// The leases to take or steal now, of those whose shards are to be read as `is_wanted` says. `seed` chooses among equals: give each
    /// worker and each call another, so that workers do not all try for the same.
    pub(super) fn takes(&mut self, now: u64, seed: u64, is_wanted: impl Fn(&Lease) -> bool) -> Vec<Write> {
        let (mut loads, mut mine, mut all, mut free) = (BTreeMap::new(), 0, 0, Vec::new());
        for known in self.leases.values() {
            let wanted = usize::from(is_wanted(&known.lease));
            all += wanted;
            if known.lease.owner.as_ref() == Some(&self.me) || known.is_being_taken() {
                mine += wanted;
            } else if let Some(owner) = known.lease.owner.as_deref().filter(|_| !known.is_expired(now, self.failover)) {
                *loads.entry(owner).or_insert(0) += wanted;
            } else if wanted > 0 && known.state == State::Idle {
                free.push(known.lease.key.clone());
            }
        }
        let share = all.div_ceil(loads.len() + 1);
        let lacks = share.saturating_sub(mine);
        let mut kind = Kind::Take;
        if free.is_empty() {
            kind = Kind::Steal;
            let Some((owner, load)) = loads.into_iter().max_by_key(|(owner, load)| (*load, rank(seed, owner))) else { return Vec::new() };
            if load > share || (load == share && lacks > 1) {
                let stealable = |known: &&Known| {
                    known.state == State::Idle && known.lease.owner.as_deref() == Some(owner) && !known.is_expired(now, self.failover)
                };
                let from = self.leases.values().filter(stealable).map(|known| &known.lease).filter(|lease| is_wanted(lease));
                free.extend(from.map(|lease| lease.key.clone()));
            }
        }
        let count = if kind == Kind::Take { lacks } else { lacks.min(MAX_STEAL) };
        free.sort_by_key(|key| rank(seed, key));
        free.truncate(count);
        let me = &self.me;
        let take = |known: &mut Known| known.busy(known.lease.take(me, kind, now));
        free.iter().filter_map(|key| self.leases.get_mut(key).map(take)).collect()
    }

    /// The write of how far a shard is read, with the shard's children at its end; it renews the lease, too. `None` if the lease is not
    /// held, or while another write of it is on its way: ask again after that.
    pub(super) fn checkpoint(&mut self, key: &str, checkpoint: Checkpoint, children: &[String], now: u64) -> Option<Write> {
        let known = self.own(key)?;
        Some(known.busy(known.lease.checkpoint(checkpoint, children, now)))
    }

    /// The write that gives a lease up. `None` as for [`checkpoint`](Table::checkpoint).
    pub(super) fn release(&mut self, key: &str, now: u64) -> Option<Write> {
        let known = self.own(key)?;
        Some(known.busy(known.lease.release(now)))
    }

    /// The write that deletes the lease of a shard that is forgotten. `None` if another worker owns it or a write of it is on its way.
    pub(super) fn delete(&mut self, key: &str, now: u64) -> Option<Write> {
        let failover = self.failover;
        let known = self.leases.get_mut(key).filter(|known| known.state == State::Idle)?;
        let is_free = known.held.is_some() || known.lease.owner.is_none() || known.is_expired(now, failover);
        is_free.then(|| known.busy(known.lease.delete(now)))
    }

    /// Takes note that a write was done.
    pub(super) fn done(&mut self, write: &Write) -> Change {
        let known = self.leases.remove(&write.key);
        let was_held = known.as_ref().is_some_and(|known| known.held.is_some());
        let mut is_held = false;
        if let Some(after) = &write.after {
            // A list may have told already of what others wrote after this.
            let (lease, changed) = match known {
                Some(known) if known.lease.counter > after.counter => (known.lease, known.changed),
                _ => (after.clone(), write.made),
            };
            is_held = lease.owner.as_ref() == Some(&self.me);
            let held = is_held.then_some(write.made);
            self.leases.insert(write.key.clone(), Known { lease, changed, held, state: State::Idle });
        }
        match (was_held, is_held) {
            (false, true) => Change::Acquired,
            (true, false) => Change::Lost,
            _ => Change::None,
        }
    }

    /// Takes note that the condition of a write was not met: if the lease was held, it is another's now.
    pub(super) fn refused(&mut self, write: &Write) -> Change {
        let Some(known) = self.leases.get_mut(&write.key) else { return Change::None };
        known.state = State::Stale;
        known.held.take().map_or(Change::None, |_| Change::Lost)
    }

    /// Takes note that a write was not done, though its condition may be met, as when the table is throttled: it will be made again.
    pub(super) fn failed(&mut self, write: &Write) {
        if let Some(known) = self.leases.get_mut(&write.key) {
            known.state = State::Idle;
        }
    }

    /// Takes note that it is not known whether a write was done, as when its answer did not come: the next list tells. Until then the lease
    /// is not written, and held as long as it was.
    pub(super) fn unanswered(&mut self, write: &Write) {
        if let Some(known) = self.leases.get_mut(&write.key) {
            known.state = State::Stale;
        }
    }

    /// Whether this worker holds lease `key`: it may read the shard, and nobody can have taken the lease as expired.
    pub(super) fn holds(&self, key: &str, now: u64) -> bool {
        let held = self.leases.get(key).and_then(|known| known.held);
        held.is_some_and(|made| now.saturating_sub(made) < self.failover)
    }

    /// The lease `key` as it is known.
    pub(super) fn lease(&self, key: &str) -> Option<&Lease> {
        self.leases.get(key).map(|known| &known.lease)
    }

    /// Every lease as it is known, by key.
    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().map(|known| &known.lease)
    }

    fn own(&mut self, key: &str) -> Option<&mut Known> {
        self.leases.get_mut(key).filter(|known| known.held.is_some() && known.state == State::Idle)
    }
}

impl Known {
    fn busy(&mut self, write: Write) -> Write {
        self.state = State::Busy;
        write
    }

    fn is_expired(&self, now: u64, failover: u64) -> bool {
        now.saturating_sub(self.changed) >= failover
    }

    /// Whether a write is on its way that will make it ours.
    fn is_being_taken(&self) -> bool {
        self.state == State::Busy && self.held.is_none()
    }

    /// Whether a list without it tells that it is gone.
    fn is_loose(&self) -> bool {
        self.held.is_none() && self.state != State::Busy
    }
}

/// A number that puts names in another order for each seed (FNV-1a, with the finish of SplitMix64).
fn rank(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(seed ^ 0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "table_tests.rs"]
mod tests;
