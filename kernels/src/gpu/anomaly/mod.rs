//! Twins of [`crate::anomaly`] on the device: scores in 32-bit floats, each within a bound of the processor's that it states.

mod discord;
mod forest;
mod mahalanobis;
mod passes;

pub use discord::Discord;
pub use forest::{FrozenForest, Trees};
pub(super) use passes::Detectors;
