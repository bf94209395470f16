//! Integer keys told apart all at once: by radix, a part of the keys after the other.
//!
//! Rows that come one block after the other are looked up in a table of all keys. Where hardly a key comes twice, every row
//! touches a line of it that no cache holds, to read it and to change it. Of rows that are there together, those with equal leading bits are
//! brought side by side first: a part needs a table of a few thousand entries, which is the same memory for all parts, so that all
//! of it stays in the first-level cache (Manegold, Boncz, Kersten, "Optimizing main-memory join on modern hardware", 2002).

use std::hint::select_unpredictable;

use crate::simd::dictionary::Mark;

/// Parts: as many as places to write to may be in the first-level cache at a time.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 8;

/// Quarters of the rows that are gone through together, so that a row of a part need not wait for the row before it in the same part.
const STREAMS: usize = 4;

/// A range of up to so many keys to a row is told apart by the keys themselves, without hashes.
const EXACT_RANGE: u64 = 16;

/// Bits of the code of a hashed key.
const HASH_BITS: u32 = 32;

/// Entries to a key of the part with most of them, in the table of hashed keys.
const SPARE: usize = 2;

/// Room to tell keys apart in, for one call after the other.
#[derive(Debug, Default)]
pub struct Together {
    /// The code of each row's key and, below, the row's number plus 1, by part: the leading bits of the code.
    entries: Vec<u64>,
    /// By code within a part, the entry of the first row of that key. Those of the parts before are less than any of this part.
    table: Vec<u64>,
    /// By row, the first row with the same key.
    firsts: Vec<u32>,
}

/// How keys become codes of 32 bits.
trait Code {
    /// Equal keys have one code.
    fn of(&self, key: i64) -> u32;
    /// Whether keys of one code are equal.
    const IS_EXACT: bool;
}

/// A key's distance from the least.
struct Offset {
    low: i64,
}

impl Code for Offset {
    #[inline(always)]
    fn of(&self, key: i64) -> u32 {
        key.wrapping_sub(self.low) as u32
    }

    const IS_EXACT: bool = true;
}

/// The leading bits of a key's hash.
struct Hashed {
    seeds: [u64; 2],
}

impl Code for Hashed {
    #[inline(always)]
    fn of(&self, key: i64) -> u32 {
        (key.hash(self.seeds) >> HASH_BITS) as u32
    }

    const IS_EXACT: bool = false;
}

impl Together {
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        (self.entries.capacity() + self.table.capacity()) * size_of::<u64>() + self.firsts.capacity() * size_of::<u32>()
    }

    /// By row, the first row with the same key; of less than 2^32 − 1 keys between `low` and `high`. `seeds` are for hashes.
    pub(super) fn first_rows(&mut self, keys: &[i64], (low, high): (i64, i64), seeds: [u64; 2]) -> &[u32] {
        let range = high.abs_diff(low).saturating_add(1);
        self.entries.resize(keys.len(), 0);
        self.firsts.resize(keys.len(), 0);
        if range <= EXACT_RANGE * keys.len() as u64 && range <= 1 << HASH_BITS {
            let bits = u64::BITS - (range - 1).leading_zeros();
            self.tell_apart(keys, &Offset { low }, bits);
        } else {
            self.tell_apart(keys, &Hashed { seeds }, HASH_BITS);
        }
        &self.firsts
    }

    fn tell_apart<C: Code>(&mut self, keys: &[i64], code: &C, bits: u32) {
        let shift = bits.saturating_sub(PART_BITS);
        let starts = self.partition(keys, code, shift);
        let most = starts.windows(2).map(|part| part[1] - part[0]).max().unwrap_or(0);
        // Of a code, the bits below `drop` are not used to find its entry.
        let (len, drop) = if C::IS_EXACT {
            (1 << shift, 0)
        } else {
            let len = (SPARE * most).next_power_of_two();
            (len, shift.saturating_sub(len.trailing_zeros()))
        };
        self.table.clear();
        self.table.resize(len, 0);
        let (table, firsts) = (&mut self.table[..len], &mut self.firsts[..]);
        for (part, rows) in starts.windows(2).enumerate() {
            let least = (part as u64) << (shift + HASH_BITS) | 1;
            for &entry in &self.entries[rows[0]..rows[1]] {
                let mut at = (entry >> (HASH_BITS + drop)) as usize & (len - 1);
                let first = if C::IS_EXACT {
                    let known = table[at];
                    // Without a branch: whether a key was there cannot be foretold.
                    table[at] = select_unpredictable(known < least, entry, known);
                    table[at]
                } else {
                    loop {
                        let known = table[at];
                        if known < least {
                            table[at] = entry;
                            break entry;
                        }
                        if known >> HASH_BITS == entry >> HASH_BITS && keys[row(known)] == keys[row(entry)] {
                            break known;
                        }
                        at = (at + 1) & (len - 1);
                    }
                };
                firsts[row(entry)] = row(first) as u32;
            }
        }
    }

    /// Puts the entries of all rows in order of their parts, and within one in that of the rows; where each part begins, and the end.
    fn partition<C: Code>(&mut self, keys: &[i64], code: &C, shift: u32) -> [usize; PARTS + 1] {
        let quarter = keys.len() / STREAMS;
        let (abreast, rest) = keys.split_at(STREAMS * quarter);
        let streams: [&[i64]; STREAMS] = std::array::from_fn(|stream| &abreast[stream * quarter..(stream + 1) * quarter]);
        let part = |code: u32| (code >> shift) as usize % PARTS;
        let mut places = [[0u32; PARTS]; STREAMS];
        for row in 0..quarter {
            for (places, keys) in places.iter_mut().zip(streams) {
                places[part(code.of(keys[row]))] += 1;
            }
        }
        rest.iter().for_each(|&key| places[STREAMS - 1][part(code.of(key))] += 1);
        let (mut starts, mut sum) = ([0; PARTS + 1], 0);
        for (part, start) in starts.iter_mut().enumerate() {
            *start = sum as usize;
            for places in places.iter_mut().take(if part < PARTS { STREAMS } else { 0 }) {
                sum += std::mem::replace(&mut places[part], sum);
            }
        }
        let entries = &mut self.entries[..];
        let mut put = |places: &mut [u32; PARTS], key: i64, row: usize| {
            let code = code.of(key);
            let place = &mut places[part(code)];
            entries[*place as usize] = u64::from(code) << HASH_BITS | (row as u64 + 1);
            *place += 1;
        };
        for row in 0..quarter {
            for (stream, (places, keys)) in places.iter_mut().zip(streams).enumerate() {
                put(places, keys[row], stream * quarter + row);
            }
        }
        for (row, &key) in rest.iter().enumerate() {
            put(&mut places[STREAMS - 1], key, STREAMS * quarter + row);
        }
        starts
    }
}

/// The row of an entry.
#[inline(always)]
fn row(entry: u64) -> usize {
    entry as u32 as usize - 1
}
