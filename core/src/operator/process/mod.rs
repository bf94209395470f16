//! Your own function over the rows of each key, with a state per key and timers in event time: for what windows cannot say.
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{AsArray, Int64Array, RecordBatch};
//! use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
//! use thalweg::operator::process::{Context, Process, Rows};
//! use thalweg::{Result, Stream};
//!
//! /// Says when a cart has not been paid for a minute after it was last touched.
//! struct Abandoned;
//!
//! impl Process for Abandoned {
//!     /// When to give up.
//!     type State = Option<i64>;
//!
//!     fn schema(&self, _input: &SchemaRef) -> Result<SchemaRef> {
//!         Ok(Arc::new(Schema::new(vec![Field::new("since", DataType::Int64, false)])))
//!     }
//!
//!     fn on_rows(&self, rows: &Rows<'_>, state: &mut Option<i64>, context: &mut Context<'_>) -> Result<()> {
//!         let paid = rows.records.column_by_name("paid").is_some_and(|paid| paid.as_boolean().true_count() > 0);
//!         if paid {
//!             context.clear();
//!         } else if let Some(touched) = context.time() {
//!             let due = touched.max(state.unwrap_or(i64::MIN)) + 60_000;
//!             *state = Some(due);
//!             context.set_timer(due)?;
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_timer(&self, time: i64, state: &mut Option<i64>, context: &mut Context<'_>) -> Result<()> {
//!         if *state == Some(time) {
//!             context.emit(RecordBatch::try_from_iter([("since", Arc::new(Int64Array::from(vec![time - 60_000])) as _)])?);
//!             context.clear();
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn abandoned(carts: Stream) -> Stream {
//! carts.event_time("ts").process(["cart"], Abandoned)
//! # }
//! ```
//!
//! * **Rows** come in the order of arrival: all of one key in a batch at once, the keys in the order in which each came first. How rows
//!   are cut into calls depends on the batches, so a function that shall give the same answer for any batch size must not care.
//!   Late rows come too; [`Context::watermark`] tells them.
//! * **Timers** fire when the watermark has reached them, in order of time, those of one time in the order in which their keys first
//!   came. Which rows of a batch came before a timer that the batch's own rows let fire depends on the batch's end.
//! * **In order**, on request ([`Process::in_order`]): rows wait until the watermark has passed them. Then rows and timers of all
//!   keys come in order of event time, rows before timers of the same time, each call with the rows of one key and one time:
//!   exactly the same calls whatever the batch size. Late rows go to the late output.
//! * **Emitted rows** have the event time of the latest row that the call was given, or of the timer, unless they hold their own
//!   ([`Process::event_time`]); so windows may follow. They come out in the order of the calls.
//! * **State** of a key begins with its first row and ends with [`Context::clear`] or the [`Process::ttl`]. It is bounded by `max_keys`
//!   and `max_state_bytes`.

mod context;
mod emitted;
pub mod heartbeat;
mod keyed;
mod states;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::state::{Reader, Writer};
use crate::time::Unit;
pub use context::Context;
use keyed::Keyed;

/// The rows of one key, in order of arrival.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Their columns.
    pub records: RecordBatch,
    /// Their event times in the stream's unit; empty if the stream has none.
    pub times: &'a [i64],
}

/// A function over the rows of each key, see the [module documentation](self). The value holds parameters; what it remembers of a
/// key is in the key's state, so that it can be forgotten.
pub trait Process: Send + Sync + 'static {
    /// What is remembered of a key; its default is that of a key without rows.
    type State: Default + Send;

    /// The columns of the rows that it emits, when `input` are those of the rows that come in.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it cannot work on such rows.
    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef>;

    /// Takes rows of one key.
    ///
    /// # Errors
    /// Any, which ends the run.
    fn on_rows(&self, rows: &Rows<'_>, state: &mut Self::State, context: &mut Context<'_>) -> Result<()>;

    /// A timer of the key was set to `time`, and the watermark has reached it.
    ///
    /// # Errors
    /// Any, which ends the run.
    fn on_timer(&self, time: i64, state: &mut Self::State, context: &mut Context<'_>) -> Result<()> {
        let _ = (time, state, context);
        Ok(())
    }

    /// What plans and errors call it.
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// The column of the emitted rows that holds their event time, in the stream's unit. Without one they have that of the latest row
    /// that the call was given, or of the timer.
    fn event_time(&self) -> Option<&str> {
        None
    }

    /// How long after its latest row, in event time, a key is forgotten with its timers; `None` for never.
    fn ttl(&self) -> Option<Duration> {
        None
    }

    /// Whether rows wait for the watermark and come in order of event time.
    fn in_order(&self) -> bool {
        false
    }

    /// Writes a state for a snapshot.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) unless it is implemented, with [`Process::load`].
    fn save(&self, state: &Self::State, out: &mut Writer) -> Result<()> {
        let _ = (state, out);
        Err(Error::config(format!(
            "`{}` cannot go into a snapshot: implement `Process::save` and `Process::load` for its state",
            self.name()
        )))
    }

    /// The state that was written.
    ///
    /// # Errors
    /// As [`Process::save`], and [`Kind::State`](crate::error::Kind::State) if it is not what that wrote.
    fn load(&self, from: &mut Reader<'_>) -> Result<Self::State> {
        let _ = from;
        Err(Error::config(format!(
            "`{}` cannot come out of a snapshot: implement `Process::save` and `Process::load` for its state",
            self.name()
        )))
    }

    /// Bytes that a state holds, itself included.
    fn state_bytes(&self, state: &Self::State) -> usize {
        size_of_val(state)
    }
}

/// A [`Process`] of any state: what a plan holds.
pub(crate) trait ProcessSpec: Send + Sync {
    fn name(&self) -> String;
    fn in_order(&self) -> bool;
    /// Why workers cannot share it by its key; `None` if they can.
    fn alone(&self) -> Option<&'static str> {
        None
    }
    /// The operator, with the columns that it puts out.
    fn build(
        self: Arc<Self>,
        by: &[String],
        input: &SchemaRef,
        unit: Option<Unit>,
        config: &Config,
    ) -> Result<(Box<dyn Operator>, SchemaRef)>;
}

impl<P: Process> ProcessSpec for P {
    fn name(&self) -> String {
        Process::name(self)
    }

    fn in_order(&self) -> bool {
        Process::in_order(self)
    }

    fn build(
        self: Arc<P>,
        by: &[String],
        input: &SchemaRef,
        unit: Option<Unit>,
        config: &Config,
    ) -> Result<(Box<dyn Operator>, SchemaRef)> {
        let keyed = Keyed::new(self, by, input, unit, config)?;
        let schema = keyed.schema();
        Ok((Box::new(keyed), schema))
    }
}
