//! CUSUM: how far values have drifted, in sum, from what the key showed at first.
//!
//! The two-sided tabular CUSUM of E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954; as in D. C. Montgomery, *Introduction to
//! Statistical Quality Control*, chapter 9:
//!
//! ```text
//! z     = (x - mean) / deviation        both of the first `warmup` values
//! up    = max(0, up + z - allowance),   down = max(0, down - z - allowance)
//! score = max(up, down)
//! ```
//!
//! A lasting shift of `d` deviations is found after some `limit / (d - allowance)` rows, however small next to the noise. With the usual
//! allowance of 1/2, a limit of 8 and normal values a false alarm comes once in some 10,000 rows, less so the longer the warm-up.
//!
//! * *Reset*: at a score of at least `limit` the key begins anew: the next `warmup` values, which score 0, are the new reference. So a new
//!   level is one alarm.
//! * *Drift*: a slow one adds up to an alarm too; that is what it is for. Deviations are at least a billionth of the mean.
//!
//! State: 40 bytes a key. Scores are the same bits whatever the batches or backend.

use crate::anomaly::stepwise::{Drifts, Judged, Running, Stepwise};

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cusum {
    /// Deviations that each value may lie off without adding to a sum.
    pub allowance: f64,
    /// The score at which a key begins anew.
    pub limit: f64,
    /// Values that the reference is made of.
    pub warmup: u64,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DriftCell {
    /// Of the reference.
    pub running: Running,
    /// Of the values since.
    pub drifts: Drifts,
}

impl Stepwise for Cusum {
    type Cell = DriftCell;

    fn take(&self, cell: &mut DriftCell, value: f64) -> Judged {
        let expected = cell.running.expected();
        if cell.running.count < self.warmup {
            cell.running.add(value);
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

    use super::{Cusum, DriftCell};
    use crate::anomaly::stepwise::judge;
    use crate::testing::{Case, on_every_backend, scramble};
    use crate::{Backend, Bits};

    proptest! {
        /// A sum that is cut off at 0 is the greatest sum of any latest values.
        #[test]
        fn scores_are_the_greatest_sums_of_the_latest_deviations(values in prop::collection::vec(-5.0..5.0_f64, 1..200)) {
            let params = Cusum { allowance: 0.5, limit: 9.0, warmup: 7 };
            let (mut cells, mut scores) = ([DriftCell::default()], vec![9.0; values.len()]);
            judge(&params, &mut cells, &vec![0; values.len()], &values, None, &mut scores, None);
            let mut from = 0;
            for (row, score) in scores.iter().enumerate() {
                if row < from + 7 {
                    prop_assert_eq!(*score, 0.0);
                    continue;
                }
                let first = &values[from..from + 7];
                let mean = first.iter().sum::<f64>() / 7.0;
                let deviation = (first.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 7.0).sqrt();
                let values = &values;
                let sums = |sign: f64| {
                    let latest = (from + 7..=row).map(move |start| values[start..=row].iter().map(|x| sign * (x - mean) / deviation - 0.5).sum());
                    latest.fold(0.0, f64::max)
                };
                let expected = sums(1.0).max(sums(-1.0));
                prop_assert!((score - expected).abs() < 1e-6 * expected.max(1.0), "row {row}: {score} is not {expected}");
                if *score >= 9.0 {
                    from = row + 1;
                }
            }
        }
    }

    on_every_backend!(edges, super::check_edges);

    /// The code is the same on every backend: holes, splits and the ends of the range of floats are what can go wrong.
    fn check_edges(_: Backend, case: &Case) {
        let params = Cusum { allowance: 0.5, limit: 8.0, warmup: 5 };
        let run = |split: usize| {
            let (mut cells, mut scores) = (vec![DriftCell::default(); case.groups as usize], vec![9.0; case.slots.len()]);
            for rows in [0..split, split..case.slots.len()] {
                let validity = case.validity().map(|bits| Bits { offset: bits.offset + rows.start, len: rows.len(), ..bits });
                judge(&params, &mut cells, &case.slots[rows.clone()], &case.floats[rows.clone()], validity, &mut scores[rows], None);
            }
            scores
        };
        let scores = run(case.slots.len() / 3);
        assert!(scores.iter().zip(run(0)).all(|(a, b)| a.to_bits() == b.to_bits()));
        for (row, score) in scores.iter().enumerate() {
            assert_eq!(score.is_nan(), !(case.floats[row].is_finite() && case.valid(row)), "row {row}");
            assert!(score.is_nan() || (0.0..=1e12).contains(score), "row {row}: {score}");
        }
    }

    #[test]
    fn a_small_shift_is_one_alarm() {
        let noise = |n: u64| (0..12).map(|k| (scramble(n * 12 + k) >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0;
        let values: Vec<f64> = (0..4_000).map(|n| noise(n) + if n < 2_000 { 0.0 } else { 1.5 }).collect();
        let (mut cells, mut scores) = ([DriftCell::default()], vec![9.0; 4_000]);
        judge(&Cusum { allowance: 0.5, limit: 8.0, warmup: 500 }, &mut cells, &[0; 4_000], &values, None, &mut scores, None);
        let alarms: Vec<usize> = (0..4_000).filter(|row| scores[*row] >= 8.0).collect();
        assert!(alarms.len() == 1 && (2_000..2_040).contains(&alarms[0]), "{alarms:?}");
    }
}
