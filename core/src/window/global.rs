//! The global window: all rows of a key, and when it puts out what it has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::error::{Error, Result};
use crate::time::Unit;

/// A row as functions of yours see it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The columns of its batch.
    pub records: &'a RecordBatch,
    /// Which row of the batch it is.
    pub index: usize,
    /// Its event time.
    pub time: i64,
}

/// A row of a key, and what its key has waiting, of which a [trigger](GlobalSpec::when) judges.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'a> {
    /// The row.
    pub row: Row<'a>,
    /// Rows of the key since it was last put out, this one included.
    pub rows: u64,
    /// Event time of the first of them.
    pub since: i64,
}

type When = Arc<dyn Fn(&Pending<'_>) -> bool + Send + Sync>;

/// When a global window puts out the results of a key: whenever one of its triggers says so, and at the end of the input.
#[derive(Clone, Default)]
pub struct GlobalSpec {
    rows: Option<u64>,
    every: Option<Duration>,
    when: Option<(Arc<str>, When)>,
    purge: bool,
}

/// One window for all rows of a key, in order of event time. Results come when a trigger says so ([`rows`](GlobalSpec::rows),
/// [`every`](GlobalSpec::every), [`when`](GlobalSpec::when); any of several will do), for keys that had rows since, and at the end of
/// the input. They are of all rows so far, unless the window [purges](GlobalSpec::purge).
///
/// `window_start` and `window_end` are the earliest and the latest event time of the rows. Rows wait until the watermark has passed
/// them, so that results do not depend on the order in which they came; those behind it are late, as rows after them may have
/// been counted: the window has no end, so that there is no lateness to allow, and a longer `max_delay` is what lets more disorder in. A
/// key is kept until the end of the input, or for the [`ttl`](crate::plan::Windowed::ttl).
pub fn global() -> GlobalSpec {
    GlobalSpec::default()
}

impl GlobalSpec {
    /// Puts a key out with every `rows` rows of it.
    pub fn rows(self, rows: u64) -> GlobalSpec {
        GlobalSpec { rows: Some(rows), ..self }
    }

    /// Puts a key out when event time passes a multiple of `every`.
    pub fn every(self, every: Duration) -> GlobalSpec {
        GlobalSpec { every: Some(every), ..self }
    }

    /// Puts a key out with each row for which `trigger` is true; `name` is what `explain` calls it.
    ///
    /// ```
    /// # use arrow::array::AsArray;
    /// # use arrow::datatypes::Float64Type;
    /// use thalweg::global;
    ///
    /// let checkout = global()
    ///     .when("paid", |pending| {
    ///         let amounts = pending.row.records["amount"].as_primitive::<Float64Type>();
    ///         amounts.value(pending.row.index) > 0.0
    ///     })
    ///     .purge();
    /// ```
    pub fn when(self, name: impl AsRef<str>, trigger: impl Fn(&Pending<'_>) -> bool + Send + Sync + 'static) -> GlobalSpec {
        GlobalSpec { when: Some((name.as_ref().into(), Arc::new(trigger))), ..self }
    }

    /// Begins a key anew whenever it was put out.
    pub fn purge(self) -> GlobalSpec {
        GlobalSpec { purge: true, ..self }
    }

    /// The triggers in the unit of a stream's event time.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if one would always or never be true.
    pub(crate) fn triggers(&self, unit: Unit) -> Result<Triggers> {
        let every = self.every.map(|every| unit.count(every)).transpose()?;
        if self.rows == Some(0) || every == Some(0) {
            return Err(Error::config(format!("a trigger must wait for a row or a unit of time at least; the window is {self}")));
        }
        let when = self.when.as_ref().map(|(_, when)| Arc::clone(when));
        Ok(Triggers { rows: self.rows.unwrap_or(u64::MAX), every, when, purge: self.purge })
    }
}

impl fmt::Display for GlobalSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.map(|rows| format!("every {rows} rows"));
        let every = self.every.map(|every| format!("every {every:?}"));
        let when = self.when.as_ref().map(|(name, _)| format!("when {name}"));
        let triggers: Vec<String> = [rows, every, when, self.purge.then(|| "purging".to_owned())].into_iter().flatten().collect();
        write!(f, "global({})", triggers.join(", "))
    }
}

impl fmt::Debug for GlobalSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The triggers of a global window.
pub(crate) struct Triggers {
    rows: u64,
    /// Event time from one moment at which all keys are put out to the next.
    pub every: Option<i64>,
    when: Option<When>,
    /// Whether a key begins anew then.
    pub purge: bool,
}

impl Triggers {
    /// Whether a row puts its key out.
    #[inline]
    pub fn fires(&self, pending: &Pending<'_>) -> bool {
        pending.rows >= self.rows || self.when.as_ref().is_some_and(|when| when(pending))
    }

    /// The first moment after `time` at which all keys are put out, if there is one.
    pub fn next_after(&self, time: i64) -> Option<i64> {
        let every = self.every?;
        time.div_euclid(every).checked_add(1)?.checked_mul(every)
    }
}
