//! Whole-column reductions.

use super::aggregate::{BLOCK, Element, widen};
use super::vector::{MAX_LANES, Vector};
use super::{Kernel, Level, launch};
use crate::aggregate::{Want, combine_float};
use crate::bits::Bits;
use crate::cell::Cell;
use crate::scalar;
use crate::value::{Lane, Value};

/// Registers per accumulator: enough to hide the latency of an addition behind the others.
const UNROLL: usize = 2;

/// Rows judged at once against the watermark after them: few, so that the times among them lie closer than the delay.
const LOOK: usize = 64;

/// Exact 32-bit halves of so many integers cannot overflow a 64-bit sum.
const INTS_PER_SUM: usize = 1 << 30;

pub(crate) fn min_max_i64(level: Level, values: &[i64]) -> Option<(i64, i64)> {
    let cell = launch(level, Fold::<i64, false, true> { values, validity: None });
    (cell.count > 0).then_some((cell.min, cell.max))
}

pub(crate) fn fold<T: Value>(level: Level, values: &[T], validity: Option<Bits<'_>>, want: Want) -> Cell {
    match (want.sum, want.order) {
        (true, true) => launch(level, Fold::<T, true, true> { values, validity }),
        (true, false) => launch(level, Fold::<T, true, false> { values, validity }),
        (false, true) => launch(level, Fold::<T, false, true> { values, validity }),
        (false, false) => launch(level, Fold::<T, false, false> { values, validity }),
    }
}

struct Fold<'a, T, const SUM: bool, const ORDER: bool> {
    values: &'a [T],
    validity: Option<Bits<'a>>,
}

impl<T: Value, const SUM: bool, const ORDER: bool> Kernel for Fold<'_, T, SUM, ORDER> {
    type Output = Cell;

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> Cell {
        let (mut cell, mut wide) = (Cell::EMPTY, [T::Lane::default(); BLOCK]);
        let Some(bits) = self.validity else {
            if let Some(values) = T::as_lane(self.values) {
                return T::Lane::fold::<V, SUM, ORDER>(v, values);
            }
            for values in self.values.chunks(BLOCK) {
                T::Lane::combine(&mut cell, &T::Lane::fold::<V, SUM, ORDER>(v, widen(values, &mut wide)));
            }
            return cell;
        };
        let mut valid = [T::default(); BLOCK];
        for (block, values) in self.values.chunks(BLOCK).enumerate() {
            let mut kept = 0;
            for (part, values) in values.chunks(64).enumerate() {
                let word = bits.word(block * BLOCK + part * 64);
                for (row, &value) in values.iter().enumerate() {
                    // Written always, kept if valid: no branch to mispredict. Fewer than BLOCK are kept before the last.
                    valid[kept % BLOCK] = value;
                    kept += (word >> row & 1) as usize;
                }
            }
            T::Lane::combine(&mut cell, &T::Lane::fold::<V, SUM, ORDER>(v, widen(&valid[..kept], &mut wide)));
        }
        cell
    }
}

pub(crate) fn behind_watermark(level: Level, times: &[i64], max_before: i64, delay: i64) -> (i64, bool) {
    launch(level, Behind { times, max_before, delay })
}

struct Behind<'a> {
    times: &'a [i64],
    max_before: i64,
    delay: i64,
}

impl Kernel for Behind<'_> {
    type Output = (i64, bool);

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> (i64, bool) {
        let (mut max, mut behind) = (self.max_before, false);
        for times in self.times.chunks(LOOK) {
            let Cell { min: low, max: high, .. } = fold_ints::<V, false, true>(v, times);
            let after = max.max(high);
            // No watermark within the rows is later than the one after them, so most need no second look.
            if !behind && low <= scalar::column::watermark(after, self.delay) {
                behind = scalar::column::behind_watermark(times, max, self.delay).1;
            }
            max = after;
        }
        (max, behind)
    }
}

/// The cell of a run of floats without nulls.
#[inline(always)]
pub(crate) fn fold_floats<V: Vector, const SUM: bool, const ORDER: bool>(v: V, values: &[f64]) -> Cell {
    let mut sum = [v.splat_f(0.0); UNROLL];
    let mut compensation = [v.splat_f(0.0); UNROLL];
    let mut min = [v.splat_i(i64::MAX); UNROLL];
    let mut max = [v.splat_i(i64::MIN); UNROLL];
    let mut chunks = values.chunks_exact(V::LANES * UNROLL);
    for chunk in &mut chunks {
        for i in 0..UNROLL {
            let value = v.load_f(&chunk[i * V::LANES..]);
            if SUM {
                // TwoSum, as in `crate::cell::two_sum`.
                let total = v.add(sum[i], value);
                let seen = v.sub(total, sum[i]);
                let lost = v.add(v.sub(sum[i], v.sub(total, seen)), v.sub(value, seen));
                (sum[i], compensation[i]) = (total, v.add(compensation[i], lost));
            }
            if ORDER {
                let key = v.order_key(value);
                (min[i], max[i]) = (v.min(min[i], key), v.max(max[i], key));
            }
        }
    }
    let rest = chunks.remainder();
    let mut cell = Cell { count: (values.len() - rest.len()) as u64, ..Cell::EMPTY };
    if cell.count > 0 {
        for i in 0..UNROLL {
            let (mut sums, mut lost) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            v.store_f(&mut sums, sum[i]);
            v.store_f(&mut lost, compensation[i]);
            for (sum, lost) in sums.iter().zip(lost).take(V::LANES) {
                combine_float(&mut cell, &Cell { sum: [sum.to_bits(), lost.to_bits()], ..Cell::EMPTY });
            }
            merge_order(v, &mut cell, min[i], max[i]);
        }
    }
    rest.iter().for_each(|&value| scalar::aggregate::add_float(&mut cell, value, Want { sum: SUM, order: ORDER }));
    cell
}

/// The cell of a run of integers without nulls.
#[inline(always)]
pub(crate) fn fold_ints<V: Vector, const SUM: bool, const ORDER: bool>(v: V, values: &[i64]) -> Cell {
    let mut min = [v.splat_i(i64::MAX); UNROLL];
    let mut max = [v.splat_i(i64::MIN); UNROLL];
    let mut cell = Cell::EMPTY;
    let mut chunks = values.chunks_exact(V::LANES * UNROLL);
    if ORDER {
        for chunk in &mut chunks {
            for i in 0..UNROLL {
                let value = v.load_i(&chunk[i * V::LANES..]);
                (min[i], max[i]) = (v.min(min[i], value), v.max(max[i], value));
            }
        }
        for i in 0..UNROLL {
            merge_order(v, &mut cell, min[i], max[i]);
        }
        for &value in chunks.remainder() {
            (cell.min, cell.max) = (cell.min.min(value), cell.max.max(value));
        }
    }
    if SUM {
        for part in values.chunks(INTS_PER_SUM) {
            let (low, high) = part.iter().fold((0u64, 0i64), |(low, high), &v| (low + (v as u64 & 0xffff_ffff), high + (v >> 32)));
            cell.add_int((i128::from(high) << 32) + i128::from(low));
        }
    }
    cell.count = values.len() as u64;
    cell
}

#[inline(always)]
fn merge_order<V: Vector>(v: V, cell: &mut Cell, min: V::I, max: V::I) {
    let (mut mins, mut maxs) = ([i64::MAX; MAX_LANES], [i64::MIN; MAX_LANES]);
    v.store_i(&mut mins, min);
    v.store_i(&mut maxs, max);
    cell.min = mins.into_iter().fold(cell.min, i64::min);
    cell.max = maxs.into_iter().fold(cell.max, i64::max);
}
