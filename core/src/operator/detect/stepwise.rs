//! Detectors that take the values of a key one by one: what is the same for all of them, and their parameters.

use thalweg_kernels::{DriftCell, Drifts, LatestValues, RobustZ, Running, Stepwise, judge};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel};
use crate::operator::detect::{Observations, Told};
use crate::state::{Reader, Writer, damaged};

/// The state of one key, as it is kept in a snapshot, for a detector with parameters `P`.
pub(super) trait Cell<P>: Sized {
    /// Bytes that a cell holds beside itself, if it does.
    const HELD: Option<fn(&Self) -> usize> = None;

    fn save(&self, out: &mut Writer);

    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what was written.
    fn load(params: &P, from: &mut Reader<'_>) -> Result<Self>;
}

/// A detector of that kind.
pub(super) type State<P> = ByKey<Judging<P>>;

impl<P: Stepwise<Cell: Cell<P> + Send> + Send> State<P> {
    /// With parameters that are in range.
    pub fn of(params: P) -> State<P> {
        ByKey::new(Judging(params))
    }
}

/// What takes the values, with its parameters.
pub(super) struct Judging<P>(P);

impl<P: Stepwise<Cell: Cell<P> + Send> + Send> Kernel for Judging<P> {
    type Cell = P::Cell;

    const HELD: Option<fn(&P::Cell) -> usize> = <P::Cell as Cell<P>>::HELD;

    fn score(&self, cells: &mut [P::Cell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) {
        let (values, validity) = (observations.values().values(), observations.validity());
        let expected = told.expected.as_mut().map(|expected| &mut expected[0][..]);
        judge(&self.0, cells, observations.slots, values, validity, scores, expected);
    }

    fn save(&self, cell: &P::Cell, out: &mut Writer) {
        cell.save(out);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<P::Cell> {
        Cell::load(&self.0, from)
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
    const HELD: Option<fn(&Self) -> usize> = Some(LatestValues::bytes);

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
