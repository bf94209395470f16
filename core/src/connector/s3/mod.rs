//! Object stores that speak S3 as a place for files to be written to and read from.
//!
//! ```no_run
//! use thalweg::Stream;
//! use thalweg::connector::s3::S3;
//! use thalweg::sink::Parquet;
//! # fn run(payments: Stream) -> thalweg::Result<()> {
//! let lake = |url: &str| {
//!     S3::new(url).set("endpoint_url", "https://minio.example:9000").set("access_key", "env:KEY").set("secret_key", "file:/run/secrets/s3")
//! };
//! payments.run(Parquet::at(lake("s3://lake/payments")))?.wait()?;
//! println!("{}", Stream::read_parquet_at(lake("s3://lake/payments/*.parquet"))?.collect()?);
//! # Ok(())
//! # }
//! ```
//!
//! # Settings
//! | name | what | if not set |
//! |---|---|---|
//! | `endpoint_url` | where the store answers, if it is not AWS | `AWS_ENDPOINT_URL`, else AWS |
//! | `region` | the bucket's region | `AWS_REGION` or `AWS_DEFAULT_REGION`, else `us-east-1` |
//! | `access_key`, `secret_key`, `session_token` | the credentials | the default chain: `AWS_ACCESS_KEY_ID` and so on, a web identity, the container's, the machine's |
//! | `allow_http` | `true` to send requests unencrypted | `false` |
//! | `virtual_hosted_style` | `true` to have the bucket in the host's name | `false` |
//! | `max_retries` | how often a request is tried again, with growing pauses between | 8 |
//! | `retry_timeout` | for how long, at most (a duration) | `60s` |
//!
//! A value `env:NAME` is the environment variable, `file:PATH` what the file holds. Values are never shown or logged. A profile of
//! `~/.aws` is not read.
//!
//! # Objects appear whole
//! What is written becomes an object when the sink commits, and not before: up to 1 MiB by one `PutObject`, more by a multipart upload
//! whose parts of 8 MiB are sent while the file grows, four at once, so that memory is bounded, and which the commit completes. An abort aborts it. What a
//! program that was killed had begun is never seen, but is stored until it is removed: give the bucket a lifecycle rule
//! (`AbortIncompleteMultipartUpload`). If the answer to the last request of an object is lost, it may be there, whole, though the commit
//! failed.
//!
//! # Reading
//! Parquet and Arrow files are read by ranges, in blocks of 1 MiB, text in pieces of 8 MiB. An object that is replaced while it is read is an
//! error, never a mixture.
//!
//! Requests run on the thread that waits for them, on a runtime of its own; inside an asynchronous runtime that is refused.

mod failure;
mod place;
mod read;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::{BackoffConfig, ObjectStoreExt, RetryConfig, StaticCredentialProvider};

use self::session::{Session, path_of};
use crate::config::given;
use crate::error::{Error, Result};
use crate::time::parse_duration;

/// What URLs of objects begin with.
const SCHEME: &str = "s3://";

/// The settings there are.
const NAMES: &[&str] = &[
    "endpoint_url",
    "region",
    "access_key",
    "secret_key",
    "session_token",
    "allow_http",
    "virtual_hosted_style",
    "max_retries",
    "retry_timeout",
];

/// How often a request is tried again, by default. With pauses that double from [`FIRST_PAUSE`] these last about 25 s.
const MAX_RETRIES: usize = 8;

/// The first pause before a request is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How long a request is tried again, by default.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// The name of an object that nobody has.
const PROBE: &str = ".thalweg-probe";

/// A prefix of a bucket, or a pattern of keys, with how to reach it; see the [module documentation](self).
#[derive(Clone)]
pub struct S3 {
    url: String,
    settings: BTreeMap<String, String>,
    /// The connection, once there is one. Clones share it.
    session: Arc<Mutex<Option<Arc<Session>>>>,
    /// What is to be shown at the end of a commit.
    outbox: place::Outbox,
}

impl S3 {
    /// What `url` names, `s3://bucket/prefix`: for sinks a prefix, for sources a key or a pattern with `*`, `?` and `[…]`. Nothing is asked
    /// of the store yet.
    pub fn new(url: impl Into<String>) -> S3 {
        S3 { url: url.into(), settings: BTreeMap::new(), session: Arc::default(), outbox: place::Outbox::default() }
    }

    /// Whether text is such a URL.
    pub fn is_url(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// A setting by its name, see the [module documentation](self).
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> S3 {
        self.settings.insert(name.into(), value.into());
        self.session = Arc::default();
        self
    }

    /// Bucket and key or prefix.
    fn place(&self) -> Result<(&str, &str)> {
        let rest = self.url.strip_prefix(SCHEME).unwrap_or_default();
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        match !bucket.is_empty() && bucket.chars().all(fits) {
            true => Ok((bucket, key.trim_end_matches('/'))),
            // The text is not shown, as it may hold a password.
            false => Err(Error::config("an object store's URL is `s3://bucket/prefix`, without user or password; those are settings")),
        }
    }

    /// The URL, if it is one that may be shown.
    fn shown(&self) -> &str {
        if self.place().is_ok() { &self.url } else { SCHEME }
    }

    /// Connects, if that was not done.
    fn session(&self) -> Result<Arc<Session>> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = kept.as_ref() {
            return Ok(Arc::clone(session));
        }
        let (bucket, _) = self.place()?;
        let (store, secrets) = self.store(bucket).map_err(|error| error.context(self.shown()))?;
        let session = Arc::new(Session::new(store, bucket, secrets)?);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Asks for an object that is not there: what the store says of it tells whether there are a bucket and someone who may ask.
    fn probe(&self, session: &Session) -> Result<()> {
        let (_, prefix) = self.place()?;
        let plain = prefix.split(['*', '?', '[']).next().unwrap_or_default();
        let path = path_of(&format!("{}/{PROBE}", plain.trim_end_matches('/')))?;
        match session.wait(session.store.get(&path))? {
            Err(error) if failure::is_hopeless(&error) => {
                Err(failure::of(&format!("cannot use `{}`", self.shown()), error, session.secrets()))
            }
            _ => Ok(()),
        }
    }

    /// The client, with the secrets that it was given.
    fn store(&self, bucket: &str) -> Result<(AmazonS3, Vec<String>)> {
        if let Some(name) = self.settings.keys().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(Error::config(format!("an object store has no setting `{name}`; there are {}", NAMES.join(", "))));
        }
        let allow_http = self.truth("allow_http")?;
        let virtual_hosted_style = self.truth("virtual_hosted_style")?;
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 },
            max_retries: self.parsed("max_retries", |text| text.parse().ok(), "a number")?.unwrap_or(MAX_RETRIES),
            retry_timeout: self.parsed("retry_timeout", |text| parse_duration(text).ok(), "a duration")?.unwrap_or(RETRY_TIMEOUT),
        };
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        if let Some(allow) = allow_http {
            builder = builder.with_allow_http(allow);
        }
        if let Some(style) = virtual_hosted_style {
            builder = builder.with_virtual_hosted_style_request(style);
        }
        if let Some(region) = self.value("region")? {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = self.value("endpoint_url")? {
            if endpoint.starts_with("http://") && allow_http != Some(true) {
                return Err(Error::config("`endpoint_url` is not encrypted; use https, or set `allow_http` to true"));
            }
            builder = builder.with_endpoint(endpoint);
        }
        let credentials = self.credentials()?;
        let secrets = credentials.as_ref().map_or_else(Vec::new, |credentials| {
            let AwsCredential { key_id, secret_key, token } = credentials;
            [Some(key_id), Some(secret_key), token.as_ref()].into_iter().flatten().cloned().collect()
        });
        if let Some(credentials) = credentials {
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credentials)));
        }
        let store = builder.build().map_err(|error| failure::of("cannot be used", error, &secrets))?;
        Ok((store, secrets))
    }

    /// The credentials that are set. They come whole: a token of the environment does not go with keys from elsewhere.
    fn credentials(&self) -> Result<Option<AwsCredential>> {
        match (self.value("access_key")?, self.value("secret_key")?, self.value("session_token")?) {
            (Some(key_id), Some(secret_key), token) => Ok(Some(AwsCredential { key_id, secret_key, token })),
            (None, None, None) => Ok(None),
            _ => Err(Error::config("`access_key` and `secret_key` go together, with a `session_token` or without; or set none of them")),
        }
    }

    /// A setting, with the secret looked up that it stands for.
    fn value(&self, name: &str) -> Result<Option<String>> {
        let value = self.settings.get(name).map(|value| given(value)).transpose();
        value.map_err(|error| error.context(format!("the setting `{name}`")))
    }

    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>, what: &str) -> Result<Option<T>> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        parse(&value).map(Some).ok_or_else(|| Error::config(format!("the setting `{name}` is not {what}")))
    }

    fn truth(&self, name: &str) -> Result<Option<bool>> {
        let parse = |text: &str| match text {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            _ => None,
        };
        self.parsed(name, parse, "true or false")
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("url", &self.shown()).field("names", &self.settings.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
