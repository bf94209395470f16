//! Grouped mean and second moment: rows of `(slot, value)` into one [`Moments`] per slot.
//!
//! Sums of the values and of their squares, both relative to the group's first value and both with the rounding errors of
//! every addition and product kept in a second word. The shift is that of T. F. Chan, G. H. Golub and R. J. LeVeque,
//! "Algorithms for computing the sample variance", The American Statistician 37(3), 1983; the sums are of T. Ogita,
//! S. M. Rump and S. Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26(6), 2005. There is no division per row.
//!
//! # What the answers are
//! * **Null** rows are skipped.
//! * **Error**: with `n` values whose first lies `k` standard deviations from the mean (`k² < n` for any value of the group),
//!   the relative error of the variance is at most about `2⁻⁵² √(1 + k²) + n² 2⁻¹⁰⁵ (1 + k²)`: a few units in the last place in
//!   the common case, and within 1e-12 for a million values even if the first is an outlier beyond compare. The last bits may
//!   differ between batchings and backends. Values all the same have a variance of exactly 0.
//! * **NaN and infinities**: the mean is as the sum in [`crate::aggregate`] is; a variance with one is NaN.
//! * **Range**: distances from the first value beyond 1e140 have a variance of NaN, those below 1e-140 lose the bound.
//! * **Integers** are taken as the nearest float.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::cell::two_sum;
use crate::pair::{Pair, two_product};
use crate::value::Value;
use crate::{scalar, simd};

/// Count, mean and second moment of the non-null values of one group; [`Moments::EMPTY`] is the identity of combine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Values taken in: non-null rows.
    pub count: u64,
    /// What the sums are relative to: the first value, or 0 if that is not finite.
    pub(crate) shift: f64,
    /// Sums of distances and of their squares.
    pub(crate) sums: [f64; 2],
    /// What rounding took from the sums.
    pub(crate) lost: [f64; 2],
}

impl Moments {
    /// No values.
    pub const EMPTY: Self = Self { count: 0, shift: 0.0, sums: [0.0; 2], lost: [0.0; 2] };

    /// Mean of the values; NaN of none.
    #[inline]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.shift + self.sum().value() / self.count as f64 }
    }

    /// Sum of squared distances from the mean.
    pub fn second_moment(&self) -> f64 {
        let (count, sum) = (Pair::from(self.count as f64), self.sum());
        let moment = self.squares() * count + -(sum * sum);
        let moment = finite(moment);
        (if moment < 0.0 { 0.0 } else { moment }) / self.count.max(1) as f64
    }

    /// Variance, over `count - ddof`: 0 for the population, 1 for a sample; NaN unless `count > ddof`.
    #[inline]
    pub fn variance(&self, ddof: u64) -> f64 {
        if self.count > ddof { self.second_moment() / (self.count - ddof) as f64 } else { f64::NAN }
    }

    /// Standard deviation: the root of [`Moments::variance`].
    #[inline]
    pub fn std_dev(&self, ddof: u64) -> f64 {
        self.variance(ddof).sqrt()
    }

    /// The cell as six words, for a snapshot; [`Moments::from_words`] gives it back bit for bit.
    #[inline]
    pub fn to_words(&self) -> [u64; 6] {
        let [shift, sum, square, sum_lost, square_lost] =
            [self.shift, self.sums[0], self.sums[1], self.lost[0], self.lost[1]].map(f64::to_bits);
        [self.count, shift, sum, square, sum_lost, square_lost]
    }

    /// The cell of a snapshot.
    #[inline]
    pub fn from_words([count, words @ ..]: [u64; 6]) -> Self {
        let [shift, sum, square, sum_lost, square_lost] = words.map(f64::from_bits);
        Self { count, shift, sums: [sum, square], lost: [sum_lost, square_lost] }
    }

    pub(crate) fn sum(&self) -> Pair {
        Pair::joined(self.sums[0], self.lost[0])
    }

    fn squares(&self) -> Pair {
        Pair::joined(self.sums[1], self.lost[1])
    }

    /// The shift of this cell, which `value` decides if it is the first.
    #[inline(always)]
    pub(crate) fn shift_for(&self, value: f64) -> f64 {
        match self.count {
            0 if value.is_finite() => value,
            _ => self.shift,
        }
    }

    /// Takes a value; gives its distance from the shift.
    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) -> f64 {
        self.shift = self.shift_for(value);
        self.count += 1;
        let distance = value - self.shift;
        let (square, square_lost) = two_product(distance, distance);
        let (sums, lost) = (&mut self.sums, &mut self.lost);
        let ((sum, sum_error), (squares, squares_error)) = (two_sum(sums[0], distance), two_sum(sums[1], square));
        *sums = [sum, squares];
        *lost = [lost[0] + sum_error, lost[1] + (squares_error + square_lost)];
        distance
    }

    /// Takes the values of another cell, moved to this one's shift; gives the distance of the shifts.
    pub(crate) fn combine(&mut self, from: &Self) -> Pair {
        if from.count == 0 {
            return Pair::from(0.0);
        }
        if self.count == 0 {
            *self = *from;
            return Pair::from(0.0);
        }
        let count = Pair::from(from.count as f64);
        let moved = Pair::new(from.shift, -self.shift);
        let (sum, twice) = (from.sum(), Pair { high: 2.0 * moved.high, low: 2.0 * moved.low });
        let sums = [self.sum() + sum + moved * count, self.squares() + from.squares() + twice * sum + moved * moved * count];
        self.count += from.count;
        self.sums = sums.map(|pair| pair.high);
        self.lost = sums.map(|pair| pair.low);
        moved
    }
}

impl Default for Moments {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The value of a pair; NaN if that is not finite.
pub(crate) fn finite(pair: Pair) -> f64 {
    let value = pair.value();
    // 0 times an infinity, so that NaN it is, and not an infinity whose sign and place depend on the order of rows.
    value + value * 0.0
}

/// Takes rows into their groups' moments: `cells[slots[i]]` takes `values[i]` where row `i` is valid.
///
/// # Panics
/// If `slots`, `values` and `validity` differ in length, or the slot of a valid row is not below `cells.len()`.
pub fn accumulate_moments<T: Value>(cells: &mut [Moments], slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
    Backend::active().accumulate_moments(cells, slots, values, validity);
}

/// The moments of all valid values of a column.
///
/// # Panics
/// If `validity` is of another length.
pub fn fold_moments<T: Value>(values: &[T], validity: Option<Bits<'_>>) -> Moments {
    Backend::active().fold_moments(values, validity)
}

/// Combines moments element by element: `into[i]` becomes the cell of both inputs' values.
///
/// # Panics
/// If the lengths differ.
pub fn combine_moments(into: &mut [Moments], from: &[Moments]) {
    check_lengths("moments to combine", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        into.combine(from);
    }
}

impl Backend {
    /// [`accumulate_moments`] on this backend.
    pub fn accumulate_moments<T: Value>(self, cells: &mut [Moments], slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::moments::accumulate(cells, slots, values, validity),
            Self::Simd(level) => simd::moments::accumulate(level, cells, slots, values, validity),
        }
    }

    /// [`fold_moments`] on this backend.
    pub fn fold_moments<T: Value>(self, values: &[T], validity: Option<Bits<'_>>) -> Moments {
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::moments::fold(values, validity),
            Self::Simd(level) => simd::moments::fold(level, values, validity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Moments, combine_moments};
    use crate::testing::{Case, on_every_backend, same, scramble};
    use crate::{Backend, scalar};

    on_every_backend!(grouped, super::check_grouped);

    fn check_grouped(backend: Backend, case: &Case) {
        let mut expected = vec![Moments::EMPTY; case.groups as usize];
        scalar::moments::accumulate(&mut expected, &case.slots, &case.floats, case.validity());
        let mut cells = vec![Moments::EMPTY; case.groups as usize];
        backend.accumulate_moments(&mut cells, &case.slots, &case.floats, case.validity());
        assert_all_agree(backend, case, &cells, &expected);

        let whole = Case { slots: vec![0; case.slots.len()], groups: 1, ..case.clone() };
        let cell = backend.fold_moments(&case.floats, case.validity());
        assert_all_agree(backend, &whole, &[cell], &[scalar::moments::fold(&case.floats, case.validity())]);

        let (head, tail) = case.slots.split_at(case.slots.len() / 3);
        let mut panes = [vec![Moments::EMPTY; case.groups as usize], vec![Moments::EMPTY; case.groups as usize]];
        backend.accumulate_moments(&mut panes[0], head, &case.floats[..head.len()], None);
        backend.accumulate_moments(&mut panes[1], tail, &case.floats[head.len()..], None);
        let [mut combined, pane] = panes;
        combine_moments(&mut combined, &pane);
        combine_moments(&mut combined, &vec![Moments::EMPTY; case.groups as usize]);
        let (case, mut whole) = (Case { nulls: false, ..case.clone() }, vec![Moments::EMPTY; case.groups as usize]);
        scalar::moments::accumulate(&mut whole, &case.slots, &case.floats, None);
        assert_all_agree(backend, &case, &combined, &whole);
    }

    fn assert_all_agree(backend: Backend, case: &Case, cells: &[Moments], expected: &[Moments]) {
        let mut largest = vec![0.0f64; case.groups as usize];
        for (row, &value) in case.floats.iter().enumerate().filter(|(row, _)| case.valid(*row)) {
            let largest = &mut largest[case.slots[row] as usize];
            *largest = if value.is_finite() { largest.max(value.abs()) } else { f64::NAN };
        }
        for ((cell, expected), &largest) in cells.iter().zip(expected).zip(&largest) {
            assert_eq!(cell.count, expected.count);
            assert_eq!(Moments::from_words(cell.to_words()).to_words(), cell.to_words());
            let (mean, expected_mean) = (cell.mean(), expected.mean());
            let near = (mean - expected_mean).abs() <= 1e-12 * largest;
            assert!(near || same(mean, expected_mean), "{backend}: mean {mean:e}, expected {expected_mean:e}");
            let (variance, expected) = (cell.variance(0), expected.variance(0));
            let in_range = largest.is_nan() || largest < 1e140 && (expected == 0.0 || expected > 1e-250);
            let near = same(variance, expected) || (variance - expected).abs() <= 1e-12 * expected;
            assert!(near || !in_range, "{backend}: variance {variance:e}, expected {expected:e}");
        }
    }

    /// Variance of integers in exact arithmetic, rounded once or twice.
    fn exact_variance(values: &[i128]) -> f64 {
        let count = values.len() as i128;
        let sum: i128 = values.iter().sum();
        let squares: i128 = values.iter().map(|value| value * value).sum();
        (count * squares - sum * sum) as f64 / (count * count) as f64
    }

    /// Integers less `offset`, all of them exact as floats with `offset` added and divided by `unit`.
    fn assert_exact(offset: i128, unit: f64, values: &[i128], error: f64) {
        let floats: Vec<f64> = values.iter().map(|&value| (offset + value) as f64 / unit).collect();
        let expected = exact_variance(values) / (unit * unit);
        for backend in Backend::available() {
            for groups in [1, 3] {
                let slots: Vec<u32> = (0..values.len() as u32).map(|row| row * 7 % 11 % groups).collect();
                let mut cells = vec![Moments::EMPTY; groups as usize];
                backend.accumulate_moments(&mut cells, &slots, &floats, None);
                let (first, rest) = cells.split_at_mut(1);
                rest.iter().for_each(|cell| combine_moments(first, std::slice::from_ref(cell)));
                let found = first[0].variance(0);
                assert!((found - expected).abs() <= error * expected, "{backend}: {found:e} for {expected:e}, {groups} parts");
            }
            let found = backend.fold_moments(&floats, None).variance(0);
            assert!((found - expected).abs() <= error * expected, "{backend}: {found:e} for {expected:e}");
        }
    }

    #[test]
    fn the_variance_is_that_of_exact_arithmetic() {
        let noise = |bits: u32| (0..100_000).map(move |row| i128::from(scramble(row)) >> (64 - bits));
        // 1e9 with noise of 1e-3 and of 1e-6, in units of 2^-22; the least there can be: one unit in the last place.
        assert_exact(1_000_000_000 << 22, f64::from(1 << 22), &noise(13).collect::<Vec<_>>(), 4e-15);
        assert_exact(1_000_000_000 << 22, f64::from(1 << 22), &noise(3).collect::<Vec<_>>(), 4e-15);
        assert_exact(1 << 52, 1.0, &noise(1).collect::<Vec<_>>(), 4e-15);
        assert_exact(0, 1.0, &noise(40).collect::<Vec<_>>(), 4e-15);
        // The first value is far out, before noise and before a constant.
        let outlier = |rest: &mut dyn Iterator<Item = i128>| [-1_000_000_007].into_iter().chain(rest).collect::<Vec<i128>>();
        assert_exact(1_000_000_007, 1.0, &outlier(&mut noise(4)), 1e-13);
        assert_exact(1_000_000_007, 1.0, &outlier(&mut std::iter::repeat_n(12_345, 100_000)), 1e-13);
    }

    #[test]
    fn nothing_and_constants_and_values_that_are_no_numbers() {
        for backend in Backend::available() {
            for rows in [0, 1, 100] {
                let cell = backend.fold_moments(&vec![0.1; rows], None);
                assert!(if rows == 0 { cell.mean().is_nan() && cell.variance(0).is_nan() } else { cell.mean() == 0.1 });
                assert!(rows == 0 || cell.variance(0) == 0.0, "{backend}");
                assert_eq!(cell.variance(1).is_nan(), rows < 2, "{backend}");
            }
            for rows in [3, 40] {
                for (place, odd) in [0, 1, rows - 1].into_iter().flat_map(|at| [f64::NAN, f64::INFINITY, -f64::INFINITY].map(|x| (at, x))) {
                    let mut values = vec![2.0; rows];
                    values[place] = odd;
                    let cell = backend.fold_moments(&values, None);
                    assert!(same(cell.mean(), odd) && cell.variance(0).is_nan(), "{backend}: {cell:?}");
                    values[rows / 2] = -odd;
                    assert!(place == rows / 2 || backend.fold_moments(&values, None).mean().is_nan(), "{backend}");
                }
            }
        }
        assert_eq!(Backend::active().fold_moments(&[1u32, 2, 3, 4], None).std_dev(1), (5.0f64 / 3.0).sqrt());
    }
}
