//! Rolling windows, scheduled: a slot's head is asked for first, and from it, nearer, the rows that it says are next.

use super::prefetch::prefetch;
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::rolling::answers::{BLOCK, Buffer, Moments};
use crate::rolling::integers::Held;
use crate::rolling::order::Order;
use crate::rolling::sums::stored;
use crate::rolling::{Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns};
use crate::value::Value;

/// Rows between asking for a head and reading it for the row that it says is next.
const HEAD_AHEAD: usize = 32;

/// Rows between asking for the oldest row of a window and using it.
const RING_AHEAD: usize = 16;

/// Values of a cache line.
const LINE: usize = 8;

/// Lines of a window that are asked for before it is gone through: what lies behind, the processor sees coming.
const MOST_LINES: usize = 32;

pub(crate) fn moments(level: Level, windows: &mut RollingMoments, rows: &RollingRows<'_>, answers: MomentColumns<'_>) {
    match (windows.frame, windows.extent) {
        // A full window of one row is no case for the quick way: it would have no value for a moment.
        (Frame::Including, Extent::Rows(full @ 2..)) => launch(level, MomentsOfRows::<false> { level, windows, full, rows, answers }),
        (Frame::Preceding, Extent::Rows(full @ 2..)) => launch(level, MomentsOfRows::<true> { level, windows, full, rows, answers }),
        _ => launch(level, MomentsOfAny { windows, rows, answers }),
    }
}

pub(crate) fn order<T: Value>(level: Level, windows: &mut RollingOrder, rows: &RollingRows<'_, T>, answers: OrderColumns<'_, T>) {
    launch(level, RunningOrder { windows, rows, answers });
}

pub(crate) fn sums(level: Level, windows: &mut RollingSums, rows: &RollingRows<'_, i64>, answers: SumColumns<'_>) {
    launch(level, RunningSums { windows, rows, answers });
}

struct MomentsOfRows<'a, const PRECEDING: bool> {
    level: Level,
    windows: &'a mut RollingMoments,
    full: u32,
    rows: &'a RollingRows<'a>,
    answers: MomentColumns<'a>,
}

impl<const PRECEDING: bool> Kernel for MomentsOfRows<'_, PRECEDING> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { level, windows, full, rows, mut answers } = self;
        let (mut buffer, mut others, count) = (Buffer::NEW, Others::NEW, f64::from(full));
        for (block, (slots, values)) in rows.slots.chunks(BLOCK).zip(rows.values.chunks(BLOCK)).enumerate() {
            let start = block * BLOCK;
            for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
                ask(windows, rows.slots, start + row);
                let (slot, value) = (slot as usize, stored(value, rows.is_valid(start + row)));
                buffer.values[row] = value;
                let head = &mut windows.heads[slot];
                let (before, was_sound) = head.totals(count);
                let quick = (head.ring.rows == full) & !head.odd & (value.abs() <= f64::MAX);
                if !quick | (PRECEDING & !was_sound) {
                    others.put(row, step(windows, slot, value));
                    continue;
                }
                if PRECEDING {
                    buffer.put_sums(row, head.pivot, before);
                }
                let old = std::mem::replace(&mut windows.values[head.ring.at(0)], value);
                head.replace(old, value);
                let (after, sound) = head.totals(count);
                if !PRECEDING {
                    buffer.put_sums(row, head.pivot, after);
                }
                let due = head.is_due(0);
                if due | !sound {
                    let moments = read_afresh(level, windows, slot, due);
                    if !PRECEDING {
                        others.put(row, moments);
                    }
                }
            }
            buffer.divide(slots.len(), count);
            others.take(&mut buffer);
            answers.write(start, slots.len(), &mut buffer);
        }
    }
}

/// Rows of a block whose moments do not come of the sums of a full window.
struct Others {
    len: usize,
    rows: [usize; BLOCK],
    moments: [Moments; BLOCK],
}

impl Others {
    const NEW: Self = Self { len: 0, rows: [0; BLOCK], moments: [Moments::NONE; BLOCK] };

    #[inline(always)]
    fn put(&mut self, row: usize, moments: Moments) {
        (self.rows[self.len], self.moments[self.len]) = (row, moments);
        self.len += 1;
    }

    /// Puts the moments in their places.
    #[inline(always)]
    fn take(&mut self, buffer: &mut Buffer) {
        for (&row, &moments) in self.rows[..self.len].iter().zip(&self.moments) {
            buffer.put(row, moments);
        }
        self.len = 0;
    }
}

/// Asks for what the rows to come need of a full window of rows.
#[inline(always)]
fn ask(windows: &RollingMoments, slots: &[u32], row: usize) {
    if let Some(&slot) = slots.get(row + HEAD_AHEAD) {
        prefetch(&windows.heads, slot as usize);
    }
    if let Some(&slot) = slots.get(row + RING_AHEAD) {
        let head = &windows.heads[slot as usize];
        prefetch(&windows.values, head.ring.at(0));
        if head.is_due(1) {
            let oldest = head.ring.at(0);
            (0..head.ring.rows as usize).step_by(LINE).take(MOST_LINES).for_each(|row| prefetch(&windows.values, oldest + row));
        }
    }
}

#[inline(never)]
fn step(windows: &mut RollingMoments, slot: usize, value: f64) -> Moments {
    windows.step(slot, value, 0)
}

/// What the window holds, its sums being computed afresh if it is time, or if they cannot be used.
#[cold]
#[inline(never)]
fn read_afresh(level: Level, windows: &mut RollingMoments, slot: usize, due: bool) -> Moments {
    if due {
        launch(level, Refresh { windows, slot });
    }
    windows.read(slot)
}

struct Refresh<'a> {
    windows: &'a mut RollingMoments,
    slot: usize,
}

impl Kernel for Refresh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        self.windows.refresh(self.slot);
    }
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
