//! Twin of [`crate::selection`].

use std::ops::RangeInclusive;

use crate::bits::Bits;

/// Twin of [`crate::select_range`].
pub fn select_range<T: Copy + PartialOrd>(values: &[T], range: RangeInclusive<T>, selection: &mut Vec<u8>) {
    let bit = |byte: u8, (bit, value): (usize, &T)| byte | u8::from(range.contains(value)) << bit;
    selection.extend(values.chunks(8).map(|values| values.iter().enumerate().fold(0, bit)));
}

/// Twin of [`crate::selected_rows`].
pub fn selected_rows(selection: Bits<'_>, rows: &mut Vec<u32>) {
    rows.extend((0..selection.len).filter(|&row| selection.get(row)).map(|row| row as u32));
}

/// Twin of [`crate::compact`].
pub fn compact<T: Copy>(values: &[T], selection: Bits<'_>, selected: &mut Vec<T>) {
    selected.extend(values.iter().enumerate().filter(|(row, _)| selection.get(*row)).map(|(_, value)| *value));
}

/// Twin of [`crate::gather`].
pub fn gather<T: Copy>(values: &[T], rows: &[u32], gathered: &mut Vec<T>) {
    gathered.extend(rows.iter().map(|&row| values[row as usize]));
}

/// Twin of [`crate::split`].
pub fn split<T: Copy>(values: &[T], selection: Bits<'_>, others: &mut Vec<T>, selected: &mut Vec<T>) {
    for (row, &value) in values.iter().enumerate() {
        if selection.get(row) { selected.push(value) } else { others.push(value) }
    }
}
