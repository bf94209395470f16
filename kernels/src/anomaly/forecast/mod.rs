//! Forecast residuals: how far a value lies from what a model of the key's series expects, in units of a conformal interval.
//!
//! A [`Forecaster`] says what it expects; the interval around that is as wide as the residuals of late have been:
//!
//! ```text
//! residual = |x - forecast|
//! width    = the residual of rank ceil(coverage · (n + 1)) of the n latest ones       n at most `residuals`; the greatest if there are fewer
//! score    = residual / width                                                         1 at the edge of the interval
//! ```
//!
//! It is the interval of split conformal prediction (V. Vovk, A. Gammerman and G. Shafer, *Algorithmic Learning in a Random World*, 2005; J. Lei et al.,
//! "Distribution-free predictive inference for regression", 2018) over a window that moves along: of residuals that can change places it holds a share of
//! `coverage`, whatever their distribution and however bad the forecasts are. Quantiles are exact: the window is kept in order.
//!
//! * *Robust*: the model learns from a residual of at most [`MOST_WIDTHS`] widths (after S. Gelper, R. Fried and C. Croux, "Robust forecasting with
//!   exponential and Holt-Winters smoothing", 2010), so that an anomaly does not spoil the forecasts after it. The window takes the residual itself,
//!   so that a level that has shifted for good widens the interval and is learnt.
//! * *Warm-up*: values score 0 until the model has begun, and [`LEAST_RESIDUALS`] or half of `residuals`, whichever is less, are known.
//! * *Missing values*: a null, NaN or infinite value scores NaN, and is no step in time for the model.
//!
//! State: that of the model, and 16 bytes for each residual of the window. Scores are the same bits whatever the batches or backend.

pub mod ar_rls;
pub mod holt_winters;

use crate::anomaly::robust::LatestValues;
use crate::anomaly::stepwise::{Judged, Stepwise, in_deviations};

/// Residuals that must be known before values are scored.
pub const LEAST_RESIDUALS: usize = 32;

/// Widths of the interval that a model learns from at most.
pub const MOST_WIDTHS: f64 = 2.0;

/// A model of a series that says what comes next.
pub trait Forecaster {
    /// What is known of one key; the default is a key not yet seen.
    type Model: Default + Clone;

    /// What is expected next; NaN as long as the model has not begun.
    fn forecast(&self, model: &Self::Model) -> f64;

    /// Takes in the value that has come, or what is left of it when its residual is cut off. `forecast` is what was expected.
    fn learn(&self, model: &mut Self::Model, value: f64, forecast: f64);
}

/// A detector of values that a model does not expect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residuals<F> {
    /// The model.
    pub forecaster: F,
    /// Share of residuals that an interval holds, above 0, below 1.
    pub coverage: f64,
    /// Latest residuals that tell the width of an interval, at least 2.
    pub residuals: u32,
}

/// What is known of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResidualCell<M> {
    /// The model.
    pub model: M,
    /// The latest residuals.
    pub latest: LatestValues,
}

impl<F> Residuals<F> {
    /// The half of the interval, of residuals in order; NaN of none.
    fn width(&self, sorted: &[f64]) -> f64 {
        let rank = (self.coverage * (sorted.len() + 1) as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }
}

impl<F: Forecaster> Stepwise for Residuals<F> {
    type Cell = ResidualCell<F::Model>;

    fn take(&self, cell: &mut Self::Cell, value: f64) -> Judged {
        let forecast = self.forecaster.forecast(&cell.model);
        if forecast.is_nan() {
            self.forecaster.learn(&mut cell.model, value, forecast);
            return Judged { score: 0.0, expected: f64::NAN };
        }
        let (residual, known) = ((value - forecast).abs(), cell.latest.sorted().len());
        let is_known = known >= LEAST_RESIDUALS.min(self.residuals as usize / 2).max(1);
        let width = self.width(cell.latest.sorted());
        let score = if is_known { in_deviations(residual, width, forecast) } else { 0.0 };
        let most = MOST_WIDTHS * width;
        let taken = if is_known && residual > most && most > 0.0 { forecast + most.copysign(value - forecast) } else { value };
        self.forecaster.learn(&mut cell.model, taken, forecast);
        cell.latest.take(residual, self.residuals as usize);
        Judged { score, expected: forecast }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::{Forecaster, ResidualCell, Residuals};
    use crate::anomaly::stepwise::judge;

    /// Scores and forecasts of one key.
    pub(crate) fn run<F: Forecaster>(detector: &Residuals<F>, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut cells, mut scores, mut expected) = ([ResidualCell::default()], vec![9.0; values.len()], vec![9.0; values.len()]);
        judge(detector, &mut cells, &vec![0; values.len()], values, None, &mut scores, Some(&mut expected));
        (scores, expected)
    }

    /// Expects the value that came last.
    #[derive(Clone, Copy)]
    struct Last;

    impl Forecaster for Last {
        type Model = Option<f64>;

        fn forecast(&self, model: &Option<f64>) -> f64 {
            model.unwrap_or(f64::NAN)
        }

        fn learn(&self, model: &mut Option<f64>, value: f64, _forecast: f64) {
            *model = Some(value);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_residuals_by_the_quantile_of_those_before(
            values in prop::collection::vec(prop_oneof![9 => -1.0..1.0_f64, 1 => -30.0..30.0_f64], 2..200), coverage in 0.5..0.99_f64,
        ) {
            let (scores, expected) = run(&Residuals { forecaster: Last, coverage, residuals: 20 }, &values);
            let (mut residuals, mut last) = (Vec::new(), values[0]);
            for row in 1..values.len() {
                prop_assert_eq!(expected[row], last);
                let residual = (values[row] - last).abs();
                let mut latest: Vec<f64> = residuals.iter().rev().take(20).copied().collect();
                latest.sort_by(f64::total_cmp);
                residuals.push(residual);
                last = values[row];
                if latest.len() < 10 {
                    prop_assert_eq!(scores[row], 0.0);
                    continue;
                }
                let rank = ((coverage * (latest.len() + 1) as f64).ceil() as usize).min(latest.len());
                let width = latest[rank - 1];
                let right = (residual / width.max(1e-9 * expected[row].abs())).min(1e12);
                prop_assert!((scores[row] - right).abs() <= 1e-9 * right, "row {row}: {} is not {right}", scores[row]);
                if residual > 2.0 * width && width > 0.0 {
                    last = expected[row] + 2.0 * width * (values[row] - expected[row]).signum();
                }
            }
        }
    }

    #[test]
    fn an_interval_holds_its_share_of_any_residuals() {
        use crate::testing::scramble;
        // Heavy tails: the forecasts are as bad as can be.
        let values: Vec<f64> = (0..20_000).map(|n| 1.0 / ((scramble(n) >> 11) as f64 / (1u64 << 53) as f64 + 1e-6)).collect();
        let (scores, _) = run(&Residuals { forecaster: Last, coverage: 0.9, residuals: 200 }, &values);
        let outside = scores.iter().filter(|score| **score > 1.0).count() as f64 / 20_000.0;
        assert!((0.08..0.12).contains(&outside), "{outside} lie outside");
    }
}
