//! Columns as they are written from: of few types, with their values at hand.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};

use super::plan::{How, Plan, Planned, Type, item_of, unlike};
use crate::error::Result;

/// The values of a field.
pub(super) struct Values {
    nulls: Option<NullBuffer>,
    pub(super) data: Data,
}

pub(super) enum Data {
    /// None is there.
    Absent,
    Bool(BooleanBuffer),
    Int(ScalarBuffer<i64>),
    UInt(ScalarBuffer<u64>),
    Float(ScalarBuffer<f64>),
    Text(BinaryArray),
    /// What is not known to be UTF-8.
    Bytes(BinaryArray),
    Names(Names),
    /// Since the Unix epoch, and how many there are in a second.
    Times(ScalarBuffer<i64>, i64),
    Struct(Vec<Values>),
    /// Where the items of each list are.
    List(OffsetBuffer<i32>, Box<Values>),
}

/// Names of an enum's values.
pub(super) struct Names {
    texts: StringArray,
    /// Of each text; `None` if it is neither a name nor a number.
    numbers: Vec<Option<i32>>,
    /// Of each row which text it has, if that is not the one of its place.
    places: Option<Vec<usize>>,
}

impl Names {
    /// The number at a row, or the text that is none.
    pub(super) fn number(&self, row: usize) -> Result<i32, &str> {
        let place = self.places.as_ref().map_or(row, |places| places[row]);
        self.numbers[place].ok_or_else(|| self.texts.value(place))
    }
}

impl Values {
    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.data, Data::Absent) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

impl Plan {
    /// The values of each field.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming a column of a type that its field cannot hold.
    pub(super) fn columns(&self, arrays: &[ArrayRef]) -> Result<Vec<Values>> {
        self.fields.iter().map(|field| field.values(&arrays[field.column])).collect()
    }
}

impl Planned {
    fn values(&self, array: &ArrayRef) -> Result<Values> {
        if array.data_type().is_null() {
            return Ok(Values { nulls: None, data: Data::Absent });
        }
        if !matches!(self.how, How::Each | How::Packed) {
            return self.plain(array);
        }
        let (offsets, items): (_, ArrayRef) = match array.data_type() {
            DataType::Map(_, _) => {
                let map = array.as_map();
                (map.offsets().clone(), Arc::new(map.entries().clone()))
            }
            kind => {
                let item = item_of(kind).ok_or_else(|| unlike(&self.path, kind, "a list"))?;
                let list = cast(array, &DataType::List(Arc::clone(item)))?;
                let list = list.as_list::<i32>();
                (list.offsets().clone(), Arc::clone(list.values()))
            }
        };
        // Of what the list was cut out of, no more than it has.
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        let items = self.plain(&items.slice(first as usize, (last - first) as usize))?;
        let offsets = match first {
            0 => offsets,
            first => OffsetBuffer::new(offsets.iter().map(|offset| offset - first).collect()),
        };
        Ok(Values { nulls: array.logical_nulls(), data: Data::List(offsets, Box::new(items)) })
    }

    /// Values that are there once.
    fn plain(&self, array: &ArrayRef) -> Result<Values> {
        let nulls = array.logical_nulls();
        let absent = Values { nulls: None, data: Data::Absent };
        if let (Type::Enum(numbers), Some(dictionary)) = (&self.of, array.as_any_dictionary_opt())
            && is_text(dictionary.values().data_type())
        {
            if dictionary.values().is_empty() {
                return Ok(absent);
            }
            let names = names(&cast(dictionary.values(), &DataType::Utf8)?, numbers, Some(dictionary.normalized_keys()));
            return Ok(Values { nulls, data: Data::Names(names) });
        }
        let array = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values)?,
            DataType::RunEndEncoded(_, values) => cast(array, values.data_type())?,
            _ => Arc::clone(array),
        };
        let kind = array.data_type();
        let data = match &self.of {
            Type::Nothing => return Ok(absent),
            Type::Scalar(number) | Type::Wrapper(number) => match scalars(*number, &array)? {
                Some(data) => data,
                None => return Err(unlike(&self.path, kind, kind_name(*number).unwrap_or_default())),
            },
            Type::Enum(numbers) if is_text(kind) => Data::Names(names(&cast(&array, &DataType::Utf8)?, numbers, None)),
            Type::Enum(_) if kind.is_integer() => integers(&array)?,
            Type::Enum(_) => return Err(unlike(&self.path, kind, "an enum")),
            Type::Timestamp => times(&array)?.ok_or_else(|| unlike(&self.path, kind, "a timestamp"))?,
            Type::Message(plan) => match array.as_struct_opt() {
                Some(given) => Data::Struct(plan.columns(given.columns())?),
                None => return Err(unlike(&self.path, kind, "a message")),
            },
        };
        Ok(Values { nulls, data })
    }
}

/// What scalars of a type are called; `None` if there is no such scalar.
pub(super) fn kind_name(kind: u64) -> Option<&'static str> {
    const NAMES: [&str; 18] = [
        "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "", "", "bytes", "uint32", "enum",
        "sfixed32", "sfixed64", "sint32", "sint64",
    ];
    let place = usize::try_from(kind).ok()?.checked_sub(1)?;
    NAMES.get(place).copied().filter(|name| !name.is_empty())
}

/// The values of a column for scalars of a type; `None` if they are not such.
fn scalars(number: u64, array: &ArrayRef) -> Result<Option<Data>> {
    let kind = array.data_type();
    Ok(Some(match number {
        1 | 2 if kind.is_integer() || kind.is_floating() => {
            Data::Float(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().values().clone())
        }
        3..=7 | 13 | 15..=18 if kind.is_integer() => integers(array)?,
        8 => match array.as_boolean_opt() {
            Some(values) => Data::Bool(values.values().clone()),
            None => return Ok(None),
        },
        9 | 12 if is_text(kind) => Data::Text(cast(&cast(array, &DataType::Utf8)?, &DataType::Binary)?.as_binary::<i32>().clone()),
        9 | 12 if is_bytes(kind) => Data::Bytes(cast(array, &DataType::Binary)?.as_binary::<i32>().clone()),
        _ => return Ok(None),
    }))
}

fn integers(array: &ArrayRef) -> Result<Data> {
    Ok(match array.data_type() {
        DataType::UInt64 => Data::UInt(array.as_primitive::<UInt64Type>().values().clone()),
        _ => Data::Int(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone()),
    })
}

fn times(array: &ArrayRef) -> Result<Option<Data>> {
    let per_second = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let (array, per_second) = match array.data_type() {
        DataType::Timestamp(unit, _) => (Arc::clone(array), per_second(unit)),
        DataType::Date32 => (cast(array, &DataType::Timestamp(TimeUnit::Second, None))?, 1),
        DataType::Date64 => (Arc::clone(array), 1_000),
        _ => return Ok(None),
    };
    Ok(Some(Data::Times(cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone(), per_second)))
}

fn names(texts: &ArrayRef, numbers: &HashMap<String, i32>, places: Option<Vec<usize>>) -> Names {
    let texts = texts.as_string::<i32>().clone();
    let number = |text: Option<&str>| text.and_then(|text| numbers.get(text).copied().or_else(|| text.parse().ok()));
    Names { numbers: texts.iter().map(number).collect(), texts, places }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}
