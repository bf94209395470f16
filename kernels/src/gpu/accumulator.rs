//! Accumulation that loses no row when the device fails.

use super::Engine;
use super::aggregate::{Number, Table};
use super::error::Error;
use crate::placement::Gathered;
use crate::{Backend, Bits, Cell, Want, combine};

/// Rows that are kept for a second computation before they are read back: 96 MiB of slots and floats, of which up to two
/// lots are held.
const JOURNAL_ROWS: usize = 8 << 20;

/// Grouped accumulation on the device that goes on, on the CPU, when the device does not.
///
/// The rows since the last read-back are kept on the host. When the device is lost, its memory is used up or a buffer
/// goes beyond its limits, they are computed again by the SIMD kernels, and so is all that follows: no row is lost or
/// counted twice. The fault is told once, by [`Accumulator::take_fault`].
///
/// Every so many rows the device's accumulators are read back into cells on the host, while the next rows go up. This
/// bounds the memory; keeping rows costs one copy of them on the host.
#[derive(Debug)]
pub struct Accumulator<T> {
    want: Want,
    backend: Backend,
    /// Everything but the rows in the journals, or everything if there is no table.
    cells: Vec<Cell>,
    table: Option<Table<T>>,
    /// Rows of a read-back under way.
    closing: Journal<T>,
    /// Rows since.
    open: Journal<T>,
    journal_rows: usize,
    fault: Option<Error>,
}

impl<T: Number> Accumulator<T> {
    /// Accumulators of `groups` groups: on the device if it has room for them, else on the CPU, and then
    /// [`Accumulator::take_fault`] says why.
    pub fn new(engine: &Engine, groups: usize, want: Want) -> Self {
        let (table, fault) = match engine.table(groups, want) {
            Ok(table) => (Some(table), None),
            Err(error) => (None, Some(error)),
        };
        let (closing, open) = (Journal::default(), Journal::default());
        let cells = vec![Cell::EMPTY; groups];
        Self { want, backend: Backend::active(), cells, table, closing, open, journal_rows: JOURNAL_ROWS, fault }
    }

    /// Keeps about `rows` rows at most until a read-back, instead of 8 Mi, and as many again while it is under way.
    pub fn journal_rows(mut self, rows: usize) -> Self {
        self.journal_rows = rows;
        self
    }

    /// Groups.
    pub fn groups(&self) -> usize {
        self.cells.len()
    }

    /// Whether the next rows go to the device.
    pub fn on_device(&self) -> bool {
        self.table.is_some()
    }

    /// Why the rows went to the CPU; given once.
    pub fn take_fault(&mut self) -> Option<Error> {
        self.fault.take()
    }

    /// Twin of [`crate::accumulate`] on cells of its own.
    ///
    /// # Panics
    /// If `slots`, `values` and `validity` differ in length, or the slot of a valid row is not below
    /// [`Accumulator::groups`].
    pub fn accumulate(&mut self, slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
        let Some(table) = &mut self.table else {
            self.backend.accumulate(&mut self.cells, slots, values, validity, self.want);
            return;
        };
        // On the device first: a panic over the arguments must not leave them in the journal.
        let taken = table.accumulate(slots, values, validity);
        self.open.next().append(slots, values, validity);
        self.open.rows += slots.len();
        let kept = taken.and_then(|()| self.bound_journal());
        self.or_recompute(kept);
    }

    /// The same for rows that were gathered, which it keeps; leaves none, in memory to gather more in.
    pub(crate) fn take(&mut self, rows: &mut Gathered<T>) {
        let Some(table) = &mut self.table else {
            rows.accumulate(self.backend, &mut self.cells, self.want);
            rows.clear();
            return;
        };
        let taken = table.accumulate(rows.slots(), rows.values(), rows.validity());
        self.open.rows += rows.rows();
        std::mem::swap(self.open.next(), rows);
        let kept = taken.and_then(|()| self.bound_journal());
        self.or_recompute(kept);
    }

    /// Bytes held on the host.
    pub(crate) fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>() + self.open.bytes() + self.closing.bytes()
    }

    /// More groups; fewer than there are change nothing.
    pub fn grow(&mut self, groups: usize) {
        self.cells.resize(groups.max(self.cells.len()), Cell::EMPTY);
        let grown = self.table.as_mut().map_or(Ok(()), |table| table.grow(groups));
        self.or_recompute(grown);
    }

    /// Combines the accumulators into `cells`, group by group, and starts anew from none.
    ///
    /// # Panics
    /// If `cells` are fewer than [`Accumulator::groups`].
    pub fn read_into(&mut self, cells: &mut [Cell]) {
        let cells = &mut cells[..self.cells.len()];
        let read = self.read_all();
        self.or_recompute(read);
        combine::<T>(cells, &self.cells);
        self.cells.fill(Cell::EMPTY);
    }

    /// Brings every row that is on the device into the cells.
    fn read_all(&mut self) -> Result<(), Error> {
        self.finish_read()?;
        if let Some(table) = self.table.as_mut().filter(|_| self.open.rows > 0) {
            table.read_into(&mut self.cells)?;
            self.open.clear();
        }
        Ok(())
    }

    /// Starts a read-back once the journal is full.
    fn bound_journal(&mut self) -> Result<(), Error> {
        if self.open.rows >= self.journal_rows {
            self.finish_read()?;
            if let Some(table) = &mut self.table {
                table.start_read()?;
                std::mem::swap(&mut self.open, &mut self.closing);
            }
        }
        Ok(())
    }

    fn finish_read(&mut self) -> Result<(), Error> {
        if let Some(table) = self.table.as_mut().filter(|_| self.closing.rows > 0) {
            table.read_into(&mut self.cells)?;
            self.closing.clear();
        }
        Ok(())
    }

    /// After a fault: drops the table and takes the rows that it held from the journals.
    fn or_recompute(&mut self, result: Result<(), Error>) {
        let Err(error) = result else { return };
        self.fault.get_or_insert(error);
        self.table = None;
        for journal in [std::mem::take(&mut self.closing), std::mem::take(&mut self.open)] {
            for batch in &journal.batches[..journal.used] {
                batch.accumulate(self.backend, &mut self.cells, self.want);
            }
        }
    }
}

/// Batches that a second computation would need. Cleared, it keeps its memory for the batches to come.
#[derive(Debug)]
struct Journal<T> {
    batches: Vec<Gathered<T>>,
    used: usize,
    rows: usize,
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self { batches: Vec::new(), used: 0, rows: 0 }
    }
}

impl<T: Number> Journal<T> {
    /// An empty batch, from now on the last one.
    fn next(&mut self) -> &mut Gathered<T> {
        if self.used == self.batches.len() {
            self.batches.push(Gathered::default());
        }
        self.used += 1;
        let batch = &mut self.batches[self.used - 1];
        batch.clear();
        batch
    }

    fn bytes(&self) -> usize {
        self.batches.iter().map(Gathered::bytes).sum()
    }

    fn clear(&mut self) {
        self.used = 0;
        self.rows = 0;
    }
}
