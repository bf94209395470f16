//! Parts in a folder of this machine: under hidden names that `part-*` does not match, then renamed.

use std::path::PathBuf;

use super::{PART, PendingPart, Place};
use crate::error::Result;
use crate::sink::publish::{self, Pending};

/// A folder that is made if missing.
pub(in crate::sink) struct LocalFolder {
    path: PathBuf,
}

impl LocalFolder {
    pub fn new(path: impl Into<PathBuf>) -> LocalFolder {
        LocalFolder { path: path.into() }
    }
}

impl Place for LocalFolder {
    fn prepare(&mut self, extension: &str, levels: usize) -> Result<()> {
        std::fs::create_dir_all(&self.path).map_err(|error| publish::failed("create the folder", &self.path, error))?;
        let ours = |name: &str| name.starts_with(PART) && name.ends_with(extension);
        publish::remove_leftovers(&self.path, levels, &ours);
        Ok(())
    }

    fn begin(&mut self, path: &str) -> Result<Box<dyn PendingPart>> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            publish::create_folders(&self.path, folder)?;
        }
        Ok(Box::new(Pending::create(&self.path.join(path))?))
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

impl PendingPart for Pending {
    fn location(&self) -> String {
        self.target().display().to_string()
    }

    /// None: the file has them.
    fn memory_bytes(&self) -> usize {
        0
    }

    fn complete(&mut self) -> Result<()> {
        self.sync()
    }

    fn flush_memory(&mut self) -> Result<()> {
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        Pending::publish(*self)
    }
}
