#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::random::Random;
use super::sampler::{Kept, Sampler};
use super::tree::separation;
use super::{Forest, RandomCutForest};
use crate::Backend;
use crate::testing::{Case, on_every_backend, same, scramble};

const SMALL: RandomCutForest =
    RandomCutForest { number_of_trees: 5, sample_size: 12, time_decay: 0.02, shingle_size: 1, output_after: 3, seed: 7 };

/// A tree of one key, with no box and no number kept: what is known of it follows from its points each time.
enum Slow {
    Point(Vec<f32>, Vec<f64>),
    Cut(usize, f32, Box<Slow>, Box<Slow>),
}

impl Slow {
    fn points(&self) -> Vec<&Vec<f32>> {
        match self {
            Slow::Point(point, _) => vec![point],
            Slow::Cut(_, _, left, right) => [left.points(), right.points()].concat(),
        }
    }

    fn corners(&self) -> (Vec<f32>, Vec<f32>) {
        let points = self.points();
        let of = |best: fn(f32, f32) -> f32| (0..points[0].len()).map(|i| points.iter().map(|p| p[i]).reduce(best).unwrap()).collect();
        (of(f32::min), of(f32::max))
    }

    /// How far a point lies outside, and the sum of the sides.
    fn measure(&self, point: &[f32]) -> (f64, f64) {
        let (low, high) = self.corners();
        let sides = point.iter().zip(low.iter().zip(&high));
        let of = |(x, (low, high)): (&f32, (&f32, &f32))| (f64::from((low - x).max(x - high).max(0.0)), f64::from(high - low));
        sides.map(of).fold((0.0, 0.0), |(outside, sides), (a, b)| (outside + a, sides + b))
    }

    fn insert(self, point: &[f32], weight: f64, random: &mut Random) -> Slow {
        let (outside, sides) = self.measure(point);
        if outside == 0.0
            && let Slow::Point(of, mut weights) = self
        {
            weights.push(weight);
            return Slow::Point(of, weights);
        }
        let corners = self.corners();
        // The draws of what is below come first.
        let mut later = *random;
        if let Slow::Cut(dim, cut, left, right) = &self {
            let child = if point[*dim] > *cut { right } else { left };
            child.spend(point, &mut later);
        }
        let drawn = if outside > 0.0 { later.unit() * (outside + sides) } else { f64::INFINITY };
        if drawn < outside {
            *random = later;
            let (dim, cut) = separation(point, &corners.0, &corners.1, drawn);
            let new = Box::new(Slow::Point(point.to_vec(), vec![weight]));
            let (left, right) = if point[dim as usize] > cut { (Box::new(self), new) } else { (new, Box::new(self)) };
            return Slow::Cut(dim.into(), cut, left, right);
        }
        let Slow::Cut(dim, cut, mut left, mut right) = self else { unreachable!("a leaf is always parted from another point") };
        let child = if point[dim] > cut { &mut right } else { &mut left };
        let taken = std::mem::replace(child, Box::new(Slow::Point(Vec::new(), Vec::new())));
        **child = taken.insert(point, weight, random);
        *random = later;
        Slow::Cut(dim, cut, left, right)
    }

    /// Draws what an insertion draws.
    fn spend(&self, point: &[f32], random: &mut Random) {
        if let Slow::Cut(dim, cut, left, right) = self {
            (if point[*dim] > *cut { right } else { left }).spend(point, random);
        }
        if self.measure(point).0 > 0.0 {
            random.unit();
        }
    }

    fn delete(self, weight: f64) -> Option<Slow> {
        match self {
            Slow::Point(point, mut weights) => {
                weights.retain(|w| *w != weight);
                (!weights.is_empty()).then_some(Slow::Point(point, weights))
            }
            Slow::Cut(dim, cut, left, right) => match (left.delete(weight), right.delete(weight)) {
                (Some(left), Some(right)) => Some(Slow::Cut(dim, cut, Box::new(left), Box::new(right))),
                (one, other) => one.or(other),
            },
        }
    }

    fn score(&self, point: &[f32], depth: usize, all: usize) -> f64 {
        let (outside, sides) = self.measure(point);
        let unseen = 1.0 / (depth as f64 + 1.0);
        match self {
            Slow::Point(_, weights) if outside == 0.0 => {
                let mass = weights.len() as f64;
                (1.0 - mass / (2.0 * all as f64)) / (depth as f64 + (mass + 1.0).log2())
            }
            Slow::Point(..) => unseen,
            Slow::Cut(dim, cut, left, right) => {
                let child = if point[*dim] > *cut { right } else { left };
                let p = outside / (outside + sides);
                p * unseen + (1.0 - p) * child.score(point, depth + 1, all)
            }
        }
    }
}

/// Scores of one key's points by trees that are made with the same random numbers.
fn slow_scores(points: &[Vec<f32>], params: &RandomCutForest) -> Vec<f64> {
    let (size, decay) = (params.sample_size as usize, params.time_decay);
    let mut scores = vec![0.0; points.len()];
    for number in 0..params.number_of_trees {
        let (mut tree, mut sampler) = (None::<Slow>, Sampler::new(Random::of(params.seed, number.into())));
        for (at, point) in points.iter().enumerate() {
            if let (Some(tree), true) = (&tree, at >= params.output_after as usize) {
                let normal = ((sampler.len() + 1) as f64).log2() / f64::from(params.number_of_trees);
                scores[at] += tree.score(point, 0, sampler.len()) * normal;
            }
            if !sampler.takes(at as u64, size) {
                continue;
            }
            let greatest = sampler.kept().iter().map(|kept| kept.weight).fold(f64::NEG_INFINITY, f64::max);
            let (weight, gone) = sampler.make_room(at as u64, size, decay);
            if gone.is_some() {
                tree = tree.and_then(|tree| tree.delete(greatest));
            }
            tree = Some(match tree {
                None => Slow::Point(point.clone(), vec![weight]),
                Some(tree) => tree.insert(point, weight, &mut sampler.random),
            });
            sampler.put(Kept { weight, leaf: 0 }, at as u64, size, decay);
        }
    }
    scores
}

/// Values of few kinds, so that points repeat, whose sums are exact.
fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(
        prop_oneof![(0..6_i32).prop_map(f64::from), (-256..256_i32).prop_map(|n| f64::from(n) / 64.0), Just(100.0)],
        1..160,
    )
}

fn run(backend: Backend, columns: &[&[f64]], params: &RandomCutForest, batch: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (rows, mut forests) = (columns[0].len(), [Forest::default()]);
    let (mut scores, mut shares) = (Vec::new(), vec![Vec::new(); columns.len()]);
    for from in (0..rows).step_by(batch) {
        let until = rows.min(from + batch);
        let columns: Vec<&[f64]> = columns.iter().map(|column| &column[from..until]).collect();
        let (mut own, mut parts) = (vec![9.0; until - from], vec![Vec::new(); columns.len()]);
        backend.random_cut_forest(&mut forests, &vec![0; until - from], &columns, params, &mut own, Some(&mut parts));
        scores.extend(own);
        shares.iter_mut().zip(parts).for_each(|(shares, parts)| shares.extend(parts));
    }
    (scores, shares)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_those_of_trees_that_are_made_anew_each_time(
        values in values(), other in values(), columns in 1..3_usize, shingle_size in 1..5_u32, decay in prop_oneof![Just(0.0), Just(0.03)],
        batch in 1..50_usize,
    ) {
        let rows = values.len().min(other.len());
        let params = RandomCutForest { shingle_size, time_decay: decay, ..SMALL };
        let columns = &[&values[..rows], &other[..rows]][..columns];
        let row = |row: usize| columns.iter().map(move |column| (column[row] - column[0]) as f32);
        let points: Vec<Vec<f32>> =
            (0..rows + 1).skip(shingle_size as usize).map(|end| (end - shingle_size as usize..end).flat_map(row).collect()).collect();
        let expected = slow_scores(&points, &params);
        for backend in Backend::available() {
            let (scores, shares) = run(backend, columns, &params, batch);
            let early = rows - expected.len();
            prop_assert!(scores[..early].iter().all(|score| *score == 0.0));
            for (score, expected) in scores[early..].iter().zip(&expected) {
                prop_assert!((score - expected).abs() < 1e-5, "{backend}: {score} is not {expected}");
            }
            for (row, score) in scores.iter().enumerate() {
                let sum: f64 = shares.iter().map(|shares| shares[row].abs()).sum();
                prop_assert!((sum - score).abs() < 1e-5, "{backend}: shares add up to {sum}, the score is {score}");
            }
        }
    }

    #[test]
    fn bytes_make_the_forest_again_and_damage_is_noticed(values in values(), cut in any::<prop::sample::Index>(), flipped in 1..=255_u8) {
        let params = RandomCutForest { shingle_size: 2, ..SMALL };
        let mut forests = [Forest::default()];
        let score = |forests: &mut [Forest]| {
            let mut scores = vec![9.0; values.len()];
            Backend::best().random_cut_forest(forests, &vec![0; values.len()], &[&values, &values], &params, &mut scores, None);
            scores
        };
        score(&mut forests);
        let bytes = forests[0].to_bytes();
        let mut again = [Forest::from_bytes(&bytes, 2, &params).unwrap()];
        prop_assert_eq!(&again[0].to_bytes(), &bytes);
        prop_assert_eq!(score(&mut again), score(&mut forests));
        prop_assert_eq!(again[0].to_bytes(), forests[0].to_bytes());
        let at = cut.index(bytes.len());
        prop_assert!(Forest::from_bytes(&bytes[..at], 2, &params).is_none());
        let mut damaged = bytes.clone();
        damaged[at] ^= flipped;
        if let Some(mut forest) = Forest::from_bytes(&damaged, 2, &params).map(|forest| [forest]) {
            score(&mut forest);
        }
    }
}

on_every_backend!(scores, super::check_scores);

fn check_scores(backend: Backend, case: &Case) {
    let groups = case.groups.min(5);
    let slots: Vec<u32> = case.slots.iter().map(|slot| slot % groups).collect();
    let turned: Vec<f64> = case.floats.iter().rev().copied().collect();
    let params = RandomCutForest { number_of_trees: 2, sample_size: 6, shingle_size: 3, ..SMALL };
    let run = |backend: Backend, split: usize| {
        let (mut forests, mut scores) = (vec![Forest::default(); groups as usize], vec![9.0; slots.len()]);
        let (first, second) = scores.split_at_mut(split);
        backend.random_cut_forest(&mut forests, &slots[..split], &[&case.floats[..split], &turned[..split]], &params, first, None);
        backend.random_cut_forest(&mut forests, &slots[split..], &[&case.floats[split..], &turned[split..]], &params, second, None);
        scores
    };
    let (scores, expected) = (run(backend, slots.len() / 3), run(Backend::Scalar, 0));
    for (row, (score, expected)) in scores.iter().zip(&expected).enumerate() {
        assert!(same(*score, *expected), "{backend}: {score} is not {expected}");
        assert_eq!(score.is_nan(), !(case.floats[row].is_finite() && turned[row].is_finite()));
    }
}

on_every_backend!(scores_as_it_stands, super::check_frozen);

/// A row alone scores as it would if it were taken in, and is not taken in.
fn check_frozen(backend: Backend, case: &Case) {
    let (known, rows) = case.floats.split_at(case.floats.len().min(50) / 2);
    let rows = &rows[..rows.len().min(50)];
    let params = RandomCutForest { number_of_trees: 2, sample_size: 6, shingle_size: 1, ..SMALL };
    for params in [params, RandomCutForest { shingle_size: 3, ..params }] {
        let mut forests = [Forest::default()];
        let mut ignored = vec![0.0; known.len()];
        backend.random_cut_forest(&mut forests, &vec![0; known.len()], &[known, known], &params, &mut ignored, None);
        let [forest] = forests;
        let mut scores = vec![9.0; rows.len()];
        backend.forest_scores(&forest, &[rows, rows], &params, &mut scores);
        // With a shingle, the rows are those after the latest; only the first follows what was taken in alone.
        let alone = if params.shingle_size == 1 { rows.len().min(4) } else { rows.len().min(1) };
        for (row, score) in rows[..alone].iter().zip(&scores) {
            let (mut learns, mut expected) = ([forest.clone()], [9.0]);
            Backend::Scalar.random_cut_forest(&mut learns, &[0], &[&[*row], &[*row]], &params, &mut expected, None);
            let silent = forest.count < u64::from(params.output_after).max(1) && !expected[0].is_nan();
            assert!(same(*score, if silent { 0.0 } else { expected[0] }), "{backend}: {score} is not {}", expected[0]);
        }
        let mut expected = vec![9.0; rows.len()];
        Backend::Scalar.forest_scores(&forest, &[rows, rows], &params, &mut expected);
        assert!(scores.iter().zip(&expected).all(|(score, expected)| same(*score, *expected)), "{backend}");
    }
}

/// Normally distributed numbers.
fn normal(n: u64) -> f64 {
    (0..12).map(|k| (scramble(n * 12 + k) >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
}

#[test]
fn a_point_far_off_scores_high_and_its_column_is_blamed_with_direction() {
    let (mut a, mut b): (Vec<f64>, Vec<f64>) = (0..3_000).map(|n| (1e9 + normal(n), normal(n + 9_000))).unzip();
    (a[2_500], b[2_700]) = (1e9 - 15.0, 15.0);
    let params = RandomCutForest { number_of_trees: 50, sample_size: 256, time_decay: 1.0 / 2560.0, output_after: 64, ..SMALL };
    let (scores, shares) = run(Backend::best(), &[&a, &b], &params, 1_000);
    assert!(scores[..64].iter().all(|score| *score == 0.0));
    let mean = scores[1_000..2_000].iter().sum::<f64>() / 1_000.0;
    assert!((0.7..1.2).contains(&mean), "{mean}");
    let usual = scores.iter().enumerate().filter(|(row, _)| ![2_500, 2_700].contains(row)).map(|(_, score)| *score).fold(0.0, f64::max);
    for (row, column, sign) in [(2_500, 0, -1.0), (2_700, 1, 1.0)] {
        assert!(scores[row] > 1.3 * usual, "{} at {row}, {usual} elsewhere", scores[row]);
        assert!(shares[column][row] * sign > 0.85 * scores[row], "{}", shares[column][row]);
    }
}

#[test]
fn a_new_level_is_learnt_as_the_sample_ages() {
    let values: Vec<f64> = (0..20_000).map(|n| normal(n) + if n < 10_000 { 0.0 } else { 50.0 }).collect();
    let params = RandomCutForest { number_of_trees: 30, sample_size: 128, time_decay: 1.0 / 1280.0, output_after: 32, ..SMALL };
    let (scores, _) = run(Backend::best(), &[&values], &params, 4_096);
    let mean = |from: usize| scores[from..from + 900].iter().sum::<f64>() / 900.0;
    assert!(scores[10_000] > 3.0 * mean(9_000), "{} {}", scores[10_000], mean(9_000));
    assert!(mean(19_000) < 1.1 * mean(9_000), "{} {}", mean(19_000), mean(9_000));
}

#[test]
fn samples_are_of_the_age_that_the_decay_makes_whether_drawn_one_by_one_or_ahead() {
    let (size, decay, points) = (64, 0.002, 4_000_u64);
    let (mut ahead, mut one_by_one) = ([0.0; 2], [0.0; 2]);
    for number in 0..60 {
        let mut sampler = Sampler::new(Random::of(3, number));
        let (mut plain, mut random, mut numbers) = (Vec::new(), Random::of(4, number), vec![0_u64; 0]);
        let mut taken = 0.0;
        for point in 0..points {
            plain.push(((-random.unit().ln()).ln() - decay * point as f64, point));
            plain.sort_by(|a, b| a.0.total_cmp(&b.0));
            plain.truncate(size);
            one_by_one[1] += f64::from(u8::from(point >= 1_000 && plain.iter().any(|kept| kept.1 == point)));
            if sampler.takes(point, size) {
                let (weight, gone) = sampler.make_room(point, size, decay);
                let leaf = gone.unwrap_or(sampler.len() as u16);
                numbers.resize(size, 0);
                numbers[usize::from(leaf)] = point;
                sampler.put(Kept { weight, leaf }, point, size, decay);
                taken += f64::from(u8::from(point >= 1_000));
            }
        }
        ahead[0] += numbers.iter().map(|number| (points - number) as f64).sum::<f64>() / size as f64;
        ahead[1] += taken;
        one_by_one[0] += plain.iter().map(|kept| (points - kept.1) as f64).sum::<f64>() / size as f64;
    }
    for (ahead, one_by_one) in ahead.iter().zip(one_by_one) {
        assert!((ahead / one_by_one - 1.0).abs() < 0.05, "{ahead} {one_by_one}");
    }
}

#[test]
#[should_panic = "a forest of 1 dimensions is given points of 2"]
fn points_of_other_dimensions_are_refused() {
    let mut forests = [Forest::default()];
    let (mut scores, column) = ([0.0; 3], &[1.0, 2.0, 3.0][..]);
    Backend::best().random_cut_forest(&mut forests, &[0; 3], &[column], &SMALL, &mut scores, None);
    Backend::best().random_cut_forest(&mut forests, &[0; 3], &[column; 2], &SMALL, &mut scores, None);
}

#[test]
fn equal_values_score_half() {
    let (scores, shares) = run(Backend::best(), &[&[5.0; 40]], &SMALL, 7);
    assert!(scores[3..].iter().all(|score| (score - 0.5).abs() < 1e-6), "{scores:?}");
    assert!((shares[0][20] - 0.5).abs() < 1e-6);
}
