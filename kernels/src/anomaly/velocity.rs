//! Velocity: how many rows a key has in spans of event time that end with the row, and how much they come to.
//!
//! ```text
//! rows_w  = rows of the key with a time in (t - w, t], this one included       t: the row's time
//! sum_w   = sum of their values
//! score   = greatest of rows_w / most rows, sum_w / most sum                   over all limits, each with its window w
//! ```
//!
//! So from 1 on a limit is reached. All windows are counted in one pass over the rows of the longest.
//!
//! * *Warm-up*: none; a key's first row counts as one.
//! * *Missing values*: a row without a value (NaN or infinite) scores NaN and does not count.
//! * *Out of order*: rows count at their times, those that came before; a row counts no row of a later time. One that comes the longest window or
//!   more after a later one counts alone, and is not kept.
//! * *Bound*: of a key its latest `most_rows` rows are kept, so that it counts no more.
//!
//! State: 16 bytes for each row in the longest window, a key. Scores are the same bits whatever the batches; the code is the same on every backend.

use std::collections::VecDeque;

use crate::aggregate::check_lengths;
use crate::anomaly::stepwise::MOST_SCORE;

/// What a key's rows in a span of event time should not reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The span, in units of event time; above 0.
    pub window: i64,
    /// Rows that reach the limit; above 0, infinite for none.
    pub rows: f64,
    /// Sum of values that reaches the limit; above 0, infinite for none.
    pub sum: f64,
}

/// Parameters of the detector.
#[derive(Clone, Debug, PartialEq)]
pub struct Velocity {
    /// The limits, in order of their windows; at least one.
    pub limits: Vec<Limit>,
    /// How many rows of a key are kept; above 0.
    pub most_rows: usize,
}

/// The rows of a key in its longest window, in order of their times, of equal ones in order of arrival; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecentRows {
    /// Times and values.
    pub rows: VecDeque<(i64, f64)>,
}

impl RecentRows {
    /// Adds a row and scores it.
    fn add(&mut self, time: i64, value: f64, params: &Velocity) -> f64 {
        let place = self.rows.partition_point(|(other, _)| *other <= time);
        self.rows.insert(place, (time, value));
        let (mut count, mut sum, mut score) = (0.0, 0.0, 0.0_f64);
        let mut before = self.rows.range(..=place).rev().peekable();
        for limit in &params.limits {
            while let Some((_, value)) = before.next_if(|(other, _)| time.abs_diff(*other) < limit.window as u64) {
                count += 1.0;
                sum += value;
            }
            score = score.max(count / limit.rows).max(sum / limit.sum);
        }
        let (newest, longest) = (self.rows[self.rows.len() - 1].0, params.limits[params.limits.len() - 1].window as u64);
        while self.rows.front().is_some_and(|(oldest, _)| newest.abs_diff(*oldest) >= longest) || self.rows.len() > params.most_rows {
            self.rows.pop_front();
        }
        score.min(MOST_SCORE)
    }
}

/// Scores each row by how far it and its key's rows before it go towards the limits. Returns for how many more rows, of 16 bytes each, there is room
/// now; room is not given back.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn velocity(cells: &mut [RecentRows], slots: &[u32], times: &[i64], values: &[f64], params: &Velocity, scores: &mut [f64]) -> usize {
    let is_limit = |limit: &Limit| limit.window > 0 && limit.rows > 0.0 && limit.sum > 0.0;
    let is_ordered = params.limits.is_sorted_by_key(|limit| limit.window);
    assert!(
        !params.limits.is_empty() && params.limits.iter().all(is_limit) && is_ordered && params.most_rows > 0,
        "out of range: {params:?}"
    );
    check_lengths("slots and times", slots.len(), times.len());
    check_lengths("slots and values", slots.len(), values.len());
    check_lengths("slots and scores", slots.len(), scores.len());
    let mut more = 0;
    for (((&slot, &time), &value), score) in slots.iter().zip(times).zip(values).zip(scores) {
        let cell = &mut cells[slot as usize];
        let room = cell.rows.capacity();
        *score = if value.is_finite() { cell.add(time, value, params) } else { f64::NAN };
        more += cell.rows.capacity() - room;
    }
    more
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Limit, RecentRows, Velocity, velocity};

    fn limits() -> Vec<Limit> {
        vec![
            Limit { window: 5, rows: 3.0, sum: f64::INFINITY },
            Limit { window: 20, rows: f64::INFINITY, sum: 8.0 },
            Limit { window: 60, rows: 10.0, sum: 40.0 },
        ]
    }

    type Row = (u32, i64, Option<i32>);

    /// The score of a row by looking at all rows before it.
    fn slow(rows: &[Row], row: usize) -> f64 {
        let (key, time, Some(_)) = rows[row] else { return f64::NAN };
        let score = |limit: Limit| {
            let newest = rows[..row].iter().filter(|other| other.0 == key && other.2.is_some()).map(|other| other.1).max();
            let kept = |other: i64| newest.is_none_or(|newest| newest - other < 60);
            let counted =
                rows[..row].iter().filter(|other| other.0 == key && other.1 <= time && time - other.1 < limit.window && kept(other.1));
            let values: Vec<f64> = counted.chain([&rows[row]]).filter_map(|other| other.2).map(f64::from).collect();
            (values.len() as f64 / limit.rows).max(values.iter().sum::<f64>() / limit.sum).max(0.0)
        };
        limits().into_iter().map(score).fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_what_looking_at_all_rows_gives(
            steps in prop::collection::vec((0..3_u32, -30..12_i64, prop::option::weighted(0.9, -3..9_i32)), 1..120), cut in any::<prop::sample::Index>(),
        ) {
            let mut now = 0;
            let rows: Vec<Row> = steps.iter().map(|&(key, step, value)| {
                now += step.max(0);
                (key, now + step.min(0), value)
            }).collect();
            let params = Velocity { limits: limits(), most_rows: 1_000 };
            let (slots, times): (Vec<u32>, Vec<i64>) = rows.iter().map(|row| (row.0, row.1)).unzip();
            let values: Vec<f64> = rows.iter().map(|row| row.2.map_or(f64::NAN, f64::from)).collect();
            let (mut cells, mut scores, cut) = (vec![RecentRows::default(); 3], vec![9.0; rows.len()], cut.index(rows.len()));
            for part in [0..cut, cut..rows.len()] {
                velocity(&mut cells, &slots[part.clone()], &times[part.clone()], &values[part.clone()], &params, &mut scores[part]);
            }
            for (row, score) in scores.iter().enumerate() {
                let right = slow(&rows, row);
                prop_assert!(score.to_bits() == right.to_bits() || (score - right).abs() < 1e-12, "row {row}: {score} is not {right}");
            }
        }
    }

    #[test]
    fn no_more_rows_are_kept_than_may_be() {
        let params = Velocity { limits: vec![Limit { window: 100, rows: 1.0, sum: f64::INFINITY }], most_rows: 4 };
        let (mut cells, mut scores) = ([RecentRows::default()], [0.0; 10]);
        let more = velocity(&mut cells, &[0; 10], &[i64::MIN, -5, 0, 1, 2, 3, 4, 5, 6, i64::MAX], &[1.0; 10], &params, &mut scores);
        assert_eq!(scores, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0, 1.0]);
        assert_eq!((cells[0].rows.len(), cells[0].rows.capacity()), (1, more));
    }
}
