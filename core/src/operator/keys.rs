//! Group keys: columns of any type to dense slot numbers and back.
//!
//! Integers and everything that Arrow stores as one (dates, timestamps, booleans) go through the integer
//! dictionary, strings and binary through the byte dictionary, everything else and several columns through
//! Arrow's row format, whose bytes are equal exactly if the values are. Null is a key like any other.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array, make_array};
use arrow::array::{ArrayData, BinaryArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use thalweg_kernels::{BytesDictionary, Full, IntDictionary};

use crate::error::{Error, Result};

/// The keys that one operator holds.
pub(crate) struct Keys {
    columns: Vec<usize>,
    fields: Vec<FieldRef>,
    table: Table,
    /// The slot of the null key of a single column, while it is live.
    null_slot: Option<u32>,
}

enum Table {
    /// No key: all rows are one group, slot 0.
    Single,
    Int(IntDictionary),
    Bytes(BytesDictionary),
    Rows(RowConverter, BytesDictionary),
}

impl Keys {
    /// Keys made of the columns named `by`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or cannot be a key.
    pub fn new(by: &[String], schema: &SchemaRef, limit: usize) -> Result<Keys> {
        let columns = by.iter().map(|name| column_index(schema, name)).collect::<Result<Vec<_>>>()?;
        let fields: Vec<FieldRef> = columns.iter().map(|&index| Arc::clone(&schema.fields()[index])).collect();
        let table = match fields.as_slice() {
            [] => Table::Single,
            [field] if integer_width(field.data_type()).is_some() => Table::Int(IntDictionary::new(limit)),
            [field] if as_string(field.data_type()).is_some() => Table::Bytes(BytesDictionary::new(limit)),
            several => {
                let sort = several.iter().map(|field| SortField::new(field.data_type().clone())).collect();
                let converter = RowConverter::new(sort)
                    .map_err(|error| Error::schema(format!("`{}` cannot be a key", by.join("`, `"))).with_source(error))?;
                Table::Rows(converter, BytesDictionary::new(limit))
            }
        };
        Ok(Keys { columns, fields, table, null_slot: None })
    }

    /// The fields of the key columns.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// One more than the greatest slot in use.
    pub fn slots(&self) -> usize {
        match &self.table {
            Table::Single => 1,
            Table::Int(dictionary) => dictionary.slots(),
            Table::Bytes(dictionary) | Table::Rows(_, dictionary) => dictionary.slots(),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.table {
            Table::Single => 0,
            Table::Int(dictionary) => dictionary.bytes(),
            Table::Bytes(dictionary) => dictionary.bytes(),
            Table::Rows(converter, dictionary) => converter.size() + dictionary.bytes(),
        }
    }

    /// Replaces `slots` by the slot of each row's key.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there are more keys than the limit.
    pub fn assign(&mut self, records: &RecordBatch, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        let single = self.columns.first().map(|&index| records.column(index));
        if let (Table::Int(_) | Table::Bytes(_), Some(column)) = (&self.table, single)
            && column.null_count() > 0
        {
            return self.assign_nullable(column, slots);
        }
        match (&mut self.table, single) {
            (Table::Int(dictionary), Some(column)) => assign_integers(dictionary, column, slots),
            (Table::Bytes(dictionary), Some(column)) => assign_strings(dictionary, column, slots),
            (Table::Rows(converter, dictionary), _) => {
                let columns: Vec<ArrayRef> = self.columns.iter().map(|&index| Arc::clone(records.column(index))).collect();
                let rows = converter.convert_columns(&columns)?.try_into_binary()?;
                dictionary.assign(rows.value_offsets(), rows.value_data(), slots).map_err(full)
            }
            (Table::Single, _) | (_, None) => {
                slots.resize(records.num_rows(), 0);
                Ok(())
            }
        }
    }

    /// Nulls share one reserved slot; the values are assigned without them.
    fn assign_nullable(&mut self, column: &ArrayRef, slots: &mut Vec<u32>) -> Result<()> {
        let valid: UInt32Array = (0..column.len() as u32).filter(|&row| column.is_valid(row as usize)).collect();
        let values = take(column, &valid, None)?;
        let mut assigned = Vec::with_capacity(valid.len());
        let null_slot = match &mut self.table {
            Table::Int(dictionary) => {
                assign_integers(dictionary, &values, &mut assigned)?;
                reserve(&mut self.null_slot, || dictionary.reserve())?
            }
            Table::Bytes(dictionary) => {
                assign_strings(dictionary, &values, &mut assigned)?;
                reserve(&mut self.null_slot, || dictionary.reserve())?
            }
            Table::Single | Table::Rows(..) => 0,
        };
        slots.resize(column.len(), null_slot);
        for (row, slot) in valid.values().iter().zip(assigned) {
            slots[*row as usize] = slot;
        }
        Ok(())
    }

    /// Forgets the keys of `slots`, which are ascending; the slots may be given to other keys.
    pub fn remove_all(&mut self, slots: &[u32]) {
        let null = self.null_slot.and_then(|null| slots.binary_search(&null).ok());
        let (before, after) = null.map_or((slots, &[][..]), |at| (&slots[..at], &slots[at + 1..]));
        for slots in [before, after] {
            match &mut self.table {
                Table::Single => {}
                Table::Int(dictionary) => dictionary.remove_all(slots),
                Table::Bytes(dictionary) | Table::Rows(_, dictionary) => dictionary.remove_all(slots),
            }
        }
        match (&mut self.table, null.and_then(|_| self.null_slot.take())) {
            (Table::Int(dictionary), Some(null)) => dictionary.release(null),
            (Table::Bytes(dictionary), Some(null)) => dictionary.release(null),
            _ => {}
        }
    }

    /// The key columns of the keys in `slots`, one row each.
    ///
    /// # Errors
    /// If Arrow's row format does not decode, which would be a defect.
    pub fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let nulls =
            self.null_slot.and_then(|null| slots.contains(&null).then(|| slots.iter().map(|&slot| slot != null).collect::<NullBuffer>()));
        match &self.table {
            Table::Single => Ok(Vec::new()),
            Table::Int(dictionary) => {
                let keys = slots.iter().map(|&slot| if self.null_slot == Some(slot) { 0 } else { dictionary.key(slot) });
                Ok(vec![integers(keys, slots.len(), self.fields[0].data_type(), nulls)?])
            }
            Table::Bytes(dictionary) => {
                let key = |slot: u32| if self.null_slot == Some(slot) { &[][..] } else { dictionary.key(slot) };
                Ok(vec![strings(slots, key, self.fields[0].data_type(), nulls)?])
            }
            Table::Rows(converter, dictionary) => {
                let parser = converter.parser();
                Ok(converter.convert_rows(slots.iter().map(|&slot| parser.parse(dictionary.key(slot))))?)
            }
        }
    }
}

fn reserve(slot: &mut Option<u32>, take: impl FnOnce() -> Result<u32, Full>) -> Result<u32> {
    match slot {
        Some(slot) => Ok(*slot),
        None => Ok(*slot.insert(take().map_err(full)?)),
    }
}

/// The position of the column `name`.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema), listing the columns that exist.
pub(crate) fn column_index(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Error::schema(format!("there is no column `{name}`; the columns are `{}`", known.join("`, `")))
    })
}

fn full(error: Full) -> Error {
    Error::state(format!("more than {} keys are live at once; raise `max_keys`, use shorter windows or a coarser key", error.limit))
}

/// Bytes of the integer that stores a type, if one does.
fn integer_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(0),
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal32(..) | DataType::Decimal64(..) => None,
        DataType::Interval(_) => None,
        other => other.primitive_width().filter(|width| *width <= 8),
    }
}

/// The type that a string or binary key is cast to.
fn as_string(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(DataType::Binary),
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => Some(DataType::Utf8),
        _ => None,
    }
}

fn assign_integers(dictionary: &mut IntDictionary, column: &ArrayRef, slots: &mut Vec<u32>) -> Result<()> {
    let data = column.to_data();
    let values = |width: usize| -> Buffer {
        let buffer = &data.buffers()[0];
        buffer.slice_with_length(data.offset() * width, data.len() * width)
    };
    let signed = !matches!(column.data_type(), DataType::UInt8 | DataType::UInt16 | DataType::UInt32);
    match (integer_width(column.data_type()), signed) {
        (Some(1), true) => dictionary.assign(&ScalarBuffer::<i8>::from(values(1)), slots),
        (Some(1), false) => dictionary.assign(&ScalarBuffer::<u8>::from(values(1)), slots),
        (Some(2), true) => dictionary.assign(&ScalarBuffer::<i16>::from(values(2)), slots),
        (Some(2), false) => dictionary.assign(&ScalarBuffer::<u16>::from(values(2)), slots),
        (Some(4), true) => dictionary.assign(&ScalarBuffer::<i32>::from(values(4)), slots),
        (Some(4), false) => dictionary.assign(&ScalarBuffer::<u32>::from(values(4)), slots),
        (Some(8), _) => dictionary.assign(&ScalarBuffer::<i64>::from(values(8)), slots),
        _ => {
            let bits: Vec<u8> = column.as_boolean().values().iter().map(u8::from).collect();
            dictionary.assign(&bits, slots)
        }
    }
    .map_err(full)
}

fn assign_strings(dictionary: &mut BytesDictionary, column: &ArrayRef, slots: &mut Vec<u32>) -> Result<()> {
    match column.data_type() {
        DataType::Utf8 => {
            let strings = column.as_string::<i32>();
            dictionary.assign(strings.value_offsets(), strings.value_data(), slots).map_err(full)
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>();
            dictionary.assign(bytes.value_offsets(), bytes.value_data(), slots).map_err(full)
        }
        other => {
            let target = as_string(other).unwrap_or(DataType::Utf8);
            assign_strings(dictionary, &cast(column, &target)?, slots)
        }
    }
}

/// Keys back to a column of the type that they came from.
fn integers(keys: impl Iterator<Item = i64>, rows: usize, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    macro_rules! narrow {
        ($native:ty) => {
            Buffer::from_vec(keys.map(|key| key as $native).collect::<Vec<$native>>())
        };
    }
    let unsigned = matches!(data_type, DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64);
    let buffer = match (integer_width(data_type), unsigned) {
        (Some(1), true) => narrow!(u8),
        (Some(1), false) => narrow!(i8),
        (Some(2), true) => narrow!(u16),
        (Some(2), false) => narrow!(i16),
        (Some(4), true) => narrow!(u32),
        (Some(4), false) => narrow!(i32),
        (Some(8), true) => narrow!(u64),
        (Some(8), false) => narrow!(i64),
        _ => return Ok(Arc::new(BooleanArray::new(keys.map(|key| key != 0).collect(), nulls))),
    };
    let data = ArrayData::builder(data_type.clone()).len(rows).add_buffer(buffer).nulls(nulls).build()?;
    Ok(make_array(data))
}

fn strings<'a>(slots: &[u32], key: impl Fn(u32) -> &'a [u8], data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let mut data = Vec::new();
    for &slot in slots {
        data.extend_from_slice(key(slot));
    }
    let offsets = OffsetBuffer::<i32>::from_lengths(slots.iter().map(|&slot| key(slot).len()));
    let plain: ArrayRef = match as_string(data_type) {
        Some(DataType::Binary) => Arc::new(BinaryArray::try_new(offsets, data.into(), nulls)?),
        _ => Arc::new(StringArray::try_new(offsets, data.into(), nulls)?),
    };
    Ok(if plain.data_type() == data_type { plain } else { cast(&plain, data_type)? })
}
