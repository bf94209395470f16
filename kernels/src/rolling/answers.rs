//! What is answered of windows of values, and the columns that it goes to.

use crate::aggregate::check_lengths;
use crate::anomaly::ewma::{LEAST_MEAN, RELATIVE_FLOOR};
use crate::rolling::Divisor;

/// Rows whose answers are held before they go to their columns.
pub(crate) const BLOCK: usize = 256;

/// What is known of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    pub count: f64,
    pub sum: f64,
    pub mean: f64,
    pub m2: f64,
}

impl Moments {
    pub const NONE: Self = Self { count: 0.0, sum: 0.0, mean: f64::NAN, m2: 0.0 };

    /// From the sums of distances from a pivot, and of their squares.
    #[inline(always)]
    pub fn around(pivot: f64, [sum, squares]: [f64; 2], count: f64) -> Self {
        let offset = sum / count;
        Self { count, sum: pivot * count + sum, mean: pivot + offset, m2: squares - sum * offset }
    }
}

/// Where the answers go: one per row, each column being as long as the rows, or not asked for.
#[derive(Debug, Default)]
pub struct MomentColumns<'a> {
    /// Values in the window.
    pub counts: Option<&'a mut [u32]>,
    /// Their sum.
    pub sums: Option<&'a mut [f64]>,
    /// Their mean.
    pub means: Option<&'a mut [f64]>,
    /// The sum of their squared distances from the mean.
    pub m2s: Option<&'a mut [f64]>,
    /// Their variance.
    pub variances: Option<&'a mut [f64]>,
    /// Their standard deviation.
    pub deviations: Option<&'a mut [f64]>,
    /// Score of the row's value against them.
    pub scores: Option<&'a mut [f64]>,
    /// Of variances, deviations and scores.
    pub divisor: Divisor,
}

/// Answers of a block of rows on their way to the columns.
pub(crate) struct Buffer {
    /// Values of the rows as of [`stored`].
    pub values: [f64; BLOCK],
    pub counts: [f64; BLOCK],
    pub sums: [f64; BLOCK],
    pub means: [f64; BLOCK],
    pub m2s: [f64; BLOCK],
}

impl Buffer {
    pub const NEW: Self = Self { values: [0.0; BLOCK], counts: [0.0; BLOCK], sums: [0.0; BLOCK], means: [0.0; BLOCK], m2s: [0.0; BLOCK] };

    #[inline(always)]
    pub fn put(&mut self, row: usize, moments: Moments) {
        (self.counts[row], self.sums[row]) = (moments.count, moments.sum);
        (self.means[row], self.m2s[row]) = (moments.mean, moments.m2);
    }
}

impl MomentColumns<'_> {
    pub(crate) fn check(&self, rows: usize) {
        let floats = [&self.sums, &self.means, &self.m2s, &self.variances, &self.deviations, &self.scores];
        floats.into_iter().flatten().for_each(|column| check_lengths("rows and answers", rows, column.len()));
        self.counts.iter().for_each(|column| check_lengths("rows and counts", rows, column.len()));
    }

    /// Writes the first `len` answers of the buffer to the rows from `start` on. The buffer is used up.
    #[inline(always)]
    pub(crate) fn write(&mut self, start: usize, len: usize, buffer: &mut Buffer) {
        let less = if self.divisor == Divisor::Sample { 1.0 } else { 0.0 };
        let rows = start..start + len;
        let (counts, spreads) = (&buffer.counts[..len], &mut buffer.m2s[..len]);
        if let Some(column) = &mut self.counts {
            column[rows.clone()].iter_mut().zip(counts).for_each(|(to, &count)| *to = count as u32);
        }
        for (column, from) in [(&mut self.sums, &buffer.sums), (&mut self.means, &buffer.means)] {
            column.iter_mut().for_each(|column| column[rows.clone()].copy_from_slice(&from[..len]));
        }
        if let Some(column) = &mut self.m2s {
            column[rows.clone()].copy_from_slice(spreads);
        }
        if self.variances.is_none() && self.deviations.is_none() && self.scores.is_none() {
            return;
        }
        spreads.iter_mut().zip(counts).for_each(|(spread, &count)| *spread = variance(*spread, count - less));
        if let Some(column) = &mut self.variances {
            column[rows.clone()].copy_from_slice(spreads);
        }
        spreads.iter_mut().for_each(|spread| *spread = spread.sqrt());
        if let Some(column) = &mut self.deviations {
            column[rows.clone()].copy_from_slice(spreads);
        }
        if let Some(column) = &mut self.scores {
            let moments = counts.iter().zip(&buffer.means[..len]).zip(spreads);
            for ((to, &value), ((&count, &mean), &mut deviation)) in column[rows].iter_mut().zip(&buffer.values[..len]).zip(moments) {
                *to = score(value, mean, deviation, count);
            }
        }
    }
}

#[inline(always)]
fn variance(m2: f64, divisor: f64) -> f64 {
    if divisor > 0.0 { m2 / divisor } else { f64::NAN }
}

#[inline(always)]
fn score(value: f64, mean: f64, deviation: f64, count: f64) -> f64 {
    let magnitude = if mean.abs() > LEAST_MEAN { mean.abs() } else { LEAST_MEAN };
    let floor = RELATIVE_FLOOR * magnitude;
    let score = (value - mean) / if floor > deviation { floor } else { deviation };
    let score = if score > f64::MAX { f64::MAX } else { score };
    let score = if score < f64::MIN { f64::MIN } else { score };
    if (value.abs() <= f64::MAX) & (count >= 2.0) { score } else { f64::NAN }
}
