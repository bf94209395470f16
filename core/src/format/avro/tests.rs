#![allow(clippy::unwrap_used)]

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimeUnit};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::batch::{PartitionId, Segment};
use crate::format::Format;
use crate::format::infer::infer;
use crate::quality::Rejected;

const ONE: PartitionId = PartitionId(1);

const CARD: &str = r#"{"type":"record","name":"Payment","fields":[
    {"name":"id","type":"int"},{"name":"note","type":["null","string"]},{"name":"amount","type":"float"}]}"#;

/// As [`CARD`] with what its writers did to it later: a field is new, one is gone, one is wider, and they are in another order.
const LATER: &str = r#"{"type":"record","name":"Payment","fields":[
    {"name":"amount","type":"double"},{"name":"id","type":"long"},{"name":"card","type":{"type":"enum","name":"Card","symbols":["debit","credit"]}}]}"#;

pub(super) fn long(number: i64) -> Vec<u8> {
    let (mut rest, mut bytes) = (((number << 1) ^ (number >> 63)) as u64, Vec::new());
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

fn card(id: i32, note: Option<&str>, amount: f32) -> Vec<u8> {
    let note = note.map_or(long(0), |note| [long(1), text(note)].concat());
    [long(id.into()), note, amount.to_le_bytes().to_vec()].concat()
}

fn later(amount: f64, id: i64, card: i64) -> Vec<u8> {
    [amount.to_le_bytes().to_vec(), long(id), long(card)].concat()
}

/// A container file; each block is packed as `codec` says.
fn file(schema: &str, codec: &str, blocks: &[&[Vec<u8>]]) -> Vec<u8> {
    let entries = [text("avro.codec"), text(codec), text("avro.schema"), text(schema)].concat();
    let mut bytes = [b"Obj\x01".to_vec(), long(-2), long(entries.len() as i64), entries, long(0), SYNC.to_vec()].concat();
    for rows in blocks {
        let block = pack(codec, &rows.concat());
        bytes.extend([long(rows.len() as i64), long(block.len() as i64), block, SYNC.to_vec()].concat());
    }
    bytes
}

const SYNC: [u8; 16] = *b"sixteen bytes...";

fn pack(codec: &str, block: &[u8]) -> Vec<u8> {
    match codec {
        "null" => block.to_vec(),
        "deflate" => {
            let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(block).unwrap();
            writer.finish().unwrap()
        }
        "snappy" => {
            let mut checksum = flate2::Crc::new();
            checksum.update(block);
            [snap::raw::Encoder::new().compress_vec(block).unwrap(), checksum.sum().to_be_bytes().to_vec()].concat()
        }
        _ => zstd::encode_all(block, 1).unwrap(),
    }
}

pub(super) fn columns(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

fn wide() -> SchemaRef {
    columns(&[("id", DataType::Int64), ("amount", DataType::Float64), ("card", DataType::Utf8)])
}

/// What a container brings, in pieces of `piece` bytes.
fn decode(avro: &Avro, schema: &SchemaRef, bytes: &[u8], piece: usize) -> Result<(Option<RecordBatch>, Vec<Segment>, Vec<Rejected>)> {
    let mut decoder = Format::Avro(avro.clone()).decoder(SchemaRef::clone(schema), &crate::Config::default()).unwrap();
    let mut rejected = Vec::new();
    bytes.chunks(piece).try_for_each(|bytes| decoder.decode(ONE, bytes))?;
    decoder.end(ONE);
    decoder.take_rejected(&mut rejected);
    let rows = decoder.rows();
    let decoded = decoder.take()?;
    assert_eq!(rows, decoded.as_ref().map_or(0, |decoded| decoded.records.num_rows()));
    let segments = decoded.as_ref().map(|decoded| decoded.segments.clone()).unwrap_or_default();
    assert_eq!(rows, segments.iter().map(|segment| segment.rows).sum::<usize>());
    Ok((decoded.map(|decoded| decoded.records), segments, rejected))
}

/// Rows of messages, and what is bad about the others by their place.
pub(super) type Rows = (Option<RecordBatch>, Vec<(usize, String)>);

/// What messages bring, and what is bad about the others by their place.
pub(super) fn decode_messages(avro: &Avro, schema: &SchemaRef, records: &[Vec<u8>]) -> Result<Rows> {
    let mut messages = Format::Avro(avro.clone()).messages(schema)?.unwrap();
    let (mut ranges, mut start) = (Vec::new(), 0);
    for record in records {
        ranges.push(start..start + record.len());
        start += record.len();
    }
    let mut bad = Vec::new();
    messages.decode(&records.concat(), &ranges, &mut bad)?;
    let rows = messages.rows();
    assert_eq!(rows + bad.len(), records.len());
    assert!(bad.is_sorted_by_key(|(place, _)| *place));
    let taken = messages.take()?;
    assert_eq!(rows, taken.as_ref().map_or(0, RecordBatch::num_rows));
    Ok((taken, bad))
}

fn ids(records: &Option<RecordBatch>) -> Vec<i64> {
    records.as_ref().map_or(Vec::new(), |records| records["id"].as_primitive::<Int64Type>().values().to_vec())
}

#[test]
fn containers_of_every_codec_in_pieces() {
    let rows: Vec<Vec<u8>> = (0..500).map(|id| card(id, (id % 3 == 0).then_some("a note"), id as f32 / 2.0)).collect();
    let schema = columns(&[("id", DataType::Int64), ("note", DataType::Utf8), ("amount", DataType::Float64)]);
    let expected: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..500)),
        Arc::new(StringArray::from_iter((0..500).map(|id| (id % 3 == 0).then_some("a note")))),
        Arc::new(Float64Array::from_iter_values((0..500).map(|id| f64::from(id) / 2.0))),
    ];
    let expected = RecordBatch::try_new(SchemaRef::clone(&schema), expected).unwrap();
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let bytes = file(CARD, codec, &[&rows[..1], &[], &rows[1..400], &rows[400..]]);
        for piece in [1, 7, 1_000, 1 << 18] {
            let (records, segments, rejected) = decode(&Avro::container(), &schema, &bytes, piece).unwrap();
            assert_eq!(records.as_ref(), Some(&expected), "{codec} {piece}");
            assert_eq!((segments, rejected), (vec![Segment { partition: ONE, rows: 500, offset: 0 }], vec![]));
        }
    }
    let inferred = infer(&Format::parse("avro").unwrap(), &file(CARD, "null", &[])).unwrap();
    let types: Vec<_> =
        inferred.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone(), field.is_nullable())).collect();
    let expected = [("id", DataType::Int32, false), ("note", DataType::Utf8, true), ("amount", DataType::Float32, false)];
    assert_eq!(types, expected);
}

#[test]
fn files_of_other_schemas_give_the_columns_asked_for() {
    let mut decoder = Format::Avro(Avro::container()).decoder(wide(), &crate::Config::default()).unwrap();
    decoder.decode(ONE, &file(CARD, "null", &[&[card(1, Some("x"), 0.5), card(2, None, 1.5)]])).unwrap();
    decoder.decode(PartitionId(2), &file(LATER, "null", &[&[later(2.5, 1 << 40, 1)]])).unwrap();
    let records = decoder.take().unwrap().unwrap().records;
    assert_eq!(records["id"].as_primitive::<Int64Type>().values(), &[1, 2, 1 << 40]);
    assert_eq!(records["amount"].as_ref(), &Float64Array::from(vec![0.5, 1.5, 2.5]) as &dyn Array);
    assert_eq!(records["card"].as_string::<i32>().iter().collect::<Vec<_>>(), [None, None, Some("credit")]);
    // A column that may not be null and is not there is an error of every block.
    let strict = Arc::new(Schema::new(vec![Field::new("card", DataType::Utf8, false)]));
    let (records, _, rejected) = decode(&Avro::container(), &strict, &file(CARD, "null", &[&[], &[card(1, None, 0.0)]]), 100).unwrap();
    assert!(records.is_none() && rejected[0].error.contains("no column `card`, which may not be null"), "{rejected:?}");
}

#[test]
fn a_bad_block_is_quarantined_and_the_next_goes_on() {
    let schema = columns(&[("id", DataType::Int64)]);
    let good = |ids: &[i32]| ids.iter().map(|&id| card(id, None, 0.0)).collect::<Vec<_>>();
    // A record too short, one too long, and text that is not UTF-8 in a field that is asked for.
    let bytes = file(CARD, "null", &[&good(&[1, 2]), &[vec![2]], &good(&[4]), &[card(5, None, 0.0), vec![0]], &good(&[7])]);
    for piece in [5, 1 << 16] {
        let (records, segments, rejected) = decode(&Avro::container(), &schema, &bytes, piece).unwrap();
        assert_eq!(ids(&records), [1, 2, 4, 7]);
        assert_eq!(rejected.iter().map(|row| row.offset).collect::<Vec<_>>(), [2, 4], "{rejected:?}");
        assert_eq!(rejected[0].bytes, [2]);
        assert!(rejected[0].error.contains("the block of 1 records at byte ") && rejected[0].error.contains("too early"), "{rejected:?}");
        let runs: Vec<_> = segments.iter().map(|segment| segment.rows).collect();
        assert_eq!(runs.iter().sum::<usize>(), 4);
    }
    let bytes = file(CARD, "null", &[&[card(1, None, 0.0)], &[[long(2), long(1), long(1), vec![0xFF], vec![0; 4]].concat()]]);
    let (records, _, rejected) =
        decode(&Avro::container(), &columns(&[("id", DataType::Int64), ("note", DataType::Utf8)]), &bytes, 99).unwrap();
    assert_eq!((ids(&records), rejected.len()), (vec![1], 1), "{rejected:?}");
}

#[test]
fn a_lost_marker_is_found_again() {
    let schema = columns(&[("id", DataType::Int64)]);
    let row = |id| vec![card(id, None, 0.0)];
    let mut bytes = file(CARD, "null", &[&row(1), &row(2), &row(3), &row(4)]);
    let second = file(CARD, "null", &[&row(1)]).len();
    // The second block claims one byte less than it has.
    bytes[second + 1] -= 2;
    for piece in [3, 1 << 16] {
        let (records, _, rejected) = decode(&Avro::container(), &schema, &bytes, piece).unwrap();
        assert_eq!(ids(&records), [1, 3, 4], "{piece}");
        assert_eq!(rejected.len(), 1);
        assert!(rejected[0].error.contains("is not followed by the file's marker; it is passed over to the next marker"), "{rejected:?}");
    }
    let cut = &bytes[..second - 3];
    let (records, _, rejected) = decode(&Avro::container(), &schema, cut, 10).unwrap();
    assert!(records.is_none() && rejected[0].error.starts_with("the Avro file ends in the middle of what begins at byte "), "{rejected:?}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let refuse = |bytes: &[u8]| decode(&Avro::container(), &wide(), bytes, 64).unwrap_err().to_string();
    assert!(refuse(b"PAR1 and more").contains("this is no Avro file"));
    assert!(refuse(&file(CARD, "bzip2", &[])).contains("the codec `bzip2`; null, deflate, snappy and zstandard can be read"));
    assert!(refuse(&file(r#""string""#, "null", &[])).contains("not that of a record"));
    assert!(refuse(&file("{", "null", &[])).contains("no JSON"));
    let nulls = r#"{"type":"record","name":"R","fields":[{"name":"id","type":{"type":"array","items":"null"}}]}"#;
    assert!(refuse(&file(nulls, "null", &[])).contains("takes no bytes"));
    assert!(refuse(&file(r#"{"type":"record","name":"R","fields":[]}"#, "null", &[])).contains("takes no bytes"));
    for codec in ["deflate", "snappy", "zstandard"] {
        let head = file(CARD, codec, &[]);
        let bytes = [head, long(1), long(3), b"abc".to_vec(), SYNC.to_vec()].concat();
        let (records, _, rejected) = decode(&Avro::container(), &wide(), &bytes, 1_000).unwrap();
        assert!(records.is_none() && rejected.len() == 1, "{codec}");
    }
    let claims = [file(CARD, "null", &[]), long(1), long(1 << 40)].concat();
    let (_, _, rejected) = decode(&Avro::container(), &wide(), &claims, 1_000).unwrap();
    assert!(rejected[0].error.contains("claims a size"), "{rejected:?}");
}

pub(super) fn confluent(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}

#[test]
fn records_name_their_schemas_and_bad_ones_stand_alone() {
    let schemas = HashMap::from([(7, CARD), (9, LATER), (11, "not JSON")]);
    let records = [
        confluent(7, &card(1, Some("x"), 0.5)),
        confluent(9, &later(1.5, 2, 0)),
        confluent(8, &card(3, None, 0.0)),
        b"{\"id\":4}".to_vec(),
        confluent(7, &card(5, None, 2.5)),
        confluent(7, &card(6, Some("cut"), 0.0)[..3]),
        confluent(7, &[card(7, None, 0.0), vec![0]].concat()),
        confluent(11, &[]),
        vec![],
        confluent(9, &later(3.5, 10, 1)),
        confluent(9, &later(3.5, 11, 2)),
    ];
    let (rows, bad) = decode_messages(&Avro::confluent(schemas), &wide(), &records).unwrap();
    assert_eq!(ids(&rows), [1, 2, 5, 10]);
    let cards = rows.unwrap();
    assert_eq!(cards["card"].as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("debit"), None, Some("credit")]);
    let expected = [
        (2, "schema 8 of the record is not known"),
        (3, "the record does not begin with a zero byte and the number of a schema"),
        (5, "the record ends too early"),
        (6, "the record is longer than its schema says"),
        (7, "schema 11: the Avro schema is no JSON"),
        (8, "the record does not begin with a zero byte"),
        (10, ""),
    ];
    assert_eq!(bad.len(), expected.len(), "{bad:?}");
    for ((place, why), (expected, words)) in bad.iter().zip(expected) {
        assert!(*place == expected && why.starts_with(words), "{place}: {why}");
    }
}

#[test]
fn bare_records_and_single_objects() {
    let (rows, bad) = decode_messages(&Avro::bare(CARD), &wide(), &[card(1, None, 0.5), vec![], card(2, None, 0.5)]).unwrap();
    assert_eq!((ids(&rows), bad.len()), (vec![1, 2], 1));
    // The fingerprint of `"int"` in the specification's own test data, and so a record of ours under its own.
    let fingerprint = resolved::fingerprint(CARD).unwrap();
    let single = |fingerprint: u64, body: Vec<u8>| [vec![0xC3, 1], fingerprint.to_le_bytes().to_vec(), body].concat();
    let avro = Avro::single_object([CARD, LATER]).unwrap();
    let other = resolved::fingerprint(LATER).unwrap();
    let records = [single(fingerprint, card(1, None, 0.5)), single(5, vec![]), single(other, later(0.5, 3, 0)), confluent(1, &[])];
    let (rows, bad) = decode_messages(&avro, &wide(), &records).unwrap();
    assert_eq!(ids(&rows), [1, 3]);
    assert!(bad[0].1.contains("fingerprint 0000000000000005 of the record is not known") && bad[1].1.contains("C3 01"), "{bad:?}");
    let empty = Avro::bare(r#"{"type":"record","name":"R","fields":[]}"#);
    let (rows, bad) = decode_messages(&empty, &wide(), &[vec![], vec![0], vec![]]).unwrap();
    assert_eq!((rows.unwrap().num_rows(), bad.len()), (2, 1), "records may take no bytes");
    let one = Avro::bare(r#"{"type":"record","name":"R","fields":[{"name":"id","type":"int"}]}"#);
    let (rows, bad) = decode_messages(&one, &wide(), &[vec![], vec![0]]).unwrap();
    assert_eq!((ids(&rows), bad[0].0), (vec![0], 0), "and none is not a zero");
}

#[test]
fn a_reader_schema_has_defaults_and_aliases() {
    let reader = r#"{"type":"record","name":"Payment","fields":[{"name":"number","type":"long","aliases":["id"]},
        {"name":"currency","type":"string","default":"EUR"},{"name":"amount","type":"double"}]}"#;
    let schemas = HashMap::from([(1, CARD), (2, LATER)]);
    let avro = Avro::confluent(schemas).reader_schema(reader);
    let schema = avro.columns().unwrap().unwrap();
    let names: Vec<_> = schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
    assert_eq!(names, [("number", &DataType::Int64), ("currency", &DataType::Utf8), ("amount", &DataType::Float64)]);
    let records = [confluent(1, &card(1, Some("x"), 0.5)), confluent(2, &later(1.5, 2, 0))];
    let (rows, bad) = decode_messages(&avro, &schema, &records).unwrap();
    let rows = rows.unwrap();
    assert_eq!((rows["number"].as_primitive::<Int64Type>().values().to_vec(), bad.len()), (vec![1, 2], 0));
    assert_eq!(rows["currency"].as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["EUR", "EUR"]);
    let (rows, _, _) = decode(&Avro::container().reader_schema(reader), &schema, &file(CARD, "null", &[&[card(1, None, 0.5)]]), 9).unwrap();
    assert_eq!(rows.unwrap()["currency"].as_string::<i32>().value(0), "EUR");
}

#[test]
fn types_of_avro_are_types_of_arrow() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}},
        {"name":"tags","type":{"type":"array","items":"string"}},
        {"name":"of","type":{"type":"record","name":"Of","fields":[{"name":"x","type":"int"},{"name":"y","type":["null","int"]}]}},
        {"name":"counts","type":{"type":"map","values":"int"}},
        {"name":"ok","type":"boolean"}]}"#;
    let body = [
        long(1_700_000_000_123_456),
        long(19_000),
        [long(2), vec![0x01, 0x86]].concat(),
        [long(2), text("a"), text("b"), long(0)].concat(),
        [long(7), long(0)].concat(),
        [long(1), text("k"), long(5), long(0)].concat(),
        vec![1],
    ]
    .concat();
    let avro = Avro::bare(schema);
    let (rows, bad) = decode_messages(&avro, &avro.columns().unwrap().unwrap(), &[body.clone(), body.clone()]).unwrap();
    let rows = rows.unwrap();
    assert!(bad.is_empty() && rows.num_rows() == 2);
    assert_eq!(rows["at"].data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())));
    assert_eq!((rows["day"].data_type(), rows["price"].data_type()), (&DataType::Date32, &DataType::Decimal128(6, 2)));
    assert_eq!(rows["tags"].as_list::<i32>().value(1).as_string::<i32>().value(1), "b");
    assert_eq!(rows["of"].as_struct().column(0).as_primitive::<Int32Type>().value(0), 7);
    assert_eq!(rows["counts"].as_map().value(0).column(1).as_primitive::<Int32Type>().value(0), 5);
    // A column may have another unit, and no zone.
    let asked = columns(&[("at", DataType::Timestamp(TimeUnit::Millisecond, None)), ("ok", DataType::Boolean)]);
    let (rows, _) = decode_messages(&avro, &asked, &[body]).unwrap();
    let rows = rows.unwrap();
    let at = rows["at"].as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(0);
    assert_eq!((at, rows["ok"].as_boolean().value(0)), (1_700_000_000_123, true));
}

/// What a schema is resolved against may define types in another order than it, under names that are not spelled out.
#[test]
fn named_types_are_resolved_wherever_they_are_defined() {
    let writer = r#"{"type":"record","name":"shop.Payment","fields":[
        {"name":"price","type":{"type":"record","name":"shop.Money","fields":[{"name":"cents","type":"int"},{"name":"currency","type":"string"}]}},
        {"name":"tax","type":"shop.Money"},{"name":"id","type":"int"}]}"#;
    let money = r#"{"type":"record","name":"Money","fields":[{"name":"currency","type":"string"},{"name":"cents","type":"long"}]}"#;
    let reader = format!(
        r#"{{"type":"record","name":"Payment","namespace":"shop","fields":[{{"name":"id","type":"long"}},{{"name":"tax","type":{money}}},
        {{"name":"price","type":["null","Money"]}}]}}"#
    );
    let body = [long(150), text("EUR"), long(20), text("USD"), long(7)].concat();
    let asked = Avro::bare(writer).reader_schema(&reader);
    for avro in [Avro::bare(writer), asked] {
        let schema = avro.columns().unwrap().unwrap();
        let (rows, bad) = decode_messages(&avro, &schema, &[body.clone(), body.clone()]).unwrap();
        assert!(bad.is_empty(), "{bad:?}");
        let rows = rows.unwrap();
        for (name, cents, currency) in [("price", 150, "EUR"), ("tax", 20, "USD")] {
            let money = rows[name].as_struct();
            let found = arrow::compute::cast(money.column_by_name("cents").unwrap(), &DataType::Int64).unwrap();
            assert_eq!(found.as_primitive::<Int64Type>().value(1), cents, "{avro}");
            assert_eq!(money.column_by_name("currency").unwrap().as_string::<i32>().value(1), currency, "{avro}");
        }
    }
}

#[test]
fn what_cannot_be_asked_for_now_ends_the_run() {
    struct Down;
    impl WriterSchemas for Down {
        fn schema(&self, _id: u32) -> Result<Option<Arc<str>>> {
            Err(Error::connector("the registry is down").retriable_if(true))
        }
    }
    let error = decode_messages(&Avro::confluent(Down), &wide(), &[confluent(1, &card(1, None, 0.0))]).unwrap_err();
    assert!(error.is_retriable());
    struct Unusable;
    impl WriterSchemas for Unusable {
        fn schema(&self, _id: u32) -> Result<Option<Arc<str>>> {
            Err(Error::schema("it refers to what is not there"))
        }
    }
    let (rows, bad) = decode_messages(&Avro::confluent(Unusable), &wide(), &[confluent(1, &[]), confluent(1, &[])]).unwrap();
    assert!(rows.is_none() && bad.len() == 2 && bad[1].1 == "schema 1: it refers to what is not there", "{bad:?}");
    let error = Format::Avro(Avro::bare(CARD)).decoder(wide(), &crate::Config::default()).err().unwrap().to_string();
    assert!(error.starts_with("records in avro_bare have no ends of their own"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_ends_the_process(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6), piece in 1..300_usize, codec in 0..4_usize,
    ) {
        let rows: Vec<Vec<u8>> = (0..50).map(|id| card(id, Some("note"), 0.5)).collect();
        let mut bytes = file(CARD, ["null", "deflate", "snappy", "zstandard"][codec], &[&rows[..20], &rows[20..30], &rows[30..]]);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        // A file whose header is damaged may be refused as a whole.
        let _ = decode(&Avro::container(), &wide(), &bytes, piece);
    }

    #[test]
    fn any_bytes_are_a_row_or_quarantined(
        records in prop::collection::vec((0..5_u8, prop::collection::vec(any::<u8>(), 0..30)), 0..40),
    ) {
        let types = r#"{"type":"record","name":"R","fields":[{"name":"id","type":["null","long","string"]},
            {"name":"l","type":{"type":"array","items":{"type":"map","values":["null","bytes"]}}},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["a","b"]}},
            {"name":"d","type":{"type":"fixed","name":"F","size":3}}]}"#;
        let schemas = HashMap::from([(1, CARD), (2, LATER), (3, types)]);
        let records: Vec<Vec<u8>> = records.into_iter().map(|(kind, bytes)| match kind {
            0 => bytes,
            id => confluent(id.into(), &bytes),
        }).collect();
        let schema = columns(&[("id", DataType::Utf8), ("note", DataType::Utf8), ("e", DataType::Utf8)]);
        decode_messages(&Avro::confluent(schemas), &schema, &records).unwrap();
    }
}
