//! Rings of rows, one per slot, each in a segment of one slab. A ring grows as its key's rows come, so that a key of few
//! rows holds little however long the window may be.

use crate::cell::resize_table;

/// Elements of the smallest segment; segments begin at multiples of it. Eight words are one cache line.
const LINE: u32 = 8;

/// Most rows of a ring whose window sets no limit, so that the sum of two positions fits in 32 bits.
const MOST: u32 = 1 << 31;

/// Where the rows of one slot lie in the slab: oldest at `first`, and round.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ring {
    line: u32,
    capacity: u32,
    first: u32,
    pub rows: u32,
}

impl Ring {
    /// No rows, no segment.
    pub const EMPTY: Self = Self { line: 0, capacity: 0, first: 0, rows: 0 };

    /// Index in the slab of the row that has `row` older ones in the ring; for `row == rows`, of the next to come.
    #[inline(always)]
    pub fn at(&self, row: u32) -> usize {
        let position = self.first + row;
        let position = if position >= self.capacity { position - self.capacity } else { position };
        self.line as usize * LINE as usize + position as usize
    }

    /// Index in the slab of the oldest row.
    #[inline(always)]
    pub fn oldest(&self) -> usize {
        self.line as usize * LINE as usize + self.first as usize
    }

    /// Whether the next row needs a larger segment.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.rows == self.capacity
    }

    /// Drops the oldest row.
    #[inline(always)]
    pub fn pop(&mut self) {
        self.turn();
        self.rows -= 1;
    }

    /// Makes the oldest row the newest.
    #[inline(always)]
    pub fn turn(&mut self) {
        let next = self.first + 1;
        self.first = if next == self.capacity { 0 } else { next };
    }

    /// The rows as they lie in the slab, the older part first.
    #[inline(always)]
    pub fn parts<'a, T>(&self, slab: &'a [T]) -> [&'a [T]; 2] {
        let start = self.line as usize * LINE as usize;
        let segment = &slab[start..start + self.capacity as usize];
        let end = self.first as usize + self.rows as usize;
        let wrapped = end.saturating_sub(self.capacity as usize);
        [&segment[self.first as usize..end - wrapped], &segment[..wrapped]]
    }

    /// Whether so few rows are left that a smaller segment should hold them.
    #[inline]
    pub fn is_roomy(&self) -> bool {
        self.capacity > LINE && self.rows < self.capacity / 8
    }

    /// Copies the rows of `self` to the segment of `to`, which begins with the oldest.
    fn copy<T: Copy>(&self, to: &Self, slab: &mut [T]) {
        for row in 0..self.rows {
            slab[to.at(row)] = slab[self.at(row)];
        }
    }
}

/// The segments of a slab: which are free, where new ones begin.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    /// Most rows of a ring.
    most: u32,
    /// Segments of class `c` hold up to `LINE << (c * growth)` rows.
    growth: u32,
    lines: u32,
    free: [Vec<u32>; 32],
}

impl Arena {
    /// Segments for rings of up to so many rows, which most of them come to hold: few sizes on the way, to leave few behind.
    pub fn for_rows(most: u32) -> Self {
        Self { most: most.min(MOST), growth: 2, lines: 0, free: Default::default() }
    }

    /// Segments for rings of any number of rows: sizes close to each other, since rows go round the whole of a segment.
    pub fn for_ranges() -> Self {
        Self { most: MOST, growth: 1, lines: 0, free: Default::default() }
    }

    /// Gives the ring a segment that fits `rows` rows, at least those it has, and moves these; the slabs grow as needed.
    ///
    /// # Panics
    /// If `rows` is above the most that a ring may hold, or the slab would have more than 2^32 lines.
    pub fn resize<T: Copy + Default>(&mut self, ring: &mut Ring, rows: u32, slab: &mut Vec<T>, times: Option<&mut Vec<i64>>) {
        assert!(rows <= self.most, "{rows} rows in one window: at most {} are held", self.most);
        let class = self.class(rows);
        let capacity = self.most_rows(class).min(self.most);
        let line = self.free[class].pop().unwrap_or_else(|| {
            let line = self.lines;
            let end = line.checked_add(capacity.div_ceil(LINE));
            assert!(end.is_some(), "all windows together hold more than 2^35 rows");
            self.lines = end.unwrap_or(line);
            line
        });
        let to = Ring { line, capacity, first: 0, rows: ring.rows };
        let elements = self.lines as usize * LINE as usize;
        resize_table(slab, elements, T::default());
        ring.copy(&to, slab);
        if let Some(times) = times {
            resize_table(times, elements, 0);
            ring.copy(&to, times);
        }
        self.release(ring);
        *ring = to;
    }

    /// Takes back the segment of a ring, which then has no rows.
    pub fn release(&mut self, ring: &mut Ring) {
        if ring.capacity > 0 {
            self.free[self.class(ring.capacity)].push(ring.line);
        }
        *ring = Ring::EMPTY;
    }

    fn class(&self, rows: u32) -> usize {
        let lines = rows.div_ceil(LINE).max(1);
        (u32::BITS - (lines - 1).leading_zeros()).div_ceil(self.growth) as usize
    }

    fn most_rows(&self, class: usize) -> u32 {
        LINE << (class as u32 * self.growth).min((MOST / LINE).ilog2())
    }

    /// Whether most of the slabs is free segments.
    pub fn is_sparse(&self) -> bool {
        let lines = |class: usize| u64::from(self.most_rows(class).min(self.most).div_ceil(LINE));
        let free: u64 = self.free.iter().enumerate().map(|(class, free)| free.len() as u64 * lines(class)).sum();
        2 * free > u64::from(self.lines)
    }

    /// Bytes held beside the slabs.
    pub fn bytes(&self) -> usize {
        self.free.iter().map(|free| free.capacity() * size_of::<u32>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, MOST, Ring};

    #[test]
    fn classes_hold_their_rows() {
        for arena in [Arena::for_rows(MOST), Arena::for_ranges()] {
            for rows in [0, 1, 8, 9, 32, 33, 100, 128, 129, 1 << 20, MOST - 1, MOST] {
                let class = arena.class(rows);
                assert!(arena.most_rows(class) >= rows);
                assert!(class == 0 || arena.most_rows(class - 1) < rows, "{rows}");
            }
        }
    }

    #[test]
    fn rows_stay_in_order_through_growth_and_segments_come_back() {
        let (mut arena, mut slab, mut times) = (Arena::for_rows(100), Vec::<u64>::new(), Vec::new());
        let mut ring = Ring::default();
        for n in 0..250u64 {
            if ring.rows == 100 {
                ring.pop();
            }
            if ring.is_full() {
                let rows = ring.rows + 1;
                arena.resize(&mut ring, rows, &mut slab, Some(&mut times));
            }
            let to = ring.at(ring.rows);
            (slab[to], times[to]) = (n, -(n as i64));
            ring.rows += 1;
            let [old, new] = ring.parts(&slab);
            let held: Vec<u64> = old.iter().chain(new).copied().collect();
            assert_eq!(held, (n.saturating_sub(99)..=n).collect::<Vec<_>>());
            assert_eq!(times[ring.at(0)], -(n.saturating_sub(99) as i64));
        }
        let held = slab.len();
        arena.release(&mut ring);
        for rows in [1, 9, 33] {
            let mut ring = Ring::default();
            arena.resize(&mut ring, rows, &mut slab, Some(&mut times));
        }
        assert_eq!(slab.len(), held, "three segments were freed and taken again");
    }

    #[test]
    fn a_slab_is_sparse_when_most_rows_have_left_their_segments() {
        for mut arena in [Arena::for_rows(100), Arena::for_ranges()] {
            let mut slab = Vec::<u64>::new();
            let mut rings = [Ring::default(); 8];
            rings.iter_mut().for_each(|ring| arena.resize(ring, 30, &mut slab, None));
            assert!(!arena.is_sparse());
            rings[..4].iter_mut().for_each(|ring| arena.release(ring));
            assert!(!arena.is_sparse(), "half of them are left");
            arena.release(&mut rings[4]);
            assert!(arena.is_sparse());
        }
    }
}
