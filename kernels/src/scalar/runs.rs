//! Twin of [`crate::runs`].

use super::sketch::hash::canonical;
use crate::runs::rank;

/// Twin of [`crate::distinct_in_runs`].
pub fn distinct(starts: &[u32], values: &[u64], counts: &mut [u32]) {
    let mut sorted = Vec::new();
    for (run, count) in starts.windows(2).zip(counts) {
        *count = distinct_in(values[run[0] as usize..run[1] as usize].iter().copied(), &mut sorted);
    }
}

/// Twin of [`crate::distinct_floats_in_runs`].
pub fn distinct_floats(starts: &[u32], values: &[f64], counts: &mut [u32]) {
    let mut sorted = Vec::new();
    for (run, count) in starts.windows(2).zip(counts) {
        *count = distinct_floats_in(&values[run[0] as usize..run[1] as usize], &mut sorted);
    }
}

/// The same of one run; `sorted` is room for its values.
pub(crate) fn distinct_floats_in(values: &[f64], sorted: &mut Vec<u64>) -> u32 {
    distinct_in(values.iter().map(|&value| canonical(value)), sorted)
}

/// The same of one run; `sorted` is room for its values.
pub(crate) fn distinct_in(values: impl Iterator<Item = u64>, sorted: &mut Vec<u64>) -> u32 {
    sorted.clear();
    sorted.extend(values);
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() as u32
}

/// Twin of [`crate::quantiles_in_runs`].
pub fn quantiles(starts: &[u32], values: &[f64], parts: &[f64], quantiles: &mut [f64]) {
    let mut sorted = Vec::new();
    for (number, run) in starts.windows(2).enumerate() {
        let quantiles = quantiles.iter_mut().skip(number).step_by(starts.len() - 1);
        quantiles_of(&values[run[0] as usize..run[1] as usize], parts, quantiles, &mut sorted);
    }
}

/// The same of one run; `sorted` is room for its values.
pub(crate) fn quantiles_of<'a>(values: &[f64], parts: &[f64], quantiles: impl Iterator<Item = &'a mut f64>, sorted: &mut Vec<f64>) {
    sorted.clear();
    sorted.extend_from_slice(values);
    sorted.sort_unstable_by(f64::total_cmp);
    for (part, quantile) in parts.iter().zip(quantiles) {
        *quantile = if sorted.is_empty() { f64::NAN } else { sorted[rank(*part, sorted.len())] };
    }
}
