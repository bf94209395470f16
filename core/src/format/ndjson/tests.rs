//! The fast decoder against arrow-json: same rows, same bad lines, whatever the text and however it is cut.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{ArrowJsonLines, NdjsonLines};
use crate::batch::{PartitionId, Segment};
use crate::config::{Config, MAX_QUARANTINED_BYTES};
use crate::format::Decoder;
use crate::format::lines::{LineDecoder, Lines};
use crate::quality::Rejected;

/// Values that arrow-json takes for some type or refuses for all.
const VALUES: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "7",
    "42",
    "127",
    "128",
    "-128",
    "-129",
    "255",
    "256",
    "32767",
    "32768",
    "-32769",
    "65535",
    "65536",
    "1234567",
    "12345678",
    "123456789",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "1700000000123",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "007",
    "-007",
    "00000000000000000000000012",
    "1.0",
    "1.5",
    "-1.5",
    "1.9",
    "255.9",
    "-0.0",
    "0.1",
    "0.3",
    "12.345678",
    "12345678.12345678",
    "1234567890.123456789",
    "9007199254740992.5",
    "0.1234567890123456789",
    "3.4028235e38",
    "3.4028236e38",
    "16777217",
    "16777216.5",
    "1.17549435e-38",
    "1e5",
    "1E+5",
    "1e-5",
    "1e22",
    "1e23",
    "1e400",
    "-1e400",
    "1e-400",
    "4.9e-324",
    "123456789012345678901234567890",
    "1.",
    "-.5",
    ".5",
    "1e",
    "1e+",
    "1.2.3",
    "1-2",
    "--1",
    "-",
    "+1",
    "1a",
    "0x10",
    "NaN",
    "true",
    "false",
    "null",
    "nul",
    "truee",
    "\"\"",
    "\"abc\"",
    "\"c-004711\"",
    "\"fifteen bytes..\"",
    "\"sixteen bytes...\"",
    "\"seventeen bytes..\"",
    "\"a string that is longer than all of the windows\"",
    "\"tab\tinside\"",
    "\"a\\\"b\"",
    "\"\\\\\"",
    "\"\\/\\b\\f\\n\\r\\t\"",
    "\"\\u00e9\"",
    "\"\\u00E9 tail\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\udc00\"",
    "\"\\ud83d\\u0041\"",
    "\"\\u12\"",
    "\"\\x\"",
    "\"é日本😀\"",
    "\"\u{2028}\"",
    "\"12\"",
    "\" 12 \"",
    "\"-3\"",
    "\"1.5\"",
    "\"NaN\"",
    "\"inf\"",
    "\"1e400\"",
    "\"true\"",
    "\"null\"",
    "\"2024-01-31\"",
    "\"2024-02-30\"",
    "\"2024-01-31T01:02:03Z\"",
    "\"2024-01-31T01:02:03.123456789Z\"",
    "\"2024-01-31T01:02:03+02:00\"",
    "\"2024-01-31 01:02:03\"",
    "\"9999-12-31T23:59:59Z\"",
    "\"1600-01-01T00:00:00Z\"",
    "\"open",
    "[]",
    "{}",
    "[1,2]",
    "[1,{\"a\":[\"x\\\"]\"]}]",
    "{\"a\":1,\"b\":{\"a\":2}}",
    "[1,,2]",
    "{\"a\" 1}",
    "",
];

/// What stands where the grammar allows white space.
const SPACES: &[&str] = &["", "", "", " ", "\t", "  ", "\r"];

fn types() -> Vec<DataType> {
    use DataType::*;
    let mut types = vec![Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64, Boolean, Utf8, Date32];
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.push(Timestamp(unit, None));
        types.push(Timestamp(unit, Some("+01:30".into())));
    }
    types
}

/// A spelling of records: its fields as positions in the schema (past its end: unknown) and its white space.
#[derive(Debug, Clone)]
struct Shape {
    fields: Vec<usize>,
    spaces: [&'static str; 5],
    end: &'static str,
}

fn schema() -> impl Strategy<Value = SchemaRef> {
    prop::collection::vec((select(types()), prop::bool::weighted(0.8)), 1..5).prop_map(|fields| {
        let fields =
            fields.into_iter().enumerate().map(|(index, (data_type, nullable))| Field::new(format!("f{index}"), data_type, nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let ordered = (1_usize..7).prop_map(|count| (0..count).collect::<Vec<_>>());
    let fields = prop_oneof![3 => ordered, 1 => prop::collection::vec(0_usize..7, 0..7)];
    let spaces = [select(SPACES), select(SPACES), select(SPACES), select(SPACES), select(SPACES)];
    (fields, spaces, select(&["\n", "\n", "\r\n", "\n\n", " \t\n"][..])).prop_map(|(fields, spaces, end)| Shape { fields, spaces, end })
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(VALUES).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|value| value.to_string()),
        2 => any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        2 => (any::<i32>(), 0_usize..9).prop_map(|(value, places)| format!("{:.places$}", f64::from(value) / 1e4)),
        1 => "[ -~é]{0,40}".prop_map(|text| format!("\"{}\"", text.replace(['"', '\\'], ""))),
    ]
}

/// Records of few shapes in runs, as text.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let record = (any::<Index>(), prop::collection::vec(value(), 7));
    (prop::collection::vec(shape(), 1..3), prop::collection::vec(record, 1..30)).prop_map(|(shapes, records)| {
        let mut text = String::new();
        for (index, values) in records {
            write_record(&mut text, index.get(&shapes), &values);
        }
        text.into_bytes()
    })
}

fn write_record(text: &mut String, shape: &Shape, values: &[String]) {
    let [open, before, colon, after, close] = shape.spaces;
    text.push_str(&format!("{{{open}"));
    for (position, field) in shape.fields.iter().enumerate() {
        let comma = if position > 0 { format!("{before},{after}") } else { String::new() };
        text.push_str(&format!("{comma}\"f{field}\"{before}:{colon}{}", values[position]));
    }
    text.push_str(&format!("{close}}}{}", shape.end));
}

#[derive(Debug, PartialEq)]
struct Outcome {
    records: Option<RecordBatch>,
    segments: Vec<Segment>,
    /// Without the words, which differ.
    rejected: Vec<Rejected>,
}

/// What `lines` makes of `pieces`.
fn decode(lines: impl Lines, config: &Config, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = LineDecoder::new(lines, config);
    for piece in pieces {
        decoder.decode(PartitionId(3), piece).unwrap();
    }
    decoder.end(PartitionId(3));
    let mut rejected = Vec::new();
    decoder.take_rejected(&mut rejected);
    for row in &mut rejected {
        assert!(!row.error.is_empty());
        row.error.clear();
    }
    let rows = decoder.rows();
    let (records, segments) = decoder.take().unwrap().map(|decoded| (decoded.records, decoded.segments)).unzip();
    assert_eq!(rows, records.as_ref().map_or(0, RecordBatch::num_rows));
    Outcome { records, segments: segments.unwrap_or_default(), rejected }
}

fn ours(schema: &SchemaRef, pieces: &[&[u8]]) -> Outcome {
    decode(NdjsonLines::new(schema.clone()).unwrap().unwrap(), &Config::default(), pieces)
}

fn baseline(schema: &SchemaRef, pieces: &[&[u8]]) -> Outcome {
    decode(ArrowJsonLines::new(schema.clone()).unwrap(), &Config::default(), pieces)
}

/// Whether `text` may escape a character from U+20000 on, which arrow-json takes for another (see the module documentation).
fn beyond_arrow_json(text: &[u8]) -> bool {
    let pair = |escape: &[u8]| {
        escape.starts_with(b"\\ud") && matches!(escape[3..], [b'9' | b'a' | b'b', ..] | [b'8', b'4'..=b'9' | b'a'..=b'f', ..])
    };
    text.to_ascii_lowercase().windows(5).any(pair)
}

/// `text` cut at `cuts`.
fn cut<'a>(text: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}

fn lines_in(text: &[u8]) -> usize {
    text.split(|&byte| byte == b'\n').filter(|line| !super::is_blank(line)).count()
}

#[test]
fn escaped_characters_of_every_plane_are_themselves() {
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    for character in ['\u{E000}', '\u{1F600}', '\u{23600}', '\u{10FFFF}'] {
        let escaped: String = character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let rows = ours(&schema, &[format!("{{\"text\":\"{escaped}\"}}\n").as_bytes()]).records.unwrap();
        assert_eq!(rows.column(0).as_string::<i32>().value(0), character.to_string());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_arrow_json(schema in schema(), text in text()) {
        let (ours, theirs) = (ours(&schema, &[&text]), baseline(&schema, &[&text]));
        prop_assert_eq!(&ours, &theirs, "{}", String::from_utf8_lossy(&text));
        let rows = ours.records.map_or(0, |records| records.num_rows());
        prop_assert_eq!(rows + ours.rejected.len(), lines_in(&text));
    }

    #[test]
    fn agrees_on_damaged_text(schema in schema(), mut text in text(), damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6)) {
        for (index, byte) in damage {
            let index = index.index(text.len());
            text[index] = byte;
        }
        prop_assume!(!beyond_arrow_json(&text));
        let (ours, theirs) = (ours(&schema, &[&text]), baseline(&schema, &[&text]));
        prop_assert_eq!(&ours, &theirs, "{}", String::from_utf8_lossy(&text));
        let rows = ours.records.map_or(0, |records| records.num_rows());
        prop_assert_eq!(rows + ours.rejected.len(), lines_in(&text));
    }

    #[test]
    fn pieces_do_not_matter(schema in schema(), text in text(), cuts in prop::collection::vec(any::<Index>(), 0..40)) {
        prop_assert_eq!(ours(&schema, &cut(&text, &cuts)), ours(&schema, &[&text]));
    }

    #[test]
    fn pieces_do_not_matter_for_long_lines(schema in schema(), text in text(), cuts in prop::collection::vec(any::<Index>(), 0..40)) {
        let config = Config { max_line_bytes: 64, ..Config::default() };
        let decode = |pieces: &[&[u8]]| decode(NdjsonLines::new(schema.clone()).unwrap().unwrap(), &config, pieces);
        let whole = decode(&[&text]);
        prop_assert_eq!(&decode(&cut(&text, &cuts)), &whole);
        let long = text.split(|&byte| byte == b'\n').filter(|line| line.len() > 64).count();
        prop_assert!(whole.rejected.len() >= long);
    }

    #[test]
    fn garbage_is_quarantined(schema in schema(), text in prop::collection::vec(select(&b"{}[]\",:\\u0e1.-+ntf\n \xff\xc3\xa9"[..]), 0..300)) {
        let (ours, theirs) = (ours(&schema, &[&text]), baseline(&schema, &[&text]));
        prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn floats_are_those_of_the_standard_library(values in prop::collection::vec(any::<f64>().prop_filter("finite", |value| value.is_finite()), 1..50)) {
        let schema = flat(&[("x", DataType::Float64)]);
        let text: String = values.iter().map(|value| format!("{{\"x\":{value}}}\n{{\"x\":{value:e}}}\n")).collect();
        let records = ours(&schema, &[text.as_bytes()]).records.unwrap();
        let expected: Vec<u64> = values.iter().flat_map(|value| [value.to_bits(); 2]).collect();
        let found: Vec<u64> = records.column(0).as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect();
        prop_assert_eq!(found, expected);
    }
}

fn flat(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}

#[test]
fn gives_the_rows_of_a_stream() {
    let schema = flat(&[("ts", DataType::Int64), ("card", DataType::Utf8), ("amount", DataType::Float64)]);
    let text = b"{\"ts\":1,\"card\":\"c-1\",\"amount\":1.5}\n{\"ts\":2,\"card\":\"c-2\",\"amount\":-2}\n\n{\"amount\":0.25,\"ts\":3,\"extra\":[{}]}\r\n";
    let outcome = ours(&schema, &[text]);
    let expected = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("c-1"), Some("c-2"), None])),
            Arc::new(Float64Array::from(vec![1.5, -2.0, 0.25])),
        ],
    )
    .unwrap();
    assert_eq!(outcome.records.unwrap(), expected);
    assert_eq!(outcome.segments, [Segment { partition: PartitionId(3), rows: 3, offset: 0 }]);
    assert!(outcome.rejected.is_empty());
}

#[test]
fn the_last_of_several_fields_counts() {
    let schema = flat(&[("a", DataType::Int64)]);
    let records = ours(&schema, &[b"{\"a\":1}\n{\"a\":\"x\",\"a\":2}\n{\"a\":3}\n"]).records.unwrap();
    assert_eq!(records.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3]);
}

#[test]
fn a_bad_line_is_kept_with_its_place_and_the_others_go_on() {
    let schema = flat(&[("a", DataType::Int64), ("b", DataType::Boolean)]);
    let text = b"\n{\"a\":1}\n{\"a\":\"one\"}\r\n{\"a\":2}\n{\"b\":1}\n{\"a\":\"\xff\"}\n{\"a\":3} {\"a\":4}\n{\"a\":5\n{\"a\":6}";
    let mut decoder = LineDecoder::new(NdjsonLines::new(schema).unwrap().unwrap(), &Config::default());
    decoder.decode(PartitionId(7), text).unwrap();
    decoder.end(PartitionId(7));
    let mut rejected = Vec::new();
    decoder.take_rejected(&mut rejected);
    let kept: Vec<_> = rejected.iter().map(|row| (row.offset, row.bytes.as_slice(), row.error.as_str())).collect();
    assert_eq!(
        kept,
        [
            (9, &b"{\"a\":\"one\"}"[..], "whilst decoding field 'a': failed to parse \"one\" as Int64"),
            (30, b"{\"b\":1}", "whilst decoding field 'b': expected boolean got 1"),
            (38, b"{\"a\":\"\xff\"}", "byte 6 of the line is not UTF-8"),
            (48, b"{\"a\":3} {\"a\":4}", "the line holds more than one record"),
            (64, b"{\"a\":5", "the record is cut off at the end of the line"),
        ]
    );
    let decoded = decoder.take().unwrap().unwrap();
    assert_eq!(decoded.records.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 6]);
    assert_eq!(decoded.segments, [Segment { partition: PartitionId(7), rows: 3, offset: 1 }]);
}

#[test]
fn lines_tell_where_they_begin_if_asked() {
    let schema = flat(&[("a", DataType::Int64)]);
    let text = b"\n{\"a\":1}\n{\"a\":\"one\"}\r\n \n {\"a\":2}\n{\"a\":\"\xff\"}\n{\"a\":3}";
    for piece in [1, 5, 9, 100] {
        let mut decoder = LineDecoder::new(NdjsonLines::new(SchemaRef::clone(&schema)).unwrap().unwrap(), &Config::default());
        decoder.keep_offsets();
        for _ in 0..2 {
            text.chunks(piece).for_each(|bytes| decoder.decode(PartitionId(7), bytes).unwrap());
            decoder.end(PartitionId(7));
            let decoded = decoder.take().unwrap().unwrap();
            let origins = decoded.origins.of_rows(&decoded.segments, 3).into_iter().flatten().collect::<Vec<_>>();
            assert_eq!(origins, [1, 24, 43].map(|offset| (PartitionId(7), offset)), "{piece}");
        }
    }
}

#[test]
fn a_missing_field_is_named_where_it_may_not_be_null() {
    let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]));
    let mut decoder = LineDecoder::new(NdjsonLines::new(schema).unwrap().unwrap(), &Config::default());
    decoder.decode(PartitionId(0), b"{\"other\":1}\n{\"key\":null}\n").unwrap();
    let mut rejected = Vec::new();
    decoder.take_rejected(&mut rejected);
    assert_eq!(rejected.len(), 2);
    for row in rejected {
        assert!(row.error.contains("may not be null") && row.error.contains("key"), "{}", row.error);
    }
}

#[test]
fn a_line_of_ten_megabytes_is_quarantined_once() {
    let schema = flat(&[("a", DataType::Int64)]);
    let mut text = b"{\"a\":1}\n".to_vec();
    text.resize(text.len() + (10 << 20), b'x');
    text.extend_from_slice(b"\n{\"a\":2}\n");
    for piece in [text.len(), 1 << 16, 1_000_003] {
        let outcome = ours(&schema, &text.chunks(piece).collect::<Vec<_>>());
        assert_eq!(outcome.records.unwrap().column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(
            outcome.rejected,
            [Rejected { partition: PartitionId(3), offset: 8, bytes: vec![b'x'; MAX_QUARANTINED_BYTES], error: String::new() }]
        );
    }
}

#[test]
fn a_long_line_within_the_limit_is_a_row() {
    let schema = flat(&[("a", DataType::Utf8)]);
    let value = "y".repeat((1 << 20) - 9);
    let text = format!("{{\"a\":\"{value}\"}}\n");
    let records = ours(&schema, &text.as_bytes().chunks(4096).collect::<Vec<_>>()).records.unwrap();
    assert_eq!(records.column(0).as_string::<i32>().value(0), value);
}

#[test]
fn deep_nesting_is_refused_or_skipped_not_followed() {
    let schema = flat(&[("a", DataType::Int64)]);
    let deep =
        format!("{{\"a\":{}{}}}\n{{\"x\":{}{},\"a\":1}}\n", "[".repeat(200_000), "]".repeat(200_000), "[".repeat(60), "]".repeat(60));
    let outcome = ours(&schema, &[deep.as_bytes()]);
    assert_eq!((outcome.records.unwrap().num_rows(), outcome.rejected.len()), (1, 1));
}

#[test]
fn partitions_do_not_mix() {
    let schema = flat(&[("a", DataType::Int64)]);
    let mut decoder = LineDecoder::new(NdjsonLines::new(schema).unwrap().unwrap(), &Config::default());
    let (one, two) = (PartitionId(1), PartitionId(2));
    for (partition, piece) in [(one, "{\"a\""), (two, "{\"a\":2}\n{"), (one, ":1}\n"), (two, "\"a\":3}\n"), (one, "{\"a\":4}\n")] {
        decoder.decode(partition, piece.as_bytes()).unwrap();
    }
    let decoded = decoder.take().unwrap().unwrap();
    assert_eq!(decoded.records.column(0).as_primitive::<Int64Type>().values(), &[2, 1, 3, 4]);
    let segments =
        [(two, 1, 0), (one, 1, 0), (two, 1, 8), (one, 1, 8)].map(|(partition, rows, offset)| Segment { partition, rows, offset });
    assert_eq!(decoded.segments, segments);
}

#[test]
fn extreme_floats_are_rounded_once() {
    let schema = flat(&[("x", DataType::Float32)]);
    let literals = ["16777217", "16777219", "0.1", "3.4028236e38", "1e-46", "8388608.5", "8388609.5", "1.00000017881393432617187499"];
    let text: String = literals.iter().map(|literal| format!("{{\"x\":{literal}}}\n")).collect();
    let records = ours(&schema, &[text.as_bytes()]).records.unwrap();
    let expected: Vec<f32> = literals.iter().map(|literal| literal.parse().unwrap()).collect();
    assert_eq!(records.column(0).as_primitive::<Float32Type>().values(), &expected[..]);
}
