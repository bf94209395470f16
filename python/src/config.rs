//! Knobs and durations as Python writes them.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyInt};
use thalweg::config::{Device, Exchange, IoBackend, OverBudget, WaitStrategy};
use thalweg::operator::detect::{Among, Refractory};
use thalweg::time::parse_duration;
use thalweg::{Config, Error};

use crate::error::raise;

/// A duration: `"500ms"`, a `datetime.timedelta`, or 0.
#[derive(Debug, Clone, Copy)]
pub struct Interval(pub Duration);

impl FromPyObject<'_, '_> for Interval {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Interval> {
        if let Ok(text) = value.extract::<String>() {
            return parse_duration(&text).map(Interval).map_err(raise);
        }
        if value.is_instance_of::<PyDelta>() {
            let duration = value.extract().map_err(|_| raise(Error::config("a duration may not be negative")))?;
            return Ok(Interval(duration));
        }
        match value.extract::<f64>() {
            Ok(0.0) => Ok(Interval(Duration::ZERO)),
            Ok(number) => {
                Err(raise(Error::config(format!("{number} has no unit; write for example \"{number}ms\" or a datetime.timedelta"))))
            }
            Err(_) => Err(PyTypeError::new_err(format!(
                "a duration must be a str such as \"500ms\" or a datetime.timedelta, not {}",
                value.get_type().name()?
            ))),
        }
    }
}

/// A number of rows or a span of event time.
pub enum Span {
    Rows(u64),
    Time(Duration),
}

impl FromPyObject<'_, '_> for Span {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Span> {
        if value.is_instance_of::<PyInt>() {
            let rows: u64 = value.extract().map_err(|_| PyTypeError::new_err("a number of rows may not be negative"))?;
            return Ok(Span::Rows(rows));
        }
        value.extract::<Interval>().map(|interval| Span::Time(interval.0))
    }
}

impl From<Span> for Refractory {
    fn from(span: Span) -> Refractory {
        match span {
            Span::Rows(rows) => Refractory::Rows(rows),
            Span::Time(time) => Refractory::Time(time),
        }
    }
}

impl From<Span> for Among {
    fn from(span: Span) -> Among {
        match span {
            // More rows than a number here can say are more than there may be.
            Span::Rows(rows) => Among::Rows(u32::try_from(rows).unwrap_or(u32::MAX)),
            Span::Time(time) => Among::Time(time),
        }
    }
}

/// The knobs of a run. What is left out keeps its default, which suits most.
///
/// Args:
///     io: How bytes come in: "auto" (io_uring for sockets and direct reads where the kernel allows it,
///         else epoll and blocking reads), "uring" or "portable".
///         The environment variable THALWEG_IO sets the default.
///     device: Which device window kernels run on: "auto" (the one that measures cheaper, never a software adapter),
///         "cpu" or "gpu" (falls back to the CPU with a warning; takes left discords too, whose scores are then within 2e-5
///         of the CPU's). The wheel must be built with the feature `gpu`.
///         The environment variable THALWEG_DEVICE sets the default.
///     backend: The instruction set of the CPU's kernels: "auto", "scalar", "simd" or a level such as "avx2". It holds
///         for the process: the first run decides. The environment variable THALWEG_BACKEND sets the default.
///     batch_rows: Rows after which a batch is handed on.
///     linger: The longest that a row waits for its batch to fill.
///     latency_target: When set, the linger adapts so that the time from a row's arrival to its results stays under this.
///     max_connections: Clients that may be connected to a listener at once.
///     max_line_bytes: Bytes in one line; longer ones go to quarantine.
///     connection_idle: A client that sends nothing for this long is disconnected.
///     source_thread: Reads and decodes on a thread of its own.
///     wait: What a thread does while it has nothing to do: "spin", "yield" or "park".
///     workers: Threads that share the work of a query, that which reads, keeps the time and puts results together among them.
///         One, the default, does all on that thread. Results are the same, but for the last bits of sums of floats and the
///         order of rows of different keys in one window; `explain(config=...)` says which steps are shared.
///     exchange: How rows are shared out to workers: "auto" (whichever suits the first rows), "hash" (by key), "two_phases"
///         (rows of any key, for windows that can be put together) or "windows" (all rows of a tumbling window to one worker).
///     max_keys: Keys that one operator may hold at once; each worker's copy of it.
///     state_budget: Bytes of state that all steps of a pipeline may hold together; None for no more bound than each step's own.
///     over_budget: What becomes of a pipeline whose state is over that: "error" ends it, "backpressure" reads only the partitions that
///         hold event time back (or none, by the time of arrival) until there is less, "shed" drops the rows that come and counts them
///         as `shed_rows`.
///     max_state_bytes: Bytes of state that one window or detector may hold; each worker an equal part of them.
///     commit_every: How often sinks publish what was written.
///     direct_io: Opens files past the page cache.
///     held_back_warning: Once windows have waited this long for a watermark that does not move, a warning says which
///         partition holds it back.
///
/// Example:
///     >>> w.collect(config=tw.Config(batch_rows=4096, linger="5ms"))
#[pyclass(name = "Config", module = "thalweg", frozen)]
pub struct PyConfig(Config);

impl PyConfig {
    /// The given knobs, or the defaults.
    pub fn resolve(given: Option<&Bound<'_, PyConfig>>) -> PyResult<Config> {
        match given {
            Some(config) => Ok(config.get().0.clone()),
            None => Config::from_env().map_err(raise),
        }
    }

    /// The same with so many workers, if that is said.
    pub fn with_workers(given: Option<&Bound<'_, PyConfig>>, workers: Option<usize>) -> PyResult<Config> {
        let mut config = PyConfig::resolve(given)?;
        set(&mut config.workers, workers);
        config.validate().map_err(raise)?;
        Ok(config)
    }
}

fn set<T>(knob: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *knob = value;
    }
}

fn io_backend(name: &str) -> thalweg::Result<IoBackend> {
    match name {
        "auto" => Ok(IoBackend::Auto),
        "uring" => Ok(IoBackend::Uring),
        "portable" => Ok(IoBackend::Portable),
        other => Err(Error::config(format!("`io` is `{other}`; it may be auto, uring or portable"))),
    }
}

fn wait_strategy(name: &str) -> thalweg::Result<WaitStrategy> {
    match name {
        "spin" => Ok(WaitStrategy::Spin),
        "yield" => Ok(WaitStrategy::Yield),
        "park" => Ok(WaitStrategy::Park),
        other => Err(Error::config(format!("`wait` is `{other}`; it may be spin, yield or park"))),
    }
}

fn exchange_of(name: &str) -> thalweg::Result<Exchange> {
    match name {
        "auto" => Ok(Exchange::Auto),
        "hash" => Ok(Exchange::Hash),
        "two_phases" => Ok(Exchange::TwoPhases),
        "windows" => Ok(Exchange::Windows),
        other => Err(Error::config(format!("`exchange` is `{other}`; it may be auto, hash, two_phases or windows"))),
    }
}

#[pymethods]
impl PyConfig {
    #[new]
    #[pyo3(signature = (*, io=None, device=None, backend=None, batch_rows=None, linger=None, latency_target=None, max_connections=None, max_line_bytes=None, connection_idle=None, source_thread=None, wait=None, workers=None, exchange=None, max_keys=None, max_state_bytes=None, state_budget=None, over_budget=None, commit_every=None, direct_io=None, held_back_warning=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn new(
        io: Option<&str>,
        device: Option<&str>,
        backend: Option<String>,
        batch_rows: Option<usize>,
        linger: Option<Interval>,
        latency_target: Option<Interval>,
        max_connections: Option<usize>,
        max_line_bytes: Option<usize>,
        connection_idle: Option<Interval>,
        source_thread: Option<bool>,
        wait: Option<&str>,
        workers: Option<usize>,
        exchange: Option<&str>,
        max_keys: Option<usize>,
        max_state_bytes: Option<usize>,
        state_budget: Option<usize>,
        over_budget: Option<&str>,
        commit_every: Option<Interval>,
        direct_io: Option<bool>,
        held_back_warning: Option<Interval>,
    ) -> PyResult<PyConfig> {
        let mut config = Config::from_env().map_err(raise)?;
        set(&mut config.io, io.map(io_backend).transpose().map_err(raise)?);
        set(&mut config.device, device.map(str::parse::<Device>).transpose().map_err(raise)?);
        config.backend = backend.or(config.backend);
        set(&mut config.batch_rows, batch_rows);
        set(&mut config.linger, linger.map(|interval| interval.0));
        config.latency_target = latency_target.map(|interval| interval.0);
        set(&mut config.max_connections, max_connections);
        set(&mut config.max_line_bytes, max_line_bytes);
        set(&mut config.connection_idle, connection_idle.map(|interval| interval.0));
        set(&mut config.source_thread, source_thread);
        set(&mut config.wait, wait.map(wait_strategy).transpose().map_err(raise)?);
        set(&mut config.workers, workers);
        set(&mut config.exchange, exchange.map(exchange_of).transpose().map_err(raise)?);
        set(&mut config.max_keys, max_keys);
        set(&mut config.max_state_bytes, max_state_bytes);
        config.state_budget = state_budget;
        set(&mut config.over_budget, over_budget.map(str::parse::<OverBudget>).transpose().map_err(raise)?);
        set(&mut config.commit_every, commit_every.map(|interval| interval.0));
        set(&mut config.direct_io, direct_io);
        set(&mut config.held_back_warning, held_back_warning.map(|interval| interval.0));
        config.validate().map_err(raise)?;
        Ok(PyConfig(config))
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}
