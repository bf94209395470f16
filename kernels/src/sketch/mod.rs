//! Sketches: how many distinct values, and which quantile, in a bounded number of bytes per group.
//!
//! | to | use | error |
//! |---|---|---|
//! | count distinct values | [`hash`] the column, then [`hll`] | standard error 1.04 / √(2^lg_k) |
//! | estimate quantiles | [`ddsketch`] | at most alpha, relative, of the quantile's value |
//!
//! Both are tables that the caller owns, one row per slot, and both are *mergeable*: the table of all rows is the merge of
//! the tables of its parts, bit for bit, whatever the parts, their order, the batch size or the backend.

pub mod datasketches;
pub mod ddsketch;
pub mod hash;
pub mod hll;
