//! Kernels of the Thalweg stream engine: slices in, slices out.
//!
//! They know nothing of keys beyond turning them into dense `u32` slots, nothing of windows or Arrow: after
//! [`IntDictionary::assign`] everything is columns of `(slot, value)`.
//!
//! ```
//! use thalweg_kernels::{Cell, IntDictionary, Want, accumulate};
//!
//! let cards = [7_i64, 9, 7, 7];
//! let amounts = [10.0, 250.0, 30.0, 20.0];
//!
//! let mut dictionary = IntDictionary::new(1_000_000);
//! let mut slots = Vec::new();
//! dictionary.assign(&cards, &mut slots)?;
//!
//! let mut cells = vec![Cell::EMPTY; dictionary.slots()];
//! accumulate(&mut cells, &slots, &amounts, None, Want::ALL);
//!
//! let card = cells[0];
//! assert_eq!((dictionary.key(0), card.count, card.float_sum()), (7, 3, 60.0));
//! assert_eq!((card.float_min(), card.float_max()), (10.0, 30.0));
//! # Ok::<(), thalweg_kernels::Full>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | turn keys into slots | [`IntDictionary`], [`WordsDictionary`], [`BytesDictionary`] |
//! | aggregate by group | [`accumulate`], [`accumulate_count`] into [`Cell`]s |
//! | know a group's mean and variance | [`accumulate_moments`] into [`Moments`] |
//! | know how two columns vary together | [`accumulate_co_moments`] into [`CoMoments`] |
//! | keep a group's first or last row | [`accumulate_first_last`] into [`First`], [`Last`] |
//! | know where its least or greatest value was | [`accumulate_arg`] into [`ArgMin`], [`ArgMax`] |
//! | close a window over its panes | [`combine`], [`combine_count`], [`combine_moments`], [`combine_co_moments`], [`combine_first_last`], [`combine_arg`] |
//! | aggregate without a key | [`fold`], [`fold_moments`], [`fold_co_moments`], [`fold_first_last`], [`fold_arg`], [`sum_f64`], [`min_max_f64`], [`min_max_i64`] |
//! | place rows in panes | [`assign_panes`] |
//! | tell late rows | [`behind_watermark`], [`running_watermarks`] |
//! | answer each row from the rows before it | [`rolling_moments`], [`rolling_order`], [`rolling_sums`], [`smooth()`] |
//! | count values by bin | [`histogram()`] |
//! | order rows by time | [`sorted_rows`] |
//! | keep or split rows | [`select_range`], [`selected_rows`], [`compact`], [`split`], [`gather`], [`partition_rows`], [`order_by_part`] |
//! | read numbers and strings in text | a [`Task`], given a [`Text`] by [`Backend::run`] |
//! | score anomalies | [`ewma`], [`novelty()`], [`left_discord`], [`judge`] by [`RollingZ`], [`RobustZ`], [`QuantileBand`], [`PeaksOverThreshold`], [`Cusum`], [`PageHinkley`], [`Adwin`] |
//! | score what a model does not expect | [`judge`] by [`Residuals`] of [`HoltWinters`] or [`ArRls`] |
//! | score how often rows come, how fast a key moves, how much it takes, how unlike itself it is | [`rate()`], [`travel()`], [`velocity()`], [`profile()`] |
//! | score rows by what is known of a key, and learn nothing | [`forest_scores`], [`mahalanobis_scores`] |
//! | score anomalies over several columns | [`random_cut_forest`], [`half_space_trees`], [`isolation_forest`], [`loda()`], [`mahalanobis()`], [`knn()`] |
//! | know how rare a score is | [`p_values`], [`above_usual`], [`rank_among_latest`], [`rank_within`] |
//! | hash a column | [`hash_i64`], [`hash_u64`], [`hash_f64`], [`hash_bytes`] |
//! | count distinct values | [`hll_update`], [`hll_fold`], [`hll_merge`], [`hll_estimate`] |
//! | estimate quantiles | [`ddsketch_update`], [`ddsketch_fold`], [`ddsketch_merge`], [`DdLayout::quantile`] |
//! | keep sketches as bytes | [`HllImage`], [`hll_to_datasketches`], [`hll_coupons_to_datasketches`], [`DdImage`], [`ddsketch_to_image`] |
//! | aggregate on a graphics processor | `gpu::Accumulator`, under the feature `gpu`; other twins there are in `gpu` |
//! | aggregate wherever it costs least | [`placement::Accumulator`] |
//!
//! Every kernel runs on the [`Backend`] that was found best for the processor; [`scalar`] holds the reference that the
//! others are tested against. What null, NaN and −0.0 mean is written down once, in [`aggregate`].

pub mod aggregate;
pub mod anomaly;
pub mod arg;
mod backend;
mod bits;
mod cell;
pub mod co_moments;
pub mod column;
pub mod dictionary;
pub mod first_last;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod groups;
mod histogram;
pub mod moments;
mod pair;
pub mod partition;
pub mod placement;
pub mod rolling;
pub mod runs;
pub mod scalar;
pub mod selection;
mod simd;
pub mod sketch;
pub mod smooth;
pub mod sort;
pub mod text;
mod value;
pub mod window;

pub use aggregate::{Want, accumulate, accumulate_count, combine, combine_count};
pub use anomaly::adwin::{Adwin, AdwinCell};
pub use anomaly::band::{BandCell, BandSketch, QuantileBand};
pub use anomaly::calibration::{CalibrationCell, p_values};
pub use anomaly::cusum::{Cusum, DriftCell};
pub use anomaly::discord::{DiscordSeries, LeftDiscord, left_discord};
pub use anomaly::ewma::{Ewma, EwmaCell, ewma};
pub use anomaly::forecast::ar_rls::{ArRls, ArRlsModel};
pub use anomaly::forecast::holt_winters::{HoltWinters, HoltWintersModel};
pub use anomaly::forecast::{Forecaster, ResidualCell, Residuals};
pub use anomaly::forest::threshold::{UsualScores, above_usual};
pub use anomaly::forest::{Forest, RandomCutForest, forest_scores, random_cut_forest};
pub use anomaly::half_space::{HalfSpaceTrees, HalfSpaces, half_space_trees};
pub use anomaly::isolation::{IsolationCell, IsolationForest, isolation_forest};
pub use anomaly::knn::{Knn, KnnCell, KnnScale, knn};
pub use anomaly::loda::{Loda, LodaCell, LodaProjections, loda};
pub use anomaly::mahalanobis::{CovarianceCell, Mahalanobis, mahalanobis, mahalanobis_scores};
pub use anomaly::novelty::{Novelty, NoveltyCell, NoveltyScale, novelty};
pub use anomaly::page_hinkley::PageHinkley;
pub use anomaly::peaks::{PeaksCell, PeaksOverThreshold, Tail};
pub use anomaly::profile::hours::Hours;
pub use anomaly::profile::names::{KnownNames, NameFilter};
pub use anomaly::profile::places::KnownPlaces;
pub use anomaly::profile::quantity::Quantity;
pub use anomaly::profile::{Profile, ProfileCell, ProfileHabit, ProfilePart, profile};
pub use anomaly::rate::{Rate, RateCell, rate};
pub use anomaly::robust::{LatestValues, RobustZ};
pub use anomaly::rolling_z::{MomentWindow, RollingZ};
pub use anomaly::stepwise::{Drifts, Judged, Running, Stepwise, judge};
pub use anomaly::top::rank_among_latest;
pub use anomaly::top_within::{KeptScore, RecentScores, TopWithin, rank_within};
pub use anomaly::travel::{Place, Travel, travel};
pub use anomaly::velocity::{Limit, RecentRows, Velocity, velocity};
pub use arg::{Arg, ArgMax, ArgMin, accumulate_arg, combine_arg, fold_arg};
pub use backend::{Backend, NoSuchBackend, Task};
pub use bits::Bits;
pub use cell::{Cell, resize_table};
pub use co_moments::{CoMoments, accumulate_co_moments, combine_co_moments, fold_co_moments};
pub use column::{behind_watermark, fold, min_max_f64, min_max_i64, running_watermarks, sum_f64};
pub use dictionary::{BytesDictionary, Full, IntDictionary, Together, WordsDictionary};
pub use first_last::{First, FirstLast, Last, Timed, accumulate_first_last, combine_first_last, fold_first_last};
pub use groups::{combine_at, sum_at};
pub use histogram::{Bins, histogram};
pub use moments::{Moments, accumulate_moments, combine_moments, fold_moments};
pub use partition::{group_keys, hash_keys, order_by_part, part_of, partition_rows, prefix_sum_u32, prefix_sum_u64};
pub use rolling::{
    Divisor, Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows, RollingSums, SumColumns,
    rolling_moments, rolling_order, rolling_sums,
};
pub use runs::{distinct_floats_in_runs, distinct_in_runs, group_runs, quantiles_in_runs};
pub use selection::{compact, gather, select_range, selected_rows, split};
pub use simd::Level;
pub use sketch::datasketches::{
    HllImage, ImageError, MAX_COUPONS, hll_coupon, hll_coupons_to_datasketches, hll_from_datasketches, hll_to_datasketches,
};
pub use sketch::ddsketch::image::{DdImage, DdImageError, ddsketch_to_image};
pub use sketch::ddsketch::{DdHead, DdLayout, ddsketch_fold, ddsketch_merge, ddsketch_update};
pub use sketch::hash::{Hash, hash_bytes, hash_f64, hash_i64, hash_u64};
pub use sketch::hll::{hll_estimate, hll_fold, hll_merge, hll_standard_error, hll_update};
pub use smooth::smooth;
pub use sort::sorted_rows;
pub use text::{Decimal, Text};
pub use value::{Payload, Value};
pub use window::assign_panes;

#[cfg(test)]
mod testing;
