//! Aggregates of windows. Each takes `where`, a SQL condition on the rows that it counts: SQL's `FILTER (WHERE …)`.

use pyo3::prelude::*;
use thalweg::Aggregate;

/// An aggregate of a window. Made by `count`, `sum`, `quantile` and the like.
#[pyclass(name = "Aggregate", module = "thalweg", frozen)]
pub struct PyAggregate(pub Aggregate);

impl PyAggregate {
    pub fn of(aggregate: Aggregate, condition: Option<&str>) -> PyAggregate {
        PyAggregate(match condition {
            Some(condition) => aggregate.filter(condition),
            None => aggregate,
        })
    }
}

#[pymethods]
impl PyAggregate {
    /// The sketch in place of the number that it tells, as binary: to be kept in a column, and merged and estimated later. Null of a
    /// group without values. For `approx_distinct`, `quantile`, `median` and merges of sketches.
    ///
    /// Sketches of distinct values are those of Apache DataSketches (HLL, lg_k 12), which its libraries read: 12 bytes and 4 a value up
    /// to 64 values, then 4,136. Sketches of quantiles are the protobuf of DDSketch, at most 22 KiB. A sketch has the same bytes
    /// whatever the batch size, the number of workers and the order in which it was merged.
    ///
    /// Example:
    ///     >>> minutes = s.window(tw.tumbling("1m")).agg(users=tw.approx_distinct("user").sketch())
    ///     >>> days = minutes.window(tw.tumbling("1d")).agg(users=tw.merge_distinct("users"))
    fn sketch(&self) -> PyAggregate {
        PyAggregate(self.0.clone().sketch())
    }

    fn __repr__(&self) -> String {
        self.0.to_string()
    }
}

/// Adds the aggregates to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(count, module)?)?;
    module.add_function(wrap_pyfunction!(sum, module)?)?;
    module.add_function(wrap_pyfunction!(mean, module)?)?;
    module.add_function(wrap_pyfunction!(min, module)?)?;
    module.add_function(wrap_pyfunction!(max, module)?)?;
    module.add_function(wrap_pyfunction!(var, module)?)?;
    module.add_function(wrap_pyfunction!(deviation, module)?)?;
    module.add_function(wrap_pyfunction!(zscore, module)?)?;
    module.add_function(wrap_pyfunction!(first, module)?)?;
    module.add_function(wrap_pyfunction!(last, module)?)?;
    module.add_function(wrap_pyfunction!(arg_min, module)?)?;
    module.add_function(wrap_pyfunction!(arg_max, module)?)?;
    module.add_function(wrap_pyfunction!(count_distinct, module)?)?;
    module.add_function(wrap_pyfunction!(approx_distinct, module)?)?;
    module.add_function(wrap_pyfunction!(quantile, module)?)?;
    module.add_function(wrap_pyfunction!(median, module)?)?;
    module.add_function(wrap_pyfunction!(merge_distinct, module)?)?;
    module.add_function(wrap_pyfunction!(merge_quantile, module)?)?;
    module.add_function(wrap_pyfunction!(histogram, module)?)?;
    module.add_function(wrap_pyfunction!(covar, module)?)?;
    module.add_function(wrap_pyfunction!(corr, module)?)?;
    module.add_function(wrap_pyfunction!(top_k, module)?)?;
    module.add_function(wrap_pyfunction!(collect_list, module)?)?;
    module.add_function(wrap_pyfunction!(rate, module)?)?;
    module.add_function(wrap_pyfunction!(delta, module)?)
}

/// How many rows, or in how many of them `column` is not null.
///
/// Example:
///     >>> windowed.agg(n=tw.count(), known=tw.count("amount"), big=tw.count(where="amount > 100"))
#[pyfunction]
#[pyo3(signature = (column=None, *, r#where=None))]
pub fn count(column: Option<&str>, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(column.map_or_else(thalweg::count, thalweg::count_of), r#where)
}

/// The sum of a column: float64 for floats, int64 for integers. Null if there are no values.
///
/// Example:
///     >>> windowed.agg(total=tw.sum("amount"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn sum(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::sum(column), r#where)
}

/// The mean of a column, as float64. Null if there are no values.
///
/// Example:
///     >>> windowed.agg(avg=tw.mean("amount"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn mean(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::mean(column), r#where)
}

/// The least value of a column, in its own type. Null if there are no values.
///
/// Example:
///     >>> windowed.agg(lo=tw.min("amount"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn min(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::min(column), r#where)
}

/// The greatest value of a column, in its own type. Null if there are no values.
///
/// Example:
///     >>> windowed.agg(hi=tw.max("amount"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn max(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::max(column), r#where)
}

/// The variance of a column as a sample (divided by one less than the count), as float64. Null of fewer than two values.
///
/// Example:
///     >>> windowed.agg(spread=tw.var("amount"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn var(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::var(column), r#where)
}

/// The standard deviation of a column as a sample, as float64. Null of fewer than two values.
///
/// Example:
///     >>> windowed.agg(s=tw.std("amount"))
#[pyfunction]
#[pyo3(name = "std", signature = (column, *, r#where=None))]
pub fn deviation(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::std(column), r#where)
}

/// How many standard deviations a row's value lies above the mean of the rows before it, below it if negative; of rolling
/// windows only. The row itself does not count, or it would hide behind the deviation that it makes. Null if fewer than two
/// rows before it have a value, or if it or one of them has none that is finite.
///
/// Example:
///     >>> s.window(tw.rolling(rows=100), by="card").agg(z=tw.zscore("amount")).filter("z > 4")
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn zscore(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::zscore(column), r#where)
}

/// The value of a column in the row that is earliest in event time, of those where it is not null; of any type.
///
/// Example:
///     >>> windowed.agg(opened=tw.first("price"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn first(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::first(column), r#where)
}

/// The value of a column in the row that is latest in event time, of those where it is not null; of any type.
///
/// Example:
///     >>> windowed.agg(closed=tw.last("price"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn last(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::last(column), r#where)
}

/// The value of a column, of any type, in the row where `by` is least; of several such rows, of the one that came first.
///
/// Example:
///     >>> windowed.agg(cheapest=tw.arg_min("shop", by="price"))
#[pyfunction]
#[pyo3(signature = (column, by, *, r#where=None))]
pub fn arg_min(column: &str, by: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::arg_min(column, by), r#where)
}

/// The value of a column, of any type, in the row where `by` is greatest; of several such rows, of the one that came first.
///
/// Example:
///     >>> windowed.agg(slowest=tw.arg_max("url", by="latency"))
#[pyfunction]
#[pyo3(signature = (column, by, *, r#where=None))]
pub fn arg_max(column: &str, by: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::arg_max(column, by), r#where)
}

/// How many different values a column has, exactly. Keeps every different value of every group; where there are many,
/// `approx_distinct` needs less.
///
/// Example:
///     >>> windowed.agg(users=tw.count_distinct("user"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn count_distinct(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::count_distinct(column), r#where)
}

/// How many different values a column has: exact up to 64 of them, then estimated by HyperLogLog with a standard error of
/// 1.6%, in 4 KiB a group.
///
/// Example:
///     >>> windowed.agg(users=tw.approx_distinct("user"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn approx_distinct(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::approx_distinct(column), r#where)
}

/// The value at the part `q`, from 0 to 1, of the values of a column in order, as float64: a value that occurred, not one
/// between two. Exact up to 256 values, then by DDSketch within the relative `error`, in 16 KiB a group.
///
/// Example:
///     >>> windowed.agg(p99=tw.quantile("latency", 0.99))
#[pyfunction]
#[pyo3(signature = (column, q, *, error=0.01, r#where=None))]
pub fn quantile(column: &str, q: f64, error: f64, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::quantile(column, q).error(error), r#where)
}

/// The median of a column: `quantile` 0.5, the lower one of the two middle values of an even number.
///
/// Example:
///     >>> windowed.agg(typical=tw.median("latency"))
#[pyfunction]
#[pyo3(signature = (column, *, error=0.01, r#where=None))]
pub fn median(column: &str, error: f64, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::median(column).error(error), r#where)
}

/// How many different values the sketches in a column hold together: those of `approx_distinct(..).sketch()`, or HyperLogLog sketches of
/// Apache DataSketches with 2^12 registers or more. Within a standard error of 1.6%, in 4 KiB a group.
///
/// Example:
///     >>> minutes.window(tw.tumbling("1h")).agg(users=tw.merge_distinct("users"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn merge_distinct(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::merge_distinct(column), r#where)
}

/// The value at the part `q`, from 0 to 1, of the values that the sketches in a column hold together: those of `quantile(..).sketch()`
/// with the same `error`, within which it is. 16 KiB a group.
///
/// Example:
///     >>> minutes.window(tw.tumbling("1h")).agg(p99=tw.merge_quantile("latency", 0.99))
#[pyfunction]
#[pyo3(signature = (column, q, *, error=0.01, r#where=None))]
pub fn merge_quantile(column: &str, q: f64, error: f64, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::merge_quantile(column, q).error(error), r#where)
}

/// How many values of a column lie in each bin, as a list: below the first edge, from each edge to below the next, at or above
/// the last edge or NaN. `n` edges, which ascend, give `n + 1` counts.
///
/// Example:
///     >>> windowed.agg(bins=tw.histogram("latency", edges=[0.01, 0.1, 1.0]))
#[pyfunction]
#[pyo3(signature = (column, edges, *, r#where=None))]
pub fn histogram(column: &str, edges: Vec<f64>, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::histogram(column, edges), r#where)
}

/// The covariance of two columns as a sample, over the rows where both have a value. Null of fewer than two.
///
/// Example:
///     >>> windowed.agg(c=tw.covar("price", "volume"))
#[pyfunction]
#[pyo3(signature = (x, y, *, r#where=None))]
pub fn covar(x: &str, y: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::covar(x, y), r#where)
}

/// Pearson's correlation of two columns, over the rows where both have a value. Null of fewer than two, NaN if one of them does
/// not vary.
///
/// Example:
///     >>> windowed.agg(r=tw.corr("price", "volume"))
#[pyfunction]
#[pyo3(signature = (x, y, *, r#where=None))]
pub fn corr(x: &str, y: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::corr(x, y), r#where)
}

/// The `k` most frequent values of a column with their exact counts, as a list of `{value, count}`, the most frequent first.
/// Keeps every different value of every group.
///
/// Example:
///     >>> windowed.agg(best=tw.top_k("item", 10))
#[pyfunction]
#[pyo3(signature = (column, k, *, r#where=None))]
pub fn top_k(column: &str, k: usize, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::top_k(column, k), r#where)
}

/// The values of a column in its first `limit` rows where it is not null, in order of event time, as a list.
///
/// Example:
///     >>> windowed.agg(path=tw.collect_list("page", limit=20))
#[pyfunction]
#[pyo3(signature = (column, limit, *, r#where=None))]
pub fn collect_list(column: &str, limit: usize, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::collect_list(column, limit), r#where)
}

/// How many rows there are, or how much the column adds up to, a second of the window, as float64.
///
/// Example:
///     >>> windowed.agg(per_second=tw.rate(), bytes_per_second=tw.rate("bytes"))
#[pyfunction]
#[pyo3(signature = (column=None, *, r#where=None))]
pub fn rate(column: Option<&str>, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(column.map_or_else(thalweg::rate, thalweg::rate_of), r#where)
}

/// The value of a column in the latest row less that in the earliest: float64 for floats, int64 for integers.
///
/// Example:
///     >>> windowed.agg(used=tw.delta("meter"))
#[pyfunction]
#[pyo3(signature = (column, *, r#where=None))]
pub fn delta(column: &str, r#where: Option<&str>) -> PyAggregate {
    PyAggregate::of(thalweg::delta(column), r#where)
}
