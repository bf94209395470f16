//! Twin of [`crate::anomaly::ewma`].

use crate::anomaly::ewma::{Ewma, EwmaCell, LEAST_MEAN, RELATIVE_FLOOR};
use crate::bits::Bits;

/// Twin of [`crate::ewma`].
pub fn ewma(cells: &mut [EwmaCell], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, params: &Ewma, scores: &mut [f64]) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        let valid = value.is_finite() && validity.is_none_or(|bits| bits.get(row));
        scores[row] = if valid { step(&mut cells[slot as usize], value, params) } else { f64::NAN };
    }
}

/// Score of one finite value, which then is taken in.
fn step(cell: &mut EwmaCell, value: f64, params: &Ewma) -> f64 {
    let mean = if cell.count == 0 { value } else { cell.mean };
    let diff = (value - mean).clamp(f64::MIN, f64::MAX);
    let floor = RELATIVE_FLOOR * mean.abs().max(LEAST_MEAN);
    let score = (diff.abs() / cell.variance.sqrt().max(floor)).min(f64::MAX);
    let warm = cell.count >= params.warmup;
    let increment = params.alpha * diff;
    cell.mean = mean + increment;
    cell.variance = ((1.0 - params.alpha) * (cell.variance + diff * increment)).min(f64::MAX);
    cell.count += 1;
    if warm { score } else { 0.0 }
}
