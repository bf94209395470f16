//! Whole-column reductions.

use super::aggregate::{BLOCK, Element, widen};
use super::vector::{MAX_LANES, Vector};
use super::{Kernel, Level, launch};
use crate::aggregate::Want;
use crate::bits::Bits;
use crate::cell::Cell;
use crate::scalar;
use crate::value::{Lane, Value};

/// Cells per lane: enough to hide the latency of an addition behind the others.
const UNROLL: usize = 2;

/// Rows that a word of validity covers.
const WORD: usize = 64;

/// The values behind the last whole word that are taken as a word, too: fewer take less time one by one.
const PADDED: usize = 16;

/// Rows judged at once against the watermark after them: few, so that the times among them lie closer than the delay.
const LOOK: usize = 64;

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
        if let Some(values) = T::as_lane(self.values) {
            return fold_run::<V, T::Lane, SUM, ORDER>(v, values, self.validity);
        }
        let (mut cell, mut wide) = (Cell::EMPTY, [T::Lane::default(); BLOCK]);
        for (block, values) in self.values.chunks(BLOCK).enumerate() {
            let validity = self.validity.map(|bits| Bits { offset: bits.offset + block * BLOCK, len: values.len(), ..bits });
            T::Lane::combine(&mut cell, &fold_run::<V, T::Lane, SUM, ORDER>(v, widen(values, &mut wide), validity));
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
        let (mut max, mut behind, mut in_order) = (self.max_before, false, self.delay >= 0);
        for times in self.times.chunks(LOOK) {
            // Of rows in the order of their times, only the watermark before the first can be ahead of any, and is of that one then.
            in_order = in_order && ascends(times);
            if let ([first, ..], Some(last), true) = (times, times.last(), in_order) {
                behind |= scalar::column::is_behind(*first, max, self.delay);
                max = max.max(*last);
                continue;
            }
            let Cell { min: low, max: high, .. } = fold_run::<V, i64, false, true>(v, times, None);
            let after = max.max(high);
            // No watermark within the rows is later than the one after them, so most need no second look.
            if !behind && low <= scalar::column::watermark(after, self.delay) {
                behind = scalar::column::behind_watermark(times, max, self.delay).1;
                // Rows that need one are looked at for their order again: they may have come into it.
                in_order = self.delay >= 0;
            }
            max = after;
        }
        (max, behind)
    }
}

/// Whether no value is below the one before it: all are looked at, as that takes less time than to find out where to stop.
#[inline(always)]
fn ascends(values: &[i64]) -> bool {
    let next = values.get(1..).unwrap_or_default();
    values.iter().zip(next).fold(0, |descents, (value, next)| descents | i64::from(value > next)) == 0
}

/// The cell of the valid ones of a run of values.
#[inline(always)]
pub(crate) fn fold_run<V: Vector, E: Element, const SUM: bool, const ORDER: bool>(v: V, values: &[E], validity: Option<Bits<'_>>) -> Cell {
    let (words, rest) = values.as_chunks::<WORD>();
    let mut lanes = Lanes::new(v);
    let mut count = 0;
    for (i, values) in words.iter().enumerate() {
        let valid = validity.map_or(u64::MAX, |bits| bits.word(i * WORD));
        count += u64::from(valid.count_ones());
        if valid == u64::MAX {
            lanes.take_word::<E, SUM, ORDER>(values, None);
        } else if valid != 0 {
            lanes.take_word::<E, SUM, ORDER>(values, Some(valid));
        }
    }
    let mut valid = validity.map_or(u64::MAX, |bits| bits.word(words.len() * WORD)) & ((1 << rest.len()) - 1);
    if rest.len() >= PADDED && valid != 0 {
        let mut padded = [E::default(); WORD];
        padded[..rest.len()].copy_from_slice(rest);
        count += u64::from(valid.count_ones());
        lanes.take_word::<E, SUM, ORDER>(&padded, Some(valid));
        valid = 0;
    }
    let mut cell = if count > 0 { Cell { count, ..lanes.finish::<E>() } } else { Cell::EMPTY };
    let valid_rest = rest.iter().enumerate().filter(|(row, _)| valid >> row & 1 == 1);
    valid_rest.for_each(|(_, value)| value.take(&mut cell, Want { sum: SUM, order: ORDER }));
    cell
}

/// Cells, one for each lane of some registers.
struct Lanes<V: Vector> {
    v: V,
    sums: [[V::I; 2]; UNROLL],
    min: [V::I; UNROLL],
    max: [V::I; UNROLL],
}

impl<V: Vector> Lanes<V> {
    #[inline(always)]
    fn new(v: V) -> Self {
        // No value is no bits, for integers and floats alike.
        let (none, min, max) = (v.splat_i(0), v.splat_i(i64::MAX), v.splat_i(i64::MIN));
        Self { v, sums: [[none; 2]; UNROLL], min: [min; UNROLL], max: [max; UNROLL] }
    }

    /// Takes those values that `valid` has a bit for; all without it.
    #[inline(always)]
    fn take_word<E: Element, const SUM: bool, const ORDER: bool>(&mut self, values: &[E; WORD], valid: Option<u64>) {
        let v = self.v;
        for (part, values) in values.chunks_exact(V::LANES * UNROLL).enumerate() {
            for i in 0..UNROLL {
                let value = E::load(v, &values[i * V::LANES..]);
                let mask = valid.map(|word| v.mask(word >> ((part * UNROLL + i) * V::LANES)));
                let keep = |value: V::I, identity: i64| mask.map_or(value, |mask| v.select(mask, value, v.splat_i(identity)));
                if SUM {
                    self.sums[i] = E::add_lanes(v, self.sums[i], keep(value, 0));
                }
                if ORDER {
                    let key = E::keys(v, value);
                    self.min[i] = v.min(self.min[i], keep(key, i64::MAX));
                    self.max[i] = v.max(self.max[i], keep(key, i64::MIN));
                }
            }
        }
    }

    #[inline(always)]
    fn finish<E: Element>(self) -> Cell {
        let (v, mut cell) = (self.v, Cell::EMPTY);
        for i in 0..UNROLL {
            let mut fields = [[0; MAX_LANES]; 4];
            for (to, field) in fields.iter_mut().zip([self.sums[i][0], self.sums[i][1], self.min[i], self.max[i]]) {
                v.store_i(to, field);
            }
            for lane in 0..V::LANES {
                let [low, high, min, max] = fields.map(|field| field[lane]);
                E::combine(&mut cell, &Cell { count: 0, sum: [low as u64, high as u64], min, max });
            }
        }
        cell
    }
}
