//! The choice between the CPU and the GPU for one kernel: by cost, with a margin, without flutter.

use std::time::Duration;

use super::cost::{Cost, Estimate, Work};

/// By how much a device must win before a kernel moves to it. What is measured is right to about a tenth, and a move that
/// turns out even was not worth its risk.
pub const MARGIN: f64 = 1.25;

/// Which device takes the rows of one kernel until they are read.
///
/// From one device to the other the costs must differ by [`MARGIN`] in favour of the other: between the two, a kernel
/// stays where it is.
#[derive(Clone, Copy, Debug)]
pub struct Chooser {
    cpu: Estimate,
    gpu: Estimate,
    latency: Duration,
    on_gpu: bool,
}

impl Chooser {
    /// A chooser between measured costs that begins on the CPU.
    pub fn new(cpu: Cost, gpu: Cost) -> Self {
        Self { cpu: cpu.into(), gpu: gpu.into(), latency: Duration::MAX, on_gpu: false }
    }

    /// The longest that a read may have to wait for rows that were gathered; without a bound unless one is given.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The CPU's cost, as it is known now.
    pub fn cpu(&self) -> Estimate {
        self.cpu
    }

    /// The GPU's cost, as it is known now.
    pub fn gpu(&self) -> Estimate {
        self.gpu
    }

    /// Rows before a read of so many groups from which on the GPU takes less time; `None` if it never does.
    pub fn break_even(&self, groups: u64) -> Option<u64> {
        self.gpu.break_even(&self.cpu, groups, 1.0)
    }

    /// Chooses the device of rows that will be read together: whether it is the GPU. One that wins with few rows alone is
    /// none for a stream of them.
    pub fn choose(&mut self, work: Work) -> bool {
        let margin = if self.on_gpu { MARGIN.recip() } else { MARGIN };
        let (cpu, gpu) = (self.cpu.of(work).as_secs_f64(), self.gpu.of(work).as_secs_f64());
        self.on_gpu = gpu * margin <= cpu && self.gather_rows(work.groups).is_some();
        self.on_gpu
    }

    /// Rows to gather before they are sent: as many as pay for the launch and for reading the groups by themselves.
    /// `None` if no number of rows does, or so many would hold a read back for longer than the latency.
    pub fn gather_rows(&self, groups: u64) -> Option<u64> {
        let margin = if self.on_gpu { MARGIN.recip() } else { MARGIN };
        let rows = self.gpu.break_even(&self.cpu, groups, margin)?;
        // Gathered rows are the GPU's if their number is complete when they are read, else the CPU's.
        let work = Work { rows, groups };
        (self.gpu.of(work).max(self.cpu.of(work)) <= self.latency).then_some(rows)
    }

    /// Takes note of what some work cost the CPU.
    pub fn observe_cpu(&mut self, work: Work, took: Duration) {
        self.cpu.observe(work, took);
    }

    /// Takes note of what some work cost the GPU, its read included.
    pub fn observe_gpu(&mut self, work: Work, took: Duration) {
        self.gpu.observe(work, took);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Chooser, MARGIN};
    use crate::placement::cost::tests::any_cost;
    use crate::placement::{Cost, Transfer, Work};

    /// A processor at 0.5 G rows/s, and a card at 2 G rows/s behind a bus of 24 GB/s and 200 µs away.
    fn ordinary() -> Chooser {
        let cpu = Cost { launch: Duration::from_nanos(100), rows_per_second: 5e8, transfer: Transfer::NONE };
        let transfer = Transfer { bytes_per_row: 12, bytes_per_group: 52, upload: 24e9, download: 5e9 };
        Chooser::new(cpu, Cost { launch: Duration::from_micros(200), rows_per_second: 2e9, transfer })
    }

    #[test]
    fn few_rows_stay_and_many_go() {
        let mut chooser = ordinary();
        let break_even = chooser.break_even(100).unwrap_or_default();
        assert!((200_000..210_000).contains(&break_even), "{break_even}");
        assert!(!chooser.choose(Work { rows: break_even, groups: 100 }), "even is not enough");
        assert!(chooser.choose(Work { rows: 10 * break_even, groups: 100 }));
        assert!(chooser.choose(Work { rows: break_even, groups: 100 }), "it stays where it is");
        assert!(!chooser.choose(Work { rows: break_even / 4, groups: 100 }));
    }

    #[test]
    fn a_device_that_turns_slow_is_left() {
        let mut chooser = ordinary();
        let work = Work { rows: 10_000_000, groups: 100 };
        assert!(chooser.choose(work));
        let took = chooser.cpu().of(work) * 2;
        let left_after = (1..).find(|_| {
            chooser.observe_gpu(work, took);
            !chooser.choose(work)
        });
        assert!(left_after.is_some_and(|runs| (2..20).contains(&runs)), "{left_after:?}");
    }

    #[test]
    fn a_latency_keeps_rows_that_would_be_late() {
        let work = Work { rows: 10_000_000, groups: 100 };
        assert!(ordinary().latency(Duration::from_millis(5)).choose(work));
        assert!(!ordinary().latency(Duration::from_micros(150)).choose(work));
        assert_eq!(ordinary().latency(Duration::from_micros(150)).gather_rows(100), None);
    }

    proptest! {
        #[test]
        fn a_move_needs_the_margin(cpu in any_cost(), gpu in any_cost(), work in any_work()) {
            let mut chooser = Chooser::new(cpu, gpu);
            let (on_cpu, on_gpu) = (cpu.of(work).as_secs_f64(), gpu.of(work).as_secs_f64());
            let slack = 1.0 + 1e-6;
            if chooser.choose(work) {
                prop_assert!(on_gpu * MARGIN <= on_cpu * slack + 1e-8);
            } else if chooser.gather_rows(work.groups).is_some() {
                prop_assert!(on_gpu * MARGIN * slack + 1e-8 >= on_cpu);
            } else {
                // It never wins, or with few rows alone: the more there are, the further it is behind.
                let behind = |rows: u64| {
                    let work = Work { rows, ..work };
                    gpu.of(work).as_secs_f64() * MARGIN - cpu.of(work).as_secs_f64()
                };
                let rounding = 1e-8 + 1e-9 * cpu.of(Work { rows: 1 << 41, ..work }).as_secs_f64();
                prop_assert!(behind(1 << 41) >= behind(1 << 40) - rounding);
            }
        }

        #[test]
        fn there_is_no_flutter(cpu in any_cost(), gpu in any_cost(), work in any_work(), noise in proptest::collection::vec(0.95..1.05f64, 1..50)) {
            let mut chooser = Chooser::new(cpu, gpu);
            let mut moves = 0;
            let mut was = chooser.choose(work);
            for noise in noise {
                chooser.observe_cpu(work, cpu.of(work).mul_f64(noise));
                chooser.observe_gpu(work, gpu.of(work).mul_f64(2.0 - noise));
                let is = chooser.choose(work);
                moves += usize::from(is != was);
                was = is;
            }
            prop_assert!(moves <= 1, "noise of a twentieth moved the kernel {moves} times");
        }

        #[test]
        fn gathered_rows_pay(cpu in any_cost(), gpu in any_cost(), groups in 0u64..100_000, micros in 1u64..1_000_000) {
            let latency = Duration::from_micros(micros);
            if let Some(rows) = Chooser::new(cpu, gpu).latency(latency).gather_rows(groups) {
                let work = Work { rows, groups };
                prop_assert!(gpu.of(work).as_secs_f64() * MARGIN <= cpu.of(work).as_secs_f64() * (1.0 + 1e-6) + 1e-8);
                prop_assert!(gpu.of(work) <= latency && cpu.of(work) <= latency);
            }
        }
    }

    fn any_work() -> impl Strategy<Value = Work> {
        (0u64..1_000_000_000, 0u64..1_000_000).prop_map(|(rows, groups)| Work { rows, groups })
    }
}
