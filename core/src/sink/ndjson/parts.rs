//! Lines of JSON in a folder of parts.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::format::compression::Compression;
use crate::format::values::json;
use crate::sink::parts::{Encoder, Failure, Format, Output, PartOptions};
use crate::sink::text::Text;

/// When a part is complete, which folder it is in, and how it is written inside.
#[derive(Clone, Default)]
pub struct NdjsonOptions {
    /// When a part is complete, and which folder it is in.
    pub parts: PartOptions,
    /// What parts are compressed with.
    pub compression: Compression,
}

/// The format.
#[derive(Default)]
pub(super) struct Objects(pub Compression);

impl Format for Objects {
    fn extension(&self) -> &'static str {
        match self.0 {
            Compression::None => ".ndjson",
            Compression::Gzip => ".ndjson.gz",
            Compression::Zstd => ".ndjson.zst",
            Compression::Lz4 => ".ndjson.lz4",
        }
    }

    /// The sink has checked the columns.
    fn prepare(&mut self, _schema: &SchemaRef, _sort_by: &[usize]) -> Result<()> {
        Ok(())
    }

    fn begin(&self, _schema: &SchemaRef, output: Output) -> Result<Box<dyn Encoder>, Failure> {
        Ok(Box::new(Lines { text: Text::new(output, self.0)?, lines: Vec::new() }))
    }
}

/// One file.
struct Lines {
    text: Text,
    /// The lines of one batch.
    lines: Vec<u8>,
}

impl Encoder for Lines {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.lines.clear();
        json::write(batch, &mut self.lines)?;
        Ok(self.text.write(&self.lines)?)
    }

    fn output(&self) -> &Output {
        self.text.output()
    }

    fn finish(self: Box<Self>) -> Result<Output, Failure> {
        Ok(self.text.finish()?)
    }
}
