//! Embedded stream processing on Arrow columns: from a socket to an alert in ten lines.
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
//! use thalweg::{Stream, count, event_time, millis, secs, sum, tumbling};
//!
//! # fn main() -> thalweg::Result<()> {
//! let payments = RecordBatch::try_from_iter([
//!     ("ts", Arc::new(Int64Array::from(vec![100, 700, 1_200])) as ArrayRef),
//!     ("card", Arc::new(StringArray::from(vec!["a", "b", "a"])) as ArrayRef),
//!     ("amount", Arc::new(Float64Array::from(vec![10.0, 20.0, 30.0])) as ArrayRef),
//! ])?;
//! let per_card = Stream::from_arrow([payments])
//!     .event_time(event_time("ts").max_delay(millis(500)))
//!     .filter("amount > 5")
//!     .window(tumbling(secs(1)))
//!     .by(["card"])
//!     .agg([count().alias("n"), sum("amount")])
//!     .collect()?;
//! assert_eq!(per_card.num_rows(), 3); // "a" and "b" in the first second, "a" in the next
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! A [`Stream`] is a plan: a source ([`Stream::from_arrow`], [`Stream::read_ndjson`], [`Stream::listen`], …) and
//! steps. Nothing happens until it is collected ([`Stream::collect`]), iterated ([`Stream::batches`]) or run in the
//! background with its results going to a [sink]; a [`Query`] runs several streams of one source at once.
//!
//! * **Event time** comes from a column, or is the clock's ([`Stream::arrival_time`]); a [watermark] per connection or
//!   file decides what is late, row by row, so that batch size changes nothing. Late rows are counted and routed. What
//!   windows wait for can be asked at any time ([`Running::why_not_firing`]).
//! * **Windows** are [`tumbling`], [`hopping`] or [`cumulate`]; rows are accumulated once, in panes, and windows combine panes. A [`session`]
//!   holds the rows of a key that follow each other closely, a [`count_window`] so many of them.
//!   [`rolling_rows`] and [`rolling_range`] give every row a window of its own, of the rows of its key before it.
//! * **Duplicates** are dropped by [`Stream::dedup`]; what windows cannot say, [`Stream::process`] can: your own function over the rows
//!   of each key, with state and timers.
//! * **Detection** ([`Stream::detect`]) adds a score to every row from the history of its key; [`Stream::heartbeat`] tells keys that fall silent.
//! * **Expressions** in [`Stream::filter`], [`Stream::with_columns`] and [`Stream::select`] are SQL text or typed.
//! * **Bytes** of sockets come in through io_uring, or epoll where that is forbidden; see [`io`]. What does not decode
//!   goes to quarantine with its bytes, error, partition and offset; see [`quality`].
//! * **Files** are read and written as NDJSON, CSV, Arrow IPC and Parquet, appear whole and in folders by column or day ([`sink`]), and are
//!   watched for ([`Stream::watch`]).
//! * **Kafka** is read and written with the feature `kafka`: groups, bounded reads, transactions; Avro records are read by the schemas of a
//!   schema registry with the feature `registry`. **Kinesis** likewise with the feature `kinesis`: shards that split and merge, leases,
//!   aggregated records. Object stores that speak S3 with the feature `s3`; see [`connector`].
//! * **Devices**: kernels run on the processor's vector instructions; with the feature `gpu`, window kernels move to a
//!   graphics processor where that measures cheaper, and left discords where it is asked for; they come back when it fails
//!   ([`config::Device`]).
//! * **Tests** of pipelines script their input and compare with literal tables: [`testing`].
//! * **Limits** are on by default and all in one place: [`config`].
//!
//! No global runtime, no hidden threads: a pipeline runs on the thread that asks for its results, unless it is
//! started in the background.

// The paths in what `event!` writes, within this crate too.
extern crate self as thalweg;

pub mod batch;
pub mod config;
pub mod connector;
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
pub mod state;
pub mod testing;
pub mod time;
pub mod watermark;
pub mod window;

pub use batch::Batch;
pub use config::Config;
pub use error::{Error, Kind, Result};
pub use expr::{Expression, col, lit};
pub use format::Format;
pub use format::compression::Compression;
pub use metrics::Metrics;
pub use operator::aggregate::{
    Aggregate, AggregateFunction, approx_distinct, arg_max, arg_min, collect_list, corr, count, count_distinct, count_of, covar, custom,
    delta, first, histogram, last, max, mean, median, merge_distinct, merge_quantile, min, quantile, rate, rate_of, std, sum, top_k, var,
    zscore,
};
pub use operator::detect::{
    Detection, adwin, ar_rls, auto, cusum, ensemble, event_rate, ewma, half_space_trees, holt_winters, impossible_travel, isolation_forest,
    knn, left_discord, loda, mahalanobis, novelty, page_hinkley, peaks_over_threshold, profile, quantile_band, random_cut_forest, robust_z,
    rolling_z, velocity,
};
pub use operator::process::Process;
pub use plan::{Batches, Plan, Pulled, Query, Stream, Table, event_time};
pub use runtime::{HeldBack, Pipeline, Running};
pub use sink::Sink;
pub use source::{Files, Listen};
pub use time::{hours, millis, mins, secs};
pub use window::{count_window, cumulate, global, hopping, rolling_range, rolling_rows, session, tumbling, windows_by};
