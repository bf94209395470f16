//! Anomaly detectors: one score per row, against the state of the row's key before it; and what a score means.

pub mod calibration;
pub mod cusum;
pub mod discord;
pub mod ewma;
pub mod forest;
pub mod half_space;
pub mod mahalanobis;
pub mod novelty;
pub mod page_hinkley;
pub mod robust;
pub mod stepwise;
