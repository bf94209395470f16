//! Thalweg: embedded stream processing on Arrow columns.

pub mod batch;
pub mod config;
pub mod error;
pub mod expr;
pub mod format;
pub mod operator;
pub mod quality;
pub mod sink;
pub mod source;
pub mod time;
