//! NEON: two lanes of 64 bits. Every aarch64 processor that Rust's standard targets name has it.

use core::arch::aarch64::*;

use super::vector::{FIELDS, MAX_LANES, Vector};
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
    fn add_i(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        // SAFETY: the token proves NEON.
        unsafe { vaddq_s64(a, b) }
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
    unsafe fn load_cells(self, cells: &[*mut Cell; MAX_LANES]) -> [int64x2_t; 4] {
        // SAFETY: the caller's promise, and the four words from FIELDS on are the rest of a cell; the token proves NEON.
        unsafe {
            let [a, b] = [cells[0], cells[1]].map(|cell| cell.byte_add(FIELDS).cast::<i64>());
            let ([a_sum, b_sum], [a_order, b_order]) = ([a, b].map(|at| vld1q_s64(at)), [a, b].map(|at| vld1q_s64(at.add(2))));
            [vzip1q_s64(a_sum, b_sum), vzip2q_s64(a_sum, b_sum), vzip1q_s64(a_order, b_order), vzip2q_s64(a_order, b_order)]
        }
    }

    #[inline(always)]
    unsafe fn store_cells(self, cells: &[*mut Cell; MAX_LANES], [sum, rest, min, max]: [int64x2_t; 4]) {
        // SAFETY: the caller's promise, and the four words from FIELDS on are the rest of a cell; the token proves NEON.
        unsafe {
            let [a, b] = [cells[0], cells[1]].map(|cell| cell.byte_add(FIELDS).cast::<i64>());
            vst1q_s64(a, vzip1q_s64(sum, rest));
            vst1q_s64(a.add(2), vzip1q_s64(min, max));
            vst1q_s64(b, vzip2q_s64(sum, rest));
            vst1q_s64(b.add(2), vzip2q_s64(min, max));
        }
    }
}
