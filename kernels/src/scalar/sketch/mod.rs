//! Twins of the sketches.

pub mod ddsketch;
pub mod hash;
pub mod hll;
