//! Twin of [`crate::partition`].

use crate::partition::{hash_key, part_of, prefix_sum_u32};

/// Twin of [`crate::group_keys`].
pub fn group_keys<K: Copy + Into<i64>>(keys: &[K], groups: &mut Vec<u8>) {
    groups.extend(keys.iter().map(|&key| part_of(hash_key(key.into()), 256) as u8));
}

/// Twin of [`crate::partition_rows`].
pub fn partition_rows(hashes: &[u64], starts: &mut [u32], rows: &mut [u32]) {
    let parts = (starts.len() - 1) as u32;
    order(hashes, |&hash| part_of(hash, parts), starts, rows);
}

/// Twin of [`crate::order_by_part`].
pub fn order_by_part(parts: &[u32], starts: &mut [u32], rows: &mut [u32]) {
    order(parts, |&part| part, starts, rows);
}

/// Count, sum up, place.
pub(crate) fn order<T>(of: &[T], part: impl Fn(&T) -> u32, starts: &mut [u32], rows: &mut [u32]) {
    starts.fill(0);
    of.iter().for_each(|of| starts[part(of) as usize] += 1);
    prefix_sum_u32(starts);
    // Each start moves up to the end of its part, which is the next one's start.
    for (row, of) in of.iter().enumerate() {
        let place = &mut starts[part(of) as usize];
        rows[*place as usize] = row as u32;
        *place += 1;
    }
    starts.rotate_right(1);
    starts[0] = 0;
}
