//! What a score means: the share of its key's earlier scores that were at least as high.
//!
//! This is the p-value of conformal prediction, taken over the scores of one key in the order of its rows (V. Vovk, A. Gammerman
//! and G. Shafer, *Algorithmic Learning in a Random World*, 2005, section 2.2; for anomalies: R. Laxhammar and G. Falkman, "Online
//! learning and sequential anomaly detection in trajectories", IEEE TPAMI 36(6), 2014):
//!
//! ```text
//! p = (1 + earlier scores at least this high) / (1 + earlier scores),   in (0, 1]
//! ```
//!
//! Where scores come from one distribution, p is at most `rate` for a share `rate` of the rows, whatever the distribution.
//!
//! * Scores are counted in a histogram of [`BUCKETS`] buckets, eight to each doubling from 2⁻¹⁶ on; the first holds all below, the
//!   last all from about 2¹⁵·⁷ on, which are not told apart. Within a bucket, counts are taken to be spread evenly; all of the first and of the last count.
//! * Forgetting: whenever a key has [`WINDOW`] rows' worth of counts, all are halved. So p is never below 1 / [`WINDOW`].
//! * A row's score is counted after its p is known. Every score counts, anomalies too: were they left out, the tail would cut itself
//!   off, and the rate of alarms grow without bound.
//! * A score that is NaN has p NaN and is not counted; one below 0 counts as 0.
//!
//! State: 1,092 bytes a key. Cost: some 40 ns a row. The p of a row depends on the key's rows before it alone, whatever the batches or backend.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::{scalar, simd};

/// Buckets of the histogram of a key's scores.
pub const BUCKETS: usize = 256;

/// Rows of a key after which what is known counts half.
pub const WINDOW: u32 = 1 << 16;

/// What a row adds to its bucket: that much, so that counts fade as they are halved and do not vanish at once.
pub(crate) const UNIT: u32 = 64;

/// Buckets whose counts are kept as one sum too.
pub(crate) const GROUP: usize = 16;

/// Bits of a float below those that choose the bucket: 52 of the fraction less the first three.
const BELOW: u32 = 49;

/// The first score of the second bucket.
const LEAST: f64 = 1.0 / 65_536.0;

/// What is known of one key's scores; the default is a key not yet seen.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationCell {
    /// By bucket, [`UNIT`] for each row, halved now and then.
    pub(crate) counts: [u32; BUCKETS],
    /// Sums of the counts of [`GROUP`] buckets each.
    pub(crate) sums: [u32; BUCKETS / GROUP],
    /// Sum of all counts.
    pub(crate) total: u32,
}

impl Default for CalibrationCell {
    fn default() -> CalibrationCell {
        CalibrationCell { counts: [0; BUCKETS], sums: [0; BUCKETS / GROUP], total: 0 }
    }
}

impl CalibrationCell {
    /// The counts, from which [`CalibrationCell::from_counts`] makes the same cell.
    pub fn counts(&self) -> &[u32; BUCKETS] {
        &self.counts
    }

    /// The cell with these counts, if they are of at most [`WINDOW`] rows.
    pub fn from_counts(counts: [u32; BUCKETS]) -> Option<CalibrationCell> {
        let total = counts.iter().try_fold(0u32, |total, &count| total.checked_add(count))?;
        let sums = std::array::from_fn(|group| counts[group * GROUP..][..GROUP].iter().sum());
        (total < WINDOW * UNIT).then_some(CalibrationCell { counts, sums, total })
    }

    /// Counts a score in its bucket.
    #[inline(always)]
    pub(crate) fn count(&mut self, bucket: usize) {
        self.counts[bucket] += UNIT;
        self.sums[bucket / GROUP] += UNIT;
        self.total += UNIT;
        if self.total >= WINDOW * UNIT {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.sums = std::array::from_fn(|group| self.counts[group * GROUP..][..GROUP].iter().sum());
        self.total = self.sums.iter().sum();
    }

    /// p of a score in a bucket of which `share` counts, if the buckets above hold `above`.
    #[inline(always)]
    pub(crate) fn p(&self, bucket: usize, share: f64, above: u32) -> f64 {
        let unit = f64::from(UNIT);
        (unit + f64::from(above) + share * f64::from(self.counts[bucket])) / (unit + f64::from(self.total))
    }
}

/// The bucket of a score that is not NaN, and the share of its bucket that lies at or above it.
#[inline(always)]
pub(crate) fn bucket(score: f64) -> (usize, f64) {
    if score < LEAST {
        return (0, 1.0);
    }
    let steps = (score.to_bits() - LEAST.to_bits()) >> BELOW;
    if steps >= BUCKETS as u64 - 2 {
        return (BUCKETS - 1, 1.0);
    }
    let within = score.to_bits() & ((1 << BELOW) - 1);
    (steps as usize + 1, 1.0 - within as f64 / (1u64 << BELOW) as f64)
}

/// The p of each row's score among its key's earlier scores, then counts it: see the [module documentation](self).
///
/// # Panics
/// If the columns differ in length or a slot is not below `cells.len()`.
pub fn p_values(cells: &mut [CalibrationCell], slots: &[u32], scores: &[f64], p: &mut [f64]) {
    Backend::active().p_values(cells, slots, scores, p);
}

impl Backend {
    /// [`p_values`] on this backend.
    pub fn p_values(self, cells: &mut [CalibrationCell], slots: &[u32], scores: &[f64], p: &mut [f64]) {
        check_lengths("slots and scores", slots.len(), scores.len());
        check_lengths("scores and p", scores.len(), p.len());
        match self {
            Self::Scalar => scalar::anomaly::p_values(cells, slots, scores, p),
            Self::Simd(level) => simd::anomaly::p_values(level, cells, slots, scores, p),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{BUCKETS, CalibrationCell, UNIT, WINDOW, bucket};
    use crate::testing::{Case, on_every_backend, same, scramble};
    use crate::{Backend, scalar};

    on_every_backend!(shares, super::check_p_values);

    fn check_p_values(backend: Backend, case: &Case) {
        // The widest case has more keys than cells are wanted for here.
        let groups = case.groups.min(100);
        let slots: Vec<u32> = case.slots.iter().map(|slot| slot % groups).collect();
        let scores: Vec<f64> = case.floats.iter().map(|x| x.abs() / 1e5).collect();
        let new = || vec![CalibrationCell::default(); groups as usize];
        let (mut cells, mut expected_cells) = (new(), new());
        let (mut p, mut expected) = (vec![9.0; scores.len()], vec![9.0; scores.len()]);
        let split = scores.len() / 3;
        backend.p_values(&mut cells, &slots[..split], &scores[..split], &mut p[..split]);
        backend.p_values(&mut cells, &slots[split..], &scores[split..], &mut p[split..]);
        scalar::anomaly::p_values(&mut expected_cells, &slots, &scores, &mut expected);
        assert!(cells == expected_cells, "{backend}");
        for ((p, expected), score) in p.iter().zip(&expected).zip(&scores) {
            assert!(same(*p, *expected), "{backend}: {p} is not {expected}");
            assert!(score.is_nan() && p.is_nan() || *p > 0.0 && *p <= 1.0, "{backend}: p of {score} is {p}");
        }
    }

    #[test]
    fn a_series_worked_by_hand() {
        for backend in Backend::available() {
            let (mut cells, mut p) = ([CalibrationCell::default()], [9.0; 7]);
            backend.p_values(&mut cells, &[0; 7], &[0.0, 0.0, 1.0, f64::NAN, 2.0, 1.0, f64::INFINITY], &mut p);
            assert_eq!(p[..3], [1.0, 1.0, 1.0 / 3.0], "{backend}");
            assert!(p[3].is_nan());
            assert_eq!(p[4..], [1.0 / 4.0, 3.0 / 5.0, 1.0 / 6.0], "{backend}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let edges = (0..254).map(|step| 2f64.powi(-16 + step / 8) * (1.0 + f64::from(step % 8) / 8.0));
        for (number, edge) in edges.enumerate() {
            assert_eq!(bucket(edge), (number + 1, 1.0));
            assert_eq!(bucket(edge.next_down()).0, number);
            if number < 253 {
                assert_eq!(bucket(edge * 1.0625).0, number + 1);
            }
        }
        for end in [1e9, f64::MAX, f64::INFINITY] {
            assert_eq!(bucket(end), (BUCKETS - 1, 1.0));
        }
        assert_eq!(bucket(-1.0), (0, 1.0));
    }

    #[test]
    fn a_share_of_the_rows_has_at_most_that_p_whatever_the_distribution() {
        let shapes: [fn(f64) -> f64; 3] = [|u| u, |u| -u.ln(), |u| u.powi(-1)];
        for shape in shapes {
            let scores: Vec<f64> = (0..200_000).map(|n| shape(((scramble(n) >> 11) + 1) as f64 / (1u64 << 53) as f64)).collect();
            let (mut cells, mut p) = ([CalibrationCell::default()], vec![9.0; scores.len()]);
            Backend::best().p_values(&mut cells, &vec![0; scores.len()], &scores, &mut p);
            for rate in [0.1, 0.01, 0.001] {
                let share = p[10_000..].iter().filter(|p| **p <= rate).count() as f64 / 190_000.0;
                assert!((share / rate - 1.0).abs() < 0.25, "{share} of the rows have a p of at most {rate}");
            }
        }
    }

    #[test]
    fn what_was_is_forgotten() {
        let (mut cells, rows) = ([CalibrationCell::default()], 4 * WINDOW as usize);
        let mut p = vec![9.0; rows];
        Backend::best().p_values(&mut cells, &vec![0; 1000], &[100.0; 1000], &mut p[..1000]);
        Backend::best().p_values(&mut cells, &vec![0; rows], &vec![1.0; rows], &mut p);
        assert!(cells[0].total < WINDOW * UNIT);
        Backend::best().p_values(&mut cells, &[0], &[50.0], &mut p[..1]);
        assert!(p[0] < 0.001, "{}", p[0]);
    }

    #[test]
    fn counts_make_the_cell_again() {
        let (mut cells, mut p) = ([CalibrationCell::default()], [9.0; 3]);
        Backend::best().p_values(&mut cells, &[0; 3], &[0.1, 5.0, 5.0], &mut p);
        assert_eq!(CalibrationCell::from_counts(*cells[0].counts()).unwrap(), cells[0]);
        assert_eq!(CalibrationCell::from_counts([u32::MAX; BUCKETS]), None);
    }
}
