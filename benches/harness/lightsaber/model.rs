//! The right answers: every window from running totals in whole numbers, which are exact.

use std::collections::HashMap;

use super::bundle::Bundle;
use crate::answer::Answer;

/// Values have three decimals at most.
const SCALE: f64 = 1_000.0;

/// The values of a row by their names.
pub type Values<'a> = &'a dyn Fn(&str) -> f64;

/// What a row is to a query: its key and its values; none if the query leaves it out.
pub type Row = Option<(Vec<i64>, [f64; 3])>;

/// The rows of one key in one window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Group {
    pub count: i64,
    sums: [i64; 3],
    /// The time of the last row.
    pub latest: i64,
}

impl Group {
    pub fn sum(&self, value: usize) -> f64 {
        self.sums[value] as f64 / SCALE
    }

    pub fn mean(&self, value: usize) -> f64 {
        self.sum(value) / self.count as f64
    }
}

/// A row of the bundle: the number of its key, and its values times [`SCALE`].
type Scaled = (usize, [i64; 3]);

/// What `emit` makes of the groups of all windows of `size` that begin every `slide`, over `laps` laps.
pub fn answer(
    bundle: &Bundle,
    laps: usize,
    (size, slide): (i64, i64),
    row: impl Fn(Values<'_>) -> Row,
    emit: impl Fn(&mut Answer, &[Group]),
) -> Answer {
    let mut keys: HashMap<Vec<i64>, usize> = HashMap::new();
    let mut units: HashMap<i64, Vec<Scaled>> = HashMap::new();
    for number in 0..bundle.rows() {
        let value = |name: &str| bundle.value(number, name);
        if let Some((key, values)) = row(&value) {
            let next = keys.len();
            let key = *keys.entry(key).or_insert(next);
            units.entry(value("ts") as i64).or_default().push((key, values.map(|value| (value * SCALE).round() as i64)));
        }
    }
    let first = units.keys().copied().min().unwrap_or_default();
    let last = units.keys().copied().max().unwrap_or_default() + bundle.lap * (laps as i64 - 1);
    // The times of a bundle may begin with zero or one; it is one lap up to the next.
    let rows_at = |time: i64| {
        let lap = (time - first).div_euclid(bundle.lap);
        let in_bundle = (0..laps as i64).contains(&lap).then(|| time - lap * bundle.lap);
        in_bundle.and_then(|time| units.get(&time)).map_or(&[][..], Vec::as_slice)
    };
    let mut groups = vec![Group::default(); keys.len()];
    let (mut answer, mut live) = (Answer::default(), Vec::new());
    let mut start = (first - size).div_euclid(slide) * slide + slide;
    let (mut added, mut removed) = (start, start);
    while start <= last {
        for time in std::mem::replace(&mut removed, start)..start {
            for (key, values) in rows_at(time) {
                groups[*key].count -= 1;
                groups[*key].sums.iter_mut().zip(values).for_each(|(sum, value)| *sum -= value);
            }
        }
        for time in std::mem::replace(&mut added, start + size)..start + size {
            for (key, values) in rows_at(time) {
                groups[*key].count += 1;
                groups[*key].latest = time;
                groups[*key].sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        live.clear();
        live.extend(groups.iter().filter(|group| group.count > 0));
        if !live.is_empty() {
            emit(&mut answer, &live);
        }
        start += slide;
    }
    answer
}
