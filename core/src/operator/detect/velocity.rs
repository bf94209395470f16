//! Velocity: too many rows of a key, or too much, within spans of event time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use thalweg_kernels::{self as kernels, RecentRows};

use crate::error::{Error, Result};
use crate::operator::compact::keep;
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: from there on a limit is reached.
pub const THRESHOLD: f64 = 1.0;

/// Rows of a key that are kept unless another number is given.
pub const MOST_ROWS: u32 = 1_024;

/// What a key's rows within a span of event time should not reach: a number of rows, a sum of their values, or both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    within: Duration,
    rows: Option<u32>,
    sum: Option<f64>,
}

impl Limit {
    /// Reached by so many rows `within` a span that ends with the latest of them.
    pub fn rows(rows: u32, within: Duration) -> Limit {
        Limit { within, rows: Some(rows), sum: None }
    }

    /// Reached when the values of rows `within` a span that ends with the latest of them come to `sum`.
    pub fn sum(sum: f64, within: Duration) -> Limit {
        Limit { within, rows: None, sum: Some(sum) }
    }

    fn counted(&self, unit: Unit) -> Result<kernels::Limit> {
        let window = unit.count(self.within)?;
        let is_limit = window > 0 && self.rows != Some(0) && self.sum.is_none_or(|sum| sum > 0.0 && sum.is_finite());
        if !is_limit {
            return Err(Error::config(format!("`velocity` cannot hold rows against `{self}`; span, rows and sum must be above 0")));
        }
        Ok(kernels::Limit { window, rows: self.rows.map_or(f64::INFINITY, f64::from), sum: self.sum.unwrap_or(f64::INFINITY) })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rows) = self.rows {
            write!(f, "{rows} rows in {:?}", self.within)?;
        }
        if let Some(sum) = self.sum {
            write!(f, "{sum} in {:?}", self.within)?;
        }
        Ok(())
    }
}

/// Parameters of velocity, see [`velocity`].
#[derive(Debug, Clone, PartialEq)]
pub struct Velocity {
    /// What a key's rows should not reach; at least one.
    pub limits: Vec<Limit>,
    /// Rows of a key that are kept, so that it counts no more; at least 1.
    pub most_rows: u32,
}

/// Detection of keys with too many rows, or too much, within spans of event time: a card that is paid with three times in a minute, or with 2,000 in a
/// day. All spans are counted in one pass. Watches one column, whose values are summed; rows with a value count. The score is how much of a limit is
/// reached, of the one of which the most is: from 1 on, the threshold, one is reached. It needs an event time.
///
/// Of a key its latest 1,024 rows are kept. Equations: [`thalweg_kernels::anomaly::velocity`]. State: 16 bytes for each of its rows in the longest
/// span, a key.
///
/// ```
/// use thalweg::operator::detect::Limit;
/// use thalweg::{mins, secs, velocity};
/// let fast = velocity([Limit::rows(3, secs(60)), Limit::rows(20, mins(60)), Limit::sum(2_000.0, mins(1_440))]).on(["amount"]).by(["card"]);
/// ```
pub fn velocity(limits: impl IntoIterator<Item = Limit>) -> Detection {
    Detection::new(Velocity { limits: limits.into_iter().collect(), most_rows: MOST_ROWS })
}

impl fmt::Display for Velocity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits: Vec<String> = self.limits.iter().map(Limit::to_string).collect();
        write!(f, "velocity({})", limits.join(", "))
    }
}

impl DetectorSpec for Velocity {
    fn build(&self, _on: &[String], unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let unit = unit.ok_or_else(|| {
            Error::config("`velocity` needs event times, but the stream has none; call `event_time(column)` before `detect`")
        })?;
        if self.limits.is_empty() || self.most_rows == 0 {
            return Err(Error::config("`velocity` needs at least one limit, and to keep at least one row of a key"));
        }
        let mut limits = self.limits.iter().map(|limit| limit.counted(unit)).collect::<Result<Vec<_>>>()?;
        limits.sort_by_key(|limit| limit.window);
        Ok(Box::new(State { params: kernels::Velocity { limits, most_rows: self.most_rows as usize }, keys: Vec::new(), rows: 0 }))
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

struct State {
    params: kernels::Velocity,
    keys: Vec<RecentRows>,
    /// Rows that keys have room for.
    rows: usize,
}

impl State {
    fn reach(&mut self, groups: usize) {
        self.keys.resize(self.keys.len().max(groups), RecentRows::default());
    }
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) -> Result<()> {
        self.reach(observations.groups);
        let floats = observations.floats();
        let columns: Vec<&[f64]> = floats.iter().map(Cow::as_ref).collect();
        // A stream with an event time has it in every batch.
        if let (Some(times), [values]) = (observations.times, &columns[..]) {
            self.rows += kernels::velocity(&mut self.keys, observations.slots, times, values, &self.params, scores);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<RecentRows>() + self.rows * size_of::<(i64, f64)>()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        let rows = self.keys.get(slot as usize).map(|key| &key.rows);
        out.word(rows.map_or(0, |rows| rows.len() as u64));
        for (time, value) in rows.into_iter().flatten() {
            out.word(*time as u64);
            out.float(*value);
        }
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.reach(slot as usize + 1);
        let count = from.count(size_of::<(i64, f64)>())?;
        let rows: VecDeque<_> = (0..count).map(|_| Ok((from.word()? as i64, from.float()?))).collect::<Result<_>>()?;
        let key = &mut self.keys[slot as usize].rows;
        self.rows = self.rows + rows.capacity() - key.capacity();
        *key = rows;
        Ok(())
    }

    fn keep(&mut self, slots: &[u32], _groups: usize) -> Result<()> {
        keep(&mut self.keys, slots);
        self.rows = self.keys.iter().map(|key| key.rows.capacity()).sum();
        Ok(())
    }
}
