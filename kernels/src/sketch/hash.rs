//! Hashes of columns: one 64-bit word per row.
//!
//! * **Integers** hash by their 64 bits: an `i64` as the `u64` of the same bits.
//! * **Floats** hash by value: −0.0 as +0.0, and every NaN as one NaN.
//! * **Bytes** hash by their content; a string by its UTF-8.
//! * **Null** rows get the hash of whatever lies in their place: skip them where the hashes are used.
//!
//! The words are fixed for good: sketches made of them are stored, and merged with those of other versions and machines.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::scalar::sketch::hash::{canonical, seeded_bytes, seeded_bytes_key};
use crate::{scalar, simd};

/// A hash function. Sketches are comparable only if their rows were hashed by the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Our own, with a seed: the faster one, all 64 bits of which are well mixed.
    ///
    /// 64-bit values go through variant 13 of D. Stafford's mixer ("Better bit mixing", 2011; the finaliser of Steele, Lea
    /// and Flood's SplitMix64), which is a bijection: distinct values never collide. Bytes go through folded 128-bit
    /// products, 16 bytes at a time, as in wyhash, and then through the same mixer.
    Seeded(u64),
    /// That of Apache DataSketches: MurmurHash3 x64 128 (A. Appleby) with seed 9001, of a 64-bit value's 8 bytes in
    /// little-endian order, of a float's canonical bits, or of the bytes of a string.
    ///
    /// The word holds what a register of [`super::hll`] needs of the 128 bits: the low 26 bits of the first half, which
    /// tell the register, below the high 38 bits of the second, whose leading zeros are its value. It is no general hash.
    /// The string updates of DataSketches skip empty strings: make them null for the same answer.
    DataSketches,
}

/// Hashes integers: `hashes[i]` is the hash of `values[i]`.
///
/// # Panics
/// If `values` and `hashes` differ in length.
pub fn hash_i64(values: &[i64], hash: Hash, hashes: &mut [u64]) {
    Backend::active().hash_i64(values, hash, hashes);
}

/// Hashes unsigned integers: `hashes[i]` is the hash of `values[i]`.
///
/// # Panics
/// If `values` and `hashes` differ in length.
pub fn hash_u64(values: &[u64], hash: Hash, hashes: &mut [u64]) {
    Backend::active().hash_u64(values, hash, hashes);
}

/// Hashes floats by value: `hashes[i]` is the hash of `values[i]`.
///
/// # Panics
/// If `values` and `hashes` differ in length.
pub fn hash_f64(values: &[f64], hash: Hash, hashes: &mut [u64]) {
    Backend::active().hash_f64(values, hash, hashes);
}

/// Hashes byte strings: `hashes[i]` is the hash of `data[offsets[i]..offsets[i + 1]]`, the pieces of an Arrow string or
/// binary array.
///
/// Strings of unequal lengths share no vectors: the same code on every backend.
///
/// # Panics
/// If there is not one offset more than hashes, or `offsets` descend or point outside `data`.
pub fn hash_bytes(offsets: &[i32], data: &[u8], hash: Hash, hashes: &mut [u64]) {
    check_lengths("offsets and hashes with one more", offsets.len(), hashes.len() + 1);
    let pieces = offsets.windows(2).map(|ends| &data[ends[0] as usize..ends[1] as usize]);
    match hash {
        Hash::Seeded(seed) => {
            let key = seeded_bytes_key(seed);
            hashes.iter_mut().zip(pieces).for_each(|(to, bytes)| *to = seeded_bytes(bytes, key));
        }
        Hash::DataSketches => hashes.iter_mut().zip(pieces).for_each(|(to, bytes)| *to = scalar::sketch::hash::datasketches(bytes)),
    }
}

impl Backend {
    /// [`hash_i64`] on this backend.
    pub fn hash_i64(self, values: &[i64], hash: Hash, hashes: &mut [u64]) {
        self.hash_words(values, |value| value as u64, hash, hashes);
    }

    /// [`hash_u64`] on this backend.
    pub fn hash_u64(self, values: &[u64], hash: Hash, hashes: &mut [u64]) {
        self.hash_words(values, |value| value, hash, hashes);
    }

    /// [`hash_f64`] on this backend.
    pub fn hash_f64(self, values: &[f64], hash: Hash, hashes: &mut [u64]) {
        self.hash_words(values, canonical, hash, hashes);
    }

    fn hash_words<T: Copy>(self, values: &[T], bits: impl Fn(T) -> u64, hash: Hash, hashes: &mut [u64]) {
        check_lengths("values and hashes", values.len(), hashes.len());
        match self {
            Self::Scalar => scalar::sketch::hash::hash_words(values, bits, hash, hashes),
            Self::Simd(level) => simd::sketch::hash::hash_words(level, values, bits, hash, hashes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hash, hash_bytes};
    use crate::testing::{Case, on_every_backend, scramble};
    use crate::{Backend, scalar};

    on_every_backend!(hashes, super::check_hashes);

    const HASHES: [Hash; 4] = [Hash::Seeded(0), Hash::Seeded(1), Hash::Seeded(u64::MAX), Hash::DataSketches];

    fn check_hashes(backend: Backend, case: &Case) {
        let words: Vec<u64> = case.ints.iter().map(|&n| n as u64).collect();
        for hash in HASHES {
            let (mut hashes, mut expected) = (vec![9; words.len()], vec![7; words.len()]);
            backend.hash_i64(&case.ints, hash, &mut hashes);
            scalar::sketch::hash::hash_words(&words, |word| word, hash, &mut expected);
            assert!(hashes == expected, "{backend}, {hash:?}");
            backend.hash_u64(&words, hash, &mut hashes);
            assert!(hashes == expected, "{backend}, {hash:?}");
            backend.hash_f64(&case.floats, hash, &mut hashes);
            scalar::sketch::hash::hash_words(&case.floats, scalar::sketch::hash::canonical, hash, &mut expected);
            assert!(hashes == expected, "{backend}, {hash:?}");
        }
    }

    #[test]
    fn equal_floats_hash_alike_and_others_apart() {
        for backend in Backend::available() {
            for hash in HASHES {
                let mut hashes = [0; 8];
                let values = [0.0, -0.0, f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001), f64::INFINITY, 5e-324, -1.0];
                backend.hash_f64(&values, hash, &mut hashes);
                assert_eq!(hashes[0], hashes[1]);
                assert_eq!((hashes[2], hashes[2]), (hashes[3], hashes[4]));
                let distinct: std::collections::HashSet<u64> = hashes.into_iter().collect();
                assert_eq!(distinct.len(), 5, "{backend}, {hash:?}");
            }
        }
    }

    fn of_bytes(pieces: &[&[u8]], hash: Hash) -> Vec<u64> {
        let mut offsets = vec![0];
        pieces.iter().for_each(|piece| offsets.push(offsets[offsets.len() - 1] + piece.len() as i32));
        let mut hashes = vec![0; pieces.len()];
        hash_bytes(&offsets, &pieces.concat(), hash, &mut hashes);
        hashes
    }

    #[test]
    fn bytes_hash_by_content_alone() {
        let text: Vec<u8> = (0..100u64).map(|n| scramble(n) as u8).collect();
        let pieces: Vec<&[u8]> = (0..100).map(|len| &text[..len]).collect();
        for hash in HASHES {
            let together = of_bytes(&pieces, hash);
            let apart: Vec<u64> = pieces.iter().flat_map(|piece| of_bytes(&[b"xyz", piece], hash)[1..].to_vec()).collect();
            assert_eq!(together, apart);
            let distinct: std::collections::HashSet<u64> = together.into_iter().collect();
            assert_eq!(distinct.len(), 100, "{hash:?}");
        }
    }

    /// Stored sketches depend on these words.
    #[test]
    fn the_words_are_fixed_for_good() {
        let mut words = [0; 2];
        Backend::Scalar.hash_u64(&[0, 1], Hash::Seeded(0), &mut words);
        assert_eq!(words, [0x4821_8226_ff3c_d4bf, 0x9e01_6029_3a33_aaf7]);
        let words = [0x0052_4499_d082_90a4, 0xbf89_e3f9_29d1_0080, 0x0f1a_0e07_11cb_4f64, 0x5dfc_1bf6_4b6f_a4b0, 0xb7d0_94a6_c60d_da93];
        assert_eq!(of_bytes(&[b"", b"a", b"abc", b"thalweg", b"a longer string than sixteen"], Hash::Seeded(0)), words);
    }

    #[test]
    fn each_bit_of_the_input_changes_half_of_the_output() {
        for backend in Backend::available() {
            for bit in 0..64 {
                let values: Vec<u64> = (0..2000).flat_map(|n| [scramble(n), scramble(n) ^ 1 << bit]).collect();
                let mut hashes = vec![0; values.len()];
                backend.hash_u64(&values, Hash::Seeded(7), &mut hashes);
                let mut flips = [0; 64];
                for pair in hashes.chunks(2) {
                    flips.iter_mut().enumerate().for_each(|(to, flips)| *flips += (pair[0] ^ pair[1]) >> to & 1);
                }
                // 2,000 coins: mean 1,000, standard deviation 22.
                assert!(flips.iter().all(|flips| (880..1120).contains(flips)), "{backend}, bit {bit}: {flips:?}");
            }
        }
    }
}
