//! Event time, durations and clocks.
//!
//! Event time is an `i64` count of [`Unit`]s since the Unix epoch. The engine never reads the clock of the
//! machine outside of this file: whatever needs one is given a [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::TimeUnit;
use arrow::temporal_conversions::{timestamp_ms_to_datetime, timestamp_ns_to_datetime, timestamp_us_to_datetime};

use crate::error::{Error, Result};

/// The unit in which a stream counts its event time. Seconds are widened to milliseconds at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Unit {
    /// 10⁻³ s.
    #[default]
    Millisecond,
    /// 10⁻⁶ s.
    Microsecond,
    /// 10⁻⁹ s.
    Nanosecond,
}

impl Unit {
    /// How many of this unit make a second.
    pub const fn per_second(self) -> i64 {
        match self {
            Unit::Millisecond => 1_000,
            Unit::Microsecond => 1_000_000,
            Unit::Nanosecond => 1_000_000_000,
        }
    }

    /// Arrow's name for this unit.
    pub const fn arrow(self) -> TimeUnit {
        match self {
            Unit::Millisecond => TimeUnit::Millisecond,
            Unit::Microsecond => TimeUnit::Microsecond,
            Unit::Nanosecond => TimeUnit::Nanosecond,
        }
    }

    /// A moment for the reader: date and time in UTC, or the number where no calendar reaches.
    pub fn date(self, time: i64) -> String {
        let date = match self {
            Unit::Millisecond => timestamp_ms_to_datetime(time),
            Unit::Microsecond => timestamp_us_to_datetime(time),
            Unit::Nanosecond => timestamp_ns_to_datetime(time),
        };
        date.map_or_else(|| time.to_string(), |date| date.to_string())
    }

    /// A duration in this unit.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the duration is not a whole number of units or does not fit.
    pub fn count(self, duration: Duration) -> Result<i64> {
        let nanos = duration.as_nanos();
        let step = 1_000_000_000 / self.per_second() as u128;
        if !nanos.is_multiple_of(step) {
            return Err(Error::config(format!(
                "{duration:?} is not a whole number of the event time's unit ({self:?}); use a finer unit or a longer duration"
            )));
        }
        i64::try_from(nanos / step).map_err(|_| Error::config(format!("{duration:?} is too long")))
    }
}

/// `n` milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `n` seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` minutes.
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// `n` hours.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3_600 * n)
}

/// Reads a duration such as `"500ms"`, `"1.5s"`, `"10 min"`, `"2h"`, `"1d"`, `"250us"` or `"10ns"`.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if the text is not a number followed by a known unit.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let bad = || Error::config(format!("`{text}` is not a duration; write for example \"500ms\", \"1s\", \"10min\", \"1h\" or \"1d\""));
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
    let (number, unit) = trimmed.split_at(split);
    let nanos_per_unit: u64 = match unit.trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" | "sec" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(bad()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let mut nanos = whole.checked_mul(nanos_per_unit).ok_or_else(bad)?;
    let mut scale = nanos_per_unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(u64::from(digit.checked_sub(b'0').ok_or_else(bad)?) * scale).ok_or_else(bad)?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// A source of time: the machine's or a simulation's.
pub trait Clock: Send + Sync {
    /// Nanoseconds since an arbitrary start; never goes back.
    fn monotonic(&self) -> u64;
    /// Nanoseconds since the Unix epoch; may jump.
    fn wall(&self) -> i64;
    /// Returns when so much time has passed: for what can only be asked about now and then.
    fn sleep(&self, duration: Duration);
}

/// A clock that parts of the engine share.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// This machine's clock, ready to share.
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock(Instant::now()))
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn wall(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that moves only when told to or slept by, for tests and simulations.
#[derive(Debug, Default)]
pub struct SimulatedClock(AtomicU64);

impl SimulatedClock {
    /// A clock that stands at zero.
    pub fn shared() -> Arc<SimulatedClock> {
        Arc::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn monotonic(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn wall(&self) -> i64 {
        self.monotonic() as i64
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        for (text, nanos) in
            [("500ms", 500_000_000), ("1.5s", 1_500_000_000), ("10 min", 600_000_000_000), ("1d", 86_400_000_000_000), ("7ns", 7)]
        {
            assert_eq!(parse_duration(text).unwrap().as_nanos(), nanos, "{text}");
        }
        for text in ["", "5", "ms", "-1s", "1.2.3s", "1 fortnight", "99999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_told_as_dates() {
        assert_eq!(Unit::Millisecond.date(-1), "1969-12-31 23:59:59.999");
        assert_eq!(Unit::Nanosecond.date(1_000_000_000), "1970-01-01 00:00:01");
        assert_eq!(Unit::Millisecond.date(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn a_duration_finer_than_the_unit_is_refused() {
        assert_eq!(Unit::Millisecond.count(millis(500)).unwrap(), 500);
        assert!(Unit::Millisecond.count(Duration::from_micros(1)).is_err());
        assert_eq!(Unit::Nanosecond.count(secs(1)).unwrap(), 1_000_000_000);
    }
}
