//! The machine: what it is, what its memory gives, and which core a thread runs on.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

/// Where the data sets are, if not where this variable says.
pub const DATA: (&str, &str) = ("THALWEG_DATA", "../shared/data");

/// The folder of the data sets, which may not be there.
pub fn data_folder() -> PathBuf {
    std::env::var_os(DATA.0).map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(DATA.1), PathBuf::from)
}

/// 512 MiB of `f64`: far more than any cache holds.
const ARRAY: usize = 1 << 26;

/// Sums side by side, so that additions do not wait for each other.
const LANES: usize = 16;

/// What a figure depends on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    /// Processes that wanted to run during the last minute: more than none is noise.
    pub load: f64,
    /// What one core reads from memory, in GB/s.
    pub read_gb_per_s: f64,
}

impl Machine {
    /// Looks at this machine and measures its memory.
    pub fn look() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        let kib = number(field(&meminfo, "MemTotal").and_then(|value| value.split(' ').next()));
        let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            date: said_by("date", &["-u", "+%F"]),
            cpu: field(&cpuinfo, "model name").map_or_else(|| std::env::consts::ARCH.to_owned(), str::to_owned),
            cores: last_core() + 1,
            memory_gib: (kib / f64::from(1 << 20) * 10.0).round() / 10.0,
            kernel: said_by("uname", &["-sr"]),
            load: number(loadavg.split(' ').next()),
            read_gb_per_s: read_bandwidth(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}, {} cores, {} GiB, {}; one core reads {:.1} GB/s; load average {:.1} at the start",
            self.date, self.cpu, self.cores, self.memory_gib, self.kernel, self.read_gb_per_s, self.load
        )
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(name))?.split_once(':').map(|(_, value)| value.trim())
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The best of five sums over an array in memory, in GB/s.
fn read_bandwidth() -> f64 {
    let array = vec![1.0_f64; ARRAY];
    let pass = || {
        let start = Instant::now();
        let mut lanes = [0.0; LANES];
        for chunk in black_box(&array).chunks_exact(LANES) {
            lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
        }
        black_box(lanes);
        (ARRAY * size_of::<f64>()) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}

/// Binds the calling thread, and those it starts from now on, to one core (the last if there are fewer), through
/// `taskset`; where that is missing the thread stays free.
pub fn pin(core: usize) {
    bind(&core.min(last_core()).to_string());
}

/// Lets the calling thread run on every core again.
pub fn unpin() {
    bind(&format!("0-{}", last_core()));
}

/// A command for `program` that runs on one core.
pub fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.min(last_core()).to_string()).arg(program);
    if said_by("taskset", &["--version"]) == "unknown" {
        command = Command::new(program);
    }
    command
}

/// The number of the last core, counted from zero whatever this thread is bound to.
fn last_core() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    online.trim().rsplit([',', '-']).next().and_then(|core| core.parse().ok()).unwrap_or_default()
}

fn bind(cores: &str) {
    let Ok(thread) = fs::read_link("/proc/thread-self") else { return };
    let Some(id) = thread.file_name() else { return };
    let _ = Command::new("taskset").arg("-pc").arg(cores).arg(id).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Seconds that all threads of this process have been on a core, to a hundredth; not a number if the system does not say.
pub fn process_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses, which may hold anything: the 12th and 13th field count hundredths, as Linux shows them to all.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let hundredths = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (hundredths(11) + hundredths(12)) / 100.0
}

/// Seconds that this thread has been on a core, if the system says so.
pub fn thread_seconds() -> Option<f64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(schedstat.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}
