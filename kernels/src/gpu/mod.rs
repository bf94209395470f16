//! Kernels on graphics processors: WGSL through wgpu, on Vulkan, Metal and DirectX 12.
//!
//! An [`Engine`] owns a device. Its [`Table`]s keep accumulators on the device; batches go up through two staging buffers
//! in turn, and cells come back only when they are asked for. An [`Accumulator`] is a table that outlives its device.
//!
//! ```no_run
//! use thalweg_kernels::gpu::{Accumulator, Engine, Options};
//! use thalweg_kernels::{Cell, Want};
//!
//! let engine = Engine::open(&Options::default())?;
//! let mut sums = Accumulator::<f64>::new(&engine, 10_000, Want::ALL);
//! for (slots, amounts) in [(&[0u32, 7, 7], &[1.0, 2.5, 4.0])] {
//!     sums.accumulate(slots, amounts, None);
//! }
//! let mut cells = vec![Cell::EMPTY; sums.groups()];
//! sums.read_into(&mut cells);
//! if let Some(fault) = sums.take_fault() {
//!     eprintln!("the GPU gave up, the answer is the CPU's: {fault}");
//! }
//! # Ok::<(), thalweg_kernels::gpu::Error>(())
//! ```
//!
//! # Answers
//! Those of [`crate::aggregate`], bit for bit for counts, minimum, maximum and integer sums. Float sums are **exact**
//! until they are read: devices need not have `f64`, so a value is taken apart into sign, exponent and 53 bits, and these are added
//! to a fixed-point number of as many 32-bit limbs as the table's range of exponents needs (Kulisch, "Computer Arithmetic
//! and Validity", 2008). Atomics on `u32` are all that a device must have; addition of integers is associative, so the
//! answer depends on neither order nor device.
//!
//! # Traffic
//! | rows of | bytes up per row | bytes back per group |
//! |---|---|---|
//! | slot and `f64` | 12, and 1/8 with nulls | 8 for the count, 16 for minimum and maximum, 4 and 4 per limb for the sum: 52 where values are within a factor of 2^96, 296 at most |
//! | slot and `i64` | 12, and 1/8 with nulls | 8, 16, 16: 40 |
//! | slot | 4 | 8 |
//! | `f64` or `i64` without a slot | 8, and 1/8 with nulls | as above, for one group |
//!
//! # Other kernels
//! Answers are the processor's, bit for bit, unless the table says otherwise. Where a row takes the processor as little time as its bytes
//! take to a card and back, transfer binds: nothing of this is chosen by itself, and each is for rows that a GPU is asked for.
//!
//! | kernel | against the processor | bytes up | bytes back |
//! |---|---|---|---|
//! | [`Engine::rolling_moments`] | within the errors of [`crate::rolling`], on any device; not the same bits | 24 a row, 12 a row that a window held | 24 a row |
//! | [`Engine::rolling_order`] | | 28 a row, 16 a row that a window held | 16 a row |
//! | [`Engine::rolling_sums`] | | 24 a row, 12 a row that a window held | 24 a row |
//! | [`HllTable`] | | 12 a row | 4 a register |
//! | [`DdTable`]: the host tells a value's bucket | | 8 a row | 64 a group, 8 a counter |
//! | [`HistogramTable`] | | 12 a row | 8 a count |
//! | [`Engine::selected_rows`] | | 1/8 a row | 4 a selected row |
//! | [`Engine::compact`], [`Engine::split`] | | the values, and 1/8 a row | the values that are wanted |
//! | [`Engine::partition_rows`], [`Engine::order_by_part`] | | 8 or 4 a row | 4 a row, 4 a part of an upload |
//! | [`Engine::prefix_sum_u32`], [`Engine::prefix_sum_u64`] | | 4 or 8 a number | as many |
//! | [`Engine::smooth`], on devices with 64-bit floats | levels within 1e-15 / alpha of the largest magnitude: opt-in | 8 a row, 16 a key | 8 a row |
//!
//! Sums, minimum and maximum of a column without slots are [`Table::fold`].
//!
//! # Detectors
//! Twins of some of [`crate::anomaly`], each under a bound of its own that is wider than the processor's: they run where they are
//! called, and nothing chooses them by itself. Where a device has 32-bit
//! floats only, what these would lose is taken care of on the host.
//!
//! Rolling and robust z-scores have no twin: a window is a queue whose state the host has to carry on by as much work as the scores take.
//!
//! | detector | against the processor | bytes up | bytes back |
//! |---|---|---|---|
//! | [`Engine::left_discord`], [`Discord`] | scores within 2e-5 | 24 a row; 12 a value of the history once in 256 rows of a key, and once a call | 4 a row |
//! | [`Engine::trees`], [`Trees::scores`], [`FrozenForest`]: a random cut forest as it stands | scores within (12 + dimensions / 16) · 2⁻²⁴ of themselves for each level of a tree | 4 a dimension of a row; the trees once | 4 a row |
//! | [`Engine::ewma`], on devices with 64-bit floats | scores within 1e-14 · (1 + score) · (1 + magnitude / (alpha · deviation)) | 8 a row, 28 a key | 8 a row, 16 a key |
//! | [`Engine::cusum`], [`Engine::page_hinkley`], on devices with 64-bit floats | scores within 1e-14 · rows since the key began anew · (1 + score) · (1 + magnitude / deviation); keys begin anew at the same rows | 8 a row, 52 a key | 8 a row, 40 a key |
//! | [`Engine::knn`], k up to 32 | scores within (d + 10) · 2⁻²⁴ of themselves and 2⁻⁴⁶ of the largest magnitude in deviations | 12 a column of a row and 8 a row; 8 a column of the history once a call | 4 a row, 4 · k for a mean |
//! | [`Engine::mahalanobis_scores`]: mean and covariance as they stand | distances within (d + 4) · 2⁻²⁴ · sqrt(d / shrinkage) of the row's length in deviations | 4 a column of a row | 4 a row |
//!
//! # Faults
//! Every call that reaches the device returns an [`Error`] with its [`Fault`]; none panics and none returns a wrong
//! answer. A software adapter (llvmpipe, WARP) is refused unless the options allow it.

mod accumulator;
mod adapter;
mod aggregate;
mod anomaly;
mod cost;
mod device;
mod error;
mod fixed;
mod histogram;
mod layout;
mod passes;
mod pipeline;
mod ring;
mod rolling;
mod rows;
mod sketch;
mod smooth;
mod state;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::Device;
use pipeline::Pipelines;
use ring::Ring;

pub use accumulator::Accumulator;
pub use adapter::{AdapterInfo, AdapterKind, Options, adapters};
pub(crate) use aggregate::check_slots;
pub use aggregate::{Number, Rows, Table};
pub use anomaly::{Discord, FrozenForest, Trees};
pub use error::{Error, Fault};
pub use histogram::HistogramTable;
pub use sketch::{DdTable, HllTable};

/// What became of opening an engine for the process.
type Opened = Mutex<Option<Result<Engine, Error>>>;

/// The engines of the process: of a hardware adapter, and of any.
static OF_PROCESS: [Opened; 2] = [Mutex::new(None), Mutex::new(None)];

/// A device with its shaders and staging buffers. Clones share them.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: Device,
    pipelines: Pipelines,
    ring: Mutex<Ring>,
    private_words: u32,
    costs: cost::Costs,
    kept: passes::Kept,
}

impl Engine {
    /// Opens the fastest adapter that the options allow.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] without an adapter, saying what was found and what to do; [`Fault::Memory`] if the staging
    /// buffers find no room.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let device = Device::open(options)?;
        let pipelines = Pipelines::new(&device);
        let ring = Mutex::new(Ring::new(&device, options.batch_rows)?);
        device.check()?;
        let private_words = options.private_words.min(Options::PRIVATE_WORDS);
        let (costs, kept) = (cost::Costs::default(), passes::Kept::default());
        Ok(Self { shared: Arc::new(Shared { device, pipelines, ring, private_words, costs, kept }) })
    }

    /// The engine that this process shares, with the default options but for software adapters. It is opened when first
    /// asked for, and again when it was lost; where there is no adapter, none is looked for again.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn of_process(software: bool) -> Result<Self, Error> {
        let mut opened = lock(&OF_PROCESS[usize::from(software)]);
        match &*opened {
            Some(Ok(engine)) if engine.fault().is_none() => Ok(engine.clone()),
            Some(Err(error)) if error.fault() == Fault::Unavailable => Err(error.clone()),
            None if !software && !adapter::may_have_hardware() => {
                let message = "no GPU adapter found: the system has no device of one, so that drivers were not asked";
                opened.insert(Err(Error::new(Fault::Unavailable, message.to_owned()))).clone()
            }
            _ => opened.insert(Self::open(&Options { software, ..Options::default() })).clone(),
        }
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.shared.device.info
    }

    /// Whether shaders use subgroup operations.
    pub fn uses_subgroups(&self) -> bool {
        self.shared.device.subgroups
    }

    /// Bytes of buffers in use, on the device and for staging.
    pub fn memory_in_use(&self) -> u64 {
        self.shared.device.held()
    }

    /// The fault that ended this engine, if one did.
    pub fn fault(&self) -> Option<Error> {
        self.shared.device.check().err()
    }

    /// Destroys the device, as a reset of the driver would: what its tables hold is gone. For tests of what follows.
    pub fn lose(&self) {
        self.shared.device.device.destroy();
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// The lock, whether or not its last holder panicked: a panic over arguments leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
