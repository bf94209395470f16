//! The histogram against marks in a map, the backends against the twin, and series worked by hand.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{AGES, BINS, LEAST_WIDTH, MOST, Novelty, NoveltyCell, RELATIVE_WIDTH, compress, power_above};
use crate::testing::{Case, on_every_backend, same};
use crate::{Backend, Bits, scalar};

on_every_backend!(scores, super::check_scores);

fn check_scores(backend: Backend, case: &Case) {
    // The twin is slow, and the widest case has more keys than cells are wanted for here.
    let (groups, rows) = (case.groups.min(8), case.slots.len().min(200));
    let slots: Vec<u32> = case.slots[..rows].iter().map(|slot| slot % groups).collect();
    let validity = case.validity().map(|bits| Bits { len: rows, ..bits });
    for params in [Novelty { history: 1, warmup: 1 }, Novelty { history: 64, warmup: 4 }] {
        let new = || vec![NoveltyCell::default(); groups as usize];
        let (mut cells, mut expected_cells) = (new(), new());
        let (mut scores, mut expected) = (vec![9.0; slots.len()], vec![9.0; slots.len()]);
        backend.novelty(&mut cells, &slots, &case.floats[..rows], validity, &params, &mut scores);
        scalar::anomaly::novelty(&mut expected_cells, &slots, &case.floats[..rows], validity, &params, &mut expected);
        assert!(cells == expected_cells, "{backend}, {params:?}");
        for (score, expected) in scores.iter().zip(&expected) {
            assert!(same(*score, *expected), "{backend}, {params:?}: {score} is not {expected}");
            assert!(score.is_nan() || (0.0..=1.0).contains(score), "{backend}, {params:?}: {score}");
        }
    }
}

/// One scale as marks in a map, by number of bin: when each was made, in steps.
#[derive(Default)]
struct Slow {
    first: Option<f64>,
    width: f64,
    marks: BTreeMap<i64, u64>,
    rows: u64,
}

impl Slow {
    fn number(&self, value: f64) -> i64 {
        (value / self.width).floor() as i64
    }

    /// Score of a value, which then is taken in; `epoch` rows make a step.
    fn step(&mut self, value: f64, epoch: u64) -> f64 {
        let Some(first) = self.first else {
            self.first = Some(value);
            return 0.0;
        };
        if self.width == 0.0 && value == first {
            return 0.0;
        }
        let score = if self.width == 0.0 {
            let least = (RELATIVE_WIDTH * value.abs().max(first.abs())).max(LEAST_WIDTH);
            self.width = power_above(((value - first).abs() / (BINS / 4) as f64).max(least));
            self.marks.insert(self.number(first), 0);
            1.0
        } else {
            self.score(value)
        };
        self.join(value);
        self.marks.insert(self.number(value), self.rows / epoch);
        self.rows += 1;
        if self.rows.is_multiple_of(epoch) {
            self.forget(self.rows / epoch);
        }
        score
    }

    fn score(&self, value: f64) -> f64 {
        let (number, position) = (self.number(value), value / self.width);
        if position.abs() >= 2f64.powi(52) {
            return 1.0;
        }
        let apart = |&mark: &i64| if mark == number { 0.0 } else { (position - (mark + 1) as f64).max(mark as f64 - position) };
        let distance = self.marks.keys().map(apart).fold(f64::INFINITY, f64::min);
        let (low, high) = (*self.marks.keys().next().unwrap(), *self.marks.keys().next_back().unwrap());
        if distance > 0.0 { distance / (high.max(number) - low.min(number)) as f64 } else { 0.0 }
    }

    /// Joins bins if the marks and the value span more than there are.
    fn join(&mut self, value: f64) {
        let (low, high) = (*self.marks.keys().next().unwrap(), *self.marks.keys().next_back().unwrap());
        let number = self.number(value);
        if (value / self.width).abs() < 2f64.powi(52) && high.max(number) - low.min(number) < BINS as i64 {
            return;
        }
        let span = value.max((high + 1) as f64 * self.width) - value.min(low as f64 * self.width);
        let wider = power_above(span / (BINS - 2) as f64);
        for (mark, step) in std::mem::take(&mut self.marks) {
            // Two by two: how many are one may be more than a float can say.
            let (mut joined, mut width) = (mark, self.width);
            while width < wider {
                (joined, width) = (joined.div_euclid(2), width * 2.0);
            }
            self.marks.entry(joined).and_modify(|newest| *newest = step.max(*newest)).or_insert(step);
        }
        self.width = wider;
    }

    fn forget(&mut self, step: u64) {
        self.marks.retain(|_, made| step - *made <= u64::from(AGES));
        loop {
            let (low, high) = (*self.marks.keys().next().unwrap(), *self.marks.keys().next_back().unwrap());
            let (half, largest) = (self.width / 2.0, (low as f64 * self.width).abs().max((high as f64 * self.width).abs()));
            if high - low >= (BINS / 4) as i64 || half < LEAST_WIDTH || half < RELATIVE_WIDTH * largest {
                return;
            }
            self.marks = self.marks.iter().flat_map(|(&mark, &step)| [(2 * mark, step), (2 * mark + 1, step)]).collect();
            self.width = half;
        }
    }
}

/// Scores of a series of one key, by the histogram.
fn scores_of(backend: Backend, values: &[f64], params: Novelty) -> Vec<f64> {
    let mut scores = vec![9.0; values.len()];
    backend.novelty(&mut [NoveltyCell::default()], &vec![0; values.len()], values, None, &params, &mut scores);
    scores
}

/// Scores of a series of one key, by marks in maps.
fn slow_scores_of(values: &[f64], params: Novelty) -> Vec<f64> {
    let (mut linear, mut compressed, epoch) = (Slow::default(), Slow::default(), u64::from(params.epoch()));
    let (mut seen, mut unit) = (0, 0.0);
    let row = |&value: &f64| {
        let value = value.clamp(-MOST, MOST);
        let score = linear.step(value, epoch);
        seen += 1;
        if seen > params.warmup {
            return (score * compressed.step(compress(value, unit), epoch)).sqrt();
        }
        unit += value.abs() / f64::from(params.warmup);
        if seen == params.warmup {
            unit = if unit == 0.0 { 1.0 } else { unit };
            let middles: Vec<f64> = linear.marks.keys().map(|&mark| (mark as f64 + 0.5) * linear.width).collect();
            let middles = if linear.width == 0.0 { vec![value] } else { middles };
            for middle in middles {
                compressed.step(compress(middle, unit), epoch);
            }
        }
        0.0
    };
    values.iter().map(row).collect()
}

/// Walks, jumps, spikes, constants, and values of every size.
fn series() -> impl Strategy<Value = Vec<f64>> {
    let piece = prop_oneof![
        (-1e3..1e3_f64, 1..200_usize).prop_map(|(level, rows)| vec![level; rows]),
        (prop::collection::vec(-1.0..1.0_f64, 1..300), -1e3..1e3_f64, 1e-3..1e3_f64)
            .prop_map(|(noise, level, size)| noise.into_iter().map(|noise| level + size * noise).collect()),
        prop::collection::vec(-1e9..1e9_f64, 1..4),
        prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 1..3),
        Just(vec![0.0, -0.0, 5e-324, f64::MAX, f64::MIN]),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_histogram_is_marks_in_a_map(values in series(), history in 1..2000_u32, warmup in 1..100_u32) {
        let params = Novelty { history, warmup };
        let slow = slow_scores_of(&values, params);
        for backend in Backend::available() {
            for (row, (score, slow)) in scores_of(backend, &values, params).iter().zip(&slow).enumerate() {
                prop_assert!(same(*score, *slow), "{}, row {}: {} is not {}", backend, row, score, slow);
            }
        }
    }
}

#[test]
fn a_range_of_all_floats_after_the_least_of_them() {
    let (values, params) = ([-3.45621107871226e-309, 0.0, -0.0, 5e-324, f64::MAX, f64::MIN], Novelty { history: 1, warmup: 1 });
    let slow = slow_scores_of(&values, params);
    for backend in Backend::available() {
        let scores = scores_of(backend, &values, params);
        assert!(scores.iter().zip(&slow).all(|(score, slow)| same(*score, *slow)), "{backend}: {scores:?} are not {slow:?}");
    }
}

#[test]
fn a_series_worked_by_hand() {
    // Differs first at row 2, by 100: bins of the least power of two above 100/128, which is 1. Marks: 0 and 100. Of these 32 is 31 bins
    // from [0, 1) and 67 from [100, 101), in a range of 100. The unit is (0 + 0 + 100)/3, so that 0 and 100 are 0 and 1 + 1 compressed;
    // seeded from the middles 0.5 and 100.5.
    let (warmup, history) = (3, 4096);
    let unit = 100.0 / 3.0;
    let scores = scores_of(Backend::Scalar, &[0.0, 0.0, 100.0, 32.0, 100.9, f64::NAN, 32.9], Novelty { history, warmup });
    let marks = [compress(0.5, unit), compress(100.5, unit)];
    let width = power_above((marks[1] - marks[0]) / 128.0);
    let (y, low, high) = (compress(32.0, unit) / width, (marks[0] / width).floor() + 1.0, (marks[1] / width).floor());
    let compressed = f64::min(y - low, high - y) / (high - low + 1.0);
    assert!((scores[3] - (0.31 * compressed).sqrt()).abs() < 1e-12, "{} {compressed}", scores[3]);
    assert_eq!((scores[0], scores[1], scores[2], scores[4], scores[6]), (0.0, 0.0, 0.0, 0.0, 0.0));
    assert!(scores[5].is_nan());
}

#[test]
fn values_are_forgotten() {
    let mut values: Vec<f64> = (0..100).map(f64::from).collect();
    values.extend(std::iter::repeat_n([10.0, 90.0], 100).flatten());
    values.push(50.0);
    let last = |history| scores_of(Backend::best(), &values, Novelty { history, warmup: 2 })[values.len() - 1];
    assert_eq!(last(4096), 0.0);
    assert!(last(64) > 0.3, "{}", last(64));
}

#[test]
fn a_change_of_what_was_constant_scores_1() {
    for constant in [0.0, 5.0, -1e-300, 1e300] {
        let mut values = vec![constant; 1000];
        values.extend([constant + 1e290, constant]);
        let scores = scores_of(Backend::best(), &values, Novelty { history: 512, warmup: 64 });
        assert_eq!(scores[..1000], vec![0.0; 1000]);
        assert!(constant == 1e300 || scores[1000] == 1.0, "{constant}: {}", scores[1000]);
        assert_eq!(scores[1001], 0.0);
    }
}

#[test]
fn nulls_leave_the_state() {
    let (mut cells, mut scores) = ([NoveltyCell::default()], [9.0; 3]);
    let validity = Some(Bits { bytes: &[0b101], offset: 0, len: 3 });
    Backend::best().novelty(&mut cells, &[0; 3], &[1.0, 1e9, 1.0], validity, &Novelty { history: 64, warmup: 9 }, &mut scores);
    assert!(scores[1].is_nan());
    assert_eq!((cells[0].count, cells[0].linear.per_unit), (2, 0.0));
}
