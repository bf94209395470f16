//! A dictionary of keys: one encoded column to slots.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use thalweg_kernels::{BytesDictionary, Full, IntDictionary, Together, WordsDictionary};

use super::{KeyColumn, Values, integer_width};
use crate::error::{Error, Result};
use crate::operator::compact::is_sparse;

/// The keys that a table of groups holds, each in its slot.
pub(crate) struct Keys {
    table: Table,
    /// The slot of the null key of a single column, while it is live.
    null_slot: Option<u32>,
}

pub(super) enum Table {
    Single,
    Int(IntDictionary),
    Words(WordsDictionary),
    Bytes(BytesDictionary),
}

impl Table {
    pub fn int(limit: usize) -> Table {
        Table::Int(IntDictionary::new(limit))
    }

    /// For keys of several columns, packed into `width` words.
    pub fn words(width: usize, limit: usize) -> Table {
        match width {
            1 => Table::int(limit),
            _ => Table::Words(WordsDictionary::new(width, limit)),
        }
    }

    pub fn bytes(limit: usize) -> Table {
        Table::Bytes(BytesDictionary::new(limit))
    }

    /// The words of the keys of all slots, if keys are packed.
    pub fn packed(&self) -> &[u64] {
        match self {
            Table::Int(dictionary) => bytemuck::cast_slice(dictionary.keys()),
            Table::Words(dictionary) => dictionary.keys(),
            Table::Single | Table::Bytes(_) => &[],
        }
    }

    fn assign(&mut self, column: &ArrayRef, slots: &mut Vec<u32>) -> Result<()> {
        match self {
            Table::Single | Table::Words(_) => {
                slots.resize(slots.len() + column.len(), 0);
                Ok(())
            }
            Table::Int(dictionary) => take_integers(column, Assign(dictionary, slots)),
            Table::Bytes(dictionary) => assign_bytes(dictionary, column, slots),
        }
        .map_err(full)
    }

    fn assign_packed(&mut self, words: &[u64], slots: &mut Vec<u32>) -> Result<()> {
        match self {
            Table::Int(dictionary) => dictionary.assign(bytemuck::cast_slice::<u64, i64>(words), slots),
            Table::Words(dictionary) => dictionary.assign(words, slots),
            Table::Single | Table::Bytes(_) => Ok(()),
        }
        .map_err(full)
    }

    /// A slot for the null key of a single column.
    fn reserve(&mut self) -> Result<u32> {
        match self {
            Table::Single | Table::Words(_) => Ok(0),
            Table::Int(dictionary) => dictionary.reserve(),
            Table::Bytes(dictionary) => dictionary.reserve(),
        }
        .map_err(full)
    }
}

impl Keys {
    pub(super) fn new(table: Table) -> Keys {
        Keys { table, null_slot: None }
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn null_slot(&self) -> Option<u32> {
        self.null_slot
    }

    /// Whether there is no key: all rows are one group.
    pub fn is_single(&self) -> bool {
        matches!(self.table, Table::Single)
    }

    /// Whether keys are integers, which cost as little to read as to copy, or none.
    pub fn is_integers(&self) -> bool {
        !matches!(self.table, Table::Bytes(_))
    }

    /// One more than the greatest slot in use.
    pub fn slots(&self) -> usize {
        match &self.table {
            Table::Single => 1,
            Table::Int(dictionary) => dictionary.slots(),
            Table::Words(dictionary) => dictionary.slots(),
            Table::Bytes(dictionary) => dictionary.slots(),
        }
    }

    /// How many keys there are.
    pub fn live(&self) -> usize {
        match &self.table {
            Table::Single => 1,
            Table::Int(dictionary) => dictionary.len(),
            Table::Words(dictionary) => dictionary.len(),
            Table::Bytes(dictionary) => dictionary.len(),
        }
    }

    /// Whether most of its slots have lost their keys.
    pub fn is_sparse(&self) -> bool {
        is_sparse(self.live(), self.slots())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.table {
            Table::Single => 0,
            Table::Int(dictionary) => dictionary.bytes(),
            Table::Words(dictionary) => dictionary.bytes(),
            Table::Bytes(dictionary) => dictionary.bytes(),
        }
    }

    /// Replaces `slots` by the slot of each row's key, giving new keys new slots.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there are more keys than the limit.
    pub fn assign(&mut self, keys: &KeyColumn, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        match &keys.values {
            Values::None => slots.resize(keys.rows, 0),
            Values::Packed(packed) => self.table.assign_packed(packed.words(), slots)?,
            Values::Column(column) if column.null_count() > 0 => self.assign_nullable(column, slots)?,
            Values::Column(column) => self.table.assign(column, slots)?,
        }
        Ok(())
    }

    /// Replaces `slots` by the slots of integer keys, the first that there are.
    ///
    /// # Errors
    /// As [`Keys::assign`].
    pub fn assign_together(&mut self, keys: &[i64], room: &mut Together, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        match &mut self.table {
            Table::Int(dictionary) => dictionary.assign_together(keys, room, slots).map_err(full),
            Table::Single | Table::Words(_) | Table::Bytes(_) => Err(Error::state("keys that are no integers came together as such")),
        }
    }

    /// Whether so many rows with the keys that are here would have been told apart faster together.
    pub fn suits_together(&self, rows: u64) -> bool {
        match &self.table {
            Table::Int(dictionary) => dictionary.suits_together(rows as usize),
            Table::Single | Table::Words(_) | Table::Bytes(_) => false,
        }
    }

    /// Nulls share one reserved slot, given to the first of them as if it were any other key; the values are assigned without them.
    fn assign_nullable(&mut self, column: &ArrayRef, slots: &mut Vec<u32>) -> Result<()> {
        let before = (0..column.len()).take_while(|&row| self.null_slot.is_none() && column.is_valid(row)).count();
        self.table.assign(&column.slice(0, before), slots)?;
        let null = self.null()?;
        let valid: UInt32Array = (before as u32..column.len() as u32).filter(|&row| column.is_valid(row as usize)).collect();
        let mut assigned = Vec::with_capacity(valid.len());
        self.table.assign(&take(column, &valid, None)?, &mut assigned)?;
        slots.resize(column.len(), null);
        for (row, slot) in valid.values().iter().zip(assigned) {
            slots[*row as usize] = slot;
        }
        Ok(())
    }

    /// The slot of the null key, taken on first use.
    fn null(&mut self) -> Result<u32> {
        match self.null_slot {
            Some(slot) => Ok(slot),
            None => Ok(*self.null_slot.insert(self.table.reserve()?)),
        }
    }

    /// Takes in all keys of `other`, none of which it has forgotten: `slots[s]` becomes the slot here of its slot `s`.
    ///
    /// # Errors
    /// As [`Keys::assign`].
    pub fn absorb(&mut self, other: &Keys, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        self.absorb_part(other, 0..other.slots(), slots)
    }

    /// [`Keys::absorb`] of the keys in some slots of `other`, whose slots here are added to `slots`.
    ///
    /// # Errors
    /// As [`Keys::assign`].
    pub fn absorb_part(&mut self, other: &Keys, part: Range<usize>, slots: &mut Vec<u32>) -> Result<()> {
        let null = other.null_slot.map(|null| null as usize).filter(|null| part.contains(null));
        let rest = null.map_or(part.end, |null| null + 1)..part.end;
        self.absorb_valid(other, part.start..null.unwrap_or(part.end), slots)?;
        if null.is_some() {
            slots.push(self.null()?);
        }
        self.absorb_valid(other, rest, slots)
    }

    /// The same of slots none of which is that of the null key.
    fn absorb_valid(&mut self, other: &Keys, part: Range<usize>, slots: &mut Vec<u32>) -> Result<()> {
        match (&mut self.table, &other.table) {
            (Table::Int(dictionary), Table::Int(other)) => dictionary.assign(&other.keys()[part], slots).map_err(full),
            (Table::Words(dictionary), Table::Words(other)) => {
                let width = other.width();
                dictionary.assign(&other.keys()[part.start * width..part.end * width], slots).map_err(full)
            }
            (Table::Bytes(dictionary), Table::Bytes(other)) => absorb_bytes(dictionary, other, part, slots),
            _ => {
                slots.resize(slots.len() + part.len(), 0);
                Ok(())
            }
        }
    }

    /// Forgets the keys of `slots`, each of which comes once; the slots may be given to other keys.
    pub fn remove_all(&mut self, slots: &[u32]) {
        let null = self.null_slot.and_then(|null| slots.iter().position(|&slot| slot == null));
        let (before, after) = null.map_or((slots, &[][..]), |at| (&slots[..at], &slots[at + 1..]));
        for slots in [before, after] {
            match &mut self.table {
                Table::Single => {}
                Table::Int(dictionary) => dictionary.remove_all(slots),
                Table::Words(dictionary) => dictionary.remove_all(slots),
                Table::Bytes(dictionary) => dictionary.remove_all(slots),
            }
        }
        match (&mut self.table, null.and_then(|_| self.null_slot.take())) {
            (Table::Int(dictionary), Some(null)) => dictionary.release(null),
            (Table::Bytes(dictionary), Some(null)) => dictionary.release(null),
            _ => {}
        }
    }

    /// Forgets all keys and keeps the memory for others.
    pub fn clear(&mut self) {
        self.null_slot = None;
        match &mut self.table {
            Table::Single => {}
            Table::Int(dictionary) => dictionary.clear(),
            Table::Words(dictionary) => dictionary.clear(),
            Table::Bytes(dictionary) => dictionary.clear(),
        }
    }
}

fn full(error: Full) -> Error {
    Error::state(format!("more than {} keys are live at once; raise `max_keys`, use shorter windows or a coarser key", error.limit))
}

/// Takes in the keys of some slots of `other`, as many at a time as offsets of 32 bits reach.
fn absorb_bytes(dictionary: &mut BytesDictionary, other: &BytesDictionary, part: Range<usize>, slots: &mut Vec<u32>) -> Result<()> {
    let mut rest = part.start as u32..part.end as u32;
    while !rest.is_empty() {
        let (mut offsets, mut data) = (vec![0], Vec::new());
        rest.start = other.append_keys(rest.clone(), &mut offsets, &mut data);
        dictionary.assign(&offsets, &data, slots).map_err(full)?;
    }
    Ok(())
}

/// What is done with integers of any width.
trait TakeIntegers {
    type Taken;
    fn take<K: Copy + Into<i64>>(self, keys: &[K]) -> Self::Taken;
}

/// Gives each key its slot.
struct Assign<'a>(&'a mut IntDictionary, &'a mut Vec<u32>);

impl TakeIntegers for Assign<'_> {
    type Taken = Result<(), Full>;

    fn take<K: Copy + Into<i64>>(self, keys: &[K]) -> Self::Taken {
        self.0.assign(keys, self.1)
    }
}

/// Adds the keys to a list.
struct Append<'a>(&'a mut Vec<i64>);

impl TakeIntegers for Append<'_> {
    type Taken = ();

    fn take<K: Copy + Into<i64>>(self, keys: &[K]) {
        self.0.extend(keys.iter().map(|&key| -> i64 { key.into() }));
    }
}

fn take_integers<T: TakeIntegers>(column: &ArrayRef, to: T) -> T::Taken {
    let data = column.to_data();
    let values = |width: usize| -> Buffer {
        let buffer = &data.buffers()[0];
        buffer.slice_with_length(data.offset() * width, data.len() * width)
    };
    let signed = !matches!(column.data_type(), DataType::UInt8 | DataType::UInt16 | DataType::UInt32);
    match (integer_width(column.data_type()), signed) {
        (Some(1), true) => to.take(&ScalarBuffer::<i8>::from(values(1))),
        (Some(1), false) => to.take(&ScalarBuffer::<u8>::from(values(1))),
        (Some(2), true) => to.take(&ScalarBuffer::<i16>::from(values(2))),
        (Some(2), false) => to.take(&ScalarBuffer::<u16>::from(values(2))),
        (Some(4), true) => to.take(&ScalarBuffer::<i32>::from(values(4))),
        (Some(4), false) => to.take(&ScalarBuffer::<u32>::from(values(4))),
        (Some(8), _) => to.take(&ScalarBuffer::<i64>::from(values(8))),
        _ => {
            let bits: Vec<u8> = column.as_boolean().values().iter().map(u8::from).collect();
            to.take(&bits)
        }
    }
}

/// Adds the keys of a column of integers, none of which is null, to a list.
pub(super) fn append_integers(column: &ArrayRef, keys: &mut Vec<i64>) {
    take_integers(column, Append(keys));
}

fn assign_bytes(dictionary: &mut BytesDictionary, column: &ArrayRef, slots: &mut Vec<u32>) -> Result<(), Full> {
    match column.data_type() {
        DataType::Utf8 => {
            let strings = column.as_string::<i32>();
            dictionary.assign(strings.value_offsets(), strings.value_data(), slots)
        }
        _ => {
            let bytes = column.as_binary::<i32>();
            dictionary.assign(bytes.value_offsets(), bytes.value_data(), slots)
        }
    }
}
