//! Grouped first and last: the row of each group that is the earliest or the latest in event time.
//!
//! The type of the cell, [`First`] or [`Last`], says which is kept. Beside its time a row has a *sequence number*, its place in
//! arrival: the rows of a call have consecutive ones from `sequence` on, null rows counted.
//!
//! * **Null** rows are skipped.
//! * **Ties** of time: the row that arrived first is the first, the row that arrived last is the last.
//! * Answers depend on the rows with their times and sequence numbers alone, not on the batching, the backend or the order of
//!   combining, provided that no two rows of a group have both in common (if they do, one of them is kept). A caller whose
//!   rows come through several inputs gives each input a range of numbers of its own.
//! * **Values** are carried as words of 64 bits. For types that are no [`crate::Value`], pass a slice of `()`, which takes no
//!   memory, and keep the row that [`FirstLast::sequence`] names.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::value::Payload;
use crate::{scalar, simd};

/// The latest (`LAST`) or earliest row of one group; [`FirstLast::EMPTY`] is the identity of combine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstLast<const LAST: bool> {
    /// Time and sequence number, turned round for the last: the lowest wins. The highest of all numbers marks the empty cell.
    time: i64,
    sequence: u64,
    word: u64,
}

/// The earliest row of a group.
pub type First = FirstLast<false>;

/// The latest row of a group.
pub type Last = FirstLast<true>;

impl<const LAST: bool> FirstLast<LAST> {
    /// No rows.
    pub const EMPTY: Self = Self { time: i64::MAX, sequence: u64::MAX, word: 0 };

    /// The cell of one row; its number is below `u64::MAX`.
    #[inline(always)]
    pub(crate) fn of<T: Payload>(time: i64, sequence: u64, value: T) -> Self {
        Self { time: turn_time::<LAST>(time), sequence: turn_sequence::<LAST>(sequence), word: value.to_word() }
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> i64 {
        self.time
    }

    /// Keeps the better of two.
    #[inline(always)]
    pub(crate) fn take(&mut self, other: Self) {
        let better = (other.time < self.time) | ((other.time == self.time) & (other.sequence < self.sequence));
        if LAST {
            // No branch: where rows are out of order, it could not be foretold.
            *self = if better { other } else { *self };
        } else if better {
            *self = other;
        }
    }

    /// Whether no row was taken in.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.sequence == u64::MAX
    }

    /// The event time of the row; `None` of none.
    #[inline]
    pub fn time(&self) -> Option<i64> {
        (!self.is_empty()).then(|| turn_time::<LAST>(self.time))
    }

    /// The sequence number of the row; `None` of none.
    #[inline]
    pub fn sequence(&self) -> Option<u64> {
        (!self.is_empty()).then(|| turn_sequence::<LAST>(self.sequence))
    }

    /// The value of the row, `T` being the type of the column; `None` of none.
    #[inline]
    pub fn value<T: Payload>(&self) -> Option<T> {
        (!self.is_empty()).then(|| T::from_word(self.word))
    }

    /// The cell as three words, for a snapshot; [`FirstLast::from_words`] gives it back.
    #[inline]
    pub fn to_words(&self) -> [u64; 3] {
        [self.time as u64, self.sequence, self.word]
    }

    /// The cell of a snapshot.
    #[inline]
    pub fn from_words([time, sequence, word]: [u64; 3]) -> Self {
        Self { time: time as i64, sequence, word }
    }
}

impl<const LAST: bool> Default for FirstLast<LAST> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Turns the order of times round for the last. Its own inverse.
#[inline(always)]
pub(crate) fn turn_time<const LAST: bool>(time: i64) -> i64 {
    if LAST { !time } else { time }
}

/// Turns the order of numbers below `u64::MAX` round for the last, among themselves. Its own inverse.
#[inline(always)]
fn turn_sequence<const LAST: bool>(sequence: u64) -> u64 {
    if LAST { (u64::MAX - 1).wrapping_sub(sequence) } else { sequence }
}

/// The columns of a call: rows of an event time and a value, numbered from `sequence` on.
#[derive(Clone, Copy, Debug)]
pub struct Timed<'a, T> {
    /// Event times.
    pub times: &'a [i64],
    /// Values, as many.
    pub values: &'a [T],
    /// The sequence number of the first row.
    pub sequence: u64,
}

/// Takes rows into their groups' cells: `cells[slots[i]]` takes row `i` where it is valid.
///
/// # Panics
/// If the columns differ in length, a sequence number reaches `u64::MAX`, or the slot of a valid row is not below `cells.len()`.
pub fn accumulate_first_last<const LAST: bool, T: Payload>(
    cells: &mut [FirstLast<LAST>],
    slots: &[u32],
    rows: Timed<'_, T>,
    validity: Option<Bits<'_>>,
) {
    Backend::active().accumulate_first_last(cells, slots, rows, validity);
}

/// The cell of all valid rows of a column.
///
/// # Panics
/// If the columns differ in length, or a sequence number reaches `u64::MAX`.
pub fn fold_first_last<const LAST: bool, T: Payload>(rows: Timed<'_, T>, validity: Option<Bits<'_>>) -> FirstLast<LAST> {
    Backend::active().fold_first_last(rows, validity)
}

/// Combines cells element by element: `into[i]` becomes the cell of both inputs' rows.
///
/// # Panics
/// If the lengths differ.
pub fn combine_first_last<const LAST: bool>(into: &mut [FirstLast<LAST>], from: &[FirstLast<LAST>]) {
    check_lengths("cells to combine", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        into.take(*from);
    }
}

fn check<T>(rows: Timed<'_, T>, validity: Option<Bits<'_>>) {
    check_lengths("times and values", rows.times.len(), rows.values.len());
    Bits::check(validity, rows.times.len());
    let end = rows.sequence.checked_add(rows.times.len() as u64);
    assert!(end.is_some(), "{} rows from sequence number {} on are too many", rows.times.len(), rows.sequence);
}

impl Backend {
    /// [`accumulate_first_last`] on this backend.
    pub fn accumulate_first_last<const LAST: bool, T: Payload>(
        self,
        cells: &mut [FirstLast<LAST>],
        slots: &[u32],
        rows: Timed<'_, T>,
        validity: Option<Bits<'_>>,
    ) {
        check_lengths("slots and times", slots.len(), rows.times.len());
        check(rows, validity);
        match self {
            Self::Scalar => scalar::first_last::accumulate(cells, slots, rows, validity),
            Self::Simd(level) => simd::first_last::accumulate(level, cells, slots, rows, validity),
        }
    }

    /// [`fold_first_last`] on this backend.
    pub fn fold_first_last<const LAST: bool, T: Payload>(self, rows: Timed<'_, T>, validity: Option<Bits<'_>>) -> FirstLast<LAST> {
        check(rows, validity);
        match self {
            Self::Scalar => scalar::first_last::fold(rows, validity),
            Self::Simd(level) => simd::first_last::fold(level, rows, validity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{First, FirstLast, Last, Timed, combine_first_last};
    use crate::testing::{Case, on_every_backend};
    use crate::{Backend, Bits, scalar};

    on_every_backend!(grouped, super::check_grouped);

    fn check_grouped(backend: Backend, case: &Case) {
        let rising: Vec<i64> = (0..case.ints.len() as i64).map(|row| row / 3).collect();
        for times in [&case.ints, &rising, &vec![i64::MIN; case.ints.len()], &vec![i64::MAX; case.ints.len()]] {
            check::<false>(backend, case, times);
            check::<true>(backend, case, times);
        }
    }

    fn check<const LAST: bool>(backend: Backend, case: &Case, times: &[i64]) {
        let all = Timed { times, values: &case.ints, sequence: 0 };
        let mut expected = vec![FirstLast::<LAST>::EMPTY; case.groups as usize];
        let (mut cells, mut combined, mut pane) = (expected.clone(), expected.clone(), expected.clone());
        scalar::first_last::accumulate(&mut expected, &case.slots, all, case.validity());
        backend.accumulate_first_last(&mut cells, &case.slots, all, case.validity());
        assert!(cells == expected, "{backend}");
        let whole = scalar::first_last::fold::<LAST, i64>(all, case.validity());
        assert_eq!(backend.fold_first_last(all, case.validity()), whole, "{backend}");

        // Two batches, the later one first, and combined against arrival: all the same.
        let split = case.slots.len() / 3;
        let (tail, head) = (
            Timed { times: &times[split..], values: &case.ints[split..], sequence: split as u64 },
            Timed { times: &times[..split], values: &case.ints[..split], sequence: 0 },
        );
        let after = case.validity().map(|bits| Bits { offset: bits.offset + split, len: bits.len - split, ..bits });
        let before = case.validity().map(|bits| Bits { len: split, ..bits });
        backend.accumulate_first_last(&mut combined, &case.slots[split..], tail, after);
        backend.accumulate_first_last(&mut pane, &case.slots[..split], head, before);
        combine_first_last(&mut combined, &pane);
        combine_first_last(&mut combined, &vec![FirstLast::EMPTY; case.groups as usize]);
        assert!(combined == expected, "{backend}");
    }

    #[test]
    fn rows_worked_by_hand() {
        for backend in Backend::available() {
            let rows = Timed { times: &[5, 3, 9, 3, 9, 4], values: &[0.5, 0.3, 0.9, -0.3, -0.9, 0.4], sequence: 100 };
            let (first, last): (First, Last) = (backend.fold_first_last(rows, None), backend.fold_first_last(rows, None));
            assert_eq!((first.time(), first.sequence(), first.value()), (Some(3), Some(101), Some(0.3)), "{backend}");
            assert_eq!((last.time(), last.sequence(), last.value()), (Some(9), Some(104), Some(-0.9)), "{backend}");
            let bits = Some(Bits { bytes: &[0b101101], offset: 0, len: 6 });
            let (first, last): (First, Last) = (backend.fold_first_last(rows, bits), backend.fold_first_last(rows, bits));
            assert_eq!((first.value(), last.value()), (Some(-0.3), Some(0.9)), "{backend}");
            assert_eq!((First::from_words(first.to_words()), Last::from_words(last.to_words())), (first, last));

            let numbered = Timed { times: &[1, 1], values: &[(), ()], sequence: u64::MAX - 2 };
            assert_eq!(backend.fold_first_last::<true, ()>(numbered, None).sequence(), Some(u64::MAX - 1), "{backend}");
            let least = Timed { times: &[i64::MIN], values: &[()], sequence: 0 };
            assert_eq!(backend.fold_first_last::<true, ()>(least, None).time(), Some(i64::MIN), "{backend}");
            let beyond = Timed { sequence: u64::MAX - 1, ..numbered };
            assert!(std::panic::catch_unwind(|| backend.fold_first_last::<false, ()>(beyond, None)).is_err(), "{backend}");
        }
        assert!(First::default().time().is_none() && Last::EMPTY.value::<f32>().is_none());
    }
}
