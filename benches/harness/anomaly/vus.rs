//! VUS-PR: the volume under the surface of precision and recall over all thresholds and over how far from a labelled window a detection may lie.
//!
//! J. Paparrizos, P. Boniol, T. Palpanas, R. Tsay, A. Elmore and M. Franklin, "Volume under the surface: a new accuracy evaluation measure for
//! time-series anomaly detection", PVLDB 15(11), 2022, as TSB-AD (Q. Liu and J. Paparrizos, "The elephant in the room", NeurIPS 2024) computes it:
//!
//! ```text
//! label     = 1 in a window, sqrt(1 - distance / l) up to l / 2 rows from it, 0 elsewhere; sums of neighbours, at most 1
//! TP        = sum of the labels of the rows at or above the threshold
//! positives = rows in windows + half the sum of the labels beside them at or above the threshold
//! recall    = min(1, TP / positives) · share of the stretches of labels above 0 that have a row at or above the threshold
//! precision = TP / rows at or above the threshold
//! AP(l)     = sum over 250 thresholds, the scores of ranks in equal steps, of precision · growth of recall
//! VUS-PR    = mean of AP(l) over l = 0, 1, ..., L; L is the period of the series, see [`period`]
//! ```

use crate::anomaly::nab::Series;

const THRESHOLDS: usize = 250;

/// Rows that are looked at for a period, and the longest lag.
const ROWS: usize = 20_000;
const LAGS: usize = 400;

/// What the series were found to be worth: the mean over those that have a window; `None` if none has. NaN scores count as the least.
pub fn mean<'a>(series: impl IntoIterator<Item = (&'a Series, &'a [f64])>) -> Option<f64> {
    let labelled = series.into_iter().filter(|(series, _)| !series.windows.is_empty());
    let volumes: Vec<f64> = labelled.map(|(series, scores)| volume(scores, &series.windows, period(&series.values))).collect();
    (!volumes.is_empty()).then(|| volumes.iter().sum::<f64>() / volumes.len() as f64)
}

/// The lag from 3 up to 302 of the greatest local maximum of the autocorrelation, in rows; 125 if there is none or it lies beyond.
fn period(values: &[f64]) -> usize {
    let values = &values[..values.len().min(ROWS)];
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let from_mean: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let product = |lag: usize| from_mean.iter().zip(&from_mean[lag..]).map(|(a, b)| a * b).sum::<f64>();
    let products: Vec<f64> = (3..=LAGS.min(values.len().saturating_sub(1))).map(product).collect();
    let peaks = (1..products.len().saturating_sub(1)).filter(|at| products[*at] > products[at - 1] && products[*at] > products[at + 1]);
    match peaks.max_by(|a, b| products[*a].total_cmp(&products[*b])) {
        Some(at @ 3..=300) => at + 3,
        _ => 125,
    }
}

fn volume(scores: &[f64], windows: &[(usize, usize)], reach: usize) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let score = |row: usize| if scores[row].is_nan() { f64::NEG_INFINITY } else { scores[row] };
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    let sorted: Vec<f64> = order.iter().map(|row| score(*row)).collect();
    (0..=reach).map(|reach| area(&order, &sorted, windows, reach)).sum::<f64>() / (reach + 1) as f64
}

/// Labels that reach `reach` / 2 rows beyond the windows.
fn labels(rows: usize, windows: &[(usize, usize)], reach: usize) -> Vec<f64> {
    let mut labels = vec![0.0; rows];
    for &(start, end) in windows {
        labels[start..=end.min(rows - 1)].fill(1.0);
    }
    for &(start, end) in windows {
        let part = |distance: usize| (1.0 - distance as f64 / reach.max(1) as f64).sqrt();
        let after = labels.iter_mut().skip(end + 1).take(reach / 2);
        after.zip(1..).for_each(|(label, distance)| *label += part(distance));
        let before = start.saturating_sub(reach / 2)..start;
        labels[before].iter_mut().rev().zip(1..).for_each(|(label, distance)| *label += part(distance));
    }
    labels.into_iter().map(|label: f64| label.min(1.0)).collect()
}

/// The area under precision and recall with labels of this reach; rows in the order of falling scores.
fn area(order: &[usize], sorted: &[f64], windows: &[(usize, usize)], reach: usize) -> f64 {
    let rows = order.len();
    let labels = labels(rows, windows, reach);
    // The number of its stretch for each row with a label.
    let (mut stretch, mut stretches) = (vec![usize::MAX; rows], 0);
    for row in (0..rows).filter(|row| labels[*row] > 0.0) {
        stretches += usize::from(row == 0 || labels[row - 1] == 0.0);
        stretch[row] = stretches - 1;
    }
    let hard = windows.iter().map(|(start, end)| end + 1 - start).sum::<usize>() as f64;
    let (mut found, mut found_stretches, mut taken, mut hits, mut inside) = (vec![false; stretches], 0, 0, 0.0, 0.0);
    let (mut area, mut before) = (0.0, 0.0);
    for number in 0..THRESHOLDS {
        let threshold = sorted[number * (rows - 1) / (THRESHOLDS - 1)];
        while taken < rows && sorted[taken] >= threshold {
            let row = order[taken];
            hits += labels[row];
            inside += f64::from(u8::from(windows.iter().any(|(start, end)| (*start..=*end).contains(&row))));
            if labels[row] > 0.0 && !std::mem::replace(&mut found[stretch[row]], true) {
                found_stretches += 1;
            }
            taken += 1;
        }
        let positives = hard + (hits - inside) / 2.0;
        let recall = (hits / positives).min(1.0) * f64::from(found_stretches) / stretches as f64;
        area += (recall - before) * hits / taken as f64;
        before = recall;
    }
    area
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{THRESHOLDS, labels, period, volume};

    /// The area, each threshold by itself.
    fn slow(scores: &[f64], windows: &[(usize, usize)], reach: usize) -> f64 {
        let labels = labels(scores.len(), windows, reach);
        let mut sorted = scores.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let hard = windows.iter().map(|(start, end)| end + 1 - start).sum::<usize>() as f64;
        let (mut area, mut before) = (0.0, 0.0);
        for number in 0..THRESHOLDS {
            let threshold = sorted[number * (scores.len() - 1) / (THRESHOLDS - 1)];
            let predicted: Vec<bool> = scores.iter().map(|score| *score >= threshold).collect();
            let hits: f64 = labels.iter().zip(&predicted).filter(|(_, predicted)| **predicted).map(|(label, _)| label).sum();
            let rows: Vec<(f64, bool)> = labels.iter().copied().zip(predicted.iter().copied()).collect();
            let stretches: Vec<_> = rows.split(|(label, _)| *label == 0.0).filter(|stretch| !stretch.is_empty()).collect();
            let found = stretches.iter().filter(|stretch| stretch.iter().any(|(_, predicted)| *predicted)).count();
            let in_windows = predicted
                .iter()
                .enumerate()
                .filter(|(row, predicted)| **predicted && windows.iter().any(|(a, b)| a <= row && row <= b))
                .count();
            let recall = (hits / (hard + (hits - in_windows as f64) / 2.0)).min(1.0) * found as f64 / stretches.len() as f64;
            area += (recall - before) * hits / predicted.iter().filter(|predicted| **predicted).count() as f64;
            before = recall;
        }
        area
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_volume_is_the_mean_of_areas(
            scores in prop::collection::vec((0..40_i32).prop_map(f64::from), 300..600),
            start in 0..250_usize,
            length in 1..40_usize,
            reach in 0..20_usize,
        ) {
            let windows = [(start, start + length - 1)];
            let right = (0..=reach).map(|reach| slow(&scores, &windows, reach)).sum::<f64>() / (reach + 1) as f64;
            prop_assert!((volume(&scores, &windows, reach) - right).abs() < 1e-9);
        }
    }

    #[test]
    fn labels_fall_off_beside_a_window() {
        let labels = labels(20, &[(8, 10)], 8);
        assert_eq!(labels[8..=10], [1.0; 3]);
        assert_eq!((labels[11], labels[14], labels[15]), ((7.0_f64 / 8.0).sqrt(), 0.5_f64.sqrt(), 0.0));
        assert_eq!((labels[7], labels[4], labels[3]), ((7.0_f64 / 8.0).sqrt(), 0.5_f64.sqrt(), 0.0));
    }

    #[test]
    fn the_better_detector_has_the_greater_volume() {
        let at = |rows: std::ops::Range<usize>| (0..1_000).map(|row| f64::from(u8::from(rows.contains(&row)))).collect::<Vec<f64>>();
        let windows = [(500, 539)];
        let [exact, late, none] = [at(500..540), at(530..570), at(900..940)].map(|scores| volume(&scores, &windows, 100));
        // Labels beyond the window count as missed.
        assert!(exact > 0.7 && exact > late + 0.2 && late > none + 0.2, "{exact}, {late} and {none}");
    }

    #[test]
    fn the_period_is_that_of_the_series() {
        let wave =
            |rows: usize, period: f64| (0..rows).map(|row| (row as f64 * std::f64::consts::TAU / period).sin()).collect::<Vec<f64>>();
        assert_eq!((period(&wave(4_000, 48.0)), period(&wave(2_000, 288.0))), (48, 288));
        // None, or too long to be seen.
        let ramp: Vec<f64> = (0..500).map(f64::from).collect();
        assert_eq!((period(&ramp), period(&wave(4_000, 350.0)), period(&[1.0])), (125, 125, 125));
    }
}
