//! Byte-string keys: a hash table of fingerprints over an arena of keys.

use super::{AHEAD, BLOCK, Full, Slots, after, fold_multiply, may_fill, random_seed};
use crate::simd::prefetch::{FAR, prefetch};

/// Entries of the first table.
const FIRST_TABLE: usize = 1024;

/// Removed keys may fill so many bytes of the arena, or half of it, before it is packed.
const SLACK: usize = 64 * 1024;

/// Byte-string keys to slots, from the pieces of an Arrow string or binary array.
///
/// The hash is seeded at random, which no slot number shows.
#[derive(Debug)]
pub struct BytesDictionary {
    /// Power of two, at most half full; the home of a key is the low bits of its hash.
    entries: Vec<Entry>,
    /// By slot ever handed out.
    spans: Vec<Span>,
    arena: Vec<u8>,
    /// Bytes of the arena that no live key is in.
    wasted: usize,
    slots: Slots,
    seeds: [u64; 2],
}

/// Fingerprint and slot plus 1; slot 0 marks a free entry.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// High half of the hash: the low half tells the home.
    fingerprint: u32,
    slot: u32,
}

/// Where a key lies in the arena, and its hash.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    len: usize,
    hash: u64,
}

impl BytesDictionary {
    /// An empty dictionary of at most `max_slots` keys at a time.
    pub fn new(max_slots: usize) -> Self {
        Self {
            entries: vec![Entry::default(); FIRST_TABLE],
            spans: Vec::new(),
            arena: Vec::new(),
            wasted: 0,
            slots: Slots::new(max_slots),
            seeds: [random_seed(), random_seed()],
        }
    }

    /// Appends the slot of each key to `slots`, giving new keys new slots. Key `i` is `data[offsets[i]..offsets[i + 1]]`.
    ///
    /// # Errors
    /// [`Full`] if a new key found no slot. `slots` is then as it was; the keys before that one stay.
    ///
    /// # Panics
    /// If `offsets` descend or point outside `data`.
    pub fn assign(&mut self, offsets: &[i32], data: &[u8], slots: &mut Vec<u32>) -> Result<(), Full> {
        let start = slots.len();
        let rows = offsets.len().saturating_sub(1);
        slots.reserve(rows);
        let key = |row: usize| &data[offsets[row] as usize..offsets[row + 1] as usize];
        for first in (0..rows).step_by(BLOCK) {
            let keys = first..rows.min(first + BLOCK);
            let mut hashes = [0u64; BLOCK];
            for (row, to) in keys.clone().zip(&mut hashes) {
                *to = hash(key(row), self.seeds);
            }
            if self.bytes() > FAR {
                self.prefetch(&hashes[..keys.len()]);
            }
            for (row, hash) in keys.zip(hashes) {
                let slot = match self.find(key(row), hash) {
                    0 => self.add(key(row), hash).inspect_err(|_| slots.truncate(start))?,
                    known => known - 1,
                };
                slots.push(slot);
            }
        }
        Ok(())
    }

    /// The key of a live slot. What a freed slot answers is not specified.
    ///
    /// # Panics
    /// If the slot was never handed out.
    #[inline]
    pub fn key(&self, slot: u32) -> &[u8] {
        let span = &self.spans[slot as usize];
        &self.arena[span.start..span.start + span.len]
    }

    /// Frees a live slot for the next new key. A slot that is not live is left alone.
    pub fn remove(&mut self, slot: u32) {
        let Some(&Span { len, hash, .. }) = self.spans.get(slot as usize) else { return };
        let mask = self.mask();
        let mut hole = self.home(hash);
        while self.entries[hole].slot != slot + 1 {
            if self.entries[hole].slot == 0 {
                return;
            }
            hole = after(hole, mask);
        }
        let mut index = after(hole, mask);
        while self.entries[index].slot > 0 {
            let home = self.home(self.spans[self.entries[index].slot as usize - 1].hash);
            if may_fill(hole, home, index, mask) {
                self.entries[hole] = self.entries[index];
                hole = index;
            }
            index = after(index, mask);
        }
        self.entries[hole] = Entry::default();
        self.spans[slot as usize].len = 0;
        self.slots.give_back(slot);
        self.wasted += len;
        if self.wasted > SLACK.max(self.arena.len() / 2) {
            self.pack();
        }
    }

    /// Frees live slots, as [`Self::remove`] does, with the look-ups of many in flight together.
    pub fn remove_all(&mut self, slots: &[u32]) {
        for (row, &slot) in slots.iter().enumerate() {
            if let Some(span) = slots.get(row + AHEAD).and_then(|&ahead| self.spans.get(ahead as usize)) {
                prefetch(&self.entries, self.home(span.hash));
            }
            self.remove(slot);
        }
    }

    /// Takes a slot for something that is no key, such as null. Give it back with [`Self::release`].
    ///
    /// # Errors
    /// [`Full`] if there is no slot left.
    pub fn reserve(&mut self) -> Result<u32, Full> {
        let slot = self.slots.take()?;
        if slot as usize == self.spans.len() {
            self.spans.push(Default::default());
        }
        Ok(slot)
    }

    /// Gives back a slot that was reserved.
    pub fn release(&mut self, slot: u32) {
        self.slots.give_back(slot);
    }

    /// Forgets all keys and keeps the memory for others.
    pub fn clear(&mut self) {
        self.entries.fill(Entry::default());
        self.spans.clear();
        self.arena.clear();
        self.wasted = 0;
        self.slots.clear();
    }

    /// Appends the keys of neighbouring slots as Arrow has them: `offsets`, which must end with the length of `data`, gets
    /// one more for each.
    pub fn append_keys(&self, slots: std::ops::Range<usize>, offsets: &mut Vec<i32>, data: &mut Vec<u8>) {
        for slot in slots {
            data.extend_from_slice(self.key(slot as u32));
            offsets.push(data.len() as i32);
        }
    }

    /// Live keys.
    pub fn len(&self) -> usize {
        self.slots.live()
    }

    /// Whether no key is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots ever handed out: every live slot is below. So many cells are needed.
    pub fn slots(&self) -> usize {
        self.slots.next
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let tables = self.entries.capacity() * size_of::<Entry>() + self.spans.capacity() * size_of::<Span>();
        tables + self.arena.capacity() + self.slots.bytes()
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask()
    }

    /// Asks for what the lookups of a block will touch, each of three steps for all rows before the next: the entry, the
    /// span that it names, the key that that one names. A probe that goes further finds its own way.
    fn prefetch(&self, hashes: &[u64]) {
        let slot = |hash: u64| (self.entries[self.home(hash)].slot as usize).saturating_sub(1);
        hashes.iter().for_each(|&hash| prefetch(&self.entries, self.home(hash)));
        hashes.iter().for_each(|&hash| prefetch(&self.spans, slot(hash)));
        hashes.iter().filter_map(|&hash| self.spans.get(slot(hash))).for_each(|span| prefetch(&self.arena, span.start));
    }

    /// The slot of a key, plus 1, or 0.
    #[inline(always)]
    fn find(&self, key: &[u8], hash: u64) -> u32 {
        let mut index = self.home(hash);
        loop {
            let entry = self.entries[index];
            if entry.slot == 0 || entry.fingerprint == (hash >> 32) as u32 && equal(self.key(entry.slot - 1), key) {
                return entry.slot;
            }
            index = after(index, self.mask());
        }
    }

    /// Gives a key that is not there a slot.
    #[inline(never)]
    fn add(&mut self, key: &[u8], hash: u64) -> Result<u32, Full> {
        let slot = self.slots.take()?;
        let span = Span { start: self.arena.len(), len: key.len(), hash };
        self.arena.extend_from_slice(key);
        match self.spans.get_mut(slot as usize) {
            Some(old) => *old = span,
            None => self.spans.push(span),
        }
        if 2 * self.slots.live() > self.entries.len() {
            let grown = vec![Entry::default(); 2 * self.entries.len()];
            for entry in std::mem::replace(&mut self.entries, grown).into_iter().filter(|entry| entry.slot > 0) {
                self.place(entry, self.spans[entry.slot as usize - 1].hash);
            }
        }
        self.place(Entry { fingerprint: (hash >> 32) as u32, slot: slot + 1 }, hash);
        Ok(slot)
    }

    fn place(&mut self, entry: Entry, hash: u64) {
        let mut index = self.home(hash);
        while self.entries[index].slot > 0 {
            index = after(index, self.mask());
        }
        self.entries[index] = entry;
    }

    /// Rewrites the arena without the bytes of removed keys, whose spans are empty.
    fn pack(&mut self) {
        let mut packed = Vec::with_capacity(self.arena.len() - self.wasted);
        for span in &mut self.spans {
            let start = packed.len();
            packed.extend_from_slice(&self.arena[span.start..span.start + span.len]);
            span.start = start;
        }
        (self.arena, self.wasted) = (packed, 0);
    }
}

/// Hash of a key: folded products of 16 bytes at a time, the last 16 overlapping those before, as in wyhash.
#[inline(always)]
pub(crate) fn hash(key: &[u8], [first, second]: [u64; 2]) -> u64 {
    let mut state = first ^ key.len() as u64;
    let mut rest = key;
    while rest.len() > 16 {
        let (low, high) = ends(&rest[..16]);
        state = fold_multiply(low ^ state, high ^ second);
        rest = &rest[16..];
    }
    let (low, high) = match key.last_chunk::<16>() {
        Some(last) => ends(last),
        None => ends(rest),
    };
    fold_multiply(fold_multiply(low ^ state, high ^ second), second | 1)
}

/// All of up to 16 bytes in two words: those of the beginning and those of the end.
#[inline(always)]
fn ends(key: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
    } else {
        match key {
            [] => (0, 0),
            [only] => (u64::from(*only), u64::from(*only)),
            [first, .., last] => (u64::from(*first) << 8 | u64::from(key[key.len() / 2]), u64::from(*last)),
        }
    }
}

/// Equality without a call for the short keys that are common.
#[inline(always)]
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() <= 16 { a.len() == b.len() && ends(a) == ends(b) } else { a == b }
}
