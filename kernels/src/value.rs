//! The types of value columns, and the two lanes that they are accumulated in: `f64` and `i64`.

use std::fmt::Debug;

use crate::aggregate::{Want, combine_float, combine_int};
use crate::cell::{Cell, from_order_key, order_key};
use crate::scalar::aggregate::{add_float, add_int};

/// A type of value column. A narrow one is accumulated as the lane that it widens to.
///
/// | column | lane | views of a [`Cell`](crate::Cell) |
/// |---|---|---|
/// | `f64`, `f32` | the float itself, exactly | `float_*` |
/// | `i64`, `i32`, `u32` | the integer itself | `int_*` |
/// | `u64` | the integer less 2⁶³, which keeps the order and the exact sum | `uint_*` |
pub trait Value: sealed::Value {}

/// What can be carried along with a row, bit for bit: any [`Value`], or `()` where nothing need be.
pub trait Payload: sealed::Payload {}

pub(crate) mod sealed {
    use super::Debug;
    use crate::simd::aggregate::Element;

    pub trait Value: Payload + Debug + Default + PartialEq {
        type Lane: Element;

        /// Into the lane: exact and in the same order.
        fn to_lane(self) -> Self::Lane;
        /// The value whose lane this is.
        fn from_lane(lane: Self::Lane) -> Self;
        /// The nearest float.
        fn to_f64(self) -> f64;

        /// The column as its lane, where it is that already.
        #[inline(always)]
        fn as_lane(_values: &[Self]) -> Option<&[Self::Lane]> {
            None
        }
    }

    pub trait Payload: Copy {
        fn to_word(self) -> u64;
        fn from_word(word: u64) -> Self;
    }
}

/// What differs between the lanes, apart from vectors.
pub trait Lane: Copy + Debug + Default {
    /// Stands for the least and the greatest of no values.
    const NONE: Self;

    /// A key that orders as the values do, NaN last.
    fn key(self) -> i64;
    /// The value whose key this is.
    fn from_key(key: i64) -> Self;
    /// Takes one value into a cell, as the reference does.
    fn take(self, cell: &mut Cell, want: Want);
    /// Takes the values of a cell into another.
    fn combine(into: &mut Cell, from: &Cell);
}

impl Lane for f64 {
    const NONE: f64 = f64::NAN;

    #[inline(always)]
    fn key(self) -> i64 {
        order_key(self)
    }

    #[inline(always)]
    fn from_key(key: i64) -> f64 {
        from_order_key(key)
    }

    #[inline(always)]
    fn take(self, cell: &mut Cell, want: Want) {
        add_float(cell, self, want);
    }

    #[inline(always)]
    fn combine(into: &mut Cell, from: &Cell) {
        combine_float(into, from);
    }
}

impl Lane for i64 {
    const NONE: i64 = 0;

    #[inline(always)]
    fn key(self) -> i64 {
        self
    }

    #[inline(always)]
    fn from_key(key: i64) -> i64 {
        key
    }

    #[inline(always)]
    fn take(self, cell: &mut Cell, want: Want) {
        add_int(cell, self, want);
    }

    #[inline(always)]
    fn combine(into: &mut Cell, from: &Cell) {
        combine_int(into, from);
    }
}

/// The `i64` that lies 2⁶³ below an unsigned integer. [`unbiased`] undoes it.
#[inline(always)]
fn biased(value: u64) -> i64 {
    (value ^ 1 << 63) as i64
}

#[inline(always)]
pub(crate) fn unbiased(lane: i64) -> u64 {
    lane as u64 ^ 1 << 63
}

macro_rules! value {
    ($($type:ty, $lane:ty, $to_lane:expr, $from_lane:expr, $to_word:expr, $from_word:expr, $($as_lane:expr)?;)*) => {$(
        impl Value for $type {}

        impl sealed::Value for $type {
            type Lane = $lane;

            #[inline(always)]
            fn to_lane(self) -> $lane {
                $to_lane(self)
            }

            #[inline(always)]
            fn from_lane(lane: $lane) -> Self {
                $from_lane(lane)
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            $(#[inline(always)]
            fn as_lane(values: &[Self]) -> Option<&[$lane]> {
                $as_lane(values)
            })?
        }

        impl Payload for $type {}

        impl sealed::Payload for $type {
            #[inline(always)]
            fn to_word(self) -> u64 {
                $to_word(self)
            }

            #[inline(always)]
            fn from_word(word: u64) -> Self {
                $from_word(word)
            }
        }
    )*};
}

value! {
    f64, f64, |value| value, |lane| lane, f64::to_bits, f64::from_bits, Some;
    i64, i64, |value| value, |lane| lane, |value| value as u64, |word| word as i64, Some;
    f32, f64, f64::from, |lane| lane as f32, |value: f32| u64::from(value.to_bits()), |word| f32::from_bits(word as u32), ;
    i32, i64, i64::from, |lane| lane as i32, |value| value as u64, |word| word as i32, ;
    u32, i64, i64::from, |lane| lane as u32, u64::from, |word| word as u32, ;
    u64, i64, biased, unbiased, |value| value, |word| word, ;
}

impl Payload for () {}

impl sealed::Payload for () {
    #[inline(always)]
    fn to_word(self) -> u64 {
        0
    }

    #[inline(always)]
    fn from_word(_: u64) {}
}

#[cfg(test)]
mod tests {
    use super::sealed::Payload as _;
    use super::{Lane, Value};
    use crate::testing::{Case, assert_sums_agree, on_every_backend};
    use crate::{Backend, Cell, Want, scalar};

    on_every_backend!(columns, super::check_columns);

    fn check_columns(backend: Backend, case: &Case) {
        check::<f32>(backend, case, &case.floats.iter().map(|&value| value as f32).collect::<Vec<_>>());
        check::<i32>(backend, case, &case.ints.iter().map(|&value| value as i32).collect::<Vec<_>>());
        check::<u32>(backend, case, &case.ints.iter().map(|&value| value as u32).collect::<Vec<_>>());
        check::<u64>(backend, case, &case.ints.iter().map(|&value| value as u64).collect::<Vec<_>>());
    }

    /// A column of a narrow type gives what its lane gives; both are held against the reference.
    fn check<T: Value>(backend: Backend, case: &Case, values: &[T]) {
        let lane: Vec<T::Lane> = values.iter().map(|value| value.to_lane()).collect();
        for want in [Want::ALL, Want { sum: true, order: false }, Want { sum: false, order: true }] {
            let mut cells = vec![Cell::EMPTY; case.groups as usize];
            let mut expected = cells.clone();
            backend.accumulate(&mut cells, &case.slots, values, case.validity(), want);
            for (row, value) in lane.iter().enumerate().filter(|(row, _)| case.valid(*row)) {
                value.take(&mut expected[case.slots[row] as usize], want);
            }
            let all = cells.iter().zip(&expected);
            all.for_each(|(cell, expected)| assert_cells_agree::<T>(backend, case, cell, expected, want));
            let (cell, expected) = (backend.fold(values, case.validity(), want), scalar::column::fold(values, case.validity(), want));
            assert_cells_agree::<T>(backend, case, &cell, &expected, want);
        }
    }

    fn assert_cells_agree<T: Value>(backend: Backend, case: &Case, cell: &Cell, expected: &Cell, want: Want) {
        let kind = std::any::type_name::<T>();
        assert_eq!((cell.count, cell.min, cell.max), (expected.count, expected.min, expected.max), "{backend}, {kind}");
        if kind == "f32" && want.sum {
            let magnitudes = case.floats.iter().map(|&value| f64::from(value as f32).abs()).sum();
            assert_sums_agree(backend, cell.float_sum(), expected.float_sum(), magnitudes);
        } else {
            assert_eq!(cell.sum, expected.sum, "{backend}, {kind}");
        }
    }

    #[test]
    fn unsigned_integers_keep_their_order_and_exact_sum() {
        for backend in Backend::available() {
            for rows in [1, 7, 600] {
                let cell = backend.fold(&vec![u64::MAX; rows], None, Want::ALL);
                assert_eq!(cell.uint_sum(), u128::from(u64::MAX) * rows as u128, "{backend}");
                assert_eq!((cell.uint_min(), cell.uint_max()), (u64::MAX, u64::MAX), "{backend}");
            }
            let values = [3, u64::MAX, 0, 1 << 63, (1 << 63) - 1];
            let mut cells = [Cell::EMPTY; 2];
            backend.accumulate(&mut cells, &[1, 1, 1, 0, 0], &values, None, Want::ALL);
            assert_eq!((cells[1].uint_sum(), cells[1].uint_min(), cells[1].uint_max()), (u128::from(u64::MAX) + 3, 0, u64::MAX));
            assert_eq!((cells[0].uint_min(), cells[0].uint_max()), ((1 << 63) - 1, 1 << 63), "{backend}");
        }
        assert_eq!(Cell::EMPTY.uint_sum(), 0);
    }

    #[test]
    fn lanes_and_words_give_the_value_back() {
        fn back<T: Value>(values: &[T]) {
            for &value in values {
                assert_eq!(T::from_lane(value.to_lane()), value);
                assert_eq!(T::from_lane(T::Lane::from_key(value.to_lane().key())), value);
                assert_eq!(T::from_word(value.to_word()), value);
            }
        }
        back(&[f64::MIN, -0.0, 5e-324, f64::INFINITY]);
        back(&[f32::MIN, -0.0, 1e-45, f32::INFINITY]);
        back(&[i64::MIN, -1, 0, i64::MAX]);
        back(&[i32::MIN, -1, 0, i32::MAX]);
        back(&[u32::MIN, 1, u32::MAX]);
        back(&[u64::MIN, 1, 1 << 63, u64::MAX]);
        assert!(f64::from_word(f64::NAN.to_word()).is_nan());
    }
}
