//! Forecast residuals: how far a value lies from what a model of the series expects, in units of a conformal interval.

use std::fmt;

use thalweg_kernels::{self as kernels, ArRlsModel, HoltWintersModel, LatestValues, ResidualCell, Residuals};

use crate::error::{Error, Result};
use crate::operator::detect::stepwise::{Cell, State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: twice as far off as the edge of the interval.
pub const THRESHOLD: f64 = 2.0;

/// Longest season, and largest window of residuals.
const MOST_ROWS: u64 = 1 << 20;
const MOST_RESIDUALS: u64 = 1 << 16;

/// Most latest values that tell the next one: a row costs their number squared.
const MOST_ORDER: u64 = 64;

/// The interval around a forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Share of residuals that it holds, above 0, below 1.
    pub coverage: f64,
    /// Latest residuals that tell how wide it is, from 2 to 65,536.
    pub residuals: u32,
}

impl Default for Interval {
    fn default() -> Interval {
        Interval { coverage: 0.99, residuals: 256 }
    }
}

impl Interval {
    fn check(&self) -> Result<()> {
        if !(self.coverage > 0.0 && self.coverage < 1.0) {
            return Err(Error::config(format!("`coverage` is {}; it must lie between 0 and 1, both excluded", self.coverage)));
        }
        check_rows("residuals", self.residuals.into(), 2, MOST_RESIDUALS)
    }

    fn of<F>(&self, forecaster: F) -> Residuals<F> {
        Residuals { forecaster, coverage: self.coverage, residuals: self.residuals }
    }
}

/// Parameters of Holt–Winters, see [`holt_winters`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoltWinters {
    /// Rows of a season, such as 24 of a day of hours: from 2 on, 0 for none.
    pub season: u32,
    /// Rows of a second season, such as 168 of a week of hours; 0 for none.
    pub second_season: u32,
    /// Weight of a value in the level, above 0, at most 1.
    pub alpha: f64,
    /// Weight of a change of the level in the trend, from 0 to 1.
    pub beta: f64,
    /// Weight of a value in its place of the season, from 0 to 1.
    pub gamma: f64,
    /// What is left of the trend from one value to the next, from 0 to 1.
    pub damping: f64,
    /// The interval that tells scores.
    pub interval: Interval,
}

impl Default for HoltWinters {
    fn default() -> HoltWinters {
        HoltWinters { season: 0, second_season: 0, alpha: 0.1, beta: 0.01, gamma: 0.1, damping: 0.98, interval: Interval::default() }
    }
}

/// Parameters of AR by recursive least squares, see [`ar_rls`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArRls {
    /// Latest values that tell the next one, from 1 to 64.
    pub order: u32,
    /// How much an error counts beside the one after it, above 0.5, at most 1: the memory is about 1 / (1 − forgetting) rows.
    pub forgetting: f64,
    /// The interval that tells scores.
    pub interval: Interval,
}

impl Default for ArRls {
    fn default() -> ArRls {
        ArRls { order: 8, forgetting: 0.999, interval: Interval::default() }
    }
}

/// Detection by the residuals of Holt–Winters: level, damped trend and a season of so many rows, each smoothed exponentially; 0 for no season.
/// [`HoltWinters`] has a second season. The forecast is what it expects.
///
/// The score is the residual in half widths of a conformal interval, that of which 99% of the latest 256 residuals lie inside: 1 is its edge, the
/// threshold [`THRESHOLD`]. A key's rows score 0 until there is a whole season and 32 residuals.
///
/// Equations and sources: [`thalweg_kernels::anomaly::forecast`]. State: 8 bytes for each row of a season and 16 for each residual, 4 kB a key.
pub fn holt_winters(season: u32) -> Detection {
    Detection::new(HoltWinters { season, ..HoltWinters::default() })
}

/// Detection by the residuals of an autoregressive model: the next value as a weighted sum of the latest 8, the weights by recursive least squares that
/// forget. For series in which each value follows from those before, waves of any length among them. The forecast is what it expects; scores are
/// those of [`holt_winters`].
///
/// Equations and sources: [`thalweg_kernels::anomaly::forecast`]. State: 8 bytes for each pair of the order and 16 for each residual, 5 kB a key.
pub fn ar_rls() -> Detection {
    Detection::new(ArRls::default())
}

impl fmt::Display for HoltWinters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HoltWinters { season, second_season, alpha, beta, gamma, damping, .. } = self;
        write!(
            f,
            "holt_winters(season={season}, second_season={second_season}, alpha={alpha}, beta={beta}, gamma={gamma}, damping={damping})"
        )
    }
}

impl fmt::Display for ArRls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ar_rls(order={}, forgetting={})", self.order, self.forgetting)
    }
}

impl DetectorSpec for HoltWinters {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let HoltWinters { season, second_season, alpha, beta, gamma, damping, interval } = *self;
        let weights = [("beta", beta), ("gamma", gamma), ("damping", damping)];
        if !(alpha > 0.0 && alpha <= 1.0) {
            return Err(Error::config(format!("`alpha` is {alpha}; it must lie between 0 and 1, 0 excluded")));
        }
        if let Some((name, weight)) = weights.iter().find(|(_, weight)| !(0.0..=1.0).contains(weight)) {
            return Err(Error::config(format!("`{name}` is {weight}; it must lie between 0 and 1")));
        }
        for (name, rows) in [("season", season), ("second_season", second_season)].into_iter().filter(|(_, rows)| *rows != 0) {
            check_rows(name, rows.into(), 2, MOST_ROWS)?;
        }
        interval.check()?;
        let forecaster = kernels::HoltWinters { alpha, beta, gamma, damping, seasons: [season, second_season] };
        Ok(Box::new(State::of(interval.of(forecaster))))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

impl DetectorSpec for ArRls {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let ArRls { order, forgetting, interval } = *self;
        check_rows("order", order.into(), 1, MOST_ORDER)?;
        if !(forgetting > 0.5 && forgetting <= 1.0) {
            return Err(Error::config(format!("`forgetting` is {forgetting}; it must lie between 0.5 and 1, 0.5 excluded")));
        }
        interval.check()?;
        Ok(Box::new(State::of(interval.of(kernels::ArRls { order, forgetting }))))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

fn save_latest(latest: &LatestValues, out: &mut Writer) {
    out.floats(&latest.in_order_of_arrival().collect::<Vec<f64>>());
}

fn load_latest<F>(params: &Residuals<F>, from: &mut Reader<'_>) -> Result<LatestValues> {
    LatestValues::restored(from.floats()?, params.residuals as usize).ok_or_else(|| damaged("a key has more residuals than its window"))
}

impl Cell<Residuals<kernels::HoltWinters>> for ResidualCell<HoltWintersModel> {
    const HELD: Option<fn(&Self) -> usize> = Some(|cell| cell.model.bytes() + cell.latest.bytes());

    fn save(&self, out: &mut Writer) {
        let HoltWintersModel { first, count, level, trend, seasons } = &self.model;
        out.word(*count);
        out.float(*level);
        out.float(*trend);
        [first, &seasons[0], &seasons[1]].into_iter().for_each(|numbers| out.floats(numbers));
        save_latest(&self.latest, out);
    }

    fn load(params: &Residuals<kernels::HoltWinters>, from: &mut Reader<'_>) -> Result<Self> {
        let (count, level, trend, first) = (from.word()?, from.float()?, from.float()?, from.floats()?);
        let model = HoltWintersModel { first, count, level, trend, seasons: [from.floats()?, from.floats()?] };
        if !model.is_sound(&params.forecaster) {
            return Err(damaged("the seasons of a key are of another length"));
        }
        Ok(ResidualCell { model, latest: load_latest(params, from)? })
    }
}

impl Cell<Residuals<kernels::ArRls>> for ResidualCell<ArRlsModel> {
    const HELD: Option<fn(&Self) -> usize> = Some(|cell| cell.model.bytes() + cell.latest.bytes());

    fn save(&self, out: &mut Writer) {
        let ArRlsModel { first, mean, deviation, inputs, weights, inverse } = &self.model;
        out.float(*mean);
        out.float(*deviation);
        [first, inputs, weights, inverse].into_iter().for_each(|numbers| out.floats(numbers));
        save_latest(&self.latest, out);
    }

    fn load(params: &Residuals<kernels::ArRls>, from: &mut Reader<'_>) -> Result<Self> {
        let (mean, deviation, first) = (from.float()?, from.float()?, from.floats()?);
        let model = ArRlsModel { first, mean, deviation, inputs: from.floats()?, weights: from.floats()?, inverse: from.floats()? };
        if !model.is_sound(&params.forecaster) {
            return Err(damaged("the model of a key is of another order"));
        }
        Ok(ResidualCell { model, latest: load_latest(params, from)? })
    }
}
