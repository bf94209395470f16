//! A client with the runtime that its requests run on.

use std::future::Future;

use object_store::aws::AmazonS3;
use object_store::path::Path;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{SCHEME, failure};
use crate::error::{Error, Result};

/// A connection to one bucket.
pub(super) struct Session {
    pub store: AmazonS3,
    bucket: String,
    /// What must not be shown if the store repeats it.
    secrets: Vec<String>,
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
}

impl Session {
    pub fn new(store: AmazonS3, bucket: &str, secrets: Vec<String>) -> Result<Session> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("cannot make a runtime for requests to an object store", error))?;
        Ok(Session { store, bucket: bucket.to_owned(), secrets, runtime: Some(runtime) })
    }

    /// Runs requests on this thread until `work` is done.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) inside an asynchronous runtime, which may not be kept waiting.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match &self.runtime {
            Some(runtime) if Handle::try_current().is_err() => Ok(runtime.block_on(work)),
            _ => Err(Error::config(
                "an object store is not waited for inside an asynchronous runtime; run this on a thread of its own, for example by `spawn_blocking`",
            )),
        }
    }

    /// The runtime, for requests that go on beside others.
    pub fn handle(&self) -> Result<&Handle> {
        self.runtime.as_ref().map(Runtime::handle).ok_or_else(|| Error::state("the connection to the object store is closed"))
    }

    /// What must not be shown.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// What users call an object.
    pub fn url(&self, path: &Path) -> String {
        format!("{SCHEME}{}/{path}", self.bucket)
    }

    /// The error of a request: what was being done to which object.
    pub fn failed(&self, doing: &str, path: &Path, error: object_store::Error) -> Error {
        failure::of(&format!("cannot {doing} `{}`", self.url(path)), error, &self.secrets)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Waiting for its threads would not be allowed inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A key as the client has it: its levels as they are.
pub(super) fn path_of(key: &str) -> Result<Path> {
    Path::parse(key).map_err(|error| Error::config(format!("`{key}` cannot be an object's key")).with_source(error))
}
