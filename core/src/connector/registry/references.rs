//! What schemas refer to in a registry.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::{RegistryClient, SchemaKind, Version};
use crate::error::{Error, Kind, Result};
use crate::format::avro::inlined;

/// How many schemas one may refer to, those that they refer to and itself included.
const MAX_FILES: usize = 1_000;

/// Another schema, which one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it is known by: a full name in Avro, the path of the import in Protobuf, the `$ref` in JSON Schema.
    pub name: String,
    /// The subject that it is registered under.
    pub subject: String,
    /// Which version of the subject it is.
    pub version: u32,
}

/// A schema of Avro that others refer to.
pub(super) struct Referred {
    schema: String,
    references: Vec<Reference>,
}

/// A way over what schemas refer to, each of which is visited once.
#[derive(Default)]
pub(super) struct Walk {
    /// Those that were come to, by subject and version.
    known: HashSet<(String, String)>,
    /// Those of them whose references are being followed.
    open: Vec<(String, String)>,
}

impl Reference {
    pub(super) fn json(&self) -> Value {
        json!({"name": self.name, "subject": self.subject, "version": self.version})
    }
}

impl Walk {
    /// Ends with the schema that was entered last.
    pub(super) fn leave(&mut self) {
        self.open.pop();
    }
}

/// What a schema that was answered is in: Avro, if that does not say.
pub(super) fn kind_of(body: &Value) -> &str {
    body.get("schemaType").and_then(Value::as_str).unwrap_or(SchemaKind::Avro.name())
}

impl RegistryClient {
    /// Comes to a schema; `false` if the walk has been there.
    ///
    /// # Errors
    /// [`Kind::Schema`] if it refers to itself, over others or not, or there are too many.
    pub(super) fn enter(&self, walk: &mut Walk, subject: &str, version: Version) -> Result<bool> {
        let (here, url) = ((subject.to_owned(), version.to_string()), &self.0.url);
        if walk.open.contains(&here) {
            let over: Vec<&str> = walk.open.iter().map(|(subject, _)| subject.as_str()).collect();
            return Err(Error::schema(format!(
                "the schema registry at {url}: version {version} of subject `{subject}` refers to itself, over {}",
                over.join(", ")
            )));
        }
        if !walk.known.insert(here.clone()) {
            return Ok(false);
        }
        if walk.known.len() > MAX_FILES {
            return Err(Error::schema(format!(
                "the schema registry at {url}: more than {MAX_FILES} files are referred to, version {version} of subject `{subject}` the last"
            )));
        }
        walk.open.push(here);
        Ok(true)
    }

    /// What a schema that was answered refers to.
    pub(super) fn references(&self, doing: &str, body: &Value) -> Result<Vec<Reference>> {
        let reference = |reference: &Value| {
            let name = reference.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let subject = self.text(doing, reference, "subject")?.to_owned();
            Ok(Reference { name, subject, version: self.number(doing, reference, "version")? })
        };
        body.get("references").and_then(Value::as_array).into_iter().flatten().map(reference).collect()
    }

    /// A schema that was answered; one of Avro with the definitions of those that it refers to.
    pub(super) fn whole(&self, doing: &str, body: &Value) -> Result<String> {
        let (schema, references) = (self.text(doing, body, "schema")?, self.references(doing, body)?);
        if references.is_empty() || kind_of(body) != SchemaKind::Avro.name() {
            return Ok(schema.to_owned());
        }
        let mut found = Vec::new();
        self.follow(doing, &references, &mut Walk::default(), &mut found)?;
        let put_together = inlined(schema, &found.iter().map(|referred| referred.schema.as_str()).collect::<Vec<_>>());
        put_together.map_err(|error| error.context(format!("the schema registry at {}: {doing} and what it refers to", self.0.url)))
    }

    /// Adds the schemas of `references` to `found`, each behind those that it refers to.
    fn follow(&self, doing: &str, references: &[Reference], walk: &mut Walk, found: &mut Vec<Arc<Referred>>) -> Result<()> {
        for reference in references {
            if self.enter(walk, &reference.subject, Version::Number(reference.version))? {
                let referred = self.referred(doing, reference)?;
                self.follow(doing, &referred.references, walk, found)?;
                walk.leave();
                found.push(referred);
            }
        }
        Ok(())
    }

    /// The schema that a reference is to; it is asked for once.
    fn referred(&self, doing: &str, reference: &Reference) -> Result<Arc<Referred>> {
        let known = || self.0.referred.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (reference.subject.clone(), reference.version);
        if let Some(referred) = known().get(&place) {
            return Ok(Arc::clone(referred));
        }
        let Reference { name, subject, version } = reference;
        let (url, what) = (&self.0.url, format!("version {version} of subject `{subject}`, which {doing} refers to as `{name}`,"));
        // What was deleted is still there for those that refer to it.
        let path = ["subjects", subject, "versions", &version.to_string()];
        let answer = self.ask(&what, &path, Some(("deleted", "true")), None)?;
        let body = self.success(&what, &answer).map_err(|error| match answer.status {
            404 => Error::new(Kind::Schema, error.to_string()),
            _ => error,
        })?;
        if kind_of(&body) != SchemaKind::Avro.name() {
            return Err(Error::schema(format!("the schema registry at {url} has {what} in {}, not in Avro", kind_of(&body))));
        }
        let referred =
            Arc::new(Referred { schema: self.text(&what, &body, "schema")?.to_owned(), references: self.references(&what, &body)? });
        known().insert(place, Arc::clone(&referred));
        Ok(referred)
    }
}
