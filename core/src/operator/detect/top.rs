//! Which rows are among the strangest of their key's latest.

use thalweg_kernels::{LatestValues, rank_among_latest};

use crate::error::Result;
use crate::operator::detect::tally::Tally;
use crate::state::{Reader, Writer, damaged};

/// The latest scores of all keys.
pub(super) struct Top {
    /// Of how many rows the strangest are looked for, that which is judged among them.
    rows: u32,
    latest: Vec<LatestValues>,
    tally: Tally,
}

impl Top {
    /// The strangest of so many rows, at least 2.
    pub fn new(rows: u32) -> Top {
        Top { rows, latest: Vec::new(), tally: Tally::default() }
    }

    fn reach(&mut self, groups: usize) {
        self.latest.resize(self.latest.len().max(groups), LatestValues::default());
    }

    /// The rank of each row's score, the highest having 1; the greatest number where there is none.
    pub fn ranks(&mut self, slots: &[u32], groups: usize, scores: &[f64]) -> Vec<u32> {
        self.reach(groups);
        let mut ranks = vec![0; scores.len()];
        rank_among_latest(&mut self.latest, slots, scores, self.rows, &mut ranks);
        self.tally.look(scores.len(), &self.latest, LatestValues::bytes);
        ranks
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        self.latest.capacity() * size_of::<LatestValues>() + self.tally.bytes()
    }

    /// Writes what is known of the key in `slot`.
    pub fn save(&self, slot: u32, out: &mut Writer) {
        let latest: Vec<f64> = self.latest.get(slot as usize).into_iter().flat_map(LatestValues::in_order_of_arrival).collect();
        out.floats(&latest);
    }

    /// Takes up what was written of the key in `slot`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what was written.
    pub fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.reach(slot as usize + 1);
        let latest = LatestValues::restored(from.floats()?, self.rows as usize - 1);
        self.latest[slot as usize] = latest.ok_or_else(|| damaged("a key has more scores than are looked back on"))?;
        self.tally.look(1, &self.latest, LatestValues::bytes);
        Ok(())
    }
}
