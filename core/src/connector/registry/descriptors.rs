//! Descriptor sets of protocol buffers, put together of the files that a registry has.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{RegistryClient, SchemaKind, Version};
use crate::error::{Error, Result};

/// How many files one may refer to, the files that they refer to and itself included.
const MAX_FILES: usize = 1_000;

/// A descriptor set that is being put together.
#[derive(Default)]
struct Files {
    /// Files that are in it, or are being added, by subject and version.
    known: HashSet<(String, String)>,
    /// The set so far: each file behind what it refers to.
    set: Vec<u8>,
}

impl RegistryClient {
    /// The `.proto` file that is a version of a subject, behind those that it refers to: a descriptor set, as
    /// [`Protobuf`](crate::format::protobuf::Protobuf) takes it. The registry is asked for serialized files (`format=serialized`), one
    /// after the other; what comes with every compiler of protocol buffers (`google/protobuf/timestamp.proto`) it need not have.
    ///
    /// # Errors
    /// As [`RegistryClient::version`]; [`Kind::Schema`](crate::error::Kind::Schema) if the subject is not of protocol buffers or the registry
    /// cannot serialize.
    pub fn descriptor_set(&self, subject: &str, version: Version) -> Result<Vec<u8>> {
        let mut files = Files::default();
        self.add_file(subject, version, &mut files)?;
        Ok(files.set)
    }

    fn add_file(&self, subject: &str, version: Version, files: &mut Files) -> Result<()> {
        if !files.known.insert((subject.to_owned(), version.to_string())) {
            return Ok(());
        }
        let (doing, url) = (format!("version {version} of subject `{subject}`"), &self.0.url);
        if files.known.len() > MAX_FILES {
            return Err(Error::schema(format!(
                "the schema registry at {url}: more than {MAX_FILES} files are referred to, {doing} the last"
            )));
        }
        let path = ["subjects", subject, "versions", &version.to_string()];
        let answer = self.ask(&doing, &path, Some(("format", "serialized")), None)?;
        let body = self.success(&doing, &answer)?;
        // Avro is what a schema is of that does not say what of.
        let kind = body.get("schemaType").and_then(Value::as_str).unwrap_or(SchemaKind::Avro.name());
        if kind != SchemaKind::Protobuf.name() {
            return Err(Error::schema(format!("the schema registry at {url} has {doing} in {kind}; its records are no protocol buffers")));
        }
        for reference in body.get("references").and_then(Value::as_array).into_iter().flatten() {
            let subject = self.text(&doing, reference, "subject")?;
            self.add_file(subject, Version::Number(self.number(&doing, reference, "version")?), files)?;
        }
        let file = STANDARD.decode(self.text(&doing, &body, "schema")?.trim()).map_err(|_| {
            Error::schema(format!(
                "the schema registry at {url} gives {doing} as text, not serialized; make a descriptor set with \
                 `protoc --include_imports --descriptor_set_out` instead"
            ))
        })?;
        add_to_set(&mut files.set, &file);
        Ok(())
    }
}

/// Adds a file to a `FileDescriptorSet`: field 1, its length, itself.
fn add_to_set(set: &mut Vec<u8>, file: &[u8]) {
    set.push(1 << 3 | 2);
    let mut length = file.len();
    while length >= 0x80 {
        set.push(length as u8 | 0x80);
        length >>= 7;
    }
    set.push(length as u8);
    set.extend_from_slice(file);
}
