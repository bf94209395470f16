//! Rolling windows on the GPU against windows computed from scratch, on whatever adapter there is, software ones included. Without an
//! adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use support::{open, open_with, property, software};
use testing::{Case, any_case, same, scramble, seeds};
use thalweg_kernels::gpu::{Engine, Fault, Options};
use thalweg_kernels::{
    Backend, Bits, Divisor, Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns,
};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("windows_agree", windows_agree),
        ("windows_agree_on_random_columns", windows_agree_on_random_columns),
        ("windows_agree_in_short_uploads", windows_agree_in_short_uploads),
        ("windows_longer_than_levels_of_the_tree_agree", long_windows_agree),
        ("a_window_of_a_million_rows_agrees", a_window_of_a_million_rows),
        ("series_keep_their_digits", series_keep_their_digits),
        ("integers_are_exact", integers_are_exact),
        ("a_window_beyond_an_upload_is_refused", a_window_beyond_an_upload),
        ("a_lost_device_leaves_windows_as_they_were", a_lost_device_leaves_windows),
        ("memory_that_is_used_up_leaves_windows_as_they_were", no_memory_leaves_windows),
        ("columns_that_do_not_fit_panic", columns_that_do_not_fit),
    ];
    support::run(tests);
}

/// Who answers: the device, or the scalar backend, which goes through every window anew.
#[derive(Clone, Copy)]
enum By<'e> {
    Device(&'e Engine),
    Scalar,
}

/// What is kept of the windows of a case.
struct Windows {
    moments: RollingMoments,
    order: RollingOrder,
    int_order: RollingOrder,
    sums: RollingSums,
}

#[derive(Debug, Default, PartialEq)]
struct Answers {
    counts: Vec<u32>,
    sums: Vec<f64>,
    means: Vec<f64>,
    m2s: Vec<f64>,
    deviations: Vec<f64>,
    scores: Vec<f64>,
    order: [Vec<f64>; 2],
    any: Vec<bool>,
    int_order: [Vec<i64>; 2],
    int_sums: Vec<i128>,
    int_counts: Vec<u32>,
}

impl Windows {
    fn new(extent: Extent, frame: Frame, slots: usize) -> Self {
        let order = || RollingOrder::new(extent, frame);
        let (moments, sums) = (RollingMoments::new(extent, frame), RollingSums::new(extent, frame));
        let mut new = Self { moments, order: order(), int_order: order(), sums };
        new.moments.reserve_slots(slots);
        new.order.reserve_slots(slots);
        new.int_order.reserve_slots(slots);
        new.sums.reserve_slots(slots);
        new
    }

    fn take(&mut self, by: By<'_>, floats: &RollingRows<'_>, ints: &RollingRows<'_, i64>) -> Answers {
        let rows = floats.slots.len();
        let (room, ints_room) = (|| vec![7.0; rows], || vec![7; rows]);
        let mut all = Answers { counts: vec![7; rows], sums: room(), means: room(), m2s: room(), deviations: room(), ..Answers::default() };
        (all.scores, all.order, all.any, all.int_order) = (room(), [room(), room()], vec![false; rows], [ints_room(), ints_room()]);
        (all.int_sums, all.int_counts) = (vec![7; rows], vec![7; rows]);
        let mut moments = MomentColumns {
            counts: Some(&mut all.counts),
            sums: Some(&mut all.sums),
            means: Some(&mut all.means),
            m2s: Some(&mut all.m2s),
            deviations: Some(&mut all.deviations),
            scores: Some(&mut all.scores),
            variances: None,
            divisor: Divisor::Sample,
        };
        let [mins, maxs] = &mut all.order;
        let mut order = OrderColumns { mins: Some(mins), maxs: Some(maxs), any: Some(&mut all.any) };
        let [mins, maxs] = &mut all.int_order;
        let mut int_order = OrderColumns { mins: Some(mins), maxs: Some(maxs), any: None };
        let mut sums = SumColumns { counts: Some(&mut all.int_counts), sums: Some(&mut all.int_sums) };
        match by {
            By::Device(engine) => {
                engine.rolling_moments(&mut self.moments, floats, &mut moments).unwrap();
                engine.rolling_order(&mut self.order, floats, &mut order).unwrap();
                engine.rolling_order(&mut self.int_order, ints, &mut int_order).unwrap();
                engine.rolling_sums(&mut self.sums, ints, &mut sums).unwrap();
            }
            By::Scalar => {
                Backend::Scalar.rolling_moments(&mut self.moments, floats, moments);
                Backend::Scalar.rolling_order(&mut self.order, floats, order);
                Backend::Scalar.rolling_order(&mut self.int_order, ints, int_order);
                Backend::Scalar.rolling_sums(&mut self.sums, ints, sums);
            }
        }
        all
    }
}

impl Answers {
    /// Holds these answers against right ones, each within the error that is stated; `magnitudes` are the means of the windows' magnitudes.
    fn assert_right(&self, right: &Self, magnitudes: &[f64], context: &str) {
        assert!(self.counts == right.counts && self.any == right.any, "{context}");
        assert!(self.int_order == right.int_order && self.int_sums == right.int_sums, "{context}");
        assert!(self.int_counts == right.int_counts, "{context}");
        for (row, &magnitude) in magnitudes.iter().enumerate() {
            let near = |what: &str, got: &[f64], right: &[f64], error: f64| {
                let (got, right) = (got[row], right[row]);
                let near = same(got, right) || (got - right).abs() <= error;
                assert!(near, "{context}, row {row}: {what} is {got:e}, not {right:e} within {error:e}");
            };
            let count = f64::from(right.counts[row].max(1));
            near("min", &self.order[0], &right.order[0], 0.0);
            near("max", &self.order[1], &right.order[1], 0.0);
            near("mean", &self.means, &right.means, 1e-12 * magnitude + 1e-160);
            // A sum beyond the range of floats may be told from a mean within it.
            if right.sums[row].abs() < 1e307 || right.sums[row].is_nan() {
                near("sum", &self.sums, &right.sums, (1e-12 * magnitude + 1e-160) * count);
            }
            let m2 = right.m2s[row];
            // Near the ends of the range of squares the last of them may or may not get lost.
            if m2.is_nan() || m2 == 0.0 || (1e-280..1e300).contains(&m2) {
                // What the reference, which has to round a mean, makes of values that are nearly one.
                let rounding = count * (magnitude * 1e-16) * (magnitude * 1e-16);
                near("m2", &self.m2s, &right.m2s, 1.1e-11 * m2 + rounding + 1e-300);
                let deviation = right.deviations[row];
                near("deviation", &self.deviations, &right.deviations, 1e-11 * deviation + rounding.sqrt() + 1e-150);
                if deviation > 1e-12 * magnitude || right.scores[row].is_nan() {
                    let error = 1e-10 * right.scores[row].abs() + 1e-12 * magnitude / deviation.max(1e-9 * right.means[row].abs());
                    near("score", &self.scores, &right.scores, error);
                }
            }
        }
    }
}

/// The rows `from..to` of a column.
fn part<'a, T>(case: &'a Case, values: &'a [T], times: &'a [i64], from: usize, to: usize) -> RollingRows<'a, T> {
    let validity = case.validity().map(|bits| Bits { offset: bits.offset + from, len: to - from, ..bits });
    RollingRows { slots: &case.slots[from..to], values: &values[from..to], validity, times: &times[from..to] }
}

/// Three batches, of which the device takes the first two and the scalar backend the last: windows go on wherever they are.
fn check(engine: &Engine, case: &Case, extent: Extent, frame: Frame) {
    let (rows, slots) = (case.slots.len(), case.groups as usize);
    // Times that mostly rise, now and then fall back, and jump.
    let time = |row: u64| row as i64 / 3 * 10 + (scramble(row) % 25) as i64 + if row > 700 { 1 << 40 } else { 0 };
    let times: Vec<i64> = (0..rows as u64).map(time).collect();
    let sizes: Vec<f64> = case.floats.iter().map(|value| value.abs()).collect();
    let [mut windows, mut right, mut of_sizes] = [0; 3].map(|_| Windows::new(extent, frame, slots));
    for (part_of, (from, to)) in [(0, rows / 3), (rows / 3, rows * 4 / 5), (rows * 4 / 5, rows)].into_iter().enumerate() {
        let by = if part_of < 2 { By::Device(engine) } else { By::Scalar };
        let (floats, ints) = (part(case, &case.floats, &times, from, to), part(case, &case.ints, &times, from, to));
        let got = windows.take(by, &floats, &ints);
        let expected = right.take(By::Scalar, &floats, &ints);
        let magnitudes = of_sizes.take(By::Scalar, &part(case, &sizes, &times, from, to), &ints).means;
        got.assert_right(&expected, &magnitudes, &format!("{extent:?}, {frame:?}, part {part_of} of {rows} rows, {slots} slots"));
    }
    assert_eq!(engine.fault(), None);
}

/// A window for each number: of rows and of time, short and long, with the row and without.
fn window(number: usize) -> (Extent, Frame) {
    let extents = [
        Extent::Rows(1),
        Extent::Range(60),
        Extent::Rows(5),
        Extent::Rows(100),
        Extent::Range(0),
        Extent::Range(5000),
        Extent::Rows(17),
        Extent::Range(i64::MAX),
        Extent::Rows(1 << 31),
    ];
    (extents[number % 9], if (number / 9).is_multiple_of(2) { Frame::Including } else { Frame::Preceding })
}

/// The table of seeds: numbers of rows and keys around a workgroup's threads, one key, as many as rows, nulls, NaN, infinities, denormals.
fn windows_agree() {
    let engine = open();
    for (index, case) in seeds().enumerate().step_by(7) {
        let (extent, frame) = window(index);
        check(&engine, &case, extent, frame);
    }
}

fn windows_agree_on_random_columns() {
    let engine = open();
    let result = property(80).run(&(any_case(), 0..18_usize), |(case, number)| {
        let (extent, frame) = window(number);
        check(&engine, &case, extent, frame);
        Ok(())
    });
    result.unwrap();
}

/// Keys in several uploads, and keys whose rows take several themselves.
fn windows_agree_in_short_uploads() {
    for options in [Options { batch_rows: 150, ..software() }, Options { binding_limit: Some(2000), ..software() }] {
        let engine = open_with(&options);
        for (index, case) in seeds().filter(|case| case.slots.len() > 300 && case.groups < 1000).enumerate().step_by(17) {
            let (extent, frame) = window([0, 1, 2, 4, 6][index % 5] + index % 2 * 9);
            // Windows of up to 17 rows, or of time as long as those of few rows.
            let extent = if extent == Extent::Range(60) { Extent::Range(20) } else { extent };
            check(&engine, &case, extent, frame);
        }
    }
}

fn one_key(values: Vec<f64>) -> Case {
    let ints = values.iter().map(|value| value.to_bits() as i64).collect();
    Case { groups: 1, slots: vec![0; values.len()], floats: values, ints, bitmap: vec![0xb7; 20_000], offset: 1, nulls: true }
}

/// Uniform between -0.5 and 0.5.
fn noise(row: u64) -> f64 {
    (scramble(row) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

/// Every level of the tree, at and around its powers.
fn long_windows_agree() {
    let engine = open();
    let case = one_key((0..9000).map(|row| 1e3 * noise(row)).collect());
    for rows in [15, 16, 255, 256, 257, 4095, 4096, 4097] {
        // The reference goes through every window: the last rows alone are answered by both.
        let (extent, frame) = (Extent::Rows(rows), if rows % 2 == 0 { Frame::Including } else { Frame::Preceding });
        let [mut windows, mut right] = [0; 2].map(|_| Windows::new(extent, frame, 1));
        let times = vec![0; 9000];
        let batch = |from, to| (part(&case, &case.floats, &times, from, to), part(&case, &case.ints, &times, from, to));
        let (floats, ints) = batch(0, 8800);
        windows.take(By::Device(&engine), &floats, &ints);
        let (best, order) = (MomentColumns::default(), OrderColumns::default());
        Backend::best().rolling_moments(&mut right.moments, &floats, best);
        Backend::best().rolling_order(&mut right.order, &floats, order);
        Backend::best().rolling_order(&mut right.int_order, &ints, OrderColumns::default());
        Backend::best().rolling_sums(&mut right.sums, &ints, SumColumns::default());
        let (floats, ints) = batch(8800, 9000);
        let got = windows.take(By::Device(&engine), &floats, &ints);
        got.assert_right(&right.take(By::Scalar, &floats, &ints), &[500.0; 200], &format!("{rows} rows"));
    }
}

/// More rows than the highest nodes of the tree stand for together.
fn a_window_of_a_million_rows() {
    let engine = open_with(&Options { batch_rows: 1_300_000, ..software() });
    let rows = (1 << 20) + 70_000;
    let values: Vec<i64> = (0..rows).map(|row| scramble(row) as i64).collect();
    let (known, new) = values.split_at(values.len() - 20);
    let (mut windows, mut sums) = (RollingSums::new(Extent::Rows(1 << 31), Frame::Including), vec![7; 20]);
    windows.reserve_slots(1);
    let rows = |values, slots| RollingRows { slots, values, validity: None, times: &[] };
    let slots = vec![0; known.len()];
    Backend::best().rolling_sums(&mut windows, &rows(known, &slots), SumColumns::default());
    engine.rolling_sums(&mut windows, &rows(new, &slots[..20]), &mut SumColumns { sums: Some(&mut sums), counts: None }).unwrap();
    let mut sum: i128 = known.iter().map(|value| i128::from(*value)).sum();
    for (got, value) in sums.iter().zip(new) {
        sum += i128::from(*value);
        assert_eq!(*got, sum);
    }
}

/// Levels, jumps, outliers and drifts: what cancels, and what is too small beside its neighbours for the unit of integers.
fn series_keep_their_digits() {
    let engine = open();
    let series: [&dyn Fn(u64) -> f64; 9] = [
        &|row| 1e9 + noise(row),
        &|row| noise(row) * 1e-3 + if row % 250 == 7 { 1e12 } else { 0.0 },
        &|row| noise(row) + if row / 150 % 2 == 0 { 0.0 } else { 1e8 },
        &|row| row as f64 * 1e3 + noise(row),
        &|row| noise(row) * 10f64.powi(30 - (row % 61) as i32),
        &|row| if row == 200 { 0.3 } else { 0.1 },
        &|row| 1.0 + f64::EPSILON * (scramble(row) % 2) as f64,
        &|row| if row % 40 == 39 { [1e300, f64::INFINITY, f64::NAN, -1e299][row as usize / 40 % 4] } else { noise(row) },
        &|row| noise(row) * 1e-300,
    ];
    for make in series {
        let case = one_key((0..700).map(make).collect());
        for rows in [2, 3, 10, 100] {
            check(&engine, &case, Extent::Rows(rows), Frame::Including);
            check(&engine, &Case { nulls: false, ..case.clone() }, Extent::Rows(rows), Frame::Preceding);
        }
    }
}

fn integers_are_exact() {
    let engine = open();
    let values: Vec<f64> = (0..3000).map(|row| (scramble(row) % 2_000_001) as f64 - 1e6 + 1e7).collect();
    let case = Case { nulls: false, ..one_key(values) };
    let (mut windows, mut right) = (RollingMoments::new(Extent::Rows(77), Frame::Including), Vec::new());
    windows.reserve_slots(1);
    for row in 0..3000_usize {
        right.push(case.floats[row.saturating_sub(76)..=row].iter().sum::<f64>());
    }
    let mut sums = vec![7.0; 3000];
    let rows = RollingRows { slots: &case.slots, values: &case.floats, validity: None, times: &[] };
    engine.rolling_moments(&mut windows, &rows, &mut MomentColumns { sums: Some(&mut sums), ..MomentColumns::default() }).unwrap();
    assert!(sums == right);
    // The largest integers, as often as there is room in a window.
    let (mut windows, mut sums) = (RollingSums::new(Extent::Rows(1 << 31), Frame::Including), vec![7; 3000]);
    windows.reserve_slots(1);
    for extreme in [i64::MIN, i64::MAX, -1] {
        let rows = RollingRows { slots: &case.slots, values: &[extreme; 3000], validity: None, times: &[] };
        windows.forget(0);
        engine.rolling_sums(&mut windows, &rows, &mut SumColumns { sums: Some(&mut sums), counts: None }).unwrap();
        assert!(sums.iter().zip(1..).all(|(sum, rows)| *sum == i128::from(extreme) * rows));
    }
}

/// Takes `rows` into new windows, or says why not; then holds them against windows that took only those that were taken.
fn taken_or_not(engine: &Engine, extent: Extent, rows: usize, fault: Fault) {
    let case = one_key((0..rows as u64).map(noise).collect());
    let times = vec![0; rows];
    let mut windows = Windows::new(extent, Frame::Including, 1);
    let (floats, ints) = (part(&case, &case.floats, &times, 0, 20), part(&case, &case.ints, &times, 0, 20));
    windows.take(By::Scalar, &floats, &ints);
    let words = |windows: &Windows| {
        let mut words = Vec::new();
        windows.moments.save_slot(0, &mut words);
        windows.order.save_slot(0, &mut words);
        windows.sums.save_slot(0, &mut words);
        words
    };
    let before = words(&windows);
    let (floats, ints) = (part(&case, &case.floats, &times, 20, rows), part(&case, &case.ints, &times, 20, rows));
    let refused = [
        engine.rolling_moments(&mut windows.moments, &floats, &mut MomentColumns::default()),
        engine.rolling_order(&mut windows.order, &floats, &mut OrderColumns::default()),
        engine.rolling_sums(&mut windows.sums, &ints, &mut SumColumns::default()),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().fault(), fault);
    }
    assert_eq!(words(&windows), before);
}

fn a_window_beyond_an_upload() {
    let engine = open_with(&Options { batch_rows: 100, ..software() });
    taken_or_not(&engine, Extent::Rows(400), 500, Fault::Limit);
    assert_eq!(engine.fault(), None, "a refusal ends nothing");
}

fn a_lost_device_leaves_windows() {
    let engine = open();
    engine.lose();
    taken_or_not(&engine, Extent::Rows(40), 500, Fault::Lost);
}

fn no_memory_leaves_windows() {
    let staging = open().memory_in_use();
    let engine = open_with(&Options { memory: staging + 1000, ..software() });
    taken_or_not(&engine, Extent::Rows(40), 500, Fault::Memory);
    assert_eq!(engine.fault(), None, "a refusal ends nothing");
}

fn columns_that_do_not_fit() {
    let engine = open();
    let mut windows = RollingMoments::new(Extent::Rows(3), Frame::Including);
    windows.reserve_slots(2);
    let mut panics = |slots: &[u32], answers: &mut [f64]| {
        let rows = RollingRows { slots, values: &[1.0; 3], validity: None, times: &[] };
        let mut columns = MomentColumns { means: Some(answers), ..MomentColumns::default() };
        let mut call = || engine.rolling_moments(&mut windows, &rows, &mut columns);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut call)).is_err()
    };
    assert!(panics(&[0, 2, 1], &mut [0.0; 3]) && panics(&[0, 1], &mut [0.0; 3]) && panics(&[0, 1, 1], &mut [0.0; 2]));
    assert!(!panics(&[0, 1, 1], &mut [0.0; 3]));
}
