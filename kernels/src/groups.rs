//! Cells of some groups, combined one by one: a pane of few rows holds few of a window's groups, and only those change.

use crate::aggregate::check_lengths;
use crate::cell::Cell;
use crate::value::{Lane, Value};

/// Combines cells of values of type `T` into those in some slots: `into[slots[i]]` becomes the cell of both inputs' values. The same
/// code on every backend.
///
/// # Panics
/// If there are not as many slots as cells, or a slot is not below `into.len()`.
pub fn combine_at<T: Value>(into: &mut [Cell], slots: &[u32], from: &[Cell]) {
    check_lengths("slots and cells to combine", slots.len(), from.len());
    for (&slot, from) in slots.iter().zip(from) {
        T::Lane::combine(&mut into[slot as usize], from);
    }
}

/// Makes the cell in each of `slots` that of the values of both `a` and `b` in the same slot. The same code on every backend.
///
/// # Panics
/// If a slot is not below the length of each.
pub fn sum_at<T: Value>(into: &mut [Cell], slots: &[u32], a: &[Cell], b: &[Cell]) {
    for slot in slots.iter().map(|&slot| slot as usize) {
        let mut sum = a[slot];
        T::Lane::combine(&mut sum, &b[slot]);
        into[slot] = sum;
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cell, Want, accumulate, combine, combine_at, sum_at};

    fn cells(values: [f64; 3]) -> Vec<Cell> {
        let mut cells = vec![Cell::EMPTY; 3];
        accumulate(&mut cells, &[0, 1, 2], &values, None, Want::ALL);
        cells
    }

    #[test]
    fn the_cells_of_some_slots_become_those_of_both() {
        let (a, b) = (cells([1.0, -2.5, 1e300]), cells([4.0, f64::NAN, -1e-300]));
        let mut whole = a.clone();
        combine::<f64>(&mut whole, &b);
        let mut some = a.clone();
        combine_at::<f64>(&mut some, &[2, 0], &[b[2], b[0]]);
        assert_eq!(some, [whole[0], a[1], whole[2]]);
        let mut sums = vec![Cell::EMPTY; 3];
        sum_at::<f64>(&mut sums, &[1, 2], &a, &b);
        assert_eq!(sums, [Cell::EMPTY, whole[1], whole[2]]);
    }

    #[test]
    #[should_panic(expected = "slots and cells to combine differ in length: 1 and 2")]
    fn slots_without_cells_are_refused() {
        combine_at::<i64>(&mut [Cell::EMPTY], &[0], &[Cell::EMPTY; 2]);
    }
}
