//! Second moments of a column, and of two together.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use thalweg_kernels::{CoMoments, Moments, accumulate_co_moments, accumulate_moments, combine_co_moments, combine_moments};

use super::super::table::CellKind;
use super::super::values::{Values, bits};
use super::super::{Function, unexpected};
use crate::error::Result;
use crate::state::{Reader, Writer};

/// Variance and standard deviation of the numbers of one input.
#[derive(Clone)]
pub(crate) struct MomentCells {
    pub input: usize,
}

impl CellKind for MomentCells {
    type Cell = Moments;

    fn empty(&self) -> Moments {
        Moments::EMPTY
    }

    fn accumulate(&self, cells: &mut [Moments], slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let values = &values[self.input];
        match values {
            Values::Float(array) => accumulate_moments(cells, slots, array.values(), values.validity()),
            Values::Int(array) => accumulate_moments(cells, slots, array.values(), values.validity()),
            _ => unreachable!("moments are of numbers"),
        }
        Ok(())
    }

    fn combine(&self, into: &mut [Moments], from: &[Moments]) {
        combine_moments(into, from);
    }

    fn finish(&self, function: &Function, _: &DataType, cells: &[&Moments]) -> Result<ArrayRef> {
        let value = |moments: &Moments| match function {
            Function::Var => moments.variance(1),
            Function::Std => moments.std_dev(1),
            other => unexpected(other),
        };
        Ok(Arc::new(Float64Array::from_iter(cells.iter().map(|moments| (moments.count > 1).then(|| value(moments))))))
    }

    fn save(&self, cell: &Moments, out: &mut Writer) -> Result<()> {
        out.words(&cell.to_words());
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Moments> {
        from.words().map(Moments::from_words)
    }
}

/// Covariance and correlation of the numbers of two inputs, over the rows where both have a value.
#[derive(Clone)]
pub(crate) struct PairCells {
    pub inputs: [usize; 2],
}

impl CellKind for PairCells {
    type Cell = CoMoments;

    fn empty(&self) -> CoMoments {
        CoMoments::EMPTY
    }

    fn accumulate(&self, cells: &mut [CoMoments], slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let [x, y] = self.inputs.map(|input| &values[input]);
        let both = NullBuffer::union(x.nulls().as_ref(), y.nulls().as_ref());
        let validity = both.as_ref().map(bits);
        match (x, y) {
            (Values::Float(x), Values::Float(y)) => accumulate_co_moments(cells, slots, x.values(), y.values(), validity),
            (Values::Float(x), Values::Int(y)) => accumulate_co_moments(cells, slots, x.values(), y.values(), validity),
            (Values::Int(x), Values::Float(y)) => accumulate_co_moments(cells, slots, x.values(), y.values(), validity),
            (Values::Int(x), Values::Int(y)) => accumulate_co_moments(cells, slots, x.values(), y.values(), validity),
            _ => unreachable!("moments are of numbers"),
        }
        Ok(())
    }

    fn combine(&self, into: &mut [CoMoments], from: &[CoMoments]) {
        combine_co_moments(into, from);
    }

    fn finish(&self, function: &Function, _: &DataType, cells: &[&CoMoments]) -> Result<ArrayRef> {
        let value = |moments: &CoMoments| match function {
            Function::Covar => moments.covariance(1),
            Function::Corr => moments.correlation(),
            other => unexpected(other),
        };
        Ok(Arc::new(Float64Array::from_iter(cells.iter().map(|moments| (moments.count() > 1).then(|| value(moments))))))
    }

    fn save(&self, cell: &CoMoments, out: &mut Writer) -> Result<()> {
        out.words(&cell.to_words());
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<CoMoments> {
        from.words().map(CoMoments::from_words)
    }
}
