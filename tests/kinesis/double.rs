//! A double of Kinesis, for what moto does otherwise than Amazon: a shard that was split or merged keeps its records, ends, and names its
//! children; sequence numbers rise over all shards; consumers with enhanced fan-out are pushed records in the frames of Amazon's event
//! streams. It fails when it is told to. What is asked of DynamoDB goes to moto.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use thalweg::millis;
use thalweg::time::SystemClock;

use crate::live::At;
use crate::rig::ask;

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// A status and a code.
    Code(u16, &'static str),
    /// The connection is cut off.
    Cut,
}

/// A running double.
pub struct Double {
    pub way: Way,
    shared: Arc<Shared>,
}

struct Shared {
    /// `HOST:PORT` of moto.
    moto: String,
    state: Mutex<State>,
    /// How many events a subscription lasts, and how many were made.
    events: AtomicUsize,
    subscriptions: AtomicUsize,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<String, Vec<Shard>>,
    sequence: u64,
    /// How the next requests of an action are answered, the last one first.
    faults: BTreeMap<&'static str, Vec<Fault>>,
    /// How often each action was asked for.
    asked: BTreeMap<String, usize>,
}

#[derive(Clone)]
struct Shard {
    id: String,
    parents: Vec<String>,
    range: (u128, u128),
    /// The sequence number at which it ended.
    end: Option<u64>,
    records: Vec<Value>,
}

type Answer = Result<Value, (u16, &'static str)>;

impl Double {
    pub fn start(moto: &At) -> Double {
        let shared = Arc::new(Shared {
            moto: moto.address.clone(),
            state: Mutex::default(),
            events: AtomicUsize::new(usize::MAX),
            subscriptions: AtomicUsize::new(0),
        });
        Double { way: Way::start(&shared), shared }
    }

    /// Where it is.
    pub fn at(&self) -> &At {
        &self.way.at
    }

    /// Another way to the same streams, which can be cut off on its own.
    pub fn another_way(&self) -> Way {
        Way::start(&self.shared)
    }

    /// The next requests of an action fail so, in this order.
    pub fn fail(&self, action: &'static str, faults: impl IntoIterator<Item = Fault>) {
        let mut faults: Vec<Fault> = faults.into_iter().collect();
        faults.reverse();
        self.shared.state().faults.insert(action, faults);
    }

    /// How often an action was asked for.
    pub fn asked(&self, action: &str) -> usize {
        self.shared.state().asked.get(action).copied().unwrap_or(0)
    }

    /// Subscriptions end after so many events.
    pub fn end_after(&self, events: usize) {
        self.shared.events.store(events, SeqCst);
    }

    pub fn subscriptions(&self) -> usize {
        self.shared.subscriptions.load(SeqCst)
    }
}

/// A way to a double.
pub struct Way {
    pub at: At,
    is_cut: Arc<AtomicBool>,
}

impl Way {
    fn start(shared: &Arc<Shared>) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = At { address: listener.local_addr().unwrap().to_string() };
        let is_cut = Arc::new(AtomicBool::new(false));
        let (shared, cut) = (Arc::clone(shared), Arc::clone(&is_cut));
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, cut) = (Arc::clone(&shared), Arc::clone(&cut));
                std::thread::spawn(move || {
                    // A client that goes away in the middle is none of our business.
                    let _ = shared.serve(client, &cut);
                });
            }
        });
        Way { at, is_cut }
    }

    /// Lets nothing through, or again everything.
    pub fn cut(&self, cut: bool) {
        self.is_cut.store(cut, SeqCst);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers the requests of one connection.
    fn serve(&self, client: TcpStream, is_cut: &AtomicBool) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        while let Some((target, body, is_last)) = request(&mut reader)? {
            let action = target.split('.').next_back().unwrap_or_default().to_owned();
            let fault = {
                let mut state = self.state();
                *state.asked.entry(action.clone()).or_default() += 1;
                state.faults.get_mut(action.as_str()).and_then(Vec::pop)
            };
            match fault {
                _ if is_cut.load(SeqCst) => return Ok(()),
                Some(Fault::Cut) => return Ok(()),
                Some(Fault::Code(status, code)) => answer(&mut client, status, &failed(code))?,
                None if target.starts_with("DynamoDB") => match ask(&self.moto, &target, &body) {
                    Ok(body) => answer(&mut client, 200, &body)?,
                    Err((status, body)) => answer(&mut client, status, &body)?,
                },
                None if action == "SubscribeToShard" => return self.push_records(&mut client, &serde_json::from_str(&body)?, is_cut),
                None => match self.state().answer(&action, &serde_json::from_str(&body)?) {
                    Ok(body) => answer(&mut client, 200, &body.to_string())?,
                    Err((status, code)) => answer(&mut client, status, &failed(code))?,
                },
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Pushes the records of a shard, as they come.
    fn push_records(&self, client: &mut TcpStream, asked: &Value, is_cut: &AtomicBool) -> std::io::Result<()> {
        self.subscriptions.fetch_add(1, SeqCst);
        let mut place = asked["StartingPosition"].clone();
        place["StreamName"] = json!(asked["ConsumerARN"].as_str().unwrap_or_default().split('/').nth(1));
        place["ShardId"] = asked["ShardId"].clone();
        place["ShardIteratorType"] = place["Type"].clone();
        place["StartingSequenceNumber"] = place["SequenceNumber"].clone();
        let mut iterator = match self.state().answer("GetShardIterator", &place) {
            Ok(told) => told["ShardIterator"].clone(),
            Err((status, code)) => return answer(client, status, &failed(code)),
        };
        write!(client, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        push(client, &frame("initial-response", b"{}"))?;
        for _ in 0..self.events.load(SeqCst) {
            if is_cut.load(SeqCst) {
                return Ok(());
            }
            let Ok(told) = self.state().answer("GetRecords", &json!({"ShardIterator": iterator, "Limit": 7})) else { break };
            let mut event = told.clone();
            event["ContinuationSequenceNumber"] = json!(iterator.as_str().unwrap().rsplit('|').next());
            if let Some(last) = told["Records"].as_array().and_then(|records| records.last()) {
                event["ContinuationSequenceNumber"] = last["SequenceNumber"].clone();
            }
            iterator = told["NextShardIterator"].clone();
            push(client, &frame("SubscribeToShardEvent", event.to_string().as_bytes()))?;
            if iterator.is_null() {
                break;
            }
            SystemClock::shared().sleep(millis(20));
        }
        client.write_all(b"0\r\n\r\n")
    }
}

impl State {
    fn answer(&mut self, action: &str, body: &Value) -> Answer {
        let name = body["StreamName"].as_str().map(str::to_owned);
        let name = name.or_else(|| Some(body["StreamARN"].as_str()?.split('/').nth(1)?.to_owned()));
        let name = name.or_else(|| Some(body["ShardIterator"].as_str()?.split('|').next()?.to_owned())).unwrap_or_default();
        if action == "CreateStream" {
            let count = body["ShardCount"].as_u64().unwrap();
            let shards = (0..count).map(|at| shard(at as usize, Vec::new(), slice(u128::from(at), u128::from(count)))).collect();
            self.streams.insert(name, shards);
            return Ok(json!({}));
        }
        let arn = format!("arn:aws:kinesis:eu-west-1:0:stream/{name}");
        let Some(shards) = self.streams.get_mut(&name) else { return Err((400, "ResourceNotFoundException")) };
        let of = |shards: &[Shard], id: &Value| shards.iter().position(|shard| shard.id == *id).ok_or((400, "ResourceNotFoundException"));
        match action {
            "ListShards" => Ok(json!({"Shards": shards.iter().map(listed).collect::<Vec<_>>()})),
            "PutRecord" => {
                self.sequence += 1;
                Ok(put(shards, body, self.sequence))
            }
            "PutRecords" => {
                let records = body["Records"].as_array().unwrap().iter();
                let put = records.map(|record| {
                    self.sequence += 1;
                    put(shards, record, self.sequence)
                });
                Ok(json!({"FailedRecordCount": 0, "Records": put.collect::<Vec<_>>()}))
            }
            "SplitShard" => {
                let middle: u128 = body["NewStartingHashKey"].as_str().unwrap().parse().unwrap();
                let parent = of(shards, &body["ShardToSplit"])?;
                let (range, id) = (shards[parent].range, vec![shards[parent].id.clone()]);
                self.sequence += 1;
                shards[parent].end = Some(self.sequence);
                shards.push(shard(shards.len(), id.clone(), (range.0, middle - 1)));
                shards.push(shard(shards.len(), id, (middle, range.1)));
                Ok(json!({}))
            }
            "MergeShards" => {
                let parents = [of(shards, &body["ShardToMerge"])?, of(shards, &body["AdjacentShardToMerge"])?];
                self.sequence += 1;
                parents.iter().for_each(|parent| shards[*parent].end = Some(self.sequence));
                let [one, other] = parents.map(|parent| shards[parent].clone());
                let range = (one.range.0.min(other.range.0), one.range.1.max(other.range.1));
                shards.push(shard(shards.len(), vec![one.id, other.id], range));
                Ok(json!({}))
            }
            "GetShardIterator" => {
                let shard = &shards[of(shards, &body["ShardId"])?];
                Ok(json!({"ShardIterator": format!("{name}|{}|{}", shard.id, place(shard, body, self.sequence))}))
            }
            "GetRecords" => Ok(get(shards, body)),
            "DeleteStream" => {
                self.streams.remove(&name);
                Ok(json!({}))
            }
            "DescribeStreamSummary" => Ok(json!({"StreamDescriptionSummary": {
                "StreamName": name, "StreamARN": arn, "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24,
                "StreamCreationTimestamp": 0, "EnhancedMonitoring": [], "OpenShardCount": shards.len(),
            }})),
            "RegisterStreamConsumer" | "DescribeStreamConsumer" => {
                let consumer = json!({
                    "ConsumerName": body["ConsumerName"], "ConsumerARN": format!("{arn}/consumer"), "ConsumerStatus": "ACTIVE",
                    "ConsumerCreationTimestamp": 0, "StreamARN": arn,
                });
                Ok(json!({"Consumer": consumer, "ConsumerDescription": consumer}))
            }
            _ => Err((400, "UnknownOperationException")),
        }
    }
}

/// Puts a record where its explicit hash key says, else into the first shard.
fn put(shards: &mut [Shard], record: &Value, sequence: u64) -> Value {
    let hash: u128 = record["ExplicitHashKey"].as_str().map_or(0, |hash| hash.parse().unwrap());
    let takes = |shard: &&mut Shard| shard.end.is_none() && (shard.range.0..=shard.range.1).contains(&hash);
    let shard = shards.iter_mut().find(takes).unwrap();
    let (now, sequence) = (SystemClock::shared().wall() as f64 / 1e9, json!(sequence.to_string()));
    shard.records.push(json!({
        "SequenceNumber": sequence, "PartitionKey": record["PartitionKey"], "Data": record["Data"], "ApproximateArrivalTimestamp": now,
    }));
    json!({"ShardId": shard.id, "SequenceNumber": sequence})
}

/// The sequence number behind which an iterator begins.
fn place(shard: &Shard, body: &Value, newest: u64) -> u64 {
    match body["ShardIteratorType"].as_str().unwrap() {
        "TRIM_HORIZON" => 0,
        "LATEST" => newest,
        "AT_SEQUENCE_NUMBER" => number(&body["StartingSequenceNumber"]) - 1,
        "AFTER_SEQUENCE_NUMBER" => number(&body["StartingSequenceNumber"]),
        _ => {
            let time = body["Timestamp"].as_f64().unwrap();
            let before = shard.records.iter().rfind(|record| record["ApproximateArrivalTimestamp"].as_f64().unwrap() < time);
            before.map_or(0, |record| number(&record["SequenceNumber"]))
        }
    }
}

/// Records behind an iterator. At the end of a shard there is no next one, but children.
fn get(shards: &[Shard], body: &Value) -> Value {
    let iterator: Vec<&str> = body["ShardIterator"].as_str().unwrap().split('|').collect();
    let (id, behind): (&str, u64) = (iterator[1], iterator[2].parse().unwrap());
    let shard = shards.iter().find(|shard| shard.id == id).unwrap();
    let limit = body["Limit"].as_u64().unwrap_or(10_000) as usize;
    let new: Vec<&Value> = shard.records.iter().filter(|record| number(&record["SequenceNumber"]) > behind).collect();
    let some: Vec<&Value> = new.iter().copied().take(limit).collect();
    let next = some.last().map_or(behind, |record| number(&record["SequenceNumber"]));
    let mut told = json!({"Records": some, "MillisBehindLatest": (new.len() - some.len()) as i64});
    if shard.end.is_some() && some.is_empty() {
        let children = shards.iter().filter(|shard| shard.parents.iter().any(|parent| parent == id));
        let child = |shard: &Shard| json!({"ShardId": shard.id, "ParentShards": shard.parents, "HashKeyRange": range(shard)});
        told["ChildShards"] = children.map(child).collect();
    } else {
        told["NextShardIterator"] = json!(format!("{}|{id}|{next}", iterator[0]));
    }
    told
}

fn number(text: &Value) -> u64 {
    text.as_str().unwrap().parse().unwrap()
}

fn slice(at: u128, of: u128) -> (u128, u128) {
    let step = u128::MAX / of;
    (at * step + u128::from(at > 0), if at + 1 == of { u128::MAX } else { (at + 1) * step })
}

fn shard(number: usize, parents: Vec<String>, range: (u128, u128)) -> Shard {
    Shard { id: format!("shardId-{number:012}"), parents, range, end: None, records: Vec::new() }
}

fn range(shard: &Shard) -> Value {
    json!({"StartingHashKey": shard.range.0.to_string(), "EndingHashKey": shard.range.1.to_string()})
}

fn listed(shard: &Shard) -> Value {
    let mut sequence = json!({"StartingSequenceNumber": "0"});
    if let Some(end) = shard.end {
        sequence["EndingSequenceNumber"] = json!(end.to_string());
    }
    let mut told = json!({"ShardId": shard.id, "HashKeyRange": range(shard), "SequenceNumberRange": sequence});
    for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].into_iter().zip(&shard.parents) {
        told[name] = json!(parent);
    }
    told
}

fn failed(code: &str) -> String {
    json!({"__type": code, "message": "as the test asks for"}).to_string()
}

/// The next request of a connection: target, body, and whether it is the last.
fn request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, String, bool)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
    };
    let mut body = vec![0; field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let is_last = field("connection").as_deref() == Some("close");
    Ok(Some((field("x-amz-target").unwrap_or_default(), String::from_utf8_lossy(&body).into_owned(), is_last)))
}

fn answer(client: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(client, "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn push(client: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    write!(client, "{:x}\r\n", frame.len())?;
    client.write_all(frame)?;
    client.write_all(b"\r\n")
}

/// A message of an event stream: lengths and their checksum, headers, payload, checksum of all.
fn frame(event: &str, payload: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":message-type", "event"), (":event-type", event), (":content-type", "application/json")] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        // Seven is the type of a string.
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let mut frame = Vec::new();
    frame.extend_from_slice(&((16 + headers.len() + payload.len()) as u32).to_be_bytes());
    frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    frame.extend_from_slice(&checksum(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&checksum(&frame).to_be_bytes());
    frame
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}
