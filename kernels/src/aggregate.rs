//! Grouped count, sum, minimum and maximum: rows of `(slot, value)` into one [`Cell`] per slot.
//!
//! # What the answers are
//! * **Null** rows are skipped: they change no part of a cell. Without a bitmap every row is valid.
//! * **NaN** is larger than every number and equal to itself, whatever its bits (the order of PostgreSQL and DuckDB):
//!   the maximum is NaN if any value is, the minimum only if all are. A sum with a NaN is NaN.
//! * **−0.0 < +0.0** in minimum and maximum, which therefore are the same bits in any order, batching or backend.
//! * **Infinities** sum to themselves, opposite ones to NaN. A sum is infinite, too, once a part of it leaves the range of
//!   `f64`, and the parts depend on the batching: finite values beyond 1e300 or so have no portable sum.
//! * **Float sums** carry the rounding error of every addition in a second word (Neumaier, "Rundungsfehleranalyse
//!   einiger Verfahren zur Summation endlicher Summen", ZAMM 54, 1974). The error is within 1e-12 of the sum of
//!   magnitudes for any realistic number of rows; the last bit may differ between batchings and backends.
//! * **Integer sums** are exact in 128 bits.
//! * Values may be of any type of [`Value`]; a narrow one is as the lane it widens to, exactly.
//!
//! Slots may come in any order. Short runs of few groups, runs of one group, and tables larger than the second-level
//! cache are each scheduled in their own way; the answers are the same.

use crate::backend::Backend;
use crate::bits::Bits;
use crate::cell::{Cell, two_sum};
use crate::value::{Lane, Value};
use crate::{scalar, simd};

/// Which parts of a cell are wanted; the others may stay at the identity. The count is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The sum (and with it the mean).
    pub sum: bool,
    /// Minimum and maximum.
    pub order: bool,
}

impl Want {
    /// Every part.
    pub const ALL: Self = Self { sum: true, order: true };
}

/// Takes rows into their groups' cells: `cells[slots[i]]` takes `values[i]` where row `i` is valid.
///
/// # Panics
/// If `slots`, `values` and `validity` differ in length, or the slot of a valid row is not below `cells.len()`.
pub fn accumulate<T: Value>(cells: &mut [Cell], slots: &[u32], values: &[T], validity: Option<Bits<'_>>, want: Want) {
    Backend::active().accumulate(cells, slots, values, validity, want);
}

/// Counts rows per group, null or not: `counts[slots[i]] += 1`.
///
/// # Panics
/// If a slot is not below `counts.len()`.
pub fn accumulate_count(counts: &mut [u64], slots: &[u32]) {
    Backend::active().accumulate_count(counts, slots);
}

/// Combines cells of values of type `T` element by element: `into[i]` becomes the cell of both inputs' values.
///
/// # Panics
/// If the lengths differ.
pub fn combine<T: Value>(into: &mut [Cell], from: &[Cell]) {
    check_lengths("cells to combine", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        T::Lane::combine(into, from);
    }
}

/// Adds counts element by element.
///
/// # Panics
/// If the lengths differ.
pub fn combine_count(into: &mut [u64], from: &[u64]) {
    check_lengths("counts to combine", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

impl Backend {
    /// [`accumulate`] on this backend.
    pub fn accumulate<T: Value>(self, cells: &mut [Cell], slots: &[u32], values: &[T], validity: Option<Bits<'_>>, want: Want) {
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::aggregate::accumulate(cells, slots, values, validity, want),
            Self::Simd(level) => simd::aggregate::accumulate(level, cells, slots, values, validity, want),
        }
    }

    /// [`accumulate_count`] on this backend.
    pub fn accumulate_count(self, counts: &mut [u64], slots: &[u32]) {
        match self {
            Self::Scalar => scalar::aggregate::accumulate_count(counts, slots),
            Self::Simd(level) => simd::aggregate::count(level, counts, slots),
        }
    }
}

#[inline(always)]
pub(crate) fn combine_float(into: &mut Cell, from: &Cell) {
    let [a, a_compensation] = into.sum.map(f64::from_bits);
    let [b, b_compensation] = from.sum.map(f64::from_bits);
    let (sum, error) = two_sum(a, b);
    into.sum = [sum, (a_compensation + b_compensation) + error].map(f64::to_bits);
    combine_rest(into, from);
}

#[inline(always)]
pub(crate) fn combine_int(into: &mut Cell, from: &Cell) {
    into.add_int(from.int_sum());
    combine_rest(into, from);
}

#[inline(always)]
fn combine_rest(into: &mut Cell, from: &Cell) {
    into.count += from.count;
    into.min = into.min.min(from.min);
    into.max = into.max.max(from.max);
}

pub(crate) fn check_lengths(what: &str, left: usize, right: usize) {
    assert!(left == right, "{what} differ in length: {left} and {right}");
}

#[cold]
#[inline(never)]
pub(crate) fn beyond(slot: u32, cells: usize) -> ! {
    panic!("slot {slot} is not below the number of cells, {cells}")
}

#[cfg(test)]
mod tests {
    use super::{Want, combine, combine_count};
    use crate::scalar;
    use crate::testing::{Case, assert_sums_agree, on_every_backend, same};
    use crate::{Backend, Bits, Cell};

    const WANTS: [Want; 4] =
        [Want::ALL, Want { sum: true, order: false }, Want { sum: false, order: true }, Want { sum: false, order: false }];

    on_every_backend!(floats, super::check_floats);
    on_every_backend!(ints, super::check_ints);
    on_every_backend!(counts, super::check_counts);
    on_every_backend!(combined, super::check_combined);

    fn magnitudes(case: &Case) -> Vec<f64> {
        let mut magnitudes = vec![0.0; case.groups as usize];
        for (row, value) in case.floats.iter().enumerate().filter(|(row, _)| case.valid(*row)) {
            magnitudes[case.slots[row] as usize] += value.abs();
        }
        magnitudes
    }

    fn assert_floats_agree(backend: Backend, cells: &[Cell], expected: &[Cell], magnitudes: &[f64]) {
        for ((cell, expected), magnitudes) in cells.iter().zip(expected).zip(magnitudes) {
            assert_eq!((cell.count, cell.min, cell.max), (expected.count, expected.min, expected.max), "{backend}");
            assert_sums_agree(backend, cell.float_sum(), expected.float_sum(), *magnitudes);
        }
    }

    fn check_floats(backend: Backend, case: &Case) {
        let magnitudes = magnitudes(case);
        for want in WANTS {
            let (mut cells, mut expected) = (vec![Cell::EMPTY; case.groups as usize], vec![Cell::EMPTY; case.groups as usize]);
            backend.accumulate(&mut cells, &case.slots, &case.floats, case.validity(), want);
            scalar::aggregate::accumulate(&mut expected, &case.slots, &case.floats, case.validity(), want);
            assert_floats_agree(backend, &cells, &expected, &magnitudes);
        }
    }

    fn check_ints(backend: Backend, case: &Case) {
        for want in WANTS {
            let (mut cells, mut expected) = (vec![Cell::EMPTY; case.groups as usize], vec![Cell::EMPTY; case.groups as usize]);
            backend.accumulate(&mut cells, &case.slots, &case.ints, case.validity(), want);
            scalar::aggregate::accumulate(&mut expected, &case.slots, &case.ints, case.validity(), want);
            assert!(cells == expected, "{backend}, {want:?}");
        }
    }

    fn check_counts(backend: Backend, case: &Case) {
        let (mut counts, mut expected) = (vec![1; case.groups as usize], vec![1; case.groups as usize]);
        backend.accumulate_count(&mut counts, &case.slots);
        scalar::aggregate::accumulate_count(&mut expected, &case.slots);
        assert!(counts == expected, "{backend}");
    }

    /// Two batches into panes of their own, combined, are one batch.
    fn check_combined(backend: Backend, case: &Case) {
        let groups = case.groups as usize;
        let (head, tail) = case.slots.split_at(case.slots.len() / 3);
        let mut panes = [vec![Cell::EMPTY; groups], vec![Cell::EMPTY; groups], vec![Cell::EMPTY; groups]];
        backend.accumulate(&mut panes[0], head, &case.floats[..head.len()], None, Want::ALL);
        backend.accumulate(&mut panes[1], tail, &case.floats[head.len()..], None, Want::ALL);
        backend.accumulate(&mut panes[2], &case.slots, &case.floats, None, Want::ALL);
        let [mut combined, pane, whole] = panes;
        combine::<f64>(&mut combined, &pane);
        combine::<f64>(&mut combined, &vec![Cell::EMPTY; groups]);
        assert_floats_agree(backend, &combined, &whole, &magnitudes(&Case { nulls: false, ..case.clone() }));

        let mut panes = [vec![Cell::EMPTY; groups], vec![Cell::EMPTY; groups], vec![Cell::EMPTY; groups]];
        backend.accumulate(&mut panes[0], head, &case.ints[..head.len()], None, Want::ALL);
        backend.accumulate(&mut panes[1], tail, &case.ints[head.len()..], None, Want::ALL);
        backend.accumulate(&mut panes[2], &case.slots, &case.ints, None, Want::ALL);
        let [mut combined, pane, whole] = panes;
        combine::<i64>(&mut combined, &pane);
        assert!(combined == whole, "{backend}");
    }

    #[test]
    fn a_tenth_ten_million_times_is_a_million() {
        let values = vec![0.1; 10_000_000];
        // 0.1 as a float is 0.1 + 5.55e-18: the exact sum of ten million is 1e6 + 5.55e-11, which rounds to 1e6.
        for backend in Backend::available() {
            for groups in [1, 2, 100] {
                let slots: Vec<u32> = (0..values.len() as u32).map(|row| row % groups).collect();
                let mut cells = vec![Cell::EMPTY; groups as usize];
                backend.accumulate(&mut cells, &slots, &values, None, Want::ALL);
                for cell in cells {
                    let exact = cell.count as f64 / 10.0;
                    assert!((cell.float_sum() - exact).abs() <= 1e-12 * exact, "{backend}: {}", cell.float_sum());
                }
            }
        }
    }

    #[test]
    fn a_large_value_that_comes_and_goes_leaves_the_small_ones() {
        let values: Vec<f64> = [1e16].into_iter().chain([1.0; 10_000]).chain([-1e16]).collect();
        for backend in Backend::available() {
            for slots in [vec![0; values.len()], (0..values.len() as u32).map(|row| row % 2 * u32::from(row % 1000 == 7)).collect()] {
                let mut cells = [Cell::EMPTY; 2];
                backend.accumulate(&mut cells, &slots, &values, None, Want::ALL);
                assert_eq!(cells[0].float_sum() + cells[1].float_sum(), 10_000.0, "{backend}");
            }
        }
    }

    #[test]
    fn nan_infinity_and_zero_have_their_stated_places() {
        for backend in Backend::available() {
            let of = |values: &[f64]| {
                let mut cells = [Cell::EMPTY; 1];
                backend.accumulate(&mut cells, &vec![0; values.len()], values, None, Want::ALL);
                [cells[0].float_min(), cells[0].float_max(), cells[0].float_sum()]
            };
            let same_all = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| same(*a, b));
            let (inf, nan) = (f64::INFINITY, f64::NAN);
            assert!(same_all(of(&[1.0, nan, -2.0]), [-2.0, nan, nan]), "{backend}");
            assert!(same_all(of(&[-nan, nan]), [nan, nan, nan]), "{backend}");
            assert!(same_all(of(&[inf, 1.0, 2.0]), [1.0, inf, inf]), "{backend}");
            assert!(same_all(of(&[-inf, 1.0, 2.0]), [-inf, 2.0, -inf]), "{backend}");
            assert!(same_all(of(&[inf, -inf]), [-inf, inf, nan]), "{backend}");
            assert!(same_all(of(&[0.0, -0.0, 0.0]), [-0.0, 0.0, 0.0]), "{backend}");
        }
    }

    #[test]
    fn integer_sums_do_not_wrap() {
        for backend in Backend::available() {
            for (value, groups) in [(i64::MAX, 1), (i64::MIN, 1), (i64::MIN, 3), (-1, 3)] {
                let slots: Vec<u32> = (0..3000).map(|row| row % groups).collect();
                let mut cells = vec![Cell::EMPTY; groups as usize];
                backend.accumulate(&mut cells, &slots, &[value; 3000], None, Want::ALL);
                assert_eq!(cells[0].int_sum(), i128::from(value) * 3000 / i128::from(groups), "{backend}");
                assert_eq!((cells[0].int_min(), cells[0].int_max()), (value, value));
            }
        }
    }

    #[test]
    fn counts_combine() {
        let mut counts = [1, 2, 3];
        combine_count(&mut counts, &[10, 0, u64::from(u32::MAX)]);
        assert_eq!(counts, [11, 2, 3 + u64::from(u32::MAX)]);
    }

    #[test]
    fn a_slot_out_of_range_panics_and_one_of_a_null_row_does_not() {
        for backend in Backend::available() {
            let stray = |validity: Option<Bits<'_>>| {
                let bytes = validity.map(|bits| bits.bytes.to_vec());
                std::panic::catch_unwind(move || {
                    let validity = bytes.as_deref().map(|bytes| Bits { bytes, offset: 0, len: 3 });
                    backend.accumulate(&mut [Cell::EMPTY; 2], &[0, 2, 1], &[1.0; 3], validity, Want::ALL);
                })
                .is_err()
            };
            assert!(stray(None), "{backend}");
            assert!(!stray(Some(Bits { bytes: &[0b101], offset: 0, len: 3 })), "{backend}");
            assert!(std::panic::catch_unwind(|| backend.accumulate_count(&mut [0; 2], &[0, 5])).is_err(), "{backend}");
            let short = std::panic::catch_unwind(|| backend.accumulate(&mut [Cell::EMPTY], &[0, 0], &[1.0], None, Want::ALL));
            assert!(short.is_err(), "{backend}");
        }
    }
}
