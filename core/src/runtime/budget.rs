//! The bytes of state that a pipeline may hold, and what becomes of it when there are more.

use crate::config::{Config, OverBudget};
use crate::error::{Error, Result};
use crate::watermark::Hold;

/// How far over its budget a pipeline may be that holds its source back: once more the budget.
const HELD_BACK_FACTOR: usize = 2;

/// See the [module documentation](self).
pub(super) struct Budget {
    bytes: usize,
    policy: OverBudget,
    is_over: bool,
}

impl Budget {
    /// The budget of a pipeline, if it has one.
    pub fn new(config: &Config) -> Option<Budget> {
        Some(Budget { bytes: config.state_budget?, policy: config.over_budget, is_over: false })
    }

    /// Whether so many bytes are too many.
    pub fn allows(&self, held: usize) -> bool {
        held <= self.bytes
    }

    /// Whether there was too much state when it was looked at last.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes note of how many bytes are held; `largest` tells the step that holds most, with how many.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if they are more than the policy bears.
    pub fn judge<'a>(&mut self, held: usize, largest: impl FnOnce() -> Option<(&'a str, usize)>) -> Result<()> {
        let was_over = self.is_over;
        self.is_over = !self.allows(held);
        let bears = match self.policy {
            OverBudget::Error => 1,
            OverBudget::Backpressure => HELD_BACK_FACTOR,
            OverBudget::Shed => usize::MAX,
        };
        if held > self.bytes.saturating_mul(bears) {
            return Err(self.error(held, largest()));
        }
        if self.is_over && !was_over {
            let what = if self.policy == OverBudget::Shed { "rows are shed" } else { "the source is held back" };
            tracing::warn!(held, budget = self.bytes, "the state is over its budget: {what} until it is not");
        }
        Ok(())
    }

    fn error(&self, held: usize, largest: Option<(&str, usize)>) -> Error {
        let most = largest.map(|(step, bytes)| format!(", {bytes} of them in `{step}`")).unwrap_or_default();
        let tried = match self.policy {
            OverBudget::Backpressure => "; to hold the source back was not enough, or it cannot be held back",
            _ => "",
        };
        Error::state(format!(
            "the pipeline holds {held} bytes of state{most}, over its budget of {} bytes{tried}; use shorter windows, coarser keys or a smaller \
             `max_delay`, raise `state_budget`, or let `over_budget` say what to do",
            self.bytes
        ))
    }

    /// Whether rows are shed now.
    pub fn sheds(&self) -> bool {
        self.is_over && self.policy == OverBudget::Shed
    }

    /// What the source is kept from reading now; `by_clock` says whether event time goes on without rows.
    pub fn hold(&self, by_clock: bool) -> Hold {
        match (self.is_over && self.policy == OverBudget::Backpressure, by_clock) {
            (false, _) => Hold::Nothing,
            (true, false) => Hold::Ahead,
            (true, true) => Hold::All,
        }
    }
}
