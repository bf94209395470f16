//! Windows of a number of rows of a key, in the order in which they come.

use std::fmt;

use crate::error::{Error, Result};

/// How many rows make a window, and after how many the next one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountSpec {
    rows: u32,
    slide: u32,
}

/// Windows of `rows` rows of a key each, in the order in which they come: a window is complete with its last row.
///
/// `window_start` and `window_end` are the earliest and the latest event time of its rows. At the end of the input the rows that are
/// left make a window of fewer. A key is kept until then, or for the [`ttl`](crate::plan::Windowed::ttl).
pub const fn count_window(rows: u32) -> CountSpec {
    CountSpec { rows, slide: rows }
}

impl CountSpec {
    /// Windows that overlap: after every `slide` rows of a key one of its last rows, or of all if there are fewer than a window has.
    pub const fn slide(self, slide: u32) -> CountSpec {
        CountSpec { slide, ..self }
    }

    /// The windows as panes.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a number is zero or the slide is longer than the window.
    pub(crate) fn panes(&self) -> Result<CountPanes> {
        if self.rows == 0 || self.slide == 0 || self.slide > self.rows {
            return Err(Error::config(format!(
                "a window of rows must be of at least one row and slide by one to all of its rows; it is {self}"
            )));
        }
        let length = super::gcd(i64::from(self.rows), i64::from(self.slide)) as u32;
        Ok(CountPanes { length, per_window: self.rows / length, per_slide: self.slide / length })
    }
}

impl fmt::Display for CountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows == self.slide {
            true => write!(f, "count_window({} rows)", self.rows),
            false => write!(f, "count_window({} rows, slide {})", self.rows, self.slide),
        }
    }
}

/// Windows of rows as panes: runs of rows of a key of which every window is a whole number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountPanes {
    /// Rows of a pane.
    pub length: u32,
    /// Panes of a window.
    pub per_window: u32,
    /// Panes from the end of a window to that of the next.
    pub per_slide: u32,
}
