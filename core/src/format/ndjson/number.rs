//! Numbers from text: sixteen bytes at once where that is enough, else eight digits at a time.
//!
//! The conversion of eight digits is Johnny Lee's and Daniel Lemire's (*Number Parsing at a Gigabyte per Second*, 2021); decimals
//! take Clinger's exact path (*How to Read Floating Point Numbers Accurately*, 1990): a significand below 2⁵³ and a power
//! of ten up to 10²² are both exact, so that one division rounds once. Whatever is outside it goes to `lexical_core`,
//! which is also what arrow-json calls: results are the same to the bit.

use thalweg_kernels::{Decimal, Text};

/// A run of at most 19 digits with an optional sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digits {
    pub negative: bool,
    pub magnitude: u64,
    /// The position of the first byte that is not a digit.
    pub end: usize,
}

const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGHS: u64 = 0x8080_8080_8080_8080;

const POW10: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The powers of ten that are exact as `f64`.
const POW10_F64: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// The powers of ten that are exact as `f32`.
const POW10_F32: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// The `N` bytes at `at`; `None` near the end of `text`.
#[inline(always)]
pub(super) fn window<const N: usize>(text: &[u8], at: usize) -> Option<&[u8; N]> {
    text.get(at..)?.first_chunk()
}

/// The eight bytes at `at` as digit values, the first in the lowest byte, and how many of them are digits.
#[inline(always)]
fn eight(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let values = u64::from_le_bytes(*window(text, at)?) ^ ZEROS;
    // A byte over 9 overflows into its high bit; a carry can only spoil bytes after the first such one.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & HIGHS;
    Some((values, others.trailing_zeros() as usize / 8))
}

/// The number that the first `count` digit values make; `count` is 1 to 8.
#[inline(always)]
fn join(values: u64, count: usize) -> u64 {
    let values = values << (64 - 8 * count);
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let high = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

/// The digits at `at` added behind `magnitude`, which `length` digits make: the new magnitude, length and position.
/// `None` past 19 digits and near the end of `text`.
#[inline(always)]
fn digits(text: &[u8], mut at: usize, mut magnitude: u64, mut length: usize) -> Option<(u64, usize, usize)> {
    loop {
        let (values, count) = eight(text, at)?;
        if length + count > 19 {
            return None;
        }
        if count < 8 {
            let magnitude = if count == 0 { magnitude } else { magnitude * POW10[count] + join(values, count) };
            return Some((magnitude, length + count, at + count));
        }
        // Adding a constant frees the next load from waiting for this count.
        (magnitude, length, at) = (magnitude * POW10[8] + join(values, 8), length + 8, at + 8);
    }
}

/// Whether `byte` ends a number for sure. Others may go on with it or not: that is for the slower path.
#[inline(always)]
fn ends(byte: u8) -> bool {
    matches!(byte, b',' | b'}')
}

/// The short number at `at`, behind its sign, as significand, how many of its digits are behind the point, and its end.
#[inline(always)]
fn short<T: Text>(how: T, text: &[u8], at: usize, negative: bool) -> Option<(Digits, usize)> {
    let window = window(text, at)?;
    let Decimal { magnitude, fraction, length } = how.decimal(window)?;
    ends(window[length]).then_some((Digits { negative, magnitude, end: at + length }, fraction))
}

/// [`short`] for parts of any length, up to 19 digits in all.
#[inline(never)]
fn long(text: &[u8], at: usize, negative: bool) -> Option<(Digits, usize)> {
    let (mut magnitude, whole, mut end) = digits(text, at, 0, 0)?;
    let mut fraction = 0;
    if whole > 0 && text.get(end) == Some(&b'.') {
        let (all, length, next) = digits(text, end + 1, magnitude, whole)?;
        (magnitude, fraction, end) = (all, length - whole, next);
        if fraction == 0 {
            return None;
        }
    }
    (whole > 0 && text.get(end).copied().is_some_and(ends)).then_some((Digits { negative, magnitude, end }, fraction))
}

/// The decimal at `at` as sign and significand, and how many of its digits are behind the point. `None` if it has an exponent,
/// no digits or more than 19, or is not followed at once by a comma or a brace, or lies near the end of `text`.
#[inline(always)]
fn decimal<T: Text>(how: T, text: &[u8], at: usize) -> Option<(Digits, usize)> {
    // A sign is looked for only after digits: the column that has none does without the branch.
    if let Some(found) = short(how, text, at, false) {
        return Some(found);
    }
    if *text.get(at)? != b'-' {
        return long(text, at, false);
    }
    match short(how, text, at + 1, true) {
        None => long(text, at + 1, true),
        found => found,
    }
}

/// The integer at `at`. `None` in the cases of [`decimal`], and if it has a fraction.
#[inline(always)]
pub(super) fn integer<T: Text>(how: T, text: &[u8], at: usize) -> Option<Digits> {
    match decimal(how, text, at)? {
        (digits, 0) => Some(digits),
        _ => None,
    }
}

/// The `f64` at `at` and its end; `None` where the exact path does not apply.
#[inline(always)]
pub(super) fn float64<T: Text>(how: T, text: &[u8], at: usize) -> Option<(f64, usize)> {
    let (digits, fraction) = decimal(how, text, at)?;
    if digits.magnitude >= 1 << 53 {
        return None;
    }
    let value = digits.magnitude as f64 / POW10_F64.get(fraction)?;
    Some((if digits.negative { -value } else { value }, digits.end))
}

/// The `f32` at `at` and its end; `None` where the exact path does not apply.
#[inline(always)]
pub(super) fn float32<T: Text>(how: T, text: &[u8], at: usize) -> Option<(f32, usize)> {
    let (digits, fraction) = decimal(how, text, at)?;
    if digits.magnitude >= 1 << 24 {
        return None;
    }
    let value = digits.magnitude as f32 / POW10_F32.get(fraction)?;
    Some((if digits.negative { -value } else { value }, digits.end))
}

/// The bytes at `at` that arrow-json takes for one number, valid or not; `None` if none can start there.
pub(super) fn extent(text: &[u8], at: usize) -> Option<&[u8]> {
    let rest = text.get(at..)?;
    if !matches!(rest.first()?, b'-' | b'0'..=b'9') {
        return None;
    }
    let length = rest.iter().position(|&byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')).unwrap_or(rest.len());
    Some(&rest[..length])
}
