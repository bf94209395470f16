//! Rolling count, mean and second moment, by adding each value as it comes and subtracting it as it leaves.

use crate::backend::Backend;
use crate::cell::resize_table;
use crate::rolling::answers::{MomentColumns, Moments};
use crate::rolling::ring::Arena;
use crate::rolling::sums::{Head, Odds, due_age, is_null, stored};
use crate::rolling::{Extent, Frame, Malformed, RollingRows, Words};
use crate::{scalar, simd};

/// Windows of every slot, with what is known of the values in them.
///
/// A slot's sums are of distances from a pivot near its mean, and of their squares, both with their rounding errors
/// carried in a second word (Neumaier; [`crate::aggregate`]): a value leaves as exactly the number that it came as.
/// Both sums are computed afresh from the values, around the mean of that moment, whenever four times as many rows have come
/// as the window holds; when the squares have fallen to 2^-40 of what they were, as when an outlier leaves; and when
/// the second moment is less than 2^-10 of the squares, which means that the mean has moved away from the pivot by 32
/// deviations (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983,
/// on the choice of a shift). So errors neither grow with the stream nor outlive the window. A row costs constant work, but for streams of
/// values that fall by twelve orders of magnitude row by row.
///
/// Memory: 80 bytes per slot, and 8 bytes per row of a window (16 with times), in segments that hold up to four times as
/// many rows as the window does (eight times where the rows of a range of time have become fewer).
#[derive(Clone, Debug)]
pub struct RollingMoments {
    pub(crate) extent: Extent,
    pub(crate) frame: Frame,
    pub(crate) heads: Vec<Head>,
    odds: Vec<Odds>,
    pub(crate) values: Vec<f64>,
    pub(crate) times: Vec<i64>,
    arena: Arena,
}

/// Takes rows into their keys' windows, and answers for each row what its window holds.
///
/// # Panics
/// If columns differ in length, a slot is not below [`RollingMoments::slots`], or one key has more than 2^31 rows in a
/// window of time.
pub fn rolling_moments(windows: &mut RollingMoments, rows: &RollingRows<'_>, answers: MomentColumns<'_>) {
    Backend::active().rolling_moments(windows, rows, answers);
}

impl Backend {
    /// [`rolling_moments`] on this backend.
    pub fn rolling_moments(self, windows: &mut RollingMoments, rows: &RollingRows<'_>, answers: MomentColumns<'_>) {
        windows.check(rows, &answers);
        match self {
            Self::Scalar => scalar::rolling::moments(windows, rows, answers),
            Self::Simd(level) => simd::rolling::moments(level, windows, rows, answers),
        }
    }
}

impl RollingMoments {
    /// Windows of no slots yet.
    ///
    /// # Panics
    /// If the extent is not a valid one.
    pub fn new(extent: Extent, frame: Frame) -> Self {
        extent.check();
        let arena = extent.arena();
        Self { extent, frame, heads: Vec::new(), odds: Vec::new(), values: Vec::new(), times: Vec::new(), arena }
    }

    /// Panics unless these rows can be taken and answered so.
    pub(crate) fn check(&self, rows: &RollingRows<'_>, answers: &MomentColumns<'_>) {
        rows.check(self.extent, self.heads.len());
        answers.check(rows.slots.len());
    }

    /// Slots that there are windows for.
    pub fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Makes empty windows for slots up to `slots`, not including it.
    pub fn reserve_slots(&mut self, slots: usize) {
        if slots > self.heads.len() {
            resize_table(&mut self.heads, slots, Head::default());
            resize_table(&mut self.odds, slots, Odds::default());
        }
    }

    /// Empties the window of a slot, which then can be another key's.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn forget(&mut self, slot: u32) {
        let head = &mut self.heads[slot as usize];
        self.arena.release(&mut head.ring);
        *head = Head::default();
        self.odds[slot as usize] = Odds::default();
    }

    /// Whether most of the memory for rows is free: windows that are saved and loaded anew would hold less than half as much.
    pub fn is_sparse(&self) -> bool {
        self.arena.is_sparse()
    }

    /// Memory held, in bytes.
    pub fn state_bytes(&self) -> usize {
        let slots = self.heads.capacity() * size_of::<Head>() + self.odds.capacity() * size_of::<Odds>();
        slots + (self.values.capacity() + self.times.capacity()) * 8 + self.arena.bytes()
    }

    /// Appends the window of a slot to a snapshot; [`Self::load_slot`] gives it back such that all later answers are the same bits.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn save_slot(&self, slot: u32, words: &mut Vec<u64>) {
        let head = &self.heads[slot as usize];
        let rows = head.ring.rows;
        words.push(u64::from(rows));
        if rows == 0 {
            return;
        }
        let floats = [head.pivot, head.sums[0], head.sums[1], head.errors[0], head.errors[1]];
        words.extend(floats.map(f64::to_bits));
        words.push(u64::from(head.age) | u64::from(head.peak) << 32);
        words.extend((0..rows).map(|row| self.values[head.ring.at(row)].to_bits()));
        if let Extent::Range(_) = self.extent {
            words.extend((0..rows).map(|row| self.times[head.ring.at(row)] as u64));
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
        let mut words = Words(words);
        match words.rows(self.extent)? {
            0 => {}
            rows => self.restore(slot as usize, rows, &mut words)?,
        }
        words.end()
    }

    fn restore(&mut self, slot: usize, rows: u32, words: &mut Words<'_>) -> Result<(), Malformed> {
        let head = &mut self.heads[slot];
        for float in [&mut head.pivot].into_iter().chain(&mut head.sums).chain(&mut head.errors) {
            *float = f64::from_bits(words.next()?);
        }
        let word = words.next()?;
        // No state is older than this when it is at rest.
        (head.age, head.peak) = ((word as u32).min(due_age(rows)), (word >> 32) as u16);
        let has_times = matches!(self.extent, Extent::Range(_));
        self.arena.resize(&mut head.ring, rows, &mut self.values, has_times.then_some(&mut self.times));
        head.ring.rows = rows;
        for row in 0..rows {
            let value = f64::from_bits(words.next()?);
            let value = stored(value, !is_null(value));
            self.values[head.ring.at(row)] = value;
            if !value.is_finite() {
                *self.odds[slot].of(value) += 1;
                head.odd = true;
            }
        }
        for row in 0..if has_times { rows } else { 0 } {
            self.times[head.ring.at(row)] = words.next()? as i64;
        }
        Ok(())
    }

    /// Takes a row in and answers what its window holds. `value` is as of [`stored`].
    #[inline(always)]
    pub(crate) fn step(&mut self, slot: usize, value: f64, time: i64) -> Moments {
        let mut time = time;
        if let Extent::Range(length) = self.extent {
            time = self.take_time(slot, time);
            self.expire(slot, time.saturating_sub(length));
        }
        let before = (self.frame == Frame::Preceding).then(|| self.read(slot));
        if let Extent::Rows(rows) = self.extent
            && self.heads[slot].ring.rows == rows
        {
            self.drop_oldest(slot);
        }
        self.append(slot, value, time);
        before.unwrap_or_else(|| self.read(slot))
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
    }

    #[inline(always)]
    fn drop_oldest(&mut self, slot: usize) {
        let head = &mut self.heads[slot];
        let value = self.values[head.ring.at(0)];
        head.ring.pop();
        if value.is_finite() {
            head.subtract(value);
        } else {
            let odds = &mut self.odds[slot];
            *odds.of(value) -= 1;
            head.odd = *odds != Odds::default();
        }
    }

    #[inline(always)]
    fn append(&mut self, slot: usize, value: f64, time: i64) {
        if self.heads[slot].ring.is_full() {
            self.resize(slot, self.heads[slot].ring.rows + 1);
        }
        let head = &mut self.heads[slot];
        let to = head.ring.at(head.ring.rows);
        self.values[to] = value;
        if let Extent::Range(_) = self.extent {
            self.times[to] = time;
        }
        if value.is_finite() {
            if head.ring.rows == if head.odd { self.odds[slot].rows() } else { 0 } {
                *head = Head { pivot: value, ring: head.ring, odd: head.odd, ..Head::default() };
            }
            head.add(value);
        } else {
            *self.odds[slot].of(value) += 1;
            head.odd = true;
        }
        head.ring.rows += 1;
        head.age += 1;
        if head.is_due() {
            self.renew(slot);
        }
    }

    /// What is due once in some windows: sums afresh, and a segment that fits.
    #[cold]
    #[inline(never)]
    fn renew(&mut self, slot: usize) {
        self.refresh(slot);
        if self.heads[slot].ring.is_roomy() {
            self.resize(slot, self.heads[slot].ring.rows);
        }
    }

    #[cold]
    #[inline(never)]
    fn resize(&mut self, slot: usize, rows: u32) {
        let times = matches!(self.extent, Extent::Range(_)).then_some(&mut self.times);
        self.arena.resize(&mut self.heads[slot].ring, rows, &mut self.values, times);
    }

    /// What the window holds; sums that have lost too many digits are computed afresh first.
    #[inline(always)]
    pub(crate) fn read(&mut self, slot: usize) -> Moments {
        let head = &self.heads[slot];
        if !head.odd && head.ring.rows > 0 {
            let (moments, sound) = head.moments(f64::from(head.ring.rows));
            if sound {
                return moments;
            }
        }
        self.read_with_care(slot)
    }

    #[cold]
    #[inline(never)]
    fn read_with_care(&mut self, slot: usize) -> Moments {
        let (rows, odds) = (self.heads[slot].ring.rows, self.odds[slot]);
        let finite = rows - odds.rows();
        let (mut moments, sound) = if finite == 0 { (Moments::NONE, true) } else { self.heads[slot].moments(f64::from(finite)) };
        // A pivot that cannot be bettered is as sound as can be.
        if !sound && (self.heads[slot].is_faded() || moments.mean != self.heads[slot].pivot) {
            self.refresh(slot);
            moments = self.heads[slot].moments(f64::from(finite)).0;
        }
        moments.m2 = if moments.m2.is_finite() { moments.m2.max(0.0) } else { f64::INFINITY };
        if finite > 0 && !moments.mean.is_finite() {
            moments.mean = self.heads[slot].pivot;
            moments.sum = moments.mean * f64::from(finite);
        }
        odds.bend(&mut moments, rows);
        moments
    }

    /// Computes the sums of a slot afresh from its values.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, slot: usize) {
        let finite = f64::from(self.heads[slot].ring.rows - self.odds[slot].rows());
        self.heads[slot].refresh(finite, &self.values);
    }
}

#[cfg(feature = "gpu")]
impl RollingMoments {
    /// Takes in rows of one slot, in their order, whose answers are known: the sums are computed once, of what is left.
    pub(crate) fn absorb(&mut self, slot: usize, new: &[u32], rows: &RollingRows<'_>) {
        let kept = match self.extent {
            Extent::Rows(most) => &new[new.len().saturating_sub(most as usize)..],
            Extent::Range(_) => new,
        };
        for &row in kept {
            let row = row as usize;
            let mut time = rows.time(row);
            if let Extent::Range(length) = self.extent {
                time = self.take_time(slot, time);
                while self.heads[slot].ring.rows > 0 && self.times[self.heads[slot].ring.at(0)] < time.saturating_sub(length) {
                    self.heads[slot].ring.pop();
                }
            } else if Extent::Rows(self.heads[slot].ring.rows) == self.extent {
                self.heads[slot].ring.pop();
            }
            if self.heads[slot].ring.is_full() {
                self.resize(slot, self.heads[slot].ring.rows + 1);
            }
            let head = &mut self.heads[slot];
            let to = head.ring.at(head.ring.rows);
            self.values[to] = stored(rows.values[row], rows.is_valid(row));
            if let Extent::Range(_) = self.extent {
                self.times[to] = time;
            }
            head.ring.rows += 1;
        }
        let ring = self.heads[slot].ring;
        let mut odds = Odds::default();
        let values = ring.parts(&self.values).into_iter().flatten();
        values.filter(|value| !value.is_finite()).for_each(|value| *odds.of(*value) += 1);
        self.odds[slot] = odds;
        // Sums that say nothing, so that the pivot is looked for anew.
        let sums = if odds.rows() < ring.rows { [f64::NAN; 2] } else { [0.0; 2] };
        self.heads[slot] = Head { ring, sums, odd: odds.rows() > 0, ..Head::default() };
        self.renew(slot);
    }
}
