//! Descriptor sets: what `protoc --descriptor_set_out` makes of `.proto` files (`google/protobuf/descriptor.proto`).

use std::collections::HashMap;

use super::wire::{Reader, Value};
use crate::error::{Error, Result};

/// Messages and enums of a descriptor set, by their full names with a dot before them.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    pub(super) messages: HashMap<String, Message>,
    pub(super) enums: HashMap<String, Enumeration>,
    /// The first message of the last file.
    pub(super) first: Option<String>,
    pub(super) files: Vec<File>,
}

/// A `.proto` file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) name: String,
    /// The files that it imports, by their names.
    pub(super) imports: Vec<String>,
    /// Itself, a `FileDescriptorProto`.
    pub(super) bytes: Vec<u8>,
}

/// The values of an enum.
#[derive(Debug, Default)]
pub(super) struct Enumeration {
    /// Of names for one number the first.
    pub(super) names: HashMap<i32, String>,
    pub(super) numbers: HashMap<String, i32>,
}

#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
    /// Whether it is an entry of a map.
    pub(super) is_entry: bool,
    /// The way to it from its file: its place there, then within each message around it.
    pub(super) path: Vec<usize>,
    /// The place of its file; none if every compiler knows it.
    pub(super) file: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u32,
    /// The type's number in `FieldDescriptorProto.Type`.
    pub(super) kind: u64,
    /// The name of the message or enum.
    pub(super) type_name: String,
    pub(super) is_repeated: bool,
    /// Whether a field that is not there is told from one with the default value.
    pub(super) has_presence: bool,
    /// Which of the message's `oneof`s it is a member of; one that is optional alone is of none.
    pub(super) oneof: Option<u64>,
    /// Whether there is no message without it.
    pub(super) is_required: bool,
    /// Whether many scalars are written as one value.
    pub(super) is_packed: bool,
    /// Whether a message is written as a group.
    pub(super) is_group: bool,
}

/// What the syntax of a file, or the features of an edition, say of fields.
#[derive(Debug, Clone, Copy, Default)]
struct Features {
    /// Whether those that are not there have their default.
    is_proto3: bool,
    is_required: bool,
    is_packed: bool,
    is_group: bool,
}

impl Features {
    fn of(syntax: &str) -> Features {
        Features { is_proto3: syntax == "proto3", is_packed: matches!(syntax, "proto3" | "editions"), ..Features::default() }
    }

    /// As the `FeatureSet` says that is the field `number` of options; what it does not say stays.
    fn with(mut self, options: &[u8], number: u32) -> Result<Features, String> {
        each(options, |given, value| match value {
            Part::Bytes(set) if given == number => each(set, |feature, value| {
                match (feature, value) {
                    (1, Part::Number(presence)) => self.is_required = presence == 3,
                    (3, Part::Number(encoding)) => self.is_packed = encoding == 1,
                    (5, Part::Number(encoding)) => self.is_group = encoding == 2,
                    _ => {}
                }
                Ok(())
            }),
            _ => Ok(()),
        })?;
        Ok(self)
    }
}

/// Messages of `google/protobuf/*.proto` that are structs as columns.
const WELL_KNOWN: &[WellKnown] = &[
    (".google.protobuf.Any", &[("type_url", 1, 9), ("value", 2, 12)]),
    (".google.protobuf.Duration", &[("seconds", 1, 3), ("nanos", 2, 5)]),
];

/// A message's name, and name, number and type of its fields.
type WellKnown = (&'static str, &'static [(&'static str, u32, u64)]);

/// The labels of required and of repeated fields.
const REQUIRED: u64 = 2;
const REPEATED: u64 = 3;

/// The type of groups.
pub(super) const GROUP: u64 = 10;

impl Descriptors {
    /// Reads a `FileDescriptorSet`.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it is none.
    pub(super) fn read(bytes: &[u8]) -> Result<Descriptors> {
        let mut found = Descriptors::default();
        found.set(bytes).map_err(|why| Error::schema(format!("this is no descriptor set of protocol buffers: {why}")))?;
        let is_empty = found.messages.is_empty();
        found.complete();
        if is_empty {
            return Err(Error::schema("the descriptor set has no message; make one with `protoc --include_imports --descriptor_set_out`"));
        }
        Ok(found)
    }

    /// Adds the messages that every compiler knows, and registries therefore leave out.
    fn complete(&mut self) {
        for (name, fields) in WELL_KNOWN {
            let field = |&(name, number, kind): &(&str, u32, u64)| Field { name: name.to_owned(), number, kind, ..Field::default() };
            self.messages
                .entry((*name).to_owned())
                .or_insert_with(|| Message { fields: fields.iter().map(field).collect(), ..Message::default() });
        }
    }

    fn set(&mut self, bytes: &[u8]) -> Result<(), String> {
        each(bytes, |number, value| match (number, value) {
            (1, Part::Bytes(file)) => self.file(file),
            _ => Ok(()),
        })
    }

    fn file(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (mut package, mut messages, mut enums, mut syntax, mut options) =
            (String::new(), Vec::new(), Vec::new(), String::new(), &[][..]);
        let mut file = File { bytes: bytes.to_vec(), ..File::default() };
        each(bytes, |number, value| {
            match (number, value) {
                (1, Part::Bytes(name)) => file.name = text(name)?,
                (2, Part::Bytes(name)) => package = format!(".{}", text(name)?),
                (3, Part::Bytes(name)) => file.imports.push(text(name)?),
                (4, Part::Bytes(message)) => messages.push(message),
                (5, Part::Bytes(of)) => enums.push(of),
                (8, Part::Bytes(given)) => options = given,
                (12, Part::Bytes(name)) => syntax = text(name)?,
                _ => {}
            }
            Ok(())
        })?;
        self.first = None;
        let features = Features::of(&syntax).with(options, 50)?;
        for (place, message) in messages.into_iter().enumerate() {
            self.message(message, &package, &[place], features)?;
        }
        self.files.push(file);
        enums.into_iter().try_for_each(|of| self.enumeration(of, &package))
    }

    fn message(&mut self, bytes: &[u8], scope: &str, path: &[usize], features: Features) -> Result<(), String> {
        if path.len() > 64 {
            return Err("messages nest deeper than 64".to_owned());
        }
        // The file is the next one that is added.
        let (mut name, mut message) = (String::new(), Message { path: path.to_vec(), file: Some(self.files.len()), ..Message::default() });
        let (mut fields, mut nested, mut enums, mut features) = (Vec::new(), Vec::new(), Vec::new(), features);
        each(bytes, |number, value| {
            match (number, value) {
                (1, Part::Bytes(given)) => name = text(given)?,
                (2, Part::Bytes(given)) => fields.push(given),
                (3, Part::Bytes(given)) => nested.push(given),
                (4, Part::Bytes(given)) => enums.push(given),
                (7, Part::Bytes(options)) => {
                    features = features.with(options, 12)?;
                    each(options, |number, value| {
                        message.is_entry |= matches!((number, value), (7, Part::Number(1)));
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        message.fields = fields.into_iter().map(|given| field(given, features)).collect::<Result<_, _>>()?;
        let name = format!("{scope}.{name}");
        for (place, of) in nested.into_iter().enumerate() {
            self.message(of, &name, &[path, &[place]].concat(), features)?;
        }
        enums.into_iter().try_for_each(|of| self.enumeration(of, &name))?;
        if path == [0] {
            self.first = Some(name.clone());
        }
        self.messages.insert(name, message);
        Ok(())
    }

    fn enumeration(&mut self, bytes: &[u8], scope: &str) -> Result<(), String> {
        let (mut name, mut values) = (String::new(), Enumeration::default());
        each(bytes, |number, value| {
            match (number, value) {
                (1, Part::Bytes(given)) => name = text(given)?,
                (2, Part::Bytes(given)) => {
                    let (mut name, mut of) = (String::new(), 0);
                    each(given, |number, value| {
                        match (number, value) {
                            (1, Part::Bytes(given)) => name = text(given)?,
                            (2, Part::Number(given)) => of = given as i32,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    values.numbers.insert(name.clone(), of);
                    values.names.entry(of).or_insert(name);
                }
                _ => {}
            }
            Ok(())
        })?;
        self.enums.insert(format!("{scope}.{name}"), values);
        Ok(())
    }
}

fn field(bytes: &[u8], mut features: Features) -> Result<Field, String> {
    let (mut field, mut is_optional, mut is_packed) = (Field::default(), false, None);
    each(bytes, |number, value| {
        match (number, value) {
            (1, Part::Bytes(name)) => field.name = text(name)?,
            (3, Part::Number(number)) => field.number = number as u32,
            (4, Part::Number(label)) => {
                field.is_repeated = label == REPEATED;
                field.is_required = label == REQUIRED;
            }
            (5, Part::Number(kind)) => field.kind = kind,
            (6, Part::Bytes(name)) => field.type_name = text(name)?,
            (8, Part::Bytes(options)) => {
                features = features.with(options, 21)?;
                each(options, |number, value| {
                    if let (2, Part::Number(packed)) = (number, value) {
                        is_packed = Some(packed != 0);
                    }
                    Ok(())
                })?;
            }
            (9, Part::Number(oneof)) => field.oneof = Some(oneof),
            (17, Part::Number(optional)) => is_optional = optional != 0,
            _ => {}
        }
        Ok(())
    })?;
    field.has_presence = !features.is_proto3 || is_optional || field.oneof.is_some();
    field.is_required |= features.is_required && !field.is_repeated && field.oneof.is_none();
    field.is_packed = is_packed.unwrap_or(features.is_packed);
    field.is_group = field.kind == GROUP || features.is_group && field.kind == 11;
    if is_optional {
        field.oneof = None;
    }
    Ok(field)
}

enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Calls `take` with each field of a message.
fn each<'a>(bytes: &'a [u8], mut take: impl FnMut(u32, Part<'a>) -> Result<(), String>) -> Result<(), String> {
    let mut reader = Reader::new(bytes, 0, bytes.len());
    while let Some((number, value)) = reader.field()? {
        match value {
            Value::Varint(value) => take(number, Part::Number(value))?,
            Value::Bytes(start, end) => take(number, Part::Bytes(&bytes[start..end]))?,
            Value::Fixed64(_) | Value::Fixed32(_) | Value::Group => {}
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a name is not UTF-8".to_owned())
}
