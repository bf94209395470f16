//! Quantile band: how far a value lies outside the band between two quantiles of the key's latest values.
//!
//! ```text
//! score = (x - high) / (high - low) above the band, (low - x) / (high - low) below it, 0 within it
//! ```
//!
//! `low`, `high` and the median, which is expected, are those of DDSketches (C. Masson, J. E. Rim and H. K. Lee, PVLDB 12(12), 2019; see
//! [`crate::sketch::ddsketch`]) of the values' distances from an origin: the median of the first `warmup` values, then that of the band when a sketch
//! was begun. So a quantile is within 2% of its distance from there, however far from 0 the values lie.
//!
//! * *Forgetting*: values are counted in two sketches in turns. Each `window` / 2 values the older one is emptied and begins anew, so that the band is
//!   that of the latest `window` / 2 to `window` values. It is made anew with every 1/[`PER_WINDOW`] of the window.
//! * *Warm-up*: the first `warmup` values of a key score 0.
//! * *Missing values*: a null, NaN or infinite value scores NaN and leaves the band as it was.
//! * *Drift*: a new level widens the band once it is a share of more than 1 - `upper` (or `lower`) of the window. Bands are at least a billionth of the
//!   median wide.
//!
//! State: 16 kB a key. Cost: a counter of a sketch a row, and with each 1/[`PER_WINDOW`] of the window a pass over 2,048 counters. Scores are the same bits whatever
//! the batches or backend.

use std::sync::LazyLock;

use crate::anomaly::stepwise::{Judged, MOST, Stepwise, in_deviations};
use crate::scalar::sketch::ddsketch::take;
use crate::sketch::ddsketch::{DdHead, DdLayout};

/// How often a band is made anew while a window passes.
pub const PER_WINDOW: u32 = 64;

/// Bound of the relative error of a distance from the origin, and buckets of a sketch for each side of it: they span a factor of 10⁸.
const ALPHA: f64 = 0.02;
const BUCKETS: usize = 512;

static LAYOUT: LazyLock<DdLayout> = LazyLock::new(|| DdLayout::new(ALPHA, BUCKETS));

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantileBand {
    /// The quantile that the band begins with, in [0, 1).
    pub lower: f64,
    /// The quantile that it ends with, above `lower`, at most 1.
    pub upper: f64,
    /// Values of a key that are looked back on: at least 64.
    pub window: u32,
    /// Values of a key that score 0, at least 1.
    pub warmup: u32,
}

impl QuantileBand {
    /// Values of a key from one band to the next.
    fn step(&self) -> u32 {
        self.window.div_ceil(PER_WINDOW)
    }
}

/// Values in one sketch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BandSketch {
    /// What values are measured from.
    pub origin: f64,
    /// What is kept beside the counters.
    pub head: DdHead,
    /// Counters of both sides; none before the first value.
    pub counts: Vec<u64>,
    /// Values taken in.
    pub rows: u32,
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BandCell {
    /// The first values, until there are as many as the warm-up.
    pub first: Vec<f64>,
    /// The sketch that takes values in, and the one before it.
    pub sketches: [BandSketch; 2],
    /// Low end, median and high end of the band.
    pub band: [f64; 3],
    /// Whether the warm-up is over.
    pub is_warm: bool,
}

impl BandSketch {
    /// Whether this can be what a kernel left: for what comes from a snapshot.
    pub fn is_sound(&self) -> bool {
        let counted = match self.counts.len() {
            0 => self.rows == 0,
            length => length == LAYOUT.counts_per_group() && LAYOUT.count(&self.head, &self.counts) == u64::from(self.rows),
        };
        counted && self.origin.is_finite()
    }

    fn take(&mut self, value: f64) {
        if self.counts.is_empty() {
            self.counts = vec![0; LAYOUT.counts_per_group()];
        }
        take(&LAYOUT, &mut self.head, &mut self.counts, (value - self.origin).clamp(-MOST, MOST));
        self.rows += 1;
    }

    /// Begins anew.
    fn begin(&mut self, origin: f64) {
        self.counts.fill(0);
        (self.origin, self.head, self.rows) = (origin, DdHead::EMPTY, 0);
    }

    /// Values with how often each came, from the least to the greatest.
    fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        let [below, above] = [1, 0].map(|side| {
            let window = self.counts.get(side * BUCKETS..(side + 1) * BUCKETS).unwrap_or_default();
            let of = move |bucket: i32| (LAYOUT.value(bucket), window.get(LAYOUT.place(bucket)).copied().unwrap_or_default());
            LAYOUT.window(self.head.tops[side]).map(of).filter(|(_, count)| *count > 0)
        });
        let below = below.rev().map(|(distance, count)| (-distance, count));
        below.chain([(0.0, self.head.zero)]).chain(above).map(|(distance, count)| (self.origin + distance, count))
    }
}

impl BandCell {
    /// Whether this can be what a kernel with these parameters left: for what comes from a snapshot.
    pub fn is_sound(&self, params: &QuantileBand) -> bool {
        let first = match self.is_warm {
            true => self.first.is_empty() && self.sketches[0].rows + self.sketches[1].rows > 0,
            false => self.first.len() < params.warmup.max(1) as usize,
        };
        first && self.first.iter().chain(&self.band).all(|value| value.is_finite()) && self.sketches.iter().all(BandSketch::is_sound)
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        let words = self.sketches.iter().map(|sketch| sketch.counts.capacity()).sum::<usize>() + self.first.capacity();
        words * size_of::<u64>()
    }

    fn take(&mut self, value: f64, params: &QuantileBand) {
        self.sketches[0].take(value);
        let rows = self.sketches[0].rows;
        if rows.is_multiple_of(params.step()) {
            self.make_band(params);
        }
        if rows >= params.window.div_ceil(2) {
            self.sketches.swap(0, 1);
            self.sketches[0].begin(self.band[1]);
        }
    }

    /// Makes the band of the values in both sketches: those of rank ⌊q (n − 1)⌋ of n.
    fn make_band(&mut self, params: &QuantileBand) {
        let mut values: Vec<(f64, u64)> = self.sketches.iter().flat_map(BandSketch::values).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: u64 = values.iter().map(|(_, count)| count).sum();
        let at = |q: f64| {
            let mut left = (q * all.saturating_sub(1) as f64) as u64;
            let found = values.iter().find(|(_, count)| {
                let falls = left < *count;
                left -= if falls { 0 } else { *count };
                falls
            });
            found.map_or(0.0, |(value, _)| *value)
        };
        self.band = [at(params.lower), at(0.5), at(params.upper)];
    }

    /// Takes one of the first values in, and all of them again once there are enough to tell the origin.
    fn warm(&mut self, value: f64, params: &QuantileBand) {
        self.first.push(value);
        if self.first.len() < params.warmup.max(1) as usize {
            return;
        }
        let first = std::mem::take(&mut self.first);
        let mut sorted = first.clone();
        sorted.sort_by(f64::total_cmp);
        self.sketches[0].begin(sorted[(sorted.len() - 1) / 2]);
        self.is_warm = true;
        first.into_iter().for_each(|value| self.take(value, params));
        self.make_band(params);
    }
}

impl Stepwise for QuantileBand {
    type Cell = BandCell;

    fn take(&self, cell: &mut BandCell, value: f64) -> Judged {
        if !cell.is_warm {
            cell.warm(value, self);
            return Judged { score: 0.0, expected: f64::NAN };
        }
        let [low, expected, high] = cell.band;
        let outside = (value - high).max(low - value).max(0.0);
        let score = if outside == 0.0 { 0.0 } else { in_deviations(outside, high - low, expected) };
        cell.take(value, self);
        Judged { score, expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BandCell, QuantileBand};
    use crate::anomaly::stepwise::judge;
    use crate::testing::FLOATS;

    const PARAMS: QuantileBand = QuantileBand { lower: 0.1, upper: 0.9, window: 128, warmup: 20 };

    /// Low end, median and high end of the band that a row meets, from the values themselves, and where the sketches of it begin.
    fn slow(values: &[f64], row: usize) -> ([f64; 3], [usize; 2]) {
        // The band was made when the latest even number of values had come, or the warm-up was over; halves of the window are of 64.
        let made = (row - row % 2).max(20);
        let from = ((made - 1) / 64).saturating_sub(1) * 64;
        let mut latest = values[from..made].to_vec();
        latest.sort_by(f64::total_cmp);
        let at = |q: f64| latest[(q * (latest.len() - 1) as f64) as usize];
        ([at(0.1), at(0.5), at(0.9)], [from, (made - 1) / 64 * 64])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_a_window_that_is_sorted_anew(
            values in prop::collection::vec(prop_oneof![4 => 100.0..101.0_f64, 1 => 90.0..110.0_f64], 1..400),
        ) {
            let (mut cells, mut scores, mut expected) = ([BandCell::default()], vec![9.0; values.len()], vec![9.0; values.len()]);
            judge(&PARAMS, &mut cells, &vec![0; values.len()], &values, None, &mut scores, Some(&mut expected));
            prop_assert!(cells[0].is_sound(&PARAMS));
            for row in 0..values.len() {
                if row < 20 {
                    prop_assert_eq!(scores[row], 0.0);
                    continue;
                }
                let ([low, median, high], begins) = slow(&values, row);
                // A sketch counts from the median that was expected when it was begun, the first from that of the warm-up.
                let first = { let mut first = values[..20].to_vec(); first.sort_by(f64::total_cmp); first[9] };
                let origins = begins.map(|row| if row == 0 { first } else { expected[row] });
                let within = |q: f64| origins.iter().map(|origin| 0.021 * (q - origin).abs()).fold(0.0, f64::max);
                prop_assert!((expected[row] - median).abs() <= within(median), "row {row}: {} is not {median}", expected[row]);
                let outside = |low: f64, high: f64| (values[row] - high).max(low - values[row]).max(0.0) / (high - low);
                let least = outside(low - within(low), high + within(high));
                prop_assert!(scores[row] >= least - 1e-9, "row {row}: {} is not {least}", scores[row]);
                let (narrow_low, narrow_high) = (low + within(low), high - within(high));
                let most = if narrow_low < narrow_high { outside(narrow_low, narrow_high) } else { f64::INFINITY };
                prop_assert!(scores[row] <= most + 1e-9, "row {row}: {} is not {most}", scores[row]);
            }
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 1..200),
        ) {
            let (mut cells, mut scores) = ([BandCell::default()], vec![9.0; values.len()]);
            judge(&PARAMS, &mut cells, &vec![0; values.len()], &values, None, &mut scores, None);
            prop_assert!(cells[0].is_sound(&PARAMS));
            for (value, score) in values.iter().zip(scores) {
                prop_assert_eq!(score.is_nan(), !value.is_finite());
                prop_assert!(score.is_nan() || (0.0..=1e12).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn a_level_that_has_left_the_window_is_strange_again() {
        let mut values: Vec<f64> = (0..1_000).map(|n| f64::from(n * 7 % 10)).collect();
        values[..200].iter_mut().for_each(|value| *value += 1_000.0);
        values[900] = 1_000.0;
        let (mut cells, mut scores) = ([BandCell::default()], vec![9.0; 1_000]);
        judge(&PARAMS, &mut cells, &[0; 1_000], &values, None, &mut scores, None);
        assert!(scores[200] > 1.0 && scores[900] > 50.0, "{} and {}", scores[200], scores[900]);
        assert!(scores[400..900].iter().chain(&scores[901..]).all(|score| *score < 1.0));
    }
}
