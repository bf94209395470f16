//! Holt–Winters: level, trend and seasons, each smoothed exponentially.
//!
//! C. C. Holt, 1957, and P. R. Winters, "Forecasting sales by exponentially weighted moving averages", 1960, in its additive form with a damped trend
//! (E. S. Gardner and E. McKenzie, 1985) and up to two seasons, such as day and week (J. W. Taylor, "Short-term electricity demand forecasting using
//! double seasonal exponential smoothing", 2003); written by errors:
//!
//! ```text
//! forecast = level + damping · trend + season1[t mod m1] + season2[t mod m2]        e = x - forecast
//! level    = level + damping · trend + alpha · e
//! trend    = damping · trend + alpha · beta · e
//! season   = season + gamma · (1 - alpha) · e                                        of either season, the place of this row
//! ```
//!
//! * *Beginning*: the first `max(m1, m2, 2)` values make the level, their mean; the first season, the mean of its places less the level; and the second,
//!   what is left of the last value of each place. The trend begins with 0.
//! * A season counts values: it is as many of them as its length, whatever their times.
//!
//! State: 8 bytes for each place of a season, and 40.

use crate::anomaly::forecast::Forecaster;
use crate::anomaly::stepwise::MOST;

/// Parameters of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HoltWinters {
    /// Weight of a value in the level, above 0, at most 1.
    pub alpha: f64,
    /// Weight of a change of the level in the trend, in [0, 1]; 0 for none.
    pub beta: f64,
    /// Weight of a value in its place of the season, in [0, 1].
    pub gamma: f64,
    /// What is left of the trend from one value to the next, in [0, 1].
    pub damping: f64,
    /// Values of the seasons; 0 where there is none.
    pub seasons: [u32; 2],
}

/// What the model knows of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoltWintersModel {
    /// The first values, until there are enough.
    pub first: Vec<f64>,
    /// Values taken in.
    pub count: u64,
    /// The level, and its change from value to value.
    pub level: f64,
    /// Its change.
    pub trend: f64,
    /// What the places of each season lie above it.
    pub seasons: [Vec<f64>; 2],
}

impl HoltWinters {
    /// Values that the model begins with.
    fn beginning(&self) -> usize {
        self.seasons.into_iter().max().unwrap_or_default().max(2) as usize
    }

    fn begin(&self, model: &mut HoltWintersModel) {
        let first = std::mem::take(&mut model.first);
        model.level = first.iter().map(|value| value / first.len() as f64).sum();
        let mut left: Vec<f64> = first.iter().map(|value| value - model.level).collect();
        for (season, length) in model.seasons.iter_mut().zip(self.seasons.map(|length| length as usize)) {
            if length == 0 {
                continue;
            }
            let mean = |place: usize| {
                let of_place = || left.iter().skip(place).step_by(length);
                of_place().sum::<f64>() / of_place().count().max(1) as f64
            };
            *season = (0..length).map(mean).collect();
            left.iter_mut().enumerate().for_each(|(at, value)| *value -= season[at % length]);
        }
    }
}

impl HoltWintersModel {
    /// Whether this can be what a kernel with these parameters left: for what comes from a snapshot.
    pub fn is_sound(&self, params: &HoltWinters) -> bool {
        let has_begun = self.count >= params.beginning() as u64;
        let seasons =
            self.seasons.iter().zip(params.seasons).all(|(season, length)| season.len() == if has_begun { length as usize } else { 0 });
        let first = self.first.len() as u64 == if has_begun { 0 } else { self.count };
        let mut numbers = self.first.iter().chain(&self.seasons[0]).chain(&self.seasons[1]).chain([&self.level, &self.trend]);
        seasons && first && numbers.all(|number| number.is_finite())
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        (self.first.capacity() + self.seasons.iter().map(Vec::capacity).sum::<usize>()) * size_of::<f64>()
    }

    /// The place of the next value in a season.
    fn place(&self, season: usize) -> usize {
        (self.count % self.seasons[season].len().max(1) as u64) as usize
    }
}

impl Forecaster for HoltWinters {
    type Model = HoltWintersModel;

    fn forecast(&self, model: &HoltWintersModel) -> f64 {
        if model.count < self.beginning() as u64 {
            return f64::NAN;
        }
        let seasonal = |season: usize| model.seasons[season].get(model.place(season)).copied().unwrap_or(0.0);
        (model.level + self.damping * model.trend + seasonal(0) + seasonal(1)).clamp(-MOST, MOST)
    }

    fn learn(&self, model: &mut HoltWintersModel, value: f64, forecast: f64) {
        if forecast.is_nan() {
            model.first.push(value);
            model.count += 1;
            if model.first.len() == self.beginning() {
                self.begin(model);
            }
            return;
        }
        let (error, held) = (value - forecast, |number: f64| number.clamp(-MOST, MOST));
        model.level = held(model.level + self.damping * model.trend + self.alpha * error);
        model.trend = held(self.damping * model.trend + self.alpha * self.beta * error);
        for season in 0..2 {
            let place = model.place(season);
            if let Some(above) = model.seasons[season].get_mut(place) {
                *above = held(*above + self.gamma * (1.0 - self.alpha) * error);
            }
        }
        model.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HoltWinters, HoltWintersModel};
    use crate::anomaly::forecast::tests::run;
    use crate::anomaly::forecast::{Forecaster, Residuals};
    use crate::testing::{FLOATS, scramble};

    const PARAMS: HoltWinters = HoltWinters { alpha: 0.3, beta: 0.1, gamma: 0.2, damping: 0.9, seasons: [4, 0] };

    /// Forecasts of one season by the equations of the textbook, in which each component is smoothed towards what the others leave of the value.
    fn slow(values: &[f64], params: &HoltWinters) -> Vec<f64> {
        let m = params.seasons[0] as usize;
        let mut level = values[..m].iter().sum::<f64>() / m as f64;
        let (mut trend, mut seasonal) = (0.0, values[..m].iter().map(|value| value - level).collect::<Vec<f64>>());
        let mut forecasts = vec![f64::NAN; m];
        for (t, value) in values.iter().enumerate().skip(m) {
            let (before, season) = (level + params.damping * trend, seasonal[t - m]);
            forecasts.push(before + season);
            let new = params.alpha * (value - season) + (1.0 - params.alpha) * before;
            trend = params.beta * (new - level) + (1.0 - params.beta) * params.damping * trend;
            level = new;
            seasonal.push(params.gamma * (value - before) + (1.0 - params.gamma) * season);
        }
        forecasts
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn forecasts_are_those_of_the_textbook(values in prop::collection::vec(-9.0..9.0_f64, 4..150)) {
            // There `gamma` is what is here gamma (1 - alpha), and the trend follows the change of the level.
            let textbook = HoltWinters { gamma: 0.2 * 0.7, ..PARAMS };
            let mut model = HoltWintersModel::default();
            for (row, (value, right)) in values.iter().zip(slow(&values, &textbook)).enumerate() {
                let forecast = PARAMS.forecast(&model);
                prop_assert!(forecast.is_nan() && right.is_nan() || (forecast - right).abs() < 1e-9, "row {row}: {forecast} is not {right}");
                PARAMS.learn(&mut model, *value, forecast);
                prop_assert!(model.is_sound(&PARAMS));
            }
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 1..120),
        ) {
            let forecaster = HoltWinters { seasons: [3, 6], ..PARAMS };
            let (scores, _) = run(&Residuals { forecaster, coverage: 0.9, residuals: 10 }, &values);
            for (value, score) in values.iter().zip(scores) {
                prop_assert_eq!(score.is_nan(), !value.is_finite());
                prop_assert!(score.is_nan() || (0.0..=1e12).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn two_seasons_are_told_apart_and_a_missing_beat_found() {
        let noise = |n: u64| (scramble(n) >> 11) as f64 / (1u64 << 53) as f64;
        let mut values: Vec<f64> =
            (0..4_000).map(|n| [0.0, 8.0, 3.0, 1.0][n % 4] + if n % 28 < 8 { 5.0 } else { 0.0 } + noise(n as u64)).collect();
        values[3_001] -= 8.0;
        let forecaster = HoltWinters { seasons: [4, 28], alpha: 0.05, beta: 0.0, gamma: 0.1, damping: 1.0 };
        let (scores, expected) = run(&Residuals { forecaster, coverage: 0.99, residuals: 256 }, &values);
        let found: Vec<usize> = (500..4_000).filter(|row| scores[*row] >= 2.0).collect();
        assert_eq!(found, [3_001]);
        let off = (3_100..4_000).map(|row| (values[row] - noise(row as u64) + 0.5 - expected[row]).abs()).fold(0.0, f64::max);
        assert!(off < 0.6, "forecasts are off by {off}");
    }
}
