//! Page–Hinkley: how far values have drifted, in sum, from the mean of all that the key has shown.
//!
//! D. V. Hinkley, "Inference about the change-point from cumulative sum tests", Biometrika 58, 1971, after E. S. Page, 1954; here both ways and
//! in deviations, so that one limit fits all series:
//!
//! ```text
//! z     = (x - mean) / deviation      both of all values since the latest reset, x among them
//! m     = sum of (z - allowance)      up = m - least m so far     (down: of -z)
//! score = max(up, down)
//! ```
//!
//! `up` is the sum that [`cusum`](super::cusum) has, with a reference that goes on learning: there is no stretch that has to be clean, but
//! slow drifts are learnt.
//!
//! * *Warm-up*: the first `warmup` values of a key, and after each reset, score 0.
//! * *Reset*: at a score of at least `limit` the key begins anew.
//!
//! State: 40 bytes a key. Scores are the same bits whatever the batches or backend.

use crate::anomaly::cusum::DriftCell;
use crate::anomaly::stepwise::{Judged, Stepwise};

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkley {
    /// Deviations that each value may lie off without adding to a sum.
    pub allowance: f64,
    /// The score at which a key begins anew.
    pub limit: f64,
    /// Values that score 0.
    pub warmup: u64,
}

impl Stepwise for PageHinkley {
    type Cell = DriftCell;

    fn take(&self, cell: &mut DriftCell, value: f64) -> Judged {
        let expected = cell.running.expected();
        cell.running.add(value);
        if cell.running.count <= self.warmup {
            return Judged { score: 0.0, expected };
        }
        let score = cell.drifts.add(cell.running.z(value), self.allowance);
        if score >= self.limit {
            *cell = DriftCell::default();
        }
        Judged { score, expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PageHinkley;
    use crate::anomaly::cusum::DriftCell;
    use crate::anomaly::stepwise::judge;

    proptest! {
        #[test]
        fn scores_are_sums_less_the_least_of_them(values in prop::collection::vec(-5.0..5.0_f64, 1..200)) {
            let params = PageHinkley { allowance: 0.25, limit: 6.0, warmup: 5 };
            let (mut cells, mut scores) = ([DriftCell::default()], vec![9.0; values.len()]);
            judge(&params, &mut cells, &vec![0; values.len()], &values, None, &mut scores, None);
            let mut from = 0;
            let (mut sums, mut least) = ([0.0; 2], [0.0_f64; 2]);
            for (row, score) in scores.iter().enumerate() {
                let all = &values[from..=row];
                if all.len() <= 5 {
                    prop_assert_eq!(*score, 0.0);
                    continue;
                }
                let count = all.len() as f64;
                let mean = all.iter().sum::<f64>() / count;
                let deviation = (all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
                let z = (values[row] - mean) / deviation;
                for (side, z) in [z, -z].into_iter().enumerate() {
                    sums[side] += z - 0.25;
                    least[side] = least[side].min(sums[side]);
                }
                let expected = (sums[0] - least[0]).max(sums[1] - least[1]);
                prop_assert!((score - expected).abs() < 1e-6, "row {row}: {score} is not {expected}");
                if *score >= 6.0 {
                    (from, sums, least) = (row + 1, [0.0; 2], [0.0; 2]);
                }
            }
        }
    }
}
