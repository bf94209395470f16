//! A store on loopback, and buckets of their own for every test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use thalweg::connector::s3::S3;

/// Set where tests that need services may not be left out.
pub const REQUIRED: &str = "THALWEG_REQUIRE_SERVICES";

/// What all tests share.
pub struct Rig {
    address: String,
    service: Mutex<Child>,
    buckets: AtomicUsize,
}

impl Rig {
    /// Starts the store, or says why it cannot be had.
    pub fn start() -> Result<Rig, String> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services/s3");
        let mut command = Command::new(script);
        command.arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut service = command.spawn().map_err(|error| format!("tests/services/s3 does not start: {error}"))?;
        let output = service.stdout.take().ok_or("no standard output")?;
        let mut address = None;
        for line in BufReader::new(output).lines() {
            let line = line.map_err(|error| error.to_string())?;
            if let Some(endpoint) = line.strip_prefix("endpoint=http://") {
                address = Some(endpoint.to_owned());
            }
            if line == "ready" {
                break;
            }
        }
        let address = address.ok_or("tests/services/s3 has ended; what it said is above")?;
        Ok(Rig { address, service: Mutex::new(service), buckets: AtomicUsize::new(0) })
    }

    /// Ends the store.
    pub fn end(&self) {
        let mut service = self.service.lock().unwrap();
        service.stdin = None;
        let _ = service.wait();
    }

    /// What is at `url` in this store.
    pub fn at(&self, url: &str) -> S3 {
        let store = S3::new(url).set("endpoint_url", format!("http://{}", self.address)).set("allow_http", "true");
        store.set("region", "us-east-1").set("access_key", "test").set("secret_key", "hunter2")
    }

    /// A new bucket.
    pub fn bucket(&self) -> String {
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, SeqCst));
        self.ask("PUT", &format!("/{bucket}"), "");
        bucket
    }

    pub fn put(&self, bucket: &str, key: &str, text: &str) {
        self.ask("PUT", &format!("/{bucket}/{key}"), text);
    }

    /// The bucket's objects, as XML.
    pub fn list(&self, bucket: &str) -> String {
        self.ask("GET", &format!("/{bucket}?list-type=2"), "")
    }

    /// The uploads to the bucket that were begun and not ended, as XML.
    pub fn uploads(&self, bucket: &str) -> String {
        self.ask("GET", &format!("/{bucket}?uploads"), "")
    }

    /// One request; returns the answer.
    fn ask(&self, method: &str, target: &str, body: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            connection,
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}
