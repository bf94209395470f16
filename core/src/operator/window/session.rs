//! Session windows: a key's rows that follow each other closely.
//!
//! Rows are accumulated once, into the session that they fall into when they come; where a row joins two sessions, their groups
//! are merged. Sessions are put out in the order in which they end. A key is forgotten some time after its last session, as `idle`
//! says, or as soon as others need its place; no snapshot knows it any more.
//!
//! With an allowed lateness sessions stay for so long after they have ended. Rows that come meanwhile join them, and may so join one
//! with another; a session that has ended and that they changed is put out again, with the bounds that it has then. As in Flink what was put out before
//! is not taken back.

use std::collections::BTreeSet;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use thalweg_kernels::{gather, sorted_rows};

use super::idle::IdleKeys;
use super::results::{RESULT_ROWS, Results};
use super::saved::{LoadedGroups, SavedGroups};
use crate::batch::{Batch, EventTime};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::aggregate::{Accumulators, Aggregate, Placed, Spans};
use crate::operator::compact::is_sparse;
use crate::operator::devices;
use crate::operator::keys::{Keys, Slots};
use crate::operator::{Late, Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::{END, NONE};
use crate::window::{Ended, Revisions, SessionSpec, Sessions, TOGETHER};

/// Name of the table of sessions in a snapshot, and of the columns of their first and last event times.
const SESSIONS: &str = "sessions";
const FIRST: &str = "first";
const LAST: &str = "last";

/// Whether a session has changed since it was put out.
const CHANGED: &str = "changed";

/// Session windows, see the [module documentation](self).
pub struct SessionWindow {
    gap: i64,
    results: Results,
    keys: Keys,
    /// Keys that have no session.
    idle: IdleKeys,
    sessions: Sessions,
    /// By session.
    groups: Accumulators,
    /// Room for those that are put out, side by side.
    together: Accumulators,
    placed: Vec<Placed>,
    /// What results there are besides one at each session's end.
    revisions: Option<Revised>,
    watermark: i64,
    /// Rows that came so far: their numbers in order of arrival.
    sequence: u64,
    max_state_bytes: usize,
    key_slots: Vec<u32>,
    slots: Vec<u32>,
}

/// How results are revised, and which sessions have changed since they were put out.
struct Revised {
    lateness: i64,
    /// Event time from one early result to the next.
    early: Option<i64>,
    updates: bool,
    /// By session.
    changed: Vec<bool>,
    /// Those that have, by an end that they had then. One that ends later is put off when that moment comes.
    due: BTreeSet<(i64, u32)>,
}

impl Revised {
    fn new(revisions: &Revisions, unit: Unit) -> Result<Option<Revised>> {
        if revisions.none() {
            return Ok(None);
        }
        let lateness = unit.count(revisions.lateness)?;
        let early = revisions.early(unit)?;
        Ok(Some(Revised { lateness, early, updates: revisions.updates, changed: Vec::new(), due: BTreeSet::new() }))
    }

    /// Notes that a session, which ends at `end`, has changed.
    fn note(&mut self, slot: u32, end: i64) {
        let index = slot as usize;
        self.changed.resize(self.changed.len().max(index + 1), false);
        if !std::mem::replace(&mut self.changed[index], true) {
            self.due.insert((end, slot));
        }
    }

    /// Notes that a session has become part of another.
    fn merged(&mut self, slot: u32) {
        if let Some(changed) = self.changed.get_mut(slot as usize) {
            *changed = false;
        }
    }

    /// Takes out the changed sessions that have ended at `watermark`, or all; in no order.
    fn take(&mut self, watermark: i64, all: bool, end: impl Fn(u32) -> i64) -> Vec<u32> {
        let mut taken = Vec::new();
        let mut later = Vec::new();
        while let Some(&(_, slot)) = self.due.first().filter(|(end, _)| all || *end <= watermark) {
            self.due.pop_first();
            if !self.changed[slot as usize] {
                continue;
            }
            let end = end(slot);
            if all || end <= watermark {
                self.changed[slot as usize] = false;
                taken.push(slot);
            } else {
                later.push((end, slot));
            }
        }
        self.due.extend(later);
        taken
    }
}

impl SessionWindow {
    /// `aggregates` over the sessions of each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s, put out
    /// as `revisions` says.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if the gap is impossible.
    pub fn new(
        (spec, revisions): (SessionSpec, &Revisions),
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
            idle: IdleKeys::new(0),
            sessions: Sessions::new(gap),
            groups: Accumulators::new(&results.aggregates),
            together: Accumulators::new(&results.aggregates),
            placed: results.aggregates.columns.iter().map(|column| Placed::new(&devices, column)).collect(),
            results,
            revisions: Revised::new(revisions, unit)?,
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
        let lateness = self.lateness();
        let mut kept: Option<Vec<bool>> = None;
        for (row, (&key, &event_time)) in self.key_slots.iter().zip(&*time.times).enumerate() {
            if row % TOGETHER == 0 {
                self.sessions.look_up(&self.key_slots[row..self.key_slots.len().min(row + TOGETHER)]);
            }
            let mark = time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(self.watermark).saturating_sub(lateness);
            match self.sessions.place(key, event_time, mark) {
                Some(slot) => self.slots.push(slot),
                None => kept.get_or_insert_with(|| vec![true; time.times.len()])[row] = false,
            }
        }
        kept
    }

    /// Finds each row the slot of its key. Keys without a session make room if there are too many.
    fn assign(&mut self, records: &RecordBatch) -> Result<()> {
        let (keys, before) = (self.results.keys.encode(records)?, self.keys.live());
        if self.keys.assign(&keys, &mut self.key_slots).is_err() {
            self.forget_idle_keys();
            self.keys.assign(&keys, &mut self.key_slots)?;
        }
        self.idle.note_new(self.keys.live().saturating_sub(before));
        Ok(())
    }

    fn take(&mut self, batch: &Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        self.assign(&batch.records)?;
        let kept = self.place(time);
        self.groups.reserve(self.sessions.slots());
        let first = self.sequence;
        self.sequence += time.times.len() as u64;
        match kept {
            None => self.accumulate(&batch.records, time, first)?,
            Some(kept) => {
                let late = BooleanArray::from(kept.iter().map(|kept| !kept).collect::<Vec<_>>());
                self.forget_unused_keys(&late);
                let gap = self.gap;
                let late = Late::of(batch, &late, self.watermark, &mut self.results.keys)?;
                out.late.push(late.missed(|time| (time, time.saturating_add(gap))));
                let batch = batch.clone().filter(&BooleanArray::from(kept))?;
                if let Some(time) = &batch.time {
                    self.accumulate(&batch.records, time, first)?;
                }
            }
        }
        let merges = self.sessions.take_merges();
        for &(into, from) in &merges {
            self.groups.merge(into, from);
        }
        self.revise(&merges, out)?;
        self.check_state()
    }

    fn check_state(&mut self) -> Result<()> {
        if self.state_bytes() > self.max_state_bytes && self.idle_keys() > 0 {
            self.trim()?;
        }
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    /// How long sessions stay after they have ended.
    fn lateness(&self) -> i64 {
        self.revisions.as_ref().map_or(0, |revised| revised.lateness)
    }

    /// Notes which sessions the rows at hand have changed, and puts out those that are due at once.
    fn revise(&mut self, merges: &[(u32, u32)], out: &mut Output) -> Result<()> {
        let Some(revised) = &mut self.revisions else { return Ok(()) };
        let end = |slot: u32| self.sessions.get(slot).end;
        // In the order of merging: what a session became part of may be part of another by now.
        let parts: BTreeSet<u32> = merges.iter().map(|(_, from)| *from).collect();
        parts.iter().for_each(|&slot| revised.merged(slot));
        let changed = self.slots.iter().copied().chain(merges.iter().map(|(into, _)| *into)).filter(|slot| !parts.contains(slot));
        changed.for_each(|slot| revised.note(slot, end(slot)));
        let due = revised.take(self.watermark, revised.updates, end);
        self.put_out(due, out)
    }

    /// Puts out the sessions that have ended, and those that come early, if the watermark has passed another of their moments.
    fn put_out_due(&mut self, before: i64, out: &mut Output) -> Result<()> {
        let Some(revised) = &mut self.revisions else { return Ok(()) };
        let passed = |every: i64| before != NONE && before.div_euclid(every) != self.watermark.div_euclid(every);
        let early = self.watermark < END && revised.early.is_some_and(passed);
        let due = revised.take(self.watermark, early, |slot| self.sessions.get(slot).end);
        self.put_out(due, out)
    }

    /// Puts out sessions in the order of their ends, those of one end by key.
    fn put_out(&mut self, slots: Vec<u32>, out: &mut Output) -> Result<()> {
        let mut sessions: Vec<Ended> = slots.into_iter().map(|slot| self.sessions.get(slot)).collect();
        sessions.sort_by_key(|session| (session.end, session.key));
        sessions.chunks(RESULT_ROWS).try_for_each(|sessions| self.emit(sessions, out))
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

    /// Keys that have no session.
    fn idle_keys(&self) -> usize {
        self.keys.live().saturating_sub(self.sessions.keys())
    }

    /// Forgets the keys `gone`, which have lost their last session, or lets them stay.
    fn let_go(&mut self, gone: &[u32]) {
        self.idle.note_gone(gone.len(), self.keys.slots());
        if self.idle.none_may_stay() {
            self.keys.remove_all(gone);
        } else if self.idle.are_too_many(self.idle_keys(), self.sessions.keys(), self.keys.slots()) {
            self.forget_idle_keys();
        }
    }

    /// Forgets the keys that have no session.
    fn forget_idle_keys(&mut self) {
        self.sessions.reserve(self.keys.slots());
        self.keys.remove_all(&self.sessions.keys_without());
        self.idle.forgotten(self.sessions.keys());
    }

    fn over_bound(&self, bytes: usize) -> Error {
        Error::state(format!(
            "a session window holds {} sessions in {bytes} bytes, over its bound of {} bytes; use a shorter gap, a coarser key or a smaller \
             `max_delay`, or raise `max_state_bytes`",
            self.sessions.slots(),
            self.max_state_bytes
        ))
    }

    /// Puts out at most [`RESULT_ROWS`] sessions, which are in the order of their ends.
    fn emit(&mut self, sessions: &[Ended], out: &mut Output) -> Result<()> {
        let keys: Vec<u32> = sessions.iter().map(|session| session.key).collect();
        let slots: Vec<u32> = sessions.iter().map(|session| session.slot).collect();
        let starts: Vec<i64> = sessions.iter().map(|session| session.start).collect();
        let ends: Vec<i64> = sessions.iter().map(|session| session.end).collect();
        // The event time of a result is the last instant at which a row could have joined its session.
        let times = ends.clone();
        let spans = Spans::new(starts, ends, self.results.unit);
        if self.groups.has_tables() {
            return self.results.put_out_each((&self.keys, &keys), (&self.groups, &slots), spans, times, out);
        }
        // Each result goes over its groups, which lie anywhere: they are brought together once.
        self.together.gather(&self.groups, &slots);
        self.results.put_out_windows((&self.keys, &keys), &self.together, spans, times, out)
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
        let before = self.watermark;
        self.watermark = before.max(watermark);
        self.put_out_due(before, out)?;
        let gone = self.watermark.saturating_sub(if self.watermark == END { 0 } else { self.lateness() });
        let ended = self.sessions.ended(gone);
        if ended.is_empty() {
            return Ok(());
        }
        let ends: Vec<i64> = ended.iter().map(|session| session.end).collect();
        let (mut order, mut sorted, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        sorted_rows(&ends, &mut order);
        gather(&ended, &order, &mut sorted);
        // So many at a time that each is still in the cache when it is done with.
        for sessions in sorted.chunks(RESULT_ROWS) {
            if self.revisions.is_none() {
                self.emit(sessions, out)?;
            }
            self.groups.forget(&sessions.iter().map(|session| session.slot).collect::<Vec<u32>>());
            self.sessions.remove(sessions, &mut keys);
        }
        self.let_go(&keys);
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
        let sessions: Vec<Ended> = slots.iter().map(|&slot| self.sessions.get(slot)).collect();
        let keys: Vec<u32> = sessions.iter().map(|session| session.key).collect();
        let changed = |slot: u32| self.revisions.as_ref().is_some_and(|revised| revised.changed.get(slot as usize) == Some(&true));
        let place = |name: &str, row: usize| match name {
            FIRST => sessions[row].start,
            LAST => sessions[row].end - self.gap,
            _ => i64::from(changed(slots[row])),
        };
        let mut groups = SavedGroups::new(&[FIRST, LAST, CHANGED]);
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
        if let Some(revised) = &mut self.revisions {
            let changed = slots.iter().zip(loaded.numbers(CHANGED)?).filter(|(_, changed)| **changed != 0);
            changed.for_each(|(&slot, _)| revised.note(slot, self.sessions.get(slot).end));
        }
        self.idle = IdleKeys::new(self.sessions.keys());
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        self.forget_idle_keys();
        self.idle.spare(self.sessions.keys());
        self.together = self.groups.empty();
        self.sessions.trim();
        if !is_sparse(self.sessions.live(), self.sessions.slots()) && !self.keys.is_sparse() {
            return Ok(());
        }
        let open = self.sessions.open();
        let (sessions, live) = self.sessions.compacted(&open);
        self.keys = self.results.keys.compacted(&self.keys, &live)?;
        self.groups.keep(&open);
        if let Some(revised) = &mut self.revisions {
            let changed = open.iter().map(|&slot| revised.changed.get(slot as usize) == Some(&true)).collect::<Vec<_>>();
            (revised.changed, revised.due) = (Vec::new(), BTreeSet::new());
            let changed = (0u32..).zip(changed).filter(|(_, changed)| *changed);
            changed.for_each(|(slot, _)| revised.note(slot, sessions.get(slot).end));
        }
        self.sessions = sessions;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let placed: usize = self.placed.iter().map(Placed::bytes).sum();
        let revised =
            self.revisions.as_ref().map_or(0, |revised| revised.changed.capacity() + 2 * revised.due.len() * size_of::<(i64, u32)>());
        revised + self.keys.bytes() + self.sessions.bytes() + self.groups.bytes() + self.together.bytes() + placed
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&devices::unused()))
    }
}
