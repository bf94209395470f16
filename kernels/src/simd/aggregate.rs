//! Grouped aggregation, scheduled: blocks, folded runs, private copies of few groups, prefetch of many.

use super::column::{fold, fold_floats, fold_ints};
use super::prefetch::{FAR, prefetch};
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::aggregate::{Want, beyond};
use crate::bits::Bits;
use crate::cell::{Cell, two_sum};
use crate::value::{Lane, Value};

/// Rows handled at a time: their keys and slots stay in the first-level cache.
pub(crate) const BLOCK: usize = 512;

/// Rows between asking for a cell and using it: about the latency of the last-level cache over the time of a row.
pub(crate) const AHEAD: usize = 24;

/// Up to so many groups, rows go to [`COPIES`] private copies in turn, so that a row need not wait for the one before it.
pub(crate) const FEW: usize = 8;
pub(crate) const COPIES: usize = 4;

/// Copies must be cleared and combined: worth it from this many rows per group.
pub(crate) const ROWS_PER_COPY: usize = 32;

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

/// A lane of values: what differs between floats and integers.
pub trait Element: Lane {
    /// Order keys of a block, in `buffer` unless the values are their own.
    fn order_keys<'a, V: Vector>(v: V, block: &'a [Self], buffer: &'a mut [i64; BLOCK]) -> &'a [i64];
    fn add(cell: &mut Cell, value: Self);
    fn fold<V: Vector, const SUM: bool, const ORDER: bool>(v: V, block: &[Self]) -> Cell;
}

impl Element for f64 {
    #[inline(always)]
    fn order_keys<'a, V: Vector>(v: V, block: &'a [f64], buffer: &'a mut [i64; BLOCK]) -> &'a [i64] {
        let mut values = block.chunks_exact(V::LANES);
        let mut keys = buffer.chunks_exact_mut(V::LANES);
        for (value, key) in (&mut values).zip(&mut keys) {
            v.store_i(key, v.order_key(v.load_f(value)));
        }
        let done = block.len() - values.remainder().len();
        for (value, key) in values.remainder().iter().zip(&mut buffer[done..]) {
            *key = crate::cell::order_key(*value);
        }
        &buffer[..block.len()]
    }

    #[inline(always)]
    fn add(cell: &mut Cell, value: f64) {
        let [sum, compensation] = cell.sum.map(f64::from_bits);
        let (sum, error) = two_sum(sum, value);
        cell.sum = [sum.to_bits(), (compensation + error).to_bits()];
    }

    #[inline(always)]
    fn fold<V: Vector, const SUM: bool, const ORDER: bool>(v: V, block: &[f64]) -> Cell {
        fold_floats::<V, SUM, ORDER>(v, block)
    }
}

impl Element for i64 {
    #[inline(always)]
    fn order_keys<'a, V: Vector>(_: V, block: &'a [i64], _: &'a mut [i64; BLOCK]) -> &'a [i64] {
        block
    }

    #[inline(always)]
    fn add(cell: &mut Cell, value: i64) {
        cell.add_int(i128::from(value));
    }

    #[inline(always)]
    fn fold<V: Vector, const SUM: bool, const ORDER: bool>(v: V, block: &[i64]) -> Cell {
        fold_ints::<V, SUM, ORDER>(v, block)
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
        let far = size_of_val(cells) > FAR;
        let few = (2..=FEW).contains(&cells.len()) && slots.len() >= cells.len() * ROWS_PER_COPY;
        let mut copies = few.then_some([Cell::EMPTY; COPIES * FEW]);
        let mut valid = validity.map(|bits| (bits, Valid { slots: [0; BLOCK], values: [T::default(); BLOCK] }));
        let mut wide = [T::Lane::default(); BLOCK];
        let mut buffer = [0; BLOCK];
        for (block, (slots, values)) in slots.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
            let (slots, values) = match &mut valid {
                None => (slots, values),
                Some((bits, valid)) => valid.take(slots, values, *bits, block * BLOCK),
            };
            if slots.is_empty() {
                continue;
            }
            let values = widen(values, &mut wide);
            let (low, high) = range(slots);
            if high as usize >= cells.len() {
                beyond(high, cells.len());
            }
            if low == high {
                T::Lane::combine(&mut cells[low as usize], &T::Lane::fold::<V, SUM, ORDER>(v, values));
                continue;
            }
            let keys = if ORDER { T::Lane::order_keys(v, values, &mut buffer) } else { &buffer[..values.len()] };
            let rows = Rows { slots, values, keys };
            // SAFETY: every slot of the block is at most `high`, which is below the number of cells; where there are copies,
            // that number is at most FEW.
            unsafe {
                match &mut copies {
                    Some(copies) => rows.scatter_to_copies::<V, SUM, ORDER>(v, copies),
                    None if far => rows.scatter_far::<V, SUM, ORDER>(v, cells),
                    None => rows.scatter::<V, SUM, ORDER>(v, cells),
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
struct Rows<'a, E> {
    slots: &'a [u32],
    values: &'a [E],
    keys: &'a [i64],
}

impl<E: Element> Rows<'_, E> {
    /// # Safety
    /// Every slot is below `cells.len()`.
    #[inline(always)]
    unsafe fn scatter<V: Vector, const SUM: bool, const ORDER: bool>(&self, v: V, cells: &mut [Cell]) {
        for ((&slot, &value), &key) in self.slots.iter().zip(self.values).zip(self.keys) {
            // SAFETY: the caller's promise.
            put::<V, E, SUM, ORDER>(v, unsafe { cells.get_unchecked_mut(slot as usize) }, value, key);
        }
    }

    /// Asks for cells [`AHEAD`] rows before they are needed.
    ///
    /// # Safety
    /// Every slot is below `cells.len()`.
    #[inline(always)]
    unsafe fn scatter_far<V: Vector, const SUM: bool, const ORDER: bool>(&self, v: V, cells: &mut [Cell]) {
        let (first, ahead) = self.slots.split_at(AHEAD.min(self.slots.len()));
        first.iter().for_each(|&slot| ask(cells, slot));
        for (((&slot, &value), &key), &next) in self.slots.iter().zip(self.values).zip(self.keys).zip(ahead) {
            ask(cells, next);
            // SAFETY: the caller's promise.
            put::<V, E, SUM, ORDER>(v, unsafe { cells.get_unchecked_mut(slot as usize) }, value, key);
        }
        let asked = ahead.len();
        let rest = Rows { slots: &self.slots[asked..], values: &self.values[asked..], keys: &self.keys[asked..] };
        // SAFETY: the caller's promise.
        unsafe { rest.scatter::<V, SUM, ORDER>(v, cells) }
    }

    /// # Safety
    /// Every slot is below [`FEW`].
    #[inline(always)]
    unsafe fn scatter_to_copies<V: Vector, const SUM: bool, const ORDER: bool>(&self, v: V, copies: &mut [Cell; COPIES * FEW]) {
        for (row, ((&slot, &value), &key)) in self.slots.iter().zip(self.values).zip(self.keys).enumerate() {
            let index = row % COPIES * FEW + slot as usize;
            // SAFETY: the caller's promise.
            put::<V, E, SUM, ORDER>(v, unsafe { copies.get_unchecked_mut(index) }, value, key);
        }
    }
}

#[inline(always)]
fn put<V: Vector, E: Element, const SUM: bool, const ORDER: bool>(v: V, cell: &mut Cell, value: E, key: i64) {
    cell.count += 1;
    if SUM {
        E::add(cell, value);
    }
    if ORDER {
        v.widen(cell, key);
    }
}

/// Asks for both lines of a cell: every other one lies across two, and the second begins where the next cell does or before.
#[inline(always)]
fn ask(cells: &[Cell], slot: u32) {
    prefetch(cells, slot as usize);
    prefetch(cells, slot as usize + 1);
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
