//! Detectors on the GPU against the processor's, within the bounds that they state, on whatever adapter there is, software ones
//! included. Without an adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use support::{open, property, software};
use testing::{Case, FLOATS, any_case, same, scramble, seeds};
use thalweg_kernels::gpu::{Discord, Engine, Fault, FrozenForest, Options};
use thalweg_kernels::{
    Backend, Bits, CovarianceCell, DiscordSeries, Ewma, EwmaCell, Forest, LeftDiscord, Mahalanobis, RandomCutForest, mahalanobis,
};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("discords_agree_around_the_sizes_of_workgroups", discords_agree_around_workgroups),
        ("discords_agree_on_random_series", discords_agree_on_random_series),
        ("discords_agree_in_short_uploads", discords_agree_in_short_uploads),
        ("a_large_level_costs_no_digits", a_large_level_costs_no_digits),
        ("a_history_beyond_an_upload_changes_nothing", a_history_beyond_an_upload),
        ("a_lost_device_leaves_series_as_they_were", a_lost_device_leaves_series),
        ("discords_go_on_without_the_device", discords_go_on),
        ("forests_agree", forests_agree),
        ("forests_agree_on_random_values", forests_agree_on_random_values),
        ("forests_agree_in_short_uploads", forests_agree_in_short_uploads),
        ("trees_beyond_the_limits_are_refused", trees_beyond_the_limits),
        ("a_frozen_forest_goes_on_without_the_device", a_frozen_forest_goes_on),
        ("distances_agree", distances_agree),
        ("distances_beyond_the_limits_are_refused", distances_beyond_the_limits),
        ("ewma_agrees", ewma_agrees),
        ("ewma_agrees_on_random_columns", ewma_agrees_on_random_columns),
        ("ewma_agrees_in_short_uploads", ewma_agrees_in_short_uploads),
        ("a_lost_device_leaves_cells_as_they_were", a_lost_device_leaves_cells),
        ("detectors_share_an_engine", detectors_share_an_engine),
    ];
    support::run(tests);
}

/// Uniform between -1 and 1.
fn noise(n: u64) -> f64 {
    (scramble(n) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Rows of several keys, with values that are missing.
#[derive(Clone, Debug)]
struct Rows {
    keys: usize,
    slots: Vec<u32>,
    values: Vec<f64>,
    bitmap: Option<Vec<u8>>,
}

impl Rows {
    fn of_one_key(values: Vec<f64>) -> Self {
        Self { keys: 1, slots: vec![0; values.len()], values, bitmap: None }
    }

    fn validity(&self, from: usize, to: usize) -> Option<Bits<'_>> {
        self.bitmap.as_ref().map(|bytes| Bits { bytes, offset: from, len: to - from })
    }

    /// Scores of the scalar backend, which compares value by value in 64-bit floats.
    fn expected(&self, params: &LeftDiscord) -> Vec<f64> {
        let (mut series, mut scores) = (vec![DiscordSeries::default(); self.keys], vec![9.0; self.slots.len()]);
        let validity = self.validity(0, self.slots.len());
        Backend::Scalar.left_discord(&mut series, &self.slots, &self.values, validity, params, &mut scores);
        scores
    }

    /// Those of the device, in batches that end at `splits`.
    fn scores(&self, engine: &Engine, params: &LeftDiscord, splits: &[usize]) -> Vec<f64> {
        let (mut series, mut scores) = (vec![DiscordSeries::default(); self.keys], vec![9.0; self.slots.len()]);
        let mut from = 0;
        for &to in splits.iter().chain([&self.slots.len()]) {
            let (slots, values, scores) = (&self.slots[from..to], &self.values[from..to], &mut scores[from..to]);
            engine.left_discord(&mut series, slots, values, self.validity(from, to), params, scores).unwrap();
            from = to;
        }
        assert!(series.iter().all(|series| series.values().len() as u64 <= series.count()));
        scores
    }
}

/// What `Engine::left_discord` promises.
const DISCORD_BOUND: f64 = 2e-5;

fn assert_close(scores: &[f64], expected: &[f64], bound: impl Fn(f64) -> f64) {
    assert_eq!(scores.len(), expected.len());
    for (row, (score, expected)) in scores.iter().zip(expected).enumerate() {
        let close = (score - expected).abs() <= bound(*expected) || score.is_nan() && expected.is_nan();
        assert!(close, "row {row}: {score} is not {expected}");
    }
}

fn check_discord(engine: &Engine, rows: &Rows, params: &LeftDiscord, splits: &[usize]) {
    let scores = rows.scores(engine, params, splits);
    assert_close(&scores, &rows.expected(params), |_| DISCORD_BOUND);
    assert!(scores.iter().zip(rows.scores(engine, params, &[])).all(|(a, b)| same(*a, b)), "the same bits whatever the batches");
    assert_eq!(engine.fault(), None);
}

/// Stretches and numbers of others of about a workgroup's threads and tiles, and a batch that ends at a refresh.
fn discords_agree_around_workgroups() {
    let engine = open();
    check_discord(&engine, &Rows::of_one_key(Vec::new()), &LeftDiscord { length: 2, history: 4 }, &[]);
    for (length, more) in [(2, 0), (2, 254), (3, 255), (32, 256), (33, 257), (255, 1), (256, 2), (257, 40), (300, 512)] {
        let params = LeftDiscord { length, history: 2 * length + more };
        let rows = (params.history + 40) as usize;
        let values = (0..rows).map(|row| (row as f64 / 9.0).sin() + 0.3 * noise(row as u64) + if row % 97 == 96 { 5.0 } else { 0.0 });
        let (rows, split) = (Rows::of_one_key(values.collect()), rows - 40);
        let scores = rows.scores(&engine, &params, &[2 * length as usize, split]);
        // The scalar backend is slow: it takes the last rows alone, and the other one is near to it.
        let (mut series, mut expected) = ([DiscordSeries::default()], vec![9.0; rows.values.len()]);
        for (backend, of, bound) in [(Backend::best(), 0..split, 2e-3), (Backend::Scalar, split..rows.values.len(), DISCORD_BOUND)] {
            let expected = &mut expected[of.clone()];
            backend.left_discord(&mut series, &rows.slots[of.clone()], &rows.values[of.clone()], None, &params, expected);
            assert_close(&scores[of], expected, |_| bound);
        }
    }
}

/// Waves, noise, constants and jumps, at any level.
fn series() -> impl Strategy<Value = Vec<f64>> {
    let piece = prop_oneof![
        (1..200_usize, 1.0..20.0_f64).prop_map(|(rows, period)| (0..rows).map(|row| (row as f64 / period).sin()).collect()),
        prop::collection::vec(-1.0..1.0_f64, 1..100),
        (-5.0..5.0_f64, 1..100_usize).prop_map(|(value, rows)| vec![value; rows]),
        prop::collection::vec(-300.0..300.0_f64, 1..3),
        prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), any::<f64>()], 0..3),
    ];
    (prop::collection::vec(piece, 1..6), prop_oneof![Just(0.0), -1e4..1e4_f64, Just(1e12)])
        .prop_map(|(pieces, level): (Vec<Vec<f64>>, f64)| pieces.concat().iter().map(|value| level + value).collect())
}

fn any_rows() -> impl Strategy<Value = Rows> {
    (series(), 1..4_usize, any::<u64>(), any::<bool>(), 0..3_u8).prop_map(|(values, keys, salt, nulls, order)| {
        let slot = |row: usize| match order {
            0 => row * keys / values.len(),
            1 => row % keys,
            _ => (scramble(salt ^ row as u64) % keys as u64) as usize,
        };
        let slots = (0..values.len()).map(|row| slot(row) as u32).collect();
        let byte = |at: usize| (scramble(salt ^ at as u64) | scramble(salt ^ !(at as u64))) as u8 | 0x11;
        let bitmap = nulls.then(|| (0..values.len() / 8 + 2).map(byte).collect());
        Rows { keys, slots, values, bitmap }
    })
}

fn discords_agree_on_random_series() {
    let engine = open();
    let params = (2..30_u32, 0..200_u32).prop_map(|(length, more)| LeftDiscord { length, history: 2 * length + more });
    let result = property(24).run(&(any_rows(), params, 0.0..1.0_f64), |(rows, params, split)| {
        let split = (split * rows.values.len() as f64) as usize;
        check_discord(&engine, &rows, &params, &[split]);
        Ok(())
    });
    result.unwrap();
}

/// Uploads that take some rows beside the history, and one that takes one.
fn discords_agree_in_short_uploads() {
    let params = LeftDiscord { length: 20, history: 60 };
    let values: Vec<f64> = (0..900).map(|row| (f64::from(row) / 5.0).cos() + 0.2 * noise(row as u64)).collect();
    let rows = Rows { keys: 2, slots: (0..900).map(|row| row % 2).collect(), values, bitmap: None };
    let expected = rows.expected(&params);
    for options in [Options { batch_rows: 200, ..software() }, Options { binding_limit: Some(8 * 80), ..software() }] {
        let engine = Engine::open(&options).unwrap();
        assert_close(&rows.scores(&engine, &params, &[333]), &expected, |_| DISCORD_BOUND);
    }
}

/// The same series at another level and in another unit has the same scores: nothing is lost to cancellation.
fn a_large_level_costs_no_digits() {
    let engine = open();
    let params = LeftDiscord { length: 40, history: 200 };
    // Whole numbers, so that the level rounds nothing away.
    let wave = |row: usize| ((row as f64 / 7.0).sin() * 1000.0).round() + (noise(row as u64) * 20.0).round();
    let plain = Rows::of_one_key((0..600).map(wave).collect());
    let scores = plain.scores(&engine, &params, &[]);
    let raised = Rows::of_one_key(plain.values.iter().map(|value| (value + 1e9) * 2f64.powi(-90)).collect());
    assert_close(&raised.scores(&engine, &params, &[]), &scores, |_| DISCORD_BOUND);
    // A period that comes again and again is at no distance.
    let again = Rows::of_one_key((0..600).map(|row| 1e9 + wave(row % 50)).collect());
    let scores = again.scores(&engine, &params, &[]);
    assert!(scores[100..].iter().all(|score| *score < 1e-6), "{:?}", scores[100..].iter().fold(0.0_f64, |a, b| a.max(*b)));
    let constant = Rows::of_one_key(vec![1e9; 300]).scores(&engine, &params, &[]);
    assert!(constant[79..].iter().all(|score| *score == 0.0) && constant[..79].iter().all(|score| score.is_nan()));
}

fn a_history_beyond_an_upload() {
    let engine = Engine::open(&Options { batch_rows: 100, ..software() }).unwrap();
    let params = LeftDiscord { length: 10, history: 200 };
    let values: Vec<f64> = (0..700).map(|row| noise(row as u64)).collect();
    let (mut series, mut scores) = ([DiscordSeries::default()], vec![9.0; 700]);
    engine.left_discord(&mut series, &[0; 30], &values[..30], None, &params, &mut scores[..30]).unwrap();
    let before = series[0].values().to_vec();
    let error = engine.left_discord(&mut series, &[0; 670], &values[30..], None, &params, &mut scores[30..]).unwrap_err();
    assert_eq!(error.fault(), Fault::Limit);
    assert_eq!((series[0].count(), series[0].values()), (30, &before[..]));
    assert_eq!(engine.fault(), None, "a refusal ends nothing");
}

fn a_lost_device_leaves_series() {
    let engine = open();
    let params = LeftDiscord { length: 10, history: 100 };
    let values: Vec<f64> = (0..400).map(|row| noise(row as u64)).collect();
    let (mut series, mut scores) = ([DiscordSeries::default()], vec![9.0; 400]);
    engine.left_discord(&mut series, &[0; 200], &values[..200], None, &params, &mut scores[..200]).unwrap();
    let before = series[0].values().to_vec();
    engine.lose();
    let lost = |series: &mut [DiscordSeries]| engine.left_discord(series, &[0; 200], &values[200..], None, &params, &mut [0.0; 200]);
    assert_eq!(lost(&mut series).unwrap_err().fault(), Fault::Lost);
    assert_eq!(lost(&mut series).unwrap_err().fault(), Fault::Lost);
    assert_eq!((series[0].count(), series[0].values()), (200, &before[..]));
}

/// Lost before any batch, between two, and never; with keys that come late.
fn discords_go_on() {
    let params = LeftDiscord { length: 8, history: 64 };
    let values: Vec<f64> = (0..1200).map(|row| 50.0 + noise(row as u64)).collect();
    let rows = Rows { keys: 3, slots: (0..1200).map(|row| row / 10 % (1 + row / 400)).collect(), values, bitmap: None };
    let expected = rows.expected(&params);
    for lost_at in [0, 2, 9] {
        let engine = open();
        let mut discord = Discord::new(&engine, 1, params);
        let (mut scores, mut faults) = (vec![9.0; 1200], 0);
        for batch in 0..6 {
            if batch == lost_at {
                engine.lose();
            }
            discord.grow(1 + batch / 2);
            let of = batch * 200..(batch + 1) * 200;
            discord.score(&rows.slots[of.clone()], &rows.values[of.clone()], None, &mut scores[of]);
            faults += usize::from(discord.take_fault().is_some_and(|error| error.fault() == Fault::Lost));
        }
        assert_close(&scores, &expected, |_| DISCORD_BOUND);
        assert_eq!((faults, discord.on_device()), (usize::from(lost_at < 6), lost_at >= 6), "one warning");
        assert_eq!(discord.series().iter().map(DiscordSeries::count).sum::<u64>(), 1200);
    }
}

const FOREST: RandomCutForest =
    RandomCutForest { number_of_trees: 20, sample_size: 64, time_decay: 0.002, shingle_size: 1, output_after: 16, seed: 3 };

/// What `Trees::scores` promises of trees of up to 30 levels.
fn forest_bound(score: f64) -> f64 {
    2e-5 * score
}

/// A forest that took these columns.
fn grown(columns: &[&[f64]], params: &RandomCutForest) -> Forest {
    let mut forests = [Forest::default()];
    let rows = columns[0].len();
    Backend::best().random_cut_forest(&mut forests, &vec![0; rows], columns, params, &mut vec![0.0; rows], None);
    let [forest] = forests;
    forest
}

fn check_forest(engine: &Engine, known: &[&[f64]], columns: &[&[f64]], params: &RandomCutForest) {
    let (forest, rows) = (grown(known, params), columns[0].len());
    let (mut scores, mut expected) = (vec![9.0; rows], vec![9.0; rows]);
    Backend::best().forest_scores(&forest, columns, params, &mut expected);
    let trees = engine.trees(&forest, params).unwrap();
    trees.scores(columns, &mut scores).unwrap();
    assert_close(&scores, &expected, forest_bound);
    // A second time: what is on the device stays.
    scores.fill(9.0);
    trees.scores(columns, &mut scores).unwrap();
    assert_close(&scores, &expected, forest_bound);
    assert_eq!(engine.fault(), None);
}

/// Columns of noise at a level, with a few points far off and some without a value.
fn columns(count: usize, rows: usize, salt: u64) -> Vec<Vec<f64>> {
    let value = |column: usize, row: usize| match scramble(salt ^ row as u64) % 50 {
        0 => f64::NAN,
        1 => 100.0,
        2 => 1e300,
        3..8 => 40.0,
        _ => 40.0 + column as f64 * noise(salt + (row * count + column) as u64),
    };
    (0..count).map(|column| (0..rows).map(|row| value(column, row)).collect()).collect()
}

fn slices(columns: &[Vec<f64>]) -> Vec<&[f64]> {
    columns.iter().map(Vec::as_slice).collect()
}

/// Rows of about a workgroup's threads, points of every width, forests of no point, one and many.
fn forests_agree() {
    let engine = open();
    for (known, rows, wide, shingle) in [
        (0, 5, 1, 1),
        (1, 3, 2, 1),
        (3, 2, 1, 2),
        (500, 0, 1, 1),
        (500, 1, 2, 1),
        (300, 255, 3, 1),
        (300, 256, 5, 1),
        (700, 257, 2, 4),
        (200, 600, 9, 4),
    ] {
        for output_after in [0, 16] {
            let params = RandomCutForest { shingle_size: shingle, output_after, ..FOREST };
            check_forest(&engine, &slices(&columns(wide, known, 5)), &slices(&columns(wide, rows, 77)), &params);
        }
    }
}

fn forests_agree_on_random_values() {
    let engine = open();
    let number =
        prop_oneof![4 => -1e3..1e3_f64, 2 => (-3..3_i32).prop_map(f64::from), 1 => prop::sample::select(vec![f64::NAN, f64::MAX, -1e30])];
    let values = prop::collection::vec(number, 60..400);
    let shape = (1..6_usize, 1..4_u32, 1..40_u32, 2..40_u32);
    let result = property(24).run(&(values, shape), |(values, (wide, shingle_size, number_of_trees, sample_size))| {
        let rows = values.len() / wide;
        let columns: Vec<&[f64]> = values.chunks_exact(rows).take(wide).collect();
        let part = |from: usize, to: usize| columns.iter().map(|column| &column[from..to]).collect::<Vec<_>>();
        let params = RandomCutForest { number_of_trees, sample_size, shingle_size, output_after: 4, ..FOREST };
        check_forest(&engine, &part(0, rows / 2), &part(rows / 2, rows), &params);
        Ok(())
    });
    result.unwrap();
}

fn forests_agree_in_short_uploads() {
    let (known, rows) = (columns(3, 400, 1), columns(3, 500, 2));
    for options in [Options { batch_rows: 60, ..software() }, Options { batch_rows: 1000, ..software() }] {
        check_forest(&Engine::open(&options).unwrap(), &slices(&known), &slices(&rows), &FOREST);
    }
}

fn trees_beyond_the_limits() {
    let known = columns(8, 300, 1);
    let forest = grown(&slices(&known), &FOREST);
    let engine = Engine::open(&Options { binding_limit: Some(50_000), ..software() }).unwrap();
    assert_eq!(engine.trees(&forest, &FOREST).unwrap_err().fault(), Fault::Limit);
    let engine = Engine::open(&Options { memory: 850_000, batch_rows: 1 << 14, ..software() }).unwrap();
    let before = engine.memory_in_use();
    assert_eq!(engine.trees(&forest, &FOREST).unwrap_err().fault(), Fault::Memory);
    assert_eq!(engine.memory_in_use(), before);
    // Two values apart by less than a device can tell from 0.
    let tiny: Vec<f64> = (0..100).map(|row| f64::from(row % 7) * 1e-39).collect();
    let engine = open();
    assert_eq!(engine.trees(&grown(&[&tiny], &FOREST), &FOREST).unwrap_err().fault(), Fault::Limit);
    let trees = engine.trees(&grown(&[&[0.0; 100]], &FOREST), &FOREST).unwrap();
    assert_eq!(trees.scores(&[&[1e-39]], &mut [0.0]).unwrap_err().fault(), Fault::Limit);
    assert_eq!(engine.fault(), None);
}

fn a_frozen_forest_goes_on() {
    let (known, rows) = (columns(2, 300, 1), columns(2, 100, 9));
    let (forest, rows) = (grown(&slices(&known), &FOREST), slices(&rows));
    let mut expected = vec![9.0; 100];
    Backend::best().forest_scores(&forest, &rows, &FOREST, &mut expected);
    for lost_at in [0, 2, 9] {
        let engine = open();
        if lost_at == 0 {
            engine.lose();
        }
        let mut frozen = FrozenForest::new(&engine, forest.clone(), FOREST);
        let mut faults = 0;
        for batch in 0..4 {
            if batch == lost_at {
                engine.lose();
            }
            let mut scores = vec![9.0; 100];
            frozen.scores(&rows, &mut scores);
            assert_close(&scores, &expected, forest_bound);
            faults += usize::from(frozen.take_fault().is_some_and(|error| error.fault() == Fault::Lost));
        }
        assert_eq!((faults, frozen.on_device()), (usize::from(lost_at < 4), lost_at >= 4), "one warning");
    }
}

/// What `Engine::mahalanobis_scores` promises of D, and D itself.
fn assert_distances(cell: &CovarianceCell, columns: &[&[f64]], params: &Mahalanobis, scores: &[f64], expected: &[f64]) {
    let (d, spread) = (columns.len(), 2.0 / (9.0 * columns.len() as f64));
    let distance = |score: f64| ((score * spread.sqrt() + 1.0 - spread).powi(3) * d as f64).sqrt();
    for (row, (score, expected)) in scores.iter().zip(expected).enumerate() {
        if score.is_nan() || expected.is_nan() {
            assert!(score.is_nan() && expected.is_nan());
            continue;
        }
        let deviation = |i: usize| cell.covariance[i * d + i].sqrt().max(1e-9 * cell.mean[i].abs()).max(1e-150);
        let length = (0..d)
            .map(|i| ((columns[i][row].clamp(-1e100, 1e100) - cell.mean[i]) / deviation(i)).clamp(-1e9, 1e9).powi(2))
            .sum::<f64>()
            .sqrt();
        let bound = (d as f64 + 4.0) * 2f64.powi(-24) * (d as f64 / params.shrinkage).sqrt() * length;
        let (score, expected) = (distance(*score), distance(*expected));
        // Scores below 0 are cut off; what is left of rounding in 64-bit floats is far less.
        assert!((score - expected).abs() <= bound * 1.0001 + 1e-12 * expected, "row {row}: D {score} is not {expected} within {bound}");
    }
}

fn check_distances(engine: &Engine, known: &[&[f64]], columns: &[&[f64]], params: &Mahalanobis) {
    let (mut cells, count, rows) = ([CovarianceCell::default()], known[0].len(), columns[0].len());
    mahalanobis(&mut cells, &vec![0; count], known, params, &mut vec![0.0; count], None, None);
    let (mut scores, mut expected) = (vec![9.0; rows], vec![9.0; rows]);
    thalweg_kernels::mahalanobis_scores(&cells[0], columns, params, &mut expected);
    engine.mahalanobis_scores(&cells[0], columns, params, &mut scores).unwrap();
    assert_distances(&cells[0], columns, params, &scores, &expected);
    assert_eq!(engine.fault(), None);
}

fn distances_agree() {
    let engine = open();
    let short = Engine::open(&Options { batch_rows: 60, ..software() }).unwrap();
    for shrinkage in [0.5, 0.01, 1e-6] {
        let params = Mahalanobis { alpha: 0.01, shrinkage, warmup: 10 };
        for (wide, known, rows) in [(1, 5, 4), (1, 300, 0), (1, 300, 1), (2, 300, 255), (3, 300, 256), (5, 300, 257), (20, 300, 100)] {
            let known = columns(wide, known, 4);
            // Correlated, so that the inverse counts; constant columns among them.
            let mixed = |columns: &[Vec<f64>]| -> Vec<Vec<f64>> {
                let first = columns.last().unwrap();
                columns.iter().map(|column| column.iter().zip(first).map(|(a, b)| 1e7 + 0.1 * a + b).collect()).collect()
            };
            let (known, rows) = (mixed(&known), mixed(&columns(wide, rows, 8)));
            check_distances(&engine, &slices(&known), &slices(&rows), &params);
            if wide < 10 {
                check_distances(&short, &slices(&known), &slices(&rows), &params);
            }
        }
    }
}

fn distances_beyond_the_limits() {
    let known: Vec<f64> = (0..100).map(|row| noise(row as u64)).collect();
    let columns = [&known[..], &known[..]];
    let params = Mahalanobis { alpha: 0.01, shrinkage: 1e-15, warmup: 10 };
    let mut cells = [CovarianceCell::default()];
    mahalanobis(&mut cells, &[0; 100], &columns, &params, &mut [0.0; 100], None, None);
    let refused = |engine: &Engine, params: &Mahalanobis| engine.mahalanobis_scores(&cells[0], &columns, params, &mut [0.0; 100]);
    let engine = open();
    assert_eq!(refused(&engine, &params).unwrap_err().fault(), Fault::Limit);
    let params = Mahalanobis { shrinkage: 0.1, ..params };
    let short = Engine::open(&Options { batch_rows: 1, ..software() }).unwrap();
    assert_eq!(refused(&short, &params).unwrap_err().fault(), Fault::Limit);
    assert_eq!(refused(&engine, &params), Ok(()));
    engine.lose();
    assert_eq!(refused(&engine, &params).unwrap_err().fault(), Fault::Lost);
}

/// Scores and states against the processor's, within what `Engine::ewma` promises; batch after batch from the states of its own.
fn check_ewma(engine: &Engine, case: &Case, params: &Ewma) {
    let keys = case.groups as usize;
    let (mut cells, mut expected_cells) = (vec![EwmaCell::default(); keys], vec![EwmaCell::default(); keys]);
    let (mut scores, rows) = (vec![9.0; case.slots.len()], case.slots.len());
    let split = rows / 3;
    for (from, to) in [(0, split), (split, rows)] {
        let validity = case.validity().map(|bits| Bits { offset: bits.offset + from, len: to - from, ..bits });
        let scores = &mut scores[from..to];
        engine.ewma(&mut cells, &case.slots[from..to], &case.floats[from..to], validity, params, scores).unwrap();
    }
    let mut largest = vec![0.0_f64; keys];
    for (row, score) in scores.iter().enumerate() {
        let (slot, value) = (case.slots[row] as usize, case.floats[row]);
        let mut expected = [f64::NAN];
        let cell = expected_cells[slot];
        if case.valid(row) {
            Backend::Scalar.ewma(&mut expected_cells[slot..=slot], &[0], &[value], None, params, &mut expected);
        }
        let [expected] = expected;
        assert_eq!(score.is_nan(), expected.is_nan());
        if !expected.is_nan() {
            largest[slot] = largest[slot].max(value.abs());
            let deviation = cell.variance.sqrt().max(1e-9 * cell.mean.abs()).max(1e-309);
            let bound = 1e-14 * (1.0 + expected) * (1.0 + largest[slot] / deviation / params.alpha);
            assert!((score - expected).abs() <= bound, "row {row}: {score} is not {expected} within {bound}");
        }
    }
    for ((cell, expected), largest) in cells.iter().zip(&expected_cells).zip(largest) {
        assert_eq!(cell.count, expected.count);
        assert!((cell.mean - expected.mean).abs() <= 1e-14 * largest / params.alpha, "{cell:?} is not {expected:?}");
    }
    assert_eq!(engine.fault(), None);
}

const EWMAS: [Ewma; 3] = [Ewma { alpha: 0.05, warmup: 0 }, Ewma { alpha: 1.0, warmup: 3 }, Ewma { alpha: 0.5, warmup: 1 }];

/// The table of seeds: numbers of rows and keys around a workgroup's threads, nulls, infinities and the ends of the range.
fn ewma_agrees() {
    let engine = open();
    for (index, case) in seeds().enumerate().step_by(5) {
        check_ewma(&engine, &case, &EWMAS[index % EWMAS.len()]);
    }
}

fn ewma_agrees_on_random_columns() {
    let engine = open();
    let result = property(60).run(&(any_case(), 0..EWMAS.len()), |(case, params)| {
        check_ewma(&engine, &case, &EWMAS[params]);
        Ok(())
    });
    result.unwrap();
}

/// Keys in several uploads, and keys that have more rows than one takes.
fn ewma_agrees_in_short_uploads() {
    for batch_rows in [1, 150, 600] {
        let engine = Engine::open(&Options { batch_rows, ..software() }).unwrap();
        for (index, case) in seeds().filter(|case| case.slots.len() > 300 && case.groups < 1000).enumerate().step_by(19) {
            check_ewma(&engine, &case, &EWMAS[index % EWMAS.len()]);
        }
    }
}

fn a_lost_device_leaves_cells() {
    let engine = open();
    let (mut cells, mut scores) = ([EwmaCell::default(); 2], [9.0; 4]);
    engine.ewma(&mut cells, &[0, 1, 0, 1], &[1.0, 2.0, 3.0, 4.0], None, &EWMAS[0], &mut scores).unwrap();
    let before = cells;
    engine.lose();
    let error = engine.ewma(&mut cells, &[0, 1, 0, 1], &[1.0, 2.0, 3.0, 4.0], None, &EWMAS[0], &mut scores).unwrap_err();
    assert_eq!(error.fault(), Fault::Lost);
    assert_eq!(cells, before);
}

/// Threads with different detectors take turns at the staging buffers.
fn detectors_share_an_engine() {
    let engine = Engine::open(&Options { batch_rows: 600, ..software() }).unwrap();
    std::thread::scope(|scope| {
        for salt in 0..3 {
            let engine = engine.clone();
            scope.spawn(move || {
                let (known, rows) = (columns(2, 200, salt), columns(2, 300, salt + 10));
                check_forest(&engine, &slices(&known), &slices(&rows), &FOREST);
                let values = (0..300).map(|row| noise(row + salt * 1000)).collect();
                check_discord(&engine, &Rows::of_one_key(values), &LeftDiscord { length: 10, history: 50 }, &[100]);
                check_distances(&engine, &slices(&known), &slices(&rows), &Mahalanobis { alpha: 0.05, shrinkage: 0.1, warmup: 1 });
            });
        }
    });
}
