//! Twin of [`crate::histogram`](mod@crate::histogram).

use crate::bits::Bits;
use crate::histogram::Bins;

/// Twin of [`crate::histogram()`].
pub fn histogram(counts: &mut [u64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, bins: Bins<'_>) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            counts[slot as usize * bins.cells() + cell(value, bins)] += 1;
        }
    }
}

/// Number of a value's count among those of its group.
pub(crate) fn cell(value: f64, bins: Bins<'_>) -> usize {
    match bins {
        _ if value.is_nan() => bins.cells() - 1,
        Bins::Edges(edges) => edges.iter().take_while(|edge| **edge <= value).count(),
        Bins::Equal { low, .. } if value < low => 0,
        Bins::Equal { high, bins, .. } if value >= high => bins as usize + 1,
        Bins::Equal { low, high, bins } => {
            let bin = ((value - low) * (f64::from(bins) / (high - low))) as u32;
            1 + bin.min(bins - 1) as usize
        }
    }
}
