//! Apache Kafka: topics to streams and results to topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMapping, PyString, PyTuple};
use thalweg::connector::kafka::{Column, End, Kafka, KafkaSink, Offsets, OutOfRange, Repartition, Start, Token};
use thalweg::{Error, Stream};

use crate::call::attached;
use crate::error::{detached, raise};
use crate::format::{FormatLike, Payload, Written};
use crate::sink::PySink;
use crate::stream::PyStream;

/// Ties `read_kafka` to `write_kafka`: the sink's transactions hold the offsets of what was read. For one query.
///
/// Example:
///     >>> offsets = tw.KafkaOffsets()
///     >>> s = tw.read_kafka(b, "payments", group="fraud", offsets=offsets, schema=schema).filter("amount > 1000")
///     >>> q = s.run(sink=tw.write_kafka(b, "large", transactional_id="fraud", offsets=offsets))
#[pyclass(name = "KafkaOffsets", module = "thalweg", frozen)]
pub struct PyOffsets(Offsets);

#[pymethods]
impl PyOffsets {
    #[new]
    fn new() -> PyOffsets {
        PyOffsets(Offsets::new())
    }
}

/// A topic by which rows are shared out by key among programs: every member of a group that reads it has all rows of its keys.
///
/// Args:
///     bootstrap: Brokers, as "host:port", several after commas.
///     topic: The topic.
///     by: The column of the key, or several. Keys go to the partitions that Java's clients choose.
///     partitions: How many it has if it is made here, and with them how many programs at most have a share.
///     replication: On how many brokers each is kept, if it is made here; the cluster's default without it.
///     config: Settings under librdkafka's names, as for `read_kafka`.
///     oauth: A function that makes tokens, as for `read_kafka`. The topic must then be there: `create` only looks at it.
///
/// Example:
///     >>> by_user = tw.KafkaRepartition("localhost:9092", "clicks-by-user", by="user")
///     >>> by_user.create()
///     >>> clicks.run(sink=by_user.sink())
///     >>> mine = by_user.source(group="counters", schema=clicks.schema)
#[pyclass(name = "KafkaRepartition", module = "thalweg", frozen)]
pub struct PyRepartition {
    repartition: Repartition,
    description: String,
}

#[pymethods]
impl PyRepartition {
    #[new]
    #[pyo3(signature = (bootstrap, topic, *, by, partitions=12, replication=None, config=None, oauth=None))]
    fn new(
        bootstrap: &str,
        topic: &str,
        by: Names,
        partitions: i32,
        replication: Option<i32>,
        config: Option<Settings>,
        oauth: Option<OAuth>,
    ) -> PyRepartition {
        let mut repartition = Repartition::new(bootstrap, topic, by.0).partitions(partitions);
        if let Some(brokers) = replication {
            repartition = repartition.replication(brokers);
        }
        for (name, value) in config.map(|Settings(settings)| settings).unwrap_or_default() {
            repartition = repartition.set(name, value);
        }
        if let Some(oauth) = oauth {
            repartition = repartition.oauth_token(move || oauth.token());
        }
        PyRepartition { repartition, description: format!("KafkaRepartition({bootstrap:?}, {topic:?})") }
    }

    /// Makes the topic if it is not there. One with another number of partitions is an error, as keys would be elsewhere.
    fn create(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.repartition.create())
    }

    /// Where rows go: all columns as a JSON object, behind the key.
    fn sink(&self) -> PySink {
        let repartition = self.repartition.clone();
        PySink::made(format!("{}.sink()", self.description), move || repartition.sink())
    }

    /// The rows of the keys that are dealt to this member of `group`, with the columns of `schema`.
    #[pyo3(signature = (*, group, schema))]
    fn source(&self, py: Python<'_>, group: &str, schema: &Bound<'_, PyAny>) -> PyResult<PyStream> {
        let kafka = match Payload::of("a topic", None, Some(schema), None)? {
            Payload::Rows(_, schema) => self.repartition.source(group, schema),
            Payload::Bytes | Payload::Text => return Err(raise(Error::config("rows have columns; give a schema"))),
        };
        PyStream::checked(py, detached(py, || Stream::read_kafka(kafka))?)
    }

    fn __repr__(&self) -> &str {
        &self.description
    }
}

/// The records of topics of Apache Kafka. The cluster is asked when the stream runs.
///
/// With a `group` and without `end` the stream is a member of the group and reads the partitions that it is dealt; offsets are committed
/// after the results are, by queries with windows or other state at their end alone. What the group has committed comes before `start`.
///
/// Args:
///     bootstrap: Brokers, as "host:port", several after commas.
///     topics: One or more names, or patterns that begin with "^".
///     partitions: Instead of topics, (topic, partition) pairs.
///     group: The consumer group.
///     start: "earliest", "latest", "committed", a time (datetime, or milliseconds since 1970) or {(topic, partition): offset}.
///     end: None for a stream without end, else "latest" (what is there now), a time or {(topic, partition): offset}.
///     format: "ndjson", "debezium" (change events in JSON), "csv", "tsv" or "arrow" with a schema; what `formats` has, for Avro, change events in Avro, and Protobuf; "text" or "bytes" for a column `value`.
///         "ndjson" if there is a schema, else "bytes".
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema.
///     metadata: What else of records becomes columns: "key", "headers", "topic", "partition", "offset", "timestamp", "timestamp_type",
///         each with "_" before its name. With any, records without a value are rows of nulls; else they are left out and counted.
///     on_out_of_range: What to do when the broker has deleted what is to be read next: "error", "earliest" or "latest".
///     offsets: A `KafkaOffsets`, which the sink has too: offsets are committed by its transactions.
///     config: Settings under librdkafka's names; "env:NAME" and "file:PATH" stand for what they hold. Never shown or logged.
///     oauth: A function that makes tokens (SASL OAUTHBEARER): it is called without arguments, when the stream runs and again when
///         four fifths of a token's life have passed, and returns `(token, expires_at)` or `(token, expires_at, principal)`, with
///         `expires_at` in seconds since 1970. What it raises the first time ends the run; later an OSError, as network errors are,
///         lets it be called again ten seconds later. `security.protocol` is sasl_ssl unless `config` says sasl_plaintext.
///
/// Example:
///     >>> s = tw.read_kafka("localhost:9092", topics=["payments"], end="latest", schema={"ts": "int64", "card": "string"})
#[pyfunction]
#[pyo3(signature = (
    bootstrap, topics=None, *, partitions=None, group=None, start=None, end=None, format=None, schema=None, delimiter=None,
    metadata=None, on_out_of_range="error", offsets=None, config=None, oauth=None
))]
#[allow(clippy::too_many_arguments)]
pub fn read_kafka(
    py: Python<'_>,
    bootstrap: &str,
    topics: Option<Names>,
    partitions: Option<Vec<(String, i32)>>,
    group: Option<&str>,
    start: Option<&Bound<'_, PyAny>>,
    end: Option<&Bound<'_, PyAny>>,
    format: Option<FormatLike>,
    schema: Option<&Bound<'_, PyAny>>,
    delimiter: Option<&str>,
    metadata: Option<Names>,
    on_out_of_range: &str,
    offsets: Option<PyRef<'_, PyOffsets>>,
    config: Option<Settings>,
    oauth: Option<OAuth>,
) -> PyResult<PyStream> {
    let mut kafka = match (topics, partitions) {
        (Some(Names(topics)), None) => Kafka::new(bootstrap, topics),
        (None, Some(partitions)) => Kafka::partitions(bootstrap, partitions),
        _ => return Err(raise(Error::config("give either `topics` or `partitions`"))),
    };
    kafka = match Payload::of("a topic", format, schema, delimiter)? {
        Payload::Bytes => kafka,
        Payload::Text => kafka.text(),
        Payload::Rows(format, schema) => kafka.format(format, schema),
    };
    if let Some(Names(columns)) = metadata {
        let columns: Result<Vec<Column>, Error> = columns.iter().map(|name| Column::parse(name)).collect();
        kafka = kafka.metadata(columns.map_err(raise)?);
    }
    if let Some(group) = group {
        kafka = kafka.group(group);
    }
    if let Some(start) = start {
        kafka = kafka.start(start_of(start)?);
    }
    if let Some(end) = end {
        kafka = kafka.end(end_of(end)?);
    }
    if let Some(offsets) = offsets {
        kafka = kafka.offsets(&offsets.0);
    }
    kafka = kafka.on_out_of_range(policy(on_out_of_range)?);
    for (name, value) in config.map(|Settings(settings)| settings).unwrap_or_default() {
        kafka = kafka.set(name, value);
    }
    if let Some(oauth) = oauth {
        kafka = kafka.oauth_token(move || oauth.token());
    }
    PyStream::checked(py, detached(py, || Stream::read_kafka(kafka))?)
}

/// Writes rows to a topic of Apache Kafka, a record each, acknowledged by all replicas and never twice by a retry.
///
/// Args:
///     bootstrap: Brokers, as "host:port", several after commas.
///     topic: Where to.
///     key: The column that is the key, or several, which become a JSON object. Keys go to the partitions that Java's clients choose.
///     value: The column of text or bytes that is the value, null for none; without it all columns in `format`.
///     format: "ndjson" (the default), "csv" or "tsv" (a line without a header), "arrow", or what a function of `formats` made:
///         Avro, Protobuf, or JSON behind the number of its schema. Neighbouring rows of the same key, headers and timestamp are one record of "arrow".
///     delimiter: What separates the fields of CSV.
///     headers: Columns that become headers of their names.
///     timestamp: The column that is the time of the record.
///     transactional_id: Writes in transactions from commit to commit: readers of committed records see a commit whole or not at all.
///     offsets: A `KafkaOffsets`, which `read_kafka` has too: transactions hold the offsets of what was read, so that results come exactly
///         once also after a crash, if no step has state.
///     config: Settings under librdkafka's names, as for `read_kafka`.
///     oauth: A function that makes tokens, as for `read_kafka`.
///
/// Example:
///     >>> q = w.run(sink=tw.write_kafka("localhost:9092", "totals", key="card"))
///     >>> q = w.run(sink=tw.write_kafka(b, "totals", format=tw.formats.avro_confluent(tw.SchemaRegistry("http://localhost:8081"))))
///     >>> q = s.run(sink=out, quarantine=tw.write_kafka(b, "dead", value="bytes", headers=["error", "partition", "offset"]))
#[pyfunction]
#[pyo3(signature = (
    bootstrap, topic, *, key=None, value=None, format=None, delimiter=None, headers=None, timestamp=None, transactional_id=None,
    offsets=None, config=None, oauth=None
))]
#[allow(clippy::too_many_arguments)]
pub fn write_kafka(
    bootstrap: String,
    topic: String,
    key: Option<Names>,
    value: Option<String>,
    format: Option<Written>,
    delimiter: Option<&str>,
    headers: Option<Names>,
    timestamp: Option<String>,
    transactional_id: Option<String>,
    offsets: Option<PyRef<'_, PyOffsets>>,
    config: Option<Settings>,
    oauth: Option<OAuth>,
) -> PyResult<PySink> {
    let value = Written::value(value, format, delimiter)?;
    let names = |names: Option<Names>| names.map(|Names(names)| names).unwrap_or_default();
    let config = config.map(|Settings(settings)| settings).unwrap_or_default();
    let (key, headers) = (names(key), names(headers));
    let offsets = offsets.map(|offsets| offsets.0.clone());
    let description = format!("write_kafka({bootstrap:?}, {topic:?})");
    let make = move || {
        let mut sink = KafkaSink::new(&bootstrap, &topic).value(value.clone()).key(&key).headers(&headers);
        if let Some(column) = &timestamp {
            sink = sink.timestamp(column);
        }
        if let Some(id) = &transactional_id {
            sink = sink.transactional_id(id);
        }
        if let Some(offsets) = &offsets {
            sink = sink.offsets(offsets);
        }
        if let Some(oauth) = oauth.clone() {
            sink = sink.oauth_token(move || oauth.token());
        }
        config.iter().fold(sink, |sink, (name, value)| sink.set(name, value))
    };
    Ok(PySink::made(description, make))
}

/// One name or several.
pub struct Names(pub Vec<String>);

impl FromPyObject<'_, '_> for Names {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Names> {
        match value.cast::<PyString>() {
            Ok(one) => Ok(Names(vec![one.extract()?])),
            Err(_) => Ok(Names(value.extract()?)),
        }
    }
}

/// Settings by name: text, numbers and truth values.
pub struct Settings(pub BTreeMap<String, String>);

impl FromPyObject<'_, '_> for Settings {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Settings> {
        let mut settings = BTreeMap::new();
        for item in value.cast::<PyMapping>()?.items()?.iter() {
            let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
            let text = match value.cast::<PyBool>() {
                Ok(truth) => truth.is_true().to_string(),
                Err(_) => value.str()?.extract()?,
            };
            settings.insert(name, text);
        }
        Ok(Settings(settings))
    }
}

/// A function that makes tokens. It is called by threads of the engine, which hold the interpreter's lock for as long as it runs.
#[derive(Clone)]
pub struct OAuth(Arc<Py<PyAny>>);

impl FromPyObject<'_, '_> for OAuth {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<OAuth> {
        match value.is_callable() {
            true => Ok(OAuth(Arc::new(value.to_owned().unbind()))),
            false => Err(PyTypeError::new_err(format!(
                "`oauth` is a function that returns (token, expires_at), not {}",
                value.get_type().name()?
            ))),
        }
    }
}

impl OAuth {
    /// The next token.
    fn token(&self) -> Result<Token, Error> {
        attached(|py| {
            self.0.bind(py).call0().and_then(|returned| token_of(&returned)).map_err(|exception| {
                let retriable = exception.is_instance_of::<PyOSError>(py);
                Error::connector("`oauth` raised").with_source(exception).retriable_if(retriable)
            })
        })
    }
}

/// Seconds since 1970 that are rather milliseconds: they are of the year 5138.
const FAR: f64 = 1e11;

/// A token as Python gives it, of which nothing but types may be said.
fn token_of(returned: &Bound<'_, PyAny>) -> PyResult<Token> {
    let expected = "`oauth` must return (token, expires_at) or (token, expires_at, principal): text, seconds since 1970, text";
    let parts = returned.cast::<PyTuple>().ok().filter(|parts| (2..=3).contains(&parts.len()));
    let Some(parts) = parts else { return Err(PyTypeError::new_err(format!("{expected}; not {}", returned.get_type().name()?))) };
    let wrong = |part: &Bound<'_, PyAny>| match part.get_type().name() {
        Ok(name) => PyTypeError::new_err(format!("{expected}; not {name}")),
        Err(error) => error,
    };
    let (value, expires_at) = (parts.get_item(0)?, parts.get_item(1)?);
    let text = value.extract::<String>().map_err(|_| wrong(&value))?;
    let seconds = expires_at.extract::<f64>().map_err(|_| wrong(&expires_at))?;
    if seconds.abs() >= FAR {
        return Err(PyValueError::new_err("`oauth` must return when the token expires in seconds since 1970, not milliseconds"));
    }
    let token = Token::new(text, (seconds * 1e3) as i64);
    match parts.get_item(2) {
        Ok(principal) => Ok(token.principal(principal.extract::<String>().map_err(|_| wrong(&principal))?)),
        Err(_) => Ok(token),
    }
}

/// Offsets by topic and partition.
fn offsets(value: &Bound<'_, PyDict>) -> PyResult<Vec<(String, i32, i64)>> {
    value.iter().map(|(place, offset)| place.extract().and_then(|(topic, partition)| Ok((topic, partition, offset.extract()?)))).collect()
}

/// A time in milliseconds since 1970: a number of them, or a datetime.
fn time(value: &Bound<'_, PyAny>, what: &str) -> PyResult<i64> {
    if let Ok(millis) = value.extract() {
        return Ok(millis);
    }
    match value.call_method0("timestamp").and_then(|seconds| seconds.extract::<f64>()) {
        Ok(seconds) => Ok((seconds * 1e3).round() as i64),
        Err(_) => {
            Err(PyTypeError::new_err(format!("`{what}` must be a word, a time or a dict of offsets, not {}", value.get_type().name()?)))
        }
    }
}

fn start_of(value: &Bound<'_, PyAny>) -> PyResult<Start> {
    if let Ok(given) = value.cast::<PyDict>() {
        return Ok(Start::Offsets(offsets(given)?));
    }
    match value.extract::<&str>() {
        Ok("earliest") => Ok(Start::Earliest),
        Ok("latest") => Ok(Start::Latest),
        Ok("committed") => Ok(Start::Committed),
        Ok(other) => Err(raise(Error::config(format!("`start` is {other:?}; it may be earliest, latest, committed, a time or offsets")))),
        Err(_) => Ok(Start::Timestamp(time(value, "start")?)),
    }
}

fn end_of(value: &Bound<'_, PyAny>) -> PyResult<End> {
    if let Ok(given) = value.cast::<PyDict>() {
        return Ok(End::Offsets(offsets(given)?));
    }
    match value.extract::<&str>() {
        Ok("latest") => Ok(End::Latest),
        Ok(other) => Err(raise(Error::config(format!("`end` is {other:?}; it may be latest, a time or offsets, or None for no end")))),
        Err(_) => Ok(End::Timestamp(time(value, "end")?)),
    }
}

fn policy(name: &str) -> PyResult<OutOfRange> {
    match name {
        "error" => Ok(OutOfRange::Error),
        "earliest" => Ok(OutOfRange::Earliest),
        "latest" => Ok(OutOfRange::Latest),
        other => Err(raise(Error::config(format!("`on_out_of_range` is {other:?}; it may be error, earliest or latest")))),
    }
}
