//! Twin of [`crate::aggregate`].

use crate::aggregate::Want;
use crate::bits::Bits;
use crate::cell::{Cell, order_key};
use crate::value::{Lane, Value};

/// Twin of [`crate::accumulate`].
pub fn accumulate<T: Value>(cells: &mut [Cell], slots: &[u32], values: &[T], validity: Option<Bits<'_>>, want: Want) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            value.to_lane().take(&mut cells[slot as usize], want);
        }
    }
}

/// Twin of [`crate::accumulate_count`].
pub fn accumulate_count(counts: &mut [u64], slots: &[u32]) {
    for &slot in slots {
        counts[slot as usize] += 1;
    }
}

/// One float into one cell; the sum by Neumaier's method as printed.
pub(crate) fn add_float(cell: &mut Cell, value: f64, want: Want) {
    cell.count += 1;
    if want.sum {
        let [sum, compensation] = cell.sum.map(f64::from_bits);
        let total = sum + value;
        let lost = if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
        cell.sum = [total.to_bits(), (compensation + lost).to_bits()];
    }
    if want.order {
        cell.min = cell.min.min(order_key(value));
        cell.max = cell.max.max(order_key(value));
    }
}

/// One integer into one cell.
pub(crate) fn add_int(cell: &mut Cell, value: i64, want: Want) {
    cell.count += 1;
    if want.sum {
        cell.add_int(i128::from(value));
    }
    if want.order {
        cell.min = cell.min.min(value);
        cell.max = cell.max.max(value);
    }
}
