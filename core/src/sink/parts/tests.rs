//! What all formats share, seen by readers of each.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, ListArray, StringArray, TimestampMillisecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use arrow::ipc::reader::FileReader;

use super::*;
use crate::format::compression::Compression;
use crate::sink::{ArrowIpc, ArrowIpcOptions, Csv, CsvOptions, Ndjson, NdjsonOptions};
use crate::time::{SimulatedClock, secs};

/// Rows of cities, times and numbers.
fn sales(numbers: std::ops::Range<i64>) -> RecordBatch {
    let cities: ArrayRef =
        Arc::new(numbers.clone().map(|n| [Some("Paris"), None, Some("a,\"b\"")][n as usize % 3]).collect::<StringArray>());
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(numbers.clone().map(|n| n * 3_600_000 + 250)));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter_with_nullable([("city", cities, true), ("ts", times, true), ("n", numbers, true)]).unwrap()
}

/// A sink of each format over a folder of its own, with the end of its files' names.
fn sinks(root: &Path, parts: &PartOptions, compression: Compression) -> [(Box<dyn Sink>, std::path::PathBuf, String); 3] {
    let folder = |name: &str| root.join(name);
    let end = |plain: &str| match compression {
        Compression::None => plain.to_owned(),
        Compression::Gzip => format!("{plain}.gz"),
        Compression::Zstd => format!("{plain}.zst"),
        Compression::Lz4 => format!("{plain}.lz4"),
    };
    let csv = CsvOptions { parts: parts.clone(), compression, ..Default::default() };
    let ndjson = NdjsonOptions { parts: parts.clone(), compression };
    let of_buffers = if compression == Compression::Gzip { Compression::None } else { compression };
    let arrow = ArrowIpcOptions { parts: parts.clone(), compression: of_buffers };
    [
        (Box::new(Csv::directory(folder("csv")).options(csv)), folder("csv"), end(".csv")),
        (Box::new(Ndjson::directory(folder("ndjson")).options(ndjson)), folder("ndjson"), end(".ndjson")),
        (Box::new(ArrowIpc::directory(folder("arrow")).options(arrow)), folder("arrow"), ".arrow".to_owned()),
    ]
}

/// The numbers in a file.
fn read(path: &Path) -> Vec<i64> {
    let name = path.to_str().unwrap();
    let bytes = std::fs::read(path).unwrap();
    if name.ends_with(".arrow") {
        let reader = FileReader::try_new(File::open(path).unwrap(), None).unwrap();
        return reader.flat_map(|batch| batch.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec()).collect();
    }
    let text = match name.rsplit('.').next().unwrap() {
        "zst" => zstd::decode_all(&*bytes).unwrap(),
        "gz" => {
            let mut text = Vec::new();
            io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*bytes), &mut text).unwrap();
            text
        }
        "lz4" => {
            let mut text = Vec::new();
            io::Read::read_to_end(&mut lz4_flex::frame::FrameDecoder::new(&*bytes), &mut text).unwrap();
            text
        }
        _ => bytes,
    };
    let schema = Arc::new(Schema::new(vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("ts", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]));
    let batches: Vec<RecordBatch> = if name.contains(".csv") {
        let header = String::from_utf8(text.split(|&byte| byte == b'\n').next().unwrap().to_vec()).unwrap();
        let columns: Vec<usize> = header.split(',').map(|name| schema.index_of(name).unwrap()).collect();
        let schema = Arc::new(schema.project(&columns).unwrap());
        arrow::csv::ReaderBuilder::new(schema).with_header(true).build(&*text).unwrap().map(std::result::Result::unwrap).collect()
    } else {
        arrow::json::ReaderBuilder::new(schema).build(&*text).unwrap().map(std::result::Result::unwrap).collect()
    };
    batches.iter().flat_map(|batch| batch["n"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Names of the files below `root` that readers see, by folder and number, with the numbers in them; and how many are hidden.
fn tree(root: &Path) -> (Vec<(String, Vec<i64>)>, usize) {
    let (mut seen, mut hidden) = (Vec::new(), 0);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match (path.is_dir(), path.file_name().unwrap().to_str().unwrap().starts_with(PART)) {
                (true, _) => folders.push(path),
                (false, true) => seen.push((path.clone(), read(&path))),
                (false, false) => hidden += 1,
            }
        }
    }
    seen.sort();
    let named = |(path, numbers): (std::path::PathBuf, Vec<i64>)| {
        (path.parent().unwrap().strip_prefix(root).unwrap().to_str().unwrap().to_owned(), numbers)
    };
    (seen.into_iter().map(named).collect(), hidden)
}

#[test]
fn every_format_is_parted_rolled_and_published_whole() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Lz4] {
        let root = tempfile::tempdir().unwrap();
        let options = PartOptions { max_rows: 2, partition_by: vec!["city".parse().unwrap()], ..Default::default() };
        for (mut sink, folder, end) in sinks(root.path(), &options, compression) {
            sink.open(&sales(0..0).schema()).unwrap();
            sink.write(&sales(0..9)).unwrap();
            assert!(tree(&folder).0.is_empty(), "{end}: nothing is seen before the commit");
            sink.commit().unwrap();
            sink.write(&sales(9..12)).unwrap();
            sink.abort();
            let expected = [
                ("city=Paris", vec![0, 3]),
                ("city=Paris", vec![6]),
                ("city=__HIVE_DEFAULT_PARTITION__", vec![1, 4]),
                ("city=__HIVE_DEFAULT_PARTITION__", vec![7]),
                ("city=a,%22b%22", vec![2, 5]),
                ("city=a,%22b%22", vec![8]),
            ];
            assert_eq!(tree(&folder), (expected.map(|(folder, numbers)| (folder.to_owned(), numbers)).to_vec(), 0), "{end}");
            let name = std::fs::read_dir(folder.join("city=Paris")).unwrap().next().unwrap().unwrap().file_name();
            assert!(name.to_str().unwrap().ends_with(&end), "{name:?}");
        }
    }
}

#[test]
fn every_format_rolls_by_bytes_and_age_and_sorts() {
    let clock = SimulatedClock::shared();
    let by_age = PartOptions { max_age: Some((secs(10), clock.clone())), ..Default::default() };
    let by_bytes = PartOptions { max_bytes: 1, ..Default::default() };
    for (options, expected) in [(by_age, vec![vec![0, 1], vec![2, 3]]), (by_bytes, vec![vec![0], vec![1], vec![2], vec![3]])] {
        let root = tempfile::tempdir().unwrap();
        for (mut sink, folder, end) in sinks(root.path(), &options, Compression::None) {
            sink.open(&sales(0..0).schema()).unwrap();
            for n in 0..4 {
                sink.write(&sales(n..n + 1)).unwrap();
                clock.advance(secs(5));
            }
            sink.commit().unwrap();
            assert_eq!(tree(&folder).0.into_iter().map(|(_, numbers)| numbers).collect::<Vec<_>>(), expected, "{end}");
        }
    }
    let root = tempfile::tempdir().unwrap();
    let sorted = PartOptions { sort_by: vec!["city".to_owned()], ..Default::default() };
    for (mut sink, folder, _) in sinks(root.path(), &sorted, Compression::Zstd) {
        sink.open(&sales(0..0).schema()).unwrap();
        sink.write(&sales(0..6)).unwrap();
        sink.commit().unwrap();
        assert_eq!(tree(&folder).0, [(String::new(), vec![1, 4, 0, 3, 2, 5])]);
    }
}

#[test]
fn text_is_spelled_as_it_is_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    for (mut sink, folder, expected) in [
        (
            Box::new(Csv::directory(root.path().join("csv"))) as Box<dyn Sink>,
            "csv",
            "city,ts,n\nParis,1970-01-01T00:00:00.250,0\n,1970-01-01T01:00:00.250,1\n\"a,\"\"b\"\"\",1970-01-01T02:00:00.250,2\n",
        ),
        (
            Box::new(Csv::directory(root.path().join("tsv")).options(CsvOptions { delimiter: b'\t', header: false, ..Default::default() })),
            "tsv",
            "Paris\t1970-01-01T00:00:00.250\t0\n\t1970-01-01T01:00:00.250\t1\n\"a,\"\"b\"\"\"\t1970-01-01T02:00:00.250\t2\n",
        ),
        (
            Box::new(Ndjson::directory(root.path().join("ndjson"))),
            "ndjson",
            "{\"city\":\"Paris\",\"ts\":\"1970-01-01T00:00:00.250Z\",\"n\":0}\n{\"city\":null,\"ts\":\"1970-01-01T01:00:00.250Z\",\"n\":1}\n\
             {\"city\":\"a,\\\"b\\\"\",\"ts\":\"1970-01-01T02:00:00.250Z\",\"n\":2}\n",
        ),
    ] {
        sink.open(&sales(0..0).schema()).unwrap();
        sink.write(&sales(0..1)).unwrap();
        sink.write(&sales(1..3)).unwrap();
        sink.commit().unwrap();
        let file = std::fs::read_dir(root.path().join(folder)).unwrap().next().unwrap().unwrap().path();
        assert_eq!(std::fs::read_to_string(file).unwrap(), expected, "{folder}");
    }
}

#[test]
fn arrow_files_have_whole_batches_and_no_dictionaries() {
    let root = tempfile::tempdir().unwrap();
    let keyed = |word: &str, rows: usize| {
        let words: DictionaryArray<Int32Type> = std::iter::repeat_n(word, rows).collect();
        let numbers = Int64Array::from_iter_values(0..rows as i64);
        RecordBatch::try_from_iter([("word", Arc::new(words) as ArrayRef), ("n", Arc::new(numbers) as ArrayRef)]).unwrap()
    };
    let mut sink = ArrowIpc::directory(root.path());
    sink.open(&keyed("a", 1).schema()).unwrap();
    sink.write(&keyed("a", config::ARROW_BATCH_ROWS - 1)).unwrap();
    sink.write(&keyed("b", 2)).unwrap();
    sink.commit().unwrap();
    let file = std::fs::read_dir(root.path()).unwrap().next().unwrap().unwrap().path();
    let reader = FileReader::try_new(File::open(file).unwrap(), None).unwrap();
    let schema = reader.schema();
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
    let batches: Vec<RecordBatch> = reader.map(std::result::Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [config::ARROW_BATCH_ROWS, 1]);
    let all = concat_batches(&schema, &batches).unwrap();
    let words = all["word"].as_string::<i32>();
    assert_eq!((words.value(0), words.value(config::ARROW_BATCH_ROWS - 1)), ("a", "b"));
}

#[test]
fn what_a_format_cannot_hold_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    let lists = RecordBatch::try_from_iter([("l", Arc::new(list) as ArrayRef)]).unwrap();
    let csv = || Csv::directory(root.path().join("out"));
    let error = csv().open(&lists.schema()).unwrap_err().to_string();
    assert!(error.starts_with("column `l` of type List") && error.contains("write NDJSON, Arrow or Parquet"), "{error}");
    let quote = CsvOptions { delimiter: b'"', ..Default::default() };
    assert!(csv().options(quote).open(&sales(0..0).schema()).unwrap_err().to_string().contains("`delimiter`"));
    let none = CsvOptions { parts: PartOptions { max_rows: 0, ..Default::default() }, ..Default::default() };
    let error = csv().options(none).open(&sales(0..0).schema()).unwrap_err().to_string();
    assert_eq!(error, "`max_rows` is 0; it may be 1 or more");
    assert!(csv().write(&sales(0..1)).unwrap_err().to_string().contains("not open"));
    assert!(!root.path().join("out").exists());
    let gzip = ArrowIpcOptions { compression: Compression::Gzip, ..Default::default() };
    let error = ArrowIpc::directory(root.path().join("out")).options(gzip).open(&sales(0..0).schema()).unwrap_err().to_string();
    assert!(error.contains("Arrow's format knows no gzip"), "{error}");
}

/// A place that fails when a part is shown for the second time, as a store may.
struct Flaky(LocalFolder, Arc<std::sync::atomic::AtomicUsize>);

struct FlakyPart(Box<dyn PendingPart>, Arc<std::sync::atomic::AtomicUsize>);

impl Place for Flaky {
    fn prepare(&mut self, extension: &str, levels: usize) -> Result<()> {
        self.0.prepare(extension, levels)
    }

    fn begin(&mut self, path: &str) -> Result<Box<dyn PendingPart>> {
        Ok(Box::new(FlakyPart(self.0.begin(path)?, Arc::clone(&self.1))))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl Write for FlakyPart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.windows(5).any(|window| window == b"crash") {
            true => Err(io::Error::other(Error::connector("the store is away").retriable_if(true))),
            false => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl PendingPart for FlakyPart {
    fn location(&self) -> String {
        self.0.location()
    }

    fn memory_bytes(&self) -> usize {
        config::OPEN_PART_BYTES / 2
    }

    fn complete(&mut self) -> Result<()> {
        self.0.complete()
    }

    fn flush_memory(&mut self) -> Result<()> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.0.publish()
    }
}

#[test]
fn what_a_place_says_of_a_failure_is_said_and_what_waits_is_bounded() {
    let root = tempfile::tempdir().unwrap();
    let flushed = Arc::default();
    let place = Flaky(LocalFolder::new(root.path()), Arc::clone(&flushed));
    let mut sink =
        Ndjson::at(place).options(NdjsonOptions { parts: PartOptions { max_rows: 1, ..Default::default() }, ..Default::default() });
    let words = |words: &[&str]| RecordBatch::try_from_iter([("word", Arc::new(StringArray::from(words.to_vec())) as ArrayRef)]).unwrap();
    sink.open(&words(&[]).schema()).unwrap();
    sink.write(&words(&["a", "b", "c", "d"])).unwrap();
    assert_eq!(flushed.load(std::sync::atomic::Ordering::SeqCst), 3, "the third complete part was one too many");
    let error = sink.write(&words(&["crash"])).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.is_retriable()), ("the store is away", true));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "nothing of the run is left");
}
