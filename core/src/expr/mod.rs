//! Expressions over columns: SQL text, or typed values built with [`col`] and [`lit`], compiled once for a
//! schema and then evaluated batch by batch.
//!
//! Text is the expression part of SQL: `amount > 10 AND card IS NOT NULL`, `round(amount * 0.02, 2) AS fee`,
//! `CASE WHEN speed > 900 THEN 'fly' ELSE 'drive' END`. Names of columns are case-sensitive and taken as written;
//! a name that is not a plain word stands in double quotes (`"net amount"`), text in single quotes (`'EUR'`).
//!
//! Beside the scalar functions of DataFusion there are two over [sketches](crate::Aggregate::sketch): `sketch_distinct(column)`, how many
//! different values each holds, as `int64`, and `sketch_quantile(column, q)`, as `float64`; both are null of null.
//!
//! An expression gives the same answer whenever it is replayed: functions that read a clock, draw random
//! numbers or look at more than one row (aggregates, window functions, subqueries) are refused.
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{AsArray, Float64Array, RecordBatch};
//! use arrow::datatypes::Float64Type;
//! use thalweg::expr::Compiled;
//!
//! let batch = RecordBatch::try_from_iter([("amount", Arc::new(Float64Array::from(vec![5.0, 20.0])) as _)])?;
//! let fee = Compiled::new(&"amount * 0.5 AS fee".into(), &batch.schema())?;
//! assert_eq!(fee.field().name(), "fee");
//! assert_eq!(fee.evaluate(&batch)?.as_primitive::<Float64Type>().values(), &[2.5, 10.0]);
//! # Ok::<(), thalweg::error::Error>(())
//! ```

mod bits;
mod plan;
mod sql;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};

use crate::error::{Error, Result};
pub(crate) use bits::FloatRange;

/// A column by its exact name; [`Expr`] has the operators (`col("amount").gt(lit(10))`).
pub use datafusion_expr::ident as col;
pub use datafusion_expr::{Expr, lit};

/// An expression that is not yet bound to a schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// The text of a SQL expression.
    Sql(String),
    /// A typed expression.
    Typed(Box<Expr>),
}

impl From<&str> for Expression {
    fn from(text: &str) -> Expression {
        Expression::Sql(text.to_owned())
    }
}

impl From<String> for Expression {
    fn from(text: String) -> Expression {
        Expression::Sql(text)
    }
}

impl From<&String> for Expression {
    fn from(text: &String) -> Expression {
        Expression::Sql(text.clone())
    }
}

impl From<Expr> for Expression {
    fn from(expr: Expr) -> Expression {
        Expression::Typed(Box::new(expr))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Sql(text) => f.write_str(text.trim()),
            Expression::Typed(expr) => write!(f, "{}", expr.human_display()),
        }
    }
}

/// An expression bound to a schema: its names are resolved, its types agree, its constants are folded.
#[derive(Debug, Clone)]
pub struct Compiled {
    text: String,
    field: Field,
    physical: Arc<dyn PhysicalExpr>,
}

impl Compiled {
    /// Binds one expression to `schema`. The result is named by its `AS`, else by the column that it is, else by its text.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming the expression, if it is not valid SQL (with the position), names
    /// an unknown column or function (with the nearest spelling), does not fit the types of the columns, or
    /// looks at more than one row.
    pub fn new(expression: &Expression, schema: &SchemaRef) -> Result<Compiled> {
        let mut compiled = Compiled::list(expression, schema)?;
        match (compiled.pop(), compiled.len()) {
            (Some(only), 0) => Ok(only),
            (_, others) => {
                Err(Error::schema(format!("expression `{expression}` is a list of {} expressions where one is wanted", others + 1)))
            }
        }
    }

    /// Binds every expression of a comma-separated list such as `card, amount * 2 AS twice`; `*` stands for all columns.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn list(expression: &Expression, schema: &SchemaRef) -> Result<Vec<Compiled>> {
        let planner = plan::Planner::new(expression, schema)?;
        let items = match expression {
            Expression::Sql(text) => planner.parse(text)?,
            Expression::Typed(expr) => vec![planner.typed((**expr).clone())?],
        };
        items.into_iter().map(|item| planner.compile(item)).collect()
    }

    /// Binds a condition, which must be of type boolean and have no name of its own.
    ///
    /// # Errors
    /// As [`Compiled::new`], and if the expression is not true or false.
    pub fn predicate(expression: &Expression, schema: &SchemaRef) -> Result<Compiled> {
        let planner = plan::Planner::new(expression, schema)?;
        if let Expression::Sql(text) = expression
            && let [plan::Item { alias: Some(alias), .. }] = planner.parse(text)?.as_slice()
        {
            return Err(Error::schema(format!(
                "expression `{expression}`: a condition has no name, but `{alias}` after it would be one; is an operator such as AND missing before it?"
            )));
        }
        let compiled = Compiled::new(expression, schema)?;
        match compiled.field.data_type() {
            DataType::Boolean => Ok(compiled),
            other => Err(Error::schema(format!(
                "expression `{expression}` is of type {other}, but a condition must be true or false; compare it with something, as in `{} > 0`",
                compiled.text
            ))),
        }
    }

    /// The same expression under another name.
    pub fn named(mut self, name: impl Into<String>) -> Compiled {
        self.field = self.field.with_name(name);
        self
    }

    /// Name, type and nullability of the result.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// The position of the column in the schema if the expression is nothing but a column.
    pub fn column(&self) -> Option<usize> {
        self.physical.downcast_ref::<Column>().map(Column::index)
    }

    /// For which floats it is true, if it is nothing but a comparison of a column with a number that one range tells.
    pub(crate) fn float_range(&self) -> Option<FloatRange> {
        let comparison = self.physical.downcast_ref::<BinaryExpr>()?;
        let column = comparison.left().downcast_ref::<Column>()?;
        let number = comparison.right().downcast_ref::<Literal>()?;
        FloatRange::new(column.index(), *comparison.op(), number.value())
    }

    /// The result for each row of `batch`, whose columns must be those that the expression was compiled for.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming the expression, if a row's values do not allow the operation, for
    /// example an integer division by zero.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let failed = |error| Error::schema(format!("expression `{}` cannot be computed for a row: {}", self.text, plan::message(&error)));
        let evaluated = plan::guarded(|| self.physical.evaluate(batch)?.into_array_of_size(batch.num_rows()));
        let array = evaluated.map_err(failed)?;
        match array.data_type() == self.field.data_type() {
            true => Ok(array),
            false => Ok(arrow::compute::cast(&array, self.field.data_type())?),
        }
    }
}

impl fmt::Display for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
