//! Names of a profile: whether a key has been seen with one, by a set sketch.
//!
//! The sketch is two Bloom filters (B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 13(7), 1970) in turns: names go into the
//! newer one, and each `window` / 2 rows the older one is emptied and becomes the newer. With 8 bits and 4 hashes (after A. Kirsch and M. Mitzenmacher, "Less
//! hashing, same performance", 2006) for each row of a half, a new name passes for a known one in some 5% of the cases at most, if every row has another name.

use crate::scalar::sketch::hash::{canonical, stafford, word_key};

/// Bits of a filter for each row that it takes.
const BITS: u32 = 8;

/// Bits that a name sets.
const HASHES: u64 = 4;

/// The rows of half a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameFilter {
    /// Its bits, 64 to a word.
    pub bits: Vec<u64>,
    /// Rows taken in.
    pub rows: u32,
    /// Those of them whose name was new.
    pub new: u32,
}

/// The names that a key was seen with.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownNames {
    /// The newer filter and the older one.
    pub filters: [NameFilter; 2],
}

impl NameFilter {
    fn blank(window: u32) -> NameFilter {
        NameFilter { bits: vec![0; words(window)], ..NameFilter::default() }
    }

    fn has(&self, hash: u64) -> bool {
        places(hash, self.bits.len()).all(|(word, bit)| self.bits[word] >> bit & 1 == 1)
    }

    fn add(&mut self, hash: u64) {
        let length = self.bits.len();
        places(hash, length).for_each(|(word, bit)| self.bits[word] |= 1 << bit);
    }
}

/// Rows of half a window.
fn half(window: u32) -> u32 {
    window.div_ceil(2)
}

/// Words of a filter.
fn words(window: u32) -> usize {
    half(window).saturating_mul(BITS).div_ceil(u64::BITS) as usize
}

/// The bits of a name in a filter of so many words.
fn places(hash: u64, words: usize) -> impl Iterator<Item = (usize, u32)> {
    let (first, step, bits) = (hash >> 32, (hash & 0xffff_ffff) | 1, words as u64 * 64);
    (0..HASHES).map(move |n| {
        let place = first.wrapping_add(n.wrapping_mul(step)) % bits;
        ((place / 64) as usize, (place % 64) as u32)
    })
}

impl KnownNames {
    /// No names, of a window of so many rows.
    pub fn new(window: u32) -> KnownNames {
        KnownNames { filters: std::array::from_fn(|_| NameFilter::blank(window)) }
    }

    /// Whether these can be what a kernel with this window left: for what comes from a snapshot.
    pub fn is_sound(&self, window: u32) -> bool {
        let of = |filter: &NameFilter| filter.bits.len() == words(window) && filter.new <= filter.rows && filter.rows <= half(window);
        self.filters.iter().all(of)
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.filters.iter().map(|filter| filter.bits.capacity() * size_of::<u64>()).sum()
    }

    /// -ln p of a name, which is then known.
    pub(super) fn take(&mut self, name: f64, window: u32) -> f64 {
        let hash = stafford(canonical(name) ^ word_key(0));
        if self.filters[0].rows >= half(window) {
            self.filters.swap(0, 1);
            self.filters[0] = NameFilter::blank(window);
        }
        let [newer, older] = &mut self.filters;
        let is_new = !newer.has(hash) && !older.has(hash);
        let (rows, new) = (newer.rows + older.rows, newer.new + older.new);
        newer.add(hash);
        newer.rows += 1;
        newer.new += u32::from(is_new);
        if is_new { (f64::from(rows + 1) / f64::from(new + 1)).ln() } else { 0.0 }
    }
}
