//! Twin of [`crate::moments`].

use crate::bits::Bits;
use crate::moments::Moments;
use crate::value::Value;

/// Twin of [`crate::accumulate_moments`].
pub fn accumulate<T: Value>(cells: &mut [Moments], slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
    for (row, (&slot, value)) in slots.iter().zip(values).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            cells[slot as usize].add(value.to_f64());
        }
    }
}

/// Twin of [`crate::fold_moments`].
pub fn fold<T: Value>(values: &[T], validity: Option<Bits<'_>>) -> Moments {
    let mut cell = Moments::EMPTY;
    for (row, value) in values.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            cell.add(value.to_f64());
        }
    }
    cell
}
