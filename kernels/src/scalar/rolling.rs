//! Twin of [`crate::rolling`]: every window computed from scratch from the rows that it holds.

use crate::cell::two_sum;
use crate::rolling::answers::{BLOCK, Buffer, Moments};
use crate::rolling::integers::{Held, Total};
use crate::rolling::order::Order;
use crate::rolling::sums::{is_null, stored};
use crate::rolling::{Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns};
use crate::value::Value;

/// Twin of [`crate::rolling_moments`].
pub fn moments(windows: &mut RollingMoments, rows: &RollingRows<'_>, mut answers: MomentColumns<'_>) {
    let mut buffer = Buffer::NEW;
    for start in (0..rows.slots.len()).step_by(BLOCK) {
        let len = BLOCK.min(rows.slots.len() - start);
        for row in 0..len {
            let (slot, time) = (rows.slots[start + row] as usize, rows.time(start + row));
            let value = stored(rows.values[start + row], rows.is_valid(start + row));
            let before = moments_of(&preceding(windows, slot, time));
            windows.step(slot, value, time);
            buffer.values[row] = value;
            buffer.put(row, if windows.frame == Frame::Preceding { before } else { moments_of(&held(windows, slot, i64::MIN)) });
        }
        answers.write(start, len, &mut buffer);
    }
}

/// Values of the window before a row of time `time`.
fn preceding(windows: &RollingMoments, slot: usize, time: i64) -> Vec<f64> {
    match windows.extent {
        Extent::Rows(_) => held(windows, slot, i64::MIN),
        Extent::Range(length) => held(windows, slot, windows.take_time(slot, time).saturating_sub(length)),
    }
}

/// Values that a slot holds whose time is not before `from`, nulls left out.
fn held(windows: &RollingMoments, slot: usize, from: i64) -> Vec<f64> {
    let ring = windows.heads[slot].ring;
    let recent = (0..ring.rows).map(|row| ring.at(row)).filter(|&at| windows.times.get(at).is_none_or(|&time| time >= from));
    recent.map(|at| windows.values[at]).filter(|&value| !is_null(value)).collect()
}

/// Mean by a compensated sum, then the squared distances from it.
pub(crate) fn moments_of(values: &[f64]) -> Moments {
    if values.is_empty() {
        return Moments::NONE;
    }
    let count = values.len() as f64;
    let (sum, low) = values.iter().fold((0.0, 0.0), |(sum, low), &value| {
        let (sum, error) = two_sum(sum, value);
        (sum, low + error)
    });
    let mean = if sum.is_finite() { sum / count } else { values.iter().map(|value| value / count).sum() };
    let mean_low = if sum.is_finite() { ((-mean).mul_add(count, sum) + low) / count } else { 0.0 };
    let m2 = values.iter().map(|value| (value - mean) - mean_low).map(|distance| distance * distance).sum();
    let sum = if sum.is_finite() { sum + low } else { mean * count };
    Moments { count, sum, mean: mean + mean_low, m2 }
}

/// Twin of [`crate::rolling_order`].
pub fn order<T: Value>(windows: &mut RollingOrder, rows: &RollingRows<'_, T>, mut answers: OrderColumns<'_, T>) {
    for (row, &slot) in rows.slots.iter().enumerate() {
        let (slot, time) = (slot as usize, rows.time(row));
        let from = match windows.extent {
            Extent::Rows(_) => i64::MIN,
            Extent::Range(length) => windows.take_time(slot, time).saturating_sub(length),
        };
        let before = order_of(windows, slot, from);
        windows.step(slot, Order::of(rows.values[row], rows.is_valid(row)), time);
        answers.put(row, if windows.frame == Frame::Preceding { before } else { order_of(windows, slot, i64::MIN) });
    }
}

/// Of all rows that a slot holds whose time is not before `from`: that some of them stand for younger ones, too, is no matter.
fn order_of(windows: &RollingOrder, slot: usize, from: i64) -> Order {
    let ring = windows.heads[slot].ring;
    let recent = (0..ring.rows).map(|row| ring.at(row)).filter(|&at| windows.times.get(at).is_none_or(|&time| time >= from));
    recent.fold(Order::NONE, |order, at| order.with(windows.orders[at]))
}

/// Twin of [`crate::rolling_sums`].
pub fn sums(windows: &mut RollingSums, rows: &RollingRows<'_, i64>, mut answers: SumColumns<'_>) {
    for (row, &slot) in rows.slots.iter().enumerate() {
        let (slot, time) = (slot as usize, rows.time(row));
        let from = match windows.extent {
            Extent::Rows(_) => i64::MIN,
            Extent::Range(length) => windows.take_time(slot, time).saturating_sub(length),
        };
        let before = total_of(windows, slot, from);
        windows.step(slot, Held::of(rows.values[row], rows.is_valid(row)), time);
        answers.put(row, if windows.frame == Frame::Preceding { before } else { total_of(windows, slot, i64::MIN) });
    }
}

/// Of all rows that a slot holds whose time is not before `from`.
fn total_of(windows: &RollingSums, slot: usize, from: i64) -> Total {
    let ring = windows.heads[slot].ring;
    let recent = (0..ring.rows).map(|row| ring.at(row)).filter(|&at| windows.times.get(at).is_none_or(|&time| time >= from));
    recent
        .map(|at| windows.rows[at])
        .fold(Total::default(), |total, row| Total { sum: total.sum + i128::from(row.value), count: total.count + row.count })
}
