//! Sketches: how many distinct values, and which quantile, in a bounded number of bytes per group.
//!
//! | to | use | error |
//! |---|---|---|
//! | count distinct values | [`hash`] the column, then [`hll`] | standard error 1.04 / √(2^lg_k) |
//! | estimate quantiles | [`ddsketch`] | at most alpha, relative, of the quantile's value |
//!
//! ```
//! use thalweg_kernels::{DdHead, DdLayout, Hash, ddsketch_update, hash_i64, hll_estimate, hll_update};
//!
//! let slots = [0, 1, 0, 0];
//! let (visitors, latencies) = ([7, 7, 8, 7], [0.12, 0.5, 0.25, 3.0]);
//!
//! let mut hashes = [0; 4];
//! hash_i64(&visitors, Hash::Seeded(0), &mut hashes);
//! let mut registers = vec![0; 2 << 12];
//! hll_update(&mut registers, 12, &slots, &hashes, None);
//! assert_eq!(hll_estimate(&registers[..1 << 12]).round(), 2.0);
//!
//! let layout = DdLayout::new(0.01, 1024);
//! let (mut heads, mut counts) = (vec![DdHead::EMPTY; 2], vec![0; 2 * layout.counts_per_group()]);
//! ddsketch_update(&layout, &mut heads, &mut counts, &slots, &latencies, None);
//! let median = layout.quantile(&heads[0], &counts[..layout.counts_per_group()], 0.5);
//! assert!(median.is_some_and(|median| (median - 0.25).abs() <= 0.01 * 0.25));
//! ```
//!
//! Both are tables that the caller owns, one row per slot, and both are *mergeable*: the table of all rows is the merge of
//! the tables of its parts, bit for bit, whatever the parts, their order, the batch size or the backend. A group's sketch has bytes
//! that others read, in [`datasketches`] and [`ddsketch::image`].

pub mod datasketches;
pub mod ddsketch;
pub mod hash;
pub mod hll;
