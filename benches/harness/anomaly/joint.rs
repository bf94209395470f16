//! Recall of anomalies in several columns, put into series of known make, at one rate of false alarms.
//!
//! A series has four columns: three follow a common factor, the third of them turned round, a fourth follows nothing; each has normal noise. The factor
//! wanders about 0 with a deviation of 1, so that no row tells the next. Thresholds, and what counts as found, are those of [`super::injected`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use thalweg::{Detection, Stream, half_space_trees, isolation_forest, knn, loda, mahalanobis, random_cut_forest};

use crate::Result;
use crate::anomaly::injected::{AT, ROWS, SERIES, found};

/// Columns of a series.
const COLUMNS: [&str; 4] = ["a", "b", "c", "d"];

/// Rows that an anomaly lasts.
const LASTS: usize = 24;

/// A row.
type Row = [f64; 4];

/// Puts an anomaly into a series.
type Inject = fn(&mut [Row], &mut SmallRng);

/// The kinds of anomalies, by name.
const KINDS: [(&str, Inject); 4] = [
    ("one spike", |rows, _| rows[AT][3] += 2.0),
    ("apart", |rows, _| rows[AT..AT + LASTS].iter_mut().for_each(|row| row[1] = -row[1])),
    ("level", |rows, _| rows[AT..AT + LASTS].iter_mut().flatten().for_each(|value| *value += 1.5)),
    ("own way", |rows, random| rows[AT..AT + LASTS].iter_mut().for_each(|row| row[2] = normal(random))),
];

fn normal(random: &mut SmallRng) -> f64 {
    random.sample(StandardNormal)
}

/// Clean rows, or with an anomaly of a kind.
fn drawn(kind: Option<usize>, number: usize) -> Vec<Row> {
    let salt = kind.map_or(0, |kind| kind + 1);
    let mut random = SmallRng::seed_from_u64((salt * SERIES + number) as u64);
    let mut factor = 0.0;
    let mut row = |_| {
        factor = 0.8 * factor + 0.6 * normal(&mut random);
        [factor, factor, -factor, 0.0].map(|followed| followed + 0.3 * normal(&mut random))
    };
    let mut rows: Vec<Row> = (0..ROWS).map(&mut row).collect();
    if let Some(kind) = kind {
        KINDS[kind].1(&mut rows, &mut random);
    }
    rows
}

/// The names of the kinds, in the order of [`recalls`].
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The detectors that watch columns together, by name.
pub fn detections() -> [(&'static str, Detection); 6] {
    [
        ("mahalanobis", mahalanobis()),
        ("random cut forest", random_cut_forest()),
        ("half-space trees", half_space_trees()),
        ("isolation forest", isolation_forest()),
        ("loda", loda()),
        ("knn", knn()),
    ]
}

/// The scores of these series, each a key.
fn scores(detection: &Detection, series: &[Vec<Row>]) -> Result<Vec<Vec<f64>>> {
    let batch = |(key, rows): (usize, &Vec<Row>)| {
        let file: ArrayRef = Arc::new(Int32Array::from(vec![key as i32; rows.len()]));
        let column = |at: usize| Arc::new(rows.iter().map(|row| row[at]).collect::<Float64Array>()) as ArrayRef;
        RecordBatch::try_from_iter(std::iter::once(("file", file)).chain(COLUMNS.into_iter().zip((0..4).map(column))))
    };
    let batches = series.iter().enumerate().map(batch).collect::<Result<Vec<_>, _>>()?;
    let table = Stream::from_arrow(batches).detect(detection.clone().on(COLUMNS).by(["file"])).collect()?;
    let rows = concat_batches(&table.schema(), table.batches())?;
    let column = rows.column_by_name("score").ok_or("the detector gave no scores")?.as_primitive::<Float64Type>();
    Ok(column.values().chunks(ROWS).map(<[f64]>::to_vec).collect())
}

/// The share of anomalies of each kind that a detector finds.
pub fn recalls(detection: &Detection) -> Result<Vec<f64>> {
    let all = std::iter::once(None).chain((0..KINDS.len()).map(Some));
    let series: Vec<Vec<Row>> = all.flat_map(|kind| (0..SERIES).map(move |number| drawn(kind, number))).collect();
    Ok(found(&scores(detection, &series)?, LASTS))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use thalweg::{ewma, mahalanobis};

    use super::{KINDS, drawn, recalls};

    #[test]
    fn a_column_that_goes_apart_stays_within_what_it_was() {
        let (rows, before) = (drawn(Some(1), 4), drawn(Some(1), 4));
        assert_eq!(rows, before, "the same whenever drawn");
        let most = |rows: &[[f64; 4]]| rows.iter().map(|row| row[1].abs()).fold(0.0, f64::max);
        assert!(most(&rows[2_000..2_024]) <= most(&rows[..2_000]));
    }

    #[test]
    fn a_detector_that_knows_how_columns_go_together_finds_one_that_goes_apart() {
        let together = recalls(&mahalanobis()).unwrap();
        assert_eq!(together.len(), KINDS.len());
        assert!(together[0] == 1.0 && together[1] > 0.8, "{together:?}");
        let apart = recalls(&ewma(0.05)).unwrap();
        assert!(apart[1] < 0.5, "each column by itself is usual: {apart:?}");
    }
}
