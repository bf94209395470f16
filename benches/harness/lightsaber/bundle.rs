//! The bundles of rows that are replayed: the first rows of LightSaber's data sets, or rows made as its programs make them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch};

use crate::Result;

/// What a column becomes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Int,
    Long,
    Float,
}

/// A column as numbers, all of which `f64` holds exactly or as the nearest to their decimals.
struct Column {
    name: &'static str,
    kind: Kind,
    values: Vec<f64>,
}

/// Rows in order of time, of the columns that a query names.
pub struct Bundle {
    columns: Vec<Column>,
    /// Units of time from one lap to the next.
    pub lap: i64,
}

impl Bundle {
    fn new(lap: i64, columns: Vec<(&'static str, Kind, Vec<f64>)>) -> Bundle {
        Bundle { columns: columns.into_iter().map(|(name, kind, values)| Column { name, kind, values }).collect(), lap }
    }

    pub fn rows(&self) -> usize {
        self.columns[0].values.len()
    }

    /// A value by row and column.
    pub fn value(&self, row: usize, name: &str) -> f64 {
        self.columns.iter().find(|column| column.name == name).map_or(f64::NAN, |column| column.values[row])
    }

    /// The rows as Arrow columns, the time first.
    pub fn records(&self) -> Result<RecordBatch> {
        let array = |column: &Column| -> ArrayRef {
            let values = column.values.iter().copied();
            match column.kind {
                Kind::Int => Arc::new(Int32Array::from_iter_values(values.map(|value| value as i32))),
                Kind::Long => Arc::new(Int64Array::from_iter_values(values.map(|value| value as i64))),
                Kind::Float => Arc::new(Float64Array::from_iter_values(values)),
            }
        };
        Ok(RecordBatch::try_from_iter(self.columns.iter().map(|column| (column.name, array(column))))?)
    }
}

/// These fields of the first `rows` lines of a data set, as columns.
fn read<const N: usize>(folder: &Path, file: &str, rows: usize, fields: [usize; N]) -> Result<[Vec<f64>; N]> {
    let path = folder.join("streams").join(file);
    let unpacked = Command::new("gzip").arg("-dc").arg(&path).output()?;
    if !unpacked.status.success() {
        return Err(format!("{}: {}", path.display(), String::from_utf8_lossy(&unpacked.stderr).trim()).into());
    }
    let text = String::from_utf8(unpacked.stdout)?;
    let mut columns = [const { Vec::new() }; N];
    for line in text.lines().take(rows) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (column, field) in columns.iter_mut().zip(fields) {
            let value = words.get(field).and_then(|word| word.parse().ok().or_else(|| ticks(word)));
            column.push(value.ok_or_else(|| format!("{}: no number in field {field} of `{line}`", path.display()))?);
        }
    }
    match columns[0].len() == rows {
        true => Ok(columns),
        false => Err(format!("{} has {} lines, not {rows}", path.display(), columns[0].len()).into()),
    }
}

/// Tenths of a microsecond since midnight of a time such as `2012-02-22T16:46:28.9670320+00:00`.
fn ticks(word: &str) -> Option<f64> {
    let clock = word.split_once('T')?.1.split_once('+')?.0;
    let (whole, fraction) = clock.split_once('.')?;
    let seconds = whole.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))?;
    Some((seconds * 10_000_000 + fraction.parse::<i64>().ok()?) as f64)
}

/// The Google cluster trace.
pub fn cluster(folder: &Path) -> Result<Bundle> {
    let [ts, job, event, category, cpu] = read(folder, "google-cluster-data.txt.gz", 8_192, [0, 1, 4, 6, 8])?;
    let columns = vec![
        ("ts", Kind::Long, ts),
        ("jobId", Kind::Long, job),
        ("eventType", Kind::Int, event),
        ("category", Kind::Int, category),
        ("cpu", Kind::Float, cpu),
    ];
    Ok(Bundle::new(270, columns))
}

fn smart_grid(folder: &Path, rows: usize, lap: i64) -> Result<Bundle> {
    let [ts, value, plug, household, house] = read(folder, "smartgrid-data.txt.gz", rows, [0, 1, 3, 4, 5])?;
    let first = ts[0];
    let columns = vec![
        ("ts", Kind::Long, ts.into_iter().map(|ts| ts - first).collect()),
        ("value", Kind::Float, value),
        ("plug", Kind::Int, plug),
        ("household", Kind::Int, household),
        ("house", Kind::Int, house),
    ];
    Ok(Bundle::new(lap, columns))
}

/// Smart plugs, of all plugs at once.
pub fn plugs_in_all(folder: &Path) -> Result<Bundle> {
    smart_grid(folder, 32_768, 82)
}

/// Smart plugs, one by one.
pub fn plugs(folder: &Path) -> Result<Bundle> {
    smart_grid(folder, 16_384, 41)
}

fn linear_road(folder: &Path, rows: usize, lap: i64) -> Result<Bundle> {
    let [ts, vehicle, speed, highway, direction, position] = read(folder, "lrb-data-small-ht.txt.gz", rows, [0, 1, 2, 3, 5, 6])?;
    let columns = vec![
        ("ts", Kind::Long, ts),
        ("vehicle", Kind::Int, vehicle),
        ("speed", Kind::Float, speed),
        ("highway", Kind::Int, highway),
        ("direction", Kind::Int, direction),
        ("position", Kind::Int, position),
    ];
    Ok(Bundle::new(lap, columns))
}

/// Linear Road, by segment.
pub fn segments(folder: &Path) -> Result<Bundle> {
    linear_road(folder, 16_384, 520)
}

/// Linear Road, by vehicle.
pub fn vehicles(folder: &Path) -> Result<Bundle> {
    linear_road(folder, 8_192, 260)
}

/// Readings of manufacturing equipment; time counts whole seconds since the first.
pub fn equipment(folder: &Path) -> Result<Bundle> {
    let [ticks, mf01, mf02, mf03] = read(folder, "DEBS2012-small.txt.gz", 4_096, [0, 2, 3, 4])?;
    let first = ticks[0];
    let columns = vec![
        ("ts", Kind::Long, ticks.into_iter().map(|ticks| ((ticks - first) / 1e7).floor()).collect()),
        ("mf01", Kind::Int, mf01),
        ("mf02", Kind::Int, mf02),
        ("mf03", Kind::Int, mf03),
    ];
    Ok(Bundle::new(41, columns))
}

fn generated(rows: usize, value: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..rows).map(value).collect()
}

/// Views of advertisements: a thousand a unit of time.
pub fn advertisements(_folder: &Path) -> Result<Bundle> {
    let columns = vec![
        ("ts", Kind::Long, generated(8_192, |row| (row / 1_000) as f64)),
        ("ad_id", Kind::Long, generated(8_192, |row| (row % 1_000) as f64)),
        ("event_type", Kind::Long, generated(8_192, |row| (row % 3) as f64)),
    ];
    Ok(Bundle::new(9, columns))
}

/// Bids: a thousand a unit of time, of fifty events one for a new person (before which the last auction is that of the fifty before)
/// and three for new auctions.
pub fn bids(_folder: &Path) -> Result<Bundle> {
    let auction = |row: usize| {
        let (fifty, place) = ((row / 50) as f64, row % 50);
        1_000.0 + fifty * 3.0 + if place == 0 { -1.0 } else { (place - 1).min(2) as f64 }
    };
    let columns =
        vec![("ts", Kind::Long, generated(8_192, |row| (1 + row / 1_000) as f64)), ("auction", Kind::Long, generated(8_192, auction))];
    Ok(Bundle::new(10, columns))
}
