//! Rows or linger: when what has been decoded is handed on.

use std::net::SocketAddr;

use arrow::datatypes::SchemaRef;

use super::Delivery;
use super::linger::Linger;
use crate::batch::{Batch, PartitionId};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::format::Decoder;
use crate::quality::Rejected;
use crate::time::SharedClock;

/// A datagram as it came in.
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    /// How many bytes were cut off for want of room.
    pub(super) lost: usize,
    pub(super) sender: Option<SocketAddr>,
}

/// Collects the rows of one source until a batch is full or its oldest row has waited long enough.
pub(super) struct Gather {
    decoder: Box<dyn Decoder>,
    clock: SharedClock,
    batch_rows: usize,
    linger: Linger,
    /// When the first bytes since the last hand-over arrived.
    received: Option<u64>,
    /// When the first partition since the last hand-over began or ended.
    changed: Option<u64>,
    next: Delivery,
}

impl Gather {
    pub(super) fn new(decoder: Box<dyn Decoder>, config: &Config, clock: SharedClock) -> Gather {
        Gather {
            decoder,
            clock,
            batch_rows: config.batch_rows,
            linger: Linger::new(config),
            received: None,
            changed: None,
            next: Delivery::default(),
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    /// Tells the offset of each row from now on, see [`Source::keep_offsets`](super::Source::keep_offsets).
    pub(super) fn keep_offsets(&mut self) {
        self.decoder.keep_offsets();
    }

    /// The clock's monotonic nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.clock.monotonic()
    }

    /// Notes that the pipeline is back for more; returns the time.
    pub(super) fn begin(&mut self) -> u64 {
        let now = self.now();
        self.linger.back(now);
        now
    }

    /// A partition has begun that users call `name`, if they have a name for it.
    pub(super) fn open(&mut self, partition: PartitionId, name: Option<String>, now: u64) {
        self.next.opened.push(partition);
        self.next.names.extend(name.map(|name| (partition, name)));
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
        self.decode_unpacked(partition, bytes, bytes.len(), now)
    }

    /// Decodes the next bytes of a partition, which are what came out of `read` bytes that arrived at `now`.
    pub(super) fn decode_unpacked(&mut self, partition: PartitionId, bytes: &[u8], read: usize, now: u64) -> Result<()> {
        self.next.bytes += read as u64;
        self.received.get_or_insert(now);
        self.decoder.decode(partition, bytes)
    }

    /// No more will come of a partition that had not ended; says why. A frame that is cut in two is not taken for a whole one.
    pub(super) fn cut(&mut self, partition: PartitionId, why: &str) {
        self.decoder.cut(partition, why);
    }

    /// Decodes a datagram, a whole number of frames that arrived at `now`: the last needs no terminator. Frames that do
    /// not decode are quarantined under the name of the sender, and so is the datagram as a whole if its framing is
    /// beyond repair or its end is missing.
    ///
    /// # Errors
    /// If it is quarantined as a whole; the next one can be decoded all the same.
    pub(super) fn decode_datagram(&mut self, partition: PartitionId, datagram: &Datagram<'_>, now: u64) -> Result<()> {
        self.decoder.take_rejected(&mut self.next.rejected);
        let known = self.next.rejected.len();
        let decoded = match datagram.lost {
            0 => self.decode(partition, datagram.bytes, now),
            lost => Err(Error::decode(format!("its last {lost} bytes are missing: it is longer than a buffer"))),
        };
        self.decoder.end(partition);
        self.decoder.take_rejected(&mut self.next.rejected);
        if let Err(error) = &decoded {
            self.reject(Rejected::new(partition, 0, datagram.bytes, error.to_string()), now);
        }
        if let Some(sender) = datagram.sender {
            self.next.rejected[known..].iter_mut().for_each(|row| row.error = format!("datagram from {sender}: {}", row.error));
        }
        decoded
    }

    /// Quarantines bytes that arrived at `now`.
    pub(super) fn reject(&mut self, rejected: Rejected, now: u64) {
        self.received.get_or_insert(now);
        self.decoder.take_rejected(&mut self.next.rejected);
        self.next.rejected.push(rejected);
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
        Some(self.linger.due(since))
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
            self.linger.handed(received, now);
            delivery.batch =
                decoded.map(|decoded| Batch { origins: decoded.origins, ..Batch::of_source(decoded.records, decoded.segments, received) });
        }
        delivery.end = end;
        Ok(delivery)
    }
}
