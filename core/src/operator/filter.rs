//! Keeps the rows for which a condition is true.

use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;

use super::{Operator, Output};
use crate::batch::Batch;
use crate::error::Result;
use crate::expr::{Compiled, Expression};

/// Keeps the rows for which a condition is true; rows for which it is false or null are dropped. Event times,
/// watermarks and origins of the rows are kept. A batch of which no row is left is not handed on.
#[derive(Debug)]
pub struct Filter {
    condition: Compiled,
}

impl Filter {
    /// A filter of batches of `schema`, which its output has too.
    ///
    /// # Errors
    /// As [`Compiled::predicate`]: the condition does not fit the schema or is not a condition.
    pub fn new(condition: &Expression, schema: &SchemaRef) -> Result<Filter> {
        Ok(Filter { condition: Compiled::predicate(condition, schema)? })
    }
}

impl Operator for Filter {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let mask = self.condition.evaluate(&batch.records)?;
        let kept = batch.filter(mask.as_boolean())?;
        if kept.rows() > 0 {
            out.batches.push(kept);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

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
    fn a_condition_that_is_a_number_is_refused() {
        let schema = batch(vec![]).records.schema();
        let error = Filter::new(&"value + 1".into(), &schema).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expression `value + 1` is of type Int64, but a condition must be true or false; compare it with something, as in `value + 1 > 0`"
        );
    }
}
