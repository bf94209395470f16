//! Drops rows that repeat another: the same key again, near in event time.
//!
//! The first row of a key, in order of arrival, is kept; rows of the key whose event time is at most `within` from that of a row
//! that was kept, before or after, are duplicates and dropped. Rows that are kept stay as they are and in order.
//!
//! What was kept is remembered until the watermark is `within` past it, when no row that is on time can repeat it any more.
//! So a row behind the watermark may repeat one that is forgotten: unless it repeats one that is not, it is late.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::operator::{Late, Operator, Output};
use crate::state::{Saved, numbers};
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::Timers;

/// Keys are looked at again in buckets of this part of `within`: short enough that one is soon over, few enough that most are near.
const BUCKETS_PER_SPAN: i64 = 64;

/// Name of the table in a snapshot of what was kept, and of its column of event times.
const KEPT: &str = "kept";
const TIME: &str = "event time";

/// Drops duplicates, see the [module documentation](self).
pub struct Dedup {
    columns: KeyColumns,
    keys: Keys,
    kept: Kept,
    watermark: i64,
    max_state_bytes: usize,
    slots: Vec<u32>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Duplicate,
    Late,
}

impl Dedup {
    /// Keeps the first row of each key made of the columns `by` of `schema` within a span of event time, which counts `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown; [`Kind::Config`](crate::error::Kind::Config) if there is
    /// no event time, no column, or the span is finer than the unit.
    pub fn new(by: &[String], within: Duration, schema: &SchemaRef, unit: Option<Unit>, config: &Config) -> Result<Dedup> {
        let unit = unit.ok_or_else(no_event_time)?;
        if by.is_empty() {
            return Err(Error::config("`dedup` needs at least one column that tells rows apart, such as an order's number"));
        }
        let columns = KeyColumns::new(by, schema, config.max_keys)?;
        Ok(Dedup {
            keys: columns.dictionary(),
            columns,
            kept: Kept::new(unit.count(within)?),
            watermark: NONE,
            max_state_bytes: config.max_state_bytes,
            slots: Vec::new(),
        })
    }

    /// What becomes of each row of a batch. Keys of which nothing is remembered afterwards are forgotten.
    fn judge(&mut self, batch: &Batch) -> Result<Vec<Fate>> {
        let time = batch.time.as_ref().ok_or_else(no_event_time)?;
        self.keys.assign(&self.columns.encode(&batch.records)?, &mut self.slots)?;
        self.kept.reserve(self.keys.slots());
        let mut fates = Vec::with_capacity(self.slots.len());
        let mut unused = Vec::new();
        for (row, (&slot, &event_time)) in self.slots.iter().zip(&*time.times).enumerate() {
            let mark = time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(self.watermark);
            let fate = self.kept.judge(slot, event_time, mark);
            if fate == Fate::Late {
                unused.push(slot);
            }
            fates.push(fate);
        }
        unused.retain(|&slot| !self.kept.has_any(slot));
        unused.sort_unstable();
        unused.dedup();
        self.keys.remove_all(&unused);
        Ok(fates)
    }

    fn check_state(&self) -> Result<()> {
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(Error::state(format!(
                "`dedup` remembers {} keys in {bytes} bytes, over its bound of {} bytes; give it a shorter `within` or a smaller `max_delay`, or \
                 raise `max_state_bytes`",
                self.keys.slots(),
                self.max_state_bytes
            ))),
            _ => Ok(()),
        }
    }
}

fn no_event_time() -> Error {
    Error::config("`dedup` needs event times; call `event_time(column)` before `dedup`, or `arrival_time(name)` for the clock's")
}

impl Operator for Dedup {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let fates = self.judge(&batch)?;
        let of = |wanted: Fate| -> BooleanArray { fates.iter().map(|&fate| Some(fate == wanted)).collect() };
        let late = fates.contains(&Fate::Late).then(|| of(Fate::Late));
        out.duplicates += fates.iter().filter(|&&fate| fate == Fate::Duplicate).count() as u64;
        if let Some(late) = late {
            out.late.push(Late::of(&batch, &late, self.watermark, &mut self.columns)?);
        }
        let kept = batch.filter(&of(Fate::Kept))?;
        if kept.rows() > 0 {
            out.batches.push(kept);
        }
        self.check_state()
    }

    fn on_watermark(&mut self, watermark: i64, _out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let gone = self.kept.forget(self.watermark);
        self.keys.remove_all(&gone);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        let (slots, times): (Vec<u32>, Vec<i64>) = self.kept.all().into_iter().unzip();
        let (groups, keys) = self.columns.save(&self.keys, &Slots::List(&slots))?;
        saved.add(KEPT, groups, std::iter::once(numbers(TIME, times)).chain(keys).collect())?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        let Some(rows) = saved.table(KEPT) else { return Ok(()) };
        self.keys.assign(&self.columns.load(&rows, TIME)?, &mut self.slots)?;
        self.kept.reserve(self.keys.slots());
        for (&slot, &time) in self.slots.iter().zip(rows.numbers(TIME)?.values()) {
            self.kept.remember(slot, time);
        }
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        self.kept.timers.trim();
        if !self.keys.is_sparse() {
            return Ok(());
        }
        // Made anew it is as large as what it holds.
        let saved = self.snapshot()?;
        (self.keys, self.kept) = (self.columns.dictionary(), Kept::new(self.kept.within));
        self.restore(&saved)
    }

    fn state_bytes(&self) -> usize {
        self.keys.bytes() + self.kept.bytes()
    }
}

/// The event times of the rows that were kept, by the slot of their key.
struct Kept {
    within: i64,
    /// By slot, the latest; [`NONE`] of slots without a key.
    latest: Vec<i64>,
    /// The others that are remembered.
    earlier: BTreeSet<(u32, i64)>,
    /// Slots by when their key may be forgotten: each live slot is in one bucket. A key that was kept again meanwhile is put into
    /// a later one.
    timers: Timers,
}

impl Kept {
    fn new(within: i64) -> Kept {
        Kept { within, latest: Vec::new(), earlier: BTreeSet::new(), timers: Timers::new((within / BUCKETS_PER_SPAN).max(1)) }
    }

    /// Makes room for slots below `slots`.
    fn reserve(&mut self, slots: usize) {
        self.latest.resize(slots.max(self.latest.len()), NONE);
    }

    fn has_any(&self, slot: u32) -> bool {
        self.latest[slot as usize] != NONE
    }

    /// What becomes of a row that comes at event time `time` when the watermark is `mark`; remembers it if it is kept.
    fn judge(&mut self, slot: u32, time: i64, mark: i64) -> Fate {
        // Lowest of all times is the mark of a slot without a key.
        let time = time.max(NONE + 1);
        if self.repeats(slot, time, mark) {
            return Fate::Duplicate;
        }
        if time <= mark {
            return Fate::Late;
        }
        self.remember(slot, time);
        Fate::Kept
    }

    /// Remembers a row that was kept.
    fn remember(&mut self, slot: u32, time: i64) {
        let latest = self.latest[slot as usize];
        if latest == NONE {
            self.latest[slot as usize] = time;
            self.timers.push(time.saturating_add(self.within), slot);
        } else {
            self.earlier.insert((slot, latest.min(time)));
            self.latest[slot as usize] = latest.max(time);
        }
    }

    /// All that is remembered: slots with event times.
    fn all(&self) -> Vec<(u32, i64)> {
        let latest = (0u32..).zip(&self.latest).filter(|(_, time)| **time != NONE).map(|(slot, &time)| (slot, time));
        latest.chain(self.earlier.iter().copied()).collect()
    }

    /// Whether a row is near one that was kept and is remembered: forgetting is decided by the watermark alone, not by when the
    /// memory is tidied.
    fn repeats(&self, slot: u32, time: i64, mark: i64) -> bool {
        let latest = self.latest[slot as usize];
        let (low, high) = (time.saturating_sub(self.within), time.saturating_add(self.within));
        let near = |kept: i64| (low..=high).contains(&kept) && kept.saturating_add(self.within) > mark;
        if latest == NONE || low > latest {
            return false;
        }
        near(latest) || !self.earlier.is_empty() && self.earlier.range((slot, low)..=(slot, high)).any(|&(_, kept)| near(kept))
    }

    /// Forgets what no row after `watermark` repeats; returns the slots of which nothing is left.
    fn forget(&mut self, watermark: i64) -> Vec<u32> {
        let mut gone = Vec::new();
        let forgotten = |kept: i64| kept.saturating_add(self.within) <= watermark;
        self.timers.due(watermark, |slot| {
            let latest = self.latest[slot as usize];
            let earlier: Vec<(u32, i64)> =
                self.earlier.range((slot, NONE)..(slot, latest)).take_while(|(_, kept)| forgotten(*kept)).copied().collect();
            earlier.iter().for_each(|entry| {
                self.earlier.remove(entry);
            });
            if !forgotten(latest) {
                return Some(latest.saturating_add(self.within));
            }
            self.latest[slot as usize] = NONE;
            gone.push(slot);
            None
        });
        gone
    }

    fn bytes(&self) -> usize {
        // A set of pairs holds them in nodes that are at least half full.
        let set = 2 * self.earlier.len() * size_of::<(u32, i64)>();
        self.latest.capacity() * size_of::<i64>() + set + self.timers.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_forgotten_when_no_row_on_time_can_repeat_it() {
        let mut kept = Kept::new(100);
        kept.reserve(2);
        assert_eq!(kept.judge(0, 1_000, NONE), Fate::Kept);
        assert_eq!(kept.judge(1, 1_000, NONE), Fate::Kept);
        assert_eq!(kept.judge(0, 1_100, NONE), Fate::Duplicate);
        assert_eq!(kept.judge(0, 1_101, NONE), Fate::Kept);
        assert_eq!(kept.judge(0, 900, NONE), Fate::Duplicate, "before the first");
        assert_eq!(kept.judge(0, 899, NONE), Fate::Kept);
        assert!(kept.forget(1_099).is_empty());
        assert_eq!(kept.forget(1_100), [1]);
        assert!(!kept.has_any(1) && kept.has_any(0) && kept.earlier.is_empty(), "of the other key its latest row is remembered");
        assert_eq!(kept.judge(0, 1_050, 1_100), Fate::Duplicate, "late, and the same as one remembered");
        assert_eq!(kept.judge(1, 1_050, 1_100), Fate::Late);
        assert_eq!(kept.forget(i64::MAX), [0]);
        assert!(kept.timers.first().is_none() && kept.earlier.is_empty());
    }

    #[test]
    fn times_at_the_ends_do_not_overflow() {
        let mut kept = Kept::new(10);
        kept.reserve(1);
        for time in [i64::MIN, i64::MAX] {
            assert_eq!(kept.judge(0, time, NONE), Fate::Kept, "{time}");
            assert_eq!(kept.judge(0, time, NONE), Fate::Duplicate, "{time}");
        }
        assert_eq!(kept.forget(i64::MAX), [0]);
    }
}
