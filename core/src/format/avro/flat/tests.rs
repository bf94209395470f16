#![allow(clippy::unwrap_used)]

use arrow::array::AsArray;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::super::resolved::{Resolved, Wrap};
use super::*;

const KINDS: usize = 11;

/// A type by its number, with what arrow-avro makes columns of at once.
fn kind(number: usize) -> Value {
    match number {
        0 => json!("boolean"),
        1 => json!("int"),
        2 => json!("long"),
        3 => json!("float"),
        4 => json!("double"),
        5 => json!("bytes"),
        6 => json!("string"),
        7 => json!({"type": "int", "logicalType": "date"}),
        8 => json!({"type": "long", "logicalType": "timestamp-millis"}),
        9 => json!({"type": "long", "logicalType": "time-micros"}),
        _ => json!({"type": "enum", "name": "E", "symbols": ["a", "b", "c"]}),
    }
}

/// A value of a type: of each number the least and the greatest, and any between.
fn value(number: usize, seed: i64) -> Vec<u8> {
    let text = |text: &str| [long(text.len() as i64), text.as_bytes().to_vec()].concat();
    match number {
        0 => vec![(seed & 1) as u8],
        1 | 7 => long((seed as i32).into()),
        2 | 8 | 9 => long(seed),
        3 => (seed as f32).to_le_bytes().to_vec(),
        4 => (seed as f64).to_le_bytes().to_vec(),
        5 => [long(seed & 15), vec![seed as u8; (seed & 15) as usize]].concat(),
        6 => text(&"zażółć gęślą".chars().take((seed & 15) as usize).collect::<String>()),
        _ => long(seed.rem_euclid(3)),
    }
}

fn long(number: i64) -> Vec<u8> {
    let (mut rest, mut bytes) = (((number << 1) ^ (number >> 63)) as u64, Vec::new());
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// What is wrong with a record that `arrow-avro` may take.
const LENIENT: [&str; 3] = ["its union does not have", "there is no name", "an int has more than 5 bytes"];

/// What a field is: its type, whether it may be null and where null then stands, and whether it is asked for.
type Shape = Vec<(usize, Option<bool>, bool)>;

fn schema(shape: &Shape) -> (String, Schema) {
    let mut wanted = Vec::new();
    let fields = shape.iter().enumerate().map(|(place, (number, null, is_wanted))| {
        let name = format!("f{place}");
        let mut kind = kind(*number);
        if *number == KINDS - 1 {
            // A name is defined once.
            kind["name"] = json!(format!("E{place}"));
        }
        if *is_wanted {
            wanted.push(name.clone());
        }
        let kind = match null {
            None => kind,
            Some(true) => json!(["null", kind]),
            Some(false) => json!([kind, "null"]),
        };
        json!({"name": name, "type": kind})
    });
    let fields: Vec<Value> = fields.collect();
    let text = json!({"type": "record", "name": "R", "fields": fields}).to_string();
    let columns = Resolved::new(&text, None, None, Wrap::Record).unwrap().columns();
    let kept: Vec<_> = columns.fields().iter().filter(|field| wanted.contains(field.name())).cloned().collect();
    (text, Schema::new(kept))
}

fn record(shape: &Shape, seeds: &[(i64, bool)]) -> Vec<u8> {
    let field = |((number, null, _), (seed, is_null)): (&(usize, Option<bool>, bool), &(i64, bool))| match null {
        None => value(*number, *seed),
        Some(first) if *is_null => long(i64::from(!first)),
        Some(first) => [long(i64::from(*first)), value(*number, *seed)].concat(),
    };
    shape.iter().zip(seeds.iter().cycle()).flat_map(field).collect()
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop::collection::vec((0..KINDS, any::<Option<bool>>(), any::<bool>()), 1..8)
}

fn seeds() -> impl Strategy<Value = Vec<Vec<(i64, bool)>>> {
    let seed = prop_oneof![any::<i64>(), -70..70_i64, Just(i64::MIN), Just(i64::MAX), 0..1_i64 << 42];
    prop::collection::vec(prop::collection::vec((seed, any::<bool>()), 8), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_decodes_as_arrow_avro_does(shape in shapes(), seeds in seeds(), wrap in any::<bool>()) {
        let (text, wanted) = schema(&shape);
        let wrap = if wrap { Wrap::Record } else { Wrap::Block };
        let mut records: Vec<Vec<u8>> = seeds.iter().map(|seeds| record(&shape, seeds)).collect();
        if wrap == Wrap::Block {
            records = vec![[long(records.len() as i64), records.concat(), long(0)].concat()];
        }
        let mut ours = Resolved::new(&text, None, Some(&wanted), wrap).unwrap();
        prop_assert!(ours.is_flat());
        let mut theirs = Resolved::new(&text, None, Some(&wanted), wrap).unwrap().without_flat();
        for _ in 0..2 {
            let frames = || records.iter().map(Vec::as_slice);
            prop_assert_eq!(ours.rows(frames()).unwrap(), theirs.rows(frames()).unwrap());
        }
    }

    #[test]
    fn of_damaged_records_it_takes_none_that_arrow_avro_does_not(
        shape in shapes(), seeds in seeds(), damage in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let (text, wanted) = schema(&shape);
        let mut ours = Resolved::new(&text, None, Some(&wanted), Wrap::Record).unwrap();
        let mut theirs = Resolved::new(&text, None, Some(&wanted), Wrap::Record).unwrap().without_flat();
        for seeds in seeds {
            let mut bytes = record(&shape, &seeds);
            for (place, byte, is_cut) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
                if *is_cut && place > 0 {
                    bytes.truncate(place);
                }
            }
            match (ours.rows([bytes.as_slice()].into_iter()), theirs.rows([bytes.as_slice()].into_iter())) {
                (Ok(ours), theirs) => prop_assert_eq!(Ok(ours), theirs),
                // It takes any other type for the last of two, and any place for a name, or an int of any length, where it does not look.
                (Err(why), Ok(_)) => prop_assert!(LENIENT.iter().any(|lenient| why.contains(lenient)), "{}", why),
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn numbers_of_any_length_are_read(number in any::<u64>(), shift in 0..64_u32, rest in prop::collection::vec(any::<u8>(), 0..12)) {
        let number = number >> shift;
        let signed = (number >> 1) as i64 ^ -((number & 1) as i64);
        let bytes = [long(signed), rest].concat();
        let mut input = Input { bytes: &bytes, at: 0 };
        prop_assert_eq!((input.long(), input.at), (Ok(signed), long(signed).len()));
    }
}

#[test]
fn what_is_wrong_with_a_record_is_said() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"n","type":["null","int"]},{"name":"t","type":"string"}]}"#;
    let mut resolved = Resolved::new(text, None, None, Wrap::Record).unwrap();
    assert!(resolved.is_flat());
    for (bytes, says) in [
        (&[][..], "the record ends too early"),
        (&[2, 0x80], "the record ends too early"),
        (&[2, 0x80, 0x80, 0x80, 0x80, 0x20], "the number 4294967296 is no int"),
        (&[2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02], "a number has more than 64 bits"),
        (&[2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], "an int has more than 5 bytes"),
        (&[1, 0], "a field is of a type that its union does not have"),
        (&[4, 0, 0], "a field is of a type that its union does not have"),
        (&[0, 8, b'a', b'b'], "the record ends too early: it claims 4 bytes of the 2 that are left"),
        (&[0, 1], "the record ends too early: it claims -1 bytes of the 0 that are left"),
        (&[0, 0, 0], "the record is longer than its schema says"),
        (&[0, 2, 0xFF], "UTF-8"),
    ] {
        let why = resolved.rows([bytes].into_iter()).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
    // And it goes on.
    let rows = resolved.rows([&[2, 84, 2, b'x'][..]].into_iter()).unwrap();
    assert_eq!((rows.num_rows(), rows["t"].as_string::<i32>().value(0)), (1, "x"));
}

#[test]
fn what_holds_more_is_left_to_arrow_avro() {
    for kind in [
        json!({"type": "array", "items": "int"}),
        json!(["null", "int", "string"]),
        json!({"type": "fixed", "name": "F", "size": 3}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}),
        json!({"type": "string", "logicalType": "uuid"}),
        json!({"type": "record", "name": "Of", "fields": [{"name": "x", "type": "int"}]}),
    ] {
        let text = json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]}).to_string();
        assert!(!Resolved::new(&text, None, None, Wrap::Record).unwrap().is_flat(), "{text}");
    }
}
