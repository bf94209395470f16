//! Twin of [`crate::anomaly`].

mod calibration;
mod discord;
mod ewma;
mod forest;
mod knn;
mod novelty;

pub use calibration::p_values;
pub(crate) use discord::discord;
pub use ewma::ewma;
pub(crate) use forest::Recursive;
pub(crate) use knn::OneByOne;
pub use novelty::novelty;
