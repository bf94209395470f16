//! Twins of [`crate::sketch`] on the device: tables of registers and of windows of buckets, bit for bit the processor's.

mod ddsketch;
mod hll;

pub use ddsketch::DdTable;
pub use hll::HllTable;
