//! Answers of runs: short stretches of a column, each of which is the rows of one group.
//!
//! Run `r` of a column is `column[starts[r]..starts[r + 1]]`, as [`crate::group_runs`] leaves them. Runs of up to
//! [`SHORT`] rows are sorted in lanes, several at once and without a branch; longer ones one by one.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::partition::prefix_sum_u32;
use crate::{scalar, simd};

/// Rows of a run that is sorted in a lane: networks for more take more registers than there are.
pub(crate) const SHORT: usize = 32;

/// Puts items in order of the group that each is of: those of group `g` are `grouped[starts[g]..starts[g + 1]]`, in the order in which
/// they came.
///
/// One pass counts and one places: the same code on every backend.
///
/// # Panics
/// If the columns differ in length, there are 2^32 items or more, or a group has no entry in `starts` with one behind it.
pub fn group_runs<T: Copy>(groups: &[u32], items: &[T], starts: &mut [u32], grouped: &mut [T]) {
    check_lengths("groups and items", groups.len(), items.len());
    check_lengths("items and room for them", items.len(), grouped.len());
    assert!(u32::try_from(items.len()).is_ok(), "{} items: their places do not fit in 32 bits", items.len());
    starts.fill(0);
    groups.iter().for_each(|&group| starts[group as usize] += 1);
    assert!(starts.last().is_none_or(|&behind| behind == 0), "a group is not below the number of groups, {}", starts.len() - 1);
    prefix_sum_u32(starts);
    // Each start moves up to the end of its group, which is the next one's start.
    for (&group, &item) in groups.iter().zip(items) {
        let place = &mut starts[group as usize];
        grouped[*place as usize] = item;
        *place += 1;
    }
    if let Some(last) = starts.len().checked_sub(1) {
        starts.copy_within(..last, 1);
        starts[0] = 0;
    }
}

/// How many different values each run has, in `counts[r]`.
///
/// # Panics
/// If `starts` has not one entry more than `counts`, falls, or ends behind the column.
pub fn distinct_in_runs(starts: &[u32], values: &[u64], counts: &mut [u32]) {
    Backend::active().distinct_in_runs(starts, values, counts);
}

/// How many different floats each run has, in `counts[r]`: zeros of both signs are one value, and so are all NaN.
///
/// # Panics
/// As [`distinct_in_runs`].
pub fn distinct_floats_in_runs(starts: &[u32], values: &[f64], counts: &mut [u32]) {
    Backend::active().distinct_floats_in_runs(starts, values, counts);
}

/// Of the n values of each run, in total order (as [`f64::total_cmp`]), that of rank ⌊p (n − 1)⌋ for each `p` of `parts`, in
/// `quantiles[i · runs + r]` for part `i` and run `r`; NaN of an empty run.
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

    /// [`distinct_floats_in_runs`] on this backend.
    pub fn distinct_floats_in_runs(self, starts: &[u32], values: &[f64], counts: &mut [u32]) {
        check_lengths("starts and runs with an end", starts.len(), counts.len() + 1);
        check_runs(starts, values.len());
        match self {
            Self::Scalar => scalar::runs::distinct_floats(starts, values, counts),
            Self::Simd(level) => simd::runs::distinct_floats(level, starts, values, counts),
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

    use super::{SHORT, group_runs};
    use crate::testing::scramble;
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
            runs in prop_oneof![
                prop::collection::vec(prop::collection::vec(value(), 0..2 * SHORT), 0..12),
                prop::collection::vec(prop::collection::vec(value(), 0..10), 0..60),
            ],
        ) {
            let mut starts = vec![0_u32];
            starts.extend(runs.iter().scan(0, |end, run| { *end += run.len() as u32; Some(*end) }));
            let values = runs.concat();
            let words: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            let (mut counts, mut quantiles) = (vec![9; runs.len()], vec![9.0; runs.len() * PARTS.len()]);
            let mut alike = vec![9; runs.len()];
            scalar::runs::distinct(&starts, &words, &mut counts);
            scalar::runs::distinct_floats(&starts, &values, &mut alike);
            scalar::runs::quantiles(&starts, &values, &PARTS, &mut quantiles);
            for backend in Backend::available() {
                let (mut found, mut found_quantiles) = (vec![7; runs.len()], vec![7.0; runs.len() * PARTS.len()]);
                backend.distinct_in_runs(&starts, &words, &mut found);
                backend.quantiles_in_runs(&starts, &values, &PARTS, &mut found_quantiles);
                prop_assert_eq!(&found, &counts, "{}", backend);
                backend.distinct_floats_in_runs(&starts, &values, &mut found);
                prop_assert_eq!(&found, &alike, "{}", backend);
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found_quantiles), bits(&quantiles), "{}", backend);
            }
        }
    }

    proptest! {
        #[test]
        fn items_lie_by_group_in_the_order_in_which_they_came(rows in prop::collection::vec((0_u32..7, any::<u16>()), 0..100)) {
            let (groups, items): (Vec<u32>, Vec<u16>) = rows.iter().copied().unzip();
            let (mut starts, mut grouped) = ([9; 8], vec![9; rows.len()]);
            group_runs(&groups, &items, &mut starts, &mut grouped);
            for group in 0..7 {
                let expected: Vec<u16> = rows.iter().filter(|(of, _)| *of == group as u32).map(|(_, item)| *item).collect();
                prop_assert_eq!(&grouped[starts[group] as usize..starts[group + 1] as usize], &expected);
            }
        }
    }

    #[test]
    fn groups_without_a_place_panic() {
        let panics = |groups: &[u32], starts: usize| {
            std::panic::catch_unwind(|| group_runs(groups, &vec![0_u8; groups.len()], &mut vec![0; starts], &mut vec![0; groups.len()]))
                .is_err()
        };
        assert!(panics(&[0, 2, 1], 3) && panics(&[0, 3, 1], 3) && panics(&[0], 0));
        assert!(!panics(&[0, 2, 1], 4) && !panics(&[], 0));
    }

    #[test]
    fn many_runs_of_all_lengths_are_answered() {
        let lens = (0..1_500).map(|run| (scramble(run) % 40) as u32);
        let starts: Vec<u32> = [0]
            .into_iter()
            .chain(lens.scan(0, |end, len| {
                *end += len;
                Some(*end)
            }))
            .collect();
        let words: Vec<u64> = (0..u64::from(starts[1_500])).map(|row| scramble(row) % 30).collect();
        let values: Vec<f64> = words.iter().map(|&word| word as f64 - 7.5).collect();
        let (mut counts, mut quantiles) = (vec![0; 1_500], vec![0.0; 3_000]);
        scalar::runs::distinct(&starts, &words, &mut counts);
        scalar::runs::quantiles(&starts, &values, &[0.5, 0.9], &mut quantiles);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for backend in Backend::available() {
            let (mut found, mut alike, mut found_quantiles) = (vec![1; 1_500], vec![1; 1_500], vec![1.0; 3_000]);
            backend.distinct_in_runs(&starts, &words, &mut found);
            backend.distinct_floats_in_runs(&starts, &values, &mut alike);
            backend.quantiles_in_runs(&starts, &values, &[0.5, 0.9], &mut found_quantiles);
            assert!(found == counts && alike == counts && bits(&found_quantiles) == bits(&quantiles), "{backend}");
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
            backend.distinct_floats_in_runs(&[0, 4, 4, 7], &values, &mut counts);
            assert_eq!(counts, [3, 0, 2], "{backend}: zeros of both signs are one value");
            backend.quantiles_in_runs(&[0, 4, 4, 7], &values, &[0.5, 1.0], &mut quantiles);
            assert_eq!([quantiles[0], quantiles[3]], [1.0, 3.0], "{backend}");
            assert!(quantiles[1].is_nan() && quantiles[4].is_nan() && quantiles[5].is_nan(), "{backend}");
            assert_eq!(quantiles[2].to_bits(), 0, "{backend}: the middle of −0, 0 and NaN");
            let stray = std::panic::catch_unwind(|| backend.distinct_in_runs(&[0, 8], &words, &mut [0]));
            assert!(stray.is_err(), "{backend}");
        }
    }
}
