//! Tests of aggregated records: bytes spelled out by the format, damage, and what was aggregated coming back.

use proptest::prelude::*;

use super::*;

fn framed(body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], body, Md5::digest(body).as_slice()].concat()
}

fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    put_varint(&mut out, value);
    out
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, field, value);
    out
}

fn record(parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(3, &parts.concat())
}

fn text(data: &[u8], at: &Range<usize>) -> String {
    String::from_utf8(data[at.clone()].to_vec()).unwrap()
}

/// A user's number, partition key, data and explicit hash key.
type Told = (u64, String, String, Option<String>);

/// What users there are, in words.
fn told(data: &[u8], range: Option<&HashRange>) -> (Split, Vec<Told>) {
    let mut out = Vec::new();
    let found = split(data, range, &mut out).unwrap();
    let tell = |user: &User| {
        let hash = user.explicit_hash_key.as_ref().map(|at| text(data, at));
        (user.sub_sequence, text(data, &user.partition_key), text(data, &user.data), hash)
    };
    (found, out.iter().map(tell).collect())
}

#[test]
fn the_hash_key_is_the_md5_as_a_number() {
    assert_eq!(hash_of(b""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
    assert_eq!(hash_of(b"abc"), 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72);
}

#[test]
fn a_record_written_by_hand_is_split() {
    // The bytes are spelled out by the format, not made by the writer of this module.
    let body = b"\x0a\x01a\x0a\x01b\x12\x015\
        \x1a\x07\x08\x01\x1a\x03one\
        \x1a\x09\x08\x00\x10\x00\x1a\x03two\
        \x1a\x09\x08\x00\x1a\x00\x22\x03\x0a\x01t";
    let (found, users) = told(&framed(body), None);
    assert_eq!(found, Split::Aggregated { users: 3, dropped: 0 });
    let user = |number, key: &str, data: &str, hash: Option<&str>| (number, key.to_owned(), data.to_owned(), hash.map(str::to_owned));
    assert_eq!(users, [user(0, "b", "one", None), user(1, "a", "two", Some("5")), user(2, "a", "", None)]);
}

#[test]
fn tables_may_stand_after_the_records_and_unknown_fields_anywhere() {
    let body = [record(&[bytes(3, b"x"), number(9, 7), number(1, 0)]), number(7, 1), bytes(1, b"k"), vec![6 << 3 | 5, 0, 0, 0, 0]].concat();
    assert_eq!(told(&framed(&body), None).1, [(0, "k".to_owned(), "x".to_owned(), None)]);
}

#[test]
fn users_outside_of_the_range_are_dropped_and_counted() {
    let mut aggregator = Aggregator::new(1_000);
    for (key, hash) in [("abc", None), ("abc", Some("7")), ("", None), ("", Some("9"))] {
        assert!(aggregator.add(key, hash, b"."));
    }
    let whole = aggregator.finish().unwrap();
    let numbers = |start, end| {
        let (found, users) = told(&whole.data, Some(&HashRange { start, end }));
        (found, users.iter().map(|user| user.0).collect::<Vec<u64>>())
    };
    assert_eq!(numbers(0, 8), (Split::Aggregated { users: 4, dropped: 3 }, vec![1]));
    assert_eq!(numbers(9, hash_of(b"abc")), (Split::Aggregated { users: 4, dropped: 2 }, vec![0, 3]));
    assert_eq!(numbers(hash_of(b""), u128::MAX), (Split::Aggregated { users: 4, dropped: 3 }, vec![2]));
}

#[test]
fn what_is_not_aggregated_is_plain() {
    let mut wrong = framed(&bytes(1, b"k"));
    *wrong.last_mut().unwrap() ^= 1;
    let mut out = Vec::new();
    for data in [&b""[..], b"{}", &MAGIC, &framed(b""), &wrong, &[&MAGIC[..], &[0; 40]].concat()] {
        assert_eq!(split(data, None, &mut out).unwrap(), Split::Plain);
    }
    assert!(out.is_empty());
}

#[test]
fn damage_under_a_right_md5_is_told_with_its_place() {
    let key = bytes(1, b"k");
    let good = record(&[number(1, 0), bytes(3, b"x")]);
    let with = |part: Vec<u8>| [key.clone(), good.clone(), part].concat();
    let cases = [
        ("at byte 16 of", "a user's record names partition key 1 of 1", with(record(&[number(1, 1), bytes(3, b"x")]))),
        ("at byte 16 of", "a user's record names explicit hash key 0 of 0", with(record(&[number(1, 0), number(2, 0), bytes(3, b"x")]))),
        ("at byte 16 of", "a user's record has no partition key", with(record(&[bytes(3, b"x")]))),
        ("at byte 16 of", "a user's record has no data", with(record(&[number(1, 0)]))),
        ("at byte 14 of", "a field claims 9 bytes of the 1 that are left", with(vec![3 << 3 | 2, 9, 0])),
        ("at byte 14 of", "a number has more than ten bytes", with([vec![3 << 3 | 2], vec![0xFF; 12]].concat())),
        ("at byte 16 of", "a key is not UTF-8", with(bytes(1, b"\xFF"))),
        ("at byte 14 of", "field 3 has no length", with(number(3, 1))),
        ("at byte 14 of", "a field is of wire type 6", with(vec![4 << 3 | 6])),
        ("at byte 14 of", "the number 0", with(vec![0, 0])),
    ];
    for (place, why, body) in cases {
        let mut out = vec![];
        let error = split(&framed(&body), None, &mut out).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(why), "{error}");
        assert!(out.is_empty());
    }
    let hash = [key, bytes(2, b"x1"), record(&[number(1, 0), number(2, 0), bytes(3, b"x")])].concat();
    let error = split(&framed(&hash), Some(&HashRange::ALL), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("at byte 9 of") && error.contains("\"x1\" is not a hash key"), "{error}");
}

#[test]
fn the_limit_holds_to_the_byte() {
    let mut aggregator = Aggregator::new(4 + 3 + 2 + 4 + 100 + 16);
    assert!(!aggregator.add("k", None, &[0; 101]));
    assert_eq!((aggregator.users(), aggregator.size(), aggregator.finish()), (0, 20, None));
    assert!(aggregator.add("k", None, &[0; 100]));
    assert!(!aggregator.add("k", None, b""));
    let whole = aggregator.finish().unwrap();
    assert_eq!((whole.data.len(), whole.users, whole.partition_key.as_str()), (129, 1, "k"));
    assert_eq!((aggregator.users(), aggregator.finish()), (0, None));
}

/// A partition key, an explicit hash key and data; keys come more than once.
fn user() -> impl Strategy<Value = (u8, Option<u8>, Vec<u8>)> {
    (0..200_u8, prop::option::of(0..5_u8), prop::collection::vec(any::<u8>(), 0..300))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_aggregated_comes_back(
        records in prop::collection::vec(user(), 0..60),
        limit in 20..6_000_usize,
        range in prop::option::of((any::<u128>(), any::<u128>()).prop_map(|(a, b)| HashRange { start: a.min(b), end: a.max(b) })),
    ) {
        let mut aggregator = Aggregator::new(limit);
        let mut taken = Vec::new();
        for (key, hash, data) in records {
            let (key, hash) = (format!("key {key}"), hash.map(|hash| hash.to_string()));
            let before = aggregator.size();
            match aggregator.add(&key, hash.as_deref(), &data) {
                true => taken.push((key, hash, data)),
                false => prop_assert_eq!(aggregator.size(), before),
            }
        }
        let size = aggregator.size();
        prop_assert!(size <= limit);
        let Some(whole) = aggregator.finish() else { return Ok(()) };
        prop_assert_eq!((whole.data.len(), whole.users), (size, taken.len()));
        let inside: Vec<usize> = (0..taken.len()).filter(|at| {
            let (key, hash, _) = &taken[*at];
            let hash = hash.as_ref().map_or_else(|| hash_of(key.as_bytes()), |hash| hash.parse().unwrap());
            range.is_none_or(|range| range.contains(hash))
        }).collect();
        let mut out = Vec::new();
        let found = split(&whole.data, range.as_ref(), &mut out).unwrap();
        prop_assert_eq!(found, Split::Aggregated { users: taken.len() as u64, dropped: (taken.len() - inside.len()) as u64 });
        prop_assert_eq!(out.len(), inside.len());
        for (user, at) in out.into_iter().zip(inside) {
            prop_assert_eq!(user.sub_sequence, at as u64);
            let hash = user.explicit_hash_key.map(|at| text(&whole.data, &at));
            let found = (text(&whole.data, &user.partition_key), hash, whole.data[user.data].to_vec());
            prop_assert_eq!(&found, &taken[at]);
        }
    }

    #[test]
    fn no_bytes_panic(
        body in prop::collection::vec(prop_oneof![any::<u8>(), 0..4_u8, Just(0x0A), Just(0x1A)], 0..80),
        magic in any::<bool>(),
        ranged in any::<bool>(),
    ) {
        let data = if magic { framed(&body) } else { body };
        let mut out = vec![User { sub_sequence: 9, data: 0..0, partition_key: 0..0, explicit_hash_key: None }];
        match split(&data, ranged.then_some(&HashRange { start: 5, end: u128::MAX / 2 }), &mut out) {
            Ok(Split::Aggregated { users, dropped }) => prop_assert_eq!(out.len() as u64, 1 + users - dropped),
            Ok(Split::Plain) | Err(_) => prop_assert_eq!(out.len(), 1),
        }
    }

    #[test]
    fn a_good_record_with_one_byte_changed_is_read_or_refused(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut aggregator = Aggregator::new(500);
        for key in ["a", "b", "a"] {
            aggregator.add(key, Some("77"), key.as_bytes());
        }
        let whole = aggregator.finish().unwrap().data;
        let mut body = whole[4..whole.len() - DIGEST].to_vec();
        let at = at.index(body.len());
        body[at] = value;
        let _ = split(&framed(&body), Some(&HashRange::ALL), &mut Vec::new());
    }

    #[test]
    fn the_size_of_a_number_is_that_of_its_bytes(number in any::<u64>(), shift in 0..64_u32) {
        let mut out = Vec::new();
        put_varint(&mut out, number >> shift);
        prop_assert_eq!(out.len(), varint_size(number >> shift));
    }
}
