//! Windows of a number of rows of a key, in the order in which they come.
//!
//! Rows are accumulated once, into panes of each key; a window that is complete combines its key's panes. Windows are put out in the
//! order in which they became complete. Keys are kept until the end of the input, or until they have had no rows for long enough.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::keyed::{Complete, KeyedPanes};
use crate::batch::{Batch, EventTime};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::aggregate::Aggregate;
use crate::operator::compact::keep;
use crate::operator::devices;
use crate::operator::{Operator, Output};
use crate::state::Saved;
use crate::time::Unit;
use crate::watermark::{END, NONE};
use crate::window::{CountPanes, CountSpec};

/// Columns of the table of panes in a snapshot: rows in the youngest pane of the key, and complete panes since the key's last window.
const ROWS: &str = "rows";
const SINCE: &str = "since";

/// Windows of a number of rows, see the [module documentation](self).
pub struct CountWindow {
    spec: CountPanes,
    panes: KeyedPanes,
    /// By key.
    runs: Vec<Run>,
    watermark: i64,
    key_slots: Vec<u32>,
    slots: Vec<u32>,
}

/// The panes of a key, oldest first.
#[derive(Debug, Clone, Default)]
struct Run {
    panes: VecDeque<u32>,
    /// Rows in the youngest pane.
    rows: u32,
    /// Complete panes since the last window.
    since: u32,
}

impl CountWindow {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose event time counts
    /// `unit`s. A key without rows for longer than `ttl` is forgotten, if there is one.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if the windows are impossible.
    pub fn new(
        (spec, ttl): (CountSpec, Option<Duration>),
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
    ) -> Result<CountWindow> {
        Ok(CountWindow {
            spec: spec.panes()?,
            panes: KeyedPanes::new(by, aggregates, schema, unit, ttl, config)?,
            runs: Vec::new(),
            watermark: NONE,
            key_slots: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Columns of the results: the keys, `window_start`, `window_end`, the aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.panes.results.schema()
    }

    /// The pane that takes the next row of a key, before which the watermark was `mark`; notes the window that is complete with it.
    fn place(&mut self, key: u32, time: i64, mark: i64) -> u32 {
        if let Some(due) = self.panes.seen(key, time, mark) {
            self.end(key, due);
        }
        let CountPanes { length, per_window, per_slide } = self.spec;
        let run = &mut self.runs[key as usize];
        if run.rows == 0 {
            run.panes.push_back(self.panes.begin());
        }
        let pane = run.panes.back().copied().unwrap_or_default();
        self.panes.note(pane, time);
        run.rows += 1;
        if run.rows == length {
            run.rows = 0;
            run.since += 1;
            if run.since == per_slide {
                run.since = 0;
                let panes: Vec<u32> = run.panes.iter().copied().collect();
                let gone = panes.len().saturating_sub((per_window - per_slide) as usize);
                run.panes.drain(..gone);
                let time = self.time_of(&panes);
                self.panes.complete.push(Complete { key, panes, gone, time });
            }
        }
        pane
    }

    /// The event time of a result: that of the latest row. Whatever follows has come as far as the watermark: no result may be late to
    /// it.
    fn time_of(&self, panes: &[u32]) -> i64 {
        self.panes.span(panes).1.max(self.watermark.saturating_add(1))
    }

    /// Ends the run of a key at event time `time`: the rows since its last window are one, with those before them that its windows
    /// reach back to.
    fn end(&mut self, key: u32, time: i64) {
        let run = std::mem::take(&mut self.runs[key as usize]);
        let panes = Vec::from(run.panes);
        if run.rows > 0 || run.since > 0 {
            let time = time.max(self.time_of(&panes));
            self.panes.complete.push(Complete { key, gone: panes.len(), panes, time });
        } else {
            self.panes.drop_panes(panes);
        }
    }

    fn take(&mut self, batch: &Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        let (mut keys, mut slots) = (std::mem::take(&mut self.key_slots), std::mem::take(&mut self.slots));
        self.panes.assign(&batch.records, &mut keys)?;
        self.runs.resize(self.panes.keys.slots(), Run::default());
        slots.clear();
        let mark = |row: usize| time.watermarks.as_ref().map_or(NONE, |marks| marks[row]);
        let watermark = self.watermark;
        let rows = keys.iter().zip(&*time.times).enumerate();
        slots.extend(rows.map(|(row, (&key, &time))| self.place(key, time, mark(row).max(watermark))));
        let values = self.panes.results.aggregates.values(&batch.records, &time.times)?;
        self.panes.accumulate(&slots, &values)?;
        (self.key_slots, self.slots) = (keys, slots);
        self.panes.put_out(out)?;
        self.panes.check("windows of rows", self.state_beside())
    }

    /// Forgets the keys without rows for long enough.
    fn expire(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let gone = self.panes.expired(watermark);
        gone.iter().for_each(|&(due, key)| self.end(key, due));
        self.panes.put_out(out)?;
        self.panes.keys.remove_all(&gone.into_iter().map(|(_, key)| key).collect::<Vec<_>>());
        Ok(())
    }

    /// Bytes of what is not in the panes.
    fn state_beside(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }
}

impl Operator for CountWindow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        match &batch.time {
            Some(time) => self.take(&batch, time, out),
            None => Err(Error::config("a window needs event times; call `event_time(column)` before `window`")),
        }
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        if watermark == END {
            (0..self.runs.len() as u32).for_each(|key| self.end(key, NONE));
            self.panes.put_out(out)?;
        } else {
            self.expire(watermark, out)?;
        }
        self.watermark = self.watermark.max(watermark);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("sequence", self.panes.sequence as i64);
        let runs = (0u32..).zip(&self.runs);
        let panes: Vec<(u32, u32)> = runs.flat_map(|(key, run)| run.panes.iter().map(move |&pane| (key, pane))).collect();
        let place = |name: &str, row: usize| {
            let (key, _) = panes[row];
            match name {
                ROWS => i64::from(self.runs[key as usize].rows),
                _ => i64::from(self.runs[key as usize].since),
            }
        };
        self.panes.save([ROWS, SINCE], &panes, place, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        self.panes.sequence = saved.marked("sequence")? as u64;
        let (keys, [counts, since]) = self.panes.load([ROWS, SINCE], saved)?;
        self.runs.resize(self.panes.keys.slots(), Run::default());
        for (row, &key) in keys.iter().enumerate() {
            let run = &mut self.runs[key as usize];
            run.panes.push_back(row as u32);
            (run.rows, run.since) = (counts[row] as u32, since[row] as u32);
        }
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        if let Some(live) = self.panes.trim_keys()? {
            keep(&mut self.runs, &live);
        }
        self.panes.trim_panes(self.runs.iter_mut().flat_map(|run| run.panes.iter_mut()));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.panes.bytes() + self.state_beside()
    }

    fn placement(&self) -> Option<String> {
        Some(self.panes.results.placement(&devices::unused()))
    }
}
