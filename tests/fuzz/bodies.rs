//! What each fuzz target does with its bytes: decode them, and check what must hold for any bytes.

#![allow(dead_code)] // each target uses one of them

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use thalweg::batch::PartitionId;
use thalweg::config::Config;
use thalweg::format::avro::Avro;
use thalweg::format::compression::{Compression, Unpacker};
use thalweg::format::csv::CsvDecoder;
use thalweg::format::infer::{infer, parse_type};
use thalweg::format::lines::LineDecoder;
use thalweg::format::ndjson::{ArrowJsonLines, NdjsonLines};
use thalweg::format::protobuf::Protobuf;
use thalweg::format::{Decoder, Format};
use thalweg::quality::Rejected;
use thalweg_kernels::{DdHead, DdImage, DdLayout, HllImage, ddsketch_to_image, hll_to_datasketches};

const PARTITION: PartitionId = PartitionId(0);

/// Columns `a` to `e` of types that `seed` chooses.
fn schema(seed: u8) -> SchemaRef {
    let times = DataType::Timestamp(TimeUnit::Millisecond, None);
    let types = match seed % 3 {
        0 => [DataType::Int64, DataType::Float64, DataType::Utf8, DataType::Boolean, times],
        1 => [DataType::UInt8, DataType::Float32, DataType::Utf8, DataType::Date32, DataType::Int32],
        _ => [DataType::Int8, DataType::UInt64, DataType::Float64, DataType::Utf8, DataType::Int16],
    };
    let fields = ["a", "b", "c", "d", "e"].into_iter().zip(types).enumerate();
    let fields = fields.map(|(index, (name, data_type))| Field::new(name, data_type, index != 4 || seed.is_multiple_of(2)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows and quarantine of `text` in pieces of `piece` bytes; the words of errors are left out.
fn decode(mut decoder: Box<dyn Decoder>, text: &[u8], piece: usize) -> (Option<RecordBatch>, Vec<Rejected>) {
    for bytes in text.chunks(piece) {
        if decoder.decode(PARTITION, bytes).is_err() {
            break;
        }
    }
    decoder.end(PARTITION);
    let (rows, mut rejected) = (decoder.rows(), Vec::new());
    decoder.take_rejected(&mut rejected);
    rejected.iter_mut().for_each(|row| row.error.clear());
    let decoded = decoder.take().expect("what was decoded makes columns");
    let taken = decoded.as_ref().map_or(0, |decoded| decoded.records.num_rows());
    assert_eq!(rows, taken);
    assert_eq!(rows, decoded.iter().flat_map(|decoded| &decoded.segments).map(|segment| segment.rows).sum::<usize>());
    (decoded.map(|decoded| decoded.records), rejected)
}

/// Newline-delimited JSON gives what arrow-json gives, however it is cut, and every line is a row or quarantined.
pub fn ndjson(data: &[u8]) {
    let [seed, piece, text @ ..] = data else { return };
    let (schema, piece) = (schema(*seed), usize::from(*piece) + 1);
    let ours = |piece| {
        let lines = NdjsonLines::new(schema.clone()).expect("a schema").expect("known types");
        decode(Box::new(LineDecoder::new(lines, &Config::default())), text, piece)
    };
    let whole = ours(text.len().max(1));
    assert_eq!(whole, ours(piece));
    let baseline = ArrowJsonLines::new(schema.clone()).expect("a schema");
    assert_eq!(whole, decode(Box::new(LineDecoder::new(baseline, &Config::default())), text, piece));
    let is_blank = |line: &[u8]| line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !is_blank(line)).count();
    assert_eq!(lines, whole.0.map_or(0, |records| records.num_rows()) + whole.1.len());
}

/// Comma-separated values give the same however they are cut.
pub fn csv(data: &[u8]) {
    let [seed, piece, text @ ..] = data else { return };
    let config = if seed & 8 == 0 { Config::default() } else { short_lines() };
    let ours = |piece| {
        let decoder = CsvDecoder::new(schema(*seed), b',', seed & 4 != 0, &config).expect("a schema");
        decode(Box::new(decoder), text, piece)
    };
    assert_eq!(ours(text.len().max(1)), ours(usize::from(*piece) + 1));
}

fn short_lines() -> Config {
    let mut config = Config::default();
    config.max_line_bytes = 64;
    config
}

/// An Arrow stream gives rows or an error.
pub fn arrow_ipc(data: &[u8]) {
    let [seed, piece, text @ ..] = data else { return };
    let decoder = Format::ArrowIpc.decoder(schema(*seed), &Config::default()).expect("a schema");
    decode(decoder, text, usize::from(*piece) + 1);
}

/// What is packed is unpacked or refused, alike however it is cut.
pub fn unpack(data: &[u8]) {
    let [seed, piece, packed @ ..] = data else { return };
    let compression = [Compression::Gzip, Compression::Zstd, Compression::Lz4][usize::from(seed % 3)];
    let ours = |piece: usize| {
        let (mut unpacker, mut text) = (Unpacker::new(compression).expect("memory").expect("a compression"), Vec::new());
        for mut bytes in packed.chunks(piece) {
            loop {
                let Ok((used, out)) = unpacker.step(bytes) else { return (text, false) };
                bytes = &bytes[used..];
                text.extend_from_slice(out);
                if out.is_empty() || text.len() > 1 << 22 {
                    break;
                }
            }
        }
        (text, unpacker.finish().is_ok())
    };
    let (whole, pieces) = (ours(packed.len().max(1)), ours(usize::from(*piece) + 1));
    assert_eq!(whole.1, pieces.1);
    if whole.1 {
        assert_eq!(whole.0, pieces.0);
    }
}

/// Avro files give rows, quarantine or an error, and records a row or quarantine.
pub fn avro(data: &[u8]) {
    let [seed, piece, text @ ..] = data else { return };
    let files = Format::Avro(Avro::container()).decoder(schema(*seed), &Config::default()).expect("a schema");
    decode(files, text, usize::from(*piece) + 1);
    let records = Format::Avro(Avro::bare(AVRO)).messages(&schema(*seed)).expect("a schema");
    let (mut records, mut bad, piece) = (records.expect("messages"), Vec::new(), usize::from(*piece) + 1);
    let frames: Vec<_> = (0..text.len()).step_by(piece).map(|start| start..text.len().min(start + piece)).collect();
    records.decode(text, &frames, &mut bad).expect("a known schema");
    assert_eq!(records.rows() + bad.len(), frames.len());
    let (rows, taken) = (records.rows(), records.take().expect("what was decoded makes columns"));
    assert_eq!(rows, taken.map_or(0, |taken| taken.num_rows()));
}

/// Messages of protocol buffers are rows or quarantine, alike behind their lengths however these are cut; so are descriptor sets read or
/// refused.
pub fn protobuf(data: &[u8]) {
    let [seed, piece, text @ ..] = data else { return };
    if let Ok(other) = Protobuf::new(text, "R") {
        let _ = other.columns();
    }
    let format = Format::Protobuf(Protobuf::new(&descriptors(), "R").expect("a descriptor set"));
    let ours = |piece| decode(format.decoder(schema(*seed), &Config::default()).expect("a schema"), text, piece);
    let (whole, pieces) = (ours(text.len().max(1)), ours(usize::from(*piece) + 1));
    // Where lengths are malformed, what came before them may have been taken or not.
    if whole.1.len() == pieces.1.len() {
        assert_eq!(whole.0, pieces.0);
    }
    let mut messages = format.messages(&schema(*seed)).expect("a schema").expect("messages");
    let (mut bad, frame) = (Vec::new(), 0..text.len());
    messages.decode(text, &[frame], &mut bad).expect("nothing else is needed");
    assert_eq!(messages.rows() + bad.len(), 1);
}

/// A message `R`: `int64 a = 1; repeated double b = 2; string c = 3; bool d = 4; sint32 e = 5`.
fn descriptors() -> Vec<u8> {
    let field = |name: u8, number: u8, kind: u8, label: u8| [0x12, 9, 0x0A, 1, name, 0x18, number, 0x20, label, 0x28, kind];
    let fields = [field(b'a', 1, 3, 1), field(b'b', 2, 1, 3), field(b'c', 3, 9, 1), field(b'd', 4, 8, 1), field(b'e', 5, 17, 1)].concat();
    let message = [&[0x0A, 1, b'R'][..], &fields].concat();
    let file = [&[0x22, message.len() as u8][..], &message, &[0x62, 6], b"proto3"].concat();
    [&[0x0A, file.len() as u8][..], &file].concat()
}

/// A schema with a bit of everything.
pub const AVRO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","long"]},{"name":"c","type":"string"},
    {"name":"b","type":{"type":"array","items":"double"}},{"name":"m","type":{"type":"map","values":["null","int","string"]}},
    {"name":"d","type":{"type":"enum","name":"E","symbols":["x","y"]}},{"name":"e","type":{"type":"bytes","logicalType":"decimal","precision":9}}]}"#;

/// A schema inferred from a sample can be decoded with, or is an error; so is the name of a type.
pub fn infer_schema(data: &[u8]) {
    let [seed, text @ ..] = data else { return };
    let _ = std::str::from_utf8(text).map(parse_type);
    let format = match seed % 3 {
        0 => Format::Ndjson,
        1 => Format::Csv { delimiter: b',', header: seed & 4 != 0 },
        _ => Format::ArrowIpc,
    };
    if let Ok(schema) = infer(&format, text) {
        let decoder = format.decoder(Arc::new(schema), &Config::default());
        if let Ok(decoder) = decoder {
            decode(decoder, text, text.len().max(1));
        }
    }
}

/// A HyperLogLog image is taken in or refused, and comes back as it was taken.
pub fn hll_image(data: &[u8]) {
    let [_, _, image @ ..] = data else { return };
    let Ok(read) = HllImage::new(image) else { return };
    assert!(read.estimate() >= 0.0);
    let (mut registers, mut again) = (vec![0; 1 << read.lg_k()], vec![0; 1 << read.lg_k()]);
    read.merge_into(&mut registers).expect("as many registers");
    assert_eq!(read.is_empty(), registers.iter().all(|&value| value == 0));
    let mut written = Vec::new();
    hll_to_datasketches(&registers, &mut written);
    HllImage::new(&written).expect("an image of ours").merge_into(&mut again).expect("as many registers");
    assert_eq!(registers, again);
}

/// An image of a DDSketch is taken in or refused, and comes back as it was taken.
pub fn ddsketch_image(data: &[u8]) {
    let [_, _, image @ ..] = data else { return };
    let Ok(read) = DdImage::new(image) else { return };
    let _ = [0.0, 0.5, 1.0].map(|q| read.quantile(q));
    let layout = DdLayout::new(read.alpha(), 64);
    let write = |read: &DdImage| {
        let (mut head, mut counts, mut written) = (DdHead::EMPTY, vec![0; layout.counts_per_group()], Vec::new());
        read.merge_into(&layout, &mut head, &mut counts);
        ddsketch_to_image(&layout, &head, &counts, &mut written);
        written
    };
    let written = write(&read);
    let again = DdImage::new(&written).expect("an image of ours");
    assert_eq!(write(&again), written);
    let mut few = Vec::new();
    if read.few(&layout, 100, &mut few) {
        assert_eq!(few.len() as u64, read.count());
    }
}
