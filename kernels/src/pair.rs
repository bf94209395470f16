//! Double-double arithmetic: a number as an unevaluated sum of two floats. Sums keep some 104 bits, products 76.
//!
//! T. J. Dekker, "A floating-point technique for extending the available precision", Numerische Mathematik 18, 1971; the
//! names are those of Hida, Li and Bailey, "Algorithms for quad-double precision floating point arithmetic", ARITH-15, 2001.
//! Where a high word is infinite or NaN it is right, and the low word says nothing.

use std::ops::{Add, Mul, Neg};

use crate::cell::two_sum;

/// `high + low`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub high: f64,
    pub low: f64,
}

impl Pair {
    /// The sum of two floats of any size.
    #[inline(always)]
    pub fn new(a: f64, b: f64) -> Self {
        let (high, low) = two_sum(a, b);
        Self { high, low }
    }

    /// The sum of two floats, of which the second says nothing where the first is infinite or NaN.
    #[inline(always)]
    pub fn joined(high: f64, low: f64) -> Self {
        if low.is_finite() { Self::new(high, low) } else { Self::from(high) }
    }

    #[inline(always)]
    pub fn value(self) -> f64 {
        if self.low.is_finite() { self.high + self.low } else { self.high }
    }
}

impl From<f64> for Pair {
    #[inline(always)]
    fn from(high: f64) -> Self {
        Self { high, low: 0.0 }
    }
}

impl Neg for Pair {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

impl Add for Pair {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let (high, lost) = two_sum(self.high, other.high);
        Self::joined(high, lost + (self.low + other.low))
    }
}

impl Mul for Pair {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let (high, lost) = two_product(self.high, other.high);
        Self::joined(high, lost + (self.high * other.low + self.low * other.high))
    }
}

/// The bits that [`split`] leaves in the upper part, so that the product of two such parts is exact.
const UPPER: u64 = !0 << 27;

/// A float as two of at most 27 bits each.
#[inline(always)]
fn split(value: f64) -> (f64, f64) {
    let upper = f64::from_bits(value.to_bits() & UPPER);
    (upper, value - upper)
}

/// The product of two floats, and its rounding error but for 2⁻⁷⁶ of the product; by splitting, so that it is the same with
/// and without a fused multiply-add.
#[inline(always)]
pub(crate) fn two_product(a: f64, b: f64) -> (f64, f64) {
    let ((a_upper, a_lower), (b_upper, b_lower)) = (split(a), split(b));
    let (upper, lower) = (a_upper * b_upper, a_upper * b_lower + a_lower * b);
    let product = upper + lower;
    (product, lower - (product - upper))
}

#[cfg(test)]
mod tests {
    use super::{Pair, two_product};
    use crate::testing::scramble;

    /// 53-bit integers: their products are exact in 106 bits.
    fn integers(n: u64) -> [i128; 2] {
        [n, n + 1_000_000].map(|n| i128::from(scramble(n) as i64 >> (11 + scramble(n) % 40)))
    }

    #[test]
    fn products_are_within_their_error() {
        for [a, b] in (0..10_000).map(integers) {
            let (product, lost) = two_product(a as f64, b as f64);
            let error = a * b - (product as i128 + lost as i128);
            assert!(error.abs() <= (a * b).abs() / (1 << 76), "{a} times {b}: {error}");
        }
    }

    #[test]
    fn pairs_add_and_multiply() {
        for [a, b] in (0..10_000).map(integers) {
            let (x, y) = (Pair::new(a as f64, (b >> 60) as f64), Pair::from(b as f64));
            let exact = |pair: Pair| pair.high as i128 + pair.low as i128;
            assert_eq!(exact(x + y), a + (b >> 60) + b);
            assert_eq!(exact(x + -x), 0);
            let error = exact(x * y) - (a + (b >> 60)) * b;
            assert!(error.abs() <= (a * b).abs() / (1 << 76), "{a} times {b}: {error}");
        }
        assert_eq!((Pair::from(f64::INFINITY) + Pair::from(1.0)).value(), f64::INFINITY);
    }
}
