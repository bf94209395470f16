//! How many values of a group lie in each bin.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Builder, ListBuilder};
use arrow::datatypes::{DataType, Field};
use thalweg_kernels::{Bins, histogram};

use super::super::groups::by_group;
use super::super::table::CellKind;
use super::super::values::Values;
use super::super::{Function, unexpected};
use crate::error::Result;
use crate::state::{Reader, Writer};

/// Counts by bin of the numbers of one input, between edges that ascend.
#[derive(Clone)]
pub(crate) struct HistogramCells {
    pub input: usize,
    pub edges: Arc<[f64]>,
}

impl CellKind for HistogramCells {
    /// Without counts until its group has a value.
    type Cell = Vec<u64>;

    fn empty(&self) -> Vec<u64> {
        Vec::new()
    }

    fn accumulate(&self, cells: &mut [Vec<u64>], slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let Values::Float(array) = &values[self.input] else { unreachable!("histograms are of floats") };
        let bins = Bins::Edges(&self.edges);
        let mut zeros = Vec::new();
        by_group(slots, array.values(), array.nulls(), cells.len(), |slot, values| {
            cells[slot].resize(bins.cells(), 0);
            zeros.resize(zeros.len().max(values.len()), 0);
            histogram(&mut cells[slot], &zeros[..values.len()], values, None, bins);
        });
        Ok(())
    }

    fn combine(&self, into: &mut [Vec<u64>], from: &[Vec<u64>]) {
        for (into, from) in into.iter_mut().zip(from) {
            into.resize(into.len().max(from.len()), 0);
            into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
        }
    }

    fn clear(&self, cell: &mut Vec<u64>) {
        cell.clear();
    }

    /// Lists of counts: below the first edge, of each bin, above the last edge and NaN.
    fn finish(&self, function: &Function, _: &DataType, cells: &[&Vec<u64>]) -> Result<ArrayRef> {
        let Function::Histogram(edges) = function else { unexpected(function) };
        let mut lists = ListBuilder::new(Int64Builder::new()).with_field(Field::new("item", DataType::Int64, false));
        for cell in cells {
            let count = |bin: usize| cell.get(bin).map_or(0, |&count| count as i64);
            (0..edges.len()).for_each(|bin| lists.values().append_value(count(bin)));
            lists.values().append_value(count(edges.len()) + count(edges.len() + 1));
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }

    fn bytes(&self, cell: &Vec<u64>) -> usize {
        cell.capacity() * size_of::<u64>()
    }

    fn save(&self, cell: &Vec<u64>, out: &mut Writer) -> Result<()> {
        out.word(cell.len() as u64);
        out.words(cell);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Vec<u64>> {
        (0..from.count(8)?).map(|_| from.word()).collect()
    }
}
