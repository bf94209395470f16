//! Windows: which stretches of event time rows belong to. Pure arithmetic.
//!
//! Windows are `[start, end)` and aligned to the Unix epoch, as Flink's, or to an offset from it, or to the days of a time zone.
//! Windows of one stream share *panes*: stretches of length gcd(size, slide) of which every window is a whole number. Rows are
//! accumulated once, in their pane; a window combines its panes.

mod assigned;
mod count;
mod global;
mod rolling;
mod session;
mod timers;
mod zone;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::Unit;
pub use assigned::{AssignedSpec, windows_by};
pub(crate) use count::CountPanes;
pub use count::{CountSpec, count_window};
pub(crate) use global::Triggers;
pub use global::{GlobalSpec, Pending, Row, global};
pub use rolling::{RollingSpec, rolling_range, rolling_rows};
pub(crate) use session::{Ended, Sessions, TOGETHER};
pub use session::{SessionSpec, session};
pub(crate) use timers::Timers;
use zone::Zone;

/// What windows a stream is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSpec {
    size: Duration,
    slide: Duration,
    /// Whether windows begin together and end one slide after the other.
    cumulates: bool,
    offset: Duration,
    zone: Option<Arc<str>>,
}

/// Windows of `size` that follow each other without gap or overlap.
pub const fn tumbling(size: Duration) -> WindowSpec {
    hopping(size, size)
}

/// Windows of `size` that begin every `slide`.
pub const fn hopping(size: Duration, slide: Duration) -> WindowSpec {
    WindowSpec { size, slide, cumulates: false, offset: Duration::ZERO, zone: None }
}

/// Windows that begin every `size` and end after every `step` of it: how the day, say, has come along by each hour. The steps
/// are a whole part of the size.
pub const fn cumulate(size: Duration, step: Duration) -> WindowSpec {
    WindowSpec { size, slide: step, cumulates: true, offset: Duration::ZERO, zone: None }
}

/// A day by the clock of one place, but for those on which it is changed.
const DAY: Duration = Duration::from_secs(86_400);

impl WindowSpec {
    /// The same windows shifted by `offset`: days that begin at six, weeks that begin on Monday (four days after the Unix epoch).
    pub fn offset(self, offset: Duration) -> WindowSpec {
        WindowSpec { offset, ..self }
    }

    /// The same windows aligned to the days of a time zone such as `Europe/Berlin`, which are 23 or 25 hours long when the clock
    /// is changed. Size, slide and offset are whole days then.
    pub fn zone(self, name: impl AsRef<str>) -> WindowSpec {
        WindowSpec { zone: Some(name.as_ref().into()), ..self }
    }

    /// The windows in the unit of a stream's event time.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if size or slide is zero, finer than the unit, or the slide is
    /// longer than the size, which would leave rows in no window; if the steps of cumulating windows are no whole part of their
    /// size; if the time zone is unknown or the windows are no whole days of it.
    pub fn panes(&self, unit: Unit) -> Result<Panes> {
        let (size, slide, offset) = (unit.count(self.size)?, unit.count(self.slide)?, unit.count(self.offset)?);
        if size == 0 || slide == 0 {
            return Err(Error::config(format!("a window's size and slide must be longer than zero; they are {self}")));
        }
        if slide > size {
            return Err(Error::config(format!(
                "the slide of a hopping window may not be longer than its size, or rows between windows would be lost; it is {self}. \
                 Filter out the rows that no window needs, then use a slide of at most the size"
            )));
        }
        if self.cumulates && size % slide != 0 {
            return Err(Error::config(format!("the steps of cumulating windows must be a whole part of their size; they are {self}")));
        }
        let zone = self.zone.as_deref().map(|name| Zone::new(name, unit)).transpose()?;
        let day = unit.count(DAY)?;
        if zone.is_some() && [size, slide, offset].iter().any(|length| length % day != 0) {
            return Err(Error::config(format!(
                "windows aligned to a time zone must be of whole days, as an hour of the night may come twice or not at all; they are {self}. \
                 Leave the zone out for shorter windows, and give an offset if need be"
            )));
        }
        let length = gcd(size, slide);
        let kind = if self.cumulates { Kind::Cumulating } else { Kind::Sliding { per_slide: slide / length } };
        Ok(Panes { length, per_window: size / length, kind, offset, zone })
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cumulates, self.size == self.slide) {
            (true, _) => write!(f, "cumulate({:?}, {:?}", self.size, self.slide)?,
            (false, true) => write!(f, "tumbling({:?}", self.size)?,
            (false, false) => write!(f, "hopping({:?}, {:?}", self.size, self.slide)?,
        }
        if !self.offset.is_zero() {
            write!(f, ", offset {:?}", self.offset)?;
        }
        if let Some(zone) = &self.zone {
            write!(f, ", {zone}")?;
        }
        f.write_str(")")
    }
}

/// When windows put out results besides once, at their end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revisions {
    /// How long after their end windows still count rows.
    pub lateness: Duration,
    /// Event time from one early result to the next.
    pub early: Option<Duration>,
    /// Whether groups are put out whenever they change.
    pub updates: bool,
}

impl Revisions {
    /// Event time from one early result to the next, in the unit of a stream's.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if it is zero or finer than the unit.
    pub(crate) fn early(&self, unit: Unit) -> Result<Option<i64>> {
        match self.early.map(|every| unit.count(every)).transpose()? {
            Some(0) => Err(Error::config("early results must come at least one unit of event time apart; `early` is zero")),
            early => Ok(early),
        }
    }

    /// Whether results come once.
    pub fn none(&self) -> bool {
        *self == Revisions::default()
    }
}

impl fmt::Display for Revisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.lateness.is_zero() {
            write!(f, ", allowed lateness {:?}", self.lateness)?;
        }
        if let Some(every) = self.early {
            write!(f, ", early every {every:?}")?;
        }
        f.write_str(if self.updates { ", on every update" } else { "" })
    }
}

/// What [`Stream::window`](crate::Stream::window) takes.
#[derive(Debug, Clone)]
pub enum Windowing {
    /// Windows that stand still: one row per window and group.
    Panes(WindowSpec),
    /// Windows of a number of rows: one row per window.
    Rows(CountSpec),
    /// Windows that a key's rows make themselves: one row per session.
    Sessions(SessionSpec),
    /// A window that ends with each row: one row per row.
    Rolling(RollingSpec),
    /// One window for all rows of a key: a row whenever a trigger says so.
    Global(GlobalSpec),
    /// Windows that a function assigns rows to: one row per window and group.
    Assigned(AssignedSpec),
}

impl From<WindowSpec> for Windowing {
    fn from(spec: WindowSpec) -> Windowing {
        Windowing::Panes(spec)
    }
}

impl From<CountSpec> for Windowing {
    fn from(spec: CountSpec) -> Windowing {
        Windowing::Rows(spec)
    }
}

impl From<SessionSpec> for Windowing {
    fn from(spec: SessionSpec) -> Windowing {
        Windowing::Sessions(spec)
    }
}

impl From<RollingSpec> for Windowing {
    fn from(spec: RollingSpec) -> Windowing {
        Windowing::Rolling(spec)
    }
}

impl From<GlobalSpec> for Windowing {
    fn from(spec: GlobalSpec) -> Windowing {
        Windowing::Global(spec)
    }
}

impl From<AssignedSpec> for Windowing {
    fn from(spec: AssignedSpec) -> Windowing {
        Windowing::Assigned(spec)
    }
}

impl fmt::Display for Windowing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Windowing::Panes(spec) => spec.fmt(f),
            Windowing::Rows(spec) => spec.fmt(f),
            Windowing::Sessions(spec) => spec.fmt(f),
            Windowing::Rolling(spec) => spec.fmt(f),
            Windowing::Global(spec) => spec.fmt(f),
            Windowing::Assigned(spec) => spec.fmt(f),
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Windows as panes. Pane `p` is `[p·length + offset, (p+1)·length + offset)`; windows are runs of panes.
#[derive(Debug, Clone, Copy)]
pub struct Panes {
    /// Length of a pane in units of event time.
    pub length: i64,
    /// Panes in a window; of cumulating windows in the longest.
    per_window: i64,
    kind: Kind,
    offset: i64,
    /// Whose days panes are made of.
    zone: Option<Zone>,
}

/// Which panes are those of a window.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Window `w` is the panes `[w·per_slide, w·per_slide + per_window)`.
    Sliding { per_slide: i64 },
    /// Window `w` ends with pane `w` and begins with the last multiple of `per_window` up to it.
    Cumulating,
}

impl Panes {
    /// Panes one by one of which those of each of `windows` are a whole number, at most `most` for the shortest; none if there are none.
    pub(crate) fn common(windows: &[Panes], most: i64) -> Option<Panes> {
        let first = windows.first()?;
        let length = windows.iter().fold(0, |all, panes| gcd(gcd(all, panes.length), (panes.offset - first.offset).abs()));
        let shortest = windows.iter().map(|panes| panes.length).min()?;
        let is_one_place = windows.iter().all(|panes| panes.zone.is_none());
        let fits = is_one_place && length > 0 && shortest / length <= most;
        fits.then_some(Panes { length, per_window: 1, kind: Kind::Sliding { per_slide: 1 }, offset: first.offset, zone: None })
    }

    /// The pane of an event time.
    pub fn pane_of(&self, time: i64) -> i64 {
        let time = self.zone.map_or(time, |zone| zone.local_day(time));
        time.saturating_sub(self.offset).div_euclid(self.length)
    }

    /// The event time at which `pane` begins.
    pub fn start_of(&self, pane: i64) -> i64 {
        let time = pane.saturating_mul(self.length).saturating_add(self.offset);
        self.zone.map_or(time, |zone| zone.start_of(time))
    }

    /// The event time at which `pane` begins if all panes are of one length and it can be told.
    pub fn origin(&self, pane: i64) -> Option<i64> {
        match self.zone {
            None => pane.checked_mul(self.length)?.checked_add(self.offset),
            Some(_) => None,
        }
    }

    /// The first window that contains `pane`.
    pub fn first_window(&self, pane: i64) -> i64 {
        match self.kind {
            Kind::Sliding { per_slide } => (pane - self.per_window).div_euclid(per_slide) + 1,
            Kind::Cumulating => pane,
        }
    }

    /// The last window that contains `pane`.
    pub fn last_window(&self, pane: i64) -> i64 {
        match self.kind {
            Kind::Sliding { per_slide } => pane.div_euclid(per_slide),
            Kind::Cumulating => pane - pane.rem_euclid(self.per_window) + self.per_window - 1,
        }
    }

    /// The panes of `window`.
    pub fn panes_of(&self, window: i64) -> std::ops::Range<i64> {
        match self.kind {
            Kind::Sliding { per_slide } => {
                let first = window * per_slide;
                first..first + self.per_window
            }
            Kind::Cumulating => window - window.rem_euclid(self.per_window)..window + 1,
        }
    }

    /// Start and end of `window` in event time.
    pub fn bounds(&self, window: i64) -> (i64, i64) {
        let panes = self.panes_of(window);
        (self.start_of(panes.start), self.start_of(panes.end))
    }

    /// Whether `window` has ended when event time has reached `watermark`: no row of it is to come.
    pub fn is_closed(&self, window: i64, watermark: i64) -> bool {
        self.start_of(self.panes_of(window).end).saturating_sub(1) <= watermark
    }

    /// Whether one pane is one window.
    pub fn is_tumbling(&self) -> bool {
        self.per_window == 1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::time::{hours, millis, secs};

    #[test]
    fn a_row_lies_in_every_window_that_covers_it() {
        for (size, slide) in [(1, 1), (10, 1), (10, 3), (10, 4), (7, 7), (9, 6)] {
            let panes = hopping(millis(size), millis(slide)).panes(Unit::Millisecond).unwrap();
            for time in -40..40 {
                let pane = panes.pane_of(time);
                for window in -50..50 {
                    let (start, end) = panes.bounds(window);
                    assert_eq!((end - start, start.rem_euclid(slide as i64)), (size as i64, 0));
                    let inside = (start..end).contains(&time);
                    assert_eq!(
                        (panes.first_window(pane)..=panes.last_window(pane)).contains(&window),
                        inside,
                        "{size}/{slide} {time} {window}"
                    );
                    assert_eq!(panes.panes_of(window).contains(&pane), inside);
                }
            }
        }
    }

    #[test]
    fn an_offset_shifts_every_edge() {
        let panes = hopping(millis(10), millis(4)).offset(millis(3)).panes(Unit::Millisecond).unwrap();
        for time in -40..40 {
            let pane = panes.pane_of(time);
            assert!((panes.start_of(pane)..panes.start_of(pane + 1)).contains(&time));
            for window in panes.first_window(pane)..=panes.last_window(pane) {
                let (start, end) = panes.bounds(window);
                assert_eq!((end - start, start.rem_euclid(4)), (10, 3));
                assert!((start..end).contains(&time));
            }
        }
    }

    #[test]
    fn cumulating_windows_begin_together() {
        let panes = cumulate(millis(12), millis(4)).offset(millis(1)).panes(Unit::Millisecond).unwrap();
        for time in -40..40_i64 {
            let pane = panes.pane_of(time);
            let start = (time - 1).div_euclid(12) * 12 + 1;
            let bounds: Vec<_> = (panes.first_window(pane)..=panes.last_window(pane)).map(|window| panes.bounds(window)).collect();
            let expected: Vec<_> = [4, 8, 12].map(|length| (start, start + length)).into_iter().filter(|(_, end)| *end > time).collect();
            assert_eq!(bounds, expected, "{time}");
        }
    }

    #[test]
    fn days_of_a_place_are_as_long_as_its_clock_says() {
        let hour = 3_600_000;
        let panes = tumbling(hours(24)).zone("Europe/Berlin").panes(Unit::Millisecond).unwrap();
        // 2024-03-31 and 2024-10-27 there; midnights by UTC.
        for (noon, start, hours) in [(1_711_882_800_000, 1_711_839_600_000, 23), (1_730_026_800_000, 1_729_980_000_000, 25)] {
            let pane = panes.pane_of(noon);
            assert_eq!(panes.bounds(pane), (start, start + hours * hour));
            assert_eq!((panes.pane_of(start - 1), panes.pane_of(start)), (pane - 1, pane));
            assert_eq!(panes.pane_of(start + hours * hour), pane + 1);
        }
        // The day has no midnight: the clock goes from 23:59:59 to 01:00.
        let panes = tumbling(hours(24)).zone("Africa/Cairo").panes(Unit::Microsecond).unwrap();
        let change = 1_714_082_400_000_000;
        assert_eq!(panes.bounds(panes.pane_of(change)), (change, change + 23 * 1_000 * hour));
        let weeks = tumbling(hours(7 * 24)).offset(hours(4 * 24)).zone("America/New_York").panes(Unit::Millisecond).unwrap();
        // Monday 2024-03-04 there, in whose week the clock is put forward.
        assert_eq!(weeks.bounds(weeks.pane_of(1_709_906_400_000)), (1_709_528_400_000, 1_709_528_400_000 + (7 * 24 - 1) * hour));
    }

    #[test]
    fn a_window_closes_when_its_last_instant_is_behind_the_watermark() {
        let panes = tumbling(secs(1)).panes(Unit::Millisecond).unwrap();
        assert!(!panes.is_closed(0, 998));
        assert!(panes.is_closed(0, 999));
    }

    #[test]
    fn impossible_windows_are_refused() {
        assert!(tumbling(secs(0)).panes(Unit::Millisecond).is_err());
        assert!(hopping(secs(1), secs(2)).panes(Unit::Millisecond).is_err());
        assert!(tumbling(Duration::from_micros(1)).panes(Unit::Millisecond).is_err());
        let why = |spec: WindowSpec| spec.panes(Unit::Millisecond).unwrap_err().to_string();
        assert!(why(cumulate(secs(10), secs(3))).contains("a whole part of their size; they are cumulate(10s, 3s)"));
        assert!(why(tumbling(hours(24)).zone("Europe/Berln")).contains("no time zone `Europe/Berln`"));
        assert!(why(tumbling(hours(1)).zone("UTC")).contains("whole days"));
    }
}
