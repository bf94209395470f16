//! The rows of a batch group by group, for states that take several values of one group at once.

use arrow::buffer::NullBuffer;
use thalweg_kernels::order_by_part;

/// Gives `each` every slot with values of its rows, in the order in which they came, leaving out nulls. A slot may come more than
/// once. All slots are below `groups`.
pub(super) fn by_group<T: Copy>(slots: &[u32], values: &[T], nulls: Option<&NullBuffer>, groups: usize, mut each: impl FnMut(usize, &[T])) {
    let valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    if groups > slots.len() || slots.is_empty() {
        // Hardly any two rows are of one group: to order them would cost more.
        let rows = (0..slots.len()).filter(|&row| valid(row));
        return rows.for_each(|row| each(slots[row] as usize, &values[row..=row]));
    }
    let (mut starts, mut rows) = (vec![0; groups + 1], vec![0; slots.len()]);
    order_by_part(slots, &mut starts, &mut rows);
    let mut group = Vec::new();
    for (slot, run) in starts.windows(2).enumerate().filter(|(_, run)| run[0] < run[1]) {
        group.clear();
        let rows = rows[run[0] as usize..run[1] as usize].iter().map(|&row| row as usize);
        group.extend(rows.filter(|&row| valid(row)).map(|row| values[row]));
        if !group.is_empty() {
            each(slot, &group);
        }
    }
}
