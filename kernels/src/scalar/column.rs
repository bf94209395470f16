//! Twin of [`crate::column`].

use crate::aggregate::Want;
use crate::bits::Bits;
use crate::cell::Cell;
use crate::value::{Lane, Value};

/// Twin of [`crate::min_max_i64`].
pub fn min_max_i64(values: &[i64]) -> Option<(i64, i64)> {
    Some((*values.iter().min()?, *values.iter().max()?))
}

/// Twin of [`crate::fold`].
pub fn fold<T: Value>(values: &[T], validity: Option<Bits<'_>>, want: Want) -> Cell {
    let mut cell = Cell::EMPTY;
    for (row, &value) in values.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            value.to_lane().take(&mut cell, want);
        }
    }
    cell
}

/// The watermark once the latest time is `max`; `i64::MIN`, which holds nothing back, where that is `i64::MIN`.
#[inline(always)]
pub(crate) fn watermark(max: i64, delay: i64) -> i64 {
    if max == i64::MIN { i64::MIN } else { max.saturating_sub(delay).saturating_sub(1) }
}

/// Whether a row is late once the latest time before it is `max`.
#[inline(always)]
pub(crate) fn is_behind(time: i64, max: i64, delay: i64) -> bool {
    let watermark = watermark(max, delay);
    watermark > i64::MIN && time <= watermark
}

/// Twin of [`crate::behind_watermark`].
pub fn behind_watermark(times: &[i64], max_before: i64, delay: i64) -> (i64, bool) {
    let (mut max, mut behind) = (max_before, false);
    for &time in times {
        behind |= is_behind(time, max, delay);
        max = max.max(time);
    }
    (max, behind)
}

/// Twin of [`crate::running_watermarks`].
pub fn running_watermarks(times: &[i64], max_before: i64, delay: i64, out: &mut Vec<i64>) -> i64 {
    let mut max = max_before;
    for &time in times {
        out.push(watermark(max, delay));
        max = max.max(time);
    }
    max
}
