//! State that can be moved: what a step holds, as columns by key group, and the versioned codec of a whole pipeline's.
//!
//! A step saves marks (how far it has come) and tables whose rows each belong to one of 256 key groups. Steps that run as
//! several save their parts, which are one after the other the state of the whole; a step takes up the rows of the key groups that are
//! its own. So a pipeline goes on with another number of workers than it had.
//!
//! ```
//! use std::time::Duration;
//!
//! use thalweg::sink::Memory;
//! use thalweg::state::Snapshot;
//! use thalweg::{Query, Result, Stream};
//!
//! # fn stop_and_go_on(windows: Stream, rest: Stream, before: Memory, after: Memory) -> Result<()> {
//! let mut pipeline = Query::new().sink(&windows, before).build()?;
//! pipeline.step(Duration::from_secs(1))?;
//! let bytes = pipeline.snapshot()?.to_bytes()?;
//!
//! // The same steps over a source that begins where the other was left.
//! Query::new().sink(&rest, after).restore(Snapshot::from_bytes(&bytes)?).run()?;
//! # Ok(())
//! # }
//! ```

mod bytes;
mod key_group;
mod saved;
mod snapshot;

pub(crate) use bytes::damaged;
pub use bytes::{Reader, Writer};
pub(crate) use key_group::{KEY_GROUPS, key_groups, row_groups};
pub use saved::Saved;
pub(crate) use saved::{Column, Rows, bytes, numbers};
pub use snapshot::Snapshot;
