//! State of groups in columns: what every aggregate beside the plain ones keeps for each slot.

use std::any::Any;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::tables::Runs;
use super::{Function, Values};
use crate::error::Result;
use crate::operator::keys::Slots;
use crate::state::{Reader, Writer};

/// A function and the type of its result.
pub(crate) type Wanted<'a> = (&'a Function, &'a DataType);

/// The state of some aggregates, by slot. Groups beyond those that room was made for are empty.
///
/// Tables that meet have been made from one another by [`Table::empty`].
pub(crate) trait Table: Any + Send {
    /// A table of the same kind, without groups.
    fn empty(&self) -> Box<dyn Table>;

    /// Makes room for `groups` groups.
    fn reserve(&mut self, groups: usize);

    /// Takes rows into the groups `slots`. `values` are all inputs of the rows; `sequence` is the number of the first in order of
    /// arrival, those of the others follow.
    ///
    /// # Errors
    /// If Arrow cannot convert a column, which would be a defect.
    fn accumulate(&mut self, slots: &[u32], values: &[Values], sequence: u64) -> Result<()>;

    /// The input whose rows may wait in a [`Log`](super::tables::Log) until anything is asked of the groups or done with them, if they
    /// may.
    fn waits_for(&self) -> Option<usize> {
        None
    }

    /// Takes all rows that waited. No other rows have come.
    fn take_runs(&mut self, runs: &Arc<Runs>) {
        let _ = runs;
    }

    /// Adds the groups of `from` to those in the same slots here.
    fn combine(&mut self, from: &dyn Table);

    /// Becomes the groups of `from` in other slots, of which there are `groups`: group `s` moves to `slots[s]`.
    fn place(&mut self, from: &dyn Table, slots: &[u32], groups: usize);

    /// Becomes the groups `slots` of `from`, in that order; groups beyond those that it has are empty.
    fn gather(&mut self, from: &dyn Table, slots: &[u32]);

    /// Becomes a copy of `from`, in the memory that is here.
    fn copy(&mut self, from: &dyn Table);

    /// Adds group `from` to group `into`.
    fn merge(&mut self, into: u32, from: u32);

    /// Empties the groups of `slots`, keeping their memory for others.
    fn clear(&mut self, slots: &Slots<'_>);

    /// A column of results for the groups in `slots` for each that is wanted.
    ///
    /// # Errors
    /// As [`Table::accumulate`].
    fn finish(&self, wanted: &[Wanted<'_>], slots: &Slots<'_>) -> Result<Vec<ArrayRef>>;

    /// Bytes held.
    fn bytes(&self) -> usize;

    /// Writes a group, which may be beyond those that room was made for.
    ///
    /// # Errors
    /// If it cannot be saved.
    fn save(&self, slot: u32, out: &mut Writer) -> Result<()>;

    /// Fills an empty group, for which there is room, with one that was saved.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the bytes are not those of a group.
    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()>;
}

/// A table as the kind that it is known to be.
pub(super) fn known<T: Table>(table: &dyn Table) -> &T {
    let table: &dyn Any = table;
    table.downcast_ref().unwrap_or_else(|| unreachable!("tables that meet are of one kind"))
}

/// How cells are filled, combined and read: all that differs between tables of one cell per group.
pub(crate) trait CellKind: Clone + Send + 'static {
    /// The state of one group.
    type Cell: Clone + Send;

    /// The identity of combine.
    fn empty(&self) -> Self::Cell;

    /// As [`Table::accumulate`].
    fn accumulate(&self, cells: &mut [Self::Cell], slots: &[u32], values: &[Values], sequence: u64) -> Result<()>;

    /// Adds cells element by element.
    fn combine(&self, into: &mut [Self::Cell], from: &[Self::Cell]);

    /// Empties a cell, keeping its memory for others.
    fn clear(&self, cell: &mut Self::Cell) {
        *cell = self.empty();
    }

    /// The results of one function, of type `data_type`.
    ///
    /// # Errors
    /// As [`Table::accumulate`].
    fn finish(&self, function: &Function, data_type: &DataType, cells: &[&Self::Cell]) -> Result<ArrayRef>;

    /// Bytes that a cell holds elsewhere.
    fn bytes(&self, cell: &Self::Cell) -> usize {
        let _ = cell;
        0
    }

    /// Writes a cell.
    ///
    /// # Errors
    /// As [`Table::save`].
    fn save(&self, cell: &Self::Cell, out: &mut Writer) -> Result<()>;

    /// A cell that was written.
    ///
    /// # Errors
    /// As [`Table::load`].
    fn load(&self, from: &mut Reader<'_>) -> Result<Self::Cell>;
}

/// A table of one cell per group.
pub(crate) struct Cells<K: CellKind> {
    kind: K,
    cells: Vec<K::Cell>,
    /// Bytes that cells hold elsewhere, when last measured.
    elsewhere: usize,
    /// Rows since then.
    rows: usize,
}

impl<K: CellKind> Cells<K> {
    pub fn boxed(kind: K) -> Box<dyn Table> {
        Box::new(Cells { kind, cells: Vec::new(), elsewhere: 0, rows: 0 })
    }

    fn measure(&mut self) {
        self.elsewhere = self.cells.iter().map(|cell| self.kind.bytes(cell)).sum();
        self.rows = 0;
    }
}

impl<K: CellKind> Table for Cells<K> {
    fn empty(&self) -> Box<dyn Table> {
        Cells::boxed(self.kind.clone())
    }

    fn reserve(&mut self, groups: usize) {
        if self.cells.len() < groups {
            self.cells.resize(groups, self.kind.empty());
        }
    }

    fn accumulate(&mut self, slots: &[u32], values: &[Values], sequence: u64) -> Result<()> {
        self.kind.accumulate(&mut self.cells, slots, values, sequence)?;
        self.rows += slots.len();
        // Once in as many rows as there are cells, so that a row's share of it is constant.
        if self.rows >= self.cells.len() {
            self.measure();
        }
        Ok(())
    }

    fn combine(&mut self, from: &dyn Table) {
        let from = known::<Cells<K>>(from);
        self.reserve(from.cells.len());
        self.kind.combine(&mut self.cells[..from.cells.len()], &from.cells);
        self.measure();
    }

    fn place(&mut self, from: &dyn Table, slots: &[u32], groups: usize) {
        let from = known::<Cells<K>>(from);
        self.cells.truncate(groups);
        self.cells.iter_mut().for_each(|cell| self.kind.clear(cell));
        self.reserve(groups);
        slots.iter().zip(&from.cells).for_each(|(&slot, cell)| self.cells[slot as usize].clone_from(cell));
        self.measure();
    }

    fn gather(&mut self, from: &dyn Table, slots: &[u32]) {
        let from = known::<Cells<K>>(from);
        self.cells.clear();
        self.cells.extend(slots.iter().map(|&slot| from.cells.get(slot as usize).cloned().unwrap_or_else(|| self.kind.empty())));
        self.measure();
    }

    fn copy(&mut self, from: &dyn Table) {
        self.cells.clone_from(&known::<Cells<K>>(from).cells);
        self.measure();
    }

    fn merge(&mut self, into: u32, from: u32) {
        let other = std::mem::replace(&mut self.cells[from as usize], self.kind.empty());
        self.kind.combine(&mut self.cells[into as usize..=into as usize], std::slice::from_ref(&other));
        self.cells[from as usize] = other;
        self.kind.clear(&mut self.cells[from as usize]);
    }

    fn clear(&mut self, slots: &Slots<'_>) {
        let groups = self.cells.len();
        match slots {
            Slots::Range(range) => {
                let range = range.start.min(groups)..range.end.min(groups);
                self.cells[range].iter_mut().for_each(|cell| self.kind.clear(cell));
            }
            Slots::List(list) => list.iter().for_each(|&slot| self.kind.clear(&mut self.cells[slot as usize])),
        }
    }

    fn finish(&self, wanted: &[Wanted<'_>], slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        let cells = slots.map(|slot| &self.cells[slot as usize]);
        wanted.iter().map(|(function, data_type)| self.kind.finish(function, data_type, &cells)).collect()
    }

    fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<K::Cell>() + self.elsewhere
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        match self.cells.get(slot as usize) {
            Some(cell) => self.kind.save(cell, out),
            None => self.kind.save(&self.kind.empty(), out),
        }
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        let cell = self.kind.load(from)?;
        self.elsewhere += self.kind.bytes(&cell);
        self.cells[slot as usize] = cell;
        Ok(())
    }
}
