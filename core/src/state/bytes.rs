//! How the state of one key is written as bytes and read back.

use crate::error::{Error, Result};

/// Appends numbers and byte strings, little-endian.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends a number.
    pub fn word(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    /// Appends numbers; how many is for the reader to know.
    pub fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|&word| self.word(word));
    }

    /// Appends a number as its bits.
    pub fn float(&mut self, value: f64) {
        self.word(value.to_bits());
    }

    /// Appends a byte string with its length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends numbers as their bits, with how many there are.
    pub fn floats(&mut self, values: &[f64]) {
        self.word(values.len() as u64);
        values.iter().for_each(|&value| self.float(value));
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// Reads what a [`Writer`] wrote, in the same order.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    fn part(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.bytes.len());
        let length = length.ok_or_else(|| damaged("the state of a key is cut short"))?;
        let (part, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        Ok(part)
    }

    /// The next number.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there is none.
    pub fn word(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        word.copy_from_slice(self.part(8)?);
        Ok(u64::from_le_bytes(word))
    }

    /// The next numbers.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there are fewer.
    pub fn words<const N: usize>(&mut self) -> Result<[u64; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.word()?;
        }
        Ok(words)
    }

    /// The next number, of bits that were those of a float.
    ///
    /// # Errors
    /// As [`Reader::word`].
    pub fn float(&mut self) -> Result<f64> {
        self.word().map(f64::from_bits)
    }

    /// The next byte string.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is cut short.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.word()?;
        self.part(length)
    }

    /// The next numbers, of bits that were those of floats.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there are fewer than it says.
    pub fn floats(&mut self) -> Result<Vec<f64>> {
        let count = self.count(size_of::<f64>())?;
        (0..count).map(|_| self.float()).collect()
    }

    /// How many things follow, each of which takes at least `least` bytes: so a wild number asks for no wild amount of memory.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if so many do not fit.
    pub fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.word()?;
        let most = self.bytes.len() / least.max(1);
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| damaged("the state of a key is cut short"))
    }

    /// Checks that all was read.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if something is left.
    pub fn end(&self) -> Result<()> {
        match self.bytes.is_empty() {
            true => Ok(()),
            false => Err(damaged("the state of a key is longer than it should be")),
        }
    }
}

/// A snapshot that cannot be read.
pub(crate) fn damaged(what: &str) -> Error {
    Error::state(format!("the snapshot cannot be read: {what}; it is damaged or of another version of the library, restore an older one"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_to_the_end() {
        let mut writer = Writer::default();
        writer.word(7);
        writer.words(&[1, u64::MAX]);
        writer.float(-0.0);
        writer.floats(&[1.5, 2.5]);
        writer.bytes(b"abc");
        let bytes = writer.take();
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let all = (reader.word()?, reader.words::<2>()?, reader.float()?.to_bits(), reader.floats()?, reader.bytes()?.to_vec());
            reader.end()?;
            Ok::<_, Error>(all)
        };
        assert_eq!(read(&bytes).unwrap(), (7, [1, u64::MAX], (-0.0_f64).to_bits(), vec![1.5, 2.5], b"abc".to_vec()));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).unwrap_err().to_string().contains("cut short"), "{cut}");
        }
        assert!(read(&[&bytes[..], b"x"].concat()).unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn a_wild_length_asks_for_no_memory() {
        let mut writer = Writer::default();
        writer.word(u64::MAX / 2);
        let bytes = writer.take();
        assert!(Reader::new(&bytes).bytes().is_err());
        assert!(Reader::new(&bytes).count(8).is_err());
        assert!(Reader::new(&bytes).floats().is_err());
    }
}
