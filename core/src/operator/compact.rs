//! Tables by slot that are made anew, as large as what they hold: when many keys have come and gone, most of their slots are empty.
//!
//! Slots keep their order, so that what goes by it stays as it was.

/// Whether so few of the slots are in use that it is worth moving them together: it costs no more than what has gone since the last time.
pub(crate) fn is_sparse(live: usize, slots: usize) -> bool {
    2 * live < slots
}

/// Makes a table that of `slots`, in their order; of those that it has not, the default.
pub(crate) fn keep<T: Default>(table: &mut Vec<T>, slots: &[u32]) {
    *table = slots.iter().map(|&slot| table.get_mut(slot as usize).map(std::mem::take).unwrap_or_default()).collect();
}

/// The new slot of each old one below `before`, when `slots` are kept; the greatest number of all others.
pub(crate) fn moves(slots: &[u32], before: usize) -> Vec<u32> {
    let mut moves = vec![u32::MAX; before];
    (0u32..).zip(slots).for_each(|(to, &from)| moves[from as usize] = to);
    moves
}

/// Gives back the room of a list that has been much longer.
pub(crate) fn shrink<T>(list: &mut Vec<T>) {
    if is_sparse(list.len(), list.capacity()) {
        list.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::{keep, moves, shrink};

    #[test]
    fn what_is_kept_moves_together_in_order() {
        let mut table = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        keep(&mut table, &[0, 2, 7]);
        assert_eq!(table, ["a", "c", ""]);
        assert_eq!(moves(&[0, 2], 4), [0, u32::MAX, 1, u32::MAX]);
    }

    #[test]
    fn room_for_less_than_twice_as_much_stays() {
        let mut list = Vec::with_capacity(10);
        list.extend([1, 2, 3, 4, 5]);
        shrink(&mut list);
        assert!(list.capacity() >= 10);
        list.truncate(2);
        shrink(&mut list);
        assert!(list.capacity() < 10);
    }
}
