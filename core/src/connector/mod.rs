//! Brokers: the only files that know their clients' libraries.

#[cfg(feature = "kafka")]
pub mod kafka;
