//! Streams from files, sockets and threads.

use arrow::datatypes::SchemaRef;

use crate::config::Config;
use crate::error::Result;
use crate::format::Format;
use crate::format::pod::Event;
use crate::plan::Stream;
use crate::ring::Full;
use crate::source::events::{EventSender, Events};
use crate::source::{Files, Listen, arrow_files, parquet_files};

impl Stream {
    /// The records of newline-delimited JSON files: a path, or a pattern with `*`, `?` and `[…]`; `-` is standard
    /// input. Without `schema`, columns are inferred from the beginning of the first file.
    ///
    /// # Errors
    /// If no file matches or the columns cannot be inferred.
    pub fn read_ndjson(pattern: &str, schema: Option<SchemaRef>) -> Result<Stream> {
        Stream::read(pattern, schema, Format::Ndjson)
    }

    /// The rows of files of `format`, as [`Stream::read_ndjson`]: `Format::Csv` with its delimiter and header.
    ///
    /// # Errors
    /// As [`Stream::read_ndjson`].
    pub fn read(pattern: &str, schema: Option<SchemaRef>, format: Format) -> Result<Stream> {
        Ok(Stream::from_source(Files::new(pattern, schema, format)?))
    }

    /// The rows of Arrow IPC files, stream or file format.
    ///
    /// # Errors
    /// If no file matches or the first cannot be read.
    pub fn read_arrow(pattern: &str) -> Result<Stream> {
        Ok(Stream::from_source(arrow_files(pattern)?))
    }

    /// The rows of Parquet files.
    ///
    /// # Errors
    /// If no file matches or the first cannot be read.
    pub fn read_parquet(pattern: &str) -> Result<Stream> {
        Ok(Stream::from_source(parquet_files(pattern)?))
    }

    /// What the clients of a socket send. The socket is bound at once.
    ///
    /// # Errors
    /// If the address is in use, not permitted or cannot be resolved.
    pub fn listen(listen: Listen) -> Result<Stream> {
        Ok(Stream::from_source(listen.bind()?))
    }
}
