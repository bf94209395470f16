//! SQL expressions of one row, planned by DataFusion's crates.
//!
//! DataFusion's planner is generic over its catalogue, so whoever names the catalogue compiles the planner. It is
//! named here, once, so that the engine does not compile the planner with each change of its own.

mod functions;
mod sketches;

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion_common::{DFSchema, DFSchemaRef, Result};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;

pub use functions::{FUNCTIONS, Functions, Known};

/// A syntax tree as an expression over the columns of `schema`; identifiers keep their case.
///
/// # Errors
/// What the planner says of unknown columns and functions, and of syntax that is no expression of one row.
pub fn to_expr(syntax: ast::Expr, schema: &DFSchema) -> Result<Expr> {
    let options = ParserOptions::new().with_enable_ident_normalization(false).with_map_string_types_to_utf8view(false);
    SqlToRel::new_with_options(&*FUNCTIONS, options).sql_to_expr(syntax, schema, &mut PlannerContext::new())
}

/// Makes types agree, folds constants and turns `expr` into one that evaluates; with the field of its result.
///
/// # Errors
/// If the types cannot be made to agree or a constant part fails.
pub fn compile(expr: Expr, schema: &DFSchemaRef) -> Result<(Arc<dyn PhysicalExpr>, FieldRef)> {
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(schema)).build());
    let expr = simplifier.simplify(simplifier.coerce(expr, schema)?)?;
    let physical = create_physical_expr(&expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let field = physical.return_field(schema.as_arrow())?;
    Ok((physical, field))
}
