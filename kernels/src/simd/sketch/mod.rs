//! Sketches: index arithmetic a block at a time, in vectors, then a pass of bounded stores.

pub(crate) mod ddsketch;
pub(crate) mod hash;
pub(crate) mod hll;

use super::aggregate::BLOCK;
use crate::bits::Bits;

/// Room for the valid rows of a block, closed up.
struct Valid<T> {
    slots: [u32; BLOCK],
    values: [T; BLOCK],
}

impl<T: Copy + Default> Valid<T> {
    #[inline(always)]
    fn room(validity: Option<Bits<'_>>) -> Option<(Bits<'_>, Self)> {
        validity.map(|bits| (bits, Self { slots: [0; BLOCK], values: [T::default(); BLOCK] }))
    }

    /// The rows of the block at `start` that are valid; `slots` may be empty if no row needs its own.
    #[inline(always)]
    fn take<'a>(&'a mut self, slots: &'a [u32], values: &'a [T], bits: Bits<'_>, start: usize) -> (&'a [u32], &'a [T]) {
        let words: [u64; BLOCK / 64] = std::array::from_fn(|word| bits.word(start + word * 64));
        let valid: usize = words.iter().map(|word| word.count_ones() as usize).sum();
        if valid == values.len() {
            return (slots, values);
        }
        // Written always, counted if valid: no branch to mispredict. As many are kept as rows went before, so they fit.
        let mut kept = 0;
        for (row, &value) in values.iter().enumerate() {
            self.values[kept % BLOCK] = value;
            kept += (words[row / 64] >> (row % 64) & 1) as usize;
        }
        kept = 0;
        for (row, &slot) in slots.iter().enumerate() {
            self.slots[kept % BLOCK] = slot;
            kept += (words[row / 64] >> (row % 64) & 1) as usize;
        }
        (&self.slots[..kept], &self.values[..valid])
    }
}
