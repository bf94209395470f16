//! What aggregates take of a batch: columns as the kernels want them, computed once each, null where a row does not count.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options, not, nullif, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use thalweg_kernels::{Bits, Hash, hash_bytes, hash_f64, hash_i64, hll_coupon};

use super::images::Sketch;
use super::{Aggregate, Function};
use crate::error::{Error, Result};
use crate::expr::{Compiled, Expression};
use crate::operator::column_index;
use crate::operator::split::split;

/// The hash of distinct values: fixed, so that sketches of different runs can be merged.
pub(super) const DISTINCT: Hash = Hash::Seeded(0);

/// How the values of a column are accumulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// As `f64`.
    Float,
    /// As `i64`.
    Int,
}

/// What becomes of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// Numbers.
    Lane(Lane),
    /// Zeros where there is a value: it is only counted. Without a column, every row has one.
    Mark,
    /// Hashes of the values.
    Hash,
    /// Hashes as those of DataSketches, without what its coupons do not tell.
    Coupon,
    /// Sketches, as large binary.
    Sketch(Sketch),
    /// The column as it is.
    Whole,
    /// The event time of the rows.
    Time,
}

/// One input: a column in some form, of the rows that a condition lets through.
#[derive(Debug, Clone, PartialEq)]
struct Input {
    form: Form,
    column: Option<usize>,
    filter: Option<usize>,
}

/// The inputs of the aggregates of one operator; those that are alike are one.
#[derive(Debug)]
pub(crate) struct Inputs {
    schema: SchemaRef,
    inputs: Vec<Input>,
    filters: Vec<(Expression, Compiled)>,
}

impl Inputs {
    pub fn new(schema: &SchemaRef) -> Inputs {
        Inputs { schema: SchemaRef::clone(schema), inputs: Vec::new(), filters: Vec::new() }
    }

    /// Type of the column `name`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if there is none.
    pub fn data_type(&self, name: &str) -> Result<DataType> {
        Ok(self.schema.field(column_index(&self.schema, name)?).data_type().clone())
    }

    /// The numbers in the column `name`, or marks of its values if they can only be counted; and their lane.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if there is no such column or the function does not take its type.
    pub fn numbers(&mut self, aggregate: &Aggregate, name: &str) -> Result<(usize, Lane)> {
        let index = column_index(&self.schema, name)?;
        let data_type = self.schema.field(index).data_type();
        let function = &aggregate.function;
        let in_order = matches!(function, Function::Count | Function::Min | Function::Max | Function::ArgMin | Function::ArgMax);
        match lane(data_type) {
            Some(lane) if in_order || data_type.is_numeric() => Ok((self.add(Form::Lane(lane), Some(index), aggregate)?, lane)),
            None if *function == Function::Count => Ok((self.add(Form::Mark, Some(index), aggregate)?, Lane::Int)),
            _ => {
                let name = function.name();
                Err(Error::schema(format!("{aggregate}: {name} does not take a column of type {data_type}; cast it first")))
            }
        }
    }

    /// The numbers in the column `name` as floats.
    ///
    /// # Errors
    /// As [`Inputs::numbers`].
    pub fn floats(&mut self, aggregate: &Aggregate, name: &str) -> Result<usize> {
        let data_type = self.data_type(name)?;
        if !data_type.is_numeric() {
            let name = aggregate.function.name();
            return Err(Error::schema(format!("{aggregate}: {name} does not take a column of type {data_type}; cast it first")));
        }
        self.add(Form::Lane(Lane::Float), Some(column_index(&self.schema, name)?), aggregate)
    }

    /// Whether an input only marks rows.
    pub fn is_marks(&self, input: usize) -> bool {
        self.inputs[input].form == Form::Mark && self.inputs[input].column.is_none()
    }

    /// Marks of the rows that count.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the aggregate's condition does not fit the columns.
    pub fn marks(&mut self, aggregate: &Aggregate) -> Result<usize> {
        self.add(Form::Mark, None, aggregate)
    }

    /// The column `name` as it is.
    ///
    /// # Errors
    /// As [`Inputs::marks`], and if there is no such column.
    pub fn whole(&mut self, aggregate: &Aggregate, name: &str) -> Result<usize> {
        let index = column_index(&self.schema, name)?;
        self.add(Form::Whole, Some(index), aggregate)
    }

    /// What tells the values of the column `name` apart: hashes or, as those are told by the values, floats as they are.
    ///
    /// # Errors
    /// As [`Inputs::whole`].
    pub fn hashes(&mut self, aggregate: &Aggregate, name: &str) -> Result<usize> {
        let index = column_index(&self.schema, name)?;
        let form = match lane(self.schema.field(index).data_type()) {
            Some(Lane::Float) => Form::Lane(Lane::Float),
            _ => Form::Hash,
        };
        self.add(form, Some(index), aggregate)
    }

    /// Hashes of the column `name` for sketches that others can read.
    ///
    /// # Errors
    /// As [`Inputs::whole`], and if the values have no bytes that are the same everywhere.
    pub fn coupons(&mut self, aggregate: &Aggregate, name: &str) -> Result<usize> {
        let data_type = self.data_type(name)?;
        if !has_coupons(&data_type) {
            return Err(Error::schema(format!(
                "{aggregate}: a sketch is of numbers, times, booleans, text or bytes, not of a column of type {data_type}; cast it first"
            )));
        }
        self.add(Form::Coupon, Some(column_index(&self.schema, name)?), aggregate)
    }

    /// The sketches in the column `name`.
    ///
    /// # Errors
    /// As [`Inputs::whole`], and if it is not of bytes.
    pub fn sketches(&mut self, aggregate: &Aggregate, name: &str, sketch: Sketch) -> Result<usize> {
        let data_type = self.data_type(name)?;
        if !matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) {
            let made = if sketch == Sketch::Distinct { "approx_distinct" } else { "quantile" };
            return Err(Error::schema(format!(
                "{aggregate}: sketches to merge are of type Binary, not {data_type}; `{made}` makes them, with `sketch()`"
            )));
        }
        self.add(Form::Sketch(sketch), Some(column_index(&self.schema, name)?), aggregate)
    }

    /// Event times of all rows.
    pub fn times(&mut self) -> usize {
        self.position(Input { form: Form::Time, column: None, filter: None })
    }

    fn add(&mut self, form: Form, column: Option<usize>, aggregate: &Aggregate) -> Result<usize> {
        let filter = aggregate.condition.as_ref().map(|condition| self.filter(condition)).transpose()?;
        Ok(self.position(Input { form, column, filter }))
    }

    fn filter(&mut self, condition: &Expression) -> Result<usize> {
        if let Some(known) = self.filters.iter().position(|(known, _)| known == condition) {
            return Ok(known);
        }
        self.filters.push((condition.clone(), Compiled::predicate(condition, &self.schema)?));
        Ok(self.filters.len() - 1)
    }

    fn position(&mut self, input: Input) -> usize {
        self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }

    /// The number here of an input of others, on the same schema.
    pub fn position_of(&self, others: &Inputs, input: usize) -> Option<usize> {
        let other = &others.inputs[input];
        let filter = match other.filter {
            Some(filter) => Some(self.filters.iter().position(|(known, _)| *known == others.filters[filter].0)?),
            None => None,
        };
        self.inputs.iter().position(|known| *known == Input { filter, ..other.clone() })
    }

    /// The inputs of the rows of `records`, whose event times are `times`, if anyone wants them.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if an unsigned value does not fit `int64` or a condition cannot be computed; of
    /// sketches, as [`Sketch::check`].
    pub fn values(&self, records: &RecordBatch, times: &ScalarBuffer<i64>) -> Result<Vec<Values>> {
        let mask = |(_, condition): &(Expression, Compiled)| {
            let mask = condition.evaluate(records)?;
            let mask = mask.as_boolean();
            Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
        };
        let masks = self.filters.iter().map(mask).collect::<Result<Vec<_>>>()?;
        self.inputs.iter().map(|input| input.values(records, times, input.filter.map(|filter| &masks[filter]))).collect()
    }
}

impl Input {
    fn values(&self, records: &RecordBatch, times: &ScalarBuffer<i64>, mask: Option<&BooleanArray>) -> Result<Values> {
        let column = self.column.map(|index| records.column(index));
        Ok(match (self.form, column) {
            (Form::Time, _) | (_, None) if self.form == Form::Time => Values::Int(Int64Array::new(times.clone(), None)),
            (Form::Mark, _) | (_, None) => {
                let nulls = masked(column.and_then(|column| column.logical_nulls()), mask);
                Values::Int(Int64Array::new(vec![0; records.num_rows()].into(), nulls))
            }
            (Form::Lane(Lane::Float), Some(column)) => {
                let (values, nulls) = floats(column)?;
                Values::Float(Float64Array::new(values, masked(nulls, mask)))
            }
            (Form::Lane(Lane::Int), Some(column)) => {
                let (values, nulls) = integers(column).map_err(|error| {
                    let name = self.name(records);
                    Error::schema(format!("`{name}` does not fit int64; cast it to float64")).with_source(error)
                })?;
                Values::Int(Int64Array::new(values, masked(nulls, mask)))
            }
            (Form::Hash, Some(column)) => {
                Values::Hash(UInt64Array::new(hashes(column, DISTINCT)?.into(), masked(column.logical_nulls(), mask)))
            }
            (Form::Coupon, Some(column)) => {
                let mut coupons = hashes(column, Hash::DataSketches)?;
                coupons.iter_mut().for_each(|hash| *hash = hll_coupon(*hash));
                Values::Hash(UInt64Array::new(coupons.into(), masked(column.logical_nulls(), mask)))
            }
            (Form::Sketch(sketch), Some(column)) => {
                let images = where_true(&cast(column, &DataType::LargeBinary)?, mask)?;
                self.check(sketch, &images, records)?;
                Values::Whole(images)
            }
            (Form::Whole | Form::Time, Some(column)) => Values::Whole(where_true(column, mask)?),
        })
    }

    /// Refuses sketches that cannot be merged, here where it is known which rows they are.
    fn check(&self, sketch: Sketch, images: &ArrayRef, records: &RecordBatch) -> Result<()> {
        for (row, image) in images.as_binary::<i64>().iter().enumerate() {
            image.map_or(Ok(()), |image| sketch.check(image)).map_err(|error| {
                let name = self.name(records);
                error.context(format!("column `{name}`, row {row} of its batch"))
            })?;
        }
        Ok(())
    }

    /// The name of its column.
    fn name(&self, records: &RecordBatch) -> String {
        records.schema().field(self.column.unwrap_or(0)).name().clone()
    }
}

/// A column, null where `mask` is false.
fn where_true(column: &ArrayRef, mask: Option<&BooleanArray>) -> Result<ArrayRef> {
    Ok(match mask {
        None => Arc::clone(column),
        Some(mask) => nullif(column, &not(mask)?)?,
    })
}

/// Nulls, and those that a mask leaves out.
fn masked(nulls: Option<NullBuffer>, mask: Option<&BooleanArray>) -> Option<NullBuffer> {
    let mask = mask.map(|mask| NullBuffer::new(mask.values().clone()));
    NullBuffer::union(nulls.as_ref(), mask.as_ref())
}

fn floats(column: &ArrayRef) -> Result<(ScalarBuffer<f64>, Option<NullBuffer>)> {
    let array = if *column.data_type() == DataType::Float64 { Arc::clone(column) } else { cast(column, &DataType::Float64)? };
    let array = array.as_primitive::<Float64Type>();
    Ok((array.values().clone(), array.nulls().cloned()))
}

fn integers(column: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>), arrow::error::ArrowError> {
    let checked = CastOptions { safe: false, ..CastOptions::default() };
    let array = match column.data_type() {
        DataType::Int64 => Arc::clone(column),
        DataType::Date32 => cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast_with_options(column, &DataType::Int64, &checked)?,
    };
    let array = array.as_primitive::<Int64Type>();
    Ok((array.values().clone(), array.nulls().cloned()))
}

/// Hashes of a column's values: those that are equal have one hash.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if values of its type cannot be told apart.
pub(in crate::operator) fn hashes(column: &ArrayRef, hash: Hash) -> Result<Vec<u64>> {
    let mut hashes = vec![0; column.len()];
    match (lane(column.data_type()), column.data_type()) {
        (Some(Lane::Float), _) => hash_f64(&floats(column)?.0, hash, &mut hashes),
        // Wrapped: all that counts is that different values stay different.
        (Some(Lane::Int), DataType::UInt64) => {
            let values: Vec<i64> =
                column.as_primitive::<arrow::datatypes::UInt64Type>().values().iter().map(|&value| value as i64).collect();
            hash_i64(&values, hash, &mut hashes);
        }
        (Some(Lane::Int), _) => hash_i64(&integers(column)?.0, hash, &mut hashes),
        (None, DataType::Utf8) => {
            let strings = column.as_string::<i32>();
            hash_bytes(strings.value_offsets(), strings.value_data(), hash, &mut hashes);
        }
        (None, DataType::LargeUtf8 | DataType::Utf8View) => return self::hashes(&cast(column, &DataType::Utf8)?, hash),
        (None, DataType::Dictionary(_, values)) => return self::hashes(&cast(column, values)?, hash),
        (None, DataType::Boolean) if hash != DISTINCT => return self::hashes(&cast(column, &DataType::Int64)?, hash),
        (None, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) if hash != DISTINCT => {
            let bytes = cast(column, &DataType::Binary)?;
            let bytes = bytes.as_binary::<i32>();
            hash_bytes(bytes.value_offsets(), bytes.value_data(), hash, &mut hashes);
        }
        (None, other) => {
            let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
            let bytes = converter.convert_columns(&[Arc::clone(column)])?.try_into_binary()?;
            hash_bytes(bytes.value_offsets(), bytes.value_data(), hash, &mut hashes);
        }
    }
    Ok(hashes)
}

/// Whether values of `data_type` hash by bytes that are the same in every version and library.
fn has_coupons(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => has_coupons(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        other => lane(other).is_some(),
    }
}

/// How values of `data_type` are accumulated; `None` if they can only be counted.
pub(super) fn lane(data_type: &DataType) -> Option<Lane> {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(Lane::Float),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(Lane::Int),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Some(Lane::Int),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Duration(_) => Some(Lane::Int),
        _ => None,
    }
}

/// One input of some rows.
#[derive(Clone)]
pub(crate) enum Values {
    Float(Float64Array),
    Int(Int64Array),
    Hash(UInt64Array),
    Whole(ArrayRef),
}

impl Values {
    /// Which rows have a value, unless all have.
    pub fn nulls(&self) -> Option<NullBuffer> {
        let nulls = match self {
            Values::Float(array) => array.nulls().cloned(),
            Values::Int(array) => array.nulls().cloned(),
            Values::Hash(array) => array.nulls().cloned(),
            Values::Whole(array) => array.logical_nulls(),
        };
        nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// The same as the kernels take it, of an input of numbers.
    pub fn validity(&self) -> Option<Bits<'_>> {
        let nulls = match self {
            Values::Float(array) => array.nulls(),
            Values::Int(array) => array.nulls(),
            Values::Hash(array) => array.nulls(),
            Values::Whole(array) => array.nulls(),
        };
        nulls.filter(|nulls| nulls.null_count() > 0).map(bits)
    }

    fn array(&self) -> ArrayRef {
        match self {
            Values::Float(array) => Arc::new(array.clone()),
            Values::Int(array) => Arc::new(array.clone()),
            Values::Hash(array) => Arc::new(array.clone()),
            Values::Whole(array) => Arc::clone(array),
        }
    }

    /// Other rows of the same input.
    fn with(&self, array: ArrayRef) -> Values {
        match self {
            Values::Float(_) => Values::Float(array.as_primitive().clone()),
            Values::Int(_) => Values::Int(array.as_primitive().clone()),
            Values::Hash(_) => Values::Hash(array.as_primitive().clone()),
            Values::Whole(_) => Values::Whole(array),
        }
    }

    /// The values of `rows`, in that order.
    pub fn take(&self, rows: &UInt32Array) -> Result<Values> {
        Ok(self.with(take(&self.array(), rows, None)?))
    }

    /// The values of the rows that `selection` leaves out, and of those that it selects.
    pub fn split(&self, selection: &BooleanBuffer) -> Result<[Values; 2]> {
        Ok(split(&self.array(), selection)?.map(|half| self.with(half)))
    }

    /// The values of a range of rows, without a copy.
    pub fn slice(&self, rows: Range<usize>) -> Values {
        self.with(self.array().slice(rows.start, rows.len()))
    }

    /// Bytes of the rows, whatever else their memory holds.
    pub fn bytes(&self) -> usize {
        self.array().to_data().get_slice_memory_size().unwrap_or(0)
    }

    /// As event times.
    pub fn as_times(&self) -> &[i64] {
        match self {
            Values::Int(array) => array.values(),
            _ => unreachable!("event times are integers"),
        }
    }

    /// As the column that it is.
    pub fn as_whole(&self) -> &ArrayRef {
        match self {
            Values::Whole(array) => array,
            _ => unreachable!("whole columns stay as they are"),
        }
    }
}

/// A bitmap as the kernels take it.
pub(super) fn bits(nulls: &NullBuffer) -> Bits<'_> {
    Bits { bytes: nulls.validity(), offset: nulls.offset(), len: nulls.len() }
}
