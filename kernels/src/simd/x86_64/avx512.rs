//! AVX-512: eight lanes of 64 bits, and comparisons that give masks.

use core::arch::x86_64::*;
use core::mem::offset_of;

use super::Avx2;
use crate::cell::{Cell, NAN_BITS};
use crate::simd::vector::{MAX_LANES, Vector, Words};

/// Proof of AVX-512 F, BW, CD, DQ and VL; made only by [`crate::simd::launch`], under a [`crate::simd::Level`] that
/// detection handed out.
#[derive(Clone, Copy)]
pub(in crate::simd) struct Avx512(pub(in crate::simd) ());

impl Vector for Avx512 {
    type F = __m512d;
    type I = __m512i;
    type M = __mmask8;
    type Narrow = Avx2;
    const LANES: usize = 8;

    #[inline(always)]
    fn narrow(self) -> Avx2 {
        // AVX-512 F includes AVX2.
        Avx2(())
    }

    #[inline(always)]
    fn load_f(self, from: &[f64]) -> __m512d {
        let from: &[f64] = &from[..8];
        // SAFETY: eight floats are there by the line above; the token proves AVX-512 F.
        unsafe { _mm512_loadu_pd(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_i(self, from: &[i64]) -> __m512i {
        let from: &[i64] = &from[..8];
        // SAFETY: eight integers are there by the line above; the token proves AVX-512 F.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_f(self, to: &mut [f64], value: __m512d) {
        let to: &mut [f64] = &mut to[..8];
        // SAFETY: there is room for eight floats by the line above; the token proves AVX-512 F.
        unsafe { _mm512_storeu_pd(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn store_i(self, to: &mut [i64], value: __m512i) {
        let to: &mut [i64] = &mut to[..8];
        // SAFETY: there is room for eight integers by the line above; the token proves AVX-512 F.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    fn splat_i(self, value: i64) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_set1_epi64(value) }
    }

    #[inline(always)]
    fn as_f(self, value: __m512i) -> __m512d {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_castsi512_pd(value) }
    }

    #[inline(always)]
    fn as_i(self, value: __m512d) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_castpd_si512(value) }
    }

    #[inline(always)]
    fn add(self, a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_add_pd(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_sub_pd(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_mul_pd(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_div_pd(a, b) }
    }

    #[inline(always)]
    fn at_most(self, a: __m512d, b: __m512d) -> u64 {
        // SAFETY: the token proves AVX-512 F.
        unsafe { u64::from(_mm512_cmp_pd_mask::<_CMP_LE_OQ>(a, b)) }
    }

    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_add_epi64(a, b) }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    fn mul_i(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 DQ.
        unsafe { _mm512_mullo_epi64(a, b) }
    }

    #[inline(always)]
    fn up(self, a: __m512i, places: i64) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_sllv_epi64(a, _mm512_set1_epi64(places)) }
    }

    #[inline(always)]
    fn down(self, a: __m512i, places: i64) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_srlv_epi64(a, _mm512_set1_epi64(places)) }
    }

    #[inline(always)]
    fn sign(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_srai_epi64::<63>(a) }
    }

    #[inline(always)]
    fn below(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_maskz_set1_epi64(_mm512_cmplt_epu64_mask(a, b), 1) }
    }

    #[inline(always)]
    fn order_key(self, value: __m512d) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe {
            let is_nan = _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(value, value);
            let bits = _mm512_mask_set1_epi64(_mm512_castpd_si512(value), is_nan, NAN_BITS as i64);
            _mm512_xor_si512(bits, _mm512_srli_epi64::<1>(_mm512_srai_epi64::<63>(bits)))
        }
    }

    #[inline(always)]
    fn min(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_min_epi64(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_max_epi64(a, b) }
    }

    #[inline(always)]
    fn equal(self, a: __m512i, b: __m512i) -> u64 {
        // SAFETY: the token proves AVX-512 F.
        unsafe { u64::from(_mm512_cmpeq_epi64_mask(a, b)) }
    }

    #[inline(always)]
    fn equal_u32(self, numbers: &[u32; 8], number: u32) -> u64 {
        // SAFETY: there are eight numbers of 32 bits; the token proves AVX-512 VL.
        unsafe { u64::from(_mm256_cmpeq_epi32_mask(_mm256_loadu_si256(numbers.as_ptr().cast()), _mm256_set1_epi32(number as i32))) }
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> __mmask8 {
        bits as __mmask8
    }

    #[inline(always)]
    fn select(self, mask: __mmask8, value: __m512i, otherwise: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_mask_blend_epi64(mask, otherwise, value) }
    }

    #[inline(always)]
    fn widen(self, cell: &mut Cell, key: i64) {
        const { assert!(offset_of!(Cell, max) == offset_of!(Cell, min) + 8) };
        // SAFETY: the 16 bytes at `min` are the fields `min` and `max` of the cell, by the line above, and the pointer is to
        // the whole cell; the token proves AVX-512 F and VL.
        unsafe {
            let order = (&raw mut *cell).byte_add(offset_of!(Cell, min)).cast::<__m128i>();
            let (old, key) = (_mm_loadu_si128(order), _mm_set1_epi64x(key));
            _mm_storeu_si128(order, _mm_mask_max_epi64(_mm_min_epi64(old, key), 0b10, old, key));
        }
    }

    #[inline(always)]
    fn distinct(self, slots: &[u32]) -> bool {
        let slots = &slots[..8];
        // SAFETY: eight slots are there by the line above; the token proves AVX-512 CD and VL.
        unsafe {
            let earlier = _mm256_conflict_epi32(_mm256_loadu_si256(slots.as_ptr().cast()));
            _mm256_testz_si256(earlier, earlier) == 1
        }
    }

    #[inline(always)]
    unsafe fn close_up_u32(self, from: *const u32, bits: u8, to: *mut u32) {
        // SAFETY: the caller's promise; the token proves AVX-512 F and VL. In memory it would be closed up by microcode on Zen 4.
        unsafe { _mm256_storeu_si256(to.cast(), _mm256_maskz_compress_epi32(bits, _mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn close_up_u64(self, from: *const u64, bits: u8, to: *mut u64) {
        // SAFETY: the caller's promise; the token proves AVX-512 F.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_maskz_compress_epi64(bits, _mm512_loadu_si512(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_words(self, rows: &[*mut Words; MAX_LANES]) -> [__m512i; 4] {
        // SAFETY: the caller's promise; the token proves AVX-512 F and DQ.
        unsafe {
            let row = |i: usize| _mm256_loadu_si256(rows[i].cast());
            let two = |low: usize, high: usize| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(row(low)), row(high));
            let (even, odd) = ([two(0, 2), two(4, 6)], [two(1, 3), two(5, 7)]);
            let (front, back) = (_mm512_set_epi64(13, 12, 9, 8, 5, 4, 1, 0), _mm512_set_epi64(15, 14, 11, 10, 7, 6, 3, 2));
            let [even_front, odd_front] = [even, odd].map(|[a, b]| _mm512_permutex2var_epi64(a, front, b));
            let [even_back, odd_back] = [even, odd].map(|[a, b]| _mm512_permutex2var_epi64(a, back, b));
            [
                _mm512_unpacklo_epi64(even_front, odd_front),
                _mm512_unpackhi_epi64(even_front, odd_front),
                _mm512_unpacklo_epi64(even_back, odd_back),
                _mm512_unpackhi_epi64(even_back, odd_back),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_words(self, rows: &[*mut Words; MAX_LANES], [a, b, c, d]: [__m512i; 4]) {
        // SAFETY: the caller's promise; the token proves AVX-512 F.
        unsafe {
            let (even_front, odd_front) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
            let (even_back, odd_back) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
            let (first, second) = (_mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4));
            let store = |both: __m512i, low: usize, high: usize| {
                _mm256_storeu_si256(rows[low].cast(), _mm512_castsi512_si256(both));
                _mm256_storeu_si256(rows[high].cast(), _mm512_extracti64x4_epi64::<1>(both));
            };
            store(_mm512_permutex2var_epi64(even_front, first, even_back), 0, 2);
            store(_mm512_permutex2var_epi64(odd_front, first, odd_back), 1, 3);
            store(_mm512_permutex2var_epi64(even_front, second, even_back), 4, 6);
            store(_mm512_permutex2var_epi64(odd_front, second, odd_back), 5, 7);
        }
    }
}
