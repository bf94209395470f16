//! Dictionaries: keys become dense `u32` slots, once per batch, and everything after works on slots.
//!
//! A key gets the lowest slot never used, or the slot most recently freed by a removal, when it first arrives; it keeps
//! it until it is removed. Slots therefore depend on the order of keys and removals alone, never on hashing, batch size
//! or backend. Cleared, a dictionary hands out slots from 0 again, in the memory that it has.

pub(crate) mod bytes;
mod direct;
mod int;
mod table;
mod together;
mod words;

use std::fmt;
use std::hash::{BuildHasher, RandomState};

pub use bytes::BytesDictionary;
pub use int::IntDictionary;
pub use together::Together;
pub use words::WordsDictionary;

/// Rows whose lookups are in flight together.
pub(crate) const BLOCK: usize = 256;

/// What stands in place of a slot where there is none: no slot is so high.
pub(crate) const NONE: u32 = u32::MAX;

/// Rows between asking for a table's entry and using it.
const AHEAD: usize = 24;

/// A dictionary was asked for one more slot than it may hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Most keys that the dictionary may hold at a time.
    pub limit: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} keys at a time: raise the limit on keys, or remove keys that are done with", self.limit)
    }
}

impl std::error::Error for Full {}

/// Slot numbers: which are free, which come next.
#[derive(Debug)]
struct Slots {
    limit: usize,
    /// Slots ever handed out are those below.
    next: usize,
    freed: Vec<u32>,
}

impl Slots {
    /// Slot numbers and their successors must fit in 32 bits, and the last number is kept for "none".
    fn new(limit: usize) -> Self {
        Self { limit: limit.min(u32::MAX as usize - 1), next: 0, freed: Vec::new() }
    }

    /// The slot that is taken next, if there is one.
    fn peek(&self) -> Option<u32> {
        self.freed.last().copied().or((self.next < self.limit).then_some(self.next as u32))
    }

    fn full(&self) -> Full {
        Full { limit: self.limit }
    }

    fn take(&mut self) -> Result<u32, Full> {
        if let Some(slot) = self.freed.pop() {
            return Ok(slot);
        }
        if self.next == self.limit {
            return Err(self.full());
        }
        self.next += 1;
        Ok((self.next - 1) as u32)
    }

    fn give_back(&mut self, slot: u32) {
        self.freed.push(slot);
    }

    fn clear(&mut self) {
        self.next = 0;
        self.freed.clear();
    }

    fn live(&self) -> usize {
        self.next - self.freed.len()
    }

    fn bytes(&self) -> usize {
        self.freed.capacity() * size_of::<u32>()
    }
}

/// A seed that outsiders cannot guess, so that they cannot choose keys that collide.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0u64)
}

/// Both halves of a 128-bit product, folded: every bit of the result depends on every bit of both factors.
#[inline(always)]
fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests;
