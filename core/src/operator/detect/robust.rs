//! Robust z-score: how far a value lies from the median of the latest, in units of their median distance from it.

use std::fmt;

use thalweg_kernels as kernels;

use crate::error::Result;
use crate::operator::detect::stepwise::{State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given, that of Iglewicz and Hoaglin.
pub const THRESHOLD: f64 = 3.5;

/// Largest window.
const MOST_ROWS: u64 = 1 << 16;

/// Parameters of the robust z-score, see [`robust_z`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RobustZ {
    /// Rows of a key that are looked back on, from 3 to 65,536.
    pub window: u32,
    /// Rows of a key that score 0, from 1 to `window`.
    pub warmup: u32,
}

impl Default for RobustZ {
    fn default() -> RobustZ {
        RobustZ { window: 128, warmup: 20 }
    }
}

/// Detection by the robust z-score: the distance from the median of a key's latest 128 rows, in units of their median distance from
/// it (MAD), scaled to deviations of normal values. Up to half of the window may be anomalies without hiding each other. Threshold:
/// [`THRESHOLD`]. A key's first 20 rows score 0. The median is what it expects.
///
/// Equations and sources: [`thalweg_kernels::anomaly::robust`]. State: 16 bytes for each row of the window, 2 kB a key.
pub fn robust_z() -> Detection {
    Detection::new(RobustZ::default())
}

impl fmt::Display for RobustZ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "robust_z(window={}, warmup={})", self.window, self.warmup)
    }
}

impl DetectorSpec for RobustZ {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        check_rows("window", self.window.into(), 3, MOST_ROWS)?;
        check_rows("warmup", self.warmup.into(), 1, self.window.into())?;
        Ok(Box::new(State::of(kernels::RobustZ { window: self.window, warmup: self.warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}
