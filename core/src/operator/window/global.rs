//! The global window: all rows of a key in order of event time, put out when a trigger says so.
//!
//! Rows wait until the watermark has passed them, so that what a trigger sees does not depend on the order in which they came. They are
//! accumulated into a pane of their key, and a new one after each result, so that results of one batch can be of different rows; panes
//! of a key become one after that.

use std::ops::Range;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::keyed::{Complete, KeyedPanes};
use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::aggregate::{Aggregate, Values};
use crate::operator::compact::{keep, moves, shrink};
use crate::operator::devices;
use crate::operator::event_time::on_time;
use crate::operator::held::{Held, Sorted};
use crate::operator::{Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::{END, NONE};
use crate::window::{GlobalSpec, Pending, Row, Triggers};

/// Columns of the table of panes in a snapshot: rows of the key since it was put out, and event time of the first of them.
const ROWS: &str = "rows";
const SINCE: &str = "since";

/// Panes of a key in one go, so that combining them for each result costs no more than that.
const MOST_PANES: usize = 8;

/// The global window, see the [module documentation](self).
pub struct GlobalWindow {
    triggers: Triggers,
    input: SchemaRef,
    held: Held,
    panes: KeyedPanes,
    /// By key.
    runs: Vec<Run>,
    /// Keys that are put out at the next moment for all, in the order of their first rows.
    touched: Vec<u32>,
    /// That moment, if there are any.
    due: Option<i64>,
    /// Keys with more than one pane.
    grown: Vec<u32>,
    watermark: i64,
    key_slots: Vec<u32>,
    slots: Vec<u32>,
}

/// What is known of a key.
#[derive(Debug, Clone, Default)]
struct Run {
    /// Oldest first.
    panes: Vec<u32>,
    /// Rows since it was put out.
    rows: u64,
    /// Event time of the first of them.
    since: i64,
    /// Whether it is among those touched.
    is_touched: bool,
}

impl GlobalWindow {
    /// `aggregates` over all rows of each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s. A key without
    /// rows for longer than `ttl` is put out and forgotten, if there is one.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if a trigger is impossible.
    pub fn new(
        (spec, ttl): (&GlobalSpec, Option<Duration>),
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
    ) -> Result<GlobalWindow> {
        Ok(GlobalWindow {
            triggers: spec.triggers(unit)?,
            input: SchemaRef::clone(schema),
            held: Held::default(),
            panes: KeyedPanes::new(by, aggregates, schema, unit, ttl, config)?,
            runs: Vec::new(),
            touched: Vec::new(),
            due: None,
            grown: Vec::new(),
            watermark: NONE,
            key_slots: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.panes.results.schema()
    }

    /// Takes rows, which are in order of time.
    fn take(&mut self, Sorted { records, times }: &Sorted, out: &mut Output) -> Result<()> {
        let mut keys = std::mem::take(&mut self.key_slots);
        self.panes.assign(records, &mut keys)?;
        self.runs.resize(self.panes.keys.slots(), Run::default());
        let values = self.panes.results.aggregates.values(records, times)?;
        let mut start = 0;
        while let Some(&time) = times.get(start) {
            if let Some(due) = self.due.take_if(|due| *due <= time) {
                self.put_out_all(due, out)?;
            }
            let until = self.triggers.next_after(time).map_or(times.len(), |next| times.partition_point(|&time| time < next));
            start = self.take_some(records, times, &keys, &values, start..until, out)?;
        }
        self.key_slots = keys;
        Ok(())
    }

    /// Takes some of the rows in a range, between which no moment for all lies; returns where the others begin.
    fn take_some(
        &mut self,
        records: &RecordBatch,
        times: &[i64],
        keys: &[u32],
        values: &[Values],
        rows: Range<usize>,
        out: &mut Output,
    ) -> Result<usize> {
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        let mut row = rows.start;
        while row < rows.end {
            slots.push(self.place(keys[row], Row { records, index: row, time: times[row] }));
            row += 1;
            if self.runs[keys[row - 1] as usize].panes.len() > MOST_PANES {
                break;
            }
        }
        let values: Vec<Values> = values.iter().map(|values| values.slice(rows.start..row)).collect();
        self.panes.accumulate(&slots, &values)?;
        self.slots = slots;
        self.settle(out)?;
        Ok(row)
    }

    /// The pane that takes a row of a key; notes the result that comes of it.
    fn place(&mut self, key: u32, row: Row<'_>) -> u32 {
        if let Some(due) = self.panes.seen(key, row.time, NONE) {
            self.end(key, Some(due));
        }
        let run = &mut self.runs[key as usize];
        if run.rows == 0 {
            run.panes.push(self.panes.begin());
            run.since = row.time;
            if run.panes.len() == 2 {
                self.grown.push(key);
            }
            if self.triggers.every.is_some() && !run.is_touched {
                run.is_touched = true;
                self.touched.push(key);
                self.due = self.due.or_else(|| self.triggers.next_after(row.time));
            }
        }
        run.rows += 1;
        let pane = run.panes.last().copied().unwrap_or_default();
        self.panes.note(pane, row.time);
        if self.triggers.fires(&Pending { row, rows: run.rows, since: run.since }) {
            self.fire(key, row.time);
        }
        pane
    }

    /// Notes a result of a key.
    fn fire(&mut self, key: u32, time: i64) {
        let run = &mut self.runs[key as usize];
        run.rows = 0;
        let (panes, gone) = match self.triggers.purge {
            true => (std::mem::take(&mut run.panes), usize::MAX),
            false => (run.panes.clone(), 0),
        };
        let gone = gone.min(panes.len());
        self.panes.complete.push(Complete { key, panes, gone, time });
    }

    /// Notes the last result of a key, as of event time `time` or the end of the input, if it has had rows since the one before; it
    /// begins anew.
    fn end(&mut self, key: u32, time: Option<i64>) {
        let run = &mut self.runs[key as usize];
        let panes = std::mem::take(&mut run.panes);
        if std::mem::take(&mut run.rows) > 0 {
            let gone = panes.len();
            // Whatever follows has come as far as the watermark: no result may be late to it.
            let time = time.unwrap_or_else(|| self.panes.span(&panes).1.max(self.watermark.saturating_add(1)));
            self.panes.complete.push(Complete { key, panes, gone, time });
        } else {
            self.panes.drop_panes(panes);
        }
    }

    /// Puts out what is complete, and makes one pane of those of each key.
    fn settle(&mut self, out: &mut Output) -> Result<()> {
        self.panes.put_out(out)?;
        for key in std::mem::take(&mut self.grown) {
            self.panes.merge(&mut self.runs[key as usize].panes);
        }
        Ok(())
    }

    /// Puts out all keys with rows since they were put out, whose moment is `due`.
    fn put_out_all(&mut self, due: i64, out: &mut Output) -> Result<()> {
        for key in std::mem::take(&mut self.touched) {
            let run = &mut self.runs[key as usize];
            run.is_touched = false;
            if run.rows > 0 {
                // The event time of a result is the last instant before the moment.
                self.fire(key, due.saturating_sub(1));
            }
        }
        self.settle(out)
    }

    /// Puts out and forgets the keys without rows for long enough.
    fn expire(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let gone = self.panes.expired(watermark);
        if gone.is_empty() {
            return Ok(());
        }
        gone.iter().for_each(|&(due, key)| self.end(key, Some(due)));
        self.panes.put_out(out)?;
        let keys: Vec<u32> = gone.into_iter().map(|(_, key)| key).collect();
        keys.iter().for_each(|&key| self.runs[key as usize] = Run::default());
        self.touched.retain(|&key| self.runs[key as usize].is_touched);
        self.panes.keys.remove_all(&keys);
        Ok(())
    }

    /// Bytes of what is not in the panes.
    fn state_beside(&self) -> usize {
        let lists = (self.touched.capacity() + self.grown.capacity()) * size_of::<u32>();
        self.held.bytes() + self.runs.capacity() * size_of::<Run>() + lists
    }
}

impl Operator for GlobalWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        if batch.time.is_none() {
            return Err(Error::config("a window needs event times; call `event_time(column)` before `window`"));
        }
        let batch = on_time(batch, self.watermark, &mut self.panes.results.keys, &mut out.late)?;
        if let Some(time) = batch.time.filter(|time| !time.times.is_empty()) {
            self.held.push(batch.records, &time.times)?;
        }
        self.panes.check("a global window's rows and panes", self.state_beside())
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        if let Some(due) = self.held.take(watermark)? {
            self.take(&due, out)?;
        }
        if watermark == END {
            (0..self.runs.len() as u32).for_each(|key| self.end(key, None));
            self.panes.put_out(out)?;
        } else {
            if let Some(due) = self.due.take_if(|due| due.saturating_sub(1) <= watermark) {
                self.put_out_all(due, out)?;
            }
            self.expire(watermark, out)?;
        }
        self.watermark = self.watermark.max(watermark);
        self.panes.check("a global window's rows and panes", self.state_beside())
    }

    fn waits_for(&self) -> Option<i64> {
        self.held.earliest().map(|time| time.saturating_add(1)).into_iter().chain(self.due).min()
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("sequence", self.panes.sequence as i64);
        self.held.save(&mut self.panes.results.keys, &mut saved)?;
        let runs = (0u32..).zip(&self.runs);
        let panes: Vec<(u32, u32)> = runs.flat_map(|(key, run)| run.panes.iter().map(move |&pane| (key, pane))).collect();
        let place = |name: &str, row: usize| {
            let (key, _) = panes[row];
            match name {
                ROWS => self.runs[key as usize].rows as i64,
                _ => self.runs[key as usize].since,
            }
        };
        self.panes.save([ROWS, SINCE], &panes, place, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        self.panes.sequence = saved.marked("sequence")? as u64;
        self.held.restore(&self.input, saved)?;
        let (keys, [rows, since]) = self.panes.load([ROWS, SINCE], saved)?;
        self.runs.resize(self.panes.keys.slots(), Run::default());
        for (row, &key) in keys.iter().enumerate() {
            let is_touched = rows[row] > 0 && self.triggers.every.is_some();
            self.runs[key as usize] = Run { panes: vec![row as u32], rows: rows[row] as u64, since: since[row], is_touched };
            self.touched.extend(is_touched.then_some(key));
        }
        let first = self.touched.iter().map(|&key| self.runs[key as usize].since).min();
        self.due = first.and_then(|time| self.triggers.next_after(time));
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        self.held.trim()?;
        let known = self.panes.keys.slots();
        if let Some(live) = self.panes.trim_keys()? {
            keep(&mut self.runs, &live);
            let moves = moves(&live, known);
            self.touched.iter_mut().for_each(|key| *key = moves[*key as usize]);
        }
        shrink(&mut self.touched);
        shrink(&mut self.grown);
        self.panes.trim_panes(self.runs.iter_mut().flat_map(|run| &mut run.panes));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.panes.bytes() + self.state_beside()
    }

    fn placement(&self) -> Option<String> {
        Some(self.panes.results.placement(&devices::unused()))
    }
}
