//! Thalweg: embedded stream processing on Arrow columns.

// The paths in what `event!` writes, within this crate too.
extern crate self as thalweg;

pub mod batch;
pub mod config;
pub mod error;
pub mod format;
pub mod operator;
pub mod quality;
pub mod ring;
pub mod sink;
pub mod source;
pub mod time;
