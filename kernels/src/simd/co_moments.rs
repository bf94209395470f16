//! Second moments of pairs.

use std::ops::Range;

use super::Level;
use super::scatter::{self, Rows};
use crate::bits::Bits;
use crate::co_moments::CoMoments;
use crate::value::Value;

pub(crate) fn accumulate<T: Value, U: Value>(
    level: Level,
    cells: &mut [CoMoments],
    slots: &[u32],
    x: &[T],
    y: &[U],
    validity: Option<Bits<'_>>,
) {
    scatter::scatter(level.row_by_row(), cells, slots, validity, Columns { x, y });
}

pub(crate) fn fold<T: Value, U: Value>(level: Level, x: &[T], y: &[U], validity: Option<Bits<'_>>) -> CoMoments {
    scatter::fold(level, validity, Columns { x, y })
}

/// Two columns of one length.
#[derive(Clone, Copy)]
struct Columns<'a, T, U> {
    x: &'a [T],
    y: &'a [U],
}

impl<T: Value, U: Value> Rows for Columns<'_, T, U> {
    type Cell = CoMoments;
    const EMPTY: CoMoments = CoMoments::EMPTY;

    #[inline(always)]
    fn len(self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn put(self, cell: &mut CoMoments, row: usize) {
        // SAFETY: the caller's promise; the columns are of one length, which the public functions check.
        let (x, y) = unsafe { (*self.x.get_unchecked(row), *self.y.get_unchecked(row)) };
        cell.add(x.to_f64(), y.to_f64());
    }

    #[inline(always)]
    fn fold(self, cell: &mut CoMoments, rows: Range<usize>) {
        // A copy stays in registers.
        let mut sums = *cell;
        for (x, y) in self.x[rows.clone()].iter().zip(&self.y[rows]) {
            sums.add(x.to_f64(), y.to_f64());
        }
        *cell = sums;
    }

    #[inline(always)]
    fn combine(into: &mut CoMoments, from: &CoMoments) {
        into.combine(from);
    }
}
