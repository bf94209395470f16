//! One file that every commit writes anew.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Columns, ParquetOptions};
use crate::error::{Error, Result};
use crate::sink::parts::{Format, Part, failed, places};
use crate::sink::publish::{self, Pending};
use crate::sink::{Sink, not_open};

pub(super) struct SingleFile {
    path: PathBuf,
    format: Columns,
    layout: Option<(SchemaRef, Vec<usize>)>,
    part: Option<Part>,
    /// Whether the file is this run's.
    committed: bool,
}

impl SingleFile {
    pub fn new(path: PathBuf) -> SingleFile {
        SingleFile { path, format: Columns::default(), layout: None, part: None, committed: false }
    }

    pub fn set(&mut self, options: ParquetOptions) {
        self.format.options = options;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the file with the rows that are committed.
    fn begin(&self) -> Result<Part> {
        let (schema, sort_by) = self.layout.as_ref().ok_or_else(not_open)?;
        let mut part = Part::begin(&self.format, schema, Box::new(Pending::create(&self.path)?), 0, sort_by)?;
        if self.committed {
            let file = File::open(&self.path).map_err(|error| publish::failed("read", &self.path, error))?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
            for batch in reader.map_err(|error| failed("read", &self.path.display().to_string(), error.into()))? {
                part.write(&batch?)?;
            }
        }
        Ok(part)
    }

    fn write_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.begin()?,
        };
        part.write(batch)?;
        self.part = Some(part);
        Ok(())
    }
}

impl Sink for SingleFile {
    fn open(&mut self, schema: &SchemaRef) -> Result<()> {
        let options = &self.format.options.parts;
        if !options.partition_by.is_empty() {
            return Err(Error::config("a single file cannot be partitioned; give a folder"));
        }
        let sort_by = places(schema, &options.sort_by)?;
        self.format.prepare(schema, &sort_by)?;
        let ours = |name: &str| self.path.file_name().is_some_and(|own| own == name);
        publish::remove_leftovers(publish::folder_of(&self.path), 0, &ours);
        self.layout = Some((SchemaRef::clone(schema), sort_by));
        self.committed = false;
        // Also tells whether the file can be written and whether Parquet has all the types.
        self.part = Some(self.begin()?);
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let written = self.write_rows(batch);
        if written.is_err() {
            self.abort();
        }
        written
    }

    fn commit(&mut self) -> Result<()> {
        if self.layout.is_none() {
            return Err(not_open());
        }
        if let Some(part) = self.part.take() {
            part.finish()?.publish()?;
            self.committed = true;
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.part = None;
        self.layout = None;
    }
}
