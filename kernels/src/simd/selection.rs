//! Selections, a word of 64 rows at a time. Of each eight rows, eight are written at once, those whose bits are set first; the next
//! eight begin where these end. Where they lie, a table tells for each byte, or an instruction that closes up lanes. Of
//! numbers of rows, whole words are written as they are and sparse ones walked bit by bit.

use std::ops::RangeInclusive;

use super::vector::{Vector, close_up};
use super::{Kernel, Level, launch};
use crate::bits::Bits;
use crate::scalar;

/// Rows of a word.
const WORD: usize = 64;

/// Up to so many selected rows, a word is walked from bit to bit.
const SPARSE: u32 = 12;

pub(crate) fn select_range<T: Copy + PartialOrd>(level: Level, values: &[T], range: RangeInclusive<T>, selection: &mut Vec<u8>) {
    launch(level, InRange { values, range, selection });
}

pub(crate) fn selected_rows(level: Level, selection: Bits<'_>, rows: &mut Vec<u32>) {
    launch(level, Rows { selection, rows });
}

pub(crate) fn compact<T: Copy>(level: Level, values: &[T], selection: Bits<'_>, selected: &mut Vec<T>) {
    launch(level, Compact { values, selection, selected });
}

pub(crate) fn split<T: Copy>(level: Level, values: &[T], selection: Bits<'_>, others: &mut Vec<T>, selected: &mut Vec<T>) {
    launch(level, Split { values, selection, others, selected });
}

/// Appends the named rows; there is no row beyond the values.
pub(crate) fn gather<T: Copy>(level: Level, values: &[T], rows: &[u32], gathered: &mut Vec<T>) {
    launch(level, Gather { values, rows, gathered });
}

/// For each byte, the numbers of the bits that are set in it, ascending.
pub(super) const SET: [[u8; 8]; 256] = {
    let mut set = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut next) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                set[byte][next] = bit as u8;
                next += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    set
};

struct InRange<'a, T> {
    values: &'a [T],
    range: RangeInclusive<T>,
    selection: &'a mut Vec<u8>,
}

impl<T: Copy + PartialOrd> Kernel for InRange<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let (first, last) = (*self.range.start(), *self.range.end());
        let (words, rest) = self.values.as_chunks::<WORD>();
        self.selection.reserve(self.values.len().div_ceil(8));
        for values in words {
            let mut selected = [0; WORD];
            for (selected, &value) in selected.iter_mut().zip(values) {
                *selected = u8::from(first <= value) & u8::from(value <= last);
            }
            let (bytes, _) = selected.as_chunks::<8>();
            let mut packed = [0; 8];
            for (packed, bytes) in packed.iter_mut().zip(bytes) {
                // One bit of each byte to its place in the highest byte; all others go to places of their own, or over the top.
                *packed = (u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
            }
            self.selection.extend_from_slice(&packed);
        }
        scalar::selection::select_range(rest, self.range, self.selection);
    }
}

struct Rows<'a> {
    selection: Bits<'a>,
    rows: &'a mut Vec<u32>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        for start in (0..self.selection.len).step_by(WORD) {
            let (word, first) = (self.selection.word(start), start as u32);
            match word.count_ones() {
                64 => self.rows.extend(first..first + WORD as u32),
                ..=SPARSE => {
                    let mut word = word;
                    while word != 0 {
                        self.rows.push(first + word.trailing_zeros());
                        word &= word - 1;
                    }
                }
                count => {
                    // Each byte writes eight, of which the next byte overwrites those that are none.
                    let (mut rows, mut next) = ([0; WORD + 8], 0);
                    for (place, byte) in (0..).zip(word.to_le_bytes()) {
                        let numbers = SET[byte as usize].map(|bit| first + 8 * place + u32::from(bit));
                        rows[next..next + 8].copy_from_slice(&numbers);
                        next += byte.count_ones() as usize;
                    }
                    self.rows.extend_from_slice(&rows[..count as usize]);
                }
            }
        }
    }
}

struct Gather<'a, T> {
    values: &'a [T],
    rows: &'a [u32],
    gathered: &'a mut Vec<T>,
}

impl<T: Copy> Kernel for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { values, rows, gathered } = self;
        // Of all at once: half of the time would go to asking for each.
        let most = rows.iter().fold(0, |most, &row| most.max(row)) as usize;
        assert!(rows.is_empty() || most < values.len(), "row {most} of a column of {} rows", values.len());
        gathered.reserve(rows.len());
        let end = gathered.len();
        let start = gathered.as_mut_ptr().wrapping_add(end);
        for (place, &row) in rows.iter().enumerate() {
            // SAFETY: there is room for as many values as rows behind those that were there, and no row is beyond `most`.
            unsafe { start.add(place).write(*values.get_unchecked(row as usize)) };
        }
        // SAFETY: so many were there and were written.
        unsafe { gathered.set_len(end + rows.len()) };
    }
}

struct Compact<'a, T> {
    values: &'a [T],
    selection: Bits<'a>,
    selected: &'a mut Vec<T>,
}

impl<T: Copy> Kernel for Compact<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { values, selection, selected } = self;
        let words = || (0..values.len()).step_by(WORD).map(|row| selection.word(row));
        let count: usize = words().map(|word| word.count_ones() as usize).sum();
        selected.reserve(count + 8);
        let mut next = selected.len();
        let start = selected.as_mut_ptr();
        for (word, values) in words().zip(values.chunks(WORD)).filter(|(word, _)| *word != 0) {
            // SAFETY: there is room for as many as are selected and eight more.
            next += unsafe { select(v, values, word, start.add(next)) };
        }
        // SAFETY: so many were written.
        unsafe { selected.set_len(next) };
    }
}

struct Split<'a, T> {
    values: &'a [T],
    selection: Bits<'a>,
    others: &'a mut Vec<T>,
    selected: &'a mut Vec<T>,
}

impl<T: Copy> Kernel for Split<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { values, selection, others, selected } = self;
        others.reserve(values.len() + 8);
        selected.reserve(values.len() + 8);
        let (mut other, mut next) = (others.len(), selected.len());
        let (others_start, selected_start) = (others.as_mut_ptr(), selected.as_mut_ptr());
        for (number, values) in values.chunks(WORD).enumerate() {
            let word = selection.word(number * WORD);
            let rest = !word & u64::MAX >> (WORD - values.len());
            // SAFETY: there is room for all values and eight more behind those that were there.
            unsafe {
                other += select(v, values, rest, others_start.add(other));
                next += select(v, values, word, selected_start.add(next));
            }
        }
        // SAFETY: so many were written.
        unsafe {
            others.set_len(other);
            selected.set_len(next);
        }
    }
}

/// Writes the values, at most 64, whose bits are set in `word`, side by side, and how many; there are no bits beyond the values.
///
/// # Safety
/// There is room for as many values as are selected and eight more.
#[inline(always)]
unsafe fn select<V: Vector, T: Copy>(v: V, values: &[T], word: u64, to: *mut T) -> usize {
    let (mut next, (eights, rest)) = (0, values.as_chunks::<8>());
    for (eight, bits) in eights.iter().zip(word.to_le_bytes()) {
        let (from, to) = (eight.as_ptr(), to.wrapping_add(next));
        // SAFETY: eight are there, and so is the room by the caller's promise; values move as they are, whatever they mean.
        unsafe {
            match size_of::<T>() {
                4 => v.close_up_u32(from.cast(), bits, to.cast()),
                8 => v.close_up_u64(from.cast(), bits, to.cast()),
                _ => close_up(from, bits, to),
            }
        }
        next += bits.count_ones() as usize;
    }
    for (row, value) in (WORD.min(values.len()) - rest.len()..).zip(rest) {
        // SAFETY: the caller's promise.
        unsafe { to.add(next).write(*value) };
        next += (word >> row & 1) as usize;
    }
    next
}
