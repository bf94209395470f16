//! Numbers in streams, and queries that read them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thalweg::connector::kinesis::{End, Kinesis, KinesisSink};
use thalweg::{Format, Query, Stream, Table};

use crate::double::Double;
use crate::rig::{KEY, REGION, Rig, SECRET, ask, at};

#[path = "../support/live.rs"]
mod queries;
pub use queries::{Live, column, until, values};

/// How many partition keys numbers have: number `n` has key `n % KEYS`.
pub const KEYS: i64 = 8;

/// Where a service is.
#[derive(Debug, Clone)]
pub struct At {
    /// `HOST:PORT`.
    pub address: String,
}

impl Rig {
    /// The service that others wrote.
    pub fn moto(&self) -> At {
        At { address: self.endpoint().trim_start_matches("http://").to_owned() }
    }

    /// A double of its own.
    pub fn double(&self) -> Double {
        Double::start(&self.moto())
    }
}

impl At {
    /// A request, such as `Kinesis_20131202.PutRecord`.
    pub fn ask(&self, action: &str, body: &Value) -> Value {
        serde_json::from_str(&ask(&self.address, action, &body.to_string()).unwrap()).unwrap_or(Value::Null)
    }

    /// A new stream.
    pub fn stream(&self, rig: &Rig, shards: usize) -> String {
        let stream = rig.name("stream");
        self.ask("Kinesis_20131202.CreateStream", &json!({"StreamName": stream, "ShardCount": shards}));
        stream
    }

    /// Puts a record that belongs where this hash key does.
    pub fn put(&self, stream: &str, (key, hash): (&str, u128), data: &[u8]) {
        let hash = hash.to_string();
        let record = json!({"StreamName": stream, "PartitionKey": key, "ExplicitHashKey": hash, "Data": STANDARD.encode(data)});
        self.ask("Kinesis_20131202.PutRecord", &record);
    }

    /// Puts a record to a shard.
    pub fn put_to(&self, stream: &str, shard: &str, data: &[u8]) {
        self.put(stream, ("k", self.ranges(stream)[shard].0), data);
    }

    /// Puts `{"a": n}` for each number. Their keys are spread evenly.
    pub fn put_numbers(&self, stream: &str, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            let (key, hash) = (number % KEYS, u128::MAX / KEYS as u128 * (number % KEYS) as u128);
            self.put(stream, (&format!("key-{key}"), hash), format!("{{\"a\": {number}}}").as_bytes());
        }
    }

    /// The shards of a stream in the order in which they were made.
    pub fn shards(&self, stream: &str) -> Vec<String> {
        self.ranges(stream).into_keys().collect()
    }

    /// The records of a shard: sequence numbers and data.
    pub fn records(&self, stream: &str, shard: &str) -> Vec<(String, Vec<u8>)> {
        let place = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let iterator = self.ask("Kinesis_20131202.GetShardIterator", &place)["ShardIterator"].clone();
        let answer = self.ask("Kinesis_20131202.GetRecords", &json!({"ShardIterator": iterator, "Limit": 10_000}));
        let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
        let record = |record: &Value| (text(record, "SequenceNumber"), STANDARD.decode(text(record, "Data")).unwrap());
        answer["Records"].as_array().unwrap().iter().map(record).collect()
    }

    /// The hash keys of shards.
    fn ranges(&self, stream: &str) -> BTreeMap<String, (u128, u128)> {
        let answer = self.ask("Kinesis_20131202.ListShards", &json!({"StreamName": stream}));
        let key = |range: &Value, name: &str| range[name].as_str().unwrap().parse().unwrap();
        let range = |shard: &Value| {
            let range = &shard["HashKeyRange"];
            (shard["ShardId"].as_str().unwrap().to_owned(), (key(range, "StartingHashKey"), key(range, "EndingHashKey")))
        };
        answer["Shards"].as_array().unwrap().iter().map(range).collect()
    }

    /// Splits a shard in the middle.
    pub fn split(&self, stream: &str, shard: &str) {
        let (start, end) = self.ranges(stream)[shard];
        let middle = (start + (end - start) / 2 + 1).to_string();
        self.ask("Kinesis_20131202.SplitShard", &json!({"StreamName": stream, "ShardToSplit": shard, "NewStartingHashKey": middle}));
    }

    /// Merges two shards that are neighbours.
    pub fn merge(&self, stream: &str, shard: &str, other: &str) {
        let merge = json!({"StreamName": stream, "ShardToMerge": shard, "AdjacentShardToMerge": other});
        self.ask("Kinesis_20131202.MergeShards", &merge);
    }

    /// Puts `{"a":n}` for each number, many to a record.
    pub fn write_aggregated(&self, stream: &str, numbers: Range<i64>) {
        let numbers = Int64Array::from_iter_values(numbers);
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(numbers)]).unwrap();
        let sink = at(KinesisSink::new(stream), &format!("http://{}", self.address)).partition_key(["a"]).aggregate(true);
        Query::new().sink(&Stream::from_arrow([batch]), sink).run().unwrap();
    }

    /// A read that finds the services here.
    pub fn at(&self, read: Kinesis) -> Kinesis {
        let read = read.set("endpoint_url", format!("http://{}", self.address)).set("allow_http", "true").set("region", REGION);
        read.set("access_key", KEY).set("secret_key", SECRET)
    }

    /// The numbers of a stream, as they come.
    pub fn numbers_of(&self, stream: &str) -> Kinesis {
        self.at(Kinesis::new(stream)).format(Format::Ndjson, schema())
    }

    /// The numbers that a stream has now.
    pub fn numbers(&self, stream: &str) -> Kinesis {
        self.numbers_of(stream).end(End::Latest)
    }
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
}

/// Reads to the end.
pub fn collect(read: Kinesis) -> Table {
    Stream::read_kinesis(read).unwrap().collect().unwrap()
}

/// What a read fails with.
pub fn failure(read: Kinesis) -> String {
    match Stream::read_kinesis(read).and_then(|stream| stream.collect()) {
        Ok(table) => panic!("{} rows came", table.num_rows()),
        Err(error) => format!("{error} [{}, {}]", error.kind().code(), if error.is_retriable() { "retriable" } else { "final" }),
    }
}

/// Reads in the background.
pub fn reading(read: Kinesis) -> Live {
    Live::start(&Stream::read_kinesis(read).unwrap(), |_| {})
}

/// What a read without an end fails with.
pub fn failure_of(read: Kinesis) -> String {
    let mut live = reading(read);
    live.query.wait().unwrap_err().to_string()
}

/// The last column as numbers.
pub fn last_column(batch: &RecordBatch) -> Vec<i64> {
    batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().values().to_vec()
}
