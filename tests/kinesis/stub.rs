//! A service on loopback that takes records as Kinesis does, and fails when it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thalweg::connector::kinesis::KinesisSink;

use crate::rig::at;

pub const STREAM: &str = "payments";

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Fault {
    /// These records of it are not taken, for this reason.
    Some(fn(usize) -> bool, &'static str),
    /// None is taken: status, code, message.
    All(u16, &'static str, &'static str),
    /// All are taken, and the connection is cut off instead of an answer.
    Silence,
}

/// A record as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    pub data: Vec<u8>,
    pub key: String,
    pub hash: Option<String>,
}

/// A shard: its name, the range of its hash keys, whether it is closed.
pub type Shard = (&'static str, u128, u128, bool);

/// The shard that there is at first.
pub const WHOLE: Shard = ("shardId-000000000000", 0, u128::MAX, false);

#[derive(Default)]
pub struct Service {
    /// What was taken, and by which shard; by the first if it has no hash key.
    pub taken: Vec<Sent>,
    pub taken_by: Vec<&'static str>,
    pub shards: Vec<Shard>,
    /// Every request, with what it asked for.
    pub requests: Vec<Vec<Sent>>,
    /// Those that were asked for anything else than to put records.
    pub others: Vec<String>,
    /// How the next requests are answered, the last one first; all records of others are taken.
    pub faults: Vec<Fault>,
    /// How all are, if not taken.
    pub always: Option<Fault>,
    /// What describing the stream fails with.
    pub describe: Option<Fault>,
    pub status: Option<&'static str>,
}

/// A running service.
pub struct Stub {
    address: String,
    service: Arc<Mutex<Service>>,
}

impl Stub {
    pub fn start(faults: impl IntoIterator<Item = Fault>) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut faults: Vec<Fault> = faults.into_iter().collect();
        faults.reverse();
        let service = Arc::new(Mutex::new(Service { faults, shards: vec![WHOLE], ..Service::default() }));
        let shared = Arc::clone(&service);
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let service = Arc::clone(&shared);
                std::thread::spawn(move || serve(&client, &service));
            }
        });
        Stub { address, service }
    }

    pub fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }

    /// A sink to the stream here, whose client does not repeat requests by itself.
    pub fn sink(&self) -> KinesisSink {
        at(KinesisSink::new(STREAM), &format!("http://{}", self.address)).set("max_attempts", "1")
    }
}

fn serve(client: &TcpStream, service: &Mutex<Service>) {
    let mut reader = BufReader::new(client);
    while let Some((headers, body)) = read(&mut reader) {
        let Some((status, answer)) = answer(&headers, &body, &mut service.lock().unwrap()) else { return };
        let body = answer.to_string();
        let head =
            format!("HTTP/1.1 {status} Answer\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut client = client;
        if client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<(BTreeMap<String, String>, Value)> {
    let mut line = String::new();
    let mut next = |reader: &mut dyn BufRead| {
        line.clear();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    next(reader)?;
    let mut headers = BTreeMap::new();
    while let Some(header) = next(reader).filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((headers, serde_json::from_slice(&body).ok()?))
}

/// Status and body, or nothing to cut the connection off.
fn answer(headers: &BTreeMap<String, String>, body: &Value, service: &mut Service) -> Option<(u16, Value)> {
    let action = headers["x-amz-target"].trim_start_matches("Kinesis_20131202.");
    let failed = |status: u16, code: &str, message: &str| Some((status, json!({"__type": code, "message": message})));
    assert_eq!(body["StreamName"], STREAM);
    if action != "PutRecords" {
        service.others.push(action.to_owned());
        return match (action, &service.describe) {
            (_, Some(Fault::All(status, code, message))) => failed(*status, code, message),
            ("DescribeStreamSummary", _) => {
                let status = service.status.unwrap_or("ACTIVE");
                let summary = json!({
                    "StreamName": STREAM, "StreamARN": "arn:aws:kinesis:eu-west-1:1:stream/payments", "StreamStatus": status,
                    "RetentionPeriodHours": 24, "StreamCreationTimestamp": 0, "EnhancedMonitoring": [], "OpenShardCount": 1,
                });
                Some((200, json!({"StreamDescriptionSummary": summary})))
            }
            ("ListShards", _) => Some((200, json!({"Shards": service.shards.iter().map(described).collect::<Vec<_>>()}))),
            _ => failed(400, "UnknownOperationException", action),
        };
    }
    let sent: Vec<Sent> = body["Records"].as_array().unwrap().iter().map(sent).collect();
    service.requests.push(sent.clone());
    let mut results = Vec::new();
    let fault = service.faults.pop().or_else(|| service.always.clone());
    for (place, record) in sent.into_iter().enumerate() {
        match &fault {
            Some(Fault::Some(fails, code)) if fails(place) => {
                results.push(json!({"ErrorCode": code, "ErrorMessage": format!("Rate exceeded for shard {place}\nand {KEY_LINE}")}));
            }
            Some(Fault::All(..)) => {}
            _ => {
                let hash: u128 = record.hash.as_ref().map_or(0, |hash| hash.parse().unwrap());
                let takes = |shard: &&Shard| !shard.3 && (shard.1..=shard.2).contains(&hash);
                let shard = service.shards.iter().find(takes).unwrap().0;
                service.taken.push(record);
                service.taken_by.push(shard);
                results.push(json!({"SequenceNumber": service.taken.len().to_string(), "ShardId": shard}));
            }
        }
    }
    match fault {
        Some(Fault::All(status, code, message)) => failed(status, code, message),
        Some(Fault::Silence) => None,
        _ => Some((200, json!({"FailedRecordCount": 0, "Records": results}))),
    }
}

fn described((id, start, end, closed): &Shard) -> Value {
    let mut range = json!({"StartingSequenceNumber": "0"});
    if *closed {
        range["EndingSequenceNumber"] = json!("9");
    }
    let hashes = json!({"StartingHashKey": start.to_string(), "EndingHashKey": end.to_string()});
    json!({"ShardId": id, "HashKeyRange": hashes, "SequenceNumberRange": range})
}

/// What no error may show.
const KEY_LINE: &str = "x-amz-security-token:hunter2";

fn sent(record: &Value) -> Sent {
    let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
    Sent { data, key: record["PartitionKey"].as_str().unwrap().to_owned(), hash: record["ExplicitHashKey"].as_str().map(str::to_owned) }
}
