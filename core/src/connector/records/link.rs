//! What a source tells the thread that reads for it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a source tells the thread that reads for it.
#[derive(Default)]
pub(in crate::connector) struct Shared {
    pub(in crate::connector) stop: AtomicBool,
    /// The partitions to pause, if they are others than before.
    paused: Mutex<Option<BTreeSet<u32>>>,
    /// How many revocations the pipeline has dealt with.
    released: Mutex<u64>,
    release: Condvar,
}

impl Shared {
    pub(in crate::connector) fn pause(&self, partitions: BTreeSet<u32>) {
        *locked(&self.paused) = Some(partitions);
    }

    pub(in crate::connector) fn take_pause(&self) -> Option<BTreeSet<u32>> {
        locked(&self.paused).take()
    }

    /// One more revocation was dealt with.
    pub(in crate::connector) fn release(&self) {
        *locked(&self.released) += 1;
        self.release.notify_all();
    }

    /// Whether so many revocations were dealt with; if not, waits for the next, no longer than `wait`.
    pub(in crate::connector) fn are_released(&self, revocations: u64, wait: Duration) -> bool {
        let released = locked(&self.released);
        *released >= revocations || {
            drop(self.release.wait_timeout(released, wait));
            false
        }
    }

    /// Waits a moment for the other thread.
    pub(in crate::connector) fn wait(&self, moment: Duration) {
        drop(self.release.wait_timeout(locked(&self.released), moment));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
