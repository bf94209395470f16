//! Apache DataSketches' binary images of HyperLogLog sketches, read and written.
//!
//! A sketch of [`Hash::DataSketches`](super::hash::Hash) holds the same registers as theirs of the same values, so the two
//! can be merged; of any other hash, they have nothing to say to each other. Layout: `HllUtil` and `PreambleUtil` of
//! datasketches-java, <https://datasketches.apache.org/docs/HLL/HllSketches.html>.
//!
//! All of their images are read: the coupon list and set that small sketches are, and registers of 4, 6 and 8 bits; compact
//! and updatable. Written is the one of 8-bit registers, marked as out of order, since registers keep no history: readers
//! then estimate from the registers, as after a union.
//!
//! One thing differs: their registers hold up to 63, ours up to 44. One distinct value in 2^43 would tell.

use std::fmt;

use super::hll::{MAX_LG_K, MAX_VALUE, MIN_LG_K, check_group};

const SERIAL_VERSION: u8 = 1;
const FAMILY: u8 = 7;

/// Preamble of the list, the set and the registers, in words of 4 bytes.
const PREAMBLES: [u8; 3] = [2, 3, 10];

const COMPACT: u8 = 8;
const OUT_OF_ORDER: u8 = 16;

/// The low bits of a coupon tell the register, the high ones its value.
const COUPON_ADDRESS_BITS: u32 = 26;

/// What 4 bits hold of a register whose value is listed apart.
const EXCEPTION: u8 = 15;

/// An image is not one of a HyperLogLog sketch that can be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// It ends before what its preamble promises.
    Short {
        /// Bytes there must be.
        needed: usize,
        /// Bytes there are.
        held: usize,
    },
    /// It is of another sketch, or of a serial version or mode that is not known.
    Foreign,
    /// It has fewer registers than the sketch that shall take it in.
    Coarser {
        /// Base-2 logarithm of its number of registers.
        lg_k: u32,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, held } => write!(f, "image of a HyperLogLog sketch is cut short: {held} bytes, {needed} are needed"),
            Self::Foreign => f.write_str("not an image of a HyperLogLog sketch of DataSketches, serial version 1"),
            Self::Coarser { lg_k } => write!(f, "image has 2^{lg_k} registers: take it into a sketch of that many or fewer"),
        }
    }
}

impl std::error::Error for ImageError {}

/// Appends the image of one group's registers to `image`: 40 bytes and the registers.
///
/// # Panics
/// If there are not 2^4 to 2^21 registers, a power of two.
pub fn hll_to_datasketches(registers: &[u8], image: &mut Vec<u8>) {
    let lg_k = check_group(registers);
    // Mode: registers (2) of 8 bits (2).
    image.extend([PREAMBLES[2], SERIAL_VERSION, FAMILY, lg_k as u8, 0, OUT_OF_ORDER, 0, 2 | 2 << 2]);
    // Sums of 2^−value, of values below 32 and others apart: each is exact in a float.
    let mut sums = [0.0; 2];
    registers.iter().for_each(|&value| sums[usize::from(value >= 32)] += (-f64::from(value)).exp2());
    let history = 0.0f64;
    image.extend([history, sums[0], sums[1]].into_iter().flat_map(f64::to_le_bytes));
    let zeros = registers.iter().filter(|&&value| value == 0).count() as u32;
    let exceptions = 0u32;
    image.extend([zeros, exceptions].into_iter().flat_map(u32::to_le_bytes));
    image.extend_from_slice(registers);
}

/// Takes the sketch in `image` into the registers of one group, which may be fewer than those of the image: the merge of
/// both. On an error, the registers may have taken a part.
///
/// # Errors
/// [`ImageError`] if the image is cut short, not one of a HyperLogLog sketch, or has fewer registers than there are.
///
/// # Panics
/// If there are not 2^4 to 2^21 registers, a power of two.
pub fn hll_from_datasketches(image: &[u8], registers: &mut [u8]) -> Result<(), ImageError> {
    let own_lg_k = check_group(registers);
    let &[preamble, version, family, lg_k, lg_list, flags, state, mode] = head(image, 0)?;
    let known = version == SERIAL_VERSION && family == FAMILY && PREAMBLES.get(usize::from(mode & 3)) == Some(&preamble);
    if !known || !(MIN_LG_K..=MAX_LG_K).contains(&u32::from(lg_k)) || lg_list > COUPON_ADDRESS_BITS as u8 {
        return Err(ImageError::Foreign);
    }
    if u32::from(lg_k) < own_lg_k {
        return Err(ImageError::Coarser { lg_k: lg_k.into() });
    }
    let start = usize::from(preamble) * 4;
    // An updatable image keeps its free places, which are 0.
    let listed = |count: usize| if flags & COMPACT > 0 || count == 0 { count } else { 1 << lg_list };
    let mut into = Registers { registers };
    match (mode & 3, mode >> 2 & 3) {
        (0, _) => into.raise_coupons(tail(image, start)?, listed(state.into())),
        (1, _) => into.raise_coupons(tail(image, start)?, listed(u32::from_le_bytes(*head(image, 8)?) as usize)),
        (2, 0) => {
            let exceptions = listed(u32::from_le_bytes(*head(image, 36)?) as usize);
            let nibbles = part(image, start, 1 << (lg_k - 1))?;
            for (pair, byte) in nibbles.iter().enumerate() {
                for (half, nibble) in [byte & 15, byte >> 4].into_iter().enumerate().filter(|(_, nibble)| *nibble < EXCEPTION) {
                    into.raise(pair * 2 + half, nibble + state.min(MAX_VALUE));
                }
            }
            into.raise_coupons(tail(image, start + nibbles.len())?, exceptions)
        }
        (2, 1) => {
            // Six bits from the lowest on, which lie in two bytes; there is always one byte more.
            let sixes = part(image, start, (3usize << (lg_k - 2)) + 1)?;
            for index in 0..1 << lg_k {
                let [low, high] = [sixes[index * 6 / 8], sixes[index * 6 / 8 + 1]];
                into.raise(index, (u16::from_le_bytes([low, high]) >> (index * 6 % 8)) as u8 & 63);
            }
            Ok(())
        }
        (2, 2) => {
            part(image, start, 1 << lg_k)?.iter().enumerate().for_each(|(index, &value)| into.raise(index, value));
            Ok(())
        }
        _ => Err(ImageError::Foreign),
    }
}

struct Registers<'a> {
    registers: &'a mut [u8],
}

impl Registers<'_> {
    fn raise(&mut self, address: usize, value: u8) {
        let register = &mut self.registers[address % self.registers.len()];
        *register = (*register).max(value.min(MAX_VALUE));
    }

    fn raise_coupons(&mut self, bytes: &[u8], count: usize) -> Result<(), ImageError> {
        let coupons = part(bytes, 0, count * 4)?;
        for coupon in coupons.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)) {
            let address = coupon & ((1 << COUPON_ADDRESS_BITS) - 1);
            self.raise(address as usize, (coupon >> COUPON_ADDRESS_BITS) as u8);
        }
        Ok(())
    }
}

fn tail(image: &[u8], start: usize) -> Result<&[u8], ImageError> {
    image.get(start..).ok_or(ImageError::Short { needed: start, held: image.len() })
}

fn part(image: &[u8], start: usize, len: usize) -> Result<&[u8], ImageError> {
    image.get(start..start + len).ok_or(ImageError::Short { needed: start + len, held: image.len() })
}

fn head<const N: usize>(image: &[u8], start: usize) -> Result<&[u8; N], ImageError> {
    tail(image, start)?.first_chunk().ok_or(ImageError::Short { needed: start + N, held: image.len() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datasketches::hash::value::{canonical_float, raw_bytes};
    use datasketches::hll::{HllSketch, HllType, HllUnion};

    use super::{ImageError, hll_from_datasketches, hll_to_datasketches};
    use crate::Backend;
    use crate::sketch::hash::{Hash, hash_bytes};
    use crate::sketch::hll::{hll_estimate, hll_merge, hll_standard_error};

    const TYPES: [HllType; 3] = [HllType::Hll4, HllType::Hll6, HllType::Hll8];

    fn ours(lg_k: u32, values: std::ops::Range<i64>) -> Vec<u8> {
        let values: Vec<i64> = values.collect();
        let (mut hashes, mut registers) = (vec![0; values.len()], vec![0; 1 << lg_k]);
        Backend::active().hash_i64(&values, Hash::DataSketches, &mut hashes);
        Backend::active().hll_fold(&mut registers, &hashes, None);
        registers
    }

    fn theirs(lg_k: u32, values: std::ops::Range<i64>, kind: HllType) -> HllSketch {
        let mut sketch = HllSketch::new(lg_k as u8, kind).unwrap();
        values.for_each(|value| sketch.update(value));
        sketch
    }

    #[test]
    fn their_images_of_every_size_and_type_hold_our_registers() {
        for (lg_k, sizes) in
            [(4, &[0, 1, 5, 8, 100, 100_000][..]), (12, &[0, 1, 7, 8, 9, 20, 100, 380, 400, 5000, 100_000]), (14, &[3, 500, 200_000])]
        {
            for &size in sizes {
                for kind in TYPES {
                    let image = theirs(lg_k, 0..size, kind).serialize();
                    let mut registers = vec![0; 1 << lg_k];
                    hll_from_datasketches(&image, &mut registers).unwrap();
                    assert!(registers == ours(lg_k, 0..size), "lg_k {lg_k}, {size} values, {kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_finer_image_folds_to_what_a_coarser_sketch_would_be() {
        for size in [5, 100, 50_000] {
            for kind in TYPES {
                let mut registers = vec![0; 1 << 8];
                hll_from_datasketches(&theirs(12, 0..size, kind).serialize(), &mut registers).unwrap();
                assert!(registers == ours(8, 0..size), "{size} values, {kind:?}");
            }
        }
        let image = theirs(8, 0..5, HllType::Hll8).serialize();
        assert_eq!(hll_from_datasketches(&image, &mut [0; 1 << 9]), Err(ImageError::Coarser { lg_k: 8 }));
    }

    #[test]
    fn they_read_our_image_and_union_it_with_their_own() {
        for (lg_k, size) in [(4, 0), (4, 50), (12, 0), (12, 1), (12, 300), (12, 100_000), (16, 1_000_000)] {
            let registers = ours(lg_k, 0..size);
            let mut image = Vec::new();
            hll_to_datasketches(&registers, &mut image);
            let sketch = HllSketch::deserialize(&image).unwrap();
            assert_eq!(sketch.is_empty(), size == 0);
            let (estimate, bound) = (hll_estimate(&registers), 2.0 * hll_standard_error(lg_k) * size as f64);
            assert!((sketch.estimate() - estimate).abs() <= bound, "{size}: {} and {estimate}", sketch.estimate());
            assert_eq!(sketch.serialize(), image, "lg_k {lg_k}, {size} values");

            // Half of their values are new: a union holds what a merge does.
            let others = size / 2..size / 2 + size;
            let mut union = HllUnion::new(lg_k as u8).unwrap();
            union.update(&sketch);
            union.update(&theirs(lg_k, others.clone(), HllType::Hll8));
            let mut united = vec![0; 1 << lg_k];
            hll_from_datasketches(&union.to_sketch(HllType::Hll8).serialize(), &mut united).unwrap();
            let mut merged = registers;
            hll_merge(&mut merged, &ours(lg_k, others));
            assert!(united == merged, "lg_k {lg_k}, {size} values");
        }
    }

    #[test]
    fn floats_and_strings_hash_as_theirs() {
        let floats = [0.0, -0.0, 1.5, f64::NAN, -f64::NAN, f64::INFINITY, 5e-324, -7.0];
        let words = [
            "a",
            "b",
            "seven77",
            "eight888",
            "nine99999",
            "sixteen_bytes___",
            "seventeen_bytes__",
            "a string of more than two blocks of 16",
        ];
        let (mut hashes, mut registers, mut read) = ([0; 8], vec![0; 1 << 12], vec![0; 1 << 12]);
        let mut sketch = HllSketch::new(12, HllType::Hll8).unwrap();
        Backend::active().hash_f64(&floats, Hash::DataSketches, &mut hashes);
        Backend::active().hll_fold(&mut registers, &hashes, None);
        floats.iter().for_each(|&float| sketch.update(canonical_float::from_f64(float)));
        let mut offsets = vec![0];
        words.iter().for_each(|word| offsets.push(offsets[offsets.len() - 1] + word.len() as i32));
        hash_bytes(&offsets, words.concat().as_bytes(), Hash::DataSketches, &mut hashes);
        Backend::active().hll_fold(&mut registers, &hashes, None);
        words.iter().for_each(|word| sketch.update(raw_bytes::from_str(word)));
        hll_from_datasketches(&sketch.serialize(), &mut read).unwrap();
        assert!(read == registers);
        assert!(registers.iter().filter(|&&value| value > 0).count() >= 13);
    }

    /// Updatable images are theirs of Java and C++ alone: made by hand from compact ones.
    #[test]
    fn updatable_images_keep_free_places() {
        let compact = theirs(12, 0..5, HllType::Hll8).serialize();
        let mut updatable = compact.clone();
        updatable[5] &= !super::COMPACT;
        updatable.splice(8..8, [0; 4]);
        updatable.extend([0; 8]);
        let (mut registers, mut expected) = (vec![0; 1 << 12], vec![0; 1 << 12]);
        hll_from_datasketches(&updatable, &mut registers).unwrap();
        hll_from_datasketches(&compact, &mut expected).unwrap();
        assert!(registers == expected && registers.iter().any(|&value| value > 0));
    }

    #[test]
    fn no_bytes_whatever_panic() {
        for kind in TYPES {
            for size in [0, 5, 100, 50_000] {
                let image = theirs(12, 0..size, kind).serialize();
                for cut in 0..image.len().min(100) {
                    let result = hll_from_datasketches(&image[..cut], &mut [0; 1 << 12]);
                    assert!(matches!(result, Err(ImageError::Short { .. })), "{kind:?}, {size} values, cut at {cut}");
                }
                for at in 0..8 {
                    for byte in 0..=255 {
                        let mut image = image.clone();
                        image[at] = byte;
                        let _ = hll_from_datasketches(&image, &mut [0; 16]);
                    }
                }
            }
        }
        assert_eq!(hll_from_datasketches(&[2, 1, 3, 12, 3, 4, 0, 8], &mut [0; 16]), Err(ImageError::Foreign));
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_do_not_panic(mut image in proptest::collection::vec(proptest::num::u8::ANY, 0..200), mode in 0..16u8) {
            if image.len() >= 8 {
                (image[0], image[1], image[2], image[3], image[7]) = ([2, 3, 10, 10][mode as usize & 3], 1, 7, 4 + image[3] % 18, mode);
            }
            let _ = hll_from_datasketches(&image, &mut [0; 16]);
        }
    }
}
