//! Quarantine: what does not decode or breaks a rule is kept with its bytes and its origin, never dropped in silence.

use crate::batch::PartitionId;
use crate::config::MAX_QUARANTINED_BYTES;

/// A row that could not become columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it came from.
    pub partition: PartitionId,
    /// The partition's offset of its first byte.
    pub offset: u64,
    /// Its bytes, cut to [`MAX_QUARANTINED_BYTES`].
    pub bytes: Vec<u8>,
    /// Why, in words.
    pub error: String,
}

impl Rejected {
    /// Keeps a copy of the first [`MAX_QUARANTINED_BYTES`] bytes.
    pub fn new(partition: PartitionId, offset: u64, bytes: &[u8], error: impl Into<String>) -> Rejected {
        Rejected { partition, offset, bytes: bytes[..bytes.len().min(MAX_QUARANTINED_BYTES)].to_vec(), error: error.into() }
    }
}
