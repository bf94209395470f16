//! Formats that need more than a name.

use std::collections::HashMap;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use pyo3::prelude::*;
use pyo3::types::PyString;
use thalweg::connector::registry::Version;
use thalweg::format::avro::Avro;
use thalweg::format::json_confluent::JsonConfluent;
use thalweg::format::protobuf::Protobuf;
use thalweg::source::FileFormat;
use thalweg::{Error, Format};

use crate::arrow::schema_from;
use crate::error::{detached, raise};
use crate::registry::PyRegistry;

/// A format and what has to be known of it. Made by the functions of `formats`; goes where the name of a format goes.
#[pyclass(name = "Format", module = "thalweg", frozen)]
pub struct PyFormat(pub Format);

#[pymethods]
impl PyFormat {
    fn __repr__(&self) -> String {
        format!("Format({})", self.0)
    }
}

/// Avro records alone, all of one writer's schema.
///
/// Args:
///     schema: The writer's schema, in JSON: a str, or what `json.loads` makes of one.
///     reader_schema: The schema that records are resolved against, with its defaults and aliases; without it the fields are taken that
///         bear the names of columns, cast to their types, and null where there is no such field.
///
/// Example:
///     >>> tw.read_kafka(b, "t", format=tw.formats.avro('{"type": "record", "name": "R", "fields": [{"name": "x", "type": "long"}]}'))
#[pyfunction]
#[pyo3(signature = (schema, *, reader_schema=None))]
pub fn avro(schema: JsonText, reader_schema: Option<JsonText>) -> PyFormat {
    resolved(Avro::bare(schema.0), reader_schema)
}

/// Avro records in the wire format of Confluent's schema registry: a zero byte, the number of the writer's schema, the record.
///
/// Args:
///     schemas: A `SchemaRegistry`, or the writers' schemas by their numbers. A record of an unknown schema goes to quarantine.
///     subject: With a registry: takes the latest version of this subject for the reader's schema, now.
///     reader_schema: As for `avro`.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> tw.read_kafka(b, "payments", format=tw.formats.avro_confluent(registry, subject="payments-value"))
///     >>> tw.read_kafka(b, "payments", format=tw.formats.avro_confluent({7: first, 9: second}), schema={"card": "string"})
#[pyfunction]
#[pyo3(signature = (schemas, *, subject=None, reader_schema=None))]
pub fn avro_confluent(py: Python<'_>, schemas: Schemas<'_>, subject: Option<&str>, reader_schema: Option<JsonText>) -> PyResult<PyFormat> {
    if subject.is_some() && reader_schema.is_some() {
        return Err(raise(Error::config(
            "give either `subject` or `reader_schema`: both are the schema that records are resolved against",
        )));
    }
    let (avro, latest) = confluent(py, schemas, subject)?;
    Ok(resolved(avro, latest.or(reader_schema)))
}

/// Change events of Debezium in Avro, in the wire format of Confluent's schema registry, as Kafka Connect's Avro converter writes them: each
/// is the row that it is about, as with "debezium" of those in JSON.
///
/// A row is what is `after` the change, and of a delete what was `before` it. Beside the columns of the table there are `__op` ("c" created,
/// "u" updated, "d" deleted, "r" read by a snapshot), `__ts_ms` (when the connector took the event in, milliseconds since 1970) and
/// `__deleted`. Columns are found by their names, whichever schema an event was written by; one that it does not have is null. What is no
/// envelope of a row goes to quarantine.
///
/// Args:
///     schemas: A `SchemaRegistry`, or the writers' schemas by their numbers. An event of an unknown schema goes to quarantine.
///     subject: With a registry: the columns are those of the latest version of this subject, now. Without it give `schema=` for columns
///         where the format goes.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> orders = tw.formats.debezium_avro(registry, subject="shop.public.orders-value")
///     >>> tw.read_kafka(b, "shop.public.orders", format=orders)
#[pyfunction]
#[pyo3(signature = (schemas, *, subject=None))]
pub fn debezium_avro(py: Python<'_>, schemas: Schemas<'_>, subject: Option<&str>) -> PyResult<PyFormat> {
    let (avro, latest) = confluent(py, schemas, subject)?;
    let format = Format::Avro(latest.into_iter().fold(avro, |avro, latest| avro.reader_schema(latest.0)).debezium());
    // A subject of something else is better known now.
    format.columns().map_err(raise)?;
    Ok(PyFormat(format))
}

/// Records in Confluent's wire format, and the latest schema of a subject.
fn confluent(py: Python<'_>, schemas: Schemas<'_>, subject: Option<&str>) -> PyResult<(Avro, Option<JsonText>)> {
    match (schemas, subject) {
        (Schemas::Registry(registry), subject) => {
            let client = &registry.get().client;
            let latest = subject.map(|subject| detached(py, || client.version(subject, Version::Latest))).transpose()?;
            Ok((Avro::confluent(client.clone()), latest.map(|latest| JsonText(latest.schema))))
        }
        (Schemas::Known(_), Some(_)) => Err(raise(Error::config("`subject` is asked of a `SchemaRegistry`; give one as `schemas`"))),
        (Schemas::Known(schemas), None) => {
            let schemas: HashMap<u32, String> = schemas.into_iter().map(|(id, schema)| (id, schema.0)).collect();
            Ok((Avro::confluent(schemas), None))
        }
    }
}

/// Messages of protocol buffers: in Kafka a record each, in sockets each behind its length (a varint).
///
/// Args:
///     descriptor_set: What `protoc --include_imports --descriptor_set_out=set.bin` makes: the bytes, or the path of the file.
///     message: The full name of the message, as "shop.v1.Payment".
///     confluent: Whether records begin as Confluent's serializers write them, with a schema's number and the way to the message. The number
///         is not looked up.
///
/// Example:
///     >>> tw.read_kafka(b, "payments", format=tw.formats.protobuf("shop.bin", "shop.v1.Payment"))
#[pyfunction]
#[pyo3(signature = (descriptor_set, message, *, confluent=false))]
pub fn protobuf(py: Python<'_>, descriptor_set: DescriptorSet, message: &str, confluent: bool) -> PyResult<PyFormat> {
    let made = detached(py, || descriptor_set.protobuf(message))?;
    let made = if confluent { made.confluent().map_err(raise)? } else { made };
    Ok(PyFormat(Format::Protobuf(made)))
}

/// Messages of protocol buffers in the wire format of Confluent's schema registry, by the `.proto` file of a subject and what it refers to.
/// The registry is asked now; records of other versions are decoded by this one, as protocol buffers allow it.
///
/// Args:
///     registry: A `SchemaRegistry`.
///     subject: As "payments-value".
///     message: The full name of the message, as "shop.v1.Payment"; without it the first of the file, as Confluent's serializers have it.
///     version: The version of the subject; without it the latest.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> tw.read_kafka(b, "payments", format=tw.formats.protobuf_confluent(registry, "payments-value"))
#[pyfunction]
#[pyo3(signature = (registry, subject, *, message=None, version=None))]
pub fn protobuf_confluent(
    py: Python<'_>,
    registry: &Bound<'_, PyRegistry>,
    subject: &str,
    message: Option<&str>,
    version: Option<u32>,
) -> PyResult<PyFormat> {
    let client = &registry.get().client;
    let made = detached(py, || {
        let set = client.descriptor_set(subject, version.map_or(Version::Latest, Version::Number))?;
        message.map_or_else(|| Protobuf::first(&set), |message| Protobuf::new(&set, message))?.confluent()
    })?;
    Ok(PyFormat(Format::Protobuf(made)))
}

/// Objects of JSON in the wire format of Confluent's schema registry: a zero byte, the number of a JSON Schema, the object. The number is not
/// looked up, and objects are not held against their schema.
///
/// Args:
///     registry: A `SchemaRegistry`, with `subject`: takes the columns from the JSON Schema that it has. Without it give `schema=` for columns
///         where the format goes, or `json_schema`.
///     subject: As "payments-value".
///     version: The version of the subject; without it the latest.
///     json_schema: A JSON Schema to take the columns from: a str, or what `json.loads` makes of one.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> tw.read_kafka(b, "payments", format=tw.formats.json_confluent(registry, subject="payments-value"))
///     >>> tw.read_kafka(b, "payments", format=tw.formats.json_confluent(), schema={"card": "string"})
#[pyfunction]
#[pyo3(signature = (registry=None, *, subject=None, version=None, json_schema=None))]
pub fn json_confluent(
    py: Python<'_>,
    registry: Option<&Bound<'_, PyRegistry>>,
    subject: Option<&str>,
    version: Option<u32>,
    json_schema: Option<JsonText>,
) -> PyResult<PyFormat> {
    let schema = match (registry, subject, json_schema) {
        (Some(registry), Some(subject), None) => {
            let client = &registry.get().client;
            Some(detached(py, || client.version(subject, version.map_or(Version::Latest, Version::Number)))?.schema)
        }
        (None, None, given) => given.map(|given| given.0),
        _ => {
            return Err(raise(Error::config("give `registry` and `subject`, or `json_schema`, or none of them and `schema=` for columns")));
        }
    };
    let json = JsonConfluent::new();
    Ok(PyFormat(Format::JsonConfluent(match schema {
        Some(schema) => json.json_schema(&schema).map_err(raise)?,
        None => json,
    })))
}

/// A descriptor set.
#[derive(FromPyObject)]
pub enum DescriptorSet {
    /// As it is.
    Bytes(Vec<u8>),
    /// In a file.
    File(PathBuf),
}

impl DescriptorSet {
    pub fn protobuf(&self, message: &str) -> Result<Protobuf, Error> {
        match self {
            DescriptorSet::Bytes(bytes) => Protobuf::new(bytes, message),
            DescriptorSet::File(path) => Protobuf::from_file(path, message),
        }
    }
}

/// Where writers' schemas are.
#[derive(FromPyObject)]
pub enum Schemas<'py> {
    /// In a registry.
    Registry(Bound<'py, PyRegistry>),
    /// Here, by their numbers.
    Known(HashMap<u32, JsonText>),
}

/// Avro records in Avro's single-object encoding: C3 01, the fingerprint of the writer's schema, the record.
///
/// Args:
///     schemas: The writers' schemas. A record of another one goes to quarantine.
///     reader_schema: As for `avro`.
///
/// Example:
///     >>> tw.read_kafka(b, "payments", format=tw.formats.avro_single_object([first, second]), schema={"card": "string"})
#[pyfunction]
#[pyo3(signature = (schemas, *, reader_schema=None))]
pub fn avro_single_object(schemas: Vec<JsonText>, reader_schema: Option<JsonText>) -> PyResult<PyFormat> {
    let avro = Avro::single_object(schemas.iter().map(|schema| &schema.0)).map_err(raise)?;
    Ok(resolved(avro, reader_schema))
}

pub fn resolved(avro: Avro, reader_schema: Option<JsonText>) -> PyFormat {
    PyFormat(Format::Avro(reader_schema.into_iter().fold(avro, |avro, schema| avro.reader_schema(schema.0))))
}

/// A schema in JSON: text, or objects that `json` makes text of.
pub struct JsonText(pub String);

impl FromPyObject<'_, '_> for JsonText {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<JsonText> {
        match value.cast::<PyString>() {
            Ok(text) => Ok(JsonText(text.extract()?)),
            Err(_) => Ok(JsonText(value.py().import("json")?.call_method1("dumps", (value,))?.extract()?)),
        }
    }
}

/// The name of a format, or a `Format`.
pub enum FormatLike {
    Named(String),
    Made(Format),
}

impl FromPyObject<'_, '_> for FormatLike {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<FormatLike> {
        match value.cast::<PyFormat>() {
            Ok(format) => Ok(FormatLike::Made(format.get().0.clone())),
            Err(_) => Ok(FormatLike::Named(value.extract()?)),
        }
    }
}

impl FormatLike {
    /// The format of whole files, Parquet among them.
    pub fn of_files(&self, delimiter: Option<&str>, header: bool) -> PyResult<FileFormat> {
        let named = match self {
            FormatLike::Named(name) => FileFormat::parse(name).map_err(raise)?,
            FormatLike::Made(format) => FileFormat::Bytes(format.clone()),
        };
        Ok(match named {
            FileFormat::Bytes(_) => FileFormat::Bytes(self.format(delimiter, header)?),
            columns => columns,
        })
    }

    /// The format, with another delimiter where one is given.
    pub fn format(&self, delimiter: Option<&str>, header: bool) -> PyResult<Format> {
        let format = match self {
            FormatLike::Named(name) => Format::parse(name).map_err(raise)?,
            FormatLike::Made(format) => format.clone(),
        };
        Ok(match format {
            Format::Csv { delimiter: own, .. } => Format::Csv { delimiter: delimiter.map_or(Ok(own), byte)?, header },
            other => other,
        })
    }
}

/// What the values of a broker's records are in.
pub enum Payload {
    /// As they are.
    Bytes,
    Text,
    Rows(Format, SchemaRef),
}

impl Payload {
    /// What is asked for: the format of a name, by default NDJSON if there is a schema, else bytes. `what` has no schema of its own.
    pub fn of(what: &str, format: Option<FormatLike>, schema: Option<&Bound<'_, PyAny>>, delimiter: Option<&str>) -> PyResult<Payload> {
        let format = format.unwrap_or_else(|| FormatLike::Named(if schema.is_some() { "ndjson" } else { "bytes" }.to_owned()));
        if let FormatLike::Named(name) = &format
            && matches!(name.as_str(), "bytes" | "text")
        {
            return match schema {
                None if name == "text" => Ok(Payload::Text),
                None => Ok(Payload::Bytes),
                Some(_) => Err(raise(Error::config(format!("`format` {name} is one column, `value`; leave out `schema`")))),
            };
        }
        let format = format.format(delimiter, false)?;
        let columns = match schema {
            Some(schema) => schema_from(schema)?,
            None => format
                .columns()
                .map_err(raise)?
                .ok_or_else(|| raise(Error::config(format!("`format` {format} needs a `schema`, which cannot be inferred from {what}"))))?,
        };
        Ok(Payload::Rows(format, columns))
    }
}

/// A delimiter of CSV.
pub fn byte(delimiter: &str) -> PyResult<u8> {
    match delimiter.as_bytes() {
        &[byte] => Ok(byte),
        _ => Err(raise(Error::config(format!("`delimiter` is {delimiter:?}; it must be one ASCII character")))),
    }
}
