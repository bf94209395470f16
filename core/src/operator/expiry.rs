//! When keys that have had no rows for a time are forgotten.

use crate::operator::compact::keep;
use crate::watermark::NONE;
use crate::window::Timers;

/// Timers lie in buckets of this part of the time that keys are kept for.
const BUCKETS_PER_TTL: i64 = 64;

/// When keys that have had no rows for a time are forgotten.
pub(super) struct Expiry {
    ttl: i64,
    /// Event time of the latest row of each key, by slot; [`NONE`] of slots without a key.
    latest: Vec<i64>,
    timers: Timers,
}

impl Expiry {
    /// Keys are forgotten when event time is more than `ttl` past their latest row.
    pub fn new(ttl: i64) -> Expiry {
        Expiry { ttl, latest: Vec::new(), timers: Timers::new((ttl / BUCKETS_PER_TTL).max(1)) }
    }

    /// Notes a row of a key at `time`, before which the watermark was `mark`. If the key was to be forgotten before that, returns when:
    /// whether it was noticed then makes no difference.
    pub fn note(&mut self, key: u32, time: i64, mark: i64) -> Option<i64> {
        let index = key as usize;
        if index >= self.latest.len() {
            self.latest.resize(index + 1, NONE);
        }
        let before = self.latest[index];
        self.latest[index] = time.max(before);
        if before == NONE {
            self.timers.push(time.saturating_add(self.ttl), key);
            return None;
        }
        let due = before.saturating_add(self.ttl);
        let is_over = time.saturating_sub(before) > self.ttl || due <= mark;
        if is_over {
            // What came before does not count any more.
            self.latest[index] = time;
        }
        is_over.then_some(due)
    }

    /// Takes out the keys that are to be forgotten when event time has reached `watermark`, each with the moment, in order of these.
    pub fn take(&mut self, watermark: i64) -> Vec<(i64, u32)> {
        let mut gone = Vec::new();
        self.timers.due(watermark, |key| {
            let latest = &mut self.latest[key as usize];
            let due = latest.saturating_add(self.ttl);
            if due > watermark {
                return Some(due);
            }
            *latest = NONE;
            gone.push((due, key));
            None
        });
        gone.sort_unstable();
        gone
    }

    /// The slots that have keys.
    pub fn keys(&self) -> Vec<u32> {
        (0..self.latest.len() as u32).filter(|&key| self.latest(key) != NONE).collect()
    }

    /// The event time of a key's latest row.
    pub fn latest(&self, key: u32) -> i64 {
        self.latest[key as usize]
    }

    /// Forgets all keys but those in `keys`, which ascend and move together in this order.
    pub fn keep(&mut self, keys: &[u32]) {
        keep(&mut self.latest, keys);
        self.timers = Timers::new((self.ttl / BUCKETS_PER_TTL).max(1));
        (0u32..).zip(&self.latest).for_each(|(key, latest)| {
            self.timers.push(latest.saturating_add(self.ttl), key);
        });
    }

    /// Gives back memory that is kept for keys to come.
    pub fn trim(&mut self) {
        self.timers.trim();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.latest.capacity() * size_of::<i64>() + self.timers.bytes()
    }
}
