//! How fast detectors are that watch a shingle or several columns, one key, one core, beside what one would otherwise install.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use thalweg::operator::detect::RandomCutForest;
use thalweg::{Detection, Stream, half_space_trees};

use crate::Result;
use crate::anomaly::BATCH;
use crate::machine;
use crate::report::rate;

/// Rows that each detector is given, and its peers, which are slower.
const ROWS: usize = 200_000;
const PEER_ROWS: usize = 20_000;

/// Columns of the rows, of which forests over a shingle watch the first.
const COLUMNS: usize = 8;

/// A detector with the number of columns that it watches.
struct Entry {
    name: &'static str,
    detection: Detection,
    columns: usize,
}

/// What a peer measured.
#[derive(Deserialize)]
struct Rate {
    /// The entry that it stands beside.
    beside: String,
    peer: String,
    per_second: f64,
}

fn entries() -> Vec<Entry> {
    let forest = |shingle_size| Detection::new(RandomCutForest { shingle_size, ..RandomCutForest::default() });
    vec![
        Entry { name: "random cut forest, 50 x 256, shingle 1", detection: forest(1), columns: 1 },
        Entry { name: "random cut forest, 50 x 256, shingle 8", detection: forest(8), columns: 1 },
        Entry { name: "half-space trees, 25 x 15, 8 columns", detection: half_space_trees(), columns: COLUMNS },
    ]
}

/// Waves with noise, row by row.
fn rows() -> Vec<[f64; COLUMNS]> {
    let mut random = SmallRng::seed_from_u64(7);
    let value = |random: &mut SmallRng, row: usize, column: usize| {
        (row as f64 / (50 + 7 * column) as f64).sin() * 5.0 + (0..4).map(|_| random.random_range(0.0..1.0)).sum::<f64>()
    };
    (0..ROWS).map(|row| std::array::from_fn(|column| value(&mut random, row, column))).collect()
}

/// Measures every detector and its peers in turns, and prints medians with the least and greatest round.
pub fn measure(runs: usize, only: Option<&str>, python: &Path) -> Result<()> {
    let rows = rows();
    let names: Vec<String> = (0..COLUMNS).map(|column| format!("x{column}")).collect();
    let batch = |rows: &[[f64; COLUMNS]]| {
        let column = |at: usize| Arc::new(rows.iter().map(|row| row[at]).collect::<Float64Array>()) as ArrayRef;
        RecordBatch::try_from_iter(names.iter().enumerate().map(|(at, name)| (name, column(at))))
    };
    let batches = rows.chunks(BATCH).map(batch).collect::<Result<Vec<_>, _>>()?;
    let entries: Vec<Entry> = entries().into_iter().filter(|entry| only.is_none_or(|only| entry.name.contains(only))).collect();
    if entries.is_empty() {
        return Ok(());
    }
    let mut ours = vec![Vec::new(); entries.len()];
    let mut theirs: Vec<Rate> = Vec::new();
    for _ in 0..runs.max(1) {
        for (entry, rates) in entries.iter().zip(&mut ours) {
            let stream = Stream::from_arrow(batches.clone()).detect(entry.detection.clone().on(names[..entry.columns].to_vec()));
            let start = Instant::now();
            let scored = stream.collect()?;
            rates.push(ROWS as f64 / start.elapsed().as_secs_f64());
            assert_eq!(scored.num_rows(), ROWS, "a row out per row");
        }
        theirs.extend(peers(python, &rows[..PEER_ROWS]).unwrap_or_else(|error| {
            println!("peers were left out: {error}");
            Vec::new()
        }));
    }
    println!("\nSpeed, points/s of one key on one core, scored and learnt from:");
    for (entry, rates) in entries.iter().zip(ours) {
        println!("{:42} {}", entry.name, spread(rates));
        let mut names: Vec<&str> = theirs.iter().filter(|rate| rate.beside == entry.name).map(|rate| rate.peer.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for peer in names {
            let rates = theirs.iter().filter(|rate| rate.beside == entry.name && rate.peer == peer).map(|rate| rate.per_second);
            println!("    {peer:38} {}", spread(rates.collect()));
        }
    }
    Ok(())
}

/// The median with the least and the greatest.
fn spread(mut rates: Vec<f64>) -> String {
    rates.sort_by(f64::total_cmp);
    let thousands = |at: usize| rate(rates[at] / 1e3);
    format!("{} k ({}-{})", thousands(rates.len() / 2), thousands(0), thousands(rates.len() - 1))
}

/// What the packages of the peers make of the rows.
fn peers(python: &Path, rows: &[[f64; COLUMNS]]) -> Result<Vec<Rate>> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers/forests.py");
    let mut child = machine::pinned(0, python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // The script reads all before it writes.
    child.stdin.take().ok_or("no pipe to the script")?.write_all(serde_json::to_string(&rows)?.as_bytes())?;
    let said = child.wait_with_output()?;
    let lines = String::from_utf8(said.stdout)?;
    Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
