//! Peaks over threshold: how rare a value is by the tail that the key's most extreme values show (SPOT, and DSPOT for values that drift).
//!
//! A. Siffer, P.-A. Fouque, A. Termier and C. Largouët, "Anomaly detection in streams with extreme value theory", KDD 2017, here on both sides.
//! The first `calibration` values give a level on each side, that `level` of them do not go beyond; by how much values do lie beyond it, their
//! excesses, follows a generalised Pareto distribution (the theorem of Pickands, Balkema and de Haan):
//!
//! ```text
//! y      = x - level                                   (of the lower side: level - x)
//! P(y)   = peaks / values · (1 + shape · y / scale)^(-1 / shape)          e^(-y / scale) where the shape is 0
//! score  = -log10 P(y), the greater of both sides;     0 within the levels; at most 300
//! shape  = (1 - mean² / variance) / 2 of the excesses, held between 0 and 1/2;   scale = mean · (1 - shape)
//! ```
//!
//! So a score of 4 is one in ten thousand. Shape and scale are the estimates by moments (J. R. M. Hosking and J. F. Wallis, "Parameter and quantile
//! estimation for the generalized Pareto distribution", Technometrics 29, 1987), not the paper's by maximum likelihood (Grimshaw): they need no
//! peak to be kept and cost the same for every row, but take tails heavier than a shape of 1/2 for one of 1/2. Tails lighter than exponential, which
//! would end somewhere, are taken for exponential: where they end a few peaks cannot tell. Of fewer than [`FEW`] peaks the shape is 0.
//!
//! * *Learning*: a value whose score is `limit` or more is an anomaly and teaches nothing; one beyond a level is a peak; all others count.
//! * *Drift*: with a `depth` above 0 a value counts by its distance from the mean of the latest `depth` values that were no anomalies (DSPOT).
//! * *Warm-up*: the first `depth + calibration` values of a key score 0.
//! * *Reset*: after [`IN_A_ROW`] anomalies in a row the key begins anew: that is a new level, not the tail of the old one. The paper has none.
//! * *Missing values*: a null, NaN or infinite value scores NaN and leaves the key as it was.
//!
//! State: 120 bytes a key and 32 for each value of the depth; 8 for each value of the calibration until that is over. Scores are the same bits
//! whatever the batches or backend.

use crate::anomaly::rolling_z::MomentWindow;
use crate::anomaly::stepwise::{Judged, LEAST_FLOOR, RELATIVE_FLOOR, Running, Stepwise};

/// Of fewer peaks the shape of a tail is not told.
pub const FEW: u64 = 10;

/// Anomalies in a row after which a key begins anew.
pub const IN_A_ROW: u32 = 100;

/// A score is at most this.
pub const MOST_SCORE: f64 = 300.0;

/// Shape of the heaviest tail.
const MOST_SHAPE: f64 = 0.5;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeaksOverThreshold {
    /// The score from which a value is an anomaly, which nothing is learnt from.
    pub limit: f64,
    /// Share of the first values that a level leaves within it, at least 0.5, below 1.
    pub level: f64,
    /// Values that the levels are made of, at least 2.
    pub calibration: u32,
    /// Latest values whose mean is what values are measured from; 0 for values as they are.
    pub depth: u32,
}

/// The tail on one side of a key's values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tail {
    /// Where it begins: values of the lower side count with their sign turned.
    pub level: f64,
    /// By how much values lay beyond it.
    pub excesses: Running,
}

/// A generalised Pareto distribution of excesses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pareto {
    /// From 0 to [`MOST_SHAPE`].
    shape: f64,
    scale: f64,
}

impl Pareto {
    /// The one with these moments, of a scale that is at least `least`.
    pub(crate) fn of(excesses: &Running, least: f64) -> Pareto {
        let Running { count, mean, squares } = *excesses;
        let variance = squares / count.max(1) as f64;
        let shape = match count < FEW || variance <= 0.0 {
            true => 0.0,
            false => (0.5 * (1.0 - mean / variance * mean)).clamp(0.0, MOST_SHAPE),
        };
        Pareto { shape, scale: (mean * (1.0 - shape)).max(least).max(LEAST_FLOOR) }
    }

    /// -ln of the share of excesses that are at least this one.
    pub(crate) fn surprise(&self, excess: f64) -> f64 {
        let y = (excess / self.scale).min(f64::MAX);
        match self.shape {
            0.0 => y,
            shape => (shape * y).ln_1p() / shape,
        }
    }

    /// The excess of this surprise.
    pub(crate) fn excess(&self, surprise: f64) -> f64 {
        match self.shape {
            0.0 => self.scale * surprise,
            shape => self.scale * (shape * surprise).exp_m1() / shape,
        }
    }
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeaksCell {
    /// The latest values, as many as the depth.
    pub local: MomentWindow,
    /// The first values, until the levels are made of them.
    pub first: Vec<f64>,
    /// Values that taught something since; 0 until then.
    pub rows: u64,
    /// The upper and the lower tail.
    pub tails: [Tail; 2],
    /// Anomalies in a row, the latest values.
    pub in_a_row: u32,
}

impl Tail {
    /// The tail of these values beyond the level that `share` of them do not go beyond.
    fn of(values: impl Iterator<Item = f64>, share: f64) -> Tail {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let level = sorted[(share * (sorted.len() - 1) as f64) as usize];
        let mut tail = Tail { level, excesses: Running::default() };
        sorted.iter().filter(|value| **value > level).for_each(|value| tail.excesses.add(value - level));
        tail
    }

    /// How rare it is that one of `rows` values lies beyond the level by `excess`, as a power of ten; 0 if it lies within.
    fn rarity(&self, excess: f64, rows: u64) -> f64 {
        if excess <= 0.0 {
            return 0.0;
        }
        let count = self.excesses.count;
        let logarithm = Pareto::of(&self.excesses, RELATIVE_FLOOR * self.level.abs()).surprise(excess);
        let share = count.max(1) as f64 / rows as f64;
        (logarithm / std::f64::consts::LN_10 - share.log10()).clamp(0.0, MOST_SCORE)
    }
}

impl PeaksCell {
    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.local.bytes() + self.first.capacity() * size_of::<f64>()
    }

    /// Takes one of the first values in; makes the levels once there are enough.
    fn calibrate(&mut self, value: f64, params: &PeaksOverThreshold) {
        self.first.push(value);
        if self.first.len() == params.calibration as usize {
            let first = std::mem::take(&mut self.first);
            self.rows = first.len() as u64;
            self.tails = [Tail::of(first.iter().copied(), params.level), Tail::of(first.iter().map(|value| -value), params.level)];
        }
    }
}

impl Stepwise for PeaksOverThreshold {
    type Cell = PeaksCell;

    fn take(&self, cell: &mut PeaksCell, value: f64) -> Judged {
        let depth = self.depth as usize;
        if cell.local.len() < depth {
            cell.local.take(value, depth);
            return Judged { score: 0.0, expected: f64::NAN };
        }
        let expected = cell.local.moments().expected();
        let measured = if depth == 0 { value } else { value - expected };
        if cell.rows == 0 {
            cell.calibrate(measured, self);
            cell.local.take(value, depth);
            return Judged { score: 0.0, expected };
        }
        let excesses = [measured - cell.tails[0].level, -measured - cell.tails[1].level];
        let score = cell.tails[0].rarity(excesses[0], cell.rows).max(cell.tails[1].rarity(excesses[1], cell.rows));
        if score >= self.limit {
            cell.in_a_row += 1;
            if cell.in_a_row >= IN_A_ROW {
                *cell = PeaksCell::default();
            }
            return Judged { score, expected };
        }
        cell.in_a_row = 0;
        cell.rows += 1;
        for (tail, excess) in cell.tails.iter_mut().zip(excesses).filter(|(_, excess)| *excess > 0.0) {
            tail.excesses.add(excess);
        }
        cell.local.take(value, depth);
        Judged { score, expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PeaksCell, PeaksOverThreshold};
    use crate::anomaly::stepwise::judge;
    use crate::testing::{FLOATS, scramble};

    fn scores(values: &[f64], params: &PeaksOverThreshold) -> (Vec<f64>, Vec<f64>) {
        let (mut cells, mut scores, mut expected) = ([PeaksCell::default()], vec![9.0; values.len()], vec![9.0; values.len()]);
        judge(params, &mut cells, &vec![0; values.len()], values, None, &mut scores, Some(&mut expected));
        (scores, expected)
    }

    /// What a side says of an excess, from the list of its peaks.
    fn slow_rarity(peaks: &[f64], excess: f64, rows: usize, level: f64) -> f64 {
        if excess <= 0.0 {
            return 0.0;
        }
        let count = peaks.len().max(1) as f64;
        let mean = peaks.iter().sum::<f64>() / count;
        let variance = peaks.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / count;
        let shape = if peaks.len() < 10 || variance == 0.0 { 0.0 } else { (0.5 * (1.0 - mean * mean / variance)).clamp(0.0, 0.5) };
        let scale = (mean * (1.0 - shape)).max(1e-9 * level.abs()).max(1e-300);
        let beyond = match shape {
            0.0 => (-excess / scale).exp(),
            shape => (1.0 + shape * excess / scale).powf(-1.0 / shape),
        };
        (-(count / rows as f64 * beyond).log10()).clamp(0.0, 300.0)
    }

    fn slow(values: &[f64], params: &PeaksOverThreshold) -> Vec<f64> {
        let (mut first, mut used, mut peaks, mut levels, mut rows, mut run) = (Vec::new(), Vec::new(), [vec![], vec![]], [0.0; 2], 0, 0);
        let mut scores = Vec::new();
        for &value in values {
            let depth = params.depth as usize;
            if used.len() < depth {
                used.push(value);
                scores.push(0.0);
                continue;
            }
            let local: &[f64] = &used[used.len() - depth..];
            let measured = if depth == 0 { value } else { value - local.iter().sum::<f64>() / depth as f64 };
            if rows == 0 {
                first.push(measured);
                used.push(value);
                scores.push(0.0);
                if first.len() == params.calibration as usize {
                    rows = first.len();
                    for (side, sign) in [1.0, -1.0].into_iter().enumerate() {
                        let mut sorted: Vec<f64> = first.iter().map(|x| sign * x).collect();
                        sorted.sort_by(f64::total_cmp);
                        levels[side] = sorted[(params.level * (rows - 1) as f64) as usize];
                        peaks[side] = sorted.iter().map(|x| x - levels[side]).filter(|y| *y > 0.0).collect();
                    }
                }
                continue;
            }
            let excesses = [measured - levels[0], -measured - levels[1]];
            let of = |side: usize| slow_rarity(&peaks[side], excesses[side], rows, levels[side]);
            let score = of(0).max(of(1));
            scores.push(score);
            if score >= params.limit {
                run += 1;
                if run == 100 {
                    (first, used, peaks, rows, run) = (Vec::new(), Vec::new(), [vec![], vec![]], 0, 0);
                }
                continue;
            }
            (run, rows) = (0, rows + 1);
            used.push(value);
            (0..2).filter(|side| excesses[*side] > 0.0).for_each(|side| peaks[side].push(excesses[side]));
        }
        scores
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_lists_of_peaks(
            values in prop::collection::vec(prop_oneof![9 => -1.0..1.0_f64, 1 => -5.0..5.0_f64], 1..300),
            shifted in 0..150_usize, depth in prop_oneof![Just(0_u32), 1..10_u32],
        ) {
            let mut values = values;
            let from = values.len().saturating_sub(shifted);
            values[from..].iter_mut().for_each(|value| *value += 40.0);
            let params = PeaksOverThreshold { limit: 4.0, level: 0.9, calibration: 30, depth };
            for (row, (score, right)) in scores(&values, &params).0.iter().zip(slow(&values, &params)).enumerate() {
                prop_assert!((score - right).abs() < 1e-4 * right.max(1.0), "row {row}: {score} is not {right}");
            }
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 1..120), depth in 0..4_u32,
        ) {
            let params = PeaksOverThreshold { limit: 4.0, level: 0.8, calibration: 10, depth };
            for (value, score) in values.iter().zip(scores(&values, &params).0) {
                prop_assert_eq!(score.is_nan(), !value.is_finite());
                prop_assert!(score.is_nan() || (0.0..=300.0).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn a_score_is_as_rare_as_it_says() {
        // Exponential values, whose tail has the shape 0.
        let values: Vec<f64> = (0..100_000).map(|n| -((scramble(n) >> 11) as f64 / (1u64 << 53) as f64 + 1e-17).ln()).collect();
        let (scores, _) = scores(&values, &PeaksOverThreshold { limit: 20.0, level: 0.98, calibration: 1_000, depth: 0 });
        for power in [2.0, 3.0, 4.0_f64] {
            let beyond = scores.iter().filter(|score| **score >= power).count() as f64;
            let expected = 100_000.0 * 10f64.powf(-power);
            // Both sides have their tails.
            assert!((0.5 * expected..3.0 * expected).contains(&beyond), "{beyond} of 100,000 beyond {power}");
        }
    }

    #[test]
    fn a_new_level_is_learnt_after_a_hundred_anomalies() {
        let values: Vec<f64> = (0..2_000).map(|n| (scramble(n) % 100) as f64 + if n < 1_000 { 0.0 } else { 5_000.0 }).collect();
        let (scores, expected) = scores(&values, &PeaksOverThreshold { limit: 4.0, level: 0.98, calibration: 300, depth: 0 });
        let found: Vec<usize> = (0..2_000).filter(|row| scores[*row] >= 4.0).collect();
        assert_eq!(found, (1_000..1_100).collect::<Vec<_>>());
        assert!(expected.iter().all(|value| value.is_nan()), "without a depth nothing is expected");
    }
}
