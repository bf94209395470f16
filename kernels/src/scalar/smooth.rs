//! Twin of [`crate::smooth`](mod@crate::smooth).

use crate::bits::Bits;

/// Twin of [`crate::smooth()`].
#[inline]
pub fn smooth(levels: &mut [f64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, alpha: f64, smoothed: &mut [f64]) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        let level = &mut levels[slot as usize];
        if value.is_finite() && validity.is_none_or(|bits| bits.get(row)) {
            let from = if level.is_nan() { value } else { *level };
            *level = from + alpha * (value - from).clamp(f64::MIN, f64::MAX);
        }
        smoothed[row] = *level;
    }
}
