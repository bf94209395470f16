//! From stream to stream: payments in, what each card spends per second out, poisoned records to a stream of their own; then the sums are
//! read back and compared with what was sent.
//!
//! ```text
//! tests/services/aws start                                   # prints endpoint=URL, and the --dir to stop it with
//! cargo run --release --example kinesis -- payments totals dead URL
//! ```
//!
//! Without a URL it is AWS that is asked, in the region and by the credentials of its default chain. The three streams must be there, and be
//! empty; a local service is asked to make them. On AWS, `aws kinesis create-stream --stream-name payments --shard-count 2` does so.

#![allow(clippy::print_stdout)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg::connector::kinesis::{End, Kinesis, KinesisSink, Value};
use thalweg::{Error, Format, Query, Result, Stream, count, event_time, secs, sum, tumbling};

const PAYMENTS: i64 = 10_000;
const POISON: &str = "not a payment";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (payments, totals, dead, endpoint) = match arguments.as_slice() {
        [payments, totals, dead] => (payments, totals, dead, None),
        [payments, totals, dead, endpoint] => (payments, totals, dead, Some(endpoint.as_str())),
        _ => return Err(Error::config("give three streams, and where the service answers if it is not AWS: payments totals dead [URL]")),
    };
    if let Some(endpoint) = endpoint {
        [payments, totals, dead].into_iter().try_for_each(|stream| create(endpoint, stream))?;
    }
    let settings = settings(endpoint);
    let read = |stream: &str| settings.iter().fold(Kinesis::new(stream), |source, (name, value)| source.set(*name, *value));
    let write = |stream: &str| settings.iter().fold(KinesisSink::new(stream), |sink, (name, value)| sink.set(*name, *value));

    // In: a batch of payments, and one record that is none.
    Query::new().sink(&Stream::from_arrow([batch()?]), write(payments).partition_key(["card"])).run()?;
    let poison = RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(vec![POISON])) as ArrayRef)])?;
    Query::new().sink(&Stream::from_arrow([poison]), write(payments).value(Value::Column("text".to_owned()))).run()?;

    // Through: without `end` this would go on for ever; with `application` it would share the shards with other programs. The order of what
    // was written at once is not kept, so that rows may come late.
    let per_card = Stream::read_kinesis(read(payments).format(Format::Ndjson, schema()).end(End::Latest))?
        .event_time(event_time("ts").max_delay(secs(10)))
        .window(tumbling(secs(1)))
        .by(["card"])
        .agg([count().alias("n"), sum("amount").alias("amount")]);
    let metrics = Query::new().sink(&per_card, write(totals).partition_key(["card"])).quarantine(write(dead)).run()?;

    // Out: every payment is in one window.
    let fields = ["n", "amount"].map(|name| Field::new(name, DataType::Int64, true));
    let sums = read(totals).format(Format::Ndjson, Arc::new(Schema::new(fields.to_vec()))).end(End::Latest);
    let table = Stream::read_kinesis(sums)?.collect()?;
    let total = |column: usize| -> i64 {
        table.batches().iter().filter_map(|batch| arrow::compute::sum(batch.column(column).as_primitive::<Int64Type>())).sum()
    };
    println!("{} payments, {} windows of a card, {} dead letters", metrics.rows_in, table.num_rows(), metrics.quarantined_rows);
    assert_eq!((total(0), total(1), metrics.quarantined_rows), (PAYMENTS, (0..PAYMENTS).sum(), 1), "something is missing or double");
    Ok(())
}

/// A local service takes any credentials.
fn settings(endpoint: Option<&str>) -> Vec<(&'static str, &str)> {
    let local = |endpoint| {
        let keys = [("region", "eu-west-1"), ("access_key", "local"), ("secret_key", "local"), ("allow_http", "true")];
        [("endpoint_url", endpoint)].into_iter().chain(keys).collect()
    };
    endpoint.map_or_else(Vec::new, local)
}

/// Makes a stream of two shards in a local service, which is there at once and checks no signature.
fn create(endpoint: &str, stream: &str) -> Result<()> {
    let failed = |error| Error::io(format!("{endpoint} does not answer"), error);
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let body = format!("{{\"StreamName\":\"{stream}\",\"ShardCount\":2}}");
    let mut connection = TcpStream::connect(address).map_err(failed)?;
    write!(
        connection,
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: Kinesis_20131202.CreateStream\r\nContent-Type: application/x-amz-json-1.1\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=local/20261127/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .map_err(failed)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).map_err(failed)?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(Error::connector(format!("cannot make stream `{stream}`: {}", answer.lines().next().unwrap_or_default()))),
    }
}

fn schema() -> SchemaRef {
    let fields = [("ts", DataType::Int64), ("card", DataType::Utf8), ("amount", DataType::Int64)];
    Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec()))
}

/// Ten thousand payments of a hundred cards within ten seconds.
fn batch() -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..PAYMENTS)),
        Arc::new(StringArray::from_iter_values((0..PAYMENTS).map(|number| format!("card {}", number % 100)))),
        Arc::new(Int64Array::from_iter_values(0..PAYMENTS)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
