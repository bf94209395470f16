//! Twin of [`crate::anomaly::rolling_z`] on the device: the moments of a key's latest values, by the device's rolling windows.

use crate::aggregate::check_lengths;
use crate::anomaly::stepwise::in_deviations;
use crate::gpu::Engine;
use crate::gpu::error::Error;
use crate::{Bits, Extent, Frame, MomentColumns, RollingMoments, RollingRows, RollingZ};
#[cfg(doc)]
use crate::{anomaly::stepwise::judge, gpu::error::Fault};

impl RollingZ {
    /// The windows that [`Engine::rolling_z`] keeps for so many keys.
    pub fn windows(&self, keys: usize) -> RollingMoments {
        let mut windows = RollingMoments::new(Extent::Rows(self.window), Frame::Preceding);
        windows.reserve_slots(keys);
        windows
    }
}

impl Engine {
    /// Twin of [`judge`] by [`RollingZ`]: scores each row and takes it into its key's window, one of [`RollingZ::windows`].
    ///
    /// Mean and deviation are within the errors of [`crate::rolling`]: a score is within 2e-11 · score + 2e-12 · (1 + m / deviation) of the
    /// processor's, where m is the mean magnitude of the window, if no magnitude is beyond 1e145 or, but for 0, below 1e-145. That is wider than the same bits, which the processor keeps to, and so
    /// opt-in. The windows are of rows, not the processor's moments of them, so that a key stays with the backend that it began on.
    ///
    /// Bytes are those of [`Engine::rolling_moments`].
    ///
    /// # Panics
    /// As [`judge`], and if the windows are not those of [`RollingZ::windows`].
    ///
    /// # Errors
    /// As [`Engine::rolling_moments`]: [`Fault::Limit`], [`Fault::Memory`] or [`Fault::Lost`]. The windows are then as they were, scores are of
    /// no meaning.
    pub fn rolling_z(
        &self,
        windows: &mut RollingMoments,
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &RollingZ,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        assert!(
            windows.extent == Extent::Rows(params.window) && windows.frame == Frame::Preceding,
            "the windows are not of these parameters"
        );
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and scores", values.len(), scores.len());
        Bits::check(validity, values.len());
        let has_value = |row: &usize| values[*row].is_finite() && validity.is_none_or(|bits| bits.get(*row));
        let rows: Vec<usize> = (0..values.len()).filter(has_value).collect();
        let slots: Vec<u32> = rows.iter().map(|&row| slots[row]).collect();
        let values: Vec<f64> = rows.iter().map(|&row| values[row]).collect();
        let (mut counts, mut means, mut m2s) = (vec![0; rows.len()], vec![0.0; rows.len()], vec![0.0; rows.len()]);
        let mut answers =
            MomentColumns { counts: Some(&mut counts), means: Some(&mut means), m2s: Some(&mut m2s), ..MomentColumns::default() };
        let given = RollingRows { slots: &slots, values: &values, validity: None, times: &[] };
        self.rolling_moments(windows, &given, &mut answers)?;
        scores.fill(f64::NAN);
        for (place, row) in rows.into_iter().enumerate() {
            let (count, mean) = (counts[place], means[place]);
            scores[row] = match count < params.warmup.max(1) {
                true => 0.0,
                false => in_deviations((values[place] - mean).abs(), (m2s[place] / f64::from(count)).sqrt(), mean),
            };
        }
        Ok(())
    }
}
