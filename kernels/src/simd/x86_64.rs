//! AVX2: four lanes of 64 bits.

use core::arch::x86_64::*;
use core::mem::offset_of;

use super::vector::Vector;
use crate::cell::{Cell, NAN_BITS};

/// Proof of AVX2; made only by [`super::launch`], under a [`super::Level`] that detection handed out.
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) ());

impl Vector for Avx2 {
    type F = __m256d;
    type I = __m256i;
    const LANES: usize = 4;

    #[inline(always)]
    fn load_f(self, from: &[f64]) -> __m256d {
        let from: &[f64] = &from[..4];
        // SAFETY: four floats are there by the line above; the token proves AVX.
        unsafe { _mm256_loadu_pd(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_i(self, from: &[i64]) -> __m256i {
        let from: &[i64] = &from[..4];
        // SAFETY: four integers are there by the line above; the token proves AVX.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_f(self, to: &mut [f64], value: __m256d) {
        let to: &mut [f64] = &mut to[..4];
        // SAFETY: there is room for four floats by the line above; the token proves AVX.
        unsafe { _mm256_storeu_pd(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn store_i(self, to: &mut [i64], value: __m256i) {
        let to: &mut [i64] = &mut to[..4];
        // SAFETY: there is room for four integers by the line above; the token proves AVX.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    fn splat_f(self, value: f64) -> __m256d {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_set1_pd(value) }
    }

    #[inline(always)]
    fn splat_i(self, value: i64) -> __m256i {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_set1_epi64x(value) }
    }

    #[inline(always)]
    fn add(self, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_add_pd(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_sub_pd(a, b) }
    }

    #[inline(always)]
    fn order_key(self, value: __m256d) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe {
            let is_nan = _mm256_cmp_pd::<_CMP_UNORD_Q>(value, value);
            let bits = _mm256_castpd_si256(_mm256_blendv_pd(value, _mm256_set1_pd(f64::from_bits(NAN_BITS)), is_nan));
            let negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), bits);
            _mm256_xor_si256(bits, _mm256_srli_epi64::<1>(negative))
        }
    }

    #[inline(always)]
    fn min(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b)) }
    }

    #[inline(always)]
    fn max(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b)) }
    }

    #[inline(always)]
    fn widen(self, cell: &mut Cell, key: i64) {
        const { assert!(offset_of!(Cell, max) == offset_of!(Cell, min) + 8) };
        // SAFETY: the 16 bytes at `min` are the fields `min` and `max` of the cell, by the line above, and the pointer is to
        // the whole cell; the token proves AVX2.
        unsafe {
            let order = (&raw mut *cell).cast::<u8>().add(offset_of!(Cell, min)).cast::<__m128i>();
            let (old, key) = (_mm_loadu_si128(order), _mm_set1_epi64x(key));
            // Of the minimum, is it above the key? Of the maximum, is it not?
            let changes = _mm_xor_si128(_mm_cmpgt_epi64(old, key), _mm_set_epi64x(-1, 0));
            _mm_storeu_si128(order, _mm_blendv_epi8(old, key, changes));
        }
    }
}
