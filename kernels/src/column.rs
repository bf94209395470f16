//! Whole columns: folds for windows without a key, the range of a time column, watermarks.

use crate::aggregate::Want;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::cell::Cell;
use crate::value::Value;
use crate::{scalar, simd};

/// The cell of all valid values of a column, with the semantics of [`crate::accumulate`].
///
/// # Panics
/// If `validity` is of another length.
pub fn fold<T: Value>(values: &[T], validity: Option<Bits<'_>>, want: Want) -> Cell {
    Backend::active().fold(values, validity, want)
}

/// Compensated sum of the valid floats; 0 of none.
///
/// # Panics
/// If `validity` is of another length.
pub fn sum_f64(values: &[f64], validity: Option<Bits<'_>>) -> f64 {
    fold(values, validity, Want { sum: true, order: false }).float_sum()
}

/// Smallest and largest valid float, NaN being larger than every number and −0.0 smaller than +0.0; `None` of none.
///
/// # Panics
/// If `validity` is of another length.
pub fn min_max_f64(values: &[f64], validity: Option<Bits<'_>>) -> Option<(f64, f64)> {
    let cell = fold(values, validity, Want { sum: false, order: true });
    (cell.count > 0).then(|| (cell.float_min(), cell.float_max()))
}

/// Smallest and largest of `values`; `None` of none.
pub fn min_max_i64(values: &[i64]) -> Option<(i64, i64)> {
    Backend::active().min_max_i64(values)
}

/// Whether any row is late, and the latest time after all rows.
///
/// Row `i` is judged against the watermark of the rows before it: the latest of their times and of `max_before`, less
/// `delay`, less 1; it is late where `times[i]` is at or below that. `i64::MIN` as `max_before` means that there was no
/// row before. The arithmetic saturates, and a watermark of `i64::MIN` holds nothing back.
pub fn behind_watermark(times: &[i64], max_before: i64, delay: i64) -> (i64, bool) {
    Backend::active().behind_watermark(times, max_before, delay)
}

/// Appends each row's watermark, as [`behind_watermark`] defines it, to `out` (`i64::MIN` where no row was before);
/// returns the latest time after all rows.
///
/// A chain of comparisons, one per row, that vectors do not shorten: the same code on every backend.
pub fn running_watermarks(times: &[i64], max_before: i64, delay: i64, out: &mut Vec<i64>) -> i64 {
    let mut max = max_before;
    out.extend(times.iter().map(|&time| {
        let before = scalar::column::watermark(max, delay);
        max = max.max(time);
        before
    }));
    max
}

impl Backend {
    /// [`fold`] on this backend.
    pub fn fold<T: Value>(self, values: &[T], validity: Option<Bits<'_>>, want: Want) -> Cell {
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::column::fold(values, validity, want),
            Self::Simd(level) => simd::column::fold(level, values, validity, want),
        }
    }

    /// [`min_max_i64`] on this backend.
    pub fn min_max_i64(self, values: &[i64]) -> Option<(i64, i64)> {
        match self {
            Self::Scalar => scalar::column::min_max_i64(values),
            Self::Simd(level) => simd::column::min_max_i64(level, values),
        }
    }

    /// [`behind_watermark`] on this backend.
    pub fn behind_watermark(self, times: &[i64], max_before: i64, delay: i64) -> (i64, bool) {
        match self {
            Self::Scalar => scalar::column::behind_watermark(times, max_before, delay),
            Self::Simd(level) => simd::column::behind_watermark(level, times, max_before, delay),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{min_max_f64, running_watermarks, sum_f64};
    use crate::testing::{Case, assert_sums_agree, on_every_backend};
    use crate::{Backend, Bits, Want, scalar};

    on_every_backend!(folds, super::check_folds);
    on_every_backend!(watermarks, super::check_watermarks);

    fn check_folds(backend: Backend, case: &Case) {
        for want in [Want::ALL, Want { sum: true, order: false }, Want { sum: false, order: true }] {
            let cell = backend.fold(&case.floats, case.validity(), want);
            let expected = scalar::column::fold(&case.floats, case.validity(), want);
            assert_eq!((cell.count, cell.min, cell.max), (expected.count, expected.min, expected.max), "{backend}");
            assert_sums_agree(backend, cell.float_sum(), expected.float_sum(), case.floats.iter().map(|x| x.abs()).sum());
            let cell = backend.fold(&case.ints, case.validity(), want);
            assert_eq!(cell, scalar::column::fold(&case.ints, case.validity(), want), "{backend}");
        }
        assert_eq!(backend.min_max_i64(&case.ints), scalar::column::min_max_i64(&case.ints), "{backend}");
    }

    fn check_watermarks(backend: Backend, case: &Case) {
        let nearly_sorted: Vec<i64> = case.ints.iter().enumerate().map(|(row, n)| row as i64 * 10 + n % 40).collect();
        let mut sorted = case.ints.clone();
        sorted.sort_unstable();
        for times in [&case.ints, &nearly_sorted, &sorted] {
            for (max_before, delay) in [(i64::MIN, 0), (0, 30), (0, i64::MAX), (i64::MAX, 5), (-500, 70), (i64::MIN + 3, 2), (0, 79)] {
                let (max, behind) = backend.behind_watermark(times, max_before, delay);
                assert_eq!((max, behind), scalar::column::behind_watermark(times, max_before, delay), "{backend}");
                let mut watermarks = Vec::new();
                let mut expected = Vec::new();
                assert_eq!(running_watermarks(times, max_before, delay, &mut watermarks), max);
                assert_eq!(scalar::column::running_watermarks(times, max_before, delay, &mut expected), max);
                assert_eq!(watermarks, expected);
                assert_eq!(behind, times.iter().zip(&watermarks).any(|(time, w)| *w > i64::MIN && time <= w), "{backend}");
            }
        }
    }

    #[test]
    fn watermarks_are_of_the_rows_before() {
        let mut watermarks = vec![7];
        assert_eq!(running_watermarks(&[100, 50, 200, 10], i64::MIN, 20, &mut watermarks), 200);
        assert_eq!(watermarks, [7, i64::MIN, 79, 79, 179]);
        for backend in Backend::available() {
            assert_eq!(backend.behind_watermark(&[100, 80, 200], i64::MIN, 20), (200, false));
            assert_eq!(backend.behind_watermark(&[100, 79, 200], i64::MIN, 20), (200, true));
            assert_eq!(backend.behind_watermark(&[79], 100, 20), (100, true));
            assert_eq!(backend.behind_watermark(&[i64::MIN], i64::MIN, 0), (i64::MIN, false));
            assert_eq!(backend.behind_watermark(&[], 5, 20), (5, false));
        }
    }

    #[test]
    fn views_of_a_column() {
        let values = [3.0, f64::NAN, -0.0, 0.0];
        let numbers = Some(Bits { bytes: &[0b1101], offset: 0, len: 4 });
        assert_eq!(sum_f64(&values, numbers), 3.0);
        assert!(sum_f64(&values, None).is_nan());
        let (min, max) = min_max_f64(&values, numbers).unwrap();
        assert_eq!((min.to_bits(), max), ((-0.0f64).to_bits(), 3.0));
        assert!(min_max_f64(&values, None).unwrap().1.is_nan());
        assert_eq!(min_max_f64(&values, Some(Bits { bytes: &[0], offset: 0, len: 4 })), None);
    }
}
