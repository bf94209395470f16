//! Formats that need more than a name.

use std::collections::HashMap;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use pyo3::prelude::*;
use pyo3::types::PyString;
use thalweg::connector::kafka::Value;
use thalweg::connector::registry::{RegistryClient, Version};
use thalweg::format::avro::{Avro, AvroWriter};
use thalweg::format::json_confluent::{JsonConfluent, JsonConfluentWriter};
use thalweg::format::protobuf::{Protobuf, ProtobufWriter};
use thalweg::source::FileFormat;
use thalweg::{Error, Format};

use crate::arrow::schema_from;
use crate::error::{detached, raise};
use crate::registry::PyRegistry;

/// A format and what has to be known of it. Made by the functions of `formats`; goes where the name of a format goes.
#[pyclass(name = "Format", module = "thalweg", frozen)]
pub struct PyFormat {
    reading: Reading,
    writing: Writing,
}

/// What is read in it.
enum Reading {
    Known(Format),
    /// By what a registry has when it is read.
    Registered(String, Box<dyn Fn() -> Result<Format, Error> + Send + Sync>),
}

/// What records are written as, or why none are.
type Writing = Result<Value, &'static str>;

#[pymethods]
impl PyFormat {
    fn __repr__(&self) -> String {
        match &self.reading {
            Reading::Known(format) => format!("Format({format})"),
            Reading::Registered(name, _) => format!("Format({name})"),
        }
    }
}

impl PyFormat {
    fn new(reading: Format, writing: Writing) -> PyFormat {
        PyFormat { reading: Reading::Known(reading), writing }
    }

    /// What is read; a registry may be asked.
    fn reading(&self, py: Python<'_>) -> PyResult<Format> {
        match &self.reading {
            Reading::Known(format) => Ok(format.clone()),
            Reading::Registered(_, ask) => detached(py, ask),
        }
    }

    fn writing(&self) -> PyResult<Value> {
        self.writing.clone().map_err(|why| raise(Error::config(format!("`format` {} cannot be written: {why}", self.__repr__()))))
    }
}

/// Avro records alone, all of one writer's schema.
///
/// Args:
///     schema: The writer's schema, in JSON: a str, or what `json.loads` makes of one.
///     reader_schema: The schema that records are resolved against, with its defaults and aliases; without it the fields are taken that
///         bear the names of columns, cast to their types, and null where there is no such field. Only for reading.
///
/// Example:
///     >>> tw.read_kafka(b, "t", format=tw.formats.avro('{"type": "record", "name": "R", "fields": [{"name": "x", "type": "long"}]}'))
#[pyfunction]
#[pyo3(signature = (schema, *, reader_schema=None))]
pub fn avro(schema: JsonText, reader_schema: Option<JsonText>) -> PyFormat {
    let writer = AvroWriter::bare(&schema.0);
    PyFormat::new(resolved(Avro::bare(schema.0), reader_schema), Ok(Value::Avro(writer)))
}

/// Avro records in the wire format of Confluent's schema registry: a zero byte, the number of the writer's schema, the record.
///
/// Args:
///     schemas: A `SchemaRegistry`, or the writers' schemas by their numbers, which is for reading alone. A record of an unknown schema goes
///         to quarantine.
///     subject: With a registry: reading takes the latest version of this subject for the reader's schema. Writing registers under it; without
///         it under "<topic>-value".
///     reader_schema: As for `avro`.
///     writer_schema: What is written by, in JSON; without it a schema that is made of the columns.
///     auto_register: Whether writing registers the schema if it is not yet. If not, `writer_schema` has to be there, and without it the
///         latest version of the subject is written by.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> tw.read_kafka(b, "payments", format=tw.formats.avro_confluent(registry, subject="payments-value"))
///     >>> tw.read_kafka(b, "payments", format=tw.formats.avro_confluent({7: first, 9: second}), schema={"card": "string"})
///     >>> s.run(sink=tw.write_kafka(b, "large", format=tw.formats.avro_confluent(registry)))
#[pyfunction]
#[pyo3(signature = (schemas, *, subject=None, reader_schema=None, writer_schema=None, auto_register=true))]
pub fn avro_confluent(
    schemas: Schemas<'_>,
    subject: Option<String>,
    reader_schema: Option<JsonText>,
    writer_schema: Option<JsonText>,
    auto_register: bool,
) -> PyResult<PyFormat> {
    let registry = match (schemas, &subject) {
        (Schemas::Registry(_), Some(_)) if reader_schema.is_some() => {
            return Err(raise(Error::config(
                "give either `subject` or `reader_schema`: both are the schema that records are resolved against",
            )));
        }
        (Schemas::Registry(registry), _) => registry.get().client.clone(),
        (Schemas::Known(schemas), _) => {
            let why = "schemas that are written by have their numbers of a `SchemaRegistry`; give one as `schemas`";
            return Ok(PyFormat::new(resolved(known(schemas, subject)?, reader_schema), Err(why)));
        }
    };
    let mut writer = AvroWriter::confluent(registry.clone()).auto_register(auto_register);
    if let Some(schema) = writer_schema {
        writer = writer.schema(schema.0);
    }
    let Some(subject) = subject else {
        return Ok(PyFormat::new(resolved(Avro::confluent(registry), reader_schema), Ok(Value::Avro(writer))));
    };
    let writing = Ok(Value::Avro(writer.subject(&subject)));
    let ask = move || latest(&registry, &subject).map(Format::Avro);
    Ok(PyFormat { reading: Reading::Registered("avro_confluent".to_owned(), Box::new(ask)), writing })
}

/// Change events of Debezium in Avro, in the wire format of Confluent's schema registry, as Kafka Connect's Avro converter writes them: each
/// is the row that it is about, as with "debezium" of those in JSON.
///
/// A row is what is `after` the change, and of a delete what was `before` it. Beside the columns of the table there are `__op` ("c" created,
/// "u" updated, "d" deleted, "r" read by a snapshot), `__ts_ms` (when the connector took the event in, milliseconds since 1970) and
/// `__deleted`. Columns are found by their names, whichever schema an event was written by; one that it does not have is null. What is no
/// envelope of a row goes to quarantine. Only for reading.
///
/// Args:
///     schemas: A `SchemaRegistry`, or the writers' schemas by their numbers. An event of an unknown schema goes to quarantine.
///     subject: With a registry: the columns are those of the latest version of this subject when the stream is made. Without it give
///         `schema=` for columns where the format goes.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> orders = tw.formats.debezium_avro(registry, subject="shop.public.orders-value")
///     >>> tw.read_kafka(b, "shop.public.orders", format=orders)
#[pyfunction]
#[pyo3(signature = (schemas, *, subject=None))]
pub fn debezium_avro(schemas: Schemas<'_>, subject: Option<String>) -> PyResult<PyFormat> {
    let events = |avro: Avro| Format::Avro(avro.debezium());
    let writing = Err("events are written by databases' connectors");
    let registry = match schemas {
        Schemas::Registry(registry) => registry.get().client.clone(),
        Schemas::Known(schemas) => return Ok(PyFormat::new(events(known(schemas, subject)?), writing)),
    };
    let Some(subject) = subject else { return Ok(PyFormat::new(events(Avro::confluent(registry)), writing)) };
    let ask = move || latest(&registry, &subject).map(events);
    Ok(PyFormat { reading: Reading::Registered("debezium_avro".to_owned(), Box::new(ask)), writing })
}

/// Records in Confluent's wire format by schemas of these numbers.
fn known(schemas: HashMap<u32, JsonText>, subject: Option<String>) -> PyResult<Avro> {
    if subject.is_some() {
        return Err(raise(Error::config("`subject` is asked of a `SchemaRegistry`; give one as `schemas`")));
    }
    Ok(Avro::confluent(schemas.into_iter().map(|(id, schema)| (id, schema.0)).collect::<HashMap<u32, String>>()))
}

/// Records in Confluent's wire format, resolved against the latest schema of a subject.
fn latest(registry: &RegistryClient, subject: &str) -> Result<Avro, Error> {
    Ok(Avro::confluent(registry.clone()).reader_schema(registry.version(subject, Version::Latest)?.schema))
}

/// Messages of protocol buffers: in Kafka a record each, in sockets each behind its length (a varint).
///
/// Args:
///     descriptor_set: What `protoc --include_imports --descriptor_set_out=set.bin` makes: the bytes, or the path of the file.
///     message: The full name of the message, as "shop.v1.Payment".
///     confluent: Whether records begin as Confluent's serializers write them, with a schema's number and the way to the message. The number
///         is not looked up. Writing needs `registry` for it.
///     registry: A `SchemaRegistry` that writing registers the file of the message with; records are as with `confluent` then.
///     subject: What it is registered under; without it under "<topic>-value".
///     auto_register: Whether writing registers the file if it is not yet. If not, it has to be there.
///
/// Example:
///     >>> payment = tw.formats.protobuf("shop.bin", "shop.v1.Payment")
///     >>> s = tw.read_kafka(b, "payments", format=payment)
///     >>> s.filter("amount > 1000").run(sink=tw.write_kafka(b, "large", format=payment))
#[pyfunction]
#[pyo3(signature = (descriptor_set, message, *, confluent=false, registry=None, subject=None, auto_register=true))]
pub fn protobuf(
    py: Python<'_>,
    descriptor_set: DescriptorSet,
    message: &str,
    confluent: bool,
    registry: Option<&Bound<'_, PyRegistry>>,
    subject: Option<String>,
    auto_register: bool,
) -> PyResult<PyFormat> {
    let made = detached(py, || descriptor_set.protobuf(message))?;
    let writing = match registry {
        Some(registry) => {
            let writer = ProtobufWriter::confluent(made.clone(), registry.get().client.clone()).auto_register(auto_register);
            Ok(Value::Protobuf(subject.into_iter().fold(writer, |writer, subject| writer.subject(subject))))
        }
        None if subject.is_some() => {
            return Err(raise(Error::config("a `subject` is of a registry; give `registry` too")));
        }
        None if confluent => Err("the number of its schema is one of a `SchemaRegistry`; give `registry`, or take `protobuf_confluent`"),
        None => Ok(Value::Protobuf(ProtobufWriter::bare(made.clone()))),
    };
    let made = if confluent || registry.is_some() { made.confluent().map_err(raise)? } else { made };
    Ok(PyFormat::new(Format::Protobuf(made), writing))
}

/// Messages of protocol buffers in the wire format of Confluent's schema registry, by the `.proto` file of a subject and what it refers to.
/// The registry is asked now; records of other versions are decoded by this one, as protocol buffers allow it, and records are written by
/// it, behind its number.
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
///     >>> s.run(sink=tw.write_kafka(b, "payments", format=tw.formats.protobuf_confluent(registry, "payments-value")))
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
    detached(py, || {
        // The number and the file of one version, should another be registered meanwhile.
        let known = client.version(subject, version.map_or(Version::Latest, Version::Number))?;
        let set = client.descriptor_set(subject, Version::Number(known.version))?;
        let made = message.map_or_else(|| Protobuf::first(&set), |message| Protobuf::new(&set, message))?;
        let writing = Ok(Value::Protobuf(ProtobufWriter::numbered(made.clone(), known.id)));
        Ok(PyFormat::new(Format::Protobuf(made.confluent()?), writing))
    })
}

/// Objects of JSON in the wire format of Confluent's schema registry: a zero byte, the number of a JSON Schema, the object. What is read is
/// not held against its schema, and its number is not looked up.
///
/// Args:
///     registry: A `SchemaRegistry`. Reading takes the columns from the JSON Schema of `subject`; without it give `schema=` for columns
///         where the format goes, or `json_schema`. Writing needs it.
///     subject: As "payments-value". Writing registers under it; without it under "<topic>-value".
///     version: The version of the subject, for reading; without it the latest.
///     json_schema: A JSON Schema to take the columns from, or to write by; without it one is made of the columns that are written. A str, or
///         what `json.loads` makes of one.
///     auto_register: Whether writing registers the schema if it is not yet. If not, `json_schema` has to be there, and without it the latest
///         version of the subject is written by.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("http://localhost:8081")
///     >>> tw.read_kafka(b, "payments", format=tw.formats.json_confluent(registry, subject="payments-value"))
///     >>> tw.read_kafka(b, "payments", format=tw.formats.json_confluent(), schema={"card": "string"})
///     >>> s.run(sink=tw.write_kafka(b, "large", format=tw.formats.json_confluent(registry)))
#[pyfunction]
#[pyo3(signature = (registry=None, *, subject=None, version=None, json_schema=None, auto_register=true))]
pub fn json_confluent(
    registry: Option<&Bound<'_, PyRegistry>>,
    subject: Option<String>,
    version: Option<u32>,
    json_schema: Option<JsonText>,
    auto_register: bool,
) -> PyResult<PyFormat> {
    let client = registry.map(|registry| registry.get().client.clone());
    let writing = match (&client, version) {
        (None, _) => Err("its schema has its number of a `SchemaRegistry`; give `registry`"),
        (Some(_), Some(_)) => Err("a `version` is of reading; give `json_schema`, or `auto_register=False` to write by the latest"),
        (Some(client), None) => {
            let writer = JsonConfluentWriter::new(client.clone()).auto_register(auto_register);
            let writer = subject.iter().fold(writer, |writer, subject| writer.subject(subject));
            Ok(Value::JsonConfluent(json_schema.iter().fold(writer, |writer, schema| writer.schema(&schema.0))))
        }
    };
    let reading = match (client, subject, json_schema) {
        (Some(client), Some(subject), None) => {
            let ask = move || {
                let schema = client.version(&subject, version.map_or(Version::Latest, Version::Number))?.schema;
                JsonConfluent::new().json_schema(&schema).map(Format::JsonConfluent)
            };
            Reading::Registered("json_confluent".to_owned(), Box::new(ask))
        }
        (None, Some(_), _) => {
            return Err(raise(Error::config("a `subject` is asked of a registry; give `registry` too, or `json_schema`")));
        }
        (_, _, Some(schema)) => Reading::Known(Format::JsonConfluent(JsonConfluent::new().json_schema(&schema.0).map_err(raise)?)),
        (_, None, None) => Reading::Known(Format::JsonConfluent(JsonConfluent::new())),
    };
    Ok(PyFormat { reading, writing })
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
///     schemas: The writers' schemas. A record of another one goes to quarantine. Writing takes one.
///     reader_schema: As for `avro`.
///
/// Example:
///     >>> tw.read_kafka(b, "t", format=tw.formats.avro_single_object([first, second]), schema={"card": "string"})
#[pyfunction]
#[pyo3(signature = (schemas, *, reader_schema=None))]
pub fn avro_single_object(schemas: Vec<JsonText>, reader_schema: Option<JsonText>) -> PyResult<PyFormat> {
    let avro = Avro::single_object(schemas.iter().map(|schema| &schema.0)).map_err(raise)?;
    let writing = match schemas.as_slice() {
        [schema] => Ok(Value::Avro(AvroWriter::single_object(&schema.0))),
        _ => Err("records are written by one schema; give that alone"),
    };
    Ok(PyFormat::new(resolved(avro, reader_schema), writing))
}

pub fn resolved(avro: Avro, reader_schema: Option<JsonText>) -> Format {
    Format::Avro(reader_schema.into_iter().fold(avro, |avro, schema| avro.reader_schema(schema.0)))
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
            Ok(format) => Ok(FormatLike::Made(format.get().reading(value.py())?)),
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

/// What records are written as: the name of a format, or a `Format`.
pub struct Written(Value);

impl FromPyObject<'_, '_> for Written {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Written> {
        match value.cast::<PyFormat>() {
            Ok(format) => format.get().writing().map(Written),
            Err(_) => Value::parse(value.extract()?).map(Written).map_err(raise),
        }
    }
}

impl Written {
    /// The values of records: a column, or all columns in a format, by default NDJSON.
    pub fn value(column: Option<String>, format: Option<Written>, delimiter: Option<&str>) -> PyResult<Value> {
        let value = match (column, format) {
            (Some(_), Some(_)) => {
                return Err(raise(Error::config("give either `value`, which is a column as it is, or `format`, which is of all columns")));
            }
            (Some(column), None) => Value::Column(column),
            (None, format) => format.map(|Written(value)| value).unwrap_or_default(),
        };
        match (value, delimiter) {
            (value, None) => Ok(value),
            (Value::Csv { .. }, Some(delimiter)) => Ok(Value::Csv { delimiter: byte(delimiter)? }),
            (_, Some(_)) => Err(raise(Error::config("`delimiter` is of the format csv"))),
        }
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
