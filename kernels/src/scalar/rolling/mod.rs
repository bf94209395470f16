//! Twin of [`crate::rolling`]: every window computed from scratch from the rows that it holds.

pub(crate) mod moments;

pub use moments::moments;

use crate::rolling::integers::{Held, Total};
use crate::rolling::order::Order;
use crate::rolling::{Extent, Frame, OrderColumns, RollingOrder, RollingRows, RollingSums, SumColumns};
use crate::value::Value;

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
