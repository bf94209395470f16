//! Rolling z-score: how many standard deviations a value lies from the mean of the latest.

use std::fmt;

use thalweg_kernels::{self as kernels, MomentWindow, Running};

use crate::error::Result;
use crate::operator::detect::stepwise::{Cell, State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// Largest window.
const MOST_ROWS: u64 = 1 << 20;

/// Parameters of the rolling z-score, see [`rolling_z`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RollingZ {
    /// Rows of a key that are looked back on, from 2 to 1,048,576.
    pub window: u32,
    /// Rows of a key that score 0, from 1 to `window`.
    pub warmup: u32,
}

impl Default for RollingZ {
    fn default() -> RollingZ {
        RollingZ { window: 128, warmup: 20 }
    }
}

/// Detection by the rolling z-score: |x − mean| / standard deviation, both of a key's latest 128 rows before the row. Each of them counts
/// the same, and none before them does. A key's first 20 rows score 0. The mean is what it expects.
///
/// Equations and sources: [`thalweg_kernels::anomaly::rolling_z`]. State: 32 bytes for each row of the window, 4 kB a key.
pub fn rolling_z() -> Detection {
    Detection::new(RollingZ::default())
}

impl fmt::Display for RollingZ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rolling_z(window={}, warmup={})", self.window, self.warmup)
    }
}

impl DetectorSpec for RollingZ {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        check_rows("window", self.window.into(), 2, MOST_ROWS)?;
        check_rows("warmup", self.warmup.into(), 1, self.window.into())?;
        Ok(Box::new(State::of(kernels::RollingZ { window: self.window, warmup: self.warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }
}

impl Cell<kernels::RollingZ> for MomentWindow {
    const HELD: Option<fn(&Self) -> usize> = Some(MomentWindow::bytes);

    fn save(&self, out: &mut Writer) {
        save_window(self, out);
    }

    fn load(params: &kernels::RollingZ, from: &mut Reader<'_>) -> Result<MomentWindow> {
        load_window(params.window as usize, from)
    }
}

/// Writes the moments of the older values, which count up from 1, and the newer values.
pub(super) fn save_window(window: &MomentWindow, out: &mut Writer) {
    let (older, newer) = window.parts();
    out.floats(&older.iter().flat_map(|part| [part.mean, part.squares]).collect::<Vec<f64>>());
    out.floats(newer);
}

/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if it is not a window of at most so many values.
pub(super) fn load_window(window: usize, from: &mut Reader<'_>) -> Result<MomentWindow> {
    let (older, newer) = (from.floats()?, from.floats()?);
    let pairs = older.chunks_exact(2).zip(1..);
    let older = pairs.map(|(part, count)| Running { count, mean: part[0], squares: part[1] }).collect();
    MomentWindow::restored(older, newer, window).ok_or_else(|| damaged("a key has more values than its window"))
}
