//! Thalweg: embedded stream processing on Arrow columns.

pub mod batch;
pub mod config;
pub mod error;
pub mod expr;
pub mod format;
pub mod io;
pub mod metrics;
pub mod operator;
pub mod plan;
pub mod quality;
pub mod ring;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod time;
pub mod watermark;
pub mod window;

pub use batch::Batch;
pub use config::Config;
pub use error::{Error, Kind, Result};
pub use expr::{Expression, col, lit};
pub use metrics::Metrics;
pub use operator::aggregate::{Aggregate, count, count_of, max, mean, min, sum};
pub use operator::detect::{Detection, ewma};
pub use plan::{Batches, Query, Stream, Table, event_time};
pub use runtime::Running;
pub use time::{hours, millis, mins, secs};
pub use window::{hopping, tumbling};
