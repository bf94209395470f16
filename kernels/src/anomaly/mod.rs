//! Anomaly detectors: one score per row, against the state of the row's key before it.

pub mod ewma;
