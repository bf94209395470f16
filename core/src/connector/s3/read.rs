//! Objects as files to be read.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::S3;
use super::session::{Session, path_of};
use crate::error::{Error, Result};
use crate::source::glob::is_match;
use crate::source::{Blob, FileEntry, FileSet};

/// Bytes that are asked for at once by someone who wants all of an object: large enough that the answer takes longer than the way there.
const PIECE_BYTES: u64 = 8 << 20;

impl FileSet for S3 {
    fn list(&self) -> Result<Vec<FileEntry>> {
        let session = self.session()?;
        let (_, pattern) = self.place()?;
        if pattern.is_empty() {
            return Err(Error::config(format!(
                "`{0}` names no objects; write for example `{0}/*.parquet`",
                self.shown().trim_end_matches('/')
            )));
        }
        let levels: Vec<&str> = pattern.split('/').collect();
        let plain = levels.iter().take_while(|level| !level.contains(['*', '?', '['])).count();
        if plain == levels.len() {
            let path = path_of(pattern)?;
            return match session.wait(session.store.head(&path))? {
                Ok(object) => Ok(vec![entry(&session, object)]),
                Err(StoreError::NotFound { .. }) => self.found(&session, Vec::new()),
                Err(error) => Err(session.failed("look for", &path, error)),
            };
        }
        let mut folders = vec![path_of(&levels[..plain].join("/"))?];
        for level in &levels[plain..levels.len() - 1] {
            let mut below = Vec::new();
            for folder in &folders {
                let listed = session.wait(session.store.list_with_delimiter(Some(folder)))?;
                let listed = listed.map_err(|error| session.failed("list", folder, error))?;
                below.extend(listed.common_prefixes.into_iter().filter(|path| path.filename().is_some_and(|name| is_match(level, name))));
            }
            folders = below;
        }
        let mut found = Vec::new();
        for folder in &folders {
            let listed = session.wait(session.store.list_with_delimiter(Some(folder)))?;
            let listed = listed.map_err(|error| session.failed("list", folder, error))?;
            let fits = |object: &ObjectMeta| object.location.filename().is_some_and(|name| is_match(levels[levels.len() - 1], name));
            found.extend(listed.objects.into_iter().filter(fits).map(|object| entry(&session, object)));
        }
        self.found(&session, found)
    }

    fn open(&self, entry: &FileEntry) -> Result<Option<Arc<dyn Blob>>> {
        let session = self.session()?;
        let (bucket, _) = self.place()?;
        let key = entry.name.strip_prefix(&format!("{}{bucket}/", super::SCHEME)).unwrap_or(&entry.name);
        let path = path_of(key)?;
        match session.wait(session.store.head(&path))? {
            Ok(object) => Ok(Some(Arc::new(Object { name: entry.name.clone(), session, path, size: object.size, tag: object.e_tag }))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(session.failed("read", &path, error)),
        }
    }

    fn appear_whole(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        self.shown().to_owned()
    }
}

impl S3 {
    /// What was found; nothing is found in a bucket that is not there either, which is worth saying.
    fn found(&self, session: &Session, found: Vec<FileEntry>) -> Result<Vec<FileEntry>> {
        if found.is_empty() {
            self.probe(session)?;
        }
        Ok(found)
    }
}

fn entry(session: &Session, object: ObjectMeta) -> FileEntry {
    FileEntry {
        name: session.url(&object.location),
        modified: object.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX),
        size: object.size,
        id: object.e_tag.unwrap_or_default(),
    }
}

/// One object, as it was when it was opened.
struct Object {
    name: String,
    session: Arc<Session>,
    path: Path,
    size: u64,
    tag: Option<String>,
}

impl Blob for Object {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn piece_bytes(&self) -> u64 {
        PIECE_BYTES
    }

    fn read_at(&self, offset: u64, len: u64) -> Result<Bytes> {
        let len = len.min(self.size.saturating_sub(offset));
        if len == 0 {
            return Ok(Bytes::new());
        }
        let options =
            GetOptions { if_match: self.tag.clone(), range: Some(GetRange::Bounded(offset..offset + len)), ..GetOptions::default() };
        let read = async { self.session.store.get_opts(&self.path, options).await?.bytes().await };
        self.session.wait(read)?.map_err(|error| self.session.failed("read", &self.path, error))
    }
}
