//! Twin of [`crate::anomaly::calibration`].

use crate::anomaly::calibration::{CalibrationCell, bucket};

/// Twin of [`crate::p_values`].
pub fn p_values(cells: &mut [CalibrationCell], slots: &[u32], scores: &[f64], p: &mut [f64]) {
    for ((&slot, &score), p) in slots.iter().zip(scores).zip(p) {
        let cell = &mut cells[slot as usize];
        if score.is_nan() {
            *p = f64::NAN;
            continue;
        }
        let (bucket, share) = bucket(score);
        *p = cell.p(bucket, share, cell.counts[bucket + 1..].iter().sum());
        cell.count(bucket);
    }
}
