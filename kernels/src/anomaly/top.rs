//! Rank of a score among its key's latest: which rows are the strangest of late.
//!
//! ```text
//! rank = 1 + how many of the `window - 1` scores before it are at least as high
//! ```
//!
//! So a constant score is never at the top. A row without a score, NaN, has no rank and changes nothing; nor has one before which its key has fewer than
//! `window - 1` scores. Of scores that can change places a share of at most k / window has a rank of at most k.
//!
//! State: 16 bytes for each score of the window. Ranks are the same whatever the batches; the code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::robust::LatestValues;

/// No rank.
pub const NO_RANK: u32 = u32::MAX;

/// The rank of each score among the latest `window` of its key, [`NO_RANK`] where there is none; then the score is one of the latest.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or the window is of fewer than 2 scores.
pub fn rank_among_latest(cells: &mut [LatestValues], slots: &[u32], scores: &[f64], window: u32, ranks: &mut [u32]) {
    assert!(window >= 2, "a window of at least 2 scores, not {window}");
    check_lengths("slots and scores", slots.len(), scores.len());
    check_lengths("scores and ranks", scores.len(), ranks.len());
    let before = window as usize - 1;
    for ((&slot, &score), rank) in slots.iter().zip(scores).zip(ranks) {
        *rank = NO_RANK;
        if score.is_nan() {
            continue;
        }
        // Scores are finite in a window, so that it can be kept; adding 0 makes one zero of both.
        let score = score.clamp(f64::MIN, f64::MAX) + 0.0;
        let latest = &mut cells[slot as usize];
        let sorted = latest.sorted();
        if sorted.len() == before {
            *rank = 1 + (before - sorted.partition_point(|other| *other < score)) as u32;
        }
        latest.take(score, before);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NO_RANK, rank_among_latest};
    use crate::anomaly::robust::LatestValues;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranks_are_counted(
            scores in prop::collection::vec(prop_oneof![3 => (0..9_i32).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-0.0)], 1..100),
            window in 2..12_u32, cut in any::<prop::sample::Index>(),
        ) {
            let (mut cells, mut ranks, cut) = ([LatestValues::default()], vec![9; scores.len()], cut.index(scores.len()));
            for rows in [0..cut, cut..scores.len()] {
                rank_among_latest(&mut cells, &vec![0; rows.len()], &scores[rows.clone()], window, &mut ranks[rows]);
            }
            for (row, score) in scores.iter().enumerate() {
                let before: Vec<f64> = scores[..row].iter().rev().filter(|score| !score.is_nan()).take(window as usize - 1).copied().collect();
                let has_rank = !score.is_nan() && before.len() == window as usize - 1;
                let right = if has_rank { 1 + before.iter().filter(|other| *other >= score).count() as u32 } else { NO_RANK };
                prop_assert_eq!(ranks[row], right, "row {}", row);
            }
        }
    }
}
