//! The functions that expressions may call.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result as DataFusionResult, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;

use crate::sketches;

/// Functions that look at more than one row, known by name so that their refusal can say what to use instead.
const OVER_ROWS: &[&str] = &[
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "first_value",
    "grouping",
    "lag",
    "last_value",
    "lead",
    "max",
    "mean",
    "median",
    "min",
    "nth_value",
    "ntile",
    "percent_rank",
    "percentile_cont",
    "rank",
    "row_number",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var",
    "var_pop",
    "var_samp",
    "variance",
];

/// What is known of a function by its name.
pub enum Known {
    /// A function of the values of one row.
    Scalar,
    /// An aggregate or window function.
    OverRows,
    /// Its result depends on the clock or on chance.
    Unrepeatable,
    /// Not a function.
    Unknown,
}

/// The table of functions; built once, never changed.
pub struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    unrepeatable: Vec<String>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

/// The functions that every expression may call.
pub static FUNCTIONS: LazyLock<Functions> = LazyLock::new(Functions::new);

impl Functions {
    fn new() -> Functions {
        let (mut scalar, mut unrepeatable) = (HashMap::new(), Vec::new());
        for function in datafusion_functions::all_default_functions().into_iter().chain(sketches::functions()) {
            let names = std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)).map(str::to_lowercase);
            match function.signature().volatility {
                Volatility::Immutable => scalar.extend(names.map(|name| (name, Arc::clone(&function)))),
                Volatility::Stable | Volatility::Volatile => unrepeatable.extend(names),
            }
        }
        let planners: Vec<Arc<dyn ExprPlanner>> =
            vec![Arc::new(CoreFunctionPlanner::default()), Arc::new(DatetimeFunctionPlanner), Arc::new(UnicodeFunctionPlanner)];
        Functions { scalar, unrepeatable, planners, options: ConfigOptions::default() }
    }

    /// What is known of the function called `name`, in lower case.
    pub fn find(&self, name: &str) -> Known {
        if self.scalar.contains_key(name) {
            Known::Scalar
        } else if OVER_ROWS.contains(&name) {
            Known::OverRows
        } else if self.unrepeatable.iter().any(|other| other == name) {
            Known::Unrepeatable
        } else {
            Known::Unknown
        }
    }

    /// The names of all functions of one row.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scalar.keys().map(String::as_str)
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        plan_err!("an expression cannot read the table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(&name.to_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
