//! Which column is which field of a message.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field as Column, FieldRef, Fields, SchemaRef};

use super::super::descriptor::{Descriptors, Field as Described};
use super::super::node::is_packable;
use super::super::shape::{WellKnown, message, well_known};
use super::columns::kind_name;
use crate::error::{Error, Result};

/// The fields of a message that there are columns for.
pub(super) struct Plan {
    pub(super) name: String,
    /// In the order of their numbers.
    pub(super) fields: Vec<Planned>,
    /// The places of fields of which one at most may be there.
    pub(super) choices: Vec<Vec<usize>>,
}

/// A field that there is a column for.
pub(super) struct Planned {
    /// The name of the column, behind those that it is within.
    pub(super) path: String,
    pub(super) number: u32,
    /// Its column's place.
    pub(super) column: usize,
    pub(super) of: Type,
    pub(super) how: How,
}

/// What a value is.
pub(super) enum Type {
    /// A scalar, by its number in `FieldDescriptorProto.Type`.
    Scalar(u64),
    /// Numbers that have names.
    Enum(HashMap<String, i32>),
    Timestamp,
    /// A message that holds one scalar.
    Wrapper(u64),
    Message(Plan),
    /// Nulls alone, whatever the field is.
    Nothing,
}

/// How often a field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Unless it is null or the default.
    Implicit,
    /// Unless it is null.
    Explicit,
    /// Always.
    Required,
    /// Once for each item of a list, or entry of a map.
    Each,
    /// Once with all items of a list, unless there are none.
    Packed,
}

impl Plan {
    /// Columns as fields of the message `name`, which has a dot before it.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema), naming a column that is no field, or that its field cannot hold, or one that is
    /// lacking.
    pub(super) fn new(descriptors: &Descriptors, name: &str, columns: &SchemaRef) -> Result<Plan> {
        let plan = Plan::within(descriptors, name, columns.fields(), "")?;
        let empty: Vec<_> = columns.fields().iter().map(|column| arrow::array::new_empty_array(column.data_type())).collect();
        plan.columns(&empty).map(|_| plan)
    }

    fn within(descriptors: &Descriptors, name: &str, columns: &Fields, path: &str) -> Result<Plan> {
        let (message, shown) = (message(descriptors, name)?, &name[1..]);
        let mut fields: Vec<(&Described, Planned)> = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            let (own, path) = (column.name(), format!("{path}{}", column.name()));
            let Some(field) = message.fields.iter().find(|field| field.name == *own) else {
                let names: Vec<&str> = message.fields.iter().map(|field| field.name.as_str()).collect();
                return Err(Error::schema(format!(
                    "column `{path}` is no field of message `{shown}`, which has {}; leave it out by `select`, or write by a message that \
                     has it",
                    names.join(", ")
                )));
            };
            if fields.iter().any(|(other, _)| other.name == *own) {
                return Err(Error::schema(format!("two columns are called `{path}`; rename one, or leave it out by `select`")));
            }
            fields.push((field, planned(descriptors, field, column, path, place)?));
        }
        let lacks = |field: &&Described| field.is_required && columns.find(&field.name).is_none();
        if let Some(field) = message.fields.iter().find(lacks) {
            return Err(Error::schema(format!(
                "there is no column `{path}{}` for a required field of message `{shown}`; add it, or write by another message",
                field.name
            )));
        }
        fields.sort_by_key(|(field, _)| field.number);
        let mut choices: HashMap<u64, Vec<usize>> = HashMap::new();
        for (place, (field, _)) in fields.iter().enumerate() {
            field.oneof.into_iter().for_each(|oneof| choices.entry(oneof).or_default().push(place));
        }
        let choices = choices.into_values().filter(|members| members.len() > 1).collect();
        Ok(Plan { name: shown.to_owned(), fields: fields.into_iter().map(|(_, planned)| planned).collect(), choices })
    }
}

fn planned(descriptors: &Descriptors, field: &Described, column: &Column, path: String, place: usize) -> Result<Planned> {
    let made = |of, how, path| Ok(Planned { path, number: field.number, column: place, of, how });
    let is_entry = descriptors.messages.get(&field.type_name).is_some_and(|message| message.is_entry);
    match (column.data_type(), field.is_repeated) {
        (DataType::Null, true) => made(Type::Nothing, How::Each, path),
        (DataType::Map(entries, _), true) if field.kind == 11 && is_entry => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => made(Type::Message(entry(descriptors, field, pair, &path)?), How::Each, path),
            other => Err(unlike(&path, other, "a map")),
        },
        (kind, true) if field.kind == 11 && is_entry => Err(unlike(&path, kind, "a map")),
        (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), true) => {
            let path = format!("{path}[]");
            let of = of_value(descriptors, field, item.data_type(), &path)?;
            let how = if field.is_packed && is_packable(field.kind) { How::Packed } else { How::Each };
            made(of, how, path)
        }
        (kind, true) => Err(unlike(&path, kind, "a list")),
        (kind, false) => {
            let of = of_value(descriptors, field, kind, &path)?;
            let how = match field {
                Described { is_required: true, .. } => How::Required,
                // A message is there or not.
                Described { has_presence: true, .. } | Described { kind: 11, .. } => How::Explicit,
                _ => How::Implicit,
            };
            made(of, how, path)
        }
    }
}

/// An entry of a map, of which key and value are always there.
fn entry(descriptors: &Descriptors, field: &Described, pair: &Fields, path: &str) -> Result<Plan> {
    let message = message(descriptors, &field.type_name)?;
    let mut fields = Vec::with_capacity(2);
    for (place, (name, column)) in ["key", "value"].into_iter().zip(pair).enumerate() {
        let part = message.fields.iter().find(|part| part.name == name);
        let part = part.ok_or_else(|| Error::schema(format!("column `{path}`: an entry of a map has a key and a value")))?;
        let path = format!("{path}.{name}");
        let of = of_value(descriptors, part, column.data_type(), &path)?;
        fields.push(Planned { path, number: part.number, column: place, of, how: How::Required });
    }
    Ok(Plan { name: field.type_name[1..].to_owned(), fields, choices: Vec::new() })
}

fn of_value(descriptors: &Descriptors, field: &Described, kind: &DataType, path: &str) -> Result<Type> {
    if field.is_group {
        return Err(Error::schema(format!(
            "column `{path}`: the field is a group, which is not written; leave the column out by `select`"
        )));
    }
    Ok(match (field.kind, kind) {
        (_, DataType::Null) => Type::Nothing,
        (14, _) => {
            let values = descriptors.enums.get(&field.type_name);
            let values = values.ok_or_else(|| Error::schema(format!("the descriptor set has no enum `{}`", field.type_name)))?;
            Type::Enum(values.numbers.clone())
        }
        (11, kind) => match (well_known(&field.type_name), kind) {
            (Some(WellKnown::Timestamp), _) => Type::Timestamp,
            (Some(WellKnown::Wrapper(kind)), _) => Type::Wrapper(kind),
            (None, DataType::Struct(fields)) => Type::Message(Plan::within(descriptors, &field.type_name, fields, &format!("{path}."))?),
            (None, kind) => return Err(unlike(path, kind, &format!("message `{}`", field.type_name.trim_start_matches('.')))),
        },
        (kind, _) if kind_name(kind).is_some() => Type::Scalar(kind),
        (kind, _) => return Err(Error::schema(format!("column `{path}`: there is no type of number {kind}"))),
    })
}

/// The refusal of a column that a field cannot hold.
pub(super) fn unlike(path: &str, kind: &DataType, what: &str) -> Error {
    Error::schema(format!(
        "column `{path}` of type {kind} cannot be written as {what}, which the message has; cast it, or write by another message"
    ))
}

/// The item of a list's type.
pub(super) fn item_of(kind: &DataType) -> Option<&FieldRef> {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}
