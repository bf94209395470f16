//! One column being filled from the values of one field.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{DataType, Field, TimeUnit};
use thalweg_kernels::Text;

use super::number::{Digits, extent, float32, float64, integer, window};
use super::text::{plain, string, word};
use super::time::rfc3339;
use crate::error::{Error, Result};

/// A column of one of the types that this decoder knows.
#[derive(Debug)]
pub(super) struct Column {
    data_type: DataType,
    nullable: bool,
    values: Values,
    /// The rows that are null, in ascending order; their values are zero or empty.
    nulls: Vec<usize>,
}

#[derive(Debug)]
#[repr(u8)] // a tag of its own is read faster than one hidden in a capacity
enum Values {
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Date32(Vec<i32>),
    Timestamp(Vec<i64>, TimeUnit, Tz),
    Boolean(BooleanBufferBuilder),
    Utf8(Vec<i32>, Vec<u8>),
}

/// Calls `$body` with the vector of values of any numeric variant.
macro_rules! with_numbers {
    ($values:expr, $vec:ident => $body:expr, bool $bits:ident => $bool:expr, text $offsets:ident, $bytes:ident => $text:expr) => {
        match $values {
            Values::Int8($vec) => $body,
            Values::Int16($vec) => $body,
            Values::Int32($vec) | Values::Date32($vec) => $body,
            Values::Int64($vec) | Values::Timestamp($vec, ..) => $body,
            Values::UInt8($vec) => $body,
            Values::UInt16($vec) => $body,
            Values::UInt32($vec) => $body,
            Values::UInt64($vec) => $body,
            Values::Float32($vec) => $body,
            Values::Float64($vec) => $body,
            Values::Boolean($bits) => $bool,
            Values::Utf8($offsets, $bytes) => $text,
        }
    };
}

/// An integer that digits can become.
trait Integer: Copy {
    /// The value of a literal without fraction or exponent, if it fits.
    fn from_digits(digits: Digits) -> Option<Self>;

    /// The value of any numeric literal: as an integer, else as an `f64` cut towards zero, if it fits.
    fn from_literal(literal: &[u8]) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty),+) => {
        $(impl Integer for $type {
            #[inline(always)]
            fn from_digits(digits: Digits) -> Option<Self> {
                match digits.negative {
                    false => digits.magnitude.try_into().ok(),
                    true => 0_i64.checked_sub_unsigned(digits.magnitude)?.try_into().ok(),
                }
            }

            fn from_literal(literal: &[u8]) -> Option<Self> {
                if let Ok(value) = lexical_core::parse::<$type>(literal) {
                    return Some(value);
                }
                // The cast saturates, and no 64-bit integer is near its bounds.
                let value = lexical_core::parse::<f64>(literal).ok().filter(|value| !value.is_nan())?;
                (value as i128).try_into().ok()
            }
        })+
    };
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Column {
    /// An empty column for `field`; `None` if its type is not one of those known here.
    ///
    /// # Errors
    /// If the field's time zone is unknown.
    pub(super) fn new(field: &Field) -> Result<Option<Column>> {
        let values = match field.data_type() {
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt8 => Values::UInt8(Vec::new()),
            DataType::UInt16 => Values::UInt16(Vec::new()),
            DataType::UInt32 => Values::UInt32(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Date32 => Values::Date32(Vec::new()),
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Utf8 => Values::Utf8(vec![0], Vec::new()),
            DataType::Timestamp(unit, zone) => {
                let zone = zone.as_deref().unwrap_or("+00:00");
                let unknown = || Error::schema(format!("the time zone `{zone}` of column `{}` is unknown", field.name()));
                let tz = zone.parse::<Tz>().map_err(|error| unknown().with_source(error))?;
                Values::Timestamp(Vec::new(), *unit, tz)
            }
            _ => return Ok(None),
        };
        Ok(Some(Column { data_type: field.data_type().clone(), nullable: field.is_nullable(), values, nulls: Vec::new() }))
    }

    /// How many rows it has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        with_numbers!(&self.values, values => values.len(), bool bits => bits.len(), text offsets, _bytes => offsets.len() - 1)
    }

    /// Drops the rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        with_numbers!(
            &mut self.values,
            values => values.truncate(rows),
            bool bits => bits.truncate(rows),
            text offsets, bytes => {
                offsets.truncate(rows + 1);
                bytes.truncate(offsets.last().map_or(0, |&end| end as usize));
            }
        );
        while self.nulls.last().is_some_and(|&row| row >= rows) {
            self.nulls.pop();
        }
    }

    /// Adds a null; `None` if the column has none.
    pub(super) fn push_null(&mut self) -> Option<()> {
        if !self.nullable {
            return None;
        }
        self.nulls.push(self.len());
        with_numbers!(
            &mut self.values,
            values => values.push(Default::default()),
            bool bits => bits.append(false),
            text offsets, bytes => offsets.push(bytes.len() as i32)
        );
        Some(())
    }

    /// Adds the value at `at` and returns the position after it; `None`, with nothing added, if arrow-json has to judge it.
    #[inline(always)]
    pub(super) fn parse<T: Text>(&mut self, how: T, text: &[u8], at: usize, scratch: &mut Vec<u8>) -> Option<usize> {
        match self.usual(how, text, at) {
            Some(end) => Some(end),
            None => self.unusual(text, at, scratch),
        }
    }

    /// The values that are worth being fast for: numbers that are exact at once, short strings without escapes.
    #[inline(always)]
    fn usual<T: Text>(&mut self, how: T, text: &[u8], at: usize) -> Option<usize> {
        match &mut self.values {
            Values::Int8(values) => push_integer(values, how, text, at),
            Values::Int16(values) => push_integer(values, how, text, at),
            Values::Int32(values) | Values::Date32(values) => push_integer(values, how, text, at),
            Values::Int64(values) => push_integer(values, how, text, at),
            Values::Timestamp(values, unit, _) => match text.get(at)? {
                b'"' => {
                    let (seconds, nanos, end) = rfc3339(text, at + 1)?;
                    values.push(match unit {
                        TimeUnit::Second => seconds,
                        TimeUnit::Millisecond => seconds * 1_000 + nanos / 1_000_000,
                        TimeUnit::Microsecond => seconds * 1_000_000 + nanos / 1_000,
                        TimeUnit::Nanosecond => seconds * 1_000_000_000 + nanos,
                    });
                    Some(end)
                }
                _ => push_integer(values, how, text, at),
            },
            Values::UInt8(values) => push_integer(values, how, text, at),
            Values::UInt16(values) => push_integer(values, how, text, at),
            Values::UInt32(values) => push_integer(values, how, text, at),
            Values::UInt64(values) => push_integer(values, how, text, at),
            Values::Float32(values) => {
                let (value, end) = float32(how, text, at)?;
                values.push(value);
                Some(end)
            }
            Values::Float64(values) => {
                let (value, end) = float64(how, text, at)?;
                values.push(value);
                Some(end)
            }
            Values::Boolean(bits) => match window(text, at)? {
                b"true" => {
                    bits.append(true);
                    Some(at + 4)
                }
                b"fals" if text.get(at + 4) == Some(&b'e') => {
                    bits.append(false);
                    Some(at + 5)
                }
                _ => None,
            },
            Values::Utf8(offsets, bytes) => {
                if *text.get(at)? != b'"' {
                    return None;
                }
                let start = at + 1;
                if let Some(window) = window(text, start)
                    && let Some(length) = how.plain(window)
                {
                    // All sixteen bytes and then back: a copy of known length is two moves instead of a call.
                    let end = bytes.len() + length;
                    offsets.push(i32::try_from(end).ok()?);
                    bytes.extend_from_slice(window);
                    bytes.truncate(end);
                    return Some(start + length + 1);
                }
                let (value, after) = plain(text, start)?;
                offsets.push(i32::try_from(bytes.len() + value.len()).ok()?);
                bytes.extend_from_slice(value);
                Some(after)
            }
        }
    }

    /// Every other value that arrow-json takes for this type, except nested ones.
    #[inline(never)]
    fn unusual(&mut self, text: &[u8], at: usize, scratch: &mut Vec<u8>) -> Option<usize> {
        match text.get(at)? {
            b'n' => {
                let end = word(text, at, b"null")?;
                self.push_null().map(|()| end)
            }
            b't' | b'f' => {
                let Values::Boolean(bits) = &mut self.values else { return None };
                let value = text[at] == b't';
                let end = word(text, at, if value { b"true" } else { b"false" })?;
                bits.append(value);
                Some(end)
            }
            b'"' => {
                let (value, end) = string(text, at + 1, scratch)?;
                self.push_string(value).map(|()| end)
            }
            _ => {
                let literal = extent(text, at)?;
                self.push_literal(literal).map(|()| at + literal.len())
            }
        }
    }

    /// Adds the value of a numeric literal.
    fn push_literal(&mut self, literal: &[u8]) -> Option<()> {
        match &mut self.values {
            Values::Int8(values) => values.push(i8::from_literal(literal)?),
            Values::Int16(values) => values.push(i16::from_literal(literal)?),
            Values::Int32(values) | Values::Date32(values) => values.push(i32::from_literal(literal)?),
            Values::Int64(values) => values.push(i64::from_literal(literal)?),
            Values::UInt8(values) => values.push(u8::from_literal(literal)?),
            Values::UInt16(values) => values.push(u16::from_literal(literal)?),
            Values::UInt32(values) => values.push(u32::from_literal(literal)?),
            Values::UInt64(values) => values.push(u64::from_literal(literal)?),
            Values::Float32(values) => values.push(lexical_core::parse(literal).ok()?),
            Values::Float64(values) => values.push(lexical_core::parse(literal).ok()?),
            // As arrow-json: a timestamp out of range is cut to the range, not refused.
            Values::Timestamp(values, ..) => {
                values.push(lexical_core::parse(literal).or_else(|_| lexical_core::parse::<f64>(literal).map(|value| value as i64)).ok()?);
            }
            Values::Boolean(_) | Values::Utf8(..) => return None,
        }
        Some(())
    }

    /// Adds the value of a string; numbers in quotes are numbers.
    fn push_string(&mut self, value: &[u8]) -> Option<()> {
        if let Values::Utf8(offsets, bytes) = &mut self.values {
            let end = i32::try_from(bytes.len() + value.len()).ok()?;
            bytes.extend_from_slice(value);
            offsets.push(end);
            return Some(());
        }
        let value = std::str::from_utf8(value).ok()?;
        match &mut self.values {
            Values::Int8(values) => values.push(Int8Type::parse(value)?),
            Values::Int16(values) => values.push(Int16Type::parse(value)?),
            Values::Int32(values) => values.push(Int32Type::parse(value)?),
            Values::Int64(values) => values.push(Int64Type::parse(value)?),
            Values::UInt8(values) => values.push(UInt8Type::parse(value)?),
            Values::UInt16(values) => values.push(UInt16Type::parse(value)?),
            Values::UInt32(values) => values.push(UInt32Type::parse(value)?),
            Values::UInt64(values) => values.push(UInt64Type::parse(value)?),
            Values::Float32(values) => values.push(Float32Type::parse(value)?),
            Values::Float64(values) => values.push(Float64Type::parse(value)?),
            Values::Date32(values) => values.push(Date32Type::parse(value)?),
            Values::Timestamp(values, unit, tz) => {
                let time = string_to_datetime(tz, value).ok()?;
                values.push(match unit {
                    TimeUnit::Second => time.timestamp(),
                    TimeUnit::Millisecond => time.timestamp_millis(),
                    TimeUnit::Microsecond => time.timestamp_micros(),
                    TimeUnit::Nanosecond => time.timestamp_nanos_opt()?,
                });
            }
            Values::Boolean(_) | Values::Utf8(..) => return None,
        }
        Some(())
    }

    /// Adds the only row of `array`, which has this column's type; `None` if its text does not fit any more.
    pub(super) fn push_row(&mut self, array: &dyn Array) -> Option<()> {
        if array.is_null(0) {
            return self.push_null();
        }
        match &mut self.values {
            Values::Int8(values) => values.push(array.as_primitive::<Int8Type>().value(0)),
            Values::Int16(values) => values.push(array.as_primitive::<Int16Type>().value(0)),
            Values::Int32(values) => values.push(array.as_primitive::<Int32Type>().value(0)),
            Values::Int64(values) => values.push(array.as_primitive::<Int64Type>().value(0)),
            Values::UInt8(values) => values.push(array.as_primitive::<UInt8Type>().value(0)),
            Values::UInt16(values) => values.push(array.as_primitive::<UInt16Type>().value(0)),
            Values::UInt32(values) => values.push(array.as_primitive::<UInt32Type>().value(0)),
            Values::UInt64(values) => values.push(array.as_primitive::<UInt64Type>().value(0)),
            Values::Float32(values) => values.push(array.as_primitive::<Float32Type>().value(0)),
            Values::Float64(values) => values.push(array.as_primitive::<Float64Type>().value(0)),
            Values::Date32(values) => values.push(array.as_primitive::<Date32Type>().value(0)),
            Values::Timestamp(values, unit, _) => values.push(match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(0),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(0),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(0),
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(0),
            }),
            Values::Boolean(bits) => bits.append(array.as_boolean().value(0)),
            Values::Utf8(..) => return self.push_string(array.as_string::<i32>().value(0).as_bytes()),
        }
        Some(())
    }

    /// The rows as an array; the column starts again, with room for as many.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.finish_nulls();
        Ok(match &mut self.values {
            Values::Int8(values) => primitive::<Int8Type>(values, nulls, &self.data_type)?,
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, &self.data_type)?,
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, &self.data_type)?,
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, &self.data_type)?,
            Values::UInt8(values) => primitive::<UInt8Type>(values, nulls, &self.data_type)?,
            Values::UInt16(values) => primitive::<UInt16Type>(values, nulls, &self.data_type)?,
            Values::UInt32(values) => primitive::<UInt32Type>(values, nulls, &self.data_type)?,
            Values::UInt64(values) => primitive::<UInt64Type>(values, nulls, &self.data_type)?,
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, &self.data_type)?,
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, &self.data_type)?,
            Values::Date32(values) => primitive::<Date32Type>(values, nulls, &self.data_type)?,
            Values::Timestamp(values, TimeUnit::Second, _) => primitive::<TimestampSecondType>(values, nulls, &self.data_type)?,
            Values::Timestamp(values, TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType>(values, nulls, &self.data_type)?,
            Values::Timestamp(values, TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(values, nulls, &self.data_type)?,
            Values::Timestamp(values, TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType>(values, nulls, &self.data_type)?,
            Values::Boolean(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Utf8(offsets, bytes) => {
                let mut next = Vec::with_capacity(room(offsets.len()));
                next.push(0);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, next)));
                let next = Vec::with_capacity(room(bytes.len()));
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(std::mem::replace(bytes, next)), nulls)?)
            }
        })
    }

    fn finish_nulls(&mut self) -> Option<NullBuffer> {
        if self.nulls.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(self.len());
        valid.append_n(self.len(), true);
        for row in self.nulls.drain(..) {
            valid.set_bit(row, false);
        }
        Some(NullBuffer::new(valid.finish()))
    }
}

/// Room for the next batch when the last had `used`: somewhat more, for batches are never of quite the same size
/// and growing means copying.
fn room(used: usize) -> usize {
    used + used / 8 + 32
}

#[inline(always)]
fn push_integer<I: Integer, T: Text>(values: &mut Vec<I>, how: T, text: &[u8], at: usize) -> Option<usize> {
    let digits = integer(how, text, at)?;
    values.push(I::from_digits(digits)?);
    Some(digits.end)
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef> {
    let next = Vec::with_capacity(room(values.len()));
    let values = std::mem::replace(values, next);
    Ok(Arc::new(PrimitiveArray::<T>::try_new(values.into(), nulls)?.with_data_type(data_type.clone())))
}
