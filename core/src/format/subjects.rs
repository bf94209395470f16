//! Schemas that are written by: where they are registered, and which one it is.

use crate::error::{Error, Result};

/// What a schema is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    /// Avro's JSON.
    Avro,
    /// JSON Schema.
    Json,
    /// A `.proto` file.
    Protobuf,
}

impl SchemaKind {
    /// The kind that a user's `name` means: `avro`, `json` or `protobuf`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), listing the names there are.
    pub fn parse(name: &str) -> Result<SchemaKind> {
        match name.to_ascii_lowercase().as_str() {
            "avro" => Ok(SchemaKind::Avro),
            "json" => Ok(SchemaKind::Json),
            "protobuf" => Ok(SchemaKind::Protobuf),
            _ => Err(Error::config(format!("`{name}` is not a kind of schema; it may be avro, json or protobuf"))),
        }
    }

    /// What schema registries call it.
    pub fn name(self) -> &'static str {
        match self {
            SchemaKind::Avro => "AVRO",
            SchemaKind::Json => "JSON",
            SchemaKind::Protobuf => "PROTOBUF",
        }
    }
}

/// The schemas that records may be written by, under the names of subjects: Confluent's registry, or what stands in for one.
///
/// Each is asked when a sink is opened, before anything is written. Errors end the run; they are
/// [retriable](Error::is_retriable) if another try may help.
pub trait Subjects: Send + Sync {
    /// Registers a schema under a subject; returns its number, which is the one that it has if it is registered already.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if it is no schema, or is incompatible with those before it.
    fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32>;

    /// The number of a schema that is registered under a subject.
    ///
    /// # Errors
    /// If it is not.
    fn find(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32>;

    /// The schema that was registered last under a subject, and its number.
    ///
    /// # Errors
    /// If there is none, or it is of another kind.
    fn latest(&self, subject: &str, kind: SchemaKind) -> Result<(u32, String)>;
}
