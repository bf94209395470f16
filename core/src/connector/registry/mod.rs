//! Confluent's schema registry, and what speaks as it does (Apicurio, Karapace, Redpanda): the schemas by which records were written.
//!
//! ```no_run
//! use thalweg::connector::registry::{Registry, Version};
//! use thalweg::format::avro::Avro;
//! use thalweg::Format;
//! # fn run() -> thalweg::Result<()> {
//! let registry = Registry::new("https://registry.example:8081").basic_auth("alice", "env:REGISTRY_PASSWORD").client()?;
//! let latest = registry.version("payments-value", Version::Latest)?;
//! // Whatever schema a record was written by, its columns are those of the latest.
//! let format = Format::Avro(Avro::confluent(registry).reader_schema(&latest.schema));
//! # Ok(())
//! # }
//! ```
//!
//! Sinks of Kafka and Kinesis register the schemas that they write by, or take those that are there: see `AvroWriter`,
//! `JsonConfluentWriter` and `ProtobufWriter` beside the formats that are read.
//!
//! What a number stands for never changes, so each schema is asked for once. A number that the registry does not know quarantines its
//! record; it is asked for again with the next records, as it may be new. A registry that is down, or too slow, is asked again after 0.1,
//! 0.2, 0.4 seconds and so on; then it is an error that another try may mend ([`Error::is_retriable`]), which ends the run before
//! anything of these records was committed.
//!
//! Requests go out from a thread of their own, one by one, so that callers may be anywhere, in an asynchronous runtime too. Proxies that the
//! environment names are not used. An Avro schema that refers to others ("references") is given with their definitions in it, each where its
//! name is first used; if one of these is not there, or does not define what is used, its records go to quarantine.
//!
//! Records of protocol buffers are decoded by the `.proto` file of a subject, which is asked for once, when the stream is made:
//!
//! ```no_run
//! # use thalweg::connector::registry::{Registry, Version};
//! # use thalweg::format::protobuf::Protobuf;
//! # use thalweg::Format;
//! # fn run() -> thalweg::Result<()> {
//! let registry = Registry::new("http://localhost:8081").client()?;
//! let descriptor_set = registry.descriptor_set("payments-value", Version::Latest)?;
//! let format = Format::Protobuf(Protobuf::first(&descriptor_set)?.confluent()?);
//! # Ok(())
//! # }
//! ```

mod descriptors;
mod references;
mod requests;
mod subjects;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::references::Reference;
use self::references::Referred;
use self::requests::{Answer, Query, Requests};
use crate::config::given;
use crate::error::{Error, Result};
use crate::format::avro::WriterSchemas;
pub use crate::format::subjects::{SchemaKind, Subjects};

/// How long one request may take, unless it is set.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a request is made again that failed for a reason which may pass, unless it is set.
const RETRIES: u32 = 3;

/// What the registry calls its errors: there is no such schema.
const UNKNOWN_SCHEMA: u64 = 40_403;

/// Where a registry is and how to talk to it; see the [module documentation](self). Secrets are never shown.
#[derive(Clone)]
pub struct Registry {
    url: String,
    user: Option<(String, String)>,
    token: Option<String>,
    ca: Option<PathBuf>,
    timeout: Duration,
    retries: u32,
}

/// Which version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The one that was registered last.
    Latest,
    /// The one of this number, from 1 on.
    Number(u32),
}

/// A schema that a registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its number, which records carry.
    pub id: u32,
    /// Its version within its subject.
    pub version: u32,
    /// The schema; one of Avro with the definitions of those that it refers to.
    pub schema: String,
}

/// Whether a schema could be registered beside those that a subject has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility {
    /// Whether it could.
    pub is_compatible: bool,
    /// What is in the way, in the registry's words; it may have none.
    pub messages: Vec<String>,
}

/// Asks a registry. Clones share its connection and what they were told.
#[derive(Clone)]
pub struct RegistryClient(Arc<Shared>);

struct Shared {
    url: String,
    requests: Requests,
    schemas: Mutex<HashMap<u32, Arc<str>>>,
    /// What schemas refer to, by subject and version.
    referred: Mutex<HashMap<(String, u32), Arc<Referred>>>,
}

impl Registry {
    /// The registry at `url`, as `http://localhost:8081`.
    pub fn new(url: impl Into<String>) -> Registry {
        Registry { url: url.into(), user: None, token: None, ca: None, timeout: TIMEOUT, retries: RETRIES }
    }

    /// Who asks, with a password. A value `env:NAME` is the environment variable, `file:PATH` what the file holds.
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<String>) -> Registry {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// The bearer token to ask with; `env:NAME` and `file:PATH` as for [`Registry::basic_auth`].
    pub fn bearer_token(mut self, token: impl Into<String>) -> Registry {
        self.token = Some(token.into());
        self
    }

    /// A file of certificates (PEM) that may sign for the registry, beside those that the system trusts.
    pub fn ca_certificate(mut self, path: impl Into<PathBuf>) -> Registry {
        self.ca = Some(path.into());
        self
    }

    /// How long one request may take; five seconds unless it is set.
    pub fn timeout(mut self, timeout: Duration) -> Registry {
        self.timeout = timeout;
        self
    }

    /// How often a request is made again that failed for a reason which may pass; three times unless it is set.
    pub fn retries(mut self, retries: u32) -> Registry {
        self.retries = retries;
        self
    }

    /// Makes ready to ask. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the URL, a secret or the certificates cannot be read.
    pub fn client(&self) -> Result<RegistryClient> {
        let requests = Requests::start(self).map_err(|error| error.context("the schema registry"))?;
        Ok(RegistryClient(Arc::new(Shared { url: self.url.clone(), requests, schemas: Mutex::default(), referred: Mutex::default() })))
    }

    /// User and password, looked up.
    fn user(&self) -> Result<Option<(String, String)>> {
        self.user.as_ref().map(|(user, password)| Ok((given(user)?, given(password)?))).transpose()
    }

    fn token(&self) -> Result<Option<String>> {
        self.token.as_ref().map(|token| given(token)).transpose()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("url", &self.url).field("ca", &self.ca).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryClient({})", self.0.url)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Latest => f.write_str("latest"),
            Version::Number(number) => number.fmt(f),
        }
    }
}

impl RegistryClient {
    /// The schema of this number; `None` if the registry has none. It is asked for once. One of Avro is given with the definitions of those
    /// that it refers to, as [`Registered::schema`].
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector) if the registry cannot be reached (retriable), refuses, or answers what it should not;
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the schema cannot be put together with those that it refers to.
    pub fn schema(&self, id: u32) -> Result<Option<Arc<str>>> {
        let known = || self.0.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known().get(&id) {
            return Ok(Some(Arc::clone(schema)));
        }
        let doing = format!("schema {id}");
        let answer = self.ask(&doing, &["schemas", "ids", &id.to_string()], None, None)?;
        if answer.status == 404 && answer.code() == Some(UNKNOWN_SCHEMA) {
            return Ok(None);
        }
        let body = self.success(&doing, &answer)?;
        let schema: Arc<str> = Arc::from(self.whole(&doing, &body)?);
        known().insert(id, Arc::clone(&schema));
        Ok(Some(schema))
    }

    /// A version of a subject.
    ///
    /// # Errors
    /// As [`RegistryClient::schema`], and if there is no such subject or version.
    pub fn version(&self, subject: &str, version: Version) -> Result<Registered> {
        let doing = format!("version {version} of subject `{subject}`");
        let answer = self.ask(&doing, &["subjects", subject, "versions", &version.to_string()], None, None)?;
        let body = self.success(&doing, &answer)?;
        let schema = self.whole(&doing, &body)?;
        Ok(Registered { id: self.number(&doing, &body, "id")?, version: self.number(&doing, &body, "version")?, schema })
    }

    /// Registers a schema under a subject; returns its number, which is the one that it has if it is registered already.
    ///
    /// # Errors
    /// As [`RegistryClient::schema`]; [`Kind::Schema`](crate::error::Kind::Schema) if it is no schema, or is incompatible with those before it.
    pub fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32> {
        self.register_with_references(subject, schema, kind, &[])
    }

    /// As [`RegistryClient::register`], a schema that refers to others.
    ///
    /// # Errors
    /// As [`RegistryClient::register`].
    pub fn register_with_references(&self, subject: &str, schema: &str, kind: SchemaKind, references: &[Reference]) -> Result<u32> {
        let doing = format!("a schema for subject `{subject}`");
        let answer = self.ask(&doing, &["subjects", subject, "versions"], None, Some(body_of(schema, kind, references)))?;
        let body = self.success(&doing, &answer)?;
        self.number(&doing, &body, "id")
    }

    /// Whether a schema could be registered beside a version of a subject.
    ///
    /// # Errors
    /// As [`RegistryClient::version`].
    pub fn compatibility(&self, subject: &str, version: Version, schema: &str, kind: SchemaKind) -> Result<Compatibility> {
        self.compatibility_with_references(subject, version, schema, kind, &[])
    }

    /// As [`RegistryClient::compatibility`], of a schema that refers to others.
    ///
    /// # Errors
    /// As [`RegistryClient::version`].
    pub fn compatibility_with_references(
        &self,
        subject: &str,
        version: Version,
        schema: &str,
        kind: SchemaKind,
        references: &[Reference],
    ) -> Result<Compatibility> {
        let doing = format!("a schema beside version {version} of subject `{subject}`");
        let path = ["compatibility", "subjects", subject, "versions", &version.to_string()];
        let answer = self.ask(&doing, &path, Some(("verbose", "true")), Some(body_of(schema, kind, references)))?;
        let body = self.success(&doing, &answer)?;
        let is_compatible = body.get("is_compatible").and_then(Value::as_bool).ok_or_else(|| self.strange(&doing, "is_compatible"))?;
        let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
        Ok(Compatibility { is_compatible, messages: messages.filter_map(Value::as_str).map(str::to_owned).collect() })
    }

    fn ask(&self, doing: &str, path: &[&str], query: Query, body: Option<String>) -> Result<Answer> {
        self.0
            .requests
            .ask(path, query, body)
            .map_err(|error| error.context(format!("the schema registry at {} about {doing}", self.0.url)))
    }

    /// What a successful answer holds; another one is an error that says what to do.
    fn success(&self, doing: &str, answer: &Answer) -> Result<Value> {
        let url = &self.0.url;
        let value = answer.json();
        let said = value.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
        let words = said.map_or_else(|| format!("status {}", answer.status), str::to_owned);
        match answer.status {
            200..=299 => value.ok_or_else(|| self.strange(doing, "JSON")),
            401 | 403 => Err(Error::connector(format!(
                "the schema registry at {url} does not let us in (status {}) about {doing}; check user and password, or the token",
                answer.status
            ))),
            404 if said.is_none() => Err(Error::connector(format!(
                "what answers at {url} knows nothing of {doing} (status 404), and does not speak as a schema registry; check the address"
            ))),
            404 => Err(Error::connector(format!("the schema registry at {url} does not have {doing}: {words}"))),
            409 => Err(Error::schema(format!("the schema registry at {url} refuses {doing} as incompatible: {words}"))),
            422 => Err(Error::schema(format!("the schema registry at {url} cannot read {doing}: {words}"))),
            status => {
                let error = Error::connector(format!("the schema registry at {url} fails about {doing}: {words}"));
                Err(error.retriable_if(requests::may_pass(status)))
            }
        }
    }

    fn text<'a>(&self, doing: &str, body: &'a Value, name: &str) -> Result<&'a str> {
        body.get(name).and_then(Value::as_str).ok_or_else(|| self.strange(doing, name))
    }

    fn number(&self, doing: &str, body: &Value, name: &str) -> Result<u32> {
        let number = body.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.strange(doing, name))
    }

    fn strange(&self, doing: &str, what: &str) -> Error {
        Error::connector(format!("what answers at {} about {doing} gives no `{what}`; is it a schema registry?", self.0.url))
    }
}

fn body_of(schema: &str, kind: SchemaKind, references: &[Reference]) -> String {
    let mut body = json!({"schema": schema, "schemaType": kind.name()});
    if !references.is_empty() {
        body["references"] = references.iter().map(Reference::json).collect();
    }
    body.to_string()
}

impl WriterSchemas for RegistryClient {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>> {
        RegistryClient::schema(self, id)
    }
}
