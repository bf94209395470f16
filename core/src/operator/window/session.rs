//! Session windows: a key's rows that follow each other closely.
//!
//! Rows are accumulated once, into the session that they fall into when they come; where a row joins two sessions, their groups
//! are merged. Sessions are put out in the order in which they end. A key is forgotten with its last session.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use thalweg_kernels::sorted_rows;

use super::results::{RESULT_ROWS, Results};
use super::saved::{LoadedGroups, SavedGroups};
use crate::batch::{Batch, EventTime};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::aggregate::{Accumulators, Aggregate, Placed, Spans};
use crate::operator::devices;
use crate::operator::keys::{Keys, Slots};
use crate::operator::{Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::NONE;
use crate::window::{SessionSpec, Sessions, TOGETHER};

/// Name of the table of sessions in a snapshot, and of the columns of their first and last event times.
const SESSIONS: &str = "sessions";
const FIRST: &str = "first";
const LAST: &str = "last";

/// Session windows, see the [module documentation](self).
pub struct SessionWindow {
    gap: i64,
    results: Results,
    keys: Keys,
    sessions: Sessions,
    /// By session.
    groups: Accumulators,
    placed: Vec<Placed>,
    watermark: i64,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
    max_state_bytes: usize,
    key_slots: Vec<u32>,
    slots: Vec<u32>,
}

impl SessionWindow {
    /// `aggregates` over the sessions of each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if the gap is impossible.
    pub fn new(
        spec: SessionSpec,
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
    ) -> Result<SessionWindow> {
        let gap = spec.gap(unit)?;
        let results = Results::new(by, aggregates, schema, unit, config)?;
        let devices = devices::unused();
        Ok(SessionWindow {
            gap,
            keys: results.keys.dictionary(),
            sessions: Sessions::new(gap),
            groups: Accumulators::new(&results.aggregates),
            placed: results.aggregates.columns.iter().map(|column| Placed::new(&devices, column)).collect(),
            results,
            watermark: NONE,
            sequence: 0,
            max_state_bytes: config.max_state_bytes,
            key_slots: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.results.schema()
    }

    /// The gap in units of event time.
    pub fn gap(&self) -> i64 {
        self.gap
    }

    /// Finds each row its session. Returns which rows have one, unless all have.
    fn place(&mut self, time: &EventTime) -> Option<Vec<bool>> {
        self.slots.clear();
        self.sessions.reserve(self.keys.slots());
        let mut kept: Option<Vec<bool>> = None;
        for (row, (&key, &event_time)) in self.key_slots.iter().zip(&*time.times).enumerate() {
            if row % TOGETHER == 0 {
                self.sessions.look_up(&self.key_slots[row..self.key_slots.len().min(row + TOGETHER)]);
            }
            let mark = time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(self.watermark);
            match self.sessions.place(key, event_time, mark) {
                Some(slot) => self.slots.push(slot),
                None => kept.get_or_insert_with(|| vec![true; time.times.len()])[row] = false,
            }
        }
        kept
    }

    fn take(&mut self, batch: &Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        self.keys.assign(&self.results.keys.encode(&batch.records)?, &mut self.key_slots)?;
        let kept = self.place(time);
        self.groups.reserve(self.sessions.slots());
        let first = self.sequence;
        self.sequence += time.times.len() as u64;
        match kept {
            None => self.accumulate(&batch.records, time, first)?,
            Some(kept) => {
                let late = BooleanArray::from(kept.iter().map(|kept| !kept).collect::<Vec<_>>());
                self.forget_unused_keys(&late);
                out.late.push(batch.clone().filter(&late)?);
                let batch = batch.clone().filter(&BooleanArray::from(kept))?;
                if let Some(time) = &batch.time {
                    self.accumulate(&batch.records, time, first)?;
                }
            }
        }
        for (into, from) in self.sessions.take_merges() {
            self.groups.merge(into, from);
        }
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    /// Takes rows into the sessions `slots`.
    fn accumulate(&mut self, records: &RecordBatch, time: &EventTime, sequence: u64) -> Result<()> {
        let values = self.results.aggregates.values(records, &time.times)?;
        self.groups.accumulate(&self.slots, &values, sequence, &mut self.placed)?;
        self.groups.settle(&mut self.placed);
        Ok(())
    }

    /// Forgets the keys that came with late rows only.
    fn forget_unused_keys(&mut self, late: &BooleanArray) {
        let keys = self.key_slots.iter().zip(late.values()).filter(|(_, late)| *late).map(|(key, _)| *key);
        let mut keys: Vec<u32> = keys.filter(|&key| !self.sessions.has_any(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        self.keys.remove_all(&keys);
    }

    fn over_bound(&self, bytes: usize) -> Error {
        Error::state(format!(
            "a session window holds {} sessions in {bytes} bytes, over its bound of {} bytes; use a shorter gap, a coarser key or a smaller \
             `max_delay`, or raise `max_state_bytes`",
            self.sessions.slots(),
            self.max_state_bytes
        ))
    }

    /// Puts out sessions, which are in the order of their ends.
    fn emit(&self, slots: &[u32], out: &mut Output) -> Result<()> {
        for slots in slots.chunks(RESULT_ROWS) {
            let (mut keys, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for &slot in slots {
                let (key, start, end) = self.sessions.get(slot);
                keys.push(key);
                starts.push(start);
                ends.push(end);
            }
            // The event time of a result is the last instant at which a row could have joined its session.
            let times = ends.clone();
            let spans = Spans::new(starts, ends, self.results.unit);
            self.results.put_out_each((&self.keys, &keys), (&self.groups, slots), spans, times, out)?;
        }
        Ok(())
    }
}

impl Operator for SessionWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        match &batch.time {
            Some(time) => self.take(&batch, time, out),
            None => Err(Error::config("a window needs event times; call `event_time(column)` before `window`")),
        }
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let ended = self.sessions.ended(self.watermark);
        if ended.is_empty() {
            return Ok(());
        }
        let ends: Vec<i64> = ended.iter().map(|&slot| self.sessions.get(slot).2).collect();
        let mut order = Vec::new();
        sorted_rows(&ends, &mut order);
        let ended: Vec<u32> = order.into_iter().map(|row| ended[row as usize]).collect();
        self.emit(&ended, out)?;
        self.groups.forget(&ended);
        let mut keys = Vec::new();
        self.sessions.remove(&ended, &mut keys);
        self.keys.remove_all(&keys);
        Ok(())
    }

    fn waits_for(&self) -> Option<i64> {
        self.sessions.earliest_end()
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("sequence", self.sequence as i64);
        let slots = self.sessions.open();
        let sessions: Vec<(u32, i64, i64)> = slots.iter().map(|&slot| self.sessions.get(slot)).collect();
        let keys: Vec<u32> = sessions.iter().map(|(key, ..)| *key).collect();
        let place = |name: &str, row: usize| if name == FIRST { sessions[row].1 } else { sessions[row].2 - self.gap };
        let mut groups = SavedGroups::new(&[FIRST, LAST]);
        groups.add(place, &mut self.results, (&self.keys, &Slots::List(&keys)), (&self.groups, &Slots::List(&slots)))?;
        groups.put(SESSIONS, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        self.sequence = saved.marked("sequence")? as u64;
        let Some(loaded) = LoadedGroups::get(saved, SESSIONS, &mut self.results)? else { return Ok(()) };
        let rows: Vec<u32> = (0..loaded.len() as u32).collect();
        self.keys.assign(&loaded.keys(&rows)?, &mut self.key_slots)?;
        self.sessions.reserve(self.keys.slots());
        let spans = loaded.numbers(FIRST)?.iter().zip(loaded.numbers(LAST)?);
        let slots: Vec<u32> =
            self.key_slots.iter().zip(spans).map(|(&key, (&first, &last))| self.sessions.restore(key, first, last)).collect();
        self.groups.add_at(&loaded.groups(&self.groups, &rows)?, &slots, self.sessions.slots());
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let placed: usize = self.placed.iter().map(Placed::bytes).sum();
        self.keys.bytes() + self.sessions.bytes() + self.groups.bytes() + placed
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&devices::unused()))
    }
}
