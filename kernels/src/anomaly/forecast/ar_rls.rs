//! AR by recursive least squares: the next value as a sum of the latest, with weights that follow the series.
//!
//! L. Ljung and T. Söderström, *Theory and Practice of Recursive Identification*, 1983; S. Haykin, *Adaptive Filter Theory*, chapter on RLS. Values
//! count as `z = (x - mean) / deviation` of the first values, so that one start fits all series:
//!
//! ```text
//! u        = (1, z of the latest `order` values)                 the latest first
//! forecast = w' u
//! k        = P u / (forgetting + u' P u)
//! w        = w + k · (z - forecast)
//! P        = (P - k u' P) / forgetting,   at first P = I / RIDGE, w = 0
//! ```
//!
//! which are the weights that minimise the squared errors so far, each counting `forgetting` times as much as the one after it, with a ridge of
//! [`RIDGE`] that is forgotten too.
//!
//! * *Beginning*: the first `max(2 · order, 10)` values give mean and deviation, and are taken in then.
//! * A series that shows the model nothing new makes P grow without end: as long as its trace is above [`MOST_TRACE`] nothing is forgotten.
//!
//! State: 8 (order + 1)² bytes a key, and 16 (order + 1). Cost: 3 (order + 1)² steps a row.

use crate::anomaly::forecast::Forecaster;
use crate::anomaly::stepwise::{LEAST_FLOOR, MOST, RELATIVE_FLOOR, Running};

/// How much the weights count beside the errors, at first.
pub const RIDGE: f64 = 0.01;

/// Trace of P above which nothing is forgotten.
pub const MOST_TRACE: f64 = 1e6;

/// Most deviations that a value counts as.
const MOST_DEVIATIONS: f64 = 1e6;

/// Parameters of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArRls {
    /// Latest values that tell the next one, at least 1.
    pub order: u32,
    /// How much an error counts beside the one after it, above 0, at most 1: the memory is about 1 / (1 - forgetting) values.
    pub forgetting: f64,
}

/// What the model knows of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArRlsModel {
    /// The first values, until there are enough.
    pub first: Vec<f64>,
    /// Their mean, and their deviation; 0 until there are enough.
    pub mean: f64,
    /// See there.
    pub deviation: f64,
    /// 1, then the latest values, the latest first.
    pub inputs: Vec<f64>,
    /// Their weights.
    pub weights: Vec<f64>,
    /// P, by row and column.
    pub inverse: Vec<f64>,
}

impl ArRls {
    fn beginning(&self) -> usize {
        (2 * self.order as usize).max(10)
    }

    fn begin(&self, model: &mut ArRlsModel) {
        let (first, mut moments) = (std::mem::take(&mut model.first), Running::default());
        first.iter().for_each(|value| moments.add(*value));
        model.mean = moments.mean;
        model.deviation = moments.deviation().max(RELATIVE_FLOOR * model.mean.abs()).max(LEAST_FLOOR.sqrt());
        let d = self.order as usize + 1;
        model.weights = vec![0.0; d];
        model.inverse = (0..d * d).map(|at| if at / d == at % d { 1.0 / RIDGE } else { 0.0 }).collect();
        model.inputs = std::iter::once(1.0).chain(first[..d - 1].iter().rev().map(|value| model.scaled(*value))).collect();
        first[d - 1..].iter().for_each(|value| self.update(model, *value));
    }

    fn update(&self, model: &mut ArRlsModel, value: f64) {
        let (z, d) = (model.scaled(value), model.inputs.len());
        let gain: Vec<f64> = model.inverse.chunks(d).map(|row| dot(row, &model.inputs)).collect();
        let trace: f64 = model.inverse.iter().step_by(d + 1).sum();
        let forgetting = if trace > MOST_TRACE { 1.0 } else { self.forgetting };
        let norm = forgetting + dot(&gain, &model.inputs);
        let error = z - dot(&model.weights, &model.inputs);
        model.weights.iter_mut().zip(&gain).for_each(|(weight, gain)| *weight += gain / norm * error);
        for (i, row) in model.inverse.chunks_mut(d).enumerate() {
            // Each pair of places is worked out alike, so that P stays symmetric.
            row.iter_mut().zip(&gain).for_each(|(p, gain_j)| *p = (*p - gain[i] * gain_j / norm) / forgetting);
        }
        model.inputs[1..].rotate_right(1);
        model.inputs[1] = z;
        let sound = model.weights.iter().chain(&model.inverse).all(|number| number.is_finite());
        if !sound || model.inverse.iter().step_by(d + 1).any(|p| *p <= 0.0) {
            // Rounding has spoilt it: the weights are learnt anew.
            model.weights.fill(0.0);
            model.inverse.iter_mut().enumerate().for_each(|(at, p)| *p = if at / d == at % d { 1.0 / RIDGE } else { 0.0 });
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl ArRlsModel {
    /// Whether this can be what a kernel with these parameters left: for what comes from a snapshot.
    pub fn is_sound(&self, params: &ArRls) -> bool {
        let has_begun = self.deviation != 0.0;
        let d = if has_begun { params.order as usize + 1 } else { 0 };
        let lengths = (self.inputs.len(), self.weights.len(), self.inverse.len()) == (d, d, d * d);
        let first = if has_begun { self.first.is_empty() } else { self.first.len() < params.beginning() };
        let mut numbers =
            self.first.iter().chain(&self.inputs).chain(&self.weights).chain(&self.inverse).chain([&self.mean, &self.deviation]);
        lengths && first && self.deviation >= 0.0 && numbers.all(|number| number.is_finite())
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        let numbers = self.first.capacity() + self.inputs.capacity() + self.weights.capacity() + self.inverse.capacity();
        numbers * size_of::<f64>()
    }

    fn scaled(&self, value: f64) -> f64 {
        ((value - self.mean) / self.deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    }
}

impl Forecaster for ArRls {
    type Model = ArRlsModel;

    fn forecast(&self, model: &ArRlsModel) -> f64 {
        if model.deviation == 0.0 {
            return f64::NAN;
        }
        let z = dot(&model.weights, &model.inputs).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS);
        (model.mean + z * model.deviation).clamp(-MOST, MOST)
    }

    fn learn(&self, model: &mut ArRlsModel, value: f64, forecast: f64) {
        if !forecast.is_nan() {
            return self.update(model, value);
        }
        model.first.push(value);
        if model.first.len() == self.beginning() {
            self.begin(model);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{ArRls, ArRlsModel, RIDGE};
    use crate::anomaly::forecast::tests::run;
    use crate::anomaly::forecast::{Forecaster, Residuals};
    use crate::testing::{FLOATS, scramble};

    /// The weights that minimise the sum of the errors' squares with the ridge, from the normal equations.
    fn slow(z: &[f64], params: &ArRls) -> Vec<f64> {
        let (d, steps) = (params.order as usize + 1, z.len() - params.order as usize);
        let mut a: Vec<Vec<f64>> =
            (0..d).map(|i| (0..=d).map(|j| if i == j { RIDGE * params.forgetting.powi(steps as i32) } else { 0.0 }).collect()).collect();
        for at in params.order as usize..z.len() {
            let weight = params.forgetting.powi((z.len() - 1 - at) as i32);
            let inputs: Vec<f64> = std::iter::once(1.0).chain((1..d).map(|lag| z[at - lag])).collect();
            for i in 0..d {
                (0..d).for_each(|j| a[i][j] += weight * inputs[i] * inputs[j]);
                a[i][d] += weight * inputs[i] * z[at];
            }
        }
        // Elimination; the matrix is positive definite.
        for i in 0..d {
            let pivot = a[i].clone();
            for (k, row) in a.iter_mut().enumerate() {
                let factor = row[i] / pivot[i];
                if k != i {
                    row.iter_mut().zip(&pivot).for_each(|(x, pivot)| *x -= factor * pivot);
                }
            }
        }
        (0..d).map(|i| a[i][d] / a[i][i]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn weights_are_those_of_the_normal_equations(values in prop::collection::vec(-9.0..9.0_f64, 12..80), order in 1..5_u32) {
            let params = ArRls { order, forgetting: 0.97 };
            let mut model = ArRlsModel::default();
            for value in &values {
                let forecast = params.forecast(&model);
                params.learn(&mut model, *value, forecast);
                prop_assert!(model.is_sound(&params));
            }
            let z: Vec<f64> = values.iter().map(|value| (value - model.mean) / model.deviation).collect();
            for (weight, right) in model.weights.iter().zip(slow(&z, &params)) {
                prop_assert!((weight - right).abs() < 1e-5 * right.abs().max(1.0), "{weight} is not {right}");
            }
        }

        #[test]
        fn whatever_the_values_scores_are_numbers_from_0_on(
            values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>(), Just(3.0)], 1..150), forgetting in 0.5..1.0_f64,
        ) {
            let (scores, _) = run(&Residuals { forecaster: ArRls { order: 3, forgetting }, coverage: 0.9, residuals: 10 }, &values);
            for (value, score) in values.iter().zip(scores) {
                prop_assert_eq!(score.is_nan(), !value.is_finite());
                prop_assert!(score.is_nan() || (0.0..=1e12).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn a_wave_is_learnt_and_a_break_in_it_found() {
        let noise = |n: u64| (scramble(n) >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        let mut values: Vec<f64> = (0..3_000).map(|n| 50.0 + 10.0 * (n as f64 / 5.0).sin() + 0.1 * noise(n)).collect();
        values[2_500] = 50.0 + 10.0 * (2_500.0_f64 / 5.0).sin() + 1.5;
        let (scores, expected) =
            run(&Residuals { forecaster: ArRls { order: 8, forgetting: 0.999 }, coverage: 0.99, residuals: 256 }, &values);
        let off = (1_000..2_500).map(|row| (values[row] - expected[row]).abs()).fold(0.0, f64::max);
        assert!(off < 0.3, "forecasts are off by {off}");
        assert!(scores[2_500] > 4.0, "{}", scores[2_500]);
        assert!(scores[1_000..2_500].iter().all(|score| *score < 2.0));
    }

    #[test]
    fn a_constant_series_is_expected_for_good() {
        let mut values = vec![7.0; 50_000];
        values[40_000] = 8.0;
        let (scores, expected) = run(&Residuals { forecaster: ArRls { order: 4, forgetting: 0.9 }, coverage: 0.9, residuals: 64 }, &values);
        assert!(scores[40_000] > 100.0, "{}", scores[40_000]);
        assert!(expected[20..40_000].iter().all(|value| (value - 7.0).abs() < 1e-6));
    }
}
