//! Bounded lock-free rings between threads.
//!
//! | ring | for | |
//! |---|---|---|
//! | [`spsc`] | one producer, one consumer, any `T` | batches from a source thread to its worker, rows to a worker |
//! | [`mpsc`] | many producers, one consumer, `T: Copy` | typed events from the threads of a program |
//!
//! A full ring is backpressure: nothing here allocates after construction. Either side ends the other by being
//! dropped: what was pushed before is still popped, then popping says that the ring is closed.
//!
//! Each operation comes in three strengths: `try_…` never waits, the plain one waits as [`WaitStrategy`] says, and
//! the batched one moves many items for the price of one hand-over. Prefer the batched one: what costs time in a
//! ring is the cache line that carries the index from core to core, and a batch sends it once.
//!
//! [`WaitStrategy`]: crate::config::WaitStrategy

use std::fmt;

mod mpsc;
mod spsc;
mod sync;
mod wait;

#[cfg(all(test, loom))]
mod loom_tests;

pub use mpsc::{Full, Receiver, Sender, mpsc};
pub use spsc::{Consumer, Producer, spsc, spsc_waiting};

/// How many slots hold at least `capacity` items: a power of two, so that a mask finds the slot of a position.
/// Cut where no allocation can follow, which then panics as [`Vec::with_capacity`] does.
fn slots(capacity: usize, least: usize) -> usize {
    capacity.clamp(least, 1 << (usize::BITS - 3)).next_power_of_two()
}

/// The consumer is gone; the value that could not be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// Why a [`Sender`], or a [`Producer`] within its time, did not take a value, and the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<T> {
    /// The ring is full.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// Why nothing was popped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// The wait was over.
    TimedOut,
    /// Nothing is left and nothing will come: every producer is gone.
    Closed,
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the consumer of the ring is gone")
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full(_) => "the ring is full",
            Refused::Closed(_) => "the receiver of the ring is gone",
        })
    }
}

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Empty::TimedOut => "nothing came in time",
            Empty::Closed => "the ring is empty and its producers are gone",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for Closed<T> {}
impl<T: fmt::Debug> std::error::Error for Refused<T> {}
impl std::error::Error for Empty {}
