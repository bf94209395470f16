//! Detectors on the GPU that take rows in, by key: neighbours and drifts, against the processor's, within the bounds that they state, on whatever
//! adapter there is, software ones included. Without an adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use support::{open, property, software};
use testing::{Case, any_case, same, scramble, seeds};
use thalweg_kernels::anomaly::stepwise::judge;
use thalweg_kernels::gpu::{Engine, Fault, Options};
use thalweg_kernels::{Backend, Bits, Cusum, DriftCell, Knn, KnnCell, MomentWindow, PageHinkley, RollingZ};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("neighbours_agree_around_the_sizes_of_workgroups", neighbours_agree_around_workgroups),
        ("neighbours_agree_on_random_rows", neighbours_agree_on_random_rows),
        ("neighbours_agree_in_short_uploads", neighbours_agree_in_short_uploads),
        ("a_large_level_costs_neighbours_no_digits", a_large_level_costs_no_digits),
        ("neighbours_beyond_the_limits_are_refused", neighbours_beyond_the_limits),
        ("drifts_agree", drifts_agree),
        ("drifts_agree_on_random_columns", drifts_agree_on_random_columns),
        ("drifts_agree_in_short_uploads", drifts_agree_in_short_uploads),
        ("scores_of_rolling_windows_agree", scores_of_rolling_windows_agree),
        ("a_lost_device_leaves_cells_as_they_were", a_lost_device_leaves_cells),
    ];
    support::run(tests);
}

/// Uniform between -1 and 1.
fn noise(n: u64) -> f64 {
    (scramble(n) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Rows of several keys: slots and columns.
#[derive(Clone, Debug)]
struct Rows {
    keys: usize,
    slots: Vec<u32>,
    columns: Vec<Vec<f64>>,
}

impl Rows {
    fn new(keys: usize, slots: Vec<u32>, wide: usize, value: impl Fn(usize, usize) -> f64) -> Rows {
        let columns = (0..wide).map(|column| (0..slots.len()).map(|row| value(column, row)).collect()).collect();
        Rows { keys, slots, columns }
    }

    fn part(&self, from: usize, to: usize) -> Vec<&[f64]> {
        self.columns.iter().map(|column| &column[from..to]).collect()
    }

    /// Scores and cells of the device, in two batches.
    fn on_device(&self, engine: &Engine, params: &Knn, split: usize) -> (Vec<f64>, Vec<KnnCell>) {
        let (mut cells, mut scores) = (vec![KnnCell::default(); self.keys], vec![9.0; self.slots.len()]);
        for (from, to) in [(0, split), (split, self.slots.len())] {
            engine.knn(&mut cells, &self.slots[from..to], &self.part(from, to), params, &mut scores[from..to]).unwrap();
        }
        (scores, cells)
    }
}

/// Scores against the processor's, within what `Engine::knn` promises; and the same cells.
fn check_neighbours(engine: &Engine, rows: &Rows, params: &Knn, split: usize) {
    let (scores, cells) = rows.on_device(engine, params, split);
    let (whole, _) = rows.on_device(engine, params, 0);
    let is_tame = |value: &f64| !value.is_finite() || *value == 0.0 || (1e-12..=1e15).contains(&value.abs());
    if rows.columns.iter().flatten().all(is_tame) {
        assert!(scores.iter().zip(whole).all(|(a, b)| same(*a, b)), "the same bits whatever the batches");
    }
    let (mut expected_cells, wide) = (vec![KnnCell::default(); rows.keys], rows.columns.len());
    for (row, score) in scores.iter().enumerate() {
        let (slot, mut expected) = (rows.slots[row] as usize, [9.0]);
        let cell = expected_cells[slot].clone();
        Backend::best().knn(&mut expected_cells[slot..=slot], &[0], &rows.part(row, row + 1), params, &mut expected, None);
        let [expected] = expected;
        assert_eq!(score.is_nan(), expected.is_nan(), "row {row}");
        if expected.is_nan() || cell.scale().count == 0 {
            continue;
        }
        let latest = cell.latest(params);
        let magnitude = |column: usize| {
            let (mean, variance) = (cell.scale().mean[column], cell.scale().variance[column]);
            let own = rows.columns[column][row];
            let most = latest.iter().skip(column).step_by(wide).chain([&own]).fold(0.0_f64, |most, value| most.max(value.abs()));
            most / variance.sqrt().max(1e-9 * mean.abs()).max(1e-150)
        };
        // A column counts as at most 1e9 deviations off.
        let m = (0..wide).map(magnitude).fold(0.0, f64::max).min(1e12);
        let bound = (wide as f64 + 10.0) * 2f64.powi(-24) * expected + 2f64.powi(-46) * m + 1e-18;
        assert!((score - expected).abs() <= bound, "row {row}: {score} is not {expected} within {bound}");
    }
    assert_eq!(cells, expected_cells);
    assert_eq!(engine.fault(), None);
}

/// Rows and histories of about a workgroup's threads, all numbers of columns and neighbours.
fn neighbours_agree_around_workgroups() {
    let engine = open();
    for (rows, wide, k, history) in [
        (0, 1, 1, 1),
        (1, 1, 1, 1),
        (255, 1, 1, 1),
        (256, 2, 3, 40),
        (257, 3, 32, 32),
        (600, 1, 5, 256),
        (700, 9, 7, 100),
        (520, 2, 4, 512),
    ] {
        for mean in [false, true] {
            let value = |column: usize, row: usize| match scramble((row * 10 + column) as u64) % 40 {
                0 => f64::NAN,
                1 => 1e5,
                2..8 => 7.0,
                n if column == 1 => 1e6 + n as f64,
                _ => noise((row * wide + column) as u64),
            };
            let rows = Rows::new(3, (0..rows).map(|row| row as u32 / 7 % 3).collect(), wide, value);
            check_neighbours(&engine, &rows, &Knn { k, history, mean, warmup: 8 }, rows.slots.len() / 3);
        }
    }
}

/// Any numbers, some that no device has room for; ties; columns that are constant.
fn neighbours_agree_on_random_rows() {
    let engine = open();
    let number = prop_oneof![
        40 => -1e3..1e3_f64,
        20 => (-3..3_i32).prop_map(f64::from),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, 0.0, 1e-12, 1e15, 1e9, -1e-9]),
    ];
    let wild = prop_oneof![Just(1.0), Just(1e-200), Just(1e90), Just(1e8)];
    let shape = (1..5_usize, 1..9_u32, 0..70_u32, any::<bool>(), 1..4_usize, 0.0..1.0_f64, wild);
    let result = property(48).run(&(prop::collection::vec(number, 5..400), shape), |(values, (wide, k, more, mean, keys, split, unit))| {
        let count = values.len() / wide;
        let slots: Vec<u32> = (0..count).map(|row| (scramble(row as u64) % keys as u64) as u32).collect();
        // The unit is of one key's.
        let value = |column: usize, row: usize| values[row * wide + column] * if slots[row] == 0 { unit } else { 1.0 };
        let rows = Rows::new(keys, slots.clone(), wide, value);
        check_neighbours(&engine, &rows, &Knn { k, history: k + more, mean, warmup: 4 }, (split * count as f64) as usize);
        Ok(())
    });
    result.unwrap();
}

/// Uploads that take a few rows beside the history, and one that takes one.
fn neighbours_agree_in_short_uploads() {
    let rows = Rows::new(2, (0..500).map(|row| row % 2).collect(), 2, |column, row| noise((row * 2 + column) as u64));
    for mean in [false, true] {
        let params = Knn { k: 3, history: 60, mean, warmup: 0 };
        for options in [Options { batch_rows: 150, ..software() }, Options { binding_limit: Some(16 * 70), ..software() }] {
            check_neighbours(&Engine::open(&options).unwrap(), &rows, &params, 111);
        }
    }
}

/// Whole numbers, so that the level rounds nothing away.
fn a_large_level_costs_no_digits() {
    let engine = open();
    let params = Knn { k: 2, history: 100, mean: false, warmup: 10 };
    let at =
        |level: f64| Rows::new(1, vec![0; 400], 1, |_, row| level + (noise(row as u64) * 100.0).round()).on_device(&engine, &params, 0).0;
    for (plain, raised) in at(0.0).iter().zip(at(1e9)) {
        assert!((plain - raised).abs() <= 1e-6 * plain, "{plain}, {raised}");
    }
}

fn neighbours_beyond_the_limits() {
    let rows = Rows::new(1, vec![0; 200], 2, |column, row| noise((row * 2 + column) as u64));
    let params = Knn { k: 3, history: 100, mean: false, warmup: 0 };
    let short = Engine::open(&Options { batch_rows: 40, ..software() }).unwrap();
    let engine = open();
    let mut cells = [KnnCell::default()];
    engine.knn(&mut cells, &[0; 100], &rows.part(0, 100), &params, &mut [0.0; 100]).unwrap();
    let before = cells.clone();
    let mut refused = |engine: &Engine, params: &Knn| {
        let error = engine.knn(&mut cells, &[0; 100], &rows.part(100, 200), params, &mut [0.0; 100]).unwrap_err();
        assert_eq!(cells, before);
        error.fault()
    };
    assert_eq!(refused(&short, &params), Fault::Limit);
    assert_eq!(refused(&engine, &Knn { k: 33, ..params }), Fault::Limit);
    assert_eq!((engine.fault(), short.fault()), (None, None), "a refusal ends nothing");
    engine.lose();
    assert_eq!(refused(&engine, &params), Fault::Lost);
}

/// Either change detector.
#[derive(Clone, Copy, Debug)]
enum Drift {
    Cusum(Cusum),
    PageHinkley(PageHinkley),
}

impl Drift {
    fn host(&self, cells: &mut [DriftCell], slots: &[u32], values: &[f64], scores: &mut [f64]) {
        match self {
            Drift::Cusum(params) => judge(params, cells, slots, values, None, scores, None),
            Drift::PageHinkley(params) => judge(params, cells, slots, values, None, scores, None),
        }
    }

    fn device(
        &self,
        engine: &Engine,
        cells: &mut [DriftCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        scores: &mut [f64],
    ) -> Result<(), Fault> {
        let answer = match self {
            Drift::Cusum(params) => engine.cusum(cells, slots, values, validity, params, scores),
            Drift::PageHinkley(params) => engine.page_hinkley(cells, slots, values, validity, params, scores),
        };
        answer.map_err(|error| error.fault())
    }

    fn limit(&self) -> f64 {
        match self {
            Drift::Cusum(params) => params.limit,
            Drift::PageHinkley(params) => params.limit,
        }
    }
}

const DRIFTS: [Drift; 4] = [
    Drift::Cusum(Cusum { allowance: 0.5, limit: 8.0, warmup: 5 }),
    Drift::PageHinkley(PageHinkley { allowance: 0.25, limit: 6.0, warmup: 3 }),
    Drift::Cusum(Cusum { allowance: 0.0, limit: f64::INFINITY, warmup: 0 }),
    Drift::PageHinkley(PageHinkley { allowance: 0.05, limit: 50.0, warmup: 0 }),
];

/// Scores and cells against the processor's, within what `Engine::cusum` promises; batch after batch from the cells of its own. How many keys began
/// anew.
fn check_drift(engine: &Engine, case: &Case, drift: &Drift) -> usize {
    let (keys, rows) = (case.groups as usize, case.slots.len());
    let (mut cells, mut expected_cells) = (vec![DriftCell::default(); keys], vec![DriftCell::default(); keys]);
    let (mut scores, split) = (vec![9.0; rows], rows / 3);
    for (from, to) in [(0, split), (split, rows)] {
        let validity = case.validity().map(|bits| Bits { offset: bits.offset + from, len: to - from, ..bits });
        let (slots, values) = (&case.slots[from..to], &case.floats[from..to]);
        drift.device(engine, &mut cells, slots, values, validity, &mut scores[from..to]).unwrap();
    }
    let (mut since, mut largest, mut anew) = (vec![0.0; keys], vec![0.0_f64; keys], 0);
    for (row, score) in scores.iter().enumerate() {
        let (slot, value) = (case.slots[row] as usize, case.floats[row]);
        if !value.is_finite() || !case.valid(row) {
            assert!(score.is_nan());
            continue;
        }
        let mut expected = [9.0];
        let before = expected_cells[slot];
        drift.host(&mut expected_cells[slot..=slot], &[0], &[value], &mut expected);
        let ([expected], running) = (expected, before.running);
        (since[slot], largest[slot]) = (since[slot] + 1.0, largest[slot].max(value.abs()));
        let deviation = (running.squares / running.count.max(1) as f64).sqrt().max(1e-9 * running.mean.abs()).max(1e-300);
        let bound = 1e-14 * since[slot] * (1.0 + expected) * (1.0 + largest[slot] / deviation);
        assert!((score - expected).abs() <= bound, "{drift:?}, row {row}: {score} is not {expected} within {bound}");
        if expected >= drift.limit() {
            (since[slot], largest[slot], anew) = (0.0, 0.0, anew + 1);
        }
    }
    for (cell, expected) in cells.iter().zip(&expected_cells) {
        assert_eq!(cell.running.count, expected.running.count, "keys begin anew at the same rows");
    }
    assert_eq!(engine.fault(), None);
    anew
}

/// The table of seeds: numbers of rows and keys around a workgroup's threads, nulls, infinities and the ends of the range.
fn drifts_agree() {
    let engine = open();
    let anew = seeds().enumerate().step_by(5).map(|(index, case)| check_drift(&engine, &case, &DRIFTS[index % DRIFTS.len()]));
    assert!(anew.sum::<usize>() > 100, "keys begin anew");
    // What is constant, then moves.
    let level = |row: usize| if row % 300 < 200 { 5.0 } else { 6.0 + noise(row as u64) };
    let floats: Vec<f64> = (0..2000).map(level).collect();
    let slots = (0..2000).map(|row| row / 1000).collect();
    let case = Case { groups: 2, slots, ints: Vec::new(), floats, bitmap: Vec::new(), offset: 0, nulls: false };
    DRIFTS.iter().for_each(|drift| {
        check_drift(&engine, &case, drift);
    });
}

fn drifts_agree_on_random_columns() {
    let engine = open();
    let result = property(60).run(&(any_case(), 0..DRIFTS.len()), |(case, drift)| {
        check_drift(&engine, &case, &DRIFTS[drift]);
        Ok(())
    });
    result.unwrap();
}

/// Keys in several uploads, and keys that have more rows than one takes.
fn drifts_agree_in_short_uploads() {
    for batch_rows in [1, 150, 600] {
        let engine = Engine::open(&Options { batch_rows, ..software() }).unwrap();
        for (index, case) in seeds().filter(|case| case.slots.len() > 300 && case.groups < 1000).enumerate().step_by(19) {
            check_drift(&engine, &case, &DRIFTS[index % DRIFTS.len()]);
        }
    }
}

/// Within what `Engine::rolling_z` promises, batch after batch.
fn scores_of_rolling_windows_agree() {
    let engine = open();
    let result = property(40).run(&(any_case(), 2..40_u32), |(case, window)| {
        check_rolling(&engine, &case, &RollingZ { window, warmup: 3 });
        Ok(())
    });
    result.unwrap();
    let floats: Vec<f64> = (0..4000).map(|row| 1e6 + noise(row)).collect();
    let slots = (0..4000).map(|row| row % 3).collect();
    let case = Case { groups: 3, slots, ints: Vec::new(), floats, bitmap: Vec::new(), offset: 0, nulls: false };
    check_rolling(&engine, &case, &RollingZ { window: 128, warmup: 20 });
}

fn check_rolling(engine: &Engine, case: &Case, params: &RollingZ) {
    let (keys, rows) = (case.groups as usize, case.slots.len());
    let mut windows = params.windows(keys);
    let mut cells = vec![MomentWindow::default(); keys];
    let (mut scores, mut expected) = (vec![9.0; rows], vec![9.0; rows]);
    for (from, to) in [(0, rows / 3), (rows / 3, rows)] {
        let validity = case.validity().map(|bits| Bits { offset: bits.offset + from, len: to - from, ..bits });
        let (slots, values) = (&case.slots[from..to], &case.floats[from..to]);
        engine.rolling_z(&mut windows, slots, values, validity, params, &mut scores[from..to]).unwrap();
        judge(params, &mut cells, slots, values, validity, &mut expected[from..to], None);
    }
    let mut latest: Vec<Vec<f64>> = vec![Vec::new(); keys];
    for (row, (score, expected)) in scores.iter().zip(&expected).enumerate() {
        assert_eq!(score.is_nan(), expected.is_nan(), "row {row}");
        if score.is_nan() {
            continue;
        }
        let held = &mut latest[case.slots[row] as usize];
        let window = &held[held.len().saturating_sub(params.window as usize)..];
        let tame = |value: &f64| *value == 0.0 || (1e-145..1e145).contains(&value.abs());
        let is_tame = window.iter().chain([&case.floats[row]]).all(tame);
        let count = window.len().max(1) as f64;
        let (mean, magnitude) = (window.iter().sum::<f64>() / count, window.iter().map(|value| value.abs()).sum::<f64>() / count);
        let deviation = (window.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt().max(1e-9 * mean.abs()).max(1e-300);
        let bound = 2e-11 * expected + 2e-12 * (1.0 + magnitude / deviation);
        assert!(!is_tame || (score - expected).abs() <= bound, "row {row}: {score} is not {expected} within {bound}");
        held.push(case.floats[row]);
    }
}

fn a_lost_device_leaves_cells() {
    let engine = open();
    let (mut cells, mut scores) = ([DriftCell::default(); 2], [9.0; 4]);
    let mut take = |cells: &mut [DriftCell]| DRIFTS[0].device(&engine, cells, &[0, 1, 0, 1], &[1.0, 2.0, 3.0, 4.0], None, &mut scores);
    take(&mut cells).unwrap();
    let before = cells;
    engine.lose();
    assert_eq!(take(&mut cells), Err(Fault::Lost));
    assert_eq!(cells, before);
}
