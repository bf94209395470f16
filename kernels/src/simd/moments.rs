//! Second moments, a lane to each of several running sums where rows are of one group.

use std::ops::Range;

use super::Level;
use super::scatter::{self, Rows};
use crate::bits::Bits;
use crate::cell::two_sum;
use crate::moments::Moments;
use crate::value::Value;

/// Running sums of a fold: four registers of AVX2 for each part, and enough for the compiler to keep them in a loop that it
/// turns into vectors; eight it unrolls into single floats.
const LANES: usize = 16;

pub(crate) fn accumulate<T: Value>(level: Level, cells: &mut [Moments], slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
    scatter::scatter(level.row_by_row(), cells, slots, validity, Column(values));
}

pub(crate) fn fold<T: Value>(level: Level, values: &[T], validity: Option<Bits<'_>>) -> Moments {
    scatter::fold(level, validity, Column(values))
}

#[derive(Clone, Copy)]
struct Column<'a, T>(&'a [T]);

impl<T: Value> Rows for Column<'_, T> {
    type Cell = Moments;
    const EMPTY: Moments = Moments::EMPTY;

    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    unsafe fn put(self, cell: &mut Moments, row: usize) {
        // SAFETY: the caller's promise.
        cell.add(unsafe { self.0.get_unchecked(row) }.to_f64());
    }

    #[inline(always)]
    fn fold(self, cell: &mut Moments, rows: Range<usize>) {
        let values = &self.0[rows];
        let Some(first) = values.first() else { return };
        let mut lanes = Lanes { shift: cell.shift_for(first.to_f64()), sums: [[0.0; LANES]; 2], lost: [[0.0; LANES]; 2] };
        let mut chunks = values.chunks_exact(LANES);
        for chunk in &mut chunks {
            lanes.add(&std::array::from_fn(|lane| chunk[lane].to_f64()));
        }
        lanes.add_to(cell, (values.len() - chunks.remainder().len()) as u64);
        chunks.remainder().iter().for_each(|value| _ = cell.add(value.to_f64()));
    }

    #[inline(always)]
    fn combine(into: &mut Moments, from: &Moments) {
        into.combine(from);
    }
}

/// The sums of [`LANES`] cells of one shift, each part of all of them side by side.
struct Lanes {
    shift: f64,
    sums: [[f64; LANES]; 2],
    lost: [[f64; LANES]; 2],
}

impl Lanes {
    /// As [`Moments::add`], lane by lane.
    #[inline(always)]
    fn add(&mut self, values: &[f64; LANES]) {
        for (lane, value) in values.iter().enumerate() {
            let mut cell = Moments {
                count: 1,
                shift: self.shift,
                sums: [self.sums[0][lane], self.sums[1][lane]],
                lost: [self.lost[0][lane], self.lost[1][lane]],
            };
            cell.add(*value);
            (self.sums[0][lane], self.sums[1][lane]) = (cell.sums[0], cell.sums[1]);
            (self.lost[0][lane], self.lost[1][lane]) = (cell.lost[0], cell.lost[1]);
        }
    }

    /// Takes the values of all lanes, `count` of them, into the cell that the shift is of.
    #[inline(always)]
    fn add_to(&self, cell: &mut Moments, count: u64) {
        cell.shift = self.shift;
        cell.count += count;
        for (part, (sums, lost)) in self.sums.iter().zip(&self.lost).enumerate() {
            for (sum, lost) in sums.iter().zip(lost) {
                let (total, error) = two_sum(cell.sums[part], *sum);
                (cell.sums[part], cell.lost[part]) = (total, (cell.lost[part] + lost) + error);
            }
        }
    }
}
