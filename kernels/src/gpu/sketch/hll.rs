//! Twin of [`crate::sketch::hll`]: registers on the device.

use crate::aggregate::check_lengths;
use crate::gpu::Engine;
#[cfg(doc)]
use crate::gpu::Fault;
use crate::gpu::aggregate::check_slots;
use crate::gpu::error::Error;
use crate::gpu::passes::Shader;
use crate::gpu::store::{Store, masked};
use crate::sketch::hll::check_table;
use crate::{Bits, hll_merge};

/// HyperLogLog registers of groups, which stay on the device from batch to batch.
///
/// The registers are the processor's, bit for bit. Up go 12 bytes a row, a slot and a hash; back come 4 bytes a register, of which there
/// are 2^lg_k a group: transfer binds where a group has fewer rows than registers.
///
/// After an error the registers are no longer to be relied on: drop the table, and take the rows since the last read by
/// [`crate::hll_update`].
#[derive(Debug)]
pub struct HllTable {
    store: Store,
    lg_k: u32,
    groups: usize,
    slots: Vec<u32>,
}

impl Engine {
    /// Empty registers of so many groups.
    ///
    /// # Panics
    /// If `lg_k` is out of the range of [`crate::hll_update`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if they fit no buffer, [`Fault::Memory`] if the device has no room for them, [`Fault::Lost`] if it is gone.
    pub fn hll_table(&self, lg_k: u32, groups: usize) -> Result<HllTable, Error> {
        check_table(groups << lg_k.min(31), lg_k);
        let store = Store::new(self.shared(), "a table of registers", groups << lg_k, Shader::Hll, Some(Shader::HllMerge))?;
        Ok(HllTable { store, lg_k, groups, slots: Vec::new() })
    }
}

impl HllTable {
    /// Twin of [`crate::hll_update`], and of [`crate::hll_fold`] where all slots are 0. Returns when the rows are staged.
    ///
    /// # Panics
    /// As [`crate::hll_update`].
    ///
    /// # Errors
    /// [`Fault::Lost`] if the device is gone.
    pub fn update(&mut self, slots: &[u32], hashes: &[u64], validity: Option<Bits<'_>>) -> Result<(), Error> {
        check_lengths("slots and hashes", slots.len(), hashes.len());
        Bits::check(validity, hashes.len());
        check_slots(slots, self.groups, validity);
        let most = self.store.rows();
        for (number, (slots, hashes)) in slots.chunks(most).zip(hashes.chunks(most)).enumerate() {
            masked(&mut self.slots, slots, validity, number * most);
            let header = [slots.len() as u32, self.lg_k, 0, 0, 0, 0, 0, 0];
            self.store.take(header, &[bytemuck::cast_slice(&self.slots), bytemuck::cast_slice(hashes)], None, &[slots.len()])?;
        }
        Ok(())
    }

    /// Twin of [`crate::hll_merge`], without a way over the host; `from` keeps its registers.
    ///
    /// # Panics
    /// If the tables are of two engines or of different shapes.
    ///
    /// # Errors
    /// [`Fault::Lost`] if the device is gone.
    pub fn merge(&mut self, from: &Self) -> Result<(), Error> {
        check_lengths("registers to merge", self.groups << self.lg_k, from.groups << from.lg_k);
        assert!(self.lg_k == from.lg_k, "groups of 2^{} and of 2^{} registers cannot be merged", self.lg_k, from.lg_k);
        let registers = self.groups << self.lg_k;
        self.store.merge(&from.store, [registers as u32, 0, 0, 0, 0, 0, 0, 0], registers)
    }

    /// Merges the registers into `registers`, and leaves empty ones on the device.
    ///
    /// # Panics
    /// If there are not as many.
    ///
    /// # Errors
    /// [`Fault::Memory`] if there is no room to read, [`Fault::Lost`] if the device is gone; `registers` are then as they were.
    pub fn read_into(&mut self, registers: &mut [u8]) -> Result<(), Error> {
        check_lengths("registers to merge", registers.len(), self.groups << self.lg_k);
        let read = self.store.read(registers.len(), |words| words.iter().map(|word| *word as u8).collect::<Vec<u8>>())?;
        hll_merge(registers, &read);
        Ok(())
    }
}
