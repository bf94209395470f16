//! Registers: values of a block in vectors, then one load, maximum and store per row.

use super::{AHEAD, Valid};
use crate::aggregate::beyond;
use crate::bits::Bits;
use crate::scalar::sketch::hll::{raise, value};
use crate::simd::aggregate::{BLOCK, range};
use crate::simd::prefetch::{FAR, prefetch};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};
use crate::sketch::hll::{ADDRESS_BITS, MAX_VALUE};

/// Rows between looks at the lowest register, or as many as there are registers.
const ROWS_PER_LOOK: usize = 2048;

/// A look at so many registers costs what a row does, or less: vectors of bytes are fast.
const REGISTERS_PER_ROW: usize = 4;

/// From so high a lowest register on, only 1 row in 8 or fewer can raise any.
const WORTH_SIFTING: u8 = 3;

pub(crate) fn update(level: Level, registers: &mut [u8], lg_k: u32, slots: &[u32], hashes: &[u64], validity: Option<Bits<'_>>) {
    launch(level, Update { registers, lg_k, slots, hashes, validity });
}

pub(crate) fn fold(level: Level, registers: &mut [u8], hashes: &[u64], validity: Option<Bits<'_>>) {
    launch(level, Fold { registers, hashes, validity });
}

struct Update<'a> {
    registers: &'a mut [u8],
    lg_k: u32,
    slots: &'a [u32],
    hashes: &'a [u64],
    validity: Option<Bits<'a>>,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { registers, lg_k, slots, hashes, validity } = self;
        let groups = registers.len() >> lg_k;
        let far = registers.len() > FAR;
        let mut valid = Valid::room(validity);
        let mut raises = [0; BLOCK];
        for (block, (slots, hashes)) in slots.chunks(BLOCK).zip(hashes.chunks(BLOCK)).enumerate() {
            let (slots, hashes) = match &mut valid {
                None => (slots, hashes),
                Some((bits, valid)) => valid.take(slots, hashes, *bits, block * BLOCK),
            };
            let (low, high) = range(slots);
            if low <= high && high as usize >= groups {
                beyond(high, groups);
            }
            let raises = raises_of(hashes, lg_k, &mut raises);
            let index = |slot: u32, raise: u64| (slot as usize) << lg_k | raise as u32 as usize;
            if far {
                let ahead = |row: usize| index(slots[row], raises[row]);
                (0..AHEAD.min(slots.len())).for_each(|row| prefetch(registers, ahead(row)));
                for (row, (&slot, &raise)) in slots.iter().zip(raises).enumerate() {
                    prefetch(registers, ahead((row + AHEAD).min(slots.len() - 1)));
                    // SAFETY: `slot` is at most `high`, which is below the number of groups; the low half of `raise` is below
                    // 2^lg_k, the number of registers of a group.
                    unsafe { put(registers, index(slot, raise), raise) };
                }
                continue;
            }
            for (&slot, &raise) in slots.iter().zip(raises) {
                // SAFETY: as above.
                unsafe { put(registers, index(slot, raise), raise) };
            }
        }
    }
}

struct Fold<'a> {
    registers: &'a mut [u8],
    hashes: &'a [u64],
    validity: Option<Bits<'a>>,
}

impl Kernel for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { registers, hashes, validity } = self;
        let lg_k = registers.len().ilog2();
        let mut valid = Valid::room(validity);
        let mut raises = [0; BLOCK];
        let rows_per_look = ROWS_PER_LOOK.max(registers.len());
        for (look, hashes) in hashes.chunks(rows_per_look).enumerate() {
            let worth_a_look = hashes.len() * REGISTERS_PER_ROW >= registers.len();
            let lowest = if worth_a_look { registers.iter().fold(MAX_VALUE, |low, &register| low.min(register)) } else { 0 };
            for (block, hashes) in hashes.chunks(BLOCK).enumerate() {
                let hashes = match &mut valid {
                    None => hashes,
                    Some((bits, valid)) => valid.take(&[], hashes, *bits, look * rows_per_look + block * BLOCK).1,
                };
                let (sifted, rest) = if lowest < WORTH_SIFTING { (&[][..], hashes) } else { hashes.as_chunks() };
                for word in sifted {
                    let mut able = able(word, lowest);
                    while able > 0 {
                        let hash = word[able.trailing_zeros() as usize];
                        raise(registers, hash as usize, value(hash));
                        able &= able - 1;
                    }
                }
                for &raise in raises_of(rest, lg_k, &mut raises) {
                    // SAFETY: the low half of `raise` is below 2^lg_k, the number of registers.
                    let register = unsafe { registers.get_unchecked_mut(raise as u32 as usize) };
                    // One group soon has most of its values, and the branch is right: cheaper than a store per row.
                    if (raise >> 32) as u8 > *register {
                        *register = (raise >> 32) as u8;
                    }
                }
            }
        }
    }
}

/// A bit for each hash that has as many leading zeros as `lowest`, without which no register can rise.
#[inline(always)]
fn able(hashes: &[u64; 64], lowest: u8) -> u64 {
    let beyond = 64 - lowest;
    hashes.iter().enumerate().fold(0, |able, (bit, hash)| able | u64::from(hash >> beyond == 0) << bit)
}

/// Of each hash, the register's number within its group in the low half and the value for it in the high half.
#[inline(always)]
fn raises_of<'a>(hashes: &[u64], lg_k: u32, raises: &'a mut [u64; BLOCK]) -> &'a [u64] {
    /// A float of this exponent holds an integer in its low 52 bits.
    const EXPONENT: u64 = 0x4330 << 48;
    const BIAS: u64 = 1023;
    let mask = (1u64 << lg_k) - 1;
    for (&hash, to) in hashes.iter().zip(raises.iter_mut()) {
        // Vectors cannot count zeros everywhere, but a float's exponent is the position of the highest bit. The bit below
        // the value's own is set, so that there is one.
        let bits = hash >> (ADDRESS_BITS - 1) | 1;
        let float = f64::from_bits(EXPONENT | bits) - f64::from_bits(EXPONENT);
        let highest = (float.to_bits() >> 52) - BIAS;
        *to = (u64::from(MAX_VALUE) - highest) << 32 | hash & mask;
    }
    &raises[..hashes.len()]
}

/// # Safety
/// `index` is below `registers.len()`.
#[inline(always)]
unsafe fn put(registers: &mut [u8], index: usize, raise: u64) {
    // SAFETY: the caller's promise.
    let register = unsafe { registers.get_unchecked_mut(index) };
    *register = (*register).max((raise >> 32) as u8);
}
