//! Keys of several columns of integers (and of what Arrow stores as such), packed side by side into a few words.
//!
//! Where each column lies follows from the schema alone, with a bit for the nulls of each column that may have some. So a key has
//! one form, whichever rows it comes with.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, UInt32Array, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, FieldRef};
use thalweg_kernels::{self as kernels, Bits, WordsDictionary, gather};

use super::{Slots, integer_width};
use crate::error::{Error, Result};
use crate::state::row_groups;

/// Keys whose groups are found at once, so that their bytes stay in the L1 cache.
const CHUNK: usize = 1_024;

/// Runs what depends on the words of a key for keys of `$width` words, which are `$N` of them there.
macro_rules! by_width {
    ($width:expr, $N:ident => $run:expr) => {
        match $width {
            1 => {
                const $N: usize = 1;
                $run
            }
            2 => {
                const $N: usize = 2;
                $run
            }
            3 => {
                const $N: usize = 3;
                $run
            }
            _ => {
                const $N: usize = WordsDictionary::WIDEST;
                $run
            }
        }
    };
}

/// Which bits of a key the columns have.
#[derive(Debug)]
pub(super) struct Packing {
    places: Vec<Place>,
    /// Words of a key.
    width: usize,
}

/// The bits of a column. No value lies in two words.
#[derive(Debug)]
struct Place {
    field: FieldRef,
    /// How many bits a value has, in which word, from which bit on.
    bits: u32,
    word: usize,
    shift: u32,
    /// Word and bit that tell a null, whose value is 0, if there may be any.
    null: Option<(usize, u32)>,
}

impl Packing {
    /// How keys of these columns are packed, if all are integers and few enough.
    pub fn of(fields: &[FieldRef]) -> Option<Packing> {
        let bits = |field: &FieldRef| Some(integer_width(field.data_type())?.max(1) as u32 * 8);
        let mut places = fields
            .iter()
            .map(|field| Some(Place { field: FieldRef::clone(field), bits: bits(field)?, word: 0, shift: 0, null: None }))
            .collect::<Option<Vec<_>>>()?;
        let mut end = 0;
        let mut take = |bits: u32| {
            let start = end;
            end += bits;
            ((start / u64::BITS) as usize, start % u64::BITS)
        };
        // Wide ones first: each begins at a multiple of its bits then, and ends in the same word.
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&place| std::cmp::Reverse(places[place].bits));
        for place in order {
            (places[place].word, places[place].shift) = take(places[place].bits);
        }
        for place in places.iter_mut().filter(|place| place.field.is_nullable()) {
            place.null = Some(take(1));
        }
        let width = end.div_ceil(u64::BITS) as usize;
        (1..=WordsDictionary::WIDEST).contains(&width).then_some(Packing { places, width })
    }

    /// Words of a key.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The keys of rows whose columns these are.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column has nulls that its field rules out.
    pub fn pack(self: &Arc<Packing>, columns: &[ArrayRef], rows: usize) -> Result<Packed> {
        let mut words = vec![0; rows * self.width];
        for (place, column) in self.places.iter().zip(columns) {
            by_width!(self.width, N => place.pack(column, words.as_chunks_mut::<N>().0))?;
        }
        Ok(Packed { words: words.into(), packing: Arc::clone(self) })
    }

    /// The columns of those of the keys `words` that are in `slots`, one row each.
    ///
    /// # Errors
    /// If Arrow finds a column invalid, which would be a defect.
    pub fn unpack(&self, words: &[u64], slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        by_width!(self.width, N => self.places.iter().map(|place| place.unpack(words.as_chunks::<N>().0, slots)).collect())
    }

    /// Replaces `groups` by the key group of each key: that of its bytes in Arrow's row format, which may never change.
    fn groups(&self, words: &[u64], groups: &mut Vec<u8>) {
        groups.clear();
        let row: usize = self.places.iter().map(Place::row_bytes).sum();
        let rows = CHUNK.min(words.len() / self.width);
        let offsets: Vec<i32> = (0..=rows).map(|end| (end * row) as i32).collect();
        let mut data = vec![0; rows * row];
        for words in words.chunks(CHUNK * self.width) {
            let rows = words.len() / self.width;
            let mut start = 0;
            for place in &self.places {
                place.write(words.chunks_exact(self.width), data.chunks_exact_mut(row).map(|bytes| &mut bytes[start..]));
                start += place.row_bytes();
            }
            row_groups(&offsets[..=rows], &data[..rows * row], groups);
        }
    }
}

impl Place {
    /// Puts the values of a column into keys, whose bits for it are 0.
    fn pack<const N: usize>(&self, column: &ArrayRef, keys: &mut [[u64; N]]) -> Result<()> {
        match integer_width(self.field.data_type()) {
            Some(1) => self.put(keys, stored::<u8>(column).iter().map(|&value| u64::from(value))),
            Some(2) => self.put(keys, stored::<u16>(column).iter().map(|&value| u64::from(value))),
            Some(4) => self.put(keys, stored::<u32>(column).iter().map(|&value| u64::from(value))),
            Some(8) => self.put(keys, stored::<u64>(column).iter().copied()),
            _ => self.put(keys, column.as_boolean().values().iter().map(u64::from)),
        }
        match (column.nulls().filter(|nulls| nulls.null_count() > 0), self.null) {
            (None, _) => Ok(()),
            (Some(nulls), Some(null)) => {
                self.put_nulls(keys, nulls, null);
                Ok(())
            }
            (Some(_), None) => Err(Error::schema(format!(
                "the key column `{}` has nulls, but its schema says that it has none; declare the column nullable",
                self.field.name()
            ))),
        }
    }

    fn put<const N: usize>(&self, keys: &mut [[u64; N]], values: impl Iterator<Item = u64>) {
        let (word, shift) = (self.word, self.shift);
        assert!(word < N);
        keys.iter_mut().zip(values).for_each(|(key, value)| key[word] |= value << shift);
    }

    /// What a null hides may be any value.
    fn put_nulls<const N: usize>(&self, keys: &mut [[u64; N]], nulls: &NullBuffer, (word, bit): (usize, u32)) {
        let others = !(u64::MAX >> (u64::BITS - self.bits) << self.shift);
        for (key, _) in keys.iter_mut().zip(nulls).filter(|(_, valid)| !valid) {
            key[self.word] &= others;
            key[word] |= 1 << bit;
        }
    }

    /// The column of the keys in `slots`.
    fn unpack<const N: usize>(&self, keys: &[[u64; N]], slots: &Slots<'_>) -> Result<ArrayRef> {
        let nulls = self.null.and_then(|(word, bit)| {
            let is_valid = |key: &[u64; N]| key[word] >> bit & 1 == 0;
            let all_valid = keys.len() <= slots.len() && keys.iter().all(is_valid);
            (!all_valid).then(|| NullBuffer::from(slots.map(|slot| is_valid(&keys[slot as usize]))))
        });
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        let buffer = match integer_width(self.field.data_type()) {
            Some(1) => Buffer::from_vec(self.values(keys, slots, |value| value as u8)),
            Some(2) => Buffer::from_vec(self.values(keys, slots, |value| value as u16)),
            Some(4) => Buffer::from_vec(self.values(keys, slots, |value| value as u32)),
            Some(8) => Buffer::from_vec(self.values(keys, slots, |value| value)),
            _ => {
                let values = BooleanBuffer::from(self.values(keys, slots, |value| value & 1 != 0));
                return Ok(Arc::new(BooleanArray::new(values, nulls)));
            }
        };
        let data = ArrayData::builder(self.field.data_type().clone()).len(slots.len()).add_buffer(buffer).nulls(nulls).build()?;
        Ok(make_array(data))
    }

    fn values<const N: usize, T: Copy>(&self, keys: &[[u64; N]], slots: &Slots<'_>, narrow: impl Fn(u64) -> T) -> Vec<T> {
        let (word, shift) = (self.word, self.shift);
        assert!(word < N);
        let value = |key: &[u64; N]| narrow(key[word] >> shift);
        match slots {
            Slots::Range(range) => keys[range.clone()].iter().map(value).collect(),
            Slots::List(list) if list.len() > keys.len() => {
                // Each key once: many rows of a column lie closer together than as many keys.
                let all: Vec<T> = keys.iter().map(value).collect();
                let mut values = Vec::with_capacity(list.len());
                gather(&all, list, &mut values);
                values
            }
            Slots::List(list) => list.iter().map(|&slot| value(&keys[slot as usize])).collect(),
        }
    }

    /// Bytes of the column in Arrow's row format: one that tells nulls, and those of a value.
    fn row_bytes(&self) -> usize {
        1 + self.bits as usize / 8
    }

    /// Writes the values of keys as Arrow's row format has them: 1 and the value, big end first, the sign bit of signed ones flipped; all
    /// zeros for a null.
    fn write<'a>(&self, keys: impl Iterator<Item = &'a [u64]>, rows: impl Iterator<Item = &'a mut [u8]>) {
        let data_type = self.field.data_type();
        let sign = if *data_type == DataType::Boolean || data_type.is_unsigned_integer() { 0 } else { 1 << 63 };
        let bytes = self.bits as usize / 8;
        for (key, row) in keys.zip(rows) {
            let is_valid = self.null.is_none_or(|(word, bit)| key[word] >> bit & 1 == 0);
            let value = (key[self.word] >> self.shift << (u64::BITS - self.bits)) ^ sign;
            row[0] = u8::from(is_valid);
            row[1..=bytes].copy_from_slice(&if is_valid { value } else { 0 }.to_be_bytes()[..bytes]);
        }
    }
}

/// The values of a column as they are stored.
fn stored<T: ArrowNativeType>(column: &ArrayRef) -> ScalarBuffer<T> {
    let data = column.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// The packed keys of some rows.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    words: ScalarBuffer<u64>,
    packing: Arc<Packing>,
}

impl Packed {
    /// The words of one key after the other.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Words of a key.
    pub fn width(&self) -> usize {
        self.packing.width()
    }

    /// Replaces `groups` by the key group of each row.
    pub fn groups(&self, groups: &mut Vec<u8>) {
        self.packing.groups(&self.words, groups);
    }

    /// The keys of `rows`, in that order.
    pub fn take(&self, rows: &UInt32Array) -> Packed {
        by_width!(self.packing.width, N => {
            let mut taken = Vec::with_capacity(rows.len());
            gather(self.words.as_chunks::<N>().0, rows.values(), &mut taken);
            self.with(taken)
        })
    }

    /// The keys of the rows that `selection` leaves out, and of those that it selects.
    pub fn split(&self, selection: &BooleanBuffer) -> [Packed; 2] {
        let bits = Bits { bytes: selection.values(), offset: selection.offset(), len: selection.len() };
        by_width!(self.packing.width, N => {
            let (mut others, mut selected) = (Vec::new(), Vec::new());
            kernels::split(self.words.as_chunks::<N>().0, bits, &mut others, &mut selected);
            [self.with(others), self.with(selected)]
        })
    }

    /// The keys of a range of rows, without a copy.
    pub fn slice(&self, rows: Range<usize>) -> Packed {
        let width = self.packing.width;
        Packed { words: self.words.slice(rows.start * width, rows.len() * width), packing: Arc::clone(&self.packing) }
    }

    fn with<const N: usize>(&self, keys: Vec<[u64; N]>) -> Packed {
        Packed { words: keys.into_flattened().into(), packing: Arc::clone(&self.packing) }
    }
}
