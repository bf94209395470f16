//! Keeps the rows for which a condition is true.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};

use super::split::{in_range, kept};
use super::{Operator, Output};
use crate::batch::Batch;
use crate::error::Result;
use crate::expr::{Compiled, Expression, FloatRange};

/// Keeps the rows for which a condition is true; rows for which it is false or null are dropped. Event times,
/// watermarks and origins of the rows are kept. A batch of which no row is left is not handed on.
#[derive(Debug)]
pub struct Filter {
    condition: Compiled,
    /// The same, where a range of floats tells.
    range: Option<FloatRange>,
}

impl Filter {
    /// A filter of batches of `schema`, which its output has too.
    ///
    /// # Errors
    /// As [`Compiled::predicate`]: the condition does not fit the schema or is not a condition.
    pub fn new(condition: &Expression, schema: &SchemaRef) -> Result<Filter> {
        let condition = Compiled::predicate(condition, schema)?;
        let is_plain = |range: &FloatRange| *schema.field(range.column).data_type() == DataType::Float64;
        Ok(Filter { range: condition.float_range().filter(is_plain), condition })
    }

    /// The rows for which the condition is true.
    fn selection(&self, records: &RecordBatch) -> Result<BooleanBuffer> {
        if let Some(range) = &self.range {
            return Ok(of_range(records, range));
        }
        let mask = self.condition.evaluate(records)?;
        let mask = mask.as_boolean();
        Ok(match mask.null_count() {
            0 => mask.values().clone(),
            _ => prep_null_mask_filter(mask).values().clone(),
        })
    }
}

/// The rows whose floats lie in a range, or outside of one. Null lies nowhere.
fn of_range(records: &RecordBatch, range: &FloatRange) -> BooleanBuffer {
    let floats = records.column(range.column).as_primitive::<Float64Type>();
    let inside = in_range::<i64>(bytemuck::cast_slice(floats.values()), range.bits.clone());
    let selection = if range.is_outside { !&inside } else { inside };
    match floats.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => &selection & nulls.inner(),
        None => selection,
    }
}

impl Operator for Filter {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let selection = self.selection(&batch.records)?;
        out.batches.extend(kept(batch, &selection)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;
    use crate::batch::{EventTime, PartitionId, Segment};

    fn batch(values: Vec<Option<i64>>) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]));
        let rows = values.len();
        let records = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values))]).unwrap();
        let times = (0..rows as i64).map(|row| 100 + row).collect();
        let watermarks = Some((0..rows as i64).map(|row| row - 1).collect());
        let half = rows / 2;
        let segments = vec![
            Segment { partition: PartitionId(3), rows: half, offset: 10 },
            Segment { partition: PartitionId(5), rows: rows - half, offset: 70 },
        ];
        let time = Some(EventTime { times, watermarks, earliest: i64::MIN, latest: i64::MAX });
        Batch { time, ..Batch::of_source(records, segments, 42) }
    }

    fn run(condition: &str, batch: Batch) -> Vec<Batch> {
        let mut filter = Filter::new(&condition.into(), &batch.records.schema()).unwrap();
        let mut out = Output::default();
        filter.on_batch(batch, &mut out).unwrap();
        filter.on_watermark(7, &mut out).unwrap();
        out.batches
    }

    #[test]
    fn keeps_rows_with_their_times_watermarks_and_origins() {
        let out = run("value > 2", batch(vec![Some(1), Some(3), None, Some(4)]));
        let [kept] = out.as_slice() else { panic!("one batch, not {}", out.len()) };
        assert_eq!(kept.records.column(0).as_primitive::<Int64Type>().values(), &[3, 4]);
        let time = kept.time.as_ref().unwrap();
        assert_eq!(time.times.as_ref(), &[101, 103]);
        assert_eq!(time.watermarks.as_ref().unwrap().as_ref(), &[0, 2]);
        assert_eq!(kept.segments.iter().map(|s| (s.partition.0, s.rows)).collect::<Vec<_>>(), [(3, 1), (5, 1)]);
        assert_eq!(kept.received, 42);
    }

    #[test]
    fn null_is_false_and_an_empty_batch_is_not_handed_on() {
        assert!(run("value > 2", batch(vec![None, Some(1)])).is_empty());
        assert!(run("value > 2", batch(vec![])).is_empty());
        assert!(run("false", batch(vec![Some(1)])).is_empty());
        assert_eq!(run("true", batch(vec![Some(1), None])).len(), 1);
    }

    #[test]
    fn floats_are_kept_as_the_expression_finds_them_true() {
        let edges = [-0.0, 0.0, 39.9, 40.0, f64::NAN, -f64::NAN, f64::INFINITY, -1.0];
        let nulls: Float64Array = (0..400).map(|row| (row % 11 != 5).then(|| edges[row * 7 % 8])).collect();
        let values: Float64Array = (0..400).map(|row| Some(edges[row * 3 % 8])).collect();
        let records = RecordBatch::try_from_iter([("nulls", Arc::new(nulls) as ArrayRef), ("x", Arc::new(values) as ArrayRef)]).unwrap();
        for (column, operator, number) in ["nulls", "x"]
            .into_iter()
            .flat_map(|column| ["<", "<=", ">", ">="].map(|operator| (column, operator)))
            .flat_map(|(column, operator)| ["40", "0", "-0.5", "1e300"].map(|number| (column, operator, number)))
        {
            let condition = format!("{column} {operator} {number}");
            let batch = Batch::new(records.slice(3, 390), 0, 0);
            let whole = Compiled::predicate(&condition.as_str().into(), &records.schema()).unwrap();
            assert!(whole.float_range().is_some());
            let mask = whole.evaluate(&batch.records).unwrap();
            let expected = batch.clone().filter(mask.as_boolean()).unwrap();
            let out = run(&condition, batch);
            assert_eq!(out.len(), 1, "{condition}");
            // As text, in which NaN is NaN.
            assert_eq!(format!("{:?}", out[0].records), format!("{:?}", expected.records), "{condition}");
        }
    }

    #[test]
    fn a_condition_that_is_a_number_is_refused() {
        let schema = batch(vec![]).records.schema();
        let error = Filter::new(&"value + 1".into(), &schema).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expression `value + 1` is of type Int64, but a condition must be true or false; compare it with something, as in `value + 1 > 0`"
        );
    }
}
