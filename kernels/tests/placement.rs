//! Rows that go to the CPU, to the GPU or to whichever costs less: the answers are the scalar twin's. On whatever adapter
//! there is, software ones included; without an adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::{open, property};
use testing::{Case, any_case, seeds};
use thalweg_kernels::gpu::{AdapterKind, Engine, Options, adapters};
use thalweg_kernels::placement::{Accumulator, Cost, Device, Devices, Discord, Rolling, Transfer};
use thalweg_kernels::{
    Backend, Bits, Cell, DiscordSeries, Extent, Frame, LeftDiscord, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows,
    RollingSums, SumColumns, Want, scalar,
};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("every_placement_agrees", every_placement_agrees),
        ("asked_for_rows_go_to_the_gpu", asked_for_rows_go_to_the_gpu),
        ("auto_takes_no_software_adapter", auto_takes_no_software_adapter),
        ("auto_moves_where_it_pays", auto_moves_where_it_pays),
        ("auto_moves_nothing_that_does_not_pay", auto_moves_nothing_that_does_not_pay),
        ("discords_go_where_they_are_told_to", discords_go_where_they_are_told_to),
        ("rolling_windows_go_where_they_are_told_to", rolling_windows_go_where_they_are_told_to),
        ("a_lost_device_loses_no_row", a_lost_device_loses_no_row),
        ("a_refused_allocation_loses_no_row", a_refused_allocation_loses_no_row),
        ("a_device_asked_for_in_vain_is_told_once", a_device_asked_for_in_vain_is_told_once),
    ];
    support::run(tests);
}

fn devices(device: Device) -> Devices {
    let start = Instant::now();
    Devices::new(device, move || start.elapsed())
}

/// A GPU that is faster than the CPU from some hundred rows on.
fn eager() -> [Cost; 2] {
    let transfer = Transfer { bytes_per_row: 12, bytes_per_group: 52, upload: 1e12, download: 1e12 };
    let cpu = Cost { launch: Duration::ZERO, rows_per_second: 1e6, transfer: Transfer::NONE };
    [cpu, Cost { launch: Duration::from_micros(100), rows_per_second: 1e9, transfer }]
}

/// A way to place rows, with a GPU of its own where it takes one.
fn placements(engine: &Engine) -> [Devices; 3] {
    let [cpu, gpu] = eager();
    [devices(Device::Cpu), devices(Device::Gpu).on(engine.clone()), devices(Device::Auto).on(engine.clone()).costs(cpu, gpu)]
}

/// Takes cases into panes, each read after so many cases, and holds every pane against the scalar twin.
fn check(devices: &Devices, cases: &[Case], per_pane: usize, want: Want) {
    let mut ints = Accumulator::<i64>::new(devices, want);
    let mut floats = Accumulator::<f64>::new(devices, want);
    for pane in cases.chunks(per_pane) {
        let (mut cells, mut expected) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for case in pane {
            for cells in cells.iter_mut().chain(&mut expected) {
                cells.resize(cells.len().max(case.groups as usize), Cell::EMPTY);
            }
            ints.accumulate(&mut cells[0], &case.slots, &case.ints, case.validity());
            floats.accumulate(&mut cells[1], &case.slots, &case.floats, case.validity());
            scalar::aggregate::accumulate(&mut expected[0], &case.slots, &case.ints, case.validity(), want);
            scalar::aggregate::accumulate(&mut expected[1], &case.slots, &case.floats, case.validity(), want);
        }
        ints.settle(&mut cells[0]);
        floats.settle(&mut cells[1]);
        assert!(cells[0] == expected[0], "{devices:?}, {want:?}");
        let magnitudes: f64 = pane.iter().flat_map(|case| &case.floats).filter(|x| x.is_finite()).map(|x| x.abs()).sum();
        for (cell, expected) in cells[1].iter().zip(&expected[1]) {
            assert_eq!((cell.count, cell.min, cell.max), (expected.count, expected.min, expected.max), "{devices:?}");
            testing::assert_sums_agree(Backend::active(), cell.float_sum(), expected.float_sum(), magnitudes);
        }
    }
}

fn values(cases: &[Case]) -> u64 {
    cases.iter().map(|case| 2 * case.slots.len() as u64).sum()
}

fn every_placement_agrees() {
    let engine = open();
    let cases = (prop::collection::vec(any_case(), 1..12), 1usize..5, any::<bool>(), any::<bool>());
    let result = property(40).run(&cases, |(cases, per_pane, sum, order)| {
        for devices in placements(&engine) {
            check(&devices, &cases, per_pane, Want { sum, order });
            let usage = devices.usage();
            assert_eq!(usage.cpu_rows + usage.gpu_rows, values(&cases), "every value is taken once");
        }
        Ok(())
    });
    result.unwrap();
}

/// Batches of 100 groups.
fn batches() -> Vec<Case> {
    seeds().filter(|case| case.groups == 100 && case.slots.len() > 500).collect()
}

fn asked_for_rows_go_to_the_gpu() {
    let [_, gpu, _] = placements(&open());
    check(&gpu, &batches(), 7, Want::ALL);
    assert_eq!((gpu.usage().cpu_rows, gpu.usage().gpu_rows), (0, values(&batches())));
    let software = adapters().iter().all(|adapter| adapter.kind == AdapterKind::Software);
    assert_eq!(gpu.take_warning().is_some_and(|warning| warning.contains("software")), software);
    assert_eq!(gpu.take_warning(), None);
    let text = Accumulator::<f64>::new(&gpu, Want::ALL).explain(100);
    assert!(text.starts_with("gpu/") && text.contains("asked for"), "{text}");
}

/// Panes of so many batches, each of so many rows of 100 groups; counts and sums are checked.
fn run(devices: &Devices, panes: usize, batches: usize, rows: u32) {
    let slots: Vec<u32> = (0..rows).map(|row| row.wrapping_mul(0x9e37_79b9) % 100).collect();
    let floats: Vec<f64> = (0..rows).map(f64::from).collect();
    let mut expected = vec![Cell::EMPTY; 100];
    (0..batches).for_each(|_| scalar::aggregate::accumulate(&mut expected, &slots, &floats, None, Want::ALL));
    let mut sums = Accumulator::<f64>::new(devices, Want::ALL);
    for _ in 0..panes {
        let mut cells = vec![Cell::EMPTY; 100];
        (0..batches).for_each(|_| sums.accumulate(&mut cells, &slots, &floats, None));
        sums.settle(&mut cells);
        for (cell, expected) in cells.iter().zip(&expected) {
            assert_eq!((cell.count, cell.max, cell.float_sum()), (expected.count, expected.max, expected.float_sum()));
        }
    }
}

fn auto_takes_no_software_adapter() {
    if adapters().iter().any(|adapter| adapter.kind != AdapterKind::Software) {
        return;
    }
    for devices in [devices(Device::Auto), devices(Device::Auto).on(open())] {
        run(&devices, 2, 10, 1 << 14);
        assert_eq!(devices.usage().gpu_rows, 0);
        assert_eq!(devices.take_warning(), None, "nothing was asked for that one does not get");
    }
    let text = Accumulator::<f64>::new(&devices(Device::Auto), Want::ALL).explain(100);
    assert!(text.ends_with("(auto: no hardware adapter; break-even unknown)"), "{text}");
}

fn auto_moves_where_it_pays() {
    let [_, _, auto] = placements(&open());
    run(&auto, 3, 40, 50);
    let usage = auto.usage();
    assert!(usage.gpu_rows > 3000, "from the second pane on it is known what comes: {usage:?}");
    assert!(usage.cpu_rows > 0 && usage.cpu_rows + usage.gpu_rows == 3 * 40 * 50, "{usage:?}");
    assert!(usage.break_even.is_some());
    // Panes of few rows stay where no launch is needed.
    let [_, _, auto] = placements(&open());
    run(&auto, 5, 1, 50);
    assert_eq!(auto.usage().gpu_rows, 0);
}

fn auto_moves_nothing_that_does_not_pay() {
    let [cpu, gpu] = eager();
    let devices = devices(Device::Auto).on(open()).costs(gpu, cpu);
    run(&devices, 3, 10, 1 << 14);
    assert_eq!((devices.usage().gpu_rows, devices.usage().break_even), (0, None));
    let text = Accumulator::<f64>::new(&devices, Want::ALL).explain(100);
    assert!(text.contains("measured cheaper"), "{text}");
}

fn a_lost_device_loses_no_row() {
    let cases = batches();
    for lost_at in [0, 1, 8, cases.len() - 1] {
        let engine = open();
        for devices in placements(&engine).into_iter().skip(1) {
            let (before, after) = cases.split_at(lost_at);
            let want = Want::ALL;
            let mut sums = Accumulator::<i64>::new(&devices, want);
            let (mut cells, mut expected) = (vec![Cell::EMPTY; 100], vec![Cell::EMPTY; 100]);
            for (part, lose) in [(before, false), (after, true)] {
                if lose {
                    engine.lose();
                }
                for case in part {
                    sums.accumulate(&mut cells, &case.slots, &case.ints, case.validity());
                    scalar::aggregate::accumulate(&mut expected, &case.slots, &case.ints, case.validity(), want);
                }
            }
            sums.settle(&mut cells);
            assert!(cells == expected, "lost at {lost_at}");
            check(&devices, &cases, 3, want);
            if devices.device() == Device::Gpu {
                let warnings: Vec<_> = std::iter::from_fn(|| devices.take_warning()).filter(|text| !text.contains("software")).collect();
                assert_eq!(warnings.len(), 1, "{warnings:?}");
                assert!(warnings[0].contains("lost"), "{warnings:?}");
            }
        }
    }
}

fn a_refused_allocation_loses_no_row() {
    let options = Options { software: true, memory: 200_000, batch_rows: 1000, ..Options::default() };
    let devices = devices(Device::Gpu).on(Engine::open(&options).unwrap());
    let cases: Vec<_> = batches().into_iter().chain(seeds().filter(|case| case.groups == 30_000)).chain(batches()).collect();
    check(&devices, &cases, 5, Want::ALL);
    let usage = devices.usage();
    assert!(usage.gpu_rows > 0 && usage.cpu_rows > 0, "{usage:?}");
    let warnings: Vec<_> = std::iter::from_fn(|| devices.take_warning()).filter(|text| text.contains("budget")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

fn a_device_asked_for_in_vain_is_told_once() {
    let engine = open();
    engine.lose();
    let devices = devices(Device::Gpu).on(engine);
    check(&devices, &batches(), 3, Want::ALL);
    assert_eq!(devices.usage().gpu_rows, 0);
    assert!(std::iter::from_fn(|| devices.take_warning()).filter(|text| text.contains("cannot be used")).count() == 1);
}

/// To the GPU only where one is asked for, and to the CPU from where it is lost; with a series that was begun elsewhere.
fn discords_go_where_they_are_told_to() {
    let params = LeftDiscord { length: 8, history: 50 };
    let slots: Vec<u32> = (0..900).map(|row| row % 2).collect();
    let values: Vec<f64> = (0..900).map(|row| (testing::scramble(row) >> 12) as f64 / 1e15).collect();
    let (mut series, mut expected) = (vec![DiscordSeries::default(); 2], vec![9.0; 900]);
    Backend::active().left_discord(&mut series, &slots, &values, None, &params, &mut expected);
    for (device, lost_at, on_gpu) in [(Device::Gpu, 9, 600), (Device::Gpu, 2, 300), (Device::Auto, 9, 0), (Device::Cpu, 9, 0)] {
        let engine = open();
        let devices = devices(device).on(engine.clone());
        let mut discord = Discord::new(&devices, params);
        assert_eq!(discord.explain().starts_with("gpu/"), device == Device::Gpu, "{}", discord.explain());
        let (mut begun, mut scores) = (vec![DiscordSeries::default(); 2], vec![9.0; 900]);
        Backend::active().left_discord(&mut begun, &slots[..300], &values[..300], None, &params, &mut scores[..300]);
        discord.grow(2);
        for (key, series) in begun.iter().enumerate() {
            discord.restore(key, DiscordSeries::restored(series.count(), series.values(), &params).unwrap());
        }
        for (batch, of) in [(1, 300..600), (2, 600..900)] {
            if batch == lost_at {
                engine.lose();
            }
            discord.score(&slots[of.clone()], &values[of.clone()], None, &mut scores[of]);
        }
        let close = |(score, expected): (&f64, &f64)| (score - expected).abs() <= 2e-5 || score.is_nan() && expected.is_nan();
        assert!(scores.iter().zip(&expected).all(close), "{device}, lost at {lost_at}");
        let usage = devices.usage();
        assert_eq!((usage.gpu_rows, usage.cpu_rows), (on_gpu, 600 - on_gpu));
        let warnings: Vec<String> = std::iter::from_fn(|| devices.take_warning()).filter(|warning| !warning.contains("software")).collect();
        assert_eq!(warnings.len(), usize::from(lost_at == 2), "{warnings:?}");
        assert_eq!(discord.series().iter().map(DiscordSeries::count).sum::<u64>(), 900);
    }
}

/// To the GPU only where one is asked for, and to the CPU from where it is lost; windows go on.
fn rolling_windows_go_where_they_are_told_to() {
    let (extent, frame) = (Extent::Rows(20), Frame::Including);
    let slots: Vec<u32> = (0..900).map(|row| row % 3).collect();
    let ints: Vec<i64> = (0..900).map(|row| testing::scramble(row) as i64).collect();
    let floats: Vec<f64> = ints.iter().map(|int| (int >> 12) as f64 / 1e9).collect();
    for (device, lost_at, on_gpu) in [(Device::Gpu, 9, 2700), (Device::Gpu, 1, 900), (Device::Auto, 9, 0), (Device::Cpu, 9, 0)] {
        let engine = open();
        let devices = devices(device).on(engine.clone());
        let rolling = Rolling::new(&devices);
        assert_eq!(rolling.explain().starts_with("gpu/"), device == Device::Gpu, "{}", rolling.explain());
        let mut windows =
            [0; 2].map(|_| (RollingMoments::new(extent, frame), RollingOrder::new(extent, frame), RollingSums::new(extent, frame)));
        for (moments, order, sums) in &mut windows {
            moments.reserve_slots(3);
            order.reserve_slots(3);
            sums.reserve_slots(3);
        }
        let [placed, expected] = &mut windows;
        for batch in 0..3 {
            if batch == lost_at {
                engine.lose();
            }
            let of = batch * 300..(batch + 1) * 300;
            let floats = RollingRows { slots: &slots[of.clone()], values: &floats[of.clone()], validity: None, times: &[] };
            let ints = RollingRows { slots: &slots[of.clone()], values: &ints[of], validity: None, times: &[] };
            let (mut means, mut mins, mut sums) = ([[9.0; 300]; 2], [[9.0; 300]; 2], [[9; 300]; 2]);
            rolling.moments(&mut placed.0, &floats, MomentColumns { means: Some(&mut means[0]), ..MomentColumns::default() });
            rolling.order(&mut placed.1, &floats, OrderColumns { mins: Some(&mut mins[0]), ..OrderColumns::default() });
            rolling.sums(&mut placed.2, &ints, SumColumns { sums: Some(&mut sums[0]), counts: None });
            let columns = MomentColumns { means: Some(&mut means[1]), ..MomentColumns::default() };
            Backend::Scalar.rolling_moments(&mut expected.0, &floats, columns);
            Backend::Scalar.rolling_order(&mut expected.1, &floats, OrderColumns { mins: Some(&mut mins[1]), ..OrderColumns::default() });
            Backend::Scalar.rolling_sums(&mut expected.2, &ints, SumColumns { sums: Some(&mut sums[1]), counts: None });
            assert!(
                means[0].iter().zip(&means[1]).all(|(mean, expected)| (mean - expected).abs() <= 1e-12 * 1e7),
                "{device}, batch {batch}"
            );
            assert!(mins[0] == mins[1] && sums[0] == sums[1], "{device}, batch {batch}");
        }
        assert_eq!((devices.usage().gpu_rows, devices.usage().cpu_rows), (on_gpu, 2700 - on_gpu));
        let warnings: Vec<String> = std::iter::from_fn(|| devices.take_warning()).filter(|warning| !warning.contains("software")).collect();
        assert_eq!(warnings.len(), usize::from(lost_at < 3), "{warnings:?}");
    }
}
