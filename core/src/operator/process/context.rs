//! What a function can do besides changing its state.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;

use crate::error::{Error, Result};
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::watermark::NONE;

/// What a function asked for in one call, done after it.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub emitted: Vec<RecordBatch>,
    /// Times, with whether to set a timer or to delete it.
    pub timers: Vec<(i64, bool)>,
    pub clear: bool,
}

/// One call of a function: which key it is for, when it is, and what the function asks for.
pub struct Context<'a> {
    pub(super) columns: &'a KeyColumns,
    pub(super) keys: &'a Keys,
    pub(super) slot: u32,
    pub(super) watermark: i64,
    /// [`NONE`] on a stream without event time.
    pub(super) time: i64,
    /// Whether this is a call of a timer.
    pub(super) is_timer: bool,
    pub(super) requests: &'a mut Requests,
}

impl Context<'_> {
    /// How far event time has come: rows at or before it are late. `None` before the first rows and on a stream without event time.
    /// Where calls come in order of time it is the instant before the rows given, or the timer's time.
    pub fn watermark(&self) -> Option<i64> {
        (self.watermark != NONE).then_some(self.watermark)
    }

    /// The greatest event time of the rows given, or the timer's; `None` on a stream without event time.
    pub fn time(&self) -> Option<i64> {
        (self.time != NONE).then_some(self.time)
    }

    /// The columns of the key, with one row.
    ///
    /// # Errors
    /// If the key does not decode, which would be a defect.
    pub fn key(&self) -> Result<RecordBatch> {
        let columns = self.columns.decode(self.keys, &Slots::List(&[self.slot]))?;
        let schema = Arc::new(Schema::new(self.columns.fields().to_vec()));
        Ok(RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(1)))?)
    }

    /// Puts out rows of the columns of [`Process::schema`](super::Process::schema).
    pub fn emit(&mut self, rows: RecordBatch) {
        self.requests.emitted.push(rows);
    }

    /// Lets [`Process::on_timer`](super::Process::on_timer) be called for this key once the watermark has reached `time`; if it has
    /// already, as soon as it moves. A timer that is set twice to one time fires once. At the end of the input the timers that are
    /// set fire, but not those that they set in turn after the last row of their key.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the stream has no event time, or a timer sets another that is not later.
    pub fn set_timer(&mut self, time: i64) -> Result<()> {
        if self.time == NONE {
            return Err(Error::config("a timer needs event times; call `event_time(column)` before `process`"));
        }
        if self.is_timer && time <= self.time {
            return Err(Error::config(format!(
                "the timer of {} sets another for {time}, which would fire without end; set a later one",
                self.time
            )));
        }
        self.requests.timers.push((time, true));
        Ok(())
    }

    /// Takes back a timer of this key that is set to `time`, if there is one.
    pub fn delete_timer(&mut self, time: i64) {
        self.requests.timers.push((time, false));
    }

    /// Forgets the key after this call, with its state and all its timers.
    pub fn clear(&mut self) {
        self.requests.clear = true;
    }
}
