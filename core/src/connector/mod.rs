//! Brokers and registries: the only files that know their clients' libraries.

#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "registry")]
pub mod registry;
