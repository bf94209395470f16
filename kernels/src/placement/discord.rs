//! Left discord on the device that was asked for.

use super::Devices;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::{Backend, Bits, DiscordSeries, LeftDiscord};

/// The series of all keys and their scores: on the processor, or on a GPU that was asked for by name.
///
/// [`Device::Auto`](super::Device::Auto) is the processor: the GPU's scores are within a bound of their own, see `gpu::Engine::left_discord`, so
/// that it takes them only where it is told to.
#[derive(Debug)]
pub struct Discord {
    devices: Devices,
    params: LeftDiscord,
    /// Empty where the GPU's twin has them.
    series: Vec<DiscordSeries>,
    #[cfg(feature = "gpu")]
    offloaded: Option<gpu::Discord>,
}

impl Discord {
    /// No series yet, on these devices.
    ///
    /// # Panics
    /// If a parameter is out of range.
    pub fn new(devices: &Devices, params: LeftDiscord) -> Self {
        params.check();
        Self {
            devices: devices.clone(),
            params,
            series: Vec::new(),
            #[cfg(feature = "gpu")]
            offloaded: None,
        }
    }

    /// More keys; fewer than there are change nothing.
    pub fn grow(&mut self, keys: usize) {
        let series = self.series_mut();
        series.resize_with(series.len().max(keys), DiscordSeries::default);
    }

    /// The series by key.
    pub fn series(&self) -> &[DiscordSeries] {
        #[cfg(feature = "gpu")]
        if let Some(offloaded) = &self.offloaded {
            return offloaded.series();
        }
        &self.series
    }

    /// Bytes held for the list of series, beside what each of them holds.
    pub fn bytes(&self) -> usize {
        size_of_val(self.series())
    }

    /// Takes up a series where it was left: one that [`DiscordSeries::restored`] made.
    ///
    /// # Panics
    /// If there is no such key.
    pub fn restore(&mut self, key: usize, series: DiscordSeries) {
        self.series_mut()[key] = series;
    }

    /// Keeps the series of `keys`, in this order, and drops all others.
    pub fn keep(&mut self, keys: &[u32]) {
        let series = self.series_mut();
        *series = keys.iter().map(|&key| series.get_mut(key as usize).map(std::mem::take).unwrap_or_default()).collect();
    }

    /// Scores each row and takes it into its key's series.
    ///
    /// # Panics
    /// As [`crate::left_discord`].
    pub fn score(&mut self, slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, scores: &mut [f64]) {
        #[cfg(feature = "gpu")]
        if self.offload(slots, values, validity, scores) {
            return;
        }
        self.devices.count_cpu(slots.len());
        Backend::active().left_discord(&mut self.series, slots, values, validity, &self.params, scores);
    }

    /// In words, where the rows go and why. May look for a GPU.
    pub fn explain(&self) -> String {
        self.devices.explain_asked_for("a GPU's scores have a wider bound and are to be asked for")
    }

    fn series_mut(&mut self) -> &mut Vec<DiscordSeries> {
        #[cfg(feature = "gpu")]
        if let Some(offloaded) = &mut self.offloaded {
            return offloaded.series_mut();
        }
        &mut self.series
    }
}

#[cfg(feature = "gpu")]
impl Discord {
    /// Scores by the GPU's twin, if it was asked for and there is one; returns whether it did.
    fn offload(&mut self, slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, scores: &mut [f64]) -> bool {
        if self.offloaded.is_none()
            && let Some(engine) = self.devices.usable_if_asked_for()
        {
            self.offloaded = Some(gpu::Discord::with(engine, self.params, std::mem::take(&mut self.series)));
        }
        let Some(offloaded) = &mut self.offloaded else { return false };
        offloaded.score(slots, values, validity, scores);
        if offloaded.on_device() {
            self.devices.count_gpu(slots.len())
        } else {
            self.devices.count_cpu(slots.len())
        }
        if let Some(fault) = offloaded.take_fault() {
            self.devices.fail(fault);
        }
        true
    }
}
