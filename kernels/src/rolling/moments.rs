//! Rolling count, mean and second moment, by adding each value as it comes and subtracting it as it leaves.

use crate::aggregate::check_lengths;
use crate::anomaly::ewma::{LEAST_MEAN, RELATIVE_FLOOR};
use crate::backend::Backend;
use crate::cell::{NAN_BITS, two_sum};
use crate::rolling::ring::{Arena, Ring};
use crate::rolling::{Divisor, Extent, Frame, Malformed, RollingRows, Words};
use crate::{scalar, simd};

/// First word of a snapshot: kind and version.
const VERSION: u64 = u64::from_le_bytes(*b"rollmom1");

/// Rows whose answers are held before they go to their columns.
pub(crate) const BLOCK: usize = 256;

/// The NaN that stands for null in a ring; values that are NaN are stored as another.
const NULL_BITS: u64 = NAN_BITS | 1;

/// A second moment below this share of the squares around the pivot has lost too many digits to be used.
const CANCELLED: f64 = 1.0 / 1024.0;

/// Squares below this share of what they once were may consist of rounding: the words of a sum hold 106 bits.
const FADED: f64 = 1.0 / (1u64 << 40) as f64;

/// Rows after which sums are computed afresh, at least.
const LEAST_AGE: u32 = 8;

/// Windows of every slot, with what is known of the values in them.
///
/// A slot's sums are of distances from a pivot near its mean, and of their squares, both with their rounding errors
/// carried in a second word (Neumaier; [`crate::aggregate`]): a value leaves as exactly the number that it came as.
/// Both sums are computed afresh from the values, around the mean of that moment, whenever as many rows have come as
/// the window holds; when the squares have fallen to 2^-40 of what they were, as when an outlier leaves; and when
/// the second moment is less than 2^-10 of the squares, which means that the mean has moved away from the pivot by 32 deviations
/// (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983, on the choice of a shift).
/// So errors neither grow with the stream nor outlive the window. A row costs constant work, but for streams of
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

/// State of one slot: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    /// Sum of distances from the pivot, and of their squares.
    sums: [f64; 2],
    /// Rounding errors of the sums.
    errors: [f64; 2],
    pivot: f64,
    pub ring: Ring,
    /// Rows since the sums were computed afresh.
    age: u32,
    /// Upper bits of the largest squares since then.
    peak: u16,
    /// Whether there are rows with no finite value.
    pub odd: bool,
}

const _: () = assert!(size_of::<Head>() == 64);

/// Rows of a window that have no finite value, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Odds {
    nulls: u32,
    nans: u32,
    positive: u32,
    negative: u32,
}

/// What is known of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    pub count: f64,
    pub sum: f64,
    pub mean: f64,
    pub m2: f64,
}

impl Moments {
    pub const NONE: Self = Self { count: 0.0, sum: 0.0, mean: f64::NAN, m2: 0.0 };
}

/// Where the answers go: one per row, each column being as long as the rows, or not asked for.
#[derive(Debug, Default)]
pub struct MomentColumns<'a> {
    /// Values in the window.
    pub counts: Option<&'a mut [u32]>,
    /// Their sum.
    pub sums: Option<&'a mut [f64]>,
    /// Their mean.
    pub means: Option<&'a mut [f64]>,
    /// The sum of their squared distances from the mean.
    pub m2s: Option<&'a mut [f64]>,
    /// Their variance.
    pub variances: Option<&'a mut [f64]>,
    /// Their standard deviation.
    pub deviations: Option<&'a mut [f64]>,
    /// Score of the row's value against them.
    pub scores: Option<&'a mut [f64]>,
    /// Of variances, deviations and scores.
    pub divisor: Divisor,
}

/// Answers of a block of rows on their way to the columns.
pub(crate) struct Buffer {
    /// Values of the rows as of [`stored`].
    pub values: [f64; BLOCK],
    pub counts: [f64; BLOCK],
    pub sums: [f64; BLOCK],
    pub means: [f64; BLOCK],
    pub m2s: [f64; BLOCK],
}

impl Buffer {
    pub const NEW: Self = Self { values: [0.0; BLOCK], counts: [0.0; BLOCK], sums: [0.0; BLOCK], means: [0.0; BLOCK], m2s: [0.0; BLOCK] };

    #[inline(always)]
    pub fn put(&mut self, row: usize, moments: Moments) {
        (self.counts[row], self.sums[row]) = (moments.count, moments.sum);
        (self.means[row], self.m2s[row]) = (moments.mean, moments.m2);
    }
}

impl MomentColumns<'_> {
    fn check(&self, rows: usize) {
        let floats = [&self.sums, &self.means, &self.m2s, &self.variances, &self.deviations, &self.scores];
        floats.into_iter().flatten().for_each(|column| check_lengths("rows and answers", rows, column.len()));
        self.counts.iter().for_each(|column| check_lengths("rows and counts", rows, column.len()));
    }

    /// Writes the first `len` answers of the buffer to the rows from `start` on. The buffer is used up.
    #[inline(always)]
    pub(crate) fn write(&mut self, start: usize, len: usize, buffer: &mut Buffer) {
        let less = if self.divisor == Divisor::Sample { 1.0 } else { 0.0 };
        let rows = start..start + len;
        let (counts, spreads) = (&buffer.counts[..len], &mut buffer.m2s[..len]);
        if let Some(column) = &mut self.counts {
            column[rows.clone()].iter_mut().zip(counts).for_each(|(to, &count)| *to = count as u32);
        }
        for (column, from) in [(&mut self.sums, &buffer.sums), (&mut self.means, &buffer.means)] {
            column.iter_mut().for_each(|column| column[rows.clone()].copy_from_slice(&from[..len]));
        }
        if let Some(column) = &mut self.m2s {
            column[rows.clone()].copy_from_slice(spreads);
        }
        if self.variances.is_none() && self.deviations.is_none() && self.scores.is_none() {
            return;
        }
        spreads.iter_mut().zip(counts).for_each(|(spread, &count)| *spread = variance(*spread, count - less));
        if let Some(column) = &mut self.variances {
            column[rows.clone()].copy_from_slice(spreads);
        }
        spreads.iter_mut().for_each(|spread| *spread = spread.sqrt());
        if let Some(column) = &mut self.deviations {
            column[rows.clone()].copy_from_slice(spreads);
        }
        if let Some(column) = &mut self.scores {
            let moments = counts.iter().zip(&buffer.means[..len]).zip(spreads);
            for ((to, &value), ((&count, &mean), &mut deviation)) in column[rows].iter_mut().zip(&buffer.values[..len]).zip(moments) {
                *to = score(value, mean, deviation, count);
            }
        }
    }
}

#[inline(always)]
fn variance(m2: f64, divisor: f64) -> f64 {
    if divisor > 0.0 { m2 / divisor } else { f64::NAN }
}
#[inline(always)]
fn score(value: f64, mean: f64, deviation: f64, count: f64) -> f64 {
    let magnitude = if mean.abs() > LEAST_MEAN { mean.abs() } else { LEAST_MEAN };
    let floor = RELATIVE_FLOOR * magnitude;
    let score = (value - mean) / if floor > deviation { floor } else { deviation };
    let score = if score > f64::MAX { f64::MAX } else { score };
    let score = if score < f64::MIN { f64::MIN } else { score };
    if (value.abs() <= f64::MAX) & (count >= 2.0) { score } else { f64::NAN }
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
        rows.check(windows.extent, windows.heads.len());
        answers.check(rows.slots.len());
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

    /// Slots that there are windows for.
    pub fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Makes empty windows for slots up to `slots`, not including it.
    pub fn reserve_slots(&mut self, slots: usize) {
        if slots > self.heads.len() {
            self.heads.resize(slots, Head::default());
            self.odds.resize(slots, Odds::default());
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

    /// Memory held, in bytes.
    pub fn state_bytes(&self) -> usize {
        let slots = self.heads.capacity() * size_of::<Head>() + self.odds.capacity() * size_of::<Odds>();
        slots + (self.values.capacity() + self.times.capacity()) * 8 + self.arena.bytes()
    }

    /// Appends the state to a snapshot; [`Self::from_words`] gives it back such that all later answers are the same bits.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        let [kind, length] = self.extent.to_words();
        words.extend([VERSION, kind, length, self.frame as u64, self.heads.len() as u64]);
        for head in &self.heads {
            let rows = head.ring.rows;
            words.push(u64::from(rows));
            if rows == 0 {
                continue;
            }
            let floats = [head.pivot, head.sums[0], head.sums[1], head.errors[0], head.errors[1]];
            words.extend(floats.map(f64::to_bits));
            words.push(u64::from(head.age) | u64::from(head.peak) << 32);
            words.extend((0..rows).map(|row| self.values[head.ring.at(row)].to_bits()));
            if let Extent::Range(_) = self.extent {
                words.extend((0..rows).map(|row| self.times[head.ring.at(row)] as u64));
            }
        }
    }

    /// The state of a snapshot, which `words` must be to the last word.
    ///
    /// # Errors
    /// [`Malformed`] if they are not.
    pub fn from_words(words: &[u64]) -> Result<Self, Malformed> {
        let mut words = Words(words);
        let (extent, frame, slots) = words.header(VERSION)?;
        let mut windows = Self::new(extent, frame);
        windows.reserve_slots(slots);
        for slot in 0..slots {
            let rows = words.rows(extent)?;
            if rows > 0 {
                windows.restore(slot, rows, &mut words)?;
            }
        }
        words.end()?;
        Ok(windows)
    }

    fn restore(&mut self, slot: usize, rows: u32, words: &mut Words<'_>) -> Result<(), Malformed> {
        let head = &mut self.heads[slot];
        for float in [&mut head.pivot].into_iter().chain(&mut head.sums).chain(&mut head.errors) {
            *float = f64::from_bits(words.next()?);
        }
        let word = words.next()?;
        (head.age, head.peak) = (word as u32, (word >> 32) as u16);
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
    pub(crate) fn take_time(&self, slot: usize, time: i64) -> i64 {
        let ring = self.heads[slot].ring;
        if ring.rows == 0 { time } else { time.max(self.times[ring.at(ring.rows - 1)]) }
    }

    fn expire(&mut self, slot: usize, from: i64) {
        while self.heads[slot].ring.rows > 0 && self.times[self.heads[slot].ring.at(0)] < from {
            self.drop_oldest(slot);
        }
    }

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
            if head.ring.rows == self.odds[slot].rows() {
                *head = Head { pivot: value, ring: head.ring, odd: head.odd, ..Head::default() };
            }
            head.add(value);
        } else {
            *self.odds[slot].of(value) += 1;
            head.odd = true;
        }
        head.ring.rows += 1;
        head.age += 1;
        if head.is_due(0) {
            self.refresh(slot);
            if self.heads[slot].ring.is_roomy() {
                self.resize(slot, self.heads[slot].ring.rows);
            }
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
        moments.count = f64::from(rows - odds.nulls);
        if odds.rows() > odds.nulls {
            let mean = match odds {
                Odds { nans: 0, negative: 0, .. } => f64::INFINITY,
                Odds { nans: 0, positive: 0, .. } => f64::NEG_INFINITY,
                _ => f64::NAN,
            };
            (moments.sum, moments.mean, moments.m2) = (mean, mean, f64::NAN);
        }
        moments
    }

    /// Computes the sums of a slot afresh from its values.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, slot: usize) {
        let finite = f64::from(self.heads[slot].ring.rows - self.odds[slot].rows());
        self.heads[slot].refresh(finite, &self.values);
    }
}

impl Head {
    #[inline(always)]
    pub fn add(&mut self, value: f64) {
        let distance = value - self.pivot;
        self.add_both([distance, distance * distance]);
        self.peak = self.peak.max(upper_bits(self.sums[1]));
    }

    #[inline(always)]
    pub fn subtract(&mut self, value: f64) {
        let distance = value - self.pivot;
        self.add_both([-distance, -(distance * distance)]);
    }

    #[inline(always)]
    fn add_both(&mut self, values: [f64; 2]) {
        let [(sum, sum_error), (squares, squares_error)] = [0, 1].map(|i| two_sum(self.sums[i], values[i]));
        self.sums = [sum, squares];
        self.errors = [self.errors[0] + sum_error, self.errors[1] + squares_error];
    }

    /// One row comes for one that goes.
    #[inline(always)]
    pub fn replace(&mut self, old: f64, new: f64) {
        self.subtract(old);
        self.add(new);
        self.ring.turn();
        self.age += 1;
    }

    /// Whether it is time for [`RollingMoments::refresh`], or will be after `rows` rows more.
    #[inline(always)]
    pub fn is_due(&self, rows: u32) -> bool {
        self.age + rows >= self.ring.rows.max(LEAST_AGE)
    }

    /// Moments of so many values, at least one, and whether the sums bear them.
    #[inline(always)]
    pub fn moments(&self, count: f64) -> (Moments, bool) {
        let (sum, squares) = (self.sums[0] + self.errors[0], self.sums[1] + self.errors[1]);
        let offset = sum / count;
        let m2 = squares - sum * offset;
        let sound = (m2 >= squares * CANCELLED) & (squares >= self.faded());
        (Moments { count, sum: self.pivot * count + sum, mean: self.pivot + offset, m2 }, sound)
    }

    #[inline(always)]
    fn faded(&self) -> f64 {
        f64::from_bits(u64::from(self.peak) << 48) * FADED
    }

    /// Whether the squares have become too small, or no numbers.
    fn is_faded(&self) -> bool {
        let squares = self.sums[1] + self.errors[1];
        squares.is_nan() || squares < self.faded() || self.faded().is_nan()
    }

    /// Sums around a new pivot. That is near the mean, and has few digits, so that sums of integers stay exact.
    #[inline(always)]
    fn refresh(&mut self, count: f64, slab: &[f64]) {
        let parts = self.ring.parts(slab);
        let (mut known, sound) = self.moments(count);
        self.age = 0;
        if count > 0.0 && !(sound && known.mean.is_finite()) {
            let share = 1.0 / count;
            let values = parts.iter().flat_map(|part| part.iter());
            self.pivot = values.fold(0.0, |mean, value| mean + if value.is_finite() { value * share } else { 0.0 });
            self.sum_up(parts);
            known = self.moments(count).0;
        }
        if known.mean.is_finite() {
            self.pivot = on_grid(known.mean, known.m2 / count);
        }
        self.sum_up(parts);
        self.peak = upper_bits(self.sums[1]);
    }

    /// Each row in the lane of its number from the oldest, wherever the ring is broken.
    #[inline(always)]
    fn sum_up(&mut self, [old, new]: [&[f64]; 2]) {
        let mut lanes = Lanes { pivot: self.pivot, sums: [[0.0; LANES]; 2], errors: [[0.0; LANES]; 2] };
        let broken = old.len() % LANES;
        let (joint, rest) = new.split_at(new.len().min((LANES - broken) % LANES));
        lanes.add(old);
        joint.iter().enumerate().for_each(|(lane, &value)| lanes.add_to(broken + lane, value));
        lanes.add(rest);
        (self.sums, self.errors) = ([0.0; 2], [0.0; 2]);
        for parts in [&lanes.sums, &lanes.errors] {
            (0..LANES).for_each(|lane| self.add_both([parts[0][lane], parts[1][lane]]));
        }
    }
}

const LANES: usize = 8;

/// The two sums of a head, and their rounding errors, of every eighth value.
struct Lanes {
    pivot: f64,
    sums: [[f64; LANES]; 2],
    errors: [[f64; LANES]; 2],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, values: &[f64]) {
        let mut chunks = values.chunks_exact(LANES);
        // Local, so that they stay in registers.
        let mut lanes = Self { ..*self };
        for chunk in &mut chunks {
            for (lane, &value) in chunk.iter().enumerate() {
                lanes.add_to(lane, value);
            }
        }
        *self = lanes;
        chunks.remainder().iter().enumerate().for_each(|(lane, &value)| self.add_to(lane, value));
    }

    #[inline(always)]
    fn add_to(&mut self, lane: usize, value: f64) {
        let distance = if value.abs() <= f64::MAX { value - self.pivot } else { 0.0 };
        for (i, value) in [distance, distance * distance].into_iter().enumerate() {
            let (sum, error) = two_sum(self.sums[i][lane], value);
            self.sums[i][lane] = sum;
            self.errors[i][lane] += error;
        }
    }
}

/// The mean rounded to an eighth of the deviation or less.
fn on_grid(mean: f64, variance: f64) -> f64 {
    let exponent = (variance.to_bits() >> 52) as i64 - 1023;
    let step = exponent.div_euclid(2) - 2;
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    let steps = mean * power(-step.clamp(-1000, 1000));
    // Of a variance of 0 or NaN, and of a mean that would have to keep all of its digits, there is nothing to round.
    let rounds = variance >= f64::MIN_POSITIVE && variance < f64::INFINITY && steps.abs() < power(50);
    if rounds { steps.round() * power(step.clamp(-1000, 1000)) } else { mean }
}

/// Exponent and first digits of a magnitude; its bits in order, so that those of NaN are the largest.
#[inline(always)]
fn upper_bits(value: f64) -> u16 {
    (value.abs().to_bits() >> 48) as u16
}

impl Odds {
    /// The number that a row of this value, which is not finite, is counted in.
    fn of(&mut self, value: f64) -> &mut u32 {
        match value {
            _ if is_null(value) => &mut self.nulls,
            _ if value.is_nan() => &mut self.nans,
            _ if value > 0.0 => &mut self.positive,
            _ => &mut self.negative,
        }
    }

    fn rows(&self) -> u32 {
        self.nulls + self.nans + self.positive + self.negative
    }
}

/// A value as a ring holds it.
#[inline(always)]
pub(crate) fn stored(value: f64, valid: bool) -> f64 {
    let bits = if value.is_nan() { NAN_BITS } else { value.to_bits() };
    f64::from_bits(if valid { bits } else { NULL_BITS })
}

#[inline(always)]
pub(crate) fn is_null(stored: f64) -> bool {
    stored.to_bits() == NULL_BITS
}
