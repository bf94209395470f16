#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::{BytesDictionary, Full, IntDictionary, Together, WordsDictionary};
use crate::Backend;
use crate::scalar::dictionary::Dictionary;
use crate::testing::{INTS, scramble};

/// One act upon a dictionary and its twin.
#[derive(Clone, Debug)]
enum Act<K> {
    Assign(Vec<K>),
    Remove(Vec<u32>),
    Clear,
}

fn acts<K: Clone + std::fmt::Debug>(key: impl Strategy<Value = K>) -> impl Strategy<Value = Vec<Act<K>>> {
    let assign = vec(key, 0..700).prop_map(Act::Assign);
    let remove = vec(0u32..900, 0..300).prop_map(Act::Remove);
    vec(prop_oneof![6 => assign, 3 => remove, 1 => Just(Act::Clear)], 1..16)
}

/// Keys close together, around a base, now and then far away: what makes the table grow both ways and then give up.
fn int_keys() -> impl Strategy<Value = i64> {
    let base = prop::sample::select(INTS);
    (base, -3000i64..3000, 0..40, any::<i64>())
        .prop_map(|(base, near, far, any)| if far == 0 { any } else { base.saturating_add(near << (far % 3)) })
}

fn byte_keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..4), vec(0u8..3, 0..40), (0u32..500).prop_map(|n| format!("customer-{n:07}").into_bytes())]
}

/// Keys of words that are few, close together or anything: equal in some of them and not in others.
fn word_keys() -> impl Strategy<Value = [u64; 4]> {
    let word = || prop_oneof![4 => 0u64..6, 2 => (0u64..40).prop_map(|n| n << 32), 1 => any::<u64>()];
    [word(), word(), word(), word()]
}

fn assign_int(dictionary: &mut IntDictionary, keys: &[i64]) -> Result<Vec<u32>, Full> {
    let mut slots = vec![u32::MAX];
    let result = dictionary.assign(keys, &mut slots);
    assert_eq!(slots[0], u32::MAX);
    assert_eq!(slots.len(), 1 + if result.is_ok() { keys.len() } else { 0 });
    result.map(|()| slots[1..].to_vec())
}

/// The first keys together.
fn assign_together(dictionary: &mut IntDictionary, keys: &[i64]) -> Result<Vec<u32>, Full> {
    let (mut slots, mut room) = (vec![u32::MAX], Together::default());
    let result = dictionary.assign_together(keys, &mut room, &mut slots);
    assert_eq!(slots[0], u32::MAX);
    assert_eq!(slots.len(), 1 + if result.is_ok() { keys.len() } else { 0 });
    result.map(|()| slots[1..].to_vec())
}

fn assign_bytes(dictionary: &mut BytesDictionary, keys: &[Vec<u8>]) -> Result<Vec<u32>, Full> {
    let mut data = b"before".to_vec();
    let mut offsets = vec![data.len() as i32];
    for key in keys {
        data.extend(key);
        offsets.push(data.len() as i32);
    }
    let mut slots = vec![u32::MAX];
    let result = dictionary.assign(&offsets, &data, &mut slots);
    assert_eq!(slots.len(), 1 + if result.is_ok() { keys.len() } else { 0 });
    result.map(|()| slots[1..].to_vec())
}

fn assign_words<const N: usize>(dictionary: &mut WordsDictionary, keys: &[[u64; N]]) -> Result<Vec<u32>, Full> {
    let mut slots = vec![u32::MAX];
    let result = dictionary.assign(keys.as_flattened(), &mut slots);
    assert_eq!(slots.len(), 1 + if result.is_ok() { keys.len() } else { 0 });
    result.map(|()| slots[1..].to_vec())
}

fn check_int_list(dictionary: &IntDictionary, twin: &Dictionary<i64>) {
    assert_eq!(dictionary.keys().len(), twin.slots());
    for (slot, key) in dictionary.keys().iter().enumerate() {
        assert!(twin.key(slot as u32).is_none_or(|expected| expected == key));
    }
}

fn check_bytes_list(dictionary: &BytesDictionary, twin: &Dictionary<Vec<u8>>) {
    let slots = twin.slots() as u32;
    for slots in [0..slots, slots / 3..slots, 0..slots / 2, slots..slots] {
        let (mut offsets, mut data) = (vec![3], b"abc".to_vec());
        assert_eq!(dictionary.append_keys(slots.clone(), &mut offsets, &mut data), slots.end);
        assert_eq!((offsets.len(), offsets[slots.len()] as usize), (slots.len() + 1, data.len()));
        for (ends, slot) in offsets.windows(2).zip(slots) {
            assert_eq!(data[ends[0] as usize..ends[1] as usize], *twin.key(slot).map_or(&[][..], Vec::as_slice));
        }
    }
}

fn check_words_list<const N: usize>(dictionary: &WordsDictionary, twin: &Dictionary<[u64; N]>) {
    assert_eq!((dictionary.keys().len(), dictionary.width()), (N * twin.slots(), N));
    for (slot, key) in dictionary.keys().as_chunks::<N>().0.iter().enumerate() {
        assert!(twin.key(slot as u32).is_none_or(|expected| expected == key));
    }
}

/// Acts on a dictionary and its twin alike and compares them after each.
macro_rules! act_like_twin {
    ($dictionary:expr, $assign:ident, $acts:expr, $limit:expr, $key:expr, $listed:path) => {{
        let mut dictionary = $dictionary;
        let mut twin = Dictionary::new($limit);
        for act in $acts {
            match act {
                Act::Assign(keys) => {
                    let expected: Result<Vec<u32>, Full> = keys.iter().map(|key| twin.assign(key)).collect();
                    assert_eq!($assign(&mut dictionary, &keys), expected);
                }
                Act::Remove(slots) => slots.iter().for_each(|&slot| {
                    dictionary.remove(slot);
                    twin.remove(slot);
                }),
                Act::Clear => {
                    dictionary.clear();
                    twin = Dictionary::new($limit);
                }
            }
            $listed(&dictionary, &twin);
            assert_eq!((dictionary.len(), dictionary.slots()), (twin.len(), twin.slots()));
            assert_eq!(dictionary.is_empty(), twin.is_empty());
            for slot in 0..twin.slots() as u32 {
                if let Some(key) = twin.key(slot) {
                    assert_eq!($key(&dictionary, slot), *key);
                }
            }
        }
    }};
}

proptest! {
    #[test]
    fn integers_act_like_the_twin(acts in acts(int_keys()), limit in prop_oneof![1usize..600, Just(100_000)]) {
        for backend in Backend::available() {
            let key = |d: &IntDictionary, slot| d.key(slot);
            act_like_twin!(backend.int_dictionary(limit), assign_int, acts.clone(), limit, key, check_int_list);
            act_like_twin!(backend.int_dictionary(limit), assign_together, acts.clone(), limit, key, check_int_list);
        }
    }

    #[test]
    fn byte_strings_act_like_the_twin(acts in acts(byte_keys()), limit in prop_oneof![1usize..600, Just(100_000)]) {
        for backend in Backend::available() {
            act_like_twin!(backend.bytes_dictionary(limit), assign_bytes, acts.clone(), limit, |d: &BytesDictionary, slot| d.key(slot).to_vec(), check_bytes_list);
        }
    }

    #[test]
    fn keys_of_words_act_like_the_twin(acts in acts(word_keys()), width in 1usize..=4, limit in prop_oneof![1usize..600, Just(100_000)]) {
        for backend in Backend::available() {
            match width {
                1 => words_act_like_the_twin::<1>(backend, &acts, limit),
                2 => words_act_like_the_twin::<2>(backend, &acts, limit),
                3 => words_act_like_the_twin::<3>(backend, &acts, limit),
                _ => words_act_like_the_twin::<4>(backend, &acts, limit),
            }
        }
    }
}

/// Of keys, the first words.
fn words_act_like_the_twin<const N: usize>(backend: Backend, acts: &[Act<[u64; 4]>], limit: usize) {
    let cut = |key: &[u64; 4]| *key.first_chunk::<N>().unwrap();
    let acts = acts.iter().map(|act| match act {
        Act::Assign(keys) => Act::Assign(keys.iter().map(cut).collect()),
        Act::Remove(slots) => Act::Remove(slots.clone()),
        Act::Clear => Act::Clear,
    });
    let key = |d: &WordsDictionary, slot| d.keys().as_chunks::<N>().0[slot as usize];
    act_like_twin!(backend.words_dictionary(N, limit), assign_words, acts, limit, key, check_words_list);
}

#[test]
fn keys_of_words_come_and_go_by_the_hundred_thousand() {
    let keys: Vec<[u64; 3]> = (0..100_000).map(|n| [n % 7, scramble(n / 3), n % 21]).collect();
    let mut dictionary = WordsDictionary::new(3, 200_000);
    let expected: Vec<u32> = (0..100_000).collect();
    assert_eq!(assign_words(&mut dictionary, &keys).unwrap(), expected);
    assert_eq!(assign_words(&mut dictionary, &keys).unwrap(), expected);
    let gone: Vec<u32> = (0..100_000).filter(|slot| slot % 3 != 0).collect();
    dictionary.remove_all(&gone);
    dictionary.remove_all(&gone);
    assert_eq!((dictionary.len(), dictionary.slots()), (33_334, 100_000));
    assert_eq!(assign_words(&mut dictionary, &[keys[99_999], [1 << 63, 0, 0], [0, 0, 1 << 63]]).unwrap(), [99_999, 99_998, 99_997]);
    let bytes = dictionary.bytes();
    dictionary.clear();
    assert!(dictionary.is_empty() && dictionary.keys().is_empty() && dictionary.bytes() >= 100_000 * 28);
    assert_eq!(assign_words(&mut dictionary, &keys).unwrap(), expected);
    assert!(dictionary.bytes() <= bytes);
}

#[test]
fn words_that_are_no_whole_keys_are_refused() {
    let assign = || WordsDictionary::new(3, 10).assign(&[1; 7], &mut Vec::new());
    assert!(std::panic::catch_unwind(assign).is_err());
    assert!([0, 5].into_iter().all(|width| std::panic::catch_unwind(|| WordsDictionary::new(width, 10)).is_err()));
}

#[test]
fn many_keys_told_apart_together_are_those_told_apart_one_by_one() {
    let (mut one_by_one, mut together, mut room) = (IntDictionary::new(1 << 20), IntDictionary::new(1 << 20), Together::default());
    let spread = |key: u64| scramble(key) as i64;
    // Few and many rows to a key, close together and far apart, all equal, at both ends of the range; in the room of those before.
    let near = |rows: u64, keys: u64| (0..rows).map(|row| (scramble(row) % keys) as i64 - 1_000).collect::<Vec<i64>>();
    let far = |rows: u64, keys: u64| (0..rows).map(|row| spread(scramble(row) % keys)).collect::<Vec<i64>>();
    let ends: Vec<i64> = (0..1_000).map(|row| if row % 3 == 0 { i64::MAX - row } else { i64::MIN + row }).collect();
    let skewed: Vec<i64> = (0..50_000).map(|row| if row % 5 == 0 { row * 11 } else { row % 7 }).collect();
    for keys in
        [near(100_000, 1_000_000), far(100_000, 1_000_000), near(50_000, 900), far(50_000, 900), vec![-7; 3_001], ends, skewed, near(3, 2)]
    {
        let slots = assign_int(&mut one_by_one, &keys).unwrap();
        let mut found = Vec::new();
        together.assign_together(&keys, &mut room, &mut found).unwrap();
        assert!(found == slots && together.keys() == one_by_one.keys());
        // What is asked of the keys afterwards puts them into a table.
        together.remove(slots[1]);
        one_by_one.remove(slots[1]);
        assert_eq!(together.reserve(), one_by_one.reserve());
        let more = [keys[2], 1 << 40, keys[0], -(1 << 40)];
        assert_eq!(assign_int(&mut together, &more), assign_int(&mut one_by_one, &more));
        together.clear();
        one_by_one.clear();
        assert!(room.bytes() > 0 && together.is_empty());
    }
}

#[test]
fn keys_suit_each_other_where_few_come_again_in_a_large_table() {
    let suits = |keys: &[i64]| {
        let mut dictionary = IntDictionary::new(1 << 20);
        assign_int(&mut dictionary, keys).unwrap();
        dictionary.suits_together(keys.len())
    };
    let of = |rows: u64, keys: u64, factor: i64| (0..rows).map(|row| (scramble(row) % keys) as i64 * factor).collect::<Vec<i64>>();
    assert!(suits(&of(100_000, 1_000_000, 1)) && suits(&of(40_000, 20_000, 1 << 40)));
    assert!(!suits(&of(100_000, 100_000, 1)), "the table stays in the cache");
    assert!(!suits(&of(100_000, 10_000, 1 << 40)), "ten rows to a key");
    assert!(!suits(&of(1_000, 1_000, 1 << 40)), "few keys");
    assert!(!suits(&of(300_000, 1_000_000, 1)), "more rows than stay in the cache");
}

#[test]
fn keys_out_of_reach_leave_the_others_their_slots() {
    let mut dictionary = IntDictionary::new(1 << 20);
    let near: Vec<i64> = (0..50_000).map(|n| scramble(n) as i64 & 0xffff).collect();
    let before = assign_int(&mut dictionary, &near).unwrap();
    let live = dictionary.len();
    let far = [i64::MIN, i64::MAX, -1, 1 << 40];
    let moved = assign_int(&mut dictionary, &far).unwrap();
    assert_eq!(moved, (live as u32..live as u32 + 4).collect::<Vec<_>>());
    assert_eq!(assign_int(&mut dictionary, &near).unwrap(), before);
    assert_eq!(moved.iter().map(|&slot| dictionary.key(slot)).collect::<Vec<_>>(), far);
    assert!(dictionary.bytes() >= dictionary.len() * 12);
}

#[test]
fn hundreds_of_thousands_of_keys_come_and_go() {
    let keys: Vec<i64> = (0..300_000).map(|n| scramble(n) as i64).collect();
    let mut dictionary = IntDictionary::new(300_000);
    assert_eq!(assign_int(&mut dictionary, &keys).unwrap(), (0..300_000).collect::<Vec<u32>>());
    (0..300_000).filter(|slot| slot % 3 != 0).for_each(|slot| dictionary.remove(slot));
    assert_eq!((dictionary.len(), dictionary.slots()), (100_000, 300_000));
    let kept: Vec<i64> = keys.iter().copied().step_by(3).collect();
    assert_eq!(assign_int(&mut dictionary, &kept).unwrap(), (0..300_000).step_by(3).collect::<Vec<u32>>());
    assert_eq!(assign_int(&mut dictionary, &[i64::MAX]).unwrap(), [299_999]);
}

#[test]
fn dense_keys_that_arrive_in_any_order_stay_in_the_table() {
    for order in [|n: i64| n, |n: i64| -n, |n: i64| (n * 7919) % 300_007] {
        let keys: Vec<i64> = (0..300_000).map(order).collect();
        let mut dictionary = IntDictionary::new(1 << 20);
        let slots = assign_int(&mut dictionary, &keys).unwrap();
        assert!(slots.iter().zip(&keys).all(|(&slot, &key)| dictionary.key(slot) == key));
        assert!(dictionary.bytes() < 300_000 * 4 * 2 * 2 + 300_000 * 8 * 2, "{} bytes", dictionary.bytes());
    }
}

#[test]
fn removed_byte_strings_leave_no_bytes_behind() {
    let mut dictionary = BytesDictionary::new(1000);
    for round in 0..200u32 {
        let keys: Vec<Vec<u8>> = (0..500u32).map(|n| format!("a key of some length, {round}-{n}").into_bytes()).collect();
        let slots = assign_bytes(&mut dictionary, &keys).unwrap();
        assert!(slots.iter().zip(&keys).all(|(&slot, key)| dictionary.key(slot) == *key));
        slots.iter().for_each(|&slot| dictionary.remove(slot));
        assert!(dictionary.is_empty());
    }
    assert_eq!(dictionary.slots(), 500);
    assert!(dictionary.bytes() < 300_000, "{} bytes", dictionary.bytes());
}

#[test]
fn a_cleared_dictionary_hands_out_slots_from_zero_in_the_same_memory() {
    let (mut ints, mut strings) = (IntDictionary::new(100_000), BytesDictionary::new(100_000));
    let mut held = None;
    for pane in 0..5u64 {
        let keys: Vec<i64> = (0..50_000).map(|n| scramble(n + pane) as i64).collect();
        let names: Vec<Vec<u8>> = keys.iter().map(|key| format!("{key:020}").into_bytes()).collect();
        let expected: Vec<u32> = (0..50_000).collect();
        assert_eq!(assign_int(&mut ints, &keys).unwrap(), expected);
        assert_eq!(assign_bytes(&mut strings, &names).unwrap(), expected);
        assert_eq!(ints.keys(), keys);
        // The first pane may end while its tables are growing.
        let (bytes, first) = (ints.bytes().max(strings.bytes()), pane == 0);
        assert!(first || *held.get_or_insert(bytes) == bytes, "{held:?} {bytes:?}");
        ints.clear();
        strings.clear();
        assert!(ints.is_empty() && strings.is_empty() && ints.keys().is_empty());
    }
    assert_eq!(assign_int(&mut ints, &[7, 7]).unwrap(), [0, 0]);
    assert_eq!(assign_bytes(&mut strings, &[b"7".to_vec()]).unwrap(), [0]);
    ints.clear();
    strings.clear();
    assert_eq!((assign_int(&mut ints, &[8]).unwrap(), assign_bytes(&mut strings, &[b"7".to_vec()]).unwrap()), (vec![0], vec![0]));
}

#[test]
fn a_full_dictionary_says_so_and_stays_of_use() {
    let mut dictionary = IntDictionary::new(2);
    assert_eq!(assign_int(&mut dictionary, &[5, 6, 5, 7]), Err(Full { limit: 2 }));
    assert_eq!(assign_int(&mut dictionary, &[6, 5]).unwrap(), [1, 0]);
    dictionary.remove(0);
    dictionary.remove(0);
    assert_eq!(assign_int(&mut dictionary, &[7, 6]).unwrap(), [0, 1]);
    assert!(Full { limit: 2 }.to_string().contains("more than 2 keys"));
    let mut slots = Vec::new();
    dictionary.assign(&[7u32], &mut slots).unwrap();
    dictionary.assign(&[6i32], &mut slots).unwrap();
    assert_eq!(slots, [0, 1]);
}

#[test]
fn spread_keys_act_like_the_twin_while_their_table_grows() {
    let key = |n: u64| match n {
        0..4 => [0, -1, i64::MIN, i64::MAX][n as usize],
        n => scramble(n) as i64,
    };
    for backend in Backend::available() {
        let (mut dictionary, mut twin) = (backend.int_dictionary(1 << 20), Dictionary::new(1 << 20));
        let mut known = 0;
        for act in 0..60u64 {
            // Rows of keys that are known, a few that are not, and many at times; half of the slots are freed once.
            let new = if act % 7 == 0 { 3_000 } else { act % 3 };
            let keys: Vec<i64> = (0..2_500 + new).map(|row| key(scramble(act << 32 | row) % (known + new).max(1))).collect();
            known += new;
            let expected: Vec<u32> = keys.iter().map(|key| twin.assign(key).unwrap()).collect();
            assert_eq!(assign_int(&mut dictionary, &keys).unwrap(), expected, "{backend} {act}");
            if act == 30 {
                let gone: Vec<u32> = (0..twin.slots() as u32).filter(|slot| slot % 2 == 0).collect();
                dictionary.remove_all(&gone);
                gone.iter().for_each(|&slot| twin.remove(slot));
            }
            assert_eq!((dictionary.len(), dictionary.slots()), (twin.len(), twin.slots()));
        }
        check_int_list(&dictionary, &twin);
    }
}
