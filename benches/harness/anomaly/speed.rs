//! How fast detectors are whose speed the scores of series do not tell: those that watch a shingle or several columns, and those of ten thousand keys;
//! one core, beside what one would otherwise install and the project's targets.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, TimestampMillisecondArray};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use thalweg::operator::detect::{Profile, RandomCutForest};
use thalweg::{
    Config, Detection, Stream, event_time, ewma, half_space_trees, isolation_forest, knn, left_discord, loda, mahalanobis, novelty,
};

use crate::Result;
use crate::anomaly::BATCH;
use crate::machine;
use crate::report::rate;

/// Rows that detectors are given, those of which are the fastest, and their peers, which are slower.
const ROWS: usize = 200_000;
const MANY_ROWS: usize = 2_000_000;
const PEER_ROWS: usize = 20_000;

/// Columns of the rows, `x0` to `x7`, of which most detectors watch the first or all.
const COLUMNS: usize = 8;

/// Keys of detectors that have many.
const KEYS: i32 = 10_000;

/// Values of the column `name`.
const NAMES: i32 = 200;

/// A row.
type Row = [f64; COLUMNS];

/// A detector with what it is given and what is asked of it.
struct Entry {
    name: &'static str,
    detection: Detection,
    rows: usize,
    target: Option<Target>,
    /// Whether it looks at event times.
    is_timed: bool,
}

/// What the project promises.
#[derive(Clone, Copy)]
enum Target {
    /// So many points a second.
    Rate(f64),
    /// So many times those of a peer.
    Times(f64, &'static str),
}

/// What a peer measured.
#[derive(Deserialize)]
struct Rate {
    /// The entry that it stands beside.
    beside: String,
    peer: String,
    per_second: f64,
}

/// What was measured: the rates of all rounds.
#[derive(Default)]
struct Measured {
    ours: Vec<f64>,
    theirs: Vec<Rate>,
}

fn entries() -> Vec<Entry> {
    let entry = |name, detection, rows, target| Entry { name, detection, rows, target, is_timed: false };
    let one = |detection: Detection| detection.on(["x0"]);
    let by_key = |detection: Detection| one(detection).by(["key"]);
    let all = |detection: Detection| detection.on((0..COLUMNS).map(|column| format!("x{column}")));
    let forest = |shingle_size| one(Detection::new(RandomCutForest { shingle_size, ..RandomCutForest::default() }));
    let habits = Detection::new(Profile { names: vec!["name".to_owned()], ..Profile::default() }).on(["x0", "x1", "name"]);
    let (rate, times) = (|rate| Some(Target::Rate(rate)), |times, peer| Some(Target::Times(times, peer)));
    vec![
        entry("ewma, 10,000 keys", by_key(ewma(0.05)), MANY_ROWS, rate(60e6)),
        entry("novelty", one(novelty()), MANY_ROWS, rate(20e6)),
        entry("novelty, 10,000 keys", by_key(novelty()), MANY_ROWS, rate(15e6)),
        entry("left discord, 64 of 4,000", one(left_discord()), ROWS, times(10.0, "stumpy.stumpi")),
        entry("random cut forest, 50 x 256, shingle 1", forest(1), ROWS, rate(155e3)),
        entry("random cut forest, 50 x 256, shingle 8", forest(8), ROWS, rate(110e3)),
        entry("half-space trees, 25 x 15, 8 columns", all(half_space_trees()), ROWS, times(100.0, "River")),
        entry("isolation forest, 50 x 128, 8 columns", all(isolation_forest()), ROWS, None),
        entry("loda, 100 projections, 8 columns", all(loda()), ROWS, None),
        entry("mahalanobis, 8 columns", all(mahalanobis()), ROWS, None),
        entry("knn, 5 of 512", one(knn()), ROWS, None),
        entry("knn, 5 of 512, 8 columns", all(knn()), ROWS, None),
        Entry { is_timed: true, ..entry("profile of 2 quantities, a name, the hour", habits, ROWS, None) },
    ]
}

/// Waves with noise, row by row.
fn rows(count: usize) -> impl Iterator<Item = Row> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut value = move |row: usize, column: usize| {
        (row as f64 / (50 + 7 * column) as f64).sin() * 5.0 + (0..4).map(|_| random.random_range(0.0..1.0)).sum::<f64>()
    };
    (0..count).map(move |row| std::array::from_fn(|column| value(row, column)))
}

/// The rows with an event time, a minute apart, a key and a name by chance, in batches.
fn batches(count: usize) -> Result<Vec<RecordBatch>> {
    let (mut random, mut rows, mut batches) = (SmallRng::seed_from_u64(8), rows(count), Vec::new());
    for start in (0..count).step_by(BATCH) {
        let rows: Vec<Row> = rows.by_ref().take(BATCH).collect();
        let mut below = |most: i32| Arc::new((0..rows.len()).map(|_| random.random_range(0..most)).collect::<Int32Array>()) as ArrayRef;
        let (key, name) = (below(KEYS), below(NAMES));
        let at: ArrayRef =
            Arc::new(TimestampMillisecondArray::from_iter_values((start..start + rows.len()).map(|row| row as i64 * 60_000)));
        let column = |at: usize| Arc::new(rows.iter().map(|row| row[at]).collect::<Float64Array>()) as ArrayRef;
        let columns = (0..COLUMNS).map(|at| (format!("x{at}"), column(at)));
        let others = [("at", at), ("key", key), ("name", name)].map(|(name, column)| (name.to_owned(), column));
        batches.push(RecordBatch::try_from_iter(others.into_iter().chain(columns))?);
    }
    Ok(batches)
}

/// Measures every detector and its peers in turns, and prints medians with the least and greatest round. `most_rows` bounds what each is given.
pub fn measure(runs: usize, only: Option<&str>, python: &Path, most_rows: Option<usize>) -> Result<()> {
    let entries: Vec<Entry> = entries().into_iter().filter(|entry| only.is_none_or(|only| entry.name.contains(only))).collect();
    if entries.is_empty() {
        return Ok(());
    }
    let bounded = |rows: usize| rows.min(most_rows.unwrap_or(usize::MAX)).max(1);
    let greatest = entries.iter().map(|entry| bounded(entry.rows)).max().unwrap_or(0);
    let (batches, peer_rows) = (batches(greatest)?, rows(bounded(PEER_ROWS)).collect::<Vec<Row>>());
    let mut measured: Vec<Measured> = entries.iter().map(|_| Measured::default()).collect();
    for _ in 0..runs.max(1) {
        for (entry, measured) in entries.iter().zip(&mut measured) {
            measured.ours.push(points_per_second(entry, &batches[..bounded(entry.rows).div_ceil(BATCH)])?);
        }
        let rates = peers(python, &entries, &peer_rows).unwrap_or_else(|error| {
            println!("peers were left out: {error}");
            Vec::new()
        });
        for rate in rates {
            let place = entries.iter().position(|entry| entry.name == rate.beside).ok_or("a peer stands beside nothing")?;
            measured[place].theirs.push(rate);
        }
    }
    println!("\nSpeed on one core, points/s scored and learnt from, of one key unless it says more:");
    for (entry, measured) in entries.iter().zip(&measured) {
        print(entry, measured);
    }
    Ok(())
}

/// How fast a detector goes through the engine; what comes out is dropped.
fn points_per_second(entry: &Entry, batches: &[RecordBatch]) -> Result<f64> {
    let rows = Stream::from_arrow(batches.to_vec());
    let stream = if entry.is_timed { rows.event_time(event_time("at")) } else { rows }.detect(entry.detection.clone());
    let start = Instant::now();
    let scored = stream.batches(Config::default())?.try_fold(0, |rows, batch| Ok::<_, thalweg::Error>(rows + batch?.num_rows()))?;
    let seconds = start.elapsed().as_secs_f64();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(scored, rows, "a row out per row");
    Ok(rows as f64 / seconds)
}

/// Prints what was measured of an entry and whether its target is met.
fn print(entry: &Entry, measured: &Measured) {
    println!("{:42} {}", entry.name, Spread::of(measured.ours.clone()));
    let mut peers: Vec<&str> = measured.theirs.iter().map(|rate| rate.peer.as_str()).collect();
    peers.sort_unstable();
    peers.dedup();
    let of_peer = |peer: &str| measured.theirs.iter().filter(|rate| rate.peer == peer).map(|rate| rate.per_second).collect::<Vec<f64>>();
    for peer in peers {
        println!("    {peer:38} {}", Spread::of(of_peer(peer)));
    }
    let ours = Spread::of(measured.ours.clone()).median;
    let verdict = |is_met| if is_met { "met" } else { "NOT MET" };
    match entry.target {
        Some(Target::Rate(least)) => println!("    target {}: ≥ {} points/s", verdict(ours >= least), Points(least)),
        Some(Target::Times(least, peer)) if !of_peer(peer).is_empty() => {
            let times = ours / Spread::of(of_peer(peer)).median;
            println!("    target {}: ≥ {least}× {peer}: {}×", verdict(times >= least), rate(times));
        }
        Some(Target::Times(least, peer)) => println!("    target not measured: ≥ {least}× {peer}"),
        None => {}
    }
}

/// A rate in thousands or millions.
struct Points(f64);

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            points if points >= 1e6 => write!(f, "{} M", rate(points / 1e6)),
            points => write!(f, "{} k", rate(points / 1e3)),
        }
    }
}

/// The median with the least and the greatest.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    /// Of at least one rate.
    fn of(mut rates: Vec<f64>) -> Spread {
        rates.sort_by(f64::total_cmp);
        Spread { median: rates[rates.len() / 2], least: rates[0], greatest: rates[rates.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} to {})", Points(self.median), Points(self.least), Points(self.greatest))
    }
}

/// What the packages of the peers make of the rows.
fn peers(python: &Path, entries: &[Entry], rows: &[Row]) -> Result<Vec<Rate>> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers/detectors.py");
    let names = entries.iter().map(|entry| entry.name);
    let mut child = machine::pinned(0, python).arg(script).args(names).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // The script reads all before it writes.
    child.stdin.take().ok_or("no pipe to the script")?.write_all(serde_json::to_string(&rows)?.as_bytes())?;
    let said = child.wait_with_output()?;
    let lines = String::from_utf8(said.stdout)?;
    Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
