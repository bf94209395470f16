//! The long run: events at full rate while every key gives way to another, and what memory does meanwhile.

use std::cell::Cell;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, RecordBatchIterator};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use clap::Args;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use thalweg::sink::Callback;
use thalweg::{Query, Stream, count, event_time, max, mean, millis, min, secs, session, sum, tumbling};

use crate::Result;
use crate::events::{MAX_DELAY, PER_MILLISECOND, START};
use crate::machine::Machine;

/// Keys that events are of at one time.
const LIVE_KEYS: i64 = 1_000_000;

/// Milliseconds of event time in which all of them give way to others.
const CHURN: i64 = 10_000;

/// Rows of a batch.
const ROWS: usize = 1 << 16;

/// How much larger the memory of the last third may be than that of the second: what an allocator does, not a leak.
const GROWTH: f64 = 1.05;

/// Options of the long run.
#[derive(Args, Clone)]
pub struct Options {
    /// How long it takes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seconds from one look at the memory to the next.
    #[arg(long, default_value_t = 10.0)]
    every: f64,
}

/// The pipeline at one moment.
struct Look {
    seconds: f64,
    rows: u64,
    resident_mb: f64,
    state_mb: f64,
}

/// Runs, prints the curve and says whether it is flat; records it beside the others.
///
/// # Errors
/// If rows are missing in the results, or memory grows.
pub fn run(options: &Options) -> Result<()> {
    let machine = Machine::look();
    println!("{machine}\n");
    let stop = Arc::new(AtomicBool::new(false));
    let events = Stream::from_reader(Box::new(events(Arc::clone(&stop)))).event_time(event_time("ts").max_delay(millis(MAX_DELAY as u64)));
    let aggregates = [count().alias("n"), sum("value"), min("value"), max("value"), mean("value")];
    let windows = events.window(tumbling(secs(1))).by(["key"]).agg(aggregates.clone());
    let sessions = events.window(session(secs(2))).by(["key"]).agg(aggregates);
    let counted = [Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0))];
    let count_into = |counted: &Arc<AtomicI64>| {
        let counted = Arc::clone(counted);
        Callback::new(move |batch: &RecordBatch| {
            let column = batch.column_by_name("n").map(|column| column.as_primitive::<Int64Type>().values().iter().sum::<i64>());
            counted.fetch_add(column.unwrap_or(0), Relaxed);
            Ok(())
        })
    };
    let query = Query::new().sink(&windows, count_into(&counted[0])).sink(&sessions, count_into(&counted[1]));
    let mut running = query.start()?;
    let (start, mut looks) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < options.minutes * 60.0 {
        std::thread::sleep(Duration::from_secs_f64(options.every));
        let metrics = running.metrics();
        let look = Look {
            seconds: start.elapsed().as_secs_f64(),
            rows: metrics.rows_in,
            resident_mb: resident_bytes()? as f64 / 1e6,
            state_mb: metrics.state_bytes as f64 / 1e6,
        };
        println!("{:>6.0} s {:>12} events {:>8.0} MB resident {:>8.0} MB state", look.seconds, look.rows, look.resident_mb, look.state_mb);
        looks.push(look);
    }
    stop.store(true, Relaxed);
    let metrics = running.wait()?;
    for (name, counted) in ["windows", "sessions"].iter().zip(&counted) {
        if counted.load(Relaxed) as u64 != metrics.rows_in || metrics.late_rows > 0 {
            return Err(
                format!("{} of {} rows are in {name}, {} were late", counted.load(Relaxed), metrics.rows_in, metrics.late_rows).into()
            );
        }
    }
    let growth = growth(&looks);
    record(&machine, &looks, growth)?;
    match growth {
        Some(growth) if growth > GROWTH => {
            Err(format!("memory grows: the last third of the run has {growth:.3} times that of the second").into())
        }
        _ => Ok(()),
    }
}

/// Events until told to stop: each batch of the keys that are live at its time.
fn events(stop: Arc<AtomicBool>) -> impl arrow::array::RecordBatchReader + Send {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Int64, false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Float64, false),
    ]));
    let (mut random, row, of) = (SmallRng::seed_from_u64(7), Cell::new(0_usize), SchemaRef::clone(&schema));
    let batches = std::iter::from_fn(move || {
        if stop.load(Relaxed) {
            return None;
        }
        let first = row.replace(row.get() + ROWS);
        let now = |row: usize| (row / PER_MILLISECOND) as i64;
        let times: Int64Array = (first..first + ROWS).map(|row| Some(START + now(row) - random.random_range(0..MAX_DELAY))).collect();
        let keys = (first..first + ROWS).map(|row| Some(now(row) * (LIVE_KEYS / CHURN) + random.random_range(0..LIVE_KEYS)));
        let keys: Int64Array = keys.collect();
        let values: Float64Array = (0..ROWS).map(|_| Some(random.random_range(0.0..100.0))).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(keys), Arc::new(values)];
        Some(RecordBatch::try_new(SchemaRef::clone(&of), columns))
    });
    RecordBatchIterator::new(batches, schema)
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let resident: u64 = pages.split_whitespace().nth(1).ok_or("no resident pages in /proc/self/statm")?.parse()?;
    Ok(resident * 4_096)
}

/// The memory of the last third of a run beside that of the second, by their medians; none of a run too short for that.
fn growth(looks: &[Look]) -> Option<f64> {
    let third = looks.len() / 3;
    let median = |looks: &[Look]| {
        let mut sizes: Vec<f64> = looks.iter().map(|look| look.resident_mb).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.get(sizes.len() / 2).copied()
    };
    Some(median(looks.get(2 * third..)?)? / median(looks.get(third..2 * third)?)?)
}

fn record(machine: &Machine, looks: &[Look], growth: Option<f64>) -> Result<()> {
    let mut text = format!(
        "{machine}\n\nEvents at full rate on one thread, {LIVE_KEYS} keys at a time, all of which give way to others in {} s of event time: \
         tumbling 1 s and sessions of 2 s, five aggregates each, every row counted in the results.\n\n| s | events | MB resident | MB state |\n|---|---|---|---|\n",
        CHURN / 1_000
    );
    for look in looks {
        text += &format!("| {:.0} | {} | {:.0} | {:.0} |\n", look.seconds, look.rows, look.resident_mb, look.state_mb);
    }
    if let (Some(growth), Some(last)) = (growth, looks.last()) {
        let rate = last.rows as f64 / last.seconds / 1e6;
        text += &format!("\n{rate:.2} M events/s; resident memory of the last third {growth:.3} times that of the second.\n");
        println!("{rate:.2} M events/s; resident memory of the last third {growth:.3} times that of the second");
    }
    println!("recorded in {}", crate::record::write_text(machine, "soak", &text)?.display());
    Ok(())
}
