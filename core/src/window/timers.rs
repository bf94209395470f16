//! Timers in buckets of event time: a ring of those that are near, a tree of those that are far.

use std::collections::{BTreeMap, VecDeque};

/// Buckets of the ring.
const NEAR: i64 = 256;

/// Slots by when something is due for them.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Event time of a bucket.
    width: i64,
    /// The first bucket of the ring.
    base: i64,
    ring: VecDeque<Vec<u32>>,
    far: BTreeMap<i64, Vec<u32>>,
    /// The last bucket that was popped: none before it is used again.
    floor: i64,
    /// Emptied buckets, for those to come.
    spare: Vec<Vec<u32>>,
}

impl Timers {
    /// No timers. `width` is positive.
    pub fn new(width: i64) -> Timers {
        Timers { width, base: 0, ring: VecDeque::new(), far: BTreeMap::new(), floor: i64::MIN, spare: Vec::new() }
    }

    /// The bucket of a time.
    pub fn bucket(&self, due: i64) -> i64 {
        due.div_euclid(self.width).max(self.floor)
    }

    /// Sets a timer for `slot` and returns its bucket.
    #[inline]
    pub fn push(&mut self, due: i64, slot: u32) -> i64 {
        let bucket = self.bucket(due);
        if self.ring.is_empty() {
            self.base = bucket;
        }
        let place = bucket.saturating_sub(self.base);
        if place >= self.ring.len() as i64 || place < 0 {
            return self.push_outside(bucket, slot);
        }
        self.ring[place as usize].push(slot);
        bucket
    }

    /// The same of a bucket that the ring has not.
    fn push_outside(&mut self, bucket: i64, slot: u32) -> i64 {
        if bucket < self.base {
            // Further buckets that are near now may not be so from here.
            let (base, ring) = (std::mem::replace(&mut self.base, bucket), std::mem::take(&mut self.ring));
            let filled = (base..).zip(ring).filter(|(_, slots)| !slots.is_empty());
            filled.for_each(|(bucket, mut slots)| self.far.entry(bucket).or_default().append(&mut slots));
        }
        if bucket.saturating_sub(self.base) >= NEAR {
            self.far.entry(bucket).or_default().push(slot);
            return bucket;
        }
        let place = (bucket - self.base) as usize;
        while self.ring.len() <= place {
            self.ring.push_back(self.spare.pop().unwrap_or_default());
        }
        self.ring[place].push(slot);
        bucket
    }

    /// Shows `look` each slot whose timer may be due at `watermark`. It says until when the slot waits; with `None` the timer is gone.
    pub fn due(&mut self, watermark: i64, mut look: impl FnMut(u32) -> Option<i64>) {
        while let Some((bucket, mut slots)) = self.pop(watermark) {
            slots.retain(|&slot| match look(slot) {
                Some(due) if self.bucket(due) > bucket => {
                    self.push(due, slot);
                    false
                }
                waits => waits.is_some(),
            });
            if !slots.is_empty() {
                return self.put_back(bucket, slots);
            }
            self.recycle(slots);
        }
    }

    /// Takes out the first bucket, if something may be due in it at `watermark`.
    pub fn pop(&mut self, watermark: i64) -> Option<(i64, Vec<u32>)> {
        let reached = watermark.div_euclid(self.width);
        while let Some(slots) = self.ring.pop_front_if(|slots| slots.is_empty()) {
            self.base += 1;
            self.spare.push(slots);
        }
        let near = (!self.ring.is_empty()).then_some(self.base);
        let far = self.far.first_key_value().map(|(bucket, _)| *bucket);
        let first = near.into_iter().chain(far).min().filter(|bucket| *bucket <= reached)?;
        self.floor = first;
        if near == Some(first) {
            self.base += 1;
            let mut slots = self.ring.pop_front()?;
            // A bucket that was far may have become near.
            slots.extend(self.far.remove(&first).into_iter().flatten());
            return Some((first, slots));
        }
        self.far.remove(&first).map(|slots| (first, slots))
    }

    /// Puts back the slots of a bucket that was popped, which wait on.
    pub fn put_back(&mut self, bucket: i64, slots: Vec<u32>) {
        self.far.entry(bucket).or_default().extend(slots);
    }

    /// Gives back the memory of a bucket that was popped.
    pub fn recycle(&mut self, mut slots: Vec<u32>) {
        slots.clear();
        if self.spare.len() < NEAR as usize {
            self.spare.push(slots);
        }
    }

    /// The slots of the first bucket.
    pub fn first(&self) -> Option<&[u32]> {
        let near = (self.base..).zip(&self.ring).find(|(_, slots)| !slots.is_empty());
        let far = self.far.first_key_value().map(|(bucket, slots)| (*bucket, slots));
        near.into_iter().chain(far).min_by_key(|(bucket, _)| *bucket).map(|(_, slots)| slots.as_slice())
    }

    /// Gives back the memory of emptied buckets.
    pub fn trim(&mut self) {
        self.spare = Vec::new();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.ring.iter().chain(self.far.values()).chain(&self.spare).map(Vec::capacity).sum();
        let buckets = self.ring.capacity() + self.far.len() + self.spare.capacity();
        slots * size_of::<u32>() + buckets * size_of::<Vec<u32>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_comes_once_when_it_is_due() {
        for width in [1, 7, 1_000] {
            let mut timers = Timers::new(width);
            let dues: Vec<i64> = (0..500).map(|slot: i64| (slot * 7_919) % 900 + if slot % 50 == 0 { 10_000_000 } else { 0 }).collect();
            dues.iter().enumerate().for_each(|(slot, &due)| {
                timers.push(due, slot as u32);
            });
            let mut popped = Vec::new();
            for watermark in [-5, 0, 13, 14, 400, 401, 899, 5_000, 10_000_300, i64::MAX] {
                timers.due(watermark, |slot| {
                    let waits = Some(dues[slot as usize]).filter(|due| *due > watermark);
                    popped.extend(waits.is_none().then_some(slot));
                    waits
                });
                let missed = (0..500).filter(|&slot| dues[slot as usize] <= watermark && !popped.contains(&(slot as u32))).count();
                assert_eq!(missed, 0, "{width} {watermark}");
            }
            popped.sort_unstable();
            assert_eq!(popped, (0..500).collect::<Vec<_>>());
        }
    }
}
