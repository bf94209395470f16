//! Files of data for the contenders, below `target/bench`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// Data in a file below `target/bench`; removed at the end.
pub struct DataFile(PathBuf);

impl DataFile {
    /// A name that no other run has.
    pub fn new(name: &str) -> Result<DataFile> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&folder)?;
        Ok(DataFile(folder.join(format!("{}-{name}", std::process::id()))))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
