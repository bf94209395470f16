//! Counts, means and second moments: of integers, which a key's values are made, so that sums of squares lose nothing.

use std::ops::Range;

use super::{Call, Engine, Error, Series, Shader, Words, by_key, keys};
#[cfg(doc)]
use crate::gpu::Fault;
use crate::rolling::answers::{BLOCK, Buffer, MomentColumns, Moments};
use crate::rolling::sums::{Odds, stored};
use crate::rolling::{RollingMoments, RollingRows};
use crate::scalar::rolling::moments::moments_of;

/// A value is an integer of 96 bits; an answer is a sum of 128 bits, and a float.
pub(super) const WORDS: Words = Words { leaf: 3, node: 11, answer: 6 };

/// Bits of an integer, its sign apart.
const BITS: i32 = 95;

/// Where digits were cut off: the least deviation, in units, and the least magnitude of a mean, or a larger deviation in its place, for
/// what was cut off to be less than the errors that are stated: 1e-11 of a second moment, 1e-12 of a mean of magnitudes.
const LEAST_DEVIATION: f64 = (1u64 << 40) as f64;
const LEAST_MEAN: f64 = (1u64 << 42) as f64;
const LEAST_DEVIATION_ALONE: f64 = (1u64 << 62) as f64;

impl Engine {
    /// Twin of [`crate::rolling_moments`]: takes rows into their keys' windows, and answers for each row what its window holds.
    ///
    /// Errors are those of [`crate::rolling`], and so no wider than the processor's. Values of a key become integers of 96 bits in a unit
    /// that the largest of them sets, whose sums and sums of squares are exact on every device. Where a value loses digits to that unit,
    /// windows whose deviation is 2^55 times smaller than the largest value, or 2^33 times if their mean is near 0, are computed on the
    /// host. Windows may have been another backend's and can go on there; answers are not the same bits as another backend's, nor as those
    /// of other batches.
    ///
    /// Up go 24 bytes a row, and 12 for each row that a key's window held before the call: batches of many rows a key are what this is
    /// for. 24 bytes a row come back. A row costs about 16 additions of 352 bits for each power of 16 in the length of its window.
    ///
    /// # Panics
    /// As [`crate::rolling_moments`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the window of one row is more than an upload takes, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The windows are then as they were, answers are of no meaning: [`crate::rolling_moments`] can
    /// take the rows.
    pub fn rolling_moments(
        &self,
        windows: &mut RollingMoments,
        rows: &RollingRows<'_>,
        answers: &mut MomentColumns<'_>,
    ) -> Result<(), Error> {
        windows.check(rows, answers);
        let sorted = by_key(rows.slots);
        let mut call = Call::new(&self.shared, Shader::RollingMoments, WORDS)?;
        let mut asked = Vec::with_capacity(sorted.len());
        let mut pieces = Vec::new();
        for (slot, new) in keys(&sorted, rows.slots) {
            let ring = windows.heads[slot].ring;
            let series = Series::new(windows.extent, &ring, &windows.times, new, rows);
            let held = (0..ring.rows).map(|row| windows.values[ring.at(row)]);
            let own = new.iter().map(|row| stored(rows.values[*row as usize], rows.is_valid(*row as usize)));
            let values: Vec<f64> = held.chain(own).collect();
            let tally = Tally::of(&values);
            let spans = series.spans(windows.extent, windows.frame);
            let finite = |span: &Range<usize>| span.len() as u32 - tally.within(span).rows();
            call.take(&spans, finite, |leaves, served, words| {
                let (begin, piece) = (leaves.start, pieces.len());
                let ask = |span: &Range<usize>| Asked { piece, span: span.start - begin..span.end - begin, odds: tally.within(span) };
                asked.extend(spans[served].iter().map(ask));
                pieces.push(Piece::packed(&values[leaves], words));
            })?;
        }
        let found = call.finish()?;
        let mut moments = vec![Moments::NONE; sorted.len()];
        for ((words, row), asked) in found.chunks_exact(WORDS.answer).zip(&sorted).zip(&asked) {
            moments[*row as usize] = pieces[asked.piece].moments(words, asked);
        }
        write(&moments, rows, answers);
        for (slot, new) in keys(&sorted, rows.slots) {
            windows.absorb(slot, new, rows);
        }
        Ok(())
    }
}

fn write(moments: &[Moments], rows: &RollingRows<'_>, answers: &mut MomentColumns<'_>) {
    let mut buffer = Buffer::NEW;
    for (block, moments) in moments.chunks(BLOCK).enumerate() {
        let start = block * BLOCK;
        for (row, moments) in moments.iter().enumerate() {
            buffer.values[row] = stored(rows.values[start + row], rows.is_valid(start + row));
            buffer.put(row, *moments);
        }
        answers.write(start, moments.len(), &mut buffer);
    }
}

/// One row's window.
struct Asked {
    piece: usize,
    /// In the piece.
    span: Range<usize>,
    odds: Odds,
}

/// How many values that are not finite come before each of a key's rows; nothing if there are none.
struct Tally(Vec<Odds>);

impl Tally {
    fn of(values: &[f64]) -> Self {
        if values.iter().all(|value| value.is_finite()) {
            return Self(Vec::new());
        }
        let (mut odds, mut before) = (Odds::default(), vec![Odds::default()]);
        for value in values {
            if !value.is_finite() {
                *odds.of(*value) += 1;
            }
            before.push(odds);
        }
        Self(before)
    }

    fn within(&self, span: &Range<usize>) -> Odds {
        if self.0.is_empty() { Odds::default() } else { self.0[span.end].less(self.0[span.start]) }
    }
}

/// Some of a key's rows, in a unit of their own.
struct Piece {
    /// The power of two that is the unit.
    unit: i32,
    /// The values, where some have lost digits.
    cut: Vec<f64>,
}

impl Piece {
    /// Appends the integers of these values; 0 of those that are not finite.
    fn packed(values: &[f64], words: &mut Vec<u32>) -> Self {
        let finite = values.iter().filter(|value| value.is_finite());
        let largest = finite.fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let unit = parts(largest).1 + 53 - BITS;
        let mut exact = true;
        for value in values {
            let (significand, exponent) = if value.is_finite() { parts(*value) } else { (0, unit) };
            let shift = exponent - unit;
            let integer = match shift {
                0.. => significand << shift.min(BITS),
                // Towards 0, so that 0 is what is left.
                -63..0 => (significand.abs() >> -shift) * significand.signum(),
                _ => 0,
            };
            exact &= if shift < 0 { significand.trailing_zeros() as i32 >= -shift || significand == 0 } else { true };
            words.extend(to_words(integer));
        }
        Self { unit, cut: if exact { Vec::new() } else { values.to_vec() } }
    }

    fn moments(&self, words: &[u32], asked: &Asked) -> Moments {
        let rows = asked.span.len() as u32;
        let finite = f64::from(rows - asked.odds.rows());
        let mut moments = Moments::NONE;
        if finite > 0.0 {
            let (sum, spread) = (sum_of(words) as f64, f64::from_bits(u64::from(words[5]) << 32 | u64::from(words[4])));
            moments = if self.bears(sum / finite, spread.sqrt() / finite) {
                let m2 = scaled(scaled(spread / finite, self.unit), self.unit);
                Moments { count: finite, sum: scaled(sum, self.unit), mean: scaled(sum / finite, self.unit), m2 }
            } else {
                let values = self.cut[asked.span.clone()].iter().copied();
                moments_of(&values.filter(|value| value.is_finite()).collect::<Vec<f64>>())
            };
            moments.m2 = if moments.m2.is_finite() { moments.m2 } else { f64::INFINITY };
        }
        if asked.odds.rows() > 0 {
            asked.odds.bend(&mut moments, rows);
        }
        moments
    }

    /// Whether what was cut off is nothing beside a mean and a deviation, in units.
    fn bears(&self, mean: f64, deviation: f64) -> bool {
        let is_far = mean.abs() >= LEAST_MEAN || deviation >= LEAST_DEVIATION_ALONE;
        self.cut.is_empty() || (deviation >= LEAST_DEVIATION && is_far)
    }
}

/// A finite float as an integer of up to 53 bits times a power of two.
fn parts(value: f64) -> (i128, i32) {
    let bits = value.to_bits();
    let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, i128::from(bits & ((1 << 52) - 1)));
    let significand = if field == 0 { fraction } else { fraction | 1 << 52 };
    (if value.is_sign_negative() { -significand } else { significand }, field.max(1) - 1075)
}

/// An integer of up to 95 bits, in two's complement.
pub(super) fn to_words(integer: i128) -> [u32; 3] {
    [integer as u32, (integer >> 32) as u32, (integer >> 64) as u32]
}

/// The sum in an answer.
pub(super) fn sum_of(words: &[u32]) -> i128 {
    let words = [words[0], words[1], words[2], words[3]];
    (0..4).fold(0u128, |sum, word| sum | u128::from(words[word]) << (32 * word)) as i128
}

/// A float times a power of two, rounded once where it is a number of full precision.
fn scaled(value: f64, exponent: i32) -> f64 {
    let (first, second) = (exponent / 2, exponent - exponent / 2);
    value * 2f64.powi(first) * 2f64.powi(second)
}
