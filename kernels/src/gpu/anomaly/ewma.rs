//! Twin of [`crate::anomaly::ewma`] on the device: keys side by side, the rows of each in their order.

use super::chains::{self, Chain};
use super::passes::Detector;
use crate::gpu::Engine;
use crate::gpu::error::Error;
#[cfg(doc)]
use crate::gpu::error::Fault;
use crate::{Backend, Bits, Ewma, EwmaCell};

impl Engine {
    /// Twin of [`crate::ewma`]: scores each row and takes it into its key's state.
    ///
    /// In 64-bit floats, by the same steps, which a device may round in another way: where `m` is the largest magnitude of the key's
    /// values, a score is within 1e-14 · (1 + score) · (1 + m / (alpha · deviation)) of the processor's. That is wider than the same
    /// bits, which the processor's backends keep to, and so opt-in.
    ///
    /// Made for many keys: one is a chain of steps that only one thread can go. A key with more rows than an upload takes, or with
    /// magnitudes beyond 1e145 or below 1e-290, is the host's. Up go 8 bytes a row and 28 a key of the batch, 8 and 16 come back.
    ///
    /// # Panics
    /// As [`crate::ewma`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the device has no 64-bit floats, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The cells are then as they were, scores are of no meaning: [`crate::ewma`] can take
    /// the rows.
    pub fn ewma(
        &self,
        cells: &mut [EwmaCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &Ewma,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        params.check();
        chains::run(params, &self.shared, cells, slots, values, validity, scores)
    }
}

impl Chain for Ewma {
    type Cell = EwmaCell;

    const DETECTOR: Detector = Detector::Ewma;

    /// Mean and variance.
    const STATE: usize = 2;

    fn parameters(&self) -> Vec<f64> {
        vec![self.alpha]
    }

    fn state(&self, cell: &EwmaCell, first: f64) -> Vec<f64> {
        vec![if cell.count == 0 { first } else { cell.mean }, cell.variance]
    }

    fn silent(&self, cell: &EwmaCell) -> u64 {
        self.warmup.saturating_sub(cell.count)
    }

    fn cell(&self, before: &EwmaCell, state: &[f64], rows: usize) -> Option<EwmaCell> {
        let (mean, variance) = (state[0], state[1]);
        (variance >= 0.0).then(|| EwmaCell { mean, variance, count: before.count + rows as u64 })
    }

    fn on_host(&self, cell: &mut EwmaCell, values: &[f64], scores: &mut [f64]) {
        Backend::active().ewma(std::slice::from_mut(cell), &vec![0; values.len()], values, None, self, scores);
    }
}
