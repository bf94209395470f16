//! Random Cut Forest: how soon random cuts part a point from the points of late.
//!
//! S. Guha, N. Mishra, G. Roy and O. Schrijvers, "Robust random cut forest based anomaly detection on streams", ICML 2016; with the
//! parameters and the score of AWS's implementation (`random-cut-forest-by-aws`, which Kinesis Data Analytics ran). A point is what the
//! columns show in the latest [`shingle_size`](RandomCutForest::shingle_size) rows of a key. Each tree keeps a random sample of the key's
//! points, the latest the likelier, and cuts it: a cut's dimension is drawn in proportion to the sides of the box around the points, its place
//! uniformly on that side; so on until points are alone. A point that lies outside is parted early. Its score in one tree of `m` points is
//! the expectation of 1 / (depth + 1) of the leaf that it would get, over all cuts that could be made for it:
//!
//! ```text
//! S(leaf)  = 1 / (depth + 1)                                        the leaf that the cuts lead to, another point
//!            (1 - mass / 2m) / (depth + log2(mass + 1))             one of `mass` equal points
//! S(node)  = p / (depth + 1) + (1 - p) S(child),     p = outside / (outside + sides)
//! score    = mean over trees of S(root) · log2(m + 1)               about 1 where all is well, more where a point is strange
//! ```
//!
//! `outside` is how far the point lies outside the node's box, summed over its sides; `sides` the sum of the box's sides.
//!
//! * *Attribution*: each p is the sum of the shares of the columns, the score so too; a column's share is signed: above 0 if its values
//!   lie rather above the box, below 0 if below. Magnitudes add up to the score. The share of a point that the tree has is told by its
//!   sibling's box.
//! * *Sample*: a point's chance falls by `e^(-time_decay)` with each point after it, as in weighted reservoirs; which point a tree takes next
//!   is drawn beforehand, so that rows in between are scored together.
//! * *Warm-up*: a key's first rows, until there are `output_after` points, score 0.
//! * *Missing values*: a row in which a column has none, or NaN or an infinity, scores NaN and takes no place in the shingle. Rows count, not
//!   time: a gap goes unseen.
//! * *Drift*: followed as the sample ages, after some `1 / time_decay` rows.
//! * *Numbers*: values are kept as `f32` of their distance from the key's first, at most 1e30 away: where two values differ by less than
//!   2⁻²⁴ of that distance they may be told apart no more. Columns of one unit weigh by their spread: scale columns of different units first.
//!
//! Scores depend on the key's rows, the parameters and the seed alone, and are the same bits whatever the batches or backend.
//! State a key, with 50 trees of 256 points: 0.6 MB for one dimension, 1.7 MB for eight; a dimension is a column of a row of the shingle.

mod frozen;
mod image;
mod random;
mod sampler;
mod score;
pub mod threshold;
mod tree;

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};
#[cfg(feature = "gpu")]
pub(crate) use frozen::Ahead;
pub(crate) use frozen::Frozen;
pub use frozen::forest_scores;
pub(crate) use random::Random;
use sampler::{Kept, Sampler};
pub(crate) use score::{Scorer, blend, seen, unseen};
pub(crate) use tree::{LEAF, NONE, Tree, excess, range};

/// Farthest that a value is taken to lie from the key's first.
const FARTHEST: f64 = 1e30;

/// Largest sample of a tree.
pub const MOST_SAMPLES: u32 = 1 << 14;

/// Most dimensions of a point.
pub const MOST_DIMENSIONS: usize = 1 << 10;

/// Parameters of the forest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomCutForest {
    /// Trees: at least 1.
    pub number_of_trees: u32,
    /// Points that a tree keeps, from 2 to [`MOST_SAMPLES`].
    pub sample_size: u32,
    /// How fast the chance of a point to be kept falls with each later one: at least 0, at most 1; 0 keeps all points as likely.
    pub time_decay: f64,
    /// Rows of a point: at least 1.
    pub shingle_size: u32,
    /// Points of a key that score 0 because too little is known of it.
    pub output_after: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl RandomCutForest {
    fn check(&self, columns: usize) {
        let dimensions = columns * self.shingle_size as usize;
        assert!(
            self.number_of_trees > 0 && (2..=MOST_SAMPLES).contains(&self.sample_size) && (0.0..=1.0).contains(&self.time_decay),
            "parameters out of range: {self:?}"
        );
        assert!((1..=MOST_DIMENSIONS).contains(&dimensions), "from 1 to {MOST_DIMENSIONS} dimensions, not {dimensions}");
    }

    fn sample(&self) -> usize {
        self.sample_size as usize
    }

    /// What the score of a tree of so many points is multiplied by.
    #[inline(always)]
    pub(crate) fn factor(&self, mass: usize) -> f64 {
        ((mass + 1) as f64).log2() / f64::from(self.number_of_trees)
    }
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Points that ever came.
    count: u64,
    /// The first value of each column.
    base: Vec<f64>,
    /// Dimensions of a point, which stay as they are: the trees are laid out for them.
    dimensions: usize,
    /// The latest rows, one less than make a point, as distances from the base.
    recent: Vec<f32>,
    trees: Vec<Tree>,
}

/// The lanes that a point of so many dimensions is cut into.
pub(crate) fn width(dimensions: usize) -> usize {
    match dimensions {
        1 => 1,
        2 => 2,
        3..=4 => 4,
        _ => 8,
    }
}

/// Points of one key in the order of its rows: `stride` floats each, of which the first are its dimensions and the others 0.
pub(crate) struct Points {
    pub stride: usize,
    pub dimensions: usize,
    /// By column and row.
    pub values: Vec<f32>,
}

impl Forest {
    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.base.capacity() * size_of::<f64>()
            + self.recent.capacity() * size_of::<f32>()
            + self.trees.capacity() * size_of::<Tree>()
            + self.trees.iter().map(Tree::bytes).sum::<usize>()
    }

    /// All but the trees, which it gives by themselves.
    #[cfg(feature = "gpu")]
    pub(crate) fn parts(&self) -> (Forest, &[Tree]) {
        let Forest { count, dimensions, .. } = *self;
        (Forest { count, dimensions, base: self.base.clone(), recent: self.recent.clone(), trees: Vec::new() }, &self.trees)
    }

    /// Floats of a point, those that fill it up included.
    #[cfg(feature = "gpu")]
    pub(crate) fn stride(&self) -> usize {
        self.dimensions.next_multiple_of(width(self.dimensions))
    }

    fn begin(&mut self, columns: &[&[f64]], row: usize, params: &RandomCutForest) {
        self.base = columns.iter().map(|column| column[row]).collect();
        self.dimensions = columns.len() * params.shingle_size as usize;
        self.trees = (0..params.number_of_trees).map(|number| Tree::new(Random::of(params.seed, number.into()))).collect();
    }

    /// The points that rows end, which all have values; there are fewer points than rows as long as there are too few rows.
    fn points(&mut self, columns: &[&[f64]], rows: &[u32], params: &RandomCutForest) -> Points {
        if let (true, Some(&first)) = (self.trees.is_empty(), rows.first()) {
            self.begin(columns, first as usize, params);
        }
        let mut recent = std::mem::take(&mut self.recent);
        let points = self.shingled(&mut recent, columns, rows, params);
        self.recent = recent;
        points
    }

    /// The points that rows end which follow `recent` ones; of these, what the next rows need is left.
    fn shingled(&self, recent: &mut Vec<f32>, columns: &[&[f64]], rows: &[u32], params: &RandomCutForest) -> Points {
        let (width_of_row, rows_of_point) = (columns.len(), params.shingle_size as usize);
        let dimensions = width_of_row * rows_of_point;
        let known = self.dimensions;
        assert!(rows.is_empty() || dimensions == known, "a forest of {known} dimensions is given points of {dimensions}");
        let stride = dimensions.next_multiple_of(width(dimensions));
        let distance = |row: u32, (column, base): (&&[f64], &f64)| (column[row as usize] - base).clamp(-FARTHEST, FARTHEST) as f32;
        let base = &self.base;
        recent.extend(rows.iter().flat_map(|&row| columns.iter().zip(base).map(move |both| distance(row, both))));
        let count = (recent.len() / width_of_row + 1).saturating_sub(rows_of_point);
        let mut values = vec![0.0; count * stride];
        for (at, point) in values.chunks_mut(stride).enumerate() {
            point[..dimensions].copy_from_slice(&recent[at * width_of_row..][..dimensions]);
        }
        let kept = (rows_of_point - 1) * width_of_row;
        let gone = recent.len().saturating_sub(kept);
        recent.drain(..gone);
        Points { stride, dimensions, values }
    }
}

/// What the rows of one key get: scores, and how far each dimension has part in them, above and below, if that is asked for.
pub(crate) struct Answers {
    pub scores: Vec<f64>,
    /// By point the parts above, by dimension, then those below.
    pub parts: Option<Vec<f64>>,
}

/// The points of one key that are to be scored and taken in.
pub(crate) struct Batch<'a> {
    forest: &'a mut Forest,
    points: &'a Points,
    params: &'a RandomCutForest,
    answers: &'a mut Answers,
}

impl Batch<'_> {
    /// Scores all points by each tree and lets the tree take those that it is to have, tree by tree.
    #[inline(always)]
    pub fn run(self, scorer: impl Scorer) {
        match width(self.points.dimensions) {
            1 => self.through::<1>(scorer),
            2 => self.through::<2>(scorer),
            4 => self.through::<4>(scorer),
            _ => self.through::<8>(scorer),
        }
    }

    #[inline(always)]
    fn through<const W: usize>(self, scorer: impl Scorer) {
        let Batch { forest, points: Points { stride, dimensions, values }, params, answers } = self;
        let (first, count, size) = (forest.count, answers.scores.len(), params.sample());
        for tree in &mut forest.trees {
            let mut from = 0;
            while from < count {
                // Up to the next point that the tree takes it stays as it is.
                let number = first + from as u64;
                let ahead = if tree.mass() < size { 0 } else { usize::try_from(tree.sampler.next - number).unwrap_or(usize::MAX) };
                let until = from.saturating_add(ahead).saturating_add(1).min(count);
                let run = &values[from * stride..until * stride];
                if tree.mass() > 0 {
                    let factor = params.factor(tree.mass());
                    scorer.score::<W>(tree, run, *stride, factor, &mut answers.scores[from..until]);
                    if let Some(parts) = &mut answers.parts {
                        let parts = &mut parts[from * 2 * dimensions..until * 2 * dimensions];
                        let rows = run.chunks(*stride).zip(parts.chunks_mut(2 * dimensions));
                        rows.for_each(|(point, parts)| score::share::<W>(tree, point, factor, parts));
                    }
                }
                let latest = first + (until - 1) as u64;
                if tree.sampler.takes(latest, size) {
                    take::<W>(tree, &run[run.len() - stride..], latest, params);
                }
                from = until;
            }
        }
    }
}

/// Lets a tree take a point, in place of another one if its sample is full.
#[inline(always)]
fn take<const W: usize>(tree: &mut Tree, point: &[f32], number: u64, params: &RandomCutForest) {
    let (size, decay) = (params.sample(), params.time_decay);
    let (weight, gone) = tree.sampler.make_room(number, size, decay);
    if let Some(leaf) = gone {
        tree.delete::<W>(leaf, point.len());
    }
    let leaf = tree.insert::<W>(point);
    tree.sampler.put(Kept { weight, leaf }, number, size, decay);
}

/// Scores each row and takes it into its key's forest. `columns` are what is watched together; `attribution`, if it is asked for, gets for
/// each of them the signed shares of the rows' scores.
///
/// # Panics
/// If the columns differ in length, a slot is not below `forests.len()`, a parameter is out of range, or a forest has points of another
/// number of dimensions.
pub fn random_cut_forest(
    forests: &mut [Forest],
    slots: &[u32],
    columns: &[&[f64]],
    params: &RandomCutForest,
    scores: &mut [f64],
    attribution: Option<&mut [Vec<f64>]>,
) {
    Backend::active().random_cut_forest(forests, slots, columns, params, scores, attribution);
}

impl Backend {
    /// [`random_cut_forest`] on this backend.
    pub fn random_cut_forest(
        self,
        forests: &mut [Forest],
        slots: &[u32],
        columns: &[&[f64]],
        params: &RandomCutForest,
        scores: &mut [f64],
        mut attribution: Option<&mut [Vec<f64>]>,
    ) {
        params.check(columns.len());
        check_lengths("slots and scores", slots.len(), scores.len());
        let rows = rows_by_slot(slots, columns, None);
        scores.fill(f64::NAN);
        if let Some(shares) = attribution.as_deref_mut() {
            shares.iter_mut().for_each(|shares| {
                shares.clear();
                shares.resize(slots.len(), f64::NAN);
            });
        }
        for rows in rows.chunk_by(|a, b| slots[*a as usize] == slots[*b as usize]) {
            let forest = &mut forests[slots[rows[0] as usize] as usize];
            let points = forest.points(columns, rows, params);
            let answers = self.answer(forest, &points, params, attribution.is_some());
            let without_point = rows.len() - answers.scores.len();
            for (at, &row) in rows.iter().enumerate() {
                scores[row as usize] = at.checked_sub(without_point).map_or(0.0, |at| answers.scores[at]);
            }
            let (Some(parts), Some(shares)) = (&answers.parts, attribution.as_deref_mut()) else { continue };
            for (at, &row) in rows.iter().enumerate() {
                let parts = at.checked_sub(without_point).map(|at| &parts[at * 2 * points.dimensions..][..2 * points.dimensions]);
                let share = |column: usize| parts.map_or(0.0, |parts| signed_share(parts, column, columns.len()));
                shares.iter_mut().enumerate().for_each(|(column, shares)| shares[row as usize] = share(column));
            }
        }
    }

    /// Scores points of one key and takes them in.
    fn answer(self, forest: &mut Forest, points: &Points, params: &RandomCutForest, with_parts: bool) -> Answers {
        let count = points.values.len() / points.stride;
        let parts = with_parts.then(|| vec![0.0; count * 2 * points.dimensions]);
        let mut answers = Answers { scores: vec![0.0; count], parts };
        let batch = Batch { forest, points, params, answers: &mut answers };
        match self {
            Self::Scalar => batch.run(scalar::anomaly::Recursive),
            Self::Simd(level) => simd::anomaly::forest(level, batch),
        }
        let early = u64::from(params.output_after).saturating_sub(forest.count).min(count as u64) as usize;
        answers.scores[..early].fill(0.0);
        if let Some(parts) = &mut answers.parts {
            parts[..early * 2 * points.dimensions].fill(0.0);
        }
        forest.count += count as u64;
        answers
    }
}

/// A column's share of a score, of the parts of the dimensions above and below.
fn signed_share(parts: &[f64], column: usize, columns: usize) -> f64 {
    let (above, below) = parts.split_at(parts.len() / 2);
    let sum = |parts: &[f64]| parts.iter().skip(column).step_by(columns).sum::<f64>();
    let (above, below) = (sum(above), sum(below));
    if above >= below { above + below } else { -(above + below) }
}

/// The rows in which every column has a finite value, and which are valid, key by key, those of a key in their order.
pub(crate) fn rows_by_slot(slots: &[u32], columns: &[&[f64]], validity: Option<Bits<'_>>) -> Vec<u32> {
    columns.iter().for_each(|column| check_lengths("slots and values", slots.len(), column.len()));
    Bits::check(validity, slots.len());
    let valid = |row: usize| validity.is_none_or(|bits| bits.get(row)) && columns.iter().all(|column| column[row].is_finite());
    let mut rows: Vec<u32> = (0..slots.len() as u32).filter(|row| valid(*row as usize)).collect();
    if slots.windows(2).any(|pair| pair[0] > pair[1]) {
        rows.sort_by_key(|&row| slots[row as usize]);
    }
    rows
}

#[cfg(test)]
mod tests;
