//! Rolling windows on the device that was asked for.

use super::Devices;
use crate::{
    MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns, Value, rolling_moments, rolling_order,
    rolling_sums,
};

/// Where rows are taken into rolling windows: on the processor, or on a GPU that was asked for by name.
///
/// [`Device::Auto`](super::Device::Auto) is the processor: a row costs it about as much as its way to a GPU and back. The windows are on the host whichever
/// answers, so that a GPU that fails is left between two calls.
#[derive(Clone, Debug)]
pub struct Rolling {
    devices: Devices,
}

/// Takes rows of `$rows` by `$twin` of a GPU that was asked for, else by `$on_cpu`.
macro_rules! place {
    ($self:ident, $twin:ident, $on_cpu:ident, $windows:ident, $rows:ident, $answers:ident) => {{
        #[cfg(feature = "gpu")]
        if let Some(engine) = $self.devices.usable_if_asked_for() {
            match engine.$twin($windows, $rows, &mut $answers) {
                Ok(()) => return $self.devices.count_gpu($rows.slots.len()),
                Err(fault) => $self.devices.fail(fault),
            }
        }
        $self.devices.count_cpu($rows.slots.len());
        $on_cpu($windows, $rows, $answers);
    }};
}

#[cfg_attr(not(feature = "gpu"), expect(unused_mut, reason = "a GPU writes to the columns first"))]
impl Rolling {
    /// On these devices.
    pub fn new(devices: &Devices) -> Self {
        Self { devices: devices.clone() }
    }

    /// [`rolling_moments`] there.
    ///
    /// # Panics
    /// As [`rolling_moments`].
    pub fn moments(&self, windows: &mut RollingMoments, rows: &RollingRows<'_>, mut answers: MomentColumns<'_>) {
        place!(self, rolling_moments, rolling_moments, windows, rows, answers);
    }

    /// [`rolling_order`] there.
    ///
    /// # Panics
    /// As [`rolling_order`].
    pub fn order<T: Value>(&self, windows: &mut RollingOrder, rows: &RollingRows<'_, T>, mut answers: OrderColumns<'_, T>) {
        place!(self, rolling_order, rolling_order, windows, rows, answers);
    }

    /// [`rolling_sums`] there.
    ///
    /// # Panics
    /// As [`rolling_sums`].
    pub fn sums(&self, windows: &mut RollingSums, rows: &RollingRows<'_, i64>, mut answers: SumColumns<'_>) {
        place!(self, rolling_sums, rolling_sums, windows, rows, answers);
    }

    /// In words, where the rows go and why. May look for a GPU.
    pub fn explain(&self) -> String {
        self.devices.explain_asked_for("a GPU's way is as long, and is to be asked for")
    }
}
