//! Results as lines of JSON.
//!
//! One object per row and line. Nulls are written as `null`, as are NaN and infinities, for which JSON has no name;
//! timestamps are written as RFC 3339 (`2024-01-31T12:00:00.250Z`), and those without a time zone count from
//! the epoch in UTC, as everywhere in the engine.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, StructArray};
use arrow::datatypes::{Field, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::{LineDelimited, make_encoder};

use super::Sink;
use super::publish::{self, Pending};
use crate::error::{Error, Result};

/// A timestamp that has no time zone, in UTC; the fraction is left out where it is zero.
pub(crate) const TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// Writes rows as lines of JSON; see the [module documentation](self) and the guarantee of each constructor.
pub struct Ndjson {
    output: Output,
    lines: Vec<u8>,
}

enum Output {
    Stream { name: &'static str, writer: Box<dyn Write + Send> },
    Append { path: PathBuf, file: Option<File> },
    Atomic { path: PathBuf, state: Atomic },
}

enum Atomic {
    /// Before the first row and commit.
    Fresh,
    /// Rows since the last commit, behind a copy of what was committed before them.
    Writing(Pending),
    /// Nothing since the last commit.
    Committed,
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
        Ndjson { output: Output::Append { path: path.into(), file: None }, lines: Vec::new() }
    }

    /// Writes the file at `path` under a hidden name beside it and renames it there at the commit, in place of a
    /// file that was there before the run. Each later commit replaces it with one that holds the new rows too,
    /// for which the file is copied: for streams that commit often, [`Ndjson::append`] costs less.
    ///
    /// **Guarantee:** exactly once within a run, by atomic publication: a reader sees all rows of a commit or none, and
    /// an abort or a crash leaves the last commit. A restarted run begins the file anew.
    pub fn create(path: impl Into<PathBuf>) -> Ndjson {
        Ndjson { output: Output::Atomic { path: path.into(), state: Atomic::Fresh }, lines: Vec::new() }
    }

    fn stream(name: &'static str, writer: Box<dyn Write + Send>) -> Ndjson {
        Ndjson { output: Output::Stream { name, writer }, lines: Vec::new() }
    }
}

impl Sink for Ndjson {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        check(schema)?;
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
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_timestamp_format(TIMESTAMP.to_owned());
        builder.build::<_, LineDelimited>(&mut self.lines).write(batch)?;
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

impl fmt::Debug for Ndjson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.output {
            Output::Stream { name, .. } => write!(f, "Ndjson to {name}"),
            Output::Append { path, .. } => write!(f, "Ndjson appended to {}", path.display()),
            Output::Atomic { path, .. } => write!(f, "Ndjson in {}", path.display()),
        }
    }
}

/// Refuses columns that JSON cannot hold before any row comes.
fn check(schema: &SchemaRef) -> Result<()> {
    for field in schema.fields() {
        let alone = Arc::new(Field::new_struct("", vec![Arc::clone(field)], false));
        let empty = StructArray::new(vec![Arc::clone(field)].into(), vec![arrow::array::new_empty_array(field.data_type())], None);
        make_encoder(&alone, &empty, &Default::default()).map_err(|error| {
            Error::schema(format!("column `{}` of type {} cannot be written as JSON; select or cast it", field.name(), field.data_type()))
                .with_source(error)
        })?;
    }
    Ok(())
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

fn not_open() -> Error {
    Error::config("the sink is not open: call `open` first, and again after `abort`")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Schema, UnionFields};

    use super::*;
    use crate::error::Kind;

    fn batch(values: &[i64]) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef)]).unwrap()
    }

    fn open(mut sink: Ndjson) -> Ndjson {
        sink.open(&batch(&[]).schema()).unwrap();
        sink
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_type_has_its_spelling() {
        let columns: [(&str, ArrayRef); 5] = [
            ("ts", Arc::new(TimestampMillisecondArray::from(vec![Some(1_706_702_400_250), Some(1_706_702_400_000), None]))),
            ("zoned", Arc::new(TimestampMicrosecondArray::from(vec![1, 0, -1]).with_timezone("+00:00"))),
            ("x", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None]))),
            ("y", Arc::new(Float64Array::from(vec![f64::INFINITY, -0.25, 1e300]))),
            ("s", Arc::new(StringArray::from(vec![Some("a\"b\n"), Some("é"), None]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let written = Shared::default();
        let mut sink = Ndjson::writer(Box::new(written.clone()));
        sink.open(&batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        sink.write(&batch.slice(0, 0)).unwrap();
        sink.commit().unwrap();
        let calls = written.0.lock().unwrap();
        assert_eq!(calls.len(), 1, "one call per batch with rows");
        assert_eq!(
            String::from_utf8(calls[0].clone()).unwrap(),
            concat!(
                r#"{"ts":"2024-01-31T12:00:00.250Z","zoned":"1970-01-01T00:00:00.000001Z","x":1.5,"y":null,"s":"a\"b\n"}"#,
                "\n",
                r#"{"ts":"2024-01-31T12:00:00Z","zoned":"1970-01-01T00:00:00Z","x":null,"y":-0.25,"s":"é"}"#,
                "\n",
                r#"{"ts":null,"zoned":"1969-12-31T23:59:59.999999Z","x":null,"y":1.0e300,"s":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_created_file_shows_commits_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.ndjson");
        std::fs::write(&path, "before\n").unwrap();
        let mut sink = open(Ndjson::create(&path));
        sink.write(&batch(&[1])).unwrap();
        assert_eq!(read(&path), "before\n");
        sink.commit().unwrap();
        assert_eq!(read(&path), "{\"n\":1}\n");
        sink.write(&batch(&[2, 3])).unwrap();
        assert_eq!(read(&path), "{\"n\":1}\n");
        sink.commit().unwrap();
        sink.commit().unwrap();
        sink.write(&batch(&[4])).unwrap();
        sink.abort();
        drop(sink);
        assert_eq!(read(&path), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no hidden file is left");
    }

    #[test]
    fn a_run_without_rows_makes_an_empty_file_and_a_dropped_one_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.ndjson");
        let mut dropped = open(Ndjson::create(&path));
        dropped.write(&batch(&[1])).unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        open(Ndjson::create(&path)).commit().unwrap();
        assert_eq!(read(&path), "");
    }

    #[test]
    fn appended_lines_are_there_at_once_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.ndjson");
        std::fs::write(&path, "{\"n\":0}\n{\"n\"").unwrap();
        let mut sink = open(Ndjson::append(&path));
        sink.write(&batch(&[1, 2])).unwrap();
        assert_eq!(read(&path), "{\"n\":0}\n{\"n\"\n{\"n\":1}\n{\"n\":2}\n");
        sink.commit().unwrap();
        sink.abort();
        let mut again = open(Ndjson::append(&path));
        again.write(&batch(&[3])).unwrap();
        assert!(read(&path).ends_with("{\"n\":2}\n{\"n\":3}\n"));
    }

    #[test]
    fn a_full_disk_and_a_closed_pipe_are_named() {
        let mut full = open(Ndjson::append("/dev/full"));
        let error = full.write(&batch(&[1])).unwrap_err();
        assert_eq!(error.kind(), Kind::Connector);
        assert!(error.to_string().starts_with("cannot append to `/dev/full`: no space is left for it"), "{error}");

        let (reader, writer) = io::pipe().unwrap();
        let mut piped = open(Ndjson::writer(Box::new(writer)));
        piped.write(&batch(&[1])).unwrap();
        drop(reader);
        let error = piped.write(&batch(&[1])).unwrap_err().to_string();
        assert!(error.starts_with("the writer is closed: the program that read it has ended"), "{error}");
    }

    #[test]
    fn a_column_that_json_cannot_hold_is_refused_at_once() {
        let union = UnionFields::from_fields(vec![Field::new("i", DataType::Int64, true)]);
        let schema = Arc::new(Schema::new(vec![Field::new("u", DataType::Union(union, arrow::datatypes::UnionMode::Dense), false)]));
        let error = Ndjson::stdout().open(&schema).unwrap_err();
        assert!(error.to_string().starts_with("column `u` of type Union"), "{error}");
        assert_eq!(error.kind(), Kind::Schema);
    }

    #[test]
    fn calls_out_of_order_are_errors() {
        assert!(Ndjson::create("x").write(&batch(&[1])).unwrap_err().to_string().contains("not open"));
        assert!(Ndjson::append("x").commit().is_err());
        assert!(Ndjson::create("/no/such/folder/x").open(&batch(&[]).schema()).is_err());
    }
}
