use proptest::prelude::*;

use super::{Knn, KnnCell, KnnScale, LANES};
use crate::Backend;
use crate::testing::{Case, FLOATS, on_every_backend, same, scramble};

/// The score of the last row, from the definition.
fn slow(rows: &[Vec<f64>], params: &Knn) -> f64 {
    let (row, before) = rows.split_last().unwrap();
    if (before.len() as u64) < params.warmup.max(params.k.into()) {
        return 0.0;
    }
    let mut weights: Vec<f64> = Vec::new();
    for n in 1..=before.len() {
        let a = (1.0 / f64::from(params.history)).max(1.0 / n as f64);
        weights.iter_mut().for_each(|weight| *weight *= 1.0 - a);
        weights.push(a);
    }
    let mean = |of: &dyn Fn(&Vec<f64>) -> f64| weights.iter().zip(before).map(|(weight, row)| weight * of(row)).sum::<f64>();
    let deviation = |i: usize| {
        let centre = mean(&|row| row[i]);
        mean(&|row| (row[i] - centre).powi(2)).sqrt()
    };
    let deviations: Vec<f64> = (0..row.len()).map(deviation).collect();
    let distance = |other: &Vec<f64>| {
        let squares = (0..row.len()).map(|i| ((row[i] - other[i]) / deviations[i]).powi(2));
        (squares.sum::<f64>() / row.len() as f64).sqrt()
    };
    let mut distances: Vec<f64> = before.iter().rev().take(params.history as usize).map(distance).collect();
    distances.sort_by(f64::total_cmp);
    let k = params.k as usize;
    if params.mean { distances[..k].iter().sum::<f64>() / k as f64 } else { distances[k - 1] }
}

fn columns(rows: &[Vec<f64>], wide: usize) -> Vec<Vec<f64>> {
    (0..wide).map(|at| rows.iter().map(|row| row[at]).collect()).collect()
}

fn run(backend: Backend, rows: &[Vec<f64>], params: &Knn) -> (Vec<f64>, Vec<Vec<f64>>) {
    let columns = columns(rows, rows[0].len());
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let (mut cells, mut scores, mut parts) = ([KnnCell::default()], vec![9.0; rows.len()], vec![vec![9.0; rows.len()]; columns.len()]);
    backend.knn(&mut cells, &vec![0; rows.len()], &columns, params, &mut scores, Some(&mut parts));
    (scores, parts)
}

on_every_backend!(edges, super::check_edges);

/// The same bits as the scalar twin's, with holes, ties, splits and the ends of the range of floats, for each number of columns.
fn check_edges(backend: Backend, case: &Case) {
    let groups = case.groups.min(5);
    // Some blocks of each key are enough, and the scalar twin is slow.
    let slots: Vec<u32> = case.slots.iter().take(200).map(|slot| slot % groups).collect();
    let other: Vec<f64> =
        case.floats.iter().take(200).enumerate().map(|(row, x)| if case.valid(row) { x.round() % 8.0 } else { f64::NAN }).collect();
    for (wide, params) in [
        (1, Knn { k: 1, history: 1, mean: false, warmup: 0 }),
        (2, Knn { k: 3, history: 40, mean: false, warmup: 9 }),
        (3, Knn { k: 5, history: 64, mean: true, warmup: 0 }),
    ] {
        let columns = [&other[..], &case.floats[..slots.len()], &other];
        let run = |backend: Backend, split: usize| {
            let (mut cells, mut scores) = (vec![KnnCell::default(); groups as usize], vec![9.0; slots.len()]);
            let mut parts = vec![vec![9.0; slots.len()]; wide];
            for (from, to) in [(0, split), (split, slots.len())] {
                let part: Vec<&[f64]> = columns[..wide].iter().map(|column| &column[from..to]).collect();
                let mut told = vec![vec![f64::NAN; to - from]; wide];
                backend.knn(&mut cells, &slots[from..to], &part, &params, &mut scores[from..to], Some(&mut told));
                parts.iter_mut().zip(told).for_each(|(parts, told)| parts[from..to].copy_from_slice(&told));
            }
            (cells, scores, parts)
        };
        let (cells, scores, parts) = run(backend, slots.len() / 3);
        let (expected_cells, expected, expected_parts) = run(Backend::Scalar, 0);
        assert_eq!(cells, expected_cells, "{backend}, {params:?}");
        let all = scores.iter().chain(parts.iter().flatten()).zip(expected.iter().chain(expected_parts.iter().flatten()));
        all.for_each(|(score, expected)| assert!(same(*score, *expected), "{backend}, {params:?}: {score} is not {expected}"));
        for (row, score) in scores.iter().enumerate() {
            assert_eq!(score.is_nan(), !columns[..wide].iter().all(|column| column[row].is_finite()), "{backend}, row {row}");
            assert!(score.is_nan() || (0.0..=1e9).contains(score), "{backend}, row {row}: {score}");
            let sum: f64 = parts.iter().map(|parts| parts[row].abs()).sum();
            assert!(score.is_nan() || (sum - score).abs() <= 1e-9 * score, "{backend}, row {row}: parts {sum} of {score}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_distances_to_rows_looked_at_one_by_one(
        wide in 1..5_usize, values in prop::collection::vec(-5.0..5.0_f64, 60..300), k in 1..8_u32, more in 3..60_u32, mean in any::<bool>(),
    ) {
        let rows: Vec<Vec<f64>> = values.chunks_exact(wide).map(<[f64]>::to_vec).collect();
        let params = Knn { k, history: k + more, mean, warmup: 6 };
        for backend in Backend::available() {
            let (scores, _) = run(backend, &rows, &params);
            for (row, score) in scores.iter().enumerate() {
                let expected = slow(&rows[..=row], &params);
                prop_assert!((score - expected).abs() < 1e-6 * expected.max(1.0), "{backend}, row {row}: {score} is not {expected}");
            }
        }
    }

    #[test]
    fn a_restored_cell_goes_on_with_the_same_bits(
        wide in 1..4_usize,
        values in prop::collection::vec(prop_oneof![prop::sample::select(FLOATS), (-3..3_i32).prop_map(f64::from), -1e3..1e3_f64], 12..200),
        stop in any::<prop::sample::Index>(), k in 1..5_u32, more in 0..50_u32,
    ) {
        let rows: Vec<Vec<f64>> = values.chunks_exact(wide).map(<[f64]>::to_vec).collect();
        let params = Knn { k, history: k + more, mean: false, warmup: 0 };
        let (stop, columns) = (stop.index(rows.len()), columns(&rows, wide));
        let (mut cells, mut scores) = ([KnnCell::default()], vec![9.0; rows.len()]);
        let mut parts = vec![vec![9.0; rows.len() - stop]; wide];
        let part = |from: usize, to: usize| columns.iter().map(|column| &column[from..to]).collect::<Vec<_>>();
        Backend::best().knn(&mut cells, &vec![0; stop], &part(0, stop), &params, &mut scores[..stop], None);
        let mut restored = [KnnCell::restored(cells[0].scale().clone(), &cells[0].latest(&params), wide, &params).unwrap()];
        prop_assert_eq!(&restored, &cells);
        let slots = vec![0; rows.len() - stop];
        Backend::best().knn(&mut cells, &slots, &part(stop, rows.len()), &params, &mut scores[stop..], Some(&mut parts));
        let (mut again, mut again_parts) = (vec![9.0; slots.len()], vec![vec![9.0; slots.len()]; wide]);
        Backend::best().knn(&mut restored, &slots, &part(stop, rows.len()), &params, &mut again, Some(&mut again_parts));
        prop_assert!(scores[stop..].iter().zip(&again).all(|(a, b)| same(*a, *b)));
        prop_assert!(parts.iter().flatten().zip(again_parts.iter().flatten()).all(|(a, b)| same(*a, *b)));
    }
}

/// A normal deviate, about.
fn normal(n: u64) -> f64 {
    (0..12).map(|k| (scramble(n * 12 + k) >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
}

#[test]
fn a_row_within_a_ring_is_strange_though_it_is_the_mean() {
    let on_the_ring = |n: u64| {
        let angle = scramble(n) as f64 / u64::MAX as f64 * std::f64::consts::TAU;
        vec![50.0 + angle.cos() + 0.02 * normal(n), 1e6 * (angle.sin() + 0.02 * normal(n + 10_000))]
    };
    let mut rows: Vec<Vec<f64>> = (0..3_000).map(on_the_ring).collect();
    rows[2_000] = vec![50.0, 0.0];
    for mean in [false, true] {
        let (scores, _) = run(Backend::best(), &rows, &Knn { k: 5, history: 512, mean, warmup: 50 });
        assert!(scores[2_000] > 0.8, "{}", scores[2_000]);
        let others = scores[500..].iter().enumerate().filter(|(at, _)| *at != 1_500).map(|(_, score)| *score).fold(0.0, f64::max);
        assert!(others < 0.3, "{others}");
    }
}

#[test]
fn the_column_that_is_off_is_named_with_its_way() {
    let mut rows: Vec<Vec<f64>> = (0..1_000).map(|n| vec![normal(n), 5.0, normal(n + 5_000)]).collect();
    (rows[700][2], rows[800][0]) = (-9.0, 9.0);
    let (scores, parts) = run(Backend::best(), &rows, &Knn { k: 3, history: 300, mean: true, warmup: 50 });
    assert!(scores[700] > 3.0 && parts[2][700] < -0.9 * scores[700], "{} of {}", parts[2][700], scores[700]);
    assert!(scores[800] > 3.0 && parts[0][800] > 0.9 * scores[800], "{} of {}", parts[0][800], scores[800]);
    assert!(parts[1].iter().all(|part| *part == 0.0), "what is constant is no part");
}

/// Rows that are like each other are strange until there have been `k`, and again once the history has forgotten them.
#[test]
fn what_was_seen_k_times_is_usual() {
    let rows: Vec<Vec<f64>> = (0..1_000).map(|n| vec![if n % 400 >= 390 { 30.0 } else { normal(n) }]).collect();
    let (scores, _) = run(Backend::best(), &rows, &Knn { k: 4, history: 200, mean: false, warmup: 50 });
    for from in [390, 790] {
        assert!(scores[from..from + 4].iter().all(|score| *score > 2.0), "{:?}", &scores[from..from + 4]);
        assert!(scores[from + 4..from + 10].iter().all(|score| *score == 0.0));
    }
}

#[test]
fn what_is_no_cell_is_not_restored() {
    let params = Knn { k: 2, history: 20, mean: false, warmup: 0 };
    let scale = |count: u64, wide: usize| KnnScale { count, mean: vec![1.0; wide], variance: vec![2.0; wide] };
    assert!(KnnCell::restored(KnnScale::default(), &[], 2, &params).is_some());
    assert!(KnnCell::restored(scale(3, 2), &[1.0; 6], 2, &params).is_some());
    assert!(KnnCell::restored(scale(300, 2), &[1.0; 40], 2, &params).is_some());
    assert!(KnnCell::restored(scale(300, 2), &[1.0; 42], 2, &params).is_none());
    assert!(KnnCell::restored(scale(3, 1), &[1.0; 6], 2, &params).is_none());
    assert!(KnnCell::restored(scale(3, 2), &[f64::NAN; 6], 2, &params).is_none());
    assert!(KnnCell::restored(KnnScale { variance: vec![-1.0; 2], ..scale(3, 2) }, &[1.0; 6], 2, &params).is_none());
}

/// State grows with the rows, to no more than the history takes.
#[test]
fn state_is_what_is_stated() {
    let params = Knn { k: 2, history: 100, mean: false, warmup: 0 };
    let rows: Vec<Vec<f64>> = (0..500).map(|n| vec![normal(n), normal(n + 600)]).collect();
    let columns = columns(&rows, 2);
    let mut cells = [KnnCell::default()];
    Backend::best().knn(&mut cells, &[0; 3], &[&columns[0][..3], &columns[1][..3]], &params, &mut [0.0; 3], None);
    assert_eq!(cells[0].bytes(), (LANES * 2 + 4) * 8);
    Backend::best().knn(&mut cells, &[0; 497], &[&columns[0][3..], &columns[1][3..]], &params, &mut [0.0; 497], None);
    assert_eq!(cells[0].bytes(), (112 * 2 + 4) * 8);
}
