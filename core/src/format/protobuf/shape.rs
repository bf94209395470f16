//! Messages as nodes: which field of a message is which.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, FieldRef, Fields, TimeUnit};

use super::descriptor::{Descriptors, Field, GROUP, Message};
use super::node::{Bytes, Data, Enum, List, Map, Node, Scalar, Timestamp, is_of};
use super::wire::Reader;
use crate::error::{Error, Result};

/// How deep messages may nest.
const MAX_DEPTH: usize = 64;

/// How many fields messages may have together, each as often as it is within them.
const MAX_FIELDS: usize = 1 << 16;

/// The way down to a message.
#[derive(Default)]
struct Walk {
    /// The names of the messages around it.
    around: Vec<String>,
    /// Fields so far.
    fields: usize,
}

/// The fields of a message that are decoded.
pub(super) struct Shape {
    pub(super) nodes: Vec<Node>,
    pub(super) fields: Fields,
    /// By number; those that are not decoded are here if they put an end to one that is.
    slots: Vec<Slot>,
    /// The place of the slot that is likely to come next.
    next: usize,
    rows: usize,
}

struct Slot {
    number: u32,
    kind: u64,
    node: Option<usize>,
    /// Nodes that end when this field comes, the others of its `oneof`.
    ends: Vec<usize>,
}

impl Shape {
    /// The fields of the message `name` that are `wanted`, by their names.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if there is no such message, or one of its fields cannot be a column.
    pub(super) fn new(descriptors: &Descriptors, name: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Shape> {
        Shape::within(descriptors, name, wanted, &mut Walk::default())
    }

    fn within(descriptors: &Descriptors, name: &str, wanted: &dyn Fn(&str) -> bool, walk: &mut Walk) -> Result<Shape> {
        let message = message(descriptors, name)?;
        if walk.around.len() >= MAX_DEPTH || walk.around.iter().any(|outer| outer == name) {
            let name = &name[1..];
            return Err(Error::schema(format!("message `{name}` holds itself, which no column can; ask for columns without it")));
        }
        walk.around.push(name.to_owned());
        walk.fields += message.fields.len();
        if walk.fields > MAX_FIELDS {
            return Err(Error::schema(format!("there are more than {MAX_FIELDS} fields, within each other; ask for some of the columns")));
        }
        let (mut nodes, mut fields, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for field in &message.fields {
            // Groups are no longer made; they are passed over.
            let node = (wanted(&field.name) && field.kind != GROUP).then_some(nodes.len());
            if node.is_some() {
                let (column, made) =
                    of_field(descriptors, field, walk).map_err(|error| error.context(format!("field `{}`", field.name)))?;
                fields.push(column);
                nodes.push(made);
            }
            slots.push((field, node));
        }
        walk.around.pop();
        let ends = |field: &Field| {
            let others =
                slots.iter().filter(|(other, _)| other.number != field.number && other.oneof.is_some() && other.oneof == field.oneof);
            others.filter_map(|(_, node)| *node).collect()
        };
        let slot =
            |(field, node): &(&Field, Option<usize>)| Slot { number: field.number, kind: field.kind, node: *node, ends: ends(field) };
        let mut slots: Vec<Slot> = slots.iter().map(slot).collect();
        slots.retain(|slot| slot.node.is_some() || !slot.ends.is_empty());
        slots.sort_by_key(|slot| slot.number);
        Ok(Shape { nodes, fields: Fields::from(fields), slots, next: 0, rows: 0 })
    }

    /// Takes the fields of a message in.
    ///
    /// # Errors
    /// In words, if it is malformed; [`Shape::discard`] then.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, bytes: &[u8]) -> Result<(), String> {
        while let Some((number, value)) = reader.field()? {
            let Some(place) = self.slot(number) else { continue };
            let Slot { node, ends, kind, .. } = &self.slots[place];
            if !ends.is_empty() && is_of(*kind, value) {
                ends.iter().for_each(|&other| self.nodes[other].discard());
            }
            if let Some(node) = *node {
                self.nodes[node].set(bytes, value).map_err(|why| format!("field {number}: {why}"))?;
            }
        }
        Ok(())
    }

    /// The place of a field's slot. Fields mostly come in the order of their numbers, and repeated ones one after the other.
    fn slot(&mut self, number: u32) -> Option<usize> {
        let is = |place: usize| self.slots.get(place).is_some_and(|slot| slot.number == number);
        let place = match self.next {
            next if is(next) => next,
            next if next > 0 && is(next - 1) => next - 1,
            _ => self.slots.binary_search_by_key(&number, |slot| slot.number).ok()?,
        };
        self.next = place + 1;
        Some(place)
    }

    /// Makes what was read a row.
    pub(super) fn commit(&mut self, bytes: &[u8]) {
        self.nodes.iter_mut().for_each(|node| node.commit(bytes));
        (self.next, self.rows) = (0, self.rows + 1);
    }

    /// Forgets what was read.
    pub(super) fn discard(&mut self) {
        self.nodes.iter_mut().for_each(Node::discard);
        self.next = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.nodes.iter_mut().for_each(|node| node.truncate(rows));
        self.rows = self.rows.min(rows);
    }

    /// As many rows as there were, of which there are none now.
    pub(super) fn take_rows(&mut self) -> usize {
        std::mem::take(&mut self.rows)
    }
}

/// The message called `name`.
pub(super) fn message<'a>(descriptors: &'a Descriptors, name: &str) -> Result<&'a Message> {
    descriptors.messages.get(name).ok_or_else(|| {
        let mut known: Vec<&str> = descriptors
            .messages
            .iter()
            .filter(|(name, message)| !message.is_entry && !name.starts_with(".google.protobuf."))
            .map(|(name, _)| &name[1..])
            .collect();
        known.sort_unstable();
        known.truncate(20);
        let (name, known) = (name.trim_start_matches('.'), known.join(", "));
        Error::schema(format!("the descriptor set has no message `{name}`; it has {known}"))
    })
}

/// A field as a column and what builds it.
fn of_field(descriptors: &Descriptors, field: &Field, walk: &mut Walk) -> Result<(FieldRef, Node)> {
    if field.is_repeated {
        if field.kind == 11 && descriptors.messages.get(&field.type_name).is_some_and(|message| message.is_entry) {
            return of_map(descriptors, field, walk);
        }
        let (kind, item) = of_type(descriptors, field, walk)?;
        let item_field = Arc::new(ArrowField::new("item", kind, false));
        let item = Box::new(Node { data: item, kind: field.kind, validity: None });
        let data = Data::List(List { offsets: vec![0], item });
        let column = ArrowField::new(&field.name, DataType::List(item_field), false);
        return Ok((Arc::new(column), Node { data, kind: field.kind, validity: None }));
    }
    let (kind, data) = of_type(descriptors, field, walk)?;
    // A message is there or not; a wrapper is there to say so.
    let is_nullable = field.has_presence || field.kind == 11;
    let validity = is_nullable.then(Vec::new);
    Ok((Arc::new(ArrowField::new(&field.name, kind, is_nullable)), Node { data, kind: field.kind, validity }))
}

fn of_map(descriptors: &Descriptors, field: &Field, walk: &mut Walk) -> Result<(FieldRef, Node)> {
    let mut entry = Shape::within(descriptors, &field.type_name, &|_| true, walk)?;
    if entry.nodes.len() != 2 {
        return Err(Error::schema("an entry of a map has a key and a value"));
    }
    // What is not there has the default, as the specification has it, a message that of no field.
    entry.nodes.iter_mut().for_each(|node| node.validity = None);
    let plain = entry.fields.iter().zip(["key", "value"]).map(|(of, name)| Arc::new(ArrowField::new(name, of.data_type().clone(), false)));
    entry.fields = plain.collect();
    let entries = ArrowField::new("entries", DataType::Struct(entry.fields.clone()), false);
    let column = ArrowField::new(&field.name, DataType::Map(Arc::new(entries), false), false);
    let data = Data::Map(Map { offsets: vec![0], entry: Box::new(entry), repeated: Vec::new() });
    Ok((Arc::new(column), Node { data, kind: field.kind, validity: None }))
}

/// The type of a field's values, and what gathers them.
fn of_type(descriptors: &Descriptors, field: &Field, walk: &mut Walk) -> Result<(DataType, Data)> {
    Ok(match field.kind {
        1 => (DataType::Float64, Data::Float64(Scalar::default())),
        2 => (DataType::Float32, Data::Float32(Scalar::default())),
        3 | 16 | 18 => (DataType::Int64, Data::Int64(Scalar::default())),
        4 | 6 => (DataType::UInt64, Data::UInt64(Scalar::default())),
        5 | 15 | 17 => (DataType::Int32, Data::Int32(Scalar::default())),
        7 | 13 => (DataType::UInt32, Data::UInt32(Scalar::default())),
        8 => (DataType::Boolean, Data::Bool(Scalar::default())),
        9 => (DataType::Utf8, Data::Text(Bytes::default())),
        12 => (DataType::Binary, Data::Binary(Bytes::default())),
        14 => {
            let names = descriptors.enums.get(&field.type_name);
            let names = names.ok_or_else(|| Error::schema(format!("the descriptor set has no enum `{}`", field.type_name)))?;
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), Data::Enum(Enum::new(&names.names)))
        }
        11 => return of_message(descriptors, &field.type_name, walk),
        kind => return Err(Error::schema(format!("there is no type of number {kind}"))),
    })
}

fn of_message(descriptors: &Descriptors, name: &str, walk: &mut Walk) -> Result<(DataType, Data)> {
    let wrapped = match well_known(name) {
        Some(WellKnown::Timestamp) => {
            return Ok((DataType::Timestamp(TimeUnit::Nanosecond, None), Data::Timestamp(Timestamp::default())));
        }
        Some(WellKnown::Wrapper(kind)) => kind,
        None => {
            let shape = Shape::within(descriptors, name, &|_| true, walk)?;
            return Ok((DataType::Struct(shape.fields.clone()), Data::Struct(Box::new(shape), false)));
        }
    };
    let (kind, data) = of_type(descriptors, &Field { kind: wrapped, ..Field::default() }, walk)?;
    Ok((kind, Data::Wrapper(Box::new(Node { data, kind: wrapped, validity: None }))))
}

/// Messages that are no structs as columns.
pub(super) enum WellKnown {
    Timestamp,
    /// One that holds a scalar of this type, and is there to say whether that is.
    Wrapper(u64),
}

/// What is well known under a message's name.
pub(super) fn well_known(name: &str) -> Option<WellKnown> {
    Some(WellKnown::Wrapper(match name {
        ".google.protobuf.Timestamp" => return Some(WellKnown::Timestamp),
        ".google.protobuf.DoubleValue" => 1,
        ".google.protobuf.FloatValue" => 2,
        ".google.protobuf.Int64Value" => 3,
        ".google.protobuf.UInt64Value" => 4,
        ".google.protobuf.Int32Value" => 5,
        ".google.protobuf.UInt32Value" => 13,
        ".google.protobuf.BoolValue" => 8,
        ".google.protobuf.StringValue" => 9,
        ".google.protobuf.BytesValue" => 12,
        _ => return None,
    }))
}
