//! Twins of [`crate::anomaly`] on the device: each within a bound of the processor's scores that it states.

mod discord;
mod ewma;
mod forest;
mod mahalanobis;

pub use discord::Discord;
pub use forest::{FrozenForest, Trees};

/// The passes of all shaders, of which the detectors' are some.
mod passes {
    pub(super) use crate::gpu::passes::{MOST_WORK, Pass, Passes, Shader as Detector};
}
