//! Rolling windows, scheduled: a slot's head is asked for first, and from it, nearer, the rows that it says are next.

mod moments;

use super::prefetch::prefetch;
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::rolling::answers::{BLOCK, Buffer};
use crate::rolling::integers::Held;
use crate::rolling::order::Order;
use crate::rolling::sums::stored;
use crate::rolling::{Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns};
use crate::value::Value;

/// Rows between asking for a head and reading it for the row that it says is next.
const HEAD_AHEAD: usize = 32;

/// Rows between asking for the oldest row of a window and using it.
const RING_AHEAD: usize = 16;

pub(crate) fn moments(level: Level, windows: &mut RollingMoments, rows: &RollingRows<'_>, answers: MomentColumns<'_>) {
    match (windows.frame, windows.extent) {
        // A full window of one row is no case for the quick way: it would have no value for a moment.
        (Frame::Including, Extent::Rows(full @ 2..)) => launch(level, moments::OfRows::<false> { level, windows, full, rows, answers }),
        (Frame::Preceding, Extent::Rows(full @ 2..)) => launch(level, moments::OfRows::<true> { level, windows, full, rows, answers }),
        _ => launch(level, MomentsOfAny { windows, rows, answers }),
    }
}

pub(crate) fn order<T: Value>(level: Level, windows: &mut RollingOrder, rows: &RollingRows<'_, T>, answers: OrderColumns<'_, T>) {
    launch(level, RunningOrder { windows, rows, answers });
}

pub(crate) fn sums(level: Level, windows: &mut RollingSums, rows: &RollingRows<'_, i64>, answers: SumColumns<'_>) {
    launch(level, RunningSums { windows, rows, answers });
}

struct MomentsOfAny<'a> {
    windows: &'a mut RollingMoments,
    rows: &'a RollingRows<'a>,
    answers: MomentColumns<'a>,
}

impl Kernel for MomentsOfAny<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { windows, rows, mut answers } = self;
        let mut buffer = Buffer::NEW;
        for (block, (slots, values)) in rows.slots.chunks(BLOCK).zip(rows.values.chunks(BLOCK)).enumerate() {
            let start = block * BLOCK;
            for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
                if let Some(&slot) = rows.slots.get(start + row + HEAD_AHEAD) {
                    prefetch(&windows.heads, slot as usize);
                }
                if let Some(&slot) = rows.slots.get(start + row + RING_AHEAD) {
                    let ring = windows.heads[slot as usize].ring;
                    for at in [ring.at(0), ring.at(ring.rows)] {
                        prefetch(&windows.values, at);
                        prefetch(&windows.times, at);
                    }
                }
                buffer.values[row] = stored(value, rows.is_valid(start + row));
                buffer.put(row, windows.step(slot as usize, buffer.values[row], rows.time(start + row)));
            }
            answers.write(start, slots.len(), &mut buffer);
        }
    }
}

struct RunningOrder<'a, T> {
    windows: &'a mut RollingOrder,
    rows: &'a RollingRows<'a, T>,
    answers: OrderColumns<'a, T>,
}

impl<T: Value> Kernel for RunningOrder<'_, T> {
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

struct RunningSums<'a> {
    windows: &'a mut RollingSums,
    rows: &'a RollingRows<'a, i64>,
    answers: SumColumns<'a>,
}

impl Kernel for RunningSums<'_> {
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
                for at in [ring.at(0), ring.at(ring.rows)] {
                    prefetch(&windows.rows, at);
                    if has_times {
                        prefetch(&windows.times, at);
                    }
                }
            }
            let held = Held::of(rows.values[row], rows.is_valid(row));
            answers.put(row, windows.step(slot as usize, held, rows.time(row)));
        }
    }
}
