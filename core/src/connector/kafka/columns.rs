//! What else of a record becomes a column, on request.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::extras::Extras;
use crate::connector::records::Chunk;
use crate::error::{Error, Result};

/// A column of a record that is not its value. Names begin with a low line, so that they do not meet those of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `_key`: bytes, null without one.
    Key,
    /// `_headers`: a list of structs of `name` and `value`, in their order; names may come twice, values may be null.
    Headers,
    /// `_topic`: its name.
    Topic,
    /// `_partition`: its number.
    Partition,
    /// `_offset`: of the record in its partition.
    Offset,
    /// `_timestamp`: in milliseconds, UTC; null without one.
    Timestamp,
    /// `_timestamp_type`: `create_time` or `log_append_time`; null without a timestamp.
    TimestampType,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 7] =
        [Column::Key, Column::Headers, Column::Topic, Column::Partition, Column::Offset, Column::Timestamp, Column::TimestampType];

    /// The column that is called `name`, with or without its low line.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<Column> {
        let bare = name.strip_prefix('_').unwrap_or(name);
        Column::ALL.into_iter().find(|column| column.name()[1..] == *bare).ok_or_else(|| {
            let names: Vec<&str> = Column::ALL.iter().map(|column| &column.name()[1..]).collect();
            Error::config(format!("a record of Kafka has no `{name}`; it has {}", names.join(", ")))
        })
    }

    /// What the column is called.
    pub fn name(self) -> &'static str {
        match self {
            Column::Key => "_key",
            Column::Headers => "_headers",
            Column::Topic => "_topic",
            Column::Partition => "_partition",
            Column::Offset => "_offset",
            Column::Timestamp => "_timestamp",
            Column::TimestampType => "_timestamp_type",
        }
    }

    fn field(self) -> Field {
        let (kind, nullable) = match self {
            Column::Key => (DataType::Binary, true),
            Column::Headers => (DataType::List(header_item()), false),
            Column::Topic => (DataType::Utf8, false),
            Column::Partition => (DataType::Int32, false),
            Column::Offset => (DataType::Int64, false),
            Column::Timestamp => (DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
            Column::TimestampType => (DataType::Utf8, true),
        };
        Field::new(self.name(), kind, nullable)
    }
}

fn header_fields() -> Fields {
    vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into()
}

fn header_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(header_fields()), false))
}

/// Columns that are being built.
pub(super) struct Columns(Vec<(Column, Builder)>);

enum Builder {
    Key(BinaryBuilder),
    Headers(ListBuilder<StructBuilder>),
    Text(StringBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Time(TimestampMillisecondBuilder),
}

impl Columns {
    pub(super) fn new(columns: &[Column]) -> Columns {
        let builder = |column: &Column| match column {
            Column::Key => Builder::Key(BinaryBuilder::new()),
            Column::Headers => {
                let headers = StructBuilder::new(header_fields(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
                Builder::Headers(ListBuilder::new(headers).with_field(header_item()))
            }
            Column::Topic | Column::TimestampType => Builder::Text(StringBuilder::new()),
            Column::Partition => Builder::Int32(Int32Builder::new()),
            Column::Offset => Builder::Int64(Int64Builder::new()),
            Column::Timestamp => Builder::Time(TimestampMillisecondBuilder::new().with_timezone("UTC")),
        };
        Columns(columns.iter().map(|column| (*column, builder(column))).collect())
    }

    /// Whether none was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any needs more of a record than where it comes from.
    pub(super) fn need_extras(&self) -> bool {
        let plain = [Column::Topic, Column::Partition, Column::Offset];
        self.0.iter().any(|(column, _)| !plain.contains(column))
    }

    /// The columns of values, then these.
    pub(super) fn after(&self, values: &SchemaRef) -> SchemaRef {
        match self.is_empty() {
            true => SchemaRef::clone(values),
            false => {
                let own = self.0.iter().map(|(column, _)| Arc::new(column.field()));
                Arc::new(Schema::new_with_metadata(
                    values.fields().iter().cloned().chain(own).collect::<Fields>(),
                    values.metadata().clone(),
                ))
            }
        }
    }

    /// Adds a record of `chunk`, which became `rows` rows and comes from partition `number` of `topic`.
    pub(super) fn push(&mut self, (chunk, extras): (&Chunk, &Extras), record: usize, rows: usize, (topic, number): (&str, i32)) {
        for (column, builder) in &mut self.0 {
            for _ in 0..rows {
                push_one(*column, builder, (chunk, extras), record, (topic, number));
            }
        }
    }

    /// The rows as arrays; the columns start again.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = ArrayRef> {
        self.0.iter_mut().map(|(_, builder)| -> ArrayRef {
            match builder {
                Builder::Key(builder) => Arc::new(builder.finish()),
                Builder::Headers(builder) => Arc::new(builder.finish()),
                Builder::Text(builder) => Arc::new(builder.finish()),
                Builder::Int32(builder) => Arc::new(builder.finish()),
                Builder::Int64(builder) => Arc::new(builder.finish()),
                Builder::Time(builder) => Arc::new(builder.finish()),
            }
        })
    }
}

fn push_one(column: Column, builder: &mut Builder, (chunk, extras): (&Chunk, &Extras), record: usize, (topic, number): (&str, i32)) {
    let extra = extras.records.get(record);
    match builder {
        Builder::Key(keys) => {
            keys.append_option(extra.and_then(|extra| extra.key.clone()).map(|key| &extras.bytes[key]));
        }
        Builder::Headers(lists) => push_headers(lists, extras, record),
        Builder::Text(texts) if column == Column::Topic => texts.append_value(topic),
        Builder::Text(texts) => {
            let dated = extra.filter(|extra| extra.timestamp.is_some());
            texts.append_option(dated.map(|extra| if extra.appended { "log_append_time" } else { "create_time" }));
        }
        Builder::Int32(numbers) => numbers.append_value(number),
        Builder::Int64(offsets) => offsets.append_value(chunk.records[record].offset),
        Builder::Time(times) => times.append_option(extra.and_then(|extra| extra.timestamp)),
    }
}

fn push_headers(lists: &mut ListBuilder<StructBuilder>, extras: &Extras, record: usize) {
    let start = record.checked_sub(1).and_then(|before| extras.records.get(before)).map_or(0, |before| before.headers_end);
    let end = extras.records.get(record).map_or(start, |extra| extra.headers_end);
    let headers = lists.values();
    for header in &extras.headers[start..end] {
        let name = String::from_utf8_lossy(&extras.bytes[header.name.clone()]);
        let value = header.value.clone().map(|value| &extras.bytes[value]);
        // The builders are of these types, as `Columns::new` has made them.
        if let Some(names) = headers.field_builder::<StringBuilder>(0) {
            names.append_value(name);
        }
        if let Some(values) = headers.field_builder::<BinaryBuilder>(1) {
            values.append_option(value);
        }
        headers.append(true);
    }
    lists.append(true);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_names_of_their_own() {
        for column in Column::ALL {
            assert_eq!(Column::parse(column.name()).unwrap(), column);
            assert_eq!(Column::parse(&column.name()[1..]).unwrap(), column);
        }
        let error = Column::parse("size").unwrap_err().to_string();
        let names = "key, headers, topic, partition, offset, timestamp, timestamp_type";
        assert_eq!(error, format!("a record of Kafka has no `size`; it has {names}"));
    }
}
