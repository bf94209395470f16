//! Detectors that take the values of a key one by one: what is the same for all of them, and their parameters.

use thalweg_kernels::{DriftCell, Drifts, LatestValues, RobustZ, Running, Stepwise, judge};

use crate::error::{Error, Result};
use crate::operator::detect::tally::Tally;
use crate::operator::detect::{Detector, Observations, Told};
use crate::state::{Reader, Writer, damaged};

/// The state of one key, as it is kept in a snapshot, for a detector with parameters `P`.
pub(super) trait Cell<P>: Sized {
    /// Bytes held beside the cell itself.
    fn bytes(&self) -> usize {
        0
    }

    fn save(&self, out: &mut Writer);

    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what was written.
    fn load(params: &P, from: &mut Reader<'_>) -> Result<Self>;
}

/// The states of all keys.
pub(super) struct State<P: Stepwise> {
    params: P,
    cells: Vec<P::Cell>,
    tally: Tally,
}

impl<P: Stepwise> State<P> {
    /// With parameters that are in range.
    pub fn new(params: P) -> State<P> {
        State { params, cells: Vec::new(), tally: Tally::default() }
    }

    fn reach(&mut self, groups: usize) {
        self.cells.resize(self.cells.len().max(groups), P::Cell::default());
    }
}

impl<P: Stepwise<Cell: Cell<P> + Send> + Send> Detector for State<P> {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()> {
        self.reach(observations.groups);
        let (values, validity) = (observations.values().values(), observations.validity());
        let expected = told.expected.as_mut().map(|expected| &mut expected[0][..]);
        judge(&self.params, &mut self.cells, observations.slots, values, validity, scores, expected);
        self.tally.look(scores.len(), &self.cells, Cell::bytes);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<P::Cell>() + self.tally.bytes()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        match self.cells.get(slot as usize) {
            Some(cell) => cell.save(out),
            None => P::Cell::default().save(out),
        }
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.reach(slot as usize + 1);
        self.cells[slot as usize] = P::Cell::load(&self.params, from)?;
        self.tally.look(1, &self.cells, Cell::bytes);
        Ok(())
    }
}

impl<P> Cell<P> for DriftCell {
    fn save(&self, out: &mut Writer) {
        out.word(self.running.count);
        [self.running.mean, self.running.squares, self.drifts.up, self.drifts.down].into_iter().for_each(|value| out.float(value));
    }

    fn load(_params: &P, from: &mut Reader<'_>) -> Result<DriftCell> {
        let running = Running { count: from.word()?, mean: from.float()?, squares: from.float()? };
        Ok(DriftCell { running, drifts: Drifts { up: from.float()?, down: from.float()? } })
    }
}

impl Cell<RobustZ> for LatestValues {
    fn bytes(&self) -> usize {
        LatestValues::bytes(self)
    }

    fn save(&self, out: &mut Writer) {
        out.floats(&self.in_order_of_arrival().collect::<Vec<f64>>());
    }

    fn load(params: &RobustZ, from: &mut Reader<'_>) -> Result<LatestValues> {
        LatestValues::restored(from.floats()?, params.window as usize).ok_or_else(|| damaged("a key has more values than its window"))
    }
}

/// Checks that a number of rows is in range.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if it is not, or above `most`.
pub(super) fn check_rows(name: &str, rows: u64, least: u64, most: u64) -> Result<()> {
    match (least..=most).contains(&rows) {
        true => Ok(()),
        false => Err(Error::config(format!("`{name}` is {rows} rows; it must lie between {least} and {most}"))),
    }
}
