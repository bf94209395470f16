//! Twin of [`crate::sketch::hll`].

use crate::bits::Bits;
use crate::sketch::hll::ADDRESS_BITS;

/// Twin of [`crate::hll_update`].
pub fn update(registers: &mut [u8], lg_k: u32, slots: &[u32], hashes: &[u64], validity: Option<Bits<'_>>) {
    for (row, (&slot, &hash)) in slots.iter().zip(hashes).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            let first = (slot as usize) << lg_k;
            raise(&mut registers[first..first + (1 << lg_k)], hash as usize, value(hash));
        }
    }
}

/// Twin of [`crate::hll_fold`].
pub fn fold(registers: &mut [u8], hashes: &[u64], validity: Option<Bits<'_>>) {
    for (row, &hash) in hashes.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            raise(registers, hash as usize, value(hash));
        }
    }
}

/// Lets the register at the low bits of `address` hold at least `value`.
pub(crate) fn raise(registers: &mut [u8], address: usize, value: u8) {
    let register = &mut registers[address % registers.len()];
    *register = (*register).max(value);
}

/// What a register makes of a hash: leading zeros above the address, and 1.
pub(crate) fn value(hash: u64) -> u8 {
    ((hash >> ADDRESS_BITS).leading_zeros() - ADDRESS_BITS + 1) as u8
}
