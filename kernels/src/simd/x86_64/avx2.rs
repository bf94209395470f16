//! AVX2: four lanes of 64 bits.

use core::arch::x86_64::*;
use core::mem::offset_of;

use crate::cell::{Cell, NAN_BITS};
use crate::simd::selection::SET;
use crate::simd::vector::{MAX_LANES, Vector, Words};

/// Proof of AVX2; made only by [`crate::simd::launch`], under a [`crate::simd::Level`] that detection handed out.
#[derive(Clone, Copy)]
pub(in crate::simd) struct Avx2(pub(in crate::simd) ());

impl Vector for Avx2 {
    type F = __m256d;
    type I = __m256i;
    type M = __m256i;
    type Narrow = Self;
    const LANES: usize = 4;

    #[inline(always)]
    fn narrow(self) -> Self {
        self
    }

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
    fn splat_i(self, value: i64) -> __m256i {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_set1_epi64x(value) }
    }

    #[inline(always)]
    fn as_f(self, value: __m256i) -> __m256d {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_castsi256_pd(value) }
    }

    #[inline(always)]
    fn as_i(self, value: __m256d) -> __m256i {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_castpd_si256(value) }
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
    fn mul(self, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_mul_pd(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_div_pd(a, b) }
    }

    #[inline(always)]
    fn at_most(self, a: __m256d, b: __m256d) -> u64 {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LE_OQ>(a, b)) as u64 }
    }

    #[inline(always)]
    fn add_i(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_add_epi64(a, b) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn mul_i(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe {
            let upper = |a: __m256i| _mm256_srli_epi64::<32>(a);
            let crossed = _mm256_add_epi64(_mm256_mul_epu32(upper(a), b), _mm256_mul_epu32(a, upper(b)));
            _mm256_add_epi64(_mm256_mul_epu32(a, b), _mm256_slli_epi64::<32>(crossed))
        }
    }

    #[inline(always)]
    fn up(self, a: __m256i, places: i64) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_sllv_epi64(a, _mm256_set1_epi64x(places)) }
    }

    #[inline(always)]
    fn down(self, a: __m256i, places: i64) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_srlv_epi64(a, _mm256_set1_epi64x(places)) }
    }

    #[inline(always)]
    fn sign(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_cmpgt_epi64(_mm256_setzero_si256(), a) }
    }

    #[inline(always)]
    fn below(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe {
            let flip = _mm256_set1_epi64x(i64::MIN);
            _mm256_srli_epi64::<63>(_mm256_cmpgt_epi64(_mm256_xor_si256(b, flip), _mm256_xor_si256(a, flip)))
        }
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

    #[inline(always)]
    fn equal(self, a: __m256i, b: __m256i) -> u64 {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(a, b))) as u64 }
    }

    #[inline(always)]
    fn equal_u32(self, numbers: &[u32; 8], number: u32) -> u64 {
        // SAFETY: there are eight numbers of 32 bits; the token proves AVX2.
        unsafe {
            let equal = _mm256_cmpeq_epi32(_mm256_loadu_si256(numbers.as_ptr().cast()), _mm256_set1_epi32(number as i32));
            u64::from(_mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u32)
        }
    }

    #[inline(always)]
    fn mask(self, bits: u64) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe {
            let of_lane = _mm256_set_epi64x(8, 4, 2, 1);
            _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits as i64), of_lane), of_lane)
        }
    }

    #[inline(always)]
    fn select(self, mask: __m256i, value: __m256i, otherwise: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_blendv_epi8(otherwise, value, mask) }
    }

    #[inline(always)]
    fn distinct(self, slots: &[u32]) -> bool {
        let slots = &slots[..4];
        // SAFETY: four slots are there by the line above; the token proves AVX.
        unsafe {
            let slots = _mm_loadu_si128(slots.as_ptr().cast());
            let next = _mm_cmpeq_epi32(slots, _mm_shuffle_epi32::<0b00_11_10_01>(slots));
            let second_next = _mm_cmpeq_epi32(slots, _mm_shuffle_epi32::<0b01_00_11_10>(slots));
            let same = _mm_or_si128(next, second_next);
            _mm_testz_si128(same, same) == 1
        }
    }

    #[inline(always)]
    unsafe fn close_up_u32(self, from: *const u32, bits: u8, to: *mut u32) {
        // SAFETY: the caller's promise; the token proves AVX2.
        unsafe { permute(from, SET[bits as usize], to) }
    }

    #[inline(always)]
    unsafe fn close_up_u64(self, from: *const u64, bits: u8, to: *mut u64) {
        let (low, high) = (bits & 15, bits >> 4);
        // SAFETY: the caller's promise, four numbers at a time; the token proves AVX2.
        unsafe {
            permute(from.cast(), PAIRS[low as usize], to.cast());
            permute(from.add(4).cast(), PAIRS[high as usize], to.add(low.count_ones() as usize).cast());
        }
    }

    #[inline(always)]
    unsafe fn load_words(self, rows: &[*mut Words; MAX_LANES]) -> [__m256i; 4] {
        // SAFETY: the caller's promise; the token proves AVX.
        unsafe {
            let row = |i: usize| _mm256_loadu_pd(rows[i].cast());
            transpose(row(0), row(1), row(2), row(3)).map(|word| _mm256_castpd_si256(word))
        }
    }

    #[inline(always)]
    unsafe fn store_words(self, rows: &[*mut Words; MAX_LANES], words: [__m256i; 4]) {
        // SAFETY: the caller's promise; the token proves AVX.
        unsafe {
            let [a, b, c, d] = words.map(|word| _mm256_castsi256_pd(word));
            for (to, row) in rows.iter().zip(transpose(a, b, c, d)) {
                _mm256_storeu_pd(to.cast(), row);
            }
        }
    }
}

/// For each choice of four lanes of 64 bits, the halves of those that are chosen.
const PAIRS: [[u8; 8]; 16] = {
    let mut pairs = [[0; 8]; 16];
    let mut bits = 0;
    while bits < 16 {
        let mut place = 0;
        while place < 4 {
            pairs[bits][2 * place] = 2 * SET[bits][place];
            pairs[bits][2 * place + 1] = 2 * SET[bits][place] + 1;
            place += 1;
        }
        bits += 1;
    }
    pairs
};

/// Writes eight numbers, each the one of the eight at `from` that `numbers` says.
///
/// # Safety
/// Eight numbers may be read and as many be written; the processor has AVX2.
#[inline(always)]
unsafe fn permute(from: *const u32, numbers: [u8; 8], to: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let numbers = _mm256_cvtepu8_epi32(_mm_loadl_epi64(numbers.as_ptr().cast()));
        _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(_mm256_loadu_si256(from.cast()), numbers));
    }
}

/// Four rows of four become four columns.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn transpose(a: __m256d, b: __m256d, c: __m256d, d: __m256d) -> [__m256d; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (ab_even, ab_odd) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        let (cd_even, cd_odd) = (_mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d));
        [
            _mm256_permute2f128_pd::<0x20>(ab_even, cd_even),
            _mm256_permute2f128_pd::<0x20>(ab_odd, cd_odd),
            _mm256_permute2f128_pd::<0x31>(ab_even, cd_even),
            _mm256_permute2f128_pd::<0x31>(ab_odd, cd_odd),
        ]
    }
}
