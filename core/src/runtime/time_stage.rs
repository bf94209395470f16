//! The stage that gives rows their event time and says how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::datatypes::Schema;

use crate::batch::{Batch, PartitionId};
use crate::error::Result;
use crate::operator::arrival_time::ArrivalColumn;
use crate::operator::event_time::{self, Punctuation, TimeColumn};
use crate::quality::Rejected;
use crate::runtime::held_back::{Cause, HeldBack, SlowPartition};
use crate::source::Delivery;
use crate::state::{Saved, numbers};
use crate::time::{Clock, Unit};
use crate::watermark::{Hold, Holder, NONE, Watermarks};

/// Names of the marks and of the table in a snapshot.
const OVERALL: &str = "overall watermark";
const ENDED: &str = "watermark of ended partitions";
const PARTITIONS: &str = "partitions";
const PARTITION: &str = "partition";
const GREATEST: &str = "greatest event time";
const QUIET: &str = "quiet nanoseconds";

/// How a stream gets its event time.
pub(crate) struct TimeStage {
    origin: Origin,
    watermarks: Watermarks,
    /// The shortest pane of the windows to come, in units of event time.
    pub pane: Option<i64>,
    /// What users call the open partitions.
    names: BTreeMap<PartitionId, String>,
    /// Room for the watermark before each row.
    before: Vec<i64>,
}

/// Where event time comes from.
pub(crate) enum Origin {
    /// A column; the watermark comes from it, or from one that punctuates.
    Column { time: TimeColumn, punctuation: Option<(String, Punctuation)> },
    /// The clock.
    Arrival(ArrivalColumn),
}

impl TimeStage {
    pub fn new(origin: Origin, watermarks: Watermarks) -> TimeStage {
        TimeStage { origin, watermarks, pane: None, names: BTreeMap::new(), before: Vec::new() }
    }

    /// What the event time counts.
    pub fn unit(&self) -> Unit {
        match &self.origin {
            Origin::Column { time, .. } => time.unit,
            Origin::Arrival(_) => Unit::Millisecond,
        }
    }

    /// Whether rows of `schema` may lack an event time and be turned away.
    pub fn turns_rows_away(&self, schema: &Schema) -> bool {
        match &self.origin {
            Origin::Column { time, .. } => schema.field(time.index).is_nullable(),
            Origin::Arrival(_) => false,
        }
    }

    /// Looks at the clock, if that is where the time comes from.
    pub fn tick(&mut self, clock: &dyn Clock) {
        if let Origin::Arrival(arrival) = &mut self.origin {
            arrival.tick(clock.wall());
        }
    }

    /// Takes note of the partitions that begin with `delivery`.
    pub fn open(&mut self, delivery: &Delivery, now: u64) {
        delivery.opened.iter().for_each(|partition| self.watermarks.open(partition.0, now));
        self.names.extend(delivery.names.iter().cloned());
    }

    /// Takes note of the partitions that have ended.
    pub fn close(&mut self, ended: &[PartitionId]) {
        for partition in ended {
            self.watermarks.close(partition.0);
            self.names.remove(partition);
        }
    }

    /// The rows of a batch that have an event time, with it, cut into pieces.
    pub fn take(&self, batch: Batch, rejected: &mut Vec<Rejected>) -> Result<Vec<Batch>> {
        let batch = match &self.origin {
            Origin::Column { time, .. } => event_time::take_times(batch, time, rejected)?,
            Origin::Arrival(arrival) => arrival.stamp(batch)?,
        };
        let pieces = batch.time.as_ref().map(|time| event_time::pieces(time, self.pane)).unwrap_or_default();
        Ok(pieces.into_iter().map(|rows| event_time::piece(&batch, rows)).collect())
    }

    /// Lets the rows of a piece move the watermark, and tells them what it was before each.
    pub fn observe(&mut self, piece: &mut Batch, now: u64) -> Result<()> {
        let Origin::Column { punctuation, .. } = &self.origin else { return Ok(()) };
        let punctuation = punctuation.as_ref().map(|(_, punctuation)| punctuation);
        event_time::observe(piece, punctuation, &mut self.watermarks, now, &mut self.before)
    }

    /// The overall watermark, if it has moved.
    pub fn progress(&mut self, now: u64) -> Option<i64> {
        match &self.origin {
            Origin::Column { .. } => self.watermarks.progress(now),
            Origin::Arrival(arrival) => self.watermarks.reach(arrival.watermark()),
        }
    }

    /// Whether event time goes on without rows.
    pub fn is_by_clock(&self) -> bool {
        matches!(self.origin, Origin::Arrival(_))
    }

    /// The partitions that the source shall read no further for now, if they are others than before.
    pub fn align(&mut self, now: u64, hold: Hold) -> Option<BTreeSet<PartitionId>> {
        self.watermarks.align(now, hold).map(|paused| paused.into_iter().map(PartitionId).collect())
    }

    /// The overall watermark, if there is one.
    pub fn watermark(&self) -> Option<i64> {
        Some(self.watermarks.overall()).filter(|overall| *overall != NONE)
    }

    /// How far event time has come, for a snapshot.
    pub fn snapshot(&self, now: u64) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.mark(OVERALL, self.watermarks.overall());
        saved.mark(ENDED, self.watermarks.ended());
        let (mut partitions, mut greatest, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, time, nanos) in self.watermarks.partitions(now) {
            partitions.push(i64::from(partition));
            greatest.push(time);
            quiet.push(nanos as i64);
        }
        let columns = vec![numbers(PARTITION, partitions), numbers(GREATEST, greatest), numbers(QUIET, quiet)];
        saved.add(PARTITIONS, vec![0; columns[0].1.len()], columns)?;
        Ok(saved)
    }

    /// Takes up what was saved.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is no such stage's.
    pub fn restore(&mut self, saved: &Saved, now: u64) -> Result<()> {
        self.watermarks.restore(saved.marked(OVERALL)?, saved.marked(ENDED)?);
        if let Origin::Arrival(arrival) = &mut self.origin {
            arrival.resume(self.watermarks.overall());
        }
        let Some(rows) = saved.table(PARTITIONS) else { return Ok(()) };
        let (partitions, greatest, quiet) = (rows.numbers(PARTITION)?, rows.numbers(GREATEST)?, rows.numbers(QUIET)?);
        for row in 0..rows.len() {
            let (partition, quiet) = (partitions.value(row) as u32, quiet.value(row) as u64);
            self.watermarks.restore_partition(partition, greatest.value(row), quiet, now);
        }
        Ok(())
    }

    /// Why the window that ends at `window_end` has not fired.
    pub fn held_back(&self, window_end: i64, now: u64) -> HeldBack {
        let known = |watermark| (watermark != NONE).then_some(watermark);
        let holder = match &self.origin {
            Origin::Column { .. } => self.watermarks.holder(),
            Origin::Arrival(_) => None,
        };
        HeldBack {
            window_end,
            watermark: known(self.watermarks.overall()),
            partition: holder.map(|holder| SlowPartition {
                name: self.name(PartitionId(holder.partition)),
                watermark: known(holder.watermark),
                quiet_for: Duration::from_nanos(now.saturating_sub(holder.seen)),
            }),
            unit: self.unit(),
            cause: self.cause(holder, now),
            at: now,
        }
    }

    fn cause(&self, holder: Option<Holder>, now: u64) -> Cause {
        let Origin::Column { punctuation, .. } = &self.origin else { return Cause::Clock };
        match (holder, punctuation) {
            (Some(Holder { idle: false, rows: false, .. }), _) => Cause::NoRows,
            (Some(Holder { idle: false, watermark: NONE, .. }), Some((column, _))) => Cause::Unpunctuated(column.clone()),
            _ if self.watermarks.gone_on(now) > 0 => Cause::GoesOn,
            (None, _) => Cause::NoPartition,
            (Some(Holder { idle: true, .. }), _) => Cause::AllIdle,
            (_, Some((column, _))) => Cause::Unpunctuated(column.clone()),
            (_, None) => Cause::Behind,
        }
    }

    fn name(&self, partition: PartitionId) -> String {
        self.names.get(&partition).cloned().unwrap_or_else(|| partition.0.to_string())
    }
}
