//! State that can be moved: what a step holds, as columns by key group, and the versioned codec of a whole pipeline's.
//!
//! A step saves marks (how far it has come) and tables whose rows each belong to one of 256 key groups. Steps that run as
//! several save their parts, which are one after the other the state of the whole; a step takes up the rows of the key groups that are
//! its own. So a pipeline goes on with another number of workers than it had.

mod bytes;
mod key_group;
mod saved;
mod snapshot;

pub(crate) use bytes::damaged;
pub use bytes::{Reader, Writer};
pub(crate) use key_group::{KEY_GROUPS, key_groups};
pub use saved::Saved;
pub(crate) use saved::{Column, Rows, bytes, numbers};
pub use snapshot::Snapshot;
