//! Half-Space Trees: how thinly the points of late lie where a point lies.
//!
//! S. C. Tan, K. M. Ting and T. F. Liu, "Fast anomaly detection for streaming data", IJCAI 2011. Each tree halves a box, larger than the data,
//! again and again, always a side that was drawn at random beforehand, and counts the points of the reference window in each part. A row
//! goes down to the first part that has at most a tenth of the window's points, or to the greatest depth:
//!
//! ```text
//! mass  = sum over trees of points in that part · 2^depth
//! score = 1 / (1 + mass / (trees · window))          in (0, 1]; the paper's order, turned: few points, large score
//! box   = [s - 2 max(s, 1 - s), s + 2 max(s, 1 - s)] on each side, s drawn from [0, 1], where [0, 1] is the range of the reference window
//! ```
//!
//! The paper has all data in [0, 1]. Here each reference window brings its own range, so that nothing is known beforehand of the data.
//! A part is laid out only where the window has points enough to go on below it: that changes no score, and a tree of depth 15 has some
//! dozens of nodes in place of 65,535.
//!
//! * *Warm-up*: rows of the first window score 0.
//! * *Reference*: the latest whole window of a key. At its end trees are made anew, a hundred microseconds at once.
//! * *Missing values*: a row in which a column has none, or NaN or an infinity, scores NaN and counts in no window. Gaps in time go unseen.
//! * *Drift*: a new level is strange until the end of the first window that it fills.
//!
//! State a key: 16 bytes per value of a window, and 12 for each part, some 1,000 to 4,000 for 25 trees. Scores are the same bits whatever the
//! batches; the code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::forest::{Random, rows_by_slot};

/// Deepest that a tree may be.
pub const MOST_HEIGHT: u32 = 30;

/// Rows that go down a tree side by side.
const ABREAST: usize = 8;

/// Parameters of the trees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HalfSpaceTrees {
    /// Trees: at least 1.
    pub number_of_trees: u32,
    /// Halvings one after the other, from 1 to [`MOST_HEIGHT`].
    pub height: u32,
    /// Rows of a window: at least 10.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl HalfSpaceTrees {
    /// Points of a part that is not gone below.
    pub(crate) fn size_limit(&self) -> usize {
        self.window_size as usize / 10
    }

    fn tree_seed(&self, tree: u32) -> u64 {
        Random::of(self.seed, tree.into()).word()
    }

    /// The box that a tree halves, by column.
    pub(crate) fn work_range(&self, tree: u32, columns: usize) -> Vec<(f32, f32)> {
        let mut random = Random::of(self.tree_seed(tree), 0);
        let side = |_| {
            let middle = random.unit();
            let reach = 2.0 * middle.max(1.0 - middle);
            ((middle - reach) as f32, (middle + reach) as f32)
        };
        (0..columns).map(side).collect()
    }

    /// The side that a part is halved on; parts are numbered from 1, those of part k are 2k and 2k + 1.
    pub(crate) fn side(&self, tree: u32, part: u64, columns: usize) -> usize {
        (Random::of(self.tree_seed(tree), part).word() % columns as u64) as usize
    }
}

/// A part: either halved, or with points times 2^depth.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    /// Where it is halved; of an end its mass.
    number: f32,
    side: u32,
    /// The lower half, the upper one being next; 0 for an end.
    halves: u32,
}

/// What a column's values become: the range of the reference window is [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Scale {
    low: f64,
    span: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Scale {
        let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        // A constant that changes at all lies far outside.
        Scale { low, span: (high - low).max(1e-9 * low.abs().max(high.abs())).clamp(1e-300, f64::MAX) }
    }

    #[inline(always)]
    fn place(self, value: f64) -> f32 {
        ((value - self.low) / self.span).clamp(-1e9, 1e9) as f32
    }
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HalfSpaces {
    /// Rows since the latest whole window, row by row.
    current: Vec<f64>,
    /// Rows of the latest whole window; none before there is one.
    reference: Vec<f64>,
    scales: Vec<Scale>,
    /// The parts of all trees, and where each tree begins.
    parts: Vec<Part>,
    roots: Vec<u32>,
}

impl HalfSpaces {
    /// Rows since the latest whole window, and those of that window, row by row.
    pub fn rows(&self) -> (&[f64], &[f64]) {
        (&self.current, &self.reference)
    }

    /// What came of these rows, see [`HalfSpaces::rows`].
    pub fn restored(current: &[f64], reference: &[f64], columns: usize, params: &HalfSpaceTrees) -> Option<HalfSpaces> {
        let window = params.window_size as usize * columns;
        let fits = current.len() < window && current.len().is_multiple_of(columns) && (reference.is_empty() || reference.len() == window);
        if !fits || !current.iter().chain(reference).all(|value| value.is_finite()) {
            return None;
        }
        let mut spaces = HalfSpaces { current: current.to_vec(), reference: reference.to_vec(), ..HalfSpaces::default() };
        if !reference.is_empty() {
            spaces.halve(columns, params);
        }
        Some(spaces)
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.current.capacity() + self.reference.capacity()) * size_of::<f64>()
            + self.scales.capacity() * size_of::<Scale>()
            + self.parts.capacity() * size_of::<Part>()
            + self.roots.capacity() * size_of::<u32>()
    }

    /// Makes the trees of the reference window.
    fn halve(&mut self, columns: usize, params: &HalfSpaceTrees) {
        let column = |column: usize| self.reference.iter().skip(column).step_by(columns).copied();
        self.scales = (0..columns).map(|at| Scale::of(column(at))).collect();
        let places: Vec<f32> = self.reference.iter().zip(self.scales.iter().cycle()).map(|(value, scale)| scale.place(*value)).collect();
        self.parts.clear();
        self.roots.clear();
        for tree in 0..params.number_of_trees {
            self.roots.push(self.parts.len() as u32);
            let mut rows: Vec<u32> = (0..params.window_size).collect();
            self.parts.push(Part { number: 0.0, side: 0, halves: 0 });
            let at = self.parts.len() - 1;
            let mut halving = Halving { parts: &mut self.parts, places: &places, range: params.work_range(tree, columns), tree, params };
            halving.halve(at, 1, 0, &mut rows);
        }
        self.parts.shrink_to_fit();
    }

    /// Scores rows of which each has `columns` values, by the trees as they are.
    fn score(&self, rows: &[f64], columns: usize, params: &HalfSpaceTrees, scores: &mut [f64]) {
        scores.fill(0.0);
        if self.roots.is_empty() {
            return;
        }
        let places: Vec<f32> = rows.iter().zip(self.scales.iter().cycle()).map(|(value, scale)| scale.place(*value)).collect();
        for &root in &self.roots {
            for (places, scores) in places.chunks(ABREAST * columns).zip(scores.chunks_mut(ABREAST)) {
                let ends = self.ends(root, places, columns);
                scores.iter_mut().zip(ends).for_each(|(score, end)| *score += f64::from(self.parts[end as usize].number));
            }
        }
        let whole = f64::from(params.number_of_trees) * f64::from(params.window_size);
        scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + *score / whole));
    }

    /// The ends that up to [`ABREAST`] rows come to in a tree. They go side by side, so that the processor need not wait for one of them.
    #[inline]
    fn ends(&self, root: u32, places: &[f32], columns: usize) -> [u32; ABREAST] {
        let (mut at, count) = ([root; ABREAST], places.len() / columns);
        loop {
            let mut halved = false;
            for (lane, at) in at[..count].iter_mut().enumerate() {
                let part = self.parts[*at as usize];
                let next = part.halves + u32::from(places[lane * columns + part.side as usize] >= part.number);
                *at = if part.halves != 0 { next } else { *at };
                halved |= part.halves != 0;
            }
            if !halved {
                return at;
            }
        }
    }

    /// Scores rows and takes them in, window by window.
    fn take(&mut self, mut rows: &[f64], columns: usize, params: &HalfSpaceTrees, mut scores: &mut [f64]) {
        let window = params.window_size as usize * columns;
        while !rows.is_empty() {
            let count = rows.len().min(window - self.current.len());
            let (first, rest) = rows.split_at(count);
            let (own, later) = scores.split_at_mut(count / columns);
            self.score(first, columns, params, own);
            self.current.extend_from_slice(first);
            if self.current.len() == window {
                std::mem::swap(&mut self.current, &mut self.reference);
                self.current.clear();
                self.halve(columns, params);
            }
            (rows, scores) = (rest, later);
        }
    }
}

/// One tree while it is made.
struct Halving<'a> {
    parts: &'a mut Vec<Part>,
    places: &'a [f32],
    range: Vec<(f32, f32)>,
    tree: u32,
    params: &'a HalfSpaceTrees,
}

impl Halving<'_> {
    /// Halves the part at `at`, of this number and depth, in which these rows lie, until few are left.
    fn halve(&mut self, at: usize, part: u64, depth: u32, rows: &mut [u32]) {
        if rows.len() <= self.params.size_limit() || depth == self.params.height {
            self.parts[at].number = rows.len() as f32 * (1u64 << depth) as f32;
            return;
        }
        let columns = self.range.len();
        let side = self.params.side(self.tree, part, columns);
        let (low, high) = self.range[side];
        let middle = (low + high) / 2.0;
        let place = |row: u32| self.places[row as usize * columns + side];
        // The window's own places are within [0, 1], so that cuts outside need not look at them.
        let mut lower = if middle > 1.0 { rows.len() } else { 0 };
        if middle > 0.0 && middle <= 1.0 {
            for at in 0..rows.len() {
                // The swap is always done and kept only where it counts: there is no telling which side a row is on.
                rows.swap(lower, at);
                lower += usize::from(place(rows[lower]) < middle);
            }
        }
        let (below, above) = rows.split_at_mut(lower);
        let halves = self.parts.len();
        self.parts[at] = Part { number: middle, side: side as u32, halves: halves as u32 };
        self.parts.extend([Part { number: 0.0, side: 0, halves: 0 }; 2]);
        self.range[side] = (low, middle);
        self.halve(halves, 2 * part, depth + 1, below);
        self.range[side] = (middle, high);
        self.halve(halves + 1, 2 * part + 1, depth + 1, above);
        self.range[side] = (low, high);
    }
}

/// Scores each row and takes it into its key's windows. `columns` are what is watched together.
///
/// # Panics
/// If the columns differ in length, there is none, a slot is not below `spaces.len()`, or a parameter is out of range.
pub fn half_space_trees(spaces: &mut [HalfSpaces], slots: &[u32], columns: &[&[f64]], params: &HalfSpaceTrees, scores: &mut [f64]) {
    let in_range = params.number_of_trees > 0 && (1..=MOST_HEIGHT).contains(&params.height) && params.window_size >= 10;
    assert!(in_range && !columns.is_empty(), "parameters out of range, or no column: {params:?}");
    check_lengths("slots and scores", slots.len(), scores.len());
    scores.fill(f64::NAN);
    let rows = rows_by_slot(slots, columns, None);
    for rows in rows.chunk_by(|a, b| slots[*a as usize] == slots[*b as usize]) {
        let spaces = &mut spaces[slots[rows[0] as usize] as usize];
        let values: Vec<f64> = rows.iter().flat_map(|&row| columns.iter().map(move |column| column[row as usize])).collect();
        let mut own = vec![0.0; rows.len()];
        spaces.take(&values, columns.len(), params, &mut own);
        rows.iter().zip(own).for_each(|(&row, own)| scores[row as usize] = own);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{HalfSpaceTrees, HalfSpaces, Scale, half_space_trees};

    /// The trees of the paper, every part of every depth laid out.
    fn slow_scores(rows: &[Vec<f64>], params: &HalfSpaceTrees) -> Vec<f64> {
        let (columns, window) = (rows[0].len(), params.window_size as usize);
        let mut scores = vec![0.0; rows.len()];
        for (number, row) in rows.iter().enumerate().skip(window) {
            let reference = &rows[(number / window - 1) * window..][..window];
            let scales: Vec<Scale> = (0..columns).map(|at| Scale::of(reference.iter().map(move |row| row[at]))).collect();
            let way = |tree: u32, row: &Vec<f64>| {
                let (mut part, mut range, mut way) = (1, params.work_range(tree, columns), vec![1]);
                for _ in 0..params.height {
                    let side = params.side(tree, part, columns);
                    let (low, high) = range[side];
                    let middle = (low + high) / 2.0;
                    let above = scales[side].place(row[side]) >= middle;
                    range[side] = if above { (middle, high) } else { (low, middle) };
                    part = 2 * part + u64::from(above);
                    way.push(part);
                }
                way
            };
            let mass = |tree: u32| {
                let (own, others) = (way(tree, row), reference.iter().map(|row| way(tree, row)).collect::<Vec<_>>());
                let points = |depth: usize| others.iter().filter(|other| other[depth] == own[depth]).count();
                let ends = |depth: &usize| points(*depth) <= window / 10 || *depth == params.height as usize;
                let depth = (0..own.len()).find(ends).unwrap();
                points(depth) as f64 * 2f64.powi(depth as i32)
            };
            let mass: f64 = (0..params.number_of_trees).map(mass).sum();
            scores[number] = 1.0 / (1.0 + mass / (f64::from(params.number_of_trees) * window as f64));
        }
        scores
    }

    fn run(rows: &[Vec<f64>], params: &HalfSpaceTrees, batch: usize) -> (Vec<f64>, [HalfSpaces; 1]) {
        let (mut spaces, mut scores) = ([HalfSpaces::default()], vec![9.0; rows.len()]);
        for (rows, scores) in rows.chunks(batch).zip(scores.chunks_mut(batch)) {
            let columns: Vec<Vec<f64>> = (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
            let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
            half_space_trees(&mut spaces, &vec![0; rows.len()], &columns, params, scores);
        }
        (scores, spaces)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_the_papers_and_rows_make_the_trees_again(
            columns in 1..4_usize, seed in any::<u64>(), height in 1..8_u32, batch in 1..70_usize, values in
            prop::collection::vec(prop_oneof![6 => -3.0..3.0_f64, 1 => Just(0.0), 1 => -1e9..1e9_f64], 3..360),
        ) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(columns).map(<[f64]>::to_vec).collect();
            let params = HalfSpaceTrees { number_of_trees: 4, height, window_size: 20, seed };
            let (scores, spaces) = run(&rows, &params, batch);
            for (score, expected) in scores.iter().zip(slow_scores(&rows, &params)) {
                prop_assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
            }
            let (current, reference) = spaces[0].rows();
            prop_assert!(HalfSpaces::restored(current, reference, columns, &params).unwrap() == spaces[0]);
            prop_assert!(HalfSpaces::restored(&[0.0; 60], reference, columns, &params).is_none());
        }
    }

    #[test]
    fn what_lies_apart_scores_high_and_a_hole_scores_nothing() {
        let mut rows: Vec<Vec<f64>> = (0..2_000).map(|n| vec![(f64::from(n) / 9.0).sin(), 1e6 + (f64::from(n) / 7.0).cos()]).collect();
        rows[1_500][1] = 1e6 + 9.0;
        rows[1_600][0] = f64::NAN;
        let params = HalfSpaceTrees { number_of_trees: 25, height: 15, window_size: 250, seed: 1 };
        let (scores, _) = run(&rows, &params, 333);
        assert!(scores[..250].iter().all(|score| *score == 0.0));
        assert!(scores[1_600].is_nan());
        let usual = scores.iter().enumerate().filter(|(row, _)| *row != 1_500).map(|(_, score)| *score).fold(0.0, f64::max);
        assert!(scores[1_500] > 1.1 * usual, "{} {usual}", scores[1_500]);
    }
}
