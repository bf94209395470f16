//! Quantities of a profile: how rare a value is among the key's latest ones, by its rank, and beyond all of them by the tail that they show.

use crate::anomaly::peaks::Pareto;
use crate::anomaly::profile::Said;
use crate::anomaly::robust::LatestValues;
use crate::anomaly::stepwise::{MOST, Running};

/// One in so many of the values makes a tail.
const TAIL: usize = 10;

/// A tail's scale is at least this share of the level that it begins at: values that lie nearer are the same for all practical purposes.
const LEAST_SCALE: f64 = 0.01;

/// Beyond what one value in so many times as many as are known reaches, one is learnt as that.
const MOST_LEARNT: f64 = 10.0;

/// After one that lay beyond all of them, others that do within a window's part of this are learnt as the outermost: a fraud seldom comes alone.
const QUIET: u32 = 10;

/// The greatest -ln p of one value: one in a trillion.
pub const MOST_SURPRISE: f64 = 27.631_021_115_928_547;

/// Which values of a quantity are unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// Great ones.
    Upper,
    /// Great and small ones.
    Both,
}

/// The latest values of a quantity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantity {
    /// As they were learnt.
    pub values: LatestValues,
    /// Values to come until one above all of them may be learnt as more than the greatest, and one below as less than the least.
    pub quiet: [u32; 2],
}

/// One side of the values: the outermost of them, and how values go on from there.
struct Side {
    count: usize,
    outermost: f64,
    /// Where the tail begins, and what it is like.
    level: f64,
    tail: Pareto,
}

impl Side {
    /// Of values from the innermost to the outermost, the greatest last.
    fn of(count: usize, at: impl Fn(usize) -> f64, least_scale: f64) -> Side {
        let beyond = count.div_ceil(TAIL).min(count - 1);
        let level = at(count - 1 - beyond);
        let excesses = || (count - beyond..count).map(|place| at(place) - level);
        let mean = excesses().sum::<f64>() / beyond as f64;
        let squares = excesses().map(|excess| (excess - mean) * (excess - mean)).sum::<f64>().min(f64::MAX);
        let tail = Pareto::of(&Running { count: beyond as u64, mean, squares }, least_scale.max(LEAST_SCALE * level.abs()));
        Side { count, outermost: at(count - 1), level, tail }
    }

    /// -ln of the share of values that are at least `value`, of which `reaching` of those that are known are.
    fn surprise(&self, value: f64, reaching: usize) -> f64 {
        let by_rank = ((self.count + 1) as f64 / (reaching + 1) as f64).ln();
        if value <= self.outermost {
            return by_rank;
        }
        (by_rank + self.tail.surprise(value - self.level) - self.tail.surprise(self.outermost - self.level)).min(MOST_SURPRISE)
    }

    /// The greatest value that is learnt. Where the outermost are all alike a tenth of the values have been learnt as that: it is a new habit.
    fn most_learnt(&self, is_quiet: bool) -> f64 {
        if self.outermost <= self.level {
            return f64::INFINITY;
        }
        match is_quiet {
            true => self.outermost,
            false => self.level + self.tail.excess(self.tail.surprise(self.outermost - self.level) + MOST_LEARNT.ln()),
        }
    }
}

impl Quantity {
    /// Whether this can be what a kernel with this window left: for what comes from a snapshot.
    pub fn is_sound(&self, window: u32) -> bool {
        self.quiet.iter().all(|quiet| *quiet <= window / QUIET)
    }

    /// Says how unusual a value is and takes it in.
    pub(super) fn take(&mut self, value: f64, least_scale: f64, sides: Sides, window: u32, is_warm: bool) -> Said {
        let sorted = self.values.sorted();
        let count = sorted.len();
        if !is_warm || count < 2 {
            self.values.take(value, window as usize);
            return Said { surprise: 0.0, sign: 1.0 };
        }
        let upper = Side::of(count, |place| sorted[place], least_scale);
        let above = upper.surprise(value, count - sorted.partition_point(|other| *other < value));
        let mut learnt = value.min(upper.most_learnt(self.quiet[0] > 0));
        let mut said = Said { surprise: above, sign: 1.0 };
        if sides == Sides::Both {
            let lower = Side::of(count, |place| -sorted[count - 1 - place], least_scale);
            let under = lower.surprise(-value, sorted.partition_point(|other| *other <= value));
            learnt = learnt.max(-lower.most_learnt(self.quiet[1] > 0)).clamp(-MOST, MOST);
            // Twice the lesser share.
            said.surprise = (above.max(under) - std::f64::consts::LN_2).max(0.0);
            said.sign = if under > above { -1.0 } else { 1.0 };
        }
        for (quiet, is_beyond) in self.quiet.iter_mut().zip([value > upper.outermost, value < sorted[0]]) {
            *quiet = if is_beyond { window / QUIET } else { quiet.saturating_sub(1) };
        }
        self.values.take(learnt, window as usize);
        said
    }
}
