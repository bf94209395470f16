//! Twin of [`crate::sketch::hash`].

use crate::cell::NAN_BITS;
use crate::sketch::hash::Hash;
use crate::sketch::hll::ADDRESS_BITS;

/// Seed of DataSketches' updates.
pub(crate) const DATASKETCHES_SEED: u64 = 9001;

/// Multipliers of MurmurHash3 x64 128.
pub(crate) const C1: u64 = 0x87c3_7b91_1142_53d5;
pub(crate) const C2: u64 = 0x4cf5_ad43_2745_937f;

/// Increment of SplitMix64: keeps a seed of 0 from mixing to 0.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Twin of [`crate::hash_u64`] and its like, of the 64 bits that a value hashes by.
pub fn hash_words<T: Copy>(values: &[T], bits: impl Fn(T) -> u64, hash: Hash, hashes: &mut [u64]) {
    for (&value, to) in values.iter().zip(hashes) {
        *to = match hash {
            Hash::Seeded(seed) => stafford(bits(value) ^ word_key(seed)),
            Hash::DataSketches => datasketches(&bits(value).to_le_bytes()),
        };
    }
}

/// The bits that a float hashes by.
#[inline(always)]
pub(crate) fn canonical(value: f64) -> u64 {
    // +0.0 is left alone by adding it, −0.0 becomes it.
    if value.is_nan() { NAN_BITS } else { (value + 0.0).to_bits() }
}

/// What a seed adds to 64-bit values: 0 of no seed that anyone picks.
#[inline(always)]
pub(crate) fn word_key(seed: u64) -> u64 {
    stafford(seed.wrapping_add(GOLDEN))
}

/// What a seed adds to byte strings.
#[inline(always)]
pub(crate) fn seeded_bytes_key(seed: u64) -> [u64; 2] {
    [word_key(seed), word_key(seed.wrapping_add(GOLDEN))]
}

/// The word of [`Hash::Seeded`] for a byte string: the dictionaries' hash, which a table can live with, made fit to count by.
/// The length is spread over all bits, or strings of other lengths would collide with it; the mixer takes the regularity
/// out of the products of short strings that differ little.
#[inline(always)]
pub(crate) fn seeded_bytes(bytes: &[u8], [first, second]: [u64; 2]) -> u64 {
    let length = (bytes.len() as u64).wrapping_mul(GOLDEN);
    stafford(crate::dictionary::bytes::hash(bytes, [first ^ length, second]))
}

/// Stafford's variant 13: every bit of the result depends on every bit of the word.
#[inline(always)]
pub(crate) fn stafford(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The word of [`Hash::DataSketches`].
pub(crate) fn datasketches(bytes: &[u8]) -> u64 {
    let [first, second] = murmur3_x64_128(bytes, DATASKETCHES_SEED);
    register_word(first, second)
}

/// What a register needs of 128 bits.
#[inline(always)]
pub(crate) fn register_word(first: u64, second: u64) -> u64 {
    let address = (1 << ADDRESS_BITS) - 1;
    first & address | second & !address
}

/// MurmurHash3 x64 128, after A. Appleby's `MurmurHash3.cpp`.
fn murmur3_x64_128(bytes: &[u8], seed: u64) -> [u64; 2] {
    let [mut h1, mut h2] = [seed; 2];
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let [k1, k2] = words(block);
        h1 = (h1 ^ mix_first(k1)).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix_second(k2)).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let [k1, k2] = words(rest);
    finish(h1 ^ mix_first(k1), h2 ^ mix_second(k2), bytes.len() as u64)
}

/// Up to 16 bytes as two words, zeros where there are none. From words that overlap: a copy of unknown length costs more
/// than the hash.
#[inline(always)]
fn words(bytes: &[u8]) -> [u64; 2] {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let last = u128::from(u64::from_le_bytes(*last)) << (8 * (len - 8));
        [u64::from_le_bytes(*first), (last >> 64) as u64]
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        [u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4)), 0]
    } else {
        [bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0]
    }
}

#[inline(always)]
pub(crate) fn mix_first(word: u64) -> u64 {
    word.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix_second(word: u64) -> u64 {
    word.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

#[inline(always)]
pub(crate) fn finish(h1: u64, h2: u64, len: u64) -> [u64; 2] {
    let (h1, h2) = (h1 ^ len, h2 ^ len);
    let h1 = h1.wrapping_add(h2);
    let h2 = h2.wrapping_add(h1);
    let (h1, h2) = (avalanche(h1), avalanche(h2));
    let h1 = h1.wrapping_add(h2);
    [h1, h2.wrapping_add(h1)]
}

#[inline(always)]
fn avalanche(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}
