//! k nearest neighbours: how far a row lies from those rows of its key's latest that are most like it.
//!
//! The distance to the k-th nearest neighbour (S. Ramaswamy, R. Rastogi and K. Shim, "Efficient algorithms for mining outliers from large data
//! sets", SIGMOD 2000), or the mean of the distances to the k nearest (F. Angiulli and C. Pizzuti, "Fast outlier detection in high dimensional
//! spaces", PKDD 2002), among the latest `history` rows of the key before it:
//!
//! ```text
//! D(x, y)   = sqrt(mean over the columns of ((x - y) / deviation)²)
//! score     = k-th least D, or the mean of the k least
//! a         = max(1 / history, 1 / rows so far),   diff = x - mean,   mean = mean + a · diff,   variance = (1 - a) · (variance + a · diff²)
//! deviation = sqrt(variance), at least a billionth of the mean and 1e-150
//! ```
//!
//! Columns may be of any units: each is measured in its own deviations, of the rows before, weighted exponentially as those of
//! [`ewma`](super::ewma). It needs no form of the data: what is usual may lie in several places, on a line or a ring. The search is exact.
//!
//! * *Attribution*: a column's part is in proportion to its part of the squared distance to the k-th neighbour, or to all k where their mean is
//!   asked for; it has the sign of the differences, summed.
//! * *Warm-up*: the first `warmup` rows of a key score 0, and so do its first `k`.
//! * *Missing values*: a row in which a column has none, or NaN or an infinity, scores NaN, is no neighbour and teaches nothing. A value beyond
//!   ±1e100 counts as that, and a column is at most 1e9 deviations off.
//! * *Drift*: rows that are like each other are strange until there have been `k` of them, so `k` should exceed the rows that an anomaly
//!   lasts for. The deviation follows a new spread within some 2 · `history` rows; a row far out widens it for as long.
//! * *Gaps* in time change nothing, as rows count; *resets* there are none: after `history` rows nothing is left of those before but what is
//!   in the deviation.
//!
//! State a key of d columns: 8 · d bytes for each row of the history, and 16 · d + 80 more. Cost: 5 · d operations for each row of the history, a
//! row. Scores are the same bits whatever the batches or backend.

use crate::aggregate::check_lengths;
use crate::anomaly::forest::rows_by_slot;
use crate::anomaly::stepwise::{LEAST_FLOOR, RELATIVE_FLOOR};
use crate::backend::Backend;
use crate::{scalar, simd};

/// Largest magnitude of a value, so that squares stay finite.
const MOST: f64 = 1e100;

/// Most squared deviations that a column counts as off.
pub(crate) const MOST_SQUARE: f64 = 1e18;

/// Rows of a block, whose values lie side by side by column.
pub(crate) const LANES: usize = 16;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knn {
    /// Which neighbour, or how many: at least 1.
    pub k: u32,
    /// Rows of a key that neighbours are looked for in: at least `k`.
    pub history: u32,
    /// Whether the score is the mean distance to the k nearest, not the distance to the k-th.
    pub mean: bool,
    /// Rows of a key that score 0.
    pub warmup: u64,
}

impl Knn {
    pub(crate) fn check(&self, columns: usize) {
        assert!(self.k > 0 && self.history >= self.k && columns > 0, "out of range, or no column: {self:?}");
    }

    /// Rows of a key that there must have been for one to be scored.
    pub(crate) fn least(&self) -> u64 {
        self.warmup.max(self.k.into())
    }

    /// The score that the squared distances of neighbours make, the nearest first, each a sum over the columns.
    pub(crate) fn score(&self, squares: impl ExactSizeIterator<Item = f64>, columns: usize) -> f64 {
        let (skipped, count) = if self.mean { (0, squares.len()) } else { (squares.len() - 1, 1) };
        squares.skip(skipped).map(|square| (square / columns as f64).sqrt()).sum::<f64>() / count as f64
    }
}

/// What columns are measured by; the default is that of a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnnScale {
    /// Rows taken in.
    pub count: u64,
    /// By column; none before the first row.
    pub mean: Vec<f64>,
    /// By column.
    pub variance: Vec<f64>,
}

impl KnnScale {
    /// Takes in a row, which counts for at least `alpha`.
    pub(crate) fn learn(&mut self, row: &[f64], alpha: f64) {
        if self.count == 0 {
            (self.mean, self.variance) = (row.to_vec(), vec![0.0; row.len()]);
        }
        self.count += 1;
        let a = alpha.max(1.0 / self.count as f64);
        for ((mean, variance), x) in self.mean.iter_mut().zip(&mut self.variance).zip(row) {
            let diff = x - *mean;
            *mean += a * diff;
            *variance = (1.0 - a) * (*variance + a * diff * diff);
        }
    }

    /// What differences are multiplied by, by column.
    pub(crate) fn inverses(&self, inverses: &mut Vec<f64>) {
        let deviation = |(mean, variance): (&f64, &f64)| variance.sqrt().max(RELATIVE_FLOOR * mean.abs()).max(LEAST_FLOOR.sqrt());
        inverses.clear();
        inverses.extend(self.mean.iter().zip(&self.variance).map(|parts| 1.0 / deviation(parts)));
    }
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnnCell {
    scale: KnnScale,
    /// The latest rows, in blocks of [`LANES`]: by block, column and row. A row has the place that its number leaves, divided by the history;
    /// places that are not taken are 0.
    rows: Vec<f64>,
}

impl KnnCell {
    /// The cell of this scale and these latest rows, the oldest first, row by row; none if it is no cell of so many columns.
    pub fn restored(scale: KnnScale, latest: &[f64], columns: usize, params: &Knn) -> Option<KnnCell> {
        let known = scale.count.min(params.history.into());
        let wide = if scale.count == 0 { 0 } else { columns };
        let is_value = |value: &f64| value.abs() <= MOST;
        let is_sound = (scale.mean.len(), scale.variance.len()) == (wide, wide)
            && scale.mean.iter().all(is_value)
            && scale.variance.iter().all(|variance| variance.is_finite() && *variance >= 0.0)
            && latest.len() as u64 == known * columns as u64
            && latest.iter().all(is_value);
        if !is_sound {
            return None;
        }
        let mut cell = KnnCell { scale, rows: Vec::new() };
        let first = cell.scale.count - known;
        let places = (first..cell.scale.count).map(|number| (number % u64::from(params.history)) as usize);
        cell.rows.reserve_exact((known as usize).div_ceil(LANES) * LANES * columns);
        cell.rows.resize((known as usize).div_ceil(LANES) * LANES * columns, 0.0);
        latest.chunks_exact(columns).zip(places).for_each(|(row, place)| cell.put(place, row));
        Some(cell)
    }

    /// What columns are measured by.
    pub fn scale(&self) -> &KnnScale {
        &self.scale
    }

    /// The latest rows, the oldest first, row by row: what [`KnnCell::restored`] makes the cell of.
    pub fn latest(&self, params: &Knn) -> Vec<f64> {
        let (count, history) = (self.scale.count, u64::from(params.history));
        let places = (count - count.min(history)..count).map(|number| (number % history) as usize);
        places.flat_map(|place| (0..self.scale.mean.len()).map(move |column| self.value(place, column))).collect()
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.rows.capacity() + self.scale.mean.capacity() + self.scale.variance.capacity()) * size_of::<f64>()
    }

    pub(crate) fn value(&self, place: usize, column: usize) -> f64 {
        self.rows[at(place, column, self.scale.mean.len())]
    }

    fn put(&mut self, place: usize, row: &[f64]) {
        row.iter().enumerate().for_each(|(column, value)| self.rows[at(place, column, row.len())] = *value);
    }

    /// Takes in a row in the place of the oldest, if there are `history`.
    pub(crate) fn learn(&mut self, row: &[f64], params: &Knn) {
        let place = (self.scale.count % u64::from(params.history)) as usize;
        let block = LANES * row.len();
        if place / LANES * block == self.rows.len() {
            // Twice as much each time, but no more than there will ever be.
            let full = (params.history as usize).div_ceil(LANES) * block;
            if self.rows.len() == self.rows.capacity() {
                self.rows.reserve_exact(self.rows.len().max(block).min(full - self.rows.len()));
            }
            self.rows.resize(self.rows.len() + block, 0.0);
        }
        self.put(place, row);
        self.scale.learn(row, 1.0 / f64::from(params.history));
    }
}

/// Where a value lies.
fn at(place: usize, column: usize, columns: usize) -> usize {
    (place / LANES * columns + column) * LANES + place % LANES
}

/// A row among the rows that are looked through, and the sum over the columns of its squared differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbour {
    pub square: f64,
    pub place: u32,
}

/// What is looked for: the `k` rows in these blocks that are nearest to a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub blocks: &'a [f64],
    /// Rows in the blocks.
    pub known: usize,
    pub row: &'a [f64],
    pub inverses: &'a [f64],
    pub k: usize,
}

/// Finds the nearest rows, the nearest first; of equal ones those of lower places.
pub(crate) trait Search {
    fn nearest(&mut self, query: &Query<'_>, found: &mut Vec<Neighbour>);
}

/// One call.
pub(crate) struct Batch<'a> {
    pub cells: &'a mut [KnnCell],
    pub slots: &'a [u32],
    pub columns: &'a [&'a [f64]],
    pub params: &'a Knn,
    pub scores: &'a mut [f64],
    pub attribution: Option<&'a mut [Vec<f64>]>,
}

impl Batch<'_> {
    /// Scores all rows by a search, and takes them in.
    #[inline(always)]
    pub fn run<S: Search>(self, search: &mut S) {
        let Self { cells, slots, columns, params, scores, mut attribution } = self;
        let (mut row, mut inverses, mut found) = (Vec::new(), Vec::new(), Vec::new());
        scores.fill(f64::NAN);
        for number in rows_by_slot(slots, columns, None) {
            let number = number as usize;
            let cell = &mut cells[slots[number] as usize];
            values_of(columns, number, &mut row);
            let wide = cell.scale.mean.len();
            assert!(cell.scale.count == 0 || wide == row.len(), "a cell of {wide} columns is given rows of {}", row.len());
            let is_warm = cell.scale.count >= params.least();
            scores[number] = 0.0;
            if is_warm {
                cell.scale.inverses(&mut inverses);
                let known = cell.scale.count.min(params.history.into()) as usize;
                let query = Query { blocks: &cell.rows, known, row: &row, inverses: &inverses, k: params.k as usize };
                search.nearest(&query, &mut found);
                scores[number] = params.score(found.iter().map(|neighbour| neighbour.square), columns.len());
            }
            if let Some(attribution) = attribution.as_deref_mut() {
                let used = if is_warm { &found[if params.mean { 0 } else { found.len() - 1 }..] } else { &[] };
                attribute(cell, &row, &inverses, used, scores[number], |column, part| attribution[column][number] = part);
            }
            cell.learn(&row, params);
        }
    }
}

/// The values of a row.
pub(crate) fn values_of(columns: &[&[f64]], number: usize, row: &mut Vec<f64>) {
    row.clear();
    row.extend(columns.iter().map(|column| column[number].clamp(-MOST, MOST)));
}

/// Parts of the columns in a score that these neighbours make.
fn attribute(cell: &KnnCell, row: &[f64], inverses: &[f64], used: &[Neighbour], score: f64, mut tell: impl FnMut(usize, f64)) {
    let off = |column: usize, neighbour: &Neighbour| (row[column] - cell.value(neighbour.place as usize, column)) * inverses[column];
    let part = |column: usize| used.iter().map(|neighbour| off(column, neighbour).powi(2).min(MOST_SQUARE)).sum::<f64>();
    let most = MOST_SQUARE.sqrt();
    let way = |column: usize| used.iter().map(|neighbour| off(column, neighbour).clamp(-most, most)).sum::<f64>().signum();
    let all: f64 = (0..row.len()).map(part).sum();
    (0..row.len()).for_each(|column| tell(column, if all > 0.0 { part(column) / all * score * way(column) } else { 0.0 }));
}

/// Scores each row and takes it into its key's cell. `columns` are what is watched together; `attribution`, if it is asked for, gets for each of
/// them a number per row, and is of the rows' length.
///
/// # Panics
/// If columns differ in length or from those of a cell in number, there is none, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn knn(
    cells: &mut [KnnCell],
    slots: &[u32],
    columns: &[&[f64]],
    params: &Knn,
    scores: &mut [f64],
    attribution: Option<&mut [Vec<f64>]>,
) {
    Backend::active().knn(cells, slots, columns, params, scores, attribution);
}

impl Backend {
    /// [`knn`] on this backend.
    pub fn knn(
        self,
        cells: &mut [KnnCell],
        slots: &[u32],
        columns: &[&[f64]],
        params: &Knn,
        scores: &mut [f64],
        attribution: Option<&mut [Vec<f64>]>,
    ) {
        params.check(columns.len());
        check_lengths("slots and scores", slots.len(), scores.len());
        let batch = Batch { cells, slots, columns, params, scores, attribution };
        match self {
            Self::Scalar => batch.run(&mut scalar::anomaly::OneByOne),
            Self::Simd(level) => simd::anomaly::knn(level, batch),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
