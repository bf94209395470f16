//! Left discord: how unlike the latest stretch of a key's series is to every earlier one, in shape.
//!
//! The distance of the latest `length` values to the nearest stretch of as many values before it, without overlap and within the latest
//! `history` values, each stretch brought to mean 0 and deviation 1: the left matrix profile, of which the largest value is a discord
//! (C.-C. M. Yeh et al., "Matrix Profile I", ICDM 2016; "left": S. Imamura et al. and Y. Zhu et al., "Matrix Profile VII", ICDM 2017).
//!
//! ```text
//! D(a, b) = A(a) + A(b) - 2 cov(a, b) / (f(a) f(b))       f(a) = max(deviation of a, floor),  A(a) = (deviation of a / f(a))²
//! score   = sqrt(min over b of D(a, b) / 2)               in [0, √2]; without the floor sqrt(1 - largest correlation)
//! floor   = deviation of the history / 2, at least 1e-9 of its mean and 1e-140
//! ```
//!
//! The floor lets stretches that hardly move be alike, whatever their noise; as in the noise elimination of D. De Paepe et al., "A
//! generalized matrix profile framework with support for contextual series analysis", 2020. It is taken anew every [`REFRESH`] values.
//!
//! * The search is exact: every stretch of the history is looked at. The products that it needs follow from those of the row before
//!   (STOMP: Zhu et al., "Matrix Profile II", ICDM 2016) and are summed anew every [`REFRESH`] values, so that errors do not grow.
//! * The first 2 · `length` - 1 values of a key score NaN: there is nothing to compare with. So does a null, NaN or infinite value, which
//!   takes no place in the series.
//!   A value beyond ±1e140 counts as that. Values count, not time: a gap goes unseen.
//!
//! State: 48 bytes for each value of the history, and of [`REFRESH`] more. Cost: `history` steps of a dozen operations a row, and
//! `history` · `length` / [`REFRESH`] more. Scores of a backend are the same bits whatever the batch size;
//! backends agree in D within 1e-6 as long as values lie within a thousand floors of the history's mean.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// Values of a key after which products, floor and centre are taken anew.
pub const REFRESH: usize = 256;

/// Largest magnitude of a value.
pub(crate) const MOST: f64 = 1e140;

/// Least deviation that stretches are brought to 1 by.
const LEAST_FLOOR: f64 = 1e-140;

/// The same, relative to the mean of the history.
const RELATIVE_FLOOR: f64 = 1e-9;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeftDiscord {
    /// Values of a stretch: at least 2.
    pub length: u32,
    /// Values of a key that stretches are looked for in: at least twice the length.
    pub history: u32,
}

impl LeftDiscord {
    /// Panics if a parameter is out of range.
    pub(crate) fn check(&self) {
        assert!(self.length >= 2 && self.history / 2 >= self.length, "a history of at least two stretches of two, not {self:?}");
    }

    /// Values of a stretch.
    pub(crate) fn stretch(&self) -> usize {
        self.length as usize
    }

    /// The farthest that an earlier stretch may end before the latest.
    pub(crate) fn farthest(&self) -> usize {
        self.history as usize - self.stretch()
    }

    /// Stretches that one is compared with.
    pub(crate) fn stretches(&self) -> usize {
        self.farthest() + 1 - self.stretch()
    }
}

/// The series of one key; the default is one without values. It stays with the backend that it began with.
#[derive(Clone, Debug, Default)]
pub struct DiscordSeries {
    /// Values that ever came.
    pub(crate) count: u64,
    /// The latest: those of the history at the last refresh, and those since.
    pub(crate) values: Vec<f64>,
    /// Mean of the history at the last refresh.
    pub(crate) centre: f64,
    /// Least deviation of a stretch.
    pub(crate) floor: f64,
    /// What the vector code keeps beside the values; empty under the twin.
    pub(crate) kept: Kept,
}

/// Columns beside the values, of the stretch that ends at each, and products by how far apart stretches end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The values less the centre.
    pub centred: Vec<f64>,
    /// Means of the stretches, of centred values. Those of the first values, at which none ends, are 0.
    pub means: Vec<f64>,
    /// 1 / f.
    pub inverses: Vec<f64>,
    /// Deviation · 1 / f.
    pub ratios: Vec<f64>,
    /// Sums of products of the latest stretch with the one that ends [`LeftDiscord::farthest`] values before it, and so on to the nearest.
    pub products: Vec<f64>,
}

/// What a value that was taken in calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// There is nothing to compare with yet.
    Nothing,
    /// The columns are to be made anew.
    Refresh,
    /// They are to be carried on.
    Step,
}

impl DiscordSeries {
    /// The series that came of these latest values (see [`DiscordSeries::values`]) of `count`: its rows score as they would have.
    pub fn restored(count: u64, values: &[f64], params: &LeftDiscord) -> Option<DiscordSeries> {
        let first = 2 * u64::from(params.length);
        let since = if count < first { count } else { (count - first) % REFRESH as u64 };
        let kept = (count - since).min(u64::from(params.history));
        if values.len() as u64 != kept + since || !values.iter().all(|value| value.abs() <= MOST) {
            return None;
        }
        let (history, rest) = values.split_at(kept as usize);
        let mut series = DiscordSeries { count: count - since, values: history.to_vec(), ..DiscordSeries::default() };
        series.values.reserve_exact(REFRESH.max(first as usize));
        if count >= first {
            series.refresh_scale();
            Backend::active().refresh(&mut series, params);
        }
        for &value in rest {
            Backend::active().push(&mut series, value, params);
        }
        Some(series)
    }

    /// Values that ever came.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latest values, from which [`DiscordSeries::restored`] makes the series again.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Bytes held beside the series itself.
    pub fn bytes(&self) -> usize {
        let Kept { centred, means, inverses, ratios, products } = &self.kept;
        [&self.values, centred, means, inverses, ratios, products].iter().map(|column| column.capacity() * size_of::<f64>()).sum()
    }

    /// A copy without what vector code keeps beside the values.
    #[cfg(feature = "gpu")]
    pub(crate) fn without_columns(&self) -> DiscordSeries {
        let mut values = Vec::with_capacity(self.values.capacity());
        values.extend_from_slice(&self.values);
        DiscordSeries { values, kept: Kept::default(), ..*self }
    }

    /// Makes what the active backend keeps beside the values, as if the series had been its own from the start.
    #[cfg(feature = "gpu")]
    pub(crate) fn make_columns(&mut self, params: &LeftDiscord) {
        if let Some(restored) = DiscordSeries::restored(self.count, &self.values, params) {
            *self = restored;
        }
    }

    /// Values that may come until the one that calls for a refresh; there have been enough to compare.
    #[cfg(feature = "gpu")]
    pub(crate) fn until_refresh(&self, params: &LeftDiscord) -> usize {
        REFRESH - 1 - ((self.count - 2 * u64::from(params.length)) % REFRESH as u64) as usize
    }

    /// Takes in a value.
    #[inline(always)]
    pub(crate) fn take(&mut self, value: f64, params: &LeftDiscord) -> Due {
        let first = 2 * u64::from(params.length);
        if self.values.capacity() == 0 {
            self.values.reserve_exact(first as usize);
        }
        self.values.push(value);
        self.count += 1;
        if self.count < first {
            return Due::Nothing;
        }
        if !(self.count - first).is_multiple_of(REFRESH as u64) {
            return Due::Step;
        }
        let gone = self.values.len().saturating_sub(params.history as usize);
        self.values.drain(..gone);
        self.values.reserve_exact(REFRESH);
        self.refresh_scale();
        Due::Refresh
    }

    /// Takes centre and floor from the values.
    #[cold]
    fn refresh_scale(&mut self) {
        let count = self.values.len() as f64;
        self.centre = self.values.iter().sum::<f64>() / count;
        let squares: f64 = self.values.iter().map(|value| (value - self.centre) * (value - self.centre)).sum();
        self.floor = ((squares / count).sqrt() / 2.0).max(RELATIVE_FLOOR * self.centre.abs()).max(LEAST_FLOOR);
    }
}

/// The score that the least D makes.
#[inline(always)]
pub(crate) fn score_of(least: f64) -> f64 {
    (least.clamp(0.0, 4.0) / 2.0).sqrt()
}

/// Scores each row and takes it into its key's series.
///
/// # Panics
/// If the columns differ in length, a slot is not below `series.len()`, or a parameter is out of range.
pub fn left_discord(
    series: &mut [DiscordSeries],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
    params: &LeftDiscord,
    scores: &mut [f64],
) {
    Backend::active().left_discord(series, slots, values, validity, params, scores);
}

impl Backend {
    /// [`left_discord`] on this backend.
    pub fn left_discord(
        self,
        series: &mut [DiscordSeries],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &LeftDiscord,
        scores: &mut [f64],
    ) {
        params.check();
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and scores", values.len(), scores.len());
        Bits::check(validity, values.len());
        for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
            let valid = value.is_finite() && validity.is_none_or(|bits| bits.get(row));
            scores[row] = if valid { self.push(&mut series[slot as usize], value.clamp(-MOST, MOST), params) } else { f64::NAN };
        }
    }

    /// Score of one value, which is taken in.
    fn push(self, series: &mut DiscordSeries, value: f64, params: &LeftDiscord) -> f64 {
        match (series.take(value, params), self) {
            (Due::Nothing, _) => return f64::NAN,
            (Due::Refresh, _) => self.refresh(series, params),
            (Due::Step, Self::Scalar) => {}
            (Due::Step, Self::Simd(level)) => return simd::anomaly::discord_step(level, series, params),
        }
        match self {
            Self::Scalar => scalar::anomaly::discord(series, params),
            Self::Simd(level) => simd::anomaly::discord_least(level, series, params),
        }
    }

    /// Makes the columns of a series anew.
    fn refresh(self, series: &mut DiscordSeries, params: &LeftDiscord) {
        if let Self::Simd(level) = self {
            simd::anomaly::discord_refresh(level, series, params);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{DiscordSeries, LeftDiscord, MOST, REFRESH};
    use crate::testing::{Case, on_every_backend, same};
    use crate::{Backend, Bits};

    on_every_backend!(scores, super::check_scores);

    fn check_scores(backend: Backend, case: &Case) {
        let groups = case.groups.min(3);
        let slots: Vec<u32> = case.slots.iter().map(|slot| slot % groups).collect();
        for params in [LeftDiscord { length: 2, history: 4 }, LeftDiscord { length: 7, history: 61 }] {
            let run = |backend: Backend, split: usize| {
                let (mut series, mut scores) = (vec![DiscordSeries::default(); groups as usize], vec![9.0; slots.len()]);
                for (from, to) in [(0, split), (split, slots.len())] {
                    let validity = case.validity().map(|bits| Bits { offset: bits.offset + from, len: to - from, ..bits });
                    backend.left_discord(&mut series, &slots[from..to], &case.floats[from..to], validity, &params, &mut scores[from..to]);
                }
                scores
            };
            let scores = run(backend, slots.len() / 3);
            assert!(scores.iter().zip(run(backend, 0)).all(|(a, b)| same(*a, b)), "{backend}, {params:?}: batches");
            assert!(scores.iter().all(|score| score.is_nan() || (0.0..1.5).contains(score)), "{backend}, {params:?}: {scores:?}");
        }
    }

    /// The score of the last of `values`, from the definition alone, and the farthest that a value lies from the mean, in floors.
    fn brute(values: &[f64], params: LeftDiscord) -> (f64, f64) {
        let (length, count) = (params.length as usize, values.len());
        if count < 2 * length {
            return (f64::NAN, 0.0);
        }
        let refreshed = count - (count - 2 * length) % REFRESH;
        let history = &values[refreshed.saturating_sub(params.history as usize)..refreshed];
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let deviation = |x: &[f64]| (x.iter().map(|v| (v - mean(x)).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
        let floor = (deviation(history) / 2.0).max(1e-9 * mean(history).abs()).max(1e-140);
        let scaled = |x: &[f64]| -> Vec<f64> { x.iter().map(|v| (v - mean(x)) / deviation(x).max(floor)).collect() };
        let latest = scaled(&values[count - length..]);
        let distance = |end: usize| {
            let other = scaled(&values[end - length..end]);
            (latest.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / (2 * length) as f64).sqrt()
        };
        let least = (count.saturating_sub(params.history as usize) + length).max(length);
        let start = refreshed.saturating_sub(params.history as usize);
        let farthest = values[start..].iter().map(|value| (value - mean(history)).abs()).fold(0.0, f64::max);
        ((least..=count - length).map(distance).fold(f64::INFINITY, f64::min), farthest / floor)
    }

    /// Waves, noise, constants and jumps.
    fn series() -> impl Strategy<Value = Vec<f64>> {
        let piece = prop_oneof![
            (1..250_usize, 1.0..20.0_f64).prop_map(|(rows, period)| (0..rows).map(|row| (row as f64 / period).sin()).collect()),
            prop::collection::vec(-1.0..1.0_f64, 1..200),
            (-5.0..5.0_f64, 1..100_usize).prop_map(|(value, rows)| vec![value; rows]),
            prop::collection::vec(-30.0..30.0_f64, 1..3),
        ];
        (prop::collection::vec(piece, 1..6), -1e4..1e4_f64)
            .prop_map(|(pieces, level): (Vec<Vec<f64>>, f64)| pieces.concat().iter().map(|value| level + value).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_search_is_exact(values in series(), length in 2..40_u32, more in 0..300_u32) {
            let params = LeftDiscord { length, history: 2 * length + more };
            let expected: Vec<(f64, f64)> = (1..=values.len()).map(|count| brute(&values[..count], params)).collect();
            for backend in Backend::available() {
                let mut scores = vec![9.0; values.len()];
                let mut series = [DiscordSeries::default()];
                backend.left_discord(&mut series, &vec![0; values.len()], &values, None, &params, &mut scores);
                for (row, (score, (expected, farthest))) in scores.iter().zip(&expected).enumerate() {
                    // Of D: a root amplifies errors near 0.
                    let near = |within: f64| (score * score - expected * expected).abs() < within;
                    let close = near(1e-6) || *farthest > 1e3 && near(2.0) || score.is_nan() && expected.is_nan();
                    prop_assert!(close, "{}, {:?}, row {}: {} is not {}", backend, params, row, score, expected);
                }
            }
        }

        #[test]
        fn a_restored_series_goes_on_with_the_same_bits(values in series(), stop in 0.0..1.0_f64, length in 2..20_u32, more in 0..100_u32) {
            let params = LeftDiscord { length, history: 2 * length + more };
            let stop = (stop * values.len() as f64) as usize;
            let (mut series, mut scores) = ([DiscordSeries::default()], vec![9.0; values.len()]);
            let slots = vec![0; values.len()];
            let run = |series: &mut [DiscordSeries], rows: std::ops::Range<usize>, scores: &mut [f64]| {
                Backend::active().left_discord(series, &slots[rows.clone()], &values[rows.clone()], None, &params, &mut scores[rows]);
            };
            run(&mut series, 0..stop, &mut scores);
            let mut restored = [DiscordSeries::restored(series[0].count(), series[0].values(), &params).unwrap()];
            run(&mut series, stop..values.len(), &mut scores);
            let mut again = vec![9.0; values.len()];
            run(&mut restored, stop..values.len(), &mut again);
            prop_assert!(scores[stop..].iter().zip(&again[stop..]).all(|(a, b)| same(*a, *b)));
        }
    }

    #[test]
    fn a_beat_that_is_missing_is_the_discord() {
        let beat = |row: usize| if row % 50 < 5 && row / 50 != 40 { 1.0 } else { 0.0 };
        let values: Vec<f64> = (0..3_000).map(beat).collect();
        let mut scores = vec![9.0; values.len()];
        let params = LeftDiscord { length: 64, history: 1_000 };
        Backend::best().left_discord(&mut [DiscordSeries::default()], &vec![0; values.len()], &values, None, &params, &mut scores);
        let strangest = (200..3_000).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        assert!((2_000..2_120).contains(&strangest), "{strangest}: {}", scores[strangest]);
        assert!(scores[200..2_000].iter().all(|score| *score < 1e-3));
    }

    #[test]
    fn what_is_not_a_series_is_not_restored() {
        let params = LeftDiscord { length: 4, history: 20 };
        assert!(DiscordSeries::restored(3, &[1.0; 3], &params).is_some());
        assert!(DiscordSeries::restored(3, &[1.0; 4], &params).is_none());
        assert!(DiscordSeries::restored(3, &[f64::NAN; 3], &params).is_none());
        assert!(DiscordSeries::restored(3, &[2.0 * MOST; 3], &params).is_none());
        assert!(DiscordSeries::restored(1_000, &[1.0; 3], &params).is_none());
    }
}
