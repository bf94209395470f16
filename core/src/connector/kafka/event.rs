//! What the polling thread hands over.

use super::extras::Extras;
use super::positions::Place;
use crate::connector::records::Chunk;
use crate::error::Error;

/// What the polling thread hands over.
pub(super) enum Event {
    Records(Chunk, Extras),
    /// Partitions that have begun, with their numbers and where they begin.
    Opened(Vec<(u32, Place, i64)>),
    /// Partitions that were read to their ends.
    Ended(Vec<u32>),
    /// Partitions that the group gives to others once [`Shared::release`](crate::connector::records::Shared::release) says so, or has given already.
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
