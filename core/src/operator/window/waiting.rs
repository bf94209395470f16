//! Rows of a pane that wait to be told apart by key all at once.
//!
//! Where a pane has many keys and hardly any comes twice, every row is a new group: to look it up in a table of the groups so far costs more
//! than all else that is done with it. So rows wait, as many as stay in the caches, until the pane is asked for its groups.

use std::ops::Range;

use thalweg_kernels::Together;

use super::pane::Rows;
use crate::error::Result;
use crate::operator::aggregate::Values;
use crate::operator::keys::Keys;

/// What rows go through into panes; it lives from batch to batch.
#[derive(Default)]
pub(super) struct Room {
    /// The slot of each row that came last.
    pub slots: Vec<u32>,
    together: Together,
}

impl Room {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>() + self.together.bytes()
    }
}

/// See the [module documentation](self).
#[derive(Default)]
pub(super) struct Waiting {
    keys: Vec<i64>,
    parts: Vec<Part>,
    /// Bytes of the values.
    bytes: usize,
}

/// The values of rows that came together.
pub(super) struct Part {
    pub values: Vec<Values>,
    /// The number of the first row, in order of arrival.
    pub sequence: u64,
    /// Which of the rows that wait they are.
    pub rows: Range<usize>,
}

impl Waiting {
    /// Takes rows in, if their keys are integers and not more than `most` rows wait then; whether it did.
    pub fn take(&mut self, rows: &Rows, sequence: u64, most: usize) -> bool {
        let start = self.keys.len();
        if start + rows.len() > most || !rows.keys.append_integers(&mut self.keys) {
            return false;
        }
        let values = rows.values.clone();
        self.bytes += values.iter().map(Values::bytes).sum::<usize>();
        self.parts.push(Part { values, sequence, rows: start..self.keys.len() });
        true
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Gives all rows away, their slots in `room`: their keys are the first of `keys`.
    ///
    /// # Errors
    /// As [`Keys::assign`].
    pub fn settle(&mut self, keys: &mut Keys, room: &mut Room) -> Result<Vec<Part>> {
        keys.assign_together(&self.keys, &mut room.together, &mut room.slots)?;
        let parts = std::mem::take(&mut self.parts);
        self.clear();
        Ok(parts)
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.parts.clear();
        self.bytes = 0;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<i64>() + self.parts.capacity() * size_of::<Part>() + self.bytes
    }
}
