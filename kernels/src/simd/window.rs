//! Panes of times that mostly stay in one pane for many rows.

use super::aggregate::{BLOCK, range};
use super::vector::Vector;
use super::{Kernel, Level, launch};

/// Rows that are tested against the current pane at once.
const RUN: usize = 32;

pub(crate) fn assign_panes(level: Level, times: &[i64], origin: i64, length: u64, panes: &mut Vec<u32>) -> u32 {
    let start = panes.len();
    panes.resize(start + times.len(), 0);
    let panes = &mut panes[start..];
    launch(level, AssignPanes { times, origin, length, panes })
}

pub(crate) fn offset_slots(level: Level, slots: &mut [u32], panes: &[u32], row_of_pane: &[u32], stride: u32) {
    launch(level, OffsetSlots { slots, panes, row_of_pane, stride });
}

struct AssignPanes<'a> {
    times: &'a [i64],
    origin: i64,
    length: u64,
    panes: &'a mut [u32],
}

impl Kernel for AssignPanes<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> u32 {
        let Self { times, origin, length, panes } = self;
        // At most 1 short of 2^64 / length, so that the high word of a product is the quotient or 1 less.
        let reciprocal = u64::MAX / length;
        let last_of = |first: i64| first.saturating_add((length - 1) as i64);
        let (mut pane, mut first, mut last, mut highest) = (0, origin, last_of(origin), 0);
        for (times, panes) in times.chunks(RUN).zip(panes.chunks_mut(RUN)) {
            if times.iter().fold(true, |inside, &time| inside & (first <= time) & (time <= last)) {
                panes.fill(pane);
                continue;
            }
            for (&time, to) in times.iter().zip(panes) {
                if time < origin {
                    (*to, highest) = (u32::MAX, u32::MAX);
                    continue;
                }
                let since = time.abs_diff(origin);
                let mut quotient = ((u128::from(since) * u128::from(reciprocal)) >> 64) as u64;
                quotient += u64::from(since - quotient * length >= length);
                *to = u32::try_from(quotient).unwrap_or(u32::MAX);
                highest = highest.max(*to);
                if *to < u32::MAX {
                    pane = *to;
                    first = origin.wrapping_add_unsigned(quotient * length);
                }
            }
            last = last_of(first);
        }
        highest
    }
}

struct OffsetSlots<'a> {
    slots: &'a mut [u32],
    panes: &'a [u32],
    row_of_pane: &'a [u32],
    stride: u32,
}

impl Kernel for OffsetSlots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { slots, panes, row_of_pane, stride } = self;
        for (slots, panes) in slots.chunks_mut(BLOCK).zip(panes.chunks(BLOCK)) {
            let (low, high) = range(panes);
            let row_of_pane = &row_of_pane[..=high as usize];
            if low == high {
                let offset = row_of_pane[low as usize].wrapping_mul(stride);
                slots.iter_mut().for_each(|slot| *slot = slot.wrapping_add(offset));
                continue;
            }
            for (slot, &pane) in slots.iter_mut().zip(panes) {
                *slot = slot.wrapping_add(row_of_pane[pane as usize].wrapping_mul(stride));
            }
        }
    }
}
