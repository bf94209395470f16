//! Records one by one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::resolved::{Resolved, Wrap};
use super::{Framing, debezium};
use crate::error::{Kind, Result};
use crate::format::bulk::{self, GROUP, Groups};
use crate::format::conform::conform;
use crate::format::messages::{Messages, confluent_head};

/// What a record in the single-object encoding begins with, and how long what stands before it is.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];
const SINGLE_OBJECT_BYTES: usize = 10;

/// What rows are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Each of a record.
    Records,
    /// Each of what a record, which is a change event of Debezium, is about.
    Changes,
}

/// A decoder of records, each of which says by which schema it was written.
pub(super) struct AvroMessages {
    schema: SchemaRef,
    framing: Framing,
    reader: Option<Arc<str>>,
    of: Rows,
    /// Of each writer's schema met, by number or fingerprint, what decodes its records, or why they cannot be.
    writers: HashMap<u64, Result<Writer, String>>,
    /// Those of them that are not known, which may be for the next records.
    unknown: Vec<u64>,
    /// The records of a run, without what stands before them unless the decoder takes that.
    bodies: Vec<Range<usize>>,
    /// Whether all of the last run decoded, so that the next one is tried as a whole.
    is_clean: bool,
    batches: Vec<RecordBatch>,
    rows: usize,
}

struct Writer {
    resolved: Resolved,
    schema: SchemaRef,
    of: Rows,
}

impl AvroMessages {
    pub(super) fn new(schema: SchemaRef, framing: Framing, reader: Option<Arc<str>>, of: Rows) -> AvroMessages {
        AvroMessages {
            schema,
            framing,
            reader,
            of,
            writers: HashMap::new(),
            unknown: Vec::new(),
            bodies: Vec::new(),
            is_clean: true,
            batches: Vec::new(),
            rows: 0,
        }
    }

    /// The schema that a record says it was written by, and the length of what stands before it.
    fn head(&self, record: &[u8]) -> Result<(u64, usize), String> {
        match &self.framing {
            Framing::Bare(_) | Framing::Container => Ok((0, 0)),
            Framing::Confluent(_) => confluent_head(record).map(|(id, length)| (u64::from(id), length)),
            Framing::SingleObject(_) => match record.first_chunk::<SINGLE_OBJECT_BYTES>() {
                Some([first, second, fingerprint @ ..]) if [*first, *second] == SINGLE_OBJECT => {
                    Ok((u64::from_le_bytes(*fingerprint), SINGLE_OBJECT_BYTES))
                }
                _ => Err("the record does not begin with C3 01 and the fingerprint of a schema, as Avro's single-object encoding has it"
                    .to_owned()),
            },
        }
    }

    /// What decodes the records of a schema, or why they cannot be decoded.
    fn writer(&mut self, id: u64) -> Result<&mut Result<Writer, String>> {
        Ok(match self.writers.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let (name, json) = match &self.framing {
                    Framing::Confluent(schemas) => match schemas.schema(id as u32) {
                        Err(error) if error.kind() == Kind::Schema => return Ok(unknown.insert(Err(format!("schema {id}: {error}")))),
                        json => (format!("schema {id}"), json?),
                    },
                    Framing::SingleObject(schemas) => (format!("the schema with fingerprint {id:016x}"), schemas.get(&id).cloned()),
                    Framing::Bare(schema) => ("the schema".to_owned(), Some(Arc::clone(schema))),
                    Framing::Container => ("the schema".to_owned(), None),
                };
                let Some(json) = json else {
                    self.unknown.push(id);
                    return Ok(unknown.insert(Err(format!("{name} of the record is not known"))));
                };
                let wrap = match &self.framing {
                    Framing::Confluent(_) => Wrap::Numbered(id as u32),
                    _ => Wrap::Record,
                };
                let resolved = match self.of {
                    Rows::Records => Resolved::new(&json, self.reader.as_deref(), Some(&self.schema), wrap),
                    Rows::Changes => Resolved::new(&json, None, Some(&debezium::parts()), wrap),
                };
                let writer = resolved.map(|resolved| Writer { resolved, schema: SchemaRef::clone(&self.schema), of: self.of });
                unknown.insert(writer.map_err(|error| format!("{name}: {error}")))
            }
        })
    }

    /// Decodes the bodies of a run of records that begins at `first`, all of one schema.
    fn run(&mut self, id: u64, bytes: &[u8], first: usize, bad: &mut Vec<(usize, String)>) -> Result<()> {
        let bodies = std::mem::take(&mut self.bodies);
        let mut batches = std::mem::take(&mut self.batches);
        let known = (batches.len(), bad.len());
        let as_one = self.is_clean && bodies.len() > GROUP;
        match self.writer(id)? {
            Ok(writer) => {
                // One batch need not be put together from many.
                match as_one.then(|| writer.rows(bytes, &bodies)) {
                    Some(Ok(rows)) => batches.push(rows),
                    _ => bulk::decode_placed(writer, bytes, &bodies, &mut batches, bad),
                }
                bad[known.1..].iter_mut().for_each(|(place, _)| *place += first);
            }
            Err(why) => bad.extend((first..).zip(&bodies).map(|(place, _)| (place, why.clone()))),
        }
        self.is_clean = bad.len() == known.1;
        self.rows += batches[known.0..].iter().map(RecordBatch::num_rows).sum::<usize>();
        self.batches = batches;
        self.bodies = bodies;
        self.bodies.clear();
        Ok(())
    }
}

impl Groups for Writer {
    fn rows(&mut self, text: &[u8], frames: &[Range<usize>]) -> Result<RecordBatch, String> {
        let found = self.resolved.rows(frames.iter().map(|frame| &text[frame.clone()]))?;
        match self.of {
            Rows::Records => conform(&found, &self.schema, "record").map_err(|error| error.to_string()),
            Rows::Changes => debezium::rows(&found, &self.schema),
        }
    }
}

impl Messages for AvroMessages {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn decode(&mut self, bytes: &[u8], messages: &[Range<usize>], bad: &mut Vec<(usize, String)>) -> Result<()> {
        self.unknown.drain(..).for_each(|id| drop(self.writers.remove(&id)));
        let mut run: Option<(u64, usize)> = None;
        for (place, message) in messages.iter().enumerate() {
            let head = self.head(&bytes[message.clone()]);
            if let Some((id, first)) = run
                && !head.as_ref().is_ok_and(|(next, _)| *next == id)
            {
                self.run(id, bytes, first, bad)?;
                run = None;
            }
            match head {
                Ok((id, length)) => {
                    run.get_or_insert((id, place));
                    // What stands before it there is what the decoder wants to see.
                    let skipped = if matches!(self.framing, Framing::Confluent(_)) { 0 } else { length };
                    self.bodies.push(message.start + skipped..message.end);
                }
                Err(why) => bad.push((place, why)),
            }
        }
        run.map_or(Ok(()), |(id, first)| self.run(id, bytes, first, bad))
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        self.rows = 0;
        bulk::take(&self.schema, &mut self.batches)
    }
}
