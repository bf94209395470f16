//! Latency of an open loop over TCP: from when an event was due to be sent to when its result is handed over.
//!
//! Events are due at a fixed rate whatever the receiver does, so that a stall counts for every event that was
//! due meanwhile (no coordinated omission).

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use thalweg::sink::Sink;
use thalweg::source::Listen;
use thalweg::{Query, Stream, count, event_time, ewma, max, mean, millis, tumbling};

use crate::report::Report;
use crate::sender::Sender;
use crate::{Common, Result};

/// Keys of the events.
const KEYS: u64 = 1_000;

/// Length of the windows in milliseconds.
const WINDOW: u64 = 100;

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// Nanoseconds at the beginning of a run that do not count: connections are made and pages touched.
const WARM_UP: i64 = 1_000_000_000;

/// The 99th percentile that is promised, in milliseconds.
const PROMISE: f64 = 5.0;

/// Options of the latency measurement.
#[derive(Args, Clone)]
pub struct Options {
    /// Events per second.
    #[arg(long, default_value_t = 200_000)]
    pub rate: u64,
    /// Seconds per run, of which the first does not count.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

/// The wall clock in nanoseconds since 1970: what two processes of one machine share.
pub struct Clock;

impl Clock {
    pub fn now() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
    }
}

/// Events at a fixed rate.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub rate: u64,
    pub seconds: u64,
}

impl Load {
    pub fn events(self) -> u64 {
        self.rate * self.seconds
    }

    /// When event number `event` is due.
    pub fn due(self, start: i64, event: u64) -> i64 {
        start + (u128::from(event) * SECOND / u128::from(self.rate)) as i64
    }

    /// When the first event that is due at `time` or later is due.
    fn first_from(self, start: i64, time: i64) -> i64 {
        let event = ((time - start).max(0) as u128 * u128::from(self.rate)).div_ceil(SECOND) as u64;
        self.due(start, event)
    }
}

/// Writes an event that is due at `due`: values are spread evenly, with an outlier now and then.
pub fn line(text: &mut Vec<u8>, due: i64, event: u64) -> Result<()> {
    let value = (event.wrapping_mul(0x9e37_79b9) % 10_000) as f64 / 100.0 + if event.is_multiple_of(99_991) { 10_000.0 } else { 0.0 };
    Ok(writeln!(text, r#"{{"due":{due},"key":{},"value":{value}}}"#, event.wrapping_mul(2_654_435_761) % KEYS)?)
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let fields = [Field::new("due", time, false), Field::new("key", DataType::Int64, false), Field::new("value", DataType::Float64, false)];
    Arc::new(Schema::new(fields.to_vec()))
}

/// Percentiles of one run, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    pub name: String,
    pub rate: u64,
    /// Result rows that count.
    pub results: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub promised_p99: f64,
    pub met: bool,
}

/// What the results are, which says when each was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    /// Events with their scores: due when the event was.
    Scores,
    /// Windows of a key: due when the first event after their end was.
    Windows,
}

/// What a sink has seen.
struct Seen {
    latencies: Histogram<u64>,
    /// Events in the results so far.
    events: u64,
}

/// Notes when each result arrives.
#[derive(Clone)]
struct Stopwatch {
    seen: Arc<Mutex<Seen>>,
    results: Results,
    load: Load,
    start: i64,
}

impl Stopwatch {
    fn new(results: Results, load: Load, start: i64) -> Result<Stopwatch> {
        let seen = Seen { latencies: Histogram::new(3)?, events: 0 };
        Ok(Stopwatch { seen: Arc::new(Mutex::new(seen)), results, load, start })
    }

    /// `None` if the batch has not the columns that it should.
    fn note(&mut self, batch: &RecordBatch, now: i64) -> Option<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let column = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>();
        let last = self.load.due(self.start, self.load.events() - 1);
        let mut record = |due: i64| {
            if due >= self.start + WARM_UP {
                let _ = seen.latencies.record((now - due).max(0) as u64);
            }
        };
        if self.results == Results::Scores {
            column("due")?.values().iter().for_each(|due| record(*due));
            seen.events += batch.num_rows() as u64;
        } else {
            // Windows that only the end of the input closes were never due.
            let ends = column("window_end")?.values().iter().filter(|end| **end <= last);
            ends.for_each(|end| record(self.load.first_from(self.start, *end)));
            let counts = batch.column_by_name("n")?.as_primitive_opt::<Int64Type>()?;
            seen.events += arrow::compute::sum(counts).unwrap_or_default() as u64;
        }
        Some(())
    }

    /// The percentiles, once the run is over.
    fn latency(&self, name: &str) -> Result<Latency> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.events != self.load.events() || seen.latencies.is_empty() {
            let (latencies, sent) = (seen.latencies.len(), self.load.events());
            return Err(format!("{name}: {sent} events were sent, the results hold {}; {latencies} latencies counted", seen.events).into());
        }
        let at = |quantile: f64| seen.latencies.value_at_quantile(quantile) as f64 / 1e6;
        Ok(Latency {
            name: name.to_owned(),
            rate: self.load.rate,
            results: seen.latencies.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: seen.latencies.max() as f64 / 1e6,
            promised_p99: PROMISE,
            met: at(0.99) < PROMISE,
        })
    }
}

impl Sink for Stopwatch {
    fn open(&mut self, _schema: &SchemaRef) -> thalweg::Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> thalweg::Result<()> {
        let now = Clock::now();
        self.note(batch, now).ok_or_else(|| thalweg::Error::schema("the results have not the columns that the stopwatch reads"))
    }

    fn commit(&mut self) -> thalweg::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}

/// Runs each pipeline `runs` times and reports the run with the median 99th percentile.
pub fn measure(common: &Common, options: &Options, report: &mut Report) -> Result<()> {
    let load = Load { rate: options.rate, seconds: options.seconds };
    let cases = [
        (Results::Scores, format!("TCP → EWMA score by key, {KEYS} keys, to the sink")),
        (Results::Windows, format!("TCP → tumbling {WINDOW} ms by key, {KEYS} keys, from due to the sink")),
    ];
    for (results, name) in cases {
        if !common.wants(&name) {
            continue;
        }
        let mut runs = (0..common.runs).map(|_| once(results, load, &name)).collect::<Result<Vec<_>>>()?;
        runs.sort_by(|a, b| a.p99.total_cmp(&b.p99));
        report.add_latency(runs.swap_remove(runs.len() / 2));
    }
    Ok(())
}

fn once(results: Results, load: Load, name: &str) -> Result<Latency> {
    let source = Stream::listen(Listen::tcp("127.0.0.1:0", schema()).end_on_disconnect(true))?;
    let address = source.local_addr().ok_or("the listener has no address")?;
    let stream = match results {
        Results::Scores => source.detect(ewma(0.05).on(["value"]).by(["key"])),
        Results::Windows => source.event_time(event_time("due")).window(tumbling(millis(WINDOW))).by(["key"]).agg([
            count().alias("n"),
            mean("value"),
            max("value"),
        ]),
    };
    let mut sender = Sender::of_events(&address, load)?;
    let start = sender.go()?.trim().parse()?;
    let stopwatch = Stopwatch::new(results, load, start)?;
    Query::new().sink(&stream, stopwatch.clone()).run()?;
    stopwatch.latency(name)
}
