//! Sums in fixed point: the window of exponents that a table's limbs span, and limbs back to floats.
//!
//! A float is an integer of 53 bits times a power of two, so any sum of floats is an integer of enough bits: Kulisch's
//! long accumulator ("Computer Arithmetic and Validity", 2008, ch. 8). A table keeps only the limbs that its values'
//! exponents need, 67 of 32 bits for the whole range of `f64`, and four for values within a factor of 2^32.

use crate::Bits;

/// Exponent fields of floats, denormals counting as 1; a range of them, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exponents {
    pub(super) least: u32,
    pub(super) most: u32,
}

const LARGEST: u32 = 2046;
const SPECIAL: u32 = 2047;

impl Exponents {
    /// No number yet.
    pub(super) const NONE: Self = Self { least: u32::MAX, most: 0 };

    /// The range of the valid rows' exponents; zeros, NaNs and infinities have none.
    pub(super) fn of(values: &[f64], validity: Option<Bits<'_>>, first: usize) -> Self {
        let mut range = Self::NONE;
        match validity {
            None => values.iter().for_each(|value| range.include(*value)),
            Some(bits) => {
                for (block, values) in values.chunks(64).enumerate() {
                    let mut word = bits.word(first + block * 64);
                    for value in values {
                        range.include(if word & 1 == 1 { *value } else { 0.0 });
                        word >>= 1;
                    }
                }
            }
        }
        range
    }

    #[inline(always)]
    fn include(&mut self, value: f64) {
        let magnitude = value.to_bits() << 1;
        let exponent = (magnitude >> 53) as u32;
        let number = magnitude != 0 && exponent != SPECIAL;
        self.least = self.least.min(if number { exponent.max(1) } else { u32::MAX });
        self.most = self.most.max(if number { exponent.max(1) } else { 0 });
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

/// The fixed point of a table: weight of the lowest bit and number of limbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Exponent field of the smallest floats that fit; the lowest bit weighs 2^(base - 1075).
    pub(super) base: u32,
    /// Limbs of 32 bits, the sign and 31 bits of headroom included: sums of 2^31 values fit.
    pub(super) limbs: u32,
}

impl Window {
    /// Integers have a window of their own: value + 2^63, summed into three limbs.
    pub(super) const INTS: Self = Self { base: 0, limbs: 3 };
    /// No sum is wanted.
    pub(super) const NONE: Self = Self { base: 1, limbs: 0 };
    /// What most columns need: spans a factor of 2^96.
    pub(super) const START: Self = Self { base: 992, limbs: 6 };

    /// A float fills up to three limbs from the one its lowest bit is in; one more holds the headroom.
    const LIMBS_ABOVE: u32 = 3;

    pub(super) fn holds(self, range: Exponents) -> bool {
        range.most == 0 || (range.least >= self.base && (range.most - self.base) / 32 + Self::LIMBS_ABOVE < self.limbs)
    }

    fn exponents(self) -> Exponents {
        Exponents { least: self.base, most: self.base + 32 * (self.limbs - Self::LIMBS_ABOVE) - 1 }
    }

    /// A window for all that either holds, a limb wider below, for the smaller values that are bound to come.
    pub(super) fn widened(self, range: Exponents, used: bool) -> Self {
        let range = if used { range.union(self.exponents()) } else { range };
        let least = range.least.saturating_sub(32).max(1);
        let most = range.most.min(LARGEST);
        Self { base: least, limbs: (most - least) / 32 + Self::LIMBS_ABOVE + 1 }
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
    let weight = unit + last as i32;
    (bits as f64 * power_of_two(weight), weight)
}

/// 2^exponent from the least denormal up; infinite beyond the range.
fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        ..-1022 => f64::from_bits(1 << (exponent + 1074)),
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        1024.. => f64::INFINITY,
    }
}

#[cfg(test)]
#[path = "fixed_tests.rs"]
mod tests;
