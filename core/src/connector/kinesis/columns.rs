//! What else of a record becomes a column, on request.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, StringBuilder, TimestampMillisecondBuilder};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};

/// A column of a record that is not its value. Names begin with a low line, so that they do not meet those of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `_partition_key`: text.
    PartitionKey,
    /// `_sequence_number`: its digits, as text: it has more of them than an integer holds.
    SequenceNumber,
    /// `_sub_sequence_number`: its place among those that were aggregated into one record; 0 if it was not.
    SubSequenceNumber,
    /// `_shard`: its name.
    Shard,
    /// `_timestamp`: about when the stream took it, in milliseconds, UTC; null if the stream does not say.
    Timestamp,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 5] =
        [Column::PartitionKey, Column::SequenceNumber, Column::SubSequenceNumber, Column::Shard, Column::Timestamp];

    /// The column that is called `name`, with or without its low line.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<Column> {
        let bare = name.strip_prefix('_').unwrap_or(name);
        Column::ALL.into_iter().find(|column| column.name()[1..] == *bare).ok_or_else(|| {
            let names: Vec<&str> = Column::ALL.iter().map(|column| &column.name()[1..]).collect();
            Error::config(format!("a record of Kinesis has no `{name}`; it has {}", names.join(", ")))
        })
    }

    /// What the column is called.
    pub fn name(self) -> &'static str {
        match self {
            Column::PartitionKey => "_partition_key",
            Column::SequenceNumber => "_sequence_number",
            Column::SubSequenceNumber => "_sub_sequence_number",
            Column::Shard => "_shard",
            Column::Timestamp => "_timestamp",
        }
    }

    fn field(self) -> Field {
        let (kind, nullable) = match self {
            Column::PartitionKey | Column::SequenceNumber | Column::Shard => (DataType::Utf8, false),
            Column::SubSequenceNumber => (DataType::Int64, false),
            Column::Timestamp => (DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        };
        Field::new(self.name(), kind, nullable)
    }
}

/// What there is of the records of a chunk beside their values.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// In the order of the records.
    pub records: Vec<Extra>,
    /// Partition keys and sequence numbers.
    text: String,
}

/// What there is of a record beside its value.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    partition_key: Range<usize>,
    sequence: Range<usize>,
    pub sub_sequence: u64,
    /// In milliseconds since the Unix epoch.
    arrival: Option<i64>,
}

impl Extras {
    /// Adds the next record.
    pub fn push(&mut self, partition_key: &str, sequence: &str, sub_sequence: u64, arrival: Option<i64>) {
        // Records that were aggregated share a sequence number, and often a key.
        let last = self.records.last().map(|last| (last.partition_key.clone(), last.sequence.clone()));
        let (last_key, last_sequence) = last.unwrap_or_default();
        let partition_key = self.keep(partition_key, last_key);
        let sequence = self.keep(sequence, last_sequence);
        self.records.push(Extra { partition_key, sequence, sub_sequence, arrival });
    }

    fn keep(&mut self, text: &str, last: Range<usize>) -> Range<usize> {
        if self.text[last.clone()] == *text {
            return last;
        }
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// The sequence number of a record.
    pub fn sequence(&self, record: usize) -> &str {
        &self.text[self.records[record].sequence.clone()]
    }
}

/// Columns that are being built.
pub(super) struct Columns(Vec<(Column, Builder)>);

enum Builder {
    Text(StringBuilder),
    Int64(Int64Builder),
    Time(TimestampMillisecondBuilder),
}

impl Columns {
    pub fn new(columns: &[Column]) -> Columns {
        let builder = |column: &Column| match column {
            Column::PartitionKey | Column::SequenceNumber | Column::Shard => Builder::Text(StringBuilder::new()),
            Column::SubSequenceNumber => Builder::Int64(Int64Builder::new()),
            Column::Timestamp => Builder::Time(TimestampMillisecondBuilder::new().with_timezone("UTC")),
        };
        Columns(columns.iter().map(|column| (*column, builder(column))).collect())
    }

    /// The columns of values, then these.
    pub fn after(&self, values: &SchemaRef) -> SchemaRef {
        if self.0.is_empty() {
            return SchemaRef::clone(values);
        }
        let own = self.0.iter().map(|(column, _)| Arc::new(column.field()));
        let fields: Fields = values.fields().iter().cloned().chain(own).collect();
        Arc::new(Schema::new_with_metadata(fields, values.metadata().clone()))
    }

    /// Adds a record, which became `rows` rows and comes from `shard`.
    pub fn push(&mut self, extras: &Extras, record: usize, rows: usize, shard: &str) {
        let extra = &extras.records[record];
        for (column, builder) in &mut self.0 {
            for _ in 0..rows {
                match builder {
                    Builder::Text(texts) => texts.append_value(match column {
                        Column::PartitionKey => &extras.text[extra.partition_key.clone()],
                        Column::SequenceNumber => extras.sequence(record),
                        _ => shard,
                    }),
                    Builder::Int64(numbers) => numbers.append_value(extra.sub_sequence as i64),
                    Builder::Time(times) => times.append_option(extra.arrival),
                }
            }
        }
    }

    /// The rows as arrays; the columns start again.
    pub fn finish(&mut self) -> impl Iterator<Item = ArrayRef> {
        self.0.iter_mut().map(|(_, builder)| -> ArrayRef {
            match builder {
                Builder::Text(builder) => Arc::new(builder.finish()),
                Builder::Int64(builder) => Arc::new(builder.finish()),
                Builder::Time(builder) => Arc::new(builder.finish()),
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn columns_have_names_of_their_own() {
        for column in Column::ALL {
            assert_eq!(Column::parse(column.name()).unwrap(), column);
            assert_eq!(Column::parse(&column.name()[1..]).unwrap(), column);
        }
        let error = Column::parse("offset").unwrap_err().to_string();
        let names = "partition_key, sequence_number, sub_sequence_number, shard, timestamp";
        assert_eq!(error, format!("a record of Kinesis has no `offset`; it has {names}"));
    }

    #[test]
    fn what_records_share_is_kept_once() {
        let mut extras = Extras::default();
        for (key, sequence, sub) in [("a", "17", 0), ("a", "17", 1), ("b", "17", 2), ("b", "18", 0)] {
            extras.push(key, sequence, sub, Some(5));
        }
        assert_eq!(extras.text, "a17b18");
        let mut columns = Columns::new(&[Column::PartitionKey, Column::SequenceNumber, Column::SubSequenceNumber, Column::Shard]);
        (0..4).for_each(|record| columns.push(&extras, record, 1 + record % 2, "s"));
        let arrays: Vec<ArrayRef> = columns.finish().collect();
        let text = |at: usize| arrays[at].as_string::<i32>().iter().flatten().collect::<Vec<_>>().join(" ");
        assert_eq!((text(0), text(1), text(3)), ("a a a b b b".to_owned(), "17 17 17 17 18 18".to_owned(), "s s s s s s".to_owned()));
        assert_eq!(arrays[2].as_primitive::<Int64Type>().values(), &[0, 1, 1, 2, 0, 0]);
    }
}
