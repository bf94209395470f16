//! Twins of [`crate::anomaly::cusum`] and [`crate::anomaly::page_hinkley`] on the device: keys side by side, the rows of each in their order.

use super::chains::{self, Chain};
use super::passes::Detector;
use crate::anomaly::stepwise::{Drifts, Running, Stepwise, judge};
use crate::gpu::Engine;
use crate::gpu::error::Error;
#[cfg(doc)]
use crate::gpu::error::Fault;
use crate::{Bits, Cusum, DriftCell, PageHinkley};

/// Largest limit that a device is told: no score comes near.
const MOST_LIMIT: f64 = 1e100;

impl Engine {
    /// Twin of [`judge`] by [`Cusum`]: scores each row and takes it into its key's cell.
    ///
    /// In 64-bit floats, by the same steps, which a device may round in another way: where a key began anew `n` rows ago and `m` is the largest
    /// magnitude of its values since, a score is within 1e-14 · n · (1 + score) · (1 + m / deviation) of the processor's. That is wider
    /// than the same bits, which the processor keeps to, and so opt-in. Keys begin anew at the same rows: one with a score so near to the
    /// limit that rounding might decide is the host's.
    ///
    /// Made for many keys: one is a chain of steps that only one thread can go. The host's is also a key with more rows than an upload takes,
    /// or with magnitudes beyond 1e145 or below 1e-290. Up go 8 bytes a row and 52 a key of the batch, 8 and 40 come back.
    ///
    /// # Panics
    /// As [`judge`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the device has no 64-bit floats, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The cells are then as they were, scores are of no meaning: [`judge`] can take the rows.
    pub fn cusum(
        &self,
        cells: &mut [DriftCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &Cusum,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        let chain = OfCells { detector: params, learns: false, parameters: [params.allowance, params.limit, params.warmup as f64] };
        chains::run(&chain, &self.shared, cells, slots, values, validity, scores)
    }

    /// Twin of [`judge`] by [`PageHinkley`]: as [`Engine::cusum`], under the same bound.
    ///
    /// # Panics
    /// As [`judge`].
    ///
    /// # Errors
    /// As [`Engine::cusum`].
    pub fn page_hinkley(
        &self,
        cells: &mut [DriftCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &PageHinkley,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        let chain = OfCells { detector: params, learns: true, parameters: [params.allowance, params.limit, params.warmup as f64] };
        chains::run(&chain, &self.shared, cells, slots, values, validity, scores)
    }
}

/// A change detector with the parameters that the shader takes.
struct OfCells<'a, D> {
    detector: &'a D,
    /// Whether the reference goes on learning.
    learns: bool,
    /// Allowance, limit, warm-up.
    parameters: [f64; 3],
}

impl<D: Stepwise<Cell = DriftCell>> Chain for OfCells<'_, D> {
    type Cell = DriftCell;

    const DETECTOR: Detector = Detector::Drift;

    /// Count, mean, squares; up, down.
    const STATE: usize = 5;

    fn mode(&self) -> u32 {
        self.learns.into()
    }

    fn parameters(&self) -> Vec<f64> {
        self.parameters.iter().map(|parameter| parameter.min(MOST_LIMIT)).collect()
    }

    fn state(&self, cell: &DriftCell, _first: f64) -> Vec<f64> {
        let DriftCell { running, drifts } = cell;
        vec![running.count as f64, running.mean, running.squares, drifts.up, drifts.down]
    }

    fn cell(&self, _before: &DriftCell, state: &[f64], _rows: usize) -> Option<DriftCell> {
        let running = Running { count: state[0].max(0.0) as u64, mean: state[1], squares: state[2] };
        (state[0] >= 0.0).then_some(DriftCell { running, drifts: Drifts { up: state[3], down: state[4] } })
    }

    fn on_host(&self, cell: &mut DriftCell, values: &[f64], scores: &mut [f64]) {
        judge(self.detector, std::slice::from_mut(cell), &vec![0; values.len()], values, None, scores, None);
    }
}
