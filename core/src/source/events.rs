//! Events of this program: typed rows pushed by any number of threads.
//!
//! ```
//! use thalweg::{Stream, ring::Full};
//!
//! thalweg::event! {
//!     pub struct Payment { ts: i64 as timestamp_ms, card: u64, amount: f64 }
//! }
//!
//! let (sender, payments) = Stream::events(4_096, Full::Block)?;
//! std::thread::spawn(move || sender.push(Payment { ts: 0, card: 7, amount: 9.5 }));
//! assert_eq!(payments.collect()?.num_rows(), 1);
//! # Ok::<(), thalweg::error::Error>(())
//! ```

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, PartitionId};
use crate::config::{Config, WaitStrategy};
use crate::error::{Error, Result};
use crate::format::pod::{Event, Transposer, schema};
use crate::ring::{Empty, Full, Receiver, Sender, mpsc};
use crate::source::linger::{Linger, nanos};
use crate::source::{Delivery, OpenSource, Source};
use crate::time::SharedClock;

/// Rows that go from the ring to the columns at once: few enough to stay in the L1 cache in between.
const DRAIN_ROWS: usize = 256;

/// Events that a ring may hold: 2²⁶ of 64 bytes are 4 GiB.
const MAX_CAPACITY: usize = 1 << 26;

/// All events are one partition: the order of the ring is the order of the stream.
const PARTITION: PartitionId = PartitionId(0);

/// Where a program pushes its events; clone it for each thread. The stream ends when the last one is dropped.
pub type EventSender<E> = Sender<E>;

/// The [`Source`] at the other end of an [`EventSender`].
pub struct Events<E: Event> {
    receiver: Receiver<E>,
    /// Rows on their way from the ring to the columns.
    rows: Vec<E>,
    columns: Transposer<E>,
    clock: SharedClock,
    batch_rows: usize,
    linger: Linger,
    /// When the oldest row in `columns` was taken from the ring, in the clock's nanoseconds.
    received: u64,
    /// How many rows have been delivered.
    offset: u64,
    opened: bool,
    ended: bool,
}

/// The receiving end of a ring of events, until it is opened as a source; that can be done once.
pub(crate) struct EventRing<E: Event> {
    receiver: Mutex<Option<Receiver<E>>>,
    schema: SchemaRef,
}

/// A ring for at least `capacity` events (rounded up to a power of two), `full` for what happens to more, and what
/// the source that empties it is opened from.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if the capacity is out of range.
pub(crate) fn ring<E: Event>(capacity: usize, full: Full) -> Result<(EventSender<E>, EventRing<E>)> {
    if !(1..=MAX_CAPACITY).contains(&capacity) {
        return Err(Error::config(format!("`capacity` of the event ring is {capacity}; it may be 1 to {MAX_CAPACITY}")));
    }
    let (sender, receiver) = mpsc(capacity, full, WaitStrategy::Park);
    Ok((sender, EventRing { receiver: Mutex::new(Some(receiver)), schema: schema::<E>() }))
}

impl<E: Event> OpenSource for EventRing<E> {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn describe(&self) -> String {
        format!("events of {} bytes", size_of::<E>())
    }

    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>> {
        match self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(receiver) => Ok(Box::new(Events::new(receiver, config, SharedClock::clone(clock))?)),
            None => Err(Error::config("the events of a ring can be taken once, and a run has taken them; make a new ring")),
        }
    }
}

impl<E: Event> Events<E> {
    /// The source that empties the ring of `receiver`. A batch is handed on when it has `config.batch_rows` rows or
    /// its oldest is as old as the linger allows.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind::Schema) if the event's fields are wrong, which [`event!`](crate::event) rules out.
    pub fn new(receiver: Receiver<E>, config: &Config, clock: SharedClock) -> Result<Events<E>> {
        Ok(Events {
            receiver,
            rows: Vec::with_capacity(DRAIN_ROWS),
            columns: Transposer::new(config.batch_rows)?,
            clock,
            batch_rows: config.batch_rows,
            linger: Linger::new(config),
            received: 0,
            offset: 0,
            opened: false,
            ended: false,
        })
    }

    /// Moves events to the columns until the batch is full (false) or the ring empty (true).
    fn drain(&mut self) -> bool {
        while self.columns.rows() < self.batch_rows {
            self.rows.clear();
            let room = self.batch_rows - self.columns.rows();
            if self.receiver.drain_into(&mut self.rows, room.min(DRAIN_ROWS)) == 0 {
                return true;
            }
            if self.columns.rows() == 0 {
                self.received = self.clock.monotonic();
            }
            self.columns.push_rows(&self.rows);
        }
        false
    }

    /// Puts the rows so far into `delivery`.
    fn deliver(&mut self, delivery: &mut Delivery) -> Result<()> {
        let rows = self.columns.rows();
        if rows > 0 {
            delivery.batch = Some(Batch::new(self.columns.take()?, self.offset, self.received));
            delivery.bytes = (rows * size_of::<E>()) as u64;
            self.offset += rows as u64;
            self.linger.handed(self.received, self.clock.monotonic());
        }
        Ok(())
    }
}

impl<E: Event> Source for Events<E> {
    fn schema(&self) -> SchemaRef {
        self.columns.schema()
    }

    fn poll(&mut self, wait: Duration) -> Result<Delivery> {
        let mut delivery = Delivery { end: self.ended, ..Delivery::default() };
        if self.ended {
            return Ok(delivery);
        }
        if !std::mem::replace(&mut self.opened, true) {
            delivery.opened.push(PARTITION);
        }
        let start = self.clock.monotonic();
        self.linger.back(start);
        let until = start.saturating_add(nanos(wait));
        loop {
            // In this order: what is closed and then found empty stays empty.
            let closed = self.receiver.is_closed();
            let empty = self.drain();
            if closed && empty {
                self.ended = true;
                delivery.end = true;
                delivery.ended.push(PARTITION);
                self.deliver(&mut delivery)?;
                return Ok(delivery);
            }
            let now = self.clock.monotonic();
            let due = match self.columns.rows() {
                0 => u64::MAX,
                _ => self.linger.due(self.received),
            };
            if !empty || due <= now {
                self.deliver(&mut delivery)?;
                return Ok(delivery);
            }
            if until <= now {
                return Ok(delivery);
            }
            // Neither end of the wait is read off the clock again: a simulated one may stand still.
            if self.receiver.wait(Duration::from_nanos(due.min(until) - now)) == Err(Empty::TimedOut) {
                if due <= until {
                    self.deliver(&mut delivery)?;
                }
                return Ok(delivery);
            }
        }
    }
}

impl<E: Event> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("receiver", &self.receiver).field("offset", &self.offset).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::AsArray;
    use arrow::datatypes::{UInt32Type, UInt64Type};

    use super::*;
    use crate::time::{SimulatedClock, SystemClock, millis, secs};

    crate::event! {
        struct Click { number: u64, user: u32, page: u32 }
    }

    fn click(number: u64) -> Click {
        Click { number, user: number as u32 + 1, page: number as u32 + 2 }
    }

    /// The numbers of a delivery's rows, having checked the other columns against them.
    fn numbers(delivery: &Delivery) -> Vec<u64> {
        let Some(batch) = &delivery.batch else { return Vec::new() };
        let numbers = batch.records.column(0).as_primitive::<UInt64Type>().values().to_vec();
        for (column, plus) in [(1, 1), (2, 2)] {
            let values = batch.records.column(column).as_primitive::<UInt32Type>().values();
            assert!(values.iter().zip(&numbers).all(|(value, number)| *value == *number as u32 + plus));
        }
        assert_eq!(delivery.bytes, numbers.len() as u64 * 16);
        numbers
    }

    fn events(capacity: usize, full: Full, config: &Config, clock: SharedClock) -> (EventSender<Click>, Events<Click>) {
        let (sender, receiver) = mpsc(capacity, full, config.wait);
        (sender, Events::new(receiver, config, clock).unwrap())
    }

    #[test]
    fn a_batch_is_full_rows_or_lingered_rows_or_the_last() {
        let clock = SimulatedClock::shared();
        let config = Config { batch_rows: 4, linger: secs(1), ..Config::default() };
        let (sender, mut source) = events(16, Full::Fail, &config, clock.clone());

        let first = source.poll(Duration::ZERO).unwrap();
        assert_eq!((first.opened.as_slice(), first.batch.is_none(), first.end), ([PARTITION].as_slice(), true, false));

        clock.advance(millis(5));
        assert_eq!(sender.push_slice(&[click(0), click(1), click(2), click(3), click(4), click(5)]), 6);
        let full = source.poll(Duration::ZERO).unwrap();
        assert_eq!((numbers(&full), full.opened.len()), (vec![0, 1, 2, 3], 0));
        let batch = full.batch.unwrap();
        assert_eq!((batch.received, batch.segments[0].offset), (5_000_000, 0));

        assert!(source.poll(Duration::ZERO).unwrap().batch.is_none(), "two rows wait for more");
        clock.advance(secs(1));
        let lingered = source.poll(Duration::ZERO).unwrap();
        assert_eq!(numbers(&lingered), [4, 5]);
        let batch = lingered.batch.unwrap();
        assert_eq!((batch.received, batch.segments[0].offset), (5_000_000, 4));

        sender.push(click(6)).unwrap();
        drop(sender);
        let last = source.poll(Duration::MAX).unwrap();
        assert_eq!((numbers(&last), last.end, last.ended.as_slice()), (vec![6], true, [PARTITION].as_slice()));
        let after = source.poll(Duration::MAX).unwrap();
        assert_eq!((after.end, after.batch.is_none(), after.ended.len()), (true, true, 0));
    }

    #[test]
    fn a_latency_target_shortens_the_linger() {
        let clock = SimulatedClock::shared();
        let config = Config { linger: secs(1), latency_target: Some(millis(10)), ..Config::default() };
        let (sender, mut source) = events(16, Full::Fail, &config, clock.clone());
        sender.push(click(0)).unwrap();
        assert!(source.poll(Duration::ZERO).unwrap().batch.is_none());
        clock.advance(millis(5));
        assert_eq!(numbers(&source.poll(Duration::ZERO).unwrap()), [0]);
    }

    #[test]
    fn the_end_of_the_linger_cuts_a_longer_wait_short() {
        // The clock stands still, so only the wait itself can end the linger.
        let config = Config { linger: millis(1), ..Config::default() };
        let (sender, mut source) = events(16, Full::Fail, &config, SimulatedClock::shared());
        sender.push(click(0)).unwrap();
        assert_eq!(numbers(&source.poll(Duration::MAX).unwrap()), [0]);
    }

    #[test]
    fn every_event_of_every_thread_arrives_once() {
        const SENDERS: u64 = 3;
        const EACH: u64 = 20_000;
        let config = Config { batch_rows: 1_000, ..Config::default() };
        let (sender, mut source) = events(64, Full::Block, &config, SystemClock::shared());
        let mut arrived = Vec::new();
        std::thread::scope(|scope| {
            for id in 0..SENDERS {
                let sender = sender.clone();
                scope.spawn(move || (0..EACH).for_each(|n| sender.push(click(id * EACH + n)).unwrap()));
            }
            drop(sender);
            loop {
                let delivery = source.poll(secs(1)).unwrap();
                if let Some(batch) = &delivery.batch {
                    assert_eq!(batch.segments[0].offset, arrived.len() as u64);
                }
                arrived.extend(numbers(&delivery));
                if delivery.end {
                    break;
                }
            }
        });
        for id in 0..SENDERS {
            let range = id * EACH..(id + 1) * EACH;
            assert!(arrived.iter().copied().filter(|number| range.contains(number)).eq(range.clone()));
        }
        assert_eq!((arrived.len() as u64, source.receiver.dropped()), (SENDERS * EACH, 0));
    }

    #[test]
    fn what_was_dropped_is_counted() {
        let (sender, mut source) = events(4, Full::DropOldest, &Config::default(), SystemClock::shared());
        assert_eq!(sender.push_slice(&[0, 1, 2, 3, 4, 5].map(click)), 6);
        drop(sender);
        assert_eq!(numbers(&source.poll(Duration::ZERO).unwrap()), [2, 3, 4, 5]);
        assert_eq!(source.receiver.dropped(), 2);
    }

    #[test]
    fn a_capacity_out_of_range_is_named() {
        let error = ring::<Click>(0, Full::Block).err().unwrap();
        assert_eq!(error.to_string(), "`capacity` of the event ring is 0; it may be 1 to 67108864");
    }
}
