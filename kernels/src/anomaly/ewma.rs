//! Exponentially weighted mean and variance: how many standard deviations a value lies from what its key has shown.
//!
//! The recurrence is that of T. Finch, "Incremental calculation of weighted mean and variance" (2009), section 9, after
//! D. H. D. West, "Updating mean and variance estimates: an improved method", CACM 22(9), 1979:
//!
//! ```text
//! diff     = x - mean                     the first value of a key is its mean: diff = 0
//! score    = |diff| / max(sqrt(variance), floor),   floor = 1e-9 * max(|mean|, 1e-300)
//! mean     = mean + alpha * diff
//! variance = (1 - alpha) * (variance + diff * alpha * diff)
//! ```
//!
//! * The score is against the state *before* the row; a row that is far out still moves the state.
//! * The first `warmup` values of a key, and always the very first, score 0.
//! * The floor lets a key that has been constant score its first change: large, yet never above `f64::MAX`.
//! * A null, NaN or infinite value scores NaN and leaves the state as it was. Differences and variances beyond the range
//!   of `f64` stay at its end, so no value can spoil a key for good.
//!
//! Rows of a key are taken in order, so scores are the same bits whatever the batch size or backend.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// What is known of one key; the default is a key not yet seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EwmaCell {
    /// Exponentially weighted mean.
    pub mean: f64,
    /// Exponentially weighted variance.
    pub variance: f64,
    /// Values taken in.
    pub count: u64,
}

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewma {
    /// Weight of the newest value: above 0, at most 1.
    pub alpha: f64,
    /// Values of a key that score 0 because too little is known of it.
    pub warmup: u64,
}

impl Ewma {
    /// Panics if alpha is out of range.
    pub(crate) fn check(&self) {
        assert!(self.alpha > 0.0 && self.alpha <= 1.0, "alpha must be above 0 and at most 1, not {}", self.alpha);
    }
}

/// Least standard deviation, relative to the mean.
pub(crate) const RELATIVE_FLOOR: f64 = 1e-9;

/// Least mean that the floor is taken of.
pub(crate) const LEAST_MEAN: f64 = 1e-300;

/// Scores each row and takes it into its key's state.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or `alpha` is not above 0 and at most 1.
pub fn ewma(cells: &mut [EwmaCell], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, params: &Ewma, scores: &mut [f64]) {
    Backend::active().ewma(cells, slots, values, validity, params, scores);
}

impl Backend {
    /// [`ewma`] on this backend.
    pub fn ewma(
        self,
        cells: &mut [EwmaCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &Ewma,
        scores: &mut [f64],
    ) {
        params.check();
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and scores", values.len(), scores.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::anomaly::ewma(cells, slots, values, validity, params, scores),
            Self::Simd(level) => simd::anomaly::ewma(level, cells, slots, values, validity, params, scores),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ewma, EwmaCell};
    use crate::testing::{Case, on_every_backend, same};
    use crate::{Backend, Bits, scalar};

    on_every_backend!(scores, super::check_scores);

    fn check_scores(backend: Backend, case: &Case) {
        for params in [Ewma { alpha: 0.05, warmup: 0 }, Ewma { alpha: 1.0, warmup: 3 }, Ewma { alpha: 0.5, warmup: 1 }] {
            let (mut cells, mut expected_cells) =
                (vec![EwmaCell::default(); case.groups as usize], vec![EwmaCell::default(); case.groups as usize]);
            let (mut scores, mut expected) = (vec![9.0; case.slots.len()], vec![9.0; case.slots.len()]);
            backend.ewma(&mut cells, &case.slots, &case.floats, case.validity(), &params, &mut scores);
            scalar::anomaly::ewma(&mut expected_cells, &case.slots, &case.floats, case.validity(), &params, &mut expected);
            assert!(cells == expected_cells, "{backend}, {params:?}");
            for (score, expected) in scores.iter().zip(&expected) {
                assert!(same(*score, *expected), "{backend}, {params:?}: {score} is not {expected}");
            }
        }
    }

    #[test]
    fn a_series_worked_by_hand() {
        // alpha = 1/2; mean, variance after each row: (10, 0) (12, 4) (12, 2) (8, 17) (8, 17) (8, 17)
        let values = [10.0, 14.0, 12.0, 4.0, f64::NAN, f64::INFINITY, 8.0];
        let first_change = 4.0 / (1e-9 * 10.0);
        let expected = [0.0, first_change, 0.0, 8.0 / 2f64.sqrt(), f64::NAN, f64::NAN, 0.0];
        for backend in Backend::available() {
            for batch in [1, 2, 7] {
                let mut cells = [EwmaCell::default()];
                let mut scores = [9.0; 7];
                for (values, scores) in values.chunks(batch).zip(scores.chunks_mut(batch)) {
                    backend.ewma(&mut cells, &vec![0; values.len()], values, None, &Ewma { alpha: 0.5, warmup: 0 }, scores);
                }
                for (score, expected) in scores.iter().zip(expected) {
                    assert!(same(*score, expected), "{backend}: {score} is not {expected}");
                }
                assert_eq!(cells[0], EwmaCell { mean: 8.0, variance: 8.5, count: 5 });
            }
        }
    }

    #[test]
    fn warmup_and_nulls_score_nothing() {
        for backend in Backend::available() {
            let mut cells = [EwmaCell::default()];
            let mut scores = [9.0; 5];
            let validity = Some(Bits { bytes: &[0b11101], offset: 0, len: 5 });
            backend.ewma(&mut cells, &[0; 5], &[1.0, 1e9, 2.0, 3.0, 100.0], validity, &Ewma { alpha: 0.1, warmup: 3 }, &mut scores);
            assert!(scores[1].is_nan());
            assert_eq!((scores[0], scores[2], scores[3]), (0.0, 0.0, 0.0));
            assert!(scores[4] > 10.0, "{backend}: {}", scores[4]);
        }
    }

    #[test]
    fn the_end_of_the_range_of_floats_does_not_spoil_a_key() {
        for backend in Backend::available() {
            for alpha in [0.3, 1.0] {
                let mut cells = [EwmaCell::default()];
                let values = [0.0, 1.0, f64::MAX, f64::MIN, f64::MAX, 0.0, -5e-324, 3.0];
                let mut scores = [9.0; 8];
                backend.ewma(&mut cells, &[0; 8], &values, None, &Ewma { alpha, warmup: 0 }, &mut scores);
                assert!(scores.iter().all(|score| score.is_finite()), "{backend}: {scores:?}");
                assert!(cells[0].mean.is_finite() && cells[0].variance.is_finite(), "{backend}: {cells:?}");
                assert_eq!(scores[1], f64::MAX, "a constant zero jumps");
            }
        }
    }
}
