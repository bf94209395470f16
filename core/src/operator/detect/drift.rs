//! Detectors of lasting shifts: CUSUM and Page–Hinkley.

use std::fmt;

use thalweg_kernels as kernels;

use crate::error::{Error, Result};
use crate::operator::detect::stepwise::{State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::time::Unit;

/// Most rows that a key may be learnt from before it is scored.
const MOST_WARMUP: u64 = 1 << 32;

/// Parameters of CUSUM, see [`cusum`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cusum {
    /// Deviations that each row may lie off without adding to a sum: half of the shift that is to be found, at least 0.
    pub allowance: f64,
    /// The score at which a key begins anew, and the threshold unless another is given; above 0.
    pub limit: f64,
    /// Rows of a key that the reference is made of, at least 2.
    pub warmup: u64,
}

impl Default for Cusum {
    fn default() -> Cusum {
        Cusum { allowance: 0.5, limit: 8.0, warmup: 100 }
    }
}

/// Parameters of Page–Hinkley, see [`page_hinkley`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageHinkley {
    /// Deviations that each row may lie off without adding to a sum, at least 0.
    pub allowance: f64,
    /// The score at which a key begins anew, and the threshold unless another is given; above 0.
    pub limit: f64,
    /// Rows of a key that score 0, at least 2.
    pub warmup: u64,
}

impl Default for PageHinkley {
    fn default() -> PageHinkley {
        PageHinkley { allowance: 0.25, limit: 15.0, warmup: 30 }
    }
}

/// Detection of lasting shifts, however small next to the noise, by CUSUM: the sum by which rows have lain off the mean of the first 100 rows,
/// in deviations, beyond an allowance of 1/2. At a score of 8, which is the threshold, the key begins anew with the rows to come, so that a
/// shift is one anomaly. The mean is what it expects.
///
/// Equations and sources: [`thalweg_kernels::anomaly::cusum`]. State: 40 bytes a key.
pub fn cusum() -> Detection {
    Detection::new(Cusum::default())
}

/// Detection of lasting shifts by Page–Hinkley: as [`cusum`], but against the mean of all rows since the latest shift, which goes on
/// learning. Allowance 1/4, threshold 15. The mean is what it expects.
///
/// Equations and sources: [`thalweg_kernels::anomaly::page_hinkley`]. State: 40 bytes a key.
pub fn page_hinkley() -> Detection {
    Detection::new(PageHinkley::default())
}

fn check(allowance: f64, limit: f64, warmup: u64) -> Result<()> {
    if !(allowance >= 0.0 && allowance.is_finite() && limit > 0.0 && limit.is_finite()) {
        return Err(Error::config(format!("`allowance` is {allowance} and `limit` {limit}; at least 0 and above 0 are wanted")));
    }
    check_rows("warmup", warmup, 2, MOST_WARMUP)
}

impl fmt::Display for Cusum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cusum(allowance={}, limit={}, warmup={})", self.allowance, self.limit, self.warmup)
    }
}

impl fmt::Display for PageHinkley {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page_hinkley(allowance={}, limit={}, warmup={})", self.allowance, self.limit, self.warmup)
    }
}

impl DetectorSpec for Cusum {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let Cusum { allowance, limit, warmup } = *self;
        check(allowance, limit, warmup)?;
        Ok(Box::new(State::of(kernels::Cusum { allowance, limit, warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        self.limit
    }
}

impl DetectorSpec for PageHinkley {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let PageHinkley { allowance, limit, warmup } = *self;
        check(allowance, limit, warmup)?;
        Ok(Box::new(State::of(kernels::PageHinkley { allowance, limit, warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        self.limit
    }
}
