//! The few vector operations that the kernels are written over, once for all instruction sets.

use crate::cell::Cell;
use crate::text::Text;

/// An instruction set in use: a token that exists only where the processor has it, so its operations are safe to call.
///
/// Lanes are 64 bits wide. Every method must be inlined into a function compiled for the instruction set, which
/// [`launch`](super::launch) sees to.
pub trait Vector: Text {
    /// A register of floats.
    type F: Copy;
    /// A register of integers.
    type I: Copy;
    /// A choice of lanes.
    type M: Copy;
    /// The instruction set with half the lanes, if this one contains it; else itself.
    type Narrow: Vector;
    /// Lanes of a register, at most [`MAX_LANES`].
    const LANES: usize;

    /// The token of [`Self::Narrow`].
    fn narrow(self) -> Self::Narrow;
    /// The first `LANES` floats; panics if there are fewer.
    fn load_f(self, from: &[f64]) -> Self::F;
    /// The first `LANES` integers; panics if there are fewer.
    fn load_i(self, from: &[i64]) -> Self::I;
    /// Writes the lanes; panics if there is no room.
    fn store_f(self, to: &mut [f64], value: Self::F);
    /// Writes the lanes; panics if there is no room.
    fn store_i(self, to: &mut [i64], value: Self::I);
    /// One integer in all lanes.
    fn splat_i(self, value: i64) -> Self::I;
    /// The same bits as floats.
    fn as_f(self, value: Self::I) -> Self::F;
    /// The same bits as integers.
    fn as_i(self, value: Self::F) -> Self::I;
    /// a + b.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// Which lanes of a are at most b, the first lane being the lowest bit; none that is NaN.
    fn at_most(self, a: Self::F, b: Self::F) -> u64;
    /// a + b, wrapping.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The bits that both have.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// The bits that either has.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// The bits that one of them has.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// a · b, wrapping.
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The bits moved up by so many places, below 64.
    fn up(self, a: Self::I, places: i64) -> Self::I;
    /// The bits moved down by so many places, below 64; zeros come after them.
    fn down(self, a: Self::I, places: i64) -> Self::I;
    /// −1 where negative, else 0.
    fn sign(self, a: Self::I) -> Self::I;
    /// 1 where a < b as unsigned integers, else 0.
    fn below(self, a: Self::I, b: Self::I) -> Self::I;
    /// The key of [`crate::cell::order_key`], lane by lane.
    fn order_key(self, value: Self::F) -> Self::I;
    /// Signed minimum.
    fn min(self, a: Self::I, b: Self::I) -> Self::I;
    /// Signed maximum.
    fn max(self, a: Self::I, b: Self::I) -> Self::I;
    /// Which lanes are equal, the first lane being the lowest bit.
    fn equal(self, a: Self::I, b: Self::I) -> u64;
    /// Which of eight numbers are equal to `number`, the first being the lowest bit.
    fn equal_u32(self, numbers: &[u32; 8], number: u32) -> u64;
    /// The lanes whose bits are set, the first lane being the lowest bit; higher bits are ignored.
    fn mask(self, bits: u64) -> Self::M;
    /// `value` in the chosen lanes, `otherwise` in the others.
    fn select(self, mask: Self::M, value: Self::I, otherwise: Self::I) -> Self::I;
    /// Takes one order key into the minimum and maximum of a cell, which lie side by side.
    fn widen(self, cell: &mut Cell, key: i64);
    /// Whether the first `LANES` slots differ from each other; panics if there are fewer.
    fn distinct(self, slots: &[u32]) -> bool;

    /// Writes those of eight numbers whose bits are set side by side, in their order; behind them, up to the eighth place, anything.
    ///
    /// # Safety
    /// Eight numbers may be read and as many be written, elsewhere; they need not be aligned.
    #[inline(always)]
    unsafe fn close_up_u32(self, from: *const u32, bits: u8, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { close_up(from, bits, to) }
    }

    /// The same of wider numbers.
    ///
    /// # Safety
    /// As [`Self::close_up_u32`].
    #[inline(always)]
    unsafe fn close_up_u64(self, from: *const u64, bits: u8, to: *mut u64) {
        // SAFETY: the caller's promise.
        unsafe { close_up(from, bits, to) }
    }

    /// `LANES` rows of four words, word by word: the rows of a matrix become its columns.
    ///
    /// # Safety
    /// The first `LANES` pointers are to words that may be read.
    unsafe fn load_words(self, rows: &[*mut Words; MAX_LANES]) -> [Self::I; 4];

    /// What [`Self::load_words`] undoes.
    ///
    /// # Safety
    /// The first `LANES` pointers are to words that may be written.
    unsafe fn store_words(self, rows: &[*mut Words; MAX_LANES], words: [Self::I; 4]);
}

/// [`Vector::close_up_u32`] of any values, one by one: each is written and kept if its bit is set, which no branch has to foresee.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn close_up<T: Copy>(from: *const T, bits: u8, to: *mut T) {
    let mut next = 0;
    for row in 0..8 {
        // SAFETY: the caller's promise; no more were kept so far than were read.
        unsafe { to.add(next).write_unaligned(from.add(row).read_unaligned()) };
        next += usize::from(bits >> row & 1);
    }
}

/// Upper bound of [`Vector::LANES`]: the size of buffers that lanes are folded in.
pub(crate) const MAX_LANES: usize = 8;

/// A row of [`Vector::load_words`]: part of an accumulator.
pub(crate) type Words = [u64; 4];
