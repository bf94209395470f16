//! Twins of [`crate::anomaly`] on the device: each within a bound of the processor's scores that it states.

mod discord;
mod ewma;
mod forest;
mod mahalanobis;
mod passes;

pub use discord::Discord;
pub use forest::{FrozenForest, Trees};
pub(super) use passes::Detectors;
