//! The state of one step at one moment, as columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, LargeBinaryArray, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt8Type};

use super::bytes::damaged;
use crate::error::Result;

/// A column of a table.
pub(crate) type Column = (FieldRef, ArrayRef);

/// Name of the first column of each table.
const GROUP: &str = "key_group";

/// The state of a step: marks that all keys have in common, and rows that each belong to one key group.
///
/// The state of a step that ran as several is that of one: rows one after the other, of each mark the greatest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    marks: BTreeMap<String, i64>,
    tables: BTreeMap<String, RecordBatch>,
}

impl Saved {
    /// Notes how far the step has come in some respect.
    pub(crate) fn mark(&mut self, name: &str, value: i64) {
        self.marks.insert(name.to_owned(), value);
    }

    /// What was noted.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if nothing was.
    pub(crate) fn marked(&self, name: &str) -> Result<i64> {
        self.marks.get(name).copied().ok_or_else(|| damaged(&format!("there is no mark `{name}`")))
    }

    /// Adds a table.
    ///
    /// # Errors
    /// If its columns differ in length, which would be a defect.
    pub(crate) fn add(&mut self, name: &str, groups: Vec<u8>, columns: Vec<Column>) -> Result<()> {
        let (mut fields, mut arrays) = (vec![Arc::new(Field::new(GROUP, DataType::UInt8, false))], Vec::with_capacity(columns.len() + 1));
        arrays.push(Arc::new(UInt8Array::from(groups)) as ArrayRef);
        for (field, array) in columns {
            fields.push(field);
            arrays.push(array);
        }
        self.tables.insert(name.to_owned(), RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?);
        Ok(())
    }

    /// A table, if there is one of that name.
    pub(crate) fn table(&self, name: &str) -> Option<Rows<'_>> {
        self.tables.get(name).map(Rows)
    }

    /// Adds the state of a part of the same step.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the tables do not fit each other.
    pub(crate) fn merge(&mut self, other: Saved) -> Result<()> {
        for (name, value) in other.marks {
            self.marks.entry(name).and_modify(|mark| *mark = value.max(*mark)).or_insert(value);
        }
        for (name, table) in other.tables {
            match self.tables.get_mut(&name) {
                Some(own) => *own = concat_batches(&own.schema(), [&*own, &table])?,
                None => drop(self.tables.insert(name, table)),
            }
        }
        Ok(())
    }

    /// Some rows of the tables, with all marks: those that `keep` says of each.
    ///
    /// # Errors
    /// Those of `keep`.
    pub(crate) fn select(&self, mut keep: impl FnMut(&RecordBatch) -> Result<BooleanArray>) -> Result<Saved> {
        let mut select = |(name, table): (&String, &RecordBatch)| Ok((name.clone(), filter_record_batch(table, &keep(table)?)?));
        Ok(Saved { marks: self.marks.clone(), tables: self.tables.iter().map(&mut select).collect::<Result<_>>()? })
    }

    /// Rows of the longest table.
    pub(crate) fn rows(&self) -> usize {
        self.tables.values().map(RecordBatch::num_rows).max().unwrap_or(0)
    }

    pub(super) fn marks(&self) -> &BTreeMap<String, i64> {
        &self.marks
    }

    pub(super) fn tables(&self) -> &BTreeMap<String, RecordBatch> {
        &self.tables
    }

    pub(super) fn insert(&mut self, name: String, table: RecordBatch) -> Result<()> {
        Rows(&table).groups()?;
        self.tables.insert(name, table);
        Ok(())
    }
}

/// The rows of a table of state.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a>(&'a RecordBatch);

impl<'a> Rows<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.num_rows()
    }

    fn groups(&self) -> Result<&'a UInt8Array> {
        let first = self.0.columns().first().and_then(|column| column.as_primitive_opt::<UInt8Type>());
        first.filter(|_| self.0.schema_ref().field(0).name() == GROUP).ok_or_else(|| damaged("a table has no key groups"))
    }

    /// A column.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there is none of that name.
    pub fn column(&self, name: &str) -> Result<&'a ArrayRef> {
        self.0.column_by_name(name).ok_or_else(|| damaged(&format!("a table has no column `{name}`")))
    }

    /// A column of numbers.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there is none of that name, or it is none.
    pub fn numbers(&self, name: &str) -> Result<&'a Int64Array> {
        self.column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| damaged(&format!("`{name}` holds no numbers")))
    }

    /// A column of byte strings.
    ///
    /// # Errors
    /// As [`Rows::numbers`].
    pub fn bytes(&self, name: &str) -> Result<&'a LargeBinaryArray> {
        self.column(name)?.as_binary_opt::<i64>().ok_or_else(|| damaged(&format!("`{name}` holds no byte strings")))
    }

    /// The columns from the one after the column `name` on, which have to be those of `fields`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if they are not.
    pub fn columns_after(&self, name: &str, fields: &[FieldRef]) -> Result<&'a [ArrayRef]> {
        let schema: &SchemaRef = self.0.schema_ref();
        let start = schema.index_of(name).map_err(|_| damaged(&format!("a table has no column `{name}`")))? + 1;
        let found = schema.fields().iter().skip(start).map(|field| (field.name(), field.data_type()));
        match found.eq(fields.iter().map(|field| (field.name(), field.data_type()))) {
            true => Ok(&self.0.columns()[start..]),
            false => Err(damaged("the columns of keys or rows are others than those of the pipeline")),
        }
    }

    /// The columns from the one after the column `name` on, as rows of `schema`.
    ///
    /// # Errors
    /// As [`Rows::columns_after`].
    pub fn records_after(&self, name: &str, schema: &SchemaRef) -> Result<RecordBatch> {
        let columns = self.columns_after(name, schema.fields())?.to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(schema), columns, &options)?)
    }

    /// The rows of each distinct value of `key`, ascending.
    pub fn grouped<K: Ord>(&self, key: impl Fn(usize) -> K) -> BTreeMap<K, Vec<u32>> {
        let mut groups: BTreeMap<K, Vec<u32>> = BTreeMap::new();
        (0..self.len()).for_each(|row| groups.entry(key(row)).or_default().push(row as u32));
        groups
    }
}

/// A column of numbers for a table of state.
pub(crate) fn numbers(name: &str, values: Vec<i64>) -> Column {
    (Arc::new(Field::new(name, DataType::Int64, false)), Arc::new(Int64Array::from(values)))
}

/// A column of byte strings for a table of state.
pub(crate) fn bytes(name: &str, values: ArrayRef) -> Column {
    (Arc::new(Field::new(name, DataType::LargeBinary, false)), values)
}
