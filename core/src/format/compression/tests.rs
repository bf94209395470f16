#![allow(clippy::unwrap_used)]

use std::io::Write;

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const ALL: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Lz4];

/// Packs `text` as one member; `variant` chooses among the ways that the format leaves open.
fn pack(compression: Compression, text: &[u8], variant: u8) -> Vec<u8> {
    match compression {
        Compression::None => text.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::new(u32::from(variant % 10));
            let mut writer: GzEncoder<Vec<u8>> = GzBuilder::new().filename("a name").comment("and a comment").write(Vec::new(), level);
            writer.write_all(text).unwrap();
            writer.finish().unwrap()
        }
        Compression::Zstd => {
            let mut writer = zstd::Encoder::new(Vec::new(), i32::from(variant % 5)).unwrap();
            writer.include_checksum(true).unwrap();
            writer.write_all(text).unwrap();
            writer.finish().unwrap()
        }
        Compression::Lz4 => {
            let info = FrameInfo::new()
                .block_size(if variant & 1 == 0 { BlockSize::Max64KB } else { BlockSize::Max4MB })
                .block_mode(if variant & 2 == 0 { BlockMode::Independent } else { BlockMode::Linked })
                .block_checksums(variant & 4 != 0)
                .content_checksum(true)
                .content_size((variant & 8 != 0).then_some(text.len() as u64));
            let mut writer = FrameEncoder::with_frame_info(info, Vec::new());
            writer.write_all(text).unwrap();
            writer.finish().unwrap()
        }
    }
}

/// Unpacks pieces of `piece` bytes; what came out, and the error that ended it.
fn unpack(compression: Compression, packed: &[u8], piece: usize) -> (Vec<u8>, Option<String>) {
    let (mut unpacker, mut text) = (Unpacker::new(compression).unwrap().unwrap(), Vec::new());
    for mut bytes in packed.chunks(piece) {
        loop {
            let (used, out) = match unpacker.step(bytes) {
                Ok(step) => step,
                Err(error) => return (text, Some(error.to_string())),
            };
            assert!(out.len() <= UNPACKED_BYTES);
            text.extend_from_slice(out);
            bytes = &bytes[used..];
            if out.is_empty() {
                assert!(bytes.is_empty(), "nothing came out, and input is left");
                break;
            }
        }
    }
    assert_eq!(unpacker.unpacked(), text.len() as u64);
    (text, unpacker.finish().err().map(|error| error.to_string()))
}

/// Text of which some repeats and some does not.
fn text(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|at| if at % 1_000 < 700 { (at % 10) as u8 + b'0' } else { (at.wrapping_mul(2_654_435_761) >> 24) as u8 })
        .collect()
}

#[test]
fn members_follow_each_other() {
    for compression in ALL {
        let (first, second) = (text(700_000), text(5));
        let packed = [pack(compression, &first, 3), pack(compression, b"", 0), pack(compression, &second, 4)].concat();
        for piece in [packed.len(), 1 << 16, 1_000, 7] {
            assert_eq!(unpack(compression, &packed, piece), ([&first[..], &second].concat(), None), "{compression} {piece}");
        }
    }
    let padded = [pack(Compression::Gzip, b"x", 1), vec![0; 600]].concat();
    assert_eq!(unpack(Compression::Gzip, &padded, 100), (b"x".to_vec(), None), "zeros behind a member");
    let skipped = [&[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &pack(Compression::Lz4, b"x", 0)].concat();
    assert_eq!(unpack(Compression::Lz4, &skipped, 2), (b"x".to_vec(), None), "a frame to be passed over");
}

#[test]
fn little_that_unpacks_to_much_comes_out_bit_by_bit() {
    let zeros = vec![0; 40 << 20];
    for compression in ALL {
        let packed = pack(compression, &zeros, 7);
        assert!(packed.len() < zeros.len() / 100);
        assert_eq!(unpack(compression, &packed, packed.len()), (zeros.clone(), None), "{compression}");
    }
}

#[test]
fn what_is_cut_off_or_damaged_says_where() {
    for compression in ALL {
        let text = text(300_000);
        let packed = pack(compression, &text, 5);
        for cut in [1, 5, packed.len() / 2, packed.len() - 1] {
            let (found, error) = unpack(compression, &packed[..cut], 1 << 16);
            assert!(text.starts_with(&found), "{compression} {cut}");
            let expected = format!("the {compression} data is cut off at byte {cut} of the file");
            assert!(error.as_ref().is_some_and(|error| error.starts_with(&expected)), "{error:?}");
        }
        let mut damaged = packed.clone();
        let at = packed.len() / 2;
        damaged[at..at + 8].copy_from_slice(b"12345678");
        let (_, error) = unpack(compression, &damaged, 1 << 12);
        let expected = format!("the {compression} data is damaged, or is none, at byte ");
        assert!(error.as_ref().is_some_and(|error| error.starts_with(&expected)), "{compression} {error:?}");
        let (found, error) = unpack(compression, b"{\"a\":1}\n{\"a\":2}\n", 100);
        assert!(found.is_empty() && error.unwrap().contains("at byte 0 of the file"), "{compression}");
        let (found, error) = unpack(compression, &[&packed[..], b"and more"].concat(), 1_000);
        assert!(found == text && error.is_some(), "{compression}");
    }
    let mut huge = pack(Compression::Lz4, b"x", 0);
    huge[7..11].copy_from_slice(&0x7FFF_FFFF_u32.to_le_bytes());
    assert!(unpack(Compression::Lz4, &huge, 100).1.unwrap().contains("a block claims 2147483647 bytes"));
}

#[test]
fn suffixes_and_names() {
    for (path, expected) in [
        ("a.ndjson.gz", Compression::Gzip),
        ("A.CSV.GZ", Compression::Gzip),
        ("a.zst", Compression::Zstd),
        ("a.b/c.lz4", Compression::Lz4),
        ("a.gz/c", Compression::None),
        ("gz", Compression::None),
        ("-", Compression::None),
    ] {
        assert_eq!(Compression::of_path(Path::new(path)), expected, "{path}");
    }
    for compression in ALL {
        assert_eq!(Compression::parse(&compression.to_string()).unwrap(), compression);
    }
    assert_eq!(Compression::parse("rar").unwrap_err().to_string(), "`rar` is not a compression; it may be none, gzip, zstd or lz4");
    assert!(Unpacker::new(Compression::None).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_or_changes_nothing(
        which in 0..3_usize, lengths in prop::collection::vec(0..3_000_usize, 1..4), variant in any::<u8>(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), piece in 1..4_000_usize,
    ) {
        let whole: Vec<u8> = lengths.iter().flat_map(|&length| text(length)).collect();
        let mut packed: Vec<u8> = lengths.iter().flat_map(|&length| pack(ALL[which], &text(length), variant)).collect();
        for (index, byte) in &damage {
            let index = index.index(packed.len());
            packed[index] = *byte;
        }
        let (found, error) = unpack(ALL[which], &packed, piece);
        prop_assert!(found.len() < 64 << 20);
        if damage.is_empty() {
            prop_assert_eq!((found, error), (whole, None));
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(which in 0..3_usize, bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1..400_usize) {
        unpack(ALL[which], &bytes, piece);
        // Behind what the format begins with.
        let start = &pack(ALL[which], b"", 1)[..6];
        unpack(ALL[which], &[start, &bytes].concat(), piece);
    }
}
