//! Recall of anomalies of known kinds, put into series of known make, at one rate of false alarms.
//!
//! A series is a season of 48 rows, of two waves, with normal noise of deviation 1/2, and drawn anew for each. The threshold of a detector is the score
//! that one in [`ALARM_EVERY`] rows of the clean series reaches, after [`SETTLED`] rows. An anomaly begins at row [`AT`] and is found if a row of
//! the [`WITHIN`] from there on reaches it; by chance some 9% would be. Each kind is put into [`SERIES`] series.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

use crate::Result;
use crate::anomaly::nab::Series;
use crate::anomaly::{Entry, measure};

/// Series of each kind, and clean ones.
pub const SERIES: usize = 20;

/// Rows of a series, and the first of them that count.
pub const ROWS: usize = 3_000;
const SETTLED: usize = 1_000;

/// Where an anomaly begins, and rows in which it may be found.
pub const AT: usize = 2_000;
const WITHIN: usize = 96;

/// Rows of clean series for one false alarm.
const ALARM_EVERY: usize = 1_000;

/// Rows of a season.
const SEASON: usize = 48;

/// Puts an anomaly into a series.
type Inject = fn(&mut [f64], &mut SmallRng);

/// The kinds of anomalies, by name.
const KINDS: [(&str, Inject); 7] = [
    ("spike", |values, _| values[AT] += 5.0),
    ("level", |values, _| values[AT..].iter_mut().for_each(|value| *value += 2.0)),
    ("trend", |values, _| (AT..ROWS).for_each(|row| values[row] += 4.0 * ((row - AT) as f64 / WITHIN as f64).min(1.0))),
    ("variance", |values, random| (AT..AT + SEASON).for_each(|row| values[row] += 2.0 * random.sample::<f64, _>(StandardNormal))),
    ("phase", |values, random| (AT..ROWS).for_each(|row| values[row] = clean(row + SEASON / 4, random))),
    ("flat line", |values, _| (AT..AT + SEASON).for_each(|row| values[row] = values[AT])),
    ("missing beat", |values, random| (AT..AT + SEASON).for_each(|row| values[row] = noise(random))),
];

fn noise(random: &mut SmallRng) -> f64 {
    0.5 * random.sample::<f64, _>(StandardNormal)
}

/// A value without anomalies.
fn clean(row: usize, random: &mut SmallRng) -> f64 {
    let angle = std::f64::consts::TAU * row as f64 / SEASON as f64;
    3.0 * angle.sin() + (2.0 * angle).cos() + noise(random)
}

/// Clean series, or with an anomaly of a kind.
fn drawn(kind: Option<usize>, number: usize) -> Series {
    let salt = kind.map_or(0, |kind| kind + 1);
    let mut random = SmallRng::seed_from_u64((salt * SERIES + number) as u64);
    let mut values: Vec<f64> = (0..ROWS).map(|row| clean(row, &mut random)).collect();
    if let Some(kind) = kind {
        KINDS[kind].1(&mut values, &mut random);
    }
    Series { name: String::new(), timestamps: Vec::new(), values, windows: Vec::new() }
}

/// The names of the kinds, in the order of [`recalls`].
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The share of anomalies of each kind that a detector finds.
pub fn recalls(entry: &Entry) -> Result<Vec<f64>> {
    let all: Vec<Option<usize>> = std::iter::once(None).chain((0..KINDS.len()).map(Some)).collect();
    let series: Vec<Series> = all.iter().flat_map(|kind| (0..SERIES).map(|number| drawn(*kind, number))).collect();
    Ok(found(&measure(entry, &series, 1)?.scores, WITHIN))
}

/// The share of anomalies of each kind that are found within so many rows, from the scores of the clean series and of those of each kind.
pub fn found(scores: &[Vec<f64>], within: usize) -> Vec<f64> {
    let (clean, injected) = scores.split_at(SERIES);
    let mut usual: Vec<f64> = clean.iter().flat_map(|scores| &scores[SETTLED..]).copied().filter(|score| !score.is_nan()).collect();
    usual.sort_by(|a, b| b.total_cmp(a));
    let alarms = usual.len() / ALARM_EVERY;
    // More alarms than that are none: those of equal scores do not count either.
    let threshold = usual.get(alarms).copied().unwrap_or(f64::INFINITY);
    let found = |scores: &&Vec<f64>| scores[AT..AT + within].iter().any(|score| *score > threshold);
    injected.chunks(SERIES).map(|scores| scores.iter().filter(found).count() as f64 / SERIES as f64).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use thalweg::{ewma, holt_winters};

    use super::{KINDS, SERIES, drawn, recalls};
    use crate::anomaly::Entry;

    #[test]
    fn series_differ_from_the_anomaly_on() {
        for kind in 0..KINDS.len() {
            let (with, again) = (drawn(Some(kind), 3), drawn(Some(kind), 3));
            assert_eq!(with.values, again.values, "the same whenever drawn");
            let before = with.values[..2_000].iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            assert!(before < 7.0, "{before}");
        }
        assert_eq!(drawn(Some(5), 0).values[2_000..2_048].iter().filter(|value| **value == drawn(Some(5), 0).values[2_000]).count(), 48);
    }

    #[test]
    fn a_detector_that_knows_the_season_finds_what_breaks_it() {
        let entry = |detection| Entry { name: "", detection, column: "score" };
        let seasonal = recalls(&entry(holt_winters(48))).unwrap();
        assert_eq!(seasonal.len(), KINDS.len());
        assert!(seasonal[0] == 1.0 && seasonal[4] > 0.9, "spikes and phases: {seasonal:?} of {SERIES}");
        let blind = recalls(&entry(ewma(0.05))).unwrap();
        assert!(blind[0] < 0.5, "a mean knows no season: {blind:?}");
    }
}
