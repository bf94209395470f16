//! A value of one row of each group: its first or last in time, or that where another column is least or greatest.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use thalweg_kernels::{Arg, Bits, FirstLast, Timed, accumulate_arg, accumulate_first_last, combine_arg, combine_first_last};

use super::super::table::{Table, Wanted, known};
use super::super::values::{Values, bits};
use super::kept::{Keeper, Kept};
use crate::error::Result;
use crate::operator::keys::Slots;
use crate::state::{Reader, Writer};

/// Which row of a group is kept; its cells name it by its number in order of arrival.
pub(crate) trait Chosen: Send + 'static {
    type Cell: Copy + Send;
    const EMPTY: Self::Cell;

    /// Takes rows, the first of which has the number `sequence`, by their place in `order`.
    fn accumulate(cells: &mut [Self::Cell], slots: &[u32], order: &Values, sequence: u64, validity: Option<Bits<'_>>);

    fn combine(into: &mut [Self::Cell], from: &[Self::Cell]);

    /// The number of the row that is kept.
    fn row(cell: &Self::Cell) -> Option<u64>;

    fn save(cell: &Self::Cell, out: &mut Writer);

    fn load(from: &mut Reader<'_>) -> Result<Self::Cell>;
}

/// The first (`false`) or last (`true`) row in event time.
pub(crate) struct ByTime<const LAST: bool>;
pub(crate) type EarliestRow = ByTime<false>;
pub(crate) type LatestRow = ByTime<true>;

impl<const LAST: bool> Chosen for ByTime<LAST> {
    type Cell = FirstLast<LAST>;
    const EMPTY: FirstLast<LAST> = FirstLast::EMPTY;

    fn accumulate(cells: &mut [Self::Cell], slots: &[u32], order: &Values, sequence: u64, validity: Option<Bits<'_>>) {
        let times = order.as_times();
        accumulate_first_last(cells, slots, Timed { times, values: &vec![(); times.len()], sequence }, validity);
    }

    fn combine(into: &mut [Self::Cell], from: &[Self::Cell]) {
        combine_first_last(into, from);
    }

    fn row(cell: &Self::Cell) -> Option<u64> {
        cell.sequence()
    }

    fn save(cell: &Self::Cell, out: &mut Writer) {
        out.words(&cell.to_words());
    }

    fn load(from: &mut Reader<'_>) -> Result<Self::Cell> {
        from.words().map(FirstLast::from_words)
    }
}

/// The row where a column is greatest (`true`) or least (`false`); of several that which came first.
pub(crate) struct ByValue<const MAX: bool>;
pub(crate) type LeastRow = ByValue<false>;
pub(crate) type GreatestRow = ByValue<true>;

impl<const MAX: bool> Chosen for ByValue<MAX> {
    type Cell = Arg<MAX>;
    const EMPTY: Arg<MAX> = Arg::EMPTY;

    fn accumulate(cells: &mut [Self::Cell], slots: &[u32], order: &Values, sequence: u64, validity: Option<Bits<'_>>) {
        let numbers: Vec<i64> = (0..slots.len() as i64).map(|row| sequence as i64 + row).collect();
        match order {
            Values::Float(array) => accumulate_arg(cells, slots, array.values(), &numbers, validity),
            Values::Int(array) => accumulate_arg(cells, slots, array.values(), &numbers, validity),
            _ => unreachable!("rows are ordered by numbers"),
        }
    }

    fn combine(into: &mut [Self::Cell], from: &[Self::Cell]) {
        combine_arg(into, from);
    }

    fn row(cell: &Self::Cell) -> Option<u64> {
        cell.payload().map(|number| number as u64)
    }

    fn save(cell: &Self::Cell, out: &mut Writer) {
        out.words(&cell.to_words());
    }

    fn load(from: &mut Reader<'_>) -> Result<Self::Cell> {
        from.words().map(Arg::from_words)
    }
}

/// A value of the chosen row of each group.
pub(crate) struct Rows<C: Chosen> {
    /// The input whose value is kept; rows where it is null are passed over.
    value: usize,
    /// The input that orders the rows.
    order: usize,
    keeper: Keeper,
    cells: Vec<C::Cell>,
    /// By slot; means nothing where the cell is empty.
    values: Vec<Kept>,
    /// Bytes that values hold elsewhere.
    elsewhere: usize,
}

impl<C: Chosen> Rows<C> {
    /// The value of input `value` in the row chosen by input `order`.
    pub fn boxed(value: usize, order: usize, keeper: Keeper) -> Box<dyn Table> {
        Box::new(Rows::<C> { value, order, keeper, cells: Vec::new(), values: Vec::new(), elsewhere: 0 })
    }

    fn set(&mut self, slot: usize, value: Kept) {
        self.elsewhere += value.bytes();
        self.elsewhere -= self.values[slot].bytes();
        self.values[slot] = value;
    }

    /// Combines one range of cells with another, and takes over the values of rows that win.
    fn combine_at(&mut self, start: usize, cells: &[C::Cell], values: &[Kept]) {
        let before: Vec<_> = self.cells[start..start + cells.len()].iter().map(C::row).collect();
        C::combine(&mut self.cells[start..start + cells.len()], cells);
        for (at, before) in before.into_iter().enumerate() {
            if C::row(&self.cells[start + at]) != before {
                self.set(start + at, values[at].clone());
            }
        }
    }
}

impl<C: Chosen> Table for Rows<C> {
    fn empty(&self) -> Box<dyn Table> {
        Rows::<C>::boxed(self.value, self.order, self.keeper.clone())
    }

    fn reserve(&mut self, groups: usize) {
        if self.cells.len() < groups {
            self.cells.resize(groups, C::EMPTY);
            self.values.resize(groups, Kept::Word(0));
        }
    }

    fn accumulate(&mut self, slots: &[u32], values: &[Values], sequence: u64) -> Result<()> {
        let (value, order) = (values[self.value].as_whole(), &values[self.order]);
        let valid = NullBuffer::union(values[self.value].nulls().as_ref(), order.nulls().as_ref());
        C::accumulate(&mut self.cells, slots, order, sequence, valid.as_ref().map(bits));
        // A row that its group's cell names in the end is the one to keep.
        let won = |&row: &u32| C::row(&self.cells[slots[row as usize] as usize]) == Some(sequence + u64::from(row));
        let winners: Vec<u32> = (0..slots.len() as u32).filter(won).collect();
        for (row, kept) in winners.iter().zip(self.keeper.keep(value, &winners)?) {
            self.set(slots[*row as usize] as usize, kept);
        }
        Ok(())
    }

    fn combine(&mut self, from: &dyn Table) {
        let from = known::<Rows<C>>(from);
        self.reserve(from.cells.len());
        self.combine_at(0, &from.cells, &from.values);
    }

    fn place(&mut self, from: &dyn Table, slots: &[u32], groups: usize) {
        let from = known::<Rows<C>>(from);
        self.cells.clear();
        self.values.clear();
        self.elsewhere = from.elsewhere;
        self.reserve(groups);
        for (&slot, (cell, value)) in slots.iter().zip(from.cells.iter().zip(&from.values)) {
            self.cells[slot as usize] = *cell;
            self.values[slot as usize] = value.clone();
        }
    }

    fn gather(&mut self, from: &dyn Table, slots: &[u32]) {
        let from = known::<Rows<C>>(from);
        self.cells.clear();
        self.values.clear();
        self.cells.extend(slots.iter().map(|&slot| from.cells.get(slot as usize).copied().unwrap_or(C::EMPTY)));
        self.values.extend(slots.iter().map(|&slot| from.values.get(slot as usize).cloned().unwrap_or(Kept::Word(0))));
        self.elsewhere = self.values.iter().map(Kept::bytes).sum();
    }

    fn copy(&mut self, from: &dyn Table) {
        let from = known::<Rows<C>>(from);
        self.cells.clone_from(&from.cells);
        self.values.clone_from(&from.values);
        self.elsewhere = from.elsewhere;
    }

    fn merge(&mut self, into: u32, from: u32) {
        let (cell, value) = (self.cells[from as usize], self.values[from as usize].clone());
        self.combine_at(into as usize, &[cell], &[value]);
        self.clear(&Slots::List(&[from]));
    }

    fn clear(&mut self, slots: &Slots<'_>) {
        let groups = self.cells.len() as u32;
        slots.map(|slot| slot).into_iter().filter(|&slot| slot < groups).for_each(|slot| {
            self.cells[slot as usize] = C::EMPTY;
            self.set(slot as usize, Kept::Word(0));
        });
    }

    fn finish(&self, wanted: &[Wanted<'_>], slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        let kept = slots.map(|slot| C::row(&self.cells[slot as usize]).map(|_| &self.values[slot as usize]));
        let column = self.keeper.column(kept.iter().copied())?;
        Ok(wanted.iter().map(|_| ArrayRef::clone(&column)).collect())
    }

    fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<C::Cell>() + self.values.capacity() * size_of::<Kept>() + self.elsewhere
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        C::save(self.cells.get(slot as usize).unwrap_or(&C::EMPTY), out);
        self.values.get(slot as usize).unwrap_or(&Kept::Word(0)).save(out);
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.cells[slot as usize] = C::load(from)?;
        self.set(slot as usize, Kept::load(from)?);
        Ok(())
    }
}
