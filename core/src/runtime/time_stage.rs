//! The stage that gives rows their event time and says how far it has come.

use std::ops::Range;

use crate::batch::{Batch, PartitionId};
use crate::error::Result;
use crate::operator::event_time::{self, Punctuation, TimeColumn};
use crate::quality::Rejected;
use crate::source::Delivery;
use crate::time::Unit;
use crate::watermark::Watermarks;

/// How a stream gets its event time.
pub(crate) struct TimeStage {
    origin: Origin,
    watermarks: Watermarks,
    /// The shortest pane of the windows to come, in units of event time.
    pub pane: Option<i64>,
    /// Room for the watermark before each row.
    before: Vec<i64>,
}

/// Where event time comes from.
pub(crate) enum Origin {
    /// A column; the watermark comes from it, or from one that punctuates.
    Column { time: TimeColumn, punctuation: Option<Punctuation> },
}

impl TimeStage {
    pub fn new(origin: Origin, watermarks: Watermarks) -> TimeStage {
        TimeStage { origin, watermarks, pane: None, before: Vec::new() }
    }

    /// What the event time counts.
    pub fn unit(&self) -> Unit {
        let Origin::Column { time, .. } = &self.origin;
        time.unit
    }

    /// Takes note of the partitions that begin with `delivery`.
    pub fn open(&mut self, delivery: &Delivery, now: u64) {
        delivery.opened.iter().for_each(|partition| self.watermarks.open(partition.0, now));
    }

    /// Takes note of the partitions that have ended.
    pub fn close(&mut self, ended: &[PartitionId]) {
        ended.iter().for_each(|partition| self.watermarks.close(partition.0));
    }

    /// The rows of a batch that have an event time, with it, and how to cut them into pieces.
    pub fn take(&self, batch: Batch, rejected: &mut Vec<Rejected>) -> Result<(Batch, Vec<Range<usize>>)> {
        let Origin::Column { time, .. } = &self.origin;
        let batch = event_time::take_times(batch, time, rejected)?;
        let pieces = batch.time.as_ref().map(|time| event_time::pieces(time, self.pane)).unwrap_or_default();
        Ok((batch, pieces))
    }

    /// Lets the rows of a piece move the watermark, and tells them what it was before each.
    pub fn observe(&mut self, piece: &mut Batch, now: u64) -> Result<()> {
        let Origin::Column { punctuation, .. } = &self.origin;
        event_time::observe(piece, punctuation.as_ref(), &mut self.watermarks, now, &mut self.before)
    }

    /// The overall watermark, if it has moved.
    pub fn progress(&mut self, now: u64) -> Option<i64> {
        self.watermarks.progress(now)
    }
}
