//! A folder on a clock that moves when it is slept by.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parquet::arrow::ArrowWriter;

use super::*;
use crate::time::{Clock, SimulatedClock, millis};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
}

/// Writes lines of numbers, last changed at `modified` seconds.
fn write(folder: &Path, name: &str, numbers: &[i64], modified: u64) {
    let mut file = File::create(folder.join(name)).unwrap();
    numbers.iter().for_each(|n| writeln!(file, "{{\"a\": {n}}}").unwrap());
    file.set_modified(UNIX_EPOCH + secs(modified)).unwrap();
}

fn lines(folder: &Path) -> Watch {
    Watch::new(folder.join("*.ndjson").to_str().unwrap(), FileFormat::Bytes(Format::Ndjson)).unwrap().schema(schema())
}

/// A watch that is polled by hand.
struct Run {
    source: Box<dyn Source>,
    clock: Arc<SimulatedClock>,
    names: Vec<String>,
    rejected: Vec<String>,
    missing: u64,
    end: bool,
}

impl Run {
    fn start(watch: Watch) -> Run {
        let clock = SimulatedClock::shared();
        let shared: SharedClock = Arc::<SimulatedClock>::clone(&clock);
        let source = watch.checked().unwrap().open(&Config { batch_rows: 4, ..Config::default() }, &shared).unwrap();
        Run { source, clock, names: Vec::new(), rejected: Vec::new(), missing: 0, end: false }
    }

    /// The numbers that come until the clock has moved so far, or to the end.
    fn numbers(&mut self, by: Duration) -> Vec<i64> {
        let until = self.clock.monotonic() + nanos(by);
        let mut numbers = Vec::new();
        while !self.end && self.clock.monotonic() < until {
            let delivery = self.source.poll(millis(100)).unwrap();
            if let Some(batch) = &delivery.batch {
                assert_eq!(batch.segments.iter().map(|segment| segment.rows).sum::<usize>(), batch.rows());
                numbers.extend(batch.records.column(0).as_primitive::<Int64Type>().values());
            }
            self.names.extend(delivery.names.iter().map(|(_, name)| name.rsplit('/').next().unwrap().to_owned()));
            self.rejected.extend(delivery.rejected.iter().map(|row| row.error.clone()));
            self.missing += delivery.missing_files;
            self.end = delivery.end;
        }
        numbers
    }
}

#[test]
fn files_come_once_in_order_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "b.ndjson", &[3, 4], 10);
    write(path, "a.ndjson", &[5], 20);
    write(path, "c.ndjson", &[1, 2], 10 - 1);
    write(path, "_hidden.ndjson", &[100], 1);
    write(path, "d.ndjson.tmp", &[6, 7, 8, 9, 10, 11], 5);
    let mut run = Run::start(lines(path));
    assert_eq!(run.numbers(secs(4)), [0; 0], "nobody knows yet whether they are whole");
    assert_eq!(run.numbers(secs(3)), [1, 2, 3, 4, 5]);
    fs::rename(path.join("d.ndjson.tmp"), path.join("d.ndjson")).unwrap();
    assert_eq!(run.numbers(secs(2)), [6, 7, 8, 9, 10, 11], "renamed, it is whole at once");
    write(path, "e.ndjson", &[12], 1);
    assert_eq!(run.numbers(secs(4)), [0; 0]);
    write(path, "e.ndjson", &[12, 13], 2);
    assert_eq!(run.numbers(secs(4)), [0; 0], "it has changed");
    assert_eq!(run.numbers(secs(3)), [12, 13]);
    assert_eq!(run.names, ["c.ndjson", "b.ndjson", "a.ndjson", "d.ndjson", "e.ndjson"]);
    assert_eq!(run.numbers(secs(60)), [0; 0]);
    assert!(!run.end);
}

#[test]
fn a_watch_may_begin_with_what_is_new_or_end_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "old.ndjson", &[1], 1);
    let mut new = Run::start(lines(path).existing(false).settle(Duration::ZERO));
    assert_eq!(new.numbers(secs(2)), [0; 0]);
    let mut old = Run::start(lines(path).bounded(true).poll(secs(2)));
    assert_eq!(old.numbers(millis(1)), [0; 0]);
    write(path, "new.ndjson", &[2], 2);
    assert_eq!((new.numbers(secs(2)), new.end), (vec![2], false));
    assert_eq!((old.numbers(secs(60)), old.end), (vec![1], true));
    let error = lines(path).existing(false).bounded(true).checked().err().unwrap().to_string();
    assert!(error.contains("would read nothing"), "{error}");
    assert!(lines(path).poll(Duration::ZERO).checked().err().unwrap().to_string().contains("`poll` is 0"));
}

#[test]
fn columns_come_from_the_first_file_or_must_be_given() {
    let folder = tempfile::tempdir().unwrap();
    let watch = || Watch::new(folder.path().join("*.csv").to_str().unwrap(), FileFormat::parse("csv").unwrap()).unwrap();
    let error = watch().checked().err().unwrap().to_string();
    assert!(error.starts_with("the columns cannot be inferred; give a schema: no file matches"), "{error}");
    fs::write(folder.path().join(".x.csv"), "hidden\n1\n").unwrap();
    fs::write(folder.path().join("x.csv"), "a\n1\n2\n").unwrap();
    assert_eq!(watch().checked().unwrap().schema().field(0).name(), "a");
    assert_eq!(Run::start(watch().bounded(true)).numbers(secs(60)), [1, 2]);
    for wrong in ["in/**/*.csv", "/", folder.path().to_str().unwrap()] {
        let error = Watch::new(wrong, FileFormat::Parquet).unwrap_err().to_string();
        assert!(error.contains("names no files; write for example `in/*.ndjson`"), "{error}");
    }
    let gone = Watch::new("/no/such/folder/*.csv", FileFormat::Parquet).unwrap().schema(schema()).checked().unwrap();
    let clock: SharedClock = SimulatedClock::shared();
    let error = gone.open(&Config::default(), &clock).unwrap().poll(secs(1)).unwrap_err().to_string();
    assert!(error.starts_with("the folder to watch: no file matches `/no/such/folder`"), "{error}");
    assert!(FileFormat::parse("xml").unwrap_err().to_string().contains("ndjson, debezium, csv, tsv, avro, arrow or parquet"));
}

#[test]
fn a_file_that_goes_too_early_is_counted_and_the_rest_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for n in 0..2_000 {
        write(path, &format!("{n:05}.ndjson"), &[n], n as u64);
    }
    let mut run = Run::start(lines(path).settle(Duration::ZERO).poll(secs(1_000)));
    // One is read, the others are known by now.
    let first = run.source.poll(Duration::ZERO).unwrap();
    assert_eq!(first.names.len(), 1);
    (500..600).for_each(|n| fs::remove_file(path.join(format!("{n:05}.ndjson"))).unwrap());
    let numbers = run.numbers(secs(2));
    let taken = first.batch.map_or(0, |batch| batch.rows()) + numbers.len();
    assert_eq!((taken, run.missing), (1_900, 100));
    assert!(numbers.is_sorted() && !numbers.contains(&550));
}

fn parquet(path: &Path, numbers: Vec<i64>) {
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(numbers))]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn columns_are_watched_too_and_what_does_not_decode_is_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    parquet(&path.join("a.parquet"), (0..10).collect());
    fs::write(path.join("b.parquet"), "no Parquet at all").unwrap();
    let other = RecordBatch::try_from_iter([("b", Arc::new(Int64Array::from(vec![1])) as _)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path.join("c.parquet")).unwrap(), other.schema(), None).unwrap();
    writer.write(&other).unwrap();
    writer.close().unwrap();
    parquet(&path.join("d.parquet"), vec![10]);
    for (name, seconds) in ["a", "b", "c", "d"].into_iter().zip(1..) {
        let file = File::options().append(true).open(path.join(format!("{name}.parquet"))).unwrap();
        file.set_modified(UNIX_EPOCH + secs(seconds)).unwrap();
    }
    let watch = Watch::new(path.join("*.parquet").to_str().unwrap(), FileFormat::Parquet).unwrap().bounded(true).schema(schema());
    let mut run = Run::start(watch);
    assert_eq!(run.numbers(secs(60)), (0..11).collect::<Vec<_>>());
    assert!(run.end);
    let [first, second] = &run.rejected[..] else { panic!("{:?}", run.rejected) };
    assert!(first.contains("b.parquet cannot be read as Parquet"), "{first}");
    assert!(second.starts_with("it has other columns than the stream"), "{second}");
}

#[test]
fn arrow_files_and_streams_are_watched() {
    let folder = tempfile::tempdir().unwrap();
    let batch = |n| RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![n]))]).unwrap();
    let mut file = arrow::ipc::writer::FileWriter::try_new(File::create(folder.path().join("a.arrow")).unwrap(), &schema()).unwrap();
    file.write(&batch(1)).unwrap();
    file.finish().unwrap();
    let mut stream = arrow::ipc::writer::StreamWriter::try_new(File::create(folder.path().join("b.arrow")).unwrap(), &schema()).unwrap();
    stream.write(&batch(2)).unwrap();
    stream.finish().unwrap();
    let watch = Watch::new(folder.path().join("*").to_str().unwrap(), FileFormat::Arrow).unwrap().bounded(true);
    let mut numbers = Run::start(watch).numbers(secs(60));
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn packed_files_are_unpacked_and_a_damaged_one_ends_where_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |numbers: std::ops::Range<i64>| numbers.map(|n| format!("{{\"a\": {n}}}\n")).collect::<String>().into_bytes();
    let gzip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    // More than comes out in one step, in two members, and of more rows than a batch has.
    let whole = [gzip(&lines(0..30_000)), gzip(&lines(30_000..40_000))].concat();
    let zstd = zstd::encode_all(&*lines(40_000..50_000), 1).unwrap();
    let mut damaged = zstd.clone();
    damaged[0] = 0;
    for (seconds, (name, bytes)) in
        (1..).zip([("a.gz", &whole[..]), ("b.zst", &zstd[..]), ("c.zst", &zstd[..zstd.len() / 2]), ("d.zst", &damaged[..]), ("e.gz", &[])])
    {
        fs::write(folder.path().join(name), bytes).unwrap();
        File::options().append(true).open(folder.path().join(name)).unwrap().set_modified(UNIX_EPOCH + secs(seconds)).unwrap();
    }
    let watch = |pattern: &str| {
        let pattern = folder.path().join(pattern);
        Watch::new(pattern.to_str().unwrap(), FileFormat::Bytes(Format::Ndjson)).unwrap().bounded(true).schema(schema())
    };
    let mut run = Run::start(watch("*"));
    let numbers = run.numbers(secs(60));
    assert!(run.end && numbers.len() >= 50_000, "{}", numbers.len());
    let (once, again) = numbers.split_at(50_000);
    assert!(once.iter().copied().eq(0..50_000));
    assert!(again.iter().copied().eq((40_000..50_000).take(again.len())), "what was whole of the one that is cut off");
    let of = |name: &str| run.rejected.iter().filter(|error| error.contains(name)).cloned().collect::<Vec<_>>().join("; ");
    assert!(of("c.zst").contains("the zstd data is cut off at byte"), "{:?}", run.rejected);
    assert!(of("d.zst").contains("the zstd data is damaged, or is none, at byte 0 of the file"), "{:?}", run.rejected);
    assert_eq!(of("a.gz") + &of("b.zst") + &of("e.gz"), "");
    // Said, it is believed whatever the suffix.
    fs::rename(folder.path().join("a.gz"), folder.path().join("a.log")).unwrap();
    assert_eq!(Run::start(watch("*.log").compression(Compression::Gzip)).numbers(secs(60)).len(), 40_000);
    let inferred = Watch::new(folder.path().join("b.zst").to_str().unwrap(), FileFormat::Bytes(Format::Ndjson)).unwrap();
    assert_eq!(inferred.checked().unwrap().schema(), schema());
}
