//! Amazon Kinesis: streams to streams and results to streams.

use std::collections::BTreeMap;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use thalweg::connector::kinesis::{Column, End, Kinesis, KinesisSink, OnExpired, Start};
use thalweg::{Error, Stream};

use crate::config::Interval;
use crate::error::{detached, raise};
use crate::format::{FormatLike, Payload, Written};
use crate::kafka::{Names, Settings};
use crate::sink::PySink;
use crate::stream::PyStream;

/// The records of a stream of Amazon Kinesis. The service is asked when the stream runs.
///
/// Shards that are split or merged are followed, parents before children. With an `application` shards are shared out among all programs of
/// it by leases in a table of DynamoDB of that name, laid out as Amazon's Kinesis Client Library does, and checkpoints are written there
/// after the results are, by queries with windows or other state at their end alone. The checkpoint of a shard comes before `start`.
///
/// Args:
///     stream: The stream's name, or its ARN, which may be another account's.
///     region: Its region; without it that of the ARN, AWS_REGION or the profile's.
///     endpoint_url: Where the service answers, if it is not AWS. Plain http needs `settings={"allow_http": True}`.
///     application: Who reads: the name of the table of leases.
///     start: "trim_horizon" (the oldest record), "latest", a time (datetime, or milliseconds since 1970) or {shard: sequence number}, the
///         first records to read.
///     start_after: In place of `start`, {shard: sequence number}: reads behind these records.
///     end: None for a stream without end, else "latest" (what is there now) or a time.
///     format: "ndjson", "debezium" (change events in JSON), "csv", "tsv" or "arrow" with a schema; what `formats` has, for Avro, change events in Avro, and Protobuf; "text" or "bytes" for a column `value`.
///         "ndjson" if there is a schema, else "bytes".
///     schema: The columns, as `{"ts": "timestamp[ms]", …}` or an Arrow schema.
///     metadata: What else of records becomes columns: "partition_key", "sequence_number", "sub_sequence_number", "shard", "timestamp",
///         each with "_" before its name.
///     consumer: Reads by enhanced fan-out, as the consumer of this name, which is registered if need be and billed until it is removed.
///     on_expired: What to do when records behind a checkpoint have gone: "error" or "trim_horizon".
///     failover: How long leases last that nobody renews; all programs of an application need the same.
///     shard_discovery: How often new shards are looked for, a minute unless told otherwise. The children of a shard that ends are read at
///         once anyway.
///     settings: Settings by name, such as "profile", "access_key" and "secret_key"; without these AWS's default chain finds credentials.
///         "env:NAME" and "file:PATH" stand for what they hold. Never shown or logged.
///
/// Example:
///     >>> s = tw.read_kinesis("payments", region="eu-west-1", end="latest", schema={"ts": "int64", "card": "string"})
#[pyfunction]
#[pyo3(signature = (
    stream, *, region=None, endpoint_url=None, application=None, start=None, start_after=None, end=None, format=None, schema=None,
    delimiter=None, metadata=None, consumer=None, on_expired="error", failover=None, shard_discovery=None, settings=None
))]
#[allow(clippy::too_many_arguments)]
pub fn read_kinesis(
    py: Python<'_>,
    stream: &str,
    region: Option<&str>,
    endpoint_url: Option<&str>,
    application: Option<&str>,
    start: Option<&Bound<'_, PyAny>>,
    start_after: Option<BTreeMap<String, String>>,
    end: Option<&Bound<'_, PyAny>>,
    format: Option<FormatLike>,
    schema: Option<&Bound<'_, PyAny>>,
    delimiter: Option<&str>,
    metadata: Option<Names>,
    consumer: Option<&str>,
    on_expired: &str,
    failover: Option<Interval>,
    shard_discovery: Option<Interval>,
    settings: Option<Settings>,
) -> PyResult<PyStream> {
    let mut kinesis = match Payload::of("a stream", format, schema, delimiter)? {
        Payload::Bytes => Kinesis::new(stream),
        Payload::Text => Kinesis::new(stream).text(),
        Payload::Rows(format, schema) => Kinesis::new(stream).format(format, schema),
    };
    if let Some(Names(columns)) = metadata {
        let columns: Result<Vec<Column>, Error> = columns.iter().map(|name| Column::parse(name)).collect();
        kinesis = kinesis.metadata(columns.map_err(raise)?);
    }
    if let Some(application) = application {
        kinesis = kinesis.application(application);
    }
    if let Some(consumer) = consumer {
        kinesis = kinesis.enhanced_fan_out(consumer);
    }
    kinesis = match (start, start_after) {
        (Some(_), Some(_)) => return Err(raise(Error::config("`start` and `start_after` both say where to begin; give one of them"))),
        (Some(start), None) => kinesis.start(start_of(start)?),
        (None, Some(places)) => kinesis.start(Start::After(places.into_iter().collect())),
        (None, None) => kinesis,
    };
    if let Some(end) = end {
        kinesis = kinesis.end(end_of(end)?);
    }
    if let Some(Interval(failover)) = failover {
        kinesis = kinesis.failover(failover);
    }
    if let Some(Interval(every)) = shard_discovery {
        kinesis = kinesis.shard_discovery(every);
    }
    kinesis = kinesis.on_expired(policy(on_expired)?);
    for (name, value) in all_settings(region, endpoint_url, settings) {
        kinesis = kinesis.set(name, value);
    }
    PyStream::checked(py, detached(py, || Stream::read_kinesis(kinesis))?)
}

/// Writes rows to a stream of Amazon Kinesis, a record each, at least once: Kinesis has no transactions. What the service does not take
/// is sent again, and nothing else, until `settings={"delivery_timeout": "2min"}` have passed. A commit waits until all is delivered.
///
/// Args:
///     stream: The stream's name, or its ARN, which may be another account's.
///     region: Its region; without it that of the ARN, AWS_REGION or the profile's.
///     endpoint_url: Where the service answers, if it is not AWS. Plain http needs `settings={"allow_http": True}`.
///     partition_key: The column of text or integers whose hash chooses the shard, or several, which become a JSON object. Rows whose key is
///         null are spread over the shards, as are all without it.
///     explicit_hash_key: The column of numbers below 2**128, or their text, that chooses the shard instead.
///     value: The column of text or bytes that is the value; without it all columns in `format`.
///     format: As for `write_kafka`; schemas are registered under "<stream>-value". Neighbouring rows of the same key are one record of "arrow".
///     delimiter: What separates the fields of CSV.
///     aggregate: Puts many rows into one record as the Kinesis Producer Library does; readers have to take them apart, as `read_kinesis`
///         and Amazon's client libraries do.
///     settings: Settings by name, as for `read_kinesis`, and "delivery_timeout".
///
/// Example:
///     >>> q = w.run(sink=tw.write_kinesis("totals", region="eu-west-1", partition_key="card"))
#[pyfunction]
#[pyo3(signature = (
    stream, *, region=None, endpoint_url=None, partition_key=None, explicit_hash_key=None, value=None, format=None, delimiter=None,
    aggregate=false, settings=None
))]
#[allow(clippy::too_many_arguments)]
pub fn write_kinesis(
    stream: String,
    region: Option<&str>,
    endpoint_url: Option<&str>,
    partition_key: Option<Names>,
    explicit_hash_key: Option<String>,
    value: Option<String>,
    format: Option<Written>,
    delimiter: Option<&str>,
    aggregate: bool,
    settings: Option<Settings>,
) -> PyResult<PySink> {
    let value = Written::value(value, format, delimiter)?;
    let key = partition_key.map(|Names(names)| names).unwrap_or_default();
    let settings = all_settings(region, endpoint_url, settings);
    let description = format!("write_kinesis({stream:?})");
    let make = move || {
        let mut sink = KinesisSink::new(&stream).value(value.clone()).partition_key(&key).aggregate(aggregate);
        if let Some(column) = &explicit_hash_key {
            sink = sink.explicit_hash_key(column);
        }
        settings.iter().fold(sink, |sink, (name, value)| sink.set(name, value))
    };
    Ok(PySink::made(description, make))
}

/// Settings by name, with those that have arguments of their own.
fn all_settings(region: Option<&str>, endpoint_url: Option<&str>, settings: Option<Settings>) -> Vec<(String, String)> {
    let own = [("region", region), ("endpoint_url", endpoint_url)];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    settings.map(|Settings(settings)| settings).unwrap_or_default().into_iter().chain(own).collect()
}

/// A time in milliseconds since 1970: a number of them, or a datetime.
fn time(value: &Bound<'_, PyAny>, what: &str) -> PyResult<i64> {
    if let Ok(millis) = value.extract() {
        return Ok(millis);
    }
    match value.call_method0("timestamp").and_then(|seconds| seconds.extract::<f64>()) {
        Ok(seconds) => Ok((seconds * 1e3).round() as i64),
        Err(_) => Err(PyTypeError::new_err(format!("`{what}` must be a word or a time, not {}", value.get_type().name()?))),
    }
}

fn start_of(value: &Bound<'_, PyAny>) -> PyResult<Start> {
    if let Ok(places) = value.cast::<PyDict>() {
        return Ok(Start::At(places.iter().map(|(shard, sequence)| Ok((shard.extract()?, sequence.extract()?))).collect::<PyResult<_>>()?));
    }
    match value.extract::<&str>() {
        Ok("trim_horizon") => Ok(Start::TrimHorizon),
        Ok("latest") => Ok(Start::Latest),
        Ok(other) => Err(raise(Error::config(format!("`start` is {other:?}; it may be trim_horizon, latest, a time or sequence numbers")))),
        Err(_) => Ok(Start::Timestamp(time(value, "start")?)),
    }
}

fn end_of(value: &Bound<'_, PyAny>) -> PyResult<End> {
    match value.extract::<&str>() {
        Ok("latest") => Ok(End::Latest),
        Ok(other) => Err(raise(Error::config(format!("`end` is {other:?}; it may be latest or a time, or None for no end")))),
        Err(_) => Ok(End::Timestamp(time(value, "end")?)),
    }
}

fn policy(name: &str) -> PyResult<OnExpired> {
    match name {
        "error" => Ok(OnExpired::Error),
        "trim_horizon" => Ok(OnExpired::TrimHorizon),
        other => Err(raise(Error::config(format!("`on_expired` is {other:?}; it may be error or trim_horizon")))),
    }
}
