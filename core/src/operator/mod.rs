//! Operators: plain values that take batches and watermarks and put out batches.

pub mod aggregate;
pub(crate) mod arrival_time;
pub(crate) mod compact;
pub mod dedup;
pub mod derive;
pub mod detect;
pub mod devices;
pub(crate) mod event_time;
mod expiry;
pub mod filter;
mod held;
mod keys;
mod late;
pub mod process;
mod reorder;
pub mod rolling;
pub(crate) mod split;
pub mod window;

pub(crate) use crate::batch::column_index;
pub(crate) use keys::{KeyColumn, KeyColumns};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::state::Saved;
pub use late::{Late, late_schema};
pub use window::PartialPane;

/// What an operator puts out in one call.
#[derive(Debug, Default)]
pub struct Output {
    /// Results, in order.
    pub batches: Vec<Batch>,
    /// Rows that came too late for the step, after their window had fired.
    pub late: Vec<Late>,
    /// How many rows were dropped because they repeat another.
    pub duplicates: u64,
    /// Panes that a [`PartialWindow`](window::PartialWindow) gives to the window that puts out their results.
    pub panes: Vec<PartialPane>,
    /// Whether there is more for the same watermark: the operator is told it again once all this has gone on its way. So the results of
    /// many windows need not be in memory together.
    pub more: bool,
}

pub(crate) fn not_its_own() -> Error {
    Error::state("a step was given panes that are not its own; this is a defect, please report it")
}

/// One step of a pipeline. It owns no thread, reads no clock and opens no file.
pub trait Operator: Send {
    /// Takes one batch.
    ///
    /// # Errors
    /// If an expression fails on the batch or the state is over its bound.
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()>;

    /// Event time has reached `watermark`: no row at or before it will come, except late ones. At the end of
    /// the input it is `i64::MAX`. It is called again with the same one while [`Output::more`] is set.
    ///
    /// # Errors
    /// As [`Operator::on_batch`].
    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let _ = (watermark, out);
        Ok(())
    }

    /// Takes in panes that another operator has put out: a window those of the workers that share its rows, who get back the
    /// emptied ones, for the rows to come. What is not used up stays in `panes`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the operator has no panes, which would be a defect, or too many keys.
    fn absorb(&mut self, panes: &mut Vec<PartialPane>) -> Result<()> {
        let _ = panes;
        Err(not_its_own())
    }

    /// Adds copies of panes that another operator holds for several windows.
    ///
    /// # Errors
    /// As [`Operator::absorb`].
    fn share(&mut self, panes: &[PartialPane]) -> Result<()> {
        let _ = panes;
        Err(not_its_own())
    }

    /// Puts out the panes that it holds for several windows, complete or not: all its state is theirs then.
    ///
    /// # Errors
    /// If a pane cannot be put out, which would be a defect.
    fn hand_over(&mut self, out: &mut Output) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// The end of the earliest window that has rows and waits for event time to reach it; `None` if none does.
    fn waits_for(&self) -> Option<i64> {
        None
    }

    /// The state, all of it: what a fresh operator of the same step needs to go on as this one does. Nothing may be on its way to a
    /// device then, so it is taken between two batches.
    ///
    /// # Errors
    /// If a state cannot be saved.
    fn snapshot(&mut self) -> Result<Saved> {
        Ok(Saved::default())
    }

    /// Takes up the state of a snapshot, or of some key groups of it; the operator is fresh.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not the state of such a step.
    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let _ = saved;
        Ok(())
    }

    /// Gives back memory that is kept for rows to come, and that of keys, windows and rows that are gone, as far as that is worth it:
    /// where most of a table is in use it stays. Called between two batches, while there is too much state. It changes no result; those that
    /// are due at one moment may come in another order, as after a restart.
    ///
    /// # Errors
    /// If the state cannot be made anew, which would be a defect.
    fn trim(&mut self) -> Result<()> {
        Ok(())
    }

    /// Bytes of state held now.
    fn state_bytes(&self) -> usize {
        0
    }

    /// In words, where its kernels run and why; `None` if it has none. May measure them.
    fn placement(&self) -> Option<String> {
        None
    }
}
