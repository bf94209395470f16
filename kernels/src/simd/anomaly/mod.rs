//! Anomaly detectors: states one row at a time, scores a block at a time.

mod calibration;
mod discord;
mod ewma;
mod forest;
mod knn;
mod novelty;

pub(crate) use calibration::p_values;
pub(crate) use discord::{discord_least, discord_refresh, discord_step};
pub(crate) use ewma::ewma;
pub(crate) use forest::{forest, frozen_forest};
pub(crate) use knn::knn;
pub(crate) use novelty::novelty;
