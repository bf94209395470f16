//! Novelty: how far a value lies from the nearest value that its key has shown lately, as a share of the range it has shown lately.
//!
//! A key's recent values are marks in a histogram of [`BINS`] bins, once of the values as they are and once on a compressed scale,
//! and its score is the geometric mean of both, so that a value is novel only if it is on both scales:
//!
//! ```text
//! score     = sqrt(linear · compressed)                                   in [0, 1]
//! linear    = distance of x to the nearest marked bin / range             range: from the first marked bin to the last, x's with them
//! compressed= the same for y(x) = sign(x) · log2*(1 + |x| / s)            s: mean of |x| over the first `warmup` values (1 if that is 0)
//! log2*(v)  = exponent of v + its fraction                                log2 by straight lines between the powers of two
//! ```
//!
//! * A value in a marked bin scores 0. One outside all that was seen scores what it widens the range by.
//! * Forgetting: a bin keeps its mark for `history` rows (in steps of 1/64 of that) after the last value in it.
//! * Bins are as wide as a power of two. Where a value does not fit, neighbouring bins are joined; where the marks cover less than a
//!   quarter of the bins, each is cut in two. So the range is told by 128 to 512 bins.
//! * The first `warmup` values of a key score 0. The first value that differs from a constant history scores 1.
//! * A null, NaN or infinite value scores NaN and leaves the state as it was. A value beyond ±2¹⁰⁰⁰ counts as that. Bins are at least
//!   10⁻⁹ times as wide as the values are large.
//!
//! Rows count, not time: a gap forgets nothing. Kin: distance to the nearest neighbour as outlier score (S. Ramaswamy, R. Rastogi and
//! K. Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000), of one dimension and quantised.
//!
//! State: 1,248 bytes a key. Cost: some 40 ns a row; a look at two bits, and where they are not set a search in 512; 512 marks are gone
//! through after each 1/64 of `history`. Rows of a key are taken in order, so scores are the same bits whatever the batch size or backend.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// Bins of a histogram.
pub const BINS: usize = 512;

/// Words of a bit for each bin.
pub(crate) const WORDS: usize = BINS / 64;

/// Steps in which a mark ages from its making to its end.
pub(crate) const AGES: u8 = 64;

/// Largest magnitude of a value.
pub(crate) const MOST: f64 = f64::from_bits((1023 + 1000) << 52);

/// Least width of a bin.
const LEAST_WIDTH: f64 = f64::from_bits((1023 - 1000) << 52);

/// Least width of a bin, relative to the values.
const RELATIVE_WIDTH: f64 = 1e-9;

/// Where numbers of bins, as floats, stop being exact.
pub(crate) const FAR: f64 = (1u64 << 52) as f64;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Novelty {
    /// Rows of a key after which a value is forgotten: at least 1.
    pub history: u32,
    /// Values of a key that score 0 because too little is known of it.
    pub warmup: u32,
}

impl Novelty {
    /// Rows of a key in which marks become one step older.
    pub(crate) fn epoch(&self) -> u32 {
        self.history.div_ceil(u32::from(AGES))
    }
}

/// The values that a key has shown lately, on one scale; the default is one without values.
///
/// The fields are plain so that they can be saved; only the kernel can keep them in order.
#[repr(C)]
#[derive(Clone, Debug, PartialEq)]
pub struct NoveltyScale {
    /// The first value, which all were equal to as long as `per_unit` is 0.
    pub first: f64,
    /// Bins in a unit of value: a power of two, or 0 before there are two values.
    pub per_unit: f64,
    /// Number of the first bin: that from `base / per_unit` on.
    pub base: i64,
    /// Rows until marks are one step older; 0 before the first value.
    pub left: u32,
    /// The first bin with a mark.
    pub low: u16,
    /// The last bin with a mark.
    pub high: u16,
    /// The step that it is, modulo 256.
    pub step: u8,
    /// Which bins have a mark.
    pub marked: [u64; WORDS],
    /// When each bin was marked last, in steps modulo 256.
    pub stamps: [u8; BINS],
}

impl Default for NoveltyScale {
    fn default() -> NoveltyScale {
        NoveltyScale { first: 0.0, per_unit: 0.0, base: 0, left: 0, low: 0, high: 0, stamps: [0; BINS], marked: [0; WORDS], step: 0 }
    }
}

impl NoveltyScale {
    /// Whether this can be what a kernel left: for what comes from a snapshot.
    pub fn is_sound(&self) -> bool {
        let marks = || (0..BINS).filter(|&bin| self.is_marked(bin));
        let power = self.per_unit.to_bits() << 12 == 0 && (MOST.recip()..=LEAST_WIDTH.recip()).contains(&self.per_unit);
        let bounds = (marks().next(), marks().next_back()) == (Some(usize::from(self.low)), Some(usize::from(self.high)));
        self.first.is_finite() && (self.per_unit == 0.0 || power && bounds && self.left > 0 && self.base.abs() < FAR as i64)
    }

    /// Takes in a value while all that came were equal: its score, if it has one yet.
    pub(crate) fn begin(&mut self, value: f64, epoch: u32) -> f64 {
        if self.left == 0 {
            (self.first, self.left) = (value, epoch);
            return 0.0;
        }
        if value == self.first {
            return 0.0;
        }
        let apart = (value - self.first).abs() / (BINS / 4) as f64;
        let width = power_above(apart.max(RELATIVE_WIDTH * value.abs().max(self.first.abs())).max(LEAST_WIDTH));
        self.per_unit = width.recip();
        self.base = (self.first * self.per_unit).floor() as i64 - (BINS / 2) as i64;
        (self.low, self.high) = ((BINS / 2) as u16, (BINS / 2) as u16);
        self.mark(BINS / 2, self.step);
        let bin = self.room_for(value);
        self.take(bin, epoch);
        1.0
    }

    /// Marks the bin of a row that has its score.
    #[inline(always)]
    pub(crate) fn take(&mut self, bin: usize, epoch: u32) {
        self.mark(bin, self.step);
        (self.low, self.high) = (self.low.min(bin as u16), self.high.max(bin as u16));
        self.left -= 1;
        if self.left == 0 {
            self.left = epoch;
            self.age();
        }
    }

    #[inline(always)]
    fn mark(&mut self, bin: usize, stamp: u8) {
        self.stamps[bin] = stamp;
        self.marked[bin / 64] |= 1 << (bin % 64);
    }

    /// Whether a bin has a mark.
    #[inline(always)]
    pub(crate) fn is_marked(&self, bin: usize) -> bool {
        self.marked[bin / 64] >> (bin % 64) & 1 == 1
    }

    /// Makes all marks one step older, drops those at their end, and cuts bins while marks cover few of them.
    #[cold]
    fn age(&mut self) {
        self.step = self.step.wrapping_add(1);
        // Older ones went in the steps before.
        let end = self.step.wrapping_sub(AGES + 1);
        for (word, stamps) in self.marked.iter_mut().zip(self.stamps.as_chunks::<64>().0) {
            if *word != 0 {
                *word &= !equal(stamps, end);
            }
        }
        self.bound();
        while usize::from(self.high - self.low) < BINS / 4 && self.may_cut() {
            self.per_unit *= 2.0;
            let base = 2 * (self.base + i64::from(self.low)) - (BINS / 4) as i64;
            self.rebuild(base, |number| 2 * number..=2 * number + 1);
        }
    }

    /// Whether bins of half the width would still be wide enough.
    fn may_cut(&self) -> bool {
        let width = self.per_unit.recip() / 2.0;
        let edge = |bin: u16| (self.base + i64::from(bin)) as f64 * self.per_unit.recip();
        width >= LEAST_WIDTH && width >= RELATIVE_WIDTH * edge(self.low).abs().max(edge(self.high).abs())
    }

    /// The bin of a value, after bins have been joined and moved where it had none.
    #[cold]
    pub(crate) fn room_for(&mut self, value: f64) -> usize {
        let (position, marked) = (value * self.per_unit, |bin: u16| self.base + i64::from(bin));
        let span = |number: i64| number.max(marked(self.high)) - number.min(marked(self.low));
        if position.abs() >= FAR || span(position.floor() as i64) >= BINS as i64 {
            let width = self.per_unit.recip();
            let (low, high) = (marked(self.low) as f64 * width, (marked(self.high) + 1) as f64 * width);
            let wider = power_above((value.max(high) - value.min(low)) / (BINS - 2) as f64);
            let joined = (exponent(wider) - exponent(width)).clamp(1, 63);
            self.per_unit = wider.recip();
            self.rebuild((self.base + i64::from(self.low)) >> joined, |number| number >> joined..=number >> joined);
        }
        let number = (value * self.per_unit).floor() as i64;
        let (low, high) = (number.min(self.base + i64::from(self.low)), number.max(self.base + i64::from(self.high)));
        let spare = BINS as i64 - (high - low + 1);
        self.rebuild(low - spare / 2, |number| number..=number);
        (number - self.base) as usize
    }

    /// Moves each mark to the bins of the numbers that `targets` gives for its number, of which the first possible is `base`.
    fn rebuild(&mut self, base: i64, targets: impl Fn(i64) -> std::ops::RangeInclusive<i64>) {
        let (old, stamps, marked, step) = (self.base, self.stamps, std::mem::take(&mut self.marked), self.step);
        let age = |stamp: u8| step.wrapping_sub(stamp);
        self.base = base;
        for bin in bins_of(&marked) {
            for number in targets(old + bin as i64) {
                let (target, stamp) = ((number - base) as usize, stamps[bin]);
                let newest = if self.is_marked(target) && age(self.stamps[target]) < age(stamp) { self.stamps[target] } else { stamp };
                self.mark(target, newest);
            }
        }
        self.bound();
    }

    /// Finds the first and the last marked bin: there always is one, that of the latest value.
    fn bound(&mut self) {
        let words = || self.marked.iter().enumerate().filter(|(_, word)| **word != 0);
        let low = words().next().map_or(0, |(at, word)| 64 * at + word.trailing_zeros() as usize);
        let high = words().next_back().map_or(0, |(at, word)| 64 * at + 63 - word.leading_zeros() as usize);
        (self.low, self.high) = (low as u16, high as u16);
    }

    /// The middles of the marked bins, or the one value that there was.
    fn values(&self) -> impl Iterator<Item = f64> {
        let width = if self.per_unit > 0.0 { self.per_unit.recip() } else { 0.0 };
        let middles = bins_of(&self.marked).map(move |bin| ((self.base + bin as i64) as f64 + 0.5) * width);
        (self.left > 0 && width == 0.0).then_some(self.first).into_iter().chain(middles)
    }

    /// The same score for far values on every path: the share of the range that is new is all of it.
    #[inline(always)]
    pub(crate) fn take_far(&mut self, value: f64, epoch: u32) -> f64 {
        let bin = self.room_for(value);
        self.take(bin, epoch);
        1.0
    }
}

/// What is known of one key; the default is a key not yet seen.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoveltyCell {
    /// Values taken in, counted up to the end of the warm-up.
    pub count: u64,
    /// Sum of their magnitudes; after the warm-up the unit `s` of the compressed scale.
    pub unit: f64,
    /// The values as they are.
    pub linear: NoveltyScale,
    /// The values on the compressed scale, from the end of the warm-up on.
    pub compressed: NoveltyScale,
}

impl NoveltyCell {
    /// Counts a value of the warm-up that the linear scale has taken in; at its end the compressed scale takes over the linear one's.
    #[cold]
    pub(crate) fn warm(&mut self, value: f64, warmup: u32, mut step: impl FnMut(&mut NoveltyScale, f64)) {
        self.count += 1;
        self.unit += value.abs() / f64::from(warmup);
        if self.count < u64::from(warmup) {
            return;
        }
        if self.unit == 0.0 {
            self.unit = 1.0;
        }
        let NoveltyCell { unit, linear, compressed, .. } = self;
        linear.values().for_each(|value| step(compressed, compress(value, *unit)));
    }
}

/// The compressed scale: y(x) of the [module documentation](self).
#[inline(always)]
pub(crate) fn compress(value: f64, unit: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = (1.0 + value.abs() / unit).min(f64::MAX).to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let fraction = (bits & FRACTION) as f64 / (1u64 << 52) as f64;
    (exponent as f64 + fraction).copysign(value)
}

/// The bins with a mark, in order.
fn bins_of(marked: &[u64; WORDS]) -> impl Iterator<Item = usize> {
    marked.iter().enumerate().flat_map(|(at, &word)| {
        let rest = std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)));
        rest.take_while(|rest| *rest != 0).map(move |rest| 64 * at + rest.trailing_zeros() as usize)
    })
}

/// Which of the stamps are this one, a bit each.
fn equal(stamps: &[u8; 64], stamp: u8) -> u64 {
    let mut hits = [0; 64];
    hits.iter_mut().zip(stamps).for_each(|(hit, other)| *hit = u8::from(*other == stamp));
    if hits.iter().fold(0, |all, hit| all | hit) == 0 {
        return 0;
    }
    // A product that moves the lowest bit of each of eight bytes into the highest byte.
    let packed = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    hits.as_chunks().0.iter().enumerate().fold(0, |word, (at, bytes)| word | packed(bytes) << (8 * at))
}

/// The least power of two that is not below a positive normal number.
fn power_above(x: f64) -> f64 {
    let below = f64::from_bits(x.to_bits() >> 52 << 52);
    if below == x { x } else { below * 2.0 }
}

/// The power that a positive normal power of two is of two.
fn exponent(power: f64) -> i64 {
    (power.to_bits() >> 52) as i64 - 1023
}

/// Scores each row and takes it into its key's state.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or `history` or `warmup` is 0.
pub fn novelty(cells: &mut [NoveltyCell], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, params: &Novelty, scores: &mut [f64]) {
    Backend::active().novelty(cells, slots, values, validity, params, scores);
}

impl Backend {
    /// [`novelty`] on this backend.
    pub fn novelty(
        self,
        cells: &mut [NoveltyCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &Novelty,
        scores: &mut [f64],
    ) {
        assert!(params.history > 0 && params.warmup > 0, "history and warmup must be above 0, not {params:?}");
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and scores", values.len(), scores.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::anomaly::novelty(cells, slots, values, validity, params, scores),
            Self::Simd(level) => simd::anomaly::novelty(level, cells, slots, values, validity, params, scores),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
