//! Heartbeats: which keys have fallen silent.
//!
//! A key is silent when event time has gone on for longer than `factor` times its usual interval since its latest row, and for at least `least`. The usual
//! interval is the median of its latest [`INTERVALS`] intervals between rows, of an even number the lower one in the middle; rows of the same
//! time are one beat. So a gap that was a silence changes little, and a key that has come to beat faster or slower is followed within eight beats.
//!
//! Each silence is one row, put out when it begins:
//!
//! | column | what |
//! |---|---|
//! | the columns of the key | whose silence it is |
//! | `last_seen` | event time of its latest row |
//! | `usual_interval` | the interval that was usual, a duration |
//! | `silent_since` | when the silence was told: the row's event time |
//!
//! * **Rows out without rows in** are told by the watermark, so they come however the input is cut into batches, in order of `silent_since`. If no key has a
//!   row any more the watermark stands still, and nothing is told: give the event time [`advance_after`](crate::plan::EventTime::advance_after) for that.
//! * **Late rows** go to the late output; a row that is out of order but on time counts where its event time lies.
//! * **Warm-up**: a key is not silent before it has had so many intervals. A key that never came is not known.
//! * **The end of the input** is no silence: those are told that had begun at its latest event time.
//! * **Workers** do not share it: what the latest event time is, all keys say together.
//!
//! State: some 150 bytes a key and its rows between the watermark and the latest event time. Keys are not forgotten; their number is bounded by `max_keys`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::context::Context;
use super::keyed::Keyed;
use super::{Process, ProcessSpec, Rows};
use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::{KeyColumns, Operator, Output};
use crate::state::{Reader, Saved, Writer, damaged};
use crate::time::Unit;
use crate::watermark::{END, NONE};

/// Latest intervals of a key whose median is its usual one.
pub const INTERVALS: usize = 15;

/// Greatest factor.
const MOST_FACTOR: f64 = 1e6;

/// When a key is silent, see the [module documentation](self).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heartbeat {
    /// Usual intervals without a row after which a key is silent, from 1 to a million.
    pub factor: f64,
    /// Least time without a row, whatever is usual.
    pub least: Duration,
    /// Intervals that a key must have had, from 1 to [`INTERVALS`].
    pub warmup: u32,
}

impl Default for Heartbeat {
    /// Three usual intervals, after five.
    fn default() -> Heartbeat {
        Heartbeat { factor: 3.0, least: Duration::ZERO, warmup: 5 }
    }
}

impl Heartbeat {
    fn check(&self) -> Result<()> {
        if !(1.0..=MOST_FACTOR).contains(&self.factor) {
            return Err(Error::config(format!("`factor` is {}; it must lie between 1 and {MOST_FACTOR}", self.factor)));
        }
        match (1..=INTERVALS as u32).contains(&self.warmup) {
            true => Ok(()),
            false => Err(Error::config(format!("`warmup` is {} intervals; it must lie between 1 and {INTERVALS}", self.warmup))),
        }
    }
}

impl ProcessSpec for Heartbeat {
    fn name(&self) -> String {
        format!("heartbeat(factor={})", self.factor)
    }

    fn in_order(&self) -> bool {
        true
    }

    fn alone(&self) -> Option<&'static str> {
        Some("what the latest event time is, all its keys say together")
    }

    fn build(
        self: Arc<Heartbeat>,
        by: &[String],
        input: &SchemaRef,
        unit: Option<Unit>,
        config: &Config,
    ) -> Result<(Box<dyn Operator>, SchemaRef)> {
        self.check()?;
        let unit = unit.ok_or_else(|| Error::config("`heartbeat` needs event times; call `event_time(column)` before it"))?;
        let keys = KeyColumns::new(by, input, config.max_keys)?.fields().to_vec();
        let time = unit.arrow();
        let told = [
            Field::new("last_seen", DataType::Timestamp(time, None), false),
            Field::new("usual_interval", DataType::Duration(time), false),
            Field::new("silent_since", DataType::Timestamp(time, None), false),
        ];
        if let Some(taken) = told.iter().find(|field| by.contains(field.name())) {
            return Err(Error::schema(format!("`heartbeat` puts out a column `{}` beside the key; rename that of the key", taken.name())));
        }
        let schema = Arc::new(Schema::new(keys.into_iter().chain(told.into_iter().map(Arc::new)).collect::<Vec<_>>()));
        let silences =
            Silences { factor: self.factor, least: unit.count(self.least)?, warmup: self.warmup as usize, schema: Arc::clone(&schema) };
        let inner = Keyed::new(Arc::new(silences), by, input, Some(unit), config)?;
        Ok((Box::new(Heartbeats { inner, latest: NONE }), schema))
    }
}

/// The intervals of a key.
#[derive(Debug, Default)]
struct Beats {
    /// Time of the latest row; [`NONE`] cannot be, as a key begins with its first row.
    last: i64,
    /// The latest intervals, the newest in no special place.
    intervals: Vec<i64>,
    /// Where the next one goes.
    next: usize,
    has_row: bool,
    /// The timer that is set.
    armed: Option<i64>,
}

impl Beats {
    fn usual(&self) -> i64 {
        let mut sorted = self.intervals.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// A row has come at `time`.
    fn beat(&mut self, time: i64) {
        if self.has_row && time > self.last {
            let interval = time.saturating_sub(self.last);
            match self.intervals.len() < INTERVALS {
                true => self.intervals.push(interval),
                false => self.intervals[self.next] = interval,
            }
            self.next = (self.next + 1) % INTERVALS;
        }
        (self.last, self.has_row) = (time, true);
    }
}

/// Tells silences, key by key.
struct Silences {
    factor: f64,
    /// In units of event time.
    least: i64,
    warmup: usize,
    schema: SchemaRef,
}

impl Silences {
    /// From when on the key is silent if no row of it comes; `None` while too little is known.
    fn due(&self, beats: &Beats) -> Option<i64> {
        if beats.intervals.len() < self.warmup {
            return None;
        }
        let patience = ((self.factor * beats.usual() as f64) as i64).max(self.least).max(1);
        Some(beats.last.saturating_add(patience))
    }

    fn row(&self, beats: &Beats, since: i64, context: &Context<'_>) -> Result<RecordBatch> {
        let mut columns = context.key()?.columns().to_vec();
        let told = self.schema.fields().iter().skip(columns.len());
        for (field, number) in told.zip([beats.last, beats.usual(), since]) {
            columns.push(cast(&Int64Array::from(vec![number]), field.data_type())?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Process for Silences {
    type State = Beats;

    fn schema(&self, _input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(&self.schema))
    }

    fn name(&self) -> String {
        "heartbeat".to_owned()
    }

    fn in_order(&self) -> bool {
        true
    }

    fn on_rows(&self, _rows: &Rows<'_>, beats: &mut Beats, context: &mut Context<'_>) -> Result<()> {
        let Some(time) = context.time() else { return Ok(()) };
        beats.beat(time);
        // One timer a key: when it fires too early it is set anew.
        if let Some(due) = self.due(beats).filter(|due| beats.armed.is_none_or(|armed| *due < armed)) {
            beats.armed.into_iter().for_each(|armed| context.delete_timer(armed));
            beats.armed = Some(due);
            context.set_timer(due)?;
        }
        Ok(())
    }

    fn on_timer(&self, time: i64, beats: &mut Beats, context: &mut Context<'_>) -> Result<()> {
        beats.armed = self.due(beats).filter(|due| *due > time);
        match beats.armed {
            Some(due) => context.set_timer(due),
            None => {
                let row = self.row(beats, time, context)?;
                context.emit(row);
                Ok(())
            }
        }
    }

    fn save(&self, beats: &Beats, out: &mut Writer) -> Result<()> {
        let armed = [u64::from(beats.armed.is_some()), beats.armed.unwrap_or_default() as u64];
        out.words(&[beats.last as u64, beats.next as u64, beats.has_row.into(), armed[0], armed[1], beats.intervals.len() as u64]);
        beats.intervals.iter().for_each(|interval| out.word(*interval as u64));
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Beats> {
        let [last, next, has_row, is_armed, armed] = from.words()?;
        let intervals: Vec<i64> = (0..from.count(8)?).map(|_| from.word().map(|interval| interval as i64)).collect::<Result<_>>()?;
        if intervals.len() > INTERVALS || next >= INTERVALS as u64 || intervals.iter().any(|interval| *interval < 0) {
            return Err(damaged("the intervals of a key are none that could be"));
        }
        let armed = (is_armed != 0).then_some(armed as i64);
        Ok(Beats { last: last as i64, intervals, next: next as usize, has_row: has_row != 0, armed })
    }

    fn state_bytes(&self, beats: &Beats) -> usize {
        size_of::<Beats>() + beats.intervals.capacity() * size_of::<i64>()
    }
}

/// The operator: as that of [`Silences`], but for the end of the input.
struct Heartbeats {
    inner: Keyed<Silences>,
    /// The latest event time.
    latest: i64,
}

/// Name of the latest event time in a snapshot.
const LATEST: &str = "latest event time";

impl Operator for Heartbeats {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        self.latest = batch.time.iter().flat_map(|time| time.times.iter()).fold(self.latest, |latest, time| latest.max(*time));
        self.inner.on_batch(batch, out)
    }

    fn on_watermark(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        match (watermark, self.latest) {
            (END, NONE) => Ok(()),
            (END, latest) => self.inner.on_watermark(latest, out),
            (watermark, _) => self.inner.on_watermark(watermark, out),
        }
    }

    fn waits_for(&self) -> Option<i64> {
        self.inner.waits_for()
    }

    fn snapshot(&mut self) -> Result<Saved> {
        let mut saved = self.inner.snapshot()?;
        saved.mark(LATEST, self.latest);
        Ok(saved)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.latest = saved.marked(LATEST)?;
        self.inner.restore(saved)
    }

    fn trim(&mut self) -> Result<()> {
        self.inner.trim()
    }

    fn state_bytes(&self) -> usize {
        self.inner.state_bytes()
    }
}
