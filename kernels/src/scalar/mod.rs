//! The reference twin of every kernel: one row at a time, short, obviously right. Other backends are tested against it.

pub mod aggregate;
pub mod anomaly;
pub mod arg;
pub mod co_moments;
pub mod column;
pub mod dictionary;
pub mod first_last;
pub mod histogram;
pub mod moments;
pub mod partition;
pub mod rolling;
pub mod runs;
pub mod selection;
pub mod sketch;
pub mod smooth;
pub mod sort;
pub mod text;
pub mod window;
