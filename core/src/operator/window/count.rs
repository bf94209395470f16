//! Windows of a number of rows of a key, in the order in which they come.
//!
//! Rows are accumulated once, into panes of each key; a window that is complete combines its key's panes. Windows are put out in the
//! order in which they became complete. Keys are kept until the end of the input.

use std::collections::VecDeque;

use arrow::datatypes::SchemaRef;

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
use crate::watermark::{END, NONE};
use crate::window::{CountPanes, CountSpec};

/// Name of the table of panes in a snapshot, and of its columns: rows in the youngest pane of the key, complete panes since the key's last
/// window, and the earliest and latest event time of the pane.
const PANES: &str = "panes";
const ROWS: &str = "rows";
const SINCE: &str = "since";
const EARLIEST: &str = "earliest";
const LATEST: &str = "latest";

/// Windows of a number of rows, see the [module documentation](self).
pub struct CountWindow {
    panes: CountPanes,
    results: Results,
    keys: Keys,
    /// By key.
    runs: Vec<Run>,
    /// By pane.
    groups: Accumulators,
    spans: Vec<Span>,
    free: Vec<u32>,
    placed: Vec<Placed>,
    complete: Vec<Complete>,
    watermark: i64,
    sequence: u64,
    max_state_bytes: usize,
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

/// Earliest and latest event time of a pane's rows.
#[derive(Debug, Clone, Copy)]
struct Span(i64, i64);

const NO_SPAN: Span = Span(i64::MAX, i64::MIN);

/// A window that is complete.
struct Complete {
    key: u32,
    /// Oldest first.
    panes: Vec<u32>,
    /// How many of them no later window needs.
    gone: usize,
}

impl CountWindow {
    /// `aggregates` over the windows of `spec` for each key made of the columns `by`, on rows of `schema` whose event time counts
    /// `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name; [`Kind::Config`](crate::error::Kind::Config) if the windows are impossible.
    pub fn new(
        spec: CountSpec,
        by: &[String],
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        unit: Unit,
        config: &Config,
    ) -> Result<CountWindow> {
        let results = Results::new(by, aggregates, schema, unit, config)?;
        let devices = devices::unused();
        Ok(CountWindow {
            panes: spec.panes()?,
            keys: results.keys.dictionary(),
            runs: Vec::new(),
            groups: Accumulators::new(&results.aggregates),
            spans: Vec::new(),
            free: Vec::new(),
            placed: results.aggregates.columns.iter().map(|column| Placed::new(&devices, column)).collect(),
            complete: Vec::new(),
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

    /// The pane that takes the next row of a key; notes the window that is complete with it.
    fn place(&mut self, key: u32, time: i64) -> u32 {
        let CountPanes { length, per_window, per_slide } = self.panes;
        let run = &mut self.runs[key as usize];
        if run.rows == 0 {
            let pane = self.free.pop().unwrap_or_else(|| {
                self.spans.push(NO_SPAN);
                (self.spans.len() - 1) as u32
            });
            run.panes.push_back(pane);
        }
        let pane = run.panes.back().copied().unwrap_or_default();
        let span = &mut self.spans[pane as usize];
        *span = Span(span.0.min(time), span.1.max(time));
        run.rows += 1;
        if run.rows == length {
            run.rows = 0;
            run.since += 1;
            if run.since == per_slide {
                run.since = 0;
                let panes: Vec<u32> = run.panes.iter().copied().collect();
                let gone = panes.len().saturating_sub((per_window - per_slide) as usize);
                run.panes.drain(..gone);
                self.complete.push(Complete { key, panes, gone });
            }
        }
        pane
    }

    fn take(&mut self, batch: &Batch, time: &EventTime, out: &mut Output) -> Result<()> {
        self.keys.assign(&self.results.keys.encode(&batch.records)?, &mut self.key_slots)?;
        self.runs.resize(self.keys.slots(), Run::default());
        let keys = std::mem::take(&mut self.key_slots);
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        slots.extend(keys.iter().zip(&*time.times).map(|(&key, &time)| self.place(key, time)));
        self.groups.reserve(self.spans.len());
        let values = self.results.aggregates.values(&batch.records, &time.times)?;
        self.groups.accumulate(&slots, &values, self.sequence, &mut self.placed)?;
        self.groups.settle(&mut self.placed);
        self.sequence += slots.len() as u64;
        (self.key_slots, self.slots) = (keys, slots);
        self.put_out(out)?;
        match self.state_bytes() {
            bytes if bytes > self.max_state_bytes => Err(self.over_bound(bytes)),
            _ => Ok(()),
        }
    }

    /// Puts out the windows that are complete, and frees the panes that no other window needs.
    fn put_out(&mut self, out: &mut Output) -> Result<()> {
        let complete = std::mem::take(&mut self.complete);
        for windows in complete.chunks(RESULT_ROWS) {
            let keys: Vec<u32> = windows.iter().map(|window| window.key).collect();
            let span = |window: &Complete| {
                let spans = window.panes.iter().map(|&pane| self.spans[pane as usize]);
                spans.fold(NO_SPAN, |all, span| Span(all.0.min(span.0), all.1.max(span.1)))
            };
            let spans: Vec<Span> = windows.iter().map(span).collect();
            let groups = self.combine(windows);
            // Whatever follows has come as far as the watermark: no result may be late to it.
            let times = spans.iter().map(|span| span.1.max(self.watermark.saturating_add(1))).collect();
            let (starts, ends) = spans.iter().map(|span| (span.0, span.1)).unzip();
            let rows: Vec<u32> = (0..windows.len() as u32).collect();
            self.results.put_out_each((&self.keys, &keys), (&groups, &rows), Spans::new(starts, ends, self.results.unit), times, out)?;
        }
        self.release(&complete);
        Ok(())
    }

    /// The groups of windows, in their order.
    fn combine(&self, windows: &[Complete]) -> Accumulators {
        let most = windows.iter().map(|window| window.panes.len()).max().unwrap_or(0);
        let (mut total, mut part) = (self.groups.empty(), self.groups.empty());
        // A slot beyond all others stands for the panes that shorter windows have not.
        for place in 0..most {
            let slots: Vec<u32> = windows.iter().map(|window| window.panes.get(place).copied().unwrap_or(u32::MAX)).collect();
            match place {
                0 => total.gather(&self.groups, &slots),
                _ => {
                    part.gather(&self.groups, &slots);
                    total.combine(&part);
                }
            }
        }
        total
    }

    /// Frees the panes that no window needs any more.
    fn release(&mut self, windows: &[Complete]) {
        let gone: Vec<u32> = windows.iter().flat_map(|window| &window.panes[..window.gone]).copied().collect();
        gone.iter().for_each(|&pane| self.spans[pane as usize] = NO_SPAN);
        self.groups.forget(&gone);
        self.free.extend(gone);
    }

    fn over_bound(&self, bytes: usize) -> Error {
        Error::state(format!(
            "windows of rows hold {} keys in {bytes} bytes, over their bound of {} bytes; keys are kept until the end of the input: use a              coarser key or windows of time, or raise `max_state_bytes`",
            self.keys.slots(),
            self.max_state_bytes
        ))
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
            // The rows since the last window of each key, with those before them that its windows reach back to.
            for key in 0..self.runs.len() as u32 {
                let run = std::mem::take(&mut self.runs[key as usize]);
                if run.rows > 0 || run.since > 0 {
                    let panes = Vec::from(run.panes);
                    self.complete.push(Complete { key, gone: panes.len(), panes });
                }
            }
            self.put_out(out)?;
        }
        self.watermark = self.watermark.max(watermark);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark("watermark", self.watermark);
        saved.mark("sequence", self.sequence as i64);
        let runs = (0u32..).zip(&self.runs);
        let (keys, slots): (Vec<u32>, Vec<u32>) = runs.flat_map(|(key, run)| run.panes.iter().map(move |&pane| (key, pane))).unzip();
        let place = |name: &str, row: usize| {
            let (run, Span(earliest, latest)) = (&self.runs[keys[row] as usize], self.spans[slots[row] as usize]);
            match name {
                ROWS => i64::from(run.rows),
                SINCE => i64::from(run.since),
                EARLIEST => earliest,
                _ => latest,
            }
        };
        let mut groups = SavedGroups::new(&[ROWS, SINCE, EARLIEST, LATEST]);
        groups.add(place, &mut self.results, (&self.keys, &Slots::List(&keys)), (&self.groups, &Slots::List(&slots)))?;
        groups.put(PANES, &mut saved)?;
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.watermark = saved.marked("watermark")?;
        self.sequence = saved.marked("sequence")? as u64;
        let Some(loaded) = LoadedGroups::get(saved, PANES, &mut self.results)? else { return Ok(()) };
        let rows: Vec<u32> = (0..loaded.len() as u32).collect();
        self.keys.assign(&loaded.keys(&rows)?, &mut self.key_slots)?;
        self.runs.resize(self.keys.slots(), Run::default());
        let [counts, since, earliest, latest] = [ROWS, SINCE, EARLIEST, LATEST].map(|name| loaded.numbers(name));
        let (counts, since, earliest, latest) = (counts?, since?, earliest?, latest?);
        for (row, &key) in self.key_slots.iter().enumerate() {
            let run = &mut self.runs[key as usize];
            run.panes.push_back(row as u32);
            (run.rows, run.since) = (counts[row] as u32, since[row] as u32);
            self.spans.push(Span(earliest[row], latest[row]));
        }
        self.groups = loaded.groups(&self.groups, &rows)?;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let placed: usize = self.placed.iter().map(Placed::bytes).sum();
        // Each pane is in one run.
        let runs = self.runs.capacity() * size_of::<Run>() + self.spans.len() * size_of::<u32>();
        let slots = self.spans.capacity() * size_of::<Span>() + self.free.capacity() * size_of::<u32>();
        self.keys.bytes() + runs + self.groups.bytes() + slots + placed
    }

    fn placement(&self) -> Option<String> {
        Some(self.results.placement(&devices::unused()))
    }
}
