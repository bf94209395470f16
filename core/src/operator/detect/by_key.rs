//! What is known of each key, by slot: how it grows with the keys, how much memory it holds and how it comes into snapshots, the same for all detectors.

use std::borrow::Cow;

use crate::error::Result;
use crate::operator::compact::keep;
use crate::operator::detect::{Detector, Observations, Told};
use crate::state::{Reader, Writer, damaged};

/// Bytes that cells hold beside themselves when last looked at, and rows since.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: usize,
    rows: usize,
}

impl Tally {
    /// So many rows came: looks at what `cells` hold once in as many rows as there are keys, so that it costs little however many these are.
    pub fn look<C>(&mut self, rows: usize, cells: &[C], held: impl Fn(&C) -> usize) {
        self.rows += rows;
        if self.rows >= cells.len() {
            (self.bytes, self.rows) = (cells.iter().map(held).sum(), 0);
        }
    }

    /// Bytes of all when last looked at.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A cell for each key.
pub(super) struct Cells<C> {
    by_slot: Vec<C>,
    /// Bytes that a cell holds beside itself, if it does.
    held: Option<fn(&C) -> usize>,
    tally: Tally,
}

impl<C: Default> Cells<C> {
    /// Moves the cells in `slots` together in this order, and drops all others.
    pub fn keep(&mut self, slots: &[u32]) {
        keep(&mut self.by_slot, slots);
        self.look(self.by_slot.len());
    }

    /// Without keys, for cells that hold so many bytes beside themselves, if they do.
    pub fn new(held: Option<fn(&C) -> usize>) -> Cells<C> {
        Cells { by_slot: Vec::new(), held, tally: Tally::default() }
    }

    /// The cells of so many keys, or more, those of new ones too.
    pub fn reach(&mut self, groups: usize) -> &mut [C] {
        self.by_slot.resize_with(self.by_slot.len().max(groups), C::default);
        &mut self.by_slot
    }

    /// So many rows came: looks at what cells hold, now and then.
    pub fn look(&mut self, rows: usize) {
        if let Some(held) = self.held {
            self.tally.look(rows, &self.by_slot, held);
        }
    }

    /// Bytes of all cells when last looked at.
    pub fn bytes(&self) -> usize {
        self.by_slot.capacity() * size_of::<C>() + self.tally.bytes()
    }

    /// Writes the cell of the key in `slot`, that of a new one if it was not seen yet.
    pub fn save(&self, slot: u32, write: impl FnOnce(&C)) {
        match self.by_slot.get(slot as usize) {
            Some(cell) => write(cell),
            None => write(&C::default()),
        }
    }

    /// Gives the key in `slot` its cell from a snapshot.
    pub fn load(&mut self, slot: u32, cell: C) {
        self.reach(slot as usize + 1)[slot as usize] = cell;
        self.look(1);
    }
}

/// A kernel with its parameters, which takes the rows of all keys at once, and how it keeps a key in a snapshot.
pub(super) trait Kernel: Send {
    /// What is known of a key; the default is one not yet seen.
    type Cell: Default + Send;

    /// Bytes that a cell holds beside itself, if it does.
    const HELD: Option<fn(&Self::Cell) -> usize> = None;

    /// Scores each row, as [`Detector::score`], with a cell for each slot.
    fn score(&self, cells: &mut [Self::Cell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told);

    fn save(&self, cell: &Self::Cell, out: &mut Writer);

    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what was written.
    fn load(&self, from: &mut Reader<'_>) -> Result<Self::Cell>;
}

/// A kernel as a detector.
pub(super) struct ByKey<K: Kernel> {
    kernel: K,
    cells: Cells<K::Cell>,
}

impl<K: Kernel> ByKey<K> {
    /// With parameters that are in range.
    pub fn new(kernel: K) -> ByKey<K> {
        ByKey { kernel, cells: Cells::new(K::HELD) }
    }
}

impl<K: Kernel> Detector for ByKey<K> {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()> {
        self.kernel.score(self.cells.reach(observations.groups), observations, scores, told);
        self.cells.look(scores.len());
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.cells.bytes()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        self.cells.save(slot, |cell| self.kernel.save(cell, out));
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.cells.load(slot, self.kernel.load(from)?);
        Ok(())
    }

    fn keep(&mut self, slots: &[u32], _groups: usize) -> Result<()> {
        self.cells.keep(slots);
        Ok(())
    }
}

/// Writes the rows of a key's window that is under way and of the latest whole one.
pub(super) fn save_windows((current, reference): (&[f64], &[f64]), out: &mut Writer) {
    out.floats(current);
    out.floats(reference);
}

/// What came of these rows.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if nothing can have.
pub(super) fn load_windows<C>(from: &mut Reader<'_>, restored: impl FnOnce(&[f64], &[f64]) -> Option<C>) -> Result<C> {
    let (current, reference) = (from.floats()?, from.floats()?);
    restored(&current, &reference).ok_or_else(|| damaged("the windows of a key are of another size"))
}

/// Columns as kernels take them.
pub(super) fn views<'a>(columns: &'a [Cow<'_, [f64]>]) -> Vec<&'a [f64]> {
    columns.iter().map(Cow::as_ref).collect()
}
