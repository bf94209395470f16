//! The detector against a twin that looks at all rows of a key again for each of them, and what it should find.

use proptest::prelude::*;

use super::places::{KnownPlaces, MOST_PLACES};
use super::{Profile, ProfileCell, ProfileHabit, ProfilePart, profile, together};
use crate::anomaly::robust::LatestValues;
use crate::anomaly::travel::great_circle;
use crate::testing::{FLOATS, scramble};

/// Event time, amount, name, place.
type Row = (i64, f64, f64, (f64, f64));

const PARTS: [ProfilePart; 3] = [ProfilePart::Quantity(0), ProfilePart::Name(1), ProfilePart::Place(2, 3)];

fn params() -> Profile {
    Profile { parts: PARTS.to_vec(), day: Some(24), window: 20, warmup: 5, near: 10.0 }
}

/// -ln of the share of values that are at least this one, from the values in any order; and the greatest that is learnt.
fn slow_surprise(values: &[f64], value: f64, least: f64, is_quiet: bool) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let beyond = ((n as f64 / 10.0).ceil() as usize).min(n - 1);
    let (level, greatest) = (sorted[n - 1 - beyond], sorted[n - 1]);
    let mean = sorted[n - beyond..].iter().map(|value| value - level).sum::<f64>() / beyond as f64;
    // A tail of so few values is exponential.
    let scale = mean.max(least).max(0.01 * level.abs()).max(1e-300);
    let reaching = values.iter().filter(|other| **other >= value).count();
    let surprise = -((reaching + 1) as f64 / (n + 1) as f64).ln() + (value - greatest).max(0.0) / scale;
    let most = match (greatest == level, is_quiet) {
        (true, _) => f64::INFINITY,
        (false, true) => greatest,
        (false, false) => greatest + scale * 10.0_f64.ln(),
    };
    (surprise.min(1e12_f64.ln()), most)
}

/// Whether one of the latest two values was beyond those that were known, from where each was: 0 is the latest.
fn is_quiet(beyond: &[bool]) -> bool {
    beyond.iter().rev().take(2).any(|beyond| *beyond)
}

fn latest(values: &[f64]) -> &[f64] {
    &values[values.len().saturating_sub(20)..]
}

/// The scores of the rows of one key.
fn slow(rows: &[Row]) -> Vec<f64> {
    let (mut amounts, mut distances): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut dear, mut cheap, mut distant) = (Vec::new(), Vec::new(), Vec::new());
    let (mut is_new, mut places, mut counts): (Vec<bool>, Vec<(f64, f64)>, [u32; 24]) = (Vec::new(), Vec::new(), [0; 24]);
    let mut scores = Vec::new();
    for (n, &(time, amount, name, place)) in rows.iter().enumerate() {
        let from = (n / 10).saturating_sub(1) * 10;
        is_new.push(rows[from..n].iter().all(|row| row.2 != name));
        let new = is_new[from..n].iter().filter(|is_new| **is_new).count();
        let name_surprise = if is_new[n] { ((n - from + 1) as f64 / (new + 1) as f64).ln() } else { 0.0 };

        let usual = |hour: usize| {
            f64::from(counts[(hour + 23) % 24]) / 4.0 + f64::from(counts[hour]) / 2.0 + f64::from(counts[(hour + 1) % 24]) / 4.0
        };
        let hour = time.rem_euclid(24) as usize;
        let share = |hour: usize| (usual(hour) + 1.0 / 24.0) / f64::from(counts.iter().sum::<u32>() + 1);
        let hour_surprise = -(0..24).filter(|other| usual(*other) <= usual(hour)).map(share).sum::<f64>().ln();
        counts[hour] += 1;
        if counts.iter().sum::<u32>() == 20 {
            counts.iter_mut().for_each(|count| *count /= 2);
        }

        let nearest = places.iter().copied().min_by(|a, b| great_circle(*a, place).total_cmp(&great_circle(*b, place)));
        let distance = nearest.map_or(0.0, |nearest| (great_circle(nearest, place) - 10.0).max(0.0));
        let known = nearest.filter(|nearest| great_circle(*nearest, place) <= 10.0).unwrap_or(place);
        places.retain(|other| *other != known);
        places.insert(0, known);
        places.truncate(MOST_PLACES);

        if n < 5 {
            scores.push(0.0);
            amounts.push(amount);
            distances.push(distance);
            dear.push(false);
            cheap.push(false);
            distant.push(false);
            continue;
        }
        let (above, most) = slow_surprise(latest(&amounts), amount, 0.0, is_quiet(&dear));
        let turned: Vec<f64> = latest(&amounts).iter().map(|amount| -amount).collect();
        let (below, least) = slow_surprise(&turned, -amount, 0.0, is_quiet(&cheap));
        let (far, farthest) = slow_surprise(latest(&distances), distance, 10.0, is_quiet(&distant));
        dear.push(latest(&amounts).iter().all(|other| *other < amount));
        cheap.push(latest(&amounts).iter().all(|other| *other > amount));
        distant.push(latest(&distances).iter().all(|other| *other < distance));
        amounts.push(amount.clamp(-least, most));
        distances.push(distance.min(farthest));
        let x = (above.max(below) - 2.0_f64.ln()).max(0.0) + name_surprise + far + hour_surprise.max(0.0);
        let p = (-x).exp() * (1.0 + x + x * x / 2.0 + x * x * x / 6.0);
        scores.push((-p.log10()).max(0.0));
    }
    scores
}

/// What comes out of the rows of these keys, taken in two batches.
fn scores(rows: &[(u32, Row)], cut: usize, params: &Profile) -> (Vec<f64>, Vec<Vec<f64>>, Vec<ProfileCell>) {
    let (mut cells, mut scores) = (vec![ProfileCell::default(); 3], vec![9.0; rows.len()]);
    let mut attribution = vec![vec![f64::NAN; rows.len()]; 4];
    for part in [0..cut, cut..rows.len()] {
        let rows = &rows[part.clone()];
        let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let times: Vec<i64> = rows.iter().map(|row| row.1.0).collect();
        let columns = [|row: &Row| row.1, |row: &Row| row.2, |row: &Row| row.3.0, |row: &Row| row.3.1]
            .map(|of: fn(&Row) -> f64| rows.iter().map(|row| of(&row.1)).collect::<Vec<f64>>());
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let mut told = vec![vec![f64::NAN; rows.len()]; 4];
        profile(&mut cells, &slots, Some(&times), &columns, params, &mut scores[part.clone()], Some(&mut told));
        attribution.iter_mut().zip(told).for_each(|(all, told)| all[part.clone()].copy_from_slice(&told));
    }
    (scores, attribution, cells)
}

fn is_sound(cell: &ProfileCell, params: &Profile) -> bool {
    let habit = |habit: &ProfileHabit| match habit {
        ProfileHabit::Quantity(quantity) => {
            let values = quantity.values.in_order_of_arrival().collect();
            quantity.is_sound(params.window) && LatestValues::restored(values, params.window as usize).is_some()
        }
        ProfileHabit::Name(names) => names.is_sound(params.window),
        ProfileHabit::Place(known) => {
            let (places, distances) = known.parts();
            KnownPlaces::restored(places, distances.clone()).is_some_and(|restored| restored == *known)
        }
    };
    cell.hours.is_sound(params.window) && cell.habits.iter().all(habit)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_those_of_a_twin_that_looks_at_all_rows_again(
        rows in prop::collection::vec(
            (0..3_u32, (-50..50_i64, prop_oneof![4 => 10.0..20.0_f64, 1 => -5.0..200.0_f64, 1 => Just(12.0)], (0..9_u8).prop_map(f64::from), (50.0..50.5_f64, 8.0..8.5_f64))),
            1..150,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let (scores, attribution, cells) = scores(&rows, cut.index(rows.len()), &params());
        for key in 0..3 {
            let own: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].0 == key).collect();
            let right = slow(&own.iter().map(|row| rows[*row].1).collect::<Vec<Row>>());
            for (&row, right) in own.iter().zip(right) {
                prop_assert!((scores[row] - right).abs() < 1e-9 * right.max(1.0), "row {row}: {} is not {right}", scores[row]);
                let told: f64 = attribution.iter().map(|parts| parts[row].abs()).sum();
                prop_assert!(told <= scores[row] + 1e-9, "row {row}: parts of {told} in a score of {}", scores[row]);
            }
        }
        prop_assert!(cells.iter().all(|cell| is_sound(cell, &params())));
    }

    #[test]
    fn whatever_the_values_scores_are_numbers_from_0_on(
        rows in prop::collection::vec(
            (0..3_u32, (any::<i64>(), prop::sample::select(FLOATS), prop::sample::select(FLOATS), (-100.0..100.0_f64, -200.0..200.0_f64))), 1..200,
        ),
    ) {
        let (scores, _, cells) = scores(&rows, rows.len() / 2, &params());
        for ((_, (_, amount, name, place)), score) in rows.iter().zip(&scores) {
            let is_whole = amount.is_finite() && name.is_finite() && place.0.abs() <= 90.0 && place.1.abs() <= 180.0;
            prop_assert_eq!(score.is_nan(), !is_whole);
            prop_assert!(score.is_nan() || (0.0..100.0).contains(score), "{score}");
        }
        prop_assert!(cells.iter().all(|cell| is_sound(cell, &params())));
    }
}

/// A card that pays 20 to 40 at noon in five shops of a town.
fn usual(rows: u64) -> Vec<(u32, Row)> {
    let row = |n: u64| {
        let random = |salt: u64, most: u64| (scramble(n * 7 + salt) % most) as f64;
        let hour = 10 + (scramble(n * 7 + 3) % 8) as i64;
        (n as i64 * 24 + hour, 20.0 + random(0, 2_001) / 100.0, random(1, 5), (52.5 + random(2, 10) / 1_000.0, 13.4))
    };
    (0..rows).map(|n| (0, row(n))).collect()
}

#[test]
fn a_row_is_the_stranger_the_more_of_its_habits_a_key_breaks_with() {
    let params = Profile { window: 256, warmup: 20, ..params() };
    let mut rows = usual(300);
    let last = rows[299].1;
    let (usual_scores, ..) = scores(&rows, 100, &params);
    assert!(usual_scores[..20].iter().all(|score| *score == 0.0));
    assert!(usual_scores.iter().filter(|score| **score >= 3.0).count() <= 1, "{usual_scores:?}");
    let mut of_last = |row: Row| {
        rows[299].1 = row;
        let (scores, attribution, _) = scores(&rows, 100, &params);
        (scores[299], attribution.iter().map(|parts| parts[299]).collect::<Vec<f64>>())
    };
    let night = (299 * 24 + 3, last.1, last.2, last.3);
    let much = (night.0, 200.0, last.2, last.3);
    let elsewhere = (night.0, 200.0, 77.0, last.3);
    let abroad = (night.0, 200.0, 77.0, (38.72, -9.14));
    let strange = [last, night, much, elsewhere, abroad].map(|row| of_last(row).0);
    assert!(strange.windows(2).all(|pair| pair[1] > pair[0] + 0.3), "{strange:?}");
    assert!(strange[2] > 3.0 && strange[4] > 10.0, "{strange:?}");
    let (score, parts) = of_last(abroad);
    assert!(parts.iter().all(|part| *part > 0.0) && parts[2] == parts[3] && parts.iter().sum::<f64>() < score, "{parts:?} of {score}");
    let (_, parts) = of_last((last.0, 1.0, last.2, last.3));
    assert!(parts[0] < -1.0, "too little: {parts:?}");
}

#[test]
fn a_fraud_does_not_make_the_next_one_usual_but_a_new_habit_is_learnt() {
    let params = Profile { parts: vec![ProfilePart::Quantity(0)], day: None, window: 100, warmup: 20, ..params() };
    let mut rows = usual(400);
    rows[150..153].iter_mut().for_each(|row| row.1.1 = 500.0);
    rows[200..].iter_mut().for_each(|row| row.1.1 *= 5.0);
    let (scores, ..) = scores(&rows, 7, &params);
    assert!(scores[150..153].iter().all(|score| *score > 5.0), "{:?}", &scores[150..153]);
    assert!(scores[200] > 4.0, "{}", scores[200]);
    assert!(scores[320..].iter().all(|score| *score < 3.0), "{:?}", &scores[320..]);
}

#[test]
fn a_score_of_2_is_one_row_in_a_hundred_where_parts_are_independent() {
    let params =
        Profile { parts: vec![ProfilePart::Quantity(0), ProfilePart::Quantity(1)], day: None, window: 1_000, warmup: 100, ..params() };
    let uniform = |n: u64| scramble(n) as f64 / u64::MAX as f64;
    let rows: Vec<(u32, Row)> = (0..20_000).map(|n| (0, (0, uniform(2 * n), -uniform(2 * n + 1).ln(), (0.0, 0.0)))).collect();
    let (scores, ..) = scores(&rows, 1, &params);
    let rare = scores.iter().filter(|score| **score >= 2.0).count();
    // 199 on average, and some 14 more or less.
    assert!((150..250).contains(&rare), "{rare} of 20,000");
}

#[test]
fn shares_are_put_together_by_fishers_method() {
    let ln = 10.0_f64.ln();
    assert!((together(3.0 * ln, 1) - 3.0).abs() < 1e-12);
    // Chi-square of 9.488 with 4 degrees of freedom and of 18.307 with 10: 5%.
    assert!((together(9.487_729 / 2.0, 2) + 0.05_f64.log10()).abs() < 1e-6);
    assert!((together(18.307_038 / 2.0, 5) + 0.05_f64.log10()).abs() < 1e-6);
    assert_eq!(together(0.0, 4), 0.0);
}

#[test]
fn a_name_is_new_again_once_the_window_has_passed() {
    let params = Profile { parts: vec![ProfilePart::Name(1)], day: None, window: 64, warmup: 10, ..params() };
    let mut rows = usual(300);
    [100, 110, 200].into_iter().for_each(|row| rows[row].1.2 = 55.0);
    let (scores, _, cells) = scores(&rows, 50, &params);
    assert!(scores[100] > 1.0 && scores[110] == 0.0 && scores[200] > 1.0, "{scores:?}");
    // Two filters of 32 rows, 8 bits each.
    assert_eq!(cells[0].bytes(), size_of::<ProfileHabit>() + 64);
}
