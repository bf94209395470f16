//! Key groups: the keys in [`KEY_GROUPS`] parts by a hash that never changes, the unit in which state moves between workers.
//!
//! As in Flink, a worker owns a range of groups; how many workers there are changes the ranges and not the groups.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowNativeType, DataType};
use thalweg_kernels::{Hash, group_keys, hash_bytes, part_of};

use crate::error::{Error, Result};

/// How many groups there are: enough to give each of many workers its share, few enough to count rows by in the L1 cache. State is
/// stored by group, so it may never change.
pub(crate) const KEY_GROUPS: usize = 256;

/// The group of the null key, and of every row where there is no key.
const NULL_GROUP: u8 = 0;

/// Seed of the hash of strings and rows. Another than that of the sketches, whose estimates would suffer if a worker saw only words
/// of one range. May never change.
const SEED: u64 = 0x7468_616c_7765_6730;

/// Rows hashed at once, so that their hashes stay in the L1 cache.
const CHUNK: usize = 1_024;

/// Replaces `groups` by the key group of each of the `rows` rows, whose keys are `column` as operators encode them: integers (or what
/// Arrow stores as one), booleans, UTF-8, or binary (Arrow's row format, of several columns); `None` if there is no key.
///
/// Integers of one value are in one group whatever their width.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if the column is of another type, which would be a defect.
pub(crate) fn key_groups(column: Option<&ArrayRef>, rows: usize, groups: &mut Vec<u8>) -> Result<()> {
    groups.clear();
    let Some(column) = column else {
        groups.resize(rows, NULL_GROUP);
        return Ok(());
    };
    match column.data_type() {
        DataType::Utf8 => {
            let strings = column.as_string::<i32>();
            row_groups(strings.value_offsets(), strings.value_data(), groups);
        }
        DataType::Binary => {
            let binary = column.as_binary::<i32>();
            row_groups(binary.value_offsets(), binary.value_data(), groups);
        }
        DataType::Boolean => {
            let keys: Vec<u8> = column.as_boolean().values().iter().map(u8::from).collect();
            group_keys(&keys, groups);
        }
        _ => stored_as_integers(column, groups)?,
    }
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        groups.iter_mut().zip(nulls).filter(|(_, valid)| !valid).for_each(|(group, _)| *group = NULL_GROUP);
    }
    Ok(())
}

/// The groups of what Arrow stores as integers: dates, times and timestamps, too.
fn stored_as_integers(column: &ArrayRef, groups: &mut Vec<u8>) -> Result<()> {
    let unsigned = column.data_type().is_unsigned_integer();
    match (column.data_type().primitive_width(), unsigned) {
        (Some(1), false) => group_keys(&stored::<i8>(column), groups),
        (Some(1), true) => group_keys(&stored::<u8>(column), groups),
        (Some(2), false) => group_keys(&stored::<i16>(column), groups),
        (Some(2), true) => group_keys(&stored::<u16>(column), groups),
        (Some(4), false) => group_keys(&stored::<i32>(column), groups),
        (Some(4), true) => group_keys(&stored::<u32>(column), groups),
        // Unsigned ones as their bits.
        (Some(8), _) => group_keys(&stored::<i64>(column), groups),
        _ => {
            return Err(Error::schema(format!(
                "a key of type {} has no key group; this is a defect, please report it",
                column.data_type()
            )));
        }
    }
    Ok(())
}

/// The values of a column as they are stored.
fn stored<T: ArrowNativeType>(column: &ArrayRef) -> ScalarBuffer<T> {
    let data = column.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// Appends the key groups of byte strings, which may be rows in Arrow's row format: row `i` is `data[offsets[i]..offsets[i + 1]]`.
pub(crate) fn row_groups(offsets: &[i32], data: &[u8], groups: &mut Vec<u8>) {
    let mut hashes = [0; CHUNK];
    let rows = offsets.len() - 1;
    for start in (0..rows).step_by(CHUNK) {
        let end = rows.min(start + CHUNK);
        let hashes = &mut hashes[..end - start];
        hash_bytes(&offsets[start..=end], data, Hash::Seeded(SEED), hashes);
        groups.extend(hashes.iter().map(|&hash| group_of(hash)));
    }
}

fn group_of(hash: u64) -> u8 {
    part_of(hash, KEY_GROUPS as u32) as u8
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray, UInt8Array, UInt64Array,
    };

    use super::*;

    fn groups(column: impl Array + 'static) -> Vec<u8> {
        let (rows, column) = (column.len(), Arc::new(column) as ArrayRef);
        let mut groups = vec![9];
        key_groups(Some(&column), rows, &mut groups).unwrap();
        groups
    }

    #[test]
    fn groups_never_change() {
        let integers = [226, 145, 151, 51, 228, 72];
        assert_eq!(groups(Int64Array::from(vec![0, 1, 2, 255, -1, i64::MIN])), integers);
        assert_eq!(groups(UInt64Array::from(vec![0, 1, 2, 255, u64::MAX, 1 << 63])), integers);
        assert_eq!(groups(Int32Array::from(vec![0, 1, 2, 255, -1])), integers[..5]);
        assert_eq!(groups(UInt8Array::from(vec![0, 1, 2, 255])), integers[..4]);
        assert_eq!(groups(Date32Array::from(vec![0, 1])), integers[..2]);
        assert_eq!(groups(TimestampMillisecondArray::from(vec![0, 1])), integers[..2]);
        assert_eq!(groups(BooleanArray::from(vec![false, true])), integers[..2]);
        let words = ["", "a", "b", "card-000123", "the line of fastest flow in a river"];
        let strings = [233, 150, 2, 152, 83];
        assert_eq!(groups(StringArray::from(words.to_vec())), strings);
        assert_eq!(groups(BinaryArray::from_iter_values(words)), strings);
    }

    #[test]
    fn nulls_are_one_group_and_slices_are_as_their_rows() {
        let keys = Int64Array::from(vec![Some(7), None, Some(1), Some(2), None]);
        assert_eq!(groups(keys.slice(1, 3)), [0, 145, 151]);
        let words = StringArray::from(vec![Some("x"), None, Some("card-000123")]);
        assert_eq!(groups(words.slice(1, 2))[0], 0);
        assert_eq!(groups(words.slice(2, 1)), groups(StringArray::from(vec!["card-000123"])));
        let mut none = Vec::new();
        key_groups(None, 3, &mut none).unwrap();
        assert_eq!(none, [0, 0, 0]);
    }

    #[test]
    fn groups_are_of_about_one_size() {
        let keys: Vec<i64> = (0..256_000).collect();
        let words: Vec<String> = keys.iter().map(|key| format!("key-{key}")).collect();
        for groups in [groups(Int64Array::from(keys)), groups(StringArray::from(words))] {
            let mut sizes = [0_u32; KEY_GROUPS];
            groups.iter().for_each(|&group| sizes[usize::from(group)] += 1);
            assert!(sizes.iter().all(|size| (800..1_200).contains(size)), "{sizes:?}");
        }
    }
}
