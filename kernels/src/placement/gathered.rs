//! Rows of several batches in one: what waits for an upload, and what a second computation would need.

use crate::{Backend, Bits, Cell, Value, Want};

/// Slots and values, and their validity once any row may be null. Cleared, it keeps its memory.
#[derive(Debug)]
pub(crate) struct Gathered<T> {
    slots: Vec<u32>,
    values: Vec<T>,
    /// One bit a row, or none for all rows.
    bitmap: Vec<u8>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), values: Vec::new(), bitmap: Vec::new() }
    }
}

impl<T: Value> Gathered<T> {
    pub(crate) fn rows(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots
    }

    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }

    pub(crate) fn validity(&self) -> Option<Bits<'_>> {
        (!self.bitmap.is_empty()).then(|| Bits { bytes: &self.bitmap, offset: 0, len: self.rows() })
    }

    /// Adds the rows of a batch.
    pub(crate) fn append(&mut self, slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
        let rows = self.rows();
        if validity.is_some() && self.bitmap.is_empty() {
            push_bits(&mut self.bitmap, 0, rows, |_| u64::MAX);
        }
        if validity.is_some() || !self.bitmap.is_empty() {
            push_bits(&mut self.bitmap, rows, slots.len(), |row| validity.map_or(u64::MAX, |bits| bits.word(row)));
        }
        self.slots.extend_from_slice(slots);
        self.values.extend_from_slice(values);
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>() + self.values.capacity() * size_of::<T>() + self.bitmap.capacity()
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.values.clear();
        self.bitmap.clear();
    }

    /// Takes the rows into cells, on the CPU.
    pub(crate) fn accumulate(&self, backend: Backend, cells: &mut [Cell], want: Want) {
        backend.accumulate(cells, &self.slots, &self.values, self.validity(), want);
    }
}

/// Appends `rows` bits after the first `at`: `word(row)` are those of 64 rows from `row` on.
fn push_bits(bitmap: &mut Vec<u8>, at: usize, rows: usize, word: impl Fn(usize) -> u64) {
    bitmap.resize((at + rows).div_ceil(8), 0);
    for row in (0..rows).step_by(64) {
        let held = (rows - row).min(64);
        let bits = u128::from(word(row) & u64::MAX >> (64 - held)) << ((at + row) % 8);
        let bytes = &mut bitmap[(at + row) / 8..];
        bytes.iter_mut().zip(bits.to_le_bytes()).for_each(|(byte, more)| *byte |= more);
    }
}

#[cfg(test)]
mod tests {
    use super::Gathered;
    use crate::testing::seeds;
    use crate::{Backend, Cell, Want, scalar};

    /// Batches with and without nulls, of every length and offset, gathered three at a time.
    #[test]
    fn gathered_batches_are_their_rows() {
        let mut gathered = Gathered::default();
        let cases: Vec<_> = seeds().filter(|case| case.groups == 9).collect();
        for step in [1, 5] {
            for cases in cases.chunks(3 * step) {
                gathered.clear();
                let mut expected = [Cell::EMPTY; 9];
                let mut valid = Vec::new();
                for case in cases.iter().step_by(step) {
                    gathered.append(&case.slots, &case.ints, case.validity());
                    scalar::aggregate::accumulate(&mut expected, &case.slots, &case.ints, case.validity(), Want::ALL);
                    valid.extend((0..case.slots.len()).map(|row| case.valid(row)));
                }
                let mut cells = [Cell::EMPTY; 9];
                gathered.accumulate(Backend::Scalar, &mut cells, Want::ALL);
                assert_eq!((gathered.rows(), cells), (valid.len(), expected));
                let bits = gathered.validity();
                assert!(valid.iter().enumerate().all(|(row, valid)| bits.is_none_or(|bits| bits.get(row)) == *valid));
            }
        }
    }
}
