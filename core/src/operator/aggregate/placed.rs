//! The way of rows into cells: over the GPU where that costs less.

use std::ops::Range;

use thalweg_kernels::placement::{Accumulator, Devices};
use thalweg_kernels::{Bits, Cell};

use super::resolve::CellColumn;
use super::{Lane, Values};

/// What takes the rows of one value column into the cells of a pane.
pub(crate) enum Placed {
    Float(Accumulator<f64>),
    Int(Accumulator<i64>),
}

impl Placed {
    pub fn new(devices: &Devices, column: &CellColumn) -> Placed {
        match column.lane {
            Lane::Float => Placed::Float(Accumulator::new(devices, column.want)),
            Lane::Int => Placed::Int(Accumulator::new(devices, column.want)),
        }
    }

    /// Adds each of the rows `rows` of `values` to its cell, by the time of [`Placed::settle`]: row `rows.start + i` to `slots[i]`.
    pub fn accumulate(&mut self, cells: &mut [Cell], slots: &[u32], values: &Values, rows: Range<usize>) {
        let validity = values.validity().map(|bits| Bits { offset: bits.offset + rows.start, len: rows.len(), ..bits });
        match (self, values) {
            (Placed::Float(placed), Values::Float(array)) => placed.accumulate(cells, slots, &array.values()[rows], validity),
            (Placed::Int(placed), Values::Int(array)) => placed.accumulate(cells, slots, &array.values()[rows], validity),
            _ => unreachable!("values come in the lane of their column"),
        }
    }

    /// Completes the cells.
    pub fn settle(&mut self, cells: &mut [Cell]) {
        match self {
            Placed::Float(placed) => placed.settle(cells),
            Placed::Int(placed) => placed.settle(cells),
        }
    }

    /// Bytes held for rows on their way.
    pub fn bytes(&self) -> usize {
        match self {
            Placed::Float(placed) => placed.bytes(),
            Placed::Int(placed) => placed.bytes(),
        }
    }

    /// In words, where rows of `groups` groups go and why.
    pub fn explain(&self, groups: usize) -> String {
        match self {
            Placed::Float(placed) => placed.explain(groups),
            Placed::Int(placed) => placed.explain(groups),
        }
    }
}
