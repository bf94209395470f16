//! Single values of a column of any type, kept for later.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, ArrowPrimitiveType, AsArray, UInt32Array, make_array, new_null_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float32Type, Float64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::row::{RowConverter, SortField};

use crate::error::Result;
use crate::state::{Reader, Writer};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// Its bits, of types of up to eight bytes.
    Word(u64),
    /// In Arrow's row format, of all others.
    Bytes(Box<[u8]>),
}

impl Kept {
    /// Bytes that it holds elsewhere.
    pub fn bytes(&self) -> usize {
        match self {
            Kept::Word(_) => 0,
            Kept::Bytes(bytes) => bytes.len(),
        }
    }

    pub fn save(&self, out: &mut Writer) {
        match self {
            Kept::Word(word) => out.words(&[0, *word]),
            Kept::Bytes(bytes) => {
                out.word(1);
                out.bytes(bytes);
            }
        }
    }

    pub fn load(from: &mut Reader<'_>) -> Result<Kept> {
        match from.word()? {
            0 => from.word().map(Kept::Word),
            _ => from.bytes().map(|bytes| Kept::Bytes(bytes.into())),
        }
    }
}

/// Takes values of one type out of columns and puts them into new ones.
#[derive(Clone)]
pub(crate) struct Keeper {
    data_type: DataType,
    /// For types that do not fit a word.
    rows: Option<Arc<RowConverter>>,
}

impl Keeper {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if values of this type cannot be kept.
    pub fn new(data_type: &DataType) -> Result<Keeper> {
        let fits = data_type.primitive_width().is_some_and(|width| width <= 8);
        let rows = match fits {
            true => None,
            false => Some(Arc::new(RowConverter::new(vec![SortField::new(data_type.clone())])?)),
        };
        Ok(Keeper { data_type: data_type.clone(), rows })
    }

    /// The values of some rows of `column`.
    pub fn keep(&self, column: &ArrayRef, rows: &[u32]) -> Result<Vec<Kept>> {
        match &self.rows {
            None => Ok(words(column, rows)),
            Some(converter) => {
                let column = take(column, &UInt32Array::from(rows.to_vec()), None)?;
                let rows = converter.convert_columns(&[column])?;
                Ok(rows.iter().map(|row| Kept::Bytes(row.as_ref().into())).collect())
            }
        }
    }

    /// A column of values, null where there is none.
    pub fn column<'a>(&self, values: impl ExactSizeIterator<Item = Option<&'a Kept>> + Clone) -> Result<ArrayRef> {
        let nulls: NullBuffer = values.clone().map(|value| value.is_some()).collect();
        if let Some(converter) = &self.rows {
            // A row of its own for the places without a value, which the nulls hide.
            let absent = converter.convert_columns(&[new_null_array(&self.data_type, 1)])?;
            let parser = converter.parser();
            let rows = values.map(|value| match value {
                Some(Kept::Bytes(bytes)) => parser.parse(bytes),
                _ => parser.parse(absent.row(0).data()),
            });
            let rows: Vec<_> = rows.collect();
            let mut columns = converter.convert_rows(rows)?;
            let column = columns.pop().unwrap_or_else(|| new_null_array(&self.data_type, 0));
            return Ok(if *column.data_type() == self.data_type { column } else { cast(&column, &self.data_type)? });
        }
        let words = values.clone().map(|value| match value {
            Some(Kept::Word(word)) => *word,
            _ => 0,
        });
        let buffer = match self.data_type.primitive_width() {
            Some(1) => Buffer::from_vec(words.map(|word| word as u8).collect::<Vec<_>>()),
            Some(2) => Buffer::from_vec(words.map(|word| word as u16).collect::<Vec<_>>()),
            Some(4) => Buffer::from_vec(words.map(|word| word as u32).collect::<Vec<_>>()),
            _ => Buffer::from_vec(words.collect::<Vec<u64>>()),
        };
        let data = ArrayData::builder(self.data_type.clone()).len(values.len()).add_buffer(buffer);
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        Ok(make_array(data.nulls(nulls).build()?))
    }
}

/// The bits of fixed-width values.
fn words(column: &ArrayRef, rows: &[u32]) -> Vec<Kept> {
    fn of<T: ArrowPrimitiveType>(column: &ArrayRef, rows: &[u32]) -> Vec<Kept>
    where
        T::Native: Into<u64>,
    {
        let data = column.to_data();
        let values = &data.buffer::<T::Native>(0)[..column.len()];
        rows.iter().map(|&row| Kept::Word(values[row as usize].into())).collect()
    }
    match column.data_type().primitive_width() {
        Some(1) => of::<UInt8Type>(column, rows),
        Some(2) => of::<UInt16Type>(column, rows),
        Some(4) => of::<UInt32Type>(column, rows),
        _ => of::<UInt64Type>(column, rows),
    }
}

/// The column with one zero and one NaN, so that floats are equal exactly if their bits are.
pub(super) fn canonical(column: &ArrayRef) -> ArrayRef {
    // A sum with zero has no sign if it is zero.
    match column.data_type() {
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            Arc::new(values.unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value + 0.0 }))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            Arc::new(values.unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value + 0.0 }))
        }
        _ => Arc::clone(column),
    }
}
