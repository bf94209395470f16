//! Which rows are among the strangest of their key's latest, or of those in a span of event time.

use thalweg_kernels::{KeptScore, LatestValues, RecentScores, TopWithin, rank_among_latest, rank_within};

use crate::error::Result;
use crate::operator::detect::by_key::Cells;
use crate::state::{Reader, Writer, damaged};

/// The scores of all keys among which the strangest are looked for.
pub(super) enum Top {
    /// The latest of so many rows, with that which is judged.
    Rows(u32, Cells<LatestValues>),
    /// Those in a span of event time.
    Within(TopWithin, Cells<RecentScores>),
}

impl Top {
    /// The strangest of so many rows, at least 2.
    pub fn of_rows(rows: u32) -> Top {
        Top::Rows(rows, Cells::new(Some(LatestValues::bytes)))
    }

    /// The strangest of a span of event time, with parameters that are in range.
    pub fn within(params: TopWithin) -> Top {
        Top::Within(params, Cells::new(Some(RecentScores::bytes)))
    }

    /// The rank of each row's score, the highest having 1; the greatest number where there is none. Of a span there must be times.
    pub fn ranks(&mut self, slots: &[u32], groups: usize, times: Option<&[i64]>, scores: &[f64]) -> Vec<u32> {
        let mut ranks = vec![u32::MAX; scores.len()];
        match self {
            Top::Rows(rows, latest) => {
                rank_among_latest(latest.reach(groups), slots, scores, *rows, &mut ranks);
                latest.look(scores.len());
            }
            Top::Within(params, recent) => {
                // A stream with an event time has it in every batch.
                if let Some(times) = times {
                    rank_within(recent.reach(groups), slots, times, scores, params, &mut ranks);
                }
                recent.look(scores.len());
            }
        }
        ranks
    }

    /// Moves the scores of the keys in `slots` together in this order, and forgets all others.
    pub fn keep(&mut self, slots: &[u32]) {
        match self {
            Top::Rows(_, latest) => latest.keep(slots),
            Top::Within(_, recent) => recent.keep(slots),
        }
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
            Top::Rows(_, latest) => latest.save(slot, |latest| out.floats(&latest.in_order_of_arrival().collect::<Vec<f64>>())),
            Top::Within(_, recent) => recent.save(slot, |recent| {
                out.words(&[recent.earliest as u64, recent.kept().len() as u64]);
                for KeptScore { time, score, dominated_by } in recent.kept() {
                    out.words(&[*time as u64, score.to_bits(), (*dominated_by).into()]);
                }
            }),
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
                latest.load(slot, scores);
            }
            Top::Within(params, recent) => {
                let earliest = from.word()? as i64;
                let kept = (0..from.count(size_of::<[u64; 3]>())?).map(|_| {
                    let [time, score, dominated_by] = from.words()?;
                    let dominated_by = u32::try_from(dominated_by).unwrap_or(u32::MAX);
                    Ok(KeptScore { time: time as i64, score: f64::from_bits(score), dominated_by })
                });
                let scores = RecentScores::restored(earliest, kept.collect::<Result<Vec<_>>>()?, params).ok_or_else(unsound)?;
                recent.load(slot, scores);
            }
        }
        Ok(())
    }
}
