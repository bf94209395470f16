//! Rows by the hash of their key: to workers, to key groups.

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::{scalar, simd};

/// Hashes integer keys: bits of a hash depend on all bits of its key, and different keys have different hashes.
///
/// The function is fixed, so that state partitioned by it can be read back; it is the finaliser of SplitMix64 (Steele, Lea,
/// Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). The same code on every backend.
///
/// # Panics
/// If the lengths differ.
pub fn hash_keys(keys: &[i64], hashes: &mut [u64]) {
    check_lengths("keys and hashes", keys.len(), hashes.len());
    hashes.iter_mut().zip(keys).for_each(|(hash, &key)| *hash = hash_key(key));
}

/// The hash of [`hash_keys`].
#[inline(always)]
pub(crate) fn hash_key(key: i64) -> u64 {
    let key = (key as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// Appends the key group of each key: which of 256 parts its hash of [`hash_keys`] is in, by [`part_of`].
pub fn group_keys<K: Copy + Into<i64>>(keys: &[K], groups: &mut Vec<u8>) {
    Backend::active().group_keys(keys, groups);
}

/// The part of `parts` that a hash belongs to: `floor(hash · parts / 2^64)`, so that parts are ranges of hashes of one size,
/// and the 256 key groups nest in any power of two of workers.
#[inline(always)]
pub fn part_of(hash: u64, parts: u32) -> u32 {
    ((u128::from(hash) * u128::from(parts)) >> 64) as u32
}

/// Orders rows by [`part_of`] their hashes, into as many parts as `starts` has elements, less one.
///
/// The rows of part `p` are `rows[starts[p]..starts[p + 1]]`, in the order in which they came.
///
/// # Panics
/// If `rows` and `hashes` differ in length, there are 2^32 rows or more, or `starts` has fewer than two elements or more than 2^32.
pub fn partition_rows(hashes: &[u64], starts: &mut [u32], rows: &mut [u32]) {
    Backend::active().partition_rows(hashes, starts, rows);
}

/// Orders rows by the part that each is in: `starts` has one element more than there are parts.
///
/// The rows of part `p` are `rows[starts[p]..starts[p + 1]]`, in the order in which they came.
///
/// # Panics
/// If `rows` and `parts` differ in length, there are 2^32 rows or more, `starts` has fewer than two elements or more than 2^32, or a
/// part has no start.
pub fn order_by_part(parts: &[u32], starts: &mut [u32], rows: &mut [u32]) {
    Backend::active().order_by_part(parts, starts, rows);
}

/// Replaces each number by the sum of those before it, and returns the sum of all. Sums wrap.
///
/// A chain of additions, one per number: the same code on every backend.
pub fn prefix_sum_u32(values: &mut [u32]) -> u32 {
    values.iter_mut().fold(0, |sum, value| sum.wrapping_add(std::mem::replace(value, sum)))
}

/// [`prefix_sum_u32`] of wider numbers.
pub fn prefix_sum_u64(values: &mut [u64]) -> u64 {
    values.iter_mut().fold(0, |sum, value| sum.wrapping_add(std::mem::replace(value, sum)))
}

impl Backend {
    /// [`group_keys`] on this backend.
    pub fn group_keys<K: Copy + Into<i64>>(self, keys: &[K], groups: &mut Vec<u8>) {
        match self {
            Self::Scalar => scalar::partition::group_keys(keys, groups),
            Self::Simd(level) => simd::partition::group_keys(level, keys, groups),
        }
    }

    /// [`partition_rows`] on this backend.
    pub fn partition_rows(self, hashes: &[u64], starts: &mut [u32], rows: &mut [u32]) {
        check_lengths("hashes and rows", hashes.len(), rows.len());
        let parts = check_parts(starts, rows);
        match self {
            Self::Scalar => scalar::partition::order(hashes, |&hash| part_of(hash, parts), starts, rows),
            Self::Simd(level) => simd::partition::order(level, hashes, |&hash| part_of(hash, parts), starts, rows),
        }
    }

    /// [`order_by_part`] on this backend.
    pub fn order_by_part(self, parts: &[u32], starts: &mut [u32], rows: &mut [u32]) {
        check_lengths("parts and rows", parts.len(), rows.len());
        let count = check_parts(starts, rows);
        let last = parts.iter().fold(0, |last, &part| last.max(part));
        assert!(last < count, "part {last} is not below the number of parts, {count}");
        match self {
            Self::Scalar => scalar::partition::order(parts, |&part| part, starts, rows),
            Self::Simd(level) => simd::partition::order(level, parts, |&part| part, starts, rows),
        }
    }
}

/// How many parts there are starts for.
pub(crate) fn check_parts(starts: &[u32], rows: &[u32]) -> u32 {
    let parts = starts.len().wrapping_sub(1);
    assert!((1..=u32::MAX as usize).contains(&parts), "{} starts: one more than parts is needed", starts.len());
    assert!(u32::try_from(rows.len()).is_ok(), "{} rows: their numbers do not fit in 32 bits", rows.len());
    parts as u32
}

#[cfg(test)]
mod tests {
    use super::{hash_keys, part_of, prefix_sum_u32, prefix_sum_u64};
    use crate::Backend;
    use crate::testing::{Case, on_every_backend};

    on_every_backend!(partitions, super::check_partitions);
    on_every_backend!(groups, super::check_groups);

    fn check_groups(backend: Backend, case: &Case) {
        let mut hashes = vec![0; case.ints.len()];
        hash_keys(&case.ints, &mut hashes);
        let expected: Vec<u8> = [7].into_iter().chain(hashes.iter().map(|&hash| part_of(hash, 256) as u8)).collect();
        let mut groups = vec![7];
        backend.group_keys(&case.ints, &mut groups);
        assert!(groups == expected, "{backend}");
        let narrow: Vec<u8> = case.ints.iter().map(|&int| int as u8).collect();
        let wide: Vec<i64> = narrow.iter().map(|&int| i64::from(int)).collect();
        let (mut of_narrow, mut of_wide) = (Vec::new(), Vec::new());
        backend.group_keys(&narrow, &mut of_narrow);
        Backend::Scalar.group_keys(&wide, &mut of_wide);
        assert!(of_narrow == of_wide, "{backend}");
    }

    fn check_partitions(backend: Backend, case: &Case) {
        let mut hashes = vec![0; case.ints.len()];
        hash_keys(&case.ints, &mut hashes);
        let by_slot: Vec<u64> = case.slots.iter().map(|&slot| u64::from(slot) << 40).collect();
        let edges: Vec<u64> = case.ints.iter().map(|&int| int as u64).collect();
        for hashes in [&hashes, &by_slot, &edges] {
            for parts in [1, 2, 3, 8, 255, 256, 257, 1000] {
                let (mut starts, mut expected_starts) = (vec![9; parts + 1], vec![9; parts + 1]);
                let (mut rows, mut expected) = (vec![9; hashes.len()], vec![9; hashes.len()]);
                backend.partition_rows(hashes, &mut starts, &mut rows);
                Backend::Scalar.partition_rows(hashes, &mut expected_starts, &mut expected);
                assert!(starts == expected_starts && rows == expected, "{backend}, {parts} parts");
                let of_rows: Vec<u32> = hashes.iter().map(|&hash| part_of(hash, parts as u32)).collect();
                backend.order_by_part(&of_rows, &mut starts, &mut rows);
                assert!(starts == expected_starts && rows == expected, "{backend}, {parts} parts");
            }
        }
    }

    #[test]
    fn every_row_is_in_its_part_once_and_in_order() {
        let hashes: Vec<u64> = (0..1000).map(crate::testing::scramble).collect();
        for backend in Backend::available() {
            for parts in [1, 7, 300] {
                let (mut starts, mut rows) = (vec![0; parts + 1], vec![0; 1000]);
                backend.partition_rows(&hashes, &mut starts, &mut rows);
                assert_eq!((starts[0], starts[parts]), (0, 1000), "{backend}");
                for part in 0..parts {
                    let rows = &rows[starts[part] as usize..starts[part + 1] as usize];
                    assert!(rows.iter().all(|&row| part_of(hashes[row as usize], parts as u32) == part as u32), "{backend}");
                    assert!(rows.is_sorted_by(|a, b| a < b), "{backend}");
                }
            }
        }
    }

    #[test]
    fn groups_nest_in_workers_and_hashes_stay_what_they_are() {
        let mut hashes = [0; 3];
        hash_keys(&[0, 1, -1], &mut hashes);
        assert_eq!(hashes, [0xe220_a839_7b1d_cdaf, 0x910a_2dec_8902_5cc1, 0xe4d9_7177_1b65_2c20]);
        for hash in (0..1000).map(crate::testing::scramble).chain([0, u64::MAX]) {
            assert_eq!(part_of(hash, 8), part_of(hash, 256) / 32);
        }
    }

    #[test]
    fn sums_are_of_the_elements_before() {
        let (mut narrow, mut wide) = ([3, 0, u32::MAX, 2], [3, 0, u64::MAX, 2]);
        assert_eq!((prefix_sum_u32(&mut narrow), prefix_sum_u64(&mut wide)), (4, 4));
        assert_eq!((narrow, wide), ([0, 3, 3, 2], [0, 3, 3, 2]));
        assert_eq!(prefix_sum_u32(&mut []), 0);
    }

    #[test]
    fn columns_that_do_not_fit_panic() {
        for backend in Backend::available() {
            assert!(std::panic::catch_unwind(|| backend.partition_rows(&[1, 2], &mut [0; 3], &mut [0; 1])).is_err(), "{backend}");
            assert!(std::panic::catch_unwind(|| backend.partition_rows(&[1], &mut [0; 1], &mut [0; 1])).is_err(), "{backend}");
            assert!(std::panic::catch_unwind(|| backend.order_by_part(&[2, 0], &mut [0; 3], &mut [0; 2])).is_err(), "{backend}");
        }
    }
}
