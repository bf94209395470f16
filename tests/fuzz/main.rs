//! A smoke run of the fuzz targets: their seeds and mutations of them, the same on every run.

#![allow(clippy::unwrap_used)]

mod bodies;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::ipc::writer::StreamWriter;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use thalweg_kernels::{
    DdHead, DdLayout, Hash, ddsketch_fold, ddsketch_to_image, hash_i64, hll_coupon, hll_coupons_to_datasketches, hll_fold,
    hll_to_datasketches,
};

/// Mutations per seed.
const MUTATIONS: usize = 400;

/// Bytes that mean something to one of the formats.
const SPECIAL: &[u8] = b"{}[]\",:\\\n\r\t .-+eEnull0129\x00\x7f\x80\xc3\xff";

/// Calls `body` with each of `seeds` under each of `modes`, whole and damaged.
fn smoke(body: impl Fn(&[u8]), modes: &[u8], seeds: &[Vec<u8>]) {
    let mut random = StdRng::seed_from_u64(7);
    for seed in seeds {
        for mutation in 0..MUTATIONS {
            let mut text = seed.clone();
            for _ in 0..mutation.min(4) {
                mutate(&mut text, &mut random);
            }
            let mode = modes[mutation % modes.len()];
            body(&[&[mode, random.random()], &text[..]].concat());
        }
    }
}

fn mutate(text: &mut Vec<u8>, random: &mut StdRng) {
    if text.is_empty() {
        return;
    }
    let (at, to) = (random.random_range(0..text.len()), random.random_range(0..text.len()));
    match random.random_range(0..5) {
        0 => text[at] = random.random(),
        1 => text[at] = SPECIAL[random.random_range(0..SPECIAL.len())],
        2 => text.insert(at, SPECIAL[random.random_range(0..SPECIAL.len())]),
        3 => drop(text.drain(at.min(to)..at.max(to).min(at.min(to) + 20))),
        _ => {
            let part = text[at.min(to)..at.max(to)].to_vec();
            text.splice(at..at, part);
        }
    }
}

fn json_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "{\"a\":1,\"b\":2.5,\"c\":\"x\",\"d\":true,\"e\":1700000000123}\n{\"a\":2,\"b\":-0.125,\"c\":\"longer than sixteen bytes\",\"d\":false,\"e\":3}\n",
        "{\"e\": 1, \"c\": \"\\u00e9\\ud83d\\ude00\\n\", \"a\": null, \"x\": [1, {\"y\": []}]}\r\n\n{\"e\": 12345678901234567890}\n",
        "{\"a\":1,\"a\":2,\"e\":1e3}\n{\"e\":\"2024-01-31T01:02:03Z\",\"d\":\"2024-01-31\"}\n{\"b\":1e400,\"e\":0}",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}

#[test]
fn ndjson() {
    smoke(bodies::ndjson, &[0, 1, 2, 3, 4, 5], &json_seeds());
}

#[test]
fn csv() {
    let seeds = [
        "a,b,c,d,e\n1,2.5,x,true,2024-01-31T01:02:03\n2,,\"quoted, \"\"twice\"\"\nand more\",false,\n",
        "e,c,more\r\n1,x,y\r\n\r\n2,\"open\n3,z,z\n",
    ];
    smoke(bodies::csv, &[0, 4, 8, 12, 1, 5, 2, 6], &seeds.map(|seed| seed.as_bytes().to_vec()));
}

fn stream() -> Vec<u8> {
    let columns: [(&str, ArrayRef); 5] = [
        ("a", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
        ("b", Arc::new(Float64Array::from(vec![1.0, f64::NAN, -0.0]))),
        ("c", Arc::new(StringArray::from(vec!["x", "", "é"]))),
        ("d", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("e", Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn arrow_ipc() {
    smoke(bodies::arrow_ipc, &[0, 1, 2], &[stream()]);
}

#[test]
fn unpack() {
    let lines = b"{\"a\":1}\n".repeat(40);
    let gzip = [31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 75, 204, 28, 216, 0, 0, 0, 0, 0, 0];
    let lz4 = [0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82, 5, 0, 0, 0x80, b'a', b'b', b'c', b'd', b'\n', 0, 0, 0, 0];
    let zstd = [0x28, 0xB5, 0x2F, 0xFD, 0x20, 5, 0x29, 0, 0, b'a', b'b', b'c', b'd', b'\n', 0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 1, 0, 0];
    smoke(bodies::unpack, &[0, 1, 2], &[lines, gzip.to_vec(), lz4.to_vec(), zstd.to_vec()]);
}

#[test]
fn avro() {
    // A header with the schema and no codec, then a block of two records.
    let body = b"\x02\x08\x04hi\x02\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x02\x02k\x02\x06\x00\x02\x04\x01\x00\x00\x00\x00\x00\x00\x00";
    let length = |length: usize| vec![(length * 2 % 128) as u8 | 128, (length * 2 / 128) as u8];
    let file = [
        &b"Obj\x01\x02\x16avro.schema"[..],
        &length(bodies::AVRO.len()),
        bodies::AVRO.as_bytes(),
        b"\0sixteen bytes...",
        &[4, body.len() as u8 * 2],
        body,
        b"sixteen bytes...",
    ];
    smoke(bodies::avro, &[0, 1, 2], &[file.concat(), body.to_vec()]);
}

#[test]
fn protobuf() {
    let message = [&[8, 7, 26, 2, b'h', b'i', 32, 1, 40, 3, 18, 8][..], &1.5_f64.to_le_bytes(), &[17], &2.5_f64.to_le_bytes()].concat();
    let text = [&[message.len() as u8][..], &message, &[2, 8, 9, 0, 3, 26, 1, b'x']].concat();
    smoke(bodies::protobuf, &[0, 1, 2, 3], &[text, message]);
}

#[test]
fn infer() {
    let types = ["timestamp[ms, UTC]", "decimal128(10, 2)", "float64"].map(|name| name.as_bytes().to_vec());
    let seeds = [json_seeds(), vec![stream(), b"a,b\n1,2024-01-31\nx,\n".to_vec()], types.to_vec()].concat();
    smoke(bodies::infer_schema, &[0, 1, 2, 5], &seeds);
}

#[test]
fn hll_image() {
    let image = |values: i64| {
        let values: Vec<i64> = (0..values).collect();
        let (mut hashes, mut registers, mut image) = (vec![0; values.len()], vec![0; 1 << 8], Vec::new());
        hash_i64(&values, Hash::DataSketches, &mut hashes);
        if values.len() <= 64 {
            hashes.iter_mut().for_each(|hash| *hash = hll_coupon(*hash));
            hll_coupons_to_datasketches(12, &hashes, &mut image);
        } else {
            hll_fold(&mut registers, &hashes, None);
            hll_to_datasketches(&registers, &mut image);
        }
        image
    };
    // Their modes of 4 and 6 bits.
    let mut others = [0, 1].map(|kind| [vec![10, 1, 7, 5, 2, 0, 1, 2 | kind << 2], vec![0; 32], vec![0x6e; 50]].concat());
    others[0][36] = 2;
    smoke(bodies::hll_image, &[0], &[vec![image(0), image(5), image(40), image(1_000)], others.to_vec()].concat());
}

#[test]
fn ddsketch_image() {
    let image = |values: &[f64], alpha: f64| {
        let layout = DdLayout::new(alpha, 64);
        let (mut head, mut counts, mut image) = (DdHead::EMPTY, vec![0; layout.counts_per_group()], Vec::new());
        ddsketch_fold(&layout, &mut head, &mut counts, values, None);
        ddsketch_to_image(&layout, &head, &counts, &mut image);
        image
    };
    let near: Vec<f64> = (0..300).map(|row| 1.0 + f64::from(row) / 300.0).collect();
    let odd = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 1e300, f64::MIN_POSITIVE];
    smoke(bodies::ddsketch_image, &[0], &[image(&[], 0.01), image(&odd, 0.01), image(&near, 0.02), image(&near, 0.00001)]);
}
