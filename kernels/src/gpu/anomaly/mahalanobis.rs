//! Twin of the distances of [`crate::anomaly::mahalanobis`] on the device: rows against a mean and a covariance that stand.

use super::passes::{Detector, Pass, Passes};
use crate::anomaly::mahalanobis::{Frozen, deviate};
use crate::gpu::Engine;
use crate::gpu::error::{Error, Fault};
use crate::gpu::pipeline::THREADS;
use crate::{CovarianceCell, Mahalanobis};

/// Largest entry of the inverse: rows lie up to 1e9 deviations off, and the squares of their products stay within 32-bit floats.
const MOST_INVERSE: f64 = 1e6;

impl Engine {
    /// Twin of [`crate::mahalanobis_scores`]: scores rows by one key's cell, which stays as it is.
    ///
    /// Opt-in, as it is wider than what the processor keeps to: the distance D of a row of d columns is within
    /// (d + 4) · 2⁻²⁴ · sqrt(d / `shrinkage`) · |y| of the exact one, where y is the row in deviations from the mean and |y| its length. The
    /// mean is subtracted and the correlations are factorised on the host, in 64-bit floats, so that a large level costs no digits.
    ///
    /// Up go 4 bytes a column of a row, and 2 · d · (d + 1) bytes a pass; 4 bytes a row come back.
    ///
    /// # Panics
    /// As [`crate::mahalanobis_scores`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the matrix with one row is more than an upload takes, or the correlations are shrunk so little that they cannot
    /// be inverted in 32-bit floats; [`Fault::Memory`] if there is no room for answers; [`Fault::Lost`] if the device is gone. Scores are
    /// then of no meaning; the processor's twin has them.
    pub fn mahalanobis_scores(
        &self,
        cell: &CovarianceCell,
        columns: &[&[f64]],
        params: &Mahalanobis,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        let rows = params.rows(cell, columns, scores);
        let mut passes = Passes::new(&self.shared, Detector::Mahalanobis)?;
        if rows.is_empty() {
            return Ok(());
        }
        let (mut frozen, d) = (Frozen::new(cell, params.shrinkage), columns.len());
        let inverse = frozen.inverse();
        if !inverse.iter().all(|entry| entry.abs() <= MOST_INVERSE) {
            let message = format!("correlations shrunk by {} cannot be inverted in 32-bit floats; shrink them more", params.shrinkage);
            return Err(Error::new(Fault::Limit, message));
        }
        let inverse: Vec<f32> = inverse.iter().map(|entry| *entry as f32).collect();
        let most = passes.rows_of(d, inverse.len())?;
        let mut values = Vec::new();
        for rows in rows.chunks(most) {
            values.clear();
            values.resize(rows.len() * d, 0.0);
            for (at, row) in rows.iter().enumerate() {
                let row = frozen.scaled(columns, *row as usize).iter();
                row.enumerate().for_each(|(column, value)| values[column * rows.len() + at] = *value as f32);
            }
            let workgroups = (rows.len() as u32).div_ceil(THREADS);
            let header = [rows.len() as u32, d as u32, 0, 0, 0, 0, 0, 0];
            let columns: [&[u8]; 2] = [bytemuck::cast_slice(&inverse), bytemuck::cast_slice(&values)];
            passes.send(&Pass { header, columns: &columns, resident: None, words: rows.len(), workgroups })?;
        }
        let answers = passes.finish::<f32>()?;
        rows.iter().zip(answers).for_each(|(row, squared)| scores[*row as usize] = deviate(f64::from(squared), d));
        Ok(())
    }
}
