//! Rows or linger: when what has been decoded is handed on.

use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::Delivery;
use crate::batch::{Batch, PartitionId};
use crate::config::Config;
use crate::error::Result;
use crate::format::Decoder;
use crate::time::SharedClock;

/// The share of the latency target that lingering may take: the rest is for the work on the batch.
const LINGER_SHARE: u32 = 2;

/// Collects the rows of one source until a batch is full or its oldest row has waited long enough.
pub(super) struct Gather {
    decoder: Box<dyn Decoder>,
    clock: SharedClock,
    batch_rows: usize,
    linger: Duration,
    target: Option<Duration>,
    /// When the first bytes since the last hand-over arrived.
    received: Option<u64>,
    /// When the first partition since the last hand-over began or ended.
    changed: Option<u64>,
    /// When the last delivery was handed on.
    handed: Option<u64>,
    /// How long the last delivery kept the pipeline busy.
    busy: Duration,
    next: Delivery,
}

impl Gather {
    pub(super) fn new(decoder: Box<dyn Decoder>, config: &Config, clock: SharedClock) -> Gather {
        let linger = config.latency_target.map_or(config.linger, |target| config.linger.min(target / LINGER_SHARE));
        Gather {
            decoder,
            clock,
            batch_rows: config.batch_rows,
            linger,
            target: config.latency_target,
            received: None,
            changed: None,
            handed: None,
            busy: Duration::ZERO,
            next: Delivery::default(),
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    /// The clock's monotonic nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.clock.monotonic()
    }

    /// Notes that the pipeline is back for more; returns the time.
    pub(super) fn begin(&mut self) -> u64 {
        let now = self.now();
        self.busy = self.handed.take().map_or(self.busy, |handed| Duration::from_nanos(now.saturating_sub(handed)));
        now
    }

    /// A partition has begun.
    pub(super) fn open(&mut self, partition: PartitionId, now: u64) {
        self.next.opened.push(partition);
        self.changed.get_or_insert(now);
    }

    /// A partition has ended: what is unfinished of it is decoded or quarantined.
    pub(super) fn end(&mut self, partition: PartitionId, now: u64) {
        self.decoder.end(partition);
        self.next.ended.push(partition);
        self.changed.get_or_insert(now);
    }

    /// Decodes the next bytes of a partition, which arrived at `now`.
    pub(super) fn decode(&mut self, partition: PartitionId, bytes: &[u8], now: u64) -> Result<()> {
        self.next.bytes += bytes.len() as u64;
        self.received.get_or_insert(now);
        self.decoder.decode(partition, bytes)
    }

    /// Decodes a whole number of frames, which arrived at `now`: the last needs no terminator.
    pub(super) fn decode_whole(&mut self, partition: PartitionId, bytes: &[u8], now: u64) -> Result<()> {
        let decoded = self.decode(partition, bytes, now);
        self.decoder.end(partition);
        decoded
    }

    /// Whether a batch is full.
    pub(super) fn is_full(&self) -> bool {
        self.decoder.rows() >= self.batch_rows
    }

    /// When what there is has to be handed on; `None` if there is nothing.
    pub(super) fn due(&mut self) -> Option<u64> {
        self.decoder.take_rejected(&mut self.next.rejected);
        let rows = self.decoder.rows() > 0 || !self.next.rejected.is_empty();
        let since = [self.received.filter(|_| rows), self.changed].into_iter().flatten().min()?;
        Some(since.saturating_add(nanos(self.linger)))
    }

    /// Hands everything on.
    pub(super) fn take(&mut self, end: bool) -> Result<Delivery> {
        let now = self.now();
        self.decoder.take_rejected(&mut self.next.rejected);
        let mut delivery = std::mem::take(&mut self.next);
        self.changed = None;
        let decoded = self.decoder.take()?;
        if decoded.is_some() || !delivery.rejected.is_empty() {
            let received = self.received.take().unwrap_or(now);
            if let Some(target) = self.target {
                let took = Duration::from_nanos(now.saturating_sub(received)) + self.busy;
                self.linger = adapt(self.linger, took, target);
            }
            delivery.batch = decoded.map(|decoded| Batch { records: decoded.records, time: None, segments: decoded.segments, received });
            self.handed = Some(now);
        }
        delivery.end = end;
        Ok(delivery)
    }
}

/// The next linger, when a batch took `took` from its first byte to the end of the work on it: half as long when that
/// nears the target, a quarter longer when it is far below, never more than the linger's share of the target.
fn adapt(linger: Duration, took: Duration, target: Duration) -> Duration {
    let longest = target / LINGER_SHARE;
    if took > target / 4 * 3 {
        linger.min(longest) / 2
    } else if took < target / 2 {
        (linger + linger / 4 + Duration::from_micros(1)).min(longest)
    } else {
        linger.min(longest)
    }
}

/// A duration in the clock's nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linger_adapts_within_its_bounds() {
        let target = Duration::from_millis(10);
        let micros = Duration::from_micros;
        assert_eq!(adapt(micros(1_000), micros(9_000), target), micros(500), "too slow: halved");
        assert_eq!(adapt(micros(1_000), micros(6_000), target), micros(1_000), "near enough: kept");
        assert_eq!(adapt(micros(1_000), micros(2_000), target), micros(1_251), "room to spare: grown");
        assert_eq!(adapt(micros(4_900), micros(0), target), micros(5_000), "never more than half of the target");
        assert_eq!(adapt(micros(90_000), micros(6_000), target), micros(5_000));
        assert_eq!(adapt(micros(0), micros(20_000), target), micros(0));
        let settled = (0..100).fold(micros(0), |linger, _| adapt(linger, linger + micros(3_000), target));
        assert!((micros(1_000)..=micros(4_500)).contains(&settled), "{settled:?}");
    }
}
