//! Buckets of keys: a cache line each, compared at once, the look-ups of a block of rows in flight together.

use std::hint::select_unpredictable;
use std::mem::offset_of;

use super::prefetch::{FAR, ask, ask_far, prefer_huge_pages, prefetch_far};
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::dictionary::BLOCK;

/// Rows between asking for a bucket and using it.
const AHEAD: usize = 64;

/// Bytes of a cache line.
const LINE: usize = 64;

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

const _: () = assert!(size_of::<IntBucket>() == 64 && size_of::<TagBucket>() == 64);

impl<M: Mark, const WAYS: usize> Bucket<M, WAYS> {
    pub const EMPTY: Self = Self { marks: [M::ZERO; WAYS], slots: [0; WAYS], passed: 0 };

    /// The slot plus 1 of the first of the live keys with this mark, or 0.
    ///
    /// Without a branch: one that is guessed wrongly would have to wait for the bucket, and all rows behind it with it.
    #[inline(always)]
    fn find<V: Vector>(&self, v: V, mark: M) -> u32 {
        let bucket = &raw const *self;
        // SAFETY: eight numbers, of 64 or of 32 bits, lie within a bucket, and within its fields, which are numbers.
        let line = unsafe { &*bucket.cast::<M::Line>() };
        let equal = mark.equal(v, line) & ((1 << WAYS) - 1);
        let way = (equal | 1 << WAYS).trailing_zeros() as usize;
        // SAFETY: behind the slots there is one more number of 32 bits, `passed`, so that there are as many as `way` may be and one.
        let slot = unsafe { bucket.byte_add(offset_of!(Self, slots)).cast::<u32>().add(way).read() };
        // A key that has gone leaves its mark behind, and an empty bucket has that of 0: their slots are 0 too.
        select_unpredictable(equal == 0, 0, slot)
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

    /// The buckets at the homes of marks, at most [`BLOCK`].
    #[inline(always)]
    fn addresses<V: Vector, K: Copy + Into<M>>(&self, v: V, marks: &[K], homes: &mut [*const Bucket<M, WAYS>]) {
        let (eights, rest) = marks.as_chunks::<8>();
        if self.before.is_empty() {
            let (first, shift) = (self.now.as_ptr(), self.now_shift);
            for (marks, homes) in eights.iter().zip(homes.as_chunks_mut::<8>().0) {
                let mut own = [M::ZERO; 8];
                own.iter_mut().zip(marks).for_each(|(own, &mark)| *own = mark.into());
                let hashes = M::hashes(v, &own, self.seeds);
                homes.iter_mut().zip(hashes).for_each(|(home, hash)| *home = first.wrapping_add((hash as u64 >> shift) as usize));
            }
        } else {
            marks.iter().zip(&mut *homes).for_each(|(&mark, home)| *home = self.address(mark.into()));
        }
        rest.iter().zip(&mut homes[eights.len() * 8..]).for_each(|(&mark, home)| *home = self.address(mark.into()));
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

/// Puts into `found` the slot plus 1 of the first key with each mark, or 0; whether all are there. There are as many as
/// marks, at most [`BLOCK`].
pub(crate) fn find<K: Copy + Into<M>, M: Mark, const WAYS: usize>(
    level: Level,
    view: View<'_, M, WAYS>,
    marks: &[K],
    found: &mut [u32],
) -> bool {
    launch(level, Find { view, marks, found: &mut found[..marks.len()] })
}

struct Find<'a, K, M, const WAYS: usize> {
    view: View<'a, M, WAYS>,
    marks: &'a [K],
    found: &'a mut [u32],
}

impl<K: Copy + Into<M>, M: Mark, const WAYS: usize> Kernel for Find<'_, K, M, WAYS> {
    type Output = bool;

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> bool {
        let Self { view, marks, found } = self;
        // The keys of the block after the next one, while this one is looked up.
        (0..BLOCK).step_by(LINE / size_of::<K>()).for_each(|row| prefetch_far(marks, 2 * BLOCK + row));
        let mut homes = [view.now.as_ptr(); BLOCK + AHEAD];
        view.addresses(v, marks, &mut homes);
        // SAFETY: the home of a hash is the top bits of it, as many as number the buckets of its table.
        unsafe {
            if size_of_val(view.now) > FAR {
                homes[..AHEAD].iter().for_each(|&home| ask_far(home.cast()));
                probe::<V, K, M, WAYS, true>(v, &homes, marks, found);
            } else {
                probe::<V, K, M, WAYS, false>(v, &homes, marks, found);
            }
        }
        let mut all = true;
        for (group, found) in found.chunks_mut(8).enumerate() {
            let mut eight = [1; 8];
            eight[..found.len()].copy_from_slice(found);
            let mut missing = v.equal_u32(&eight, 0);
            while missing != 0 {
                let at = missing.trailing_zeros() as usize;
                missing &= missing - 1;
                let row = group * 8 + at;
                // SAFETY: as above.
                let passed = unsafe { (*homes[row]).passed } > 0;
                found[at] = if passed { further(&view, marks[row].into()) } else { 0 };
                all &= found[at] > 0;
            }
        }
        all
    }
}

/// Looks in the buckets at the homes of marks, asking for those that come [`AHEAD`] rows later if they are far. Of what is not
/// there, 0 is found.
///
/// # Safety
/// The homes are of buckets.
#[inline(always)]
unsafe fn probe<V: Vector, K: Copy + Into<M>, M: Mark, const WAYS: usize, const FAR: bool>(
    v: V,
    homes: &[*const Bucket<M, WAYS>; BLOCK + AHEAD],
    marks: &[K],
    found: &mut [u32],
) {
    for ((&mark, found), (&home, next)) in marks.iter().zip(found).zip(homes.iter().zip(&homes[AHEAD..])) {
        if FAR {
            ask_far((*next).cast());
        }
        // SAFETY: the caller's promise.
        let bucket = unsafe { &*home };
        *found = bucket.find(v, mark.into());
    }
}

/// Out of line: few keys lie past their home.
#[cold]
#[inline(never)]
fn further<M: Mark, const WAYS: usize>(view: &View<'_, M, WAYS>, mark: M) -> u32 {
    view.find(mark, |_| true)
}
