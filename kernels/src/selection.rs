//! Selections: bitmaps of the rows whose values lie in a range, and the rows that a bitmap names, as numbers or as columns closed up.

use std::ops::RangeInclusive;

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// Appends, as a bitmap of their rows, which of `values` lie in a range; least significant bit first, bits past the last row are 0.
/// NaN lies in no range.
pub fn select_range<T: Copy + PartialOrd>(values: &[T], range: RangeInclusive<T>, selection: &mut Vec<u8>) {
    Backend::active().select_range(values, range, selection);
}

/// Appends the numbers of the selected rows, ascending.
///
/// # Panics
/// If the bitmap holds fewer bits than its rows, or has 2^32 rows or more.
pub fn selected_rows(selection: Bits<'_>, rows: &mut Vec<u32>) {
    Backend::active().selected_rows(selection, rows);
}

/// Appends the selected rows of a column, in their order.
///
/// # Panics
/// If the selection is of another length than the column.
pub fn compact<T: Copy>(values: &[T], selection: Bits<'_>, selected: &mut Vec<T>) {
    Backend::active().compact(values, selection, selected);
}

/// Appends the selected rows of a column to `selected` and the others to `others`, each in their order.
///
/// # Panics
/// If the selection is of another length than the column.
pub fn split<T: Copy>(values: &[T], selection: Bits<'_>, others: &mut Vec<T>, selected: &mut Vec<T>) {
    Backend::active().split(values, selection, others, selected);
}

/// Appends the named rows of a column, in the order in which they are named.
///
/// # Panics
/// If a row is not below the length of the column.
pub fn gather<T: Copy>(values: &[T], rows: &[u32], gathered: &mut Vec<T>) {
    Backend::active().gather(values, rows, gathered);
}

impl Backend {
    /// [`select_range`] on this backend.
    pub fn select_range<T: Copy + PartialOrd>(self, values: &[T], range: RangeInclusive<T>, selection: &mut Vec<u8>) {
        match self {
            Self::Scalar => scalar::selection::select_range(values, range, selection),
            Self::Simd(level) => simd::selection::select_range(level, values, range, selection),
        }
    }

    /// [`selected_rows`] on this backend.
    pub fn selected_rows(self, selection: Bits<'_>, rows: &mut Vec<u32>) {
        Bits::check(Some(selection), selection.len);
        assert!(u32::try_from(selection.len).is_ok(), "{} rows: their numbers do not fit in 32 bits", selection.len);
        match self {
            Self::Scalar => scalar::selection::selected_rows(selection, rows),
            Self::Simd(level) => simd::selection::selected_rows(level, selection, rows),
        }
    }

    /// [`compact`] on this backend.
    pub fn compact<T: Copy>(self, values: &[T], selection: Bits<'_>, selected: &mut Vec<T>) {
        check_lengths("values and selection", values.len(), selection.len);
        Bits::check(Some(selection), selection.len);
        match self {
            Self::Scalar => scalar::selection::compact(values, selection, selected),
            Self::Simd(level) => simd::selection::compact(level, values, selection, selected),
        }
    }

    /// [`gather`] on this backend.
    pub fn gather<T: Copy>(self, values: &[T], rows: &[u32], gathered: &mut Vec<T>) {
        match self {
            Self::Scalar => scalar::selection::gather(values, rows, gathered),
            Self::Simd(level) => simd::selection::gather(level, values, rows, gathered),
        }
    }

    /// [`split`] on this backend.
    pub fn split<T: Copy>(self, values: &[T], selection: Bits<'_>, others: &mut Vec<T>, selected: &mut Vec<T>) {
        check_lengths("values and selection", values.len(), selection.len);
        Bits::check(Some(selection), selection.len);
        match self {
            Self::Scalar => scalar::selection::split(values, selection, others, selected),
            Self::Simd(level) => simd::selection::split(level, values, selection, others, selected),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use crate::testing::{Case, on_every_backend};
    use crate::{Backend, Bits, scalar};

    on_every_backend!(ranges, super::check_ranges);
    on_every_backend!(selections, super::check_selections);

    fn check_range<T: Copy + PartialOrd>(backend: Backend, values: &[T], range: RangeInclusive<T>) {
        let mut selection = vec![9];
        backend.select_range(values, range.clone(), &mut selection);
        assert_eq!(selection.len(), 1 + values.len().div_ceil(8), "{backend}");
        for bit in 0..8 * (selection.len() - 1) {
            let expected = values.get(bit).is_some_and(|value| range.contains(value));
            assert_eq!(selection[1 + bit / 8] >> (bit % 8) & 1 == 1, expected, "{backend}, row {bit}");
        }
    }

    fn check_ranges(backend: Backend, case: &Case) {
        let bytes: Vec<u8> = case.ints.iter().map(|&int| int as u8).collect();
        for range in [0..=255, 0..=127, 128..=255, 77..=77, RangeInclusive::new(200, 100)] {
            check_range(backend, &bytes, range);
        }
        for range in [i64::MIN..=i64::MAX, 0..=i64::MAX, i64::MIN..=-1, case.ints.first().copied().unwrap_or(3)..=i64::MAX] {
            check_range(backend, &case.ints, range);
        }
        check_range(backend, &case.floats, f64::NEG_INFINITY..=0.0);
        check_range(backend, &case.floats, f64::NAN..=0.0);
    }

    fn check_selections(backend: Backend, case: &Case) {
        let len = case.slots.len();
        // As sparse or dense as the seed has it, whole words of one kind, and stretches of both.
        let bytes = case.bitmap.len();
        let stretches: Vec<u8> = (0..bytes).map(|byte| [0, 0xff, case.bitmap[byte]][byte / 20 % 3]).collect();
        for bytes in [&case.bitmap, &vec![0; bytes], &vec![0xff; bytes], &stretches] {
            let selection = Bits { bytes, offset: case.offset, len };
            let (mut rows, mut expected) = (vec![7], vec![7]);
            backend.selected_rows(selection, &mut rows);
            scalar::selection::selected_rows(selection, &mut expected);
            assert!(rows == expected, "{backend}");
            let (mut ints, mut expected, mut gathered) = (vec![7], vec![7], vec![7]);
            backend.compact(&case.ints, selection, &mut ints);
            scalar::selection::compact(&case.ints, selection, &mut expected);
            backend.gather(&case.ints, &rows[1..], &mut gathered);
            assert!(ints == expected && ints == gathered, "{backend}");
            let (mut slots, mut expected) = (vec![7], vec![7]);
            backend.compact(&case.slots, selection, &mut slots);
            scalar::selection::compact(&case.slots, selection, &mut expected);
            assert!(slots == expected, "{backend}");
            let (mut others, mut selected, mut expected_others) = (vec![8], vec![7], vec![8]);
            expected.truncate(1);
            backend.split(&case.slots, selection, &mut others, &mut selected);
            scalar::selection::split(&case.slots, selection, &mut expected_others, &mut expected);
            assert!(selected == slots && selected == expected && others == expected_others, "{backend}");
        }
    }

    #[test]
    fn columns_that_do_not_fit_panic() {
        let selection = Bits { bytes: &[0xff], offset: 0, len: 3 };
        for backend in Backend::available() {
            assert!(std::panic::catch_unwind(|| backend.compact(&[1, 2], selection, &mut Vec::new())).is_err(), "{backend}");
            let split = || backend.split(&[1, 2], selection, &mut Vec::new(), &mut Vec::new());
            assert!(std::panic::catch_unwind(split).is_err(), "{backend}");
            assert!(std::panic::catch_unwind(|| backend.gather(&[1, 2], &[1, 2, 0], &mut Vec::new())).is_err(), "{backend}");
            assert!(std::panic::catch_unwind(|| backend.gather::<u8>(&[], &[0], &mut Vec::new())).is_err(), "{backend}");
            let short = Bits { bytes: &[0xff], offset: 6, len: 3 };
            assert!(std::panic::catch_unwind(|| backend.selected_rows(short, &mut Vec::new())).is_err(), "{backend}");
        }
    }
}
