//! Twin of [`crate::aggregate`] on the device: tables that keep their accumulators there from batch to batch.

use std::marker::PhantomData;
use std::slice;

use super::error::Error;
use super::fixed::Exponents;
use super::layout::{Kind, Layout};
use super::ring::Upload;
use super::state::State;
use super::{Engine, lock};
use crate::aggregate::{beyond, check_lengths, combine};
use crate::{Bits, Cell, Want};

/// Values that a [`Table`] aggregates: `f64` or `i64`.
pub trait Number: crate::Value + sealed::Number {}

impl Number for f64 {}
impl Number for i64 {}

/// What a [`Table`] of rows that are only counted holds.
#[derive(Clone, Copy, Debug)]
pub struct Rows;

pub(super) mod sealed {
    use super::{Bits, Exponents, Kind};

    /// What a kind of number needs from the CPU's kernels.
    pub trait Number: bytemuck::Pod {
        const KIND: Kind;
        fn exponents(values: &[Self], validity: Option<Bits<'_>>, first: usize) -> Exponents;
        /// A value of ordinary size, for measurements.
        fn sample(row: usize) -> Self;
    }
}

impl sealed::Number for f64 {
    const KIND: Kind = Kind::Floats;

    fn exponents(values: &[Self], validity: Option<Bits<'_>>, first: usize) -> Exponents {
        Exponents::of(values, validity, first)
    }

    fn sample(row: usize) -> Self {
        (row % 1009) as Self * 0.37 - 30.0
    }
}

impl sealed::Number for i64 {
    const KIND: Kind = Kind::Ints;

    fn exponents(_: &[Self], _: Option<Bits<'_>>, _: usize) -> Exponents {
        Exponents::NONE
    }

    fn sample(row: usize) -> Self {
        (row % 1009) as Self * 0x1_2345_6789 - (1 << 38)
    }
}

/// Accumulators of `groups` groups on the device: [`Table<f64>`], [`Table<i64>`], or [`Table<Rows>`], which counts.
///
/// What null, NaN, infinities and −0.0 mean is said in [`crate::aggregate`]. Sums are exact until they are read: a float
/// sum is the float nearest to the true sum of the values read at once, whatever their order, batching and device.
///
/// After an error the accumulators are no longer to be relied on: drop the table. [`super::Accumulator`] does so and
/// loses no row.
#[derive(Debug)]
pub struct Table<T> {
    state: State,
    kind: PhantomData<T>,
}

impl Engine {
    /// A table of floats or integers.
    ///
    /// # Errors
    /// [`super::Fault::Limit`] if so many groups fit no buffer, [`super::Fault::Memory`] if the device has no room for
    /// them, [`super::Fault::Lost`] if the device is gone.
    pub fn table<T: Number>(&self, groups: usize, want: Want) -> Result<Table<T>, Error> {
        Table::new(self, Layout::new(T::KIND, want), groups)
    }

    /// A table that counts rows.
    ///
    /// # Errors
    /// As [`Engine::table`].
    pub fn counts(&self, groups: usize) -> Result<Table<Rows>, Error> {
        Table::new(self, Layout::new(Kind::Rows, Want { sum: false, order: false }), groups)
    }
}

impl<T> Table<T> {
    fn new(engine: &Engine, layout: Layout, groups: usize) -> Result<Self, Error> {
        Ok(Self { state: State::new(engine.shared(), layout, groups)?, kind: PhantomData })
    }

    /// Groups of the table.
    pub fn groups(&self) -> usize {
        self.state.groups()
    }

    /// Makes room for more groups; fewer than there are change nothing.
    ///
    /// # Errors
    /// As [`Engine::table`].
    pub fn grow(&mut self, groups: usize) -> Result<(), Error> {
        self.state.grow(groups)
    }

    /// Combines another table into this one, element by element, without a way over the host; `from` keeps its rows.
    /// Groups that this table lacks are added to it. The twin of [`crate::combine`] and [`crate::combine_count`].
    ///
    /// # Panics
    /// If the tables are of two engines or keep different parts.
    ///
    /// # Errors
    /// As [`Engine::table`].
    pub fn combine(&mut self, from: &Self) -> Result<(), Error> {
        self.state.combine(&from.state)
    }

    /// Starts to bring the accumulators to the host and returns at once. Rows that come from now on are of the next
    /// read; the next `read_into` gives what was accumulated until now.
    ///
    /// # Errors
    /// [`super::Fault::Lost`] if the device is gone.
    pub fn start_read(&mut self) -> Result<(), Error> {
        self.state.start_read()
    }
}

impl<T: Number> Table<T> {
    /// Twin of [`crate::accumulate`]: group `slots[i]` takes `values[i]` where row `i`
    /// is valid. Returns when the rows are staged; the device works on.
    ///
    /// # Panics
    /// If `slots`, `values` and `validity` differ in length, or the slot of a valid row is not below [`Table::groups`].
    ///
    /// # Errors
    /// As [`Engine::table`]; the limit may be met where values span more powers of two than before.
    pub fn accumulate(&mut self, slots: &[u32], values: &[T], validity: Option<Bits<'_>>) -> Result<(), Error> {
        check_lengths("slots and values", slots.len(), values.len());
        self.upload(Some(slots), values, validity)
    }

    /// Twin of [`crate::fold`]: group 0 takes every valid value. Uploads no slots.
    ///
    /// # Panics
    /// If `validity` is of another length or the table has no groups.
    ///
    /// # Errors
    /// As [`Table::accumulate`].
    pub fn fold(&mut self, values: &[T], validity: Option<Bits<'_>>) -> Result<(), Error> {
        assert!(self.groups() > 0, "a column is folded into group 0, and the table has no groups");
        self.upload(None, values, validity)
    }

    /// Takes the accumulators into `cells`, group by group, and leaves none on the device.
    ///
    /// # Panics
    /// If `cells` are fewer than the groups (of the time of [`Table::start_read`], if a read is under way).
    ///
    /// # Errors
    /// [`super::Fault::Lost`] if the device is gone; `cells` are then as they were.
    pub fn read_into(&mut self, cells: &mut [Cell]) -> Result<(), Error> {
        self.state.read(|group, cell| combine::<T>(slice::from_mut(&mut cells[group]), slice::from_ref(cell)))
    }

    fn upload(&mut self, slots: Option<&[u32]>, values: &[T], validity: Option<Bits<'_>>) -> Result<(), Error> {
        Bits::check(validity, values.len());
        if let Some(slots) = slots {
            check_slots(slots, self.groups(), validity);
        }
        let rows = lock(&self.state.shared().ring).rows();
        for (index, values) in values.chunks(rows).enumerate() {
            let first = index * rows;
            let slots = slots.map_or(&[][..], |slots| &slots[first..first + values.len()]);
            let range = T::exponents(values, validity, first);
            let (rows, values) = (values.len(), bytemuck::cast_slice(values));
            let validity = validity.map(|bits| (bits, first));
            self.state.take(&Upload { slots, values, validity, rows }, range)?;
        }
        Ok(())
    }
}

impl Table<Rows> {
    /// Twin of [`crate::accumulate_count`]: counts rows per group, null or not.
    ///
    /// # Panics
    /// If a slot is not below [`Table::groups`].
    ///
    /// # Errors
    /// [`super::Fault::Lost`] if the device is gone.
    pub fn accumulate(&mut self, slots: &[u32]) -> Result<(), Error> {
        check_slots(slots, self.groups(), None);
        let rows = lock(&self.state.shared().ring).rows();
        for slots in slots.chunks(rows) {
            self.state.take(&Upload { slots, values: &[], validity: None, rows: slots.len() }, Exponents::NONE)?;
        }
        Ok(())
    }

    /// Adds the counts to `counts`, group by group, and leaves zeros on the device.
    ///
    /// # Panics
    /// If `counts` are fewer than the groups (of the time of [`Table::start_read`], if a read is under way).
    ///
    /// # Errors
    /// [`super::Fault::Lost`] if the device is gone; `counts` are then as they were.
    pub fn read_into(&mut self, counts: &mut [u64]) -> Result<(), Error> {
        self.state.read(|group, cell| counts[group] += cell.count)
    }
}

/// Panics if the slot of a valid row is not below `groups`: before any row is taken.
pub(crate) fn check_slots(slots: &[u32], groups: usize, validity: Option<Bits<'_>>) {
    let largest = slots.iter().fold(0, |largest, slot| largest.max(*slot));
    if slots.is_empty() || (largest as usize) < groups {
        return;
    }
    let valid = |row: usize| validity.is_none_or(|bits| bits.get(row));
    if let Some((_, slot)) = slots.iter().enumerate().find(|(row, slot)| **slot as usize >= groups && valid(*row)) {
        beyond(*slot, groups);
    }
}
