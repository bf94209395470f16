//! Panes of times that mostly stay in one pane for many rows.

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
