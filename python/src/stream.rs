//! The fluent builder. Every step is checked when it is added, so that an error points at the line that is wrong.

use std::fmt::Write;
use std::time::Duration;

use arrow::datatypes::TimeUnit;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use thalweg::operator::process::heartbeat::Heartbeat;
use thalweg::plan::Windowed;
use thalweg::{Error, Stream};

use crate::aggregate::PyAggregate;
use crate::arrow::{PyColumns, schema_from};
use crate::config::{Interval, PyConfig, Span};
use crate::detect::PyDetector;
use crate::error::{detached, raise};
use crate::process::PyProcess;
use crate::query::{Branch, PyBatches, PyQuery, collect};
use crate::table::{PyTable, escape};
use crate::window::PyWindow;

/// How long a partition may be silent before it stops holding the watermark back, unless told otherwise.
const IDLE_TIMEOUT: Option<Interval> = Some(Interval(thalweg::config::PARTITION_IDLE));

/// A stream of rows: a source and the steps that its rows go through. Nothing happens until it is collected,
/// iterated or run; each step is checked against the columns that go into it when it is added.
///
/// Example:
///     >>> w = (tw.from_arrow(payments)
///     ...        .event_time("ts", max_delay="500ms")
///     ...        .window(tw.tumbling("1s"), by="card")
///     ...        .agg(n=tw.count(), total=tw.sum("amount")))
///     >>> w.collect()
#[pyclass(name = "Stream", module = "thalweg", frozen)]
pub struct PyStream {
    pub stream: Stream,
}

impl PyStream {
    /// `stream`, if all its steps can work.
    pub fn checked(py: Python<'_>, stream: Stream) -> PyResult<PyStream> {
        detached(py, || stream.schema())?;
        Ok(PyStream { stream })
    }

    /// The plan, one line per step, the source first.
    fn steps(&self) -> Vec<String> {
        self.stream.to_string().split("\n  → ").map(str::to_owned).collect()
    }
}

#[pymethods]
impl PyStream {
    /// The address that clients connect to, if the source listens: "127.0.0.1:9000" or a path.
    #[getter]
    fn local_addr(&self) -> Option<String> {
        self.stream.local_addr()
    }

    /// Names and types of the columns that come out.
    #[getter]
    fn schema(&self, py: Python<'_>) -> PyResult<PyColumns> {
        Ok(PyColumns(detached(py, || self.stream.schema())?))
    }

    /// Takes the event time from a column.
    ///
    /// Args:
    ///     column: A timestamp, a date or an integer.
    ///     unit: What integers count: "s", "ms" (the default), "us" or "ns". Timestamps know it themselves.
    ///     max_delay: How much later than the greatest event time before it in its partition a row may come and still be on
    ///         time; 0 suits partitions whose times only grow.
    ///     idle_timeout: After how long without rows a partition (a connection, a file) stops holding the others
    ///         back; None for never.
    ///     punctuated_by: A column that alone says how far the event time of a row's partition has come, instead of
    ///         `max_delay`: a boolean (true: no row earlier than this one will come) or a time in the unit of `column` (no
    ///         row at or before it will come; null says nothing).
    ///     advance_after: When no rows have come in any partition for this long, event time goes on with the clock, so that
    ///         a quiet stream closes its windows; rows that come later than that are late. None for never.
    ///     max_skew: A file or connection that is further than this ahead of the slowest that is not idle is not read on
    ///         until the others have caught up. Pipes, datagrams and rows in memory are read on. None for no bound.
    ///
    /// Example:
    ///     >>> s.event_time("ts", unit="ms", max_delay="500ms")
    ///     >>> s.event_time("ts", punctuated_by="complete_until", advance_after="2s", max_skew="1min")
    #[pyo3(signature = (column, unit=None, max_delay=Interval(Duration::ZERO), idle_timeout=IDLE_TIMEOUT, punctuated_by=None, advance_after=None, max_skew=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn event_time(
        &self,
        py: Python<'_>,
        column: &str,
        unit: Option<&str>,
        max_delay: Interval,
        idle_timeout: Option<Interval>,
        punctuated_by: Option<&str>,
        advance_after: Option<Interval>,
        max_skew: Option<Interval>,
    ) -> PyResult<PyStream> {
        let mut time = thalweg::event_time(column).max_delay(max_delay.0).idle_timeout(idle_timeout.map(|interval| interval.0));
        if let Some(unit) = unit {
            time = time.unit(time_unit(unit)?);
        }
        if let Some(column) = punctuated_by {
            time = time.punctuated_by(column);
        }
        if let Some(quiet) = advance_after {
            time = time.advance_after(quiet.0);
        }
        if let Some(skew) = max_skew {
            time = time.max_skew(skew.0);
        }
        PyStream::checked(py, self.stream.event_time(time))
    }

    /// Takes the clock for the event time: adds a timestamp[ms] column without nulls that says when each row was taken in,
    /// and lets the watermark follow the clock. A window fires when the clock passes its end, also when no row comes, and no
    /// row is late.
    ///
    /// Args:
    ///     column: What to call the column.
    ///
    /// Example:
    ///     >>> s.arrival_time("arrived").window(tw.tumbling("1s")).agg(n=tw.count())
    fn arrival_time(&self, py: Python<'_>, column: &str) -> PyResult<PyStream> {
        PyStream::checked(py, self.stream.arrival_time(column))
    }

    /// Keeps the rows for which a SQL expression is true.
    ///
    /// Example:
    ///     >>> s.filter("amount > 10 AND card IS NOT NULL")
    fn filter(&self, py: Python<'_>, predicate: &str) -> PyResult<PyStream> {
        PyStream::checked(py, self.stream.filter(predicate))
    }

    /// Adds columns given as SQL expressions, or replaces those of the same name.
    ///
    /// Example:
    ///     >>> s.with_columns(fee="amount * 0.02", hour="date_trunc('hour', ts)")
    #[pyo3(signature = (**columns))]
    fn with_columns(&self, py: Python<'_>, columns: Option<&Bound<'_, PyDict>>) -> PyResult<PyStream> {
        let mut named = Vec::new();
        for (name, expression) in columns.into_iter().flatten() {
            let name: String = name.extract()?;
            let Ok(expression) = expression.extract::<String>() else {
                return Err(PyTypeError::new_err(format!(
                    "`{name}` must be a SQL expression in a str, not {}",
                    expression.get_type().name()?
                )));
            };
            named.push((name, expression));
        }
        PyStream::checked(py, self.stream.with_columns(named.iter().map(|(name, expression)| (name.as_str(), expression.as_str()))))
    }

    /// Keeps these columns or SQL expressions, in this order.
    ///
    /// Example:
    ///     >>> s.select("ts", "card", "amount * 2 AS doubled")
    #[pyo3(signature = (*columns))]
    fn select(&self, py: Python<'_>, columns: &Bound<'_, PyTuple>) -> PyResult<PyStream> {
        let columns: Vec<String> =
            columns.extract().map_err(|_| PyTypeError::new_err("select takes names of columns or SQL expressions, each a str"))?;
        PyStream::checked(py, self.stream.select(columns.iter().map(String::as_str)))
    }

    /// Cuts the stream into windows; go on with `agg`.
    ///
    /// Args:
    ///     spec: `tw.tumbling(size)`, `tw.hopping(size, slide)`, `tw.cumulate(size, step)`, `tw.session(gap)`,
    ///         `tw.count_window(rows, slide)`, `tw.global_window(...)`, `tw.rolling(rows=n)` or `tw.rolling(range=length)`.
    ///     by: The column or columns whose equal values make a group.
    ///     allowed_lateness: How long after their end windows still count rows; the groups that these change are put out
    ///         again, and the last result of a key and window is the one to keep.
    ///     early: Puts out what has changed in windows, before they end, whenever the watermark passes a multiple of this.
    ///     updates: Puts out groups with every batch that changes them, and not again when the window ends.
    ///     ttl: Forgets a key once event time is more than this past its latest row, having put out what it has; of windows that keep
    ///         their keys, which are those of a number of rows, rolling ones too, and the global one.
    ///
    /// Example:
    ///     >>> s.window(tw.hopping("1min", "10s"), by=["city", "sensor"]).agg(hottest=tw.max("degrees"))
    #[pyo3(signature = (spec, by=None, *, allowed_lateness=None, early=None, updates=false, ttl=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn window(
        &self,
        py: Python<'_>,
        spec: &PyWindow,
        by: Option<Names>,
        allowed_lateness: Option<Interval>,
        early: Option<Interval>,
        updates: bool,
        ttl: Option<Interval>,
    ) -> PyResult<PyWindowed> {
        let mut windowed = self.stream.window(spec.0.clone()).by(by.unwrap_or_default().0);
        if let Some(lateness) = allowed_lateness {
            windowed = windowed.allowed_lateness(lateness.0);
        }
        if let Some(every) = early {
            windowed = windowed.early(every.0);
        }
        if updates {
            windowed = windowed.updates();
        }
        if let Some(ttl) = ttl {
            windowed = windowed.ttl(ttl.0);
        }
        // A window of nothing but a count fails exactly if the window itself or its keys cannot work.
        let probe = windowed.clone().agg([thalweg::count().alias("…")]);
        detached(py, || probe.schema())?;
        Ok(PyWindowed { windowed })
    }

    /// Adds `score` and `is_anomaly` to every row, and what else is asked for: the same rows in the same order.
    ///
    /// A row is scored against the rows of its key before it. A row without a value has no score and is no anomaly. Columns are added in
    /// this order: `score`, `p`, `event_score`, `region`, `expected`, `attribution`, `is_anomaly`.
    ///
    /// Args:
    ///     detector: One of `tw.anomaly`.
    ///     on: The column or columns to watch: together, if the detector does so, else each by itself, a row's score being the greatest of theirs.
    ///     by: The column or columns whose equal values have a history of their own.
    ///     threshold: The score from which a row is an anomaly; without it the detector's own.
    ///     false_alarm_rate: In place of a threshold: anomalies are the rows whose `p` is at most this, about that share of a key's rows where
    ///         nothing unusual happens. Adds `p`.
    ///     top_k: In place of a threshold: `(k, rows)` makes anomalies of the rows whose score is among the k highest of their key's latest `rows`,
    ///         about k of them, unless scores rise and fall together; none before a key has `rows` scores. `(k, "1h")`: among the k highest of their
    ///         key's rows in the hour of event time that ends with them; none before an hour has passed since a key's first score, nor where the
    ///         hour has no k other scores. A row that comes late is judged in the hour that ends with its key's latest event time.
    ///     p: Adds `p`: the share of the key's earlier scores that were at least as high, from 0 to 1. 1.1 kB of state a key.
    ///     refractory: Adds `event_score`: the score of a row that begins an event or scores higher than the event's rows before it, else 0;
    ///         anomalies are those rows alone. How long an event lasts after such a row: rows of the key, or a span of event time such as
    ///         "5min". 0 holds nothing back, not even where the detector would.
    ///     region: Adds `region`: the score smoothed over about so many rows of the key, high throughout a long event.
    ///     expected: Adds `expected`: the value that the detector expected before it saw the row; a struct of them if there are several columns.
    ///     attribution: Adds `attribution`: the part of each column in the score, below 0 if its value is too low; a struct if there are several.
    ///     ttl: Forgets a key once event time is more than this past its latest row, such as "1h": if more rows of it come, it begins anew.
    ///
    /// Example:
    ///     >>> s.detect(tw.anomaly.ewma(alpha=0.05), on="amount", by="card", threshold=4.0)
    #[pyo3(signature = (detector, on, by=None, threshold=None, *, false_alarm_rate=None, top_k=None, p=false, refractory=None, region=None, expected=false, attribution=false, ttl=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn detect(
        &self,
        py: Python<'_>,
        detector: &PyDetector,
        on: Names,
        by: Option<Names>,
        threshold: Option<f64>,
        false_alarm_rate: Option<f64>,
        top_k: Option<(u32, Span)>,
        p: bool,
        refractory: Option<Span>,
        region: Option<u32>,
        expected: bool,
        attribution: bool,
        ttl: Option<Interval>,
    ) -> PyResult<PyStream> {
        let mut detection = detector.detection.clone().on(on.0).by(by.unwrap_or_default().0);
        if let Some(threshold) = threshold {
            detection = detection.threshold(threshold);
        }
        if let Some(rate) = false_alarm_rate {
            detection = detection.false_alarm_rate(rate);
        }
        if let Some((k, among)) = top_k {
            detection = detection.top_k(k, among);
        }
        if p {
            detection = detection.with_p();
        }
        if let Some(span) = refractory {
            detection = detection.refractory(span);
        }
        if let Some(rows) = region {
            detection = detection.region(rows);
        }
        if expected {
            detection = detection.with_expected();
        }
        if attribution {
            detection = detection.with_attribution();
        }
        if let Some(ttl) = ttl {
            detection = detection.ttl(ttl.0);
        }
        PyStream::checked(py, self.stream.detect(detection))
    }

    /// Drops rows that repeat another: of each key the first row is kept, in order of arrival, and rows whose event time is at most
    /// `within` from that of a row that was kept, before or after, are dropped and counted (`duplicate_rows`).
    ///
    /// A row that was kept is remembered until the watermark is `within` past it. A row behind the watermark that repeats none that
    /// is remembered may repeat one that is forgotten: it is late. So give `event_time` the `max_delay` that retries need.
    ///
    /// Args:
    ///     by: The column or columns that tell rows apart.
    ///     within: How far apart, in event time, two rows of one key are no duplicates any more.
    ///
    /// Example:
    ///     >>> s.event_time("ts", max_delay="30s").dedup("order_id", within="10min")
    fn dedup(&self, py: Python<'_>, by: Names, within: Interval) -> PyResult<PyStream> {
        PyStream::checked(py, self.stream.dedup(by.0, within.0))
    }

    /// Tells which keys have fallen silent: a row for each silence when it begins, told by event time, with the key, `last_seen`, `usual_interval`
    /// (the median of the key's latest 15 intervals) and `silent_since`. The end of the input is no silence.
    ///
    /// If no key has a row any more, event time stands still and nothing is told: give `event_time` an `advance_after` for that. Late rows go to
    /// the late output.
    ///
    /// Args:
    ///     by: The column or columns that make a key.
    ///     factor: How many usual intervals without a row make a silence.
    ///     at_least: How long a silence is at least, whatever is usual.
    ///     warmup: How many intervals a key must have had, from 1 to 15.
    ///
    /// Example:
    ///     >>> s.event_time("ts", advance_after="10s").heartbeat(by="sensor", at_least="1min")
    #[pyo3(signature = (by, factor=3.0, at_least=None, warmup=5))]
    fn heartbeat(&self, py: Python<'_>, by: Names, factor: f64, at_least: Option<Interval>, warmup: u32) -> PyResult<PyStream> {
        let least = at_least.map(|least| least.0).unwrap_or_default();
        PyStream::checked(py, self.stream.heartbeat(by.0, Heartbeat { factor, least, warmup }))
    }

    /// Gives the rows of each key to a function of yours, with a state per key and timers in event time: for what windows cannot
    /// say. Rows come as they arrive, all of one key in a batch at once, as a `Table`; late ones too. How they are cut into calls
    /// depends on the batches.
    ///
    /// Args:
    ///     function: `f(rows, state, ctx)`, or an object or class with methods `on_rows` and, if it likes, `on_timer`. `state` is
    ///         the key's dict, empty at first; `ctx` a `Context`. Returns the rows to put out (any Arrow object, or a dict of
    ///         lists) or None. What it raises ends the run.
    ///     by: The column or columns that make a key.
    ///     schema: The columns of the rows that it returns; those of the input unless told otherwise.
    ///     on_timer: `f(time, state, ctx)`, called once the watermark has reached a time given to `ctx.set_timer`, in order of time.
    ///     time: The column of the returned rows that holds their event time. Without one it is `ctx.time`: that of the latest row
    ///         given, or of the timer.
    ///     ttl: How long after its latest row, in event time, a key is forgotten with its timers; None for never.
    ///     in_order: Lets rows wait until the watermark has passed them, and come in order of event time between the timers, each
    ///         call with the rows of one key and one time: the same calls whatever the batch size. Late rows go to the late output.
    ///
    /// Example:
    ///     >>> def idle(rows, state, ctx):
    ///     ...     ctx.set_timer(ctx.time + 60_000)
    ///     >>> def warn(time, state, ctx):
    ///     ...     return {"silent_since": [time - 60_000]}
    ///     >>> s.process(idle, by="sensor", schema={"silent_since": "int64"}, on_timer=warn)
    #[pyo3(signature = (function, by=None, schema=None, on_timer=None, time=None, ttl=None, in_order=false))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn process(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        by: Option<Names>,
        schema: Option<&Bound<'_, PyAny>>,
        on_timer: Option<&Bound<'_, PyAny>>,
        time: Option<String>,
        ttl: Option<Interval>,
        in_order: bool,
    ) -> PyResult<PyStream> {
        let schema = match schema {
            Some(schema) => schema_from(schema)?,
            None => detached(py, || self.stream.schema())?,
        };
        let ttl = ttl.map(|ttl| ttl.0);
        let process = PyProcess { schema, time, ttl, in_order, ..PyProcess::new(function, on_timer)? };
        PyStream::checked(py, self.stream.process(by.unwrap_or_default().0, process))
    }

    /// The plan in words, one step a line, with the device of each kernel and why. May look for a GPU and measure it.
    ///
    /// Args:
    ///     config: The knobs of the run that is explained.
    #[pyo3(signature = (config=None))]
    fn explain(&self, py: Python<'_>, config: Option<&Bound<'_, PyConfig>>) -> PyResult<String> {
        let config = PyConfig::resolve(config)?;
        detached(py, || self.stream.explain_with(&config))
    }

    /// Reads a bounded input to its end and returns the results; every window that is open then fires. Ctrl-C stops it.
    ///
    /// Warns with `DroppedRowsWarning` if rows were late or did not decode; they are in `Table.late` and
    /// `Table.quarantined`.
    ///
    /// Args:
    ///     workers: How many threads share the work, see `Config`; None for what `config` says, which is one unless told
    ///         otherwise.
    ///     config: The knobs of the run.
    ///
    /// Example:
    ///     >>> w.collect().to_polars()
    #[pyo3(signature = (workers=None, config=None))]
    fn collect(&self, py: Python<'_>, workers: Option<usize>, config: Option<&Bound<'_, PyConfig>>) -> PyResult<PyTable> {
        collect(py, self, PyConfig::with_workers(config, workers)?)
    }

    /// The results as they come: an iterator of tables with a metrics() of its own. Iterating over the stream does
    /// the same with the default configuration.
    ///
    /// Args:
    ///     config: The knobs of the run.
    ///     workers: As for `collect`.
    ///     restore: Bytes of `Batches.snapshot` of a stream of the same steps, to go on from.
    ///
    /// Example:
    ///     >>> for batch in w.batches(config=tw.Config(linger="5ms")):
    ///     ...     print(batch)
    #[pyo3(signature = (config=None, workers=None, restore=None))]
    fn batches(
        &self,
        py: Python<'_>,
        config: Option<&Bound<'_, PyConfig>>,
        workers: Option<usize>,
        restore: Option<&[u8]>,
    ) -> PyResult<PyBatches> {
        PyBatches::start(py, self, PyConfig::with_workers(config, workers)?, restore)
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<PyBatches> {
        self.batches(py, None, None, None)
    }

    fn __aiter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.batches(py, None, None, None)?.into_pyobject(py)?.call_method0("__aiter__")
    }

    /// Runs in the background.
    ///
    /// Args:
    ///     sink: Where results go: `tw.write_parquet`, `tw.write_ndjson`, or a callable that takes each batch as a `Table`.
    ///     late: Where late rows go.
    ///     quarantine: Where rows go that did not decode.
    ///     config: The knobs of the run.
    ///     workers: As for `collect`.
    ///
    /// Example:
    ///     >>> with w.run(sink=tw.write_parquet("out/")) as q:
    ///     ...     q.wait()
    #[pyo3(signature = (sink, late=None, quarantine=None, config=None, workers=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        sink: &Bound<'py, PyAny>,
        late: Option<&Bound<'py, PyAny>>,
        quarantine: Option<&Bound<'py, PyAny>>,
        config: Option<&Bound<'py, PyConfig>>,
        workers: Option<usize>,
    ) -> PyResult<Bound<'py, PyQuery>> {
        let branch = Branch::new(self.stream.clone(), sink, late)?;
        PyQuery::start(py, vec![branch], quarantine, PyConfig::with_workers(config, workers)?)
    }

    fn __repr__(&self) -> String {
        self.stream.to_string()
    }

    fn _repr_html_(&self, py: Python<'_>) -> PyResult<String> {
        let mut html = String::from("<table><tbody>");
        for (number, step) in self.steps().iter().enumerate() {
            let _ = write!(html, "<tr><td>{number}</td><td style=\"text-align:left\"><code>{}</code></td></tr>", escape(step));
        }
        let columns: Vec<_> = self.schema(py)?.items().into_iter().map(|(name, data_type)| format!("{name}: {data_type}")).collect();
        let _ = write!(html, "</tbody></table><small>{}</small>", escape(&columns.join(", ")));
        Ok(html)
    }
}

/// A stream cut into windows, waiting for its aggregates.
#[pyclass(name = "Windowed", module = "thalweg", frozen)]
pub struct PyWindowed {
    windowed: Windowed,
}

#[pymethods]
impl PyWindowed {
    /// One row per window and group: the `by` columns, `window_start`, `window_end`, then the aggregates under their names.
    /// Of rolling windows one row per row: its columns, then the aggregates.
    ///
    /// Example:
    ///     >>> s.window(tw.tumbling("1s"), by="card").agg(n=tw.count(), total=tw.sum("amount"))
    #[pyo3(signature = (**aggregates))]
    fn agg(&self, py: Python<'_>, aggregates: Option<&Bound<'_, PyDict>>) -> PyResult<PyStream> {
        let mut named = Vec::new();
        for (name, aggregate) in aggregates.into_iter().flatten() {
            let name: String = name.extract()?;
            let Ok(aggregate) = aggregate.cast::<PyAggregate>() else {
                return Err(PyTypeError::new_err(format!(
                    "`{name}` must be an aggregate such as tw.sum(\"amount\"), not {}",
                    aggregate.get_type().name()?
                )));
            };
            named.push(aggregate.get().0.clone().alias(name));
        }
        PyStream::checked(py, self.windowed.clone().agg(named))
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.windowed)
    }
}

/// One name or several.
#[derive(Default)]
pub struct Names(pub Vec<String>);

impl FromPyObject<'_, '_> for Names {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Names> {
        if let Ok(name) = value.extract::<String>() {
            return Ok(Names(vec![name]));
        }
        match value.extract() {
            Ok(names) => Ok(Names(names)),
            Err(_) => Err(PyTypeError::new_err(format!("columns must be a str or a list of str, not {}", value.get_type().name()?))),
        }
    }
}

fn time_unit(name: &str) -> PyResult<TimeUnit> {
    match name {
        "s" => Ok(TimeUnit::Second),
        "ms" => Ok(TimeUnit::Millisecond),
        "us" => Ok(TimeUnit::Microsecond),
        "ns" => Ok(TimeUnit::Nanosecond),
        other => Err(raise(Error::config(format!("`unit` is `{other}`; it may be s, ms, us or ns")))),
    }
}
