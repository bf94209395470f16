//! What to detect, and when a score is an anomaly.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::operator::detect::DetectorSpec;

/// The score from which a row is an anomaly unless another is given, or the detector has its own: in units of standard deviations.
pub const DEFAULT_THRESHOLD: f64 = 4.0;

/// Least rate of false alarms that can be asked for: rarer scores are not told apart by what is known of a key.
pub const LEAST_RATE: f64 = 1.0 / 32_768.0;

/// Most rows among which the strangest are looked for.
const MOST_LATEST: u32 = 1 << 16;

/// How many of the rows in a span of event time can be asked for at most.
pub const MOST_TOP_WITHIN: u32 = 1_024;

/// Scores that are kept of a key at most for the strangest in a span of event time: enough for 1,024 of a million in any order, some
/// k · (1 + ln(n / k)) of `n`. They are 0.2 MB.
pub const MOST_SCORES_WITHIN: usize = 8_192;

// A rank is told where there are k others.
const _: () = assert!(MOST_SCORES_WITHIN > MOST_TOP_WITHIN as usize);

/// How long the rows of a key that score no higher than the first row of an event belong to that event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refractory {
    /// Rows of the key that have a score, after the first; with 0 no row is held back.
    Rows(u64),
    /// Event time, before or after that of the first.
    Time(Duration),
}

impl From<u64> for Refractory {
    fn from(rows: u64) -> Refractory {
        Refractory::Rows(rows)
    }
}

impl From<Duration> for Refractory {
    fn from(time: Duration) -> Refractory {
        Refractory::Time(time)
    }
}

impl fmt::Display for Refractory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refractory::Rows(rows) => write!(f, "{rows} rows"),
            Refractory::Time(time) => write!(f, "{time:?}"),
        }
    }
}

/// Which rows of a key the strangest are looked for among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Its latest, so many.
    Rows(u32),
    /// Those in a span of event time that ends with the latest of them.
    Time(Duration),
}

impl From<u32> for Among {
    fn from(rows: u32) -> Among {
        Among::Rows(rows)
    }
}

impl From<Duration> for Among {
    fn from(time: Duration) -> Among {
        Among::Time(time)
    }
}

/// Which rows are anomalies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// Those of at least this score.
    Threshold(f64),
    /// Those whose p is at most this.
    FalseAlarmRate(f64),
    /// Those among the so many strangest of the latest rows, or of those in a span of event time.
    Top(u32),
}

/// What to detect: a detector, the columns that it watches, the keys that have a history of their own, and which rows are
/// anomalies. See [`detect`](crate::operator::detect).
#[derive(Debug, Clone)]
pub struct Detection {
    pub(super) detector: Arc<dyn DetectorSpec>,
    pub(super) on: Vec<String>,
    pub(super) by: Vec<String>,
    threshold: Option<f64>,
    false_alarm_rate: Option<f64>,
    /// How many rows are anomalies, and of which.
    top: Option<(u32, Among)>,
    with_p: bool,
    refractory: Option<Refractory>,
    pub(super) region: Option<u32>,
    pub(super) ttl: Option<Duration>,
    pub(super) expected: bool,
    pub(super) attribution: bool,
}

impl Detection {
    /// Detection by `detector`; name the columns with [`Detection::on`].
    pub fn new(detector: impl DetectorSpec + 'static) -> Detection {
        Detection {
            detector: Arc::new(detector),
            on: Vec::new(),
            by: Vec::new(),
            threshold: None,
            false_alarm_rate: None,
            top: None,
            with_p: false,
            refractory: None,
            region: None,
            ttl: None,
            expected: false,
            attribution: false,
        }
    }

    /// The detector alone, to score rows outside of a stream.
    pub fn detector(&self) -> &dyn DetectorSpec {
        &*self.detector
    }

    /// Watches these columns: together, if the detector does so, else each by itself, a row's score being the greatest of theirs.
    pub fn on<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Detection {
        self.on = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Gives each key made of these columns a history of its own.
    pub fn by<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Detection {
        self.by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The score from which a row is an anomaly; without it the detector's own, [`DEFAULT_THRESHOLD`] if it has none.
    pub fn threshold(mut self, threshold: f64) -> Detection {
        self.threshold = Some(threshold);
        self
    }

    /// Makes anomalies of the rows whose `p` is at most `rate`, in place of a threshold, and adds the column `p`: where nothing
    /// unusual happens, a share of about `rate` of a key's rows is. A key has no anomaly before it has 1/`rate` rows.
    pub fn false_alarm_rate(mut self, rate: f64) -> Detection {
        self.false_alarm_rate = Some(rate);
        self
    }

    /// Makes anomalies of the rows whose score is among the `k` highest of their key's rows of late, their own with them, in place of a threshold.
    /// Give rows (`100`, the key's latest) or a span of event time (`mins(60)`: a row at `t` is judged among those in (t − 1 h, t]). About `k` of
    /// so many rows are, or `k` in such a span, unless scores rise and fall together. Of equal scores the earlier ones count as higher.
    ///
    /// A row is judged when it comes, by the rows before it: which rows of a window will have been its strangest is known only at its end.
    ///
    /// * **Rows**: a key has no anomaly before it has so many scores. 16 bytes of state for each of the rows, a key; 65,536 at most.
    /// * **Time**: a key has no anomaly before a whole span has passed since its first score, nor where it has no `k` other scores in the span,
    ///   of which any row is among the highest. A row that comes late is judged in the span that ends with its key's latest event time, and is
    ///   no anomaly if it is a span or more behind that. 24 bytes of state for each score that can still be among the highest, some k · (1 + ln(n / k))
    ///   of `n` in the span, a key; of more than [`MOST_SCORES_WITHIN`] the oldest is forgotten. `k` is [`MOST_TOP_WITHIN`] at most.
    ///
    /// Source of the latter: [`thalweg_kernels::anomaly::top_within`].
    pub fn top_k(mut self, k: u32, among: impl Into<Among>) -> Detection {
        self.top = Some((k, among.into()));
        self
    }

    /// Adds the column `p`: the share of the key's earlier scores that were at least as high. It costs some 40 ns a row and 1.1 kB of state
    /// a key, which is why it is not always there.
    pub fn with_p(mut self) -> Detection {
        self.with_p = true;
        self
    }

    /// Takes neighbouring anomalies of a key for one event, and adds the column `event_score`: a row's score if it begins an event
    /// or scores higher than the event's rows before it, else 0. Anomalies are then those rows alone. Give rows (`128`, of the
    /// key) or a span of event time; `0` holds nothing back, not even where the detector would.
    pub fn refractory(mut self, span: impl Into<Refractory>) -> Detection {
        self.refractory = Some(span.into());
        self
    }

    /// Adds the column `region`: the score smoothed exponentially over about so many rows of the key (alpha = 2 / (rows + 1)), high
    /// throughout a long event. 8 bytes of state a key.
    pub fn region(mut self, rows: u32) -> Detection {
        self.region = Some(rows);
        self
    }

    /// Forgets a key once event time is more than `ttl` past its latest row; if more rows of it come, it begins anew, as if it had never been
    /// seen. Bounds the state where keys come and go. 8 bytes of state a key.
    pub fn ttl(mut self, ttl: Duration) -> Detection {
        self.ttl = Some(ttl);
        self
    }

    /// Adds the column `expected`: the value that the detector expected, before it saw the row. Not every detector expects one.
    pub fn with_expected(mut self) -> Detection {
        self.expected = true;
        self
    }

    /// Adds the column `attribution`: the part of each watched column in the score, above 0 where the value is too high, below 0 where it is
    /// too low. Not every detector can tell.
    pub fn with_attribution(mut self) -> Detection {
        self.attribution = true;
        self
    }

    /// Checks that the detector can tell what is asked of it.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it cannot.
    pub(super) fn check_told(&self) -> Result<()> {
        let spec = &self.detector;
        let signs = spec.tells_attribution() || spec.tells_expected() && !spec.is_joint();
        let asked = [("expected", self.expected && !spec.tells_expected()), ("attribution", self.attribution && !signs)];
        match asked.iter().find(|(_, missing)| *missing) {
            Some((what, _)) => Err(Error::config(format!(
                "{spec} cannot tell `{what}`; leave it out, or use a detector that can: the table of detectors says which do"
            ))),
            None => Ok(()),
        }
    }

    /// The columns that make a key.
    pub(crate) fn keys(&self) -> &[String] {
        &self.by
    }

    /// The score from which a row is an anomaly, unless that goes by a rate of false alarms: what was asked for, else the detector's own.
    pub fn score_threshold(&self) -> f64 {
        self.threshold.unwrap_or_else(|| self.detector.threshold())
    }

    /// Which rows are anomalies.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if two ways are given, or one out of range.
    pub(super) fn rule(&self) -> Result<Rule> {
        if let Some((k, among)) = self.top {
            if self.threshold.is_some() || self.false_alarm_rate.is_some() {
                return Err(Error::config(
                    "`top_k` says which rows are anomalies, as `threshold` and `false_alarm_rate` do; give one of them",
                ));
            }
            return match among {
                Among::Rows(rows) if k < 1 || k >= rows || rows > MOST_LATEST => Err(Error::config(format!(
                    "`top_k` is {k} of {rows} rows; at least 1, of more than that and at most {MOST_LATEST} are wanted"
                ))),
                Among::Time(span) if !(1..=MOST_TOP_WITHIN).contains(&k) || span.is_zero() => {
                    Err(Error::config(format!("`top_k` is {k} within {span:?}; from 1 to {MOST_TOP_WITHIN} are wanted, of a span above 0")))
                }
                _ => Ok(Rule::Top(k)),
            };
        }
        match (self.threshold, self.false_alarm_rate) {
            (Some(_), Some(_)) => {
                Err(Error::config("`threshold` and `false_alarm_rate` both say which rows are anomalies; give one of them"))
            }
            (Some(threshold), None) if threshold.is_nan() => Err(Error::config("`threshold` is NaN; it must be a number")),
            (None, Some(rate)) if !(LEAST_RATE..1.0).contains(&rate) => {
                Err(Error::config(format!("`false_alarm_rate` is {rate}; it must lie between {LEAST_RATE:.6} (1 in 32768) and 1")))
            }
            (None, Some(rate)) => Ok(Rule::FalseAlarmRate(rate)),
            (_, None) => Ok(Rule::Threshold(self.score_threshold())),
        }
    }

    /// How many of the strangest are looked for, and among which rows, if they are.
    pub(super) fn top(&self) -> Option<(u32, Among)> {
        self.top
    }

    /// Whether `p` is wanted.
    pub(super) fn wants_p(&self) -> bool {
        self.with_p || self.false_alarm_rate.is_some()
    }

    /// What holds rows back, if anything does.
    pub(super) fn held_back(&self) -> Option<Refractory> {
        self.refractory.or_else(|| self.detector.refractory()).filter(|span| *span != Refractory::Rows(0))
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on [{}] by [{}]", self.detector, self.on.join(", "), self.by.join(", "))?;
        match (self.false_alarm_rate, self.top) {
            (Some(rate), _) => write!(f, ", false alarm rate {rate}")?,
            (None, Some((k, Among::Rows(rows)))) => write!(f, ", top {k} of {rows} rows")?,
            (None, Some((k, Among::Time(span)))) => write!(f, ", top {k} within {span:?}")?,
            (None, None) => write!(f, ", threshold {}", self.score_threshold())?,
        }
        if self.with_p && self.false_alarm_rate.is_none() {
            f.write_str(", with p")?;
        }
        if let Some(span) = self.held_back() {
            write!(f, ", refractory {span}")?;
        }
        if let Some(rows) = self.region {
            write!(f, ", region {rows}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, ", ttl {ttl:?}")?;
        }
        f.write_str(if self.expected { ", with expected" } else { "" })?;
        f.write_str(if self.attribution { ", with attribution" } else { "" })
    }
}
