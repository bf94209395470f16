//! Text in a register of sixteen bytes.

use core::arch::x86_64::*;

use super::{Avx2, Avx512};
use crate::text::{Decimal, Text, WINDOW};

/// Read from byte `n` on, it shuffles the first `n` bytes of a register to its end; what comes before them is zero, also
/// where one is subtracted.
const ALIGN: [u8; 32] = {
    let mut align = [0x90; 32];
    let mut byte = 0;
    while byte < 16 {
        align[16 + byte] = byte as u8;
        byte += 1;
    }
    align
};

/// Read from byte `n` on, it is added to a shuffle to leave out the byte before the last `n`.
const CLOSE: [i8; 32] = {
    let mut close = [0; 32];
    let mut byte = 0;
    while byte < 16 {
        close[byte] = -1;
        byte += 1;
    }
    close
};

impl Text for Avx2 {
    #[inline(always)]
    fn decimal(self, text: &[u8; WINDOW]) -> Option<Decimal> {
        // SAFETY: the token proves AVX2; sixteen bytes of text are there, and of a table from any byte up to its sixteenth.
        unsafe {
            let text = _mm_loadu_si128(text.as_ptr().cast());
            let digits = _mm_sub_epi8(text, _mm_set1_epi8(b'0' as i8));
            let is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits);
            // What is not in sight counts as no digit.
            let others = !(_mm_movemask_epi8(is_digit) as u32);
            let points = _mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8(b'.' as i8))) as u32;
            let whole = others.trailing_zeros() as usize;
            if points >> whole & 1 == 0 {
                if !(1..WINDOW).contains(&whole) {
                    return None;
                }
                let order = _mm_loadu_si128(ALIGN.as_ptr().add(whole).cast());
                return Some(Decimal { magnitude: join(_mm_shuffle_epi8(digits, order)), fraction: 0, length: whole });
            }
            let length = (others & (others - 1)).trailing_zeros() as usize;
            let fraction = length - whole - 1;
            if whole == 0 || fraction == 0 || length >= WINDOW {
                return None;
            }
            let align = _mm_loadu_si128(ALIGN.as_ptr().add(length).cast());
            let close = _mm_loadu_si128(CLOSE.as_ptr().add(fraction).cast());
            let digits = _mm_shuffle_epi8(digits, _mm_add_epi8(align, close));
            Some(Decimal { magnitude: join(digits), fraction, length })
        }
    }

    #[inline(always)]
    fn plain(self, text: &[u8; WINDOW]) -> Option<usize> {
        // SAFETY: the token proves AVX2; sixteen bytes of text are there.
        unsafe {
            let text = _mm_loadu_si128(text.as_ptr().cast());
            let quotes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'"' as i8));
            let escapes = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'\\' as i8));
            let controls = _mm_cmpeq_epi8(_mm_min_epu8(text, _mm_set1_epi8(0x1F)), text);
            let stops = _mm_movemask_epi8(_mm_or_si128(quotes, _mm_or_si128(escapes, controls))) as u32;
            let length = (stops | 1 << WINDOW).trailing_zeros();
            (_mm_movemask_epi8(quotes) as u32 >> length & 1 == 1).then_some(length as usize)
        }
    }
}

impl Text for Avx512 {
    #[inline(always)]
    fn decimal(self, text: &[u8; WINDOW]) -> Option<Decimal> {
        // AVX-512 F includes AVX2.
        Avx2(()).decimal(text)
    }

    #[inline(always)]
    fn plain(self, text: &[u8; WINDOW]) -> Option<usize> {
        Avx2(()).plain(text)
    }
}

/// The number that sixteen digit values make, if it is below 10¹⁶.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn join(digits: __m128i) -> u64 {
    // SAFETY: by the function's own condition.
    unsafe {
        let pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010A));
        let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
        let eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), _mm_set1_epi32(0x0001_2710));
        let both = _mm_cvtsi128_si64(eights) as u64;
        (both & 0xFFFF_FFFF) * 100_000_000 + (both >> 32)
    }
}
