//! Grouped accumulation of one column, on whichever device it costs least.

use std::marker::PhantomData;

use super::{Device, Devices, Number};
use crate::{Backend, Bits, Cell, Want};

/// Takes the rows of one value column into cells that the caller owns, by way of the GPU where that is chosen.
///
/// The cells are complete only after [`Accumulator::settle`]; until then rows may be on their way.
#[derive(Debug)]
pub struct Accumulator<T> {
    devices: Devices,
    want: Want,
    #[cfg(feature = "gpu")]
    offload: super::offload::Offload<T>,
    kind: PhantomData<T>,
}

impl<T: Number> Accumulator<T> {
    /// An accumulator on these devices, of the parts of a cell that are wanted.
    pub fn new(devices: &Devices, want: Want) -> Self {
        Self {
            devices: devices.clone(),
            want,
            #[cfg(feature = "gpu")]
            offload: super::offload::Offload::default(),
            kind: PhantomData,
        }
    }

    /// Twin of [`crate::accumulate`]. Between two settlements the cells may become more, not fewer.
    ///
    /// # Panics
    /// If `slots`, `values` and `validity` differ in length, or the slot of a valid row is not below `cells.len()`.
    pub fn accumulate(&mut self, cells: &mut [Cell], slots: &[u32], values: &[T], validity: Option<Bits<'_>>) {
        #[cfg(feature = "gpu")]
        if self.offload.accumulate(&self.devices, cells, slots, values, validity, self.want) {
            return;
        }
        self.devices.count_cpu(slots.len());
        Backend::active().accumulate(cells, slots, values, validity, self.want);
    }

    /// Brings every row that is on its way into the cells.
    ///
    /// # Panics
    /// If `cells` are fewer than when the last rows came.
    pub fn settle(&mut self, cells: &mut [Cell]) {
        #[cfg(feature = "gpu")]
        self.offload.settle(&self.devices, cells, self.want);
        #[cfg(not(feature = "gpu"))]
        let _ = cells;
    }

    /// In words, where the rows of `groups` groups go and why. May look for a GPU and measure it.
    pub fn explain(&self, groups: usize) -> String {
        let (device, cpu) = (self.devices.device(), Backend::active());
        if device == Device::Cpu {
            return format!("{cpu} (asked for)");
        }
        #[cfg(feature = "gpu")]
        return self.devices.explain::<T>(groups, self.want);
        #[cfg(not(feature = "gpu"))]
        {
            let _ = groups;
            format!("{cpu} ({device}: built without the feature `gpu`)")
        }
    }

    /// Bytes held for rows on their way, on the host and on the device.
    pub fn bytes(&self) -> usize {
        #[cfg(feature = "gpu")]
        return self.offload.bytes();
        #[cfg(not(feature = "gpu"))]
        0
    }
}
