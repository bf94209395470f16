//! Histograms by group: how many values fall in each bin.
//!
//! A group has [`Bins::cells`] counts: of the values below the first bin, of each bin in ascending order, of the values
//! above the last bin, of NaN. A bin holds its lower edge and not its upper one. Null rows are not counted; infinities are below and above.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// Bins of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bins<'a> {
    /// `bins` bins of one width from `low` to `high`: bin `floor((value - low) · (bins / (high - low)))`, in the arithmetic of `f64`, so
    /// that a value within rounding of an edge may fall on either side of it.
    Equal {
        /// Lower edge of the first bin.
        low: f64,
        /// Upper edge of the last bin.
        high: f64,
        /// Number of bins, 1 to 2^30.
        bins: u32,
    },
    /// Bins between edges that ascend, of which there are two or more.
    Edges(&'a [f64]),
}

impl Bins<'_> {
    /// Counts of a group.
    pub fn cells(&self) -> usize {
        match self {
            Self::Equal { bins, .. } => *bins as usize + 3,
            Self::Edges(edges) => edges.len() + 2,
        }
    }

    pub(crate) fn check(&self) {
        match self {
            Self::Equal { low, high, bins } => {
                let width = high - low;
                assert!(width > 0.0 && width.is_finite(), "bins from {low} to {high}: the range must be positive and finite");
                assert!((1..=1 << 30).contains(bins), "{bins} bins: there may be 1 to 2^30");
            }
            Self::Edges(edges) => {
                assert!(edges.len() >= 2 && edges.is_sorted_by(|a, b| a < b), "the edges of bins must be two or more, and ascend");
            }
        }
    }
}

/// Counts rows: `counts[slots[i] * bins.cells() + cell]`, where `cell` is that of `values[i]`, for each valid row.
///
/// # Panics
/// If `slots`, `values` and `validity` differ in length, the slot of a valid row has no counts, `counts` is not made of whole
/// groups, or the bins are no bins.
pub fn histogram(counts: &mut [u64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, bins: Bins<'_>) {
    Backend::active().histogram(counts, slots, values, validity, bins);
}

impl Backend {
    /// [`histogram`] on this backend.
    pub fn histogram(self, counts: &mut [u64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, bins: Bins<'_>) {
        bins.check();
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        assert!(counts.len().is_multiple_of(bins.cells()), "{} counts are not groups of {}", counts.len(), bins.cells());
        match self {
            Self::Scalar => scalar::histogram::histogram(counts, slots, values, validity, bins),
            Self::Simd(level) => simd::histogram::histogram(level, counts, slots, values, validity, bins),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bins;
    use crate::testing::{Case, on_every_backend};
    use crate::{Backend, scalar};

    on_every_backend!(histograms, super::check_histograms);

    fn check_histograms(backend: Backend, case: &Case) {
        let edges = [-1e300, -1.0, -0.0, 5e-324, 0.1, 1e6, 3e6, f64::INFINITY];
        for bins in [
            Bins::Equal { low: -4e6, high: 5e6, bins: 20 },
            Bins::Equal { low: -1.0, high: 1.0, bins: 1 },
            Bins::Equal { low: 0.1, high: 1e300, bins: 1000 },
            Bins::Edges(&edges),
            Bins::Edges(&edges[2..4]),
        ] {
            let cells = bins.cells() * case.groups.min(100) as usize;
            let slots: Vec<u32> = case.slots.iter().map(|slot| slot % 100).collect();
            let (mut counts, mut expected) = (vec![1; cells], vec![1; cells]);
            backend.histogram(&mut counts, &slots, &case.floats, case.validity(), bins);
            scalar::histogram::histogram(&mut expected, &slots, &case.floats, case.validity(), bins);
            assert!(counts == expected, "{backend}, {bins:?}");
        }
    }

    #[test]
    fn every_value_has_its_cell() {
        let values = [-1.0, f64::NEG_INFINITY, 0.0, -0.0, 0.99, 1.0, 2.0, 2.5, 3.0, f64::INFINITY, f64::NAN];
        for backend in Backend::available() {
            for bins in [Bins::Equal { low: 0.0, high: 3.0, bins: 3 }, Bins::Edges(&[0.0, 1.0, 2.0, 3.0])] {
                let mut counts = [0; 12];
                backend.histogram(&mut counts, &[1; 11], &values, None, bins);
                assert_eq!(counts, [0, 0, 0, 0, 0, 0, 2, 3, 1, 2, 2, 1], "{backend}, {bins:?}");
            }
        }
    }

    #[test]
    fn what_is_no_histogram_panics() {
        for backend in Backend::available() {
            let counts = |counts: usize, slot: u32, bins: Bins<'static>| {
                std::panic::catch_unwind(move || backend.histogram(&mut vec![0; counts], &[slot], &[0.5], None, bins)).is_ok()
            };
            assert!(counts(8, 1, Bins::Edges(&[0.0, 1.0])), "{backend}");
            assert!(!counts(8, 2, Bins::Edges(&[0.0, 1.0])) && !counts(7, 0, Bins::Edges(&[0.0, 1.0])), "{backend}");
            assert!(!counts(8, 0, Bins::Edges(&[1.0, 0.0])) && !counts(6, 0, Bins::Edges(&[1.0])), "{backend}");
            assert!(!counts(8, 0, Bins::Equal { low: 1.0, high: 1.0, bins: 1 }), "{backend}");
            assert!(!counts(3, 0, Bins::Equal { low: 0.0, high: 1.0, bins: 0 }), "{backend}");
        }
    }
}
