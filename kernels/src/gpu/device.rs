//! A device, its memory and its faults: every wgpu error ends here, none panics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::adapter::{AdapterInfo, Options, choose, ready};
use super::error::{Error, Fault};
use super::lock;
use super::pipeline::THREADS;

/// A device that answers nothing for so long is taken for lost. Drivers reset hung devices within seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The first fault of a device, written by wgpu's callbacks.
type FirstFault = Arc<Mutex<Option<Error>>>;

fn record(first: &FirstFault, fault: Fault, message: String) {
    lock(first).get_or_insert(Error::new(fault, message));
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: AdapterInfo,
    pub(super) subgroups: bool,
    /// Bytes of a table or a column at most.
    pub(super) max_binding: u64,
    /// Threads of a dispatch at most.
    pub(super) max_threads: u32,
    max_buffer: u64,
    first_fault: FirstFault,
    budget: u64,
    held: Arc<AtomicU64>,
}

/// A buffer and its share of the budget.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) inner: wgpu::Buffer,
    held: Arc<AtomicU64>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Relaxed: a count that orders nothing else.
        self.held.fetch_sub(self.inner.size(), Ordering::Relaxed);
    }
}

impl Device {
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let (adapter, info) = choose(options)?;
        let subgroups = options.subgroups && info.subgroups.is_some();
        let mut required_features = wgpu::Features::empty();
        required_features.set(wgpu::Features::SUBGROUP, subgroups);
        required_features.set(wgpu::Features::SHADER_F64, info.float64);
        let descriptor =
            wgpu::DeviceDescriptor { label: Some("thalweg"), required_features, required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) = ready(adapter.request_device(&descriptor)).map_err(|error| {
            Error::new(Fault::Unavailable, format!("{} opens no device: {error}; update its driver or name another adapter", info.name))
        })?;
        let first_fault = FirstFault::default();
        let lost = Arc::clone(&first_fault);
        let name = info.name.clone();
        device.set_device_lost_callback(move |reason, text| {
            record(&lost, Fault::Lost, format!("device {name} was lost ({reason:?}): {text}"));
        });
        let uncaught = Arc::clone(&first_fault);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let fault = if matches!(error, wgpu::Error::OutOfMemory { .. }) { Fault::Memory } else { Fault::Lost };
            record(&uncaught, fault, format!("the device failed: {error}"));
        }));
        let limits = device.limits();
        let max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(options.binding_limit.unwrap_or(u64::MAX));
        let max_threads = limits.max_compute_workgroups_per_dimension.saturating_mul(THREADS);
        let max_buffer = limits.max_buffer_size;
        let (budget, held) = (options.memory, Arc::default());
        Ok(Self { device, queue, info, subgroups, max_binding, max_threads, max_buffer, first_fault, budget, held })
    }

    /// A buffer, zeroed, or why there is none.
    pub(super) fn buffer(&self, what: &str, size: u64, usage: wgpu::BufferUsages) -> Result<Buffer, Error> {
        if size > self.max_buffer {
            let message = format!("{what} takes {size} bytes, a buffer of {} at most {}", self.info.name, self.max_buffer);
            return Err(Error::new(Fault::Limit, message));
        }
        // Relaxed: a count that orders nothing else; at worst two threads both find the budget used up.
        let held = self.held.fetch_add(size, Ordering::Relaxed);
        let refused = |why: &str| {
            self.held.fetch_sub(size, Ordering::Relaxed);
            Error::new(Fault::Memory, format!("{what} takes {size} bytes beside the {held} in use: {why}"))
        };
        if held + size > self.budget {
            return Err(refused(&format!("the engine's budget is {}; raise `memory` or close tables", self.budget)));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let inner = self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false });
        if ready(scope.pop()).is_some() {
            return Err(refused("the device has no such memory left; close tables or other programs on it"));
        }
        self.check().inspect_err(|_| {
            self.held.fetch_sub(size, Ordering::Relaxed);
        })?;
        Ok(Buffer { inner, held: Arc::clone(&self.held) })
    }

    /// The first fault of this device, if it had one. What was read before a good check is right.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &*lock(&self.first_fault) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Waits for a submission and runs the callbacks that are due.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), Error> {
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: Some(PATIENCE) };
        if let Err(error) = self.device.poll(poll) {
            record(&self.first_fault, Fault::Lost, format!("device {} does not answer: {error}", self.info.name));
        }
        self.check()
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex, Error> {
        let submission = self.queue.submit([encoder.finish()]);
        self.check()?;
        Ok(submission)
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}
