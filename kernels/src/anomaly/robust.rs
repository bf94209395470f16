//! Robust z-score: how far a value lies from the median of the key's latest values, in units of their median distance from it.
//!
//! B. Iglewicz and D. C. Hoaglin, *How to Detect and Handle Outliers*, 1993:
//!
//! ```text
//! median of the latest `window` values;   MAD = median of |value - median|
//! score  = |x - median| / (1.4826 · MAD)     1.2533 · mean of |value - median| in place of it where the MAD is 0
//! ```
//!
//! Up to half of the window may be anomalies without a change of what is usual. Of an even number of values the lower of the two in the middle
//! is the median. Median and MAD are exact: the window is kept in order.
//!
//! * *Warm-up*: the first `warmup` values of a key score 0.
//! * *Drift*: a new level is usual once it fills half of the window. Deviations are at least a billionth of the median.
//!
//! State: 16 bytes for each value of the window. Scores are the same bits whatever the batches or backend.

use crate::anomaly::stepwise::{Judged, Stepwise, in_deviations};

/// The standard deviation of normal values, in MADs.
const PER_MAD: f64 = 1.4826;

/// The same, in mean absolute deviations.
const PER_MEAN: f64 = 1.2533;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RobustZ {
    /// Values of a key that are looked back on: at least 1.
    pub window: u32,
    /// Values of a key that score 0.
    pub warmup: u32,
}

/// The latest values of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatestValues {
    /// As they came, the oldest at `oldest` once the window is full.
    ring: Vec<f64>,
    oldest: usize,
    /// In order.
    sorted: Vec<f64>,
}

impl LatestValues {
    /// The values in the order in which they came.
    pub fn in_order_of_arrival(&self) -> impl Iterator<Item = f64> {
        self.ring[self.oldest..].iter().chain(&self.ring[..self.oldest]).copied()
    }

    /// The latest values that these are, if they are not too many for the window and finite.
    pub fn restored(values: Vec<f64>, window: usize) -> Option<LatestValues> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let sound = values.len() <= window && values.iter().all(|value| value.is_finite());
        sound.then_some(LatestValues { ring: values, oldest: 0, sorted })
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.ring.capacity() + self.sorted.capacity()) * size_of::<f64>()
    }

    /// The values from the least to the greatest.
    pub(crate) fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// Takes a value in; if there are `window` the oldest goes.
    pub(crate) fn take(&mut self, value: f64, window: usize) {
        let place = |sorted: &[f64], value: f64| sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        if self.ring.len() < window {
            self.ring.push(value);
            self.sorted.insert(place(&self.sorted, value), value);
            return;
        }
        let gone = std::mem::replace(&mut self.ring[self.oldest], value);
        self.oldest = (self.oldest + 1) % window;
        let (from, to) = (place(&self.sorted, gone), place(&self.sorted, value));
        // Those in between move by one place.
        match from < to {
            true => {
                self.sorted.copy_within(from + 1..to, from);
                self.sorted[to - 1] = value;
            }
            false => {
                self.sorted.copy_within(to..from, to + 1);
                self.sorted[to] = value;
            }
        }
    }

    fn median(&self) -> f64 {
        self.sorted[(self.sorted.len() - 1) / 2]
    }

    /// The distance from the median that half of the values do not go beyond: distances grow from the median both ways.
    fn median_distance(&self, median: f64) -> f64 {
        let middle = (self.sorted.len() - 1) / 2;
        let (mut below, mut above) = (middle, middle);
        let mut distance = 0.0;
        for _ in 0..middle {
            let down = below.checked_sub(1).map_or(f64::INFINITY, |at| median - self.sorted[at]);
            let up = self.sorted.get(above + 1).map_or(f64::INFINITY, |value| value - median);
            distance = down.min(up);
            if down < up {
                below -= 1;
            } else {
                above += 1;
            }
        }
        distance
    }

    /// What stands for the standard deviation.
    fn deviation(&self, median: f64) -> f64 {
        match self.median_distance(median) {
            0.0 => PER_MEAN * self.sorted.iter().map(|value| (value - median).abs() / self.sorted.len() as f64).sum::<f64>(),
            distance => PER_MAD * distance,
        }
    }
}

impl Stepwise for RobustZ {
    type Cell = LatestValues;

    fn take(&self, cell: &mut LatestValues, value: f64) -> Judged {
        let known = cell.ring.len();
        let expected = if known == 0 { f64::NAN } else { cell.median() };
        let score = match known < (self.warmup as usize).max(1) {
            true => 0.0,
            false => in_deviations((value - expected).abs(), cell.deviation(expected), expected),
        };
        cell.take(value, self.window as usize);
        Judged { score, expected }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{LatestValues, RobustZ};
    use crate::anomaly::stepwise::judge;

    /// Median and what stands for the deviation, from the definition.
    fn slow(latest: &[f64]) -> (f64, f64) {
        let median_of = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[(values.len() - 1) / 2]
        };
        let median = median_of(latest.to_vec());
        let distances: Vec<f64> = latest.iter().map(|value| (value - median).abs()).collect();
        match median_of(distances.clone()) {
            0.0 => (median, 1.2533 * distances.iter().sum::<f64>() / latest.len() as f64),
            distance => (median, 1.4826 * distance),
        }
    }

    proptest! {
        #[test]
        fn scores_are_those_of_a_window_that_is_sorted_anew(
            values in prop::collection::vec(prop_oneof![3 => -9.0..9.0_f64, 2 => (-2..3_i32).prop_map(f64::from), 1 => Just(-0.0)], 1..200),
            window in 1..30_u32, cut in any::<prop::sample::Index>(),
        ) {
            let params = RobustZ { window, warmup: 4 };
            let (mut cells, mut scores, mut expected) = ([LatestValues::default()], vec![9.0; values.len()], vec![9.0; values.len()]);
            let cut = cut.index(values.len());
            let slots = vec![0; values.len()];
            judge(&params, &mut cells, &slots[..cut], &values[..cut], None, &mut scores[..cut], Some(&mut expected[..cut]));
            // What is kept makes the same window again.
            cells = [LatestValues::restored(cells[0].in_order_of_arrival().collect(), window as usize).unwrap()];
            judge(&params, &mut cells, &slots[cut..], &values[cut..], None, &mut scores[cut..], Some(&mut expected[cut..]));
            for row in 1..values.len() {
                let (median, deviation) = slow(&values[row.saturating_sub(window as usize)..row]);
                prop_assert_eq!(expected[row], median);
                let distance = (values[row] - median).abs();
                let known = row.min(window as usize);
                let right = match (known < 4, distance == 0.0) {
                    (true, _) | (_, true) => 0.0,
                    _ => (distance / deviation.max(1e-9 * median.abs()).max(1e-300)).min(1e12),
                };
                prop_assert!((scores[row] - right).abs() <= 1e-9 * right, "row {row}: {} is not {right}", scores[row]);
            }
        }
    }

    #[test]
    fn anomalies_up_to_half_of_the_window_do_not_hide_each_other() {
        let mut values: Vec<f64> = (0..300).map(|n| f64::from(n % 10)).collect();
        values[200..245].fill(500.0);
        let (mut cells, mut scores) = ([LatestValues::default()], vec![9.0; 300]);
        judge(&RobustZ { window: 100, warmup: 20 }, &mut cells, &[0; 300], &values, None, &mut scores, None);
        assert!(scores[200..245].iter().all(|score| *score > 30.0));
        assert!(scores[20..200].iter().chain(&scores[245..]).all(|score| *score < 3.5));
        assert_eq!(LatestValues::restored(vec![1.0; 101], 100), None);
    }
}
