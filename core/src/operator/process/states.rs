//! What is remembered of each key: its state, its timers, and when it may be forgotten.

use std::collections::BTreeSet;

use crate::operator::compact::{keep, shrink};
use crate::watermark::NONE;

/// One key.
pub(super) struct Entry<S> {
    pub state: S,
    /// Its number in the order in which keys first came.
    number: u64,
    /// Event time of its latest row.
    latest: i64,
    /// Bytes that the state held when last looked at.
    bytes: usize,
    timers: Vec<i64>,
    /// When it is looked at next, whether it may be forgotten; [`NONE`] if never.
    expires: i64,
}

/// A moment that a key waits for: its time, the key's number, the key's slot.
type Moment = (i64, u64, u32);

/// What a moment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Timer {
        time: i64,
        slot: u32,
    },
    /// The key was not seen for as long as it is remembered, and is forgotten now.
    Expired {
        slot: u32,
    },
}

/// The keys by slot.
pub(super) struct States<S> {
    entries: Vec<Option<Entry<S>>>,
    timers: BTreeSet<Moment>,
    /// When each key may be forgotten, if ever. A key that has had rows since is put off when its moment comes.
    expiries: BTreeSet<Moment>,
    ttl: Option<i64>,
    created: u64,
    bytes: usize,
}

impl<S: Default> States<S> {
    pub fn new(ttl: Option<i64>) -> States<S> {
        States { entries: Vec::new(), timers: BTreeSet::new(), expiries: BTreeSet::new(), ttl, created: 0, bytes: 0 }
    }

    /// The key of `slot`, of which a row at `time` has come.
    pub fn seen(&mut self, slot: u32, time: i64) {
        let index = slot as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        match &mut self.entries[index] {
            Some(entry) => entry.latest = entry.latest.max(time),
            vacant => {
                let number = self.created;
                self.created += 1;
                *vacant = Some(Entry { state: S::default(), number, latest: time, bytes: 0, timers: Vec::new(), expires: NONE });
                self.put_off(slot);
            }
        }
    }

    /// Takes up a key of a snapshot, whose number there was `number`.
    pub fn restore(&mut self, slot: u32, state: S, (number, latest): (u64, i64), timers: Vec<i64>) {
        self.seen(slot, latest);
        self.created = self.created.max(number + 1);
        if let Some(Some(entry)) = self.entries.get_mut(slot as usize) {
            self.expiries.remove(&(entry.expires, entry.number, slot));
            (entry.state, entry.number) = (state, number);
        }
        self.put_off(slot);
        timers.into_iter().for_each(|time| self.set_timer(slot, time));
    }

    /// The keys, by slot: number, event time of the latest row, state and timers.
    pub fn all(&self) -> impl Iterator<Item = (u32, u64, i64, &S, &[i64])> {
        let entries = (0u32..).zip(&self.entries);
        entries.filter_map(|(slot, entry)| {
            entry.as_ref().map(|entry| (slot, entry.number, entry.latest, &entry.state, entry.timers.as_slice()))
        })
    }

    /// Looks at a key again when its latest row lies back far enough.
    fn put_off(&mut self, slot: u32) {
        if let (Some(ttl), Some(Some(entry))) = (self.ttl, self.entries.get_mut(slot as usize)) {
            entry.expires = entry.latest.saturating_add(ttl);
            self.expiries.insert((entry.expires, entry.number, slot));
        }
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Entry<S>> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    /// The state of `slot` holds so many bytes now.
    pub fn holds(&mut self, slot: u32, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    pub fn set_timer(&mut self, slot: u32, time: i64) {
        if let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut)
            && self.timers.insert((time, entry.number, slot))
        {
            entry.timers.push(time);
        }
    }

    pub fn delete_timer(&mut self, slot: u32, time: i64) {
        if let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) {
            self.timers.remove(&(time, entry.number, slot));
            entry.timers.retain(|&other| other != time);
        }
    }

    /// Forgets a key with its timers.
    pub fn forget(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::take) else { return };
        self.bytes -= entry.bytes;
        for time in entry.timers {
            self.timers.remove(&(time, entry.number, slot));
        }
        self.expiries.remove(&(entry.expires, entry.number, slot));
    }

    /// Takes out the next moment that is not after `until`: timers before keys that expire at the same time.
    pub fn next_due(&mut self, until: i64) -> Option<Due> {
        loop {
            let timer = self.timers.first().copied().filter(|timer| timer.0 <= until);
            let expiry = self.expiries.first().copied().filter(|expiry| expiry.0 <= until);
            if let Some((time, _, slot)) = timer.filter(|timer| expiry.is_none_or(|expiry| timer.0 <= expiry.0)) {
                self.delete_timer(slot, time);
                return Some(Due::Timer { time, slot });
            }
            let (time, _, slot) = expiry?;
            self.expiries.pop_first();
            self.put_off(slot);
            if self.get_mut(slot).is_some_and(|entry| entry.expires == time) {
                return Some(Due::Expired { slot });
            }
        }
    }

    /// The slots that have keys.
    pub fn slots(&self) -> Vec<u32> {
        (0u32..).zip(&self.entries).filter(|(_, entry)| entry.is_some()).map(|(slot, _)| slot).collect()
    }

    /// Moves the keys in `slots`, which are all, together in this order.
    pub fn keep(&mut self, slots: &[u32]) {
        keep(&mut self.entries, slots);
        (self.timers, self.expiries) = (BTreeSet::new(), BTreeSet::new());
        for (slot, entry) in (0u32..).zip(&mut self.entries) {
            let Some(entry) = entry else { continue };
            shrink(&mut entry.timers);
            self.timers.extend(entry.timers.iter().map(|&time| (time, entry.number, slot)));
            self.expiries.extend((entry.expires != NONE).then_some((entry.expires, entry.number, slot)));
        }
    }

    /// The earliest timer.
    pub fn earliest_timer(&self) -> Option<i64> {
        self.timers.first().map(|timer| timer.0)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let moments = 2 * (self.timers.len() + self.expiries.len()) * size_of::<Moment>() + self.timers.len() * size_of::<i64>();
        self.entries.capacity() * (size_of::<Option<Entry<S>>>() - size_of::<S>()) + moments + self.bytes
    }
}

/// The latest of some event times; [`NONE`] if there are none.
pub(super) fn latest(times: &[i64]) -> i64 {
    times.iter().copied().max().unwrap_or(NONE)
}
