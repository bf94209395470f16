//! Streams from files, sockets and threads.

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::format::Format;
use crate::format::pod::Event;
use crate::plan::Stream;
use crate::ring::Full;
use crate::source::events::{EventSender, ring};
use crate::source::{FileSet, Files, Listen, Watch, arrow_blobs, arrow_files, parquet_blobs, parquet_files};

impl Stream {
    /// The records of newline-delimited JSON files: a path, or a pattern with `*`, `?` and `[…]`; `-` is standard
    /// input, and `s3://bucket/…` an object store with the default settings of its [connector](crate::connector). Without `schema`,
    /// columns are inferred from the beginning of the first file. Files whose names end in `.gz`, `.zst` or `.lz4` are unpacked.
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
    /// As [`Stream::read_ndjson`], and if their place cannot be asked.
    pub fn read_files(files: Files) -> Result<Stream> {
        let files = match files.path().map(remote).transpose()?.flatten() {
            Some(set) => files.of(set),
            None => files,
        };
        Ok(Stream::from_boxed(files.find()?))
    }

    /// The rows of Arrow IPC files, stream or file format: a path, a pattern or `s3://bucket/…`. Streams may be packed, as the files of
    /// [`Stream::read_ndjson`].
    ///
    /// # Errors
    /// If no file matches or the first cannot be read.
    pub fn read_arrow(pattern: &str) -> Result<Stream> {
        match remote(pattern)? {
            Some(set) => Stream::read_arrow_at(set),
            None => Ok(Stream::from_boxed(arrow_files(pattern)?)),
        }
    }

    /// The rows of Arrow IPC files in any place.
    ///
    /// # Errors
    /// As [`Stream::read_arrow`], and if the place cannot be asked.
    pub fn read_arrow_at(files: impl FileSet + 'static) -> Result<Stream> {
        Ok(Stream::from_boxed(arrow_blobs(files)?))
    }

    /// The rows of Parquet files: a path, a pattern or `s3://bucket/…`.
    ///
    /// # Errors
    /// If no file matches or the first cannot be read.
    pub fn read_parquet(pattern: &str) -> Result<Stream> {
        match remote(pattern)? {
            Some(set) => Stream::read_parquet_at(set),
            None => Ok(Stream::from_source(parquet_files(pattern)?)),
        }
    }

    /// The rows of Parquet files in any place. They are read by ranges.
    ///
    /// # Errors
    /// As [`Stream::read_parquet`], and if the place cannot be asked.
    pub fn read_parquet_at(files: impl FileSet + 'static) -> Result<Stream> {
        Ok(Stream::from_source(parquet_blobs(files)?))
    }

    /// The rows of files as they appear in a folder or below a prefix; see [`Watch`].
    ///
    /// # Errors
    /// If options contradict each other, or the columns are not given and cannot be inferred.
    pub fn watch(watch: Watch) -> Result<Stream> {
        Ok(Stream::from_source(watch.checked()?))
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

    /// The records of a stream of Amazon Kinesis. Nothing is asked of the service until the stream runs.
    ///
    /// # Errors
    /// If settings contradict each other or are not those of the [connector](crate::connector).
    #[cfg(feature = "kinesis")]
    pub fn read_kinesis(kinesis: crate::connector::kinesis::Kinesis) -> Result<Stream> {
        Ok(Stream::from_source(kinesis.checked()?))
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

/// The objects that a URL names.
#[cfg(feature = "s3")]
fn remote(pattern: &str) -> Result<Option<Box<dyn FileSet>>> {
    use crate::connector::s3::S3;
    Ok(S3::is_url(pattern).then(|| Box::new(S3::new(pattern)) as Box<dyn FileSet>))
}

/// Refuses URLs.
#[cfg(not(feature = "s3"))]
fn remote(pattern: &str) -> Result<Option<Box<dyn FileSet>>> {
    match pattern.starts_with("s3://") {
        true => {
            Err(crate::error::Error::config(format!("`{pattern}` is in an object store: build the crate `thalweg` with the feature `s3`")))
        }
        false => Ok(None),
    }
}
