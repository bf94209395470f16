//! Panes: which one a row falls in.

use crate::backend::Backend;
use crate::{scalar, simd};

/// Appends the pane of each time, `floor((time - origin) / length)`, to `panes`; returns the highest of them (0 of none).
///
/// Every time should be at or after `origin`. One before it, or one so late that its pane has no 32-bit number, is given
/// pane `u32::MAX`: a result of `u32::MAX` says that the span of times is too wide for the origin and length.
///
/// # Panics
/// If `length` is not positive.
pub fn assign_panes(times: &[i64], origin: i64, length: i64, panes: &mut Vec<u32>) -> u32 {
    Backend::active().assign_panes(times, origin, length, panes)
}

impl Backend {
    /// [`assign_panes`] on this backend.
    pub fn assign_panes(self, times: &[i64], origin: i64, length: i64, panes: &mut Vec<u32>) -> u32 {
        assert!(length > 0, "length of a pane must be positive, not {length}");
        match self {
            Self::Scalar => scalar::window::assign_panes(times, origin, length, panes),
            Self::Simd(level) => simd::window::assign_panes(level, times, origin, length as u64, panes),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, on_every_backend};
    use crate::{Backend, scalar};

    on_every_backend!(panes, super::check_panes);

    fn check_panes(backend: Backend, case: &Case) {
        let origin = case.ints.iter().copied().min().unwrap_or(0);
        let nearly_sorted: Vec<i64> = case.ints.iter().enumerate().map(|(row, n)| row as i64 * 10 + n % 40).collect();
        for (times, origin) in [(&case.ints, origin), (&case.ints, 0), (&nearly_sorted, -40), (&nearly_sorted, i64::MIN)] {
            for length in [1, 2, 3, 7, 1000, 1 << 20, (1 << 33) - 1, i64::MAX - 1, i64::MAX] {
                let (mut panes, mut expected) = (vec![5], vec![5]);
                let highest = backend.assign_panes(times, origin, length, &mut panes);
                assert_eq!(highest, scalar::window::assign_panes(times, origin, length, &mut expected), "{backend}");
                assert!(panes == expected, "{backend}: origin {origin}, length {length}");
            }
        }
    }

    #[test]
    fn a_time_at_the_edge_is_in_the_pane_that_it_starts() {
        for backend in Backend::available() {
            let mut panes = Vec::new();
            assert_eq!(backend.assign_panes(&[-10, -1, 0, 9, 10, 29], -10, 10, &mut panes), 3);
            assert_eq!(panes, [0, 0, 1, 1, 2, 3]);
            assert_eq!(backend.assign_panes(&[-11], -10, 10, &mut panes), u32::MAX);
            assert_eq!(backend.assign_panes(&[i64::MAX], i64::MIN, 1, &mut panes), u32::MAX);
            assert_eq!(backend.assign_panes(&[], 0, 1, &mut panes), 0);
        }
    }
}
