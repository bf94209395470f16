//! ADWIN: a window as long as its mean has stayed the same, and how sure it is that the mean has changed.
//!
//! A. Bifet and R. Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007, in the variant ADWIN2: the window is a histogram
//! of exponential buckets, at most [`PER_SIZE`] of each power of two of values. For each cut of the window between two buckets into an older part of
//! n0 values and a newer one of n1, both of at least [`LEAST_PART`]:
//!
//! ```text
//! 1/m   = 1/n0 + 1/n1,   L = ln(2 ln(n) / delta)
//! bound = sqrt(2 / m · variance · L) + 2 / 3m · range · L
//! score = greatest |mean of the newer - mean of the older| / bound      of all cuts
//! ```
//!
//! From 1 on the means differ, with a chance of at most `delta` that they do so by accident; then the oldest buckets go until no cut is left that
//! says so. The paper has values in [0, 1]; here the second term of the bound, which is Bernstein's, counts by the range of the values in the window.
//!
//! * *Warm-up*: the first `warmup` values of a key score 0.
//! * *Reset*: what goes at a score of 1 is the oldest part, as little as it takes: so a change is some anomalies, until all before it has gone.
//! * *Missing values*: a null, NaN or infinite value scores NaN and leaves the window as it was.
//!
//! State: 40 bytes for each bucket, some 5 · log2(n / 5) of n values: 3.5 kB for a million. Cost: a step for each bucket a row, some 0.3 µs. Scores
//! are the same bits whatever the batches or backend.

use crate::anomaly::stepwise::{Judged, RELATIVE_FLOOR, Running, Stepwise, in_deviations};

/// Most buckets of a size.
pub const PER_SIZE: usize = 5;

/// Least values on either side of a cut.
pub const LEAST_PART: u64 = 5;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adwin {
    /// Chance that a cut of a window without a change scores 1, in (0, 1).
    pub delta: f64,
    /// Values of a key that score 0.
    pub warmup: u64,
}

/// Values that follow each other, as many as a power of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Their moments.
    pub moments: Running,
    /// The least of them.
    pub low: f64,
    /// The greatest of them.
    pub high: f64,
}

impl Bucket {
    fn of(value: f64) -> Bucket {
        Bucket { moments: Running { count: 1, mean: value, squares: 0.0 }, low: value, high: value }
    }

    fn combine(&self, later: &Bucket) -> Bucket {
        Bucket { moments: self.moments.combine(&later.moments), low: self.low.min(later.low), high: self.high.max(later.high) }
    }
}

/// The window of one key; the default has no values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdwinCell {
    /// From the oldest on, none smaller than the one after it.
    buckets: Vec<Bucket>,
    /// Values taken in, up to the warm-up.
    rows: u64,
}

impl AdwinCell {
    /// The buckets, from the oldest on, and the values that count towards the warm-up: what [`AdwinCell::restored`] makes the window of.
    pub fn parts(&self) -> (&[Bucket], u64) {
        (&self.buckets, self.rows)
    }

    /// The window of these parts, if it can be one.
    pub fn restored(buckets: Vec<Bucket>, rows: u64) -> Option<AdwinCell> {
        let count = |bucket: &Bucket| bucket.moments.count;
        let finite = |bucket: &Bucket| bucket.moments.mean.is_finite() && bucket.moments.squares >= 0.0 && bucket.low <= bucket.high;
        let sound = buckets.iter().all(|bucket| finite(bucket) && count(bucket).is_power_of_two())
            && buckets.windows(2).all(|pair| count(&pair[0]) >= count(&pair[1]))
            && buckets.windows(PER_SIZE + 1).all(|run| count(&run[0]) > count(&run[PER_SIZE]))
            && buckets.first().is_none_or(|oldest| count(oldest) <= 1 << 48);
        sound.then_some(AdwinCell { buckets, rows })
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    fn whole(&self) -> Option<Bucket> {
        self.buckets.iter().copied().reduce(|all, bucket| all.combine(&bucket))
    }

    /// Takes a value in; of more buckets of a size than may be the two oldest become one.
    fn push(&mut self, value: f64) {
        self.buckets.push(Bucket::of(value));
        let (mut end, mut size) = (self.buckets.len(), 1);
        loop {
            let run = self.buckets[..end].iter().rev().take_while(|bucket| bucket.moments.count == size).count();
            if run <= PER_SIZE {
                return;
            }
            let oldest = end - run;
            self.buckets[oldest] = self.buckets[oldest].combine(&self.buckets[oldest + 1]);
            self.buckets.remove(oldest + 1);
            (end, size) = (oldest + 1, 2 * size);
        }
    }

    /// The greatest difference of means that a cut has, in bounds.
    fn change(&self, delta: f64) -> f64 {
        let Some(all) = self.whole().filter(|all| all.moments.count >= 2 * LEAST_PART) else { return 0.0 };
        let (n, mean) = (all.moments.count, all.moments.mean);
        let l = (2.0 * (n as f64).ln() / delta).ln();
        let (variance, range) = (all.moments.squares / n as f64, all.high - all.low);
        let (mut older, mut most) = (Running::default(), 0.0_f64);
        for bucket in &self.buckets {
            older = older.combine(&bucket.moments);
            let newer = n - older.count;
            if newer < LEAST_PART {
                break;
            }
            if older.count < LEAST_PART {
                continue;
            }
            // The mean of both parts tells that of the newer one: n · mean = older + newer.
            let apart = (mean - older.mean).abs() * n as f64 / newer as f64;
            let per_m = 1.0 / older.count as f64 + 1.0 / newer as f64;
            let bound = (2.0 * per_m * variance * l).sqrt() + 2.0 / 3.0 * per_m * range * l;
            let noise = RELATIVE_FLOOR * mean.abs();
            most = most.max(if apart <= noise { 0.0 } else { in_deviations(apart, bound, mean) });
        }
        most
    }
}

impl Stepwise for Adwin {
    type Cell = AdwinCell;

    fn take(&self, cell: &mut AdwinCell, value: f64) -> Judged {
        let expected = cell.whole().map_or(f64::NAN, |all| all.moments.mean);
        cell.push(value);
        cell.rows = (cell.rows + 1).min(self.warmup + 1);
        if cell.rows <= self.warmup {
            return Judged { score: 0.0, expected };
        }
        let score = cell.change(self.delta);
        let mut left = score;
        while left >= 1.0 && cell.buckets.len() > 1 {
            cell.buckets.remove(0);
            left = cell.change(self.delta);
        }
        Judged { score, expected }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{Adwin, AdwinCell};
    use crate::anomaly::stepwise::judge;
    use crate::testing::{FLOATS, scramble};

    /// The window as lists of values, its scores from the definition.
    #[derive(Default)]
    struct Slow(Vec<Vec<f64>>);

    impl Slow {
        fn push(&mut self, value: f64) {
            self.0.push(vec![value]);
            for size in (0..40).map(|power| 1_usize << power) {
                let of_size: Vec<usize> = (0..self.0.len()).filter(|at| self.0[*at].len() == size).collect();
                if of_size.len() > 5 {
                    let later = self.0.remove(of_size[1]);
                    self.0[of_size[0]].extend(later);
                }
            }
        }

        fn score(&self, delta: f64) -> f64 {
            let all = self.0.concat();
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let n = all.len() as f64;
            let variance = all.iter().map(|x| (x - mean(&all)).powi(2)).sum::<f64>() / n;
            let range = all.iter().fold(f64::MIN, |a, b| a.max(*b)) - all.iter().fold(f64::MAX, |a, b| a.min(*b));
            let l = (2.0 * n.ln() / delta).ln();
            let cut = |at: usize| {
                let (older, newer) = (self.0[..at].concat(), self.0[at..].concat());
                let m = 1.0 / (1.0 / older.len() as f64 + 1.0 / newer.len() as f64);
                let apart = (mean(&older) - mean(&newer)).abs();
                let bound = (2.0 / m * variance * l).sqrt() + 2.0 / (3.0 * m) * range * l;
                if older.len() < 5 || newer.len() < 5 || apart == 0.0 { 0.0 } else { apart / bound }
            };
            (1..self.0.len()).map(cut).fold(0.0, f64::max)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_lists_of_values(
            pieces in prop::collection::vec((-3.0..3.0_f64, prop::collection::vec(0.0..1.0_f64, 1..80)), 1..5), cut in any::<prop::sample::Index>(),
        ) {
            let values: Vec<f64> = pieces.iter().flat_map(|(level, noise)| noise.iter().map(move |x| level + x)).collect();
            let params = Adwin { delta: 0.01, warmup: 12 };
            let (mut cells, mut scores) = ([AdwinCell::default()], vec![9.0; values.len()]);
            let cut = cut.index(values.len());
            let slots = vec![0; values.len()];
            judge(&params, &mut cells, &slots[..cut], &values[..cut], None, &mut scores[..cut], None);
            let (buckets, rows) = cells[0].parts();
            cells = [AdwinCell::restored(buckets.to_vec(), rows).unwrap()];
            judge(&params, &mut cells, &slots[cut..], &values[cut..], None, &mut scores[cut..], None);
            let mut slow = Slow::default();
            for (row, value) in values.iter().enumerate() {
                slow.push(*value);
                let right = if row < 12 { 0.0 } else { slow.score(0.01) };
                prop_assert!((scores[row] - right).abs() < 1e-6, "row {row}: {} is not {right}", scores[row]);
                // Near 1 rounding decides whether the oldest go.
                prop_assume!((right - 1.0).abs() > 1e-6);
                while row >= 12 && slow.score(0.01) >= 1.0 {
                    slow.0.remove(0);
                }
            }
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 1..120),
        ) {
            let (mut cells, mut scores) = ([AdwinCell::default()], vec![9.0; values.len()]);
            judge(&Adwin { delta: 0.01, warmup: 0 }, &mut cells, &vec![0; values.len()], &values, None, &mut scores, None);
            for (value, score) in values.iter().zip(scores) {
                prop_assert_eq!(score.is_nan(), !value.is_finite());
                prop_assert!(score.is_nan() || (0.0..=1e12).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn a_change_is_found_soon_and_noise_is_none() {
        let noise = |n: u64| (scramble(n) >> 11) as f64 / (1u64 << 53) as f64;
        let values: Vec<f64> = (0..20_000).map(|n| noise(n) + if n < 10_000 { 0.0 } else { 0.4 }).collect();
        let (mut cells, mut scores) = ([AdwinCell::default()], vec![9.0; 20_000]);
        judge(&Adwin { delta: 0.002, warmup: 30 }, &mut cells, &[0; 20_000], &values, None, &mut scores, None);
        let found: Vec<usize> = (0..20_000).filter(|row| scores[*row] >= 1.0).collect();
        assert!(!found.is_empty() && found.iter().all(|row| (10_000..10_200).contains(row)), "{found:?}");
        let (buckets, _) = cells[0].parts();
        assert!(buckets.len() < 75, "{} buckets", buckets.len());
        assert!(AdwinCell::restored(buckets.iter().rev().copied().collect(), 0).is_none(), "the oldest first");
    }
}
