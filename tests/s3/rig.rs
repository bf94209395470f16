//! A store on loopback, and buckets of their own for every test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use thalweg::connector::s3::S3;

#[path = "../support/aws.rs"]
mod aws;
use aws::Aws;
pub use aws::REQUIRED;

/// What all tests share.
pub struct Rig {
    aws: Aws,
    buckets: AtomicUsize,
}

impl Rig {
    /// Starts the store, or says why it cannot be had.
    pub fn start() -> Result<Rig, String> {
        Ok(Rig { aws: Aws::start()?, buckets: AtomicUsize::new(0) })
    }

    /// Ends the store.
    pub fn end(&self) {
        self.aws.end();
    }

    /// What is at `url` in this store.
    pub fn at(&self, url: &str) -> S3 {
        let store = S3::new(url).set("endpoint_url", format!("http://{}", self.aws.address)).set("allow_http", "true");
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
        let mut connection = TcpStream::connect(&self.aws.address).unwrap();
        let length = body.len();
        write!(
            connection,
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.aws.address
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}
