//! Twin of [`crate::arg`].

use crate::arg::Arg;
use crate::bits::Bits;
use crate::value::Value;

/// Twin of [`crate::accumulate_arg`].
pub fn accumulate<const MAX: bool, T: Value>(
    cells: &mut [Arg<MAX>],
    slots: &[u32],
    values: &[T],
    payloads: &[i64],
    validity: Option<Bits<'_>>,
) {
    for (row, &slot) in slots.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            cells[slot as usize].take(Arg::of(values[row], payloads[row]));
        }
    }
}

/// Twin of [`crate::fold_arg`].
pub fn fold<const MAX: bool, T: Value>(values: &[T], payloads: &[i64], validity: Option<Bits<'_>>) -> Arg<MAX> {
    let mut cell = [Arg::EMPTY];
    accumulate(&mut cell, &vec![0; values.len()], values, payloads, validity);
    cell[0]
}
