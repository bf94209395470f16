//! Rows as Arrow's inter-process streams, each whole: its schema, one batch and the mark of its end.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_ipc::writer::StreamWriter;

use super::values_of;
use crate::error::{Error, Result};

/// The mark of a stream's end: a continuation, and a message of no bytes.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// A column whose dictionaries are written as their values.
pub(crate) fn plain(field: &FieldRef) -> FieldRef {
    mapped(field, &|kind| match kind {
        DataType::Dictionary(_, values) => Some(values.as_ref().clone()),
        _ => None,
    })
}

/// A column that is as long as its values when a few of its rows are written: dictionaries and views bring along all that they were cut of.
fn compact(field: &FieldRef) -> FieldRef {
    mapped(field, &|kind| match kind {
        DataType::Dictionary(_, values) => Some(owned(values)),
        kind => Some(owned(kind)).filter(|owned| owned != kind),
    })
}

/// What a view is of.
fn owned(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

/// A column with other types where `other` has one, nested ones included.
fn mapped(field: &FieldRef, other: &dyn Fn(&DataType) -> Option<DataType>) -> FieldRef {
    let inner = |field| mapped(field, other);
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(inner(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        kind => match other(kind) {
            Some(kind) => kind,
            None => return Arc::clone(field),
        },
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
}

/// Makes streams.
pub(crate) struct Streams {
    schema: SchemaRef,
    /// What every stream begins with.
    head: Vec<u8>,
    writer: StreamWriter<Vec<u8>>,
}

impl Streams {
    /// For batches of `schema`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the format cannot hold a column.
    pub(crate) fn new(schema: &SchemaRef) -> Result<Streams> {
        let fields: Vec<FieldRef> = schema.fields().iter().map(compact).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let refused = |error| Error::schema("the columns cannot be written as Arrow IPC; select or cast them").with_source(error);
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(refused)?;
        Ok(Streams { schema, head: writer.get_ref().clone(), writer })
    }

    /// Streams of the rows of each range, one or, where that is longer than `room` of its first row, several; and the rows of each.
    /// One of a single row may be longer.
    ///
    /// # Errors
    /// If the batch is of other columns.
    pub(crate) fn values(
        &mut self,
        batch: &RecordBatch,
        ranges: impl Iterator<Item = Range<usize>>,
        room: &dyn Fn(usize) -> usize,
    ) -> Result<(BinaryArray, Vec<Range<usize>>)> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns.collect::<Result<_, _>>()?, &options)?;
        self.writer.get_mut().clear();
        let (mut ends, mut rows) = (vec![0], Vec::new());
        for range in ranges {
            let room = room(range.start);
            self.stream(&batch, range, room, &mut ends, &mut rows)?;
        }
        let bytes = std::mem::take(self.writer.get_mut());
        Ok((values_of(bytes, ends.into_iter())?, rows))
    }

    fn stream(
        &mut self,
        batch: &RecordBatch,
        range: Range<usize>,
        room: usize,
        ends: &mut Vec<usize>,
        rows: &mut Vec<Range<usize>>,
    ) -> Result<()> {
        let start = self.writer.get_ref().len();
        self.writer.get_mut().extend_from_slice(&self.head);
        self.writer.write(&batch.slice(range.start, range.len()))?;
        self.writer.get_mut().extend_from_slice(&END);
        let length = self.writer.get_ref().len() - start;
        if length <= room || range.len() == 1 {
            ends.push(start + length);
            rows.push(range);
            return Ok(());
        }
        self.writer.get_mut().truncate(start);
        // As many parts as would do if they had no head; those that are still too long are cut again.
        let size = range.len().div_ceil(length.div_ceil(room.max(1)).max(2)).max(1);
        for first in range.clone().step_by(size) {
            self.stream(batch, first..range.end.min(first + size), room, ends, rows)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, StringArray, StringViewArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int32Type;
    use arrow::ipc::reader::StreamReader;
    use proptest::prelude::*;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let texts: Vec<String> = (0..count).map(|row| format!("{row}").repeat(row % 7)).collect();
        let words: DictionaryArray<Int32Type> = (0..count).map(|row| ["a", "b"][row % 2]).collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("n", Arc::new(Int64Array::from_iter((0..count as i64).map(|row| (row % 3 > 0).then_some(row))))),
            ("t", Arc::new(StringArray::from(texts.clone()))),
            ("v", Arc::new(StringViewArray::from_iter_values(texts))),
            ("d", Arc::new(words)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn each_stream_is_whole_and_has_its_rows(count in 1usize..300, cut in 0usize..300, room in 0usize..20_000) {
            let (batch, cut) = (rows(count), cut.min(count));
            let mut streams = Streams::new(&batch.schema()).unwrap();
            for _ in 0..2 {
                let ranges = [0..cut, cut..count].into_iter().filter(|range| !range.is_empty());
                let (values, parts) = streams.values(&batch, ranges, &|_| room).unwrap();
                let mut next = 0;
                let mut found = Vec::new();
                for (value, part) in values.iter().zip(&parts) {
                    let value = value.unwrap();
                    prop_assert!(value.len() <= room || part.len() == 1);
                    prop_assert_eq!((part.start, part.end <= cut || part.start >= cut), (next, true));
                    next = part.end;
                    let read: Vec<_> = StreamReader::try_new(value, None).unwrap().map(Result::unwrap).collect();
                    prop_assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), part.len());
                    found.extend(read);
                }
                prop_assert_eq!((next, values.len()), (count, parts.len()));
                let all = concat_batches(&found[0].schema(), &found).unwrap();
                prop_assert_eq!(all.column(0), batch.column(0));
                prop_assert_eq!(all.column(1), batch.column(1));
                prop_assert_eq!(all.column(2).as_string::<i32>(), batch.column(1).as_string::<i32>());
                prop_assert_eq!(all.column(3), &cast(batch.column(3), &DataType::Utf8).unwrap());
            }
        }
    }
}
