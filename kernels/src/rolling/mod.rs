//! Rolling windows: one answer per row, over the last rows of the row's key or over those of a span of time.
//!
//! # Which rows a window holds
//! Rows of a key are taken in order, and the windows of one key know nothing of other keys.
//!
//! * [`Extent::Rows`]`(n)` with [`Frame::Including`]: the row and the `n - 1` before it, SQL's `ROWS BETWEEN n-1 PRECEDING
//!   AND CURRENT ROW`. With [`Frame::Preceding`]: the `n` rows before it, `ROWS BETWEEN n PRECEDING AND 1 PRECEDING`.
//! * [`Extent::Range`]`(r)` for a row of time `t`: the rows before it whose time is at least `t - r` and, with
//!   `Including`, the row itself. So is SQL's `RANGE BETWEEN r PRECEDING AND CURRENT ROW`, except that rows of the same time
//!   that come later are not waited for. For the half-open `(t - r, t]` give `r - 1`.
//! * Times of a key should not decrease: a row that is earlier than the one before it is taken as of that one's time.
//! * A **null** row takes a place among `n` rows, but has no value. Without a bitmap every row is valid.
//!
//! # What the answers are
//! * Of a window without values the count is 0, the sum 0, `m2` 0, and mean, minimum and maximum are NaN.
//! * **NaN** and **infinities** are values, with the order and the sums of [`crate::aggregate`]: the mean of a window that
//!   holds NaN, or infinities of both signs, is NaN, with those of one sign it is that one, and `m2` is NaN with any of
//!   them. Once they have left, nothing of them is left. To have them left out, mark their rows as null.
//! * `m2` is the sum of squared distances from the mean; variance is `m2 / (count - 1)` for a [`Divisor::Sample`],
//!   `m2 / count` for a [`Divisor::Population`], and NaN where the divisor is not positive: of one value the sample variance is NaN,
//!   the population variance 0.
//! * **Score**: `(value - mean) / max(deviation, floor)`, floor = 1e-9 · max(|mean|, 1e-300) as of [`crate::anomaly::ewma`],
//!   kept within ±`f64::MAX`. NaN if the row has no finite value, or the window holds fewer than two. The frame says which
//!   window: `Preceding` is the one to find anomalies with, since a value cannot hide by widening the window that
//!   judges it; `Including` is the standard score of a rolling mean, and cannot exceed `(n - 1) / sqrt(n)`.
//! * **Error**: the mean is within 1e-12 of the mean of magnitudes (plus 1e-160), and `m2` within 1e-11 of itself, however
//!   long the stream: see [`RollingMoments`]. Sums of integers up to 10^9 in windows of up to 1,000 are exact; those of
//!   [`rolling_sums`] always are. Where squares of
//!   distances leave the range of `f64`, `m2` is infinite or 0. Minimum and maximum are exact.
//!
//! Answers are the same bits whatever the batches.

pub(crate) mod answers;
pub(crate) mod integers;
pub(crate) mod moments;
pub(crate) mod order;
pub(crate) mod ring;
pub(crate) mod sums;
#[cfg(test)]
mod tests;

use std::fmt;

pub use answers::MomentColumns;
pub use integers::{RollingSums, SumColumns, rolling_sums};
pub use moments::{RollingMoments, rolling_moments};
pub use order::{OrderColumns, RollingOrder, rolling_order};

use crate::aggregate::check_lengths;
use crate::bits::Bits;
use ring::Arena;

/// How far back a window reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The last so many rows of the key: 1 to 2^31.
    Rows(u32),
    /// The rows of the key that are at most so much earlier, in the unit of the times: not negative.
    Range(i64),
}

/// Whether a window holds the row that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// It ends with the row.
    Including,
    /// It ends before the row.
    Preceding,
}

/// What a sum of squares is divided by to be a variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divisor {
    /// One less than the count: the unbiased estimate from a sample.
    #[default]
    Sample,
    /// The count: the variance of the values themselves.
    Population,
}

/// Rows to take into rolling windows.
#[derive(Clone, Copy, Debug)]
pub struct RollingRows<'a, T = f64> {
    /// Slot of each row's key.
    pub slots: &'a [u32],
    /// Value of each row.
    pub values: &'a [T],
    /// Which rows have a value; all without.
    pub validity: Option<Bits<'a>>,
    /// Time of each row, for [`Extent::Range`]; not looked at for [`Extent::Rows`].
    pub times: &'a [i64],
}

/// Words that are no snapshot of such a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot of rolling windows: {}", self.what)
    }
}

impl std::error::Error for Malformed {}

impl Extent {
    fn check(self) {
        match self {
            Self::Rows(rows) => assert!((1..=1 << 31).contains(&rows), "a window of rows holds 1 to 2^31 of them, not {rows}"),
            Self::Range(length) => assert!(length >= 0, "a window of time cannot reach {length} back"),
        }
    }

    /// Most rows of a window.
    fn most_rows(self) -> u32 {
        match self {
            Self::Rows(rows) => rows,
            Self::Range(_) => u32::MAX,
        }
    }

    fn arena(self) -> Arena {
        match self {
            Self::Rows(rows) => Arena::for_rows(rows),
            Self::Range(_) => Arena::for_ranges(),
        }
    }
}

impl<T> RollingRows<'_, T> {
    /// Panics unless the columns fit each other and all slots are below `slots`.
    fn check(&self, extent: Extent, slots: usize) {
        check_lengths("slots and values", self.slots.len(), self.values.len());
        Bits::check(self.validity, self.values.len());
        if let Extent::Range(_) = extent {
            check_lengths("slots and times", self.slots.len(), self.times.len());
        }
        let high = self.slots.iter().fold(0, |high, &slot| high.max(slot));
        assert!(self.slots.is_empty() || (high as usize) < slots, "slot {high} is not below the number of slots, {slots}");
    }

    /// Whether row `row` has a value.
    #[inline(always)]
    pub(crate) fn is_valid(&self, row: usize) -> bool {
        self.validity.is_none_or(|bits| bits.get(row))
    }

    /// Time of row `row`; 0 where times do not matter.
    #[inline(always)]
    pub(crate) fn time(&self, row: usize) -> i64 {
        self.times.get(row).copied().unwrap_or(0)
    }
}

/// Reads a snapshot word by word.
struct Words<'a>(&'a [u64]);

impl Words<'_> {
    fn next(&mut self) -> Result<u64, Malformed> {
        let (word, rest) = self.0.split_first().ok_or(Malformed { what: "cut short" })?;
        self.0 = rest;
        Ok(*word)
    }

    /// Checks that all were read.
    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed { what: "longer than its windows" }) }
    }

    /// A number of rows of which each takes at least one of the words that are left.
    fn rows(&mut self, extent: Extent) -> Result<u32, Malformed> {
        let rows = self.next()?;
        if rows > self.0.len() as u64 || rows > u64::from(extent.most_rows().min(1 << 31)) {
            return Err(Malformed { what: "more rows than it can hold" });
        }
        Ok(rows as u32)
    }
}
