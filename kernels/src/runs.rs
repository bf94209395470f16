//! Answers of runs: short stretches of a column, each of which is the rows of one group.
//!
//! Run `r` of a column is `column[starts[r]..starts[r + 1]]`, as [`crate::order_by_part`] leaves them. Runs of up to
//! [`SHORT`] rows are compared each with each, in lanes and without a branch; longer ones are sorted.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::{scalar, simd};

/// Rows of a run that are compared each with each: with more, sorting costs less.
pub(crate) const SHORT: usize = 32;

/// How many different values each run has, in `counts[r]`.
///
/// # Panics
/// If `starts` has not one entry more than `counts`, falls, or ends behind the column.
pub fn distinct_in_runs(starts: &[u32], values: &[u64], counts: &mut [u32]) {
    Backend::active().distinct_in_runs(starts, values, counts);
}

/// Of the n values of each run, in total order (as [`f64::total_cmp`]), that of rank ⌊p (n − 1)⌋ for each `p` of `parts`, in
/// `quantiles[r · parts.len()..]`; NaN of an empty run.
///
/// # Panics
/// If `quantiles` has not `parts.len()` entries for each run, `starts` falls or ends behind the column, or a part is not in 0..=1.
pub fn quantiles_in_runs(starts: &[u32], values: &[f64], parts: &[f64], quantiles: &mut [f64]) {
    Backend::active().quantiles_in_runs(starts, values, parts, quantiles);
}

/// The rank of a part among `n` values, of which there are some.
#[inline(always)]
pub(crate) fn rank(part: f64, n: usize) -> usize {
    (part * (n - 1) as f64) as usize
}

fn check_runs(starts: &[u32], rows: usize) {
    assert!(starts.is_sorted(), "runs must not begin before the one before them");
    assert!(starts.last().is_none_or(|&end| end as usize <= rows), "runs must end within their column");
}

impl Backend {
    /// [`distinct_in_runs`] on this backend.
    pub fn distinct_in_runs(self, starts: &[u32], values: &[u64], counts: &mut [u32]) {
        check_lengths("starts and runs with an end", starts.len(), counts.len() + 1);
        check_runs(starts, values.len());
        match self {
            Self::Scalar => scalar::runs::distinct(starts, values, counts),
            Self::Simd(level) => simd::runs::distinct(level, starts, values, counts),
        }
    }

    /// [`quantiles_in_runs`] on this backend.
    pub fn quantiles_in_runs(self, starts: &[u32], values: &[f64], parts: &[f64], quantiles: &mut [f64]) {
        assert!(parts.iter().all(|part| (0.0..=1.0).contains(part)), "parts must be in 0..=1, not {parts:?}");
        check_lengths("quantiles and parts of runs", quantiles.len(), starts.len().saturating_sub(1) * parts.len());
        check_runs(starts, values.len());
        match self {
            Self::Scalar => scalar::runs::quantiles(starts, values, parts, quantiles),
            Self::Simd(level) => simd::runs::quantiles(level, starts, values, parts, quantiles),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SHORT;
    use crate::{Backend, scalar};

    const PARTS: [f64; 5] = [0.0, 0.25, 0.5, 0.99, 1.0];

    /// Values of which some are alike, and all that a float can be.
    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (0_u8..20).prop_map(f64::from),
            2 => any::<f64>(),
            1 => prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(i64::MAX as u64)]),
        ]
    }

    proptest! {
        #[test]
        fn every_backend_answers_as_sorting_does(
            runs in prop::collection::vec(prop::collection::vec(value(), 0..2 * SHORT), 0..12),
        ) {
            let mut starts = vec![0_u32];
            starts.extend(runs.iter().scan(0, |end, run| { *end += run.len() as u32; Some(*end) }));
            let values = runs.concat();
            let words: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            let (mut counts, mut quantiles) = (vec![9; runs.len()], vec![9.0; runs.len() * PARTS.len()]);
            scalar::runs::distinct(&starts, &words, &mut counts);
            scalar::runs::quantiles(&starts, &values, &PARTS, &mut quantiles);
            for backend in Backend::available() {
                let (mut found, mut found_quantiles) = (vec![7; runs.len()], vec![7.0; runs.len() * PARTS.len()]);
                backend.distinct_in_runs(&starts, &words, &mut found);
                backend.quantiles_in_runs(&starts, &values, &PARTS, &mut found_quantiles);
                prop_assert_eq!(&found, &counts, "{}", backend);
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found_quantiles), bits(&quantiles), "{}", backend);
            }
        }
    }

    #[test]
    fn runs_worked_by_hand() {
        let values = [3.0, 1.0, 2.0, 1.0, f64::NAN, -0.0, 0.0];
        let words = values.map(f64::to_bits);
        for backend in Backend::available() {
            let (mut counts, mut quantiles) = ([9; 3], [9.0; 6]);
            backend.distinct_in_runs(&[0, 4, 4, 7], &words, &mut counts);
            assert_eq!(counts, [3, 0, 3], "{backend}");
            backend.quantiles_in_runs(&[0, 4, 4, 7], &values, &[0.5, 1.0], &mut quantiles);
            assert_eq!(quantiles[..2], [1.0, 3.0], "{backend}");
            assert!(quantiles[2].is_nan() && quantiles[3].is_nan() && quantiles[5].is_nan(), "{backend}");
            assert_eq!(quantiles[4].to_bits(), 0, "{backend}: the middle of −0, 0 and NaN");
            let stray = std::panic::catch_unwind(|| backend.distinct_in_runs(&[0, 8], &words, &mut [0]));
            assert!(stray.is_err(), "{backend}");
        }
    }
}
