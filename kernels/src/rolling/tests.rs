//! Windows against lists of rows, computed from scratch.

#![allow(clippy::unwrap_used)]

use crate::cell::{order_key, two_sum};
use crate::testing::{Case, on_every_backend, same, scramble};
use crate::{
    Backend, Bits, Divisor, Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns,
};

on_every_backend!(windows, super::check_windows);
on_every_backend!(integers, super::check_integers);

/// What the columns should hold.
#[derive(Debug, Default)]
struct Answers {
    counts: Vec<u32>,
    sums: Vec<f64>,
    means: Vec<f64>,
    m2s: Vec<f64>,
    deviations: Vec<f64>,
    scores: Vec<f64>,
    mins: Vec<f64>,
    maxs: Vec<f64>,
    any: Vec<bool>,
    magnitudes: Vec<f64>,
}

/// Windows that were saved and loaded, slot by slot, into `$empty`.
macro_rules! saved_and_loaded {
    ($windows:expr, $empty:expr) => {{
        let mut loaded = $empty;
        loaded.reserve_slots($windows.slots());
        let mut words = Vec::new();
        for slot in 0..$windows.slots() as u32 {
            words.clear();
            $windows.save_slot(slot, &mut words);
            loaded.load_slot(slot, &words).unwrap();
        }
        loaded
    }};
}

impl Answers {
    fn room(rows: usize) -> Self {
        let floats = || vec![7.0; rows];
        Self {
            counts: vec![7; rows],
            sums: floats(),
            means: floats(),
            m2s: floats(),
            deviations: floats(),
            scores: floats(),
            mins: floats(),
            maxs: floats(),
            any: vec![false; rows],
            magnitudes: Vec::new(),
        }
    }

    /// Every row against the list of all rows before it.
    fn from_scratch(rows: &RollingRows<'_>, extent: Extent, frame: Frame, divisor: Divisor) -> Self {
        let slots = rows.slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        let mut seen: Vec<Vec<(i64, Option<f64>)>> = vec![Vec::new(); slots];
        let mut answers = Self::default();
        for row in 0..rows.slots.len() {
            let value = rows.is_valid(row).then_some(rows.values[row]);
            let seen = &mut seen[rows.slots[row] as usize];
            let time = seen.last().map_or(rows.time(row), |(last, _)| rows.time(row).max(*last));
            if frame == Frame::Including {
                seen.push((time, value));
            }
            let window: Vec<f64> = match extent {
                Extent::Rows(n) => seen.iter().rev().take(n as usize).rev().filter_map(|(_, value)| *value).collect(),
                Extent::Range(length) => {
                    seen.iter().filter(|(at, _)| *at >= time.saturating_sub(length)).filter_map(|(_, value)| *value).collect()
                }
            };
            if frame == Frame::Preceding {
                seen.push((time, value));
            }
            answers.push(&window, value, divisor);
        }
        answers
    }

    fn push(&mut self, window: &[f64], value: Option<f64>, divisor: Divisor) {
        let count = window.len() as f64;
        let (sum, low) = window.iter().fold((0.0, 0.0), |(sum, low), &value| {
            let (sum, error) = two_sum(sum, value);
            (sum, low + error)
        });
        let sum = if sum.is_finite() { sum + low } else { sum };
        let mean = if window.is_empty() { f64::NAN } else { sum / count };
        let rest = if sum.is_finite() { window.iter().map(|value| value - mean).sum::<f64>() / count } else { 0.0 };
        let m2: f64 = window.iter().map(|value| ((value - mean) - rest) * ((value - mean) - rest)).sum();
        let deviation = match divisor {
            Divisor::Sample if window.len() > 1 => (m2 / (count - 1.0)).sqrt(),
            Divisor::Population if !window.is_empty() => (m2 / count).sqrt(),
            _ => f64::NAN,
        };
        let floor = 1e-9 * mean.abs().max(1e-300);
        let score = match value {
            Some(value) if value.is_finite() && window.len() > 1 => (value - mean) / if deviation < floor { floor } else { deviation },
            _ => f64::NAN,
        };
        self.counts.push(window.len() as u32);
        self.sums.push(sum);
        self.means.push(mean);
        self.m2s.push(m2);
        self.deviations.push(deviation);
        self.scores.push(score.clamp(f64::MIN, f64::MAX));
        self.magnitudes.push(window.iter().map(|value| value.abs()).sum());
        self.mins.push(window.iter().copied().min_by_key(|value| order_key(*value)).unwrap_or(f64::NAN));
        self.maxs.push(window.iter().copied().max_by_key(|value| order_key(*value)).unwrap_or(f64::NAN));
        self.any.push(!window.is_empty());
    }

    /// Holds these answers against the ones that are right, each within its stated error.
    fn assert_right(&self, right: &Self, context: &str) {
        assert!(self.counts == right.counts && self.any == right.any, "{context}");
        for row in 0..right.counts.len() {
            let near = |what: &str, got: f64, right: f64, error: f64| {
                let near = same(got, right) || (got - right).abs() <= error;
                assert!(near, "{context}, row {row}: {what} is {got:e}, not {right:e} within {error:e}");
            };
            let (magnitudes, count) = (right.magnitudes[row], f64::from(right.counts[row].max(1)));
            near("min", self.mins[row], right.mins[row], 0.0);
            near("max", self.maxs[row], right.maxs[row], 0.0);
            near("mean", self.means[row], right.means[row], 1e-12 * magnitudes / count + 1e-160);
            near("sum", self.sums[row], right.sums[row], 1e-12 * magnitudes + 1e-160 * count);
            let m2 = right.m2s[row];
            // Near the ends of the range of squares the last of them may or may not get lost.
            if m2.is_nan() || (1e-280..1e300).contains(&m2) || m2 == 0.0 {
                // What a mean that has to be rounded leaves of values that are nearly one.
                let rounding = count * (magnitudes / count * 1e-16) * (magnitudes / count * 1e-16);
                near("m2", self.m2s[row], m2, 1e-11 * m2 + rounding + 1e-300);
                let deviation = right.deviations[row];
                near("deviation", self.deviations[row], deviation, 1e-11 * deviation + rounding.sqrt() + 1e-150);
                let certain = deviation > 1e-12 * magnitudes / count;
                if certain || right.scores[row].is_nan() {
                    let score = right.scores[row];
                    let error = 1e-10 * score.abs() + 1e-12 * magnitudes / count / deviation.max(1e-9 * right.means[row].abs());
                    near("score", self.scores[row], score, error);
                }
            }
        }
    }
}

/// Takes rows in by batches of `batch`, through a snapshot between them.
fn run(
    backend: Backend,
    rows: &RollingRows<'_>,
    slots: usize,
    (extent, frame): (Extent, Frame),
    divisor: Divisor,
    batch: usize,
) -> Answers {
    let (mut moments, mut order) = (RollingMoments::new(extent, frame), RollingOrder::new(extent, frame));
    let mut answers = Answers::room(rows.slots.len());
    for start in (0..rows.slots.len()).step_by(batch) {
        let range = start..rows.slots.len().min(start + batch);
        let rows = RollingRows {
            slots: &rows.slots[range.clone()],
            values: &rows.values[range.clone()],
            validity: rows.validity.map(|bits| Bits { bytes: bits.bytes, offset: bits.offset + start, len: range.len() }),
            times: &rows.times[range.clone()],
        };
        moments.reserve_slots(slots);
        order.reserve_slots(slots);
        let columns = MomentColumns {
            counts: Some(&mut answers.counts[range.clone()]),
            sums: Some(&mut answers.sums[range.clone()]),
            means: Some(&mut answers.means[range.clone()]),
            m2s: Some(&mut answers.m2s[range.clone()]),
            variances: None,
            deviations: Some(&mut answers.deviations[range.clone()]),
            scores: Some(&mut answers.scores[range.clone()]),
            divisor,
        };
        backend.rolling_moments(&mut moments, &rows, columns);
        let columns = OrderColumns {
            mins: Some(&mut answers.mins[range.clone()]),
            maxs: Some(&mut answers.maxs[range.clone()]),
            any: Some(&mut answers.any[range.clone()]),
        };
        backend.rolling_order(&mut order, &rows, columns);
        if (start / batch).is_multiple_of(2) {
            moments = saved_and_loaded!(moments, RollingMoments::new(extent, frame));
            order = saved_and_loaded!(order, RollingOrder::new(extent, frame));
        }
    }
    answers
}

fn check_windows(backend: Backend, case: &Case) {
    let groups = case.groups as usize;
    // Times that mostly rise, by key only, now and then fall back, and jump.
    let times: Vec<i64> = (0..case.slots.len() as u64)
        .map(|row| row as i64 / 3 * 10 + (scramble(row) % 25) as i64 + if row > 700 { 1 << 40 } else { 0 })
        .collect();
    let rows = RollingRows { slots: &case.slots, values: &case.floats, validity: case.validity(), times: &times };
    let salt = case.slots.len() % 4;
    let extents =
        [Extent::Rows([1, 2, 5, 100][salt]), Extent::Range([0, 60, 5000, i64::MAX][salt]), Extent::Rows([9, 40, 3, 1 << 31][salt])];
    for (extent, frame, divisor) in [
        (extents[0], Frame::Including, Divisor::Sample),
        (extents[1], Frame::Including, Divisor::Population),
        (extents[0], Frame::Preceding, Divisor::Population),
        (extents[1], Frame::Preceding, Divisor::Sample),
        (extents[2], Frame::Including, Divisor::Sample),
    ] {
        let right = Answers::from_scratch(&rows, extent, frame, divisor);
        let whole = run(backend, &rows, groups, (extent, frame), divisor, case.slots.len().max(1));
        whole.assert_right(&right, &format!("{backend}, {extent:?}, {frame:?}"));
        let parts = run(backend, &rows, groups, (extent, frame), divisor, case.slots.len() / 3 + 1);
        let equal = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| same(*a, *b));
        assert!(equal(&whole.means, &parts.means) && equal(&whole.m2s, &parts.m2s), "{backend}: batches make a difference");
        assert!(equal(&whole.mins, &parts.mins) && equal(&whole.maxs, &parts.maxs), "{backend}: batches make a difference");
    }
}

/// Values of one key in windows of `n` rows, on every backend, against the answers from scratch.
fn check_series(values: &[f64], n: u32) {
    let rows = RollingRows { slots: &vec![0; values.len()], values, validity: None, times: &vec![0; values.len()] };
    let right = Answers::from_scratch(&rows, Extent::Rows(n), Frame::Including, Divisor::Sample);
    for backend in Backend::available() {
        let answers = run(backend, &rows, 1, (Extent::Rows(n), Frame::Including), Divisor::Sample, 1000);
        answers.assert_right(&right, &format!("{backend}, {n} rows"));
    }
}

#[test]
fn answers_do_not_drift() {
    let noise = |row: u64| (scramble(row) >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
    for n in [2, 3, 10, 100, 1000] {
        let series: [&dyn Fn(u64) -> f64; 8] = [
            &|row| 1e9 + noise(row),
            &|row| noise(row) * 1e-3 + if row % 250 == 7 { 1e12 } else { 0.0 },
            &|row| noise(row) + if row / 1500 % 2 == 0 { 0.0 } else { 1e8 },
            &|row| row as f64 * 1e3 + noise(row),
            &|row| noise(row) * 10f64.powi(30 - (row % 61) as i32),
            &|row| if row == 2000 { 0.3 } else { 0.1 },
            &|row| 1.0 + f64::EPSILON * (scramble(row) % 2) as f64,
            &|row| if row % 400 == 399 { [1e300, f64::INFINITY, f64::NAN, -1e299][row as usize / 400 % 4] } else { noise(row) },
        ];
        for make in series {
            check_series(&(0..6000).map(make).collect::<Vec<_>>(), n);
        }
    }
}

#[test]
fn a_value_whose_square_is_nearly_out_of_range_leaves_nothing_behind() {
    for (rows_before, huge) in (0..40).flat_map(|rows| [1.32e154, -1.32e154, 1.34e154, 1e153].map(|huge| (rows, huge))) {
        let mut values = vec![0.0; rows_before];
        values.extend([huge, 0.0, 0.0, 0.0, 0.0, 0.0, 2.2e-308, 0.0, 0.0, 644_874.4, 1.0, -3.0, 0.0, 0.0]);
        [2, 8, 9, 10].into_iter().for_each(|n| check_series(&values, n));
    }
}

#[test]
fn sums_of_integers_are_exact() {
    let values: Vec<f64> = (0..5000u64).map(|row| (scramble(row) % 2_000_001) as f64 - 1e6 + 1e7).collect();
    let rows = RollingRows { slots: &vec![0; values.len()], values: &values, validity: None, times: &vec![0; values.len()] };
    let right = Answers::from_scratch(&rows, Extent::Rows(77), Frame::Including, Divisor::Sample);
    for backend in Backend::available() {
        let answers = run(backend, &rows, 1, (Extent::Rows(77), Frame::Including), Divisor::Sample, 1000);
        assert!(answers.sums == right.sums, "{backend}");
    }
}

#[test]
fn a_window_worked_by_hand() {
    let rows = RollingRows {
        slots: &[0; 5],
        values: &[1.0, 3.0, 5.0, 9.0, 7.0],
        validity: Some(Bits { bytes: &[0b11101], offset: 0, len: 5 }),
        times: &[],
    };
    for backend in Backend::available() {
        let mut windows = RollingMoments::new(Extent::Rows(3), Frame::Including);
        windows.reserve_slots(1);
        let (mut counts, mut means, mut variances, mut scores) = ([9; 5], [9.0; 5], [9.0; 5], [9.0; 5]);
        let columns = MomentColumns {
            counts: Some(&mut counts),
            means: Some(&mut means),
            variances: Some(&mut variances),
            scores: Some(&mut scores),
            ..MomentColumns::default()
        };
        backend.rolling_moments(&mut windows, &rows, columns);
        // The windows: 1 | 1 null | 1 null 5 | null 5 9 | 5 9 7
        assert_eq!(counts, [1, 1, 2, 2, 3], "{backend}");
        assert_eq!(means, [1.0, 1.0, 3.0, 7.0, 7.0], "{backend}");
        assert!(variances[0].is_nan() && variances[1].is_nan(), "{backend}");
        assert_eq!(variances[2..], [8.0, 8.0, 4.0], "{backend}");
        assert!(scores[0].is_nan() && scores[1].is_nan(), "{backend}");
        assert_eq!(scores[2..], [2.0 / 8f64.sqrt(), 2.0 / 8f64.sqrt(), 0.0], "{backend}");
    }
}

#[test]
fn a_range_includes_its_far_end_and_rows_that_come_late_count_as_of_the_newest() {
    let rows = RollingRows { slots: &[0; 5], values: &[1.0, 2.0, 4.0, 8.0, 16.0], validity: None, times: &[0, 10, 11, 5, 21] };
    for backend in Backend::available() {
        let mut windows = RollingMoments::new(Extent::Range(10), Frame::Including);
        windows.reserve_slots(1);
        let mut sums = [9.0; 5];
        backend.rolling_moments(&mut windows, &rows, MomentColumns { sums: Some(&mut sums), ..MomentColumns::default() });
        assert_eq!(sums, [1.0, 3.0, 6.0, 14.0, 28.0], "{backend}");
    }
}

#[test]
fn a_forgotten_slot_starts_anew_and_its_memory_serves_others() {
    for backend in Backend::available() {
        let (mut moments, mut order) =
            (RollingMoments::new(Extent::Rows(50), Frame::Including), RollingOrder::new(Extent::Rows(50), Frame::Including));
        moments.reserve_slots(10);
        order.reserve_slots(10);
        let values: Vec<f64> = (0..600).map(f64::from).collect();
        let slots: Vec<u32> = (0..600).map(|row| row % 10).collect();
        let rows = RollingRows { slots: &slots, values: &values, validity: None, times: &[] };
        let mut held = 0;
        for life in 0..5 {
            let (mut counts, mut mins) = (vec![9; 600], vec![9.0; 600]);
            backend.rolling_moments(&mut moments, &rows, MomentColumns { counts: Some(&mut counts), ..MomentColumns::default() });
            backend.rolling_order(&mut order, &rows, OrderColumns { mins: Some(&mut mins), ..OrderColumns::default() });
            assert_eq!((counts[0], counts[599]), (1, 50), "{backend}");
            assert_eq!((mins[0], mins[599]), (0.0, 109.0), "{backend}");
            let bytes = moments.state_bytes() + order.state_bytes();
            assert!(life == 0 || bytes == held, "{backend}: {bytes} bytes after {held}");
            held = bytes;
            for slot in 0..10 {
                moments.forget(slot);
                order.forget(slot);
            }
            // The first life had no free list yet.
            held = if life == 0 { moments.state_bytes() + order.state_bytes() } else { held };
        }
    }
}

#[test]
fn words_that_are_no_snapshot_are_refused() {
    let try_words = |extent: Extent, words: &[u64]| {
        let (mut moments, mut order) = (RollingMoments::new(extent, Frame::Preceding), RollingOrder::new(extent, Frame::Preceding));
        let mut sums = RollingSums::new(extent, Frame::Preceding);
        moments.reserve_slots(1);
        order.reserve_slots(1);
        sums.reserve_slots(1);
        let taken = [moments.load_slot(0, words), order.load_slot(0, words), sums.load_slot(0, words)];
        // Whatever is taken must be safe to go on with.
        let times: Vec<i64> = (0..60).collect();
        let rows = RollingRows { slots: &[0].repeat(60), values: &[1.5, f64::NAN, 2.5].repeat(20), validity: None, times: &times };
        if taken[0].is_ok() {
            Backend::active().rolling_moments(&mut moments, &rows, MomentColumns::default());
        }
        taken
    };
    for extent in [Extent::Rows(20), Extent::Range(20)] {
        let (mut moments, mut order) = (RollingMoments::new(extent, Frame::Preceding), RollingOrder::new(extent, Frame::Preceding));
        let mut sums = RollingSums::new(extent, Frame::Preceding);
        moments.reserve_slots(3);
        order.reserve_slots(3);
        sums.reserve_slots(3);
        let (times, slots): (Vec<i64>, _) = ((0..60).collect(), [0, 2].repeat(30));
        let rows = RollingRows { slots: &slots, values: &[1.5, f64::NAN, 2.5].repeat(20), validity: None, times: &times };
        Backend::active().rolling_moments(&mut moments, &rows, MomentColumns::default());
        Backend::active().rolling_order(&mut order, &rows, OrderColumns::default());
        let integers = RollingRows { slots: &slots, values: &[1, -2, 3].repeat(20), validity: None, times: &times };
        Backend::active().rolling_sums(&mut sums, &integers, SumColumns::default());
        let mut saved = [Vec::new(), Vec::new(), Vec::new()];
        moments.save_slot(2, &mut saved[0]);
        order.save_slot(2, &mut saved[1]);
        sums.save_slot(2, &mut saved[2]);
        for (kind, words) in saved.iter_mut().enumerate() {
            assert!(try_words(extent, words)[kind].is_ok());
            (0..words.len()).for_each(|cut| assert!(try_words(extent, &words[..cut])[kind].is_err()));
            for place in 0..words.len() {
                for word in [0, 1, 21, u64::MAX, 1 << 31, 1 << 40] {
                    let before = std::mem::replace(&mut words[place], word);
                    let _ = try_words(extent, words);
                    words[place] = before;
                }
            }
            words.push(0);
            let why = try_words(extent, words).into_iter().nth(kind).unwrap().unwrap_err().to_string();
            assert!(why.contains("longer"), "{why}");
        }
    }
}

#[test]
fn a_slot_beyond_and_columns_that_do_not_fit_panic() {
    for backend in Backend::available() {
        let try_with = |slot: u32, times: &[i64], answers: usize| {
            let (times, mut means) = (times.to_vec(), vec![0.0; answers]);
            std::panic::catch_unwind(move || {
                let mut windows = RollingMoments::new(Extent::Range(1), Frame::Including);
                windows.reserve_slots(2);
                let rows = RollingRows { slots: &[slot], values: &[1.0], validity: None, times: &times };
                backend.rolling_moments(&mut windows, &rows, MomentColumns { means: Some(&mut means), ..MomentColumns::default() });
            })
            .is_ok()
        };
        assert!(try_with(1, &[0], 1), "{backend}");
        assert!(!try_with(2, &[0], 1) && !try_with(1, &[], 1) && !try_with(1, &[0], 2), "{backend}");
    }
}

/// Sums, least and greatest of integers are exact, wherever they lie.
fn check_integers(backend: Backend, case: &Case) {
    let times: Vec<i64> = (0..case.slots.len() as u64).map(|row| row as i64 * 3 - (scramble(row) % 9) as i64).collect();
    let salt = case.slots.len() % 4;
    let extents = [Extent::Rows([1, 2, 7, 100][salt]), Extent::Range([0, 20, 300, i64::MAX][salt])];
    for (extent, frame) in extents.into_iter().flat_map(|extent| [(extent, Frame::Including), (extent, Frame::Preceding)]) {
        let (mut windows, mut order) = (RollingSums::new(extent, frame), RollingOrder::new(extent, frame));
        windows.reserve_slots(case.groups as usize);
        order.reserve_slots(case.groups as usize);
        let mut seen: Vec<Vec<(i64, Option<i64>)>> = vec![Vec::new(); case.groups as usize];
        for (batch, slots) in case.slots.chunks(97).enumerate() {
            let range = batch * 97..batch * 97 + slots.len();
            let validity = case.validity().map(|bits| Bits { offset: bits.offset + range.start, len: slots.len(), ..bits });
            let rows = RollingRows { slots, values: &case.ints[range.clone()], validity, times: &times[range] };
            let (mut counts, mut sums) = (vec![7; slots.len()], vec![7; slots.len()]);
            let (mut mins, mut maxs, mut any) = (vec![7; slots.len()], vec![7; slots.len()], vec![false; slots.len()]);
            backend.rolling_sums(&mut windows, &rows, SumColumns { counts: Some(&mut counts), sums: Some(&mut sums) });
            let columns = OrderColumns { mins: Some(&mut mins), maxs: Some(&mut maxs), any: Some(&mut any) };
            backend.rolling_order(&mut order, &rows, columns);
            for row in 0..slots.len() {
                let window = window_of(&mut seen[slots[row] as usize], &rows, row, (extent, frame));
                let total = (window.iter().map(|&value| i128::from(value)).sum::<i128>(), window.len() as u32);
                assert_eq!((sums[row], counts[row]), total, "{backend}, {extent:?}, {frame:?}");
                let (least, greatest) = (window.iter().min(), window.iter().max());
                let expected = (*least.unwrap_or(&0), *greatest.unwrap_or(&0), least.is_some());
                assert_eq!((mins[row], maxs[row], any[row]), expected, "{backend}, {extent:?}, {frame:?}");
            }
            if batch.is_multiple_of(3) {
                windows = saved_and_loaded!(windows, RollingSums::new(extent, frame));
            }
        }
    }
}

/// The values of a row's window; the row joins those of its key.
fn window_of(seen: &mut Vec<(i64, Option<i64>)>, rows: &RollingRows<'_, i64>, row: usize, (extent, frame): (Extent, Frame)) -> Vec<i64> {
    let time = seen.last().map_or(rows.time(row), |(last, _)| rows.time(row).max(*last));
    seen.push((time, rows.is_valid(row).then_some(rows.values[row])));
    let rows = if frame == Frame::Including { &seen[..] } else { &seen[..seen.len() - 1] };
    match extent {
        Extent::Rows(n) => rows.iter().rev().take(n as usize).filter_map(|(_, value)| *value).collect(),
        Extent::Range(length) => rows.iter().filter(|(at, _)| *at >= time.saturating_sub(length)).filter_map(|(_, value)| *value).collect(),
    }
}
