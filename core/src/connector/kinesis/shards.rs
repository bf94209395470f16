//! Lineage: which shards of a stream are to be read, from where, and in which order.
//!
//! A shard that is split or merged is closed, and its children take over its hash keys. A key's records stay in order only if the parents
//! are read to their end before a child is begun. Every shard that is to be read has an entry here, its [`Checkpoint`]; a new shard gets
//! one by the rules of the Kinesis Client Library (`HierarchicalShardSyncer`, `EmptyLeaseTableSynchronizer`,
//! `NonEmptyLeaseTableSynchronizer`, `LeaseCleanupManager`; their behaviour is copied, not their code):
//!
//! * At the first look, when there is no entry: from `TRIM_HORIZON` and `AT_TIMESTAMP` every listed shard gets an entry at that word. From
//!   `LATEST` only the youngest shards do, at `LATEST`; their ancestors get none and are never read.
//! * Later, an open shard without an entry is sought up its ancestors until each path meets an entry. Those in between get one, at
//!   `TRIM_HORIZON`, since they were born while their ancestors were read. Only where no path meets an entry is the read's start the place.
//!   The search goes up from open shards and stops at entries, so it never comes to a shard that is finished and forgotten.
//! * `AT_TIMESTAMP` is the exception: every shard, early or late, begins at `AT_TIMESTAMP`. The list does not tell when a shard was born,
//!   so one that ended before the time and one that was born after it cannot be told apart; asking each for its first record at or after
//!   the time gives nothing of the former and all of the latter. No record at or after the time is lost, none before it is given, and since
//!   each record is in one shard, none is given twice.
//! * A finished shard is forgotten when it is no longer listed, or when its parents are forgotten and children that cover its hash keys
//!   have all begun. Until then its entry keeps it and its ancestors from being taken for new.
//!
//! Several workers have each a lineage of their own, fed with the rows of the lease table: [`Lineage::told`] and [`Lineage::read_to`] for
//! each row, [`Lineage::forget`] for each that is gone.
//!
//! It differs from the KCL in two places, both on the safe side. From `LATEST` a closed shard whose children are not listed yet counts as
//! one of the youngest: its children are then descendants, and what they got before they were listed is read. And if an entry's shard has
//! expired (the read stood still for longer than the stream keeps records), shards that cannot be linked to any entry are read from
//! `TRIM_HORIZON`, not from `LATEST`: records that are still kept are not passed over in silence.

use std::collections::{BTreeMap, BTreeSet};

use super::position::{Checkpoint, HashRange};

/// A shard, as `ListShards` and the `ChildShards` of `GetRecords` tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) id: String,
    /// The parent and the adjacent parent, so far as there are any: none, one or two. They may have expired.
    pub(super) parents: Vec<String>,
    pub(super) range: HashRange,
    /// Whether it has an ending sequence number: it takes no more records.
    pub(super) closed: bool,
}

/// Where a read begins that has no checkpoint. The time of `AtTimestamp` is with the read's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    TrimHorizon,
    Latest,
    AtTimestamp,
}

/// What is to be done with each shard that has an entry; each list has parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// To be read now, from there. A place of `LATEST` means the newest record at the time when the entry was made: a read that begins anew
    /// has to ask for the records at or after that time, since `LATEST` would pass over what came in between.
    pub(super) read: Vec<(String, Checkpoint)>,
    /// To be read when their parents are.
    pub(super) waiting: Vec<String>,
    /// Read to their end.
    pub(super) finished: Vec<String>,
    /// Those of the finished whose entries are of no more use.
    pub(super) forget: Vec<String>,
    /// No longer kept by the stream, though not read to their end: records may be lost. Say so, then [`Lineage::forget`] them.
    pub(super) expired: Vec<String>,
}

/// The shards of one stream and how far each is read.
#[derive(Debug, Clone)]
pub(super) struct Lineage {
    start: Start,
    shards: BTreeMap<String, Shard>,
    checkpoints: BTreeMap<String, Checkpoint>,
    /// Whether a whole list was taken: before that, what is missing tells nothing.
    is_listed: bool,
}

impl Lineage {
    /// A lineage with the entries of a snapshot or a lease table; without any, the first list is the first look.
    pub(super) fn new(start: Start, checkpoints: BTreeMap<String, Checkpoint>) -> Lineage {
        Lineage { start, shards: BTreeMap::new(), checkpoints, is_listed: false }
    }

    /// The entries, which are all that a snapshot has to keep.
    pub(super) fn checkpoints(&self) -> &BTreeMap<String, Checkpoint> {
        &self.checkpoints
    }

    /// The shard `id`, if it is listed.
    pub(super) fn shard(&self, id: &str) -> Option<&Shard> {
        self.shards.get(id)
    }

    /// Takes a whole list of the stream's shards and gives the entries made for new ones, parents before children: write them in this
    /// order, then a crash in between leaves what the next look completes.
    ///
    /// A list may be older than what was told since. A known shard that is missing from it counts as expired only if it is known to be
    /// closed and none of its parents is listed, for parents expire first.
    pub(super) fn listed(&mut self, list: Vec<Shard>) -> Vec<(String, Checkpoint)> {
        self.is_listed = true;
        let known = std::mem::take(&mut self.shards);
        for mut shard in list {
            shard.closed |= self.checkpoints.get(&shard.id) == Some(&Checkpoint::ShardEnd);
            self.shards.insert(shard.id.clone(), shard);
        }
        for (id, shard) in known {
            if let Some(listed) = self.shards.get_mut(&id) {
                listed.closed |= shard.closed;
            } else if !shard.closed || shard.parents.iter().any(|parent| self.shards.contains_key(parent)) {
                self.shards.insert(id, shard);
            }
        }
        self.enter()
    }

    /// Takes the children that `GetRecords` tells of at the end of a shard, and gives the entries made for those that are new. Whether they
    /// are closed by now is not told; the next list tells.
    ///
    /// A child with a parent that is not listed waits for the next list: the parent may have expired, but it may also have been born since
    /// the last one, as when a shard is split and one of the halves merged with the shard that ended here, and must then be read before.
    pub(super) fn born(&mut self, children: Vec<Shard>) -> Vec<(String, Checkpoint)> {
        for child in children {
            if child.parents.iter().all(|parent| self.shards.contains_key(parent)) {
                self.shards.entry(child.id.clone()).or_insert(Shard { closed: false, ..child });
            }
        }
        self.enter()
    }

    /// Takes a shard that another worker has made an entry for, which [`read_to`](Lineage::read_to) is to give next: it may be younger than
    /// the last list, and must not count as expired. No entries are made.
    pub(super) fn told(&mut self, shard: Shard) {
        self.shards.entry(shard.id.clone()).or_insert(Shard { closed: false, ..shard });
    }

    /// Takes note that the stream no longer has shard `id`, as `ResourceNotFoundException` tells.
    pub(super) fn gone(&mut self, id: &str) {
        self.shards.remove(id);
    }

    /// Takes note of how far shard `id` is read. Entries come from [`listed`](Lineage::listed) and [`born`](Lineage::born), or, with
    /// several workers, from the lease table.
    pub(super) fn read_to(&mut self, id: &str, checkpoint: Checkpoint) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.closed |= checkpoint == Checkpoint::ShardEnd;
        }
        self.checkpoints.insert(id.to_owned(), checkpoint);
    }

    /// Drops the entry of shard `id`, which [`plan`](Lineage::plan) gave as to be forgotten or as expired, or whose row is gone from the
    /// lease table.
    pub(super) fn forget(&mut self, id: &str) {
        // If its end was not seen, what is known of it is old: it may look open here, and would be taken for new.
        if self.checkpoints.remove(id) != Some(Checkpoint::ShardEnd) {
            self.shards.remove(id);
        }
    }

    /// What is to be done with each shard, by what is known now: nothing before the first whole list.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        if !self.is_listed {
            return plan;
        }
        let mut forgotten = BTreeSet::new();
        let children = self.children();
        let unlisted = self.checkpoints.keys().map(String::as_str).filter(|id| !self.shards.contains_key(*id));
        for id in unlisted.chain(self.order()) {
            let Some(checkpoint) = self.checkpoints.get(id) else { continue };
            match (checkpoint, self.shards.get(id)) {
                (Checkpoint::ShardEnd, shard) => {
                    plan.finished.push(id.to_owned());
                    if shard.is_none_or(|shard| self.is_handed_over(shard, &children, &forgotten)) {
                        forgotten.insert(id);
                        plan.forget.push(id.to_owned());
                    }
                }
                (_, None) => plan.expired.push(id.to_owned()),
                (_, Some(shard)) if shard.parents.iter().any(|parent| self.is_unread(parent)) => plan.waiting.push(id.to_owned()),
                (checkpoint, Some(_)) => plan.read.push((id.to_owned(), checkpoint.clone())),
            }
        }
        plan
    }

    /// Whether shard `id` is still to be read to its end: it has an entry, and the stream has it.
    fn is_unread(&self, id: &str) -> bool {
        self.shards.contains_key(id) && self.checkpoints.get(id).is_some_and(|checkpoint| *checkpoint != Checkpoint::ShardEnd)
    }

    /// Whether a finished shard is of no more use: its parents have no entries, and children that have begun cover its hash keys.
    fn is_handed_over(&self, shard: &Shard, children: &BTreeMap<&str, Vec<&Shard>>, forgotten: &BTreeSet<&str>) -> bool {
        let has_entry = |parent: &String| self.checkpoints.contains_key(parent) && !forgotten.contains(parent.as_str());
        if shard.parents.iter().any(has_entry) {
            return false;
        }
        let begun = |child: &&&Shard| self.checkpoints.get(&child.id).is_some_and(Checkpoint::has_begun);
        let children = children.get(shard.id.as_str()).map_or(&[][..], Vec::as_slice);
        let mut ranges: Vec<HashRange> = children.iter().filter(begun).map(|child| child.range).collect();
        ranges.len() == children.len() && covers(&mut ranges, shard.range)
    }

    /// Makes entries for the shards that should have one by the rules of this module.
    fn enter(&mut self) -> Vec<(String, Checkpoint)> {
        let children = self.children();
        let first = self.checkpoints.is_empty();
        let youngest = |shard: &&Shard| if first { !children.contains_key(shard.id.as_str()) } else { !shard.closed };
        let new = |id: &str| !self.checkpoints.contains_key(id);
        let tips: BTreeSet<&str> = self.shards.values().filter(youngest).map(|shard| shard.id.as_str()).filter(|id| new(id)).collect();
        if tips.is_empty() || !self.is_listed {
            return Vec::new();
        }
        let mut wanted = tips.clone();
        let mut climb: Vec<&str> = tips.iter().copied().collect();
        while let Some(shard) = climb.pop().and_then(|id| self.shards.get(id)) {
            for parent in shard.parents.iter().map(String::as_str) {
                if new(parent) && self.shards.contains_key(parent) && wanted.insert(parent) {
                    climb.push(parent);
                }
            }
        }
        let has_gap = self.checkpoints.keys().any(|id| !self.shards.contains_key(id));
        let mut entered: BTreeMap<&str, Checkpoint> = BTreeMap::new();
        let mut made = Vec::new();
        for id in self.order().into_iter().filter(|id| wanted.contains(id)) {
            let mut parents = self.shards[id].parents.iter().map(String::as_str);
            let is_descendant = parents.any(|parent| !new(parent) || entered.contains_key(parent));
            let checkpoint = match self.start {
                Start::AtTimestamp => Checkpoint::AtTimestamp,
                Start::Latest if !is_descendant && !has_gap => match tips.contains(id) {
                    true => Checkpoint::Latest,
                    false => continue,
                },
                Start::TrimHorizon | Start::Latest => Checkpoint::TrimHorizon,
            };
            entered.insert(id, checkpoint.clone());
            made.push((id.to_owned(), checkpoint));
        }
        self.checkpoints.extend(made.iter().cloned());
        made
    }

    /// The known children of each shard that has any.
    fn children(&self) -> BTreeMap<&str, Vec<&Shard>> {
        let mut children: BTreeMap<&str, Vec<&Shard>> = BTreeMap::new();
        for shard in self.shards.values() {
            for parent in &shard.parents {
                children.entry(parent).or_default().push(shard);
            }
        }
        children
    }

    /// The known shards, parents before children. Shards that are damaged to be their own ancestors come last.
    fn order(&self) -> Vec<&str> {
        let children = self.children();
        let known = |shard: &Shard| shard.parents.iter().filter(|parent| self.shards.contains_key(*parent)).count();
        let mut missing: BTreeMap<&str, usize> = self.shards.values().map(|shard| (shard.id.as_str(), known(shard))).collect();
        let mut order: Vec<&str> = missing.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
        let mut at = 0;
        while let Some(id) = order.get(at).copied() {
            at += 1;
            missing.remove(id);
            for child in children.get(id).into_iter().flatten() {
                if let Some(count) = missing.get_mut(child.id.as_str()) {
                    *count -= 1;
                    if *count == 0 {
                        order.push(&child.id);
                    }
                }
            }
        }
        order.extend(missing.into_keys());
        order
    }
}

/// Whether every hash key of `whole` is in one of `ranges`, which are sorted on the way.
fn covers(ranges: &mut [HashRange], whole: HashRange) -> bool {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut next = whole.start;
    for range in ranges {
        if range.start > next {
            return false;
        }
        if range.end >= whole.end {
            return true;
        }
        next = next.max(range.end.saturating_add(1));
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "shards_tests.rs"]
mod tests;
