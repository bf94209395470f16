//! Anomaly detectors: one score per row, against the state of the row's key before it; and what a score means.

pub mod adwin;
pub mod band;
pub mod calibration;
pub mod cusum;
pub mod discord;
pub mod ewma;
pub mod forecast;
pub mod forest;
pub mod half_space;
pub mod isolation;
pub mod knn;
pub mod loda;
pub mod mahalanobis;
pub mod novelty;
pub mod page_hinkley;
pub mod peaks;
pub mod profile;
pub mod rate;
pub mod robust;
pub mod rolling_z;
pub mod stepwise;
pub mod top;
pub mod top_within;
pub mod travel;
pub mod velocity;
