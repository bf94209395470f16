//! Moments of windows of rows: a register of rows at a time, while their windows are full and differ from each other.
//!
//! A head is two rows of four words, which are transposed into registers by word, worked on, and transposed back, as cells
//! are by [`super::super::lanes`]. What is done to a lane is what [`Head`] does to itself, in the same order: the same bits.

use core::mem::offset_of;

use super::{HEAD_AHEAD, RING_AHEAD};
use crate::rolling::answers::{BLOCK, Buffer, Moments};
use crate::rolling::sums::{CANCELLED, FADED, Head, due_age, stored};
use crate::rolling::{MomentColumns, RollingMoments, RollingRows};
use crate::simd::lanes::two_sum;
use crate::simd::prefetch::prefetch;
use crate::simd::vector::{MAX_LANES, Vector, Words};
use crate::simd::{Kernel, Level, launch};

/// Values of a cache line.
const LINE: usize = 8;

/// Lines of a window that are asked for before it is gone through: what lies behind, the processor sees coming.
const MOST_LINES: usize = 32;

/// What lies where in the words of a head: [`Turn::take`] reads them so.
const _: () = {
    assert!(offset_of!(Head, sums) == 0 && offset_of!(Head, errors) == 16 && offset_of!(Head, pivot) == 32);
    assert!(offset_of!(Head, ring) == 40 && offset_of!(Head, age) == 56 && offset_of!(Head, peak) == 60 && offset_of!(Head, odd) == 62);
    assert!(size_of::<Head>() == 2 * size_of::<Words>() && cfg!(target_endian = "little"));
};

/// The lower half of a word.
const LOW: i64 = u32::MAX as i64;

pub(super) struct OfRows<'a, const PRECEDING: bool> {
    pub level: Level,
    pub windows: &'a mut RollingMoments,
    pub full: u32,
    pub rows: &'a RollingRows<'a>,
    pub answers: MomentColumns<'a>,
}

impl<const PRECEDING: bool> Kernel for OfRows<'_, PRECEDING> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { level, windows, full, rows, mut answers } = self;
        let mut buffer = Buffer::NEW;
        for (block, (slots, values)) in rows.slots.chunks(BLOCK).zip(rows.values.chunks(BLOCK)).enumerate() {
            let start = block * BLOCK;
            let mut block = Block { level, full, rows, start, buffer: &mut buffer };
            for (chunk, (slots, values)) in slots.chunks(V::LANES).zip(values.chunks(V::LANES)).enumerate() {
                let row = chunk * V::LANES;
                ask::<V>(windows, full, rows.slots, start + row);
                if !block.take_register::<V, PRECEDING>(v, windows, row, slots, values) {
                    (0..slots.len()).for_each(|lane| block.take_row::<PRECEDING>(windows, row + lane, slots[lane], values[lane]));
                }
            }
            answers.write(start, slots.len(), &mut buffer);
        }
    }
}

/// Rows whose answers are on their way to the columns.
struct Block<'a> {
    level: Level,
    full: u32,
    rows: &'a RollingRows<'a>,
    start: usize,
    buffer: &'a mut Buffer,
}

impl Block<'_> {
    #[inline(never)]
    fn take_row<const PRECEDING: bool>(&mut self, windows: &mut RollingMoments, row: usize, slot: u32, value: f64) {
        let (slot, value) = (slot as usize, stored(value, self.rows.is_valid(self.start + row)));
        self.buffer.values[row] = value;
        let head = &mut windows.heads[slot];
        let (before, was_sound) = head.moments(f64::from(self.full));
        let quick = (head.ring.rows == self.full) & !head.odd & (value.abs() <= f64::MAX);
        if !quick | (PRECEDING & !was_sound) {
            self.buffer.put(row, windows.step(slot, value, 0));
            return;
        }
        let old = std::mem::replace(&mut windows.values[head.ring.at(0)], value);
        head.replace(old, value);
        let (after, sound) = head.moments(f64::from(self.full));
        self.buffer.put(row, if PRECEDING { before } else { after });
        let due = head.is_due();
        if due | !sound {
            self.read_afresh::<PRECEDING>(windows, row, slot, due);
        }
    }

    /// Takes as many rows as a register holds, or none of them if one is not of the usual kind.
    #[inline(always)]
    fn take_register<V: Vector, const PRECEDING: bool>(
        &mut self,
        v: V,
        windows: &mut RollingMoments,
        row: usize,
        slots: &[u32],
        values: &[f64],
    ) -> bool {
        let valid = self.rows.validity.is_none() || (0..slots.len()).all(|lane| self.rows.is_valid(self.start + row + lane));
        if !valid || slots.len() < V::LANES || !v.distinct(slots) {
            return false;
        }
        let Some(turn) = Turn::take::<PRECEDING>(v, windows, self.full, slots, values) else { return false };
        v.store_f(&mut self.buffer.values[row..], turn.values);
        v.store_f(&mut self.buffer.counts[row..], splat(v, f64::from(self.full)));
        v.store_f(&mut self.buffer.sums[row..], turn.sums);
        v.store_f(&mut self.buffer.means[row..], turn.means);
        v.store_f(&mut self.buffer.m2s[row..], turn.m2s);
        let mut afresh = turn.due | turn.unsound;
        while afresh != 0 {
            let lane = afresh.trailing_zeros() as usize;
            self.read_afresh::<PRECEDING>(windows, row + lane, slots[lane] as usize, turn.due >> lane & 1 == 1);
            afresh &= afresh - 1;
        }
        true
    }

    #[inline(always)]
    fn read_afresh<const PRECEDING: bool>(&mut self, windows: &mut RollingMoments, row: usize, slot: usize, due: bool) {
        let moments = read_afresh(self.level, windows, slot, due);
        if !PRECEDING {
            self.buffer.put(row, moments);
        }
    }
}

/// What comes of a register of rows, each of which is the newest of a full window in place of the oldest.
struct Turn<V: Vector> {
    values: V::F,
    /// Of the windows with the rows, or without.
    sums: V::F,
    means: V::F,
    m2s: V::F,
    /// The lanes whose sums are to be computed afresh.
    due: u64,
    /// The lanes whose sums cannot be used.
    unsound: u64,
}

impl<V: Vector> Turn<V> {
    #[inline(always)]
    fn take<const PRECEDING: bool>(v: V, windows: &mut RollingMoments, full: u32, slots: &[u32], values: &[f64]) -> Option<Self> {
        let heads = windows.heads.as_mut_ptr();
        let front: [*mut Words; MAX_LANES] =
            std::array::from_fn(|lane| heads.wrapping_add(slots.get(lane).map_or(0, |&slot| slot as usize)).cast());
        let back = front.map(|words| words.wrapping_add(1));
        let (low, none, count) = (v.splat_i(LOW), v.splat_i(0), f64::from(full));
        let new = v.load_f(values);
        // SAFETY: slots are below the number of heads, which `RollingMoments::check` saw to, and a head is two rows of words.
        let [pivots, segments, ends, ages] = unsafe { v.load_words(&back) };
        let is_full = v.equal(v.down(ends, 32), v.splat_i(i64::from(full)));
        let quick = is_full & v.equal(v.down(ages, 48), none) & v.at_most(abs(v, new), splat(v, f64::MAX));
        if quick != all::<V>() {
            return None;
        }
        // SAFETY: as above.
        let (words, pivots) = (unsafe { v.load_words(&front) }, v.as_f(pivots));
        let mut sums = Sums { sums: [v.as_f(words[0]), v.as_f(words[1])], errors: [v.as_f(words[2]), v.as_f(words[3])] };
        let (before, unsound) = sums.totals(v, count, v.down(ages, 32));
        if PRECEDING && unsound != 0 {
            return None;
        }
        let first = v.and(ends, low);
        let old = exchange(v, &mut windows.values, v.add_i(v.up(v.and(segments, low), LINE.ilog2().into()), first), values);
        let (goes, comes) = (v.sub(old, pivots), v.sub(new, pivots));
        sums.add(v, [negative(v, goes), negative(v, v.mul(goes, goes))]);
        sums.add(v, [comes, v.mul(comes, comes)]);
        let next = v.add_i(first, v.splat_i(1));
        let first = v.select(v.mask(v.equal(next, v.down(segments, 32))), none, next);
        let (age, peak) = (v.add_i(v.and(ages, low), v.splat_i(1)), v.max(v.down(ages, 32), v.down(v.as_i(abs(v, sums.sums[1])), 48)));
        let ends = v.or(v.up(v.down(ends, 32), 32), first);
        let [front_words, back_words] = [sums.words(v), [v.as_i(pivots), segments, ends, v.or(v.up(peak, 32), age)]];
        // SAFETY: as above; the slots differ, so that no lane loses what another put in.
        unsafe {
            v.store_words(&front, front_words);
            v.store_words(&back, back_words);
        }
        let (after, unsound) = sums.totals(v, count, peak);
        let due = v.equal(v.max(age, v.splat_i(i64::from(due_age(full)))), age);
        // As `Moments::around`.
        let ([sum, squares], count) = (if PRECEDING { before } else { after }, splat(v, count));
        let offset = v.div(sum, count);
        let (sums, means) = (v.add(v.mul(pivots, count), sum), v.add(pivots, offset));
        Some(Self { values: new, sums, means, m2s: v.sub(squares, v.mul(sum, offset)), due, unsound })
    }
}

/// The sums of a register of heads.
struct Sums<V: Vector> {
    sums: [V::F; 2],
    errors: [V::F; 2],
}

impl<V: Vector> Sums<V> {
    /// As [`Head::add`] and [`Head::subtract`] do.
    #[inline(always)]
    fn add(&mut self, v: V, values: [V::F; 2]) {
        let ((sum, sum_error), (squares, squares_error)) = (two_sum(v, self.sums[0], values[0]), two_sum(v, self.sums[1], values[1]));
        self.sums = [sum, squares];
        self.errors = [v.add(self.errors[0], sum_error), v.add(self.errors[1], squares_error)];
    }

    /// As [`Head::totals`]: the totals, and the lanes that do not bear the moments of so many values.
    #[inline(always)]
    fn totals(&self, v: V, count: f64, peak: V::I) -> ([V::F; 2], u64) {
        let (sum, squares) = (v.add(self.sums[0], self.errors[0]), v.add(self.sums[1], self.errors[1]));
        let (square, greatest) = (v.mul(sum, sum), splat(v, f64::MAX));
        let most = v.mul(squares, splat(v, count * (1.0 - CANCELLED)));
        let faded = v.mul(v.as_f(v.up(peak, 48)), splat(v, FADED));
        let sound = v.at_most(square, most) & v.at_most(square, greatest) & v.at_most(faded, squares) & v.at_most(squares, greatest);
        ([sum, squares], sound ^ all::<V>())
    }

    #[inline(always)]
    fn words(&self, v: V) -> [V::I; 4] {
        [v.as_i(self.sums[0]), v.as_i(self.sums[1]), v.as_i(self.errors[0]), v.as_i(self.errors[1])]
    }
}

/// Puts each value in its place and gives what was there.
#[inline(always)]
fn exchange<V: Vector>(v: V, slab: &mut [f64], places: V::I, values: &[f64]) -> V::F {
    let mut at = [0; MAX_LANES];
    v.store_i(&mut at, places);
    let mut old = [0.0; MAX_LANES];
    for ((old, &at), &value) in old.iter_mut().zip(&at).zip(&values[..V::LANES]) {
        *old = std::mem::replace(&mut slab[at as usize], value);
    }
    v.load_f(&old)
}

#[inline(always)]
fn splat<V: Vector>(v: V, value: f64) -> V::F {
    v.as_f(v.splat_i(value.to_bits() as i64))
}

#[inline(always)]
fn abs<V: Vector>(v: V, value: V::F) -> V::F {
    v.as_f(v.and(v.as_i(value), v.splat_i(i64::MAX)))
}

#[inline(always)]
fn negative<V: Vector>(v: V, value: V::F) -> V::F {
    v.sub(splat(v, -0.0), value)
}

/// The bits of all lanes.
fn all<V: Vector>() -> u64 {
    (1 << V::LANES) - 1
}

/// Asks for what the rows to come need of a full window of rows, as many as a register holds.
#[inline(always)]
fn ask<V: Vector>(windows: &RollingMoments, full: u32, slots: &[u32], row: usize) {
    if let Some(slots) = slots.get(row + HEAD_AHEAD..row + HEAD_AHEAD + V::LANES) {
        slots.iter().for_each(|&slot| prefetch(&windows.heads, slot as usize));
    }
    let most = due_age(full) - 1;
    if let Some(slots) = slots.get(row + RING_AHEAD..row + RING_AHEAD + V::LANES) {
        for &slot in slots {
            let head = &windows.heads[slot as usize];
            prefetch(&windows.values, head.ring.oldest());
            if head.age >= most {
                ask_all(windows, head);
            }
        }
    }
}

/// Asks for all of a window, which will be gone through.
#[inline(never)]
fn ask_all(windows: &RollingMoments, head: &Head) {
    let oldest = head.ring.oldest();
    (0..head.ring.rows as usize).step_by(LINE).take(MOST_LINES).for_each(|row| prefetch(&windows.values, oldest + row));
}

/// What the window holds, its sums being computed afresh if it is time, or if they cannot be used.
#[cold]
#[inline(never)]
fn read_afresh(level: Level, windows: &mut RollingMoments, slot: usize, due: bool) -> Moments {
    if due {
        launch(level, Refresh { windows, slot });
    }
    windows.read(slot)
}

struct Refresh<'a> {
    windows: &'a mut RollingMoments,
    slot: usize,
}

impl Kernel for Refresh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        self.windows.refresh(self.slot);
    }
}
