//! Stretches of a history side by side: each lane carries the product of one distance between stretches from row to row.

use crate::anomaly::discord::{DiscordSeries, Kept, LeftDiscord, REFRESH, score_of};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};

/// Stretches at a time.
const LANES: usize = 16;

/// Carries the columns on to the latest value and gives its score.
pub(crate) fn discord_step(level: Level, series: &mut DiscordSeries, params: &LeftDiscord) -> f64 {
    launch(level, Step { series, params })
}

/// Makes the columns anew.
pub(crate) fn discord_refresh(level: Level, series: &mut DiscordSeries, params: &LeftDiscord) {
    launch(level, Refresh { series, params });
}

/// The score of the latest value, for which the columns are there.
pub(crate) fn discord_least(level: Level, series: &DiscordSeries, params: &LeftDiscord) -> f64 {
    launch(level, Least { series, params })
}

struct Step<'a> {
    series: &'a mut DiscordSeries,
    params: &'a LeftDiscord,
}

impl Kernel for Step<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> f64 {
        let Step { series, params } = self;
        let (length, at) = (params.stretch(), series.values.len() - 1);
        let kept = &mut series.kept;
        kept.centred.push(series.values[at] - series.centre);
        let (mean, square) = moments(&kept.centred[at + 1 - length..]);
        push_scale(kept, mean, square, series.floor);
        let (first, earliest) = reach(params, at);
        let mut start = first;
        if earliest < length {
            // The first stretch of all has come into reach: it has no product yet.
            kept.products[first] = product(&kept.centred[at + 1 - length..], &kept.centred[..length]);
            start += 1;
        }
        let (new, old) = (kept.centred[at], kept.centred[at - length]);
        let (ends, begins) = (earliest + start - first, earliest + start - first - length);
        let products = &mut kept.products[start..];
        let others = &kept.centred[ends..][..products.len()];
        let gone = &kept.centred[begins..][..products.len()];
        for ((product, other), gone) in products.iter_mut().zip(others).zip(gone) {
            *product += new * other - old * gone;
        }
        score_of(least(kept, params, at))
    }
}

struct Least<'a> {
    series: &'a DiscordSeries,
    params: &'a LeftDiscord,
}

impl Kernel for Least<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> f64 {
        score_of(least(&self.series.kept, self.params, self.series.values.len() - 1))
    }
}

struct Refresh<'a> {
    series: &'a mut DiscordSeries,
    params: &'a LeftDiscord,
}

impl Kernel for Refresh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let DiscordSeries { values, centre, floor, kept, .. } = self.series;
        let (length, at) = (self.params.stretch(), values.len() - 1);
        for column in [&mut kept.centred, &mut kept.means, &mut kept.inverses, &mut kept.ratios] {
            column.clear();
            column.reserve_exact(values.len() + REFRESH);
        }
        kept.centred.extend(values.iter().map(|value| value - *centre));
        for column in [&mut kept.means, &mut kept.inverses, &mut kept.ratios] {
            column.resize(length - 1, 0.0);
        }
        for end in length..=values.len() {
            let (mean, square) = moments(&kept.centred[end - length..end]);
            push_scale(kept, mean, square, *floor);
        }
        if kept.products.is_empty() {
            kept.products = vec![0.0; self.params.stretches()];
        }
        let (first, earliest) = reach(self.params, at);
        let latest = &kept.centred[at + 1 - length..];
        for (number, kept_product) in kept.products[first..].iter_mut().enumerate() {
            let end = earliest + number + 1;
            *kept_product = product(latest, &kept.centred[end - length..end]);
        }
    }
}

/// The first product in reach of the value at `at`, and where the stretch of that product ends.
#[inline(always)]
fn reach(params: &LeftDiscord, at: usize) -> (usize, usize) {
    let earliest = at.saturating_sub(params.farthest()).max(params.stretch() - 1);
    (params.farthest() - (at - earliest), earliest)
}

/// Least D of the stretch that ends at `at`.
#[inline(always)]
fn least(kept: &Kept, params: &LeftDiscord, at: usize) -> f64 {
    let (first, earliest) = reach(params, at);
    let products = &kept.products[first..];
    let n = products.len();
    let (means, inverses, ratios) = (&kept.means[earliest..][..n], &kept.inverses[earliest..][..n], &kept.ratios[earliest..][..n]);
    let per = 1.0 / params.stretch() as f64;
    let (mean, inverse, ratio) = (kept.means[at], kept.inverses[at], kept.ratios[at]);
    let d = |i: usize, products: &[f64], means: &[f64], inverses: &[f64], ratios: &[f64]| {
        let covariance = (products[i] * per - mean * means[i]) * inverse * inverses[i];
        // What rounding makes of stretches that hardly move stays within what they can have in common.
        let most = ratio * ratios[i];
        let covariance = if covariance < most { covariance } else { most };
        let covariance = if covariance > -most { covariance } else { -most };
        ratios[i] * ratios[i] - 2.0 * covariance
    };
    let mut best = [f64::INFINITY; LANES];
    let whole = n - n % LANES;
    for at in (0..whole).step_by(LANES) {
        let (products, means) = (&products[at..at + LANES], &means[at..at + LANES]);
        let (inverses, ratios) = (&inverses[at..at + LANES], &ratios[at..at + LANES]);
        for (lane, best) in best.iter_mut().enumerate() {
            let d = d(lane, products, means, inverses, ratios);
            *best = if d < *best { d } else { *best };
        }
    }
    let tail = (whole..n).map(|i| d(i, products, means, inverses, ratios));
    ratio * ratio + best.into_iter().chain(tail).fold(f64::INFINITY, |best, d| if d < best { d } else { best })
}

/// Mean and mean square deviation, by sums in eight lanes, in the same order on every instruction set.
#[inline(always)]
fn moments(stretch: &[f64]) -> (f64, f64) {
    let per = 1.0 / stretch.len() as f64;
    let mean = lanes(stretch, |value| value) * per;
    (mean, lanes(stretch, |value| (value - mean) * (value - mean)) * per)
}

#[inline(always)]
fn lanes(values: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    let (eights, tail) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, &value)| *sum += term(value));
    }
    sums.iter().sum::<f64>() + tail.iter().map(|&value| term(value)).sum::<f64>()
}

/// Sum of products, in the same order on every instruction set.
#[inline(always)]
fn product(a: &[f64], b: &[f64]) -> f64 {
    let ((a_eights, a_tail), (b_eights, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum::<f64>() + a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum::<f64>()
}

/// Adds a stretch with this mean and mean square deviation to the columns.
#[inline(always)]
fn push_scale(kept: &mut Kept, mean: f64, square: f64, floor: f64) {
    let deviation = square.sqrt();
    let inverse = 1.0 / if deviation > floor { deviation } else { floor };
    kept.means.push(mean);
    kept.inverses.push(inverse);
    kept.ratios.push(deviation * inverse);
}
