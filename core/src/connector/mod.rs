//! Brokers, registries and object stores: the only files that know their clients' libraries.

#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "s3")]
pub mod s3;
