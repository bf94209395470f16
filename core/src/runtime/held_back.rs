//! Why windows do not fire: who holds the watermark back, and since when.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::Unit;

/// How often a pipeline looks who holds it back: often enough for whoever asks, too seldom to cost anything.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The earliest window that waits, and the partition that it waits for. Its text says what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBack {
    /// The end of the earliest window that waits, in event time; of rolling windows the instant after the earliest row that
    /// waits. It fires when the watermark reaches the instant before.
    pub window_end: i64,
    /// Event time up to which all rows have come, over all partitions; `None` before the first.
    pub watermark: Option<i64>,
    /// The partition that holds the watermark back; `None` if no partition is open, or event time is the clock's.
    pub partition: Option<SlowPartition>,
    /// What event times count, from the Unix epoch on.
    pub unit: Unit,
    pub(super) cause: Cause,
    /// The clock's reading at which all this was so.
    pub(super) at: u64,
}

/// The partition that holds a watermark back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowPartition {
    /// What the source calls it: a file's path, a client's address; else its number.
    pub name: String,
    /// Event time up to which all its rows have come; `None` before the first.
    pub watermark: Option<i64>,
    /// How long ago, by the clock, it last had rows, or began if it had none.
    pub quiet_for: Duration,
}

/// Why the watermark stands where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Event time is the clock's.
    Clock,
    /// No partition is open.
    NoPartition,
    /// The partition has had no rows and is not idle yet.
    NoRows,
    /// This column has not said more.
    Unpunctuated(String),
    /// All partitions are idle.
    AllIdle,
    /// All partitions have been quiet so long that event time goes on with the clock.
    GoesOn,
    /// The rows of the partition have come no further.
    Behind,
}

impl HeldBack {
    /// The same when the clock has gone on to `now`.
    pub(super) fn aged(mut self, now: u64) -> HeldBack {
        if let Some(partition) = &mut self.partition {
            partition.quiet_for += Duration::from_nanos(now.saturating_sub(self.at));
        }
        HeldBack { at: now.max(self.at), ..self }
    }
}

/// A time that has been rounded for the reader.
fn about(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64)
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the window that ends at {} waits for the watermark, ", self.unit.date(self.window_end))?;
        match self.watermark {
            Some(watermark) => write!(f, "which is at {}", self.unit.date(watermark))?,
            None => f.write_str("which has not begun")?,
        }
        if let Some(SlowPartition { name, watermark, quiet_for }) = &self.partition {
            let (began, quiet) = (self.cause != Cause::NoRows, about(*quiet_for));
            write!(f, ": partition {name} ")?;
            match (watermark, began) {
                (Some(watermark), _) => write!(f, "is at {} and last had rows {quiet:?} ago", self.unit.date(*watermark))?,
                (None, true) => write!(f, "last had rows {quiet:?} ago")?,
                (None, false) => write!(f, "has had no rows since it began {quiet:?} ago")?,
            }
        }
        match &self.cause {
            Cause::Clock => f.write_str("; it follows the clock, and the window fires when that passes its end"),
            Cause::NoPartition => {
                f.write_str(": no partition is open; it goes on when rows come, or, with `advance_after`, with the clock")
            }
            Cause::NoRows => {
                f.write_str("; send it rows or close it, or set a shorter `idle_timeout` so that the others need not wait for it")
            }
            Cause::Unpunctuated(column) => write!(f, "; it goes on when a row of that partition says so in `{column}`"),
            Cause::AllIdle => f.write_str("; every partition is idle: it goes on when rows come, or, with `advance_after`, with the clock"),
            Cause::GoesOn => f.write_str("; as every partition is quiet, it goes on with the clock"),
            Cause::Behind => f.write_str(
                "; it goes on with the rows of that partition: if they come but are behind, look at their event times or set a \
                 shorter `max_delay`; if they stay away, set a shorter `idle_timeout` so that the others need not wait for them",
            ),
        }
    }
}

/// The last look, for other threads to read.
pub(super) type SharedHeldBack = Arc<Mutex<Option<HeldBack>>>;

/// Looks now and then who holds a pipeline back, tells other threads, and warns when that goes on for long.
pub(super) struct Watch {
    shared: SharedHeldBack,
    /// The clock's reading from which on another look is due.
    next: u64,
    /// Nanoseconds from which on it warns.
    limit: u64,
    /// Where the watermark was at the last look, and since when windows have waited for it there.
    watermark: Option<i64>,
    since: Option<u64>,
    warned: bool,
}

impl Watch {
    pub fn new(limit: Duration) -> Watch {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Watch { shared: SharedHeldBack::default(), next: 0, limit, watermark: None, since: None, warned: false }
    }

    pub fn shared(&self) -> SharedHeldBack {
        Arc::clone(&self.shared)
    }

    /// Whether another look is due.
    pub fn is_due(&self, now: u64) -> bool {
        now >= self.next
    }

    /// Takes note of what was found at `now`. Returns how long windows have waited for a watermark that stands still, once in
    /// each time that it does for longer than the limit.
    pub fn look(&mut self, found: Option<&HeldBack>, now: u64) -> Option<Duration> {
        self.next = now.saturating_add(LOOK_EVERY.as_nanos() as u64);
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = found.cloned();
        let watermark = found.and_then(|held| held.watermark);
        if found.is_none() || watermark != self.watermark {
            (self.watermark, self.since, self.warned) = (watermark, found.map(|_| now), false);
            return None;
        }
        let waited = now.saturating_sub(*self.since.get_or_insert(now));
        let warns = waited >= self.limit && !self.warned;
        self.warned |= warns;
        warns.then(|| Duration::from_nanos(waited))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn held(watermark: Option<i64>, cause: Cause) -> HeldBack {
        let partition = SlowPartition { name: "a.csv".to_owned(), watermark, quiet_for: Duration::from_millis(1_500) };
        HeldBack { window_end: 2_000, watermark, partition: Some(partition), unit: Unit::Millisecond, cause, at: 7 }
    }

    #[test]
    fn it_says_who_and_what_to_do() {
        let text = held(Some(1_250), Cause::Behind).to_string();
        assert!(text.starts_with(
            "the window that ends at 1970-01-01 00:00:02 waits for the watermark, which is at 1970-01-01 00:00:01.250: \
             partition a.csv is at 1970-01-01 00:00:01.250 and last had rows 1.5s ago; it goes on with the rows of that partition"
        ));
        assert!(text.contains("`idle_timeout`"), "{text}");
        let text = held(None, Cause::NoRows).aged(500_000_007).to_string();
        assert!(text.contains("which has not begun: partition a.csv has had no rows since it began 2s ago; send it rows"), "{text}");
        let text = held(None, Cause::Unpunctuated("done".to_owned())).to_string();
        assert!(
            text.contains("partition a.csv last had rows 1.5s ago; it goes on when a row of that partition says so in `done`"),
            "{text}"
        );
    }

    #[test]
    fn it_warns_once_each_time_the_watermark_stands_still() {
        let mut watch = Watch::new(Duration::from_secs(60));
        let second = 1_000_000_000;
        let (first, later) = (held(Some(1), Cause::Behind), held(Some(2), Cause::Behind));
        assert_eq!(watch.look(Some(&first), 100 * second), None, "it has waited for no time, however late the clock");
        assert!(!watch.is_due(100 * second + 1) && watch.is_due(101 * second));
        assert_eq!(watch.look(Some(&first), 159 * second), None);
        assert_eq!(watch.look(Some(&first), 160 * second), Some(Duration::from_secs(60)));
        assert_eq!(watch.look(Some(&first), 300 * second), None, "said already");
        assert_eq!(watch.look(Some(&later), 301 * second), None);
        assert_eq!(watch.look(None, 400 * second), None, "nothing waits");
        assert_eq!(watch.look(Some(&later), 500 * second), None);
        assert_eq!(watch.look(Some(&later), 560 * second), Some(Duration::from_secs(60)));
        assert_eq!(watch.shared().lock().unwrap().as_ref(), Some(&later));
    }
}
