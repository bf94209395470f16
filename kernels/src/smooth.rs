//! Exponential smoothing of many keys: one level per key, one answer per row.
//!
//! `level = level + alpha · (value - level)`, the first value of a key being its level: simple exponential smoothing (R. G. Brown,
//! "Exponential smoothing for predicting demand", 1956), and the mean of [`crate::anomaly::ewma`].
//!
//! A null, NaN or infinite value leaves the level as it was. The answer of a row is the level after it; NaN as long as its key
//! has had no value. Differences beyond the range of `f64` stay at its end. Answers are the same bits whatever the batches or backend.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// Takes each row into the level of its key and answers with the level: `levels[slots[i]]` after row `i` in `smoothed[i]`.
///
/// The level of a key that has had no value is NaN.
///
/// # Panics
/// If the columns differ in length, a slot is not below `levels.len()`, or `alpha` is not above 0 and at most 1.
pub fn smooth(levels: &mut [f64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, alpha: f64, smoothed: &mut [f64]) {
    Backend::active().smooth(levels, slots, values, validity, alpha, smoothed);
}

impl Backend {
    /// [`smooth`] on this backend.
    pub fn smooth(self, levels: &mut [f64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, alpha: f64, smoothed: &mut [f64]) {
        assert!(alpha > 0.0 && alpha <= 1.0, "alpha must be above 0 and at most 1, not {alpha}");
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and smoothed values", values.len(), smoothed.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::smooth::smooth(levels, slots, values, validity, alpha, smoothed),
            Self::Simd(level) => simd::smooth::smooth(level, levels, slots, values, validity, alpha, smoothed),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, on_every_backend, same};
    use crate::{Backend, Bits, Ewma, EwmaCell, scalar};

    on_every_backend!(levels, super::check_levels);

    fn check_levels(backend: Backend, case: &Case) {
        for alpha in [0.05, 0.5, 1.0] {
            let groups = case.groups as usize;
            let (mut levels, mut expected_levels) = (vec![f64::NAN; groups], vec![f64::NAN; groups]);
            let (mut smoothed, mut expected) = (vec![9.0; case.slots.len()], vec![9.0; case.slots.len()]);
            backend.smooth(&mut levels, &case.slots, &case.floats, case.validity(), alpha, &mut smoothed);
            scalar::smooth::smooth(&mut expected_levels, &case.slots, &case.floats, case.validity(), alpha, &mut expected);
            for (got, expected) in levels.iter().zip(&expected_levels).chain(smoothed.iter().zip(&expected)) {
                assert!(same(*got, *expected), "{backend}, alpha {alpha}: {got} is not {expected}");
            }
            let mut cells = vec![EwmaCell::default(); groups];
            backend.ewma(&mut cells, &case.slots, &case.floats, case.validity(), &Ewma { alpha, warmup: 0 }, &mut smoothed);
            for (level, cell) in levels.iter().zip(cells) {
                assert!(same(*level, if cell.count > 0 { cell.mean } else { f64::NAN }), "{backend}: the mean of ewma");
            }
        }
    }

    #[test]
    fn a_series_worked_by_hand() {
        let values = [f64::NAN, 8.0, 4.0, 100.0, f64::INFINITY, 2.0];
        let validity = Some(Bits { bytes: &[0b110111], offset: 0, len: 6 });
        for backend in Backend::available() {
            let (mut levels, mut smoothed) = ([f64::NAN; 2], [9.0; 6]);
            backend.smooth(&mut levels, &[1; 6], &values, validity, 0.5, &mut smoothed);
            assert!(smoothed[0].is_nan() && levels[0].is_nan(), "{backend}");
            assert_eq!((&smoothed[1..], levels[1]), (&[8.0, 6.0, 6.0, 6.0, 4.0][..], 4.0), "{backend}");
            let stray = std::panic::catch_unwind(|| backend.smooth(&mut [0.0], &[1], &[1.0], None, 0.5, &mut [0.0]));
            assert!(stray.is_err(), "{backend}");
        }
    }
}
