//! Twin of [`crate::first_last`].

use crate::bits::Bits;
use crate::first_last::{FirstLast, Timed};
use crate::value::Payload;

/// Twin of [`crate::accumulate_first_last`].
pub fn accumulate<const LAST: bool, T: Payload>(
    cells: &mut [FirstLast<LAST>],
    slots: &[u32],
    rows: Timed<'_, T>,
    validity: Option<Bits<'_>>,
) {
    for (row, &slot) in slots.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            let cell = &mut cells[slot as usize];
            let (held, arrived) = ((cell.time(), cell.sequence()), (Some(rows.times[row]), Some(rows.sequence + row as u64)));
            if cell.is_empty() || if LAST { arrived > held } else { arrived < held } {
                *cell = FirstLast::of(rows.times[row], rows.sequence + row as u64, rows.values[row]);
            }
        }
    }
}

/// Twin of [`crate::fold_first_last`].
pub fn fold<const LAST: bool, T: Payload>(rows: Timed<'_, T>, validity: Option<Bits<'_>>) -> FirstLast<LAST> {
    let mut cell = [FirstLast::EMPTY];
    accumulate(&mut cell, &vec![0; rows.times.len()], rows, validity);
    cell[0]
}
