//! Buckets of keys: a cache line each, compared at once, the look-ups of a block of rows in flight together.

use std::hint::select_unpredictable;
use std::mem::offset_of;
use std::ops::Range;

use super::prefetch::{FAR, ask, ask_far, prefer_huge_pages, prefetch_far};
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::dictionary::{BLOCK, NONE};

/// Sizes up to which a table is taken to lie in the first-level cache beside what else is in use, where its buckets are not asked for
/// ahead, and in the second-level one, in bytes.
const NEXT: usize = 32 * 1024;
const NEAR: usize = 2 * FAR;

/// Groups of eight rows between hashing their marks and looking them up in a table that is near, and rows whose places are kept there and
/// for a table that is far.
const LEAD: usize = 4;
const NEAR_RING: usize = 2 * LEAD * 8;
const FAR_RING: usize = 2 * BLOCK;

/// Marks of a block that may be new while look-ups go on: what they are to be is decided later, and others that are the same as one of
/// them are found at length.
const FEW: usize = BLOCK / 8;

/// Bytes of a cache line, and of a bucket.
const LINE: usize = 64;
const PLACE_BITS: u32 = LINE.trailing_zeros();

/// What a bucket holds of a key: all of an integer, some bits of the hash of a string. All bits may take any value.
pub(crate) trait Mark: Copy + Eq + std::fmt::Debug {
    const ZERO: Self;
    /// A hash of the key, whose top bits tell the home.
    fn hash(self, seeds: [u64; 2]) -> u64;
    /// The hashes of eight.
    fn hashes<V: Vector>(v: V, marks: &[Self; 8], seeds: [u64; 2]) -> [i64; 8];
    /// As much of a bucket as holds its marks.
    type Line;
    /// Which of the numbers that a bucket begins with are equal to this one, the first being the lowest bit. Bits beyond those
    /// of its marks say nothing.
    fn equal<V: Vector>(self, v: V, line: &Self::Line) -> u64;
    /// As many marks as are compared at first, at most those of a bucket: hardly a key of a table with room to spare is beyond them.
    const FIRST: usize;
    /// [`Self::equal`] of the first so many. Bits beyond them say nothing.
    fn equal_first<V: Vector>(self, v: V, line: &Self::Line) -> u64;
}

impl Mark for i64 {
    const ZERO: Self = 0;
    type Line = [i64; 8];

    /// Two products by secret odd numbers: the top bits of either depend on all bits of what is multiplied.
    #[inline(always)]
    fn hash(self, [first, second]: [u64; 2]) -> u64 {
        let product = (self as u64).wrapping_mul(first);
        (product ^ product >> 32).wrapping_mul(second)
    }

    #[inline(always)]
    fn hashes<V: Vector>(v: V, marks: &[i64; 8], [first, second]: [u64; 2]) -> [i64; 8] {
        let (first, second, mut hashes) = (v.splat_i(first as i64), v.splat_i(second as i64), [0; 8]);
        for lane in (0..8).step_by(V::LANES) {
            let product = v.mul_i(v.load_i(&marks[lane..]), first);
            v.store_i(&mut hashes[lane..], v.mul_i(v.xor(product, v.down(product, 32)), second));
        }
        hashes
    }

    #[inline(always)]
    fn equal<V: Vector>(self, v: V, line: &[i64; 8]) -> u64 {
        let own = v.splat_i(self);
        let registers = line.chunks_exact(V::LANES).enumerate();
        registers.fold(0, |bits, (i, register)| bits | v.equal(v.load_i(register), own) << (i * V::LANES))
    }

    const FIRST: usize = 4;

    #[inline(always)]
    fn equal_first<V: Vector>(self, v: V, line: &[i64; 8]) -> u64 {
        let own = v.splat_i(self);
        (0..Self::FIRST).step_by(V::LANES).fold(0, |bits, i| bits | v.equal(v.load_i(&line[i..]), own) << i)
    }
}

impl Mark for u32 {
    const ZERO: Self = 0;
    type Line = [u32; 8];

    /// The bits of a hash, as they are.
    #[inline(always)]
    fn hash(self, _: [u64; 2]) -> u64 {
        u64::from(self) << 32
    }

    #[inline(always)]
    fn hashes<V: Vector>(_: V, marks: &[u32; 8], seeds: [u64; 2]) -> [i64; 8] {
        marks.map(|mark| mark.hash(seeds) as i64)
    }

    #[inline(always)]
    fn equal<V: Vector>(self, v: V, line: &[u32; 8]) -> u64 {
        v.equal_u32(line, self)
    }

    const FIRST: usize = 7;

    #[inline(always)]
    fn equal_first<V: Vector>(self, v: V, line: &[u32; 8]) -> u64 {
        v.equal_u32(line, self)
    }
}

/// Keys that share a home, or whose homes before it were full, with their slots.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket<M, const WAYS: usize> {
    /// Those of live keys come first.
    pub marks: [M; WAYS],
    /// Slots plus 1; 0 where there is no key, whatever the mark.
    pub slots: [u32; WAYS],
    /// Live keys that lie further on because this bucket was full.
    pub passed: u32,
}

/// Integer keys: five to a line.
pub(crate) type IntBucket = Bucket<i64, 5>;
/// Tags of string keys: seven to a line.
pub(crate) type TagBucket = Bucket<u32, 7>;

const _: () = assert!(size_of::<IntBucket>() == LINE && size_of::<TagBucket>() == LINE);

impl<M: Mark, const WAYS: usize> Bucket<M, WAYS> {
    pub const EMPTY: Self = Self { marks: [M::ZERO; WAYS], slots: [0; WAYS], passed: 0 };

    /// The slot plus 1 of the first of the live keys with this mark, or 0.
    ///
    /// Without a branch: one that is guessed wrongly would have to wait for the bucket, and all rows behind it with it.
    #[inline(always)]
    fn find<V: Vector>(&self, v: V, mark: M) -> u32 {
        let equal = mark.equal(v, self.line()) & ((1 << WAYS) - 1);
        // SAFETY: the lowest bit is at most that of `WAYS`.
        let slot = unsafe { self.slot(equal | 1 << WAYS) };
        // A key that has gone leaves its mark behind, and an empty bucket has that of 0: their slots are 0 too.
        select_unpredictable(equal == 0, 0, slot)
    }

    /// [`Self::find`] among the first [`Mark::FIRST`] marks: a slot plus 1 or 0, and some bits, of which [`Self::NONE`] is set if it is
    /// neither, but anything, as none of those marks is equal.
    #[inline(always)]
    fn find_first<V: Vector>(&self, v: V, mark: M) -> (u32, usize) {
        let equal = mark.equal_first(v, self.line()) | 1 << M::FIRST;
        // SAFETY: the lowest bit is at most that of `FIRST`, which is at most `WAYS`.
        (unsafe { self.slot(equal) }, equal.trailing_zeros() as usize + Self::NONE - M::FIRST)
    }

    /// A bit that no way below `FIRST` has, each moved up by as much as makes `FIRST` this bit.
    const NONE: usize = {
        assert!(M::FIRST <= WAYS);
        M::FIRST.next_power_of_two()
    };

    /// Its marks and what comes behind them.
    #[inline(always)]
    fn line(&self) -> &M::Line {
        // SAFETY: eight numbers, of 64 or of 32 bits, lie within a bucket, and within its fields, which are numbers.
        unsafe { &*(&raw const *self).cast::<M::Line>() }
    }

    /// The slot plus 1 in the way of the lowest bit.
    ///
    /// # Safety
    /// There is a bit, and the lowest is at most that of `WAYS`.
    #[inline(always)]
    unsafe fn slot(&self, ways: u64) -> u32 {
        let slots = (&raw const *self).wrapping_byte_add(offset_of!(Self, slots)).cast::<u32>();
        // SAFETY: behind the slots there is one more number of 32 bits, `passed`.
        unsafe { slots.add(ways.trailing_zeros() as usize).read() }
    }

    /// The slot plus 1 of the live key with this mark that `is` accepts, or 0.
    #[inline(always)]
    pub fn find_one(&self, mark: M, is: &impl Fn(u32) -> bool) -> u32 {
        let same = |way: usize| u32::from((self.marks[way] == mark) & (self.slots[way] > 0)) << way;
        let mut equal = (0..WAYS).fold(0, |equal, way| equal | same(way));
        while equal != 0 {
            let slot = self.slots[equal.trailing_zeros() as usize];
            if is(slot - 1) {
                return slot;
            }
            equal &= equal - 1;
        }
        0
    }

    /// Live keys.
    #[inline(always)]
    pub fn used(&self) -> usize {
        self.slots.iter().map(|&slot| usize::from(slot > 0)).sum()
    }
}

/// A power of two of buckets, or none. Their memory comes zeroed from the system, which backs it as it is touched: a large
/// table costs nothing to make.
#[derive(Debug)]
pub(crate) struct Buckets<M, const WAYS: usize> {
    memory: Vec<[u64; 8]>,
    marks: std::marker::PhantomData<M>,
}

impl<M: Mark, const WAYS: usize> Buckets<M, WAYS> {
    pub const NONE: Self = Self { memory: Vec::new(), marks: std::marker::PhantomData };

    /// Empty buckets: `len` must be a power of two.
    pub fn new(len: usize) -> Self {
        assert!(len.is_power_of_two());
        // One more than needed, so that the first may begin where a line does.
        let mut memory = vec![[0; 8]; len + 1];
        prefer_huge_pages(&mut memory);
        Self { memory, marks: std::marker::PhantomData }
    }

    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.memory.capacity() * size_of::<[u64; 8]>()
    }

    #[inline(always)]
    pub fn as_slice(&self) -> &[Bucket<M, WAYS>] {
        let start = self.memory.as_ptr().map_addr(|address| address.next_multiple_of(align_of::<Bucket<M, WAYS>>()));
        // SAFETY: from the first line that begins within the memory, there is room for all buckets but one, or none is asked
        // for; the memory is initialised and buckets are of numbers only.
        unsafe { std::slice::from_raw_parts(start.cast(), self.memory.len().saturating_sub(1)) }
    }

    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [Bucket<M, WAYS>] {
        let start = self.memory.as_mut_ptr().map_addr(|address| address.next_multiple_of(align_of::<Bucket<M, WAYS>>()));
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), self.memory.len().saturating_sub(1)) }
    }
}

/// The buckets of a table, of which some homes may have moved to a larger one.
#[derive(Debug)]
pub(crate) struct View<'a, M, const WAYS: usize> {
    now: &'a [Bucket<M, WAYS>],
    before: &'a [Bucket<M, WAYS>],
    /// Homes of `before` below this one are empty.
    drained: u64,
    now_shift: u32,
    before_shift: u32,
    seeds: [u64; 2],
}

impl<M, const WAYS: usize> Clone for View<'_, M, WAYS> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, const WAYS: usize> Copy for View<'_, M, WAYS> {}

impl<'a, M: Mark, const WAYS: usize> View<'a, M, WAYS> {
    /// A view of `now`, which is not empty, and of the homes of `before` from `drained` on.
    #[inline(always)]
    pub fn new(now: &'a [Bucket<M, WAYS>], before: &'a [Bucket<M, WAYS>], drained: usize, seeds: [u64; 2]) -> Self {
        assert!(now.len().is_power_of_two() && now.len() > 1);
        // Of no buckets before, all are drained: the home of any hash, 0 or 1, is below 2.
        let (before_len, drained) = if before.is_empty() { (2, 2) } else { (before.len(), drained as u64) };
        assert!(before_len.is_power_of_two() && before_len > 1);
        let shift = |len: usize| 64 - len.trailing_zeros();
        Self { now, before, drained, now_shift: shift(now.len()), before_shift: shift(before_len), seeds }
    }

    /// The home of a mark: the top bits of its hash.
    #[inline(always)]
    pub fn home(&self, mark: M) -> Home {
        let hash = mark.hash(self.seeds);
        let old = hash >> self.before_shift;
        if old < self.drained { Home::Now((hash >> self.now_shift) as usize) } else { Home::Before(old as usize) }
    }

    /// The bucket at the home of a mark.
    #[inline(always)]
    fn address(&self, mark: M) -> *const Bucket<M, WAYS> {
        let (now, before) = (self.now.as_ptr(), self.before.as_ptr());
        match self.home(mark) {
            Home::Now(home) => now.wrapping_add(home),
            Home::Before(home) => before.wrapping_add(home),
        }
    }

    /// Where the home of a hash is: the bytes before it in its table, and 1 more in the one before.
    #[inline(always)]
    fn place(&self, hash: u64) -> i64 {
        let old = hash >> self.before_shift;
        let (home, is_old) = if old < self.drained { (hash >> self.now_shift, 0) } else { (old, 1) };
        (home << PLACE_BITS | is_old) as i64
    }

    /// The bucket at a place.
    #[inline(always)]
    fn at<const MOVES: bool>(&self, place: i64) -> *const Bucket<M, WAYS> {
        if !MOVES {
            return self.now.as_ptr().wrapping_byte_add(place as usize);
        }
        select_unpredictable(place & 1 == 0, self.now.as_ptr(), self.before.as_ptr()).wrapping_byte_add((place & !1) as usize)
    }

    /// Asks for the bucket at the home of a mark.
    pub fn prefetch(&self, mark: M) {
        ask(self.address(mark).cast());
    }

    /// The slot, plus 1, of the key with a mark that `is` accepts, or 0.
    pub fn find(&self, mark: M, is: impl Fn(u32) -> bool) -> u32 {
        let (buckets, home) = match self.home(mark) {
            Home::Now(home) => (self.now, home),
            Home::Before(home) => (self.before, home),
        };
        let bucket = &buckets[home];
        match bucket.find_one(mark, &is) {
            0 if bucket.passed > 0 => Self::find_past(buckets, home, mark, &is),
            slot => slot,
        }
    }

    /// [`Self::find`] in the buckets that follow the home.
    #[cold]
    fn find_past(buckets: &[Bucket<M, WAYS>], home: usize, mark: M, is: &impl Fn(u32) -> bool) -> u32 {
        for bucket in buckets[home + 1..].iter().chain(&buckets[..home]) {
            match bucket.find_one(mark, is) {
                0 if bucket.passed > 0 => {}
                slot => return slot,
            }
        }
        0
    }
}

/// A place in one of the two tables of a [`View`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Home {
    Now(usize),
    Before(usize),
}

/// Puts into `found` the slot of the first key with each mark, or [`NONE`], in blocks of [`BLOCK`], up to the first of which more than
/// [`FEW`] are not there, that one included. How many marks were looked up, and whether all of them are there.
pub(crate) fn find<K: Copy + Into<M>, M: Mark, const WAYS: usize>(
    level: Level,
    view: View<'_, M, WAYS>,
    marks: &[K],
    found: &mut [u32],
) -> (usize, bool) {
    let found = &mut found[..marks.len()];
    match (size_of_val(view.now) > NEAR, !view.before.is_empty()) {
        (false, false) => launch(level, Find::<_, _, WAYS, NEAR_RING, false, false> { view, marks, found }),
        (true, false) => launch(level, Find::<_, _, WAYS, FAR_RING, true, false> { view, marks, found }),
        (_, true) => launch(level, Find::<_, _, WAYS, FAR_RING, true, true> { view, marks, found }),
    }
}

/// Looks marks up: `FAR`, in a table beyond the second-level cache, where it is memory that costs, or in two of which one `MOVES` to the
/// other; else in one within that cache, where it is instructions that cost.
struct Find<'a, K, M, const WAYS: usize, const RING: usize, const FAR: bool, const MOVES: bool> {
    view: View<'a, M, WAYS>,
    marks: &'a [K],
    found: &'a mut [u32],
}

impl<K: Copy + Into<M>, M: Mark, const WAYS: usize, const RING: usize, const FAR: bool, const MOVES: bool> Kernel
    for Find<'_, K, M, WAYS, RING, FAR, MOVES>
{
    type Output = (usize, bool);

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) -> (usize, bool) {
        let view = self.view;
        let eights = self.marks.len() / 8;
        let lead = if FAR { BLOCK / 8 } else { LEAD };
        let mut places = [0; RING];
        (0..eights.min(lead)).for_each(|group| self.place::<V>(v, group, &mut places));
        let (mut start, mut whole) = (0, true);
        while start < self.marks.len() {
            let end = self.marks.len().min(start + BLOCK);
            let mut all = true;
            for group in start / 8..end / 8 {
                if group + lead < eights {
                    self.place::<V>(v, group + lead, &mut places);
                }
                all &= if FAR { self.find_eight(v, group, &places) } else { self.find_first(v, group, &places) };
            }
            if FAR && !all {
                all = self.find_past::<V>(v, start / 8..end / 8, &places);
            }
            for row in end / 8 * 8..end {
                self.found[row] = further(&view, self.marks[row].into());
                all &= self.found[row] != NONE;
            }
            whole &= all;
            if !all && lacks_many(&self.found[start..end]) {
                return (end, false);
            }
            start = end;
        }
        (start, whole)
    }
}

impl<'a, K: Copy + Into<M>, M: Mark, const WAYS: usize, const RING: usize, const FAR: bool, const MOVES: bool>
    Find<'a, K, M, WAYS, RING, FAR, MOVES>
{
    /// Notes the places of the homes of eight marks, and asks for the buckets.
    #[inline(always)]
    fn place<V: Vector>(&self, v: V, group: usize, places: &mut [i64; RING]) {
        let mut marks = [M::ZERO; 8];
        marks.iter_mut().zip(&self.marks[group * 8..group * 8 + 8]).for_each(|(own, &mark)| *own = mark.into());
        // More than a page ahead, as the processor's own prefetching stops at the end of one.
        if self.marks.len() > group * 8 + 2 * BLOCK {
            prefetch_far(self.marks, group * 8 + 2 * BLOCK);
        }
        let hashes = M::hashes(v, &marks, self.view.seeds);
        let places = &mut places[group * 8 % RING..][..8];
        if !MOVES {
            for lane in (0..8).step_by(V::LANES) {
                let homes = v.down(v.load_i(&hashes[lane..]), i64::from(self.view.now_shift));
                v.store_i(&mut places[lane..], v.up(homes, i64::from(PLACE_BITS)));
            }
        } else {
            places.iter_mut().zip(hashes).for_each(|(place, hash)| *place = self.view.place(hash as u64));
        }
        if FAR {
            places.iter().for_each(|&place| ask_far(self.view.at::<MOVES>(place).cast()));
        } else if size_of_val(self.view.now) > NEXT {
            places.iter().for_each(|&place| ask(self.view.at::<MOVES>(place).cast()));
        }
    }

    /// The bucket at the home of a row.
    #[inline(always)]
    fn home(&self, row: usize, places: &[i64; RING]) -> &'a Bucket<M, WAYS> {
        // SAFETY: the home of a hash is the top bits of it, as many as number the buckets of its table.
        unsafe { &*self.view.at::<MOVES>(places[row % RING]) }
    }

    /// Looks up eight by the marks that come first in their buckets, and once more if one of them is not among those; whether all are
    /// there. In one table only.
    #[inline(always)]
    fn find_first<V: Vector>(&mut self, v: V, group: usize, places: &[i64; RING]) -> bool {
        let (view, narrow) = (self.view, v.narrow());
        let (rows, first) = (group * 8..group * 8 + 8, group * 8 % RING);
        let (marks, own, found) = (&self.marks[rows.clone()], &places[first..first + 8], &mut self.found[rows.clone()]);
        let (mut ways, mut slots) = (0, 0);
        for row in 0..8 {
            // SAFETY: as in [`Self::home`].
            let (slot, way) = unsafe { &*view.at::<MOVES>(own[row]) }.find_first(narrow, marks[row].into());
            // The sign is that of none, or that of a slot so high that there is none like it.
            found[row] = slot.wrapping_sub(1);
            ways |= way;
            slots |= found[row];
        }
        let all = ways & Bucket::<M, WAYS>::NONE == 0 && slots <= i32::MAX as u32;
        all || self.find_eight(v, group, places) || find_rest(&view, own, marks, &mut self.found[rows])
    }

    /// Looks up eight at their homes; whether all are there.
    #[inline(always)]
    fn find_eight<V: Vector>(&mut self, v: V, group: usize, places: &[i64; RING]) -> bool {
        let (rows, first) = (group * 8..group * 8 + 8, group * 8 % RING);
        let (marks, own, found) = (&self.marks[rows.clone()], &places[first..first + 8], &mut self.found[rows]);
        let mut slots = 0;
        for row in 0..8 {
            // SAFETY: as in [`Self::home`].
            let slot = unsafe { &*self.view.at::<MOVES>(own[row]) }.find(v, marks[row].into());
            found[row] = slot.wrapping_sub(1);
            slots |= found[row];
        }
        slots <= i32::MAX as u32
    }

    /// Looks up those of a block that may lie past their home, these buckets in flight together too; whether all are there then.
    #[inline(always)]
    fn find_past<V: Vector>(&mut self, v: V, groups: Range<usize>, places: &[i64; RING]) -> bool {
        let (view, mut rows, mut past, mut all) = (self.view, [0; BLOCK + 1], 0, true);
        for group in groups {
            let mut eight = [0; 8];
            eight.copy_from_slice(&self.found[group * 8..group * 8 + 8]);
            let mut missing = v.equal_u32(&eight, NONE);
            while missing != 0 {
                let row = group * 8 + missing.trailing_zeros() as usize;
                missing &= missing - 1;
                let home = self.home(row, places);
                ask((&raw const *home).wrapping_add(1).cast());
                rows[past] = row;
                past += usize::from(home.passed > 0);
                all &= home.passed > 0;
            }
        }
        for &row in &rows[..past] {
            self.found[row] = further(&view, self.marks[row].into());
            all &= self.found[row] != NONE;
        }
        all
    }
}

/// Whether more than [`FEW`] are not there.
#[inline(never)]
fn lacks_many(found: &[u32]) -> bool {
    found.iter().filter(|&&found| found == NONE).count() > FEW
}

/// Looks up those of a few marks for which nothing is found at their homes, which are at these places; whether all are there. Out of line:
/// few keys lie past their home.
#[inline(never)]
fn find_rest<K: Copy + Into<M>, M: Mark, const WAYS: usize>(
    view: &View<'_, M, WAYS>,
    places: &[i64],
    marks: &[K],
    found: &mut [u32],
) -> bool {
    let mut all = true;
    for ((&mark, &place), found) in marks.iter().zip(places).zip(found).filter(|(_, found)| **found == NONE) {
        // SAFETY: the place is that of a home.
        if unsafe { (*view.at::<true>(place)).passed } > 0 {
            *found = further(view, mark.into());
        }
        all &= *found != NONE;
    }
    all
}

/// The slot of a key, or [`NONE`]. Out of line: few keys lie past their home.
#[cold]
#[inline(never)]
fn further<M: Mark, const WAYS: usize>(view: &View<'_, M, WAYS>, mark: M) -> u32 {
    view.find(mark, |_| true).wrapping_sub(1)
}
