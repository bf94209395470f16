//! Twin of [`crate::co_moments`].

use crate::bits::Bits;
use crate::co_moments::CoMoments;
use crate::value::Value;

/// Twin of [`crate::accumulate_co_moments`].
pub fn accumulate<T: Value, U: Value>(cells: &mut [CoMoments], slots: &[u32], x: &[T], y: &[U], validity: Option<Bits<'_>>) {
    for (row, &slot) in slots.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            cells[slot as usize].add(x[row].to_f64(), y[row].to_f64());
        }
    }
}

/// Twin of [`crate::fold_co_moments`].
pub fn fold<T: Value, U: Value>(x: &[T], y: &[U], validity: Option<Bits<'_>>) -> CoMoments {
    let mut cell = [CoMoments::EMPTY];
    accumulate(&mut cell, &vec![0; x.len()], x, y, validity);
    cell[0]
}
