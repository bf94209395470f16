//! The pipeline: transactions from a socket, scored one by one and summed up by card and day.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use clap::Args;
use thalweg::sink::{Callback, Ndjson, Parquet};
use thalweg::{Listen, Metrics, Query, Running, Stream, count, event_time, hours, max, mean, min, mins, sum, tumbling};

use crate::Result;
use crate::live::Live;
use crate::signals;

/// How often to look whether the pipeline has ended.
const TICK: Duration = Duration::from_millis(20);

/// The arguments of `fraud detect`.
#[derive(Debug, Args)]
pub struct Detect {
    /// Where to listen; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub addr: String,
    /// Folder for windows, alerts, late and quarantined rows; those of an earlier run are replaced
    #[arg(long, default_value = "target/demo")]
    pub out: PathBuf,
    /// The simulator's truth file, to judge the alerts by at the end
    #[arg(long)]
    pub truth: Option<PathBuf>,
}

/// An alert that was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    pub id: u64,
    /// Whether the amount is over the limit; if not, the payment is unlike its card.
    pub over_limit: bool,
}

/// What the callbacks have seen, read while the pipeline runs.
#[derive(Debug, Default)]
pub struct Seen {
    /// Transactions for which there is a decision.
    pub decided: AtomicU64,
    /// The latest event time among them, in milliseconds.
    pub newest: AtomicI64,
    pub alerts: Mutex<Vec<Alert>>,
}

/// What a finished run has to show.
#[derive(Debug)]
pub struct Outcome {
    pub out: PathBuf,
    pub metrics: Metrics,
    /// From the first row to the last.
    pub took: Duration,
    pub decided: u64,
    pub alerts: Vec<Alert>,
}

/// A pipeline that listens.
pub struct Pipeline {
    /// Where it listens.
    pub addr: String,
    out: PathBuf,
    running: Running,
    seen: Arc<Seen>,
}

/// The columns of a transaction.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("id", DataType::Int64, false),
        Field::new("card", DataType::Utf8, false),
        Field::new("terminal", DataType::Utf8, false),
        Field::new("amount", DataType::Float64, false),
        Field::new("x", DataType::Float64, false),
        Field::new("y", DataType::Float64, false),
    ]))
}

/// One source, three results: what each card spent each day; every transaction with a decision; those to act on.
///
/// Nothing here can see a compromised terminal: cards, amounts and places are what they always are. It takes the
/// complaints of card holders, which come days later.
fn streams(payments: &Stream) -> (Stream, Stream, Stream) {
    let payments = payments.event_time(event_time("ts").max_delay(mins(10)));
    let spent = payments.window(tumbling(hours(24))).by(["card"]).agg([
        count().alias("n"),
        sum("amount").alias("total"),
        mean("amount").alias("average"),
        min("amount").alias("least"),
        max("amount").alias("most"),
    ]);
    let decisions = signals::decided(&signals::signals(&payments));
    let columns = ["ts", "id", "card", "terminal", "amount", "x", "y"].into_iter().chain(signals::NAMES).chain(["over_limit"]);
    let alerts = decisions.filter("is_anomaly").select(columns);
    (spent, decisions, alerts)
}

impl Pipeline {
    /// Listens on `addr` and starts to work into `out`.
    pub fn start(addr: &str, out: &Path) -> Result<Pipeline> {
        clear(out)?;
        let payments = Stream::listen(Listen::tcp(addr, schema()).end_on_disconnect(true))?;
        let addr = payments.local_addr().ok_or("the listener has no address")?;
        let (spent, decisions, alerts) = streams(&payments);
        let seen = Arc::new(Seen::default());
        let (deciding, alerting) = (Arc::clone(&seen), Arc::clone(&seen));
        let running = Query::new()
            .sink(&spent, Parquet::directory(out.join("windows")))
            .late(Ndjson::append(out.join("late.ndjson")))
            .sink(&decisions, Callback::new(move |batch| deciding.decided(batch)))
            .sink(&alerts, Ndjson::append(out.join("alerts.ndjson")))
            .sink(&alerts, Callback::new(move |batch| alerting.alerted(batch)))
            .quarantine(Ndjson::append(out.join("quarantine.ndjson")))
            .start()?;
        Ok(Pipeline { addr, out: out.to_owned(), running, seen })
    }

    /// Shows the live table until the last client has gone and everything is written. `sender` is asked every now and
    /// then; its error ends the run.
    pub fn watch(mut self, mut sender: impl FnMut() -> Result<()>) -> Result<Outcome> {
        let mut live = Live::new();
        while !self.running.is_finished() {
            sender()?;
            std::thread::sleep(TICK);
            live.update(&self.running.metrics(), &self.seen)?;
        }
        let metrics = self.running.wait()?;
        live.finish(&metrics, &self.seen)?;
        let alerts = self.seen.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Outcome { out: self.out, metrics, took: live.took(), decided: self.seen.decided.load(Relaxed), alerts })
    }
}

impl Seen {
    fn decided(&self, batch: &RecordBatch) -> thalweg::Result<()> {
        let times = batch.column_by_name("ts").and_then(|ts| compute::max(ts.as_primitive::<TimestampMillisecondType>()));
        self.newest.fetch_max(times.unwrap_or(i64::MIN), Relaxed);
        self.decided.fetch_add(batch.num_rows() as u64, Relaxed);
        Ok(())
    }

    fn alerted(&self, batch: &RecordBatch) -> thalweg::Result<()> {
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| thalweg::Error::schema(format!("alerts have no column `{name}`")));
        let (ids, rules) = (column("id")?.as_primitive::<Int64Type>(), column("over_limit")?.as_boolean());
        let alerts = ids.values().iter().zip(rules).map(|(&id, rule)| Alert { id: id as u64, over_limit: rule == Some(true) });
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner).extend(alerts);
        Ok(())
    }
}

/// Makes `out` and takes away what an earlier run has written there, and nothing else.
fn clear(out: &Path) -> Result<()> {
    let windows = out.join("windows");
    fs::create_dir_all(&windows).map_err(|error| format!("cannot make {}: {error}", windows.display()))?;
    let parts = fs::read_dir(&windows).map_err(|error| format!("cannot read {}: {error}", windows.display()))?;
    let mut old: Vec<PathBuf> = ["alerts.ndjson", "late.ndjson", "quarantine.ndjson"].iter().map(|name| out.join(name)).collect();
    for part in parts {
        old.push(part.map_err(|error| format!("cannot read {}: {error}", windows.display()))?.path());
    }
    for file in old.iter().filter(|file| file.extension().is_some_and(|extension| extension == "parquet" || extension == "ndjson")) {
        if file.exists() {
            fs::remove_file(file).map_err(|error| format!("cannot remove {}: {error}", file.display()))?;
        }
    }
    Ok(())
}

/// When rows came: the span that throughput is measured over.
#[derive(Debug, Default)]
pub struct Span {
    first: Option<Instant>,
    last: Option<Instant>,
    rows: u64,
}

impl Span {
    /// Takes note of how many rows there are by now.
    pub fn note(&mut self, rows: u64) {
        if rows > self.rows {
            let now = Instant::now();
            self.first.get_or_insert(now);
            (self.last, self.rows) = (Some(now), rows);
        }
    }

    /// From the first note of rows to the last.
    pub fn took(&self) -> Duration {
        self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last - first)
    }
}

/// Runs `fraud detect`.
pub fn run(options: &Detect) -> Result<()> {
    let pipeline = Pipeline::start(&options.addr, &options.out)?;
    println!("listening on {} for transactions, until the last sender has gone", pipeline.addr);
    let outcome = pipeline.watch(|| Ok(()))?;
    crate::report::print(&outcome, None, options.truth.as_deref())
}
