//! What the polling thread and the source tell each other.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chunk::Chunk;
use super::positions::Place;
use crate::error::Error;

/// What the polling thread hands over.
pub(super) enum Event {
    Records(Chunk),
    /// Partitions that have begun, with their numbers and where they begin.
    Opened(Vec<(u32, Place, i64)>),
    /// Partitions that were read to their ends.
    Ended(Vec<u32>),
    /// Partitions that the group gives to others once [`Shared::release`] says so, or has given already.
    Revoked {
        partitions: Vec<u32>,
        lost: bool,
    },
    /// The offsets after the newest records, by partition.
    Newest(Vec<(u32, i64)>),
    /// Records that were gone.
    Skipped(u64),
    Failed(Error),
    End,
}

/// What the source tells the polling thread.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    /// The partitions to pause, if they are others than before.
    paused: Mutex<Option<BTreeSet<u32>>>,
    /// How many revocations the pipeline has dealt with.
    released: Mutex<u64>,
    release: Condvar,
}

impl Shared {
    pub(super) fn pause(&self, partitions: BTreeSet<u32>) {
        *locked(&self.paused) = Some(partitions);
    }

    pub(super) fn take_pause(&self) -> Option<BTreeSet<u32>> {
        locked(&self.paused).take()
    }

    /// One more revocation was dealt with.
    pub(super) fn release(&self) {
        *locked(&self.released) += 1;
        self.release.notify_all();
    }

    /// Whether so many revocations were dealt with; if not, waits for the next, no longer than `wait`.
    pub(super) fn are_released(&self, revocations: u64, wait: Duration) -> bool {
        let released = locked(&self.released);
        *released >= revocations || {
            drop(self.release.wait_timeout(released, wait));
            false
        }
    }

    /// Waits a moment for the polling thread to see to the group.
    pub(super) fn wait(&self, moment: Duration) {
        drop(self.release.wait_timeout(locked(&self.released), moment));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
