//! Columns into those that a schema has, as its encoder takes them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryBuilder, Int32Array, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StringArray, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, SchemaRef};
use arrow_avro::schema::AVRO_ENUM_SYMBOLS_METADATA_KEY;

use crate::error::{Error, Result};

/// What `arrow-avro` notes of a field.
const LOGICAL_TYPE: &str = "logicalType";

/// The columns of `target`, which are those of a schema, from those of `batch`, by name.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema), naming a column that is not there, is too many, or cannot be one of the schema's.
pub(super) fn shaped(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch> {
    let columns = target.fields().iter().map(|field| {
        let Some(column) = batch.column_by_name(field.name()) else { return missing(field, "", batch.num_rows()) };
        let made = value(column, field, field.name())?;
        match field.is_nullable() || made.null_count() == 0 {
            true => Ok(made),
            false => Err(Error::schema(format!(
                "column `{}` is null in row {} of a batch, and may not be in the Avro schema; fill it, or leave such rows out",
                field.name(),
                (0..made.len()).find(|row| made.is_null(*row)).unwrap_or_default()
            ))),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(SchemaRef::clone(target), columns.collect::<Result<_>>()?, &options)?)
}

/// Refuses columns that a schema does not have, or that cannot be what it has.
///
/// # Errors
/// As [`shaped`].
pub(super) fn check(columns: &SchemaRef, target: &SchemaRef) -> Result<()> {
    surplus(columns.fields(), target.fields(), "")?;
    shaped(&RecordBatch::new_empty(SchemaRef::clone(columns)), target).map(drop)
}

fn surplus(given: &Fields, target: &Fields, path: &str) -> Result<()> {
    match given.iter().find(|field| target.find(field.name()).is_none()) {
        None => Ok(()),
        Some(field) => {
            let names: Vec<&str> = target.iter().map(|field| field.name().as_str()).collect();
            Err(Error::schema(format!(
                "column `{path}{}` is no field of the Avro schema, which has {}; leave it out by `select`, or write by a schema that has it",
                field.name(),
                names.join(", ")
            )))
        }
    }
}

fn missing(field: &Field, path: &str, rows: usize) -> Result<ArrayRef> {
    match field.is_nullable() {
        true => nulls(field, path, rows),
        false => Err(Error::schema(format!(
            "there is no column `{path}{}` for a field of the Avro schema that may not be null; add it, or write by another schema",
            field.name()
        ))),
    }
}

/// Nulls, with the symbols of enums.
fn nulls(field: &Field, path: &str, rows: usize) -> Result<ArrayRef> {
    match field.data_type() {
        DataType::Null => Ok(new_null_array(&DataType::Null, rows)),
        kind => value(&new_null_array(kind, rows), field, path),
    }
}

fn value(array: &ArrayRef, target: &Field, path: &str) -> Result<ArrayRef> {
    let (from, to) = (array.data_type(), target.data_type());
    let refused = || {
        Error::schema(format!(
            "column `{path}` of type {from} cannot be written as {to}, which the Avro schema has; cast it, or write by another schema"
        ))
    };
    match to {
        _ if from.is_null() && target.is_nullable() => nulls(target, path, array.len()),
        DataType::Struct(fields) => match array.as_struct_opt() {
            Some(given) => record(given, fields, path),
            None => Err(refused()),
        },
        DataType::List(item) => {
            let given = match from {
                DataType::List(_) => Arc::clone(array),
                DataType::LargeList(item) | DataType::FixedSizeList(item, _) => strict(array, &DataType::List(Arc::clone(item)), path)?,
                _ => return Err(refused()),
            };
            let given = given.as_list::<i32>();
            let values = value(given.values(), item, &format!("{path}[]"))?;
            let made = ListArray::try_new(Arc::clone(item), given.offsets().clone(), values, given.nulls().cloned());
            Ok(Arc::new(made.map_err(|error| unheld(path).with_source(error))?))
        }
        DataType::Map(entries, is_sorted) => {
            let (Some(given), DataType::Struct(pair)) = (array.as_map_opt(), entries.data_type()) else { return Err(refused()) };
            let inner = format!("{path}[]");
            let columns = vec![value(given.keys(), &pair[0], &inner)?, value(given.values(), &pair[1], &inner)?];
            let made = StructArray::try_new(pair.clone(), columns, None).and_then(|pairs| {
                MapArray::try_new(Arc::clone(entries), given.offsets().clone(), pairs, given.nulls().cloned(), *is_sorted)
            });
            Ok(Arc::new(made.map_err(|error| unheld(path).with_source(error))?))
        }
        DataType::Dictionary(_, _) => match target.metadata().get(AVRO_ENUM_SYMBOLS_METADATA_KEY) {
            Some(symbols) if is_text(from) => symbol(&strict(array, &DataType::Utf8, path)?, symbols, path),
            _ => Err(refused()),
        },
        DataType::FixedSizeBinary(16) if is_text(from) && target.metadata().get(LOGICAL_TYPE).is_some_and(|kind| kind == "uuid") => {
            uuids(strict(array, &DataType::Utf8, path)?.as_string(), path)
        }
        _ if from == to => Ok(Arc::clone(array)),
        _ if is_near(from, to) => strict(array, to, path),
        _ => Err(refused()),
    }
}

fn record(given: &StructArray, fields: &Fields, path: &str) -> Result<ArrayRef> {
    let inner = format!("{path}.");
    surplus(given.fields(), fields, &inner)?;
    let columns = fields.iter().map(|field| match given.column_by_name(field.name()) {
        Some(column) => value(column, field, &format!("{inner}{}", field.name())),
        None => missing(field, &inner, given.len()),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let made = StructArray::try_new_with_length(fields.clone(), columns, given.nulls().cloned(), given.len());
    Ok(Arc::new(made.map_err(|error| unheld(path).with_source(error))?))
}

fn unheld(path: &str) -> Error {
    Error::schema(format!("column `{path}` holds what it may not in the Avro schema; fill nulls, or leave such rows out"))
}

/// Whether values of one type are those of another, as far as they fit: finer times are cut, floats rounded.
fn is_near(from: &DataType, to: &DataType) -> bool {
    use DataType as Type;
    let from = match from {
        Type::Dictionary(_, values) => values.as_ref(),
        Type::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    };
    let is_bytes = |kind: &Type| matches!(kind, Type::Binary | Type::LargeBinary | Type::BinaryView | Type::FixedSizeBinary(_));
    match to {
        Type::Int32 | Type::Int64 => from.is_integer(),
        Type::Float32 | Type::Float64 => from.is_integer() || from.is_floating(),
        Type::Decimal128(_, _) | Type::Decimal256(_, _) => from.is_integer() || from.is_decimal(),
        Type::Utf8 => is_text(from) || is_bytes(from) && !matches!(from, Type::FixedSizeBinary(_)),
        Type::Binary => is_text(from) || is_bytes(from),
        Type::FixedSizeBinary(_) => is_bytes(from),
        Type::Date32 => matches!(from, Type::Date32 | Type::Date64),
        Type::Time32(_) | Type::Time64(_) => matches!(from, Type::Time32(_) | Type::Time64(_)),
        Type::Timestamp(_, _) => matches!(from, Type::Timestamp(_, _)),
        other => from == other,
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        _ => false,
    }
}

/// A cast of values that all fit.
fn strict(array: &ArrayRef, to: &DataType, path: &str) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|error| {
        Error::schema(format!("column `{path}` of type {} has a value that is no {to}, which the Avro schema has", array.data_type()))
            .with_source(error)
    })
}

/// Texts as the places that they have among the symbols of an enum.
fn symbol(texts: &ArrayRef, symbols: &str, path: &str) -> Result<ArrayRef> {
    let symbols: Vec<String> = serde_json::from_str(symbols).map_err(|_| Error::schema("the Avro schema has an enum without symbols"))?;
    let places: HashMap<&str, i32> = (0..).zip(&symbols).map(|(place, symbol)| (symbol.as_str(), place)).collect();
    let place = |text: Option<&str>| match text {
        None => Ok(None),
        Some(text) => places.get(text).copied().map(Some).ok_or_else(|| {
            Error::schema(format!("column `{path}` has the text {text:?}, and the Avro schema an enum of {}", symbols.join(", ")))
        }),
    };
    let keys = texts.as_string::<i32>().iter().map(place).collect::<Result<Int32Array>>()?;
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(StringArray::from_iter_values(&symbols)))?))
}

/// Texts of 32 hexadecimal digits, with or without hyphens, as 16 bytes.
fn uuids(texts: &StringArray, path: &str) -> Result<ArrayRef> {
    let mut made = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    for text in texts.iter() {
        match text {
            None => made.append_null(),
            Some(text) => {
                let digits: String = text.chars().filter(|digit| *digit != '-').collect();
                let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32 && !digits.starts_with('+'));
                let number = number.ok_or_else(|| Error::schema(format!("column `{path}` has the text {text:?}, which is no UUID")))?;
                made.append_value(number.to_be_bytes())?;
            }
        }
    }
    Ok(Arc::new(made.finish()))
}
