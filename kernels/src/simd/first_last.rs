//! First and last by event time: where rows are of one group, the best time of a block first and the row of it after.

use std::ops::Range;

use super::Level;
use super::aggregate::BLOCK;
use super::scatter::{self, Rows};
use crate::bits::Bits;
use crate::first_last::{FirstLast, Timed, turn_time};
use crate::value::Payload;

pub(crate) fn accumulate<const LAST: bool, T: Payload>(
    level: Level,
    cells: &mut [FirstLast<LAST>],
    slots: &[u32],
    rows: Timed<'_, T>,
    validity: Option<Bits<'_>>,
) {
    scatter::scatter(level, cells, slots, validity, Columns(rows));
}

pub(crate) fn fold<const LAST: bool, T: Payload>(level: Level, rows: Timed<'_, T>, validity: Option<Bits<'_>>) -> FirstLast<LAST> {
    scatter::fold(level, validity, Columns(rows))
}

/// Times and values of one length.
#[derive(Clone, Copy)]
struct Columns<'a, const LAST: bool, T>(Timed<'a, T>);

impl<const LAST: bool, T: Payload> Rows for Columns<'_, LAST, T> {
    type Cell = FirstLast<LAST>;
    const EMPTY: FirstLast<LAST> = FirstLast::EMPTY;

    #[inline(always)]
    fn len(self) -> usize {
        self.0.times.len()
    }

    #[inline(always)]
    unsafe fn put(self, cell: &mut FirstLast<LAST>, row: usize) {
        let Timed { times, values, sequence } = self.0;
        // SAFETY: the caller's promise; the columns are of one length, which the public functions check.
        let (time, value) = unsafe { (*times.get_unchecked(row), *values.get_unchecked(row)) };
        cell.take(FirstLast::of(time, sequence + row as u64, value));
    }

    #[inline(always)]
    fn fold(self, cell: &mut FirstLast<LAST>, rows: Range<usize>) {
        let Timed { times, values, sequence } = self.0;
        for start in rows.clone().step_by(BLOCK) {
            let block = &times[start..rows.end.min(start + BLOCK)];
            let best = block.iter().fold(i64::MAX, |best, &time| best.min(turn_time::<LAST>(time)));
            if best > cell.key() {
                continue;
            }
            let is_best = |&time: &i64| turn_time::<LAST>(time) == best;
            let found = if LAST { block.iter().rposition(is_best) } else { block.iter().position(is_best) };
            if let Some(row) = found.map(|row| start + row) {
                cell.take(FirstLast::of(times[row], sequence + row as u64, values[row]));
            }
        }
    }

    #[inline(always)]
    fn combine(into: &mut FirstLast<LAST>, from: &FirstLast<LAST>) {
        into.take(*from);
    }
}
