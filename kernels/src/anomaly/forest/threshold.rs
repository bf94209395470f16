//! The thresholded forest: how far a score lies above what the key's scores have been.
//!
//! After the thresholder of AWS's `random-cut-forest-by-aws`, which tells anomalies by the exponential mean and deviation of the scores; here
//! without its corrections for differenced and normalised input:
//!
//! ```text
//! out       = max(0, (score - mean) / max(deviation, 0.001))   0 if score < 0.8, and for the first 10 scores
//! diff      = min(score, 2) - mean                             so that anomalies hardly move what is usual
//! a         = max(time_decay, 1 / number of scores)
//! mean      = mean + a · diff
//! variance  = (1 - a) · (variance + a · diff²)
//! ```

/// Least score that can be an anomaly.
const LEAST_SCORE: f64 = 0.8;

/// A score counts as at most this much for what is usual.
const MOST_USUAL: f64 = 2.0;

/// Scores of a key that are learnt from only.
const WARMUP: u64 = 10;

/// Least deviation of scores.
const FLOOR: f64 = 1e-3;

/// What is known of the scores of one key; the default is a key without scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UsualScores {
    /// Exponentially weighted mean.
    pub mean: f64,
    /// Exponentially weighted variance.
    pub variance: f64,
    /// Scores taken in.
    pub count: u64,
}

/// Puts in place of each score how many deviations it lies above what its key's scores have been, then takes it in. A score that is NaN
/// stays; one of 0, as rows of the warm-up have, stays and is not taken in.
///
/// # Panics
/// If the columns differ in length or a slot is not below `usual.len()`.
pub fn above_usual(usual: &mut [UsualScores], slots: &[u32], time_decay: f64, scores: &mut [f64]) {
    crate::aggregate::check_lengths("slots and scores", slots.len(), scores.len());
    for (&slot, score) in slots.iter().zip(scores) {
        let usual = &mut usual[slot as usize];
        if *score > 0.0 {
            *score = usual.take(*score, time_decay);
        }
    }
}

impl UsualScores {
    fn take(&mut self, score: f64, time_decay: f64) -> f64 {
        let counts = self.count >= WARMUP && score >= LEAST_SCORE;
        let above = (score - self.mean) / self.variance.sqrt().max(FLOOR);
        self.count += 1;
        let (a, diff) = (time_decay.max(1.0 / self.count as f64), score.min(MOST_USUAL) - self.mean);
        self.mean += a * diff;
        self.variance = (1.0 - a) * (self.variance + a * diff * diff);
        if counts { above.max(0.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{UsualScores, above_usual};

    #[test]
    fn scores_are_told_by_mean_and_deviation_of_those_before() {
        let mut scores: Vec<f64> = (0..40).map(|n| if n % 2 == 0 { 0.9 } else { 1.1 }).collect();
        scores.extend([1.5, f64::NAN, 0.0, 0.79, 9.0]);
        let (mut usual, before) = ([UsualScores::default()], scores.clone());
        above_usual(&mut usual, &[0; 45], 0.001, &mut scores);
        assert!(scores[..10].iter().all(|score| *score == 0.0));
        // Of the plain mean and deviation, as there are fewer scores than 1 / 0.001.
        let mean = |of: &dyn Fn(f64) -> f64| before[..40].iter().map(|score| of(*score)).sum::<f64>() / 40.0;
        let (middle, deviation) = (mean(&|score| score), mean(&|score| (score - 1.0) * (score - 1.0)).sqrt());
        assert!((scores[40] - (1.5 - middle) / deviation).abs() < 1e-9, "{}", scores[40]);
        assert!(scores[41].is_nan());
        assert_eq!(scores[42..44], [0.0, 0.0]);
        assert!(scores[44] > 20.0 && usual[0].mean < 1.1, "{usual:?}");
    }
}
