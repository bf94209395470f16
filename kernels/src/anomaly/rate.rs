//! Rate: how many rows a key has in a span of event time, beside how many it had in the spans before.
//!
//! Event time is cut into spans of the same length from the epoch on. Mean and variance of the numbers of a key's rows by span are weighted
//! exponentially (T. Finch, 2009, section 9) with `a`, the variance taken for at least that of a Poisson process, the mean, and for at least 1:
//!
//! ```text
//! score = (n - mean) / deviation      too many: n rows of the span so far, the row's own with them
//!       = (mean - n) / deviation      too few: of the span that the row has ended, or of an empty one since, if that is more
//! a     = max(alpha, 1 / spans so far)
//! ```
//!
//! * *When*: too many rows are told while they come; too few by the first row after the span, for a key without rows has none that could tell. (A
//!   key that falls silent for good is what a heartbeat is for.)
//! * *Warm-up*: rows of the first `warmup` whole spans of a key score 0. The first span, which may have begun before the key, is not learnt from.
//! * *Reset*: after [`MOST_EMPTY`] empty spans the key begins anew.
//! * *Out of order*: a row of an earlier span than its key's latest counts in that.
//! * *Missing values*: a row without a value (null, NaN, infinite) is none.
//!
//! State: 40 bytes a key. Cost: a step a row and one for each empty span. Scores are the same bits whatever the batches; the code is the same
//! on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::stepwise::MOST_SCORE;
use crate::bits::Bits;

/// Empty spans after which a key begins anew.
pub const MOST_EMPTY: i64 = 1_000;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How long a span is, in units of event time: at least 1.
    pub span: i64,
    /// Weight of the newest span, above 0, at most 1.
    pub alpha: f64,
    /// Whole spans whose rows score 0.
    pub warmup: u64,
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateCell {
    /// Number of the latest span.
    pub span: i64,
    /// Rows in it; 0 before the first row.
    pub rows: u64,
    /// Spans that were learnt from, and the one that was not: 0 in the key's first span.
    pub spans: u64,
    /// Mean number of rows in a span.
    pub mean: f64,
    /// Variance of these numbers.
    pub variance: f64,
}

impl RateCell {
    /// How many deviations `rows` lie above what is usual; 0 while too little is known.
    fn above(&self, rows: f64, params: &Rate) -> f64 {
        // The first span is no whole one.
        if self.spans <= params.warmup.max(1) {
            return 0.0;
        }
        ((rows - self.mean) / self.variance.max(self.mean).max(1.0).sqrt()).clamp(-MOST_SCORE, MOST_SCORE)
    }

    /// A span with so many rows is over: how many deviations they lie below what is usual.
    fn end_span(&mut self, rows: u64, params: &Rate) -> f64 {
        let below = -self.above(rows as f64, params);
        self.spans += 1;
        if self.spans > 1 {
            let a = params.alpha.max(1.0 / (self.spans - 1) as f64);
            let diff = rows as f64 - self.mean;
            self.mean += a * diff;
            self.variance = (1.0 - a) * (self.variance + a * diff * diff);
        }
        below
    }

    fn take(&mut self, span: i64, params: &Rate) -> f64 {
        let mut below = 0.0_f64;
        if self.rows == 0 {
            self.span = span;
        } else if span > self.span {
            let empty = span.saturating_sub(self.span) - 1;
            if empty >= MOST_EMPTY {
                *self = RateCell::default();
            } else {
                below = self.end_span(self.rows, params);
                below = (0..empty).fold(below, |most, _| most.max(self.end_span(0, params)));
            }
            (self.span, self.rows) = (span, 0);
        }
        self.rows += 1;
        below.max(self.above(self.rows as f64, params)).max(0.0)
    }
}

/// Scores each row by its event time and takes it into its key's cell. A row whose value is null, NaN or infinite scores NaN and is not counted.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn rate(
    cells: &mut [RateCell],
    slots: &[u32],
    times: &[i64],
    values: &[f64],
    validity: Option<Bits<'_>>,
    params: &Rate,
    scores: &mut [f64],
) {
    assert!(params.span >= 1 && params.alpha > 0.0 && params.alpha <= 1.0, "out of range: {params:?}");
    check_lengths("slots and values", slots.len(), values.len());
    check_lengths("slots and times", slots.len(), times.len());
    check_lengths("values and scores", values.len(), scores.len());
    Bits::check(validity, values.len());
    for (row, (&slot, &time)) in slots.iter().zip(times).enumerate() {
        let valid = values[row].is_finite() && validity.is_none_or(|bits| bits.get(row));
        scores[row] = match valid {
            true => cells[slot as usize].take(time.div_euclid(params.span), params),
            false => f64::NAN,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Rate, RateCell, rate};

    fn scores(times: &[i64], params: &Rate) -> Vec<f64> {
        let (mut cells, mut scores) = ([RateCell::default()], vec![9.0; times.len()]);
        rate(&mut cells, &vec![0; times.len()], times, &vec![1.0; times.len()], None, params, &mut scores);
        scores
    }

    /// How far `n` lies above what whole spans of these numbers of rows make usual, from the weights that the recurrence gives them.
    fn slow_above(spans: &[f64], n: f64, params: &Rate) -> f64 {
        if spans.len() < params.warmup as usize {
            return 0.0;
        }
        let mut weights: Vec<f64> = Vec::new();
        for number in 1..=spans.len() {
            let a = params.alpha.max(1.0 / number as f64);
            weights.iter_mut().for_each(|weight| *weight *= 1.0 - a);
            weights.push(a);
        }
        let mean = spans.iter().zip(&weights).map(|(rows, weight)| rows * weight).sum::<f64>();
        let variance = spans.iter().zip(&weights).map(|(rows, weight)| weight * (rows - mean).powi(2)).sum::<f64>();
        (n - mean) / variance.max(mean).max(1.0).sqrt()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_those_of_lists_of_spans(
            gaps in prop::collection::vec(prop_oneof![6 => 0..4_i64, 1 => 0..60_i64, 1 => -5..0_i64], 1..300), start in -50..50_i64,
        ) {
            let params = Rate { span: 10, alpha: 0.2, warmup: 3 };
            let times: Vec<i64> = gaps.iter().scan(start, |time, gap| { *time += gap; Some(*time) }).collect();
            let scores = scores(&times, &params);
            // Rows by span, from the first one on.
            let (mut spans, first) = (vec![0.0], times[0].div_euclid(10));
            for (row, time) in times.iter().enumerate() {
                let before = spans.len();
                while first + (spans.len() as i64) <= time.div_euclid(10) {
                    spans.push(0.0);
                }
                let latest = spans.len() - 1;
                spans[latest] += 1.0;
                let few = (before - 1..spans.len() - 1).map(|at| if at == 0 { 0.0 } else { -slow_above(&spans[1..at], spans[at], &params) });
                let many = if spans.len() == 1 { 0.0 } else { slow_above(&spans[1..spans.len() - 1], spans[spans.len() - 1], &params) };
                let right = few.fold(0.0, f64::max).max(many);
                prop_assert!((scores[row] - right).abs() < 1e-6 * right.max(1.0), "row {row}: {} is not {right}", scores[row]);
            }
        }
    }

    #[test]
    fn a_burst_is_told_while_it_comes_and_a_lull_by_the_next_row() {
        let params = Rate { span: 100, alpha: 0.05, warmup: 10 };
        // Every 10, but none in the spans 50 to 52 and 40 at once in span 70.
        let mut times: Vec<i64> = (0..10_000).step_by(10).filter(|time| !(5_000..5_300).contains(time)).collect();
        times.extend([7_005; 40]);
        times.sort_unstable();
        let scores = scores(&times, &params);
        let found: Vec<i64> = (0..times.len()).filter(|row| scores[*row] >= 3.0).map(|row| times[row]).collect();
        assert!(found.contains(&5_300) && found.contains(&7_005), "{found:?}");
        assert!(found.iter().all(|time| (7_005..7_100).contains(time) || *time == 5_300), "{found:?}");
        let after_a_long_time = [times.clone(), vec![10_000_000; 30]].concat();
        assert!(
            super::tests::scores(&after_a_long_time, &params)[times.len()..].iter().all(|score| *score == 0.0),
            "the key has begun anew"
        );
    }
}
