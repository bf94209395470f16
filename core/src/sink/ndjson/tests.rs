//! Every spelling, and what a reader sees of each kind of output.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, UnionFields};

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
