//! Mahalanobis distance: how far a row lies from the mean of its columns, in deviations along the way in which they vary together.
//!
//! P. C. Mahalanobis, "On the generalised distance in statistics", 1936; mean and covariance are weighted exponentially as those of
//! [`ewma`](super::ewma) (T. Finch, 2009, section 9), and correlations are shrunk towards none (after O. Ledoit and M. Wolf, "A well-conditioned
//! estimator for large-dimensional covariance matrices", 2004, with a given intensity), so that they can always be inverted:
//!
//! ```text
//! a     = max(alpha, 1 / rows so far)
//! diff  = x - mean,   y = diff / deviation       deviation at least a billionth of the mean
//! R     = (1 - shrinkage) · correlation, 1 on the diagonal
//! D²    = y' R⁻¹ y
//! score = max(0, ((D² / d)^(1/3) - (1 - 2 / 9d)) / sqrt(2 / 9d))      d columns
//! mean  = mean + a · diff,   covariance = (1 - a) · (covariance + a · diff · diff')
//! ```
//!
//! The score is the normal deviate that is as rare as D² is in normal data (E. B. Wilson and M. M. Hilferty, "The distribution of
//! chi-square", 1931), so that one threshold serves any number of columns.
//!
//! * *Attribution*: a column's part is in proportion to `|y · R⁻¹ y|` and has the sign of its diff.
//! * *Warm-up*: the first `warmup` rows of a key score 0.
//! * *Missing values*: a row in which a column has none, or NaN or an infinity, scores NaN and teaches nothing.
//! * *Drift*: followed within some 2 / alpha rows.
//!
//! State: 8 (d + 1)² bytes a key, and some 60 more. Cost: d³ / 6 steps a row and more. Scores are the same bits whatever the batches; the
//! code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::forest::rows_by_slot;
use crate::anomaly::stepwise::{LEAST_FLOOR, RELATIVE_FLOOR};

/// Largest magnitude of a value, so that products stay finite.
const MOST: f64 = 1e100;

/// Most deviations that a column counts as off.
const MOST_DEVIATIONS: f64 = 1e9;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mahalanobis {
    /// Weight of the newest row, above 0, at most 1.
    pub alpha: f64,
    /// How far correlations are shrunk, above 0, at most 1, which leaves none.
    pub shrinkage: f64,
    /// Rows of a key that score 0.
    pub warmup: u64,
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CovarianceCell {
    /// Rows taken in.
    pub count: u64,
    /// By column; none before the first row.
    pub mean: Vec<f64>,
    /// By row and column.
    pub covariance: Vec<f64>,
}

impl CovarianceCell {
    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.mean.capacity() + self.covariance.capacity()) * size_of::<f64>()
    }

    fn learn(&mut self, diff: &[f64], alpha: f64) {
        self.count += 1;
        let (d, a) = (diff.len(), alpha.max(1.0 / self.count as f64));
        self.mean.iter_mut().zip(diff).for_each(|(mean, diff)| *mean += a * diff);
        for (i, row) in self.covariance.chunks_mut(d).enumerate() {
            row.iter_mut().zip(diff).for_each(|(c, diff_j)| *c = (1.0 - a) * (*c + a * diff[i] * diff_j));
        }
    }
}

/// Room for one row's sums, used again for the next.
#[derive(Default)]
struct Scratch {
    diff: Vec<f64>,
    deviations: Vec<f64>,
    y: Vec<f64>,
    /// R, then its Cholesky factor, by row.
    factor: Vec<f64>,
    solved: Vec<f64>,
}

impl Scratch {
    /// D² of a row whose `diff` is there; `solved` becomes R⁻¹ y.
    fn distance(&mut self, cell: &CovarianceCell, shrinkage: f64) -> f64 {
        self.factorise(cell, shrinkage);
        self.scale();
        self.solve()
    }

    /// The deviations of a cell, and the factor of its correlations.
    fn factorise(&mut self, cell: &CovarianceCell, shrinkage: f64) {
        let d = cell.mean.len();
        let deviation = |i: usize| cell.covariance[i * d + i].sqrt().max(RELATIVE_FLOOR * cell.mean[i].abs()).max(LEAST_FLOOR.sqrt());
        self.deviations.clear();
        self.deviations.extend((0..d).map(deviation));
        self.factor.clear();
        self.factor.extend((0..d * d).map(|at| match (at / d, at % d) {
            (i, j) if i == j => 1.0,
            (i, j) => (1.0 - shrinkage) * (cell.covariance[at] / self.deviations[i] / self.deviations[j]).clamp(-1.0, 1.0),
        }));
        for i in 0..d {
            for j in 0..=i {
                let sum: f64 = (0..j).map(|k| self.factor[i * d + k] * self.factor[j * d + k]).sum();
                let left = self.factor[i * d + j] - sum;
                // What is left is at least the shrinkage; rounding may not take it away.
                self.factor[i * d + j] = if i == j { left.max(shrinkage / 2.0).sqrt() } else { left / self.factor[j * d + j] };
            }
        }
    }

    /// The row in deviations.
    fn scale(&mut self) {
        self.y.clear();
        self.y.extend(self.diff.iter().zip(&self.deviations).map(|(diff, s)| (diff / s).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)));
    }

    /// D² of the row in deviations, by the factor.
    fn solve(&mut self) -> f64 {
        let d = self.y.len();
        self.solved.clone_from(&self.y);
        for i in 0..d {
            let sum: f64 = (0..i).map(|k| self.factor[i * d + k] * self.solved[k]).sum();
            self.solved[i] = (self.solved[i] - sum) / self.factor[i * d + i];
        }
        let distance = self.solved.iter().map(|z| z * z).sum();
        for i in (0..d).rev() {
            let sum: f64 = (i + 1..d).map(|k| self.factor[k * d + i] * self.solved[k]).sum();
            self.solved[i] = (self.solved[i] - sum) / self.factor[i * d + i];
        }
        distance
    }
}

/// The normal deviate that is as rare as this squared distance of `d` columns; 0 for those below the middle.
pub(crate) fn deviate(squared: f64, d: usize) -> f64 {
    let spread = 2.0 / (9.0 * d as f64);
    (((squared / d as f64).cbrt() - (1.0 - spread)) / spread.sqrt()).max(0.0)
}

/// What rows are scored by as long as a cell stays as it is.
pub(crate) struct Frozen<'a> {
    cell: &'a CovarianceCell,
    scratch: Scratch,
}

impl<'a> Frozen<'a> {
    /// Of a cell of at least one row.
    pub fn new(cell: &'a CovarianceCell, shrinkage: f64) -> Self {
        let mut scratch = Scratch::default();
        scratch.factorise(cell, shrinkage);
        Self { cell, scratch }
    }

    /// A row in deviations from the mean.
    pub fn scaled(&mut self, columns: &[&[f64]], row: usize) -> &[f64] {
        let Self { cell, scratch } = self;
        scratch.diff.clear();
        scratch.diff.extend(columns.iter().zip(&cell.mean).map(|(column, mean)| column[row].clamp(-MOST, MOST) - mean));
        scratch.scale();
        &scratch.y
    }

    /// The inverse of the factor: its lower triangle, by row.
    #[cfg(feature = "gpu")]
    pub fn inverse(&self) -> Vec<f64> {
        let (d, factor) = (self.cell.mean.len(), &self.scratch.factor);
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(d);
        for i in 0..d {
            let entry = |j: usize| {
                let known: f64 = (j..i).map(|k| factor[i * d + k] * rows[k][j]).sum();
                (if i == j { 1.0 } else { -known }) / factor[i * d + i]
            };
            let row = (0..=i).map(entry).collect();
            rows.push(row);
        }
        rows.concat()
    }
}

impl Mahalanobis {
    fn check(&self, columns: usize) {
        let in_range = |share: f64| share > 0.0 && share <= 1.0;
        assert!(in_range(self.alpha) && in_range(self.shrinkage) && columns > 0, "out of range, or no column: {self:?}");
    }

    /// Rows that a cell is to score by its distances: those in which every column has a value. The others are scored already; none is to be
    /// where too little is known.
    pub(crate) fn rows(&self, cell: &CovarianceCell, columns: &[&[f64]], scores: &mut [f64]) -> Vec<u32> {
        self.check(columns.len());
        let rows = rows_by_slot(&vec![0; scores.len()], columns, None);
        scores.fill(f64::NAN);
        if cell.count < self.warmup.max(1) {
            rows.iter().for_each(|row| scores[*row as usize] = 0.0);
            return Vec::new();
        }
        let known = cell.mean.len();
        assert!(columns.len() == known, "a cell of {known} columns is given rows of {}", columns.len());
        rows
    }
}

/// Scores rows by one key's cell, which stays as it is. A row in which a column has no finite value scores NaN, one of a cell in its warm-up 0.
///
/// # Panics
/// If columns differ in length or from those of the cell in number, or a parameter is out of range.
pub fn mahalanobis_scores(cell: &CovarianceCell, columns: &[&[f64]], params: &Mahalanobis, scores: &mut [f64]) {
    let rows = params.rows(cell, columns, scores);
    if rows.is_empty() {
        return;
    }
    let mut frozen = Frozen::new(cell, params.shrinkage);
    for row in rows {
        frozen.scaled(columns, row as usize);
        scores[row as usize] = deviate(frozen.scratch.solve(), columns.len());
    }
}

/// Scores each row and takes it into its key's cell. `columns` are what is watched together; `expected` and `attribution`, if they are asked
/// for, get for each of them a number per row, and are of the rows' length.
///
/// # Panics
/// If columns differ in length, there is none, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn mahalanobis(
    cells: &mut [CovarianceCell],
    slots: &[u32],
    columns: &[&[f64]],
    params: &Mahalanobis,
    scores: &mut [f64],
    mut expected: Option<&mut [Vec<f64>]>,
    mut attribution: Option<&mut [Vec<f64>]>,
) {
    params.check(columns.len());
    check_lengths("slots and scores", slots.len(), scores.len());
    let (mut scratch, d) = (Scratch::default(), columns.len());
    scores.fill(f64::NAN);
    for row in rows_by_slot(slots, columns, None) {
        let row = row as usize;
        let cell = &mut cells[slots[row] as usize];
        let value = |column: usize| columns[column][row].clamp(-MOST, MOST);
        if cell.count == 0 {
            (cell.mean, cell.covariance) = ((0..d).map(value).collect(), vec![0.0; d * d]);
        } else if let Some(expected) = expected.as_deref_mut() {
            expected.iter_mut().zip(&cell.mean).for_each(|(expected, mean)| expected[row] = *mean);
        }
        scratch.diff.clear();
        scratch.diff.extend((0..d).map(|column| value(column) - cell.mean[column]));
        let distance = scratch.distance(cell, params.shrinkage);
        let score = if cell.count < params.warmup { 0.0 } else { deviate(distance, d) };
        scores[row] = score;
        if let Some(attribution) = attribution.as_deref_mut() {
            let part = |column: usize| (scratch.y[column] * scratch.solved[column]).abs();
            let all: f64 = (0..d).map(part).sum();
            let share = |column: usize| if all > 0.0 { part(column) / all * score * scratch.diff[column].signum() } else { 0.0 };
            attribution.iter_mut().enumerate().for_each(|(column, parts)| parts[row] = share(column));
        }
        cell.learn(&scratch.diff, params.alpha);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{CovarianceCell, Mahalanobis, deviate, mahalanobis, mahalanobis_scores};
    use crate::testing::scramble;

    /// Weights of rows so far, the latest last, as the recurrence makes them.
    fn weights(rows: usize, alpha: f64) -> Vec<f64> {
        let mut weights: Vec<f64> = Vec::new();
        for n in 1..=rows {
            let a = alpha.max(1.0 / n as f64);
            weights.iter_mut().for_each(|weight| *weight *= 1.0 - a);
            weights.push(a);
        }
        weights
    }

    /// Solves A x = y by elimination with pivots.
    fn solve(mut a: Vec<Vec<f64>>, mut y: Vec<f64>) -> Vec<f64> {
        let d = y.len();
        for i in 0..d {
            let pivot = (i..d).max_by(|p, q| a[*p][i].abs().total_cmp(&a[*q][i].abs())).unwrap();
            a.swap(i, pivot);
            y.swap(i, pivot);
            for k in i + 1..d {
                let factor = a[k][i] / a[i][i];
                let above = a[i].clone();
                a[k].iter_mut().zip(above).for_each(|(x, above)| *x -= factor * above);
                y[k] -= factor * y[i];
            }
        }
        for i in (0..d).rev() {
            let known: f64 = (i + 1..d).map(|k| a[i][k] * y[k]).sum();
            y[i] = (y[i] - known) / a[i][i];
        }
        y
    }

    /// The score of the last row, from the definition.
    fn slow(rows: &[Vec<f64>], params: &Mahalanobis) -> f64 {
        let (row, before) = rows.split_last().unwrap();
        let (d, weights) = (row.len(), weights(before.len(), params.alpha));
        let mean = |of: &dyn Fn(&Vec<f64>) -> f64| weights.iter().zip(before).map(|(weight, row)| weight * of(row)).sum::<f64>();
        let means: Vec<f64> = (0..d).map(|i| mean(&|row| row[i])).collect();
        let covariance = |i: usize, j: usize| mean(&|row| (row[i] - means[i]) * (row[j] - means[j]));
        let deviations: Vec<f64> = (0..d).map(|i| covariance(i, i).sqrt()).collect();
        let r = |i: usize, j: usize| {
            if i == j { 1.0 } else { (1.0 - params.shrinkage) * covariance(i, j) / deviations[i] / deviations[j] }
        };
        let y: Vec<f64> = (0..d).map(|i| (row[i] - means[i]) / deviations[i]).collect();
        let solved = solve((0..d).map(|i| (0..d).map(|j| r(i, j)).collect()).collect(), y.clone());
        deviate(y.iter().zip(solved).map(|(a, b)| a * b).sum(), d)
    }

    fn run(rows: &[Vec<f64>], params: &Mahalanobis) -> (Vec<f64>, Vec<Vec<f64>>) {
        let columns: Vec<Vec<f64>> = (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let (mut cells, mut scores) = ([CovarianceCell::default()], vec![9.0; rows.len()]);
        let mut parts = vec![vec![9.0; rows.len()]; columns.len()];
        mahalanobis(&mut cells, &vec![0; rows.len()], &columns, params, &mut scores, None, Some(&mut parts));
        (scores, parts)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_mean_and_covariance_made_anew(
            d in 1..5_usize, values in prop::collection::vec(-5.0..5.0_f64, 60..200), alpha in 0.01..0.3_f64, shrinkage in 0.02..1.0_f64,
        ) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(d).map(<[f64]>::to_vec).collect();
            let params = Mahalanobis { alpha, shrinkage, warmup: 8 };
            let (scores, parts) = run(&rows, &params);
            for row in 8..rows.len() {
                let expected = slow(&rows[..=row], &params);
                prop_assert!((scores[row] - expected).abs() < 1e-6 * expected.max(1.0), "{} is not {expected}", scores[row]);
                let sum: f64 = parts.iter().map(|parts| parts[row].abs()).sum();
                prop_assert!((sum - scores[row]).abs() < 1e-9);
            }
        }

        #[test]
        fn a_cell_as_it_stands_scores_the_next_row_as_if_it_were_taken_in(
            d in 1..5_usize, values in prop::collection::vec(-5.0..5.0_f64, 30..90), warmup in 0..9_u64,
        ) {
            let params = Mahalanobis { alpha: 0.1, shrinkage: 0.1, warmup };
            let columns: Vec<Vec<f64>> = (0..d).map(|at| values.iter().skip(at).step_by(d).take(30 / d).copied().collect()).collect();
            for known in [0, 1, 4, 30 / d - 1] {
                let part = |from: usize, to: usize| columns.iter().map(|column| &column[from..to]).collect::<Vec<_>>();
                let (mut cells, mut scores, mut next) = ([CovarianceCell::default()], vec![9.0; known], [9.0]);
                mahalanobis(&mut cells, &vec![0; known], &part(0, known), &params, &mut scores, None, None);
                mahalanobis_scores(&cells[0], &part(known, known + 1), &params, &mut next);
                let mut expected = [9.0];
                mahalanobis(&mut cells, &[0], &part(known, known + 1), &params, &mut expected, None, None);
                prop_assert_eq!(next, expected);
            }
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on(
            values in prop::collection::vec(prop_oneof![prop::sample::select(crate::testing::FLOATS), any::<f64>(), Just(3.0)], 3..120),
        ) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(3).map(<[f64]>::to_vec).collect();
            let (scores, _) = run(&rows, &Mahalanobis { alpha: 0.1, shrinkage: 0.05, warmup: 0 });
            for (row, score) in rows.iter().zip(scores) {
                prop_assert_eq!(score.is_nan(), !row.iter().all(|value| value.is_finite()));
                prop_assert!(score.is_nan() || (0.0..1e12).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn a_row_that_breaks_the_correlation_is_strange_though_each_column_is_usual() {
        let normal = |n: u64| (0..12).map(|k| (scramble(n * 12 + k) >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0;
        let mut rows: Vec<Vec<f64>> = (0..20_000).map(|n| vec![normal(n), normal(n) + 0.1 * normal(n + 50_000)]).collect();
        rows[15_000] = vec![1.5, -1.5];
        let (scores, parts) = run(&rows, &Mahalanobis { alpha: 0.002, shrinkage: 1e-6, warmup: 100 });
        assert!(scores[15_000] > 6.0, "{}", scores[15_000]);
        assert!(parts[0][15_000] > 0.0 && parts[1][15_000] < 0.0);
        // As rare as normal deviates are: one side, as half of all rows score 0.
        let beyond = scores[2_000..].iter().filter(|score| **score > 2.326).count() as f64 / 18_000.0;
        assert!((0.004..0.02).contains(&beyond), "{beyond}");
    }
}
