//! The files of this machine that a pattern names.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::arrivals::is_unfinished;
use crate::config::READ_BUFFER_BYTES;
use crate::error::{Error, Result};
use crate::source::glob::{expand, is_match};
use crate::source::{Blob, FileEntry, FileSet};

/// A pattern of paths.
pub(super) struct LocalFiles {
    pattern: PathBuf,
    /// The pattern of names.
    name: String,
}

impl LocalFiles {
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the pattern names no files or has `**`.
    pub fn new(pattern: &str) -> Result<LocalFiles> {
        let path = PathBuf::from(pattern);
        match path.file_name().and_then(|name| name.to_str()).filter(|_| !pattern.contains("**") && !path.is_dir()) {
            Some(name) => Ok(LocalFiles { name: name.to_owned(), pattern: path }),
            None => Err(Error::config(format!(
                "`{pattern}` names no files; write for example `in/*.ndjson`, one `*` for each level of folders"
            ))),
        }
    }

    /// The folders that the files are in.
    fn folders(&self) -> Result<Vec<PathBuf>> {
        match self.pattern.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => match folder.to_str() {
                Some(pattern) => expand(pattern).map_err(|error| error.context("the folder to watch")),
                None => Ok(vec![folder.to_owned()]),
            },
            _ => Ok(vec![PathBuf::from(".")]),
        }
    }
}

impl FileSet for LocalFiles {
    fn list(&self) -> Result<Vec<FileEntry>> {
        let mut found = Vec::new();
        for folder in self.folders()? {
            let failed = |error| Error::io(format!("cannot list {}", folder.display()), error);
            for listed in std::fs::read_dir(&folder).map_err(failed)? {
                let listed = listed.map_err(failed)?;
                let name = listed.file_name();
                let Some(name) = name.to_str().filter(|name| is_match(&self.name, name) || is_unfinished(name)) else { continue };
                // One that has gone meanwhile was never there.
                let Ok(data) = listed.path().metadata() else { continue };
                if data.is_file() {
                    found.push(entry(&folder.join(name), &data));
                }
            }
        }
        Ok(found)
    }

    fn open(&self, entry: &FileEntry) -> Result<Option<Arc<dyn Blob>>> {
        let failed = |error| Error::io(format!("cannot open {}", entry.name), error);
        match File::open(&entry.name) {
            Ok(file) => {
                let size = file.metadata().map_err(failed)?.len();
                Ok(Some(Arc::new(LocalFile { name: entry.name.clone(), file, size })))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn appear_whole(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        self.pattern.display().to_string()
    }
}

fn entry(path: &Path, data: &Metadata) -> FileEntry {
    FileEntry {
        name: path.display().to_string(),
        modified: data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec()),
        size: data.len(),
        id: format!("{}-{}", data.dev(), data.ino()),
    }
}

/// An open file.
struct LocalFile {
    name: String,
    file: File,
    size: u64,
}

impl Blob for LocalFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn piece_bytes(&self) -> u64 {
        READ_BUFFER_BYTES as u64
    }

    fn read_at(&self, offset: u64, len: u64) -> Result<Bytes> {
        /// A file from some place on.
        struct From<'a>(&'a File, u64);

        impl Read for From<'_> {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                let read = self.0.read_at(into, self.1)?;
                self.1 += read as u64;
                Ok(read)
            }
        }

        let len = len.min(self.size.saturating_sub(offset));
        let mut bytes = Vec::with_capacity(len as usize);
        let read = From(&self.file, offset).take(len).read_to_end(&mut bytes);
        read.map_err(|error| Error::io(format!("cannot read {} at byte {offset}", self.name), error))?;
        Ok(bytes.into())
    }
}
