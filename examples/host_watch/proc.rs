//! What Linux tells of itself under `/proc`, read as gauges between two looks.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::Result;

/// A sector of `/proc/diskstats` is 512 bytes, whatever the disk's own are (Documentation/admin-guide/iostats.rst).
const SECTOR: u64 = 512;
const MEGABYTE: f64 = 1e6;

/// Counters at one moment.
#[derive(Debug)]
struct Look {
    at: Instant,
    /// Busy and all ticks of each core.
    cores: Vec<(u64, u64)>,
    /// Ticks that this program has used.
    own: u64,
    /// Bytes received and sent.
    network: (u64, u64),
    /// Bytes read and written.
    disk: (u64, u64),
    memory_used: f64,
    load: f64,
}

/// Reads this machine.
pub struct Host {
    last: Look,
}

impl Host {
    /// Takes a first look.
    pub fn new() -> Result<Host> {
        Ok(Host { last: look()? })
    }

    /// The names of the gauges, in the order in which [`Host::sample`] gives their values.
    pub fn gauges(&self) -> Vec<String> {
        let cores = (0..self.last.cores.len()).map(|core| format!("core {core} %"));
        let others = ["this program %", "memory %", "load", "net in MB/s", "net out MB/s", "disk read MB/s", "disk write MB/s"];
        cores.chain(others.map(str::to_owned)).collect()
    }

    /// The gauges since the last look; cores that have gone or come meanwhile are left out.
    pub fn sample(&mut self) -> Result<Vec<f64>> {
        let now = look()?;
        let seconds = now.at.duration_since(self.last.at).as_secs_f64().max(1e-6);
        let mut values: Vec<f64> = self.last.cores.iter().zip(&now.cores).map(|(before, after)| percent(*before, *after)).collect();
        // Each core counts the same wall time, so that one core's ticks turn ticks into time without knowing their length.
        let ticks = self.last.cores.first().zip(now.cores.first()).map_or(0, |(before, after)| after.1.saturating_sub(before.1));
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / MEGABYTE / seconds;
        values.extend([
            100.0 * now.own.saturating_sub(self.last.own) as f64 / ticks.max(1) as f64,
            now.memory_used,
            now.load,
            rate(self.last.network.0, now.network.0),
            rate(self.last.network.1, now.network.1),
            rate(self.last.disk.0, now.disk.0),
            rate(self.last.disk.1, now.disk.1),
        ]);
        self.last = now;
        Ok(values)
    }
}

fn percent(before: (u64, u64), after: (u64, u64)) -> f64 {
    // The kernel may count idle time backwards by a tick; that is no load below zero.
    100.0 * after.0.saturating_sub(before.0) as f64 / after.1.saturating_sub(before.1).max(1) as f64
}

fn look() -> Result<Look> {
    Ok(Look {
        at: Instant::now(),
        cores: read("/proc/stat", cores)?,
        own: read("/proc/self/stat", own_ticks)?,
        network: read("/proc/net/dev", network)?,
        disk: read("/proc/diskstats", |text| Some(disk(text, |name| Path::new("/sys/block").join(name).exists())))?,
        memory_used: read("/proc/meminfo", memory_used)?,
        load: read("/proc/loadavg", |text| text.split_whitespace().next()?.parse().ok())?,
    })
}

fn read<T>(path: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}; this program needs Linux"))?;
    parse(&text).ok_or_else(|| format!("{path} is not as proc(5) describes it").into())
}

/// Busy and all ticks of each `cpuN` line: user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
fn cores(stat: &str) -> Option<Vec<(u64, u64)>> {
    let mut cores = Vec::new();
    for line in stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")) {
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|field| field.parse().ok()).collect::<Option<_>>()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        let all: u64 = ticks.iter().sum();
        cores.push((all - idle, all));
    }
    (!cores.is_empty()).then_some(cores)
}

/// User and system ticks: fields 14 and 15, counted behind the program's name, which may hold anything (proc_pid_stat(5)).
fn own_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The share of memory that is not available for new programs, in percent.
fn memory_used(meminfo: &str) -> Option<f64> {
    let field = |name: &str| meminfo.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    Some(100.0 * (total - available) / total)
}

/// Bytes received and sent over all interfaces but the loopback.
fn network(dev: &str) -> Option<(u64, u64)> {
    let mut bytes = (0, 0);
    for (name, counters) in dev.lines().skip(2).filter_map(|line| line.split_once(':')) {
        let counters: Vec<&str> = counters.split_whitespace().collect();
        if name.trim() != "lo" {
            bytes.0 += counters.first()?.parse::<u64>().ok()?;
            bytes.1 += counters.get(8)?.parse::<u64>().ok()?;
        }
    }
    Some(bytes)
}

/// Bytes read from and written to whole disks; partitions and loop devices would count the same bytes twice.
fn disk(diskstats: &str, is_disk: impl Fn(&str) -> bool) -> (u64, u64) {
    let mut bytes = (0, 0);
    for line in diskstats.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, _, name, _, _, read, _, _, _, written, ..] = fields.as_slice() else { continue };
        if is_disk(name) && !name.starts_with("loop") && !name.starts_with("ram") {
            bytes.0 += read.parse::<u64>().unwrap_or(0) * SECTOR;
            bytes.1 += written.parse::<u64>().unwrap_or(0) * SECTOR;
        }
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_busy_when_they_neither_idle_nor_wait() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 1 5 80 4 0 0 0 7 7\ncpu1 0 0 0 100 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(cores(stat), Some(vec![(16, 100), (0, 100)]));
        assert_eq!(percent((16, 100), (41, 200)), 25.0);
        assert_eq!(percent((16, 100), (15, 100)), 0.0);
        assert_eq!(cores("cpu0 1 2"), None);
        assert_eq!(cores(""), None);
    }

    #[test]
    fn a_programs_name_may_hold_brackets_and_spaces() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20";
        assert_eq!(own_ticks(stat), Some(42));
        assert_eq!(own_ticks("7 (a"), None);
    }

    #[test]
    fn memory_network_and_disk_are_read_from_their_columns() {
        assert_eq!(memory_used("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 750 kB\n"), Some(25.0));
        let dev = "Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 100 1 0 0 0 0 0 0 200 2\n  eth1:1 1 0 0 0 0 0 0 2 2\n";
        assert_eq!(network(dev), Some((101, 202)));
        let stats = " 254 0 vda 1 2 10 4 5 6 20 8\n 254 1 vda1 1 2 10 4 5 6 20 8\n 7 0 loop0 1 2 10 4 5 6 20 8\n";
        assert_eq!(disk(stats, |name| name != "vda1"), (5_120, 10_240));
    }

    #[test]
    fn this_machine_can_be_read() {
        let mut host = Host::new().unwrap();
        assert_eq!(host.sample().unwrap().len(), host.gauges().len());
    }
}
