//! The devices of a pipeline: what is wanted, what there is, what it took, what failed.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Device;
#[cfg(feature = "gpu")]
use super::{Chooser, Cost, Number};
use crate::Backend;
#[cfg(feature = "gpu")]
use crate::Want;
#[cfg(feature = "gpu")]
use crate::gpu::{AdapterKind, Engine, Error, Fault};

/// Time since an arbitrary start.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// No break-even was measured yet.
const UNKNOWN: u64 = u64::MAX;

/// The devices that the kernels of one pipeline may run on. Clones share what they know and count.
///
/// A GPU is looked for when a kernel first could use one, and is opened once for the process.
#[derive(Clone)]
pub struct Devices {
    device: Device,
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only a choice needs measurements"))]
    clock: Clock,
    latency: Duration,
    #[cfg(feature = "gpu")]
    given: Option<Engine>,
    #[cfg(feature = "gpu")]
    costs: Option<[Cost; 2]>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The GPU, or why there is none; looked for on first use.
    #[cfg(feature = "gpu")]
    gpu: std::sync::OnceLock<Result<Engine, Error>>,
    /// Whether a GPU was found wanting: nothing more goes there.
    failed: AtomicBool,
    /// What the user should know and was not told yet.
    warnings: Mutex<Vec<String>>,
    cpu_rows: AtomicU64,
    gpu_rows: AtomicU64,
    /// [`UNKNOWN`] until measured.
    break_even: AtomicU64,
}

/// What the devices of a pipeline took. A row counts once for each value column that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Values taken by the CPU, computed again after a fault or not.
    pub cpu_rows: u64,
    /// Values taken by the GPU.
    pub gpu_rows: u64,
    /// Rows between two reads from which on the GPU is faster, as measured last; `None` if it was not measured or it
    /// never is.
    pub break_even: Option<u64>,
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devices").field("device", &self.device).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Devices {
    /// The devices that `device` allows, with `clock` to measure them by.
    pub fn new(device: Device, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let shared = Shared { break_even: AtomicU64::new(UNKNOWN), ..Shared::default() };
        let devices = Self {
            device,
            clock: Arc::new(clock),
            latency: Duration::MAX,
            #[cfg(feature = "gpu")]
            given: None,
            #[cfg(feature = "gpu")]
            costs: None,
            shared: Arc::new(shared),
        };
        if device == Device::Gpu && cfg!(not(feature = "gpu")) {
            devices.fail("this build has no kernels for it; build with the feature `gpu`");
        }
        devices
    }

    /// The longest that rows may be gathered for, as [`super::Chooser::latency`] means it.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Uses this GPU and looks for no other.
    #[cfg(feature = "gpu")]
    pub fn on(mut self, engine: Engine) -> Self {
        self.given = Some(engine);
        self
    }

    /// Takes these costs of the CPU and the GPU for true instead of measuring them, whatever the kernel and the adapter.
    #[cfg(feature = "gpu")]
    pub fn costs(mut self, cpu: Cost, gpu: Cost) -> Self {
        self.costs = Some([cpu, gpu]);
        self
    }

    /// The device that is wanted.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What the devices took so far.
    pub fn usage(&self) -> Usage {
        let Shared { cpu_rows, gpu_rows, break_even, .. } = &*self.shared;
        let break_even = Some(break_even.load(Relaxed)).filter(|rows| *rows != UNKNOWN);
        Usage { cpu_rows: cpu_rows.load(Relaxed), gpu_rows: gpu_rows.load(Relaxed), break_even }
    }

    /// What should be told to the user: that rows meant for the GPU went to the CPU and why (once, however many follow),
    /// or that the GPU in use is a software adapter. Each is given once.
    pub fn take_warning(&self) -> Option<String> {
        self.shared.warnings.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// In words, where a kernel runs that goes to a GPU only where one is asked for by name; `auto` says why it is not chosen. May look for a GPU.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "nothing is chosen"))]
    pub(super) fn explain_asked_for(&self, auto: &str) -> String {
        let (device, cpu) = (self.device, Backend::active());
        match device {
            Device::Cpu => format!("{cpu} (asked for)"),
            #[cfg(feature = "gpu")]
            Device::Gpu => match self.engine() {
                Ok(engine) => asked_for(engine),
                Err(error) => format!("{cpu} ({device}: {error})"),
            },
            #[cfg(feature = "gpu")]
            Device::Auto => format!("{cpu} (auto: {auto})"),
            #[cfg(not(feature = "gpu"))]
            Device::Gpu | Device::Auto => format!("{cpu} ({device}: built without the feature `gpu`)"),
        }
    }

    pub(super) fn count_cpu(&self, rows: usize) {
        // Relaxed, as all counters here: they order nothing else.
        self.shared.cpu_rows.fetch_add(rows as u64, Relaxed);
    }

    /// Takes note of a fault: from now on nothing more goes to the GPU.
    pub(super) fn fail(&self, fault: impl fmt::Display) {
        if !self.shared.failed.swap(true, Relaxed) {
            self.warn(format!("the GPU cannot be used, the CPU takes all rows: {fault}"));
        }
    }

    fn warn(&self, warning: String) {
        self.shared.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }
}

#[cfg(feature = "gpu")]
impl Devices {
    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    pub(super) fn count_gpu(&self, rows: usize) {
        self.shared.gpu_rows.fetch_add(rows as u64, Relaxed);
    }

    pub(super) fn note_break_even(&self, rows: Option<u64>) {
        self.shared.break_even.store(rows.unwrap_or(UNKNOWN), Relaxed);
    }

    /// In words, where a kernel that takes values of type `T` into `groups` groups runs and why.
    pub(super) fn explain<T: Number>(&self, groups: usize, want: Want) -> String {
        let (cpu, device) = (Backend::active(), self.device);
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) if device == Device::Auto && error.fault() == Fault::Unavailable => {
                return format!("{cpu} (auto: no hardware adapter; break-even unknown)");
            }
            Err(error) => return format!("{cpu} ({device}: {error})"),
        };
        if device == Device::Gpu {
            return asked_for(engine);
        }
        let name = &engine.adapter().name;
        match self.chooser::<T>(groups, want).map(|chooser| chooser.break_even(groups as u64)) {
            Some(Some(rows)) => {
                format!("gpu/{name} from about {rows} rows between two reads of {groups} groups on, else {cpu} (auto: measured)")
            }
            Some(None) => format!("{cpu} (auto: measured cheaper than {name} for any number of rows of {groups} groups)"),
            None => format!("{cpu} (auto: {name} could not be measured)"),
        }
    }

    /// The GPU to use, unless there is none or it has failed.
    pub(super) fn usable(&self) -> Option<&Engine> {
        if self.shared.failed.load(Relaxed) { None } else { self.engine().ok() }
    }

    /// The same for kernels that go to a GPU only where one is asked for by name.
    pub(super) fn usable_if_asked_for(&self) -> Option<&Engine> {
        if self.device == Device::Gpu { self.usable() } else { None }
    }

    fn engine(&self) -> Result<&Engine, &Error> {
        self.shared.gpu.get_or_init(|| self.open()).as_ref()
    }

    /// Opens the GPU and warns where what was asked for is not what one gets.
    fn open(&self) -> Result<Engine, Error> {
        let opened = match &self.given {
            Some(engine) => Ok(engine.clone()),
            None => Engine::of_process(self.device == Device::Gpu),
        };
        match &opened {
            Ok(engine) if self.device == Device::Gpu && is_software(engine) => {
                let name = &engine.adapter().name;
                self.warn(format!("the GPU asked for is a software adapter, {name}: right answers, slower than the CPU's kernels"));
            }
            Err(error) if self.device == Device::Gpu || error.fault() != Fault::Unavailable => self.fail(error),
            _ => {}
        }
        opened
    }

    /// Whether costs were given, so that nothing must be looked for or measured to choose.
    pub(super) fn knows_costs(&self) -> bool {
        self.costs.is_some()
    }

    /// The choice for one kind of kernel and size of table; `None` without a GPU.
    pub(super) fn chooser<T: Number>(&self, groups: usize, want: Want) -> Option<Chooser> {
        let engine = self.usable()?;
        let [cpu, gpu] = match self.costs {
            Some(costs) => costs,
            None if is_software(engine) => return None,
            None => {
                let costs = engine.costs::<T>(Backend::active(), groups, want, || self.now());
                // No launch takes no time: such a clock stands still, as a simulation's does, and measures nothing.
                costs.inspect_err(|error| self.fail(error)).ok().filter(|[_, gpu]| !gpu.launch.is_zero())?
            }
        };
        let chooser = Chooser::new(cpu, gpu).latency(self.latency);
        self.note_break_even(chooser.break_even(groups as u64));
        Some(chooser)
    }
}

#[cfg(feature = "gpu")]
fn asked_for(engine: &Engine) -> String {
    let software = if is_software(engine) { "; a software adapter, slower than the CPU" } else { "" };
    format!("gpu/{} (asked for{software})", engine.adapter().name)
}

#[cfg(feature = "gpu")]
fn is_software(engine: &Engine) -> bool {
    engine.adapter().kind == AdapterKind::Software
}
