//! Results as lines of JSON.
//!
//! One object per row and line. Nulls are written as `null`, as are NaN and infinities, for which JSON has no name;
//! timestamps are written as RFC 3339 (`2024-01-31T12:00:00.250Z`), and those without a time zone count from
//! the epoch in UTC, as everywhere in the engine.

mod lines;
mod parts;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Sink;
use super::parts::{LocalFolder, Parts, Place};
use crate::error::Result;
use crate::format::values::json;
use lines::{Atomic, LineSink, Output};
pub use parts::NdjsonOptions;
use parts::Objects;

/// Writes rows as lines of JSON; see the [module documentation](self) and the guarantee of each constructor.
pub struct Ndjson(Destination);

enum Destination {
    Lines(LineSink),
    Parts(Box<Parts<Objects>>),
}

impl Ndjson {
    /// Writes to standard output, one call per batch. A closed pipe (`… | head`) is an error, not a signal.
    ///
    /// **Guarantee:** at least once; what was written cannot be taken back.
    pub fn stdout() -> Ndjson {
        Ndjson::stream("standard output", Box::new(io::stdout()))
    }

    /// Writes to `writer`, one call and one flush per batch.
    ///
    /// **Guarantee:** at least once; what was written cannot be taken back.
    pub fn writer(writer: Box<dyn Write + Send>) -> Ndjson {
        Ndjson::stream("the writer", writer)
    }

    /// Appends to the file at `path`, which is created if missing, so that another program can follow it live
    /// (`tail -f`): each batch is there at once, as whole lines in one call. A last line that a crash has cut
    /// off is ended, so that the next one stands on its own. A commit brings the lines to the disk.
    ///
    /// **Guarantee:** at least once. Lines are visible before the commit and an abort does not take them back;
    /// after a crash and a restart the lines since the last checkpoint are written again.
    pub fn append(path: impl Into<PathBuf>) -> Ndjson {
        Ndjson::lines(Output::Append { path: path.into(), file: None })
    }

    /// Writes the file at `path` under a hidden name beside it and renames it there at the commit, in place of a
    /// file that was there before the run. Each later commit replaces it with one that holds the new rows too,
    /// for which the file is copied: for streams that commit often, [`Ndjson::append`] costs less.
    ///
    /// **Guarantee:** exactly once within a run, by atomic publication: a reader sees all rows of a commit or none, and
    /// an abort or a crash leaves the last commit. A restarted run begins the file anew.
    pub fn create(path: impl Into<PathBuf>) -> Ndjson {
        Ndjson::lines(Output::Atomic { path: path.into(), state: Atomic::Fresh })
    }

    /// Adds part files to the folder at `path`, which is created if missing. Their names are unique, so that
    /// several pipelines may write to one folder.
    ///
    /// **Guarantee:** exactly once within a run, by atomic publication, as [`Parquet`](super::Parquet): rows appear at the commit, each
    /// file whole.
    pub fn directory(path: impl Into<PathBuf>) -> Ndjson {
        Ndjson::at(LocalFolder::new(path))
    }

    /// Adds part files to a place, as [`Ndjson::directory`]: a prefix of an object store.
    pub fn at(place: impl Place + 'static) -> Ndjson {
        Ndjson(Destination::Parts(Box::new(Parts::new(place, Objects::default()))))
    }

    /// Sets when the parts of a [folder](Ndjson::directory) are complete and how they are written; of no effect elsewhere.
    pub fn options(mut self, options: NdjsonOptions) -> Ndjson {
        if let Destination::Parts(parts) = &mut self.0 {
            parts.options = options.parts;
            parts.format = Objects(options.compression);
        }
        self
    }

    fn stream(name: &'static str, writer: Box<dyn Write + Send>) -> Ndjson {
        Ndjson::lines(Output::Stream { name, writer })
    }

    fn lines(output: Output) -> Ndjson {
        Ndjson(Destination::Lines(LineSink { output, lines: Vec::new() }))
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match &mut self.0 {
            Destination::Lines(lines) => lines,
            Destination::Parts(parts) => &mut **parts,
        }
    }
}

impl Sink for Ndjson {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        json::check(schema)?;
        self.sink().open(schema)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.sink().write(batch)
    }

    fn commit(&mut self) -> Result<()> {
        self.sink().commit()
    }

    fn abort(&mut self) {
        self.sink().abort();
    }
}

impl fmt::Debug for Ndjson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Destination::Lines(lines) => lines.fmt(f),
            Destination::Parts(parts) => write!(f, "Ndjson parts in {}", parts.describe()),
        }
    }
}

#[cfg(test)]
mod tests;
