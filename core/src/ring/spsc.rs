//! The ring between one producer and one consumer.
//!
//! Lamport's queue ("Specifying concurrent program modules", 1983): each side owns one index and reads the other's.
//! Each keeps a copy of the other's index and reads the shared one only when the copy says full or empty, so
//! that the line of an index crosses between cores once per lap instead of once per item (Lee, Bu and Chandranmenon,
//! "A lock-free, cache-efficient shared ring buffer", ANCS 2009; Rigtorp's `SPSCQueue`). Indices count
//! up for ever and are cut to a slot by a mask; their difference is the length, wrap-around included.
//!
//! # Orderings
//! * `tail` is stored with Release after the slots are written and loaded with Acquire before they are read: an item is
//!   seen whole or not at all.
//! * `head` is stored with Release after the slots are read and loaded with Acquire before they are written again: a slot is
//!   not overwritten while it is being read.
//! * Each side knows its own index without a load.
//! * `producer_gone` is stored with Release after the last push and loaded with Acquire before the last look: closed
//!   and then empty is final. `consumer_gone` guards no data.
//! * Sleeping: see [`Sleepers`].

use std::fmt;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::sync::{Arc, AtomicBool, AtomicUsize, CachePadded, Deadline, Ordering, UnsafeCell, empty, fill};
use super::wait::Sleepers;
use super::{Closed, Empty, Refused};
use crate::config::WaitStrategy;

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

struct Shared<T> {
    /// The next item to pop; written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// The next slot to fill; written by the producer.
    tail: CachePadded<AtomicUsize>,
    /// The consumer, waiting for items.
    items: CachePadded<Sleepers>,
    /// The producer, waiting for space.
    space: CachePadded<Sleepers>,
    /// A power of two of them; those from `head` to `tail` hold items.
    slots: Box<[Slot<T>]>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

// SAFETY: a slot is written by the producer alone while it lies outside `head..tail` and read by the consumer alone
// while it lies inside; the orderings above make each hand-over a synchronisation. Items move to another thread: T: Send.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the last of the two threads drops the items that are left.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// The neighbouring slots of positions `from..from + count`: up to the end of the memory, then from its start.
    #[inline(always)]
    fn runs(&self, from: usize, count: usize) -> (&[Slot<T>], &[Slot<T>]) {
        let start = from & (self.slots.len() - 1);
        let first = count.min(self.slots.len() - start);
        (&self.slots[start..start + first], &self.slots[..count - first])
    }

    #[inline(always)]
    fn slot(&self, position: usize) -> &Slot<T> {
        // SAFETY: there is at least one slot, and a mask of one less than their number, a power of two, stays below it.
        unsafe { self.slots.get_unchecked(position & (self.slots.len() - 1)) }
    }

    fn len(&self) -> usize {
        // Acquire on the first keeps the second from being older than it; a push or pop in between still may
        // be half seen, hence the minimum.
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).wrapping_sub(head).min(self.slots.len())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed: the reference count has ordered this after both sides' last use.
        let (mut at, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while at != tail {
            // SAFETY: positions from head to tail hold items, and nobody else is left to touch them.
            self.slot(at).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            at = at.wrapping_add(1);
        }
    }
}

/// A ring of at least `capacity` items (rounded up to a power of two) whose waits are
/// [`WaitStrategy::Park`]'s.
///
/// # Panics
/// Like [`Vec::with_capacity`], if that many items exceed the address space.
pub fn spsc<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    spsc_waiting(capacity, WaitStrategy::Park)
}

/// [`spsc`] with another way of waiting.
///
/// # Panics
/// Like [`Vec::with_capacity`], if that many items exceed the address space.
pub fn spsc_waiting<T>(capacity: usize, wait: WaitStrategy) -> (Producer<T>, Consumer<T>) {
    let capacity = super::slots(capacity, 1);
    let shared = Arc::new(Shared {
        head: CachePadded(AtomicUsize::new(0)),
        tail: CachePadded(AtomicUsize::new(0)),
        items: CachePadded(Sleepers::new(wait, capacity)),
        space: CachePadded(Sleepers::new(wait, capacity)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
    });
    (Producer { shared: shared.clone(), tail: 0, head: 0 }, Consumer { shared, head: 0, tail: 0 })
}

/// The side that pushes. Dropping it closes the ring.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// What `shared.tail` holds.
    tail: usize,
    /// What `shared.head` held when last looked at: never ahead of it.
    head: usize,
}

impl<T> Producer<T> {
    /// Free slots, as many as `wanted` if there are; looks at the consumer's index only if it must.
    #[inline(always)]
    fn room(&mut self, wanted: usize) -> usize {
        let free = self.capacity() - self.tail.wrapping_sub(self.head);
        if free >= wanted {
            return wanted;
        }
        self.head = self.shared.head.load(Ordering::Acquire);
        wanted.min(self.capacity() - self.tail.wrapping_sub(self.head))
    }

    /// Hands the `count` items written after `tail` to the consumer.
    #[inline(always)]
    fn publish(&mut self, count: usize) {
        self.tail = self.tail.wrapping_add(count);
        self.shared.tail.store(self.tail, Ordering::Release);
        self.shared.items.wake();
    }

    /// Pushes without waiting.
    ///
    /// # Errors
    /// The value, if the ring is full.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), T> {
        if self.room(1) == 0 {
            return Err(value);
        }
        // SAFETY: the slot at `tail` is free, as `room` has seen, and this is the only producer.
        self.shared.slot(self.tail).with_mut(|slot| unsafe { (*slot).write(value) });
        self.publish(1);
        Ok(())
    }

    /// Pushes, waiting for space.
    ///
    /// # Errors
    /// The value, if the consumer is gone.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), Closed<T>> {
        if self.is_closed() {
            return Err(Closed(value));
        }
        self.try_push(value).or_else(|value| match self.push_waiting(value, Deadline::NEVER) {
            Err(Refused::Closed(value) | Refused::Full(value)) => Err(Closed(value)),
            Ok(()) => Ok(()),
        })
    }

    /// Pushes, waiting for space no longer than `wait`.
    ///
    /// # Errors
    /// The value, if there was no space in time or the consumer is gone.
    pub fn push_timeout(&mut self, value: T, wait: Duration) -> Result<(), Refused<T>> {
        if self.is_closed() {
            return Err(Refused::Closed(value));
        }
        self.try_push(value).or_else(|value| self.push_waiting(value, Deadline::after(wait)))
    }

    #[cold]
    #[inline(never)]
    fn push_waiting(&mut self, value: T, deadline: Deadline) -> Result<(), Refused<T>> {
        let mut value = value;
        loop {
            let (shared, seen) = (&*self.shared, self.head);
            // The ring was full at `seen`: any other head means space.
            let came =
                shared.space.wait(deadline, || shared.head.load(Ordering::Relaxed) != seen || shared.consumer_gone.load(Ordering::Relaxed));
            if self.is_closed() {
                return Err(Refused::Closed(value));
            }
            match self.try_push(value) {
                Ok(()) => return Ok(()),
                Err(back) if !came => return Err(Refused::Full(back)),
                Err(back) => value = back,
            }
        }
    }

    /// Pushes the first items of `values`, as many as there is space for, and returns how many.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> usize
    where
        T: Copy,
    {
        let count = self.room(values.len());
        let (first, second) = self.shared.runs(self.tail, count);
        let (before, after) = values[..count].split_at(first.len());
        // SAFETY: `room` has seen these slots free, and this is the only producer.
        unsafe {
            fill(first, before);
            fill(second, after);
        }
        if count > 0 {
            self.publish(count);
        }
        count
    }

    /// Pushes what `values` gives while there is space, and returns how many. Takes nothing from the iterator that it cannot push.
    ///
    /// All are handed over together at the end; should the iterator panic, those taken in this call are leaked.
    pub fn push_iter(&mut self, values: impl IntoIterator<Item = T>) -> usize {
        let values = values.into_iter();
        let room = self.room(values.size_hint().1.map_or(self.capacity(), |most| most.min(self.capacity())));
        let mut count = 0;
        for value in values.take(room) {
            // SAFETY: `room` has seen this slot free, and this is the only producer.
            self.shared.slot(self.tail.wrapping_add(count)).with_mut(|slot| unsafe { (*slot).write(value) });
            count += 1;
        }
        if count > 0 {
            self.publish(count);
        }
        count
    }

    /// Items in the ring, while the consumer may be popping.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that fit.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the consumer is gone: nothing that is pushed will be popped.
    pub fn is_closed(&self) -> bool {
        // Relaxed: the flag guards no data.
        self.shared.consumer_gone.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.producer_gone.store(true, Ordering::Release);
        self.shared.items.wake();
    }
}

/// The side that pops. Dropping it closes the ring.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// What `shared.head` holds.
    head: usize,
    /// What `shared.tail` held when last looked at: never ahead of it.
    tail: usize,
}

impl<T> Consumer<T> {
    /// Items to pop, as many as `wanted` if there are; looks at the producer's index only if it must.
    #[inline(always)]
    fn ready(&mut self, wanted: usize) -> usize {
        let items = self.tail.wrapping_sub(self.head);
        if items >= wanted {
            return wanted;
        }
        self.tail = self.shared.tail.load(Ordering::Acquire);
        wanted.min(self.tail.wrapping_sub(self.head))
    }

    /// Gives the `count` slots read after `head` back to the producer.
    #[inline(always)]
    fn release(&mut self, count: usize) {
        self.head = self.head.wrapping_add(count);
        self.shared.head.store(self.head, Ordering::Release);
        self.shared.space.wake();
    }

    /// Pops without waiting; `None` if the ring is empty, closed or not.
    #[inline]
    pub fn try_pop(&mut self) -> Option<T> {
        if self.ready(1) == 0 {
            return None;
        }
        // SAFETY: the slot at `head` holds an item, as `ready` has seen, and this is the only consumer; `release` gives the
        // slot up, so the item is read once.
        let value = self.shared.slot(self.head).with(|slot| unsafe { (*slot).assume_init_read() });
        self.release(1);
        Some(value)
    }

    /// Pops, waiting for an item; `None` once the producer is gone and the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.try_pop().or_else(|| self.pop_waiting(Deadline::NEVER).ok())
    }

    /// Pops, waiting for an item no longer than `wait`.
    ///
    /// # Errors
    /// [`Empty::TimedOut`] if none came, [`Empty::Closed`] once the producer is gone and the ring is empty.
    #[inline]
    pub fn pop_timeout(&mut self, wait: Duration) -> Result<T, Empty> {
        self.try_pop().map_or_else(|| self.pop_waiting(Deadline::after(wait)), Ok)
    }

    #[cold]
    #[inline(never)]
    fn pop_waiting(&mut self, deadline: Deadline) -> Result<T, Empty> {
        loop {
            let (shared, seen) = (&*self.shared, self.tail);
            // The ring was empty at `seen`: any other tail means an item.
            let came =
                shared.items.wait(deadline, || shared.tail.load(Ordering::Relaxed) != seen || shared.producer_gone.load(Ordering::Relaxed));
            // In this order: what is closed and then found empty stays empty.
            let closed = self.is_closed();
            match self.try_pop() {
                Some(value) => return Ok(value),
                None if closed => return Err(Empty::Closed),
                None if !came => return Err(Empty::TimedOut),
                None => {}
            }
        }
    }

    /// Pops up to `max` items to the end of `into` without waiting, and returns how many.
    #[inline]
    pub fn pop_into(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let count = self.ready(max.min(self.capacity()));
        if count == 0 {
            return 0;
        }
        into.reserve(count);
        let (first, second) = self.shared.runs(self.head, count);
        // SAFETY: `ready` has seen items in these slots, and this is the only consumer; `release` gives the slots up, so
        // each item is read once. Nothing in between can panic: the space is reserved.
        unsafe {
            empty(first, into);
            empty(second, into);
        }
        self.release(count);
        count
    }

    /// Items in the ring, while the producer may be pushing.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that fit.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the producer is gone: nothing will come after what is in the ring.
    pub fn is_closed(&self) -> bool {
        self.shared.producer_gone.load(Ordering::Acquire)
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.consumer_gone.store(true, Ordering::Relaxed);
        self.shared.space.wake();
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "spsc_tests.rs"]
mod tests;
