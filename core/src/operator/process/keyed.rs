//! The operator around a function: keys, the cut of batches by key, and what is due.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{LargeBinaryBuilder, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

use super::context::{Context, Requests};
use super::emitted::Emitted;
use super::states::{Due, States, latest};
use super::{Process, Rows};
use crate::batch::{Batch, EventTime};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::event_time::on_time;
use crate::operator::held::{Held, Sorted};
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::operator::{Operator, Output};
use crate::state::{Reader, Saved, Writer, bytes, numbers};
use crate::time::Unit;
use crate::watermark::{END, NONE};

/// Name of the table of keys in a snapshot, and of its columns: number in the order in which keys came, event time of the latest row, and
/// timers and state.
const KEYS: &str = "keys";
const CREATED: &str = "created";
const LATEST: &str = "latest";
const STATE: &str = "state";

/// Runs a [`Process`].
pub(super) struct Keyed<P: Process> {
    process: Arc<P>,
    /// The columns that come in.
    input: SchemaRef,
    columns: KeyColumns,
    keys: Keys,
    states: States<P::State>,
    emitted: Emitted,
    requests: Requests,
    /// The rows that wait for the watermark, where they come in order of time.
    held: Option<Held>,
    watermark: i64,
    slots: Vec<u32>,
    by_key: ByKey,
    /// Set at the end of the input.
    closing: Option<Closing>,
    max_state_bytes: usize,
}

/// The last rows of the input: their keys, and by key the time of its last.
struct Closing {
    keys: Keys,
    last: Vec<i64>,
}

/// One call: which key it is for, when it is, and what the watermark was.
#[derive(Clone, Copy)]
struct Call {
    slot: u32,
    time: i64,
    mark: i64,
    is_timer: bool,
    /// Whether nothing can come of a timer that it sets.
    is_last: bool,
}

impl<P: Process> Keyed<P> {
    pub fn new(process: Arc<P>, by: &[String], input: &SchemaRef, unit: Option<Unit>, config: &Config) -> Result<Keyed<P>> {
        let needs_time = |what: &str| Error::config(format!("{what} needs event times; call `event_time(column)` before `process`"));
        let ttl = match (process.ttl(), unit) {
            (Some(ttl), Some(unit)) => Some(unit.count(ttl)?),
            (Some(_), None) => return Err(needs_time("`ttl`")),
            (None, _) => None,
        };
        if process.in_order() && unit.is_none() {
            return Err(needs_time("a process in order of time"));
        }
        let columns = KeyColumns::new(by, input, config.max_keys)?;
        Ok(Keyed {
            emitted: Emitted::new(process.schema(input)?, process.event_time(), unit, config.batch_rows)?,
            held: process.in_order().then(Held::default),
            process,
            input: Arc::clone(input),
            keys: columns.dictionary(),
            columns,
            states: States::new(ttl),
            requests: Requests::default(),
            watermark: NONE,
            slots: Vec::new(),
            by_key: ByKey::default(),
            closing: None,
            max_state_bytes: config.max_state_bytes,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.emitted.schema()
    }

    /// Gives rows to the function, key by key. `time` is theirs, unless they have none.
    fn give(&mut self, records: &RecordBatch, time: Option<&EventTime>, out: &mut Output) -> Result<()> {
        self.keys.assign(&self.columns.encode(records)?, &mut self.slots)?;
        let (order, groups) = self.by_key.sort(&self.slots, self.keys.slots());
        let is_ordered = order.is_sorted();
        let rows = |row: &u32| *row as usize;
        let (records, times, marks): (_, Cow<'_, [i64]>, Option<Vec<i64>>) = (
            if is_ordered { records.clone() } else { take_record_batch(records, &UInt32Array::from(order.clone()))? },
            match time {
                None => Cow::default(),
                Some(time) if is_ordered => Cow::Borrowed(&time.times),
                Some(time) => order.iter().map(|row| time.times[rows(row)]).collect(),
            },
            time.and_then(|time| time.watermarks.as_ref()).map(|marks| order.iter().map(|row| marks[rows(row)]).collect()),
        );
        let mut start = 0;
        for (slot, count) in groups {
            let range = start..start + count;
            start += count;
            let times = times.get(range.clone()).unwrap_or_default();
            let latest = latest(times);
            let behind = marks.as_ref().map_or(NONE, |marks| {
                let at = times.iter().position(|&time| time == latest);
                at.map_or(NONE, |at| marks[range.start + at])
            });
            self.states.seen(slot, latest);
            let call = Call { slot, time: latest, mark: behind.max(self.watermark), is_timer: false, is_last: false };
            let rows = Rows { records: records.slice(range.start, range.len()), times };
            self.call(call, out, |process, state, context| process.on_rows(&rows, state, context))?;
        }
        Ok(())
    }

    /// Calls the function and does what it asks for.
    fn call(
        &mut self,
        call: Call,
        out: &mut Output,
        function: impl FnOnce(&P, &mut P::State, &mut Context<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(entry) = self.states.get_mut(call.slot) else { return Ok(()) };
        let mut context = Context {
            columns: &self.columns,
            keys: &self.keys,
            slot: call.slot,
            watermark: self.watermark,
            time: call.time,
            is_timer: call.is_timer,
            requests: &mut self.requests,
        };
        function(&self.process, &mut entry.state, &mut context)?;
        let bytes = self.process.state_bytes(&entry.state);
        self.states.holds(call.slot, bytes);
        for rows in std::mem::take(&mut self.requests.emitted) {
            self.emitted.push(rows, call.time, call.mark, out)?;
        }
        for (time, set) in self.requests.timers.drain(..) {
            match set {
                true if call.is_last => {}
                true => self.states.set_timer(call.slot, time),
                false => self.states.delete_timer(call.slot, time),
            }
        }
        if std::mem::take(&mut self.requests.clear) {
            self.forget(call.slot);
        }
        Ok(())
    }

    fn forget(&mut self, slot: u32) {
        self.states.forget(slot);
        self.keys.remove_all(&[slot]);
    }

    fn fire(&mut self, slot: u32, time: i64, out: &mut Output) -> Result<()> {
        // In order, event time goes on from call to call; else it is where the watermark is, and has not got to the next step yet.
        let mark = if self.held.is_some() { time.saturating_sub(1) } else { NONE };
        self.watermark = self.watermark.max(if self.held.is_some() { time } else { NONE });
        let call = Call { slot, time, mark, is_timer: true, is_last: self.is_closed(slot, time)? };
        self.call(call, out, |process, state, context| process.on_timer(time, state, context))
    }

    /// Fires the timers up to `until` and forgets the keys that nothing was heard of.
    fn fire_due(&mut self, until: i64, out: &mut Output) -> Result<()> {
        while let Some(due) = self.states.next_due(until) {
            match due {
                Due::Timer { time, slot } => self.fire(slot, time, out)?,
                Due::Expired { slot } => self.forget(slot),
            }
        }
        Ok(())
    }

    /// The end of the input has come, with these rows as the last.
    ///
    /// A timer that fires after the last row of its key sets no other, or one that always sets another would fire without end. What is
    /// last is each key's own affair: so the answer does not depend on which keys share a worker.
    fn close(&mut self, rows: Option<&Sorted>) -> Result<()> {
        let (mut keys, mut last, mut slots) = (self.columns.dictionary(), Vec::new(), Vec::new());
        if let Some(rows) = rows {
            keys.assign(&self.columns.encode(&rows.records)?, &mut slots)?;
            last.resize(keys.slots(), NONE);
            slots.iter().zip(rows.times.iter()).for_each(|(&slot, &time)| last[slot as usize] = time);
        }
        self.closing = Some(Closing { keys, last });
        Ok(())
    }

    /// Whether the input has ended and no row of the key will come after `time`.
    fn is_closed(&mut self, slot: u32, time: i64) -> Result<bool> {
        let Some(Closing { keys, last }) = &mut self.closing else { return Ok(false) };
        let mut known = Vec::new();
        keys.assign(&self.columns.of(&self.keys, &Slots::List(&[slot]))?, &mut known)?;
        Ok(known.first().and_then(|&slot| last.get(slot as usize)).is_none_or(|&last| last <= time))
    }

    /// Gives rows that are in order of time, with what is due in between.
    fn give_in_order(&mut self, rows: &Sorted, out: &mut Output) -> Result<()> {
        let mut start = 0;
        while let Some(&time) = rows.times.get(start) {
            let end = start + rows.times[start..].partition_point(|&other| other == time);
            self.fire_due(time.saturating_sub(1), out)?;
            self.watermark = self.watermark.max(time.saturating_sub(1));
            let times = EventTime { times: rows.times.slice(start, end - start), watermarks: None, earliest: time, latest: time };
            self.give(&rows.records.slice(start, end - start), Some(&times), out)?;
            start = end;
        }
        Ok(())
    }

    fn check_state(&self) -> Result<()> {
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(Error::state(format!(
                "`{}` holds {bytes} bytes for {} keys, over its bound of {} bytes; let it clear keys that are done or give it a `ttl`, or raise \
                 `max_state_bytes`",
                self.process.name(),
                self.keys.slots(),
                self.max_state_bytes
            ))),
            _ => Ok(()),
        }
    }
}

impl<P: Process> Operator for Keyed<P> {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        if self.held.is_none() {
            self.give(&batch.records, batch.time.as_ref(), out)?;
            self.emitted.flush(out)?;
            return self.check_state();
        }
        let batch = on_time(batch, self.watermark, &mut self.columns, &mut out.late)?;
        if let (Some(held), Some(time)) = (&mut self.held, batch.time.as_ref().filter(|time| !time.times.is_empty())) {
            held.push(batch.records, &time.times)?;
        }
        self.check_state()
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let due = self.held.as_mut().map(|held| held.take(watermark)).transpose()?.flatten();
        if watermark == END {
            self.close(due.as_ref())?;
        }
        if let Some(rows) = due {
            self.give_in_order(&rows, out)?;
        }
        if self.held.is_none() {
            self.watermark = self.watermark.max(watermark);
        }
        self.fire_due(watermark, out)?;
        self.watermark = self.watermark.max(watermark);
        self.emitted.flush(out)?;
        self.check_state()
    }

    fn waits_for(&self) -> Option<i64> {
        let held = self.held.as_ref().and_then(Held::earliest).map(|time| time.saturating_add(1));
        held.into_iter().chain(self.states.earliest_timer()).min()
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        if let Some(held) = &self.held {
            held.save(&mut self.columns, &mut saved)?;
        }
        let (mut slots, mut created, mut latest, mut states) = (Vec::new(), Vec::new(), Vec::new(), LargeBinaryBuilder::new());
        for (slot, number, time, state, timers) in self.states.all() {
            let mut out = Writer::default();
            out.word(timers.len() as u64);
            timers.iter().for_each(|&time| out.word(time as u64));
            self.process.save(state, &mut out)?;
            states.append_value(out.take());
            slots.push(slot);
            created.push(number as i64);
            latest.push(time);
        }
        let (groups, keys) = self.columns.save(&self.keys, &Slots::List(&slots))?;
        let columns = [numbers(CREATED, created), numbers(LATEST, latest), bytes(STATE, Arc::new(states.finish()))];
        saved.add(KEYS, groups, columns.into_iter().chain(keys).collect())?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        if let Some(held) = &mut self.held {
            held.restore(&self.input, saved)?;
        }
        let Some(rows) = saved.table(KEYS) else { return Ok(()) };
        self.keys.assign(&self.columns.load(&rows, STATE)?, &mut self.slots)?;
        let (created, latest, states) = (rows.numbers(CREATED)?, rows.numbers(LATEST)?, rows.bytes(STATE)?);
        for (row, &slot) in self.slots.iter().enumerate() {
            let mut from = Reader::new(states.value(row));
            let timers = (0..from.count(8)?).map(|_| from.word().map(|time| time as i64)).collect::<Result<_>>()?;
            let state = self.process.load(&mut from)?;
            from.end()?;
            let bytes = self.process.state_bytes(&state);
            self.states.restore(slot, state, (created.value(row) as u64, latest.value(row)), timers);
            self.states.holds(slot, bytes);
        }
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        if let Some(held) = &mut self.held {
            held.trim()?;
        }
        if self.keys.is_sparse() {
            let live = self.states.slots();
            self.keys = self.columns.compacted(&self.keys, &live)?;
            self.states.keep(&live);
            self.by_key = ByKey::default();
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let by_slot = self.by_key.group_of.capacity() * size_of::<u32>();
        self.held.as_ref().map_or(0, Held::bytes) + self.keys.bytes() + self.states.bytes() + by_slot
    }
}

/// Room to sort rows by key.
#[derive(Default)]
struct ByKey {
    /// By slot, the number of its group; [`NO_GROUP`] between two calls.
    group_of: Vec<u32>,
}

const NO_GROUP: u32 = u32::MAX;

impl ByKey {
    /// The rows sorted by slot, those of one slot in order; and the slots in the order of their first rows, each with how many rows it
    /// has. Slots are below `known`.
    fn sort(&mut self, slots: &[u32], known: usize) -> (Vec<u32>, Vec<(u32, usize)>) {
        if let Some(&first) = slots.first().filter(|first| slots.iter().all(|slot| slot == *first)) {
            return ((0..slots.len() as u32).collect(), vec![(first, slots.len())]);
        }
        self.group_of.resize(known.max(self.group_of.len()), NO_GROUP);
        let mut groups: Vec<(u32, usize)> = Vec::new();
        for &slot in slots {
            let group = &mut self.group_of[slot as usize];
            if *group == NO_GROUP {
                *group = groups.len() as u32;
                groups.push((slot, 0));
            }
            groups[*group as usize].1 += 1;
        }
        let mut next = Vec::with_capacity(groups.len());
        groups.iter().fold(0, |start, (_, count)| {
            next.push(start);
            start + count
        });
        let mut order = vec![0; slots.len()];
        for (row, &slot) in slots.iter().enumerate() {
            let place: &mut usize = &mut next[self.group_of[slot as usize] as usize];
            order[*place] = row as u32;
            *place += 1;
        }
        groups.iter().for_each(|&(slot, _)| self.group_of[slot as usize] = NO_GROUP);
        (order, groups)
    }
}
