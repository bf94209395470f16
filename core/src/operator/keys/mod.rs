//! Group keys: columns of any type to dense slot numbers and back.
//!
//! The columns of a key become one column first ([`KeyColumns::encode`]), once per batch; dictionaries ([`Keys`]), of which an
//! operator may hold several, turn that column into slots. Integers and everything that Arrow stores as one (dates,
//! timestamps, booleans) go through the integer dictionary, several of them as one integer or as few words side by side, strings
//! and binary through the byte dictionary, everything else and other columns together through Arrow's row format, whose bytes
//! are equal exactly if the values are. Null is a key like any other.

mod dictionary;
mod packed;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, BinaryArray, BooleanArray, RecordBatch, StringArray, UInt32Array, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::row::{RowConverter, SortField};

use crate::batch::column_index;
use crate::error::{Error, Result};
use crate::operator::split::split;
use crate::state::{Column, Rows, key_groups};
pub(crate) use dictionary::Keys;
use dictionary::Table;
use packed::{Packed, Packing};

/// Which columns make a key, and how they become one.
pub(crate) struct KeyColumns {
    columns: Vec<usize>,
    fields: Vec<FieldRef>,
    form: Form,
    limit: usize,
}

/// What kind of column a key becomes.
enum Form {
    /// No key: all rows are one group, slot 0.
    Single,
    Int,
    Bytes,
    Packed(Arc<Packing>),
    Rows(RowConverter),
}

/// The keys of a batch as one column.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumn {
    values: Values,
    rows: usize,
}

#[derive(Debug, Clone)]
enum Values {
    /// There is no key.
    None,
    /// Integers, booleans, UTF-8 or binary.
    Column(ArrayRef),
    Packed(Packed),
}

impl KeyColumn {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Replaces `groups` by the key group of each row.
    ///
    /// # Errors
    /// As [`key_groups`].
    pub fn groups(&self, groups: &mut Vec<u8>) -> Result<()> {
        match &self.values {
            Values::None => key_groups(None, self.rows, groups),
            Values::Column(column) => key_groups(Some(column), self.rows, groups),
            Values::Packed(packed) => {
                packed.groups(groups);
                Ok(())
            }
        }
    }

    /// Adds the keys of all rows to `keys`, if they are integers or one integer each, and none is null; whether it did.
    pub fn append_integers(&self, keys: &mut Vec<i64>) -> bool {
        match &self.values {
            Values::Packed(packed) if packed.width() == 1 => keys.extend_from_slice(bytemuck::cast_slice(packed.words())),
            Values::Column(column) if column.null_count() == 0 && integer_width(column.data_type()).is_some() => {
                dictionary::append_integers(column, keys);
            }
            _ => return false,
        }
        true
    }

    /// The keys of `rows`, in that order.
    pub fn take(&self, rows: &UInt32Array) -> Result<KeyColumn> {
        let values = match &self.values {
            Values::None => Values::None,
            Values::Column(column) => Values::Column(take(column, rows, None)?),
            Values::Packed(packed) => Values::Packed(packed.take(rows)),
        };
        Ok(KeyColumn { values, rows: rows.len() })
    }

    /// The keys of the rows that `selection` leaves out, and of those that it selects.
    pub fn split(&self, selection: &BooleanBuffer) -> Result<[KeyColumn; 2]> {
        let selected = selection.count_set_bits();
        let [others, those] = match &self.values {
            Values::None => [Values::None, Values::None],
            Values::Column(column) => split(column, selection)?.map(Values::Column),
            Values::Packed(packed) => packed.split(selection).map(Values::Packed),
        };
        Ok([KeyColumn { values: others, rows: self.rows - selected }, KeyColumn { values: those, rows: selected }])
    }

    /// The keys of a range of rows, without a copy.
    pub fn slice(&self, rows: Range<usize>) -> KeyColumn {
        let len = rows.len();
        let values = match &self.values {
            Values::None => Values::None,
            Values::Column(column) => Values::Column(column.slice(rows.start, len)),
            Values::Packed(packed) => Values::Packed(packed.slice(rows)),
        };
        KeyColumn { values, rows: len }
    }
}

/// Slots to look at: neighbours, or any.
#[derive(Debug, Clone)]
pub(crate) enum Slots<'a> {
    Range(Range<usize>),
    List(&'a [u32]),
}

impl Slots<'_> {
    pub fn len(&self) -> usize {
        match self {
            Slots::Range(range) => range.len(),
            Slots::List(list) => list.len(),
        }
    }

    /// A part of them.
    pub fn part(&self, part: Range<usize>) -> Slots<'_> {
        match self {
            Slots::Range(range) => Slots::Range(range.start + part.start..range.start + part.end),
            Slots::List(list) => Slots::List(&list[part]),
        }
    }

    /// What a table holds for them, in order.
    pub fn of<'t, T: Copy>(&self, table: &'t [T]) -> Cow<'t, [T]> {
        match self {
            Slots::Range(range) => Cow::Borrowed(&table[range.clone()]),
            Slots::List(list) => Cow::Owned(list.iter().map(|&slot| table[slot as usize]).collect()),
        }
    }

    /// A value for each, in order.
    pub fn map<T>(&self, mut value: impl FnMut(u32) -> T) -> Vec<T> {
        match self {
            Slots::Range(range) => (range.start as u32..range.end as u32).map(value).collect(),
            Slots::List(list) => list.iter().map(|&slot| value(slot)).collect(),
        }
    }
}

impl KeyColumns {
    /// Keys made of the columns named `by`, at most `limit` of them in a dictionary.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or cannot be a key.
    pub fn new(by: &[String], schema: &SchemaRef, limit: usize) -> Result<KeyColumns> {
        KeyColumns::at(by.iter().map(|name| column_index(schema, name)).collect::<Result<_>>()?, schema, limit)
    }

    /// The same keys where they are the last columns of their names in a table of a snapshot; `None` if one is missing.
    pub fn in_table(&self, schema: &SchemaRef) -> Result<Option<KeyColumns>> {
        let last = |field: &FieldRef| schema.fields().iter().rposition(|other| other.name() == field.name());
        let columns: Option<Vec<usize>> = self.fields.iter().map(last).collect();
        columns.map(|columns| KeyColumns::at(columns, schema, self.limit)).transpose()
    }

    fn at(columns: Vec<usize>, schema: &SchemaRef, limit: usize) -> Result<KeyColumns> {
        let fields: Vec<FieldRef> = columns.iter().map(|&index| Arc::clone(&schema.fields()[index])).collect();
        let form = match fields.as_slice() {
            [] => Form::Single,
            [field] if integer_width(field.data_type()).is_some() => Form::Int,
            [field] if as_string(field.data_type()).is_some() => Form::Bytes,
            several if let Some(packing) = Packing::of(several) => Form::Packed(Arc::new(packing)),
            several => {
                let sort = several.iter().map(|field| SortField::new(field.data_type().clone())).collect();
                let converter = RowConverter::new(sort)
                    .map_err(|error| Error::schema(format!("`{}` cannot be a key", names(several))).with_source(error))?;
                Form::Rows(converter)
            }
        };
        Ok(KeyColumns { columns, fields, form, limit })
    }

    /// The most keys of a dictionary at a time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The fields of the key columns.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// A dictionary for these keys, empty.
    pub fn dictionary(&self) -> Keys {
        Keys::new(match &self.form {
            Form::Single => Table::Single,
            Form::Int => Table::int(self.limit),
            Form::Packed(packing) => Table::words(packing.width(), self.limit),
            Form::Bytes | Form::Rows(_) => Table::bytes(self.limit),
        })
    }

    /// The keys that `keys` holds in `slots`, which ascend, in a dictionary as large as they need: each in the slot of its place in the list.
    ///
    /// # Errors
    /// As [`Keys::assign`], which would be a defect.
    pub fn compacted(&self, keys: &Keys, slots: &[u32]) -> Result<Keys> {
        let (mut compacted, mut moved) = (self.dictionary(), Vec::new());
        for run in slots.chunk_by(|before, after| before + 1 == *after) {
            compacted.absorb_part(keys, run[0] as usize..run[0] as usize + run.len(), &mut moved)?;
        }
        Ok(compacted)
    }

    /// The keys of the rows of `records`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column has nulls that the schema rules out. If Arrow cannot cast a column or convert it to rows, which would be a defect.
    pub fn encode(&mut self, records: &RecordBatch) -> Result<KeyColumn> {
        let columns = self.columns.iter().map(|&index| Arc::clone(records.column(index))).collect();
        self.encode_columns(columns, records.num_rows())
    }

    fn encode_columns(&mut self, columns: Vec<ArrayRef>, rows: usize) -> Result<KeyColumn> {
        let column =
            |columns: Vec<ArrayRef>| columns.into_iter().next().map_or(Ok(Values::None), |column| plain(column).map(Values::Column));
        let values = match &mut self.form {
            Form::Single => Values::None,
            Form::Int | Form::Bytes => column(columns)?,
            Form::Packed(packing) => Values::Packed(packing.pack(&columns, rows)?),
            Form::Rows(converter) => Values::Column(Arc::new(converter.convert_columns(&columns)?.try_into_binary()?)),
        };
        Ok(KeyColumn { values, rows })
    }

    /// The keys that `keys` holds in `slots`, as those of rows.
    ///
    /// # Errors
    /// As [`KeyColumns::encode`].
    pub fn of(&mut self, keys: &Keys, slots: &Slots<'_>) -> Result<KeyColumn> {
        let columns = self.decode(keys, slots)?;
        self.encode_columns(columns, slots.len())
    }

    /// The keys that `keys` holds in `slots`, for a snapshot: the group of each, and its columns.
    ///
    /// # Errors
    /// As [`KeyColumns::encode`].
    pub fn save(&mut self, keys: &Keys, slots: &Slots<'_>) -> Result<(Vec<u8>, Vec<Column>)> {
        let columns = self.decode(keys, slots)?;
        let mut groups = Vec::new();
        self.encode_columns(columns.clone(), slots.len())?.groups(&mut groups)?;
        Ok((groups, self.fields.iter().cloned().zip(columns).collect()))
    }

    /// The keys of rows of a snapshot, whose columns follow the column `after`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the columns are others.
    pub fn load(&mut self, rows: &Rows<'_>, after: &str) -> Result<KeyColumn> {
        let columns = rows.columns_after(after, &self.fields)?;
        self.encode_columns(columns.to_vec(), rows.len())
    }

    /// The key columns of the keys that `keys` holds in `slots`, one row each.
    ///
    /// # Errors
    /// If Arrow's row format does not decode, which would be a defect.
    pub fn decode(&self, keys: &Keys, slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        let null = keys.null_slot();
        let nulls = null.map(|null| NullBuffer::from(slots.map(|slot| slot != null))).filter(|nulls| nulls.null_count() > 0);
        match (&self.form, keys.table()) {
            (Form::Rows(_), Table::Bytes(dictionary)) if slots.len() > dictionary.slots() => {
                // Each key once, as it costs more to read from bytes than to copy; for slots without one, some other.
                let some = slots.part(0..1).map(|slot| slot)[0];
                let slot_of = |slot: u32| if dictionary.key(slot).is_empty() { some } else { slot };
                let known: Vec<u32> = (0..dictionary.slots() as u32).map(slot_of).collect();
                let columns = self.decode(keys, &Slots::List(&known))?;
                let rows: UInt32Array = slots.map(|slot| slot).into();
                Ok(columns.iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?)
            }
            (Form::Rows(converter), Table::Bytes(dictionary)) => {
                let parser = converter.parser();
                let rows = slots.map(|slot| slot);
                Ok(converter.convert_rows(rows.iter().map(|&slot| parser.parse(dictionary.key(slot))))?)
            }
            (Form::Packed(packing), table) => packing.unpack(table.packed(), slots),
            (_, Table::Bytes(dictionary)) => {
                let key = |slot: u32| if null == Some(slot) { &[][..] } else { dictionary.key(slot) };
                Ok(vec![strings(slots, key, self.fields[0].data_type(), nulls)?])
            }
            (_, Table::Int(dictionary)) => {
                // Of the null key's slot the dictionary has some number, which the nulls hide.
                let keys = dictionary.keys();
                Ok(vec![match slots {
                    Slots::Range(range) => integers(keys[range.clone()].iter().copied(), self.fields[0].data_type(), nulls)?,
                    Slots::List(list) => integers(list.iter().map(|&slot| keys[slot as usize]), self.fields[0].data_type(), nulls)?,
                }])
            }
            (_, Table::Single | Table::Words(_)) => Ok(Vec::new()),
        }
    }
}

fn names(fields: &[FieldRef]) -> String {
    fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join("`, `")
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

/// A string or binary column as its plain type.
fn plain(column: ArrayRef) -> Result<ArrayRef> {
    match as_string(column.data_type()) {
        Some(target) if target != *column.data_type() => Ok(cast(&column, &target)?),
        _ => Ok(column),
    }
}

/// Keys back to a column of the type that they came from.
fn integers(keys: impl ExactSizeIterator<Item = i64>, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let rows = keys.len();
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

fn strings<'a>(slots: &Slots<'_>, key: impl Fn(u32) -> &'a [u8], data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let (mut offsets, mut data) = (vec![0], Vec::new());
    for key in slots.map(key) {
        data.extend_from_slice(key);
        let end = i32::try_from(data.len());
        offsets.push(end.map_err(|_| Error::state("the keys of one batch of results are longer than 2 GiB; use shorter keys"))?);
    }
    let offsets = OffsetBuffer::<i32>::new(offsets.into());
    let plain: ArrayRef = match as_string(data_type) {
        Some(DataType::Binary) => Arc::new(BinaryArray::try_new(offsets, data.into(), nulls)?),
        _ => Arc::new(StringArray::try_new(offsets, data.into(), nulls)?),
    };
    Ok(if plain.data_type() == data_type { plain } else { cast(&plain, data_type)? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
