//! Streams from files, sockets and threads.

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::format::Format;
use crate::format::pod::Event;
use crate::plan::Stream;
use crate::ring::Full;
use crate::source::events::{EventSender, ring};
use crate::source::{Files, Listen, arrow_files, parquet_files};

impl Stream {
    /// The records of newline-delimited JSON files: a path, or a pattern with `*`, `?` and `[…]`; `-` is standard
    /// input. Without `schema`, columns are inferred from the beginning of the first file. Files whose names end in `.gz`, `.zst` or
    /// `.lz4` are unpacked.
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
        let files = Files::new(pattern).format(format);
        Stream::read_files(schema.into_iter().fold(files, Files::schema))
    }

    /// The rows of files, with all that can be said about them.
    ///
    /// # Errors
    /// As [`Stream::read_ndjson`].
    pub fn read_files(files: Files) -> Result<Stream> {
        Ok(Stream::from_source(files.find()?))
    }

    /// The rows of Arrow IPC files, stream or file format. Streams may be packed, as the files of [`Stream::read_ndjson`].
    ///
    /// # Errors
    /// If no file matches or the first cannot be read.
    pub fn read_arrow(pattern: &str) -> Result<Stream> {
        Ok(Stream::from_boxed(arrow_files(pattern)?))
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

    /// The records of topics of Apache Kafka. Nothing is asked of the cluster until the stream runs.
    ///
    /// # Errors
    /// If settings contradict each other or are not librdkafka's.
    #[cfg(feature = "kafka")]
    pub fn read_kafka(kafka: crate::connector::kafka::Kafka) -> Result<Stream> {
        Ok(Stream::from_source(kafka.checked()?))
    }

    /// Typed events that any number of threads push into a ring of at least `capacity`; `full` says what happens to
    /// more. The stream ends when the last sender is dropped, and can be run once.
    ///
    /// # Errors
    /// If the capacity is out of range.
    pub fn events<E: Event>(capacity: usize, full: Full) -> Result<(EventSender<E>, Stream)> {
        let (sender, ring) = ring(capacity, full)?;
        Ok((sender, Stream::from_source(ring)))
    }
}
