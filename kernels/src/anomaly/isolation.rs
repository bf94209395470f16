//! Isolation: by how few random cuts, each across a random projection, a row is parted from rows of the window before it.
//!
//! F. T. Liu, K. M. Ting and Z.-H. Zhou, "Isolation forest", ICDM 2008, with cuts across random projections in place of single columns (S. Hariri, M. Carrasco
//! Kind and R. J. Brunner, "Extended isolation forest", TKDE 33(4), 2021), each drawn between the extremes of the projected rows (J. Lesouple, C. Baudoin,
//! M. Spigai and J.-Y. Tourneret, "Generalized isolation forest for anomaly detection", Pattern Recognition Letters 149, 2021); of windows as in Z. Ding and M. Fei,
//! "An anomaly detection approach based on isolation forest algorithm for streaming data using sliding window", 2013:
//!
//! ```text
//! z     = (x - mean) / deviation, by column, of the window before        deviation at least a billionth of the mean
//! y     = w' z, w normal, drawn for each cut;   a cut lies uniformly between the least and the greatest y of the rows that it parts
//! h     = cuts to the leaf of the row + c(rows in the leaf)              leaves: one row, or equal rows, or log2 of the sample deep
//! c(n)  = 2 (1 + 1/2 + … + 1/(n-1)) - 2 (n-1) / n
//! score = 2^(-mean of h / c(sample))                                     over trees, each of a sample of the window
//! ```
//!
//! So 1 is parted at once, and what lies among others scores a half or less.
//!
//! * *Warm-up*: rows of the first window score 0.
//! * *Missing values*: a row in which a column has none, or NaN or an infinity, scores NaN and counts in no window.
//! * *Drift*: a new level is strange until the end of the first window that it fills.
//!
//! State a key: 16 bytes per value of a window; of each tree up to `sample_size` cuts of 16 bytes and 4 for each column. Cost: trees · log2(sample) · columns
//! steps a row, and a quarter of that for the trees. Scores are the same bits whatever the batches; the code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::forest::{Random, rows_by_slot};
use crate::anomaly::loda::normal;
use crate::anomaly::stepwise::{LEAST_FLOOR, MOST, RELATIVE_FLOOR, Running};

/// Most deviations that a value counts as.
const MOST_DEVIATIONS: f64 = 1e9;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IsolationForest {
    /// Trees: at least 1.
    pub number_of_trees: u32,
    /// Rows that a tree is made of: at least 2, at most the window.
    pub sample_size: u32,
    /// Rows of a window.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl IsolationForest {
    /// Most cuts to a leaf.
    fn most_depth(&self) -> u32 {
        self.sample_size.next_power_of_two().ilog2()
    }

    /// The weights of a cut, and where between the extremes it lies. Cuts of a tree are numbered from 1 at its root, those below n are 2n and 2n + 1.
    fn drawn(&self, tree: u32, number: u32, columns: usize) -> (Vec<f32>, f64) {
        let mut random = Random::of(self.seed, u64::from(tree) << 32 | u64::from(number));
        let weights = (0..columns).map(|_| normal(&mut random) as f32).collect();
        (weights, random.unit())
    }

    /// The rows of the window that a tree is made of.
    fn sample(&self, tree: u32) -> Vec<u32> {
        let mut random = Random::of(self.seed, u64::from(tree) << 32);
        let mut rows: Vec<u32> = (0..self.window_size).collect();
        for at in 0..self.sample_size {
            rows.swap(at as usize, (at + (random.word() % u64::from(self.window_size - at)) as u32) as usize);
        }
        rows.truncate(self.sample_size as usize);
        rows
    }
}

/// Mean number of cuts to a row in a tree of `rows`: that of unsuccessful searches in binary search trees.
fn usual_depth(rows: usize) -> f64 {
    let harmonic: f64 = (1..rows).map(|n| 1.0 / n as f64).sum();
    if rows < 2 { 0.0 } else { 2.0 * harmonic - 2.0 * (rows - 1) as f64 / rows as f64 }
}

fn project(weights: &[f32], z: &[f64]) -> f64 {
    weights.iter().zip(z).map(|(weight, z)| f64::from(*weight) * z).sum()
}

/// A cut, or a leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    /// Where the cut is; of a leaf how deep its rows are.
    number: f64,
    /// The part below the cut, the one above being next; 0 for a leaf.
    below: u32,
    /// Where the weights begin.
    weights: u32,
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IsolationCell {
    /// Rows since the latest whole window, row by row.
    current: Vec<f64>,
    /// Rows of the latest whole window; none before there is one.
    reference: Vec<f64>,
    /// Mean and deviation of the reference, by column.
    scales: Vec<(f64, f64)>,
    /// The parts of all trees, where each tree begins, and the weights of all cuts.
    parts: Vec<Part>,
    roots: Vec<u32>,
    weights: Vec<f32>,
}

impl IsolationCell {
    /// Rows since the latest whole window, and those of that window, row by row.
    pub fn rows(&self) -> (&[f64], &[f64]) {
        (&self.current, &self.reference)
    }

    /// What came of these rows, see [`IsolationCell::rows`].
    pub fn restored(current: &[f64], reference: &[f64], columns: usize, params: &IsolationForest) -> Option<IsolationCell> {
        let window = params.window_size as usize * columns;
        let fits = current.len() < window && current.len().is_multiple_of(columns) && (reference.is_empty() || reference.len() == window);
        if !fits || !current.iter().chain(reference).all(|value| value.abs() <= MOST) {
            return None;
        }
        let mut cell = IsolationCell { current: current.to_vec(), reference: reference.to_vec(), ..IsolationCell::default() };
        if !reference.is_empty() {
            cell.grow(columns, params);
        }
        Some(cell)
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.current.capacity() + self.reference.capacity()) * size_of::<f64>()
            + self.scales.capacity() * size_of::<(f64, f64)>()
            + self.parts.capacity() * size_of::<Part>()
            + (self.roots.capacity() + self.weights.capacity()) * size_of::<u32>()
    }

    /// A row in deviations from the reference's means.
    fn scaled(&self, row: &[f64], z: &mut Vec<f64>) {
        let scaled =
            |(value, (mean, deviation)): (&f64, &(f64, f64))| ((value - mean) / deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS);
        z.extend(row.iter().zip(&self.scales).map(scaled));
    }

    /// Makes the trees of the reference window.
    fn grow(&mut self, columns: usize, params: &IsolationForest) {
        let scale = |column: usize| {
            let mut moments = Running::default();
            self.reference.iter().skip(column).step_by(columns).for_each(|value| moments.add(*value));
            (moments.mean, moments.deviation().max(RELATIVE_FLOOR * moments.mean.abs()).max(LEAST_FLOOR.sqrt()))
        };
        self.scales = (0..columns).map(scale).collect();
        let mut places = Vec::with_capacity(self.reference.len());
        self.reference.chunks(columns).for_each(|row| self.scaled(row, &mut places));
        self.parts.clear();
        self.roots.clear();
        self.weights.clear();
        for tree in 0..params.number_of_trees {
            self.roots.push(self.parts.len() as u32);
            self.parts.push(Part { number: 0.0, below: 0, weights: 0 });
            let at = self.parts.len() - 1;
            let mut growing = Growing { parts: &mut self.parts, weights: &mut self.weights, places: &places, columns, tree, params };
            growing.cut(at, 1, 0, &mut params.sample(tree));
        }
        self.parts.shrink_to_fit();
        self.weights.shrink_to_fit();
    }

    /// How strange a row is, in deviations, by the trees as they are.
    fn score(&self, z: &[f64], params: &IsolationForest) -> f64 {
        if self.roots.is_empty() {
            return 0.0;
        }
        let depth = |root: &u32| {
            let mut part = self.parts[*root as usize];
            while part.below != 0 {
                let weights = &self.weights[part.weights as usize..][..z.len()];
                let above = project(weights, z) >= part.number;
                part = self.parts[part.below as usize + usize::from(above)];
            }
            part.number
        };
        let mean = self.roots.iter().map(depth).sum::<f64>() / self.roots.len() as f64;
        (-mean / usual_depth(params.sample_size as usize)).exp2()
    }

    /// Takes a row in; at the end of a window that is the reference.
    fn take(&mut self, row: &[f64], params: &IsolationForest) {
        self.current.extend_from_slice(row);
        if self.current.len() == params.window_size as usize * row.len() {
            std::mem::swap(&mut self.current, &mut self.reference);
            self.current.clear();
            self.grow(row.len(), params);
        }
    }
}

/// One tree while it is made.
struct Growing<'a> {
    parts: &'a mut Vec<Part>,
    weights: &'a mut Vec<f32>,
    places: &'a [f64],
    columns: usize,
    tree: u32,
    params: &'a IsolationForest,
}

impl Growing<'_> {
    /// Cuts the part at `at`, of this number and depth, in which these rows lie, until each is alone.
    fn cut(&mut self, at: usize, number: u32, depth: u32, rows: &mut [u32]) {
        let leaf = Part { number: f64::from(depth) + usual_depth(rows.len()), below: 0, weights: 0 };
        if rows.len() < 2 || depth == self.params.most_depth() {
            self.parts[at] = leaf;
            return;
        }
        let (weights, share) = self.params.drawn(self.tree, number, self.columns);
        let place = |row: u32| project(&weights, &self.places[row as usize * self.columns..][..self.columns]);
        let places = rows.iter().map(|row| place(*row));
        let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        if low >= high {
            self.parts[at] = leaf;
            return;
        }
        let cut = low + share * (high - low);
        let mut below = 0;
        for row in 0..rows.len() {
            if place(rows[row]) < cut {
                rows.swap(below, row);
                below += 1;
            }
        }
        let (lower, upper) = rows.split_at_mut(below);
        let halves = self.parts.len();
        self.parts[at] = Part { number: cut, below: halves as u32, weights: self.weights.len() as u32 };
        self.weights.extend_from_slice(&weights);
        self.parts.extend([leaf; 2]);
        self.cut(halves, 2 * number, depth + 1, lower);
        self.cut(halves + 1, 2 * number + 1, depth + 1, upper);
    }
}

/// Scores each row and takes it into its key's windows. `columns` are what is watched together.
///
/// # Panics
/// If columns differ in length or there is none, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn isolation_forest(cells: &mut [IsolationCell], slots: &[u32], columns: &[&[f64]], params: &IsolationForest, scores: &mut [f64]) {
    let in_range = params.number_of_trees >= 1 && params.sample_size >= 2 && params.window_size >= params.sample_size;
    assert!(in_range && !columns.is_empty(), "out of range, or no column: {params:?}");
    check_lengths("slots and scores", slots.len(), scores.len());
    scores.fill(f64::NAN);
    let (mut values, mut z) = (Vec::new(), Vec::new());
    for row in rows_by_slot(slots, columns, None) {
        let row = row as usize;
        let cell = &mut cells[slots[row] as usize];
        values.clear();
        values.extend(columns.iter().map(|column| column[row].clamp(-MOST, MOST)));
        z.clear();
        cell.scaled(&values, &mut z);
        scores[row] = cell.score(&z, params);
        cell.take(&values, params);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{IsolationCell, IsolationForest, isolation_forest, project, usual_depth};
    use crate::testing::{FLOATS, scramble};

    const PARAMS: IsolationForest = IsolationForest { number_of_trees: 7, sample_size: 10, window_size: 15, seed: 3 };

    fn run(rows: &[Vec<f64>], params: &IsolationForest) -> Vec<f64> {
        let columns: Vec<Vec<f64>> = (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let (mut cells, mut scores) = ([IsolationCell::default()], vec![9.0; rows.len()]);
        isolation_forest(&mut cells, &vec![0; rows.len()], &columns, params, &mut scores);
        scores
    }

    /// How deep a row lies: cuts the rows that are still with it.
    fn slow_depth(rows: &[Vec<f64>], row: &[f64], tree: u32, number: u32, depth: u32, params: &IsolationForest) -> f64 {
        let (weights, share) = params.drawn(tree, number, row.len());
        let places: Vec<f64> = rows.iter().map(|row| project(&weights, row)).collect();
        let (low, high) = (places.iter().copied().fold(f64::MAX, f64::min), places.iter().copied().fold(f64::MIN, f64::max));
        if rows.len() < 2 || depth == 4 || low >= high {
            return f64::from(depth) + usual_depth(rows.len());
        }
        let cut = low + share * (high - low);
        let above = project(&weights, row) >= cut;
        let with: Vec<Vec<f64>> = rows.iter().zip(places).filter(|(_, y)| (*y >= cut) == above).map(|(row, _)| row.clone()).collect();
        slow_depth(&with, row, tree, 2 * number + u32::from(above), depth + 1, params)
    }

    fn slow(window: &[Vec<f64>], row: &[f64], params: &IsolationForest) -> f64 {
        let scale = |column: usize| {
            let mean = window.iter().map(|row| row[column]).sum::<f64>() / window.len() as f64;
            (mean, (window.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / window.len() as f64).sqrt())
        };
        let scales: Vec<(f64, f64)> = (0..row.len()).map(scale).collect();
        let scaled =
            |row: &[f64]| row.iter().zip(&scales).map(|(value, (mean, deviation))| (value - mean) / deviation).collect::<Vec<f64>>();
        let depth = |tree: u32| {
            let rows: Vec<Vec<f64>> = params.sample(tree).into_iter().map(|row| scaled(&window[row as usize])).collect();
            slow_depth(&rows, &scaled(row), tree, 1, 0, params)
        };
        let mean = (0..params.number_of_trees).map(depth).sum::<f64>() / f64::from(params.number_of_trees);
        2.0_f64.powf(-mean / usual_depth(params.sample_size as usize))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_the_window_before_cut_anew(d in 1..5_usize, values in prop::collection::vec(-5.0..5.0_f64, 80..300)) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(d).map(<[f64]>::to_vec).collect();
            for (row, score) in run(&rows, &PARAMS).iter().enumerate() {
                let whole = row / 15 * 15;
                let right = if whole == 0 { 0.0 } else { slow(&rows[whole - 15..whole], &rows[row], &PARAMS) };
                prop_assert!((score - right).abs() < 1e-9, "row {row}: {score} is not {right}");
            }
        }

        #[test]
        fn whatever_the_values_scores_are_from_0_to_1_and_go_on_from_a_snapshot(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 3..240), cut in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(3).map(<[f64]>::to_vec).collect();
            let columns: Vec<Vec<f64>> = (0..3).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
            let cut = cut.index(rows.len());
            let (mut cells, mut scores) = ([IsolationCell::default()], vec![9.0; rows.len()]);
            let part = |range: std::ops::Range<usize>| columns.iter().map(|column| &column[range.clone()]).collect::<Vec<&[f64]>>();
            isolation_forest(&mut cells, &vec![0; cut], &part(0..cut), &PARAMS, &mut scores[..cut]);
            let (current, reference) = cells[0].rows();
            let mut again = [IsolationCell::restored(current, reference, 3, &PARAMS).unwrap()];
            prop_assert_eq!(&again[0], &cells[0]);
            isolation_forest(&mut again, &vec![0; rows.len() - cut], &part(cut..rows.len()), &PARAMS, &mut scores[cut..]);
            for ((row, score), right) in rows.iter().zip(&scores).zip(run(&rows, &PARAMS)) {
                prop_assert_eq!(score.is_nan(), !row.iter().all(|value| value.is_finite()));
                prop_assert!(score.is_nan() || (0.0..=1.0).contains(score) && score.to_bits() == right.to_bits(), "{score}");
            }
        }
    }

    #[test]
    fn a_row_off_the_line_is_strange_though_each_of_its_columns_is_usual() {
        let unit = |n: u64| scramble(n) as f64 / u64::MAX as f64;
        let mut rows: Vec<Vec<f64>> =
            (0..3_000).map(|n| (unit(2 * n), unit(2 * n + 1))).map(|(x, noise)| vec![x, x + noise / 20.0]).collect();
        rows[2_500] = vec![0.75, 0.3];
        let scores = run(&rows, &IsolationForest { number_of_trees: 100, sample_size: 128, window_size: 512, seed: 42 });
        let amid = (0..3_000).filter(|row| *row != 2_500 && (0.2..0.8).contains(&rows[*row][0]));
        let usual = amid.map(|row| scores[row]).fold(0.0, f64::max);
        assert!(scores[2_500] > 0.6 && scores[2_500] > usual, "{} is not above {usual}", scores[2_500]);
    }

    #[test]
    fn depths_are_those_of_binary_search_trees() {
        assert_eq!((usual_depth(1), usual_depth(2)), (0.0, 1.0));
        assert!((usual_depth(256) - 10.245).abs() < 0.01, "{}", usual_depth(256));
    }
}
