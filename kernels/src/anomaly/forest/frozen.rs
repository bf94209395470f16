//! Scores of rows by a forest as it stands: nothing is taken in.

use super::{Forest, Points, RandomCutForest, Scorer, rows_by_slot, width};
use crate::backend::Backend;
use crate::{scalar, simd};

/// Scores rows by one key's forest, which stays as it is. The rows are those that follow the latest row that the forest took: with a shingle
/// of several rows, the first points are made of both.
///
/// A row in which a column has no finite value scores NaN and takes no place in the shingle; a row that ends no point scores 0, and so do all
/// of a forest that took fewer than [`output_after`](RandomCutForest::output_after) points.
///
/// # Panics
/// If the columns differ in length, a parameter is out of range, or the forest has points of another number of dimensions.
pub fn forest_scores(forest: &Forest, columns: &[&[f64]], params: &RandomCutForest, scores: &mut [f64]) {
    Backend::active().forest_scores(forest, columns, params, scores);
}

/// Points that are to be scored by a forest, which stays as it is.
pub(crate) struct Frozen<'a> {
    forest: &'a Forest,
    points: &'a Points,
    params: &'a RandomCutForest,
    scores: &'a mut [f64],
}

impl Frozen<'_> {
    /// Scores all points by each tree.
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
        for tree in self.forest.trees.iter().filter(|tree| tree.mass() > 0) {
            scorer.score::<W>(tree, &self.points.values, self.points.stride, self.params.factor(tree.mass()), self.scores);
        }
    }
}

/// Rows that are to be scored by a forest as it stands, and the points that they end.
pub(crate) struct Ahead {
    /// Rows in which every column has a value.
    rows: Vec<u32>,
    /// The points that the last of these end; of a forest that gives no scores yet, none.
    pub points: Option<Points>,
}

impl Ahead {
    /// The points of rows that follow the latest that the forest took.
    pub fn new(forest: &Forest, columns: &[&[f64]], params: &RandomCutForest, rows: usize) -> Ahead {
        params.check(columns.len());
        let rows = rows_by_slot(&vec![0; rows], columns, None);
        let silent = forest.count < u64::from(params.output_after).max(1) || rows.is_empty();
        let points = (!silent).then(|| forest.shingled(&mut forest.recent.clone(), columns, &rows, params));
        Ahead { rows, points }
    }

    /// Puts the points' scores into the places of their rows.
    pub fn place(&self, found: impl ExactSizeIterator<Item = f64>, scores: &mut [f64]) {
        scores.fill(f64::NAN);
        let without_point = self.rows.len() - found.len();
        let found = std::iter::repeat_n(0.0, without_point).chain(found);
        self.rows.iter().zip(found).for_each(|(row, score)| scores[*row as usize] = score);
    }
}

impl Points {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.values.len() / self.stride
    }
}

impl Backend {
    /// [`forest_scores`] on this backend.
    pub fn forest_scores(self, forest: &Forest, columns: &[&[f64]], params: &RandomCutForest, scores: &mut [f64]) {
        let ahead = Ahead::new(forest, columns, params, scores.len());
        let mut found = vec![0.0; ahead.points.as_ref().map_or(0, Points::count)];
        if let Some(points) = &ahead.points {
            let frozen = Frozen { forest, points, params, scores: &mut found };
            match self {
                Self::Scalar => frozen.run(scalar::anomaly::Recursive),
                Self::Simd(level) => simd::anomaly::frozen_forest(level, frozen),
            }
        }
        ahead.place(found.into_iter(), scores);
    }
}
