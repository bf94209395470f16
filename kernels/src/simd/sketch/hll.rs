//! Registers: values of a block in vectors, then one load, maximum and store per row.

use super::Valid;
use crate::aggregate::beyond;
use crate::bits::Bits;
use crate::scalar::sketch::hll::{raise, value};
use crate::simd::aggregate::{BLOCK, range};
use crate::simd::prefetch::{FAR, prefetch_far};
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
        if self.registers.len() > FAR { self.raise::<true>() } else { self.raise::<false>() }
    }
}

impl Update<'_> {
    /// Raises the registers of rows, those of a block being asked for before those of the one before are raised if they `ARE_FAR`.
    #[inline(always)]
    fn raise<const ARE_FAR: bool>(self) {
        let Self { registers, lg_k, slots, hashes, validity } = self;
        let groups = registers.len() >> lg_k;
        let mut valid = Valid::room(validity);
        let mut rooms = [const { Raises { rows: 0, places: [0; BLOCK], raises: [0; BLOCK] } }; 2];
        let blocks = slots.len().div_ceil(BLOCK);
        for block in 0..=blocks {
            if block < blocks {
                let rows = block * BLOCK..slots.len().min((block + 1) * BLOCK);
                let (slots, hashes) = (&slots[rows.clone()], &hashes[rows]);
                let (slots, hashes) = match &mut valid {
                    None => (slots, hashes),
                    Some((bits, valid)) => valid.take(slots, hashes, *bits, block * BLOCK),
                };
                let (low, high) = range(slots);
                if low <= high && high as usize >= groups {
                    beyond(high, groups);
                }
                let room = &mut rooms[block % 2];
                room.take(lg_k, slots, hashes);
                if ARE_FAR {
                    room.places[..room.rows].iter().for_each(|&place| prefetch_far(registers, place as usize));
                }
            }
            if block > 0 {
                let room = &rooms[(block - 1) % 2];
                for (&place, &raise) in room.places.iter().zip(&room.raises).take(room.rows) {
                    // SAFETY: the slot is below the number of groups, and the low half of `raise` below 2^lg_k, the number of
                    // registers of a group.
                    let register = unsafe { registers.get_unchecked_mut(place as usize) };
                    *register = (*register).max((raise >> 32) as u8);
                }
            }
        }
    }
}

/// What the rows of a block are to do: the number of the register of each, and [`raises_of`] it.
struct Raises {
    rows: usize,
    places: [u64; BLOCK],
    raises: [u64; BLOCK],
}

impl Raises {
    #[inline(always)]
    fn take(&mut self, lg_k: u32, slots: &[u32], hashes: &[u64]) {
        self.rows = slots.len();
        let raises = raises_of(hashes, lg_k, &mut self.raises);
        for (place, (&slot, &raise)) in self.places.iter_mut().zip(slots.iter().zip(raises)) {
            *place = u64::from(slot) << lg_k | u64::from(raise as u32);
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
