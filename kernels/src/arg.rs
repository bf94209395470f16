//! Grouped argmin and argmax: the row at which a group's least or greatest value occurred.
//!
//! The type of the cell, [`ArgMin`] or [`ArgMax`], says which is kept. A row is named by its *payload*, an `i64`: an event
//! time or a row number.
//!
//! * **Null** rows are skipped.
//! * **NaN** is larger than every number and **−0.0 < +0.0**, as in [`crate::aggregate`].
//! * **Ties** go to the lowest payload: with rising row numbers, to the row that came first.
//!
//! Answers depend on the rows alone, not on their order, the batching, the backend or the order of combining.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::value::{Lane, Value};
use crate::{scalar, simd};

/// The greatest (`MAX`) or least value of one group and the payload of its row; [`Arg::EMPTY`] is the identity of combine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg<const MAX: bool> {
    /// The order key of the value, complemented for the maximum: the lowest wins.
    key: i64,
    payload: i64,
}

/// Where the least value of a group was.
pub type ArgMin = Arg<false>;

/// Where the greatest value of a group was.
pub type ArgMax = Arg<true>;

impl<const MAX: bool> Arg<MAX> {
    /// No rows.
    pub const EMPTY: Self = Self { key: i64::MAX, payload: i64::MAX };

    /// The cell of one row.
    #[inline(always)]
    pub(crate) fn of<T: Value>(value: T, payload: i64) -> Self {
        let key = value.to_lane().key();
        Self { key: if MAX { !key } else { key }, payload }
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> i64 {
        self.key
    }

    /// Keeps the better of two.
    #[inline(always)]
    pub(crate) fn take(&mut self, other: Self) {
        // A branch, for a better row soon is rare: the k-th of a group is one with a probability of 1 / k.
        if (other.key < self.key) | ((other.key == self.key) & (other.payload < self.payload)) {
            *self = other;
        }
    }

    /// Whether no row was taken in. A row whose payload is `i64::MAX` counts as none if its value, too, is the last in order
    /// (`i64::MAX` for the minimum, `i64::MIN` for the maximum).
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The payload of the row; `None` of none.
    #[inline]
    pub fn payload(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.payload)
    }

    /// The value of the row, `T` being the type of the column; `None` of none.
    #[inline]
    pub fn value<T: Value>(&self) -> Option<T> {
        let key = if MAX { !self.key } else { self.key };
        (!self.is_empty()).then(|| T::from_lane(T::Lane::from_key(key)))
    }

    /// The cell as two words, for a snapshot; [`Arg::from_words`] gives it back.
    #[inline]
    pub fn to_words(&self) -> [u64; 2] {
        [self.key as u64, self.payload as u64]
    }

    /// The cell of a snapshot.
    #[inline]
    pub fn from_words([key, payload]: [u64; 2]) -> Self {
        Self { key: key as i64, payload: payload as i64 }
    }
}

impl<const MAX: bool> Default for Arg<MAX> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Takes rows into their groups' cells: `cells[slots[i]]` takes `values[i]` and `payloads[i]` where row `i` is valid.
///
/// # Panics
/// If the columns differ in length, or the slot of a valid row is not below `cells.len()`.
pub fn accumulate_arg<const MAX: bool, T: Value>(
    cells: &mut [Arg<MAX>],
    slots: &[u32],
    values: &[T],
    payloads: &[i64],
    validity: Option<Bits<'_>>,
) {
    Backend::active().accumulate_arg(cells, slots, values, payloads, validity);
}

/// The cell of all valid rows of a column.
///
/// # Panics
/// If the columns differ in length.
pub fn fold_arg<const MAX: bool, T: Value>(values: &[T], payloads: &[i64], validity: Option<Bits<'_>>) -> Arg<MAX> {
    Backend::active().fold_arg(values, payloads, validity)
}

/// Combines cells element by element: `into[i]` becomes the cell of both inputs' rows.
///
/// # Panics
/// If the lengths differ.
pub fn combine_arg<const MAX: bool>(into: &mut [Arg<MAX>], from: &[Arg<MAX>]) {
    check_lengths("cells to combine", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        into.take(*from);
    }
}

impl Backend {
    /// [`accumulate_arg`] on this backend.
    pub fn accumulate_arg<const MAX: bool, T: Value>(
        self,
        cells: &mut [Arg<MAX>],
        slots: &[u32],
        values: &[T],
        payloads: &[i64],
        validity: Option<Bits<'_>>,
    ) {
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and payloads", values.len(), payloads.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::arg::accumulate(cells, slots, values, payloads, validity),
            Self::Simd(level) => simd::arg::accumulate(level, cells, slots, values, payloads, validity),
        }
    }

    /// [`fold_arg`] on this backend.
    pub fn fold_arg<const MAX: bool, T: Value>(self, values: &[T], payloads: &[i64], validity: Option<Bits<'_>>) -> Arg<MAX> {
        check_lengths("values and payloads", values.len(), payloads.len());
        Bits::check(validity, values.len());
        match self {
            Self::Scalar => scalar::arg::fold(values, payloads, validity),
            Self::Simd(level) => simd::arg::fold(level, values, payloads, validity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arg, ArgMax, ArgMin, combine_arg};
    use crate::testing::{Case, on_every_backend};
    use crate::value::Value;
    use crate::{Backend, Bits, scalar};

    on_every_backend!(floats, super::check_floats);
    on_every_backend!(ints, super::check_ints);

    fn check_floats(backend: Backend, case: &Case) {
        check::<false, f64>(backend, case, &case.floats);
        check::<true, f64>(backend, case, &case.floats);
    }

    /// Few values, so that there are ties; also all of one value.
    fn check_ints(backend: Backend, case: &Case) {
        check::<false, i64>(backend, case, &case.ints);
        check::<true, i32>(backend, case, &case.ints.iter().map(|value| (value % 3) as i32).collect::<Vec<_>>());
        check::<false, u64>(backend, case, &vec![1 << 63; case.ints.len()]);
    }

    fn check<const MAX: bool, T: Value>(backend: Backend, case: &Case, values: &[T]) {
        let payloads: Vec<i64> = case.ints.iter().map(|value| value % 1000).collect();
        let mut expected = vec![Arg::<MAX>::EMPTY; case.groups as usize];
        let (mut cells, mut combined, mut pane) = (expected.clone(), expected.clone(), expected.clone());
        scalar::arg::accumulate(&mut expected, &case.slots, values, &payloads, case.validity());
        backend.accumulate_arg(&mut cells, &case.slots, values, &payloads, case.validity());
        assert!(cells == expected, "{backend}");
        let whole = scalar::arg::fold::<MAX, T>(values, &payloads, case.validity());
        assert_eq!(backend.fold_arg(values, &payloads, case.validity()), whole, "{backend}");

        // Rows in reverse, in two panes: order and batching change nothing.
        let reversed = |from: std::ops::Range<usize>| from.rev().filter(|&row| case.valid(row)).collect::<Vec<_>>();
        let split = case.slots.len() / 3;
        for (cells, rows) in [(&mut combined, reversed(split..case.slots.len())), (&mut pane, reversed(0..split))] {
            let slots: Vec<u32> = rows.iter().map(|&row| case.slots[row]).collect();
            let values: Vec<T> = rows.iter().map(|&row| values[row]).collect();
            let payloads: Vec<i64> = rows.iter().map(|&row| payloads[row]).collect();
            backend.accumulate_arg(cells, &slots, &values, &payloads, None);
        }
        combine_arg(&mut combined, &pane);
        combine_arg(&mut combined, &vec![Arg::EMPTY; case.groups as usize]);
        assert!(combined == expected, "{backend}");
    }

    #[test]
    fn rows_worked_by_hand() {
        for backend in Backend::available() {
            let (values, payloads) = ([2.0, f64::NAN, -0.0, 0.0, 2.0, -0.0], [10, 20, 31, 5, 9, 30]);
            let min: ArgMin = backend.fold_arg(&values, &payloads, None);
            assert_eq!((min.payload(), min.value::<f64>().map(f64::to_bits)), (Some(30), Some((-0.0f64).to_bits())), "{backend}");
            let max: ArgMax = backend.fold_arg(&values, &payloads, None);
            assert!(max.payload() == Some(20) && max.value::<f64>().is_some_and(f64::is_nan), "{backend}");
            let max: ArgMax = backend.fold_arg(&values, &payloads, Some(Bits { bytes: &[0b111101], offset: 0, len: 6 }));
            assert_eq!((max.payload(), max.value()), (Some(9), Some(2.0)), "{backend}");
            assert_eq!(backend.fold_arg::<true, f64>(&[], &[], None).payload(), None);
            assert_eq!(ArgMax::from_words(max.to_words()), max);
        }
        assert!(ArgMin::default().is_empty() && ArgMax::EMPTY.value::<u32>().is_none());
    }
}
