//! Twins of [`crate::anomaly`] on the device: each within a bound of the processor's scores that it states.

mod chains;
mod discord;
mod drift;
mod ewma;
mod forest;
mod knn;
mod mahalanobis;
mod rolling_z;

use crate::Bits;
use crate::anomaly::forest::rows_by_slot;

pub use discord::Discord;
pub use forest::{FrozenForest, Trees};

/// The passes of all shaders, of which the detectors' are some.
mod passes {
    pub(super) use crate::gpu::passes::{MOST_WORK, Pass, Passes, Shader as Detector};
}

/// The rows that have values in all columns, of each of the `keys` in turn, in their order.
///
/// # Panics
/// If columns or validity differ from the slots in length, or a slot is not below `keys`.
fn rows_of_keys(slots: &[u32], columns: &[&[f64]], validity: Option<Bits<'_>>, keys: usize) -> Vec<u32> {
    let rows = rows_by_slot(slots, columns, validity);
    let greatest = rows.last().map_or(0, |row| slots[*row as usize] as usize);
    assert!(rows.is_empty() || greatest < keys, "slot {greatest} is beyond the {keys} keys");
    rows
}
