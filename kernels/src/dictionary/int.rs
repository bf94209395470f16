//! Integer keys: a table indexed by key while keys lie close together, a hash table for those that do not.

use super::direct::Direct;
use super::table::Table;
use super::together::Together;
use super::{BLOCK, Full, NONE, Slots, random_seed};
use crate::backend::Backend;
use crate::simd;

/// A range of keys up to this many is always indexed directly: at most so many entries of 4 bytes, in pages as needed.
const DIRECT_ALWAYS: u64 = 1 << 12;

/// A range up to this many is indexed directly while at least one key in [`DIRECT_SPARSITY`] is there: 16 MiB of table. Each of several
/// workers has its share of keys that are close together, and a pane has some of them: so the keys of one dictionary may be few.
const DIRECT_MOST: u64 = 1 << 22;
const DIRECT_SPARSITY: u64 = 128;

/// Hashed keys of which one in this many of their range is there are moved to a table indexed by key.
const DIRECT_AGAIN: u64 = 8;

/// Keys from which on it may be worth to tell rows apart together, and rows to a key up to which it is; of keys close together, the
/// range from which on, whose table is of 1 MiB.
const TOGETHER_KEYS: usize = 1 << 13;
const TOGETHER_ROWS_PER_KEY: usize = 4;
const TOGETHER_RANGE: u64 = 1 << 18;

/// Entries of the table indexed by key that are moved to the hash table for each key added.
const ENTRIES: usize = 16;

/// Rows of a call for each home of a hash table that is moved to a larger one: look-ups in one table alone cost less.
const ROWS_PER_HOME: usize = 8;

/// 64-bit integer keys to slots.
///
/// Keys that lie close together are in a table indexed by key, others in a hash table, which is seeded at random. Where
/// new keys go follows how densely those so far fill their range; should that change, keys move a few at a time, with each
/// key added. No slot number shows any of it.
#[derive(Debug)]
pub struct IntDictionary {
    backend: Backend,
    direct: Direct,
    hashed: Table<i64, 5>,
    /// Whether the keys are in no table yet, as none has been looked up since they were told apart together.
    is_list: bool,
    /// Whether new keys go to the table indexed by key if it reaches them.
    dense: bool,
    /// New keys that it did not reach since they go there.
    strays: usize,
    /// How far the other table has been gone through for keys to move to the one where new keys go: buckets or entries.
    moved: usize,
    /// Least and greatest key since the dictionary was empty.
    low: i64,
    high: i64,
    /// Whether the keys that came last were new.
    grows: bool,
    /// Keys when the dictionary was last cleared: it is used again for much the same.
    seen: usize,
    /// Key of each slot ever handed out.
    keys: Vec<i64>,
    slots: Slots,
}

impl Backend {
    /// [`IntDictionary::new`] on this backend.
    pub fn int_dictionary(self, max_slots: usize) -> IntDictionary {
        IntDictionary {
            backend: self,
            direct: Direct::default(),
            hashed: Table::new([random_seed() | 1, random_seed() | 1]),
            is_list: false,
            dense: true,
            strays: 0,
            moved: 0,
            grows: true,
            low: i64::MAX,
            high: i64::MIN,
            seen: 0,
            keys: Vec::new(),
            slots: Slots::new(max_slots),
        }
    }
}

impl IntDictionary {
    /// Rows that are worth telling apart together at most: what it takes for each, 20 bytes, then stays in the caches.
    pub const MOST_TOGETHER: usize = 1 << 18;

    /// An empty dictionary of at most `max_slots` keys at a time.
    pub fn new(max_slots: usize) -> Self {
        Backend::active().int_dictionary(max_slots)
    }

    /// Appends the slot of each key to `slots`, giving new keys new slots.
    ///
    /// # Errors
    /// [`Full`] if a new key found no slot. `slots` is then as it was; the keys before that one stay.
    pub fn assign<K: Copy + Into<i64>>(&mut self, keys: &[K], slots: &mut Vec<u32>) -> Result<(), Full> {
        self.index();
        self.hashed.settle(keys.len().div_ceil(ROWS_PER_HOME));
        let start = slots.len();
        slots.resize(start + keys.len(), NONE);
        self.find_or_add_all(keys, &mut slots[start..]).inspect_err(|_| slots.truncate(start))
    }

    /// Whether so many rows with the keys that are here would have been told apart faster by [`Self::assign_together`]: with few rows to a
    /// key, and a table beyond the caches of a core.
    pub fn suits_together(&self, rows: usize) -> bool {
        let keys = self.len();
        keys >= TOGETHER_KEYS
            && rows <= Self::MOST_TOGETHER.min(TOGETHER_ROWS_PER_KEY * keys)
            && self.range() > TOGETHER_RANGE.min(reach(keys))
    }

    /// [`Self::assign`] of the first keys of an empty dictionary, all of them at once: in half to a third of the time where
    /// [`Self::suits_together`] says so, in more where keys come often. The same code on every backend. `room` may be any.
    ///
    /// # Errors
    /// As [`Self::assign`].
    pub fn assign_together(&mut self, keys: &[i64], room: &mut Together, slots: &mut Vec<u32>) -> Result<(), Full> {
        if self.slots.next > 0 || keys.len() >= u32::MAX as usize || keys.is_empty() {
            return self.assign(keys, slots);
        }
        let (low, high) = keys.iter().fold((i64::MAX, i64::MIN), |(low, high), &key| (low.min(key), high.max(key)));
        let firsts = room.first_rows(keys, (low, high), self.hashed.seeds());
        let (start, mut next) = (slots.len(), 0);
        slots.resize(start + keys.len(), 0);
        self.keys.resize(keys.len(), 0);
        let own = &mut slots[start..];
        for (row, (&first, &key)) in firsts.iter().zip(keys).enumerate() {
            // Written always, counted if new: no branch to mispredict. Where the row is the first of its key, it reads what it wrote.
            (self.keys[next], own[row]) = (key, next as u32);
            own[row] = own[first as usize];
            next += usize::from(first as usize == row);
        }
        self.keys.truncate(next);
        if next > self.slots.limit {
            self.keys.clear();
            slots.truncate(start);
            return self.assign(keys, slots);
        }
        // The next keys come together too, most likely, and need no table.
        self.direct = Direct::default();
        self.hashed.give_back();
        (self.slots.next, self.is_list, self.low, self.high) = (next, true, low, high);
        Ok(())
    }

    /// Puts keys that were told apart together into a table.
    fn index(&mut self) {
        if std::mem::take(&mut self.is_list) {
            for slot in 0..self.keys.len() {
                self.take_in(self.keys[slot], slot as u32 + 1);
            }
        }
    }

    /// The key of a live slot. What a freed slot answers is not specified.
    ///
    /// # Panics
    /// If the slot was never handed out.
    #[inline]
    pub fn key(&self, slot: u32) -> i64 {
        self.keys[slot as usize]
    }

    /// The key of each slot ever handed out, in the order of slots: of all live keys, as long as none was removed. What it
    /// holds for a freed or reserved slot is not specified.
    #[inline]
    pub fn keys(&self) -> &[i64] {
        &self.keys
    }

    /// Frees a live slot for the next new key. A slot that is not live is left alone.
    pub fn remove(&mut self, slot: u32) {
        self.index();
        let Some(&key) = self.keys.get(slot as usize) else { return };
        if self.direct.remove(key, slot + 1) || self.hashed.remove(key, slot + 1) {
            self.slots.give_back(slot);
        }
    }

    /// Frees live slots, as [`Self::remove`] does, with the look-ups of many in flight together.
    pub fn remove_all(&mut self, slots: &[u32]) {
        self.index();
        for slots in slots.chunks(BLOCK) {
            for &key in slots.iter().filter_map(|&slot| self.keys.get(slot as usize)) {
                self.direct.prefetch(key);
                self.hashed.prefetch(key);
            }
            slots.iter().for_each(|&slot| self.remove(slot));
        }
    }

    /// Forgets all keys and slots, and keeps the memory. The cost is in proportion to the slots handed out since the
    /// dictionary was empty, or to the table if that is smaller.
    ///
    /// The next keys go to the kind of table that suited those so far; the other one is given back.
    pub fn clear(&mut self) {
        self.dense |= self.range() <= reach(self.slots.next);
        if !self.dense {
            self.direct = Direct::default();
        } else if !self.is_list {
            self.direct.clear(&self.keys);
        }
        if self.dense && self.hashed.len() == 0 {
            self.hashed.give_back();
        } else {
            self.hashed.clear(self.keys.iter().copied());
        }
        (self.strays, self.moved, self.grows, self.is_list, self.seen) = (0, 0, true, false, self.slots.next);
        (self.low, self.high) = (i64::MAX, i64::MIN);
        self.keys.clear();
        self.slots.clear();
    }

    /// Takes a slot for something that is no key, such as null. Give it back with [`Self::release`].
    ///
    /// # Errors
    /// [`Full`] if there is no slot left.
    pub fn reserve(&mut self) -> Result<u32, Full> {
        // What takes the slot of a key, but is none, is in no table.
        self.index();
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
        self.direct.bytes() + self.hashed.bytes() + self.keys.capacity() * size_of::<i64>() + self.slots.bytes()
    }

    /// Puts into `found`, which is of [`NONE`], the slot of each key, new if need be.
    fn find_or_add_all<K: Copy + Into<i64>>(&mut self, keys: &[K], found: &mut [u32]) -> Result<(), Full> {
        self.direct.ask(&keys[..keys.len().min(BLOCK)]);
        let mut row = 0;
        while row < keys.len() {
            if self.direct.len() == 0 && self.hashed.len() > 0 {
                let (rows, all) = self.find_hashed(&keys[row..], &mut found[row..]);
                if !all {
                    self.add_missing(&keys[row..row + rows], &mut found[row..row + rows])?;
                }
                row += rows;
                continue;
            }
            // Where keys were new, more of them may be.
            if !(self.grows && self.writes(keys.len().min(row + BLOCK) - row)) {
                let known = self.find(&keys[row..], &mut found[row..]);
                self.grows &= known == 0;
                row += known;
            }
            let end = keys.len().min(row + BLOCK);
            if row < end {
                self.direct.ask(&keys[end..keys.len().min(end + BLOCK)]);
                let live = self.len();
                self.find_or_add_block(&keys[row..end], &mut found[row..end])?;
                self.grows = self.len() > live;
                row = end;
            }
        }
        Ok(())
    }

    /// Puts into `found` the slot of each key, in blocks of [`BLOCK`], up to the first block of which a key is not there, that one
    /// included: [`NONE`] for what is not there. How many keys there are in the blocks before it.
    fn find<K: Copy + Into<i64>>(&self, keys: &[K], found: &mut [u32]) -> usize {
        let mut start = 0;
        for (own, found) in keys.chunks(BLOCK).zip(found.chunks_mut(BLOCK)) {
            let end = start + own.len();
            if !self.find_block(own, &keys[end..keys.len().min(end + BLOCK)], found) {
                return start;
            }
            start = end;
        }
        start
    }

    /// Puts into `found` the slot of each of at most [`BLOCK`] keys, or [`NONE`]; whether all were there.
    fn find_block<K: Copy + Into<i64>>(&self, keys: &[K], coming: &[K], found: &mut [u32]) -> bool {
        let all = self.direct.find_block(keys, coming, found);
        if all || self.hashed.len() == 0 {
            return all;
        }
        let (mut rows, mut missing, mut len) = ([0; BLOCK], [0; BLOCK], 0);
        for (row, (&key, found)) in keys.iter().zip(&*found).enumerate() {
            // Written always, counted if missing: no branch to mispredict.
            (rows[len % BLOCK], missing[len % BLOCK]) = (row, key.into());
            len += usize::from(*found == NONE);
        }
        let mut hashed = [NONE; BLOCK];
        let (_, all) = self.find_hashed(&missing[..len], &mut hashed);
        rows[..len].iter().zip(hashed).for_each(|(&row, slot)| found[row] = slot);
        all
    }

    /// Puts into `found` the slot of each key in the hash table, or [`NONE`], in blocks of [`BLOCK`], up to the first of which many are
    /// not there, that one included. How many keys were looked up, and whether all of them are there.
    fn find_hashed<K: Copy + Into<i64>>(&self, keys: &[K], found: &mut [u32]) -> (usize, bool) {
        match self.backend {
            _ if self.hashed.len() == 0 => (keys.len(), false),
            Backend::Scalar => {
                let block = keys.len().min(BLOCK);
                for (&key, found) in keys[..block].iter().zip(&mut *found) {
                    *found = self.hashed.find(key.into(), |_| true).wrapping_sub(1);
                }
                (block, !found[..block].contains(&NONE))
            }
            Backend::Simd(level) => simd::dictionary::find(level, self.hashed.view(), keys, found),
        }
    }

    /// Whether so many new keys take no more than writing them down: all keys are in the table indexed by key, and the next slots
    /// were never handed out. So it is in a table used again.
    #[inline]
    fn writes(&self, keys: usize) -> bool {
        self.dense && self.hashed.len() == 0 && self.slots.freed.is_empty() && keys <= self.slots.limit - self.slots.next
    }

    /// Puts into `found` the slot of each of at most [`BLOCK`] keys, new if need be; of those that can only be written one by
    /// one, what is there already is right.
    fn find_or_add_block<K: Copy + Into<i64>>(&mut self, keys: &[K], found: &mut [u32]) -> Result<(), Full> {
        if !self.writes(keys.len()) {
            for (key, found) in keys.iter().zip(found).filter(|(_, found)| **found == NONE) {
                *found = self.find_or_add((*key).into())?;
            }
            return Ok(());
        }
        let mut row = 0;
        while row < keys.len() {
            if self.writes(keys.len() - row) {
                row += self.write(&keys[row..], &mut found[row..]);
            }
            if let Some(&key) = keys.get(row) {
                found[row] = self.find_or_add(key.into())?;
                row += 1;
            }
        }
        Ok(())
    }

    /// Writes keys down up to the first that there is no page for; how many.
    fn write<K: Copy + Into<i64>>(&mut self, keys: &[K], found: &mut [u32]) -> usize {
        let rows = self.direct.find_or_add_block(keys, found, &mut self.keys);
        for &key in &self.keys[self.slots.next..] {
            (self.low, self.high) = (self.low.min(key), self.high.max(key));
        }
        self.slots.next = self.keys.len();
        rows
    }

    /// Gives those keys new slots of which nothing is found yet, and of which no earlier one is the same.
    fn add_missing<K: Copy + Into<i64>>(&mut self, keys: &[K], found: &mut [u32]) -> Result<(), Full> {
        for (keys, found) in keys.chunks(BLOCK).zip(found.chunks_mut(BLOCK)) {
            if !found.contains(&NONE) {
                continue;
            }
            let (mut rows, mut len) = ([0; BLOCK], 0);
            for (row, &found) in found.iter().enumerate() {
                // Written always, counted if missing: no branch to mispredict.
                rows[len % BLOCK] = row;
                len += usize::from(found == NONE);
            }
            for &row in &rows[..len] {
                // Of keys of one table, as long as they all stay there.
                let one = !self.dense && self.direct.len() == 0;
                let key = keys[row].into();
                found[row] = if one { self.find_or_add_hashed(key)? } else { self.find_or_add(key)? };
            }
            self.choose();
        }
        Ok(())
    }

    /// The slot of a key, all keys being in the hash table; new if need be.
    #[inline(always)]
    fn find_or_add_hashed(&mut self, key: i64) -> Result<u32, Full> {
        let Some(slot) = self.slots.peek() else {
            let known = self.hashed.find(key, |_| true);
            return known.checked_sub(1).ok_or(self.slots.full());
        };
        let known = self.hashed.find_or_add(key, slot + 1);
        if known > 0 {
            return Ok(known - 1);
        }
        self.slots.take()?;
        self.write_down(key, slot);
        (self.low, self.high) = (self.low.min(key), self.high.max(key));
        Ok(slot)
    }

    /// The slot of a key; new if need be.
    fn find_or_add(&mut self, key: i64) -> Result<u32, Full> {
        let known = match self.direct.find(key) {
            0 => self.hashed.find(key, |_| true),
            known => known,
        };
        if known > 0 {
            return Ok(known - 1);
        }
        let slot = self.slots.take()?;
        self.write_down(key, slot);
        self.take_in(key, slot + 1);
        Ok(slot)
    }

    /// Notes the key of a slot.
    fn write_down(&mut self, key: i64, slot: u32) {
        match self.keys.get_mut(slot as usize) {
            Some(old) => *old = key,
            None => self.keys.push(key),
        }
    }

    /// Puts a new key into a table, under its slot plus 1.
    fn take_in(&mut self, key: i64, slot: u32) {
        (self.low, self.high) = (self.low.min(key), self.high.max(key));
        let direct = self.add(key, slot);
        self.strays += usize::from(self.dense && !direct);
        self.choose();
        self.move_some();
    }

    /// Adds a key under its slot plus 1; whether it went to the table indexed by key.
    fn add(&mut self, key: i64, slot: u32) -> bool {
        let span = self.direct.span();
        let direct = self.dense && self.direct.reach(key, reach(self.slots.live().max(self.seen)));
        if self.direct.span() > span {
            // Hashed keys that were out of reach may not be so any more.
            self.moved = 0;
        }
        if direct {
            self.direct.add(key, slot);
        } else {
            self.hashed.add(key, slot);
        }
        direct
    }

    /// Decides where keys go from now on. Of hashed keys, all must lie in one table before they can move to another.
    fn choose(&mut self) {
        let live = self.slots.live();
        let dense = if self.dense {
            self.strays <= self.direct.len()
        } else {
            !self.hashed.is_moving() && self.range() <= DIRECT_MOST.min(DIRECT_AGAIN * live as u64)
        };
        if dense != self.dense {
            (self.dense, self.strays, self.moved) = (dense, 0, 0);
        }
    }

    /// Moves a few keys from the table where new keys do not go, if it has any.
    fn move_some(&mut self) {
        if !self.dense && self.direct.len() > 0 {
            for _ in 0..ENTRIES {
                if let Some(Some((key, slot))) = self.direct.pop_entry(self.moved) {
                    self.hashed.add(key, slot);
                }
                self.moved += 1;
            }
        } else if self.dense
            && self.hashed.len() > 0
            && let Some(entries) = self.hashed.pop_bucket(self.moved)
        {
            self.moved += 1;
            for (key, slot) in entries {
                self.add(key, slot);
            }
        }
    }

    /// Least to greatest key: how many there could be.
    fn range(&self) -> u64 {
        self.high.abs_diff(self.low).saturating_add(1)
    }
}

/// The most keys that a table indexed by key may span for so many live ones.
fn reach(live: usize) -> u64 {
    DIRECT_ALWAYS.max(DIRECT_MOST.min(DIRECT_SPARSITY * live as u64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{DIRECT_ALWAYS, ENTRIES, IntDictionary};
    use crate::testing::scramble;

    /// Adds keys one by one, and holds after each that few others moved.
    fn add(dictionary: &mut IntDictionary, keys: impl Iterator<Item = i64>) {
        for key in keys {
            let (direct, hashed) = (dictionary.direct.len(), dictionary.hashed.len());
            dictionary.assign(&[key], &mut Vec::new()).unwrap();
            let lost = (direct.saturating_sub(dictionary.direct.len()), hashed.saturating_sub(dictionary.hashed.len()));
            assert!(lost.0 <= ENTRIES && lost.1 <= 5, "{lost:?} moved for one key");
        }
    }

    #[test]
    fn keys_move_between_tables_a_few_at_a_time() {
        let mut dictionary = IntDictionary::new(1 << 20);
        add(&mut dictionary, 0..20_000);
        assert_eq!((dictionary.direct.len(), dictionary.hashed.len()), (20_000, 0));
        // Strays beyond all reach outnumber the keys of the table in the end, which move out.
        add(&mut dictionary, (0..30_000).map(|n| scramble(n) as i64 | 1 << 40));
        assert_eq!((dictionary.direct.len(), dictionary.hashed.len()), (0, 50_000));
    }

    #[test]
    fn hashed_keys_that_turn_out_dense_move_to_a_table() {
        let mut dictionary = IntDictionary::new(1 << 20);
        // In an order without pattern, over a range too wide for so few keys as there are at first.
        add(&mut dictionary, (0..300_000).map(|n| n * 7919 % 300_007 - 150_000));
        assert_eq!((dictionary.direct.len(), dictionary.hashed.len()), (300_000, 0));
        assert!(dictionary.bytes() < 10_000_000, "{} bytes", dictionary.bytes());
    }

    #[test]
    fn a_pane_of_few_scattered_keys_costs_little() {
        let mut dictionary = IntDictionary::new(1 << 20);
        for _ in 0..3 {
            let keys: Vec<i64> = (1..10).map(|n| n * 100 * DIRECT_ALWAYS as i64).collect();
            dictionary.assign(&keys, &mut Vec::new()).unwrap();
            assert!(dictionary.bytes() < 4096, "{} bytes", dictionary.bytes());
            dictionary.clear();
        }
        assert!(!dictionary.dense && dictionary.direct.bytes() == 0);
    }

    #[test]
    fn a_dictionary_remembers_the_kind_of_its_table() {
        let (mut near, mut far) = (IntDictionary::new(1 << 20), IntDictionary::new(1 << 20));
        for pane in 0..3 {
            for n in 0..100_000 {
                near.assign(&[(pane << 30) + n * 7919 % 100_003], &mut Vec::new()).unwrap();
                far.assign(&[scramble(n as u64) as i64], &mut Vec::new()).unwrap();
            }
            near.clear();
            far.clear();
            assert!(near.dense && near.hashed.bytes() == 0 && near.direct.bytes() > 0);
            assert!(!far.dense && far.direct.bytes() == 0 && far.hashed.bytes() > 0);
        }
    }
}
