//! Integer keys: a table indexed by key while keys lie close together, a hash table once they do not.

use super::{AHEAD, BLOCK, Full, Slots, after, fold_multiply, may_fill, random_seed};
use crate::simd::prefetch::{FAR, prefer_huge_pages, prefetch};

/// A range of keys up to this many is always indexed directly: 4 MiB of table, of which only pages in use are backed.
const DIRECT_ALWAYS: u64 = 1 << 20;

/// A range up to this many is indexed directly while at least one key in [`DIRECT_SPARSITY`] is there: 16 MiB of table.
const DIRECT_MOST: u64 = 1 << 22;
const DIRECT_SPARSITY: u64 = 16;

/// Entries of the first table of either kind.
const FIRST_TABLE: usize = 1024;

/// An odd constant without pattern: the golden ratio in 64 bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64-bit integer keys to slots.
///
/// Starts with a table indexed by key and moves to a hash table, once, when the range of keys outgrows it. The hash is
/// seeded at random, which no slot number shows.
#[derive(Debug)]
pub struct IntDictionary {
    index: Index,
    /// Key of each slot ever handed out.
    keys: Vec<i64>,
    slots: Slots,
}

#[derive(Debug)]
enum Index {
    Direct(Direct),
    Hashed(Hashed),
}

impl IntDictionary {
    /// An empty dictionary of at most `max_slots` keys at a time.
    pub fn new(max_slots: usize) -> Self {
        Self {
            index: Index::Direct(Direct { base: 0, table: Vec::new(), low: i64::MAX, high: i64::MIN }),
            keys: Vec::new(),
            slots: Slots::new(max_slots),
        }
    }

    /// Appends the slot of each key to `slots`, giving new keys new slots.
    ///
    /// # Errors
    /// [`Full`] if a new key found no slot. `slots` is then as it was; the keys before that one stay.
    pub fn assign<K: Copy + Into<i64>>(&mut self, keys: &[K], slots: &mut Vec<u32>) -> Result<(), Full> {
        let start = slots.len();
        slots.reserve(keys.len());
        for keys in keys.chunks(BLOCK) {
            let mut found = [0u32; BLOCK];
            let found = &mut found[..keys.len()];
            let all = match &self.index {
                Index::Direct(direct) => direct.find_block(keys, found),
                Index::Hashed(hashed) => hashed.find_block(keys, found),
            };
            if !all {
                for (key, found) in keys.iter().zip(found.iter_mut()).filter(|(_, found)| **found == 0) {
                    *found = self.find_or_add((*key).into()).inspect_err(|_| slots.truncate(start))?;
                }
            }
            slots.extend(found.iter().map(|found| found - 1));
        }
        Ok(())
    }

    /// The key of a live slot. What a freed slot answers is not specified.
    ///
    /// # Panics
    /// If the slot was never handed out.
    #[inline]
    pub fn key(&self, slot: u32) -> i64 {
        self.keys[slot as usize]
    }

    /// Frees a live slot for the next new key. A slot that is not live is left alone.
    pub fn remove(&mut self, slot: u32) {
        let Some(&key) = self.keys.get(slot as usize) else { return };
        let removed = match &mut self.index {
            Index::Direct(direct) => direct.remove(key, slot),
            Index::Hashed(hashed) => hashed.remove(key, slot),
        };
        if removed {
            self.slots.give_back(slot);
        }
    }

    /// Frees live slots, as [`Self::remove`] does, with the look-ups of many in flight together.
    pub fn remove_all(&mut self, slots: &[u32]) {
        for slots in slots.chunks(BLOCK) {
            let keys = slots.iter().filter_map(|&slot| self.keys.get(slot as usize));
            match &self.index {
                Index::Direct(direct) => keys.for_each(|&key| prefetch(&direct.table, direct.index(key))),
                Index::Hashed(hashed) => keys.for_each(|&key| prefetch(&hashed.entries, hashed.home(key))),
            }
            slots.iter().for_each(|&slot| self.remove(slot));
        }
    }

    /// Takes a slot for something that is no key, such as null. Give it back with [`Self::release`].
    ///
    /// # Errors
    /// [`Full`] if there is no slot left.
    pub fn reserve(&mut self) -> Result<u32, Full> {
        let slot = self.slots.take()?;
        if slot as usize == self.keys.len() {
            self.keys.push(Default::default());
        }
        Ok(slot)
    }

    /// Gives back a slot that was reserved.
    pub fn release(&mut self, slot: u32) {
        self.slots.give_back(slot);
    }

    /// Forgets all keys and keeps the memory for others.
    pub fn clear(&mut self) {
        match &mut self.index {
            Index::Direct(direct) => {
                for &key in &self.keys {
                    let index = direct.index(key);
                    if let Some(slot) = direct.table.get_mut(index) {
                        *slot = 0;
                    }
                }
            }
            Index::Hashed(hashed) => hashed.entries.fill(Entry::default()),
        }
        self.keys.clear();
        self.slots.clear();
    }

    /// The key of each slot ever handed out, in the order of slots.
    pub fn keys(&self) -> &[i64] {
        &self.keys
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
        let index = match &self.index {
            Index::Direct(direct) => direct.table.capacity() * size_of::<u32>(),
            Index::Hashed(hashed) => hashed.entries.capacity() * size_of::<Entry>(),
        };
        index + self.keys.capacity() * size_of::<i64>() + self.slots.bytes()
    }

    /// The slot of a key, plus 1; new if need be.
    fn find_or_add(&mut self, key: i64) -> Result<u32, Full> {
        let known = match &self.index {
            Index::Direct(direct) => direct.find(key),
            Index::Hashed(hashed) => hashed.find(key),
        };
        if known > 0 {
            return Ok(known);
        }
        let slot = self.slots.take()?;
        match self.keys.get_mut(slot as usize) {
            Some(old) => *old = key,
            None => self.keys.push(key),
        }
        let live = self.slots.live();
        match &mut self.index {
            Index::Direct(direct) => {
                if direct.make_room(key, live) {
                    direct.add(key, slot + 1);
                } else {
                    let mut hashed = Hashed::new(live);
                    direct.entries().chain([Entry { key, slot: slot + 1 }]).for_each(|entry| hashed.add(entry));
                    self.index = Index::Hashed(hashed);
                }
            }
            Index::Hashed(hashed) => {
                hashed.make_room(live);
                hashed.add(Entry { key, slot: slot + 1 });
            }
        }
        Ok(slot + 1)
    }
}

/// Slots plus 1 by key less base; 0 where there is no key. The keys covered end at `i64::MAX` at most.
#[derive(Debug)]
struct Direct {
    base: i64,
    table: Vec<u32>,
    /// The least and greatest key so far; what the table covers beyond them is spare.
    low: i64,
    high: i64,
}

impl Direct {
    /// Index of a key: beyond the table if the key is before the base or past the end.
    #[inline(always)]
    fn index(&self, key: i64) -> usize {
        usize::try_from((key as u64).wrapping_sub(self.base as u64)).unwrap_or(usize::MAX)
    }

    #[inline(always)]
    fn find(&self, key: i64) -> u32 {
        self.table.get(self.index(key)).copied().unwrap_or(0)
    }

    /// Fills `found`; whether all were.
    fn find_block<K: Copy + Into<i64>>(&self, keys: &[K], found: &mut [u32]) -> bool {
        let mut all = true;
        for (key, found) in keys.iter().zip(found) {
            *found = self.find((*key).into());
            all &= *found != 0;
        }
        all
    }

    /// Makes the table cover `key`, unless the keys would range too wide for the number of live ones, `key` among them.
    fn make_room(&mut self, key: i64, live: usize) -> bool {
        (self.low, self.high) = (self.low.min(key), self.high.max(key));
        if self.index(key) < self.table.len() {
            return true;
        }
        let limit = DIRECT_ALWAYS.max(DIRECT_MOST.min(DIRECT_SPARSITY * live as u64));
        let range = self.high.abs_diff(self.low);
        if range >= limit {
            return false;
        }
        // At least double, on the side where the key came, so that growth is paid for by the keys that caused it.
        let entries = (range + 1).max(2 * self.table.len() as u64).max(FIRST_TABLE as u64).min(limit);
        let spare = (entries - (range + 1)) as i64;
        let base = if !self.table.is_empty() && key < self.base { self.low.saturating_sub(spare) } else { self.low };
        let base = base.min(i64::MAX - (entries as i64 - 1));
        let mut table = vec![0; entries as usize];
        prefer_huge_pages(&mut table);
        for entry in self.entries() {
            table[entry.key.abs_diff(base) as usize] = entry.slot;
        }
        (self.base, self.table) = (base, table);
        true
    }

    fn add(&mut self, key: i64, slot: u32) {
        let index = self.index(key);
        self.table[index] = slot;
    }

    #[inline(always)]
    fn remove(&mut self, key: i64, slot: u32) -> bool {
        let index = self.index(key);
        let live = self.table.get(index) == Some(&(slot + 1));
        if live {
            self.table[index] = 0;
        }
        live
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.table.iter().enumerate().filter(|(_, slot)| **slot > 0).map(|(i, &slot)| Entry { key: self.base + i as i64, slot })
    }
}

/// A key and its slot plus 1; slot 0 marks a free entry.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    key: i64,
    slot: u32,
}

/// Open addressing with linear probing, at most half full; a power of two of entries, so that the home of a key is the
/// top bits of its hash.
#[derive(Debug)]
struct Hashed {
    entries: Vec<Entry>,
    shift: u32,
    seed: u64,
}

impl Hashed {
    /// A table with room for `live` keys.
    fn new(live: usize) -> Self {
        let entries = (2 * live).next_power_of_two().max(FIRST_TABLE);
        let mut table = Vec::with_capacity(entries);
        prefer_huge_pages(&mut table);
        table.resize(entries, Entry::default());
        Self { entries: table, shift: 64 - entries.trailing_zeros(), seed: random_seed() }
    }

    #[inline(always)]
    fn home(&self, key: i64) -> usize {
        (fold_multiply(key as u64 ^ self.seed, MULTIPLIER) >> self.shift) as usize
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    #[inline(always)]
    fn find(&self, key: i64) -> u32 {
        self.find_from(self.home(key), key)
    }

    #[inline(always)]
    fn find_from(&self, home: usize, key: i64) -> u32 {
        let mut index = home;
        loop {
            let entry = self.entries[index];
            if entry.key == key || entry.slot == 0 {
                // A free entry holds slot 0, whatever its key.
                return entry.slot;
            }
            index = after(index, self.mask());
        }
    }

    /// Fills `found`; whether all were.
    fn find_block<K: Copy + Into<i64>>(&self, keys: &[K], found: &mut [u32]) -> bool {
        let far = size_of_val(self.entries.as_slice()) > FAR;
        let mut homes = [0usize; BLOCK + AHEAD];
        for (key, home) in keys.iter().zip(&mut homes) {
            *home = self.home((*key).into());
        }
        if far {
            homes[..AHEAD].iter().for_each(|&home| prefetch(&self.entries, home));
        }
        let mut all = true;
        for (row, (key, found)) in keys.iter().zip(found).enumerate() {
            if far {
                prefetch(&self.entries, homes[row + AHEAD]);
            }
            *found = self.find_from(homes[row], (*key).into());
            all &= *found != 0;
        }
        all
    }

    /// Makes room for `live` keys.
    fn make_room(&mut self, live: usize) {
        if 2 * live > self.entries.len() {
            let mut grown = Self::new(live);
            self.entries.iter().filter(|entry| entry.slot > 0).for_each(|&entry| grown.add(entry));
            *self = grown;
        }
    }

    /// Adds a key that is not there, to a table that has room.
    fn add(&mut self, entry: Entry) {
        let mut index = self.home(entry.key);
        while self.entries[index].slot > 0 {
            index = after(index, self.mask());
        }
        self.entries[index] = entry;
    }

    /// Removes a key if its slot is `slot`, and moves back those that had probed past it: no tombstones, probes stay short.
    fn remove(&mut self, key: i64, slot: u32) -> bool {
        let mask = self.mask();
        let mut hole = self.home(key);
        while self.entries[hole].key != key || self.entries[hole].slot == 0 {
            if self.entries[hole].slot == 0 {
                return false;
            }
            hole = after(hole, mask);
        }
        if self.entries[hole].slot != slot + 1 {
            return false;
        }
        let mut index = after(hole, mask);
        while self.entries[index].slot > 0 {
            if may_fill(hole, self.home(self.entries[index].key), index, mask) {
                self.entries[hole] = self.entries[index];
                hole = index;
            }
            index = after(index, mask);
        }
        self.entries[hole] = Entry::default();
        true
    }
}
