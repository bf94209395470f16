//! A table indexed by key, in pages that exist where keys are: it grows without moving what it holds.

use std::hint::select_unpredictable;

use super::NONE;
use crate::simd::prefetch::{FAR, prefetch_far};

/// Keys of a page, as a power of two: 2 KiB.
const PAGE_BITS: u32 = 9;
const PAGE: usize = 1 << PAGE_BITS;

/// Slots plus 1 by key; 0 where there is no key.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Number of the first page: its keys divided by [`PAGE`], rounded down.
    first: i64,
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    /// Pages that exist.
    backed: usize,
    len: usize,
}

impl Direct {
    /// Keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Pages from the first to the last key in reach.
    pub fn span(&self) -> usize {
        self.pages.len()
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Option<Box<[u32; PAGE]>>>() + self.backed * size_of::<[u32; PAGE]>()
    }

    #[inline(always)]
    pub fn find(&self, key: i64) -> u32 {
        match self.pages.get(self.page(key)) {
            Some(Some(page)) => page[entry(key)],
            _ => 0,
        }
    }

    /// Puts into `found` the slot of each key, or [`NONE`], asking for those that come next; whether all were there.
    pub fn find_block<K: Copy + Into<i64>>(&self, keys: &[K], coming: &[K], found: &mut [u32]) -> bool {
        let mut all = true;
        let mut find = |key: K, found: &mut u32| {
            *found = self.find(key.into()).wrapping_sub(1);
            all &= *found != NONE;
        };
        let (first, rest) = keys.split_at(if self.is_far() { coming.len() } else { 0 });
        for ((&key, found), &next) in first.iter().zip(&mut *found).zip(coming) {
            self.prefetch(next.into());
            find(key, found);
        }
        rest.iter().zip(&mut found[first.len()..]).for_each(|(&key, found)| find(key, found));
        all
    }

    /// Asks for the places of keys, if they may lie beyond the second-level cache.
    pub fn ask<K: Copy + Into<i64>>(&self, keys: &[K]) {
        if self.is_far() {
            keys.iter().for_each(|&key| self.prefetch(key.into()));
        }
    }

    fn is_far(&self) -> bool {
        self.backed * size_of::<[u32; PAGE]>() > FAR
    }

    #[inline(always)]
    pub fn prefetch(&self, key: i64) {
        if let Some(Some(page)) = self.pages.get(self.page(key)) {
            prefetch_far(&**page, entry(key));
        }
    }

    /// Makes the table reach `key`, unless it would then span more than `most` keys.
    pub fn reach(&mut self, key: i64, most: u64) -> bool {
        let page = key >> PAGE_BITS;
        if self.len == 0 && self.page(key) >= self.pages.len() {
            // Pages that hold nothing may serve any keys.
            self.first = page - self.pages.len() as i64 / 2;
        }
        if self.page(key) < self.pages.len() {
            return true;
        }
        let first = self.first.min(page);
        let pages = (self.first + self.pages.len() as i64).max(page + 1).abs_diff(first);
        if pages > most.div_ceil(PAGE as u64) {
            return false;
        }
        self.pages.splice(..0, std::iter::repeat_with(|| None).take(self.first.abs_diff(first) as usize));
        self.pages.resize_with(self.pages.len().max(pages as usize), || None);
        self.first = first;
        true
    }

    /// Puts into `found` the slot of each key, those that are not there getting the slots from `keys.len()` on, and being
    /// appended to `keys`. Stops at the first key that there is no page for. Returns how many it came to.
    ///
    /// The caller has asked for the keys. Without a branch on whether a key is there: of the first keys of a pane, that cannot be foretold.
    pub fn find_or_add_block<K: Copy + Into<i64>>(&mut self, own: &[K], found: &mut [u32], keys: &mut Vec<i64>) -> usize {
        let (before, mut next, mut rows) = (keys.len(), keys.len(), 0);
        keys.resize(before + own.len(), 0);
        for (key, found) in own.iter().zip(found) {
            let key = (*key).into();
            let page = self.page(key);
            let Some(Some(page)) = self.pages.get_mut(page) else { break };
            let place = &mut page[entry(key)];
            let is_new = *place == 0;
            keys[next] = key;
            *found = select_unpredictable(is_new, next as u32, place.wrapping_sub(1));
            *place = *found + 1;
            next += usize::from(is_new);
            rows += 1;
        }
        keys.truncate(next);
        self.len += next - before;
        rows
    }

    /// Adds a key that is not there, within reach, under its slot plus 1.
    pub fn add(&mut self, key: i64, slot: u32) {
        let page = self.page(key);
        self.backed += usize::from(self.pages[page].is_none());
        self.pages[page].get_or_insert_with(|| Box::new([0; PAGE]))[entry(key)] = slot;
        self.len += 1;
    }

    /// Removes a key if it is there under `slot`, given plus 1; whether it was.
    #[inline(always)]
    pub fn remove(&mut self, key: i64, slot: u32) -> bool {
        let page = self.page(key);
        let removed = match self.pages.get_mut(page) {
            Some(Some(page)) if page[entry(key)] == slot => std::mem::take(&mut page[entry(key)]) > 0,
            _ => false,
        };
        self.len -= usize::from(removed);
        removed
    }

    /// Removes the entry numbered `index`, in the order of keys, and returns its key and slot plus 1, if it has one; `None`
    /// past the end. Gives back the memory of each page that it comes to the end of.
    pub fn pop_entry(&mut self, index: usize) -> Option<Option<(i64, u32)>> {
        let place = self.pages.get_mut(index / PAGE)?;
        let slot = place.as_mut().map_or(0, |page| std::mem::take(&mut page[index % PAGE]));
        if index % PAGE == PAGE - 1 {
            self.backed -= usize::from(place.take().is_some());
        }
        self.len -= usize::from(slot > 0);
        Some((slot > 0).then(|| ((self.first << PAGE_BITS).wrapping_add(index as i64), slot)))
    }

    /// Forgets all keys, which are among `keys`, and keeps the pages.
    pub fn clear(&mut self, keys: &[i64]) {
        if self.pages.len() * PAGE < keys.len() * size_of::<u64>() {
            self.pages.iter_mut().flatten().for_each(|page| page.fill(0));
        } else {
            for &key in keys {
                let page = self.page(key);
                if let Some(Some(page)) = self.pages.get_mut(page) {
                    page[entry(key)] = 0;
                }
            }
        }
        self.len = 0;
    }

    /// Place of the page of a key: beyond all if it lies before the first.
    #[inline(always)]
    fn page(&self, key: i64) -> usize {
        usize::try_from(((key >> PAGE_BITS) - self.first) as u64).unwrap_or(usize::MAX)
    }
}

/// Place of a key in its page.
#[inline(always)]
fn entry(key: i64) -> usize {
    key as usize % PAGE
}
