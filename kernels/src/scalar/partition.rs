//! Twin of [`crate::partition`].

use crate::partition::{part_of, prefix_sum_u32};

/// Twin of [`crate::partition_rows`]: count, sum up, place.
pub fn partition_rows(hashes: &[u64], starts: &mut [u32], rows: &mut [u32]) {
    let parts = (starts.len() - 1) as u32;
    starts.fill(0);
    hashes.iter().for_each(|&hash| starts[part_of(hash, parts) as usize] += 1);
    prefix_sum_u32(starts);
    // Each start moves up to the end of its part, which is the next one's start.
    for (row, &hash) in hashes.iter().enumerate() {
        let place = &mut starts[part_of(hash, parts) as usize];
        rows[*place as usize] = row as u32;
        *place += 1;
    }
    starts.rotate_right(1);
    starts[0] = 0;
}
