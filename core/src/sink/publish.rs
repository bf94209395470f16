//! Files that appear whole or not at all: written under a hidden name beside their own, then renamed.
//!
//! The hidden name is `.<name>.tmp-<pid>-<n>`, which a pattern such as `*.parquet` does not match. Its writer
//! holds a lock on it for as long as it lives, so that what a dead writer left behind is told from what a
//! living one (in this process, in another, in another container on the same disk) is still writing.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What stands between a file's name and its writer in a hidden name.
const MARK: &str = ".tmp-";

/// Hidden names tried before giving up: more than writers of one process that write one file at once.
const ATTEMPTS: u32 = 10_000;

/// A file under its hidden name. Dropped without [`Pending::publish`], it is removed.
#[derive(Debug)]
pub(super) struct Pending {
    file: File,
    hidden: PathBuf,
    target: PathBuf,
}

impl Pending {
    /// A new, empty file that will be `target`, whose folder must exist.
    ///
    /// # Errors
    /// [`Kind::Connector`](crate::error::Kind::Connector), naming the path.
    pub(super) fn create(target: &Path) -> Result<Pending> {
        let name = target.file_name().ok_or_else(|| Error::config(format!("`{}` does not name a file", target.display())))?;
        for attempt in 0..ATTEMPTS {
            let hidden = target.with_file_name(hidden_name(name, attempt));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&hidden) {
                Ok(file) => {
                    // Between creation and lock another writer's clean-up may have taken the file for a dead one's.
                    if is_mine(&file).map_err(|error| failed("lock", &hidden, error))? {
                        return Ok(Pending { file, hidden, target: target.to_owned() });
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create", &hidden, error)),
            }
        }
        Err(Error::connector(format!("cannot find a free name beside `{}`; remove the hidden files there", target.display())))
    }

    /// Where the file will be.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Brings the contents to the disk; the file stays hidden.
    ///
    /// # Errors
    /// If the disk fails or is full.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| failed("write", &self.target, error))
    }

    /// Gives a synced file its name, in place of a file that had it. A crash leaves either the old or the new one.
    ///
    /// # Errors
    /// If the folder cannot be written; the old file is untouched then.
    pub(super) fn publish(self) -> Result<()> {
        self.sync()?;
        std::fs::rename(&self.hidden, &self.target).map_err(|error| failed("publish", &self.target, error))?;
        sync_folder(&self.target)
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a publication there is nothing under this name any more.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

/// Creates the folders `below` one that exists, and brings their names to the disk.
///
/// # Errors
/// If one cannot be created.
pub(super) fn create_folders(folder: &Path, below: &str) -> Result<()> {
    let mut path = folder.to_owned();
    for level in below.split('/') {
        path.push(level);
        match std::fs::create_dir(&path) {
            Ok(()) => sync_folder(&path)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create the folder", &path, error)),
        }
    }
    Ok(())
}

/// Removes hidden files that dead writers left in `folder`, and in the partitions so many `levels` below it, and whose own name
/// satisfies `ours`.
pub(super) fn remove_leftovers(folder: &Path, levels: usize, ours: &impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_partition = || path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().contains('='));
        if levels > 0 && is_partition() {
            remove_leftovers(&path, levels - 1, ours);
            continue;
        }
        if !path.file_name().and_then(OsStr::to_str).and_then(visible_name).is_some_and(ours) {
            continue;
        }
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
        if file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
            tracing::info!(path = %path.display(), "removed a file that an interrupted run had left unfinished");
        }
    }
}

/// The error of a failed write, which says of a full disk that it is one and what has become of the data.
pub(super) fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    let message = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => format!(
            "cannot {doing} `{}`: no space is left for it; what was committed before stays whole, the rest was removed; free some space, then run again",
            path.display()
        ),
        _ => format!("cannot {doing} `{}`", path.display()),
    };
    Error::io(message, error)
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn hidden_name(name: &OsStr, attempt: u32) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!("{MARK}{}-{attempt}", std::process::id()));
    hidden.into()
}

/// The name that a hidden file is going to have, if it is one of ours.
fn visible_name(hidden: &str) -> Option<&str> {
    let (name, writer) = hidden.strip_prefix('.')?.rsplit_once(MARK)?;
    let (pid, attempt) = writer.split_once('-')?;
    (pid.parse::<u32>().is_ok() && attempt.parse::<u32>().is_ok()).then_some(name)
}

/// Locks a file that was just created; false if somebody else has it or has removed it.
fn is_mine(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        // A file system without locks, where no clean-up gets one either, so that nothing is ever taken for dead.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A rename is on the disk only once its folder is.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("publish", path, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        std::fs::write(&target, "old").unwrap();
        let mut dropped = Pending::create(&target).unwrap();
        dropped.write_all(b"half").unwrap();
        let mut pending = Pending::create(&target).unwrap();
        pending.write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        drop(dropped);
        pending.publish().unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn only_files_of_dead_writers_are_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let alive = Pending::create(&folder.path().join("a.txt")).unwrap();
        for name in [".a.txt.tmp-4194305-0", ".b.log.tmp-4194305-0", ".a.txt.tmp-x-0", "a.txt.tmp-1-0", "a.txt"] {
            std::fs::write(folder.path().join(name), "left").unwrap();
        }
        remove_leftovers(folder.path(), 0, &|name: &str| name == "a.txt");
        let hidden = alive.hidden.file_name().unwrap().to_str().unwrap();
        let mut expected = vec![hidden, ".b.log.tmp-4194305-0", ".a.txt.tmp-x-0", "a.txt.tmp-1-0", "a.txt"];
        expected.sort_unstable();
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = failed("write", Path::new("out/a.parquet"), ErrorKind::StorageFull.into()).to_string();
        assert!(
            error.starts_with("cannot write `out/a.parquet`: no space is left for it; what was committed before stays whole"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_is_not_a_file() {
        assert!(Pending::create(Path::new("/")).unwrap_err().to_string().contains("does not name a file"));
        let error = Pending::create(Path::new("/no/such/folder/a.txt")).unwrap_err().to_string();
        assert!(error.starts_with("cannot create `/no/such/folder/.a.txt.tmp-"), "{error}");
    }
}
