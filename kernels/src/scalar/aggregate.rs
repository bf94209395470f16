//! Twin of [`crate::aggregate`].

use crate::aggregate::Want;
use crate::bits::Bits;
use crate::cell::{Cell, order_key};

/// Twin of [`crate::accumulate_f64`].
pub fn accumulate_f64(cells: &mut [Cell], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, want: Want) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            add_float(&mut cells[slot as usize], value, want);
        }
    }
}

/// Twin of [`crate::accumulate_i64`].
pub fn accumulate_i64(cells: &mut [Cell], slots: &[u32], values: &[i64], validity: Option<Bits<'_>>, want: Want) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            add_int(&mut cells[slot as usize], value, want);
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
