//! Rows in order of time.

use crate::backend::Backend;
use crate::{scalar, simd};

/// Replaces `rows` by the numbers of all rows in order of their times; rows of one time stay in the order in which they came.
///
/// Made for times that span little, as those of a stream do: the cost of a row grows with the number of digits of the span.
///
/// # Panics
/// If there are 2^32 rows or more.
pub fn sorted_rows(times: &[i64], rows: &mut Vec<u32>) {
    Backend::active().sorted_rows(times, rows);
}

impl Backend {
    /// [`sorted_rows`] on this backend.
    pub fn sorted_rows(self, times: &[i64], rows: &mut Vec<u32>) {
        assert!(u32::try_from(times.len()).is_ok(), "{} rows: their numbers do not fit in 32 bits", times.len());
        match self {
            Self::Scalar => scalar::sort::sorted_rows(times, rows),
            Self::Simd(level) => simd::sort::sorted_rows(level, times, rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, on_every_backend, scramble};
    use crate::{Backend, scalar};

    on_every_backend!(sorts, super::check_sorts);

    fn check_sorts(backend: Backend, case: &Case) {
        let rows = case.ints.len() as i64;
        let late = |delay: u64| (0..rows).map(|row| row / 3 - (scramble(row as u64) % delay) as i64).collect::<Vec<i64>>();
        let equal = vec![7; case.ints.len()];
        let scaled: Vec<i64> = late(300).iter().map(|time| time * 1_000_003).collect();
        for times in [&case.ints, &late(1), &late(5), &late(300), &late(10_000), &scaled, &equal] {
            let (mut sorted, mut expected) = (vec![9; 5], Vec::new());
            backend.sorted_rows(times, &mut sorted);
            scalar::sort::sorted_rows(times, &mut expected);
            assert!(sorted == expected, "{backend}");
        }
    }

    #[test]
    fn rows_of_one_time_stay_in_order() {
        for backend in Backend::available() {
            let mut rows = Vec::new();
            backend.sorted_rows(&[3, 1, 3, i64::MIN, 1, i64::MAX], &mut rows);
            assert_eq!(rows, [3, 1, 4, 0, 2, 5], "{backend}");
        }
    }
}
