//! The schema that records are written by, settled with what registers schemas.

use std::fmt;
use std::sync::Arc;

use super::subjects::{SchemaKind, Subjects};
use crate::error::Result;

/// Which schema records are written by, and where it is registered.
#[derive(Clone)]
pub(super) struct Registration {
    pub(super) subjects: Arc<dyn Subjects>,
    pub(super) subject: Option<String>,
    pub(super) schema: Option<Arc<str>>,
    pub(super) auto_register: bool,
}

impl Registration {
    pub(super) fn new(subjects: impl Subjects + 'static) -> Registration {
        Registration { subjects: Arc::new(subjects), subject: None, schema: None, auto_register: true }
    }

    /// The subject of the values of a topic, unless one is named: Confluent's `TopicNameStrategy`.
    pub(super) fn subject(&self, topic: &str) -> String {
        self.subject.clone().unwrap_or_else(|| format!("{topic}-value"))
    }

    /// The number of the schema and the schema: the one that was given, or one that is `made` for the name of the subject, registered now;
    /// or without registration the one that was given, as it is known, or the latest.
    ///
    /// # Errors
    /// As the methods of [`Subjects`], and if the schema cannot be made.
    pub(super) fn settle(&self, topic: &str, kind: SchemaKind, made: impl FnOnce(&str) -> Result<String>) -> Result<(u32, String)> {
        let subject = self.subject(topic);
        match (&self.schema, self.auto_register) {
            (Some(schema), true) => Ok((self.subjects.register(&subject, schema, kind)?, schema.to_string())),
            (Some(schema), false) => Ok((self.subjects.find(&subject, schema, kind)?, schema.to_string())),
            (None, false) => self.subjects.latest(&subject, kind),
            (None, true) => {
                let schema = made(&subject)?;
                Ok((self.subjects.register(&subject, &schema, kind)?, schema))
            }
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("subject", &self.subject).field("auto_register", &self.auto_register).finish_non_exhaustive()
    }
}

/// What records begin with in Confluent's wire format: a zero byte, and the number of their schema.
pub(super) fn confluent_prefix(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}
