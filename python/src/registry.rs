//! Schema registries.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use thalweg::connector::registry::{Reference, Registry, RegistryClient, SchemaKind, Version};

use crate::config::Interval;
use crate::error::{detached, raise};
use crate::format::JsonText;

/// Confluent's schema registry, or one that speaks as it does. Nothing is asked of it until it is needed; each schema is asked for once.
///
/// Args:
///     url: As "http://localhost:8081".
///     user: Who asks, with `password`.
///     password: Of `user`; here and in `token`, "env:NAME" and "file:PATH" stand for what they hold. Never shown or logged.
///     token: A bearer token to ask with.
///     ca: A file of certificates (PEM) that may sign for the registry, beside those that the system trusts.
///     timeout: How long one request may take.
///     retries: How often a request is made again that failed for a reason which may pass.
///
/// Example:
///     >>> registry = tw.SchemaRegistry("https://registry.example:8081", user="alice", password="env:REGISTRY_PASSWORD")
///     >>> s = tw.read_kafka(b, "payments", format=tw.formats.avro_confluent(registry, subject="payments-value"))
#[pyclass(name = "SchemaRegistry", module = "thalweg", frozen)]
pub struct PyRegistry {
    pub client: RegistryClient,
    url: String,
}

#[pymethods]
impl PyRegistry {
    #[new]
    #[pyo3(signature = (url, *, user=None, password=None, token=None, ca=None, timeout=None, retries=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        url: String,
        user: Option<String>,
        password: Option<String>,
        token: Option<String>,
        ca: Option<PathBuf>,
        timeout: Option<Interval>,
        retries: Option<u32>,
    ) -> PyResult<PyRegistry> {
        let mut registry = Registry::new(&url);
        if let Some(user) = user {
            registry = registry.basic_auth(user, password.unwrap_or_default());
        }
        if let Some(token) = token {
            registry = registry.bearer_token(token);
        }
        if let Some(ca) = ca {
            registry = registry.ca_certificate(ca);
        }
        if let Some(timeout) = timeout {
            registry = registry.timeout(timeout.0);
        }
        if let Some(retries) = retries {
            registry = registry.retries(retries);
        }
        let client = detached(py, || registry.client())?;
        Ok(PyRegistry { client, url })
    }

    /// The schema of a number, or None if the registry has none. One of Avro is given with the definitions of those that it refers to.
    fn schema(&self, py: Python<'_>, id: u32) -> PyResult<Option<String>> {
        Ok(detached(py, || self.client.schema(id))?.map(|schema| schema.to_string()))
    }

    /// A version of a subject, the latest unless said, as a dict of `id`, `version` and `schema`, which is as `schema()` gives it.
    #[pyo3(signature = (subject, version=None))]
    fn version<'py>(&self, py: Python<'py>, subject: &str, version: Option<u32>) -> PyResult<Bound<'py, PyDict>> {
        let registered = detached(py, || self.client.version(subject, version.map_or(Version::Latest, Version::Number)))?;
        let found = PyDict::new(py);
        found.set_item("id", registered.id)?;
        found.set_item("version", registered.version)?;
        found.set_item("schema", registered.schema)?;
        Ok(found)
    }

    /// Registers a schema ("avro", "json" or "protobuf") under a subject; returns its number. `references` are the schemas that it refers
    /// to, each a dict of `name`, `subject` and `version`.
    #[pyo3(signature = (subject, schema, kind="avro", references=Vec::new()))]
    fn register(&self, py: Python<'_>, subject: &str, schema: JsonText, kind: &str, references: Vec<PyReference>) -> PyResult<u32> {
        let kind = SchemaKind::parse(kind).map_err(raise)?;
        let references = referred(references);
        detached(py, || self.client.register_with_references(subject, &schema.0, kind, &references))
    }

    /// What stands in the way of registering a schema beside a version of a subject, the latest unless said: a list of words, empty if
    /// nothing does. `references` as for `register`.
    #[pyo3(signature = (subject, schema, version=None, kind="avro", references=Vec::new()))]
    fn conflicts(
        &self,
        py: Python<'_>,
        subject: &str,
        schema: JsonText,
        version: Option<u32>,
        kind: &str,
        references: Vec<PyReference>,
    ) -> PyResult<Vec<String>> {
        let kind = SchemaKind::parse(kind).map_err(raise)?;
        let version = version.map_or(Version::Latest, Version::Number);
        let references = referred(references);
        let found = detached(py, || self.client.compatibility_with_references(subject, version, &schema.0, kind, &references))?;
        Ok(match (found.is_compatible, found.messages.is_empty()) {
            (true, _) => Vec::new(),
            (false, false) => found.messages,
            (false, true) => vec!["it is incompatible; the registry does not say why".to_owned()],
        })
    }

    fn __repr__(&self) -> String {
        format!("SchemaRegistry({:?})", self.url)
    }
}

/// A schema that another one refers to, in a mapping.
#[derive(FromPyObject)]
pub struct PyReference {
    #[pyo3(item)]
    name: String,
    #[pyo3(item)]
    subject: String,
    #[pyo3(item)]
    version: u32,
}

fn referred(references: Vec<PyReference>) -> Vec<Reference> {
    references.into_iter().map(|PyReference { name, subject, version }| Reference { name, subject, version }).collect()
}
