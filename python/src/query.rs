//! Running: collecting and iterating on the thread that asks, queries in the background.
//!
//! Work is done in steps without the interpreter's lock; between two steps signals are looked at, so that Ctrl-C
//! is answered within one step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use pyo3::exceptions::{PyTimeoutError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use thalweg::state::Snapshot;
use thalweg::time::SystemClock;
use thalweg::{Batches, Config, Error, Metrics, Plan, Pulled, Query, Running, Stream, Table};

use crate::config::PyConfig;
use crate::error::{Untaken, detached, exception_of, raise, warn_of_dropped_rows};
use crate::held_back::PyHeldBack;
use crate::sink::{BoxedSink, sink_of};
use crate::stream::PyStream;
use crate::table::{PyTable, metrics_dict};

/// How long the engine works before signals are looked at: half of the time in which Ctrl-C must be answered.
const STEP: Duration = Duration::from_millis(50);

/// How often a waiting thread looks whether its query has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Where collected and iterated runs keep the rows that are not results.
const KEPT: Untaken = Untaken {
    late: Some("the first of them are in `late`: raise `max_delay` if they should have been in time"),
    quarantined: Some("the first of them are in `quarantined`, with the reason for each"),
};

/// A value that is dropped without the interpreter's lock: to end a pipeline may take time, and its threads may
/// need the lock to end.
struct Unlocked<T: Send>(Option<T>);

impl<T: Send> Drop for Unlocked<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            Python::try_attach(|py| py.detach(move || drop(value)));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The columns of the late rows of `stream`.
fn late_schema(py: Python<'_>, stream: &PyStream) -> PyResult<SchemaRef> {
    detached(py, || match stream.stream.late_schema()? {
        Some(schema) => Ok(schema),
        None => stream.stream.schema(),
    })
}

/// Runs to the end of the input.
pub fn collect(py: Python<'_>, stream: &PyStream, config: Config) -> PyResult<PyTable> {
    let late_schema = late_schema(py, stream)?;
    let mut running = Unlocked(Some(detached(py, || stream.stream.batches(config))?));
    loop {
        let batches = &mut running.0;
        let ended = detached(py, || batches.as_mut().map_or(Ok(true), |batches| batches.work(STEP)))?;
        py.check_signals()?;
        if ended {
            break;
        }
    }
    let table = detached(py, || Ok(running.0.take().map(Batches::finish)))?;
    let Some(table) = table else { return Ok(PyTable::of(late_schema, Vec::new())) };
    warn_of_dropped_rows(py, table.metrics(), &KEPT)?;
    Ok(PyTable::of_run(&table, late_schema))
}

/// The results of a stream as they come: an iterator, synchronous or not, of tables. The work is done by whoever
/// asks for the next one.
#[pyclass(name = "Batches", module = "thalweg", frozen)]
pub struct PyBatches {
    run: Mutex<Run>,
    schema: SchemaRef,
    late_schema: SchemaRef,
}

enum Run {
    Going(Unlocked<Box<Batches>>),
    Ended(Box<Table>),
}

impl PyBatches {
    /// Opens the source of `stream`, and goes on from a snapshot if there is one.
    pub fn start(py: Python<'_>, stream: &PyStream, config: Config, snapshot: Option<&[u8]>) -> PyResult<PyBatches> {
        let late_schema = late_schema(py, stream)?;
        let batches = detached(py, || match snapshot {
            None => stream.stream.batches(config),
            Some(bytes) => stream.stream.batches_from(config, Snapshot::from_bytes(bytes)?),
        })?;
        let schema = batches.schema();
        Ok(PyBatches { run: Mutex::new(Run::Going(Unlocked(Some(Box::new(batches))))), schema, late_schema })
    }

    /// The next batch within about `budget`. At the end the pipeline gives way to what is left of it, once.
    fn step(&self, py: Python<'_>, budget: Duration) -> PyResult<Pulled> {
        let (pulled, metrics) = detached(py, || {
            let mut run = locked(&self.run);
            let Run::Going(Unlocked(Some(batches))) = &mut *run else { return Ok((Ok(Pulled::End), None)) };
            let pulled = batches.pull(budget);
            let metrics = matches!(pulled, Ok(Pulled::End) | Err(_)).then(|| finish(&mut run)).flatten();
            Ok((pulled, metrics))
        })?;
        if let (Ok(_), Some(metrics)) = (&pulled, metrics) {
            warn_of_dropped_rows(py, &metrics, &KEPT)?;
        }
        pulled.map_err(raise)
    }

    fn table(&self, batch: arrow::array::RecordBatch) -> PyTable {
        PyTable::of(SchemaRef::clone(&self.schema), vec![batch])
    }
}

/// Ends a run, keeping its counters and untaken rows.
fn finish(run: &mut Run) -> Option<Metrics> {
    let Run::Going(batches) = run else { return None };
    let table = batches.0.take()?.finish();
    let metrics = table.metrics().clone();
    *run = Run::Ended(Box::new(table));
    Some(metrics)
}

#[pymethods]
impl PyBatches {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyTable>> {
        loop {
            let pulled = self.step(py, STEP)?;
            py.check_signals()?;
            match pulled {
                Pulled::Batch(batch) => return Ok(Some(self.table(batch))),
                Pulled::Nothing => {}
                Pulled::End => return Ok(None),
            }
        }
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("thalweg._aio")?.call_method1("AsyncBatches", (slf,))
    }

    /// The next batch if one is there within about `seconds`, else None. See `ended`.
    #[pyo3(signature = (seconds=0.05))]
    fn pull(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<PyTable>> {
        let budget = Duration::try_from_secs_f64(seconds).map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        match self.step(py, budget)? {
            Pulled::Batch(batch) => Ok(Some(self.table(batch))),
            Pulled::Nothing | Pulled::End => Ok(None),
        }
    }

    /// Whether there are no more batches.
    #[getter]
    fn ended(&self, py: Python<'_>) -> bool {
        py.detach(|| matches!(*locked(&self.run), Run::Ended(_)))
    }

    /// The counters now.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metrics = py.detach(|| match &*locked(&self.run) {
            Run::Going(Unlocked(batches)) => batches.as_ref().map(|batches| batches.metrics()),
            Run::Ended(table) => Some(table.metrics().clone()),
        });
        metrics.map_or_else(|| Ok(PyDict::new(py)), |metrics| metrics_dict(py, &metrics))
    }

    /// The state of all steps as bytes, to go on from with `Stream.batches(restore=...)`, with another number of workers too. It does not
    /// hold results that were not taken: take them with `pull(0)` until that is None. Nor does it say how far the source was read.
    ///
    /// States of `process` and `custom` go through pickle: restore only snapshots that you trust.
    ///
    /// Example:
    ///     >>> saved = batches.snapshot()
    ///     >>> windows_over(the_other_rows).batches(restore=saved)
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, || match &mut *locked(&self.run) {
            Run::Going(Unlocked(Some(batches))) => batches.snapshot()?.to_bytes(),
            _ => Err(Error::state("the stream has ended and has no state any more")),
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Why the earliest window that waits has not fired: which partition holds the watermark back. None if no window waits.
    ///
    /// Example:
    ///     >>> print(batches.why_not_firing())
    fn why_not_firing(&self, py: Python<'_>) -> Option<PyHeldBack> {
        let held = py.detach(|| match &*locked(&self.run) {
            Run::Going(Unlocked(batches)) => batches.as_ref().and_then(|batches| batches.why_not_firing()),
            Run::Ended(_) => None,
        });
        held.map(PyHeldBack)
    }

    /// The first late rows, once the stream has ended.
    #[getter]
    fn late(&self, py: Python<'_>) -> PyTable {
        let rows = py.detach(|| match &*locked(&self.run) {
            Run::Going(_) => Vec::new(),
            Run::Ended(table) => table.late().to_vec(),
        });
        PyTable::of(SchemaRef::clone(&self.late_schema), rows)
    }

    /// The first rows that did not decode or had no event time, once the stream has ended.
    #[getter]
    fn quarantined(&self, py: Python<'_>) -> PyTable {
        let rows = py.detach(|| match &*locked(&self.run) {
            Run::Going(_) => Vec::new(),
            Run::Ended(table) => table.quarantined().to_vec(),
        });
        PyTable::of(thalweg::quality::schema(), rows)
    }
}

/// A stream bound to its sinks.
pub struct Branch {
    stream: Stream,
    sink: BoxedSink,
    late: Option<BoxedSink>,
}

impl Branch {
    /// `stream` with sinks as Python gives them.
    pub fn new(stream: Stream, sink: &Bound<'_, PyAny>, late: Option<&Bound<'_, PyAny>>) -> PyResult<Branch> {
        Ok(Branch { stream, sink: sink_of(sink)?, late: late.map(sink_of).transpose()? })
    }
}

/// Runs several streams of one source in the background, each bound to its own sink. Steps that they share run once,
/// and windows of time by the same key over the same stream share panes: a row is looked up and added once for all of them, in its worker.
/// `Query.explain` of what it returns says which do.
///
/// Args:
///     branches: Pairs (stream, sink), or triples (stream, sink, late sink).
///     quarantine: Where rows go that did not decode.
///     config: The knobs of the run.
///     workers: As for `Stream.collect`.
///
/// Example:
///     >>> s = tw.listen_tcp("127.0.0.1:9000", schema=schema).event_time("ts")
///     >>> q = tw.run([(s, tw.write_parquet("raw/")), (s.filter("amount > 1000"), alert)])
#[pyfunction]
#[pyo3(signature = (branches, quarantine=None, config=None, workers=None))]
pub fn run<'py>(
    py: Python<'py>,
    branches: Vec<Bound<'py, PyTuple>>,
    quarantine: Option<&Bound<'py, PyAny>>,
    config: Option<&Bound<'py, PyConfig>>,
    workers: Option<usize>,
) -> PyResult<Bound<'py, PyQuery>> {
    let branch = |tuple: &Bound<'py, PyTuple>| {
        if !(2..=3).contains(&tuple.len()) {
            return Err(PyTypeError::new_err("each branch must be a pair (stream, sink) or a triple (stream, sink, late sink)"));
        }
        let stream = tuple.get_item(0)?;
        let late = (tuple.len() == 3).then(|| tuple.get_item(2)).transpose()?.filter(|late| !late.is_none());
        Branch::new(stream.cast::<PyStream>()?.get().stream.clone(), &tuple.get_item(1)?, late.as_ref())
    };
    let branches = branches.iter().map(branch).collect::<PyResult<Vec<_>>>()?;
    PyQuery::start(py, branches, quarantine, PyConfig::with_workers(config, workers)?)
}

/// A query that runs in the background. As a context manager it stops at the end of the block and waits. Queries
/// that still run when the interpreter exits are stopped: they fire what is open and publish.
///
/// Example:
///     >>> q = w.run(sink=tw.write_parquet("out/"))
///     >>> q.metrics()["rows_in"]
///     >>> q.stop(); q.wait()
#[pyclass(name = "Query", module = "thalweg", frozen, weakref)]
pub struct PyQuery {
    life: Mutex<Life>,
    plan: Plan,
    untaken: Untaken,
}

/// Locked only for moments in which the interpreter's lock is neither taken nor given away.
enum Life {
    Running(Unlocked<Running>),
    Ended { metrics: Box<Metrics>, failure: Option<Arc<Error>> },
}

impl PyQuery {
    /// Starts a query, and sees to it that it is stopped before the interpreter is.
    pub fn start<'py>(
        py: Python<'py>,
        branches: Vec<Branch>,
        quarantine: Option<&Bound<'py, PyAny>>,
        config: Config,
    ) -> PyResult<Bound<'py, PyQuery>> {
        let quarantine = quarantine.map(sink_of).transpose()?;
        let untaken = Untaken {
            late: (!branches.iter().any(|branch| branch.late.is_some())).then_some("give `late=` a sink to see them, or raise `max_delay`"),
            quarantined: quarantine.is_none().then_some("give `quarantine=` a sink to see them"),
        };
        let (plan, running) = detached(py, move || {
            let mut query = Query::new().config(config);
            for branch in branches {
                query = query.sink(&branch.stream, branch.sink);
                if let Some(late) = branch.late {
                    query = query.late(late);
                }
            }
            if let Some(quarantine) = quarantine {
                query = query.quarantine(quarantine);
            }
            Ok((query.plan(), query.start()?))
        })?;
        let query = PyQuery { life: Mutex::new(Life::Running(Unlocked(Some(running)))), plan, untaken };
        let query = Bound::new(py, query)?;
        py.import("thalweg._native")?.getattr(LIVE)?.call_method1("add", (&query,))?;
        Ok(query)
    }

    fn finished(&self) -> bool {
        match &*locked(&self.life) {
            Life::Running(Unlocked(running)) => running.as_ref().is_none_or(Running::is_finished),
            Life::Ended { .. } => true,
        }
    }

    fn counters(&self) -> Option<Metrics> {
        match &*locked(&self.life) {
            Life::Running(Unlocked(running)) => running.as_ref().map(Running::metrics),
            Life::Ended { metrics, .. } => Some(metrics.as_ref().clone()),
        }
    }

    /// Takes note of how a query ended whose thread has. Returns the counters to warn of, the first time.
    fn conclude(&self) -> Option<Metrics> {
        let mut life = locked(&self.life);
        let Life::Running(Unlocked(running)) = &mut *life else { return None };
        let running = running.as_mut()?;
        let failure = running.wait().err().map(Arc::new);
        let metrics = running.metrics();
        let good = failure.is_none();
        let before = std::mem::replace(&mut *life, Life::Ended { metrics: Box::new(metrics.clone()), failure });
        drop(life);
        drop(before);
        good.then_some(metrics)
    }

    fn failure(&self) -> Option<Arc<Error>> {
        match &*locked(&self.life) {
            Life::Running(_) => None,
            Life::Ended { failure, .. } => failure.clone(),
        }
    }
}

#[pymethods]
impl PyQuery {
    /// Asks the query to finish: it takes no more input, fires the windows that are open and publishes. Does not wait.
    fn stop(&self) {
        if let Life::Running(Unlocked(Some(running))) = &*locked(&self.life) {
            running.stop();
        }
    }

    /// Waits for the end of the query and returns its last counters. Ctrl-C interrupts the wait, not the query.
    ///
    /// Raises what made the query end, if it was not the end of its input or `stop`; `TimeoutError` if it still runs
    /// after `timeout` seconds (or a duration such as "500ms").
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<Timeout>) -> PyResult<Bound<'py, PyDict>> {
        let clock = SystemClock::shared();
        let limit = timeout.map(|timeout| timeout.0.as_nanos() as u64);
        while !self.finished() {
            if limit.is_some_and(|limit| clock.monotonic() >= limit) {
                return Err(PyTimeoutError::new_err("the query still runs; stop it, or wait for longer"));
            }
            py.detach(|| std::thread::park_timeout(LOOK));
            py.check_signals()?;
        }
        if let Some(metrics) = self.conclude() {
            warn_of_dropped_rows(py, &metrics, &self.untaken)?;
        }
        match self.failure() {
            Some(failure) => Err(exception_of(&failure)),
            None => self.metrics(py),
        }
    }

    /// The counters now.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.counters().map_or_else(|| Ok(PyDict::new(py)), |metrics| metrics_dict(py, &metrics))
    }

    /// Why the earliest window that waits has not fired, as it was a moment ago: which partition holds the watermark back,
    /// where it is and when it last had rows. None if no window waits or the query has ended.
    ///
    /// Example:
    ///     >>> print(q.why_not_firing())
    fn why_not_firing(&self) -> Option<PyHeldBack> {
        match &*locked(&self.life) {
            Life::Running(Unlocked(running)) => running.as_ref().and_then(Running::why_not_firing).map(PyHeldBack),
            Life::Ended { .. } => None,
        }
    }

    /// The plans of its streams in words, as `Stream.explain` gives them, each step with what workers share of it, then which windows share
    /// panes. It is that of the configuration with which the query was started, before and after its end. May look for a GPU and measure it.
    ///
    /// Example:
    ///     >>> q = tw.run([(seconds, print), (minutes, print)], workers=2)
    ///     >>> print(q.explain())
    fn explain(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || self.plan.explain())
    }

    /// Whether the query has not ended yet, well or badly.
    #[getter]
    fn is_running(&self) -> bool {
        !self.finished()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Stops and waits. An exception of the block goes first: the query's is then only reported, unless the block
    /// has seen it already.
    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let seen = slf.get().failure().is_some();
        slf.get().stop();
        match slf.get().wait(slf.py(), None) {
            Err(error) if kind.is_none() => return Err(error),
            Err(error) if !seen => error.write_unraisable(slf.py(), Some(slf)),
            _ => {}
        }
        Ok(false)
    }

    fn __repr__(&self) -> String {
        format!("<thalweg.Query {}>", if self.finished() { "ended" } else { "running" })
    }
}

/// A number of seconds or a duration.
struct Timeout(Duration);

impl FromPyObject<'_, '_> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Timeout> {
        match value.extract::<f64>() {
            Ok(seconds) => Ok(Timeout(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO))),
            Err(_) => Ok(Timeout(value.extract::<crate::config::Interval>()?.0)),
        }
    }
}

/// The name of the module's weak set of queries.
const LIVE: &str = "_live";

/// Keeps the live queries where the interpreter's exit finds them.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let live = py.import("weakref")?.getattr("WeakSet")?.call0()?;
    module.add(LIVE, &live)?;
    let stop = wrap_pyfunction!(stop_all, module)?;
    py.import("atexit")?.call_method1("register", (stop, live))?;
    Ok(())
}

/// Stops all queries and waits for them.
#[pyfunction]
fn stop_all(live: &Bound<'_, PyAny>) -> PyResult<()> {
    let queries = live.try_iter()?.map(|query| Ok(query?.cast_into::<PyQuery>()?)).collect::<PyResult<Vec<_>>>()?;
    queries.iter().filter(|query| query.get().is_running()).for_each(|query| query.get().stop());
    for query in queries {
        if query.get().is_running()
            && let Err(error) = query.get().wait(query.py(), None)
        {
            error.write_unraisable(query.py(), Some(&query));
        }
    }
    Ok(())
}
