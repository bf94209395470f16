//! Records of brokers: what their connectors share between a client's buffers and columns, both ways.

mod chunk;
mod gathered;
mod link;
mod pending;
mod rows;
mod values;

pub(in crate::connector) use chunk::{Chunk, Layout};
pub(in crate::connector) use gathered::{Gathered, Gatherer, poll};
pub(in crate::connector) use link::Shared;
pub(in crate::connector) use pending::Pending;
pub use rows::Value;
pub(in crate::connector) use rows::{Beside, Encoded, Target, ValueWriter, lines};
pub(in crate::connector) use values::{Encoding, names_differ};
