//! Kernels of the Thalweg stream engine: slices in, slices out.
//!
//! They know nothing of keys beyond turning them into dense `u32` slots, nothing of strings, windows or Arrow: after
//! [`IntDictionary::assign`] everything is columns of `(slot, value)`.
//!
//! ```
//! use thalweg_kernels::{Cell, IntDictionary, Want, accumulate_f64};
//!
//! let cards = [7_i64, 9, 7, 7];
//! let amounts = [10.0, 250.0, 30.0, 20.0];
//!
//! let mut dictionary = IntDictionary::new(1_000_000);
//! let mut slots = Vec::new();
//! dictionary.assign(&cards, &mut slots)?;
//!
//! let mut cells = vec![Cell::EMPTY; dictionary.slots()];
//! accumulate_f64(&mut cells, &slots, &amounts, None, Want::ALL);
//!
//! let card = cells[0];
//! assert_eq!((dictionary.key(0), card.count, card.float_sum()), (7, 3, 60.0));
//! assert_eq!((card.float_min(), card.float_max()), (10.0, 30.0));
//! # Ok::<(), thalweg_kernels::Full>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | turn keys into slots | [`IntDictionary`], [`BytesDictionary`] |
//! | aggregate by group | [`accumulate_f64`], [`accumulate_i64`], [`accumulate_count`] into [`Cell`]s |
//! | close a window over its panes | [`combine_f64`], [`combine_i64`], [`combine_count`] |
//! | aggregate without a key | [`fold_f64`], [`fold_i64`], [`sum_f64`], [`min_max_f64`], [`min_max_i64`] |
//! | place rows in panes | [`assign_panes`], [`offset_slots`] |
//! | tell late rows | [`behind_watermark`], [`running_watermarks`] |
//! | score anomalies | [`ewma`] |
//! | aggregate on a graphics processor | `gpu::Accumulator`, under the feature `gpu` |
//!
//! Every kernel runs on the [`Backend`] that was found best for the processor; [`scalar`] holds the reference that the
//! others are tested against. What null, NaN and −0.0 mean is written down once, in [`aggregate`].

pub mod aggregate;
pub mod anomaly;
mod backend;
mod bits;
mod cell;
pub mod column;
pub mod dictionary;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod scalar;
mod simd;
pub mod window;

pub use aggregate::{Want, accumulate_count, accumulate_f64, accumulate_i64, combine_count, combine_f64, combine_i64};
pub use anomaly::ewma::{Ewma, EwmaCell, ewma};
pub use backend::Backend;
pub use bits::Bits;
pub use cell::Cell;
pub use column::{behind_watermark, fold_f64, fold_i64, min_max_f64, min_max_i64, running_watermarks, sum_f64};
pub use dictionary::{BytesDictionary, Full, IntDictionary};
pub use simd::Level;
pub use window::{assign_panes, offset_slots};

#[cfg(test)]
mod testing;
