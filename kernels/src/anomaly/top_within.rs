//! Rank of a score among its key's in a span of event time: which rows are the strangest of the last hour.
//!
//! ```text
//! rank = 1 + how many scores before it with a time in (T - span, T] are at least as high       T: the latest time of the key so far, its own included
//! ```
//!
//! So a constant score is never at the top. Only ranks up to `k` are told, so that few scores need be kept: one goes once `k` are as late and as high,
//! since all of these are in every span that it is in. Kept are the rows that fewer than `k` dominate (D. Papadias et al., "Progressive skyline computation
//! in database systems", 2005, the K-skyband), in a window that slides (K. Mouratidis, S. Bakiras and D. Papadias, "Continuous monitoring of top-k
//! queries over sliding windows", 2006): of `n` scores in any order some k · (1 + ln(n / k)).
//!
//! * *Warm-up*: there is no rank before a whole span has passed since the earliest score of the key, nor where the span has fewer than `k` scores before
//!   it: whatever the next one is, it is among the `k` highest.
//! * *Missing values*: a row without a score, NaN, has no rank and changes nothing.
//! * *Out of order*: a row that comes behind its key's latest is ranked in the span that ends with the latest. One that comes a whole span or more behind
//!   has no rank and is not kept.
//! * *Bound*: of a key `most_rows` scores are kept; beyond these, as when scores fall throughout, the oldest is forgotten.
//!
//! State: 24 bytes for each score that is kept. Ranks are the same whatever the batches; the code is the same on every backend.

use std::collections::VecDeque;

use crate::aggregate::check_lengths;
use crate::anomaly::top::NO_RANK;

/// Among which scores ranks are told, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopWithin {
    /// The greatest rank that is told; above 0.
    pub k: u32,
    /// The span, in units of event time; above 0.
    pub span: i64,
    /// Scores of a key that are kept; at least `k`.
    pub most_rows: usize,
}

/// A score that is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptScore {
    /// Its event time.
    pub time: i64,
    /// The score, finite.
    pub score: f64,
    /// How many are as late and as high: below `k`.
    pub dominated_by: u32,
}

/// The scores of a key that can still be among the highest of a span; the default is a key not yet seen.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentScores {
    /// The earliest time of any of its scores; the greatest number if there was none.
    pub earliest: i64,
    /// Those kept, in order of their times, of equal ones in order of arrival. The last has the latest time of all.
    kept: VecDeque<KeptScore>,
}

impl Default for RecentScores {
    fn default() -> RecentScores {
        RecentScores { earliest: i64::MAX, kept: VecDeque::new() }
    }
}

impl RecentScores {
    /// The scores that are kept, in order.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = &KeptScore> {
        self.kept.iter()
    }

    /// The scores that these are, if they can be of a key.
    pub fn restored(earliest: i64, kept: impl IntoIterator<Item = KeptScore>, params: &TopWithin) -> Option<RecentScores> {
        let kept: VecDeque<KeptScore> = kept.into_iter().collect();
        let is_score = |kept: &KeptScore| kept.score.is_finite() && kept.dominated_by < params.k && kept.time >= earliest;
        let is_sound = kept.len() <= params.most_rows && kept.iter().all(is_score) && kept.iter().is_sorted_by_key(|kept| kept.time);
        is_sound.then_some(RecentScores { earliest, kept })
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.kept.capacity() * size_of::<KeptScore>()
    }

    /// Ranks a score, then takes it in.
    fn rank(&mut self, time: i64, score: f64, params: &TopWithin) -> u32 {
        let TopWithin { k, span, most_rows } = *params;
        self.earliest = self.earliest.min(time);
        let latest = self.kept.back().map_or(time, |last| last.time.max(time));
        let is_within = |time: i64| latest.abs_diff(time) < span as u64;
        while self.kept.front().is_some_and(|first| !is_within(first.time)) {
            self.kept.pop_front();
        }
        if !is_within(time) {
            return NO_RANK;
        }
        // The latest k of those that are as high are kept, whatever goes, so that these counts are right up to k.
        let (known, place) = (self.kept.len(), self.kept.partition_point(|other| other.time <= time));
        let (mut higher, mut dominated_by, mut is_one_dominated) = (0, 0, false);
        for (at, other) in self.kept.iter_mut().enumerate() {
            if other.score >= score {
                higher += 1;
                dominated_by += u32::from(at >= place);
            }
            if at < place && other.score <= score {
                other.dominated_by += 1;
                is_one_dominated |= other.dominated_by >= k;
            }
        }
        if dominated_by < k {
            self.kept.insert(place, KeptScore { time, score, dominated_by });
        }
        if is_one_dominated {
            self.kept.retain(|kept| kept.dominated_by < k);
        }
        if self.kept.len() > most_rows {
            self.kept.pop_front();
        }
        let is_told = known >= k as usize && higher < k && !is_within(self.earliest);
        if is_told { 1 + higher } else { NO_RANK }
    }
}

/// The rank of each score among those of its key within the span, [`NO_RANK`] where there is none or it is above `k`; then the score is one of them.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn rank_within(cells: &mut [RecentScores], slots: &[u32], times: &[i64], scores: &[f64], params: &TopWithin, ranks: &mut [u32]) {
    assert!(params.k > 0 && params.span > 0 && params.most_rows >= params.k as usize, "out of range: {params:?}");
    check_lengths("slots and times", slots.len(), times.len());
    check_lengths("slots and scores", slots.len(), scores.len());
    check_lengths("scores and ranks", scores.len(), ranks.len());
    for (((&slot, &time), &score), rank) in slots.iter().zip(times).zip(scores).zip(ranks) {
        *rank = NO_RANK;
        if !score.is_nan() {
            // Scores are finite where they are kept; adding 0 makes one zero of both.
            *rank = cells[slot as usize].rank(time, score.clamp(f64::MIN, f64::MAX) + 0.0, params);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{KeptScore, RecentScores, TopWithin, rank_within};
    use crate::anomaly::top::NO_RANK;

    type Row = (u32, i64, f64);

    /// The rank of a row by looking at all rows of its key before it.
    fn slow(rows: &[Row], row: usize, params: &TopWithin) -> u32 {
        let (key, time, score) = rows[row];
        let before: Vec<&Row> = rows[..row].iter().filter(|other| other.0 == key && !other.2.is_nan()).collect();
        let times = || before.iter().map(|other| other.1).chain([time]);
        let (earliest, latest) = (times().min().unwrap(), times().max().unwrap());
        let within: Vec<f64> = before.iter().filter(|other| latest - other.1 < params.span).map(|other| other.2).collect();
        let rank = 1 + within.iter().filter(|other| **other >= score).count() as u32;
        let is_told = !score.is_nan() && latest - time < params.span && latest - earliest >= params.span;
        if is_told && within.len() >= params.k as usize && rank <= params.k { rank } else { NO_RANK }
    }

    fn again(cell: &RecentScores, params: &TopWithin) -> RecentScores {
        RecentScores::restored(cell.earliest, cell.kept().copied(), params).unwrap()
    }

    fn scores() -> impl Strategy<Value = f64> {
        let few = (0..9_i32).prop_map(f64::from);
        prop_oneof![6 => few, 6 => 0.0..9.0_f64, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-0.0)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranks_are_what_looking_at_all_rows_gives(
            steps in prop::collection::vec((0..3_u32, -30..8_i64, scores()), 1..200),
            k in 1..6_u32, span in 1..60_i64, cut in any::<prop::sample::Index>(),
        ) {
            let mut now = 0;
            let rows: Vec<Row> = steps.iter().map(|&(key, step, score)| {
                now += step.max(0);
                // Some rows come late, most a little.
                (key, now + step.min(0) / (1 + i64::from(key)), score)
            }).collect();
            let params = TopWithin { k, span, most_rows: 1_000 };
            let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
            let times: Vec<i64> = rows.iter().map(|row| row.1).collect();
            let scores: Vec<f64> = rows.iter().map(|row| row.2).collect();
            let (mut cells, mut ranks, cut) = (vec![RecentScores::default(); 3], vec![9; rows.len()], cut.index(rows.len()));
            for part in [0..cut, cut..rows.len()] {
                rank_within(&mut cells, &slots[part.clone()], &times[part.clone()], &scores[part.clone()], &params, &mut ranks[part]);
                // What is kept is the same key again.
                cells = cells.iter().map(|cell| again(cell, &params)).collect();
            }
            for (row, rank) in ranks.iter().enumerate() {
                prop_assert_eq!(*rank, slow(&rows, row, &params), "row {}", row);
            }
        }

        #[test]
        fn no_more_scores_are_kept_than_may_be(scores in prop::collection::vec(0.0..9.0_f64, 1..100), falls in any::<bool>(), k in 1..5_u32) {
            let params = TopWithin { k, span: 1_000, most_rows: 8 };
            let fall = |row: usize| if falls { 100.0 * row as f64 } else { 0.0 };
            let scores: Vec<f64> = scores.iter().enumerate().map(|(row, score)| score - fall(row)).collect();
            let times: Vec<i64> = (0..scores.len() as i64).collect();
            let mut cells = [RecentScores::default()];
            rank_within(&mut cells, &vec![0; scores.len()], &times, &scores, &params, &mut vec![0; scores.len()]);
            prop_assert!(cells[0].kept().len() <= 8);
            if falls {
                let kept: Vec<i64> = cells[0].kept().map(|kept| kept.time).collect();
                prop_assert_eq!(&kept[..], &times[scores.len().saturating_sub(8)..], "the oldest go");
            }
        }
    }

    #[test]
    fn of_many_scores_few_are_kept() {
        let params = TopWithin { k: 5, span: 10_000, most_rows: 8_192 };
        let scores: Vec<f64> = (0..30_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64).collect();
        let times: Vec<i64> = (0..30_000).collect();
        let mut cells = [RecentScores::default()];
        rank_within(&mut cells, &vec![0; 30_000], &times, &scores, &params, &mut vec![0; 30_000]);
        // Some 5 · (1 + ln 2,000) = 43.
        assert!((5..150).contains(&cells[0].kept().len()), "{}", cells[0].kept().len());
    }

    #[test]
    fn times_at_the_ends_of_the_scale_do_not_overflow() {
        let params = TopWithin { k: 1, span: 10, most_rows: 4 };
        let (mut cells, mut ranks) = ([RecentScores::default()], [9; 4]);
        rank_within(&mut cells, &[0; 4], &[i64::MIN, i64::MAX, i64::MIN, i64::MAX], &[1.0, 2.0, 9.0, 3.0], &params, &mut ranks);
        assert_eq!(ranks, [NO_RANK, NO_RANK, NO_RANK, 1]);
    }

    #[test]
    fn what_cannot_be_of_a_key_is_not_restored() {
        let params = TopWithin { k: 2, span: 10, most_rows: 2 };
        let kept = |time, score, dominated_by| KeptScore { time, score, dominated_by };
        let restored = |kept: &[KeptScore]| RecentScores::restored(3, kept.iter().copied(), &params).is_some();
        assert!(restored(&[kept(3, 1.0, 1), kept(4, 2.0, 0)]));
        assert!(!restored(&[kept(2, 1.0, 0)]), "before the earliest");
        assert!(!restored(&[kept(4, 1.0, 0), kept(3, 2.0, 0)]), "out of order");
        assert!(!restored(&[kept(3, 1.0, 2)]), "one that has gone");
        assert!(!restored(&[kept(3, f64::INFINITY, 0)]));
        assert!(!restored(&[kept(3, 1.0, 0); 3]), "too many");
    }
}
