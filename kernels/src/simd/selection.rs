//! Selections, a word of 64 rows at a time: whole words are copied or passed over, sparse ones walked bit by bit, and of the
//! others every row is written and kept if its bit is set, which no branch has to foresee. Of numbers of rows, eight are written at
//! once, those whose bits are set first: where they lie, a table tells for each byte.

use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::bits::Bits;

/// Rows of a word.
const WORD: usize = 64;

/// Up to so many selected rows, a word is walked from bit to bit.
const SPARSE: u32 = 12;

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
const SET: [[u8; 8]; 256] = {
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
    fn run<V: Vector>(self, _: V) {
        for (word, values) in self.values.chunks(WORD).enumerate() {
            append(self.selection.word(word * WORD), values, self.selected);
        }
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
    fn run<V: Vector>(self, _: V) {
        let Self { values, selection, others, selected } = self;
        others.reserve(values.len());
        selected.reserve(values.len());
        let (mut other, mut next) = (others.len(), selected.len());
        let (others_start, selected_start) = (others.as_mut_ptr(), selected.as_mut_ptr());
        for (word, values) in values.chunks(WORD).enumerate() {
            let word = selection.word(word * WORD);
            for (row, &value) in values.iter().enumerate() {
                let bit = (word >> row & 1) as usize;
                // SAFETY: there is room for all values after those that were there, and each written here is one of them: where
                // neither end has moved past it, it is written over.
                unsafe {
                    others_start.add(other).write(value);
                    selected_start.add(next).write(value);
                }
                other += 1 - bit;
                next += bit;
            }
        }
        // SAFETY: so many were written.
        unsafe {
            others.set_len(other);
            selected.set_len(next);
        }
    }
}

/// Appends the values, at most 64, whose bits are set in `word`; there are no bits beyond the values.
#[inline(always)]
fn append<T: Copy>(word: u64, values: &[T], selected: &mut Vec<T>) {
    let count = word.count_ones();
    if count as usize == values.len() {
        selected.extend_from_slice(values);
    } else if count <= SPARSE {
        let mut word = word;
        while word != 0 {
            selected.push(values[word.trailing_zeros() as usize]);
            word &= word - 1;
        }
    } else {
        // Never the first value of none: there are more than SPARSE.
        let mut kept = [values[0]; WORD];
        let mut next = 0;
        for (row, &value) in values.iter().enumerate() {
            kept[next % WORD] = value;
            next += (word >> row & 1) as usize;
        }
        selected.extend_from_slice(&kept[..count as usize]);
    }
}
