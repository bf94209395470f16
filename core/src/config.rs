//! Every limit and knob of the engine, with its reason. Relations between them are asserted at compile time.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// Rows after which a batch is handed on. Large enough that the cost of a batch (dynamic calls, allocations)
/// is below 1% of the cost of its rows; small enough that slots, times and values of a batch stay in the L2 cache.
pub const BATCH_ROWS: usize = 16_384;

/// The longest that a row waits for its batch to fill, by default.
pub const LINGER: Duration = Duration::from_millis(1);

/// Clients that may be connected to one listener at once. Each costs a file descriptor and a straddle buffer.
pub const MAX_CONNECTIONS: usize = 1_024;

/// Bytes in one line (frame). A longer one goes to quarantine, cut to [`MAX_QUARANTINED_BYTES`]; its client goes on.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Bytes kept of a quarantined frame.
pub const MAX_QUARANTINED_BYTES: usize = 4_096;

/// Quarantined rows that a run keeps in memory when nobody takes them; the rest is counted only.
pub const MAX_QUARANTINED_ROWS: usize = 10_000;

/// Late rows that a run keeps in memory when nobody takes them; the rest is counted only.
pub const MAX_LATE_ROWS: usize = 10_000;

/// A client that sends nothing for this long is disconnected.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(300);

/// A source partition without rows for this long does not hold the watermark back.
pub const PARTITION_IDLE: Duration = Duration::from_secs(5);

/// A watermark that windows have waited for this long without its moving is warned of.
pub const HELD_BACK_WARNING: Duration = Duration::from_secs(60);

/// Bytes of the longest datagram: the length field of UDP holds 65,535, eight of which are the header's own. Over IPv4
/// another twenty are lost to its header.
pub const MAX_DATAGRAM_BYTES: usize = 65_527;

/// Bytes of one receive buffer: a datagram of any length with what the kernel writes before it, in whole pages.
pub const RECV_BUFFER_BYTES: usize = (1 << 16) + (1 << 12);

/// Receive buffers registered with the kernel per source: some 4 MiB, in which a full ring is backpressure.
pub const RECV_BUFFERS: u16 = 64;

/// Bytes of one file read. Long enough to amortise the call, short enough to stay in the L2 cache for the decoder.
pub const READ_BUFFER_BYTES: usize = 1 << 18;

/// Bytes that come out of a packed file at once, however much one read of it unpacks to: what a read brings of a file that is not packed.
pub const UNPACKED_BYTES: usize = READ_BUFFER_BYTES;

/// File reads in flight per file.
pub const READ_DEPTH: usize = 4;

/// Batches that may wait between a source thread and its worker.
pub const BATCH_RING: usize = 8;

/// Keys that one operator may hold at once: state per key is at most some hundred bytes, so this bounds
/// an operator to a few GiB. More is an error of kind `state`.
pub const MAX_KEYS: usize = 1 << 24;

/// How often sinks publish what was written. Each publication may cost a file and an fsync.
pub const COMMIT_EVERY: Duration = Duration::from_secs(10);

/// Bytes of accumulators that one window operator may hold. More is an error of kind `state`.
pub const MAX_STATE_BYTES: usize = 4 << 30;

/// Panes that one window operator may hold open at once; reached only when event times lie far apart.
pub const MAX_OPEN_PANES: usize = 1 << 14;

/// Rows in one part of a folder of files, by default.
pub const PART_ROWS: usize = 1 << 24;

/// Bytes in one part, as compressed, by default: readers and object stores are at their best with some hundred MiB.
pub const PART_BYTES: usize = 256 << 20;

/// Parts that a partitioned output writes at once: each holds a file and what is not written of its columns.
pub const OPEN_PARTS: usize = 128;

/// Bytes that these hold in memory: two parts of the default size, sorted. Parts that wait for the commit may hold as much.
pub const OPEN_PART_BYTES: usize = 512 << 20;

/// Rows in one Parquet row group, by default: what a writer holds in memory, and what a reader skips or decodes at once.
pub const PARQUET_ROW_GROUP_ROWS: usize = 1 << 20;

/// Rows in one record batch of an Arrow IPC file: some MiB, which readers take at once.
pub const ARROW_BATCH_ROWS: usize = 1 << 16;

const _: () = assert!(OPEN_PART_BYTES >= PART_BYTES);
const _: () = assert!(PARQUET_ROW_GROUP_ROWS <= PART_ROWS);
const _: () = assert!(RECV_BUFFERS.is_power_of_two(), "a provided-buffer ring has a power of two entries");
const _: () = assert!(MAX_LINE_BYTES >= RECV_BUFFER_BYTES, "a line may be longer than a receive buffer");
const _: () = assert!(MAX_QUARANTINED_BYTES <= MAX_LINE_BYTES);
const _: () = assert!(BATCH_RING.is_power_of_two());

/// Which way bytes come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoBackend {
    /// io_uring for sockets and direct reads where the kernel allows it, else epoll and blocking reads; the choice is logged.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll and blocking reads.
    Portable,
}

/// Which device the kernels run on that have a twin on graphics processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The one that measures cheaper; never a software adapter. Kernels with wider bounds on the GPU, as the left discord, stay on the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU, be it a software adapter; the CPU, with a warning, where there is none or it fails.
    Gpu,
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device> {
        match name {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "gpu" => Ok(Device::Gpu),
            other => Err(Error::config(format!("`device` is `{other}`; it may be auto, cpu or gpu"))),
        }
    }
}

/// What a thread does while a ring is empty or full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitStrategy {
    /// Burns the core: the lowest latency.
    Spin,
    /// Gives the core away between looks.
    Yield,
    /// Spins briefly, yields briefly, then sleeps until woken: right when cores are shared.
    #[default]
    Park,
}

/// How rows are shared out to [workers](Config::workers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exchange {
    /// Whichever suits the first rows, for each step.
    #[default]
    Auto,
    /// By the hash of the key, which decides who holds it; in two phases where there is no key.
    Hash,
    /// In two phases, where a step can: each worker aggregates rows of any key, and what they have is combined.
    TwoPhases,
    /// By window, where windows by key are tumbling and no step that follows keeps state: each worker has all rows of some windows. As
    /// [`Exchange::Auto`] elsewhere, and where a query goes on from a checkpoint.
    Windows,
}

/// What a pipeline does whose state is over its [budget](Config::state_budget).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverBudget {
    /// Ends with an error of kind `state`: nothing is lost in silence.
    #[default]
    Error,
    /// Reads only the partitions that hold event time back, which closes windows, until there is less; by the time of arrival none, as the
    /// clock closes them. The state may come to twice the budget meanwhile; beyond that it is an error. Partitions that cannot be
    /// held back are read on, see [`EventTime::max_skew`](crate::plan::EventTime::max_skew).
    Backpressure,
    /// Drops the rows that come, and counts them ([`Metrics::shed_rows`](crate::Metrics::shed_rows)), until there is less. They move event
    /// time, so that windows close.
    Shed,
}

impl FromStr for OverBudget {
    type Err = Error;

    fn from_str(name: &str) -> Result<OverBudget> {
        match name {
            "error" => Ok(OverBudget::Error),
            "backpressure" => Ok(OverBudget::Backpressure),
            "shed" => Ok(OverBudget::Shed),
            other => Err(Error::config(format!("`over_budget` is `{other}`; it may be error, backpressure or shed"))),
        }
    }
}

/// What a value stands for that may be a secret: `env:NAME` is the environment variable, `file:PATH` what the file holds, less a line end
/// at its end, anything else is itself.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config), naming the variable or file, never what it holds.
#[cfg(any(feature = "kafka", feature = "kinesis", feature = "registry", feature = "s3"))]
pub(crate) fn given(value: &str) -> Result<String> {
    if let Some(name) = value.strip_prefix("env:") {
        return std::env::var(name)
            .map_err(|_| Error::config(format!("the environment has no variable `{name}` that is text; set it, or give the value")));
    }
    let Some(path) = value.strip_prefix("file:") else { return Ok(value.to_owned()) };
    let text = std::fs::read_to_string(path).map_err(|error| Error::config(format!("cannot read {path}")).with_source(error))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).to_owned())
}

/// The most workers: there is one key group for each.
pub const MAX_WORKERS: usize = 256;

/// The knobs of one pipeline. [`Config::default`] suits most; [`Config::from_env`] lets an operator override it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Which way bytes come in.
    pub io: IoBackend,
    /// Which device window kernels run on. Rows bound for a GPU are gathered until they pay for their way; where a
    /// [`latency_target`](Config::latency_target) is set, no longer than it allows.
    pub device: Device,
    /// The instruction set of the CPU's kernels: `auto`, `scalar`, `simd` or a level such as `avx2`. It holds for the
    /// process: the first pipeline that names one, or runs, decides. `None` takes what there is, the fastest if nothing
    /// was decided.
    pub backend: Option<String>,
    /// Rows after which a batch is handed on.
    pub batch_rows: usize,
    /// The longest that a row waits for its batch to fill.
    pub linger: Duration,
    /// When set, the linger adapts so that the time from a row's arrival to its results stays under this.
    pub latency_target: Option<Duration>,
    /// Clients that may be connected at once.
    pub max_connections: usize,
    /// Bytes in one line.
    pub max_line_bytes: usize,
    /// A client that sends nothing for this long is disconnected.
    pub connection_idle: Duration,
    /// Reads and decodes on a thread of its own, handing batches to the worker through a ring.
    pub source_thread: bool,
    /// What a thread does while a ring is empty or full.
    pub wait: WaitStrategy,
    /// Threads that share the work of a query: as many as there are cores for it. The first is the pipeline's own, which also reads the
    /// source (but see [`source_thread`](Config::source_thread)), takes the event time, shares the rows out and puts the results together;
    /// so the others do more of the steps than it does. One is the default.
    ///
    /// Shared are the first step with state and those after it with the same key or a finer one: windows, `dedup`, `process` and
    /// `detect`, by the hash of their key, or in two phases (see [`exchange`](Config::exchange)); [`Stream::explain_with`] says which.
    /// Counts, results and late rows are those of one worker; sums of floats may differ in their last bits. Results come in the
    /// order of their windows' ends and, of one key, in that of one worker; in two phases all rows are where one worker puts them, by
    /// hash those of different keys may change places, always in the same way for one number of workers.
    ///
    /// [`Stream::explain_with`]: crate::Stream::explain_with
    pub workers: usize,
    /// How rows are shared out to the workers.
    pub exchange: Exchange,
    /// Keys that one operator may hold at once; each worker's copy of it, where workers share its rows.
    pub max_keys: usize,
    /// Bytes of state that one window or detector may hold. Where workers share its rows each may hold an equal part of them.
    pub max_state_bytes: usize,
    /// Bytes of state that all steps of a pipeline may hold together; `None` for no more bound than each step's own. It is looked at after
    /// each batch, with workers some batches later. Steps first give back the memory of keys, windows and rows that are gone.
    pub state_budget: Option<usize>,
    /// What becomes of a pipeline whose state is over that.
    pub over_budget: OverBudget,
    /// How often sinks publish what was written; the end of a run publishes the rest.
    pub commit_every: Duration,
    /// Opens files with `O_DIRECT`, past the page cache: for files larger than memory on fast disks.
    pub direct_io: bool,
    /// Once windows have waited this long for a watermark that does not move, a warning says which partition holds it back.
    pub held_back_warning: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            io: IoBackend::Auto,
            device: Device::Auto,
            backend: None,
            batch_rows: BATCH_ROWS,
            linger: LINGER,
            latency_target: None,
            max_connections: MAX_CONNECTIONS,
            max_line_bytes: MAX_LINE_BYTES,
            connection_idle: CONNECTION_IDLE,
            source_thread: false,
            wait: WaitStrategy::Park,
            workers: 1,
            exchange: Exchange::Auto,
            max_keys: MAX_KEYS,
            max_state_bytes: MAX_STATE_BYTES,
            state_budget: None,
            over_budget: OverBudget::Error,
            commit_every: COMMIT_EVERY,
            direct_io: false,
            held_back_warning: HELD_BACK_WARNING,
        }
    }
}

impl Config {
    /// The defaults, with these environment variables applied where they are set: `THALWEG_IO` (`auto`, `uring`,
    /// `portable`), `THALWEG_DEVICE` (`auto`, `cpu`, `gpu`) and `THALWEG_BACKEND` (as [`Config::backend`]).
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the first two hold anything else; what the third holds is checked
    /// when a pipeline is built.
    pub fn from_env() -> Result<Config> {
        Config::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let io = match variable("THALWEG_IO").as_deref() {
            None | Some("auto") => IoBackend::Auto,
            Some("uring") => IoBackend::Uring,
            Some("portable") => IoBackend::Portable,
            Some(other) => return Err(Error::config(format!("THALWEG_IO is `{other}`; it may be auto, uring or portable"))),
        };
        let device = match variable("THALWEG_DEVICE") {
            None => Device::Auto,
            Some(name) => name.parse().map_err(|_| Error::config(format!("THALWEG_DEVICE is `{name}`; it may be auto, cpu or gpu")))?,
        };
        Ok(Config { io, device, backend: variable("THALWEG_BACKEND"), ..Config::default() })
    }

    /// Checks every knob's range.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), naming the knob, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let in_range = |name: &str, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(Error::config(format!("`{name}` is {value}; it may be {low} to {high}"))),
        };
        in_range("batch_rows", self.batch_rows, 1, 1 << 24)?;
        in_range("max_connections", self.max_connections, 1, 1 << 20)?;
        in_range("max_line_bytes", self.max_line_bytes, 64, 1 << 30)?;
        in_range("workers", self.workers, 1, MAX_WORKERS)?;
        in_range("max_keys", self.max_keys, 1, 1 << 30)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_out_of_range_is_named() {
        let config = Config { batch_rows: 0, ..Config::default() };
        assert_eq!(config.validate().unwrap_err().to_string(), "`batch_rows` is 0; it may be 1 to 16777216");
        assert!(Config::default().validate().is_ok());
    }

    #[cfg(any(feature = "kafka", feature = "kinesis", feature = "registry", feature = "s3"))]
    #[test]
    fn secrets_come_from_where_they_are_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(given("hunter2").unwrap(), "hunter2");
        assert_eq!(given(&format!("file:{}", path.display())).unwrap(), "hunter2");
        assert_eq!(given("env:PATH").unwrap(), std::env::var("PATH").unwrap());
        let error = given("env:THALWEG_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.starts_with("the environment has no variable `THALWEG_NO_SUCH_VARIABLE`"), "{error}");
    }

    #[test]
    fn variables_set_knobs_or_say_what_they_may_hold() {
        let with = |set: &'static [(&str, &str)]| {
            Config::from_variables(move |name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[]).unwrap(), Config::default());
        let config = with(&[("THALWEG_DEVICE", "gpu"), ("THALWEG_BACKEND", "avx2"), ("THALWEG_IO", "portable")]).unwrap();
        assert_eq!((config.device, config.backend.as_deref(), config.io), (Device::Gpu, Some("avx2"), IoBackend::Portable));
        let error = with(&[("THALWEG_DEVICE", "tpu")]).unwrap_err();
        assert_eq!(error.to_string(), "THALWEG_DEVICE is `tpu`; it may be auto, cpu or gpu");
        assert_eq!("tpu".parse::<Device>().unwrap_err().to_string(), "`device` is `tpu`; it may be auto, cpu or gpu");
    }
}
