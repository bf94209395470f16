//! NEON: two lanes of 64 bits. Every aarch64 processor that Rust's standard targets name has it.

use core::arch::aarch64::*;

use super::vector::{MAX_LANES, Vector, Words};
use crate::cell::{Cell, NAN_BITS};
use crate::scalar::text::Bytewise;
use crate::text::{Decimal, Text, WINDOW};

/// Proof of NEON; made only by [`super::launch`], under a [`super::Level`] that detection handed out.
#[derive(Clone, Copy)]
pub(super) struct Neon(pub(super) ());

impl Text for Neon {
    #[inline(always)]
    fn decimal(self, text: &[u8; WINDOW]) -> Option<Decimal> {
        Bytewise.decimal(text)
    }

    #[inline(always)]
    fn plain(self, text: &[u8; WINDOW]) -> Option<usize> {
        Bytewise.plain(text)
    }
}

impl Vector for Neon {
    type F = float64x2_t;
    type I = int64x2_t;
    type M = uint64x2_t;
    type Narrow = Self;
    const LANES: usize = 2;

    #[inline(always)]
    fn narrow(self) -> Self {
        self
    }

    #[inline(always)]
    fn load_f(self, from: &[f64]) -> float64x2_t {
        let from: &[f64] = &from[..2];
        // SAFETY: two floats are there by the line above; the token proves NEON.
        unsafe { vld1q_f64(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_i(self, from: &[i64]) -> int64x2_t {
        let from: &[i64] = &from[..2];
        // SAFETY: two integers are there by the line above; the token proves NEON.
        unsafe { vld1q_s64(from.as_ptr()) }
    }

    #[inline(always)]
    fn store_f(self, to: &mut [f64], value: float64x2_t) {
        let to: &mut [f64] = &mut to[..2];
        // SAFETY: there is room for two floats by the line above; the token proves NEON.
        unsafe { vst1q_f64(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn store_i(self, to: &mut [i64], value: int64x2_t) {
        let to: &mut [i64] = &mut to[..2];
        // SAFETY: there is room for two integers by the line above; the token proves NEON.
        unsafe { vst1q_s64(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn splat_i(self, value: i64) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vdupq_n_s64(value) }
    }

    #[inline(always)]
    fn as_f(self, value: int64x2_t) -> float64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vreinterpretq_f64_s64(value) }
    }

    #[inline(always)]
    fn as_i(self, value: float64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vreinterpretq_s64_f64(value) }
    }

    #[inline(always)]
    fn add(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vaddq_f64(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vsubq_f64(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vmulq_f64(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vdivq_f64(a, b) }
    }

    #[inline(always)]
    fn at_most(self, a: float64x2_t, b: float64x2_t) -> u64 {
        // SAFETY: the token proves NEON.
        unsafe {
            let at_most = vcleq_f64(a, b);
            vgetq_lane_u64::<0>(at_most) & 1 | vgetq_lane_u64::<1>(at_most) & 2
        }
    }

    #[inline(always)]
    fn add_i(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vaddq_s64(a, b) }
    }

    #[inline(always)]
    fn and(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vandq_s64(a, b) }
    }

    #[inline(always)]
    fn or(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vorrq_s64(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { veorq_s64(a, b) }
    }

    #[inline(always)]
    fn mul_i(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON. It has no product of 64 bits.
        unsafe {
            let first = vgetq_lane_s64::<0>(a).wrapping_mul(vgetq_lane_s64::<0>(b));
            let second = vgetq_lane_s64::<1>(a).wrapping_mul(vgetq_lane_s64::<1>(b));
            vsetq_lane_s64::<1>(second, vdupq_n_s64(first))
        }
    }

    #[inline(always)]
    fn up(self, a: int64x2_t, places: i64) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vshlq_s64(a, vdupq_n_s64(places)) }
    }

    #[inline(always)]
    fn down(self, a: int64x2_t, places: i64) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vreinterpretq_s64_u64(vshlq_u64(vreinterpretq_u64_s64(a), vdupq_n_s64(-places))) }
    }

    #[inline(always)]
    fn sign(self, a: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vshrq_n_s64::<63>(a) }
    }

    #[inline(always)]
    fn below(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe {
            let below = vcltq_u64(vreinterpretq_u64_s64(a), vreinterpretq_u64_s64(b));
            vreinterpretq_s64_u64(vshrq_n_u64::<63>(below))
        }
    }

    #[inline(always)]
    fn order_key(self, value: float64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe {
            let is_number = vceqq_f64(value, value);
            let bits = vreinterpretq_s64_f64(vbslq_f64(is_number, value, vdupq_n_f64(f64::from_bits(NAN_BITS))));
            let negative = vreinterpretq_u64_s64(vshrq_n_s64::<63>(bits));
            veorq_s64(bits, vreinterpretq_s64_u64(vshrq_n_u64::<1>(negative)))
        }
    }

    #[inline(always)]
    fn min(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_s64(vcgtq_s64(a, b), b, a) }
    }

    #[inline(always)]
    fn max(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_s64(vcgtq_s64(a, b), a, b) }
    }

    #[inline(always)]
    fn widen(self, cell: &mut Cell, key: i64) {
        // Compare and select cost less here than moving the key to a vector register.
        cell.min = cell.min.min(key);
        cell.max = cell.max.max(key);
    }

    #[inline(always)]
    fn equal(self, a: int64x2_t, b: int64x2_t) -> u64 {
        // SAFETY: the token proves NEON.
        unsafe {
            let equal = vceqq_s64(a, b);
            vgetq_lane_u64::<0>(equal) & 1 | vgetq_lane_u64::<1>(equal) & 2
        }
    }

    #[inline(always)]
    fn equal_u32(self, numbers: &[u32; 8], number: u32) -> u64 {
        // Each half leaves one bit of every lane, at the place of that lane, and sums them.
        let half = |numbers: &[u32], bits: [u32; 4]| -> u64 {
            let numbers = &numbers[..4];
            // SAFETY: four numbers are there by the line above, and four bits; the token proves NEON.
            unsafe {
                let equal = vceqq_u32(vld1q_u32(numbers.as_ptr()), vdupq_n_u32(number));
                u64::from(vaddvq_u32(vandq_u32(equal, vld1q_u32(bits.as_ptr()))))
            }
        };
        half(&numbers[..4], [1, 2, 4, 8]) | half(&numbers[4..], [16, 32, 64, 128])
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> uint64x2_t {
        let of_lane = [bits & 1, bits >> 1 & 1];
        // SAFETY: two integers are there by the line above; the token proves NEON.
        unsafe { vcgtq_u64(vld1q_u64(of_lane.as_ptr()), vdupq_n_u64(0)) }
    }

    #[inline(always)]
    fn select(self, mask: uint64x2_t, value: int64x2_t, otherwise: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_s64(mask, value, otherwise) }
    }

    #[inline(always)]
    fn distinct(self, slots: &[u32]) -> bool {
        slots[0] != slots[1]
    }

    #[inline(always)]
    unsafe fn load_words(self, rows: &[*mut Words; MAX_LANES]) -> [int64x2_t; 4] {
        // SAFETY: the caller's promise; the token proves NEON.
        unsafe {
            let [a, b] = [rows[0], rows[1]].map(|row| row.cast::<i64>());
            let ([a_front, b_front], [a_back, b_back]) = ([a, b].map(|at| vld1q_s64(at)), [a, b].map(|at| vld1q_s64(at.add(2))));
            [vzip1q_s64(a_front, b_front), vzip2q_s64(a_front, b_front), vzip1q_s64(a_back, b_back), vzip2q_s64(a_back, b_back)]
        }
    }

    #[inline(always)]
    unsafe fn store_words(self, rows: &[*mut Words; MAX_LANES], [first, second, third, fourth]: [int64x2_t; 4]) {
        // SAFETY: the caller's promise; the token proves NEON.
        unsafe {
            let [a, b] = [rows[0], rows[1]].map(|row| row.cast::<i64>());
            vst1q_s64(a, vzip1q_s64(first, second));
            vst1q_s64(a.add(2), vzip1q_s64(third, fourth));
            vst1q_s64(b, vzip2q_s64(first, second));
            vst1q_s64(b.add(2), vzip2q_s64(third, fourth));
        }
    }
}
