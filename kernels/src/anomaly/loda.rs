//! LODA: how rare a row is in histograms of random projections of it.
//!
//! T. Pevný, "Loda: lightweight on-line detector of anomalies", Machine Learning 102, 2016. Each of the projections has weights drawn from the normal
//! distribution for √d of the d columns, rounded up; the others are 0. A histogram counts where the rows of the reference window lie on it:
//!
//! ```text
//! z     = (x - mean) / deviation, by column, of the reference window      deviation at least a billionth of the mean
//! y     = w' z
//! p     = (rows of the window in y's bin + 1/2) / (rows of the window + bins / 2)      bins of equal width over the range of the window's y
//! score = mean of -ln p over the projections
//! ```
//!
//! As in the paper's variant for streams, the histograms are those of the window before, while the next one is counted. Here each bins from a place of
//! its own, shifted at random by a part of a bin, so that they tell places apart more finely together, even of one column (D. W. Scott, "Averaged
//! shifted histograms", 1985).
//!
//! * *Attribution*: as in the paper (section 3.3) a column's part goes by Welch's t of the surprises `-ln p` of the projections that watch it
//!   beside those of the others, if that is above 0; it has the sign of its z. Of one or two columns, which all projections watch, it goes by |z|.
//! * *Warm-up*: rows of the first window score 0.
//! * *Missing values*: a row in which a column has none, or NaN or an infinity, scores NaN and counts in no window.
//! * *Drift*: a new level is strange until the end of the first window that it fills.
//!
//! State a key: 16 bytes per value of a window, and 8 for each bin of each projection. Cost: projections · √d steps a row. Scores are the same bits
//! whatever the batches; the code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::forest::{Random, rows_by_slot};
use crate::anomaly::stepwise::{LEAST_FLOOR, RELATIVE_FLOOR, Running};

/// Largest magnitude of a value, so that squares stay finite.
const MOST: f64 = 1e150;

/// Most deviations that a value counts as.
const MOST_DEVIATIONS: f64 = 1e9;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loda {
    /// Projections: at least 1.
    pub projections: u32,
    /// Bins of a histogram: at least 2.
    pub bins: u32,
    /// Rows of a window: at least 10.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

/// One projection: the columns that it watches, their weights, and by what part of a bin its bins are shifted.
#[derive(Clone, Debug, PartialEq)]
struct Projection {
    weights: Vec<(u32, f64)>,
    shift: f64,
}

impl Projection {
    fn drawn(columns: usize, seed: u64, number: u32) -> Projection {
        let mut random = Random::of(seed, number.into());
        let mut left: Vec<u32> = (0..columns as u32).collect();
        let watched = (columns as f64).sqrt().ceil() as usize;
        let weights = (0..watched).map(|_| (left.swap_remove((random.word() % left.len() as u64) as usize), normal(&mut random))).collect();
        Projection { weights, shift: random.unit() }
    }

    fn of(&self, z: &[f64]) -> f64 {
        self.weights.iter().map(|(column, weight)| weight * z[*column as usize]).sum()
    }
}

/// A number drawn from the normal distribution: G. E. P. Box and M. E. Muller, 1958.
pub(crate) fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).max(f64::MIN_POSITIVE).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

/// The projections, the same for all keys, drawn once.
#[derive(Clone, Debug, PartialEq)]
pub struct LodaProjections {
    params: Loda,
    columns: usize,
    drawn: Vec<Projection>,
}

impl LodaProjections {
    /// Projections of so many columns.
    ///
    /// # Panics
    /// If there is no column or a parameter is out of range.
    pub fn new(columns: usize, params: &Loda) -> LodaProjections {
        let in_range = params.projections >= 1 && params.bins >= 2 && params.window_size >= 10;
        assert!(in_range && columns >= 1, "out of range, or no column: {params:?}");
        let drawn = (0..params.projections).map(|number| Projection::drawn(columns, params.seed, number)).collect();
        LodaProjections { params: *params, columns, drawn }
    }

    /// Numbers in a window.
    fn window(&self) -> usize {
        self.params.window_size as usize * self.columns
    }
}

/// Where a projection's bins lie.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bins {
    low: f64,
    per_unit: f64,
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LodaCell {
    /// Rows since the latest whole window, row by row.
    current: Vec<f64>,
    /// Rows of the latest whole window; none before there is one.
    reference: Vec<f64>,
    /// Mean and deviation of the reference, by column.
    scales: Vec<(f64, f64)>,
    /// By projection.
    bins: Vec<Bins>,
    /// -ln p by projection and bin, with one bin more for the shift, and one for all that lies outside.
    surprises: Vec<f64>,
}

impl LodaCell {
    /// Rows since the latest whole window, and those of that window, row by row.
    pub fn rows(&self) -> (&[f64], &[f64]) {
        (&self.current, &self.reference)
    }

    /// What came of these rows, see [`LodaCell::rows`].
    pub fn restored(current: &[f64], reference: &[f64], projections: &LodaProjections) -> Option<LodaCell> {
        let (window, columns) = (projections.window(), projections.columns);
        let fits = current.len() < window && current.len().is_multiple_of(columns) && (reference.is_empty() || reference.len() == window);
        if !fits || !current.iter().chain(reference).all(|value| value.abs() <= MOST) {
            return None;
        }
        let mut cell = LodaCell { current: current.to_vec(), reference: reference.to_vec(), ..LodaCell::default() };
        if !reference.is_empty() {
            cell.count(projections);
        }
        Some(cell)
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.current.capacity() + self.reference.capacity() + self.surprises.capacity()) * size_of::<f64>()
            + self.scales.capacity() * size_of::<(f64, f64)>()
            + self.bins.capacity() * size_of::<Bins>()
    }

    /// A row in deviations from the reference's means.
    fn scaled(&self, row: &[f64], z: &mut Vec<f64>) {
        z.clear();
        let scaled =
            |(value, (mean, deviation)): (&f64, &(f64, f64))| ((value - mean) / deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS);
        z.extend(row.iter().zip(&self.scales).map(scaled));
    }

    /// Counts the reference window.
    fn count(&mut self, projections: &LodaProjections) {
        let LodaProjections { params, columns, drawn } = projections;
        let scale = |column: usize| {
            let mut moments = Running::default();
            self.reference.iter().skip(column).step_by(*columns).for_each(|value| moments.add(*value));
            (moments.mean, moments.deviation().max(RELATIVE_FLOOR * moments.mean.abs()).max(LEAST_FLOOR.sqrt()))
        };
        self.scales = (0..*columns).map(scale).collect();
        let mut rows = Vec::with_capacity(self.reference.len());
        let mut z = Vec::with_capacity(*columns);
        for row in self.reference.chunks(*columns) {
            self.scaled(row, &mut z);
            rows.extend_from_slice(&z);
        }
        let (width, whole) = (params.bins as usize + 2, f64::from(params.window_size) + f64::from(params.bins) / 2.0);
        self.bins.clear();
        self.surprises.clear();
        for projection in drawn {
            let places: Vec<f64> = rows.chunks(*columns).map(|z| projection.of(z)).collect();
            let (low, high) = places.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(*y), high.max(*y)));
            // Of a constant window all else lies outside.
            let bin = ((high - low) / f64::from(params.bins)).max(RELATIVE_FLOOR);
            let bins = Bins { low: low - projection.shift * bin, per_unit: 1.0 / bin };
            let mut counts = vec![0_u32; width];
            places.iter().for_each(|y| counts[bins.place(*y, params)] += 1);
            // Nothing of the window lies outside.
            self.surprises.extend(counts.iter().map(|count| -((f64::from(*count) + 0.5) / whole).ln()));
            self.bins.push(bins);
        }
    }

    /// The surprise of each projection of a row.
    fn surprises<'a>(&'a self, z: &'a [f64], projections: &'a LodaProjections) -> impl Iterator<Item = f64> + 'a {
        let width = projections.params.bins as usize + 2;
        let of = move |((projection, bins), surprises): ((&Projection, &Bins), &[f64])| {
            surprises[bins.place(projection.of(z), &projections.params)]
        };
        projections.drawn.iter().zip(&self.bins).zip(self.surprises.chunks(width)).map(of)
    }

    /// Takes a row in; at the end of a window that is the reference.
    fn take(&mut self, row: &[f64], projections: &LodaProjections) {
        self.current.extend_from_slice(row);
        if self.current.len() == projections.window() {
            std::mem::swap(&mut self.current, &mut self.reference);
            self.current.clear();
            self.count(projections);
        }
    }
}

impl Bins {
    /// The bin of a place; the last for all that lies outside.
    fn place(self, y: f64, params: &Loda) -> usize {
        let place = ((y - self.low) * self.per_unit).floor();
        if (0.0..=f64::from(params.bins)).contains(&place) { place as usize } else { params.bins as usize + 1 }
    }
}

/// The part of each column in a score: see the [module documentation](self).
fn attribute(surprises: &[f64], z: &[f64], projections: &LodaProjections, score: f64, mut tell: impl FnMut(usize, f64)) {
    let t = |column: usize| {
        let mut sides = [Running::default(), Running::default()];
        for (surprise, projection) in surprises.iter().zip(&projections.drawn) {
            sides[usize::from(projection.weights.iter().any(|(watched, _)| *watched as usize == column))].add(*surprise);
        }
        let [others, own] = sides;
        if others.count == 0 || own.count == 0 {
            return if own.count > 0 { z[column].abs() } else { 0.0 };
        }
        let spread = |side: &Running| side.squares / (side.count * side.count) as f64;
        ((own.mean - others.mean) / (spread(&own) + spread(&others)).sqrt().max(1e-9)).max(0.0)
    };
    let parts: Vec<f64> = (0..z.len()).map(t).collect();
    let all: f64 = parts.iter().sum();
    for (column, part) in parts.iter().enumerate() {
        tell(column, if all > 0.0 { (part / all * score).copysign(z[column]) } else { 0.0 });
    }
}

/// Scores each row and takes it into its key's cell. `columns` are what is watched together; `attribution`, if it is asked for, gets for each of them
/// a number per row, and is of the rows' length.
///
/// # Panics
/// If columns differ in length or are not as many as the projections are of, or a slot is not below `cells.len()`.
pub fn loda(
    cells: &mut [LodaCell],
    slots: &[u32],
    columns: &[&[f64]],
    projections: &LodaProjections,
    scores: &mut [f64],
    mut attribution: Option<&mut [Vec<f64>]>,
) {
    check_lengths("columns of rows and of projections", columns.len(), projections.columns);
    check_lengths("slots and scores", slots.len(), scores.len());
    scores.fill(f64::NAN);
    let (mut values, mut z, mut surprises) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows_by_slot(slots, columns, None) {
        let row = row as usize;
        let cell = &mut cells[slots[row] as usize];
        values.clear();
        values.extend(columns.iter().map(|column| column[row].clamp(-MOST, MOST)));
        cell.scaled(&values, &mut z);
        surprises.clear();
        surprises.extend(cell.surprises(&z, projections));
        let score = surprises.iter().sum::<f64>() / surprises.len().max(1) as f64;
        scores[row] = score;
        if let Some(attribution) = attribution.as_deref_mut() {
            attribution.iter_mut().for_each(|parts| parts[row] = 0.0);
            attribute(&surprises, &z, projections, score, |column, part| attribution[column][row] = part);
        }
        cell.take(&values, projections);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{Loda, LodaCell, LodaProjections, loda};
    use crate::testing::{FLOATS, scramble};

    const PARAMS: Loda = Loda { projections: 20, bins: 5, window_size: 15, seed: 3 };

    fn run(rows: &[Vec<f64>], params: &Loda) -> (Vec<f64>, Vec<Vec<f64>>) {
        let columns: Vec<Vec<f64>> = (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let (mut cells, mut scores) = ([LodaCell::default()], vec![9.0; rows.len()]);
        let mut parts = vec![vec![9.0; rows.len()]; columns.len()];
        loda(&mut cells, &vec![0; rows.len()], &columns, &LodaProjections::new(columns.len(), params), &mut scores, Some(&mut parts));
        (scores, parts)
    }

    /// The score of a row by the window before, bin by bin.
    fn slow(window: &[Vec<f64>], row: &[f64], params: &Loda) -> f64 {
        let (n, d) = (window.len() as f64, row.len());
        let scales: Vec<(f64, f64)> = (0..d)
            .map(|column| {
                let mean = window.iter().map(|row| row[column]).sum::<f64>() / n;
                (mean, (window.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / n).sqrt())
            })
            .collect();
        let of_projection = |projection: &super::Projection| {
            let place = |row: &[f64]| {
                projection
                    .weights
                    .iter()
                    .map(|(at, w)| w * (row[*at as usize] - scales[*at as usize].0) / scales[*at as usize].1)
                    .sum::<f64>()
            };
            let places: Vec<f64> = window.iter().map(|row| place(row)).collect();
            let (low, high) = (places.iter().fold(f64::MAX, |a, b| a.min(*b)), places.iter().fold(f64::MIN, |a, b| a.max(*b)));
            let width = (high - low) / f64::from(params.bins);
            let from = low - projection.shift * width;
            let bin = |y: f64| ((y - from) / width).floor();
            let own = bin(place(row));
            let inside = (0.0..=f64::from(params.bins)).contains(&own);
            let count = if inside { places.iter().filter(|y| bin(**y) == own).count() as f64 } else { 0.0 };
            -((count + 0.5) / (n + f64::from(params.bins) / 2.0)).ln()
        };
        let projections = LodaProjections::new(d, params);
        projections.drawn.iter().map(of_projection).sum::<f64>() / projections.drawn.len() as f64
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_the_window_before_counted_anew(d in 1..5_usize, values in prop::collection::vec(-5.0..5.0_f64, 80..300)) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(d).map(<[f64]>::to_vec).collect();
            let (scores, parts) = run(&rows, &PARAMS);
            for (row, score) in scores.iter().enumerate() {
                let whole = row / 15 * 15;
                let right = if whole == 0 { 0.0 } else { slow(&rows[whole - 15..whole], &rows[row], &PARAMS) };
                // A place at the very edge of a bin may fall to either side: one projection of twenty.
                prop_assert!((score - right).abs() < 0.3, "row {row}: {score} is not {right}");
                let sum: f64 = parts.iter().map(|parts| parts[row].abs()).sum();
                prop_assert!(sum < score + 1e-9 && (sum == 0.0 || (sum - score).abs() < 1e-9));
            }
            let close = (0..rows.len()).filter(|row| {
                let whole = row / 15 * 15;
                whole == 0 || (scores[*row] - slow(&rows[whole - 15..whole], &rows[*row], &PARAMS)).abs() < 1e-9
            });
            prop_assert!(close.count() * 10 >= rows.len() * 9);
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on_and_go_on_from_a_snapshot(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 3..240), cut in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<Vec<f64>> = values.chunks_exact(3).map(<[f64]>::to_vec).collect();
            let columns: Vec<Vec<f64>> = (0..3).map(|at| rows.iter().map(|row| row[at]).collect()).collect();
            let (projections, cut) = (LodaProjections::new(3, &PARAMS), cut.index(rows.len()));
            let (mut cells, mut scores) = ([LodaCell::default()], vec![9.0; rows.len()]);
            let part = |range: std::ops::Range<usize>| columns.iter().map(|column| &column[range.clone()]).collect::<Vec<&[f64]>>();
            loda(&mut cells, &vec![0; cut], &part(0..cut), &projections, &mut scores[..cut], None);
            let (current, reference) = cells[0].rows();
            let mut again = [LodaCell::restored(current, reference, &projections).unwrap()];
            prop_assert_eq!(&again[0], &cells[0]);
            loda(&mut again, &vec![0; rows.len() - cut], &part(cut..rows.len()), &projections, &mut scores[cut..], None);
            for ((row, score), right) in rows.iter().zip(&scores).zip(run(&rows, &PARAMS).0) {
                prop_assert_eq!(score.is_nan(), !row.iter().all(|value| value.is_finite()));
                prop_assert!(score.is_nan() || (0.0..100.0).contains(score) && score.to_bits() == right.to_bits(), "{score}");
            }
        }
    }

    #[test]
    fn the_column_that_is_strange_is_told() {
        let noise = |n: u64| (0..12).map(|k| (scramble(n * 12 + k) >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0;
        let mut rows: Vec<Vec<f64>> = (0..2_000).map(|n| (0..9).map(|column| noise(n * 9 + column)).collect()).collect();
        rows[1_500][4] = -9.0;
        let (scores, parts) = run(&rows, &Loda { projections: 100, bins: 16, window_size: 256, seed: 42 });
        let usual = scores[256..].iter().enumerate().filter(|(at, _)| *at != 1_500 - 256).map(|(_, score)| *score).fold(0.0, f64::max);
        assert!(scores[1_500] > usual, "{} is not above {usual}", scores[1_500]);
        assert!(parts[4][1_500] < -0.7 * scores[1_500], "{} of {}", parts[4][1_500], scores[1_500]);
    }
}
