//! Twin of [`crate::sort`].

/// Twin of [`crate::sorted_rows`].
pub fn sorted_rows(times: &[i64], rows: &mut Vec<u32>) {
    rows.clear();
    rows.extend(0..times.len() as u32);
    rows.sort_by_key(|&row| times[row as usize]);
}
