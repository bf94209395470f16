//! Sums in fixed point: the window of exponents that a table's limbs span, and limbs back to floats.
//!
//! A float is an integer of 53 bits times a power of two, so any sum of floats is an integer of enough bits: Kulisch's
//! long accumulator ("Computer Arithmetic and Validity", 2008, ch. 8). A table keeps only the limbs that its values'
//! exponents need, 67 of 32 bits for the whole range of `f64`; six do for what most columns hold.

use crate::Bits;

/// Exponent fields of floats, denormals counting as 1; a range of them, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exponents {
    pub(super) least: u32,
    pub(super) most: u32,
}

const LARGEST: u32 = 2046;
/// Of the last bit of a denormal.
const LEAST_WEIGHT: i32 = -1074;

impl Exponents {
    /// No number yet.
    pub(super) const NONE: Self = Self { least: u32::MAX, most: 0 };

    /// The range of the valid rows' exponents; zeros, NaNs and infinities have none.
    pub(super) fn of(values: &[f64], validity: Option<Bits<'_>>, first: usize) -> Self {
        let mut magnitudes = Magnitudes([f64::INFINITY; LANES], [0.0; LANES]);
        for (block, values) in values.chunks(64).enumerate() {
            let word = validity.map_or(u64::MAX, |bits| bits.word(first + block * 64));
            if word == u64::MAX {
                magnitudes.include(values);
            } else {
                let mut valid = [0.0; 64];
                for (row, (valid, value)) in valid.iter_mut().zip(values).enumerate() {
                    *valid = if word >> row & 1 == 1 { *value } else { 0.0 };
                }
                magnitudes.include(&valid);
            }
        }
        magnitudes.exponents()
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

const LANES: usize = 8;

/// Least and greatest magnitude of the numbers other than zero, lane by lane, so that vectors take them.
struct Magnitudes([f64; LANES], [f64; LANES]);

impl Magnitudes {
    #[inline(always)]
    fn include(&mut self, values: &[f64]) {
        let (whole, rest) = values.as_chunks::<LANES>();
        whole.iter().for_each(|values| self.include_lanes(values));
        if !rest.is_empty() {
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            self.include_lanes(&last);
        }
    }

    #[inline(always)]
    fn include_lanes(&mut self, values: &[f64; LANES]) {
        for (lane, value) in values.iter().enumerate() {
            let magnitude = value.abs();
            // NaN is above nothing and below nothing.
            let (above, below) =
                (if magnitude > 0.0 { magnitude } else { f64::INFINITY }, if magnitude < f64::INFINITY { magnitude } else { 0.0 });
            self.0[lane] = if above < self.0[lane] { above } else { self.0[lane] };
            self.1[lane] = if below > self.1[lane] { below } else { self.1[lane] };
        }
    }

    fn exponents(&self) -> Exponents {
        let exponent = |magnitude: &f64| ((magnitude.to_bits() >> 52) as u32).max(1);
        let least = self.0.iter().filter(|least| **least < f64::INFINITY).map(exponent).min();
        let most = self.1.iter().filter(|most| **most > 0.0).map(exponent).max();
        least.zip(most).map_or(Exponents::NONE, |(least, most)| Exponents { least, most })
    }
}

/// The fixed point of a table: weight of the lowest bit and number of limbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Exponent field of the smallest floats that fit, a multiple of 32; the lowest bit weighs 2^(base - 1075).
    pub(super) base: u32,
    /// Limbs of 32 bits, the sign and 43 bits of headroom included: sums of [`Window::MOST_ROWS`] fit.
    pub(super) limbs: u32,
}

impl Window {
    /// Integers have a window of their own: value + 2^63, summed into four limbs.
    pub(super) const INTS: Self = Self { base: 0, limbs: 4 };
    /// No sum is wanted.
    pub(super) const NONE: Self = Self { base: 0, limbs: 0 };
    /// What most columns need: spans a factor of 2^96.
    pub(super) const START: Self = Self { base: 992, limbs: 6 };

    /// Rows that any window's sum takes for certain.
    pub(super) const MOST_ROWS: u64 = 1 << 42;

    /// A float fills up to three limbs from the one its lowest bit is in; one more holds the headroom.
    const LIMBS_ABOVE: u32 = 3;

    pub(super) fn holds(self, range: Exponents) -> bool {
        range.most == 0 || (range.least >= self.base && (range.most - self.base) / 32 + Self::LIMBS_ABOVE < self.limbs)
    }

    pub(super) fn covers(self, other: Self) -> bool {
        self.base <= other.base && self.base + 32 * self.limbs >= other.base + 32 * other.limbs
    }

    /// The window that covers both.
    pub(super) fn over(self, other: Self) -> Self {
        let base = self.base.min(other.base);
        let end = |window: Self| window.base / 32 + window.limbs;
        Self { base, limbs: end(self).max(end(other)) - base / 32 }
    }

    fn exponents(self) -> Exponents {
        Exponents { least: self.base, most: self.base + 32 * (self.limbs - Self::LIMBS_ABOVE) - 1 }
    }

    /// A window for all that either holds, a limb wider below, for the smaller values that are bound to come.
    pub(super) fn widened(self, range: Exponents, used: bool) -> Self {
        let range = if used { range.union(self.exponents()) } else { range };
        let base = range.least.saturating_sub(32) / 32 * 32;
        Self { base, limbs: (range.most.min(LARGEST) - base) / 32 + Self::LIMBS_ABOVE + 1 }
    }
}

/// The sum as the nearest float and the error of that, from two's complement limbs, lowest first.
pub(super) fn to_float(limbs: &mut [u32], base: u32) -> (f64, f64) {
    let negative = limbs.last().is_some_and(|top| top >> 31 == 1);
    if negative {
        negate(limbs);
    }
    let unit = base as i32 - 1075;
    let (high, _) = take_top(limbs, unit);
    let (mut low, at) = take_top(limbs, unit);
    // What is left stands below the low part's last bit: made odd, it rounds as if all of it were there (Boldo and
    // Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    if limbs.iter().any(|limb| *limb != 0) {
        low = f64::from_bits(low.to_bits() | 1);
        debug_assert!(at > unit, "a part of fewer than 53 bits leaves nothing");
    }
    let sign = if negative { -1.0 } else { 1.0 };
    let sum = high + low;
    if !sum.is_finite() {
        return (sign * sum, 0.0);
    }
    // Fast2Sum: the high part is the larger.
    let error = low - (sum - high);
    (if sum == 0.0 { 0.0 } else { sign * sum }, if error == 0.0 { 0.0 } else { sign * error })
}

fn negate(limbs: &mut [u32]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).overflowing_add(u32::from(carry));
    }
}

/// Takes the 53 highest bits out of an unsigned number, as a float and the weight of its last bit.
fn take_top(limbs: &mut [u32], unit: i32) -> (f64, i32) {
    let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return (0.0, unit) };
    let last = (top * 32 + 31 - limbs[top].leading_zeros() as usize).saturating_sub(52);
    let mut bits = 0u64;
    for index in (last / 32..=top).rev() {
        let kept = if index == last / 32 { limbs[index] >> (last % 32) << (last % 32) } else { limbs[index] };
        limbs[index] -= kept;
        let place = index as i32 * 32 - last as i32;
        bits |= if place >= 0 { u64::from(kept) << place } else { u64::from(kept) >> -place };
    }
    let mut weight = unit + last as i32;
    if weight < LEAST_WEIGHT {
        // Below the last bit of the least denormal is always a zero.
        (bits, weight) = (bits >> 1, weight + 1);
    }
    (bits as f64 * power_of_two(weight), weight)
}

/// 2^exponent from the least denormal up; infinite beyond the range.
fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        ..-1022 => f64::from_bits(1 << (exponent - LEAST_WEIGHT)),
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        1024.. => f64::INFINITY,
    }
}

#[cfg(test)]
#[path = "fixed_tests.rs"]
mod tests;
