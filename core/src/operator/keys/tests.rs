use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TYPES: [DataType; 13] = [
    DataType::Boolean,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::UInt8,
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
    DataType::Date32,
    DataType::Date64,
    DataType::Timestamp(TimeUnit::Microsecond, None),
    DataType::Time32(TimeUnit::Second),
];

/// A column: its type, whether it may have nulls, and values of which some are null there.
type Case = (DataType, bool, Vec<(i64, bool)>);

fn columns(rows: usize) -> impl Strategy<Value = Vec<Case>> {
    let extreme =
        prop::sample::select(vec![i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into(), -129, -128, 127, 128, 255, 32_768, -1, 1 << 40]);
    let value = prop_oneof![5 => -1i64..2, 1 => extreme];
    let values = vec((value, prop::bool::weighted(0.2)), rows);
    vec((prop::sample::select(TYPES.to_vec()), any::<bool>(), values), 2..7)
}

fn records(columns: &[Case]) -> RecordBatch {
    let column = |(place, (data_type, nullable, values)): (usize, &Case)| {
        let nulls = nullable.then(|| NullBuffer::from_iter(values.iter().map(|(_, is_null)| !is_null)));
        let values: Vec<i64> = values.iter().map(|(value, _)| *value).collect();
        let array = integers(values.into_iter(), data_type, nulls).unwrap();
        (Field::new(format!("key{place}"), data_type.clone(), *nullable), array)
    };
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.iter().enumerate().map(column).unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn keys_of(records: &RecordBatch) -> KeyColumns {
    let names: Vec<String> = records.schema().fields().iter().map(|field| field.name().clone()).collect();
    KeyColumns::new(&names, &records.schema(), 1_000).unwrap()
}

/// The same keys by way of Arrow's row format.
fn twin_of(keys: &KeyColumns) -> KeyColumns {
    let sort = keys.fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let form = Form::Rows(RowConverter::new(sort).unwrap());
    KeyColumns { columns: keys.columns.clone(), fields: keys.fields.clone(), form, limit: keys.limit }
}

fn assign(dictionary: &mut Keys, keys: &KeyColumn) -> Vec<u32> {
    let mut slots = vec![9];
    dictionary.assign(keys, &mut slots).unwrap();
    slots
}

fn groups(keys: &KeyColumn) -> Vec<u8> {
    let mut groups = vec![9];
    keys.groups(&mut groups).unwrap();
    groups
}

/// What both tell of the keys in some slots.
fn assert_same(own: (&mut KeyColumns, &Keys), twin: (&mut KeyColumns, &Keys), slots: &Slots<'_>) {
    assert_eq!(own.0.decode(own.1, slots).unwrap(), twin.0.decode(twin.1, slots).unwrap());
    assert_eq!(own.0.save(own.1, slots).unwrap(), twin.0.save(twin.1, slots).unwrap());
}

proptest! {
    #[test]
    fn integers_are_the_keys_that_their_rows_are(case in (0usize..50).prop_flat_map(columns), cut in 0usize..50, mask in any::<u64>()) {
        let records = records(&case);
        let (rows, cut) = (records.num_rows(), cut.min(records.num_rows()));
        let mut own = keys_of(&records);
        let bits: usize = case.iter().map(|(data_type, nullable, _)| integer_width(data_type).unwrap().max(1) * 8 + usize::from(*nullable)).sum();
        prop_assert_eq!(matches!(own.form, Form::Packed(_)), bits <= 256);
        let mut twin = twin_of(&own);
        let (mut dictionary, mut twins) = (own.dictionary(), twin.dictionary());
        for part in [0..cut, cut..rows] {
            let part = records.slice(part.start, part.len());
            let (keys, expected) = (own.encode(&part).unwrap(), twin.encode(&part).unwrap());
            prop_assert_eq!(groups(&keys), groups(&expected));
            prop_assert_eq!(assign(&mut dictionary, &keys), assign(&mut twins, &expected));
        }
        let (keys, slots) = (own.encode(&records).unwrap(), assign(&mut twins, &twin.encode(&records).unwrap()));
        // Parts of the rows have the keys that they had.
        let backwards: UInt32Array = (0..rows as u32).rev().chain(0..rows as u32 / 2).collect();
        let expected: Vec<u32> = backwards.values().iter().map(|&row| slots[row as usize]).collect();
        prop_assert_eq!(assign(&mut dictionary, &keys.take(&backwards).unwrap()), expected);
        prop_assert_eq!(assign(&mut dictionary, &keys.slice(cut..rows)), &slots[cut..]);
        let selection = BooleanBuffer::collect_bool(rows, |row| mask >> row & 1 == 1);
        let [others, those] = keys.split(&selection).unwrap();
        let selected = |is: bool| (0..rows).filter(|&row| selection.value(row) == is).map(|row| slots[row]).collect::<Vec<_>>();
        prop_assert_eq!((assign(&mut dictionary, &others), assign(&mut dictionary, &those)), (selected(false), selected(true)));
        // Some, all, and each several times.
        let count = dictionary.slots();
        let list: Vec<u32> = (0..3 * count as u32).map(|n| (n * 7) % count as u32).collect();
        for slots in [Slots::Range(0..count), Slots::Range(count / 2..count), Slots::List(&list[..count / 2]), Slots::List(&list)] {
            assert_same((&mut own, &dictionary), (&mut twin, &twins), &slots);
        }
        let some: Vec<u32> = (0..count as u32).filter(|slot| mask >> slot & 1 == 1).collect();
        let (compacted, expected) = (own.compacted(&dictionary, &some).unwrap(), twin.compacted(&twins, &some).unwrap());
        assert_same((&mut own, &compacted), (&mut twin, &expected), &Slots::Range(0..some.len()));
        // Keys come again after they have gone.
        [&mut dictionary, &mut twins].into_iter().for_each(|keys| keys.remove_all(&some));
        let (again, expected) = (own.encode(&records).unwrap(), twin.encode(&records).unwrap());
        prop_assert_eq!(assign(&mut dictionary, &again), assign(&mut twins, &expected));
        assert_same((&mut own, &dictionary), (&mut twin, &twins), &Slots::Range(0..dictionary.slots()));
        dictionary.clear();
        prop_assert_eq!(assign(&mut dictionary, &again), assign(&mut own.dictionary(), &again));
    }
}

fn pair(a: Option<i64>, b: i64, nullable: bool) -> RecordBatch {
    let field = |name, nullable| Field::new(name, DataType::Int64, nullable);
    let schema = Arc::new(Schema::new(vec![field("a", nullable), field("b", false)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![a])), Arc::new(Int64Array::from(vec![b]))]).unwrap()
}

#[test]
fn what_a_null_hides_is_no_part_of_the_key() {
    let hidden = |value| {
        let column = Int64Array::new(vec![value].into(), Some(NullBuffer::new_null(1)));
        RecordBatch::try_new(pair(None, 5, true).schema(), vec![Arc::new(column), Arc::new(Int64Array::from(vec![5]))]).unwrap()
    };
    let mut keys = keys_of(&pair(None, 5, true));
    let mut dictionary = keys.dictionary();
    for (records, slot) in [(pair(Some(0), 5, true), 0), (hidden(0), 1), (hidden(-7), 1), (pair(Some(-7), 5, true), 2)] {
        assert_eq!(assign(&mut dictionary, &keys.encode(&records).unwrap()), [slot]);
    }
}

#[test]
fn nulls_where_there_are_to_be_none_are_refused() {
    let mut keys = keys_of(&pair(Some(1), 2, false));
    let error = keys.encode(&pair(None, 2, true)).unwrap_err();
    assert_eq!(error.to_string(), "the key column `a` has nulls, but its schema says that it has none; declare the column nullable");
}

#[test]
fn a_null_takes_its_turn_among_new_keys_however_rows_are_cut() {
    let ints: Int64Array = [Some(5), None, Some(7), None, Some(5), Some(9)].into_iter().collect();
    let texts: StringArray = [Some("v"), None, Some("vii"), None, Some("v"), Some("ix")].into_iter().collect();
    for column in [Arc::new(ints) as ArrayRef, Arc::new(texts)] {
        let records = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        for cut in 0..=records.num_rows() {
            let mut keys = keys_of(&records);
            let mut dictionary = keys.dictionary();
            let mut slots = assign(&mut dictionary, &keys.encode(&records.slice(0, cut)).unwrap());
            slots.extend(assign(&mut dictionary, &keys.encode(&records.slice(cut, records.num_rows() - cut)).unwrap()));
            assert_eq!(slots, [0, 1, 2, 1, 0, 3], "cut at {cut}");
        }
    }
}

#[test]
fn key_groups_of_several_columns_never_change() {
    let mut all = Vec::new();
    for (a, b) in [(Some(0), 0), (Some(1), -1), (None, 7), (Some(i64::MIN), i64::MAX)] {
        all.extend(groups(&keys_of(&pair(a, b, true)).encode(&pair(a, b, true)).unwrap()));
    }
    assert_eq!(all, [231, 253, 187, 221]);
}
