//! The Parquet sink beside the crate that it writes with.

use std::fs::{self, File};
use std::path::PathBuf;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use thalweg::sink::{Parquet, ParquetOptions};
use thalweg::{Query, Stream};

use crate::Result;
use crate::answer::Answer;
use crate::bench::Bench;
use crate::contest::{Contender, Contest, Run};

/// A folder below `target/bench`; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("target/bench/{}-parquet", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    /// Reads the rows that the files claim, and removes these.
    fn rows(&self) -> Result<u64> {
        let mut rows = 0;
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            rows += ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?)?.metadata().file_metadata().num_rows();
            fs::remove_file(&path)?;
        }
        Ok(rows.try_into()?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Times and values as one part each, zstd of level 1, brought to the disk.
pub fn contest(bench: &Bench<'_>) -> Result<Option<Contest>> {
    let name = "Parquet sink, ts and value, zstd, one part";
    if !bench.common.wants(name) {
        return Ok(None);
    }
    let folder = Folder::new()?;
    let expected = Answer::of_rows(bench.events.rows as u64);
    let batches = bench.events.project(&["ts", "value"])?;
    let stream = Stream::from_arrow(batches.clone());
    let options = ParquetOptions::default();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?))
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .build();
    let through_the_sink = || {
        let run = Run::time(|| {
            Query::new().sink(&stream, Parquet::directory(&folder.0).options(options.clone())).run()?;
            Ok(Answer::default())
        })?;
        Ok(Run { answer: Answer::of_rows(folder.rows()?), ..run })
    };
    let by_the_crate = || {
        let run = Run::time(|| {
            let file = File::create(folder.0.join("rows.parquet"))?;
            let mut writer = ArrowWriter::try_new(file.try_clone()?, batches[0].schema(), Some(properties.clone()))?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.close()?;
            file.sync_all()?;
            Ok(Answer::default())
        })?;
        Ok(Run { answer: Answer::of_rows(folder.rows()?), ..run })
    };
    let contenders =
        vec![Contender::new("Thalweg's sink", expected, through_the_sink), Contender::new("the crate `parquet`", expected, by_the_crate)];
    Ok(Some(bench.hold(name, contenders, 16)?))
}
