//! What all contenders must agree on.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef};
use serde::{Deserialize, Serialize};
use thalweg::sink::Sink;

use crate::Result;

/// How far sums of floats may lie apart, relative to their size: engines add in different orders.
const TOLERANCE: f64 = 1e-9;

/// The number of result rows and, over all of them, the sum of each column; zero for columns that a query has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub rows: u64,
    pub n: i64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub std: f64,
}

impl Answer {
    /// An answer that counts rows only.
    pub fn of_rows(rows: u64) -> Answer {
        Answer { rows, ..Answer::default() }
    }

    /// Adds the rows of one batch of results.
    pub fn add(&mut self, batch: &RecordBatch) {
        let float = |name: &str| {
            let Some(column) = batch.column_by_name(name) else { return 0.0 };
            let whole = || column.as_primitive_opt::<Int64Type>().and_then(arrow::compute::sum).map(|sum| sum as f64);
            column.as_primitive_opt::<Float64Type>().and_then(arrow::compute::sum).or_else(whole).unwrap_or_default()
        };
        let counts = batch.column_by_name("n").and_then(|column| column.as_primitive_opt::<Int64Type>());
        self.rows += batch.num_rows() as u64;
        self.n += counts.and_then(arrow::compute::sum).unwrap_or_default();
        self.sum += float("sum");
        self.min += float("min");
        self.max += float("max");
        self.mean += float("mean");
        self.std += float("std");
    }

    /// The answer to this question and another.
    pub fn and(self, other: Answer) -> Answer {
        Answer {
            rows: self.rows + other.rows,
            n: self.n + other.n,
            sum: self.sum + other.sum,
            min: self.min + other.min,
            max: self.max + other.max,
            mean: self.mean + other.mean,
            std: self.std + other.std,
        }
    }

    /// # Errors
    /// If the answers differ by more than the order of additions explains.
    pub fn agree(&self, expected: &Answer, who: &str) -> Result<()> {
        let sums = |answer: &Answer| [answer.sum, answer.min, answer.max, answer.mean, answer.std];
        let pairs: Vec<(f64, f64)> = sums(self).into_iter().zip(sums(expected)).collect();
        let close = pairs.iter().all(|(a, b)| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()));
        match close && self.rows == expected.rows && self.n == expected.n {
            true => Ok(()),
            false => Err(format!("{who} gave a wrong answer: {self:?}, expected {expected:?}").into()),
        }
    }
}

/// A sink that keeps the answer alone.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Answer>>);

impl Collector {
    pub fn answer(&self) -> Answer {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Collector {
    fn open(&mut self, _schema: &SchemaRef) -> thalweg::Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> thalweg::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(batch);
        Ok(())
    }

    fn commit(&mut self) -> thalweg::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}
