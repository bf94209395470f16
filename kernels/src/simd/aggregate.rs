//! Grouped aggregation, scheduled: blocks, folded runs, private copies of few groups, prefetch of many.

use super::column::{fold, fold_run};
use super::prefetch::{FAR, prefetch, prefetch_far};
use super::vector::{MAX_LANES, Vector};
use super::{Kernel, Level, lanes, launch};
use crate::aggregate::{Want, beyond};
use crate::bits::Bits;
use crate::cell::{Cell, two_sum};
use crate::value::{Lane, Value};

/// Rows handled at a time: their keys and slots stay in the first-level cache.
pub(crate) const BLOCK: usize = 512;

/// Rows between asking for a cell and using it: about the latency of memory over the time of a row.
const AHEAD: usize = 64;

/// Size of a table from which cells are asked for ahead: a common second-level cache, in bytes. What lies in that cache
/// comes soon enough unasked.
const FAR_CELLS: usize = 1 << 20;

/// Rows between asking for a row's slot and value and coming to it: more than a page of values, as the processor's own
/// prefetching stops at the end of a page.
const STREAM: usize = 768;

/// Up to so many groups, each lane has private copies of the cells, so that rows of a group need not wait for each other.
const FEW: usize = 32;

/// Copies must be cleared and combined: worth it from this many rows per group.
const ROWS_PER_COPY: usize = 64;

pub(crate) fn accumulate<T: Value>(level: Level, cells: &mut [Cell], slots: &[u32], values: &[T], validity: Option<Bits<'_>>, want: Want) {
    if let ([cell], true) = (&mut *cells, slots.iter().fold(0, |any, slot| any | slot) == 0) {
        T::Lane::combine(cell, &fold(level, values, validity, want));
        return;
    }
    match (want.sum, want.order) {
        (true, true) => launch(level, Accumulate::<T, true, true> { cells, slots, values, validity }),
        (true, false) => launch(level, Accumulate::<T, true, false> { cells, slots, values, validity }),
        (false, true) => launch(level, Accumulate::<T, false, true> { cells, slots, values, validity }),
        (false, false) => launch(level, Accumulate::<T, false, false> { cells, slots, values, validity }),
    }
}

pub(crate) fn count(level: Level, counts: &mut [u64], slots: &[u32]) {
    launch(level, Count { counts, slots });
}

/// A lane of values: what differs between floats and integers. Registers of values and of both words of [`Cell::sum`] are
/// of integers, whatever their bits mean.
pub trait Element: Lane {
    /// Adds a value to the sum of a cell.
    fn add(cell: &mut Cell, value: Self);
    /// The first `LANES` values.
    fn load<V: Vector>(v: V, values: &[Self]) -> V::I;
    /// [`Lane::key`], lane by lane.
    fn keys<V: Vector>(v: V, values: V::I) -> V::I;
    /// Sums with a value added to each.
    fn add_lanes<V: Vector>(v: V, sums: [V::I; 2], values: V::I) -> [V::I; 2];
}

impl Element for f64 {
    #[inline(always)]
    fn add(cell: &mut Cell, value: f64) {
        let [sum, compensation] = cell.sum.map(f64::from_bits);
        let (sum, error) = two_sum(sum, value);
        cell.sum = [sum.to_bits(), (compensation + error).to_bits()];
    }

    #[inline(always)]
    fn load<V: Vector>(v: V, values: &[f64]) -> V::I {
        v.as_i(v.load_f(values))
    }

    #[inline(always)]
    fn keys<V: Vector>(v: V, values: V::I) -> V::I {
        v.order_key(v.as_f(values))
    }

    #[inline(always)]
    fn add_lanes<V: Vector>(v: V, sums: [V::I; 2], values: V::I) -> [V::I; 2] {
        let ([sum, compensation], value) = (sums.map(|word| v.as_f(word)), v.as_f(values));
        let (total, error) = lanes::two_sum(v, sum, value);
        [v.as_i(total), v.as_i(v.add(compensation, error))]
    }
}

impl Element for i64 {
    #[inline(always)]
    fn add(cell: &mut Cell, value: i64) {
        cell.add_int(i128::from(value));
    }

    #[inline(always)]
    fn load<V: Vector>(v: V, values: &[i64]) -> V::I {
        v.load_i(values)
    }

    #[inline(always)]
    fn keys<V: Vector>(_: V, values: V::I) -> V::I {
        values
    }

    #[inline(always)]
    fn add_lanes<V: Vector>(v: V, [low, high]: [V::I; 2], values: V::I) -> [V::I; 2] {
        let sum = v.add_i(low, values);
        [sum, v.add_i(v.add_i(high, v.sign(values)), v.below(sum, values))]
    }
}

/// At most [`BLOCK`] values as their lane: in `buffer`, unless they are that already.
#[inline(always)]
pub(crate) fn widen<'a, T: Value>(block: &'a [T], buffer: &'a mut [T::Lane; BLOCK]) -> &'a [T::Lane] {
    if let Some(values) = T::as_lane(block) {
        return values;
    }
    for (value, to) in block.iter().zip(&mut *buffer) {
        *to = value.to_lane();
    }
    &buffer[..block.len()]
}

struct Accumulate<'a, T, const SUM: bool, const ORDER: bool> {
    cells: &'a mut [Cell],
    slots: &'a [u32],
    values: &'a [T],
    validity: Option<Bits<'a>>,
}

impl<T: Value, const SUM: bool, const ORDER: bool> Kernel for Accumulate<'_, T, SUM, ORDER> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { cells, slots, values, validity } = self;
        let far = size_of_val(cells) > FAR_CELLS;
        let few = (2..=FEW).contains(&cells.len()) && slots.len() >= cells.len() * ROWS_PER_COPY;
        // Only where they are used: to fill them costs more than some hundred rows.
        let mut copies = if few { Some([Cell::EMPTY; MAX_LANES * FEW]) } else { None };
        let mut valid = validity.map(|bits| (bits, Valid { slots: [0; BLOCK], values: [T::default(); BLOCK] }));
        let (mut wide, mut apart) = (None, [false; BLOCK / 2]);
        for (block, (block_slots, block_values)) in slots.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
            let rows = match &mut valid {
                None => (block_slots, block_values),
                Some((bits, valid)) => valid.take(block_slots, block_values, *bits, block * BLOCK),
            };
            if rows.0.is_empty() {
                continue;
            }
            let lane = match T::as_lane(rows.1) {
                Some(lane) => lane,
                None => widen(rows.1, wide.get_or_insert([T::Lane::default(); BLOCK])),
            };
            let (low, high) = range(rows.0);
            if high as usize >= cells.len() {
                beyond(high, cells.len());
            }
            if low == high {
                T::Lane::combine(&mut cells[low as usize], &fold_run::<V, T::Lane, SUM, ORDER>(v, lane, None));
                continue;
            }
            // Closed-up rows end with the block, others go on in the next.
            let coming = if validity.is_none() { &slots[block * BLOCK..] } else { rows.0 };
            let ahead = if far { coming.get(AHEAD..).unwrap_or_default() } else { &[] };
            let rows = Rows { slots: rows.0, values: lane, ahead, block: (block_slots, block_values) };
            // SAFETY: every slot of the block is at most `high`, which is below the number of cells; where there are copies,
            // that number is at most FEW.
            unsafe {
                match &mut copies {
                    Some(copies) => rows.scatter_to_copies::<V, SUM, ORDER>(v, copies),
                    None if !lanes::crowded(v, rows.slots, 16, &mut apart) => rows.scatter::<V, SUM, ORDER>(v, cells, &apart),
                    None if !lanes::crowded(v.narrow(), rows.slots, 4, &mut apart) => {
                        rows.scatter::<V::Narrow, SUM, ORDER>(v.narrow(), cells, &apart);
                    }
                    None => lanes::one_by_one::<V, T::Lane, SUM, ORDER>(v, cells.as_mut_ptr(), rows.slots, rows.values),
                }
            }
        }
        for copy in copies.iter().flat_map(|copies| copies.chunks_exact(FEW)) {
            for (cell, copy) in cells.iter_mut().zip(copy) {
                T::Lane::combine(cell, copy);
            }
        }
    }
}

/// Rows of a block, of equal numbers: null rows are gone.
struct Rows<'a, T, E> {
    slots: &'a [u32],
    values: &'a [E],
    /// Slots from [`AHEAD`] rows on.
    ahead: &'a [u32],
    /// The block with its null rows.
    block: (&'a [u32], &'a [T]),
}

impl<T, E: Element> Rows<'_, T, E> {
    /// A register of rows at a time where they are of different cells, else one by one.
    ///
    /// # Safety
    /// Every slot is below `cells.len()`, and `apart` tells for each register of slots whether they differ.
    #[inline(always)]
    unsafe fn scatter<V: Vector, const SUM: bool, const ORDER: bool>(&self, v: V, cells: &mut [Cell], apart: &[bool; BLOCK / 2]) {
        let whole = self.slots.len() / V::LANES * V::LANES;
        for row in (0..whole).step_by(V::LANES) {
            self.ask_for_rows(row);
            let rows = row..row + V::LANES;
            if let Some(next) = self.ahead.get(rows.clone()) {
                next.iter().for_each(|&slot| ask(cells, slot));
            }
            let (slots, values, cells) = (&self.slots[rows.clone()], &self.values[rows.clone()], cells.as_mut_ptr());
            // SAFETY: the caller's promises.
            unsafe {
                if apart[row / V::LANES] {
                    lanes::take::<V, E, SUM, ORDER>(v, &lanes::at::<V>(cells, slots), values);
                } else {
                    lanes::one_by_one::<V, E, SUM, ORDER>(v, cells, slots, values);
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { lanes::one_by_one::<V, E, SUM, ORDER>(v, cells.as_mut_ptr(), &self.slots[whole..], &self.values[whole..]) };
    }

    /// Each lane has its own copies, so its cells differ from those of the others.
    ///
    /// # Safety
    /// Every slot is below [`FEW`].
    #[inline(always)]
    unsafe fn scatter_to_copies<V: Vector, const SUM: bool, const ORDER: bool>(&self, v: V, copies: &mut [Cell; MAX_LANES * FEW]) {
        let copies = copies.as_mut_ptr();
        let whole = self.slots.len() / V::LANES * V::LANES;
        for row in (0..whole).step_by(V::LANES) {
            self.ask_for_rows(row);
            let slots = &self.slots[row..row + V::LANES];
            let mut own = [0; MAX_LANES];
            (0..V::LANES).for_each(|lane| own[lane] = slots[lane] + (lane * FEW) as u32);
            // SAFETY: the caller's promise: slots below FEW, plus at most MAX_LANES − 1 times FEW; no two lanes share a copy.
            unsafe { lanes::take::<V, E, SUM, ORDER>(v, &lanes::at::<V>(copies, &own), &self.values[row..row + V::LANES]) };
        }
        // SAFETY: the caller's promise.
        unsafe { lanes::one_by_one::<V, E, SUM, ORDER>(v, copies, &self.slots[whole..], &self.values[whole..]) };
    }

    /// At the start of each line of slots, asks for the slots and values that come [`STREAM`] rows later.
    #[inline(always)]
    fn ask_for_rows(&self, row: usize) {
        const LINE: usize = 64;
        const SLOTS: usize = LINE / size_of::<u32>();
        if row.is_multiple_of(SLOTS) {
            prefetch(self.block.0, row + STREAM);
            (0..SLOTS).step_by(LINE / size_of::<T>()).for_each(|i| prefetch(self.block.1, row + STREAM + i));
        }
    }
}

/// Asks for both lines of a cell: every other one lies across two, and the second begins where the next cell does or before.
#[inline(always)]
fn ask(cells: &[Cell], slot: u32) {
    prefetch_far(cells, slot as usize);
    prefetch_far(cells, slot as usize + 1);
}

/// Room for the valid rows of a block, closed up.
struct Valid<E> {
    slots: [u32; BLOCK],
    values: [E; BLOCK],
}

impl<E: Copy> Valid<E> {
    /// The rows of the block at `start` that are valid: the block itself if all are.
    #[inline(always)]
    fn take<'a>(&'a mut self, slots: &'a [u32], values: &'a [E], bits: Bits<'_>, start: usize) -> (&'a [u32], &'a [E]) {
        let words: [u64; BLOCK / 64] = std::array::from_fn(|word| bits.word(start + word * 64));
        let valid: usize = words.iter().map(|word| word.count_ones() as usize).sum();
        if valid == slots.len() {
            return (slots, values);
        }
        let mut kept = 0;
        for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
            // Written always, counted if valid: no branch to mispredict. `kept` is at most `row`, so it fits.
            self.slots[kept % BLOCK] = slot;
            self.values[kept % BLOCK] = value;
            kept += (words[row / 64] >> (row % 64) & 1) as usize;
        }
        (&self.slots[..valid], &self.values[..valid])
    }
}

struct Count<'a> {
    counts: &'a mut [u64],
    slots: &'a [u32],
}

impl Kernel for Count<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { counts, slots } = self;
        let far = size_of_val(counts) > FAR;
        for block in slots.chunks(BLOCK) {
            let (low, high) = range(block);
            if high as usize >= counts.len() {
                beyond(high, counts.len());
            }
            if low == high {
                counts[low as usize] += block.len() as u64;
                continue;
            }
            if far {
                block.iter().for_each(|&slot| prefetch(counts, slot as usize));
            }
            for &slot in block {
                // SAFETY: every slot of the block is at most `high`, which is below the number of counts.
                unsafe { *counts.get_unchecked_mut(slot as usize) += 1 };
            }
        }
    }
}

/// Lowest and highest slot; (`u32::MAX`, 0) of none.
#[inline(always)]
pub(crate) fn range(slots: &[u32]) -> (u32, u32) {
    slots.iter().fold((u32::MAX, 0), |(low, high), &slot| (low.min(slot), high.max(slot)))
}
