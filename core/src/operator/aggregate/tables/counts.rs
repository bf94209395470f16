//! How often each value of a group occurs: distinct values, and the most frequent ones, exactly.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use super::super::table::CellKind;
use super::super::values::Values;
use super::super::{Function, unexpected};
use super::kept::{Keeper, Kept, canonical};
use crate::error::Result;
use crate::state::{Reader, Writer};

/// Occurrences of the values of one input. State: every distinct value of every group.
#[derive(Clone)]
pub(crate) struct ValueCounts {
    pub input: usize,
    pub keeper: Keeper,
}

impl CellKind for ValueCounts {
    type Cell = HashMap<Kept, u64>;

    fn empty(&self) -> Self::Cell {
        HashMap::new()
    }

    fn accumulate(&self, cells: &mut [Self::Cell], slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let nulls = values[self.input].nulls();
        let valid = |&row: &u32| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row as usize));
        let rows: Vec<u32> = (0..slots.len() as u32).filter(valid).collect();
        let kept = self.keeper.keep(&canonical(values[self.input].as_whole()), &rows)?;
        for (row, value) in rows.into_iter().zip(kept) {
            *cells[slots[row as usize] as usize].entry(value).or_insert(0) += 1;
        }
        Ok(())
    }

    fn combine(&self, into: &mut [Self::Cell], from: &[Self::Cell]) {
        for (into, from) in into.iter_mut().zip(from) {
            from.iter().for_each(|(value, count)| *into.entry(value.clone()).or_insert(0) += count);
        }
    }

    fn clear(&self, cell: &mut Self::Cell) {
        cell.clear();
    }

    fn finish(&self, function: &Function, data_type: &DataType, cells: &[&Self::Cell]) -> Result<ArrayRef> {
        match (function, data_type) {
            (Function::CountDistinct, _) => Ok(Arc::new(Int64Array::from_iter_values(cells.iter().map(|cell| cell.len() as i64)))),
            (Function::TopK(k), DataType::List(item)) => self.most_frequent(*k, item, cells),
            _ => unexpected(function),
        }
    }

    fn bytes(&self, cell: &Self::Cell) -> usize {
        // A byte of control beside each place of the table.
        cell.capacity() * (size_of::<(Kept, u64)>() + 1) + cell.keys().map(Kept::bytes).sum::<usize>()
    }

    fn save(&self, cell: &Self::Cell, out: &mut Writer) -> Result<()> {
        let mut values: Vec<_> = cell.iter().collect();
        values.sort_unstable();
        out.word(values.len() as u64);
        for (value, count) in values {
            value.save(out);
            out.word(*count);
        }
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Self::Cell> {
        (0..from.count(24)?).map(|_| Ok((Kept::load(from)?, from.word()?))).collect()
    }
}

impl ValueCounts {
    /// For each group a list of `(value, count)`, the highest count first; of equal counts, the same come first in every run.
    fn most_frequent(&self, k: usize, item: &Arc<Field>, cells: &[&HashMap<Kept, u64>]) -> Result<ArrayRef> {
        let (mut values, mut counts, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for cell in cells {
            let mut ranked: Vec<_> = cell.iter().collect();
            ranked.sort_unstable_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
            ranked.truncate(k);
            lengths.push(ranked.len());
            for (value, count) in ranked {
                values.push(Some(value));
                counts.push(*count as i64);
            }
        }
        let columns: Vec<ArrayRef> = vec![self.keeper.column(values.iter().copied())?, Arc::new(Int64Array::from(counts))];
        let DataType::Struct(fields) = item.data_type() else { unreachable!("the most frequent are pairs") };
        let pairs = Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, values.len())?);
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), pairs, None)?))
    }
}

/// The type of the most frequent values of a column of `data_type`.
pub(in super::super) fn top_k_type(data_type: &DataType) -> DataType {
    let pair = Fields::from(vec![Field::new("value", data_type.clone(), false), Field::new("count", DataType::Int64, false)]);
    DataType::List(Arc::new(Field::new("item", DataType::Struct(pair), false)))
}
