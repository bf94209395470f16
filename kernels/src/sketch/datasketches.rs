//! Apache DataSketches' binary images of HyperLogLog sketches, read and written.
//!
//! A sketch of [`Hash::DataSketches`](super::hash::Hash) holds the same registers as theirs of the same values, so the two
//! can be merged; of any other hash, they have nothing to say to each other. Layout: `HllUtil` and `PreambleUtil` of
//! datasketches-java, <https://datasketches.apache.org/docs/HLL/HllSketches.html>.
//!
//! All of their images are read: the coupon list and set that small sketches are, and registers of 4, 6 and 8 bits; compact
//! and updatable. A coupon is 26 bits of address and a value, from which a register of any sketch is told. Two are written:
//!
//! | of | image | bytes |
//! |---|---|---|
//! | up to [`MAX_COUPONS`] coupons | the compact list of up to 8, the set of more, in ascending order | 8 or 12, and 4 a coupon |
//! | registers | those of 8 bits, marked as out of order: they keep no history, so readers estimate from them, as after a union | 40 and the registers |
//!
//! One thing differs: their registers hold up to 63, ours up to 39. One distinct value in 2^38 would tell.

use std::fmt;

use super::hll::{ADDRESS_BITS, MAX_LG_K, MAX_VALUE, MIN_LG_K, check_group, hll_estimate};
use crate::scalar::sketch::hll::value;

const SERIAL_VERSION: u8 = 1;
const FAMILY: u8 = 7;

/// Preamble of the list, the set and the registers, in words of 4 bytes.
const PREAMBLES: [u8; 3] = [2, 3, 10];

const EMPTY: u8 = 4;
const COMPACT: u8 = 8;
const OUT_OF_ORDER: u8 = 16;

/// Registers of 8 bits.
const BYTES: u8 = 2 << 2;

/// Most coupons of a list, and the places of the smallest set, as a power of two: three quarters of a set's are filled at most.
const LIST: usize = 8;
const LG_SET: u32 = 5;

/// What 4 bits hold of a register whose value is listed apart.
const EXCEPTION: u8 = 15;

/// Most coupons that an image of ours lists; of more, it has registers.
pub const MAX_COUPONS: usize = 64;

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

/// An image, seen to be whole.
#[derive(Clone, Copy, Debug)]
pub struct HllImage<'a> {
    lg_k: u32,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Coupons(&'a [[u8; 4]]),
    /// Two registers a byte, less `base`; those of [`EXCEPTION`] are listed as coupons.
    Nibbles {
        pairs: &'a [u8],
        base: u8,
        exceptions: &'a [[u8; 4]],
    },
    /// Six bits a register from the lowest on, which lie in two bytes; there is always one byte more.
    Sixes(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> HllImage<'a> {
    /// Looks at the preamble and at the length.
    ///
    /// # Errors
    /// [`ImageError::Short`] or [`ImageError::Foreign`].
    pub fn new(image: &'a [u8]) -> Result<Self, ImageError> {
        let &[preamble, version, family, lg_k, lg_list, flags, state, mode] = head(image, 0)?;
        let known = version == SERIAL_VERSION && family == FAMILY && PREAMBLES.get(usize::from(mode & 3)) == Some(&preamble);
        if !known || !(MIN_LG_K..=MAX_LG_K).contains(&u32::from(lg_k)) || lg_list > ADDRESS_BITS as u8 {
            return Err(ImageError::Foreign);
        }
        let start = usize::from(preamble) * 4;
        // An updatable image keeps its free places, which are 0.
        let listed = |count: usize| if flags & COMPACT > 0 || count == 0 { count } else { 1 << lg_list };
        let coupons = |start: usize, count: usize| Ok(part(image, start, count * 4)?.as_chunks().0);
        let content = match (mode & 3, mode >> 2 & 3) {
            (0, _) => Content::Coupons(coupons(start, listed(state.into()))?),
            (1, _) => Content::Coupons(coupons(start, listed(u32::from_le_bytes(*head(image, 8)?) as usize))?),
            (2, 0) => {
                let exceptions = listed(u32::from_le_bytes(*head(image, 36)?) as usize);
                let pairs = part(image, start, 1 << (lg_k - 1))?;
                Content::Nibbles { pairs, base: state.min(MAX_VALUE), exceptions: coupons(start + pairs.len(), exceptions)? }
            }
            (2, 1) => Content::Sixes(part(image, start, (3usize << (lg_k - 2)) + 1)?),
            (2, 2) => Content::Bytes(part(image, start, 1 << lg_k)?),
            _ => return Err(ImageError::Foreign),
        };
        Ok(Self { lg_k: lg_k.into(), content })
    }

    /// Base-2 logarithm of its number of registers, which a list or set has in mind too.
    pub fn lg_k(&self) -> u32 {
        self.lg_k
    }

    /// Its coupons as words such as [`hll_coupon`] makes, if it is a list or a set; it may name one twice.
    pub fn coupons(&self) -> Option<impl Iterator<Item = u64> + use<'a>> {
        match self.content {
            Content::Coupons(coupons) => Some(pairs(coupons).map(|(address, value)| word(address, value))),
            _ => None,
        }
    }

    /// Whether no value was ever taken in.
    pub fn is_empty(&self) -> bool {
        match self.content {
            Content::Coupons(coupons) => pairs(coupons).next().is_none(),
            Content::Nibbles { pairs: bytes, base, .. } => base == 0 && bytes.iter().all(|&byte| byte == 0),
            Content::Sixes(bytes) | Content::Bytes(bytes) => bytes.iter().all(|&byte| byte == 0),
        }
    }

    /// Takes the sketch into the registers of one group, which may be fewer than its own: the merge of both.
    ///
    /// # Errors
    /// [`ImageError::Coarser`] if it has fewer.
    ///
    /// # Panics
    /// If there are not 2^4 to 2^21 registers, a power of two.
    pub fn merge_into(&self, registers: &mut [u8]) -> Result<(), ImageError> {
        if self.lg_k < check_group(registers) {
            return Err(ImageError::Coarser { lg_k: self.lg_k });
        }
        if let Content::Bytes(bytes) = self.content
            && bytes.len() == registers.len()
        {
            registers.iter_mut().zip(bytes).for_each(|(register, &value)| *register = (*register).max(value.min(MAX_VALUE)));
            return Ok(());
        }
        let mut raise = |address: usize, value: u8| {
            let register = &mut registers[address % registers.len()];
            *register = (*register).max(value.min(MAX_VALUE));
        };
        match self.content {
            Content::Coupons(coupons) => pairs(coupons).for_each(|(address, value)| raise(address as usize, value)),
            Content::Nibbles { pairs: bytes, base, exceptions } => {
                for (pair, byte) in bytes.iter().enumerate() {
                    for (half, nibble) in [byte & 15, byte >> 4].into_iter().enumerate().filter(|(_, nibble)| *nibble < EXCEPTION) {
                        raise(pair * 2 + half, nibble + base);
                    }
                }
                pairs(exceptions).for_each(|(address, value)| raise(address as usize, value));
            }
            Content::Sixes(bytes) => (0..1 << self.lg_k).for_each(|index| {
                let [low, high] = [bytes[index * 6 / 8], bytes[index * 6 / 8 + 1]];
                raise(index, (u16::from_le_bytes([low, high]) >> (index * 6 % 8)) as u8 & 63);
            }),
            Content::Bytes(bytes) => bytes.iter().enumerate().for_each(|(index, &value)| raise(index, value)),
        }
        Ok(())
    }

    /// Estimated number of distinct values: how many coupons there are, up to [`MAX_COUPONS`], else [`hll_estimate`] of the
    /// registers.
    pub fn estimate(&self) -> f64 {
        if let Some(coupons) = self.coupons() {
            let mut coupons: Vec<u64> = coupons.collect();
            coupons.sort_unstable();
            coupons.dedup();
            if coupons.len() <= MAX_COUPONS {
                return coupons.len() as f64;
            }
        }
        let mut registers = vec![0; 1 << self.lg_k];
        self.merge_into(&mut registers).map_or(f64::NAN, |()| hll_estimate(&registers))
    }
}

/// A word of [`Hash::DataSketches`](super::hash::Hash) without what a coupon does not tell: the address, and one bit that stands
/// for the value. The register of the word stays the same.
pub fn hll_coupon(hash: u64) -> u64 {
    word(hash as u32 & ADDRESS, value(hash))
}

const ADDRESS: u32 = (1 << ADDRESS_BITS) - 1;

fn word(address: u32, value: u8) -> u64 {
    u64::from(address) | if value < MAX_VALUE { 1 << (64 - value) } else { 0 }
}

/// Addresses and values of coupons; free places are left out.
fn pairs(coupons: &[[u8; 4]]) -> impl Iterator<Item = (u32, u8)> {
    let coupons = coupons.iter().map(|bytes| u32::from_le_bytes(*bytes));
    coupons.map(|coupon| (coupon & ADDRESS, (coupon >> ADDRESS_BITS) as u8)).filter(|(_, value)| *value > 0)
}

/// Appends the image of a small sketch of 2^`lg_k` registers to `image`: of words that differ, which [`hll_coupon`] made, in any
/// order.
///
/// # Panics
/// If there are more than [`MAX_COUPONS`], or `lg_k` is not in 8..=21: smaller sketches have no set.
pub fn hll_coupons_to_datasketches(lg_k: u32, coupons: &[u64], image: &mut Vec<u8>) {
    assert!((8..=MAX_LG_K).contains(&lg_k), "lg_k must be in 8..={MAX_LG_K}, not {lg_k}");
    assert!(coupons.len() <= MAX_COUPONS, "{} coupons are more than {MAX_COUPONS}", coupons.len());
    let mut listed: Vec<u32> = coupons.iter().map(|&word| u32::from(value(word)) << ADDRESS_BITS | word as u32 & ADDRESS).collect();
    listed.sort_unstable();
    let [list, set, _] = PREAMBLES;
    if listed.len() <= LIST {
        let flags = if listed.is_empty() { COMPACT | EMPTY } else { COMPACT };
        image.extend([list, SERIAL_VERSION, FAMILY, lg_k as u8, LIST.ilog2() as u8, flags, listed.len() as u8, BYTES]);
    } else {
        let lg_set = (LG_SET..).find(|lg| 4 * listed.len() <= 3 << lg).unwrap_or(LG_SET);
        image.extend([set, SERIAL_VERSION, FAMILY, lg_k as u8, lg_set as u8, COMPACT, 0, BYTES | 1]);
        image.extend((listed.len() as u32).to_le_bytes());
    }
    image.extend(listed.into_iter().flat_map(u32::to_le_bytes));
}

/// Appends the image of one group's registers to `image`: 40 bytes and the registers.
///
/// # Panics
/// If there are not 2^4 to 2^21 registers, a power of two, or one is above [`MAX_VALUE`].
pub fn hll_to_datasketches(registers: &[u8], image: &mut Vec<u8>) {
    let lg_k = check_group(registers);
    image.extend([PREAMBLES[2], SERIAL_VERSION, FAMILY, lg_k as u8, 0, OUT_OF_ORDER, 0, BYTES | 2]);
    let mut counts = [0u32; MAX_VALUE as usize + 1];
    registers.iter().for_each(|&value| counts[usize::from(value)] += 1);
    // Sums of 2^−value, of values below 32 and others apart: each is exact in a float.
    let mut sums = [0.0; 2];
    let terms = counts.iter().enumerate().map(|(value, &count)| (value, f64::from(count) * (-(value as f64)).exp2()));
    terms.for_each(|(value, term)| sums[usize::from(value >= 32)] += term);
    let history = 0.0f64;
    image.extend([history, sums[0], sums[1]].into_iter().flat_map(f64::to_le_bytes));
    let exceptions = 0u32;
    image.extend([counts[0], exceptions].into_iter().flat_map(u32::to_le_bytes));
    image.extend_from_slice(registers);
}

/// Takes the sketch in `image` into the registers of one group: see [`HllImage::merge_into`].
///
/// # Errors
/// [`ImageError`] if the image is cut short, not one of a HyperLogLog sketch, or has fewer registers than there are.
///
/// # Panics
/// If there are not 2^4 to 2^21 registers, a power of two.
pub fn hll_from_datasketches(image: &[u8], registers: &mut [u8]) -> Result<(), ImageError> {
    HllImage::new(image)?.merge_into(registers)
}

fn part(image: &[u8], start: usize, len: usize) -> Result<&[u8], ImageError> {
    image.get(start..start + len).ok_or(ImageError::Short { needed: start + len, held: image.len() })
}

fn head<const N: usize>(image: &[u8], start: usize) -> Result<&[u8; N], ImageError> {
    image.get(start..).and_then(|rest| rest.first_chunk()).ok_or(ImageError::Short { needed: start + N, held: image.len() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
