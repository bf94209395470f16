//! What the device costs, measured: the numbers that decide whether rows go there.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::error::Error;
use super::layout::{Kind, Layout};
use super::ring::Upload;
use super::{Engine, Number, Table, lock};
use crate::placement::{Cost, Transfer, median, scattered};
use crate::{Backend, Cell, Want};

/// Uploads of a round: enough that filling and draining the two stages weigh little.
const UPLOADS: usize = 8;

/// Bytes up per row: a slot and a value.
const BYTES_PER_ROW: u32 = 12;

/// What was measured on an engine: for a kind of number, sum, order and groups, the costs of the CPU and of the device.
pub(super) type Costs = Mutex<HashMap<(Kind, bool, bool, usize), [Cost; 2]>>;

impl Engine {
    /// The costs of grouped accumulation into `groups` groups on `cpu` and on this device, measured when they are first
    /// asked for.
    ///
    /// # Errors
    /// As [`Engine::table`].
    pub fn costs<T: Number>(&self, cpu: Backend, groups: usize, want: Want, now: impl Fn() -> Duration) -> Result<[Cost; 2], Error> {
        let key = (T::KIND, want.sum, want.order, groups);
        // Locked while measuring: a second pipeline would only disturb the measurement, to get the same.
        let mut known = lock(&self.shared.costs);
        if let Some(costs) = known.get(&key) {
            return Ok(*costs);
        }
        let values: Vec<T> = (0..4096).map(T::sample).collect();
        let costs = [cpu.calibrate(&values, groups, want, &now), self.calibrate::<T>(groups, want, now)?];
        known.insert(key, costs);
        Ok(costs)
    }

    /// Measures grouped accumulation into a table of `groups` groups: medians of a few short runs, by the clock `now`.
    ///
    /// # Errors
    /// As [`Engine::table`].
    pub fn calibrate<T: Number>(&self, groups: usize, want: Want, now: impl Fn() -> Duration) -> Result<Cost, Error> {
        let (rows, groups) = (lock(&self.shared.ring).rows(), groups.max(1));
        let (slots, values) = (scattered(rows, groups), (0..rows).map(T::sample).collect::<Vec<_>>());
        let mut cells = vec![Cell::EMPTY; groups];
        let mut batches = |table: &mut Table<T>, rows: usize, times: usize| {
            (0..times).try_for_each(|_| table.accumulate(&slots[..rows], &values[..rows], None))?;
            table.read_into(&mut cells)
        };
        let (mut one, mut table) = (self.table::<T>(1, want)?, self.table::<T>(groups, want)?);
        // Slot 0 is the first row's: the table of one group can take it. The first runs compile and allocate.
        batches(&mut one, 1, 1)?;
        batches(&mut table, rows, 1)?;
        let launch = median(&now, || batches(&mut one, 1, 1))?;
        let read = median(&now, || batches(&mut table, 1, 1))?;
        let stream = median(&now, || batches(&mut table, rows, UPLOADS))?;
        let upload = median(&now, || self.upload(&slots, bytemuck::cast_slice(&values), UPLOADS))?;
        // Infinite where the clock shows no difference: what cannot be measured costs nothing that counts.
        let per_second = |amount: usize, time: Duration| amount as f64 / time.as_secs_f64();
        let bytes_per_group = Layout::new(T::KIND, want).stride() * 4;
        Ok(Cost {
            launch,
            // Transfer and passes overlap: what the stream takes beyond the uploads is the passes' share.
            rows_per_second: per_second(rows * UPLOADS, stream.saturating_sub(read).saturating_sub(upload)),
            transfer: Transfer {
                bytes_per_row: BYTES_PER_ROW,
                bytes_per_group,
                upload: per_second(rows * UPLOADS * BYTES_PER_ROW as usize, upload),
                download: per_second(groups * bytes_per_group as usize, read.saturating_sub(launch)),
            },
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
