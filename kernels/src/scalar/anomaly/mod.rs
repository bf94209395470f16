//! Twin of [`crate::anomaly`].

mod ewma;

pub use ewma::ewma;
