//! Windows: which stretches of event time rows belong to. Pure arithmetic.
//!
//! Windows are `[start, end)` and aligned to the Unix epoch, as Flink's. Windows of one stream share *panes*:
//! stretches of length gcd(size, slide) of which every window is a whole number. Rows are accumulated once, in
//! their pane; a window combines its panes.

mod rolling;
mod session;

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::Unit;
pub use rolling::{RollingSpec, rolling_range, rolling_rows};
pub(crate) use session::Sessions;
pub use session::{SessionSpec, session};

/// What windows a stream is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    size: Duration,
    slide: Duration,
}

/// Windows of `size` that follow each other without gap or overlap.
pub const fn tumbling(size: Duration) -> WindowSpec {
    WindowSpec { size, slide: size }
}

/// Windows of `size` that begin every `slide`.
pub const fn hopping(size: Duration, slide: Duration) -> WindowSpec {
    WindowSpec { size, slide }
}

impl WindowSpec {
    /// The windows in the unit of a stream's event time.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if size or slide is zero, finer than the unit, or the slide is
    /// longer than the size, which would leave rows in no window.
    pub fn panes(&self, unit: Unit) -> Result<Panes> {
        let (size, slide) = (unit.count(self.size)?, unit.count(self.slide)?);
        if size == 0 || slide == 0 {
            return Err(Error::config(format!("a window's size and slide must be longer than zero; they are {self}")));
        }
        if slide > size {
            return Err(Error::config(format!(
                "the slide of a hopping window may not be longer than its size, or rows between windows would be lost; it is {self}. \
                 Filter out the rows that no window needs, then use a slide of at most the size"
            )));
        }
        let length = gcd(size, slide);
        Ok(Panes { length, per_window: size / length, per_slide: slide / length })
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size == self.slide {
            true => write!(f, "tumbling({:?})", self.size),
            false => write!(f, "hopping({:?}, {:?})", self.size, self.slide),
        }
    }
}

/// What [`Stream::window`](crate::Stream::window) takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windowing {
    /// Windows that stand still: one row per window and group.
    Panes(WindowSpec),
    /// Windows that a key's rows make themselves: one row per session.
    Sessions(SessionSpec),
    /// A window that ends with each row: one row per row.
    Rolling(RollingSpec),
}

impl From<WindowSpec> for Windowing {
    fn from(spec: WindowSpec) -> Windowing {
        Windowing::Panes(spec)
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

impl fmt::Display for Windowing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Windowing::Panes(spec) => spec.fmt(f),
            Windowing::Sessions(spec) => spec.fmt(f),
            Windowing::Rolling(spec) => spec.fmt(f),
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Windows as panes. Pane `p` is `[p·length, (p+1)·length)`; window `w` is the panes
/// `[w·per_slide, w·per_slide + per_window)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panes {
    /// Length of a pane in units of event time.
    pub length: i64,
    /// Panes in a window.
    pub per_window: i64,
    /// Panes from one window's start to the next one's.
    pub per_slide: i64,
}

impl Panes {
    /// The pane of an event time.
    pub fn pane_of(&self, time: i64) -> i64 {
        time.div_euclid(self.length)
    }

    /// The first window that contains `pane`.
    pub fn first_window(&self, pane: i64) -> i64 {
        (pane - self.per_window).div_euclid(self.per_slide) + 1
    }

    /// The last window that contains `pane`.
    pub fn last_window(&self, pane: i64) -> i64 {
        pane.div_euclid(self.per_slide)
    }

    /// The panes of `window`.
    pub fn panes_of(&self, window: i64) -> std::ops::Range<i64> {
        let first = window * self.per_slide;
        first..first + self.per_window
    }

    /// Start and end of `window` in event time.
    pub fn bounds(&self, window: i64) -> (i64, i64) {
        let panes = self.panes_of(window);
        (panes.start.saturating_mul(self.length), panes.end.saturating_mul(self.length))
    }

    /// Whether `window` has ended when event time has reached `watermark`: no row of it is to come.
    pub fn is_closed(&self, window: i64, watermark: i64) -> bool {
        self.bounds(window).1.saturating_sub(1) <= watermark
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
    use crate::time::{millis, secs};

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
    }
}
