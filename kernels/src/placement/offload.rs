//! The way over the GPU: rows are gathered, sent, and read back into the cells.

use std::time::Duration;

use super::{Chooser, Device, Devices, Gathered, Number, Work};
use crate::aggregate::check_lengths;
use crate::gpu::{Accumulator, check_slots};
use crate::{Backend, Bits, Cell, Want};

/// Rows between two reads below which no GPU is looked for: the CPU takes as many in less time than a launch and a
/// read-back need on any card.
const LEAST_ROWS: u64 = 1 << 16;

/// Rows gathered for a GPU that was asked for and not measured: a launch weighs little on as many.
const ASKED_FOR_ROWS: usize = 1 << 16;

/// The most rows gathered, a few uploads: 12 MiB of slots and floats.
const MOST_ROWS: u64 = 1 << 20;

/// Groups of tables that are measured as one: powers of 16.
const SIZES: u32 = 4;

#[derive(Debug)]
pub(super) struct Offload<T> {
    /// Between measured costs, with the number of groups that they were measured for.
    chooser: Option<(usize, Chooser)>,
    /// Rows to gather, if the rows until the next read go to the GPU.
    gather: Option<usize>,
    gathered: Gathered<T>,
    table: Option<Accumulator<T>>,
    /// Rows on the GPU that were not read yet, and the time spent on them.
    sent: u64,
    spent: Duration,
    /// Rows since the last read, and between the two reads before.
    rows: u64,
    usual: u64,
}

impl<T> Default for Offload<T> {
    fn default() -> Self {
        Self { chooser: None, gather: None, gathered: Gathered::default(), table: None, sent: 0, spent: Duration::ZERO, rows: 0, usual: 0 }
    }
}

impl<T: Number> Offload<T> {
    /// Takes a batch, on either device; returns whether it did, or leaves that to the caller, unmeasured.
    pub(super) fn accumulate(
        &mut self,
        devices: &Devices,
        cells: &mut [Cell],
        slots: &[u32],
        values: &[T],
        validity: Option<Bits<'_>>,
        want: Want,
    ) -> bool {
        self.rows += slots.len() as u64;
        if self.gather.is_none() {
            self.gather = self.place(devices, cells.len(), want);
        }
        let Some(gather) = self.gather else {
            return self.measure_cpu(devices, cells, slots, values, validity, want);
        };
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        check_slots(slots, cells.len(), validity);
        self.gathered.append(slots, values, validity);
        if self.gathered.rows() >= gather {
            self.send(devices, cells, want);
        }
        true
    }

    /// Brings all rows into the cells.
    pub(super) fn settle(&mut self, devices: &Devices, cells: &mut [Cell], want: Want) {
        if self.rows == 0 {
            return;
        }
        match devices.device() {
            Device::Gpu => self.send(devices, cells, want),
            // Too few to pay for their way.
            Device::Auto | Device::Cpu => self.keep(devices, cells, want),
        }
        if self.sent > 0 {
            self.read(devices, cells);
        }
        self.usual = std::mem::take(&mut self.rows);
        self.gather = None;
    }

    /// Bytes held on the host.
    pub(super) fn bytes(&self) -> usize {
        self.gathered.bytes() + self.table.as_ref().map_or(0, Accumulator::bytes)
    }

    /// How many rows to gather for the GPU, if the rows until the next read are to go there.
    fn place(&mut self, devices: &Devices, groups: usize, want: Want) -> Option<usize> {
        match devices.device() {
            Device::Cpu => None,
            Device::Gpu => devices.usable().map(|_| ASKED_FOR_ROWS),
            Device::Auto => {
                let rows = self.rows.max(self.usual);
                if rows < LEAST_ROWS && !devices.knows_costs() {
                    return None;
                }
                let chooser = self.chooser(devices, groups, want)?;
                let groups = groups as u64;
                chooser
                    .choose(Work { rows, groups })
                    .then(|| chooser.gather_rows(groups))
                    .flatten()
                    .map(|rows| rows.min(MOST_ROWS) as usize)
            }
        }
    }

    /// The chooser for tables of about so many groups.
    fn chooser(&mut self, devices: &Devices, groups: usize, want: Want) -> Option<&mut Chooser> {
        let size = 1 << (groups.max(1).ilog2().next_multiple_of(SIZES));
        if self.chooser.as_ref().is_none_or(|(known, _)| *known != size) {
            self.chooser = devices.chooser::<T>(size, want).map(|chooser| (size, chooser));
        }
        devices.usable()?;
        self.chooser.as_mut().map(|(_, chooser)| chooser)
    }

    /// Takes a batch on the CPU and notes what it cost, if there is a choice that it matters to.
    fn measure_cpu(
        &mut self,
        devices: &Devices,
        cells: &mut [Cell],
        slots: &[u32],
        values: &[T],
        validity: Option<Bits<'_>>,
        want: Want,
    ) -> bool {
        let Some((_, chooser)) = &mut self.chooser else { return false };
        let start = devices.now();
        devices.count_cpu(slots.len());
        Backend::active().accumulate(cells, slots, values, validity, want);
        chooser.observe_cpu(Work { rows: slots.len() as u64, groups: 0 }, devices.now().saturating_sub(start));
        true
    }

    /// Sends the gathered rows to the GPU, or to the CPU if the GPU has failed.
    fn send(&mut self, devices: &Devices, cells: &mut [Cell], want: Want) {
        let (rows, groups) = (self.gathered.rows(), cells.len());
        let Some(engine) = devices.usable().filter(|_| rows > 0) else {
            self.gather = None;
            return self.keep(devices, cells, want);
        };
        let start = devices.now();
        // The cells may be those of a smaller table than before the last read.
        if self.sent == 0 && self.table.as_ref().is_some_and(|table| table.groups() > groups) {
            self.table = None;
        }
        let table = self.table.get_or_insert_with(|| Accumulator::new(engine, groups, want));
        table.grow(groups);
        table.take(&mut self.gathered);
        self.sent += rows as u64;
        self.spent += devices.now().saturating_sub(start);
        match table.take_fault() {
            None => devices.count_gpu(rows),
            Some(fault) => {
                devices.count_cpu(rows);
                devices.fail(fault);
            }
        }
    }

    /// Takes the gathered rows on the CPU.
    fn keep(&mut self, devices: &Devices, cells: &mut [Cell], want: Want) {
        devices.count_cpu(self.gathered.rows());
        self.gathered.accumulate(Backend::active(), cells, want);
        self.gathered.clear();
    }

    /// Reads the GPU's cells.
    fn read(&mut self, devices: &Devices, cells: &mut [Cell]) {
        let Some(table) = &mut self.table else { return };
        let start = devices.now();
        table.read_into(cells);
        let spent = std::mem::take(&mut self.spent) + devices.now().saturating_sub(start);
        let work = Work { rows: std::mem::take(&mut self.sent), groups: table.groups() as u64 };
        if let Some((_, chooser)) = &mut self.chooser {
            chooser.observe_gpu(work, spent);
            devices.note_break_even(chooser.break_even(work.groups));
        }
        if let Some(fault) = table.take_fault() {
            devices.fail(fault);
        }
        if !table.on_device() {
            self.table = None;
        }
    }
}
