//! Schemas that are written by.

use super::{RegistryClient, SchemaKind, Version, body_of, references};
use crate::error::{Error, Result};
use crate::format::subjects::Subjects;

impl Subjects for RegistryClient {
    fn register(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32> {
        RegistryClient::register(self, subject, schema, kind)
    }

    fn find(&self, subject: &str, schema: &str, kind: SchemaKind) -> Result<u32> {
        let doing = format!("this schema under subject `{subject}`");
        let answer = self.ask(&doing, &["subjects", subject], None, Some(body_of(schema, kind, &[])))?;
        if answer.status == 404 && answer.code().is_some() {
            return Err(Error::schema(format!(
                "the schema registry at {} does not have {doing}, and it is not to be registered (`auto_register`); register it, or write \
                 by the latest of the subject",
                self.0.url
            )));
        }
        let body = self.success(&doing, &answer)?;
        self.number(&doing, &body, "id")
    }

    fn latest(&self, subject: &str, kind: SchemaKind) -> Result<(u32, String)> {
        let doing = format!("version latest of subject `{subject}`");
        let answer = self.ask(&doing, &["subjects", subject, "versions", &Version::Latest.to_string()], None, None)?;
        let body = self.success(&doing, &answer)?;
        let found = references::kind_of(&body);
        if found != kind.name() {
            let (url, kind) = (&self.0.url, kind.name());
            return Err(Error::schema(format!("the schema registry at {url} has {doing} in {found}, and records are to be {kind}")));
        }
        Ok((self.number(&doing, &body, "id")?, self.whole(&doing, &body)?))
    }
}
