//! Anomaly detectors: states one row at a time, scores a block at a time.

mod ewma;

pub(crate) use ewma::ewma;
