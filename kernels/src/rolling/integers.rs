//! Rolling sums of integers, exact: what comes is added and what leaves is subtracted, in 128 bits.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::cell::resize_table;
use crate::rolling::ring::{Arena, Ring};
use crate::rolling::{Extent, Frame, Malformed, RollingRows, Words};
use crate::{scalar, simd};

/// Windows of every slot.
///
/// Memory: 48 bytes per slot, and 16 bytes per row of a window (24 with times), in segments that hold up to four times as many rows
/// as the window does (eight times where the rows of a range of time have become fewer).
#[derive(Clone, Debug)]
pub struct RollingSums {
    pub(crate) extent: Extent,
    pub(crate) frame: Frame,
    pub(crate) heads: Vec<SumHead>,
    pub(crate) rows: Vec<Held>,
    pub(crate) times: Vec<i64>,
    arena: Arena,
}

/// State of one slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SumHead {
    total: Total,
    pub ring: Ring,
}

/// Sum and number of the values of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub sum: i128,
    pub count: u32,
}

/// A row of a window; a null has value 0 and no count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub value: i64,
    pub count: u32,
}

/// Where the answers go: one per row, each column being as long as the rows, or not asked for.
#[derive(Debug, Default)]
pub struct SumColumns<'a> {
    /// Values in the window.
    pub counts: Option<&'a mut [u32]>,
    /// Their sum.
    pub sums: Option<&'a mut [i128]>,
}

/// Takes rows into their keys' windows, and answers for each row what its window holds.
///
/// # Panics
/// If columns differ in length, a slot is not below [`RollingSums::slots`], or one key has more than 2^31 rows in a
/// window of time.
pub fn rolling_sums(windows: &mut RollingSums, rows: &RollingRows<'_, i64>, answers: SumColumns<'_>) {
    Backend::active().rolling_sums(windows, rows, answers);
}

impl Backend {
    /// [`rolling_sums`] on this backend.
    pub fn rolling_sums(self, windows: &mut RollingSums, rows: &RollingRows<'_, i64>, answers: SumColumns<'_>) {
        windows.check(rows, &answers);
        match self {
            Self::Scalar => scalar::rolling::sums(windows, rows, answers),
            Self::Simd(level) => simd::rolling::sums(level, windows, rows, answers),
        }
    }
}

impl SumColumns<'_> {
    #[inline(always)]
    pub(crate) fn put(&mut self, row: usize, total: Total) {
        if let Some(counts) = &mut self.counts {
            counts[row] = total.count;
        }
        if let Some(sums) = &mut self.sums {
            sums[row] = total.sum;
        }
    }
}

impl Held {
    /// A row as a ring holds it.
    #[inline(always)]
    pub fn of(value: i64, valid: bool) -> Self {
        if valid { Self { value, count: 1 } } else { Self::default() }
    }
}

impl RollingSums {
    /// Windows of no slots yet.
    ///
    /// # Panics
    /// If the extent is not a valid one.
    pub fn new(extent: Extent, frame: Frame) -> Self {
        extent.check();
        Self { extent, frame, heads: Vec::new(), rows: Vec::new(), times: Vec::new(), arena: extent.arena() }
    }

    /// Panics unless these rows can be taken and answered so.
    pub(crate) fn check(&self, rows: &RollingRows<'_, i64>, answers: &SumColumns<'_>) {
        rows.check(self.extent, self.heads.len());
        answers.sums.iter().for_each(|column| check_lengths("rows and sums", rows.slots.len(), column.len()));
        answers.counts.iter().for_each(|column| check_lengths("rows and counts", rows.slots.len(), column.len()));
    }

    /// Slots that there are windows for.
    pub fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Makes empty windows for slots up to `slots`, not including it.
    pub fn reserve_slots(&mut self, slots: usize) {
        if slots > self.heads.len() {
            resize_table(&mut self.heads, slots, SumHead::default());
        }
    }

    /// Empties the window of a slot, which then can be another key's.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn forget(&mut self, slot: u32) {
        let head = &mut self.heads[slot as usize];
        self.arena.release(&mut head.ring);
        *head = SumHead::default();
    }

    /// Whether most of the memory for rows is free: windows that are saved and loaded anew would hold less than half as much.
    pub fn is_sparse(&self) -> bool {
        self.arena.is_sparse()
    }

    /// Memory held, in bytes.
    pub fn state_bytes(&self) -> usize {
        let rows = self.rows.capacity() * size_of::<Held>() + self.times.capacity() * size_of::<i64>();
        self.heads.capacity() * size_of::<SumHead>() + rows + self.arena.bytes()
    }

    /// Appends the window of a slot to a snapshot; [`Self::load_slot`] gives it back.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn save_slot(&self, slot: u32, words: &mut Vec<u64>) {
        let ring = self.heads[slot as usize].ring;
        words.push(u64::from(ring.rows));
        for at in (0..ring.rows).map(|row| ring.at(row)) {
            words.extend([self.rows[at].value as u64, u64::from(self.rows[at].count)]);
            words.extend(self.times.get(at).map(|&time| time as u64));
        }
    }

    /// Gives an empty slot the window that was saved in `words`, which must be read to the last word.
    ///
    /// # Errors
    /// [`Malformed`] if they are not of such a window.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn load_slot(&mut self, slot: u32, words: &[u64]) -> Result<(), Malformed> {
        let (mut words, has_times) = (Words(words), matches!(self.extent, Extent::Range(_)));
        let rows = words.rows(self.extent)?;
        let head = &mut self.heads[slot as usize];
        if rows > 0 {
            self.arena.resize(&mut head.ring, rows, &mut self.rows, has_times.then_some(&mut self.times));
        }
        head.ring.rows = rows;
        for at in (0..rows).map(|row| head.ring.at(row)) {
            let row = Held::of(words.next()? as i64, words.next()? != 0);
            self.rows[at] = row;
            head.total.sum += i128::from(row.value);
            head.total.count += row.count;
            if has_times {
                self.times[at] = words.next()? as i64;
            }
        }
        words.end()
    }

    /// Takes a row in and answers what its window holds.
    #[inline(always)]
    pub(crate) fn step(&mut self, slot: usize, row: Held, time: i64) -> Total {
        let mut time = time;
        if let Extent::Range(length) = self.extent {
            time = self.take_time(slot, time);
            self.expire(slot, time.saturating_sub(length));
        }
        let before = self.heads[slot].total;
        if let Extent::Rows(rows) = self.extent
            && self.heads[slot].ring.rows == rows
        {
            self.drop_oldest(slot);
        }
        if self.heads[slot].ring.is_full() {
            self.resize(slot, self.heads[slot].ring.rows + 1);
        }
        let head = &mut self.heads[slot];
        let to = head.ring.at(head.ring.rows);
        self.rows[to] = row;
        if let Extent::Range(_) = self.extent {
            self.times[to] = time;
        }
        head.ring.rows += 1;
        head.total.sum += i128::from(row.value);
        head.total.count += row.count;
        if self.frame == Frame::Preceding { before } else { head.total }
    }

    /// The time that a row counts as of: not before the newest one's.
    #[inline(always)]
    pub(crate) fn take_time(&self, slot: usize, time: i64) -> i64 {
        let ring = self.heads[slot].ring;
        if ring.rows == 0 { time } else { time.max(self.times[ring.at(ring.rows - 1)]) }
    }

    #[inline(always)]
    fn expire(&mut self, slot: usize, from: i64) {
        while self.heads[slot].ring.rows > 0 && self.times[self.heads[slot].ring.at(0)] < from {
            self.drop_oldest(slot);
        }
        if self.heads[slot].ring.is_roomy() {
            self.resize(slot, self.heads[slot].ring.rows);
        }
    }

    #[cold]
    #[inline(never)]
    fn resize(&mut self, slot: usize, rows: u32) {
        let times = matches!(self.extent, Extent::Range(_)).then_some(&mut self.times);
        self.arena.resize(&mut self.heads[slot].ring, rows, &mut self.rows, times);
    }

    #[inline(always)]
    fn drop_oldest(&mut self, slot: usize) {
        let head = &mut self.heads[slot];
        let row = self.rows[head.ring.at(0)];
        head.ring.pop();
        head.total.sum -= i128::from(row.value);
        head.total.count -= row.count;
    }
}
