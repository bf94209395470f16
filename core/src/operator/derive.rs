//! Computes columns from columns: `with_columns` and `select`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};

use super::{Operator, Output};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::expr::{Compiled, Expression};

/// Adds computed columns. One that is named like an input column takes that column's place, the others follow
/// behind in the order given. All expressions see the input columns, none sees another's result.
#[derive(Debug)]
pub struct Derive(Projection);

impl Derive {
    /// Adds `columns`, each a name and its expression, to batches of `schema`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if an expression does not fit the schema or two columns have the same name.
    pub fn new<N: AsRef<str>>(columns: &[(N, Expression)], schema: &SchemaRef) -> Result<Derive> {
        no_duplicates(columns.iter().map(|(name, _)| name.as_ref()))?;
        let mut output = Vec::with_capacity(schema.fields().len() + columns.len());
        for field in schema.fields() {
            output.push(Compiled::new(&crate::expr::col(field.name()).into(), schema)?);
        }
        for (name, expression) in columns {
            let compiled = Compiled::new(expression, schema)?.named(name.as_ref());
            match schema.index_of(name.as_ref()) {
                Ok(place) => output[place] = compiled,
                Err(_) => output.push(compiled),
            }
        }
        Projection::new(output, schema).map(Derive)
    }

    /// The columns that come out.
    pub fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }
}

impl Operator for Derive {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        self.0.on_batch(batch, out)
    }
}

/// Puts out the named columns and expressions only, in the order given. Event time is kept beside the columns,
/// so that the column it came from may be dropped.
#[derive(Debug)]
pub struct Select(Projection);

impl Select {
    /// Puts out `items` of batches of `schema`. A SQL item may itself be a list, as in `"card, amount * 2 AS twice"`,
    /// and `*` stands for all columns. An expression without `AS` is named by its text.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if an expression does not fit the schema, two columns have the same name, or
    /// there are none.
    pub fn new(items: &[Expression], schema: &SchemaRef) -> Result<Select> {
        let mut output = Vec::with_capacity(items.len());
        for item in items {
            output.extend(Compiled::list(item, schema)?);
        }
        if output.is_empty() {
            return Err(Error::schema("a selection needs at least one column; `*` stands for all"));
        }
        no_duplicates(output.iter().map(|compiled| compiled.field().name().as_str()))?;
        Projection::new(output, schema).map(Select)
    }

    /// The columns that come out.
    pub fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }
}

impl Operator for Select {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        self.0.on_batch(batch, out)
    }
}

#[derive(Debug)]
struct Projection {
    columns: Vec<Compiled>,
    schema: SchemaRef,
}

impl Projection {
    fn new(columns: Vec<Compiled>, input: &SchemaRef) -> Result<Projection> {
        let fields: Vec<_> = columns.iter().map(|compiled| compiled.field().clone()).collect();
        Ok(Projection { columns, schema: Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())) })
    }

    fn on_batch(&self, batch: Batch, out: &mut Output) -> Result<()> {
        let arrays = self.columns.iter().map(|column| column.evaluate(&batch.records)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        out.batches.push(batch.with_records(records));
        Ok(())
    }
}

fn no_duplicates<'n>(names: impl Iterator<Item = &'n str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::schema(format!("two columns would be named `{name}`; rename one with `AS`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{AsArray, Float64Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Field, Float64Type, TimeUnit};

    use super::*;
    use crate::batch::EventTime;
    use crate::expr::{col, lit};

    fn batch() -> Batch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("card", DataType::Utf8, true),
            Field::new("amount", DataType::Float64, false),
        ]));
        let ts = TimestampMillisecondArray::from(vec![1, 2]);
        let (card, amount) = (StringArray::from(vec![Some("a"), None]), Float64Array::from(vec![10.0, 20.0]));
        let mut batch = Batch::new(RecordBatch::try_new(schema, vec![Arc::new(ts), Arc::new(card), Arc::new(amount)]).unwrap(), 0, 9);
        batch.time = Some(EventTime { times: vec![1, 2].into(), watermarks: None, earliest: 1, latest: 2 });
        batch
    }

    fn run(operator: &mut dyn Operator) -> Batch {
        let mut out = Output::default();
        operator.on_batch(batch(), &mut out).unwrap();
        out.batches.pop().unwrap()
    }

    fn names(schema: &SchemaRef) -> Vec<&str> {
        schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    fn floats(batch: &Batch, name: &str) -> Vec<f64> {
        batch.records.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
    }

    #[test]
    fn new_columns_replace_or_append_and_see_the_input_only() {
        let columns = [("fee", "amount * 0.5".into()), ("amount", "amount + 1".into()), ("typed", (col("amount") * lit(2.0)).into())];
        let mut derive = Derive::new(&columns, &batch().records.schema()).unwrap();
        assert_eq!(names(derive.schema()), ["ts", "card", "amount", "fee", "typed"]);
        let out = run(&mut derive);
        assert_eq!(out.records.schema(), *derive.schema());
        assert_eq!(floats(&out, "amount"), [11.0, 21.0]);
        assert_eq!(floats(&out, "fee"), [5.0, 10.0]);
        assert_eq!(floats(&out, "typed"), [20.0, 40.0]);
        assert_eq!((out.time.unwrap().times.as_ref(), out.received, out.segments[0].rows), (&[1, 2][..], 9, 2));
    }

    #[test]
    fn select_orders_renames_and_may_drop_the_time_column() {
        let mut select = Select::new(&["amount, amount * 2 AS twice".into(), "card".into()], &batch().records.schema()).unwrap();
        assert_eq!(names(select.schema()), ["amount", "twice", "card"]);
        assert!(!select.schema().field(0).is_nullable());
        let out = run(&mut select);
        assert_eq!(floats(&out, "twice"), [20.0, 40.0]);
        assert_eq!(out.time.unwrap().times.as_ref(), &[1, 2]);
    }

    #[test]
    fn a_star_is_every_column() {
        let select = Select::new(&["*, 1 AS one".into()], &batch().records.schema()).unwrap();
        assert_eq!(names(select.schema()), ["ts", "card", "amount", "one"]);
    }

    #[test]
    fn an_empty_selection_and_equal_names_are_refused() {
        let schema = batch().records.schema();
        assert!(Select::new(&[], &schema).unwrap_err().to_string().contains("at least one column"));
        let error = Select::new(&["card, amount AS card".into()], &schema).unwrap_err();
        assert_eq!(error.to_string(), "two columns would be named `card`; rename one with `AS`");
        assert!(Derive::new(&[("a", "1".into()), ("a", "2".into())], &schema).is_err());
        assert!(Derive::new(&[("a", "card, amount".into())], &schema).unwrap_err().to_string().contains("list of 2"));
    }
}
