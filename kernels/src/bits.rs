//! Validity: which rows of a column are not null.

/// An Arrow validity bitmap: least significant bit first, 1 = valid.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    /// The bitmap, at least `offset + len` bits of it.
    pub bytes: &'a [u8],
    /// Bits before the first row.
    pub offset: usize,
    /// Rows.
    pub len: usize,
}

impl<'a> Bits<'a> {
    /// Whether row `row` is valid.
    ///
    /// # Panics
    /// If the bitmap has no such bit.
    #[inline]
    pub fn get(&self, row: usize) -> bool {
        let bit = self.offset + row;
        self.bytes[bit / 8] >> (bit % 8) & 1 == 1
    }

    /// Validity of the 64 rows from `row` on, `row` in the lowest bit; bits past `len` are 0.
    #[inline]
    pub(crate) fn word(&self, row: usize) -> u64 {
        let (byte, shift) = ((self.offset + row) / 8, (self.offset + row) % 8);
        let tail = self.bytes.get(byte..).unwrap_or_default();
        let word = if let (Some(low), Some(&high)) = (tail.first_chunk::<8>(), tail.get(8)) {
            (u64::from_le_bytes(*low) >> shift) | (u64::from(high) << 1 << (63 - shift))
        } else {
            let mut padded = [0u8; 16];
            let held = tail.len().min(16);
            padded[..held].copy_from_slice(&tail[..held]);
            (u128::from_le_bytes(padded) >> shift) as u64
        };
        match self.len.saturating_sub(row) {
            rows @ 0..64 => word & !(u64::MAX << rows),
            _ => word,
        }
    }

    /// Panics unless the bitmap is one of `rows` rows and holds them all.
    pub(crate) fn check(this: Option<Self>, rows: usize) {
        if let Some(bits) = this {
            assert!(bits.len == rows, "validity of {} rows given for a column of {rows}", bits.len);
            let held = bits.bytes.len() * 8;
            assert!(held >= bits.offset + rows, "validity bitmap holds {held} bits, {} are needed", bits.offset + rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn words_agree_with_single_bits_at_every_offset_and_length() {
        let bytes: Vec<u8> = (0..40u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        for offset in 0..19 {
            for len in [0, 1, 7, 63, 64, 65, 127, 128, 200, 40 * 8 - offset] {
                let bits = Bits { bytes: &bytes, offset, len };
                for row in 0..len {
                    let expected = (row..len.min(row + 64)).fold(0, |word, r| word | u64::from(bits.get(r)) << (r - row));
                    assert_eq!(bits.word(row), expected, "offset {offset}, len {len}, row {row}");
                }
                assert_eq!(bits.word(len), 0);
            }
        }
    }
}
