//! The first values of a group in event time, as a list of bounded length.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use super::super::table::CellKind;
use super::super::values::Values;
use super::super::{Function, unexpected};
use super::kept::{Keeper, Kept};
use crate::error::Result;
use crate::state::{Reader, Writer};

/// At most `limit` values of one input, by event time and, of one time, in order of arrival.
#[derive(Clone)]
pub(crate) struct Lists {
    pub input: usize,
    pub times: usize,
    pub limit: usize,
    pub keeper: Keeper,
}

/// A value with the place of its row.
type Entry = (i64, u64, Kept);

impl CellKind for Lists {
    /// Ascending.
    type Cell = Vec<Entry>;

    fn empty(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn accumulate(&self, cells: &mut [Vec<Entry>], slots: &[u32], values: &[Values], sequence: u64) -> Result<()> {
        let (nulls, times) = (values[self.input].nulls(), values[self.times].as_times());
        let place = |row: u32| (times[row as usize], sequence + u64::from(row));
        let wanted = |&row: &u32| {
            let cell = &cells[slots[row as usize] as usize];
            let room = cell.len() < self.limit || cell.last().is_some_and(|(time, number, _)| place(row) < (*time, *number));
            room && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row as usize))
        };
        let rows: Vec<u32> = (0..slots.len() as u32).filter(wanted).collect();
        for (&row, value) in rows.iter().zip(self.keeper.keep(values[self.input].as_whole(), &rows)?) {
            let ((time, number), cell) = (place(row), &mut cells[slots[row as usize] as usize]);
            let at = cell.partition_point(|entry| (entry.0, entry.1) < (time, number));
            if at < self.limit {
                cell.insert(at, (time, number, value));
                cell.truncate(self.limit);
            }
        }
        Ok(())
    }

    fn combine(&self, into: &mut [Vec<Entry>], from: &[Vec<Entry>]) {
        for (into, from) in into.iter_mut().zip(from).filter(|(_, from)| !from.is_empty()) {
            into.extend_from_slice(from);
            into.sort_by_key(|(time, number, _)| (*time, *number));
            into.truncate(self.limit);
        }
    }

    fn clear(&self, cell: &mut Vec<Entry>) {
        cell.clear();
    }

    fn finish(&self, function: &Function, data_type: &DataType, cells: &[&Vec<Entry>]) -> Result<ArrayRef> {
        let DataType::List(item) = data_type else { unexpected(function) };
        let values: Vec<_> = cells.iter().flat_map(|cell| cell.iter().map(|(_, _, value)| Some(value))).collect();
        let values = self.keeper.column(values.into_iter())?;
        let lengths = OffsetBuffer::from_lengths(cells.iter().map(|cell| cell.len()));
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), lengths, values, None)?))
    }

    fn bytes(&self, cell: &Vec<Entry>) -> usize {
        cell.capacity() * size_of::<Entry>() + cell.iter().map(|(_, _, value)| value.bytes()).sum::<usize>()
    }

    fn save(&self, cell: &Vec<Entry>, out: &mut Writer) -> Result<()> {
        out.word(cell.len() as u64);
        for (time, number, value) in cell {
            out.words(&[*time as u64, *number]);
            value.save(out);
        }
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Vec<Entry>> {
        (0..from.count(32)?).map(|_| Ok((from.word()? as i64, from.word()?, Kept::load(from)?))).collect()
    }
}
