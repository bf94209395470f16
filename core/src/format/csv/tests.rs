//! Quoting, headers and quarantine, whatever the text and however it is cut.

use arrow::array::{Array, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::batch::Segment;

const ONE: PartitionId = PartitionId(1);

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![field("id", DataType::Int64), field("name", DataType::Utf8), field("x", DataType::Float64)]))
}

type Outcome = (Option<RecordBatch>, Vec<Segment>, Vec<Rejected>);

fn decode(header: bool, max_line_bytes: usize, pieces: &[&[u8]]) -> Outcome {
    let config = Config { max_line_bytes, ..Config::default() };
    let mut decoder = CsvDecoder::new(schema(), b',', header, &config).unwrap();
    for piece in pieces {
        decoder.decode(ONE, piece).unwrap();
    }
    decoder.end(ONE);
    let (rows, mut rejected) = (decoder.rows(), Vec::new());
    decoder.take_rejected(&mut rejected);
    let (records, segments) = decoder.take().unwrap().map(|decoded| (decoded.records, decoded.segments)).unzip();
    assert_eq!(rows, records.as_ref().map_or(0, RecordBatch::num_rows));
    (records, segments.unwrap_or_default(), rejected)
}

fn rows(ids: Vec<Option<i64>>, names: Vec<Option<&str>>, values: Vec<Option<f64>>) -> RecordBatch {
    let columns =
        [Arc::new(Int64Array::from(ids)) as _, Arc::new(StringArray::from(names)) as _, Arc::new(Float64Array::from(values)) as _];
    RecordBatch::try_new(schema(), columns.to_vec()).unwrap()
}

#[test]
fn quotes_line_ends_and_blanks() {
    let text = b"1,a,1.5\r\n\n2,\"b, \"\"c\"\"\nd\",\n,e\"f,-3";
    let (records, segments, rejected) = decode(false, 1 << 20, &[text]);
    let expected =
        rows(vec![Some(1), Some(2), None], vec![Some("a"), Some("b, \"c\"\nd"), Some("e\"f")], vec![Some(1.5), None, Some(-3.0)]);
    assert_eq!(records.unwrap(), expected);
    assert_eq!(segments, [Segment { partition: ONE, rows: 3, offset: 0 }]);
    assert!(rejected.is_empty());
}

#[test]
fn a_header_orders_and_omits_columns() {
    let (records, segments, rejected) = decode(true, 1 << 20, &[b"\xEF\xBB\xBF\"x\",more,id\n0.5,z,7\n"]);
    assert_eq!(records.unwrap(), rows(vec![Some(7)], vec![None], vec![Some(0.5)]));
    assert_eq!((segments[0].offset, rejected.len()), (15, 0));
}

#[test]
fn partitions_may_have_headers_of_their_own() {
    let mut decoder = CsvDecoder::new(schema(), b',', true, &Config::default()).unwrap();
    for (partition, text) in [(1, "id,x\n1,1\n"), (2, "x,id\n2,2\n"), (1, "3,3\n"), (3, "id,x\n4,4\n")] {
        decoder.decode(PartitionId(partition), text.as_bytes()).unwrap();
    }
    let decoded = decoder.take().unwrap().unwrap();
    assert_eq!(decoded.records.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
    assert_eq!(decoded.records.column(1).null_count(), 4);
    assert_eq!(decoder.run.layouts.len(), 2);
}

#[test]
fn a_header_without_a_column_that_may_not_be_null_ends_the_partition() {
    let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]));
    let mut decoder = CsvDecoder::new(schema, b',', true, &Config::default()).unwrap();
    let error = decoder.decode(ONE, b"kee,x\n").unwrap_err().to_string();
    assert_eq!(error, "the CSV header has no column `key`, which may not be null; it has `kee`, `x`");
}

#[test]
fn bad_rows_are_kept_and_the_others_go_on() {
    let text = b"x,a,1\n1,b,1\n2,c\n3,d,1,1\n4,\xff,1\n5,e,1\n";
    let (records, segments, rejected) = decode(false, 1 << 20, &[text]);
    assert_eq!(records.unwrap().column(0).as_primitive::<Int64Type>().values(), &[1, 5]);
    assert_eq!(segments, [Segment { partition: ONE, rows: 2, offset: 6 }]);
    let kept: Vec<_> = rejected.iter().map(|row| (row.offset, row.bytes.as_slice())).collect();
    assert_eq!(kept, [(0, &b"x,a,1"[..]), (12, b"2,c"), (16, b"3,d,1,1"), (24, b"4,\xff,1")]);
    let errors: Vec<_> = rejected.iter().map(|row| row.error.as_str()).collect();
    let expected = [
        "Error while parsing value 'x' as type 'Int64' for column `id`",
        "the record has 2 fields where 3 are expected",
        "the record has 4 fields where 3 are expected",
        "Encountered invalid UTF-8 data in field 2",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn an_open_quote_costs_no_more_than_the_limit() {
    let mut text = b"1,\"open".to_vec();
    text.resize(70, b'-');
    text.extend_from_slice(b"\n2,b,2\n");
    let (records, _, rejected) = decode(false, 64, &[&text]);
    assert_eq!(records.unwrap().num_rows(), 1);
    assert_eq!((rejected.len(), rejected[0].bytes.len()), (1, 64));
    let (records, _, rejected) = decode(false, 64, &[b"1,a,1\n2,\"b"]);
    assert_eq!((records.unwrap().num_rows(), rejected[0].error.as_str()), (1, "the input ends inside quotes"));
}

#[test]
fn types_and_delimiters_are_checked_first() {
    let list = Arc::new(Schema::new(vec![Field::new("l", DataType::new_list(DataType::Int64, true), true)]));
    assert!(CsvDecoder::new(list, b',', true, &Config::default()).unwrap_err().to_string().contains("column `l`"));
    assert!(CsvDecoder::new(schema(), b'"', true, &Config::default()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_do_not_matter(
        text in prop::collection::vec(select(&b"12,,,\"a\n\n\r.\xff"[..]), 0..200),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
        header in any::<bool>(),
        max in select(&[64_usize, 1 << 20][..]),
    ) {
        let text = [&b"id,name,x\n"[..], &text].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode(header, max, &pieces), decode(header, max, &[&text]));
    }

    #[test]
    fn good_text_gives_the_rows_of_arrow_csv(records in prop::collection::vec((any::<i64>(), "[ -~é\n]{1,12}", any::<f32>()), 1..40)) {
        let text: String = records.iter().map(|(id, name, x)| format!("{id},\"{}\",{x}\n", name.replace('"', "\"\""))).collect();
        let expected = ReaderBuilder::new(schema()).with_batch_size(1000).build(text.as_bytes()).unwrap().next().unwrap().unwrap();
        let (found, _, rejected) = decode(false, 1 << 20, &[text.as_bytes()]);
        prop_assert_eq!(found.unwrap(), expected);
        prop_assert!(rejected.is_empty());
    }
}
