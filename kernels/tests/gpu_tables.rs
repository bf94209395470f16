//! Registers, buckets and histograms on the GPU against the scalar twins, bit for bit, on whatever adapter there is, software ones
//! included. Without an adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use support::{open, open_with, property, software};
use testing::{Case, any_case, seeds};
use thalweg_kernels::gpu::{Engine, Fault, Options};
use thalweg_kernels::{Backend, Bins, Bits, DdHead, DdLayout, Hash, ddsketch_merge, hll_merge};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("registers_agree", || on_seeds(&software(), 5, check_registers)),
        ("registers_agree_in_short_uploads", || on_seeds(&Options { batch_rows: 100, ..software() }, 23, check_registers)),
        ("registers_agree_on_random_columns", || on_random_columns(check_registers)),
        ("every_value_of_a_register", every_value_of_a_register),
        ("buckets_agree", || on_seeds(&software(), 5, check_buckets)),
        ("buckets_agree_in_short_uploads", || on_seeds(&Options { batch_rows: 100, ..software() }, 23, check_buckets)),
        ("buckets_agree_on_random_columns", || on_random_columns(check_buckets)),
        ("windows_of_buckets_move_up", windows_move_up),
        ("counters_carry", counters_carry),
        ("histograms_agree", || on_seeds(&software(), 5, check_histograms)),
        ("histograms_agree_in_short_uploads", || on_seeds(&Options { batch_rows: 100, ..software() }, 23, check_histograms)),
        ("histograms_agree_on_random_columns", || on_random_columns(check_histograms)),
        ("values_at_the_edges_of_bins", values_at_edges),
        ("stray_slots_panic_and_those_of_null_rows_do_not", stray_slots),
        ("tables_beyond_the_limits_are_refused", beyond_the_limits),
        ("a_lost_device_is_an_error", a_lost_device),
    ];
    support::run(tests);
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

/// The batches of a case: two, which a table takes one after the other, and one for another table.
fn parts(case: &Case) -> [std::ops::Range<usize>; 3] {
    let (one, two, rows) = (case.slots.len() / 3, case.slots.len() * 3 / 4, case.slots.len());
    [0..one, one..two, two..rows]
}

fn validity<'a>(case: &'a Case, part: &std::ops::Range<usize>) -> Option<Bits<'a>> {
    case.validity().map(|bits| Bits { offset: bits.offset + part.start, len: part.len(), ..bits })
}

fn check_registers(engine: &Engine, case: &Case) {
    let mut hashes = vec![0; case.ints.len()];
    Backend::Scalar.hash_i64(&case.ints, Hash::Seeded(3), &mut hashes);
    // Words of the edges among them: all zeros, all ones.
    hashes.iter_mut().zip(&case.ints).filter(|(_, n)| *n % 7 == 0).for_each(|(hash, n)| *hash = *n as u64);
    let lg_k = if case.groups > 1000 { 4 } else { 4 + case.slots.len() as u32 % 4 };
    let registers = (case.groups as usize) << lg_k;
    let mut tables = [engine.hll_table(lg_k, case.groups as usize).unwrap(), engine.hll_table(lg_k, case.groups as usize).unwrap()];
    for (part, table) in parts(case).into_iter().zip([0, 0, 1]) {
        tables[table].update(&case.slots[part.clone()], &hashes[part.clone()], validity(case, &part)).unwrap();
    }
    let [mut table, other] = tables;
    table.merge(&other).unwrap();
    let (mut got, mut expected) = (vec![1; registers], vec![0; registers]);
    table.read_into(&mut got).unwrap();
    Backend::Scalar.hll_update(&mut expected, lg_k, &case.slots, &hashes, case.validity());
    hll_merge(&mut expected, &vec![1; registers]);
    assert!(got == expected, "lg_k {lg_k}");
    // A read leaves none.
    let mut empty = vec![0; registers];
    table.read_into(&mut empty).unwrap();
    assert!(empty.iter().all(|register| *register == 0));
}

fn every_value_of_a_register() {
    let engine = open();
    let hashes: Vec<u64> = (0..=64).map(|zeros| u64::MAX.checked_shr(zeros).unwrap_or(0)).chain([1 << 26, (1 << 26) - 1]).collect();
    let slots: Vec<u32> = (0..hashes.len() as u32).collect();
    let mut table = engine.hll_table(4, hashes.len()).unwrap();
    table.update(&slots, &hashes, None).unwrap();
    let (mut got, mut expected) = (vec![0; hashes.len() << 4], vec![0; hashes.len() << 4]);
    table.read_into(&mut got).unwrap();
    Backend::Scalar.hll_update(&mut expected, 4, &slots, &hashes, None);
    assert!(got == expected);
}

/// A table of the processor: heads and counters.
type Table = (Vec<DdHead>, Vec<u64>);

fn empty(layout: &DdLayout, groups: usize) -> Table {
    (vec![DdHead::EMPTY; groups], vec![0; groups * layout.counts_per_group()])
}

fn check_buckets(engine: &Engine, case: &Case) {
    // Counters of a few groups alone find room.
    let groups = case.groups.min(100) as usize;
    let slots: Vec<u32> = case.slots.iter().map(|slot| slot % 100).collect();
    let layout = [DdLayout::new(0.01, 64), DdLayout::new(0.5, 16), DdLayout::new(0.002, 256)][case.slots.len() % 3];
    let mut tables = [engine.ddsketch_table(&layout, groups).unwrap(), engine.ddsketch_table(&layout, groups).unwrap()];
    let mut expected = [empty(&layout, groups), empty(&layout, groups)];
    for (part, at) in parts(case).into_iter().zip([0, 0, 1]) {
        let (slots, values) = (&slots[part.clone()], &case.floats[part.clone()]);
        tables[at].update(slots, values, validity(case, &part)).unwrap();
        let (heads, counts) = &mut expected[at];
        Backend::Scalar.ddsketch_update(&layout, heads, counts, slots, values, validity(case, &part));
    }
    let [mut table, mut other] = tables;
    let [(mut heads, mut counts), (other_heads, other_counts)] = expected;
    table.merge(&other).unwrap();
    // The other one keeps its rows.
    let mut got = empty(&layout, groups);
    other.read_into(&mut got.0, &mut got.1).unwrap();
    assert!(got.0 == other_heads && got.1 == other_counts, "{layout:?}");
    ddsketch_merge(&layout, &mut heads, &mut counts, &other_heads, &other_counts);
    let mut got = empty(&layout, groups);
    table.read_into(&mut got.0, &mut got.1).unwrap();
    assert!(got.0 == heads, "{layout:?}: {:?} is not {heads:?}", got.0);
    assert!(got.1 == counts, "{layout:?}");
    let mut got = empty(&layout, groups);
    table.read_into(&mut got.0, &mut got.1).unwrap();
    assert!(got == empty(&layout, groups), "a read leaves none");
}

/// Batch after batch in other ranges: windows that move by less than their size, by more, and not at all; then merged either way.
fn windows_move_up() {
    let engine = open();
    let layout = DdLayout::new(0.05, 16);
    for salt in 0..40_u64 {
        let mut tables = [0; 2].map(|_| engine.ddsketch_table(&layout, 2).unwrap());
        let mut expected = [empty(&layout, 2), empty(&layout, 2)];
        for batch in 0..6 {
            let random = |row: u64| testing::scramble(salt * 1000 + batch * 100 + row);
            let level = 10f64.powi((random(99) % 9) as i32 - 4);
            let values: Vec<f64> =
                (0..90).map(|row| level * (1.0 + (random(row) % 100) as f64) * if row % 3 == 0 { -1.0 } else { 1.0 }).collect();
            let slots: Vec<u32> = (0..90).map(|row| (random(row) >> 20) as u32 % 2).collect();
            let at = batch as usize % 2;
            tables[at].update(&slots, &values, None).unwrap();
            Backend::Scalar.ddsketch_update(&layout, &mut expected[at].0, &mut expected[at].1, &slots, &values, None);
        }
        let [mut table, other] = tables;
        let [(mut heads, mut counts), (other_heads, other_counts)] = expected;
        table.merge(&other).unwrap();
        ddsketch_merge(&layout, &mut heads, &mut counts, &other_heads, &other_counts);
        let mut got = empty(&layout, 2);
        table.read_into(&mut got.0, &mut got.1).unwrap();
        assert!(got == (heads, counts), "{salt}");
    }
}

/// Tables that are merged with each other in turn double their counts: past 32 bits.
fn counters_carry() {
    let engine = open();
    let layout = DdLayout::new(0.05, 16);
    let mut tables = [0; 2].map(|_| engine.ddsketch_table(&layout, 1).unwrap());
    let values = [3.0, 3.0, 3.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -7.0];
    let mut expected = [empty(&layout, 1), empty(&layout, 1)];
    for at in 0..2 {
        tables[at].update(&[0; 8], &values, None).unwrap();
        Backend::Scalar.ddsketch_update(&layout, &mut expected[at].0, &mut expected[at].1, &[0; 8], &values, None);
    }
    for turn in 0..60 {
        let ([a, b], [(heads, counts), (from_heads, from_counts)]) = (&mut tables, &mut expected);
        if turn % 2 == 0 {
            a.merge(b).unwrap();
            ddsketch_merge(&layout, heads, counts, from_heads, from_counts);
        } else {
            b.merge(a).unwrap();
            ddsketch_merge(&layout, from_heads, from_counts, heads, counts);
        }
    }
    for (mut table, expected) in tables.into_iter().zip(expected) {
        let mut got = empty(&layout, 1);
        table.read_into(&mut got.0, &mut got.1).unwrap();
        assert!(got == expected && layout.count(&got.0[0], &got.1) > 1 << 40);
    }
}

const EDGES: [f64; 8] = [-1e300, -1.0, -0.0, 5e-324, 0.1, 1e6, 3e6, f64::INFINITY];

fn bins() -> [Bins<'static>; 5] {
    [
        Bins::Equal { low: -4e6, high: 5e6, bins: 20 },
        Bins::Equal { low: -1.0, high: 1.0, bins: 1 },
        Bins::Equal { low: 0.1, high: 1e300, bins: 1000 },
        Bins::Edges(&EDGES),
        Bins::Edges(EDGES.split_at(2).1.split_at(2).0),
    ]
}

fn check_bins(engine: &Engine, case: &Case, bins: Bins<'_>) {
    let groups = case.groups.min(100) as usize;
    let slots: Vec<u32> = case.slots.iter().map(|slot| slot % 100).collect();
    let mut table = engine.histogram_table(bins, groups).unwrap();
    for part in parts(case) {
        table.count(&slots[part.clone()], &case.floats[part.clone()], validity(case, &part)).unwrap();
    }
    let (mut counts, mut expected) = (vec![1; groups * bins.cells()], vec![1; groups * bins.cells()]);
    table.read_into(&mut counts).unwrap();
    Backend::Scalar.histogram(&mut expected, &slots, &case.floats, case.validity(), bins);
    assert!(counts == expected, "{bins:?}");
    table.read_into(&mut counts).unwrap();
    assert!(counts == expected, "a read leaves none");
}

fn check_histograms(engine: &Engine, case: &Case) {
    check_bins(engine, case, bins()[case.slots.len() % 5]);
}

/// Values at and beside the edges of bins that no float is the width of, where rounding decides.
fn values_at_edges() {
    let engine = open();
    for (low, high, count) in
        [(0.0, 1.0, 10), (0.1, 0.7, 3), (-0.3, 1e-3, 97), (1e15, 1e15 + 40.0, 50), (-0.0, 5e-324, 4), (-1e308, 7e307, 1000)]
    {
        let beside = |value: f64| [value.next_down().next_down(), value.next_down(), value, value.next_up(), value.next_up().next_up()];
        let width = (high - low) / f64::from(count);
        let floats: Vec<f64> = (0..=count).flat_map(|bin| beside(low + f64::from(bin) * width)).collect();
        let rows = floats.len();
        let case = Case { groups: 1, slots: vec![0; rows], ints: vec![], floats, bitmap: vec![], offset: 0, nulls: false };
        check_bins(&engine, &case, Bins::Equal { low, high, bins: count });
    }
}

fn stray_slots() {
    let engine = open();
    let nulls = Some(Bits { bytes: &[0b101], offset: 0, len: 3 });
    let layout = DdLayout::new(0.05, 16);
    let mut registers = engine.hll_table(4, 2).unwrap();
    let mut buckets = engine.ddsketch_table(&layout, 2).unwrap();
    let mut histogram = engine.histogram_table(Bins::Edges(&[0.0, 1.0]), 2).unwrap();
    registers.update(&[0, u32::MAX, 1], &[1; 3], nulls).unwrap();
    buckets.update(&[0, 2, 1], &[1.0; 3], nulls).unwrap();
    histogram.count(&[0, 2, 1], &[1.0; 3], nulls).unwrap();
    let mut panics = |slots: &[u32]| {
        [
            catch_unwind(AssertUnwindSafe(|| registers.update(slots, &[1; 3], None))).is_err(),
            catch_unwind(AssertUnwindSafe(|| buckets.update(slots, &[1.0; 3], None))).is_err(),
            catch_unwind(AssertUnwindSafe(|| histogram.count(slots, &[1.0; 3], None))).is_err(),
        ]
    };
    assert_eq!(panics(&[0, 2, 1]), [true; 3]);
    assert_eq!(panics(&[0, 1]), [true; 3]);
    let mut counts = [0; 8];
    histogram.read_into(&mut counts).unwrap();
    assert_eq!(counts, [0, 0, 1, 0, 0, 0, 1, 0]);
}

fn beyond_the_limits() {
    let engine = open_with(&Options { binding_limit: Some(4096), ..software() });
    let layout = DdLayout::new(0.05, 16);
    assert_eq!(engine.hll_table(4, 65).unwrap_err().fault(), Fault::Limit);
    assert_eq!(engine.ddsketch_table(&layout, 13).unwrap_err().fault(), Fault::Limit);
    assert_eq!(engine.histogram_table(Bins::Edges(&[0.0, 1.0]), 129).unwrap_err().fault(), Fault::Limit);
    assert_eq!(engine.histogram_table(Bins::Equal { low: 0.0, high: 1.0, bins: 1 << 17 }, 0).unwrap_err().fault(), Fault::Limit);
    engine.hll_table(4, 64).unwrap();
    let engine = open_with(&Options { memory: open().memory_in_use() + 1000, ..software() });
    let before = engine.memory_in_use();
    assert_eq!(engine.hll_table(4, 64).unwrap_err().fault(), Fault::Memory);
    assert_eq!(engine.ddsketch_table(&layout, 13).unwrap_err().fault(), Fault::Memory);
    assert_eq!(engine.histogram_table(Bins::Edges(&[0.0, 1.0]), 129).unwrap_err().fault(), Fault::Memory);
    assert_eq!((engine.memory_in_use(), engine.fault()), (before, None));
}

fn a_lost_device() {
    let engine = open();
    let mut table = engine.hll_table(4, 2).unwrap();
    table.update(&[0, 1], &[3, 4], None).unwrap();
    engine.lose();
    let mut registers = [0; 32];
    assert_eq!(table.read_into(&mut registers).unwrap_err().fault(), Fault::Lost);
    assert_eq!(registers, [0; 32]);
    let mut later = || (0..3).try_for_each(|_| table.update(&[0], &[1], None));
    assert_eq!(later().unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.hll_table(4, 2).unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.ddsketch_table(&DdLayout::new(0.05, 16), 2).unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.histogram_table(Bins::Edges(&[0.0, 1.0]), 2).unwrap_err().fault(), Fault::Lost);
}
