//! Hashes of 64-bit values: shifts and multiplications without a branch, which compilers turn into vectors.

use crate::scalar::sketch::hash::{DATASKETCHES_SEED, finish, mix_first, register_word, stafford, word_key};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};
use crate::sketch::hash::Hash;

pub(crate) fn hash_words<T: Copy>(level: Level, values: &[T], bits: impl Fn(T) -> u64, hash: Hash, hashes: &mut [u64]) {
    launch(level, HashWords { values, bits, hash, hashes });
}

struct HashWords<'a, T, B> {
    values: &'a [T],
    bits: B,
    hash: Hash,
    hashes: &'a mut [u64],
}

impl<T: Copy, B: Fn(T) -> u64> Kernel for HashWords<'_, T, B> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let rows = self.values.iter().zip(self.hashes);
        match self.hash {
            Hash::Seeded(seed) => {
                let key = word_key(seed);
                rows.for_each(|(&value, to)| *to = stafford((self.bits)(value) ^ key));
            }
            Hash::DataSketches => rows.for_each(|(&value, to)| *to = datasketches((self.bits)(value))),
        }
    }
}

/// The word of [`Hash::DataSketches`] for 8 bytes: no block, and a tail whose second half is empty.
#[inline(always)]
fn datasketches(word: u64) -> u64 {
    let [first, second] = finish(DATASKETCHES_SEED ^ mix_first(word), DATASKETCHES_SEED, 8);
    register_word(first, second)
}
