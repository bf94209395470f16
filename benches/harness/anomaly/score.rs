//! The score of NAB, version 1.1 (A. Lavin and S. Ahmad, "Evaluating real-time anomaly detection algorithms – the Numenta Anomaly
//! Benchmark", ICMLA 2015): a detection within a window counts the more the earlier it is, only the best of a window counts; one
//! outside costs the more the further it is past the window before it.
//!
//! ```text
//! inside, `left` rows before the window's end:   σ(-left / width) / σ(-1)        σ(y) = 2 / (1 + exp(5y)) - 1,  -1 for y > 3
//! `past` rows behind the window before:          σ(past / (width - 1)),  -1 before the first window
//! score = 100 · (sum - null) / (perfect - null),  null: nothing detected
//! ```
//!
//! The first 15% of a file, 750 rows at most, do not count.

use crate::anomaly::nab::Series;

/// Weights of a profile: of a window found, of one missed, of a false detection.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub found: f64,
    pub missed: f64,
    pub false_alarm: f64,
}

/// NAB's profiles: standard, reward low rate of false positives, reward low rate of false negatives.
pub const PROFILES: [Profile; 3] = [
    Profile { found: 1.0, missed: 1.0, false_alarm: 0.11 },
    Profile { found: 1.0, missed: 1.0, false_alarm: 0.22 },
    Profile { found: 1.0, missed: 2.0, false_alarm: 0.11 },
];

fn sigmoid(y: f64) -> f64 {
    if y > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 }
}

/// A row that counts: its score, what a detection there is worth, and the number of its window.
#[derive(Debug, Clone, Copy)]
struct Row {
    score: f64,
    worth: f64,
    window: Option<usize>,
}

/// The rows of all files that count.
pub struct Scored {
    /// By falling score.
    rows: Vec<Row>,
    /// Windows of all files, and those that have a row that counts.
    windows: usize,
    within_reach: usize,
}

/// A score and where it was reached.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    pub score: f64,
    pub threshold: f64,
}

impl Scored {
    /// `scores` has those of each series, in order; NaN is no score.
    pub fn new(series: &[Series], scores: &[Vec<f64>]) -> Scored {
        let (mut rows, mut windows) = (Vec::new(), 0);
        for (series, scores) in series.iter().zip(scores) {
            let all = worths(series.values.len(), &series.windows, windows).into_iter().zip(scores);
            let skipped = (0.15 * series.values.len() as f64).floor().min(750.0) as usize;
            let row = |((worth, window), &score): ((f64, Option<usize>), &f64)| Row {
                score: if score.is_nan() { f64::NEG_INFINITY } else { score },
                worth,
                window,
            };
            rows.extend(all.skip(skipped).map(row));
            windows += series.windows.len();
        }
        let mut reached: Vec<usize> = rows.iter().filter_map(|row| row.window).collect();
        reached.sort_unstable();
        reached.dedup();
        rows.sort_by(|a, b| b.score.total_cmp(&a.score));
        Scored { rows, windows, within_reach: reached.len() }
    }

    /// The normalised score after each threshold, from the highest on.
    fn curve(&self, profile: Profile) -> impl Iterator<Item = Best> {
        let null = -profile.missed * self.within_reach as f64;
        let perfect = profile.found * self.windows as f64;
        let mut best = vec![-profile.missed; self.windows];
        let mut total = null;
        let normalised = move |total: f64| 100.0 * (total - null) / (perfect - null);
        let groups = self.rows.chunk_by(|a, b| a.score == b.score).map(move |group| {
            for row in group {
                total += match row.window {
                    None => row.worth * profile.false_alarm,
                    Some(window) => {
                        let gain = (row.worth * profile.found - best[window]).max(0.0);
                        best[window] += gain;
                        gain
                    }
                };
            }
            Best { score: normalised(total), threshold: group[0].score }
        });
        std::iter::once(Best { score: 0.0, threshold: f64::INFINITY }).chain(groups)
    }

    /// With the one threshold for all files that serves best.
    pub fn best(&self, profile: Profile) -> Best {
        self.curve(profile).reduce(|a, b| if b.score > a.score { b } else { a }).unwrap_or(Best { score: 0.0, threshold: f64::INFINITY })
    }

    /// The composite F1 with the one threshold for all files that serves best: the harmonic mean of the share of detections that lie within a window
    /// and of the share of windows that have one (A. Garg, W. Zhang, J. Samaran, R. Savitha and C.-S. Foo, "An evaluation of anomaly detection and
    /// diagnosis in multivariate time series", TNNLS 33(6), 2022).
    pub fn event_f1(&self) -> Best {
        let (mut found, mut windows, mut inside, mut all) = (vec![false; self.windows], 0.0, 0.0, 0.0);
        let f1 = self.rows.chunk_by(|a, b| a.score == b.score).map(|group| {
            for row in group {
                all += 1.0;
                inside += f64::from(u8::from(row.window.is_some()));
                if row.window.is_some_and(|window| !std::mem::replace(&mut found[window], true)) {
                    windows += 1.0;
                }
            }
            let (precision, recall) = (inside / all, windows / self.windows.max(1) as f64);
            let score = if inside > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
            Best { score, threshold: group[0].score }
        });
        f1.reduce(|a, b| if b.score > a.score { b } else { a }).unwrap_or(Best { score: 0.0, threshold: f64::INFINITY })
    }

    /// With a threshold that was set beforehand.
    pub fn at(&self, threshold: f64, profile: Profile) -> f64 {
        self.curve(profile).take_while(|point| point.threshold >= threshold).last().map_or(0.0, |point| point.score)
    }
}

/// What a detection at each row is worth, and the number of its window, counted from `first`.
fn worths(rows: usize, windows: &[(usize, usize)], first: usize) -> Vec<(f64, Option<usize>)> {
    let mut worths = vec![(-1.0, None); rows];
    for (number, &(start, end)) in windows.iter().enumerate() {
        let width = (end - start + 1) as f64;
        let next = windows.get(number + 1).map_or(rows, |next| next.0);
        for (row, worth) in worths.iter_mut().enumerate().take(next).skip(start) {
            *worth = if row <= end {
                (sigmoid(-((end - row + 1) as f64) / width) / sigmoid(-1.0), Some(first + number))
            } else {
                (sigmoid((row - end) as f64 / (width - 1.0)), None)
            };
        }
    }
    worths
}

#[cfg(test)]
mod tests {
    use super::{PROFILES, Scored, sigmoid};
    use crate::anomaly::nab::Series;

    fn series(windows: Vec<(usize, usize)>) -> Series {
        Series { name: "a".to_owned(), timestamps: Vec::new(), values: vec![0.0; 100], windows }
    }

    fn scored(detected: &[(usize, f64)]) -> Scored {
        let mut scores = vec![f64::NAN; 100];
        detected.iter().for_each(|&(row, score)| scores[row] = score);
        Scored::new(&[series(vec![(40, 49), (80, 89)])], &[scores])
    }

    #[test]
    fn detections_at_the_starts_of_windows_are_perfect_and_none_are_nothing() {
        for profile in PROFILES {
            assert!((scored(&[(40, 1.0), (80, 1.0)]).best(profile).score - 100.0).abs() < 1e-9);
            assert_eq!(scored(&[]).best(profile).score, 0.0);
            // The first rows do not count.
            assert_eq!(scored(&[(14, 2.0)]).at(1.0, profile), 0.0);
        }
    }

    #[test]
    fn a_case_worked_by_hand() {
        // Row 45 is 5 rows from the end of a window of 10, row 52 is 3 past one of 9 steps, row 20 before all.
        let scored = scored(&[(45, 5.0), (47, 6.0), (52, 4.0), (20, 3.0)]);
        let found = sigmoid(-0.5) / sigmoid(-1.0);
        let at = |threshold| scored.at(threshold, PROFILES[0]);
        let normal = |total: f64| 100.0 * (total + 2.0) / 4.0;
        assert!((at(5.0) - normal(found - 1.0)).abs() < 1e-9);
        assert!((at(4.0) - normal(found - 1.0 + 0.11 * sigmoid(3.0 / 9.0))).abs() < 1e-9);
        assert!((at(3.0) - normal(found - 1.0 + 0.11 * (sigmoid(3.0 / 9.0) - 1.0))).abs() < 1e-9);
        let best = scored.best(PROFILES[0]);
        assert_eq!((best.threshold, best.score), (5.0, at(5.0)));
        // Rows 47 and 45 lie in one of two windows, row 52 in none: the first alone is as good as both.
        let f1 = scored.event_f1();
        assert_eq!((f1.threshold, f1.score), (6.0, 2.0 / 3.0));
    }
}
