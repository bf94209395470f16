//! Aggregates: what is asked for, over which column, and how an accumulator becomes a result.
//!
//! Nulls are skipped, as in SQL; `count()` counts rows, `count_of(column)` the rows where it is not null. The
//! other aggregates of a group without values are null. NaN counts as a value: sums and means with one are NaN,
//! and in min and max it is larger than every number. Sums and means of floats are within 10⁻¹² of the exact
//! sum, relative to the sum of magnitudes; sums of integers are exact and it is an error if one leaves `int64`.
//! Variances are within 10⁻¹² of the exact one; of fewer than two values they are null, with a NaN or infinity among them NaN.
//! First, last and the like keep a row where the column, and the one that orders it, are not null. Distinct and most frequent
//! values count all NaNs as one, and both zeros. A row that an aggregate's own condition leaves out is null to it.

mod accumulators;
mod custom;
mod finished;
mod groups;
mod images;
mod placed;
mod resolve;
mod table;
mod tables;
mod values;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::expr::Expression;
pub(crate) use accumulators::{Accumulators, Spans};
pub use custom::{AggregateFunction, Custom, custom};
pub(crate) use finished::Finished;
pub(crate) use placed::Placed;
pub(crate) use resolve::{Aggregates, Parts};
pub(in crate::operator) use values::hashes;
pub(crate) use values::{Inputs, Lane, Values};

/// An aggregate function.
#[derive(Debug, Clone, PartialEq)]
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
    /// The value of the earliest row.
    First,
    /// The value of the latest row.
    Last,
    /// The value of the row where another column is least.
    ArgMin,
    /// The value of the row where another column is greatest.
    ArgMax,
    /// How many different values, exactly.
    CountDistinct,
    /// How many different values, nearly.
    ApproxDistinct,
    /// The value that a part `q` of the values lie at or below, within `error` relative to it.
    Quantile {
        /// The part, from 0 to 1.
        q: f64,
        /// Bound of the relative error, where there are too many values to keep.
        error: f64,
    },
    /// How many different values sketches hold together, nearly.
    MergeDistinct,
    /// The value that a part `q` of the values that sketches hold together lie at or below.
    MergeQuantile {
        /// The part, from 0 to 1.
        q: f64,
        /// Bound of the relative error: that of the sketches.
        error: f64,
    },
    /// How many values lie between the edges.
    Histogram(Arc<[f64]>),
    /// The covariance of two columns as a sample.
    Covar,
    /// Pearson's correlation of two columns.
    Corr,
    /// The most frequent values, so many of them.
    TopK(usize),
    /// The first values, at most so many of them.
    Collect(usize),
    /// How many rows, or how much of the column, a second of the window.
    Rate,
    /// The last value less the first.
    Delta,
    /// One's own.
    Custom(Custom),
}

impl Function {
    /// The name of its sketch, of those that have one.
    fn sketch_name(&self) -> Option<&'static str> {
        match self {
            Function::ApproxDistinct => Some("distinct_sketch"),
            Function::Quantile { .. } => Some("quantile_sketch"),
            Function::MergeDistinct => Some("merge_distinct_sketch"),
            Function::MergeQuantile { .. } => Some("merge_quantile_sketch"),
            _ => None,
        }
    }

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Mean => "mean",
            Function::Min => "min",
            Function::Max => "max",
            Function::Var => "var",
            Function::Std => "std",
            Function::Zscore => "zscore",
            Function::First => "first",
            Function::Last => "last",
            Function::ArgMin => "arg_min",
            Function::ArgMax => "arg_max",
            Function::CountDistinct => "count_distinct",
            Function::ApproxDistinct => "approx_distinct",
            Function::Quantile { q: 0.5, .. } => "median",
            Function::Quantile { q, .. } => return Cow::Owned(format!("quantile_{q}")),
            Function::MergeDistinct => "merge_distinct",
            Function::MergeQuantile { q: 0.5, .. } => "merge_median",
            Function::MergeQuantile { q, .. } => return Cow::Owned(format!("merge_quantile_{q}")),
            Function::Histogram(_) => "histogram",
            Function::Covar => "covar",
            Function::Corr => "corr",
            Function::TopK(k) => return Cow::Owned(format!("top_{k}")),
            Function::Collect(_) => "collect_list",
            Function::Rate => "rate",
            Function::Delta => "delta",
            Function::Custom(custom) => return Cow::Owned(custom.name()),
        })
    }
}

/// A function met a state that is not its own.
fn unexpected(function: &Function) -> ! {
    unreachable!("{} is answered from another state", function.name())
}

/// One aggregate of a window: a function, its columns, the rows that it counts and the name of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub(crate) function: Function,
    pub(crate) column: Option<String>,
    /// The column beside it, of functions of two.
    pub(crate) other: Option<String>,
    pub(crate) condition: Option<Expression>,
    /// Whether the result is the sketch itself.
    sketch: bool,
    alias: Option<String>,
}

/// The number of rows.
pub fn count() -> Aggregate {
    Aggregate::of(Function::Count)
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

/// The value of `column` in the row that is earliest in event time, in its own type; of rows of one time, of the one that came first.
pub fn first(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::First, column)
}

/// The value of `column` in the row that is latest in event time, in its own type; of rows of one time, of the one that came last.
pub fn last(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Last, column)
}

/// The value of `column` in the row where `by` is least, in its own type; of several such rows, of the one that came first.
pub fn arg_min(column: impl Into<String>, by: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::ArgMin, column).beside(by)
}

/// The value of `column` in the row where `by` is greatest, in its own type; of several such rows, of the one that came first.
pub fn arg_max(column: impl Into<String>, by: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::ArgMax, column).beside(by)
}

/// How many different values `column` has, exactly, as `int64`. Keeps every different value of every group; where there are
/// many, [`approx_distinct`] needs less.
pub fn count_distinct(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::CountDistinct, column)
}

/// How many different values `column` has, as `int64`: exact up to 64 of them, then estimated by HyperLogLog with a standard
/// error of 1.6%, in 4 KiB a group.
pub fn approx_distinct(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::ApproxDistinct, column)
}

/// The value of rank ⌊q (n − 1)⌋ of the `n` values of `column` in order, as `float64`: `q` is from 0 to 1. A value that occurred,
/// exactly, of up to 256 values; then by DDSketch within 1% of it, in 16 KiB a group. [`Aggregate::error`] sets another bound.
pub fn quantile(column: impl Into<String>, q: f64) -> Aggregate {
    Aggregate::over(Function::Quantile { q, error: QUANTILE_ERROR }, column)
}

/// The median of `column`: [`quantile`] 0.5, the lower one of the two middle values of an even number.
pub fn median(column: impl Into<String>) -> Aggregate {
    quantile(column, 0.5)
}

/// How many different values the sketches in `column` hold together, as `int64`: those that [`approx_distinct`] made with
/// [`Aggregate::sketch`], or HyperLogLog sketches of Apache DataSketches with 2^12 registers or more. As good
/// as exact up to 64 values (two of which are told as one in 10⁻⁵ of all groups), then with a standard error of 1.6%, in 4 KiB a group.
pub fn merge_distinct(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::MergeDistinct, column)
}

/// The value of rank ⌊q (n − 1)⌋ of the `n` values that the sketches in `column` hold together, as `float64`: those that [`quantile`]
/// made with [`Aggregate::sketch`]. Within 1% of it, in 16 KiB a group; of sketches of another error, [`Aggregate::error`] says which.
pub fn merge_quantile(column: impl Into<String>, q: f64) -> Aggregate {
    Aggregate::over(Function::MergeQuantile { q, error: QUANTILE_ERROR }, column)
}

/// How many values of `column` lie in each bin, as a list of `int64`: below the first edge, from each edge to below the next, at or
/// above the last edge or NaN. `edges` ascend; `n` of them give `n + 1` counts.
pub fn histogram(column: impl Into<String>, edges: impl IntoIterator<Item = f64>) -> Aggregate {
    Aggregate::over(Function::Histogram(edges.into_iter().collect()), column)
}

/// The covariance of two columns as a sample, over the rows where both have a value; null of fewer than two.
pub fn covar(x: impl Into<String>, y: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Covar, x).beside(y)
}

/// Pearson's correlation of two columns, over the rows where both have a value; null of fewer than two, NaN if one column does not
/// vary.
pub fn corr(x: impl Into<String>, y: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Corr, x).beside(y)
}

/// The `k` most frequent values of `column` with their exact counts, as a list of `{value, count}`, the most frequent first.
/// Keeps every different value of every group.
pub fn top_k(column: impl Into<String>, k: usize) -> Aggregate {
    Aggregate::over(Function::TopK(k), column)
}

/// The values of `column` in the first `limit` rows where it is not null, in order of event time, as a list.
pub fn collect_list(column: impl Into<String>, limit: usize) -> Aggregate {
    Aggregate::over(Function::Collect(limit), column)
}

/// How many rows there are a second of the window, as `float64`.
pub fn rate() -> Aggregate {
    Aggregate::of(Function::Rate)
}

/// The sum of `column` divided by the seconds of the window, as `float64`.
pub fn rate_of(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Rate, column)
}

/// The value of `column` in the latest row less that in the earliest: `float64` for floats, `int64` for integers.
pub fn delta(column: impl Into<String>) -> Aggregate {
    Aggregate::over(Function::Delta, column)
}

/// The relative error of quantiles unless told otherwise.
const QUANTILE_ERROR: f64 = 0.01;

impl Aggregate {
    fn of(function: Function) -> Aggregate {
        Aggregate { function, column: None, other: None, condition: None, sketch: false, alias: None }
    }

    fn over(function: Function, column: impl Into<String>) -> Aggregate {
        Aggregate { column: Some(column.into()), ..Aggregate::of(function) }
    }

    fn beside(self, other: impl Into<String>) -> Aggregate {
        Aggregate { other: Some(other.into()), ..self }
    }

    /// The same aggregate with its result named `name`.
    pub fn alias(mut self, name: impl Into<String>) -> Aggregate {
        self.alias = Some(name.into());
        self
    }

    /// The same aggregate of only the rows for which `condition`, a SQL or typed expression, is true: SQL's `FILTER (WHERE …)`.
    /// Windows and groups are those of all rows.
    pub fn filter(mut self, condition: impl Into<Expression>) -> Aggregate {
        self.condition = Some(condition.into());
        self
    }

    /// The same quantile within another relative error, from 0.00001 to 0.5; of a merge, that of the sketches. Nothing changes for other functions.
    pub fn error(mut self, bound: f64) -> Aggregate {
        if let Function::Quantile { error, .. } | Function::MergeQuantile { error, .. } = &mut self.function {
            *error = bound;
        }
        self
    }

    /// The sketch in place of the number that it tells, as `binary`: to be kept, and merged and estimated later. Null of a group
    /// without values. For [`approx_distinct`], [`quantile`], [`median`], [`merge_distinct`] and [`merge_quantile`].
    ///
    /// A sketch has the same bytes whatever the batch size, the number of workers and the order in which it was merged, and the merge
    /// of those of parts is that of the whole.
    ///
    /// * **Distinct values** are the image of an HLL sketch of Apache DataSketches, lg_k 12, which its libraries read and merge with
    ///   their own of the same values: 12 bytes and 4 a value up to 64 values, then 4,136. Values count as for their `update` of a
    ///   `long` (integers, times, booleans), `double`, string or bytes, but for the empty string, which theirs leave out. The
    ///   layout is in [`thalweg_kernels::sketch::datasketches`].
    /// * **Quantiles** are the protobuf of DDSketch, which those of Datadog read: some 60 bytes and 13 for each bucket in use, at most
    ///   22 KiB. A group of few values is a sketch in the column, within the error, though its quantile alone would be exact.
    ///   The layout is in [`thalweg_kernels::sketch::ddsketch::image`].
    pub fn sketch(mut self) -> Aggregate {
        self.sketch = true;
        self
    }

    /// The name of the result: the alias, else function and columns joined by `_`.
    pub fn name(&self) -> String {
        let name = self.function_name();
        self.alias.clone().unwrap_or_else(|| std::iter::once(&*name).chain(self.columns()).collect::<Vec<_>>().join("_"))
    }

    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is asked for a sketch and its function has none.
    pub(crate) fn check_sketch(&self) -> Result<()> {
        match self.sketch && self.function.sketch_name().is_none() {
            true => Err(Error::config(format!(
                "{self}: there is no sketch of it; `sketch()` is for approx_distinct, quantile, median, merge_distinct and merge_quantile"
            ))),
            false => Ok(()),
        }
    }

    fn function_name(&self) -> Cow<'static, str> {
        let sketch = self.function.sketch_name().filter(|_| self.sketch);
        sketch.map_or_else(|| self.function.name(), Cow::Borrowed)
    }

    /// Its columns, in order.
    fn columns(&self) -> impl Iterator<Item = &str> {
        let own = match &self.function {
            Function::Custom(custom) => custom.columns.as_slice(),
            _ => &[],
        };
        own.iter().chain(&self.column).chain(&self.other).map(String::as_str)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.columns().collect();
        write!(f, "{}({}", self.function_name(), if columns.is_empty() { "*".to_owned() } else { columns.join(", ") })?;
        match self.function {
            Function::Quantile { error, .. } | Function::MergeQuantile { error, .. } if error != QUANTILE_ERROR => {
                write!(f, ", error {error})")?;
            }
            _ => f.write_str(")")?,
        }
        if let Some(condition) = &self.condition {
            write!(f, " FILTER ({condition})")?;
        }
        write!(f, " AS {}", self.name())
    }
}
