//! Lines of JSON to a stream, at the end of a file, or in a file that appears whole.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::format::values::json;
use crate::sink::publish::{self, Pending};
use crate::sink::{Sink, not_open};

pub(super) struct LineSink {
    pub output: Output,
    pub lines: Vec<u8>,
}

pub(super) enum Output {
    Stream { name: &'static str, writer: Box<dyn Write + Send> },
    Append { path: PathBuf, file: Option<File> },
    Atomic { path: PathBuf, state: Atomic },
}

pub(super) enum Atomic {
    /// Before the first row and commit.
    Fresh,
    /// Rows since the last commit, behind a copy of what was committed before them.
    Writing(Pending),
    /// Nothing since the last commit.
    Committed,
}

impl Sink for LineSink {
    fn open(&mut self, _schema: &SchemaRef) -> Result<()> {
        match &mut self.output {
            Output::Stream { .. } => {}
            Output::Append { path, file } => *file = Some(open_append(path).map_err(|error| publish::failed("open", path, error))?),
            Output::Atomic { path, state } => {
                let ours = |name: &str| path.file_name().is_some_and(|own| own == name);
                publish::remove_leftovers(publish::folder_of(path), 0, &ours);
                *state = Atomic::Writing(Pending::create(path)?);
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.lines.clear();
        json::write(batch, &mut self.lines)?;
        if self.lines.is_empty() {
            return Ok(());
        }
        match &mut self.output {
            Output::Stream { name, writer } => {
                writer.write_all(&self.lines).and_then(|()| writer.flush()).map_err(|error| stream_failed(name, error))
            }
            Output::Append { path, file } => {
                let file = file.as_mut().ok_or_else(not_open)?;
                file.write_all(&self.lines).map_err(|error| publish::failed("append to", path, error))
            }
            Output::Atomic { path, state } => {
                if matches!(state, Atomic::Committed) {
                    *state = Atomic::Writing(copy_of(path)?);
                }
                let Atomic::Writing(pending) = state else { return Err(not_open()) };
                let written = pending.write_all(&self.lines);
                written.map_err(|error| {
                    // Lines of this batch may be there in part: they must never be committed.
                    *state = Atomic::Fresh;
                    publish::failed("write", path, error)
                })
            }
        }
    }

    fn commit(&mut self) -> Result<()> {
        match &mut self.output {
            Output::Stream { name, writer } => writer.flush().map_err(|error| stream_failed(name, error)),
            Output::Append { path, file } => {
                let synced = file.as_ref().ok_or_else(not_open)?.sync_data();
                // Devices and pipes (`/dev/stderr`) cannot be synced and need not be.
                synced
                    .or_else(|error| if error.kind() == ErrorKind::InvalidInput { Ok(()) } else { Err(error) })
                    .map_err(|error| publish::failed("append to", path, error))
            }
            Output::Atomic { state, .. } => match std::mem::replace(state, Atomic::Committed) {
                Atomic::Writing(pending) => pending.publish(),
                Atomic::Committed => Ok(()),
                Atomic::Fresh => Err(not_open()),
            },
        }
    }

    fn abort(&mut self) {
        if let Output::Atomic { state, .. } = &mut self.output {
            *state = Atomic::Fresh;
        }
    }
}

impl fmt::Debug for LineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.output {
            Output::Stream { name, .. } => write!(f, "Ndjson to {name}"),
            Output::Append { path, .. } => write!(f, "Ndjson appended to {}", path.display()),
            Output::Atomic { path, .. } => write!(f, "Ndjson in {}", path.display()),
        }
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

fn copy_of(path: &Path) -> Result<Pending> {
    let mut pending = Pending::create(path)?;
    let copied = File::open(path).and_then(|mut published| io::copy(&mut published, &mut pending));
    copied.map_err(|error| publish::failed("copy", path, error))?;
    Ok(pending)
}

fn stream_failed(name: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Error::io(format!("{name} is closed: the program that read it has ended"), error),
        _ => Error::io(format!("cannot write to {name}"), error),
    }
}
