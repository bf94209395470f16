//! Byte-string keys: a hash table of tags over an arena of keys.

use std::ops::Range;

use super::table::Table;
use super::{AHEAD, BLOCK, Full, NONE, Slots, fold_multiply, random_seed};
use crate::backend::Backend;
use crate::simd;
use crate::simd::prefetch::{FAR, prefetch};

/// Removed keys may fill so many bytes of the arena, or half of it, before it is packed.
const SLACK: usize = 64 * 1024;

/// Byte-string keys to slots, from the pieces of an Arrow string or binary array.
///
/// The hash is seeded at random, which no slot number shows.
#[derive(Debug)]
pub struct BytesDictionary {
    backend: Backend,
    table: Table<u32, 7>,
    /// By slot ever handed out.
    spans: Vec<Span>,
    arena: Vec<u8>,
    /// Bytes of the arena that no live key is in.
    wasted: usize,
    /// Whether keys lie in the arena in the order of their slots.
    in_order: bool,
    slots: Slots,
    seeds: [u64; 2],
}

/// Where a key lies in the arena, and the tag that the table knows it by: the high half of its hash.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    len: u32,
    tag: u32,
}

impl Span {
    #[inline(always)]
    fn range(self) -> Range<usize> {
        self.start..self.start + self.len as usize
    }
}

impl Backend {
    /// [`BytesDictionary::new`] on this backend.
    pub fn bytes_dictionary(self, max_slots: usize) -> BytesDictionary {
        BytesDictionary {
            backend: self,
            // Tags are of a hash that is seeded already.
            table: Table::new([0; 2]),
            spans: Vec::new(),
            arena: Vec::new(),
            wasted: 0,
            in_order: true,
            slots: Slots::new(max_slots),
            seeds: [random_seed(), random_seed()],
        }
    }
}

impl BytesDictionary {
    /// An empty dictionary of at most `max_slots` keys at a time.
    pub fn new(max_slots: usize) -> Self {
        Backend::active().bytes_dictionary(max_slots)
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
            let (mut tags, mut found) = ([0; BLOCK], [NONE; BLOCK]);
            for (row, tag) in keys.clone().zip(&mut tags) {
                *tag = tag_of(key(row), self.seeds);
            }
            self.find_block(&tags[..keys.len()], &mut found);
            for ((row, tag), found) in keys.zip(tags).zip(found) {
                let slot = match found {
                    slot if slot != NONE && equal(self.key(slot), key(row)) => slot,
                    _ => self.find_or_add(key(row), tag).inspect_err(|_| slots.truncate(start))?,
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
        &self.arena[self.spans[slot as usize].range()]
    }

    /// Appends the keys of a range of slots, in order, as an Arrow string or binary array has them: their bytes to `data`, and
    /// to `offsets`, which must end with the length of `data` on entry, the end of each. Freed and reserved slots are of no
    /// bytes. Returns the slot after the last that was appended: the end of the range, unless offsets would pass `i32::MAX`.
    ///
    /// # Panics
    /// If a slot was never handed out.
    pub fn append_keys(&self, slots: Range<u32>, offsets: &mut Vec<i32>, data: &mut Vec<u8>) -> u32 {
        let spans = &self.spans[slots.start as usize..slots.end as usize];
        let mut end = data.len();
        let fitting = spans.iter().map_while(|span| {
            end += span.len as usize;
            i32::try_from(end).ok()
        });
        let before = offsets.len();
        offsets.extend(fitting);
        let spans = &spans[..offsets.len() - before];
        if let ([first, ..], [.., last], true) = (spans, spans, self.in_order && self.wasted == 0) {
            data.extend_from_slice(&self.arena[first.start..last.range().end]);
        } else {
            spans.iter().for_each(|span| data.extend_from_slice(&self.arena[span.range()]));
        }
        slots.start + spans.len() as u32
    }

    /// Frees a live slot for the next new key. A slot that is not live is left alone.
    pub fn remove(&mut self, slot: u32) {
        let Some(span) = self.spans.get_mut(slot as usize) else { return };
        if !self.table.remove(span.tag, slot + 1) {
            return;
        }
        self.wasted += std::mem::take(&mut span.len) as usize;
        self.slots.give_back(slot);
        if self.wasted > SLACK.max(self.arena.len() / 2) {
            self.pack();
        }
    }

    /// Frees live slots, as [`Self::remove`] does, with the look-ups of many in flight together.
    pub fn remove_all(&mut self, slots: &[u32]) {
        for (row, &slot) in slots.iter().enumerate() {
            if let Some(span) = slots.get(row + AHEAD).and_then(|&ahead| self.spans.get(ahead as usize)) {
                self.table.prefetch(span.tag);
            }
            self.remove(slot);
        }
    }

    /// Forgets all keys and slots, and keeps the memory. The cost is in proportion to the slots handed out since the
    /// dictionary was empty, or to the table if that is smaller.
    pub fn clear(&mut self) {
        self.table.clear(self.spans.iter().map(|span| span.tag));
        self.spans.clear();
        self.arena.clear();
        self.slots.clear();
        (self.wasted, self.in_order) = (0, true);
    }

    /// Takes a slot for something that is no key, such as null. Give it back with [`Self::release`].
    ///
    /// # Errors
    /// [`Full`] if there is no slot left.
    pub fn reserve(&mut self) -> Result<u32, Full> {
        let slot = self.slots.take()?;
        if slot as usize == self.spans.len() {
            self.spans.push(Span { start: self.arena.len(), ..Span::default() });
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
        self.table.bytes() + self.spans.capacity() * size_of::<Span>() + self.arena.capacity() + self.slots.bytes()
    }

    /// Puts into `found` the slot of a key with the tag of each row, or [`NONE`], and asks for what comparing them to the rows'
    /// own will touch: each of two steps for all rows before the next.
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
            let known = || found[..tags.len()].iter().map(|&found| if found == NONE { 0 } else { found as usize });
            known().for_each(|slot| prefetch(&self.spans, slot));
            known().filter_map(|slot| self.spans.get(slot)).for_each(|span| prefetch(&self.arena, span.start));
        }
    }

    /// The slot of a key; new if need be.
    #[inline(never)]
    fn find_or_add(&mut self, key: &[u8], tag: u32) -> Result<u32, Full> {
        let known = self.table.find(tag, |slot| self.key(slot) == key);
        if known > 0 {
            return Ok(known - 1);
        }
        let slot = self.slots.take()?;
        // A key is at most as long as its offsets, of 31 bits, allow.
        let span = Span { start: self.arena.len(), len: key.len() as u32, tag };
        self.arena.extend_from_slice(key);
        match self.spans.get_mut(slot as usize) {
            Some(old) => (*old, self.in_order) = (span, false),
            None => self.spans.push(span),
        }
        self.table.add(tag, slot + 1);
        Ok(slot)
    }

    /// Rewrites the arena without the bytes of removed keys, whose spans are empty.
    fn pack(&mut self) {
        let mut packed = Vec::with_capacity(self.arena.len() - self.wasted);
        for span in &mut self.spans {
            let start = packed.len();
            packed.extend_from_slice(&self.arena[span.range()]);
            span.start = start;
        }
        (self.arena, self.wasted, self.in_order) = (packed, 0, true);
    }
}

#[inline(always)]
fn tag_of(key: &[u8], seeds: [u64; 2]) -> u32 {
    (hash(key, seeds) >> 32) as u32
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
