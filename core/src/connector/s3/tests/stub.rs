//! A store on loopback that keeps objects in memory, answers as S3 does, and fails when it is told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::connector::s3::S3;

pub const BUCKET: &str = "lake";
pub const KEY: &str = "AKIAEXAMPLE";
pub const SECRET: &str = "hunter2";

#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Requests, as `PUT key` or `POST key?uploads`.
    pub requests: Vec<String>,
    /// What the next requests that begin so are answered, instead of what they ask for.
    pub faults: Vec<(&'static str, u16)>,
    begun: u32,
}

/// A running store.
pub struct Stub {
    address: String,
    store: Arc<Mutex<Store>>,
}

impl Stub {
    pub fn start() -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let store: Arc<Mutex<Store>> = Arc::default();
        let shared = Arc::clone(&store);
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let store = Arc::clone(&shared);
                std::thread::spawn(move || serve(&client, &store));
            }
        });
        Stub { address, store }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// What is at `url` here, for someone who has the keys.
    pub fn at(&self, url: &str) -> S3 {
        self.without_keys(url).set("access_key", KEY).set("secret_key", SECRET)
    }

    pub fn without_keys(&self, url: &str) -> S3 {
        let endpoint = format!("http://{}", self.address);
        S3::new(url).set("endpoint_url", endpoint).set("allow_http", "true").set("region", "eu-west-1").set("max_retries", "2")
    }

    pub fn keys(&self) -> Vec<String> {
        self.uploads_and_keys().1
    }

    /// How many uploads are under way, and the objects there are.
    pub fn uploads_and_keys(&self) -> (usize, Vec<String>) {
        let store = self.store();
        (store.uploads.len(), store.objects.keys().cloned().collect())
    }
}

/// An answer: status, headers beside its length, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

struct Request {
    method: String,
    /// The key in the bucket.
    key: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn query(&self, name: &str) -> Option<String> {
        let value = |pair: &str| pair.split_once('=').map_or((pair, ""), |pair| pair).1.to_owned();
        self.query.split('&').find(|pair| pair.split('=').next() == Some(name)).map(value).map(|text| unescaped(&text))
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = behind.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).ok());
        (rest, _) = match (first, hex) {
            (b'%', Some(byte)) => (&behind[2..], bytes.push(byte)),
            _ => (behind, bytes.push(*first)),
        };
    }
    String::from_utf8(bytes).unwrap()
}

fn serve(client: &TcpStream, store: &Mutex<Store>) {
    let mut reader = BufReader::new(client);
    while let Some((bucket, request)) = read(&mut reader) {
        let (status, headers, body) = answer(&bucket, &request, &mut store.lock().unwrap());
        let mut head = format!("HTTP/1.1 {status} Answer\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
        let mut client = client;
        let body = if request.method == "HEAD" { &[][..] } else { &body };
        if client.write_all(head.as_bytes()).and_then(|()| client.write_all(body)).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<(String, Request)> {
    let mut line = String::new();
    let mut next = |reader: &mut dyn BufRead| {
        line.clear();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    while let Some(header) = next(reader).filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    Some((bucket.to_owned(), Request { method, key: unescaped(key), query: query.to_owned(), headers, body }))
}

fn failure(status: u16, code: &str, message: &str, more: &str) -> Answer {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>");
    (status, Vec::new(), text.into_bytes())
}

fn answer(bucket: &str, request: &Request, store: &mut Store) -> Answer {
    let Request { method, key, query, .. } = request;
    store.requests.push(if query.is_empty() { format!("{method} {key}") } else { format!("{method} {key}?{query}") });
    let asked = format!("{method} {key}?{query}");
    if let Some(place) = store.faults.iter().position(|(begins, _)| asked.starts_with(begins)) {
        let (_, status) = store.faults.remove(place);
        return failure(status, "InternalError", "We encountered an internal error. Please try again.", "");
    }
    let signature = request.headers.get("authorization").cloned().unwrap_or_default();
    if !signature.contains(&format!("Credential={KEY}/")) {
        let token = request.headers.get("x-amz-security-token").cloned().unwrap_or_default();
        let more = format!("<StringToSign>{signature} {token}</StringToSign>");
        return failure(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", &more);
    }
    if bucket != BUCKET {
        return failure(404, "NoSuchBucket", "The specified bucket does not exist", "");
    }
    match (method.as_str(), request.query("uploadId"), request.query("partNumber")) {
        ("GET", None, _) if query.contains("list-type=2") => list(request, store),
        ("GET" | "HEAD", None, _) => get(request, store),
        ("PUT", None, _) => {
            store.objects.insert(key.clone(), request.body.clone());
            (200, vec![("etag", tag(&request.body))], Vec::new())
        }
        ("POST", None, _) => {
            store.begun += 1;
            let id = format!("upload-{}", store.begun);
            store.uploads.insert(id.clone(), BTreeMap::new());
            let text = format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            (200, Vec::new(), text.into_bytes())
        }
        ("PUT", Some(id), Some(number)) => {
            store.uploads.get_mut(&id).unwrap().insert(number.parse().unwrap(), request.body.clone());
            (200, vec![("etag", tag(&request.body))], Vec::new())
        }
        ("POST", Some(id), _) => {
            let whole: Vec<u8> = store.uploads.remove(&id).unwrap().into_values().flatten().collect();
            let text = format!("<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>", tag(&whole));
            store.objects.insert(key.clone(), whole);
            (200, Vec::new(), text.into_bytes())
        }
        ("DELETE", Some(id), _) => {
            store.uploads.remove(&id);
            (204, Vec::new(), Vec::new())
        }
        _ => failure(405, "MethodNotAllowed", &asked, ""),
    }
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}-{}\"", bytes.len(), bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>())
}

fn get(request: &Request, store: &Store) -> Answer {
    let Some(object) = store.objects.get(&request.key) else { return failure(404, "NoSuchKey", "The specified key does not exist.", "") };
    if request.headers.get("if-match").is_some_and(|wanted| *wanted != tag(object)) {
        return failure(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", "");
    }
    let mut headers = vec![("etag", tag(object)), ("last-modified", "Fri, 27 Nov 2026 12:00:00 GMT".to_owned())];
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return (200, headers, object.clone()) };
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let last = last.min(object.len() - 1);
    headers.push(("content-range", format!("bytes {first}-{last}/{}", object.len())));
    (206, headers, object[first..=last].to_vec())
}

fn list(request: &Request, store: &Store) -> Answer {
    let prefix = request.query("prefix").unwrap_or_default();
    let mut text = format!("<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>");
    let mut folders = std::collections::BTreeSet::new();
    for (key, object) in store.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        match key[prefix.len()..].split_once('/') {
            Some((folder, _)) => _ = folders.insert(format!("{prefix}{folder}/")),
            None => {
                let (size, tag) = (object.len(), tag(object).replace('"', "&quot;"));
                let _ = write!(
                    text,
                    "<Contents><Key>{key}</Key><LastModified>2026-11-27T12:00:00.000Z</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>"
                );
            }
        }
    }
    for folder in folders {
        let _ = write!(text, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    text.push_str("</ListBucketResult>");
    (200, Vec::new(), text.into_bytes())
}
