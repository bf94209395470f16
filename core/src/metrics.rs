//! Counters of one pipeline: values that the pipeline owns, readable from any thread.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// The counters of a running pipeline. Writers and readers need no lock; each counter is exact, but a
        /// snapshot of several is not taken at one instant.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help])+ pub $name: AtomicU64,)+
            /// Event time up to which all rows have come, in the stream's unit; `i64::MIN` before the first.
            pub watermark: AtomicI64,
            /// Rows between two firings from which on the GPU is faster, as last measured; `u64::MAX` if it was not
            /// measured or never is.
            pub gpu_break_even_rows: AtomicU64,
            /// Time from the arrival of the oldest row of a batch to the hand-over of its results to a sink.
            pub latency: Latency,
            /// Late rows by key group.
            late_key_groups: ByKeyGroup,
            /// How each step that workers share has its rows shared out.
            exchanges: Mutex<Vec<String>>,
            /// Records ahead by partition.
            lag: Mutex<Vec<(String, u64)>>,
            /// Time behind the newest record by partition.
            behind: Mutex<Vec<(String, Duration)>>,
        }

        /// The counters of a pipeline at one moment.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $name: u64,)+
            /// Event time up to which all rows have come, in the stream's unit; `None` before the first.
            pub watermark: Option<i64>,
            /// Rows between two firings from which on the GPU is faster, as last measured; `None` if it was not measured
            /// or never is.
            pub gpu_break_even_rows: Option<u64>,
            /// Percentiles of the time from a row's arrival to its results, over all result rows so far.
            pub latency: Percentiles,
            /// Late rows by key group (the hash of a key, of which there are 256), of the groups that have any: whether few keys are
            /// late or all.
            pub late_key_groups: Vec<(u8, u64)>,
            /// How each step that [workers](crate::Config::workers) share has its rows shared out, and why, in words; once it is known.
            pub exchanges: Vec<String>,
            /// How many records lie ahead in each partition of a broker that is read, as last heard.
            pub lag: Vec<(String, u64)>,
            /// How far behind the newest record the reading of each partition is, in time, where a broker tells that and not
            /// [`lag`](Metrics::lag); as last heard.
            pub behind: Vec<(String, Duration)>,
        }

        impl Counters {
            /// The counters now.
            pub fn snapshot(&self) -> Metrics {
                let watermark = self.watermark.load(Relaxed);
                let break_even = self.gpu_break_even_rows.load(Relaxed);
                Metrics {
                    $($name: self.$name.load(Relaxed),)+
                    watermark: (watermark != i64::MIN).then_some(watermark),
                    gpu_break_even_rows: (break_even != u64::MAX).then_some(break_even),
                    latency: self.latency.percentiles(),
                    late_key_groups: self.late_key_groups.counted(),
                    exchanges: self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    lag: self.lag.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    behind: self.behind.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                }
            }
        }

        impl Metrics {
            /// Name, meaning and value of every counter.
            pub fn entries(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name),)+]
            }
        }
    };
}

counters! {
    /// Rows that came from the source and decoded.
    rows_in,
    /// Bytes that came from the source, where it counts them.
    bytes_in,
    /// Batches that came from the source.
    batches_in,
    /// Rows given to sinks.
    rows_out,
    /// Rows that came after all their windows had fired, or too late to tell whether they are duplicates.
    late_rows,
    /// Rows that were dropped because they repeat another.
    duplicate_rows,
    /// Rows that were dropped because the state was over its budget.
    shed_rows,
    /// Rows that did not decode or had no event time.
    quarantined_rows,
    /// Records that a broker had deleted before they were read, and that were passed over as was asked for.
    skipped_records,
    /// Times that a broker had deleted records before they were read and does not say how many, passed over as was asked for.
    gaps,
    /// Records without a value (tombstones) that were left out.
    null_values,
    /// Files that were to be read and had been deleted.
    missing_files,
    /// Bytes of state that the operators hold.
    state_bytes,
    /// Values that kernels with a twin on the GPU, of windows, rolling ones too, and of the left discord, took on the CPU: rows times columns.
    kernel_rows_cpu,
    /// Values that they sent to the GPU.
    kernel_rows_gpu,
}

/// How many rows each key group has.
#[derive(Debug)]
struct ByKeyGroup(Vec<AtomicU64>);

impl Default for ByKeyGroup {
    fn default() -> ByKeyGroup {
        ByKeyGroup((0..=u8::MAX).map(|_| AtomicU64::new(0)).collect())
    }
}

impl ByKeyGroup {
    fn counted(&self) -> Vec<(u8, u64)> {
        let rows = self.0.iter().map(|rows| rows.load(Relaxed));
        (0..=u8::MAX).zip(rows).filter(|(_, rows)| *rows > 0).collect()
    }
}

/// A histogram of latencies. Written once per batch, so that a lock costs nothing that counts.
#[derive(Debug)]
pub struct Latency(Mutex<Histogram<u64>>);

/// Percentiles of latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Percentiles {
    /// Half of the rows took no longer.
    pub p50: Duration,
    /// 99% of the rows took no longer.
    pub p99: Duration,
    /// 99.9% of the rows took no longer.
    pub p999: Duration,
    /// The slowest row.
    pub max: Duration,
}

impl Default for Latency {
    fn default() -> Latency {
        // Two significant digits in at most 64 bits cannot be refused; an empty histogram of one digit neither.
        let histogram = Histogram::new(2).or_else(|_| Histogram::new(1)).map(Mutex::new);
        Latency(histogram.unwrap_or_else(|_| unreachable!("a histogram of one digit can always be made")))
    }
}

impl Latency {
    /// Counts `rows` that took `nanos`.
    pub fn record(&self, nanos: u64, rows: u64) {
        // A histogram that may grow, as this one may, refuses no value.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record_n(nanos, rows);
    }

    /// The percentiles so far; zero before the first row.
    pub fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: Duration::from_nanos(histogram.max()) }
    }
}

/// Counters that a pipeline and its observers share.
pub type SharedCounters = Arc<Counters>;

impl Counters {
    /// Counters at zero.
    pub fn shared() -> SharedCounters {
        let counters = Counters::default();
        counters.watermark.store(i64::MIN, Relaxed);
        counters.gpu_break_even_rows.store(u64::MAX, Relaxed);
        Arc::new(counters)
    }

    /// Counts late rows, of which these are the key groups.
    pub(crate) fn count_late(&self, key_groups: &[u8]) {
        self.late_rows.fetch_add(key_groups.len() as u64, Relaxed);
        for &group in key_groups {
            self.late_key_groups.0[usize::from(group)].fetch_add(1, Relaxed);
        }
    }

    /// Takes note of how far behind the source is.
    pub(crate) fn note_lag(&self, lag: &[(String, u64)]) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag.to_vec();
    }

    /// Takes note of how far behind the source is in time.
    pub(crate) fn note_behind(&self, behind: &[(String, Duration)]) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = behind.to_vec();
    }

    /// Takes note of how the rows of a step are shared out.
    pub(crate) fn note_exchange(&self, choice: String) {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).push(choice);
    }
}

impl Metrics {
    /// The counters in Prometheus' text exposition format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for (name, help, value) in self.entries() {
            let kind = if name == "state_bytes" { "gauge" } else { "counter" };
            let _ = write!(text, "# HELP thalweg_{name} {help}\n# TYPE thalweg_{name} {kind}\nthalweg_{name} {value}\n");
        }
        let by_group = "late_rows_by_key_group";
        if !self.late_key_groups.is_empty() {
            let _ = write!(text, "# HELP thalweg_{by_group} Late rows by key group.\n# TYPE thalweg_{by_group} counter\n");
        }
        for (group, rows) in &self.late_key_groups {
            let _ = writeln!(text, "thalweg_{by_group}{{key_group=\"{group}\"}} {rows}");
        }
        if !self.lag.is_empty() {
            text.push_str("# HELP thalweg_lag Records ahead in a partition of a broker.\n# TYPE thalweg_lag gauge\n");
        }
        for (partition, records) in &self.lag {
            let _ = writeln!(text, "thalweg_lag{{partition=\"{partition}\"}} {records}");
        }
        if !self.behind.is_empty() {
            text.push_str(
                "# HELP thalweg_behind_seconds Time behind the newest record of a partition.\n# TYPE thalweg_behind_seconds gauge\n",
            );
        }
        for (partition, behind) in &self.behind {
            let _ = writeln!(text, "thalweg_behind_seconds{{partition=\"{partition}\"}} {}", behind.as_secs_f64());
        }
        let gauges = [
            ("watermark", "Event time up to which all rows have come.", self.watermark.map(i128::from)),
            (
                "gpu_break_even_rows",
                "Rows between two firings from which on the GPU is faster, as last measured.",
                self.gpu_break_even_rows.map(i128::from),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let _ = write!(text, "# HELP thalweg_{name} {help}\n# TYPE thalweg_{name} gauge\nthalweg_{name} {value}\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_any_size_are_told_apart() {
        let latency = Latency::default();
        latency.record(1_000_000, 98);
        latency.record(3_600_000_000_000, 2);
        let percentiles = latency.percentiles();
        let within_a_hundredth = |got: Duration, want: f64| (got.as_secs_f64() / want - 1.0).abs() < 0.01;
        assert!(within_a_hundredth(percentiles.p50, 1e-3), "{percentiles:?}");
        assert!(within_a_hundredth(percentiles.p99, 3_600.0), "{percentiles:?}");
    }

    #[test]
    fn a_snapshot_reads_as_prometheus_text() {
        let counters = Counters::shared();
        counters.rows_in.fetch_add(3, Relaxed);
        assert_eq!(counters.snapshot().watermark, None);
        counters.watermark.store(-5, Relaxed);
        let text = counters.snapshot().prometheus();
        assert!(
            text.starts_with(
                "# HELP thalweg_rows_in Rows that came from the source and decoded.\n# TYPE thalweg_rows_in counter\nthalweg_rows_in 3\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("thalweg_watermark -5\n"));
        counters.count_late(&[7, 255, 7]);
        let metrics = counters.snapshot();
        assert_eq!((metrics.late_rows, &metrics.late_key_groups), (3, &vec![(7, 2), (255, 1)]));
        assert!(metrics.prometheus().contains("thalweg_late_rows_by_key_group{key_group=\"7\"} 2\n"));
        counters.note_lag(&[("payments[3]".to_owned(), 12)]);
        assert!(counters.snapshot().prometheus().contains("# TYPE thalweg_lag gauge\nthalweg_lag{partition=\"payments[3]\"} 12\n"));
        counters.note_behind(&[("shard-0".to_owned(), Duration::from_millis(1_500))]);
        assert!(counters.snapshot().prometheus().contains("gauge\nthalweg_behind_seconds{partition=\"shard-0\"} 1.5\n"));
        counters.gpu_break_even_rows.store(70_000, Relaxed);
        assert!(
            counters.snapshot().prometheus().ends_with("# TYPE thalweg_gpu_break_even_rows gauge\nthalweg_gpu_break_even_rows 70000\n")
        );
    }
}
