//! DDSketch: quantiles of each group, each within a relative error alpha, in a bounded number of counters.
//!
//! C. Masson, J. E. Rim, H. K. Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
//! PVLDB 12(12), 2019. A value falls into a bucket whose upper bound is at most γ = (1 + α) / (1 − α) times its lower one,
//! so that the bucket tells it within α. The bucket is the paper's "fast" one: not the logarithm, but the exponent of the
//! float and a cubic of its significand that stays within 1% of the slope of the logarithm (section 4), which costs 1% more
//! buckets and no call of `ln`.
//!
//! A group is one [`DdHead`] and a row of [`DdLayout::counts_per_group`] counters: a window of [`DdLayout::buckets`]
//! buckets for positive and one for negative values. Bucket `i` is counted at `i` modulo the size of the window, so a window
//! that moves up moves no counters.
//!
//! * **Error.** [`DdLayout::quantile`] is within `alpha` of the exact quantile, relative to it, for every `q`, as long as the
//!   group has not collapsed. The exact quantile is the value of rank ⌊q (n − 1)⌋ of the n values in order.
//! * **Collapse.** A window holds the buckets from the largest magnitude down: `buckets` of them span a factor of about
//!   ((1 + α) / (1 − α))^(0.99 · buckets), which is 6.4e8 for α = 1% and 1,024. Magnitudes further below are counted in its
//!   lowest bucket (section 2.4): quantiles that fall there are too far from 0, by a factor that has no bound, and all others
//!   are as good as before. [`DdHead::collapsed`] tells whether it happened.
//! * **Null** rows are skipped.
//! * **Order** is that of [`crate::aggregate`]: −∞ < numbers < +∞ < NaN. Infinities and NaN are counted apart, and a quantile
//!   that falls among them is they.
//! * **Zeros** of both signs, and subnormal numbers (magnitudes below 2.2e-308), are counted as 0.0.
//! * **Counters** are of 64 bits, which values do not fill. Merged from bytes with forged counts, they may: then they wrap.
//! * **Bytes** of a group are in [`image`].
//!
//! A table depends on the rows it took alone, not on their order, batches or backend.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

pub mod image;

/// The mapping of values to buckets, and the size of a window; the same for all groups that are ever merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DdLayout {
    alpha: f64,
    lg_buckets: u32,
    /// Buckets per unit of the interpolated binary logarithm.
    density: f64,
}

/// What a group keeps besides its counters. [`DdHead::EMPTY`] with counters of 0 is a group without values.
///
/// Arrays have the positive side first, then the negative one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DdHead {
    /// Highest bucket in use: the top of the window.
    pub(crate) tops: [i32; 2],
    /// 1 if a bucket that held values left the window.
    pub(crate) collapsed: [u32; 2],
    pub(crate) infinite: [u64; 2],
    pub(crate) zero: u64,
    pub(crate) nan: u64,
}

/// Top of a window without values: no bucket's number comes near it.
pub(crate) const NO_TOP: i32 = 1 << 30;

/// Coefficients of the cubic A s³ + B s² + C s on [0, 1): its slope over that of the logarithm is least at 0 and at 2/3,
/// where it is C, and the curve is smooth where octaves meet. From the authors' implementation.
const A: f64 = 6.0 / 35.0;
const B: f64 = -3.0 / 5.0;
const C: f64 = 10.0 / 7.0;

/// Alpha is kept smaller by this part, which covers the rounding of bucket numbers and of their bounds.
const MARGIN: f64 = 1e-6;

/// Added to a float below 2^31, leaves it rounded in the low 32 bits, in two's complement.
const ROUND: f64 = 6_755_399_441_055_744.0;

const SIGNIFICAND: u64 = (1 << 52) - 1;

impl DdLayout {
    /// Quantiles within `alpha`, relative, from windows of `buckets` buckets for each sign.
    ///
    /// A common choice is 0.01 and 1,024: 16 KiB of counters per group, half of which stays untouched if all values are of
    /// one sign.
    ///
    /// # Panics
    /// If `alpha` is not in 0.00001..=0.5, or `buckets` is not a power of two from 16 to 65,536.
    pub fn new(alpha: f64, buckets: usize) -> Self {
        assert!((1e-5..=0.5).contains(&alpha), "alpha must be in 0.00001..=0.5, not {alpha}");
        assert!(
            buckets.is_power_of_two() && (16..=65_536).contains(&buckets),
            "buckets must be a power of two in 16..=65536, not {buckets}"
        );
        let kept = alpha * (1.0 - MARGIN);
        // The slope over ln x is at least C times the density: a bucket spans at most ln γ.
        Self { alpha, lg_buckets: buckets.ilog2(), density: 1.0 / (C * (2.0 * kept.atanh())) }
    }

    /// Bound of the relative error of a quantile.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Buckets of a window.
    pub fn buckets(&self) -> usize {
        1 << self.lg_buckets
    }

    /// Counters of a group: two windows.
    pub fn counts_per_group(&self) -> usize {
        2 << self.lg_buckets
    }

    /// Number of values that a group took.
    ///
    /// # Panics
    /// If `counts` is not the row of one group.
    pub fn count(&self, head: &DdHead, counts: &[u64]) -> u64 {
        check_lengths("counters of a group and its row", self.counts_per_group(), counts.len());
        let used = head.tops.iter().zip(counts.chunks_exact(self.buckets())).filter(|(top, _)| **top != NO_TOP);
        used.flat_map(|(_, window)| window)
            .chain(&head.infinite)
            .chain([&head.zero, &head.nan])
            .fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Value of rank ⌊q (n − 1)⌋ of the n values that a group took, within [`Self::alpha`]; `None` of none. `counts` is the
    /// group's row.
    ///
    /// # Panics
    /// If `q` is not in 0..=1, or `counts` is not the row of one group.
    pub fn quantile(&self, head: &DdHead, counts: &[u64], q: f64) -> Option<f64> {
        assert!((0.0..=1.0).contains(&q), "q must be in 0..=1, not {q}");
        let total = self.count(head, counts);
        let rank = (q * total.checked_sub(1)? as f64) as u64;
        // Values still to pass before that of the rank; the product may round up to the total.
        let mut left = rank.min(total - 1);
        let mut falls = |count: u64| {
            let inside = left < count;
            left -= if inside { 0 } else { count };
            inside
        };
        if falls(head.infinite[1]) {
            return Some(f64::NEG_INFINITY);
        }
        let (positive, negative) = counts.split_at(self.buckets());
        if let Some(bucket) = self.window(head.tops[1]).rev().find(|&bucket| falls(negative[self.place(bucket)])) {
            return Some(-self.value(bucket));
        }
        if falls(head.zero) {
            return Some(0.0);
        }
        if let Some(bucket) = self.window(head.tops[0]).find(|&bucket| falls(positive[self.place(bucket)])) {
            return Some(self.value(bucket));
        }
        Some(if falls(head.infinite[0]) { f64::INFINITY } else { f64::NAN })
    }

    /// The buckets of the window with this top, the lowest first; none of an empty one.
    pub(crate) fn window(&self, top: i32) -> impl DoubleEndedIterator<Item = i32> {
        let buckets = if top == NO_TOP { 0 } else { self.buckets() as i32 };
        top - buckets + 1..=top
    }

    /// Where in a window a bucket is counted.
    #[inline(always)]
    pub(crate) fn place(&self, bucket: i32) -> usize {
        bucket as usize & (self.buckets() - 1)
    }

    /// Number of the bucket of a value's magnitude; means something of normal numbers alone. The same operations in the same
    /// order, and so the same bits, on every backend.
    #[inline(always)]
    pub(crate) fn bucket(&self, value: f64) -> i32 {
        /// A float of this exponent holds an integer in its low 52 bits.
        const INTEGER: u64 = 0x4330 << 48;
        const ONE: u64 = 1023 << 52;
        let bits = value.to_bits();
        let exponent = f64::from_bits(INTEGER | (bits >> 52 & 0x7ff)) - f64::from_bits(INTEGER + 1023);
        let s = f64::from_bits(ONE | bits & SIGNIFICAND) - 1.0;
        let logarithm = exponent + ((A * s + B) * s + C) * s;
        (logarithm * self.density + ROUND).to_bits() as u32 as i32
    }

    /// What a bucket answers: within alpha of everything in it.
    pub(crate) fn value(&self, bucket: i32) -> f64 {
        let low = self.lower_bound(bucket).max(f64::MIN_POSITIVE);
        // Error alpha at the lower bound and, γ times as far, at the upper one.
        (low * (1.0 + self.alpha * (1.0 - MARGIN))).min(f64::MAX)
    }

    /// The least magnitude that rounds to this bucket.
    fn lower_bound(&self, bucket: i32) -> f64 {
        let logarithm = (f64::from(bucket) - 0.5) / self.density;
        let exponent = logarithm.floor();
        let s = solve(logarithm - exponent);
        // In two factors, either of which a float can hold.
        let half = (exponent as i32) / 2;
        (1.0 + s) * 2f64.powi(half) * 2f64.powi(exponent as i32 - half)
    }
}

/// The significand, less 1, whose cubic is `y` in 0..1: Newton's method, which a curve that only bends down cannot lead astray.
fn solve(y: f64) -> f64 {
    let mut s = y;
    for _ in 0..6 {
        s -= (((A * s + B) * s + C) * s - y) / ((3.0 * A * s + 2.0 * B) * s + C);
    }
    s
}

impl DdHead {
    /// No values.
    pub const EMPTY: Self = Self { tops: [NO_TOP; 2], collapsed: [0; 2], infinite: [0; 2], zero: 0, nan: 0 };

    /// Whether small magnitudes were counted as larger ones: then quantiles near 0 may be off by more than alpha.
    pub fn collapsed(&self) -> bool {
        self.collapsed != [0; 2]
    }

    /// The head as six words, for a snapshot; [`DdHead::from_words`] gives it back bit for bit.
    pub fn to_words(&self) -> [u64; 6] {
        let pair = |[low, high]: [u32; 2]| u64::from(low) | u64::from(high) << 32;
        [pair(self.tops.map(|top| top as u32)), pair(self.collapsed), self.infinite[0], self.infinite[1], self.zero, self.nan]
    }

    /// The head of a snapshot.
    pub fn from_words([tops, collapsed, positive, negative, zero, nan]: [u64; 6]) -> Self {
        let pair = |word: u64| [word as u32, (word >> 32) as u32];
        Self { tops: pair(tops).map(|top| top as i32), collapsed: pair(collapsed), infinite: [positive, negative], zero, nan }
    }
}

impl Default for DdHead {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Takes rows into their groups: group `slots[i]` takes `values[i]` where row `i` is valid. `heads` has one entry per
/// group, `counts` [`DdLayout::counts_per_group`].
///
/// # Panics
/// If the columns differ in length, `heads` and `counts` do not fit together, or the slot of a valid row is not below
/// `heads.len()`.
pub fn ddsketch_update(
    layout: &DdLayout,
    heads: &mut [DdHead],
    counts: &mut [u64],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
) {
    Backend::active().ddsketch_update(layout, heads, counts, slots, values, validity);
}

/// Takes a column into one group, whose row `counts` is.
///
/// # Panics
/// If `counts` is not the row of one group, or `validity` is of another length.
pub fn ddsketch_fold(layout: &DdLayout, head: &mut DdHead, counts: &mut [u64], values: &[f64], validity: Option<Bits<'_>>) {
    Backend::active().ddsketch_fold(layout, head, counts, values, validity);
}

/// Merges tables of the same layout, group by group: `into` becomes the table of both inputs' rows.
///
/// Additions of whole windows in a plain loop, which compilers turn into vectors: the same code on every backend.
///
/// # Panics
/// If the numbers of groups differ, or heads and counters do not fit together.
pub fn ddsketch_merge(layout: &DdLayout, heads: &mut [DdHead], counts: &mut [u64], from_heads: &[DdHead], from_counts: &[u64]) {
    check_lengths("groups to merge", heads.len(), from_heads.len());
    check_table(layout, heads, counts);
    check_table(layout, from_heads, from_counts);
    let rows = counts.chunks_exact_mut(layout.counts_per_group()).zip(from_counts.chunks_exact(layout.counts_per_group()));
    for ((head, from), (counts, from_counts)) in heads.iter_mut().zip(from_heads).zip(rows) {
        head.zero = head.zero.wrapping_add(from.zero);
        head.nan = head.nan.wrapping_add(from.nan);
        let windows = counts.chunks_exact_mut(layout.buckets()).zip(from_counts.chunks_exact(layout.buckets()));
        for (side, (window, from_window)) in windows.enumerate() {
            head.infinite[side] = head.infinite[side].wrapping_add(from.infinite[side]);
            head.collapsed[side] |= from.collapsed[side];
            head.collapsed[side] |= u32::from(merge_window(layout, &mut head.tops[side], window, from.tops[side], from_window));
        }
    }
}

/// Adds one window to another; returns whether buckets with values fell off either.
fn merge_window(layout: &DdLayout, top: &mut i32, window: &mut [u64], from_top: i32, from: &[u64]) -> bool {
    if from_top == NO_TOP {
        return false;
    }
    let mut collapsed = false;
    if *top == NO_TOP {
        *top = from_top;
    } else if *top < from_top {
        collapsed = scalar::sketch::ddsketch::advance(layout, top, window, from_top);
    }
    for (count, from) in window.iter_mut().zip(from) {
        *count = count.wrapping_add(*from);
    }
    // Buckets below the window were added to those that now have their places.
    let lowest = *top - layout.buckets() as i32 + 1;
    for bucket in layout.window(from_top).take_while(|&bucket| bucket < lowest) {
        let count = from[layout.place(bucket)];
        let [at, to] = [bucket, lowest].map(|bucket| layout.place(bucket));
        window[at] = window[at].wrapping_sub(count);
        window[to] = window[to].wrapping_add(count);
        collapsed |= count > 0;
    }
    collapsed
}

fn check_table(layout: &DdLayout, heads: &[DdHead], counts: &[u64]) {
    check_lengths("counters of all groups and the table", heads.len() * layout.counts_per_group(), counts.len());
}

impl Backend {
    /// [`ddsketch_update`] on this backend.
    pub fn ddsketch_update(
        self,
        layout: &DdLayout,
        heads: &mut [DdHead],
        counts: &mut [u64],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
    ) {
        check_table(layout, heads, counts);
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::sketch::ddsketch::update(layout, heads, counts, slots, values, validity),
            Self::Simd(level) => simd::sketch::ddsketch::update(level, layout, heads, counts, slots, values, validity),
        }
    }

    /// [`ddsketch_fold`] on this backend.
    pub fn ddsketch_fold(self, layout: &DdLayout, head: &mut DdHead, counts: &mut [u64], values: &[f64], validity: Option<Bits<'_>>) {
        check_table(layout, std::slice::from_ref(head), counts);
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::sketch::ddsketch::fold(layout, head, counts, values, validity),
            Self::Simd(level) => simd::sketch::ddsketch::fold(level, layout, head, counts, values, validity),
        }
    }
}

#[cfg(test)]
mod tests;
