//! Syntax trees and typed expressions to physical expressions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::utils::datafusion_strsim::levenshtein;
use datafusion_common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result as DataFusionResult, ScalarValue, SchemaError};
use datafusion_expr::Expr;
use datafusion_expr::expr::ScalarFunction;

use super::{Compiled, Expression, sql};
use crate::error::{Error, Result};

/// Columns that an error lists before it only counts them.
const LISTED_COLUMNS: usize = 40;

/// Functions whose second argument is the length of their result.
const SIZED: &[&str] = &["lpad", "repeat", "rpad"];

/// The longest text, in repetitions or letters, that they are let make.
const LONGEST_PAD: i64 = 4_096;

/// One expression with resolved names but without agreed types.
pub(super) struct Item {
    expr: Expr,
    text: String,
    /// The name after `AS`.
    pub(super) alias: Option<String>,
}

/// Plans one [`Expression`] against one schema.
pub(super) struct Planner<'a> {
    expression: &'a Expression,
    schema: &'a SchemaRef,
    qualified: DFSchemaRef,
}

impl<'a> Planner<'a> {
    pub(super) fn new(expression: &'a Expression, schema: &'a SchemaRef) -> Result<Planner<'a>> {
        let qualified = DFSchema::try_from(Arc::clone(schema)).map_err(|error| Error::schema(message(&error)))?;
        Ok(Planner { expression, schema, qualified: Arc::new(qualified) })
    }

    /// Reads a list of SQL expressions.
    pub(super) fn parse(&self, text: &str) -> Result<Vec<Item>> {
        let entries = sql::parse(text, self.schema).map_err(|why| self.refuse(why))?;
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(syntax) = entry.syntax else {
                items.extend(self.schema.fields().iter().map(|field| column(field)));
                continue;
            };
            let text = syntax.to_string();
            let planned = guarded(|| thalweg_sql::to_expr(syntax, &self.qualified));
            let expr = planned.map_err(|error| self.explain(&error))?;
            self.check(&expr)?;
            items.push(Item { expr, text, alias: entry.alias });
        }
        Ok(items)
    }

    /// Takes a typed expression as it is.
    pub(super) fn typed(&self, expr: Expr) -> Result<Item> {
        self.check(&expr)?;
        let alias = match &expr {
            Expr::Alias(alias) => Some(alias.name.clone()),
            _ => None,
        };
        Ok(Item { text: self.expression.to_string(), expr, alias })
    }

    /// Makes types agree, folds constants and turns the expression into one that evaluates.
    pub(super) fn compile(&self, item: Item) -> Result<Compiled> {
        let column_name = match &item.expr {
            Expr::Column(column) => Some(column.name.clone()),
            _ => None,
        };
        let compiled = guarded(|| thalweg_sql::compile(item.expr, &self.qualified));
        let (physical, field) = compiled.map_err(|error| self.explain(&error))?;
        let name = item.alias.or(column_name).unwrap_or_else(|| item.text.clone());
        Ok(Compiled { text: item.text, field: Field::clone(&field).with_name(name), physical })
    }

    /// Refuses unknown columns and what looks at more than one row, wherever the expression comes from.
    fn check(&self, expr: &Expr) -> Result<()> {
        let mut refusal = None;
        // The closure never fails, and what it finds is in `refusal`.
        let _ = expr.apply(|node| {
            let why = match node {
                Expr::Column(column) if column.relation.is_some() || self.schema.index_of(&column.name).is_err() => {
                    Some(self.unknown_column(column))
                }
                Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                    Some("aggregates look at more than one row; use `.window(..).agg(..)` for that".to_owned())
                }
                Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..) => Some(
                    "a subquery reads a whole table, but an expression sees one row at a time; join the other stream instead".to_owned(),
                ),
                Expr::Placeholder(placeholder) => Some(format!("`{}` is a placeholder; write the value itself", placeholder.id)),
                Expr::ScalarFunction(call) => refuse_sizes(call),
                _ => None,
            };
            refusal = refusal.take().or(why);
            Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        refusal.map_or(Ok(()), |why| Err(self.refuse(why)))
    }

    fn explain(&self, error: &DataFusionError) -> Error {
        match error.find_root() {
            DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
                SchemaError::FieldNotFound { field, .. } => self.refuse(self.unknown_column(field)),
                other => self.refuse(other.to_string()),
            },
            other => self.refuse(message(other)),
        }
    }

    fn refuse(&self, why: String) -> Error {
        Error::schema(format!("expression `{}`: {why}", self.expression))
    }

    fn unknown_column(&self, column: &Column) -> String {
        let name = column.flat_name();
        let names = || self.schema.fields().iter().map(|field| field.name().as_str());
        let written_as_text = matches!(self.expression, Expression::Sql(text) if text.contains(&format!("\"{name}\"")));
        let hint = match nearest(&name, names()) {
            Some(near) if near == name => format!(" (write it in double quotes: \"{name}\")"),
            Some(near) => format!(" (did you mean `{near}`?)"),
            None if written_as_text => format!(" (text is written in single quotes: '{name}')"),
            None => String::new(),
        };
        let mut listed = names().take(LISTED_COLUMNS).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match self.schema.fields().len() {
            0 => listed.push_str("none"),
            count if count > LISTED_COLUMNS => listed.push_str(&format!(" and {} more", count - LISTED_COLUMNS)),
            _ => {}
        }
        format!("there is no column `{name}`{hint}; the columns are {listed}")
    }
}

fn column(field: &Field) -> Item {
    Item { expr: datafusion_expr::ident(field.name()), text: field.name().clone(), alias: None }
}

/// Refuses functions that take the length of their result from data: one row could use up the memory of the process.
fn refuse_sizes(call: &ScalarFunction) -> Option<String> {
    let is_bounded = |length: &Expr| matches!(length, Expr::Literal(ScalarValue::Int64(Some(0..=LONGEST_PAD)), _));
    let refused = SIZED.contains(&call.name()) && !call.args.get(1).is_none_or(is_bounded);
    refused.then(|| {
        format!(
            "`{}` makes text as long as it is told to, so the length must be written out, as a number of 0 to {LONGEST_PAD}",
            call.name()
        )
    })
}

/// Runs code of DataFusion, some functions of which panic on some arguments, and makes an error of a panic.
pub(super) fn guarded<T>(run: impl FnOnce() -> DataFusionResult<T>) -> DataFusionResult<T> {
    // Nothing that a panic may have left half done is looked at again: the error ends the pipeline.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(DataFusionError::Execution(format!("a function failed on its arguments: {}", why.unwrap_or("no reason given"))))
    })
}

/// What DataFusion says, without the name of its error's class and without a backtrace.
pub(super) fn message(error: &DataFusionError) -> String {
    let root = error.find_root();
    let text = match root {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.message().into_owned(),
    };
    // What follows is for the developers of DataFusion.
    let end = [DataFusionError::BACK_TRACE_SEP, "\nThis issue was likely"].iter().filter_map(|mark| text.find(mark)).min();
    let text = &text[..end.unwrap_or(text.len())];
    text.trim().trim_end_matches('.').to_owned()
}

/// The candidate that is spelled most like `name`, if any is close: case aside, at most a third of its letters differ.
pub(super) fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = name.to_lowercase();
    let distance = |candidate: &str| (levenshtein(&lower, &candidate.to_lowercase()), levenshtein(name, candidate));
    let (near, by) = candidates.map(|candidate| (candidate, distance(candidate))).min_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0)))?;
    (by.0 <= name.chars().count().div_ceil(3)).then_some(near)
}
