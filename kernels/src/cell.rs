//! The accumulator of one value column for one group.

use crate::simd::prefetch::prefer_huge_pages;
use crate::value::unbiased;

/// Count, sum, minimum and maximum of the non-null values of one group; [`Cell::EMPTY`] is the identity of combine.
///
/// A cell serves values of one type for its lifetime, and the view must fit it: `float_*` for `f64` and `f32`, `int_*` for
/// `i64`, `i32` and `u32`, `uint_*` for `u64`. Views of order and sum mean something only where `count > 0` and the part was wanted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Values taken in: non-null rows.
    pub count: u64,
    /// Floats: bits of the running sum and of its compensation. Integers: low and high word of an `i128`.
    pub(crate) sum: [u64; 2],
    /// Smallest value: the integer (less 2⁶³ if of `u64`), or the order key of the float.
    pub min: i64,
    /// Largest value: the integer (less 2⁶³ if of `u64`), or the order key of the float.
    pub max: i64,
}

const _: () = assert!(size_of::<Cell>() == 40);

impl Cell {
    /// No values.
    pub const EMPTY: Self = Self { count: 0, sum: [0, 0], min: i64::MAX, max: i64::MIN };

    /// Sum of the floats; NaN if any was NaN or if infinities of both signs met.
    #[inline]
    pub fn float_sum(&self) -> f64 {
        let [sum, compensation] = self.sum.map(f64::from_bits);
        // Once the sum is infinite or NaN, the compensation is a difference of infinities and says nothing.
        if sum.is_finite() && compensation.is_finite() { sum + compensation } else { sum }
    }

    /// Smallest float: NaN only if all were NaN.
    #[inline]
    pub fn float_min(&self) -> f64 {
        from_order_key(self.min)
    }

    /// Largest float: NaN if any was NaN.
    #[inline]
    pub fn float_max(&self) -> f64 {
        from_order_key(self.max)
    }

    /// Exact sum of the integers.
    #[inline]
    pub fn int_sum(&self) -> i128 {
        (u128::from(self.sum[0]) | u128::from(self.sum[1]) << 64) as i128
    }

    /// Smallest integer.
    #[inline]
    pub fn int_min(&self) -> i64 {
        self.min
    }

    /// Largest integer.
    #[inline]
    pub fn int_max(&self) -> i64 {
        self.max
    }

    /// Exact sum of the `u64` integers.
    #[inline]
    pub fn uint_sum(&self) -> u128 {
        // Each was taken in less 2^63.
        self.int_sum().wrapping_add(i128::from(self.count) << 63) as u128
    }

    /// Smallest `u64` integer.
    #[inline]
    pub fn uint_min(&self) -> u64 {
        unbiased(self.min)
    }

    /// Largest `u64` integer.
    #[inline]
    pub fn uint_max(&self) -> u64 {
        unbiased(self.max)
    }

    /// The cell as five words, for a snapshot; [`Cell::from_words`] gives it back bit for bit.
    #[inline]
    pub fn to_words(&self) -> [u64; 5] {
        [self.count, self.sum[0], self.sum[1], self.min as u64, self.max as u64]
    }

    /// The cell of a snapshot.
    #[inline]
    pub fn from_words([count, low, high, min, max]: [u64; 5]) -> Self {
        Self { count, sum: [low, high], min: min as i64, max: max as i64 }
    }

    #[inline(always)]
    pub(crate) fn add_int(&mut self, value: i128) {
        let sum = self.int_sum().wrapping_add(value) as u128;
        self.sum = [sum as u64, (sum >> 64) as u64];
    }
}

/// Resizes a table of accumulators, asking for huge pages where it is large: rows reach it at random.
pub fn resize_table<T: Copy>(table: &mut Vec<T>, len: usize, empty: T) {
    if table.capacity() < len {
        // Copied, not reallocated: pages that the system moves elsewhere stay small, or become so.
        let mut grown = Vec::with_capacity(len.max(2 * table.capacity()));
        prefer_huge_pages(&mut grown);
        grown.extend_from_slice(table);
        *table = grown;
    }
    table.resize(len, empty);
}

impl Default for Cell {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// NaNs of every payload and sign count as this one.
pub(crate) const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// A key that orders as IEEE 754 `totalOrder` does: −∞ … −0.0 < +0.0 … +∞ < NaN, all NaNs being one.
#[inline(always)]
pub(crate) fn order_key(value: f64) -> i64 {
    flip(if value.is_nan() { NAN_BITS } else { value.to_bits() } as i64)
}

/// The float whose key this is.
#[inline(always)]
pub(crate) fn from_order_key(key: i64) -> f64 {
    f64::from_bits(flip(key) as u64)
}

/// Negative floats count down as their bits count up: flip all but the sign. Its own inverse.
#[inline(always)]
fn flip(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// Sum of two floats and its exact rounding error, without a branch: TwoSum, Møller (1965), Knuth, TAOCP 4.2.2.
#[inline(always)]
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_seen = sum - a;
    (sum, (a - (sum - b_seen)) + (b - b_seen))
}

#[cfg(test)]
mod tests {
    use super::{Cell, from_order_key, order_key};

    #[test]
    fn a_cell_survives_its_words() {
        let cell = Cell { count: 3, sum: [(-0.0f64).to_bits(), u64::MAX], min: i64::MIN, max: -1 };
        assert_eq!(Cell::from_words(cell.to_words()), cell);
        assert_eq!(Cell::from_words(Cell::EMPTY.to_words()), Cell::default());
    }

    #[test]
    fn keys_are_strictly_monotone_and_invertible() {
        let ascending = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.0,
            -f64::MIN_POSITIVE,
            -5e-324,
            -0.0,
            0.0,
            5e-324,
            f64::MIN_POSITIVE,
            1.0,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        for pair in ascending.windows(2) {
            assert!(order_key(pair[0]) < order_key(pair[1]), "{pair:?}");
        }
        for value in ascending {
            assert_eq!(from_order_key(order_key(value)).to_bits(), value.to_bits());
        }
        assert_eq!(order_key(-f64::NAN), order_key(f64::NAN));
        assert_eq!(order_key(f64::from_bits(0x7ff0_0000_0000_0001)), order_key(f64::NAN));
        assert!(order_key(f64::NAN) < Cell::EMPTY.min && order_key(f64::NEG_INFINITY) > Cell::EMPTY.max);
    }
}
