//! Functions that estimate from sketches in a column.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use thalweg_kernels::{DdImage, HllImage};

/// `sketch_distinct(sketch)`: how many different values a sketch of distinct values holds, as `int64`; null of null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchDistinct {
    signature: Signature,
}

/// `sketch_quantile(sketch, q)`: the value of rank ⌊q (n − 1)⌋ of the `n` that a sketch of quantiles holds, as `float64`, within the
/// error of the sketch; null of null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchQuantile {
    signature: Signature,
}

/// All functions over sketches.
pub fn functions() -> [Arc<ScalarUDF>; 2] {
    let signature = || Signature::user_defined(Volatility::Immutable);
    let distinct = SketchDistinct { signature: signature() };
    let quantile = SketchQuantile { signature: signature() };
    [Arc::new(distinct.into()), Arc::new(quantile.into())]
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null)
}

impl ScalarUDFImpl for SketchDistinct {
    fn name(&self) -> &'static str {
        "sketch_distinct"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [sketch] if is_bytes(sketch) => Ok(vec![DataType::LargeBinary]),
            _ => plan_err!("`sketch_distinct` takes a column of sketches, of type Binary, not {types:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let [sketches] = columns.as_slice() else { return exec_err!("`sketch_distinct` takes one column") };
        let estimate = |(row, image): (usize, Option<&[u8]>)| match image.map(HllImage::new) {
            None => Ok(None),
            Some(Ok(image)) => Ok(Some(image.estimate().round() as i64)),
            Some(Err(error)) => exec_err!("in row {row}, {error}"),
        };
        let estimates = sketches.as_binary::<i64>().iter().enumerate().map(estimate).collect::<Result<Int64Array>>()?;
        Ok(ColumnarValue::Array(Arc::new(estimates)))
    }
}

impl ScalarUDFImpl for SketchQuantile {
    fn name(&self) -> &'static str {
        "sketch_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [sketch, q] if is_bytes(sketch) && (q.is_numeric() || q.is_null()) => Ok(vec![DataType::LargeBinary, DataType::Float64]),
            _ => plan_err!("`sketch_quantile` takes a column of sketches, of type Binary, and a number from 0 to 1, not {types:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let [sketches, parts] = columns.as_slice() else { return exec_err!("`sketch_quantile` takes two columns") };
        let parts = parts.as_primitive::<Float64Type>();
        let estimate = |(row, image): (usize, Option<&[u8]>)| match (image.map(DdImage::new), parts.is_valid(row).then(|| parts.value(row)))
        {
            (Some(Err(error)), _) => exec_err!("in row {row}, {error}"),
            (_, Some(q)) if !(0.0..=1.0).contains(&q) => exec_err!("in row {row}, a quantile is from 0 to 1, not {q}"),
            (Some(Ok(image)), Some(q)) => Ok(image.quantile(q)),
            _ => Ok(None),
        };
        let estimates = sketches.as_binary::<i64>().iter().enumerate().map(estimate).collect::<Result<Float64Array>>()?;
        Ok(ColumnarValue::Array(Arc::new(estimates)))
    }
}
