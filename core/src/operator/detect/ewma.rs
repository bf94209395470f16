//! Exponentially weighted mean and variance; the score is the distance from the mean in standard deviations.

use std::fmt;

use arrow::array::Array;
use thalweg_kernels::{self as kernels, EwmaCell};

use crate::error::{Error, Result};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// Rows of a key that are learnt from but not scored unless another number is given.
pub const DEFAULT_WARMUP: u64 = 10;

/// Parameters of the exponentially weighted z-score, see [`ewma`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ewma {
    /// Weight of the newest row, in (0, 1): the memory is about 2/alpha rows.
    pub alpha: f64,
    /// Rows of a key that score 0 because too little is known of it.
    pub warmup: u64,
}

/// Detection by the exponentially weighted z-score with weight `alpha` for the newest row: |x − mean| / standard
/// deviation, both as they were before the row. A key's first [`DEFAULT_WARMUP`] rows score 0. The mean is what it expects.
///
/// Equations: Finch, "Incremental calculation of weighted mean and variance", 2009. State: 24 bytes a key.
pub fn ewma(alpha: f64) -> Detection {
    Detection::new(Ewma { alpha, warmup: DEFAULT_WARMUP })
}

impl fmt::Display for Ewma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.warmup {
            DEFAULT_WARMUP => write!(f, "ewma(alpha={})", self.alpha),
            warmup => write!(f, "ewma(alpha={}, warmup={warmup})", self.alpha),
        }
    }
}

impl DetectorSpec for Ewma {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return Err(Error::config(format!("`alpha` is {}; it must lie between 0 and 1, both excluded", self.alpha)));
        }
        Ok(Box::new(State { params: kernels::Ewma { alpha: self.alpha, warmup: self.warmup }, cells: Vec::new() }))
    }

    fn tells_expected(&self) -> bool {
        true
    }
}

struct State {
    params: kernels::Ewma,
    cells: Vec<EwmaCell>,
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()> {
        self.cells.resize(self.cells.len().max(observations.groups), EwmaCell::default());
        let (slots, values) = (observations.slots, observations.values().values());
        let Some(expected) = &mut told.expected else {
            kernels::ewma(&mut self.cells, slots, values, observations.validity(), &self.params, scores);
            return Ok(());
        };
        // Each row expects the mean that it meets, so that rows are taken one by one.
        for (row, &slot) in slots.iter().enumerate() {
            let cell = &self.cells[slot as usize];
            expected[0][row] = if cell.count == 0 { f64::NAN } else { cell.mean };
            let value = if observations.values().is_valid(row) { values[row] } else { f64::NAN };
            kernels::ewma(&mut self.cells, &[slot], &[value], None, &self.params, &mut scores[row..=row]);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<EwmaCell>()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        let EwmaCell { mean, variance, count } = self.cells.get(slot as usize).copied().unwrap_or_default();
        out.float(mean);
        out.float(variance);
        out.word(count);
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.cells.resize(self.cells.len().max(slot as usize + 1), EwmaCell::default());
        self.cells[slot as usize] = EwmaCell { mean: from.float()?, variance: from.float()?, count: from.word()? };
        Ok(())
    }
}
