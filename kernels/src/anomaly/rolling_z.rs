//! Rolling z-score: how many standard deviations a value lies from the mean of the key's latest values.
//!
//! The control chart of W. A. Shewhart, *Economic Control of Quality of Manufactured Product*, 1931, with limits from a window that moves along:
//!
//! ```text
//! score = |x - mean| / deviation        both of the latest `window` values, x not among them
//! ```
//!
//! Mean and deviation are only ever added up, never taken away from, so that a value that leaves the window leaves nothing behind, however
//! large: the older values are kept as the moments of each with those after it, the newer ones as they are with their moments, and a window's
//! moments are those of both (a queue as two stacks; moments combined after Chan, Golub and LeVeque, 1979).
//!
//! * *Warm-up*: the first `warmup` values of a key score 0.
//! * *Missing values*: a null, NaN or infinite value scores NaN and leaves the window as it was.
//! * *Drift*: a new level is usual once it fills the window; until then it widens the deviation. Deviations are at least a billionth of the mean.
//!
//! State: 32 bytes for each value of the window. Cost: two additions of moments a row. Scores are the same bits whatever the batches or backend.

use crate::anomaly::stepwise::{Judged, Running, Stepwise, in_deviations};

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RollingZ {
    /// Values of a key that are looked back on: at least 2.
    pub window: u32,
    /// Values of a key that score 0.
    pub warmup: u32,
}

/// The moments of the latest values of one key; the default has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MomentWindow {
    /// Of each of the older values with those of them that came after it, the oldest last.
    older: Vec<Running>,
    /// The newer values, as they came.
    newer: Vec<f64>,
    /// Their moments.
    newest: Running,
}

impl MomentWindow {
    /// Moments of the older values and the newer values: what [`MomentWindow::restored`] makes the window of.
    pub fn parts(&self) -> (&[Running], &[f64]) {
        (&self.older, &self.newer)
    }

    /// The window that these are the parts of, if it is of at most `window` values and sound.
    pub fn restored(older: Vec<Running>, newer: Vec<f64>, window: usize) -> Option<MomentWindow> {
        let is_sound = |(number, part): (u64, &Running)| part.count == number && part.mean.is_finite() && part.squares >= 0.0;
        let sound = older.len() + newer.len() <= window && (1..).zip(&older).all(is_sound) && newer.iter().all(|value| value.is_finite());
        let mut newest = Running::default();
        newer.iter().for_each(|value| newest.add(*value));
        sound.then_some(MomentWindow { older, newer, newest })
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.older.capacity() * size_of::<Running>() + self.newer.capacity() * size_of::<f64>()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.older.len() + self.newer.len()
    }

    /// The moments of all values.
    pub(crate) fn moments(&self) -> Running {
        self.older.last().map_or(self.newest, |older| older.combine(&self.newest))
    }

    /// Takes a value in; if there are `window` the oldest goes. A window of no values stays empty.
    pub(crate) fn take(&mut self, value: f64, window: usize) {
        if window == 0 {
            return;
        }
        if self.len() >= window {
            self.drop_oldest();
        }
        self.newer.push(value);
        self.newest.add(value);
    }

    fn drop_oldest(&mut self) {
        if self.older.is_empty() {
            let mut moments = Running::default();
            for value in self.newer.drain(..).rev() {
                moments.add(value);
                self.older.push(moments);
            }
            self.newest = Running::default();
        }
        self.older.pop();
    }
}

impl Stepwise for RollingZ {
    type Cell = MomentWindow;

    fn take(&self, cell: &mut MomentWindow, value: f64) -> Judged {
        let moments = cell.moments();
        let expected = moments.expected();
        let score = match moments.count < u64::from(self.warmup.max(1)) {
            true => 0.0,
            false => in_deviations((value - expected).abs(), moments.deviation(), expected),
        };
        cell.take(value, self.window as usize);
        Judged { score, expected }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{MomentWindow, RollingZ};
    use crate::anomaly::stepwise::judge;
    use crate::testing::{Case, on_every_backend};
    use crate::{Backend, Bits};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_moments_made_anew(
            values in prop::collection::vec(prop_oneof![8 => -9.0..9.0_f64, 1 => Just(1e12), 2 => Just(3.0)], 2..200),
            window in 2..30_u32, cut in any::<prop::sample::Index>(),
        ) {
            let params = RollingZ { window, warmup: 2 };
            let (mut cells, mut scores, mut expected) = ([MomentWindow::default()], vec![9.0; values.len()], vec![9.0; values.len()]);
            let cut = cut.index(values.len());
            let slots = vec![0; values.len()];
            judge(&params, &mut cells, &slots[..cut], &values[..cut], None, &mut scores[..cut], Some(&mut expected[..cut]));
            // What is kept makes the same window again.
            let (older, newer) = cells[0].parts();
            let again = MomentWindow::restored(older.to_vec(), newer.to_vec(), window as usize).unwrap();
            prop_assert_eq!(&again, &cells[0]);
            cells = [again];
            judge(&params, &mut cells, &slots[cut..], &values[cut..], None, &mut scores[cut..], Some(&mut expected[cut..]));
            for row in 2..values.len() {
                let latest = &values[row.saturating_sub(window as usize)..row];
                let count = latest.len() as f64;
                let mean = latest.iter().sum::<f64>() / count;
                let deviation = (latest.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
                prop_assert!((expected[row] - mean).abs() <= 1e-9 * mean.abs().max(1.0), "{} is not {mean}", expected[row]);
                let (z, floor) = (((values[row] - mean).abs() / deviation).min(1e12), 1e-3 * mean.abs());
                if deviation > floor.max(1e-3) {
                    prop_assert!((scores[row] - z).abs() <= 1e-6 * z.max(1.0), "row {row}: {} is not {z}", scores[row]);
                }
            }
        }
    }

    on_every_backend!(edges, super::check_edges);

    /// The code is the same on every backend: holes, splits and the ends of the range of floats are what can go wrong.
    fn check_edges(_: Backend, case: &Case) {
        let params = RollingZ { window: 10, warmup: 3 };
        let run = |split: usize| {
            let (mut cells, mut scores) = (vec![MomentWindow::default(); case.groups as usize], vec![9.0; case.slots.len()]);
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
    fn what_leaves_the_window_leaves_nothing_behind() {
        let mut values: Vec<f64> = (0..100).map(|n| f64::from(n * 7 % 10)).collect();
        values[40] = 1e140;
        let (mut cells, mut scores) = ([MomentWindow::default()], vec![9.0; 100]);
        judge(&RollingZ { window: 10, warmup: 2 }, &mut cells, &[0; 100], &values, None, &mut scores, None);
        assert!(scores[40] > 1e11);
        // Ten rows of a pattern of ten: mean 4.5, deviation the root of 8.25.
        for (row, score) in scores.iter().enumerate().skip(51) {
            let z = (values[row] - 4.5).abs() / 8.25_f64.sqrt();
            assert!((score - z).abs() < 1e-9, "row {row}: {score} is not {z}");
        }
        assert_eq!(MomentWindow::restored(Vec::new(), vec![1.0; 11], 10), None);
        assert_eq!(MomentWindow::restored(Vec::new(), vec![f64::NAN], 10), None);
    }
}
