//! Keys of a few 64-bit words each: a hash table of tags over a list of keys.

use super::table::Table;
use super::{AHEAD, BLOCK, Full, NONE, Slots, fold_multiply, random_seed};
use crate::backend::Backend;
use crate::simd;
use crate::simd::prefetch::{FAR, prefetch};

/// Keys of a fixed number of words, such as several integers side by side, to slots.
///
/// The hash is seeded at random, which no slot number shows.
#[derive(Debug)]
pub struct WordsDictionary {
    backend: Backend,
    /// Words of a key.
    width: usize,
    table: Table<u32, 7>,
    /// Key of each slot ever handed out, and the tag that the table knows it by: the high half of its hash.
    keys: Vec<u64>,
    tags: Vec<u32>,
    slots: Slots,
    seeds: [u64; 2],
}

impl Backend {
    /// [`WordsDictionary::new`] on this backend.
    ///
    /// # Panics
    /// As there.
    pub fn words_dictionary(self, width: usize, max_slots: usize) -> WordsDictionary {
        assert!((1..=WordsDictionary::WIDEST).contains(&width), "keys of {width} words");
        WordsDictionary {
            backend: self,
            width,
            // Tags are of a hash that is seeded already.
            table: Table::new([0; 2]),
            keys: Vec::new(),
            tags: Vec::new(),
            slots: Slots::new(max_slots),
            seeds: [random_seed(), random_seed()],
        }
    }
}

impl WordsDictionary {
    /// Most words of a key: one part of a cache line, so that few keys lie in two of them.
    pub const WIDEST: usize = 4;

    /// An empty dictionary of at most `max_slots` keys at a time, of `width` words each.
    ///
    /// # Panics
    /// If `width` is not between 1 and [`Self::WIDEST`].
    pub fn new(width: usize, max_slots: usize) -> Self {
        Backend::active().words_dictionary(width, max_slots)
    }

    /// Appends the slot of each key to `slots`, giving new keys new slots. The words of a key follow those of the one before.
    ///
    /// # Errors
    /// [`Full`] if a new key found no slot. `slots` is then as it was; the keys before that one stay.
    ///
    /// # Panics
    /// If the words are not those of whole keys.
    pub fn assign(&mut self, words: &[u64], slots: &mut Vec<u32>) -> Result<(), Full> {
        assert!(words.len().is_multiple_of(self.width), "{} words are no keys of {} each", words.len(), self.width);
        match self.width {
            1 => self.assign_keys(words.as_chunks::<1>().0, slots),
            2 => self.assign_keys(words.as_chunks::<2>().0, slots),
            3 => self.assign_keys(words.as_chunks::<3>().0, slots),
            _ => self.assign_keys(words.as_chunks::<{ Self::WIDEST }>().0, slots),
        }
    }

    fn assign_keys<const N: usize>(&mut self, keys: &[[u64; N]], slots: &mut Vec<u32>) -> Result<(), Full> {
        let start = slots.len();
        slots.reserve(keys.len());
        for keys in keys.chunks(BLOCK) {
            let (mut tags, mut found) = ([0; BLOCK], [NONE; BLOCK]);
            for (key, tag) in keys.iter().zip(&mut tags) {
                *tag = tag_of(key, self.seeds);
            }
            self.find_block(&tags[..keys.len()], &mut found);
            for ((key, tag), found) in keys.iter().zip(tags).zip(found) {
                let slot = match found {
                    slot if slot != NONE && self.keys.as_chunks().0[slot as usize] == *key => slot,
                    _ => self.find_or_add(key, tag).inspect_err(|_| slots.truncate(start))?,
                };
                slots.push(slot);
            }
        }
        Ok(())
    }

    /// Words of a key.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The key of each slot ever handed out, in the order of slots, as [`Self::assign`] takes them. What it holds for a freed slot is
    /// not specified.
    #[inline]
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Frees a live slot for the next new key. A slot that is not live is left alone.
    pub fn remove(&mut self, slot: u32) {
        let Some(&tag) = self.tags.get(slot as usize) else { return };
        if self.table.remove(tag, slot + 1) {
            self.slots.give_back(slot);
        }
    }

    /// Frees live slots, as [`Self::remove`] does, with the look-ups of many in flight together.
    pub fn remove_all(&mut self, slots: &[u32]) {
        for (row, &slot) in slots.iter().enumerate() {
            if let Some(&tag) = slots.get(row + AHEAD).and_then(|&ahead| self.tags.get(ahead as usize)) {
                self.table.prefetch(tag);
            }
            self.remove(slot);
        }
    }

    /// Forgets all keys and slots, and keeps the memory. The cost is in proportion to the slots handed out since the
    /// dictionary was empty, or to the table if that is smaller.
    pub fn clear(&mut self) {
        self.table.clear(self.tags.iter().copied());
        self.tags.clear();
        self.keys.clear();
        self.slots.clear();
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
        let lists = self.keys.capacity() * size_of::<u64>() + self.tags.capacity() * size_of::<u32>();
        self.table.bytes() + lists + self.slots.bytes()
    }

    /// Puts into `found` the slot of a key with the tag of each row, or [`NONE`], and asks for the keys that rows are to be compared with.
    fn find_block(&self, tags: &[u32], found: &mut [u32; BLOCK]) {
        match self.backend {
            _ if self.table.len() == 0 => return,
            Backend::Scalar => {
                tags.iter().zip(&mut *found).for_each(|(&tag, found)| *found = self.table.find(tag, |_| true).wrapping_sub(1))
            }
            Backend::Simd(level) => {
                simd::dictionary::find(level, self.table.view(), tags, found);
            }
        }
        if self.bytes() > FAR {
            let known = found[..tags.len()].iter().map(|&found| if found == NONE { 0 } else { found as usize });
            known.for_each(|slot| prefetch(&self.keys, slot * self.width));
        }
    }

    /// The slot of a key; new if need be.
    #[inline(never)]
    fn find_or_add<const N: usize>(&mut self, key: &[u64; N], tag: u32) -> Result<u32, Full> {
        let known = self.table.find(tag, |slot| self.keys.as_chunks().0[slot as usize] == *key);
        if known > 0 {
            return Ok(known - 1);
        }
        let slot = self.slots.take()?;
        match self.tags.get_mut(slot as usize) {
            Some(old) => {
                *old = tag;
                self.keys.as_chunks_mut().0[slot as usize] = *key;
            }
            None => {
                self.tags.push(tag);
                self.keys.extend_from_slice(key);
            }
        }
        self.table.add(tag, slot + 1);
        Ok(slot)
    }
}

/// The high half of the hash of a key: folded products of two words at a time, as [`bytes::hash`](super::bytes) has them.
#[inline(always)]
fn tag_of<const N: usize>(key: &[u64; N], [first, second]: [u64; 2]) -> u32 {
    let (pairs, rest) = key.as_chunks::<2>();
    let mut state = first;
    for [low, high] in pairs {
        state = fold_multiply(low ^ state, high ^ second);
    }
    for word in rest {
        state = fold_multiply(word ^ state, second);
    }
    (fold_multiply(state, second | 1) >> 32) as u32
}
