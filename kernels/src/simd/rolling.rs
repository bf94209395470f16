//! Rolling windows, scheduled: a slot's head is asked for first, and from it, nearer, the rows that it says are next.

use super::prefetch::prefetch;
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::rolling::moments::{BLOCK, Buffer, stored};
use crate::rolling::order::Order;
use crate::rolling::{Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows};

/// Rows between asking for a head and reading it for the row that it says is next.
const HEAD_AHEAD: usize = 32;

/// Rows between asking for the oldest row of a window and using it.
const RING_AHEAD: usize = 16;

pub(crate) fn moments(level: Level, windows: &mut RollingMoments, rows: &RollingRows<'_>, answers: MomentColumns<'_>) {
    match windows.frame {
        Frame::Including => launch(level, RunningMoments::<false> { windows, rows, answers }),
        Frame::Preceding => launch(level, RunningMoments::<true> { windows, rows, answers }),
    }
}

pub(crate) fn order(level: Level, windows: &mut RollingOrder, rows: &RollingRows<'_>, answers: OrderColumns<'_>) {
    launch(level, RunningOrder { windows, rows, answers });
}

struct RunningMoments<'a, const PRECEDING: bool> {
    windows: &'a mut RollingMoments,
    rows: &'a RollingRows<'a>,
    answers: MomentColumns<'a>,
}

impl<const PRECEDING: bool> Kernel for RunningMoments<'_, PRECEDING> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { windows, rows, mut answers } = self;
        let slots = rows.slots;
        let mut buffer = Buffer::NEW;
        // A full window of one row is no case for the quick way: it would have no value for a moment.
        let full = match windows.extent {
            Extent::Rows(rows) if rows > 1 => rows,
            _ => u32::MAX,
        };
        for start in (0..slots.len()).step_by(BLOCK) {
            let len = BLOCK.min(slots.len() - start);
            for row in 0..len {
                if let Some(&slot) = slots.get(start + row + HEAD_AHEAD) {
                    prefetch(&windows.heads, slot as usize);
                }
                if let Some(&slot) = slots.get(start + row + RING_AHEAD) {
                    let ring = windows.heads[slot as usize].ring;
                    prefetch(&windows.values, ring.at(0));
                    if full == u32::MAX {
                        prefetch(&windows.values, ring.at(ring.rows));
                        prefetch(&windows.times, ring.at(0));
                        prefetch(&windows.times, ring.at(ring.rows));
                    }
                }
                let slot = slots[start + row] as usize;
                let value = stored(rows.values[start + row], rows.is_valid(start + row));
                buffer.values[row] = value;
                let head = &windows.heads[slot];
                let moments = if (head.ring.rows == full) & !head.odd & value.is_finite() {
                    let before = PRECEDING.then(|| windows.read(slot));
                    let head = &mut windows.heads[slot];
                    let at = head.ring.at(0);
                    let old = std::mem::replace(&mut windows.values[at], value);
                    if head.replace(old, value) {
                        windows.refresh(slot);
                    }
                    before.unwrap_or_else(|| windows.read(slot))
                } else {
                    step(windows, slot, value, rows.time(start + row))
                };
                buffer.put(row, moments);
            }
            answers.write(start, len, &mut buffer);
        }
    }
}

#[inline(never)]
fn step(windows: &mut RollingMoments, slot: usize, value: f64, time: i64) -> crate::rolling::moments::Moments {
    windows.step(slot, value, time)
}

struct RunningOrder<'a> {
    windows: &'a mut RollingOrder,
    rows: &'a RollingRows<'a>,
    answers: OrderColumns<'a>,
}

impl Kernel for RunningOrder<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { windows, rows, mut answers } = self;
        let has_times = matches!(windows.extent, Extent::Range(_));
        for (row, &slot) in rows.slots.iter().enumerate() {
            if let Some(&slot) = rows.slots.get(row + HEAD_AHEAD) {
                prefetch(&windows.heads, slot as usize);
            }
            if let Some(&slot) = rows.slots.get(row + RING_AHEAD) {
                let ring = windows.heads[slot as usize].ring;
                prefetch(&windows.orders, ring.at(1));
                if has_times {
                    prefetch(&windows.orders, ring.at(ring.rows));
                    prefetch(&windows.times, ring.at(0));
                    prefetch(&windows.times, ring.at(ring.rows));
                }
            }
            let order = Order::of(rows.values[row], rows.is_valid(row));
            answers.put(row, windows.step(slot as usize, order, rows.time(row)));
        }
    }
}
