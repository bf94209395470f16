//! Columns into protocol buffers, a message a row.

mod columns;
mod plan;
mod wire;

use std::fmt;
use std::sync::Arc;

use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::plan::Plan;
use super::Protobuf;
use super::descriptor::File;
use super::shape;
use crate::error::{Error, Result};
use crate::format::registration::{Registration, confluent_prefix};
use crate::format::subjects::{SchemaKind, Subjects};
use crate::format::values::values_of;

/// Files that every registry and every compiler knows.
const KNOWN_FILES: &str = "google/protobuf/";

/// How rows are written as messages, and what stands before them.
///
/// Columns are found by the names of fields. One that the message does not have, or of a type that its field cannot hold, is an error
/// before anything is written; a field without a column is absent. A value that does not fit ends the run, with its column and row.
///
/// | a field | takes a column of |
/// |---|---|
/// | integers | integers, each of which has to fit |
/// | `float`, `double` | integers and floats, rounded |
/// | `bool` | bool |
/// | `string`, `bytes` | text and bytes; in a string they must be UTF-8 |
/// | `enum` | text or a dictionary of it, the name of a value or a number; or integers |
/// | `repeated` | a list; packed as the descriptor has it |
/// | `map` | a map |
/// | a message | a struct |
/// | `google.protobuf.Timestamp` | a timestamp in any unit, or a date, of the years 1 to 9999 |
/// | `google.protobuf.Int64Value` and the like | what they wrap |
///
/// Null is a field that is absent; in a field of proto3 without `optional`, so is the default (0, `false`, the empty text). One of proto2
/// that is required may not be null, nor may an item of a list or a value of a map; of the members of a `oneof` at most one may be there
/// in a row. Messages that hold themselves are written as deep as the columns go. Groups are not written.
#[derive(Clone)]
pub struct ProtobufWriter {
    protobuf: Protobuf,
    framing: Framing,
}

#[derive(Clone)]
enum Framing {
    Bare,
    Numbered(u32),
    Confluent(Registration),
}

impl ProtobufWriter {
    /// Messages alone.
    pub fn bare(protobuf: Protobuf) -> ProtobufWriter {
        ProtobufWriter { protobuf, framing: Framing::Bare }
    }

    /// Messages in the wire format of Confluent's schema registry: behind a zero byte, the number of their schema and the way to the
    /// message in its file. The file is registered, serialized, when the sink is opened, under the subject `<topic>-value` unless told otherwise. It
    /// may import no files but those of `google/protobuf`, as others would have to be registered before it; see
    /// [`ProtobufWriter::numbered`].
    pub fn confluent(protobuf: Protobuf, subjects: impl Subjects + 'static) -> ProtobufWriter {
        ProtobufWriter { protobuf, framing: Framing::Confluent(Registration::new(subjects)) }
    }

    /// Messages in the wire format of Confluent's schema registry, by a file that is registered under this number. With a registry:
    ///
    /// ```no_run
    /// # #[cfg(feature = "registry")]
    /// # fn run() -> thalweg::Result<()> {
    /// use thalweg::connector::registry::{Registry, Version};
    /// use thalweg::format::protobuf::{Protobuf, ProtobufWriter};
    ///
    /// let registry = Registry::new("http://localhost:8081").client()?;
    /// let latest = registry.version("payments-value", Version::Latest)?;
    /// let set = registry.descriptor_set("payments-value", Version::Number(latest.version))?;
    /// let writer = ProtobufWriter::numbered(Protobuf::new(&set, "shop.v1.Payment")?, latest.id);
    /// # Ok(())
    /// # }
    /// ```
    pub fn numbered(protobuf: Protobuf, id: u32) -> ProtobufWriter {
        ProtobufWriter { protobuf, framing: Framing::Numbered(id) }
    }

    /// The subject, in place of `<topic>-value`; of no effect unless the file is registered.
    pub fn subject(self, subject: impl Into<String>) -> ProtobufWriter {
        self.registration(|registration| registration.subject = Some(subject.into()))
    }

    /// Whether the file is registered if it is not yet; it is unless told otherwise. If not, it has to be there. Of no effect without a
    /// registry.
    pub fn auto_register(self, auto_register: bool) -> ProtobufWriter {
        self.registration(|registration| registration.auto_register = auto_register)
    }

    fn registration(mut self, change: impl FnOnce(&mut Registration)) -> ProtobufWriter {
        if let Framing::Confluent(registration) = &mut self.framing {
            change(registration);
        }
        self
    }

    /// What encodes batches of `columns` for a topic.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the columns do not fit the message, or its file cannot be registered alone or is
    /// refused; another kind if the registry cannot be asked.
    pub(crate) fn encoding(&self, columns: &SchemaRef, topic: &str) -> Result<Encoding> {
        // What the columns do not fit is not registered.
        let plan = Plan::new(&self.protobuf.descriptors, &self.protobuf.message, columns)?;
        let head = match &self.framing {
            Framing::Bare => Vec::new(),
            Framing::Numbered(id) => self.head(*id)?,
            Framing::Confluent(registration) => {
                let schema = STANDARD.encode(&self.file()?.bytes);
                let registration = Registration { schema: Some(Arc::from(schema.as_str())), ..registration.clone() };
                self.head(registration.settle(topic, SchemaKind::Protobuf, |_| Ok(schema))?.0)?
            }
        };
        Ok(Encoding { plan, head })
    }

    /// The file of the message, which can be registered alone.
    fn file(&self) -> Result<&File> {
        let (descriptors, name) = (&self.protobuf.descriptors, &self.protobuf.message[1..]);
        let message = shape::message(descriptors, &self.protobuf.message)?;
        let file = message.file.and_then(|place| descriptors.files.get(place));
        let file = file.ok_or_else(|| Error::schema(format!("message `{name}` is in no file of the descriptor set; add it")))?;
        match file.imports.iter().find(|import| !import.starts_with(KNOWN_FILES)) {
            None => Ok(file),
            Some(import) => Err(Error::schema(format!(
                "message `{name}` is in `{}`, which imports `{import}`, and cannot be registered without it; register both, the one with a \
                 reference to the other, and write by what is registered (`formats.protobuf_confluent`, `ProtobufWriter::numbered`)",
                file.name
            ))),
        }
    }

    /// What stands before each message.
    fn head(&self, id: u32) -> Result<Vec<u8>> {
        let path = &shape::message(&self.protobuf.descriptors, &self.protobuf.message)?.path;
        let mut head = confluent_prefix(id).to_vec();
        // The first message of a file is so common that it is said by a zero alone.
        match path.as_slice() {
            [0] => head.push(0),
            path => [path.len()].iter().chain(path).for_each(|number| wire::put_varint(&mut head, (*number as u64) << 1)),
        }
        Ok(head)
    }
}

impl fmt::Display for ProtobufWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.framing {
            Framing::Bare => "protobuf",
            Framing::Numbered(_) | Framing::Confluent(_) => "protobuf_confluent",
        })
    }
}

impl fmt::Debug for ProtobufWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", &self.protobuf.message[1..])
    }
}

/// Encodes batches as messages of one kind.
pub(crate) struct Encoding {
    plan: Plan,
    head: Vec<u8>,
}

impl Encoding {
    /// A message for each row.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming a column and the row with a value that its field cannot hold.
    pub(crate) fn values(&self, batch: &RecordBatch) -> Result<BinaryArray> {
        let columns = self.plan.columns(batch.columns())?;
        let (mut messages, mut ends) = (Vec::new(), Vec::with_capacity(batch.num_rows() + 1));
        ends.push(0);
        for row in 0..batch.num_rows() {
            messages.extend_from_slice(&self.head);
            self.plan
                .write(&columns, row, &mut messages)
                .map_err(|why| Error::schema(format!("row {row} of a batch is no message `{}`: {why}", self.plan.name)))?;
            ends.push(messages.len());
        }
        values_of(messages, ends.into_iter())
    }
}

#[cfg(test)]
mod tests;
