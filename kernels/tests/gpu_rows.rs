//! Rows that are selected, ordered and smoothed on the GPU against the scalar twins, on whatever adapter there is, software ones included.
//! Without an adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use support::{open, open_with, property, software};
use testing::{Case, any_case, scramble, seeds};
use thalweg_kernels::gpu::{Engine, Fault, Options};
use thalweg_kernels::{Backend, Bits, hash_keys, part_of, prefix_sum_u32, prefix_sum_u64};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("selections_agree", || on_seeds(&software(), 7, check_selections)),
        ("selections_agree_in_short_uploads", || on_seeds(&short(), 19, check_selections)),
        ("selections_agree_on_random_columns", || on_random_columns(check_selections)),
        ("partitions_agree", || on_seeds(&software(), 7, check_partitions)),
        ("partitions_agree_in_short_uploads", || on_seeds(&short(), 19, check_partitions)),
        ("partitions_agree_on_random_columns", || on_random_columns(check_partitions)),
        ("prefix_sums_agree", || on_seeds(&software(), 7, check_sums)),
        ("prefix_sums_agree_in_short_uploads", || on_seeds(&short(), 19, check_sums)),
        ("levels_agree", || on_seeds(&software(), 7, check_levels)),
        ("levels_agree_in_short_uploads", || on_seeds(&Options { batch_rows: 150, ..software() }, 19, check_levels)),
        ("levels_agree_on_random_columns", || on_random_columns(check_levels)),
        ("columns_of_many_tiles_agree", many_tiles),
        ("what_cannot_be_taken_is_refused", refusals),
        ("a_lost_device_is_an_error", a_lost_device),
        ("columns_that_do_not_fit_panic", columns_that_do_not_fit),
    ];
    support::run(tests);
}

/// Uploads of few tiles.
fn short() -> Options {
    Options { batch_rows: 700, ..software() }
}

type Check = fn(&Engine, &Case);

fn on_seeds(options: &Options, step: usize, check: Check) {
    let engine = open_with(options);
    seeds().step_by(step).for_each(|case| check(&engine, &case));
    assert_eq!(engine.fault(), None);
}

fn on_random_columns(check: Check) {
    let engine = open();
    let result = property(60).run(&any_case(), |case| {
        check(&engine, &case);
        Ok(())
    });
    result.unwrap();
    assert_eq!(engine.fault(), None);
}

fn check_selection<T: bytemuck::Pod + PartialEq>(engine: &Engine, values: &[T], selection: Bits<'_>) {
    let (mut selected, mut expected) = (values[..values.len().min(1)].to_vec(), values[..values.len().min(1)].to_vec());
    engine.compact(values, selection, &mut selected).unwrap();
    Backend::Scalar.compact(values, selection, &mut expected);
    assert!(selected == expected);
    let [mut selected, mut expected, mut others, mut expected_others] = [0; 4].map(|_| Vec::new());
    engine.split(values, selection, &mut others, &mut selected).unwrap();
    Backend::Scalar.split(values, selection, &mut expected_others, &mut expected);
    assert!(selected == expected && others == expected_others);
}

fn check_selections(engine: &Engine, case: &Case) {
    let (len, bytes) = (case.slots.len(), case.bitmap.len());
    // As sparse or dense as the seed has it, none, all, and stretches of each.
    let stretches: Vec<u8> = (0..bytes).map(|byte| [0, 0xff, case.bitmap[byte]][byte / 20 % 3]).collect();
    for bytes in [&case.bitmap, &vec![0; bytes], &vec![0xff; bytes], &stretches] {
        let selection = Bits { bytes, offset: case.offset, len };
        let (mut rows, mut expected) = (vec![7], vec![7]);
        engine.selected_rows(selection, &mut rows).unwrap();
        Backend::Scalar.selected_rows(selection, &mut expected);
        assert!(rows == expected);
        check_selection(engine, &case.ints, selection);
        check_selection(engine, &case.slots, selection);
    }
}

fn check_partition(engine: &Engine, hashes: &[u64], parts: usize) {
    let (mut starts, mut expected_starts) = (vec![9; parts + 1], vec![9; parts + 1]);
    let (mut rows, mut expected) = (vec![9; hashes.len()], vec![9; hashes.len()]);
    Backend::Scalar.partition_rows(hashes, &mut expected_starts, &mut expected);
    engine.partition_rows(hashes, &mut starts, &mut rows).unwrap();
    assert!(starts == expected_starts && rows == expected, "{parts} parts of {} rows", rows.len());
    let of_rows: Vec<u32> = hashes.iter().map(|&hash| part_of(hash, parts as u32)).collect();
    rows.fill(9);
    engine.order_by_part(&of_rows, &mut starts, &mut rows).unwrap();
    assert!(starts == expected_starts && rows == expected, "{parts} parts of {} rows", rows.len());
}

fn check_partitions(engine: &Engine, case: &Case) {
    let mut hashes = vec![0; case.ints.len()];
    hash_keys(&case.ints, &mut hashes);
    let by_slot: Vec<u64> = case.slots.iter().map(|&slot| u64::from(slot) << 40).collect();
    let edges: Vec<u64> = case.ints.iter().map(|&int| int as u64).collect();
    let parts = [1, 2, 3, 8, 255, 256, 257, 1000][case.slots.len() % 8];
    [&hashes, &by_slot, &edges].into_iter().for_each(|hashes| check_partition(engine, hashes, parts));
}

fn check_sums(engine: &Engine, case: &Case) {
    let mut wide: Vec<u64> = case.ints.iter().map(|&int| int as u64).collect();
    let mut narrow: Vec<u32> = case.ints.iter().map(|&int| int as u32).collect();
    let (mut expected_wide, mut expected) = (wide.clone(), narrow.clone());
    assert_eq!(engine.prefix_sum_u32(&mut narrow).unwrap(), prefix_sum_u32(&mut expected));
    assert_eq!(engine.prefix_sum_u64(&mut wide).unwrap(), prefix_sum_u64(&mut expected_wide));
    assert!(narrow == expected && wide == expected_wide);
}

/// Levels against the processor's, within what `Engine::smooth` promises; batch after batch from levels of its own.
fn check_levels(engine: &Engine, case: &Case) {
    let (groups, rows) = (case.groups as usize, case.slots.len());
    let alpha = [0.05, 0.5, 1.0][rows % 3];
    let (mut levels, mut expected_levels) = (vec![f64::NAN; groups], vec![f64::NAN; groups]);
    let (mut smoothed, mut expected) = (vec![9.0; rows], vec![9.0; rows]);
    for (from, to) in [(0, rows / 3), (rows / 3, rows)] {
        let validity = case.validity().map(|bits| Bits { offset: bits.offset + from, len: to - from, ..bits });
        let (slots, values) = (&case.slots[from..to], &case.floats[from..to]);
        engine.smooth(&mut levels, slots, values, validity, alpha, &mut smoothed[from..to]).unwrap();
        Backend::Scalar.smooth(&mut expected_levels, slots, values, validity, alpha, &mut expected[from..to]);
    }
    let mut largest = vec![0.0_f64; groups];
    for row in 0..rows {
        let slot = case.slots[row] as usize;
        if case.valid(row) && case.floats[row].is_finite() {
            largest[slot] = largest[slot].max(case.floats[row].abs());
        }
        let (got, expected, bound) = (smoothed[row], expected[row], 1e-15 / alpha * largest[slot]);
        let near = (got - expected).abs() <= bound || got == expected || got.is_nan() && expected.is_nan();
        assert!(near, "row {row}: {got:e} is not {expected:e} within {bound:e}");
    }
    for ((got, expected), largest) in levels.iter().zip(&expected_levels).zip(largest) {
        assert!((got - expected).abs() <= 1e-15 / alpha * largest || got == expected || got.is_nan() && expected.is_nan());
    }
}

/// More tiles than a workgroup has threads, and more parts.
fn many_tiles() {
    let engine = open();
    let rows = 90_001;
    let hashes: Vec<u64> = (0..rows).map(scramble).collect();
    check_partition(&engine, &hashes, 3000);
    check_partition(&engine, &hashes, 7);
    // The first and the last hash of each part.
    for parts in [3_u64, 7, 1000] {
        let begin = |part: u64| (u128::from(part) << 64).div_ceil(u128::from(parts)) as u64;
        let edges: Vec<u64> = (0..parts).flat_map(|part| [begin(part), begin(part).wrapping_sub(1)]).collect();
        check_partition(&engine, &edges, parts as usize);
    }
    let bytes: Vec<u8> = hashes.iter().map(|hash| (hash >> 8) as u8).collect();
    let selection = Bits { bytes: &bytes, offset: 3, len: rows as usize };
    check_selection(&engine, &hashes, selection);
    let (mut wide, mut expected) = (hashes.clone(), hashes);
    assert_eq!(engine.prefix_sum_u64(&mut wide).unwrap(), prefix_sum_u64(&mut expected));
    assert!(wide == expected);
}

fn refusals() {
    let engine = open();
    let selection = Bits { bytes: &[0xff], offset: 0, len: 3 };
    assert_eq!(engine.compact(&[1u8, 2, 3], selection, &mut Vec::new()).unwrap_err().fault(), Fault::Limit);
    let mut starts = vec![0; (1 << 20) + 2];
    assert_eq!(engine.order_by_part(&[0; 3], &mut starts, &mut [0; 3]).unwrap_err().fault(), Fault::Limit);
    let tiny = open_with(&Options { batch_rows: 10, ..software() });
    assert_eq!(tiny.selected_rows(selection, &mut Vec::new()).unwrap_err().fault(), Fault::Limit);
    let full = open_with(&Options { memory: engine.memory_in_use() + 1000, ..software() });
    let mut sums = [1, 2, 3];
    assert_eq!(full.prefix_sum_u32(&mut sums).unwrap_err().fault(), Fault::Memory);
    assert_eq!(sums, [1, 2, 3]);
    assert!([engine, tiny, full].iter().all(|engine| engine.fault().is_none()), "a refusal ends nothing");
}

fn a_lost_device() {
    let engine = open();
    engine.lose();
    let selection = Bits { bytes: &[0xff], offset: 0, len: 3 };
    let (mut rows, mut levels) = (vec![7], [f64::NAN; 2]);
    assert_eq!(engine.selected_rows(selection, &mut rows).unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.partition_rows(&[1, 2], &mut [0; 3], &mut [0; 2]).unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.prefix_sum_u64(&mut [1, 2]).unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.smooth(&mut levels, &[0, 1], &[1.0, 2.0], None, 0.5, &mut [0.0; 2]).unwrap_err().fault(), Fault::Lost);
    assert!(rows == [7] && levels.iter().all(|level| level.is_nan()));
}

fn columns_that_do_not_fit() {
    let engine = open();
    let panics = |call: &dyn Fn() -> bool| catch_unwind(AssertUnwindSafe(call)).is_err();
    let selection = Bits { bytes: &[0xff], offset: 0, len: 3 };
    assert!(panics(&|| engine.compact(&[1, 2], selection, &mut Vec::new()).is_ok()));
    assert!(panics(&|| engine.selected_rows(Bits { offset: 6, ..selection }, &mut Vec::new()).is_ok()));
    assert!(panics(&|| engine.partition_rows(&[1], &mut [0; 1], &mut [0; 1]).is_ok()));
    assert!(panics(&|| engine.order_by_part(&[2, 0], &mut [0; 3], &mut [0; 2]).is_ok()));
    assert!(panics(&|| engine.smooth(&mut [0.0], &[1], &[1.0], None, 0.5, &mut [0.0]).is_ok()));
}
