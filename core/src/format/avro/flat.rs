//! Records of numbers, texts and the like, straight into columns; `arrow-avro` decodes those that hold more.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, DictionaryArray, NullBufferBuilder, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StringArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use serde_json::Value;

/// What a record says that is shorter than its fields.
const TOO_EARLY: &str = "the record ends too early";

/// The most bytes of an int.
const INT_BYTES: usize = 5;

/// What stands before values of the types of a union: their numbers, doubled.
const FIRST: u64 = 0;
const SECOND: u64 = 2;

/// Decodes records whose fields are all flat, or passed over and flat.
#[derive(Debug)]
pub(super) struct Flat {
    columns: SchemaRef,
    fields: Vec<Field>,
    rows: usize,
}

#[derive(Debug)]
struct Field {
    /// What stands for null in a union of it and the field's type.
    null: Option<u64>,
    values: Values,
    validity: NullBufferBuilder,
    /// Its place among the columns; `None` if it is passed over.
    column: Option<usize>,
}

/// Values of a field, as they are written.
#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    /// Where each begins and where the last one ends, and the bytes of all.
    Bytes(Vec<i32>, Vec<u8>),
    /// Places among the names.
    Enum(Vec<i32>, Arc<StringArray>),
}

impl Flat {
    /// A decoder of `columns`, which are fields of the schema `writer`; `None` if a field, or the type of a column, is not flat.
    pub(super) fn new(writer: &Value, columns: &SchemaRef) -> Option<Flat> {
        let fields = writer.get("fields")?.as_array()?;
        let fields: Vec<Field> = fields.iter().map(|field| Field::new(field, columns)).collect::<Option<_>>()?;
        let decoded = fields.iter().filter(|field| field.column.is_some()).count();
        // What takes no bytes has other rules.
        (decoded == columns.fields().len() && decoded > 0).then(|| Flat { columns: SchemaRef::clone(columns), fields, rows: 0 })
    }

    /// Decodes one record, and no less than all of it.
    ///
    /// # Errors
    /// In words, if it does not decode, which leaves the decoder in the middle of something: [`clear`](Self::clear) it.
    pub(super) fn record(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut input = Input { bytes, at: 0 };
        self.one(&mut input)?;
        input.ended()
    }

    /// Decodes a block: how many records it has, these, and a zero.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub(super) fn block(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut input = Input { bytes, at: 0 };
        for _ in 0..input.long()? {
            self.one(&mut input)?;
        }
        match input.long()? {
            0 => input.ended(),
            _ => Err("it has more records than it says".to_owned()),
        }
    }

    #[inline]
    fn one(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        self.rows += 1;
        self.fields.iter_mut().try_for_each(|field| field.decode(input))
    }

    /// The rows since they were taken last.
    ///
    /// # Errors
    /// In words, if a text is not UTF-8.
    pub(super) fn take(&mut self) -> Result<RecordBatch, String> {
        let rows = std::mem::take(&mut self.rows);
        let mut columns = vec![None; self.columns.fields().len()];
        for field in &mut self.fields {
            let Some(column) = field.column else { continue };
            let nulls = field.validity.finish();
            columns[column] = Some(field.values.take(self.columns.field(column).data_type(), nulls)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = columns.into_iter().flatten().collect();
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.columns), columns, &options).map_err(|error| error.to_string())
    }

    /// Forgets the rows since they were taken last.
    pub(super) fn clear(&mut self) {
        self.rows = 0;
        for field in &mut self.fields {
            field.validity = NullBufferBuilder::new(0);
            field.values.clear();
        }
    }
}

impl Field {
    fn new(field: &Value, columns: &Schema) -> Option<Field> {
        let column = columns.index_of(field.get("name")?.as_str()?).ok();
        let kind = field.get("type")?;
        let (null, kind) = match kind.as_array().map(Vec::as_slice) {
            None => (None, kind),
            Some([null, kind]) if null == "null" => (Some(FIRST), kind),
            Some([kind, null]) if null == "null" => (Some(SECOND), kind),
            Some(_) => return None,
        };
        let values = Values::new(kind, column.map(|column| columns.field(column).data_type()))?;
        Some(Field { null, values, validity: NullBufferBuilder::new(0), column })
    }

    #[inline]
    fn decode(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let is_null = match self.null {
            None => false,
            Some(null) => match input.varint()? {
                branch @ (FIRST | SECOND) => branch == null,
                _ => return Err("a field is of a type that its union does not have".to_owned()),
            },
        };
        match self.column {
            Some(_) if is_null => {
                self.values.push_default();
                self.validity.append_null();
            }
            Some(_) => {
                self.values.push(input)?;
                self.validity.append_non_null();
            }
            None if is_null => {}
            None => self.values.skip(input)?,
        }
        Ok(())
    }
}

impl Values {
    /// For values of the Avro type `written`, which become a column of the type `kind`, or are passed over.
    fn new(written: &Value, kind: Option<&DataType>) -> Option<Values> {
        let name = written.as_str().or_else(|| written.get("type")?.as_str())?;
        let is_any = |kinds: &dyn Fn(&DataType) -> bool| kind.is_none_or(kinds);
        Some(match name {
            "boolean" if is_any(&|kind| *kind == DataType::Boolean) => Values::Boolean(BooleanBufferBuilder::new(0)),
            "int" if is_any(&|kind| matches!(kind, DataType::Int32 | DataType::Date32 | DataType::Time32(TimeUnit::Millisecond))) => {
                Values::Int(Vec::new())
            }
            "long" if is_any(&|kind| matches!(kind, DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(_, _))) => {
                Values::Long(Vec::new())
            }
            "float" if is_any(&|kind| *kind == DataType::Float32) => Values::Float(Vec::new()),
            "double" if is_any(&|kind| *kind == DataType::Float64) => Values::Double(Vec::new()),
            "bytes" if is_any(&|kind| *kind == DataType::Binary) => Values::Bytes(vec![0], Vec::new()),
            "string" if is_any(&|kind| *kind == DataType::Utf8) => Values::Bytes(vec![0], Vec::new()),
            "enum"
                if is_any(
                    &|kind| matches!(kind, DataType::Dictionary(key, value) if (&**key, &**value) == (&DataType::Int32, &DataType::Utf8)),
                ) =>
            {
                let names: Vec<&str> = written.get("symbols")?.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
                Values::Enum(Vec::new(), Arc::new(StringArray::from(names)))
            }
            _ => return None,
        })
    }

    #[inline]
    fn push(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        match self {
            Values::Boolean(values) => values.append(input.fixed::<1>()? != [0]),
            Values::Int(values) => values.push(input.int()?),
            Values::Long(values) => values.push(input.long()?),
            Values::Float(values) => values.push(f32::from_le_bytes(input.fixed()?)),
            Values::Double(values) => values.push(f64::from_le_bytes(input.fixed()?)),
            Values::Bytes(ends, values) => {
                values.extend_from_slice(input.bytes()?);
                ends.push(i32::try_from(values.len()).map_err(|_| "a column has more than 2 GiB")?);
            }
            Values::Enum(values, names) => values.push(input.symbol(names.len())?),
        }
        Ok(())
    }

    fn push_default(&mut self) {
        match self {
            Values::Boolean(values) => values.append(false),
            Values::Int(values) | Values::Enum(values, _) => values.push(0),
            Values::Long(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Bytes(ends, _) => ends.push(ends[ends.len() - 1]),
        }
    }

    fn skip(&self, input: &mut Input<'_>) -> Result<(), String> {
        match self {
            Values::Boolean(_) => input.fixed::<1>().map(drop),
            Values::Int(_) => input.int().map(drop),
            Values::Long(_) => input.long().map(drop),
            Values::Float(_) => input.fixed::<4>().map(drop),
            Values::Double(_) => input.fixed::<8>().map(drop),
            Values::Bytes(_, _) => input.bytes().map(drop),
            Values::Enum(_, names) => input.symbol(names.len()).map(drop),
        }
    }

    fn clear(&mut self) {
        match self {
            Values::Boolean(values) => values.truncate(0),
            Values::Int(values) | Values::Enum(values, _) => values.clear(),
            Values::Long(values) => values.clear(),
            Values::Float(values) => values.clear(),
            Values::Double(values) => values.clear(),
            Values::Bytes(ends, values) => {
                ends.truncate(1);
                values.clear();
            }
        }
    }

    /// The values as an array of the type `kind`; as many are expected next.
    fn take(&mut self, kind: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
        let failed = |error: ArrowError| error.to_string();
        Ok(match self {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int(values) => numbers(taken(values), kind, nulls).map_err(failed)?,
            Values::Long(values) => numbers(taken(values), kind, nulls).map_err(failed)?,
            Values::Float(values) => numbers(taken(values), kind, nulls).map_err(failed)?,
            Values::Double(values) => numbers(taken(values), kind, nulls).map_err(failed)?,
            Values::Bytes(ends, values) => {
                let places = OffsetBuffer::new(taken(ends).into());
                ends.push(0);
                let values = Buffer::from_vec(taken(values));
                match kind {
                    DataType::Utf8 => Arc::new(StringArray::try_new(places, values, nulls).map_err(failed)?),
                    _ => Arc::new(BinaryArray::try_new(places, values, nulls).map_err(failed)?),
                }
            }
            Values::Enum(values, names) => {
                let keys = PrimitiveArray::<Int32Type>::new(taken(values).into(), nulls);
                Arc::new(DictionaryArray::try_new(keys, Arc::clone(names) as ArrayRef).map_err(failed)?)
            }
        })
    }
}

/// The values, in whose place as many are expected next.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn numbers<T: ArrowNativeType>(values: Vec<T>, kind: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let data = ArrayData::builder(kind.clone()).len(values.len()).nulls(nulls).add_buffer(Buffer::from_vec(values));
    Ok(make_array(data.build()?))
}

/// The bytes of a record, and how many of them have been read.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// # Errors
    /// In words, if there are bytes left.
    fn ended(&self) -> Result<(), String> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err("the record is longer than its schema says".to_owned()),
        }
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let found = self.bytes[self.at..].first_chunk().ok_or(TOO_EARLY)?;
        self.at += N;
        Ok(*found)
    }

    /// Bytes with their length before them.
    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.long()?;
        let rest = &self.bytes[self.at..];
        match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(found) => {
                self.at += found.len();
                Ok(found)
            }
            None => Err(format!("{TOO_EARLY}: it claims {length} bytes of the {} that are left", rest.len())),
        }
    }

    #[inline]
    fn int(&mut self) -> Result<i32, String> {
        let start = self.at;
        let number = self.long()?;
        match i32::try_from(number) {
            // More bytes could say no more, and other decoders stop there.
            Ok(_) if self.at - start > INT_BYTES => Err(format!("an int has more than {INT_BYTES} bytes")),
            Ok(int) => Ok(int),
            Err(_) => Err(format!("the number {number} is no int")),
        }
    }

    #[inline]
    fn long(&mut self) -> Result<i64, String> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// The place of a name in an enum of so many.
    #[inline]
    fn symbol(&mut self, names: usize) -> Result<i32, String> {
        let place = self.int()?;
        match usize::try_from(place).is_ok_and(|place| place < names) {
            true => Ok(place),
            false => Err(format!("there is no name {place} in an enum of {names}")),
        }
    }

    /// A number of seven bits a byte, the least first.
    #[inline]
    fn varint(&mut self) -> Result<u64, String> {
        let rest = &self.bytes[self.at..];
        if let [byte @ ..0x80, ..] = rest {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        // Eight bytes at once, up to the first without its highest bit.
        if let Some(word) = rest.first_chunk::<8>().map(|word| u64::from_le_bytes(*word)) {
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                self.at += ends.trailing_zeros() as usize / 8 + 1;
                return Ok(packed(word & (ends ^ (ends - 1))));
            }
        }
        self.long_varint()
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for (place, byte) in self.bytes[self.at..].iter().enumerate() {
            if place == 9 && *byte > 1 {
                return Err("a number has more than 64 bits".to_owned());
            }
            number |= u64::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                self.at += place + 1;
                return Ok(number);
            }
        }
        Err(TOO_EARLY.to_owned())
    }
}

/// The lower seven bits of each byte, one behind the other.
fn packed(word: u64) -> u64 {
    let word = word & 0x7F7F_7F7F_7F7F_7F7F;
    let word = (word & 0x007F_007F_007F_007F) | (word & 0x7F00_7F00_7F00_7F00) >> 1;
    let word = (word & 0x0000_3FFF_0000_3FFF) | (word & 0x3FFF_0000_3FFF_0000) >> 2;
    (word & 0x0FFF_FFFF) | (word & 0x0FFF_FFFF_0000_0000) >> 4
}

#[cfg(test)]
mod tests;
