//! From groups to rows of results: all that windows of every kind have in common.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::batch::{Batch, EventTime};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::aggregate::{Accumulators, Aggregate, Aggregates, Placed, Spans};
use crate::operator::devices::{Devices, cpu_only};
use crate::operator::event_time::timed;
use crate::operator::keys::{KeyColumns, Keys, Slots};
use crate::time::Unit;

/// Groups that a plan is explained for, whose keys nobody knows yet.
const EXPLAINED_GROUPS: usize = 4_096;

/// Rows of a batch of results: few enough that the accumulators of its groups stay in the second-level cache while one
/// result after the other is made of them.
pub(super) const RESULT_ROWS: usize = 8_192;

/// Keys and aggregates of a window, and the columns of its results: the keys, `window_start`, `window_end`, the aggregates.
pub(super) struct Results {
    pub keys: KeyColumns,
    pub aggregates: Aggregates,
    schema: SchemaRef,
    pub unit: Unit,
}

impl Results {
    /// `aggregates` for each key made of the columns `by`, on rows of `schema` whose event time counts `unit`s.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a column is unknown, has a type that its aggregate does not
    /// take, or two results have one name.
    pub fn new(by: &[String], aggregates: &[Aggregate], schema: &SchemaRef, unit: Unit, config: &Config) -> Result<Results> {
        let keys = KeyColumns::new(by, schema, config.max_keys)?;
        let aggregates = Aggregates::new(aggregates, schema)?;
        let schema = output_schema(&keys, &aggregates, unit)?;
        Ok(Results { keys, aggregates, schema, unit })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Puts out the results of the groups in `slots` of the window with these bounds.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a sum of integers does not fit `int64`.
    pub fn put_out(&self, bounds: (i64, i64), keys: &Keys, groups: &Accumulators, slots: &Slots<'_>, out: &mut Output) -> Result<()> {
        for first in (0..slots.len()).step_by(RESULT_ROWS) {
            let slots = slots.part(first..slots.len().min(first + RESULT_ROWS));
            let rows = slots.len();
            let spans = Spans::same(bounds, rows, self.unit);
            let results = self.aggregates.finish(groups, &slots, &spans)?;
            let records = self.records(keys, &slots, results, spans)?;
            // The event time of a result is the last instant of its window, as in Flink.
            let time = bounds.1.saturating_sub(1);
            let time = EventTime { times: vec![time; rows].into(), watermarks: None, earliest: time, latest: time };
            out.batches.push(Batch::of_results(records, Some(time)));
        }
        Ok(())
    }

    /// The same of windows that differ, of at most [`RESULT_ROWS`] groups; `times` are the event times of the results.
    ///
    /// # Errors
    /// As [`Results::put_out`].
    pub fn put_out_each(
        &self,
        (keys, key_slots): (&Keys, &[u32]),
        (groups, slots): (&Accumulators, &[u32]),
        spans: Spans,
        times: Vec<i64>,
        out: &mut Output,
    ) -> Result<()> {
        let results = self.aggregates.finish(groups, &Slots::List(slots), &spans)?;
        let records = self.records(keys, &Slots::List(key_slots), results, spans)?;
        out.batches.push(Batch::of_results(records, Some(timed(times.into()))));
        Ok(())
    }

    /// The same of the groups in all slots of `groups`, the keys of which are in `key_slots`.
    ///
    /// # Errors
    /// As [`Results::put_out`].
    pub fn put_out_windows(
        &self,
        keys: (&Keys, &[u32]),
        groups: &Accumulators,
        spans: Spans,
        times: Vec<i64>,
        out: &mut Output,
    ) -> Result<()> {
        let results = self.aggregates.finish(groups, &Slots::Range(0..times.len()), &spans)?;
        self.put_out_finished(keys, results, spans, times, out)
    }

    /// The same of results that are there, one for each of `times`.
    ///
    /// # Errors
    /// If the keys cannot be decoded, which would be a defect.
    pub fn put_out_finished(
        &self,
        (keys, key_slots): (&Keys, &[u32]),
        results: Vec<ArrayRef>,
        spans: Spans,
        times: Vec<i64>,
        out: &mut Output,
    ) -> Result<()> {
        let records = self.records(keys, &Slots::List(key_slots), results, spans)?;
        out.batches.push(Batch::of_results(records, Some(timed(times.into()))));
        Ok(())
    }

    fn records(&self, keys: &Keys, key_slots: &Slots<'_>, results: Vec<ArrayRef>, spans: Spans) -> Result<RecordBatch> {
        let mut columns = self.keys.decode(keys, key_slots)?;
        columns.extend(spans.columns());
        columns.extend(results);
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    /// In words, where the kernels run and why.
    pub fn placement(&self, devices: &Devices) -> String {
        let explain = |column| Placed::new(devices, column).explain(EXPLAINED_GROUPS);
        let mut kernels: Vec<String> = self.aggregates.columns.iter().map(explain).collect();
        kernels.dedup();
        let tables = self.aggregates.tables_in_words();
        if !tables.is_empty() {
            kernels.push(format!("{} on {}", tables.join(", "), cpu_only()));
        }
        // Rows are counted where they are: to send their slots anywhere costs more.
        if kernels.is_empty() { cpu_only() } else { kernels.join("; ") }
    }
}

fn output_schema(keys: &KeyColumns, aggregates: &Aggregates, unit: Unit) -> Result<SchemaRef> {
    let bound = |name: &str| Arc::new(Field::new(name, DataType::Timestamp(unit.arrow(), None), false));
    let mut fields = keys.fields().to_vec();
    fields.extend([bound("window_start"), bound("window_end")]);
    fields.extend(aggregates.fields().map(Arc::new));
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|other| other.name() == field.name()) {
            return Err(Error::schema(format!(
                "two columns of the window's result are named `{}`; give one of them another name",
                field.name()
            )));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}
