//! Which rows are among the strangest of their key's latest, or of those in a span of event time.

use thalweg_kernels::{KeptScore, LatestValues, RecentScores, TopWithin, rank_among_latest, rank_within};

use crate::error::Result;
use crate::operator::detect::tally::Tally;
use crate::state::{Reader, Writer, damaged};

/// The scores of all keys among which the strangest are looked for.
pub(super) enum Top {
    /// The latest of so many rows, with that which is judged.
    Rows(u32, Scores<LatestValues>),
    /// Those in a span of event time.
    Within(TopWithin, Scores<RecentScores>),
}

/// Scores by key.
#[derive(Default)]
pub(super) struct Scores<C> {
    by_slot: Vec<C>,
    tally: Tally,
}

impl<C: Clone + Default> Scores<C> {
    fn reach(&mut self, groups: usize) -> &mut [C] {
        self.by_slot.resize(self.by_slot.len().max(groups), C::default());
        &mut self.by_slot
    }

    fn set(&mut self, slot: u32, scores: C, bytes: impl Fn(&C) -> usize) {
        self.reach(slot as usize + 1)[slot as usize] = scores;
        self.tally.look(1, &self.by_slot, bytes);
    }

    fn get(&self, slot: u32) -> C {
        self.by_slot.get(slot as usize).cloned().unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        self.by_slot.capacity() * size_of::<C>() + self.tally.bytes()
    }
}

impl Top {
    /// The strangest of so many rows, at least 2.
    pub fn of_rows(rows: u32) -> Top {
        Top::Rows(rows, Scores::default())
    }

    /// The strangest of a span of event time, with parameters that are in range.
    pub fn within(params: TopWithin) -> Top {
        Top::Within(params, Scores::default())
    }

    /// The rank of each row's score, the highest having 1; the greatest number where there is none. Of a span there must be times.
    pub fn ranks(&mut self, slots: &[u32], groups: usize, times: Option<&[i64]>, scores: &[f64]) -> Vec<u32> {
        let mut ranks = vec![u32::MAX; scores.len()];
        match self {
            Top::Rows(rows, latest) => {
                rank_among_latest(latest.reach(groups), slots, scores, *rows, &mut ranks);
                latest.tally.look(scores.len(), &latest.by_slot, LatestValues::bytes);
            }
            Top::Within(params, recent) => {
                // A stream with an event time has it in every batch.
                if let Some(times) = times {
                    rank_within(recent.reach(groups), slots, times, scores, params, &mut ranks);
                }
                recent.tally.look(scores.len(), &recent.by_slot, RecentScores::bytes);
            }
        }
        ranks
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        match self {
            Top::Rows(_, latest) => latest.bytes(),
            Top::Within(_, recent) => recent.bytes(),
        }
    }

    /// Writes what is known of the key in `slot`.
    pub fn save(&self, slot: u32, out: &mut Writer) {
        match self {
            Top::Rows(_, latest) => out.floats(&latest.get(slot).in_order_of_arrival().collect::<Vec<f64>>()),
            Top::Within(_, recent) => {
                let recent = recent.get(slot);
                out.words(&[recent.earliest as u64, recent.kept().len() as u64]);
                for KeptScore { time, score, dominated_by } in recent.kept() {
                    out.words(&[*time as u64, score.to_bits(), (*dominated_by).into()]);
                }
            }
        }
    }

    /// Takes up what was written of the key in `slot`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what was written.
    pub fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        let unsound = || damaged("a key has more scores than are looked back on");
        match self {
            Top::Rows(rows, latest) => {
                let scores = LatestValues::restored(from.floats()?, *rows as usize - 1).ok_or_else(unsound)?;
                latest.set(slot, scores, LatestValues::bytes);
            }
            Top::Within(params, recent) => {
                let earliest = from.word()? as i64;
                let kept = (0..from.count(size_of::<[u64; 3]>())?).map(|_| {
                    let [time, score, dominated_by] = from.words()?;
                    let dominated_by = u32::try_from(dominated_by).unwrap_or(u32::MAX);
                    Ok(KeptScore { time: time as i64, score: f64::from_bits(score), dominated_by })
                });
                let scores = RecentScores::restored(earliest, kept.collect::<Result<Vec<_>>>()?, params).ok_or_else(unsound)?;
                recent.set(slot, scores, RecentScores::bytes);
            }
        }
        Ok(())
    }
}
