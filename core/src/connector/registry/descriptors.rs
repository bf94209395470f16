//! Descriptor sets of protocol buffers, put together of the files that a registry has.

use super::references::{Walk, kind_of};
use super::{RegistryClient, SchemaKind, Version};
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

impl RegistryClient {
    /// The `.proto` file that is a version of a subject, behind those that it refers to: a descriptor set, as
    /// [`Protobuf`](crate::format::protobuf::Protobuf) takes it. The registry is asked for serialized files (`format=serialized`), one
    /// after the other; what comes with every compiler of protocol buffers (`google/protobuf/timestamp.proto`) it need not have.
    ///
    /// # Errors
    /// As [`RegistryClient::version`]; [`Kind::Schema`](crate::error::Kind::Schema) if the subject is not of protocol buffers or the registry
    /// cannot serialize.
    pub fn descriptor_set(&self, subject: &str, version: Version) -> Result<Vec<u8>> {
        let mut set = Vec::new();
        self.add_file(subject, version, &mut Walk::default(), &mut set)?;
        Ok(set)
    }

    /// Adds a file to `set`, behind those that it refers to.
    fn add_file(&self, subject: &str, version: Version, walk: &mut Walk, set: &mut Vec<u8>) -> Result<()> {
        if !self.enter(walk, subject, version)? {
            return Ok(());
        }
        let (doing, url) = (format!("version {version} of subject `{subject}`"), &self.0.url);
        let path = ["subjects", subject, "versions", &version.to_string()];
        let answer = self.ask(&doing, &path, Some(("format", "serialized")), None)?;
        let body = self.success(&doing, &answer)?;
        let kind = kind_of(&body);
        if kind != SchemaKind::Protobuf.name() {
            return Err(Error::schema(format!("the schema registry at {url} has {doing} in {kind}; its records are no protocol buffers")));
        }
        for reference in self.references(&doing, &body)? {
            self.add_file(&reference.subject, Version::Number(reference.version), walk, set)?;
        }
        walk.leave();
        let file = STANDARD.decode(self.text(&doing, &body, "schema")?.trim()).map_err(|_| {
            Error::schema(format!(
                "the schema registry at {url} gives {doing} as text, not serialized; make a descriptor set with \
                 `protoc --include_imports --descriptor_set_out` instead"
            ))
        })?;
        add_to_set(set, &file);
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
