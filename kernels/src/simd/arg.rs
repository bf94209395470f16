//! Argmin and argmax: where rows are of one group, the least key of a block first and the row of it after.

use std::ops::Range;

use super::Level;
use super::aggregate::BLOCK;
use super::scatter::{self, Rows};
use crate::arg::Arg;
use crate::bits::Bits;
use crate::value::Value;

pub(crate) fn accumulate<const MAX: bool, T: Value>(
    level: Level,
    cells: &mut [Arg<MAX>],
    slots: &[u32],
    values: &[T],
    payloads: &[i64],
    validity: Option<Bits<'_>>,
) {
    scatter::scatter(level, cells, slots, validity, Columns { values, payloads });
}

pub(crate) fn fold<const MAX: bool, T: Value>(level: Level, values: &[T], payloads: &[i64], validity: Option<Bits<'_>>) -> Arg<MAX> {
    scatter::fold(level, validity, Columns { values, payloads })
}

/// Two columns of one length.
#[derive(Clone, Copy)]
struct Columns<'a, const MAX: bool, T> {
    values: &'a [T],
    payloads: &'a [i64],
}

impl<const MAX: bool, T: Value> Rows for Columns<'_, MAX, T> {
    type Cell = Arg<MAX>;
    const EMPTY: Arg<MAX> = Arg::EMPTY;

    #[inline(always)]
    fn len(self) -> usize {
        self.values.len()
    }

    #[inline(always)]
    unsafe fn put(self, cell: &mut Arg<MAX>, row: usize) {
        // SAFETY: the caller's promise; the columns are of one length, which the public functions check.
        cell.take(unsafe { Arg::of(*self.values.get_unchecked(row), *self.payloads.get_unchecked(row)) });
    }

    #[inline(always)]
    fn fold(self, cell: &mut Arg<MAX>, rows: Range<usize>) {
        let blocks = self.values[rows.clone()].chunks(BLOCK).zip(self.payloads[rows].chunks(BLOCK));
        for (values, payloads) in blocks {
            let key = |value: T| Arg::<MAX>::of(value, 0).key();
            let least = values.iter().fold(i64::MAX, |least, &value| least.min(key(value)));
            if least > cell.key() {
                continue;
            }
            for (&value, &payload) in values.iter().zip(payloads) {
                if key(value) == least {
                    cell.take(Arg::of(value, payload));
                }
            }
        }
    }

    #[inline(always)]
    fn combine(into: &mut Arg<MAX>, from: &Arg<MAX>) {
        into.take(*from);
    }
}
