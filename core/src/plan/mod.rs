//! The fluent builder: what shall be done, checked and run later.

mod compile;
mod panes;
mod query;
mod sharing;
mod sources;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, TimeUnit};

use crate::config::{Config, PARTITION_IDLE};
use crate::error::Result;
use crate::expr::Expression;
use crate::operator::aggregate::Aggregate;
use crate::operator::detect::Detection;
use crate::operator::process::heartbeat::Heartbeat;
use crate::operator::process::{Process, ProcessSpec};
use crate::source::{Memory, OpenSource, Reader, Readers};
use crate::time::SharedClock;
use crate::window::{Revisions, Windowing};
pub use query::{Batches, Plan, Pulled, Query};
pub use table::Table;

/// A stream of rows: a source and the steps that its rows go through. Cheap to clone; nothing happens until it is
/// collected, iterated or run. Two streams that were made from one share its steps when one [`Query`] runs both.
#[derive(Clone)]
pub struct Stream {
    node: Arc<Node>,
}

enum Node {
    Source(Box<dyn OpenSource>),
    /// A source that could not be made; the error comes when the stream is used.
    Invalid(String),
    Step {
        input: Stream,
        step: Step,
    },
}

enum Step {
    EventTime(EventTime),
    ArrivalTime(String),
    Filter(Expression),
    WithColumns(Vec<(String, Expression)>),
    Select(Vec<Expression>),
    Window { spec: Windowing, revisions: Revisions, ttl: Option<Duration>, by: Vec<String>, aggregates: Vec<Aggregate> },
    Detect(Detection),
    Dedup { by: Vec<String>, within: Duration },
    Process { by: Vec<String>, process: Arc<dyn ProcessSpec> },
}

impl Step {
    /// Whether it keeps rows, or what it made of them, for rows to come.
    fn keeps_state(&self) -> bool {
        match self {
            Step::EventTime(_) | Step::ArrivalTime(_) | Step::Filter(_) | Step::WithColumns(_) | Step::Select(_) => false,
            Step::Window { .. } | Step::Detect(_) | Step::Dedup { .. } | Step::Process { .. } => true,
        }
    }

    /// Whether rows may be late for it.
    fn has_late_rows(&self) -> bool {
        match self {
            Step::Process { process, .. } => process.in_order(),
            _ => matches!(self, Step::Window { .. } | Step::Dedup { .. }),
        }
    }

    /// Whether rows that it puts out may be behind the watermark, if `comes` says whether those that it takes in may be. What waits for the
    /// watermark, or turns late rows away, puts out none.
    fn puts_out_late(&self, comes: bool) -> bool {
        match self {
            Step::EventTime(_) | Step::ArrivalTime(_) | Step::Filter(_) | Step::WithColumns(_) | Step::Select(_) | Step::Detect(_) => comes,
            Step::Window { revisions, .. } => !revisions.none(),
            Step::Dedup { .. } => false,
            // Its rows have the times that the function gives them, or those of its timers, which it may set to the past.
            Step::Process { .. } => true,
        }
    }
}

/// Which column is the event time, and how late rows may come.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTime {
    column: String,
    unit: Option<TimeUnit>,
    max_delay: Duration,
    idle_timeout: Option<Duration>,
    punctuated_by: Option<String>,
    advance_after: Option<Duration>,
    max_skew: Option<Duration>,
}

/// Event time from `column`, without delay (as if the rows of a partition came in order of time) and with an idle timeout
/// of five seconds. Integers count milliseconds.
pub fn event_time(column: impl Into<String>) -> EventTime {
    EventTime {
        column: column.into(),
        unit: None,
        max_delay: Duration::ZERO,
        idle_timeout: Some(PARTITION_IDLE),
        punctuated_by: None,
        advance_after: None,
        max_skew: None,
    }
}

impl EventTime {
    /// What integers count; timestamps know it themselves.
    pub fn unit(mut self, unit: TimeUnit) -> EventTime {
        self.unit = Some(unit);
        self
    }

    /// How much later than the greatest event time before it in its partition a row may come and still be on time. Zero,
    /// the default, suits partitions whose times only grow.
    pub fn max_delay(mut self, delay: Duration) -> EventTime {
        self.max_delay = delay;
        self
    }

    /// After how long without rows a partition (a connection, a file) stops holding the others back; `None` for never.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> EventTime {
        self.idle_timeout = timeout;
        self
    }

    /// Lets a column of the stream, and nothing else, say how far the event time of a row's partition has come:
    ///
    /// * a boolean: true says that no row earlier than this one will come in this partition;
    /// * a time, in the unit of the event time: no row at or before it will come; null says nothing.
    ///
    /// The row itself is judged by what was said before it. It needs an event time as any other row. Until a partition has
    /// said something it holds the watermark back; without rows it is idle as any other. [`max_delay`](EventTime::max_delay)
    /// is refused beside it.
    pub fn punctuated_by(mut self, column: impl Into<String>) -> EventTime {
        self.punctuated_by = Some(column.into());
        self
    }

    /// Lets event time go on with the clock when no row has come in any partition for this long: the watermark is then as
    /// much further as the clock has gone since the last rows, so that a stream that falls quiet closes its windows. Rows
    /// that come after that with times from before it are late. Off by default.
    pub fn advance_after(mut self, quiet: Duration) -> EventTime {
        self.advance_after = Some(quiet);
        self
    }

    /// Reads a partition whose watermark is further than this ahead of the slowest that is not idle no further until the
    /// others have caught up, so that windows need not hold what the fast ones bring; what has been read of it still comes.
    /// Files of a pattern heed it, partitions of Kafka, and TCP and Unix connections; pipes, standard input, datagrams, rows in memory and events
    /// of this program are read on. A partition that has begun and has no rows yet is the slowest, until it is idle. Off by
    /// default.
    pub fn max_skew(mut self, skew: Duration) -> EventTime {
        self.max_skew = Some(skew);
        self
    }
}

impl From<&str> for EventTime {
    fn from(column: &str) -> EventTime {
        event_time(column)
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.punctuated_by {
            Some(column) => write!(f, "{}, punctuated by {column}", self.column)?,
            None => write!(f, "{}, max_delay {:?}", self.column, self.max_delay)?,
        }
        match self.idle_timeout {
            Some(timeout) => write!(f, ", idle after {timeout:?}")?,
            None => f.write_str(", never idle")?,
        }
        if let Some(quiet) = self.advance_after {
            write!(f, ", goes on with the clock after {quiet:?}")?;
        }
        self.max_skew.map_or(Ok(()), |skew| write!(f, ", max_skew {skew:?}"))
    }
}

impl Stream {
    /// The rows of record batches in memory.
    pub fn from_arrow(batches: impl IntoIterator<Item = RecordBatch>) -> Stream {
        let batches: Vec<RecordBatch> = batches.into_iter().collect();
        match batches.first().map(RecordBatch::schema) {
            Some(schema) => Stream::from_batches(schema, batches),
            None => Stream {
                node: Arc::new(Node::Invalid(
                    "no record batch was given, so the columns are unknown; use `from_batches` with a schema".to_owned(),
                )),
            },
        }
    }

    /// The rows of record batches of `schema`, which may be none.
    pub fn from_batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Stream {
        match Memory::new(schema, batches) {
            Ok(memory) => Stream::from_source(memory),
            Err(error) => Stream { node: Arc::new(Node::Invalid(error.to_string())) },
        }
    }

    /// The rows of a reader, as they come. The stream can be run once.
    pub fn from_reader(reader: Reader) -> Stream {
        Stream::from_source(Readers::once(reader))
    }

    /// The rows of any source.
    pub fn from_source(source: impl OpenSource + 'static) -> Stream {
        Stream::from_boxed(Box::new(source))
    }

    fn from_boxed(source: Box<dyn OpenSource>) -> Stream {
        Stream { node: Arc::new(Node::Source(source)) }
    }

    fn then(&self, step: Step) -> Stream {
        Stream { node: Arc::new(Node::Step { input: self.clone(), step }) }
    }

    /// Takes the event time from a column: `"ts"`, or [`event_time`]`("ts").max_delay(..)`.
    pub fn event_time(&self, time: impl Into<EventTime>) -> Stream {
        self.then(Step::EventTime(time.into()))
    }

    /// Takes the clock for the event time: adds a column `column` of timestamps in milliseconds, without nulls, that says when
    /// the pipeline took each row in (one time for a batch), and lets the watermark follow the clock. So a window fires when
    /// the clock passes its end, also when no row comes, and no row is late. A clock that is set back stands still until it
    /// has caught up.
    pub fn arrival_time(&self, column: impl Into<String>) -> Stream {
        self.then(Step::ArrivalTime(column.into()))
    }

    /// Keeps the rows for which `predicate`, a SQL or typed expression, is true.
    pub fn filter(&self, predicate: impl Into<Expression>) -> Stream {
        self.then(Step::Filter(predicate.into()))
    }

    /// Adds columns, or replaces those of the same name; all expressions see the columns as they were before.
    pub fn with_columns<N: Into<String>, E: Into<Expression>>(&self, columns: impl IntoIterator<Item = (N, E)>) -> Stream {
        self.then(Step::WithColumns(columns.into_iter().map(|(name, expression)| (name.into(), expression.into())).collect()))
    }

    /// Keeps these columns or expressions (`"a"`, `"b * 2 AS c"`), in this order.
    pub fn select<E: Into<Expression>>(&self, columns: impl IntoIterator<Item = E>) -> Stream {
        self.then(Step::Select(columns.into_iter().map(Into::into).collect()))
    }

    /// Cuts the stream into windows, or gives every row its own, with [`rolling_rows`](crate::rolling_rows) and
    /// [`rolling_range`](crate::rolling_range); go on with [`Windowed::by`] and [`Windowed::agg`].
    pub fn window(&self, spec: impl Into<Windowing>) -> Windowed {
        Windowed { input: self.clone(), spec: spec.into(), revisions: Revisions::default(), ttl: None, by: Vec::new() }
    }

    /// Adds `score`, `is_anomaly` and what else is asked for to every row. See [`detect`](crate::operator::detect).
    pub fn detect(&self, detection: Detection) -> Stream {
        self.then(Step::Detect(detection))
    }

    /// Drops rows that repeat another: of each key, made of the columns `by`, the first row in order of arrival is kept, and rows
    /// whose event time is at most `within` from that of a row that was kept, before or after, are dropped and counted
    /// ([`Metrics::duplicate_rows`](crate::Metrics::duplicate_rows)).
    ///
    /// A row that was kept is remembered until the watermark is `within` past it. A row behind the watermark may repeat one that
    /// is forgotten: unless it repeats one that is not, it is late and goes to the late output. So give the event time the
    /// [`max_delay`](EventTime::max_delay) that retries need.
    ///
    /// ```
    /// # use thalweg::{Stream, event_time, mins, secs};
    /// # fn once(orders: Stream) -> Stream {
    /// orders.event_time(event_time("ts").max_delay(secs(30))).dedup(["order_id"], mins(10))
    /// # }
    /// ```
    pub fn dedup<S: Into<String>>(&self, by: impl IntoIterator<Item = S>, within: Duration) -> Stream {
        self.then(Step::Dedup { by: by.into_iter().map(Into::into).collect(), within })
    }

    /// Gives the rows of each key, made of the columns `by`, to a function of yours, with a state per key and timers in event time:
    /// for what windows cannot say. See [`process`](crate::operator::process).
    pub fn process<S: Into<String>>(&self, by: impl IntoIterator<Item = S>, process: impl Process) -> Stream {
        self.then(Step::Process { by: by.into_iter().map(Into::into).collect(), process: Arc::new(process) })
    }

    /// Tells which keys, made of the columns `by`, have fallen silent: a row for each silence when it begins, told by event time. See
    /// [`heartbeat`](crate::operator::process::heartbeat).
    ///
    /// ```
    /// # use thalweg::{Stream, event_time, mins, secs};
    /// use thalweg::operator::process::heartbeat::Heartbeat;
    /// # fn silent(readings: Stream) -> Stream {
    /// readings.event_time(event_time("ts").advance_after(secs(10))).heartbeat(["sensor"], Heartbeat { least: mins(1), ..Heartbeat::default() })
    /// # }
    /// ```
    pub fn heartbeat<S: Into<String>>(&self, by: impl IntoIterator<Item = S>, heartbeat: Heartbeat) -> Stream {
        self.then(Step::Process { by: by.into_iter().map(Into::into).collect(), process: Arc::new(heartbeat) })
    }

    /// The address that clients connect to, if the source listens.
    pub fn local_addr(&self) -> Option<String> {
        match &*self.node {
            Node::Source(source) => source.local_addr(),
            Node::Invalid(_) => None,
            Node::Step { input, .. } => input.local_addr(),
        }
    }

    /// The clock that the next run goes by, if the source has one of its own.
    fn clock(&self) -> Option<SharedClock> {
        match &*self.node {
            Node::Source(source) => source.clock(),
            Node::Invalid(_) => None,
            Node::Step { input, .. } => input.clock(),
        }
    }

    /// The columns that come out. Checks every step against the columns that go in.
    ///
    /// # Errors
    /// What is wrong with the first step that cannot work.
    pub fn schema(&self) -> Result<SchemaRef> {
        compile::schema_of(self, &Config::default())
    }

    /// The columns of the rows that come too late for a step, those of the last step that rows may reach late (see [`Query::late`]): what
    /// goes into it, then [what is known of their lateness](crate::operator::late_schema). `None` if rows cannot be late for any.
    ///
    /// # Errors
    /// As [`Stream::schema`].
    pub fn late_schema(&self) -> Result<Option<SchemaRef>> {
        compile::late_schema_of(self, &Config::default())
    }

    /// The plan in words, one step a line, the source first; for each step with kernels, on which device they run and
    /// why. May look for a GPU and measure it.
    ///
    /// # Errors
    /// As [`Stream::schema`].
    pub fn explain(&self) -> Result<String> {
        self.explain_with(&Config::default())
    }

    /// The same as it would run with this configuration.
    ///
    /// # Errors
    /// As [`Stream::schema`], and if the configuration cannot work.
    pub fn explain_with(&self, config: &Config) -> Result<String> {
        config.validate()?;
        compile::explain(self, config)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.node {
            Node::Source(source) => f.write_str(&source.describe()),
            Node::Invalid(why) => write!(f, "invalid: {why}"),
            Node::Step { input, step } => write!(f, "{input}\n  → {step}"),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| items.join(", ");
        match self {
            Step::EventTime(time) => write!(f, "event_time({time})"),
            Step::ArrivalTime(column) => write!(f, "arrival_time({column})"),
            Step::Filter(predicate) => write!(f, "filter({predicate})"),
            Step::WithColumns(columns) => {
                write!(f, "with_columns({})", list(columns.iter().map(|(name, expression)| format!("{name} = {expression}")).collect()))
            }
            Step::Select(columns) => write!(f, "select({})", list(columns.iter().map(ToString::to_string).collect())),
            Step::Window { spec, revisions, ttl, by, aggregates } => {
                let ttl = ttl.map(|ttl| format!(", ttl {ttl:?}")).unwrap_or_default();
                write!(
                    f,
                    "window({spec}{revisions}{ttl} by [{}]: {})",
                    by.join(", "),
                    list(aggregates.iter().map(ToString::to_string).collect())
                )
            }
            Step::Detect(detection) => write!(f, "detect({detection})"),
            Step::Dedup { by, within } => write!(f, "dedup([{}] within {within:?})", by.join(", ")),
            Step::Process { by, process } => write!(f, "process({} by [{}])", process.name(), by.join(", ")),
        }
    }
}

/// A stream cut into windows, waiting for its aggregates.
#[derive(Debug, Clone)]
pub struct Windowed {
    input: Stream,
    spec: Windowing,
    revisions: Revisions,
    ttl: Option<Duration>,
    by: Vec<String>,
}

impl Windowed {
    /// Windows stay for so long after their end, and count rows that come meanwhile: the groups that these change are put out
    /// again. The last result of a key and window is the one to keep.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Windowed {
        self.revisions.lateness = lateness;
        self
    }

    /// Before they end, windows put out the groups that have changed whenever the watermark passes a multiple of `every`.
    pub fn early(mut self, every: Duration) -> Windowed {
        self.revisions.early = Some(every);
        self
    }

    /// Groups are put out with every batch that changes them, and not again when the window ends.
    pub fn updates(mut self) -> Windowed {
        self.revisions.updates = true;
        self
    }

    /// Forgets a key once event time is more than `ttl` past its latest row; if more rows of it come, it begins anew. For windows that
    /// keep their keys: those of a number of rows, rolling ones too, and the global window, which put out what a key has first.
    pub fn ttl(mut self, ttl: Duration) -> Windowed {
        self.ttl = Some(ttl);
        self
    }

    /// Makes groups of the rows that are equal in these columns.
    pub fn by<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Windowed {
        self.by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// One row per window and group: the `by` columns, `window_start`, `window_end`, the aggregates. Of rolling windows one row
    /// per row: its columns, the aggregates.
    pub fn agg(self, aggregates: impl IntoIterator<Item = Aggregate>) -> Stream {
        self.input.then(Step::Window {
            spec: self.spec,
            revisions: self.revisions,
            ttl: self.ttl,
            by: self.by,
            aggregates: aggregates.into_iter().collect(),
        })
    }
}
