//! Aggregates: what is asked for, over which column, and how an accumulator becomes a result.
//!
//! Nulls are skipped, as in SQL; `count()` counts rows, `count_of(column)` the rows where it is not null. The
//! other aggregates of a group without values are null. NaN counts as a value: sums and means with one are NaN,
//! and in min and max it is larger than every number. Sums and means of floats are within 10⁻¹² of the exact
//! sum, relative to the sum of magnitudes; sums of integers are exact and it is an error if one leaves `int64`.
//! Variances are within 10⁻¹² of the exact one; of fewer than two values they are null, with a NaN or infinity among them NaN.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use thalweg_kernels::{Bits, Cell, Moments, Want};

use crate::error::{Error, Result};
use crate::operator::keys::column_index;
use crate::operator::split::split;

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many rows, or how many non-null values.
    Count,
    /// The sum of the values.
    Sum,
    /// The mean of the values.
    Mean,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The variance of the values as a sample: divided by one less than their count.
    Var,
    /// The square root of that.
    Std,
    /// The row's value against those before it, in their standard deviations.
    Zscore,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Mean => "mean",
            Function::Min => "min",
            Function::Max => "max",
            Function::Var => "var",
            Function::Std => "std",
            Function::Zscore => "zscore",
        }
    }
}

/// One aggregate of a window: a function, its column and the name of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    pub(crate) function: Function,
    pub(crate) column: Option<String>,
    alias: Option<String>,
}

/// The number of rows.
pub fn count() -> Aggregate {
    Aggregate { function: Function::Count, column: None, alias: None }
}

/// The number of rows where `column` is not null.
pub fn count_of(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Count, column)
}

/// The sum of `column`: `float64` for floats, `int64` for integers.
pub fn sum(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Sum, column)
}

/// The mean of `column` as `float64`.
pub fn mean(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Mean, column)
}

/// The least value of `column`, in its own type.
pub fn min(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Min, column)
}

/// The greatest value of `column`, in its own type.
pub fn max(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Max, column)
}

/// The variance of `column` as a sample (divided by one less than the count), as `float64`; null of fewer than two values.
pub fn var(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Var, column)
}

/// The standard deviation of `column` as a sample, as `float64`: the square root of [`var`].
pub fn std(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Std, column)
}

/// How many standard deviations a row's value of `column` lies above the mean of the rows before it, as `float64`, below it
/// if negative; of rolling windows only. The row itself does not count, or it would hide behind the deviation that it makes: of
/// [`rolling_rows`](crate::rolling_rows)`(n)` the `n` rows before it do. Null if fewer than two of them have a value, or if
/// the row or one of them has none that is finite.
pub fn zscore(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Zscore, column)
}

impl Aggregate {
    fn over(function: Function, column: impl Into<String>) -> Aggregate {
        Aggregate { function, column: Some(column.into()), alias: None }
    }

    /// The same aggregate with its result named `name`.
    pub fn alias(mut self, name: impl Into<String>) -> Aggregate {
        self.alias = Some(name.into());
        self
    }

    /// The name of the result: the alias, else function and column joined by `_`.
    pub fn name(&self) -> String {
        match (&self.alias, &self.column) {
            (Some(alias), _) => alias.clone(),
            (None, Some(column)) => format!("{}_{column}", self.function.name()),
            (None, None) => self.function.name().to_owned(),
        }
    }
}

impl std::fmt::Display for Aggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({}) AS {}", self.function.name(), self.column.as_deref().unwrap_or("*"), self.name())
    }
}

/// How the values of a column are accumulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// As `f64`.
    Float,
    /// As `i64`.
    Int,
}

/// A column that at least one aggregate reads.
#[derive(Debug, Clone)]
pub(crate) struct ValueColumn {
    pub index: usize,
    pub lane: Lane,
    pub want: Want,
    /// Whether some aggregate wants its mean and second moment.
    pub moments: bool,
    pub data_type: DataType,
}

/// The aggregates of one window operator, resolved against a schema.
#[derive(Debug)]
pub(crate) struct Aggregates {
    pub columns: Vec<ValueColumn>,
    results: Vec<ResultColumn>,
}

/// One result: a function over the accumulator of `column`, or the row count.
#[derive(Debug)]
struct ResultColumn {
    function: Function,
    column: Option<usize>,
    field: Field,
}

impl Aggregates {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown or its type does not fit the function.
    pub fn new(aggregates: &[Aggregate], schema: &Schema) -> Result<Aggregates> {
        let mut resolved = Aggregates { columns: Vec::new(), results: Vec::new() };
        for aggregate in aggregates {
            if aggregate.function == Function::Zscore {
                return Err(Error::config(format!(
                    "{aggregate}: {} is an aggregate of rolling windows; use `rolling_rows(n)` or `rolling_range(length)`",
                    aggregate.function.name()
                )));
            }
            let column =
                aggregate.column.as_ref().map(|name| resolved.column(aggregate, column_index(schema, name)?, schema)).transpose()?;
            let data_type = match (aggregate.function, column.map(|column| &resolved.columns[column])) {
                (Function::Count, _) | (_, None) => DataType::Int64,
                (Function::Mean | Function::Var | Function::Std | Function::Zscore, _) => DataType::Float64,
                (Function::Sum, Some(ValueColumn { lane: Lane::Float, .. })) => DataType::Float64,
                (Function::Sum, Some(_)) => DataType::Int64,
                (Function::Min | Function::Max, Some(column)) => column.data_type.clone(),
            };
            let field = Field::new(aggregate.name(), data_type, aggregate.function != Function::Count);
            resolved.results.push(ResultColumn { function: aggregate.function, column, field });
        }
        Ok(resolved)
    }

    /// The accumulated column for schema column `index`, made on first use.
    fn column(&mut self, aggregate: &Aggregate, index: usize, schema: &Schema) -> Result<usize> {
        let function = aggregate.function;
        let data_type = schema.field(index).data_type();
        let column = ValueColumn::new(aggregate, index, data_type)?;
        let position = self.columns.iter().position(|column| column.index == index).unwrap_or_else(|| {
            self.columns.push(column);
            self.columns.len() - 1
        });
        let want = &mut self.columns[position].want;
        want.sum |= matches!(function, Function::Sum | Function::Mean);
        want.order |= matches!(function, Function::Min | Function::Max);
        self.columns[position].moments |= matches!(function, Function::Var | Function::Std);
        Ok(position)
    }

    /// The fields of the results, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.results.iter().map(|result| result.field.clone())
    }

    /// The results of some groups, one row each: `cells[c]` are their accumulators of column `c`, `moments[c]` their moments if
    /// the column has any, `rows` their row counts.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a sum of integers does not fit `int64`.
    pub fn finish(&self, cells: &[Cow<'_, [Cell]>], moments: &[Cow<'_, [Moments]>], rows: Vec<i64>) -> Result<Vec<ArrayRef>> {
        let nulls: Vec<_> = cells.iter().map(|cells| nulls(cells)).collect();
        let rows: ArrayRef = Arc::new(Int64Array::from(rows));
        let finish = |result: &ResultColumn| match result.column {
            None => Ok(Arc::clone(&rows)),
            Some(column) => {
                let groups = Groups { cells: &cells[column], moments: &moments[column], nulls: &nulls[column] };
                result.finish(&groups, self.columns[column].lane)
            }
        };
        self.results.iter().map(finish).collect()
    }
}

/// The groups of a result with their accumulators of one column.
struct Groups<'a> {
    cells: &'a [Cell],
    moments: &'a [Moments],
    nulls: &'a Option<NullBuffer>,
}

impl Groups<'_> {
    /// The values of the groups; null where a group has none.
    fn collect<T: ArrowPrimitiveType>(&self, value: impl Fn(&Cell) -> T::Native) -> ArrayRef {
        let values: Vec<T::Native> = self.cells.iter().map(value).collect();
        Arc::new(arrow::array::PrimitiveArray::<T>::new(values.into(), self.nulls.clone()))
    }

    /// The same of the moments; null where a group has fewer than two values.
    fn spread(&self, value: impl Fn(&Moments) -> f64) -> ArrayRef {
        Arc::new(Float64Array::from_iter(self.moments.iter().map(|moments| (moments.count > 1).then(|| value(moments)))))
    }
}

/// Which groups have values, unless all have.
fn nulls(cells: &[Cell]) -> Option<NullBuffer> {
    let filled = |cell: &Cell| cell.count > 0;
    (!cells.iter().all(filled)).then(|| cells.iter().map(filled).collect())
}

impl ResultColumn {
    fn finish(&self, groups: &Groups<'_>, lane: Lane) -> Result<ArrayRef> {
        let array: ArrayRef = match (self.function, lane) {
            (Function::Count, _) => Arc::new(Int64Array::from_iter_values(groups.cells.iter().map(|cell| cell.count as i64))),
            (Function::Sum, Lane::Float) => groups.collect::<Float64Type>(Cell::float_sum),
            (Function::Sum, Lane::Int) => self.integer_sums(groups)?,
            (Function::Mean, Lane::Float) => groups.collect::<Float64Type>(|cell| cell.float_sum() / cell.count as f64),
            (Function::Mean, Lane::Int) => groups.collect::<Float64Type>(|cell| cell.int_sum() as f64 / cell.count as f64),
            (Function::Min, Lane::Float) => groups.collect::<Float64Type>(Cell::float_min),
            (Function::Max, Lane::Float) => groups.collect::<Float64Type>(Cell::float_max),
            (Function::Min, Lane::Int) => groups.collect::<Int64Type>(Cell::int_min),
            (Function::Max, Lane::Int) => groups.collect::<Int64Type>(Cell::int_max),
            (Function::Var, _) => groups.spread(|moments| moments.variance(1)),
            (Function::Std, _) => groups.spread(|moments| moments.std_dev(1)),
            (Function::Zscore, _) => unreachable!("it is refused where columns are resolved"),
        };
        Ok(if array.data_type() == self.field.data_type() { array } else { cast(&array, self.field.data_type())? })
    }

    fn integer_sums(&self, groups: &Groups<'_>) -> Result<ArrayRef> {
        match groups.cells.iter().map(Cell::int_sum).find(|&sum| i64::try_from(sum).is_err()) {
            None => Ok(groups.collect::<Int64Type>(|cell| cell.int_sum() as i64)),
            Some(sum) => {
                Err(Error::schema(format!("`{}` is {sum}, which does not fit int64; sum the column as float64 instead", self.field.name())))
            }
        }
    }
}

/// How values of `data_type` are accumulated; `None` if they can only be counted.
fn lane(data_type: &DataType) -> Option<Lane> {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(Lane::Float),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(Lane::Int),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Some(Lane::Int),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Duration(_) => Some(Lane::Int),
        _ => None,
    }
}

/// The values of one column as the lane that accumulates them.
pub(crate) enum Values {
    Float(Float64Array),
    Int(Int64Array),
}

impl Values {
    /// Which rows have a value, unless all have.
    pub fn nulls(&self) -> Option<&NullBuffer> {
        let nulls = match self {
            Values::Float(array) => array.nulls(),
            Values::Int(array) => array.nulls(),
        };
        nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// The same as the kernels take it.
    pub fn validity(&self) -> Option<Bits<'_>> {
        self.nulls().map(|nulls| Bits { bytes: nulls.validity(), offset: nulls.offset(), len: nulls.len() })
    }

    /// The values of `rows`, in that order.
    pub fn take(&self, rows: &UInt32Array) -> Result<Values> {
        Ok(match self {
            Values::Float(array) => Values::Float(take(array, rows, None)?.as_primitive().clone()),
            Values::Int(array) => Values::Int(take(array, rows, None)?.as_primitive().clone()),
        })
    }

    /// The values of the rows that `selection` leaves out, and of those that it selects.
    pub fn split(&self, selection: &BooleanBuffer) -> Result<[Values; 2]> {
        let column: ArrayRef = match self {
            Values::Float(array) => Arc::new(array.clone()),
            Values::Int(array) => Arc::new(array.clone()),
        };
        let half = |column: ArrayRef| match self {
            Values::Float(_) => Values::Float(column.as_primitive().clone()),
            Values::Int(_) => Values::Int(column.as_primitive().clone()),
        };
        Ok(split(&column, selection)?.map(half))
    }

    /// The values of a range of rows, without a copy.
    pub fn slice(&self, rows: Range<usize>) -> Values {
        match self {
            Values::Float(array) => Values::Float(array.slice(rows.start, rows.len())),
            Values::Int(array) => Values::Int(array.slice(rows.start, rows.len())),
        }
    }
}

impl ValueColumn {
    /// Column `index`, of `data_type`, for `aggregate`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the function does not take the type.
    pub fn new(aggregate: &Aggregate, index: usize, data_type: &DataType) -> Result<ValueColumn> {
        let function = aggregate.function;
        let takes_any_order = matches!(function, Function::Count | Function::Min | Function::Max);
        let lane = match lane(data_type) {
            Some(lane) if takes_any_order || data_type.is_numeric() => lane,
            None if function == Function::Count => Lane::Int,
            _ => {
                let name = function.name();
                return Err(Error::schema(format!("{aggregate}: {name} does not take a column of type {data_type}; cast it first")));
            }
        };
        Ok(ValueColumn { index, lane, want: Want { sum: false, order: false }, moments: false, data_type: data_type.clone() })
    }

    /// This column of `records`, widened to its lane. Columns that are only counted come as zeros with their nulls.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if an unsigned value does not fit `int64`.
    pub fn values(&self, records: &RecordBatch) -> Result<Values> {
        let column = records.column(self.index);
        if lane(&self.data_type).is_none() {
            return Ok(Values::Int(Int64Array::new(vec![0; column.len()].into(), column.logical_nulls())));
        }
        let checked = CastOptions { safe: false, ..CastOptions::default() };
        Ok(match self.lane {
            Lane::Float if self.data_type == DataType::Float64 => Values::Float(column.as_primitive::<Float64Type>().clone()),
            Lane::Float => Values::Float(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            Lane::Int if self.data_type == DataType::Int64 => Values::Int(column.as_primitive::<Int64Type>().clone()),
            Lane::Int => {
                let through = if self.data_type == DataType::Date32 { cast(column, &DataType::Int32)? } else { Arc::clone(column) };
                let widened = cast_with_options(&through, &DataType::Int64, &checked).map_err(|error| {
                    Error::schema(format!("column {} does not fit int64; cast it to float64", self.index)).with_source(error)
                })?;
                Values::Int(widened.as_primitive::<Int64Type>().clone())
            }
        })
    }
}
