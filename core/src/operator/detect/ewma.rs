//! Exponentially weighted mean and variance; the score is the distance from the mean in standard deviations.

use std::fmt;

use arrow::array::Array;
use thalweg_kernels::{self as kernels, EwmaCell};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel};
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
        Ok(Box::new(ByKey::new(kernels::Ewma { alpha: self.alpha, warmup: self.warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }
}

impl Kernel for kernels::Ewma {
    type Cell = EwmaCell;

    fn score(&self, cells: &mut [EwmaCell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) {
        let (slots, values) = (observations.slots, observations.values().values());
        let Some(expected) = &mut told.expected else {
            return kernels::ewma(cells, slots, values, observations.validity(), self, scores);
        };
        // Each row expects the mean that it meets, so that rows are taken one by one.
        for (row, &slot) in slots.iter().enumerate() {
            let cell = &cells[slot as usize];
            expected[0][row] = if cell.count == 0 { f64::NAN } else { cell.mean };
            let value = if observations.values().is_valid(row) { values[row] } else { f64::NAN };
            kernels::ewma(cells, &[slot], &[value], None, self, &mut scores[row..=row]);
        }
    }

    fn save(&self, cell: &EwmaCell, out: &mut Writer) {
        out.float(cell.mean);
        out.float(cell.variance);
        out.word(cell.count);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<EwmaCell> {
        Ok(EwmaCell { mean: from.float()?, variance: from.float()?, count: from.word()? })
    }
}
