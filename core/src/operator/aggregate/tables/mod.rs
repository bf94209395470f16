//! The tables, a file for each kind of state.

mod counts;
mod distinct;
mod few;
mod histogram;
mod kept;
mod list;
mod log;
mod moments;
mod quantiles;
mod rows;
mod sketched;

pub(super) use counts::{ValueCounts, top_k_type};
pub(super) use distinct::Distinct;
pub(super) use histogram::HistogramCells;
pub(super) use kept::Keeper;
pub(super) use list::Lists;
pub(super) use log::{Log, Runs};
pub(super) use moments::{MomentCells, PairCells};
pub(super) use quantiles::Quantiles;
pub(super) use rows::{EarliestRow, GreatestRow, LatestRow, LeastRow, Rows};
pub(super) use sketched::Sketched;
