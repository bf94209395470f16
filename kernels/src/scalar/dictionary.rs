//! Twin of [`crate::dictionary`].

use std::collections::HashMap;
use std::hash::Hash;

use crate::dictionary::Full;

/// Twin of all dictionaries: a map, a list of keys and a stack of freed slots.
#[derive(Debug)]
pub struct Dictionary<K> {
    slot_of: HashMap<K, u32>,
    keys: Vec<Option<K>>,
    freed: Vec<u32>,
    limit: usize,
}

impl<K: Clone + Eq + Hash> Dictionary<K> {
    /// An empty dictionary of at most `max_slots` keys at a time.
    pub fn new(max_slots: usize) -> Self {
        Self { slot_of: HashMap::new(), keys: Vec::new(), freed: Vec::new(), limit: max_slots }
    }

    /// The slot of one key, new if need be.
    ///
    /// # Errors
    /// [`Full`] if a new key found no slot.
    pub fn assign(&mut self, key: &K) -> Result<u32, Full> {
        if let Some(&slot) = self.slot_of.get(key) {
            return Ok(slot);
        }
        if self.slot_of.len() == self.limit {
            return Err(Full { limit: self.limit });
        }
        let slot = self.freed.pop().unwrap_or(self.keys.len() as u32);
        self.keys.resize(self.keys.len().max(slot as usize + 1), None);
        self.keys[slot as usize] = Some(key.clone());
        self.slot_of.insert(key.clone(), slot);
        Ok(slot)
    }

    /// The key of a live slot.
    pub fn key(&self, slot: u32) -> Option<&K> {
        self.keys.get(slot as usize)?.as_ref()
    }

    /// Frees a live slot.
    pub fn remove(&mut self, slot: u32) {
        if let Some(key) = self.keys.get_mut(slot as usize).and_then(Option::take) {
            self.slot_of.remove(&key);
            self.freed.push(slot);
        }
    }

    /// Live keys.
    pub fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// Whether no key is live.
    pub fn is_empty(&self) -> bool {
        self.slot_of.is_empty()
    }

    /// Slots ever handed out.
    pub fn slots(&self) -> usize {
        self.keys.len()
    }
}
