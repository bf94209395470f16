//! The ring from many producers to one consumer.
//!
//! Vyukov's bounded queue (1024cores.net, "Bounded MPMC queue"): each slot carries a sequence that says whose turn it is. A
//! producer claims a position by compare-and-swap on `tail`, writes the slot, and publishes it by its sequence; the
//! consumer reads published slots in order and frees them by their sequence, so that the producers never look
//! at the consumer's index. A batch claims up to [`CHUNK`] positions at once.
//!
//! # Positions
//! A position is counted in steps of [`STEP`] = 2 and never reset; bit 0 of `tail` is [`SLEEPING`]. For the slot of position `p`
//! and `lap` = the steps around the ring:
//!
//! | sequence | the slot |
//! |---|---|
//! | `p` | is free for the producer that claims `p` |
//! | `p + STEP` | holds the value of `p` |
//! | `p + lap` | is free again, for the next lap |
//!
//! # Orderings
//! * A sequence is stored with Release after the slot is written or read, and loaded with Acquire before the slot is read
//!   or written: each turn sees the one before it whole.
//! * `head` is claimed by compare-and-swap, as the consumer shares it with producers that drop the oldest value. Relaxed:
//!   it decides only who has the slot; what is in it is ordered by the sequence.
//! * `tail` is changed by read-modify-writes alone, which form one total order; that of the sleeper is described below.
//!
//! # Sleeping without a fence
//! The consumer falls asleep by setting [`SLEEPING`] in `tail`, by a compare-and-swap that succeeds only if `tail` is still where the
//! consumer has read to: nothing is claimed. Every producer must then change that same word to claim a position, so
//! the one that claims first finds the bit in the very value that it replaces, clears it, and wakes the
//! consumer once its value is published. Either the producer's claim comes first in the word's order, and the consumer does not
//! sleep; or the sleep comes first, and the producer sees it. There is no third case, so a push pays nothing for
//! sleepers: no fence, no second load. The last sender to go passes through the same word.
//!
//! # Dropping the oldest
//! A full ring means that the slot at `tail` holds the value of `tail - lap`. If that is still the oldest, i.e. `head` stands on it,
//! the producer takes it as a second consumer would, by compare-and-swap on `head`, and frees it unread. The consumer claims what
//! it reads in the same way and before it reads, so a slot has one owner at any time; if the consumer has
//! claimed it, the producer waits for that copy of at most [`CHUNK`] values to end. A slot that is claimed but not yet
//! published (its producer was preempted) cannot be dropped; a producer a whole lap later waits for it.

use std::fmt;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, CachePadded, Deadline, Mutex, Ordering, Thread, UnsafeCell, current, lock, park, yield_now,
};
use super::wait::{Sleepers, settle_pauses, wait_until};
use super::{Empty, Refused};
use crate::config::WaitStrategy;

/// From one position to the next; leaves bit 0 of `tail` for [`SLEEPING`].
const STEP: usize = 2;

/// Set in `tail` while the consumer sleeps.
const SLEEPING: usize = 1;

/// Positions that one batch claims at once: enough that the claim costs nothing per value, few enough that
/// nobody waits long for a claimed slot.
const CHUNK: usize = 64;

/// What happens to a value that finds the ring full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Full {
    /// Its sender waits for space: nothing is lost, the sender slows down.
    #[default]
    Block,
    /// It is given back to its sender.
    Fail,
    /// The oldest value in the ring makes room; [`Receiver::dropped`] counts it. For values whose worth lies in being recent.
    DropOldest,
}

struct Slot<T> {
    sequence: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct Shared<T> {
    /// The oldest position that is not claimed for reading or dropping.
    head: CachePadded<AtomicUsize>,
    /// The next position to claim for writing, and [`SLEEPING`].
    tail: CachePadded<AtomicUsize>,
    /// Senders waiting for space.
    space: CachePadded<Sleepers>,
    /// A power of two of them.
    slots: Box<[Slot<T>]>,
    full: Full,
    wait: WaitStrategy,
    settle: u32,
    receiver_gone: AtomicBool,
    senders: AtomicUsize,
    /// The consumer, while [`SLEEPING`] is set.
    sleeper: Mutex<Option<Thread>>,
    dropped: CachePadded<AtomicU64>,
}

// SAFETY: a slot's value is touched only by the owner of its turn, as the module documentation shows, and each turn synchronises
// with the next by the slot's sequence. Values move to another thread: T: Send.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}
// SAFETY: as above; values are Copy, so whoever drops the ring drops nothing of theirs.
unsafe impl<T: Copy + Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    fn slot(&self, position: usize) -> &Slot<T> {
        &self.slots[(position / STEP) & (self.slots.len() - 1)]
    }

    #[inline(always)]
    fn lap(&self) -> usize {
        self.slots.len() * STEP
    }

    fn len(&self) -> usize {
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.load(Ordering::Acquire) & !SLEEPING;
        (tail.wrapping_sub(head) / STEP).min(self.slots.len())
    }

    fn is_published(&self, position: usize) -> bool {
        self.slot(position).sequence.load(Ordering::Acquire) == position.wrapping_add(STEP)
    }

    /// Wakes the consumer, having taken [`SLEEPING`] out of `tail`.
    #[cold]
    #[inline(never)]
    fn wake_receiver(&self) {
        if let Some(thread) = lock(&self.sleeper).take() {
            thread.unpark();
        }
    }
}

impl<T: Copy> Shared<T> {
    /// Pushes the first values, at most [`CHUNK`]: how many there was space for, or the position at which the ring is full.
    #[inline(always)]
    fn offer(&self, values: &[T]) -> Result<usize, usize> {
        let most = values.len().min(CHUNK);
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let position = tail & !SLEEPING;
            let turn = self.slot(position).sequence.load(Ordering::Acquire).wrapping_sub(position);
            if turn != 0 {
                if turn as isize > 0 {
                    continue; // The position is claimed already: `tail` was out of date.
                }
                return Err(position);
            }
            let mut count = 1;
            while count < most {
                let next = position.wrapping_add(count * STEP);
                if self.slot(next).sequence.load(Ordering::Acquire) != next {
                    break;
                }
                count += 1;
            }
            // A free slot stays free until its position is claimed, so what was seen above still holds if this succeeds.
            // Acquire: sees the sleeper that set SLEEPING. Release: seen by it if this comes first.
            let claimed = position.wrapping_add(count * STEP);
            if self.tail.compare_exchange_weak(tail, claimed, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            for (index, value) in values[..count].iter().enumerate() {
                let at = position.wrapping_add(index * STEP);
                let slot = self.slot(at);
                // SAFETY: the slot was free for `at`, and the claim gave `at` to this thread alone.
                slot.value.with_mut(|place| unsafe { (*place).write(*value) });
                slot.sequence.store(at.wrapping_add(STEP), Ordering::Release);
            }
            if tail & SLEEPING != 0 {
                self.wake_receiver();
            }
            return Ok(count);
        }
    }

    /// Makes room at `position`, where the ring was full, or lets others go on that stand in the way.
    fn drop_oldest(&self, position: usize) {
        let oldest = position.wrapping_sub(self.lap());
        let next = oldest.wrapping_add(STEP);
        // If head still stands on `oldest` when it is swapped, the ring is full at that moment: no value is dropped in vain.
        if self.is_published(oldest) && self.head.compare_exchange(oldest, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.slot(oldest).sequence.store(position, Ordering::Release);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            yield_now();
        }
    }

    /// Claims up to `max` published values for reading, at most [`CHUNK`]: the first position and how many.
    #[inline(always)]
    fn claim(&self, max: usize) -> (usize, usize) {
        let most = max.min(CHUNK);
        let mut head = self.head.load(Ordering::Relaxed);
        let mut count = 0;
        loop {
            while count < most && self.is_published(head.wrapping_add(count * STEP)) {
                count += 1;
            }
            let to = head.wrapping_add(count * STEP);
            match self.head.compare_exchange(head, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (head, count),
                Err(now) => {
                    // Producers have dropped the oldest in the meantime. What was seen published behind them still is, so the
                    // next attempt follows at once and they cannot starve this one.
                    count = count.saturating_sub(now.wrapping_sub(head) / STEP);
                    head = now;
                }
            }
        }
    }

    /// Reads the value at a position that was claimed, and frees the slot.
    #[inline(always)]
    fn take(&self, position: usize) -> T {
        let slot = self.slot(position);
        // SAFETY: the slot was published, and the claim on `head` gave it to this thread alone until the store below.
        let value = slot.value.with(|place| unsafe { (*place).assume_init() });
        slot.sequence.store(position.wrapping_add(self.lap()), Ordering::Release);
        value
    }
}

/// A ring of at least `capacity` values (rounded up to a power of two, at least 2).
///
/// # Panics
/// Like [`Vec::with_capacity`], if that many values exceed the address space.
pub fn mpsc<T: Copy + Send>(capacity: usize, full: Full, wait: WaitStrategy) -> (Sender<T>, Receiver<T>) {
    // With one slot, "holds p" and "free for the next lap" would be the same sequence.
    let capacity = super::slots(capacity, 2);
    let slot = |index| Slot { sequence: AtomicUsize::new(index * STEP), value: UnsafeCell::new(MaybeUninit::uninit()) };
    let shared = Arc::new(Shared {
        head: CachePadded(AtomicUsize::new(0)),
        tail: CachePadded(AtomicUsize::new(0)),
        space: CachePadded(Sleepers::new(wait, capacity)),
        slots: (0..capacity).map(slot).collect(),
        full,
        wait,
        settle: settle_pauses(wait, capacity),
        receiver_gone: AtomicBool::new(false),
        senders: AtomicUsize::new(1),
        sleeper: Mutex::new(None),
        dropped: CachePadded(AtomicU64::new(0)),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The side that pushes; clone it for each thread. Dropping the last one closes the ring.
pub struct Sender<T: Copy + Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Copy + Send> Sender<T> {
    /// Pushes a value; if the ring is full, waits, fails or drops the oldest as [`Full`] says.
    ///
    /// # Errors
    /// The value, if the receiver is gone, or under [`Full::Fail`] if the ring is full.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), Refused<T>> {
        loop {
            match self.try_push(value) {
                Err(Refused::Full(value)) if self.shared.full == Full::Fail => return Err(Refused::Full(value)),
                Err(Refused::Full(_)) => self.make_room(),
                done => return done,
            }
        }
    }

    /// Pushes without waiting and without dropping.
    ///
    /// # Errors
    /// The value, if the ring is full or the receiver is gone. A slot that the receiver is just reading counts as full.
    #[inline]
    pub fn try_push(&self, value: T) -> Result<(), Refused<T>> {
        if self.is_closed() {
            return Err(Refused::Closed(value));
        }
        match self.shared.offer(&[value]) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refused::Full(value)),
        }
    }

    /// Pushes the first values of `values` and returns how many: under [`Full::Fail`] as many as there is space for, else all
    /// unless the receiver goes. Neighbouring values stay neighbours in runs of up to 64.
    pub fn push_slice(&self, values: &[T]) -> usize {
        let mut done = 0;
        while done < values.len() && !self.is_closed() {
            match self.shared.offer(&values[done..]) {
                Ok(count) => done += count,
                Err(_) if self.shared.full == Full::Fail => break,
                Err(_) => self.make_room(),
            }
        }
        done
    }

    /// Waits for a slot or frees one, in vain if others are faster.
    #[cold]
    fn make_room(&self) {
        let shared = &*self.shared;
        let tail = || shared.tail.load(Ordering::Relaxed) & !SLEEPING;
        if shared.full == Full::DropOldest {
            let position = tail();
            let turn = shared.slot(position).sequence.load(Ordering::Relaxed).wrapping_sub(position);
            if (turn as isize) < 0 {
                shared.drop_oldest(position);
            }
            return;
        }
        shared.space.wait(Deadline::NEVER, || {
            let position = tail();
            let turn = shared.slot(position).sequence.load(Ordering::Relaxed).wrapping_sub(position);
            turn as isize >= 0 || shared.receiver_gone.load(Ordering::Relaxed)
        });
    }

    /// Values dropped so far under [`Full::DropOldest`].
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Values in the ring, while others push and pop.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that fit.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the receiver is gone.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // Relaxed: the flag guards no data.
        self.shared.receiver_gone.load(Ordering::Relaxed)
    }
}

impl<T: Copy + Send> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        // Relaxed: made from a sender that lives, so the count is not zero and nothing depends on its order.
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Sender { shared: self.shared.clone() }
    }
}

impl<T: Copy + Send> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: the pushes of this sender come before its going; Acquire: the last one passes on those of the others.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // Through the word by which the consumer falls asleep, so that either it sees the count or this sees it asleep.
        if self.shared.tail.fetch_and(!SLEEPING, Ordering::AcqRel) & SLEEPING != 0 {
            self.shared.wake_receiver();
        }
    }
}

/// The side that pops. Dropping it closes the ring.
pub struct Receiver<T: Copy + Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Copy + Send> Receiver<T> {
    /// Pops up to `max` values to the end of `into` without waiting, and returns how many.
    pub fn drain_into(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let mut done = 0;
        while done < max {
            into.reserve((max - done).min(CHUNK));
            let (position, count) = self.shared.claim(max - done);
            if count == 0 {
                break;
            }
            into.extend((0..count).map(|index| self.shared.take(position.wrapping_add(index * STEP))));
            self.shared.space.wake();
            done += count;
        }
        done
    }

    /// Pops without waiting; `None` if the ring is empty, closed or not.
    #[inline]
    pub fn try_recv(&mut self) -> Option<T> {
        let (position, count) = self.shared.claim(1);
        if count == 0 {
            return None;
        }
        let value = self.shared.take(position);
        self.shared.space.wake();
        Some(value)
    }

    /// Pops, waiting for a value; `None` once every sender is gone and the ring is empty.
    pub fn recv(&mut self) -> Option<T> {
        self.recv_until(Deadline::NEVER).ok()
    }

    /// Pops, waiting for a value no longer than `wait`.
    ///
    /// # Errors
    /// [`Empty::TimedOut`] if none came, [`Empty::Closed`] once every sender is gone and the ring is empty.
    pub fn recv_timeout(&mut self, wait: Duration) -> Result<T, Empty> {
        match self.try_recv() {
            Some(value) => Ok(value),
            None => self.recv_until(Deadline::after(wait)),
        }
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<T, Empty> {
        loop {
            self.wait_until(deadline)?;
            // Empty-handed only if the one value there was has been dropped as the oldest.
            if let Some(value) = self.try_recv() {
                return Ok(value);
            }
        }
    }

    /// Waits no longer than `wait` until there is something to pop.
    ///
    /// # Errors
    /// [`Empty::TimedOut`] if nothing came, [`Empty::Closed`] once every sender is gone and the ring is empty.
    pub fn wait(&mut self, wait: Duration) -> Result<(), Empty> {
        match self.is_ready() {
            true => Ok(()),
            false => self.wait_until(Deadline::after(wait)),
        }
    }

    fn wait_until(&mut self, deadline: Deadline) -> Result<(), Empty> {
        let came = wait_until(
            self.shared.wait,
            self.shared.settle,
            deadline,
            || self.is_ready() || self.is_closed(),
            |deadline| self.sleep(deadline),
        );
        // In this order: what is closed and then found empty stays empty.
        let closed = self.is_closed();
        match self.is_ready() {
            true => Ok(()),
            false if closed => Err(Empty::Closed),
            false if !came => Err(Empty::TimedOut),
            // A value came and was dropped as the oldest; a newer one is on its way.
            false => Ok(()),
        }
    }

    fn is_ready(&self) -> bool {
        self.shared.is_published(self.shared.head.load(Ordering::Relaxed))
    }

    /// Sleeps unless a position has been claimed; may wake early.
    fn sleep(&self, deadline: Deadline) {
        let shared = &*self.shared;
        *lock(&shared.sleeper) = Some(current());
        // Out of date or not: tail is never behind head, so they are equal only if head is right and the ring is empty.
        let head = shared.head.load(Ordering::Relaxed);
        // Release: who finds the bit finds the thread. Acquire: sees the going of the last sender if that came first.
        if shared.tail.compare_exchange(head, head | SLEEPING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // A value is claimed and soon published.
            yield_now();
            return;
        }
        if !self.is_closed() {
            park(deadline);
        }
        // After a timeout or an idle wake the bit may still be there. Relaxed: it is taken back, nothing is told.
        shared.tail.fetch_and(!SLEEPING, Ordering::Relaxed);
    }

    /// Values dropped so far under [`Full::DropOldest`].
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Values in the ring, while others push.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that fit.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether every sender is gone: nothing will come after what is in the ring.
    pub fn is_closed(&self) -> bool {
        // Acquire: sees everything that the senders pushed before they went.
        self.shared.senders.load(Ordering::Acquire) == 0
    }
}

impl<T: Copy + Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_gone.store(true, Ordering::Relaxed);
        self.shared.space.wake();
    }
}

impl<T: Copy + Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl<T: Copy + Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "mpsc_tests.rs"]
mod tests;
