//! Kinesis and DynamoDB on loopback, streams of their own for every test, and what is in them, without AWS's client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thalweg::connector::kinesis::KinesisSink;

#[path = "../support/aws.rs"]
mod aws;
use aws::Aws;
pub use aws::REQUIRED;

pub const REGION: &str = "eu-west-1";
pub const KEY: &str = "AKIAEXAMPLE";
pub const SECRET: &str = "hunter2";

/// What all tests share.
pub struct Rig {
    aws: Aws,
    streams: AtomicUsize,
}

/// A record as the service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub shard: String,
    pub sequence: String,
    pub key: String,
    pub data: Vec<u8>,
}

impl Record {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap()
    }
}

impl Rig {
    /// Starts the services, or says why they cannot be had.
    pub fn start() -> Result<Rig, String> {
        Ok(Rig { aws: Aws::start()?, streams: AtomicUsize::new(0) })
    }

    /// Ends them.
    pub fn end(&self) {
        self.aws.end();
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.aws.address)
    }

    /// A name that no other test has.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.streams.fetch_add(1, SeqCst))
    }

    /// A new stream.
    pub fn stream(&self, shards: usize) -> String {
        let stream = self.name("stream");
        self.ask("Kinesis_20131202.CreateStream", &json!({"StreamName": stream, "ShardCount": shards})).unwrap();
        stream
    }

    /// A sink to a stream here.
    pub fn sink(&self, stream: &str) -> KinesisSink {
        at(KinesisSink::new(stream), &self.endpoint())
    }

    /// The shards of a stream, open and closed, in the order in which they were made.
    pub fn shards(&self, stream: &str) -> Vec<String> {
        let answer = self.ask("Kinesis_20131202.ListShards", &json!({"StreamName": stream})).unwrap();
        answer["Shards"].as_array().unwrap().iter().map(|shard| shard["ShardId"].as_str().unwrap().to_owned()).collect()
    }

    /// Everything in a stream, shard by shard.
    pub fn records(&self, stream: &str) -> Vec<Record> {
        let shards = self.shards(stream);
        shards.iter().flat_map(|shard| self.records_of(stream, shard)).collect()
    }

    /// Everything in a shard.
    pub fn records_of(&self, stream: &str, shard: &str) -> Vec<Record> {
        let place = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let mut iterator = self.ask("Kinesis_20131202.GetShardIterator", &place).unwrap()["ShardIterator"].clone();
        let mut records = Vec::new();
        loop {
            let answer = self.ask("Kinesis_20131202.GetRecords", &json!({"ShardIterator": iterator, "Limit": 10_000})).unwrap();
            let some = answer["Records"].as_array().unwrap();
            records.extend(some.iter().map(|record| Record {
                shard: shard.to_owned(),
                sequence: record["SequenceNumber"].as_str().unwrap().to_owned(),
                key: record["PartitionKey"].as_str().unwrap().to_owned(),
                data: STANDARD.decode(record["Data"].as_str().unwrap()).unwrap(),
            }));
            iterator = answer["NextShardIterator"].clone();
            if some.is_empty() || iterator.is_null() {
                return records;
            }
        }
    }

    /// One request, such as `Kinesis_20131202.PutRecord`; an answer that is none of success is an error.
    pub fn ask(&self, action: &str, body: &Value) -> Result<Value, String> {
        match ask(&self.aws.address, action, &body.to_string()) {
            Ok(answer) => Ok(serde_json::from_str(&answer).unwrap_or(Value::Null)),
            Err((status, answer)) => Err(format!("{status}: {answer}")),
        }
    }
}

/// One request to the service at `HOST:PORT`; returns the body of its answer, or the status and body of one that is none of success.
pub fn ask(address: &str, action: &str, body: &str) -> Result<String, (u16, String)> {
    let service = if action.starts_with("Kinesis") { "kinesis" } else { "dynamodb" };
    let version = if service == "kinesis" { "1.1" } else { "1.0" };
    let mut connection = TcpStream::connect(address).unwrap();
    // Nobody checks the signature; its scope says which service is meant.
    let scope = format!("Credential={KEY}/20261127/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: {action}\r\nAuthorization: AWS4-HMAC-SHA256 {scope}\r\n\
         Content-Type: application/x-amz-json-{version}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body.as_bytes())).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    match head.split(' ').nth(1).and_then(|status| status.parse().ok()) {
        Some(200) => Ok(body.to_owned()),
        status => Err((status.unwrap_or(500), body.to_owned())),
    }
}

/// A sink that finds the service at an address of this machine.
pub fn at(sink: KinesisSink, endpoint: &str) -> KinesisSink {
    let sink = sink.set("endpoint_url", endpoint).set("allow_http", "true").set("region", REGION);
    sink.set("access_key", KEY).set("secret_key", SECRET)
}
