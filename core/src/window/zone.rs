//! Days by the clock of one place.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Duration, LocalResult, NaiveDate, TimeZone, Utc};

use crate::error::{Error, Result};
use crate::time::Unit;

const SECONDS_PER_DAY: i64 = 86_400;

/// Seconds from the Unix epoch, either way, that dates reach: some 250,000 years. Beyond, days are those of UTC.
const REACH: i64 = 8_000_000_000_000;

/// Most minutes by which a clock is put forward at midnight.
const LONGEST_GAP: i64 = 24 * 60;

/// A time zone whose days are numbered from 1970-01-01 there. Days are given as if each had 24 hours, in units of event time, so
/// that whole numbers of them are reckoned with as any other length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone {
    zone: Tz,
    per_second: i64,
}

impl Zone {
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if there is no such time zone.
    pub fn new(name: &str, unit: Unit) -> Result<Zone> {
        let zone = name.parse().map_err(|_| {
            Error::config(format!("there is no time zone `{name}`; write a name such as `Europe/Berlin`, or an offset such as `+05:30`"))
        })?;
        Ok(Zone { zone, per_second: unit.per_second() })
    }

    fn day(&self) -> i64 {
        SECONDS_PER_DAY * self.per_second
    }

    /// The instant so many seconds after the Unix epoch, where dates reach.
    fn instant(seconds: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(seconds, 0).filter(|_| seconds.abs() < REACH)
    }

    /// The day of an event time.
    pub fn local_day(&self, time: i64) -> i64 {
        let Some(utc) = Zone::instant(time.div_euclid(self.per_second)) else {
            return time.saturating_sub(time.rem_euclid(self.day()));
        };
        let date = self.zone.from_utc_datetime(&utc.naive_utc()).date_naive();
        date.signed_duration_since(NaiveDate::default()).num_days().saturating_mul(self.day())
    }

    /// The event time at which a day begins: at midnight or, where the clock passes over that, when it is put forward.
    pub fn start_of(&self, day: i64) -> i64 {
        let seconds = day.div_euclid(self.per_second);
        let Some(midnight) = Zone::instant(seconds) else { return day };
        let instant = |minutes: i64| match self.zone.from_local_datetime(&(midnight.naive_utc() + Duration::minutes(minutes))) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => Some(instant.timestamp()),
            LocalResult::None => None,
        };
        (0..LONGEST_GAP).find_map(instant).unwrap_or(seconds).saturating_mul(self.per_second)
    }
}
