//! What the device costs, measured: the numbers that decide whether a batch goes there.

use std::time::Duration;

use super::error::Error;
use super::ring::Upload;
use super::{Engine, Number, lock};
use crate::{Cell, Want};

const ROUNDS: usize = 5;
/// Uploads of a round: enough that filling and draining the two stages weigh little.
const UPLOADS: usize = 8;

/// A kernel's cost on a device: `launch + rows / rows_per_second`, staging, upload and passes included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// From the call to the cells of a batch of one row.
    pub launch: Duration,
    /// Rows a second of a stream of full uploads.
    pub rows_per_second: f64,
    /// Bytes a second of the uploads alone: what the rows are bound by at best.
    pub upload_bytes_per_second: f64,
}

impl Cost {
    /// Expected time of a batch.
    pub fn of(&self, rows: u64) -> Duration {
        self.launch + Duration::from_secs_f64(rows as f64 / self.rows_per_second)
    }

    /// Rows from which on a batch is done sooner here than at `cpu_rows_per_second`; `None` if none is.
    pub fn break_even(&self, cpu_rows_per_second: f64) -> Option<u64> {
        let gain = cpu_rows_per_second.recip() - self.rows_per_second.recip();
        (gain > 0.0).then(|| (self.launch.as_secs_f64() / gain).ceil() as u64)
    }
}

impl Engine {
    /// Measures grouped accumulation into a table of `groups` groups: medians of a few short runs, by the clock `now`.
    ///
    /// # Errors
    /// As [`Engine::table`].
    pub fn calibrate<T: Number>(&self, groups: usize, want: Want, now: impl Fn() -> Duration) -> Result<Cost, Error> {
        let rows = lock(&self.shared.ring).rows();
        // Slots without pattern: neighbours that fall into one group would flatter or harm the kernel.
        let slot = |row: usize| (row as u32).wrapping_mul(0x9e37_79b9) % groups.max(1) as u32;
        let (slots, values) = ((0..rows).map(slot).collect::<Vec<_>>(), (0..rows).map(T::sample).collect::<Vec<_>>());
        let mut cells = vec![Cell::EMPTY; groups.max(1)];
        let mut table = self.table::<T>(groups.max(1), want)?;
        let mut batches = |rows: usize, times: usize| {
            (0..times).try_for_each(|_| table.accumulate(&slots[..rows], &values[..rows], None))?;
            table.read_into(&mut cells)
        };
        batches(rows, 1)?;
        let launch = median(&now, || batches(1, 1))?;
        let stream = median(&now, || batches(rows, UPLOADS))?;
        let upload = median(&now, || self.upload(&slots, bytemuck::cast_slice(&values), UPLOADS))?;
        let bytes = (size_of_val(slots.as_slice()) + size_of_val(values.as_slice())) as f64;
        Ok(Cost {
            launch,
            rows_per_second: (rows * UPLOADS) as f64 / stream.saturating_sub(launch).max(Duration::from_nanos(1)).as_secs_f64(),
            upload_bytes_per_second: bytes * UPLOADS as f64 / upload.max(Duration::from_nanos(1)).as_secs_f64(),
        })
    }

    /// Uploads the same rows so many times and does nothing with them.
    fn upload(&self, slots: &[u32], values: &[u8], times: usize) -> Result<(), Error> {
        let device = &self.shared.device;
        let mut ring = lock(&self.shared.ring);
        for _ in 0..times {
            let (_, stage) = ring.next(device)?;
            let mut encoder = device.encoder();
            stage.fill(&mut encoder, &[0; 8], &Upload { slots, values, validity: None, rows: slots.len() })?;
            stage.submitted(device.submit(encoder)?);
        }
        device.wait(None)
    }
}

fn median(now: &impl Fn() -> Duration, mut run: impl FnMut() -> Result<(), Error>) -> Result<Duration, Error> {
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let start = now();
        run()?;
        *time = now().saturating_sub(start);
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

#[cfg(test)]
mod tests {
    use super::Cost;
    use std::time::Duration;

    #[test]
    fn the_break_even_is_where_both_take_as_long() {
        let cost = Cost { launch: Duration::from_millis(1), rows_per_second: 1e9, upload_bytes_per_second: 12e9 };
        assert_eq!(cost.break_even(5e8), Some(1_000_000));
        assert_eq!(cost.of(1_000_000), Duration::from_millis(2));
        assert_eq!(cost.break_even(1e9), None);
        assert_eq!(cost.break_even(2e9), None);
    }
}
