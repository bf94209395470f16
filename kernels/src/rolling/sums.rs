//! The sums of one window, taken around a pivot.

use crate::cell::{NAN_BITS, two_sum};
use crate::rolling::answers::Moments;
use crate::rolling::ring::Ring;

/// The NaN that stands for null in a ring; values that are NaN are stored as another.
const NULL_BITS: u64 = NAN_BITS | 1;

/// A second moment below this share of the squares around the pivot has lost too many digits to be used.
pub(crate) const CANCELLED: f64 = 1.0 / 1024.0;

/// Squares below this share of what they once were may consist of rounding: the words of a sum hold 106 bits.
pub(crate) const FADED: f64 = 1.0 / (1u64 << 40) as f64;

/// Windows full of rows after which sums are computed afresh: what that costs a row, the time of two rows otherwise, is shared.
const LAPS: u32 = 4;

/// Rows that even the shortest window is taken to hold, as to that.
const LEAST_ROWS: u32 = 8;

/// Rows since the sums of a window of so many rows were computed, when they are computed afresh.
#[inline(always)]
pub(crate) fn due_age(rows: u32) -> u32 {
    rows.max(LEAST_ROWS).saturating_mul(LAPS)
}

/// State of one slot: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    /// Sum of distances from the pivot, and of their squares.
    pub sums: [f64; 2],
    /// Rounding errors of the sums.
    pub errors: [f64; 2],
    pub pivot: f64,
    pub ring: Ring,
    /// Rows since the sums were computed afresh.
    pub age: u32,
    /// Upper bits of the largest squares since then.
    pub peak: u16,
    /// Whether there are rows with no finite value.
    pub odd: bool,
    /// So that all bytes have a value: vectors read them.
    pub rest: u8,
}

const _: () = assert!(size_of::<Head>() == 64);

/// Rows of a window that have no finite value, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Odds {
    pub nulls: u32,
    pub nans: u32,
    pub positive: u32,
    pub negative: u32,
}

impl Head {
    #[inline(always)]
    pub fn add(&mut self, value: f64) {
        let distance = value - self.pivot;
        self.add_both([distance, distance * distance]);
        self.peak = self.peak.max(upper_bits(self.sums[1]));
    }

    #[inline(always)]
    pub fn subtract(&mut self, value: f64) {
        let distance = value - self.pivot;
        self.add_both([-distance, -(distance * distance)]);
    }

    #[inline(always)]
    fn add_both(&mut self, values: [f64; 2]) {
        let [(sum, sum_error), (squares, squares_error)] = [0, 1].map(|i| two_sum(self.sums[i], values[i]));
        self.sums = [sum, squares];
        self.errors = [self.errors[0] + sum_error, self.errors[1] + squares_error];
    }

    /// One row comes for one that goes.
    #[inline(always)]
    pub fn replace(&mut self, old: f64, new: f64) {
        self.subtract(old);
        self.add(new);
        self.ring.turn();
        self.age += 1;
    }

    /// Whether it is time for [`RollingMoments::refresh`].
    #[inline(always)]
    pub fn is_due(&self) -> bool {
        self.age >= due_age(self.ring.rows)
    }

    /// The sum of distances from the pivot, and of their squares, if they bear the moments of so many values.
    #[inline(always)]
    pub fn totals(&self, count: f64) -> ([f64; 2], bool) {
        let [sum, squares] = [self.sums[0] + self.errors[0], self.sums[1] + self.errors[1]];
        // `squares - sum² / count >= CANCELLED * squares`, without the division. Where both sides leave the range of `f64`, they say nothing.
        let most = (squares * (count * (1.0 - CANCELLED))).min(f64::MAX);
        let sound = (sum * sum <= most) & (squares >= self.faded()) & (squares <= f64::MAX);
        ([sum, squares], sound)
    }

    /// Moments of so many values, at least one, and whether the sums bear them.
    #[inline(always)]
    pub fn moments(&self, count: f64) -> (Moments, bool) {
        let (totals, sound) = self.totals(count);
        (Moments::around(self.pivot, totals, count), sound)
    }

    #[inline(always)]
    fn faded(&self) -> f64 {
        f64::from_bits(u64::from(self.peak) << 48) * FADED
    }

    /// Whether the squares have become too small, or no numbers.
    pub fn is_faded(&self) -> bool {
        let squares = self.sums[1] + self.errors[1];
        squares.is_nan() || squares < self.faded() || self.faded().is_nan()
    }

    /// Sums around a new pivot. That is near the mean, and has few digits, so that sums of integers stay exact.
    #[inline(always)]
    pub fn refresh(&mut self, count: f64, slab: &[f64]) {
        let parts = self.ring.parts(slab);
        let (mut known, sound) = self.moments(count);
        self.age = 0;
        if count > 0.0 && !(sound && known.mean.is_finite()) {
            let share = 1.0 / count;
            let values = parts.iter().flat_map(|part| part.iter());
            self.pivot = values.fold(0.0, |mean, value| mean + if value.is_finite() { value * share } else { 0.0 });
            self.sum_up(parts);
            known = self.moments(count).0;
        }
        if known.mean.is_finite() {
            self.pivot = on_grid(known.mean, known.m2 / count);
        }
        self.sum_up(parts);
        self.peak = upper_bits(self.sums[1]);
    }

    /// Each row in the lane of its number from the oldest, wherever the ring is broken.
    #[inline(always)]
    fn sum_up(&mut self, [old, new]: [&[f64]; 2]) {
        let mut lanes = Lanes { pivot: self.pivot, sums: [[0.0; LANES]; 2], errors: [[0.0; LANES]; 2] };
        let broken = old.len() % LANES;
        let (joint, rest) = new.split_at(new.len().min((LANES - broken) % LANES));
        lanes.add(old);
        joint.iter().enumerate().for_each(|(lane, &value)| lanes.add_to(broken + lane, value));
        lanes.add(rest);
        (self.sums, self.errors) = ([0.0; 2], [0.0; 2]);
        for parts in [&lanes.sums, &lanes.errors] {
            (0..LANES).for_each(|lane| self.add_both([parts[0][lane], parts[1][lane]]));
        }
    }
}

const LANES: usize = 8;

/// The two sums of a head, and their rounding errors, of every eighth value.
struct Lanes {
    pivot: f64,
    sums: [[f64; LANES]; 2],
    errors: [[f64; LANES]; 2],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, values: &[f64]) {
        let mut chunks = values.chunks_exact(LANES);
        // Local, so that they stay in registers.
        let mut lanes = Self { ..*self };
        for chunk in &mut chunks {
            for (lane, &value) in chunk.iter().enumerate() {
                lanes.add_to(lane, value);
            }
        }
        *self = lanes;
        chunks.remainder().iter().enumerate().for_each(|(lane, &value)| self.add_to(lane, value));
    }

    #[inline(always)]
    fn add_to(&mut self, lane: usize, value: f64) {
        let distance = if value.abs() <= f64::MAX { value - self.pivot } else { 0.0 };
        for (i, value) in [distance, distance * distance].into_iter().enumerate() {
            let (sum, error) = two_sum(self.sums[i][lane], value);
            self.sums[i][lane] = sum;
            self.errors[i][lane] += error;
        }
    }
}

/// The mean rounded to an eighth of the deviation or less.
fn on_grid(mean: f64, variance: f64) -> f64 {
    let exponent = (variance.to_bits() >> 52) as i64 - 1023;
    let step = exponent.div_euclid(2) - 2;
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    let steps = mean * power(-step.clamp(-1000, 1000));
    // Of a variance of 0 or NaN, and of a mean that would have to keep all of its digits, there is nothing to round.
    let rounds = (f64::MIN_POSITIVE..f64::INFINITY).contains(&variance) && steps.abs() < power(50);
    if rounds { steps.round() * power(step.clamp(-1000, 1000)) } else { mean }
}

/// Exponent and first digits of a magnitude; its bits in order, so that those of NaN are the largest.
#[inline(always)]
fn upper_bits(value: f64) -> u16 {
    (value.abs().to_bits() >> 48) as u16
}

#[cfg(feature = "gpu")]
impl Odds {
    /// Those that came after others, which are among them.
    pub fn less(&self, before: Self) -> Self {
        Self {
            nulls: self.nulls - before.nulls,
            nans: self.nans - before.nans,
            positive: self.positive - before.positive,
            negative: self.negative - before.negative,
        }
    }
}

impl Odds {
    /// The number that a row of this value, which is not finite, is counted in.
    pub fn of(&mut self, value: f64) -> &mut u32 {
        match value {
            _ if is_null(value) => &mut self.nulls,
            _ if value.is_nan() => &mut self.nans,
            _ if value > 0.0 => &mut self.positive,
            _ => &mut self.negative,
        }
    }

    pub fn rows(&self) -> u32 {
        self.nulls + self.nans + self.positive + self.negative
    }

    /// What they make of the moments of the finite values of a window of so many rows.
    #[inline(always)]
    pub fn bend(&self, moments: &mut Moments, rows: u32) {
        moments.count = f64::from(rows - self.nulls);
        if self.rows() > self.nulls {
            let mean = match self {
                Self { nans: 0, negative: 0, .. } => f64::INFINITY,
                Self { nans: 0, positive: 0, .. } => f64::NEG_INFINITY,
                _ => f64::NAN,
            };
            (moments.sum, moments.mean, moments.m2) = (mean, mean, f64::NAN);
        }
    }
}

/// A value as a ring holds it.
#[inline(always)]
pub(crate) fn stored(value: f64, valid: bool) -> f64 {
    let bits = if value.is_nan() { NAN_BITS } else { value.to_bits() };
    f64::from_bits(if valid { bits } else { NULL_BITS })
}

#[inline(always)]
pub(crate) fn is_null(stored: f64) -> bool {
    stored.to_bits() == NULL_BITS
}
