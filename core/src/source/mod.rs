//! Sources: where batches come from.

mod blob;
mod blobs;
mod endpoint;
pub mod events;
pub mod file;
mod gather;
pub(crate) mod glob;
pub(crate) mod linger;
mod memory;
mod open;
mod reader;
pub mod socket;
pub mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, PartitionId};
use crate::config::Config;
use crate::error::Result;
use crate::quality::Rejected;
use crate::time::SharedClock;

pub use blob::{Blob, FileEntry, FileSet};
pub(crate) use blobs::{Blobs, arrow_blobs, parquet_blobs};
pub use endpoint::{Endpoint, Listener};
pub use memory::Memory;
pub use open::{Files, Listen};
pub(crate) use open::{arrow_files, parquet_files};
pub use reader::{Reader, Readers};
pub use watch::{FileFormat, Watch};

/// What a source hands over at once. All of it may be empty: the wait was over before anything came.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Rows.
    pub batch: Option<Batch>,
    /// Frames that did not decode.
    pub rejected: Vec<Rejected>,
    /// Partitions that have begun; they hold the watermark back until their first row or until idle.
    pub opened: Vec<PartitionId>,
    /// What users call partitions in `opened`: a file's path, a client's address. The others go by their numbers.
    pub names: Vec<(PartitionId, String)>,
    /// Partitions that have ended after the rows of this delivery.
    pub ended: Vec<PartitionId>,
    /// Nothing will come any more.
    pub end: bool,
    /// Bytes read since the last delivery.
    pub bytes: u64,
    /// The sinks shall commit at once what they have of this delivery and those before it: what has ended is about to be read by others.
    pub commit: bool,
    /// How many records lie ahead in each partition, by its name, where a broker keeps them; of all that are read, or none if nothing new
    /// is known.
    pub lag: Vec<(String, u64)>,
    /// How far behind the newest record each partition is, by its name, where a broker tells the time instead; likewise.
    pub behind: Vec<(String, Duration)>,
    /// Records that the broker had deleted before they were read, and that are passed over as was asked for.
    pub skipped_records: u64,
    /// Times that this happened and nobody knows how many they were.
    pub gaps: u64,
    /// Records without a value that are left out.
    pub null_values: u64,
    /// Files that were to be read and had gone.
    pub missing_files: u64,
}

/// How far the rows of a [`Source`] have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// How many deliveries, from the first on, the sinks have committed.
    pub deliveries: u64,
    /// Whether no step needs their rows any more. If not, whoever reads on after a crash has to begin where this one did.
    pub finished: bool,
    /// Nothing more will be read.
    pub last: bool,
}

/// Told before sinks commit how far their commit will go, so that one of them can put the source's positions into it.
pub trait BeforeCommit: Send + Sync {
    /// The next commit of the sinks covers so much. Called on the thread that then commits.
    fn committing(&self, committing: Committed);
}

/// An input: files, sockets, memory, a broker.
pub trait Source: Send {
    /// The columns of the batches to come.
    fn schema(&self) -> SchemaRef;

    /// The next rows, waiting for them no longer than `wait`. Returns early with whatever is due.
    ///
    /// # Errors
    /// If the source as a whole has failed. The failure of one of several clients is logged, not returned.
    fn poll(&mut self, wait: Duration) -> Result<Delivery>;

    /// From now on batches are to say which [offset](Batch::origins) each row has: late rows go to an output, or rows
    /// without an event time to quarantine. Asked once, before the first
    /// poll. Of a source whose batches tell in any case, as its segments count rows, nothing more is wanted.
    fn keep_offsets(&mut self) {}

    /// Reads these partitions, and only these, no further until told otherwise: they are far ahead of the rest. What has
    /// been read of them may still come. Does nothing where a source cannot read one partition without another.
    ///
    /// # Errors
    /// As [`Source::poll`].
    fn pause(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// Called after sinks have committed, so that a broker can be told where others shall go on; at the end of a run it returns when the
    /// broker knows. Deliveries are counted by the calls of [`Source::poll`] that returned one.
    ///
    /// # Errors
    /// If the broker cannot be told.
    fn committed(&mut self, committed: Committed) -> Result<()> {
        let _ = committed;
        Ok(())
    }

    /// Who wants to know before sinks commit; asked once, before the first poll.
    fn before_commit(&self) -> Option<Arc<dyn BeforeCommit>> {
        None
    }
}

/// Something that a [`Source`] can be opened from: what a stream holds until it runs.
pub trait OpenSource: Send + Sync {
    /// The columns of the batches to come.
    fn schema(&self) -> SchemaRef;

    /// What is read, in one line, for `explain` and error messages. Never holds a credential.
    fn describe(&self) -> String;

    /// A reader at the beginning of the input.
    ///
    /// # Errors
    /// If the input cannot be opened, or can be read only once and has been.
    fn open(&self, config: &Config, clock: &SharedClock) -> Result<Box<dyn Source>>;

    /// The address that clients connect to, for sources that listen.
    fn local_addr(&self) -> Option<String> {
        None
    }

    /// The clock that the run goes by which is about to open this, unless it is given one; `None` for the machine's.
    fn clock(&self) -> Option<SharedClock> {
        None
    }
}

#[cfg(test)]
mod testing;
