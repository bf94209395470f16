//! What a kernel costs on a device: a line in rows and groups, fitted by a short measurement, refined while running.

use std::time::Duration;

use crate::{Backend, Cell, Value, Want};

/// Rows of a batch in measurements of the CPU, as a pipeline hands them over.
const BATCH_ROWS: usize = 16_384;
/// Batches of a round: enough that what one call costs weighs little.
const BATCHES: usize = 16;
const ROUNDS: usize = 5;

/// How much a running average moves towards what was seen last.
const WEIGHT: f64 = 1.0 / 8.0;
/// The most that one observation may differ from the measurement: a machine that slept says nothing about a kernel.
const MOST_DRIFT: f64 = 64.0;

/// What is asked of a kernel: rows to take, and then the cells of groups to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows.
    pub rows: u64,
    /// Groups whose cells are read after the rows.
    pub groups: u64,
}

/// A kernel's cost on a device: `launch + bytes up / upload + rows / throughput + bytes back / download`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// From the call to the cell, for one row of one group.
    pub launch: Duration,
    /// Rows a second, transfer apart.
    pub rows_per_second: f64,
    /// What has to be moved, and how fast it moves.
    pub transfer: Transfer,
}

/// Bytes that a device without the host's memory must be sent and must send back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Bytes up per row.
    pub bytes_per_row: u32,
    /// Bytes back per group.
    pub bytes_per_group: u32,
    /// Bytes a second up.
    pub upload: f64,
    /// Bytes a second back, cells made of them.
    pub download: f64,
}

impl Transfer {
    /// Of the CPU: nothing.
    pub const NONE: Self = Self { bytes_per_row: 0, bytes_per_group: 0, upload: f64::INFINITY, download: f64::INFINITY };

    /// Time that the bytes of some work are on their way.
    pub fn of(&self, work: Work) -> Duration {
        let up = work.rows as f64 * f64::from(self.bytes_per_row) / self.upload;
        let back = work.groups as f64 * f64::from(self.bytes_per_group) / self.download;
        seconds(up + back)
    }
}

impl Cost {
    /// Expected time of some work.
    pub fn of(&self, work: Work) -> Duration {
        self.launch + seconds(work.rows as f64 / self.rows_per_second) + self.transfer.of(work)
    }

    /// Seconds that each row adds.
    fn per_row(&self) -> f64 {
        self.rows_per_second.recip() + f64::from(self.transfer.bytes_per_row) / self.transfer.upload
    }
}

/// A cost that is corrected by what is seen: one factor over all its parts, since what drifts (clocks, other programs)
/// drags all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    cost: Cost,
    factor: f64,
}

impl From<Cost> for Estimate {
    fn from(cost: Cost) -> Self {
        Self { cost, factor: 1.0 }
    }
}

impl Estimate {
    /// The cost as it was measured.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// What the measured cost is multiplied by.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Expected time of some work.
    pub fn of(&self, work: Work) -> Duration {
        seconds(self.cost.of(work).as_secs_f64() * self.factor)
    }

    /// Takes note that some work took so long. A clock that stands still tells nothing.
    pub fn observe(&mut self, work: Work, took: Duration) {
        let expected = self.cost.of(work).as_secs_f64();
        if expected > 0.0 && took > Duration::ZERO {
            let ratio = (took.as_secs_f64() / expected).clamp(MOST_DRIFT.recip(), MOST_DRIFT);
            self.factor += (ratio - self.factor) * WEIGHT;
        }
    }

    /// Rows from which on `self` takes less than `other` divided by `margin`, where the cells of `groups` are read after
    /// them; `None` if it never does.
    pub fn break_even(&self, other: &Self, groups: u64, margin: f64) -> Option<u64> {
        let none = Work { rows: 0, groups };
        let behind = self.of(none).as_secs_f64() * margin - other.of(none).as_secs_f64();
        let gain = other.cost.per_row() * other.factor - self.cost.per_row() * self.factor * margin;
        match (behind <= 0.0, gain) {
            (true, 0.0..) => Some(0),
            (false, gain) if gain > 0.0 => Some((behind / gain).ceil() as u64),
            _ => None,
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

impl Backend {
    /// Measures grouped accumulation into `groups` cells, of values such as these: medians of a few short runs, by the
    /// clock `now`.
    pub fn calibrate<T: Value>(self, values: &[T], groups: usize, want: Want, now: impl Fn() -> Duration) -> Cost {
        let mut cells = vec![Cell::EMPTY; groups.max(1)];
        let values: Vec<T> = values.iter().copied().cycle().take(if values.is_empty() { 0 } else { BATCH_ROWS }).collect();
        let slots = scattered(values.len(), groups);
        let mut batches = |rows: usize, times: usize| {
            (0..times).for_each(|_| self.accumulate(&mut cells, &slots[..rows], &values[..rows], None, want));
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(()) = batches(values.len(), BATCHES);
        let Ok(launch) = median(&now, || batches(values.len().min(1), 1));
        let Ok(stream) = median(&now, || batches(values.len(), BATCHES));
        let rows_per_second = (values.len() * BATCHES) as f64 / stream.max(Duration::from_nanos(1)).as_secs_f64();
        Cost { launch, rows_per_second, transfer: Transfer::NONE }
    }
}

/// Slots without pattern: neighbours that fall into one group would flatter or harm a kernel.
pub(crate) fn scattered(rows: usize, groups: usize) -> Vec<u32> {
    (0..rows).map(|row| (row as u32).wrapping_mul(0x9e37_79b9) % groups.max(1) as u32).collect()
}

/// The median time of a few runs.
pub(crate) fn median<E>(now: &impl Fn() -> Duration, mut run: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let start = now();
        run()?;
        *time = now().saturating_sub(start);
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell as Counter;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Cost, Estimate, MOST_DRIFT, Transfer, Work};
    use crate::{Backend, Want};

    /// Costs of devices from a microcontroller's to one that no one has yet.
    pub(in crate::placement) fn any_cost() -> impl Strategy<Value = Cost> {
        (0u64..50_000_000, 1e5..1e11f64, 0u32..64, 0u32..512, 1e6..1e11f64, 1e6..1e11f64).prop_map(
            |(launch, rows_per_second, bytes_per_row, bytes_per_group, upload, download)| Cost {
                launch: Duration::from_nanos(launch),
                rows_per_second,
                transfer: Transfer { bytes_per_row, bytes_per_group, upload, download },
            },
        )
    }

    #[test]
    fn a_cost_is_the_sum_of_its_parts() {
        let transfer = Transfer { bytes_per_row: 12, bytes_per_group: 52, upload: 12e9, download: 52e6 };
        let cost = Cost { launch: Duration::from_millis(1), rows_per_second: 1e9, transfer };
        let work = Work { rows: 1_000_000, groups: 1_000 };
        assert_eq!(transfer.of(work), Duration::from_millis(2));
        assert_eq!(cost.of(work), Duration::from_millis(4));
        let cpu = Cost { launch: Duration::ZERO, rows_per_second: 2.5e8, transfer: Transfer::NONE };
        assert_eq!(Estimate::from(cost).break_even(&cpu.into(), 1_000, 1.0), Some(1_000_000));
        assert_eq!(Estimate::from(cost).break_even(&Cost { rows_per_second: 5e8, ..cpu }.into(), 0, 1.0), None);
        assert_eq!(Estimate::from(cpu).break_even(&cost.into(), 0, 1.0), None, "it is faster for few rows only");
        assert_eq!(Estimate::from(cpu).break_even(&Cost { rows_per_second: 1e8, ..cost }.into(), 0, 1.0), Some(0));
    }

    #[test]
    fn a_backend_is_measured_by_the_given_clock() {
        // A clock that moves by a microsecond at every look: each run takes as long.
        let ticks = Counter::new(0);
        let now = || Duration::from_micros(ticks.replace(ticks.get() + 1));
        let cost = Backend::active().calibrate(&[1.0, 2.0], 10, Want::ALL, now);
        assert_eq!((cost.launch, cost.transfer), (Duration::from_micros(1), Transfer::NONE));
        assert_eq!(cost.rows_per_second.round(), 16.0 * 16_384.0 * 1e6);
    }

    proptest! {
        #[test]
        fn the_break_even_parts_the_rows(a in any_cost(), b in any_cost(), groups in 0u64..1_000_000, margin in 1.0..2.0f64) {
            let (a, b) = (Estimate::from(a), Estimate::from(b));
            let wins = |rows: u64| {
                let work = Work { rows, groups };
                a.of(work).as_secs_f64() * margin - b.of(work).as_secs_f64()
            };
            // Durations are whole nanoseconds, a few of which are lost to rounding.
            let slack = |rows: u64| 1e-8 + 1e-9 * b.of(Work { rows, groups }).as_secs_f64();
            match a.break_even(&b, groups, margin) {
                None => {
                    prop_assert!(wins(1 << 41) - wins(1 << 40) > -slack(1 << 41), "more rows help it");
                    prop_assert!(wins(0) <= slack(0) || wins(1 << 40) > -slack(1 << 40), "it wins with many rows");
                }
                Some(0) => prop_assert!(wins(0) <= slack(0)),
                Some(rows) if rows < 1 << 40 => {
                    prop_assert!(wins(rows) <= slack(rows), "{rows}");
                    prop_assert!(wins(rows - 1) > -slack(rows), "{rows}");
                    prop_assert!(wins(rows * 2) <= slack(rows * 2), "{rows}");
                }
                Some(_) => {}
            }
        }

        #[test]
        fn an_estimate_comes_to_what_is_seen(cost in any_cost(), drift in 0.1..10.0f64, rows in 1u64..1_000_000_000) {
            let work = Work { rows, groups: 0 };
            let took = cost.of(work).mul_f64(drift);
            prop_assume!(took > Duration::from_micros(1));
            let mut estimate = Estimate::from(cost);
            let mut error = f64::INFINITY;
            for _ in 0..80 {
                estimate.observe(work, took);
                let now = (estimate.factor() - drift).abs();
                prop_assert!(now <= error + 1e-3, "it comes nearer each time");
                error = now;
            }
            prop_assert!(error < 1e-2 * drift, "{} for {drift}", estimate.factor());
        }

        #[test]
        fn one_odd_observation_moves_little(cost in any_cost(), nanos in any::<u64>(), rows in any::<u32>()) {
            let mut estimate = Estimate::from(cost);
            estimate.observe(Work { rows: rows.into(), groups: 0 }, Duration::from_nanos(nanos));
            prop_assert!(estimate.factor() > 0.8 && estimate.factor() <= 1.0 + MOST_DRIFT / 8.0);
            estimate.observe(Work::default(), Duration::ZERO);
            prop_assert!(estimate.factor().is_finite());
        }
    }
}
