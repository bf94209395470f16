//! A hash table of buckets that grows a few homes at a time.
//!
//! A key lies in the bucket at its home, the top bits of its hash, or, that being full, in the first with room after it.
//! Each bucket counts the live keys that passed it so, and a look-up goes on only where there are such: F14's overflow
//! counts (Bronson and Shi, "Open-sourcing F14", 2019), which need no tombstones.
//!
//! A table that is to be larger leaves its keys where they are. Every key added from then on moves the keys of the next
//! [`STEP`] homes, in the order of homes, so that a hash alone tells in which of the two tables its key is.

use std::hint::select_unpredictable;

use crate::simd::dictionary::{Bucket, Buckets, Home, Mark, View};

/// Buckets of the first table: 1 KiB.
const FIRST: usize = 16;

/// Homes moved for each key added. A table of b buckets doubles at `FILL · b` keys; the next is full after as many more, by
/// when one home per `FILL` keys would be enough. Two for each key give back the old table soon.
const STEP: usize = 2;

/// Most keys per bucket on average, of five or seven that there is room for: of a hundred keys, one or two lie past their home then.
const FILL: usize = 2;

/// Buckets up to which a table has one key per bucket at most, so that hardly a key lies past its home: a quarter of a common second-level
/// cache.
const SPACIOUS: usize = 1 << 12;

/// Up to so many buckets per key, all are overwritten to clear the table; of more, those of the keys.
const OVERWRITE: usize = 2;

/// Marks of keys to slots.
#[derive(Debug)]
pub(super) struct Table<M, const WAYS: usize> {
    now: Buckets<M, WAYS>,
    /// The table that `now` replaces, until all its keys have moved.
    before: Buckets<M, WAYS>,
    /// Homes of `before` from which keys have moved.
    drained: usize,
    len: usize,
    seeds: [u64; 2],
}

impl<M: Mark, const WAYS: usize> Table<M, WAYS> {
    /// An empty table, which has no memory yet.
    pub fn new(seeds: [u64; 2]) -> Self {
        Self { now: Buckets::NONE, before: Buckets::NONE, drained: 0, len: 0, seeds }
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.now.bytes() + self.before.bytes()
    }

    /// What hashes are made with.
    pub fn seeds(&self) -> [u64; 2] {
        self.seeds
    }

    /// The buckets to look in; the table must not be empty.
    #[inline(always)]
    pub fn view(&self) -> View<'_, M, WAYS> {
        View::new(self.now.as_slice(), self.before.as_slice(), self.drained, self.seeds)
    }

    /// Asks for the bucket that a mark is in, or passed.
    pub fn prefetch(&self, mark: M) {
        if self.len > 0 {
            self.view().prefetch(mark);
        }
    }

    /// The slot, plus 1, of the key with this mark that `is` accepts, or 0.
    pub fn find(&self, mark: M, is: impl Fn(u32) -> bool) -> u32 {
        if self.len == 0 { 0 } else { self.view().find(mark, is) }
    }

    /// Adds a key that is not there under its slot plus 1.
    pub fn add(&mut self, mark: M, slot: u32) {
        self.make_room();
        let (buckets, home) = self.part(mark);
        place(buckets, home, mark, slot);
        self.len += 1;
    }

    /// Adds a key under a slot plus 1 and returns 0, or the slot plus 1 of the first key with this mark, if there is one.
    #[inline]
    pub fn find_or_add(&mut self, mark: M, slot: u32) -> u32 {
        self.make_room();
        let (buckets, home) = self.part(mark);
        let bucket = &mut buckets[home];
        let (known, way) = (bucket.find_one(mark, &|_| true), bucket.used());
        if known > 0 {
            return known;
        }
        if bucket.passed > 0 || way == WAYS {
            return self.find_or_add_past(mark, slot);
        }
        (bucket.marks[way], bucket.slots[way]) = (mark, slot);
        self.len += 1;
        0
    }

    /// [`Self::find_or_add`] of a key that is not in its home, which is full, or was.
    #[cold]
    fn find_or_add_past(&mut self, mark: M, slot: u32) -> u32 {
        let known = self.view().find(mark, |_| true);
        if known == 0 {
            let (buckets, home) = self.part(mark);
            place(buckets, home, mark, slot);
            self.len += 1;
        }
        known
    }

    /// Makes sure that there is room for one more key, and moves some of those that are to be moved.
    #[inline(always)]
    fn make_room(&mut self) {
        let buckets = self.now.as_slice().len();
        if self.len >= if buckets <= SPACIOUS { buckets } else { FILL * buckets } {
            self.grow();
        }
        self.settle(STEP);
    }

    /// Removes the key of a slot, given plus 1; whether it was there.
    pub fn remove(&mut self, mark: M, slot: u32) -> bool {
        if self.len == 0 {
            return false;
        }
        let (buckets, home) = self.part(mark);
        let removed = take(buckets, home, slot);
        self.len -= usize::from(removed);
        removed
    }

    /// Removes the keys of the bucket numbered `index`, in the order of memory, and returns them; `None` past the end.
    /// Keys of a table that is being replaced are not reached.
    pub fn pop_bucket(&mut self, index: usize) -> Option<impl Iterator<Item = (M, u32)> + use<M, WAYS>> {
        let bucket = *self.now.as_slice().get(index)?;
        for (mark, slot) in entries(&bucket) {
            self.remove(mark, slot);
        }
        Some(entries(&bucket))
    }

    /// Whether keys are still moving from a smaller table.
    pub fn is_moving(&self) -> bool {
        !self.before.is_empty()
    }

    /// Moves the keys of so many homes, if keys are still moving.
    #[inline]
    pub fn settle(&mut self, homes: usize) {
        if self.is_moving() {
            (0..homes).for_each(|_| self.drain());
        }
    }

    /// Gives back the memory of an empty table.
    pub fn give_back(&mut self) {
        debug_assert_eq!(self.len, 0);
        *self = Self::new(self.seeds);
    }

    /// Forgets all keys, whose marks are among those given, and keeps the table.
    pub fn clear(&mut self, marks: impl ExactSizeIterator<Item = M>) {
        (self.before, self.drained) = (Buckets::NONE, 0);
        let (buckets, seeds) = (self.now.as_mut_slice(), self.seeds);
        if buckets.len() <= OVERWRITE * marks.len() {
            buckets.fill(Bucket::EMPTY);
        } else {
            let shift = 64 - buckets.len().trailing_zeros();
            marks.for_each(|mark| wipe(buckets, (mark.hash(seeds) >> shift) as usize));
        }
        self.len = 0;
    }

    /// The table in which a mark has its home, and the home.
    fn part(&mut self, mark: M) -> (&mut [Bucket<M, WAYS>], usize) {
        match self.view().home(mark) {
            Home::Now(home) => (self.now.as_mut_slice(), home),
            Home::Before(home) => (self.before.as_mut_slice(), home),
        }
    }

    fn grow(&mut self) {
        // The keys added since the table before began to move were more than it has homes.
        while self.is_moving() {
            self.drain();
        }
        let len = (2 * self.now.as_slice().len()).max(FIRST);
        (self.before, self.drained) = (std::mem::replace(&mut self.now, Buckets::new(len)), 0);
    }

    /// Moves the keys of the next home, if there is one.
    #[inline(always)]
    fn drain(&mut self) {
        if self.before.is_empty() {
            return;
        }
        let (before, now, seeds) = (self.before.as_mut_slice(), self.now.as_mut_slice(), self.seeds);
        let (shift, mask) = (64 - now.len().trailing_zeros(), before.len() - 1);
        let home = self.drained;
        self.drained += 1;
        let bucket = before[home];
        let halves = &mut now.as_chunks_mut::<2>().0[home];
        // As most are: nothing lies past it, nothing in it came from elsewhere, and its two halves have only what they are given now.
        let mut elsewhere = bucket.passed | halves[0].slots[0] | halves[1].slots[0];
        let homes = bucket.marks.map(|mark| (mark.hash(seeds) >> shift) as usize);
        for (to, slot) in homes.iter().zip(bucket.slots) {
            elsewhere |= select_unpredictable(to / 2 == home, 0, slot);
        }
        if elsewhere == 0 {
            split(&bucket, homes, halves);
            before[home] = Bucket::EMPTY;
        } else {
            Self::drain_past(before, now, home, seeds);
        }
        if self.drained > mask {
            (self.before, self.drained) = (Buckets::NONE, 0);
        }
    }

    /// Moves the keys of a home, some of which may lie past it.
    #[cold]
    fn drain_past(before: &mut [Bucket<M, WAYS>], now: &mut [Bucket<M, WAYS>], home: usize, seeds: [u64; 2]) {
        let (shift, mask) = (64 - now.len().trailing_zeros(), before.len() - 1);
        for index in (home..=home + mask).map(|index| index & mask) {
            let bucket = before[index];
            for (mark, slot) in entries(&bucket) {
                let hash = mark.hash(seeds);
                if (hash >> shift) as usize / 2 == home {
                    take(before, home, slot);
                    place(now, (hash >> shift) as usize, mark, slot);
                }
            }
            if bucket.passed == 0 {
                break;
            }
        }
    }
}

/// Puts the keys of a bucket into the empty ones at these homes, of which only the lowest bit differs. Without a branch: no key can be
/// foretold.
#[inline(always)]
fn split<M: Mark, const WAYS: usize>(bucket: &Bucket<M, WAYS>, homes: [usize; WAYS], halves: &mut [Bucket<M, WAYS>; 2]) {
    let mut ways = [0; 2];
    for (home, (mark, slot)) in homes.into_iter().zip(bucket.marks.into_iter().zip(bucket.slots)) {
        let half = home % 2;
        let way = ways[half];
        // What is not live comes last, so that a mark without a slot is all it leaves.
        (halves[half].marks[way], halves[half].slots[way]) = (mark, slot);
        ways[half] += usize::from(slot > 0);
    }
}

/// Live keys of a bucket with their slots plus 1.
fn entries<M: Mark, const WAYS: usize>(bucket: &Bucket<M, WAYS>) -> impl Iterator<Item = (M, u32)> + use<M, WAYS> {
    bucket.marks.into_iter().zip(bucket.slots).filter(|(_, slot)| *slot > 0)
}

/// Puts a key into the first bucket with room from its home on. There must be one.
fn place<M: Mark, const WAYS: usize>(buckets: &mut [Bucket<M, WAYS>], home: usize, mark: M, slot: u32) {
    let mut index = home;
    loop {
        let bucket = &mut buckets[index];
        let way = bucket.used();
        if way < WAYS {
            (bucket.marks[way], bucket.slots[way]) = (mark, slot);
            return;
        }
        bucket.passed += 1;
        index = (index + 1) & (buckets.len() - 1);
    }
}

/// Takes the key of a slot, given plus 1, out of the bucket that it is in; whether there was one.
fn take<M: Mark, const WAYS: usize>(buckets: &mut [Bucket<M, WAYS>], home: usize, slot: u32) -> bool {
    let mask = buckets.len() - 1;
    for passed in 0..buckets.len() {
        let bucket = &mut buckets[(home + passed) & mask];
        if let Some(way) = bucket.slots.iter().position(|own| *own == slot) {
            let last = bucket.slots.iter().rposition(|slot| *slot > 0).unwrap_or(way);
            (bucket.marks[way], bucket.slots[way]) = (bucket.marks[last], bucket.slots[last]);
            bucket.slots[last] = 0;
            (home..home + passed).for_each(|index| buckets[index & mask].passed -= 1);
            return true;
        }
        if bucket.passed == 0 {
            break;
        }
    }
    false
}

/// Empties the bucket at a home and those after it that keys with this home, or those on the way, may lie in.
fn wipe<M: Mark, const WAYS: usize>(buckets: &mut [Bucket<M, WAYS>], home: usize) {
    let mut index = home;
    while std::mem::replace(&mut buckets[index], Bucket::EMPTY).passed > 0 {
        index = (index + 1) & (buckets.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{STEP, Table, entries};
    use crate::Backend;
    use crate::dictionary::NONE;
    use crate::simd;
    use crate::testing::scramble;

    type Ints = Table<i64, 5>;

    /// Keys that have not moved yet.
    fn waiting(table: &Ints) -> usize {
        table.before.as_slice().iter().map(|bucket| entries(bucket).count()).sum()
    }

    #[test]
    fn a_key_added_moves_few_others() {
        let mut table = Ints::new([scramble(1) | 1, scramble(2) | 1]);
        let mut most = 0;
        for n in 0..6000 {
            let (before, len) = (waiting(&table), table.before.as_slice().len());
            table.add(scramble(n) as i64, n as u32 + 1);
            if table.before.as_slice().len() == len {
                most = most.max(before + 1 - waiting(&table));
            } else {
                // Nothing is left to move when a table is to grow again.
                assert!(len == 0 || !table.is_moving());
            }
        }
        // A home has three keys when it moves, on average; hardly one has sixteen.
        assert!((1..=STEP * 16).contains(&most), "{most} keys moved for one");
    }

    #[test]
    fn keys_are_found_and_removed_while_others_move() {
        let mut table = Ints::new([scramble(1) | 1, scramble(2) | 1]);
        let mut twin = HashMap::new();
        let mut moving = 0;
        for n in 0..20_000u32 {
            let (key, slot) = (scramble(u64::from(n)) as i64, n + 1);
            table.add(key, slot);
            twin.insert(key, slot);
            let old = scramble(u64::from(scramble(u64::from(n)) as u32 % (n + 1))) as i64;
            assert_eq!(table.find(old, |_| true), twin.get(&old).copied().unwrap_or(0));
            if n % 3 == 0 {
                moving += usize::from(table.is_moving());
                let slot = twin.remove(&old);
                assert_eq!(table.remove(old, slot.unwrap_or(u32::MAX)), slot.is_some());
                assert_eq!(table.find(old, |_| true), 0);
            }
        }
        assert!(moving > 100 && table.len() == twin.len());
        assert!(twin.iter().all(|(&key, &slot)| table.find(key, |_| true) == slot));
        twin.iter().for_each(|(&key, &slot)| assert!(table.remove(key, slot)));
        assert!(table.now.as_slice().iter().all(|bucket| bucket.passed == 0 && bucket.slots == [0; 5]));
    }

    #[test]
    fn blocks_of_keys_that_are_not_there_find_none() {
        // Of a table without the keys, and of one that they have left: marks stay where keys were, and empty buckets have that of 0.
        let keys: Vec<i64> = std::iter::once(0).chain((1..64).map(|n| scramble(n) as i64)).collect();
        for held in [0, 1, 40, 3_000] {
            let mut table = Ints::new([scramble(1) | 1, scramble(2) | 1]);
            (0..held).for_each(|n| table.add(scramble(1_000 + n) as i64, n as u32 + 100));
            keys.iter().zip(1..).for_each(|(&key, slot)| table.add(key, slot));
            for gone in [false, true] {
                if gone {
                    keys.iter().zip(1..).for_each(|(&key, slot)| assert!(table.remove(key, slot)));
                }
                for level in Backend::available().filter_map(|backend| if let Backend::Simd(level) = backend { Some(level) } else { None })
                {
                    for (key, slot) in keys.iter().zip(1..) {
                        // Eight that are looked up together, and some that are not.
                        let (mut found, expected) = ([7; 11], if gone { NONE } else { slot - 1 });
                        let known = simd::dictionary::find(level, table.view(), &[*key; 11], &mut found);
                        assert_eq!(known, (11, !gone), "{level:?} {held} {key}");
                        assert_eq!(found, [expected; 11], "{level:?} {held} {key}");
                    }
                }
            }
        }
    }

    #[test]
    fn look_ups_end_at_a_block_of_which_many_keys_are_not_there() {
        // Tables that are small, that move, and that lie beyond the second-level cache; keys that any bits may stand for.
        let odd = [0, -1, i64::MIN, i64::MAX];
        for held in [4, 60, 1_100, 3_000, 8_000, 20_000, 40_000] {
            let keys: Vec<i64> = odd.into_iter().chain((4..held).map(|n| scramble(n) as i64)).collect();
            let mut table = Ints::new([scramble(1) | 1, scramble(2) | 1]);
            keys.iter().zip(1..).for_each(|(&key, slot)| table.add(key, slot));
            for moves in [true, false] {
                if !moves {
                    table.settle(4 * keys.len());
                }
                assert!(moves || !table.is_moving());
                for (missing, known) in
                    [(0..1, 700), (255..257, 700), (40..72, 700), (40..73, 256), (300..500, 512), (600..700, 700), (0..0, 700)]
                {
                    let places: Vec<usize> = (0..700).map(|row| scramble(row) as usize % keys.len()).collect();
                    let key = |row| if missing.contains(&row) { 1 << 40 } else { keys[places[row]] };
                    let (asked, mut found): (Vec<i64>, _) = ((0..700).map(key).collect(), vec![0; 700]);
                    for level in
                        Backend::available().filter_map(|backend| if let Backend::Simd(level) = backend { Some(level) } else { None })
                    {
                        let looked_up = simd::dictionary::find(level, table.view(), &asked, &mut found);
                        assert_eq!(looked_up, (known, missing.is_empty()), "{level:?} {held} {missing:?}");
                        for row in 0..known {
                            let slot = if missing.contains(&row) { NONE } else { places[row] as u32 };
                            assert_eq!(found[row], slot, "{level:?} {held} {missing:?} {row}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_is_found_or_added_at_once() {
        let mut table = Ints::new([scramble(1) | 1, scramble(2) | 1]);
        for n in 0..9_000u32 {
            let old = scramble(u64::from(n)) % (u64::from(n) + 1);
            assert_eq!(table.find_or_add(scramble(u64::from(n)) as i64, n + 1), 0);
            assert_eq!(table.find_or_add(scramble(old) as i64, u32::MAX), old as u32 + 1);
        }
        assert_eq!(table.len(), 9_000);
    }

    #[test]
    fn a_cleared_table_is_empty_however_many_keys_there_were() {
        for keys in [1u32, 40, 200, 3000] {
            let mut table = Ints::new([scramble(1) | 1, scramble(2) | 1]);
            (0..3000).for_each(|n| table.add(scramble(n.into()) as i64, n + 1));
            table.clear((0..3000).map(|n: u32| scramble(n.into()) as i64));
            let bytes = table.bytes();
            (0..keys).for_each(|n| table.add(scramble(n.into()) as i64, n + 1));
            table.clear((0..keys).map(|n| scramble(n.into()) as i64));
            assert!(table.now.as_slice().iter().all(|bucket| bucket.passed == 0 && bucket.slots == [0; 5]));
            assert_eq!((table.len(), table.bytes()), (0, bytes));
        }
    }
}
