//! For tests of pipelines, yours and ours: inputs written out step by step, on a clock that stands still unless a step moves it, and
//! results beside literal tables.
//!
//! ```
//! use thalweg::testing::{abort, assert_table, pause, rows, source};
//! use thalweg::{count, event_time, secs, tumbling};
//!
//! # fn main() -> thalweg::Result<()> {
//! let payments = source([
//!     rows("ts: int64 | card: string
//!           100       | a
//!           900       | b"),
//!     pause(secs(5)),
//!     rows("ts    | card
//!           1_200 | a
//!           300   | b"),
//! ])?;
//! let counts = payments.event_time("ts").window(tumbling(secs(1))).by(["card"]).agg([count().alias("n")]).collect()?;
//! assert_table(counts.batches(), "
//!     card | window_start | n
//!     a    | 0            | 1
//!     b    | 0            | 1
//!     a    | 1_000        | 1");
//! assert_table(counts.late(), "
//!     ts  | card
//!     300 | b");
//!
//! let broken = source([rows("ts: int64\n1"), abort()])?;
//! assert!(broken.collect().is_err());
//! # Ok(())
//! # }
//! ```
//!
//! A run of such a [`source`] goes by a [`SimulatedClock`](crate::time::SimulatedClock) of its own, from zero on, which only [`pause`] moves; so idleness, quiet and
//! the time of arrival are the same in every run. That holds without [`Config::source_thread`](crate::Config::source_thread), and if the query is given no other
//! clock.

mod script;
mod table;

use std::time::Duration;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::plan::Stream;
use script::Script;
pub use table::{assert_table, difference, difference_of, table};

/// A step of a scripted input.
#[derive(Debug, Clone)]
pub struct Step(Action);

#[derive(Debug, Clone)]
enum Action {
    Text(u32, String),
    Batch(u32, RecordBatch),
    Pause(Duration),
    Eof,
    Abort,
}

/// Rows as a literal [`table`], from partition 0. The first rows of a script say the types of the columns, the others need not.
pub fn rows(text: impl Into<String>) -> Step {
    rows_of(0, text)
}

/// Rows as a literal [`table`], from a partition of that number. All partitions of a script are open from its beginning on.
pub fn rows_of(partition: u32, text: impl Into<String>) -> Step {
    Step(Action::Text(partition, text.into()))
}

/// Rows in Arrow columns, from partition 0.
pub fn batch(records: RecordBatch) -> Step {
    batch_of(0, records)
}

/// Rows in Arrow columns, from a partition of that number.
pub fn batch_of(partition: u32, records: RecordBatch) -> Step {
    Step(Action::Batch(partition, records))
}

/// Nothing comes while the clock goes on by `duration`.
pub fn pause(duration: Duration) -> Step {
    Step(Action::Pause(duration))
}

/// The input ends here, whatever steps follow. It ends after the last step, too.
pub fn eof() -> Step {
    Step(Action::Eof)
}

/// The source fails here: the run ends with an error of [`Kind::Connector`](crate::error::Kind::Connector).
pub fn abort() -> Step {
    Step(Action::Abort)
}

/// A stream of these steps. It can be run any number of times, though not twice at once.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if a table cannot be read, or there are no rows to tell the columns from.
pub fn source(steps: impl IntoIterator<Item = Step>) -> Result<Stream> {
    Ok(Stream::from_source(Script::new(steps)?))
}
