//! Protocol buffers into columns and back, straight from and to the wire format: no object is made of a message.
//!
//! What a message holds is told by a descriptor set, which `protoc --include_imports --descriptor_set_out=set.bin` makes of `.proto` files,
//! and the full name of the message. Its fields are columns of their names:
//!
//! | a field | is a column of |
//! |---|---|
//! | integers, `float`, `double`, `bool`, `string`, `bytes` | the equal type of Arrow; strings must be UTF-8 |
//! | `enum` | a dictionary of names; a number without a name is that number as text |
//! | `repeated` | a list, packed or not |
//! | `map` | a map; of equal keys the last entry counts |
//! | a message | a struct, null if it is not there |
//! | `google.protobuf.Timestamp` | `timestamp[ns]`, in UTC |
//! | `google.protobuf.Int64Value` and the like | what they wrap, null if they are not there |
//!
//! A field that is `optional`, a member of a `oneof` or of proto2 is null if it is not there; others have their default then, as proto3
//! has it. Of a scalar that comes more than once the last counts, messages are merged, a member of a `oneof` ends the others; fields that
//! are not known, of another wire type or groups are passed over. Messages that hold themselves cannot be columns; ask for columns
//! without them. Fields of other messages may be added, and numbers stay what they are: so evolution is as that of protocol buffers.
//! Columns asked for are found by name and cast to their types; one without a field is null.
//!
//! In files and sockets each message stands behind its length, a varint, as `writeDelimitedTo` of Java has it; in Kafka each record is a
//! message, [behind what Confluent's serializers put there](Protobuf::confluent) if said so. A message that is malformed goes to
//! quarantine alone. Sinks of Kafka and Kinesis write rows as messages by `ProtobufWriter`.

#[cfg_attr(not(any(feature = "kafka", feature = "kinesis")), allow(dead_code, reason = "some of it is of messages that are written"))]
mod descriptor;
mod finish;
mod node;
mod shape;
pub(crate) mod wire;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};

use self::descriptor::Descriptors;
use self::shape::Shape;
use self::wire::Reader;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
pub(crate) use self::writer::Encoding;
#[cfg(any(feature = "kafka", feature = "kinesis"))]
pub use self::writer::ProtobufWriter;
use super::conform::conform;
use super::frames::FrameDecoder;
use super::{Decoder, Messages, bulk, confluent_alone};
use crate::config::Config;
use crate::error::{Error, Result};

/// Bytes of messages after which columns are closed, so that their offsets stay within 32 bits.
const MAX_COLUMN_BYTES: usize = 256 << 20;

/// Messages of one kind; see the [module documentation](self).
#[derive(Clone)]
pub struct Protobuf {
    descriptors: Arc<Descriptors>,
    /// With a dot before it.
    message: String,
    /// The way to the message in its file, if records begin with a schema's number and that way.
    confluent: Option<Vec<usize>>,
}

impl Protobuf {
    /// Messages called `message` (`shop.v1.Payment`) in `descriptor_set`, a `FileDescriptorSet` with all that it imports.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it is none, or does not have the message.
    pub fn new(descriptor_set: &[u8], message: &str) -> Result<Protobuf> {
        let descriptors = Arc::new(Descriptors::read(descriptor_set)?);
        let message = format!(".{}", message.trim_start_matches('.'));
        shape::message(&descriptors, &message)?;
        Ok(Protobuf { descriptors, message, confluent: None })
    }

    /// The first message of the last file of a descriptor set, which is the file that the others were imported for: the message that
    /// Confluent's serializers take unless told otherwise.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it is no descriptor set, or that file has no message.
    pub fn first(descriptor_set: &[u8]) -> Result<Protobuf> {
        let descriptors = Descriptors::read(descriptor_set)?;
        let message =
            descriptors.first.clone().ok_or_else(|| Error::schema("the last file of the descriptor set has no message; name one"))?;
        Ok(Protobuf { descriptors: Arc::new(descriptors), message, confluent: None })
    }

    /// As [`Protobuf::new`], with the descriptor set that the file at `path` holds.
    ///
    /// # Errors
    /// As [`Protobuf::new`]; [`Kind::Connector`](crate::error::Kind::Connector) if the file cannot be read.
    pub fn from_file(path: &Path, message: &str) -> Result<Protobuf> {
        let doing = || format!("cannot read {}", path.display());
        let set = std::fs::read(path).map_err(|error| Error::io(doing(), error))?;
        Protobuf::new(&set, message).map_err(|error| error.context(path.display()))
    }

    /// Records begin as Confluent's serializers write them: a zero byte, the number of a schema (4 bytes), and the way to the message in
    /// its file. The number is not looked up; a record of another message of the file goes to quarantine.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the message is not in the set any more.
    pub fn confluent(mut self) -> Result<Protobuf> {
        self.confluent = Some(shape::message(&self.descriptors, &self.message)?.path.clone());
        Ok(self)
    }

    /// The columns of the message, all of them.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if a field cannot be a column.
    pub fn columns(&self) -> Result<SchemaRef> {
        let shape = Shape::new(&self.descriptors, &self.message, &|_| true)?;
        Ok(Arc::new(Schema::new(shape.fields.clone())))
    }

    pub(super) fn decoder(&self, schema: SchemaRef, config: &Config) -> Result<Box<dyn Decoder>> {
        match self.confluent {
            None => Ok(Box::new(FrameDecoder::new(self.built(schema)?, config))),
            Some(_) => Err(confluent_alone("messages stand behind their lengths")),
        }
    }

    pub(super) fn messages(&self, schema: &SchemaRef) -> Result<Box<dyn Messages>> {
        Ok(Box::new(self.built(SchemaRef::clone(schema))?))
    }

    fn built(&self, schema: SchemaRef) -> Result<ProtobufMessages> {
        let shape = Shape::new(&self.descriptors, &self.message, &|name| schema.field_with_name(name).is_ok())?;
        let found = Arc::new(Schema::new(shape.fields.clone()));
        let confluent = self.confluent.clone();
        Ok(ProtobufMessages { schema, found, shape, confluent, batches: Vec::new(), rows: 0 })
    }
}

impl fmt::Display for Protobuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.confluent.is_some() { "protobuf_confluent" } else { "protobuf" })
    }
}

impl fmt::Debug for Protobuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", &self.message[1..])
    }
}

/// A decoder of messages of one kind.
struct ProtobufMessages {
    schema: SchemaRef,
    /// The columns as they are built.
    found: SchemaRef,
    shape: Shape,
    confluent: Option<Vec<usize>>,
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl ProtobufMessages {
    /// Decodes one message, or leaves everything as it was.
    fn message(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), String> {
        let start = start + self.head(&bytes[start..end])?;
        match self.shape.read(&mut Reader::new(bytes, start, end), bytes) {
            Ok(()) => {
                self.shape.commit(bytes);
                Ok(())
            }
            Err(why) => {
                self.shape.discard();
                Err(format!("the message does not decode: {why}"))
            }
        }
    }

    /// The length of what stands before a message.
    fn head(&self, record: &[u8]) -> Result<usize, String> {
        let Some(path) = &self.confluent else { return Ok(0) };
        let unlike = "the record does not begin with a zero byte, the number of a schema and the way to its message, as Confluent's wire format has it";
        if record.len() < 6 || record[0] != 0 {
            return Err(unlike.to_owned());
        }
        let mut reader = Reader::new(record, 5, record.len());
        let mut number = || reader.varint().map(|number| (number >> 1) as i64 ^ -((number & 1) as i64)).map_err(|_| unlike.to_owned());
        let count = number()?;
        // The first message of a file is so common that it is said by a zero alone.
        let mut found = if count == 0 { vec![0] } else { Vec::new() };
        for _ in 0..count.clamp(0, 64) {
            found.push(number()?);
        }
        match found.len() == path.len() && found.iter().zip(path).all(|(found, place)| usize::try_from(*found) == Ok(*place)) {
            true => Ok(reader.position()),
            false => Err(format!("the record is of another message of its file: the way to it is {found:?}, not {path:?}")),
        }
    }

    /// Makes columns of the messages that were decoded, whose places are `places`. Those that do not fit the columns asked for are bad.
    fn close(&mut self, places: &mut Vec<usize>, bad: &mut Vec<(usize, String)>) -> Result<()> {
        if self.shape.len() > 0 {
            let (arrays, rows) = self.shape.finish()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let found = RecordBatch::try_new_with_options(SchemaRef::clone(&self.found), arrays, &options)?;
            let known = self.batches.len();
            fit(&found, places, &self.schema, &mut self.batches, bad);
            self.rows += self.batches[known..].iter().map(RecordBatch::num_rows).sum::<usize>();
        }
        places.clear();
        Ok(())
    }
}

/// Casts rows to the columns asked for, halving them until those that cannot be cast stand alone.
fn fit(found: &RecordBatch, places: &[usize], schema: &SchemaRef, good: &mut Vec<RecordBatch>, bad: &mut Vec<(usize, String)>) {
    match (conform(found, schema, "message"), places) {
        (Ok(rows), _) => good.push(rows),
        (Err(error), [place]) => bad.push((*place, error.to_string())),
        (Err(_), _) => {
            let (left, right) = places.split_at(places.len() / 2);
            fit(&found.slice(0, left.len()), left, schema, good, bad);
            fit(&found.slice(left.len(), right.len()), right, schema, good, bad);
        }
    }
}

impl Messages for ProtobufMessages {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn decode(&mut self, bytes: &[u8], messages: &[Range<usize>], bad: &mut Vec<(usize, String)>) -> Result<()> {
        let known = bad.len();
        let (mut places, mut held) = (Vec::with_capacity(messages.len()), 0);
        for (place, message) in messages.iter().enumerate() {
            if held + message.len() > MAX_COLUMN_BYTES {
                self.close(&mut places, bad)?;
                held = 0;
            }
            held += message.len();
            match self.message(bytes, message.start, message.end) {
                Ok(()) => places.push(place),
                Err(why) => bad.push((place, why)),
            }
        }
        self.close(&mut places, bad)?;
        bad[known..].sort_by_key(|(place, _)| *place);
        Ok(())
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        self.rows = 0;
        bulk::take(&self.schema, &mut self.batches)
    }
}

#[cfg(test)]
mod tests;
