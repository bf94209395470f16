//! Comparisons of a column of floats with a number, as ranges of the integers that have the bits of the floats.
//!
//! DataFusion compares floats in IEEE 754 `totalOrder`, but takes both zeros for one: a NaN is greater than all numbers if its sign is
//! positive, and less if it is negative. Read as integers, positive floats ascend, NaNs behind the others, and negative ones descend from
//! −0.0, which is the least of all integers. So what compares as asked lies in one range of them, or outside of one.

use std::ops::RangeInclusive;

use datafusion_common::ScalarValue;
use datafusion_expr::Operator;

/// The greatest of the integers that have the bits of negative floats: those of the NaN that is less than all else.
const LEAST: i64 = -1;

/// For which floats of a column a comparison is true.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FloatRange {
    /// The position of the column.
    pub column: usize,
    /// The bits of these floats, or of all others.
    pub bits: RangeInclusive<i64>,
    /// Whether they are the bits of all others.
    pub is_outside: bool,
}

impl FloatRange {
    /// The floats of `column` that compare by `operator` as asked with the number `with`, where one range tells.
    pub fn new(column: usize, operator: Operator, with: &ScalarValue) -> Option<FloatRange> {
        let ScalarValue::Float64(Some(with)) = with else { return None };
        let ((bits, is_outside), is_other) = match operator {
            Operator::Lt => (below(*with), false),
            Operator::GtEq => (below(*with), true),
            Operator::LtEq => (up_to(*with), false),
            Operator::Gt => (up_to(*with), true),
            _ => return None,
        };
        Some(FloatRange { column, bits, is_outside: is_outside != is_other })
    }
}

/// The bits of the floats less than a number, or of all others.
fn below(number: f64) -> (RangeInclusive<i64>, bool) {
    match number.to_bits() as i64 {
        _ if number == 0.0 => (i64::MIN + 1..=LEAST, false),
        bits if bits > 0 => (bits..=i64::MAX, true),
        bits => (bits + 1..=LEAST, false),
    }
}

/// The bits of the floats less than a number or equal to it.
fn up_to(number: f64) -> (RangeInclusive<i64>, bool) {
    match number.to_bits() as i64 {
        _ if number == 0.0 => (i64::MIN..=0, false),
        bits if bits > 0 => (i64::MIN..=bits, false),
        bits => (bits..=LEAST, false),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float64Array, RecordBatch};
    use datafusion_expr::{Expr, binary_expr, lit};

    use super::*;
    use crate::expr::{Compiled, col};

    #[test]
    fn what_lies_in_a_range_is_what_datafusion_finds_true() {
        let ascending = [0.0, 5e-324, 0.1, 39.999, 40.0, 1e300, f64::MAX, f64::INFINITY, f64::NAN, f64::from_bits(i64::MAX as u64)];
        let numbers: Vec<f64> = ascending.iter().flat_map(|number| [*number, -number]).collect();
        let column = Arc::new(Float64Array::from(numbers.clone()));
        let batch = RecordBatch::try_from_iter([("other", Arc::clone(&column) as _), ("x", column as _)]).unwrap();
        for (operator, with) in [Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq]
            .iter()
            .flat_map(|operator| numbers.iter().map(move |with| (*operator, *with)))
        {
            let compiled = Compiled::new(&binary_expr(col("x"), operator, lit(with)).into(), &batch.schema()).unwrap();
            let range = compiled.float_range().unwrap();
            assert_eq!(range.column, 1);
            let found: Vec<bool> = numbers.iter().map(|x| range.bits.contains(&(x.to_bits() as i64)) != range.is_outside).collect();
            let expected: Vec<bool> = compiled.evaluate(&batch).unwrap().as_boolean().values().iter().collect();
            assert_eq!(found, expected, "x {operator} {with}, of {numbers:?}");
        }
    }

    #[test]
    fn what_is_no_comparison_of_floats_with_a_number_has_no_range() {
        let column = Arc::new(Float64Array::from(vec![1.0]));
        let whole = Arc::new(arrow::array::Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("x", column as _), ("n", whole as _)]).unwrap();
        let range = |text: &str| Compiled::predicate(&text.into(), &batch.schema()).unwrap().float_range();
        assert_eq!(range("x <= 40"), FloatRange::new(0, Operator::LtEq, &ScalarValue::from(40.0)));
        assert!(range("x < 40").is_some());
        for other in ["x = 40", "x < x + 1", "n < 40", "x + 1 < 40", "x < 40 OR n > 1", "x IS NULL"] {
            assert_eq!(range(other), None, "{other}");
        }
        let typed: Expr = col("x").gt_eq(lit(-1.5));
        assert!(Compiled::new(&typed.into(), &batch.schema()).unwrap().float_range().is_some());
    }
}
