//! Events: one score for neighbouring rows that score high.
//!
//! A row begins an event if its score is above 0 and no event of its key is on. The event is on for the refractory span, counted
//! from its latest row that was not held back. A row within it is held back, its event score 0, unless it scores higher than all
//! rows of the event before it: then it keeps its score, and the span is counted from it. No threshold is needed, so that one can
//! be chosen afterwards: whatever it is, the first row that reaches it is among those that keep their score.
//!
//! Source of the rule: refractory periods of neurons and of triggers in seismology; here with the peak as the level.

use crate::error::Result;
use crate::operator::compact::keep;
use crate::state::{Reader, Writer};

/// The latest event of a key.
#[derive(Debug, Clone, Copy, Default)]
struct Event {
    /// The highest score; 0 before the first event.
    peak: f64,
    /// Where its latest row that was not held back is: number of the row or event time.
    latest: i64,
    /// Rows of the key that had a score.
    rows: i64,
}

/// The events of all keys.
#[derive(Debug)]
pub(super) struct Events {
    /// Rows or units of event time.
    span: u64,
    by_slot: Vec<Event>,
}

impl Events {
    /// Rows within `span` of an event's latest row belong to it.
    pub fn new(span: u64) -> Events {
        Events { span, by_slot: Vec::new() }
    }

    /// The event score of each row: its score, or 0 if it is held back; NaN where there is none. Places are event times, or the
    /// numbers of a key's rows if there are none.
    pub fn hold_back(&mut self, slots: &[u32], groups: usize, times: Option<&[i64]>, scores: &[f64]) -> Vec<f64> {
        self.by_slot.resize(groups.max(self.by_slot.len()), Event::default());
        let row = |(row, (&slot, &score)): (usize, (&u32, &f64))| {
            if score.is_nan() {
                return score;
            }
            let event = &mut self.by_slot[slot as usize];
            event.rows += 1;
            let place = times.map_or(event.rows, |times| times[row]);
            let is_on = event.peak > 0.0 && place.abs_diff(event.latest) <= self.span;
            if score <= 0.0 || is_on && score <= event.peak {
                return 0.0;
            }
            (event.peak, event.latest) = (score, place);
            score
        };
        slots.iter().zip(scores).enumerate().map(row).collect()
    }

    /// Moves the events of the keys in `slots` together in this order, and forgets all others.
    pub fn keep(&mut self, slots: &[u32]) {
        keep(&mut self.by_slot, slots);
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        self.by_slot.capacity() * size_of::<Event>()
    }

    /// Writes what is known of the key in `slot`.
    pub fn save(&self, slot: u32, out: &mut Writer) {
        let Event { peak, latest, rows } = self.by_slot.get(slot as usize).copied().unwrap_or_default();
        out.float(peak);
        out.words(&[latest as u64, rows as u64]);
    }

    /// Takes up what was written of the key in `slot`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there is less than was written.
    pub fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.by_slot.resize(self.by_slot.len().max(slot as usize + 1), Event::default());
        let peak = from.float()?;
        let [latest, rows] = from.words()?;
        self.by_slot[slot as usize] = Event { peak, latest: latest as i64, rows: rows as i64 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    #[test]
    fn the_first_row_of_an_event_keeps_its_score_and_so_do_new_peaks() {
        let scores = [0.0, 2.0, 1.0, 2.0, f64::NAN, 3.0, 2.9, 3.0, 3.0, 1.0];
        let expected = [0.0, 2.0, 0.0, 0.0, f64::NAN, 3.0, 0.0, 0.0, 3.0, 0.0];
        for batch in [1, 3, 10] {
            let mut events = Events::new(2);
            let held = scores.chunks(batch).flat_map(|scores| events.hold_back(&vec![0; scores.len()], 1, None, scores));
            for (row, (held, expected)) in held.zip(expected).enumerate() {
                assert!(held == expected || held.is_nan() && expected.is_nan(), "row {row}: {held}");
            }
        }
    }

    #[test]
    fn events_of_keys_are_apart_and_time_counts_both_ways() {
        let mut events = Events::new(10);
        let times = [100, 100, 95, 110, 85, 111];
        assert_eq!(events.hold_back(&[0, 1, 0, 0, 0, 1], 2, Some(&times), &[1.0; 6]), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    }
}
