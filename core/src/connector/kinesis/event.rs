//! What the reading thread hands over, and what the source tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::columns::Extras;
use super::position::Checkpoint;
use crate::connector::records::Chunk;
use crate::error::{Error, Result};

/// What the reading thread hands over.
pub(super) enum Event {
    Records(Chunk, Extras),
    /// Shards that have begun, with their numbers and names.
    Opened(Vec<(u32, String)>),
    /// A shard of which there is no more to read: it is at its end for good, or only this read is.
    Ended {
        shard: u32,
        for_good: bool,
    },
    /// Shards that another program has taken.
    Lost(Vec<u32>),
    /// How far behind the newest record the reading of shards is.
    Behind(Vec<(u32, Duration)>),
    /// Records had gone before they could be read, nobody knows how many.
    Gap,
    Failed(Error),
    End,
}

/// Checkpoints on their way to the lease table.
#[derive(Default)]
pub(super) struct Checkpoints {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<u32, Checkpoint>,
    /// How many times something was wanted, how many of these were taken, and how many are done.
    asked: u64,
    taken: u64,
    done: u64,
    failed: Option<Error>,
    /// Nothing more will be wanted: leases are given up when all is done.
    last: bool,
    closed: bool,
}

/// Tells those who wait for checkpoints, at the end of the thread that writes them, be it by a panic.
pub(super) struct Closing(pub Arc<Checkpoints>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the reading thread is to write.
#[derive(Default)]
pub(super) struct Wanted {
    pub checkpoints: BTreeMap<u32, Checkpoint>,
    pub asked: u64,
    pub last: bool,
}

impl Checkpoints {
    /// Asks for checkpoints to be written; returns the number of the request.
    pub fn want(&self, checkpoints: impl IntoIterator<Item = (u32, Checkpoint)>, last: bool) -> u64 {
        let mut state = self.lock();
        state.wanted.extend(checkpoints);
        state.asked += 1;
        state.last |= last;
        state.asked
    }

    /// What is to be written; none if there is nothing new.
    pub fn take(&self) -> Option<Wanted> {
        let mut state = self.lock();
        if state.taken == state.asked {
            return None;
        }
        state.taken = state.asked;
        Some(Wanted { checkpoints: std::mem::take(&mut state.wanted), asked: state.asked, last: state.last })
    }

    /// Requests up to this one are done, or cannot be.
    pub fn done(&self, asked: u64, failed: Option<Error>) {
        let mut state = self.lock();
        state.done = state.done.max(asked);
        if failed.is_some() {
            state.failed = failed;
        }
        self.changed.notify_all();
    }

    /// Nothing more will be written.
    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What has failed since the last call.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<()> {
        self.lock().failed.take().map_or(Ok(()), Err)
    }

    /// Waits until a request is done.
    ///
    /// # Errors
    /// What has failed, or that nothing is written any more.
    pub fn wait(&self, asked: u64) -> Result<()> {
        let mut state = self.lock();
        while state.done < asked && state.failed.is_none() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.failed.take() {
            Some(error) => Err(error),
            None if state.done < asked => {
                Err(Error::connector("the thread that reads from Kinesis has ended before checkpoints were written"))
            }
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
