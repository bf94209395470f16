//! The data set: 100,000 events per second of event time, disordered by up to 500 ms, from a fixed seed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use crate::Result;

/// Milliseconds by which an event may be disordered.
pub const MAX_DELAY: i64 = 500;

/// Events per millisecond of event time.
pub const PER_MILLISECOND: usize = 100;

/// When the first event happens, in milliseconds since 1970: a whole minute.
pub const START: i64 = 1_700_000_040_000;

/// Rows of one batch: what a table in memory is made of.
const BATCH_ROWS: usize = 1 << 20;

const SEED: u64 = 0x7468_616c_7765_6721;

/// Key columns: name and number of keys; `wide_…` has the keys of `k_…` spread over the range of `int64`.
pub const KEYS: [(&str, u32); 3] = [("k_100", 100), ("k_10k", 10_000), ("k_1m", 1_000_000)];

/// Events as Arrow batches.
pub struct Events {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub rows: usize,
}

/// Spreads a key over the range of `int64`, one to one: the finaliser of SplitMix64.
fn spread(key: i32) -> i64 {
    let mut bits = key as u64;
    bits = (bits ^ (bits >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) as i64
}

/// Four decimals: text and column then hold the same number.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

impl Events {
    /// The first `rows` events.
    pub fn generate(rows: usize) -> Result<Events> {
        let mut random = SmallRng::seed_from_u64(SEED);
        let values = LogNormal::new(3.0, 1.0)?;
        let mut fields = vec![Field::new("ts", DataType::Int64, false), Field::new("value", DataType::Float64, false)];
        fields.extend(KEYS.iter().map(|(name, _)| Field::new(*name, DataType::Int32, false)));
        fields.extend(KEYS[1..].iter().map(|(name, _)| Field::new(wide(name), DataType::Int64, false)));
        let schema = Arc::new(Schema::new(fields));
        let mut batches = Vec::with_capacity(rows.div_ceil(BATCH_ROWS));
        for start in (0..rows).step_by(BATCH_ROWS) {
            let range = start..(start + BATCH_ROWS).min(rows);
            let late = |row: usize, random: &mut SmallRng| START + (row / PER_MILLISECOND) as i64 - random.random_range(0..MAX_DELAY);
            let times: Int64Array = range.clone().map(|row| Some(late(row, &mut random))).collect();
            let values: Float64Array = range.clone().map(|_| Some(round(values.sample(&mut random)))).collect();
            let mut columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(values)];
            let mut spreads: Vec<ArrayRef> = Vec::new();
            for (_, count) in KEYS {
                let keys: Int32Array = range.clone().map(|_| Some(random.random_range(0..count) as i32)).collect();
                spreads.push(Arc::new(keys.unary::<_, arrow::datatypes::Int64Type>(spread)));
                columns.push(Arc::new(keys));
            }
            columns.extend(spreads.drain(1..));
            // Built from options, the arrays carry no null buffer: none is null.
            batches.push(RecordBatch::try_new(SchemaRef::clone(&schema), columns)?);
        }
        Ok(Events { schema, batches, rows })
    }

    /// The events with these columns alone.
    pub fn project(&self, names: &[&str]) -> Result<Vec<RecordBatch>> {
        let indices = names.iter().map(|name| self.schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.batches.iter().map(|batch| batch.project(&indices)).collect::<Result<Vec<_>, _>>()?)
    }

    /// Writes all columns as an Arrow file.
    pub fn write_arrow(&self, path: &Path) -> Result<()> {
        let mut writer = FileWriter::try_new(File::create(path)?, &self.schema)?;
        self.batches.iter().try_for_each(|batch| writer.write(batch))?;
        Ok(writer.finish()?)
    }
}

/// The name of a key column whose keys are spread over the range of `int64`.
pub fn wide(name: &str) -> String {
    name.replace("k_", "wide_")
}
