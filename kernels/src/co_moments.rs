//! Grouped covariance and correlation: rows of `(slot, x, y)` into one [`CoMoments`] per slot.
//!
//! [`Moments`] of each column and the sum of products of distances, compensated like them and of the same shifts. The error
//! of a covariance is that stated in [`crate::moments`], relative to the product of the standard deviations.
//!
//! * A row counts where both values are valid: the bitmap is that of the pair.
//! * A covariance with NaN or an infinity in it is NaN, and so is the correlation with a column that does not vary.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::cell::two_sum;
use crate::moments::{Moments, finite};
use crate::pair::{Pair, two_product};
use crate::value::Value;
use crate::{scalar, simd};

/// Second moments of the pairs of values of one group; [`CoMoments::EMPTY`] is the identity of combine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoMoments {
    pub(crate) x: Moments,
    pub(crate) y: Moments,
    /// The sum of products of distances and what rounding took from it.
    cross: [f64; 2],
}

impl CoMoments {
    /// No values.
    pub const EMPTY: Self = Self { x: Moments::EMPTY, y: Moments::EMPTY, cross: [0.0; 2] };

    /// Pairs taken in.
    #[inline]
    pub fn count(&self) -> u64 {
        self.x.count
    }

    /// The moments of the first column, over the pairs.
    #[inline]
    pub fn x(&self) -> &Moments {
        &self.x
    }

    /// The moments of the second column, over the pairs.
    #[inline]
    pub fn y(&self) -> &Moments {
        &self.y
    }

    /// Sum of products of the distances of both values from their means.
    pub fn co_moment(&self) -> f64 {
        let count = Pair::from(self.count() as f64);
        let moment = Pair::joined(self.cross[0], self.cross[1]) * count + -(self.x.sum() * self.y.sum());
        finite(moment) / self.count().max(1) as f64
    }

    /// Covariance, over `count - ddof`: 0 for the population, 1 for a sample; NaN unless `count > ddof`.
    #[inline]
    pub fn covariance(&self, ddof: u64) -> f64 {
        if self.count() > ddof { self.co_moment() / (self.count() - ddof) as f64 } else { f64::NAN }
    }

    /// Pearson's correlation, within −1 and 1.
    pub fn correlation(&self) -> f64 {
        let scale = self.x.second_moment().sqrt() * self.y.second_moment().sqrt();
        if scale > 0.0 { (self.co_moment() / scale).clamp(-1.0, 1.0) } else { f64::NAN }
    }

    /// The cell as fourteen words, for a snapshot; [`CoMoments::from_words`] gives it back bit for bit.
    pub fn to_words(&self) -> [u64; 14] {
        let (x, y) = (self.x.to_words(), self.y.to_words());
        std::array::from_fn(|word| match word {
            0..6 => x[word],
            6..12 => y[word - 6],
            _ => self.cross[word - 12].to_bits(),
        })
    }

    /// The cell of a snapshot.
    pub fn from_words(words: [u64; 14]) -> Self {
        let moments = |start: usize| Moments::from_words(std::array::from_fn(|word| words[start + word]));
        Self { x: moments(0), y: moments(6), cross: [words[12], words[13]].map(f64::from_bits) }
    }

    /// Takes a pair.
    #[inline(always)]
    pub(crate) fn add(&mut self, x: f64, y: f64) {
        let (product, product_lost) = two_product(self.x.add(x), self.y.add(y));
        let (cross, lost) = two_sum(self.cross[0], product);
        self.cross = [cross, self.cross[1] + (lost + product_lost)];
    }

    /// Takes the pairs of another cell.
    pub(crate) fn combine(&mut self, from: &Self) {
        if self.count() == 0 {
            *self = *from;
        } else if from.count() > 0 {
            let (x, y) = (self.x.combine(&from.x), self.y.combine(&from.y));
            let [cross, other] = [&*self, from].map(|cell| Pair::joined(cell.cross[0], cell.cross[1]));
            let moved = x * from.y.sum() + y * from.x.sum() + x * y * Pair::from(from.count() as f64);
            let cross = cross + other + moved;
            self.cross = [cross.high, cross.low];
        }
    }
}

impl Default for CoMoments {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Takes rows into their groups' moments: `cells[slots[i]]` takes `(x[i], y[i])` where row `i` is valid.
///
/// # Panics
/// If the columns differ in length, or the slot of a valid row is not below `cells.len()`.
pub fn accumulate_co_moments<T: Value, U: Value>(cells: &mut [CoMoments], slots: &[u32], x: &[T], y: &[U], validity: Option<Bits<'_>>) {
    Backend::active().accumulate_co_moments(cells, slots, x, y, validity);
}

/// The moments of all valid pairs of two columns.
///
/// # Panics
/// If the columns differ in length.
pub fn fold_co_moments<T: Value, U: Value>(x: &[T], y: &[U], validity: Option<Bits<'_>>) -> CoMoments {
    Backend::active().fold_co_moments(x, y, validity)
}

/// Combines moments element by element: `into[i]` becomes the cell of both inputs' pairs.
///
/// # Panics
/// If the lengths differ.
pub fn combine_co_moments(into: &mut [CoMoments], from: &[CoMoments]) {
    check_lengths("moments to combine", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        into.combine(from);
    }
}

impl Backend {
    /// [`accumulate_co_moments`] on this backend.
    pub fn accumulate_co_moments<T: Value, U: Value>(
        self,
        cells: &mut [CoMoments],
        slots: &[u32],
        x: &[T],
        y: &[U],
        validity: Option<Bits<'_>>,
    ) {
        check_lengths("slots and values", slots.len(), x.len());
        check_lengths("paired values", x.len(), y.len());
        Bits::check(validity, x.len());
        match self {
            Self::Scalar => scalar::co_moments::accumulate(cells, slots, x, y, validity),
            Self::Simd(level) => simd::co_moments::accumulate(level, cells, slots, x, y, validity),
        }
    }

    /// [`fold_co_moments`] on this backend.
    pub fn fold_co_moments<T: Value, U: Value>(self, x: &[T], y: &[U], validity: Option<Bits<'_>>) -> CoMoments {
        check_lengths("paired values", x.len(), y.len());
        Bits::check(validity, x.len());
        match self {
            Self::Scalar => scalar::co_moments::fold(x, y, validity),
            Self::Simd(level) => simd::co_moments::fold(level, x, y, validity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CoMoments, combine_co_moments};
    use crate::testing::{Case, on_every_backend, scramble};
    use crate::{Backend, scalar};

    on_every_backend!(grouped, super::check_grouped);

    /// Values whose distances and their squares stay in range, with zeros, NaN and infinities among them.
    fn column(case: &Case) -> Vec<f64> {
        let tame = |value: f64| if (1e-120..1e100).contains(&value.abs()) || value == 0.0 || !value.is_finite() { value } else { 7.0 };
        case.floats.iter().map(|&value| tame(value)).collect()
    }

    fn check_grouped(backend: Backend, case: &Case) {
        let (x, y) = (column(case), case.ints.iter().map(|value| value % 1000).collect::<Vec<i64>>());
        let mut expected = vec![CoMoments::EMPTY; case.groups as usize];
        let (mut cells, mut combined, mut pane) = (expected.clone(), expected.clone(), expected.clone());
        scalar::co_moments::accumulate(&mut expected, &case.slots, &x, &y, case.validity());
        backend.accumulate_co_moments(&mut cells, &case.slots, &x, &y, case.validity());
        cells.iter().zip(&expected).for_each(|(cell, expected)| assert_agree(backend, cell, expected));
        let whole = scalar::co_moments::fold(&x, &y, case.validity());
        assert_agree(backend, &backend.fold_co_moments(&x, &y, case.validity()), &whole);

        let (head, tail) = case.slots.split_at(case.slots.len() / 3);
        backend.accumulate_co_moments(&mut combined, head, &x[..head.len()], &y[..head.len()], None);
        backend.accumulate_co_moments(&mut pane, tail, &x[head.len()..], &y[head.len()..], None);
        combine_co_moments(&mut combined, &pane);
        combine_co_moments(&mut combined, &vec![CoMoments::EMPTY; case.groups as usize]);
        expected.fill(CoMoments::EMPTY);
        scalar::co_moments::accumulate(&mut expected, &case.slots, &x, &y, None);
        combined.iter().zip(&expected).for_each(|(cell, expected)| assert_agree(backend, cell, expected));
    }

    fn assert_agree(backend: Backend, cell: &CoMoments, expected: &CoMoments) {
        assert_eq!(cell.count(), expected.count());
        assert_eq!(CoMoments::from_words(cell.to_words()).to_words(), cell.to_words());
        let (found, expected_value) = (cell.covariance(0), expected.covariance(0));
        let scale = expected.x.std_dev(0) * expected.y.std_dev(0);
        let near = (found - expected_value).abs() <= 1e-12 * scale + 1e-200;
        assert!(near || found.is_nan() && expected_value.is_nan(), "{backend}: {found:e} for {expected_value:e}, of {scale:e}");
    }

    #[test]
    fn the_covariance_is_that_of_exact_arithmetic() {
        let noise = |row: u64| i128::from(scramble(row)) >> 51;
        let pairs: Vec<(i128, i128)> = (0..50_000).map(|row| (noise(row), noise(row) / 3 - noise(row + 1_000_000))).collect();
        let (n, x, y, xy) = pairs.iter().fold((0, 0, 0, 0), |(n, x, y, xy), pair| (n + 1, x + pair.0, y + pair.1, xy + pair.0 * pair.1));
        let expected = (n * xy - x * y) as f64 / (n * n) as f64;
        let unit = f64::from(1 << 22);
        let at = |place: i128, value: i128| ((place << 22) + value) as f64 / unit;
        let first: Vec<f64> = pairs.iter().map(|pair| at(1_000_000_000, pair.0)).collect();
        let second: Vec<f64> = pairs.iter().map(|pair| at(-700_000_000, pair.1)).collect();
        for backend in Backend::available() {
            let cell = backend.fold_co_moments(&first, &second, None);
            let (found, scale) = (cell.covariance(0) * unit * unit, cell.x().std_dev(0) * cell.y().std_dev(0) * unit * unit);
            assert!((found - expected).abs() <= 1e-14 * scale, "{backend}: {found:e} for {expected:e}");
        }
    }

    #[test]
    fn correlations_at_the_ends() {
        for backend in Backend::available() {
            let x: Vec<i32> = (0..1000).collect();
            let falling: Vec<f32> = x.iter().map(|&x| 5.0 - 2.0 * x as f32).collect();
            assert_eq!(backend.fold_co_moments(&x, &x, None).correlation(), 1.0, "{backend}");
            assert!((backend.fold_co_moments(&x, &falling, None).correlation() + 1.0).abs() < 1e-15, "{backend}");
            assert!(backend.fold_co_moments(&x, &[1.5; 1000], None).correlation().is_nan(), "{backend}");
            assert!(CoMoments::default().covariance(0).is_nan() && CoMoments::EMPTY.correlation().is_nan());
        }
    }
}
