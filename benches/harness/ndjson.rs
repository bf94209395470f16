//! NDJSON in memory: the same events as text, and how fast it decodes.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef};
use thalweg::Config;
use thalweg::batch::PartitionId;
use thalweg::config::RECV_BUFFER_BYTES;
use thalweg::format::Format;

use crate::Result;
use crate::answer::Answer;
use crate::events::Events;

/// Lines with three numbers each, or with two strings besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Numbers,
    Strings,
}

const CITIES: [&str; 8] = ["Lisboa", "Kraków", "Sanaa", "Oaxaca", "Hull", "Fès", "Austin", "Pune"];

impl Shape {
    /// The columns of the lines.
    pub fn schema(self) -> SchemaRef {
        let mut fields = vec![
            Field::new("ts", DataType::Int64, false),
            Field::new("key", DataType::Int32, false),
            Field::new("value", DataType::Float64, false),
        ];
        if self == Shape::Strings {
            fields.extend([Field::new("card", DataType::Utf8, false), Field::new("city", DataType::Utf8, false)]);
        }
        Arc::new(Schema::new(fields))
    }

    /// The first `rows` of `events` as lines, keyed by `key`.
    pub fn lines(self, events: &Events, key: &str, rows: usize) -> Result<Vec<u8>> {
        let index = events.schema.index_of(key)?;
        let mut text = String::with_capacity(rows * 100);
        let mut left = rows;
        for batch in &events.batches {
            let times = batch.column(0).as_primitive::<Int64Type>().values();
            let values = batch.column(1).as_primitive::<Float64Type>().values();
            let keys = batch.column(index).as_primitive::<Int32Type>().values();
            for ((time, value), key) in times.iter().zip(values).zip(keys).take(left) {
                write!(text, r#"{{"ts":{time},"key":{key},"value":{value}"#)?;
                if self == Shape::Strings {
                    write!(text, r#","card":"card-{key:06}","city":"{}""#, CITIES[*key as usize % CITIES.len()])?;
                }
                text.push_str("}\n");
            }
            left -= left.min(batch.num_rows());
        }
        Ok(text.into_bytes())
    }
}

/// Decodes `lines` as they would come from a socket and counts the rows.
pub fn decode(lines: &[u8], schema: &SchemaRef) -> Result<Answer> {
    let config = Config::default();
    let mut decoder = Format::Ndjson.decoder(SchemaRef::clone(schema), &config)?;
    let mut rows = 0;
    let mut taken = |decoded: Option<thalweg::format::Decoded>| rows += decoded.map_or(0, |decoded| decoded.records.num_rows() as u64);
    for piece in lines.chunks(RECV_BUFFER_BYTES) {
        decoder.decode(PartitionId(0), piece)?;
        if decoder.rows() >= config.batch_rows {
            taken(decoder.take()?);
        }
    }
    decoder.end(PartitionId(0));
    taken(decoder.take()?);
    Ok(Answer::of_rows(rows))
}
