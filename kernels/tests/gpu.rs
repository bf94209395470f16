//! The GPU engine against the scalar twin, on whatever adapter there is, software ones included. Without an adapter the
//! tests show as ignored.

#![allow(clippy::unwrap_used)]

use std::cell::Cell as Counter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use support::{open, property, software};
use testing::{Case, any_case, same, seeds};
use thalweg_kernels::gpu::{Accumulator, AdapterKind, Engine, Fault, Options, Table, adapters};
use thalweg_kernels::placement::Transfer;
use thalweg_kernels::{Backend, Bits, Cell, Want, scalar};

#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../src/testing.rs"]
mod testing;

mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("agrees_with_subgroups", || agree(&Options { subgroups: true, ..software() }, 1)),
        ("agrees_without_subgroups", || agree(&Options { subgroups: false, ..software() }, 3)),
        ("agrees_in_the_table_itself", || agree(&Options { private_words: 0, ..software() }, 3)),
        ("agrees_in_short_uploads", || agree(&Options { batch_rows: 100, ..software() }, 7)),
        ("agrees_on_random_columns", agree_on_random_columns),
        ("sums_are_the_nearest_floats", sums_are_the_nearest_floats),
        ("many_rows_of_few_groups", many_rows_of_few_groups),
        ("accumulators_stay_on_the_device_and_grow", accumulators_stay_and_grow),
        ("tables_combine", tables_combine),
        ("trillions_of_rows_fit", trillions_of_rows_fit),
        ("a_read_takes_what_came_before_it", a_read_takes_what_came_before_it),
        ("a_stray_slot_panics_and_one_of_a_null_row_does_not", stray_slots),
        ("software_adapters_are_refused_unless_allowed", software_is_refused),
        ("a_budget_refuses_tables_and_gives_back_what_is_dropped", budget),
        ("threads_share_an_engine", threads_share_an_engine),
        ("costs_are_measured", costs_are_measured),
        ("a_limit_refuses_tables", limits),
        ("a_lost_device_is_an_error", a_lost_device_is_an_error),
        ("an_accumulator_outlives_its_device", an_accumulator_outlives_its_device),
        ("an_accumulator_does_without_memory", an_accumulator_does_without_memory),
        ("an_accumulator_reads_back_in_time", an_accumulator_reads_back_in_time),
    ];
    support::run(tests);
}

const WANTS: [Want; 4] = [Want::ALL, Want { sum: true, order: false }, Want { sum: false, order: true }, Want { sum: false, order: false }];

/// The exact sum of finite values, rounded once: Shewchuk's partials, as Python's `fsum`.
fn nearest_sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for mut x in values {
        let mut kept = 0;
        for index in 0..partials.len() {
            let y = partials[index];
            let (large, small) = if x.abs() < y.abs() { (y, x) } else { (x, y) };
            let sum = large + small;
            let error = small - (sum - large);
            if error != 0.0 {
                partials[kept] = error;
                kept += 1;
            }
            x = sum;
        }
        partials.truncate(kept);
        partials.push(x);
    }
    let mut sum = 0.0;
    let mut error = 0.0;
    while let Some(next) = partials.pop() {
        let total = sum + next;
        error = next - (total - sum);
        sum = total;
        if error != 0.0 {
            break;
        }
    }
    // Halfway, and more in the same direction below: the tie was none.
    if let Some(below) = partials.last().filter(|below| (error < 0.0) == (**below < 0.0) && error != 0.0) {
        let twice = error * 2.0;
        let further = sum + twice;
        if *below != 0.0 && further - sum == twice {
            return further;
        }
    }
    sum
}

fn assert_floats(case: &Case, cells: &[Cell], want: Want) {
    let mut expected = vec![Cell::EMPTY; case.groups as usize];
    scalar::aggregate::accumulate(&mut expected, &case.slots, &case.floats, case.validity(), want);
    let mut values = vec![Vec::new(); case.groups as usize];
    for row in (0..case.slots.len()).filter(|row| case.valid(*row)) {
        values[case.slots[row] as usize].push(case.floats[row]);
    }
    for ((cell, expected), values) in cells.iter().zip(&expected).zip(&values) {
        assert_eq!((cell.count, cell.min, cell.max), (expected.count, expected.min, expected.max));
        if want.sum && values.iter().all(|value| value.is_finite()) {
            let nearest = nearest_sum(values.iter().copied());
            assert!(same(cell.float_sum(), nearest), "{:e} is not {nearest:e}, the sum of {values:?}", cell.float_sum());
        } else {
            assert!(same(cell.float_sum(), expected.float_sum()), "{:e} for {:e}", cell.float_sum(), expected.float_sum());
        }
    }
}

fn check(engine: &Engine, case: &Case, want: Want) {
    let groups = case.groups as usize;
    let mut cells = vec![Cell::EMPTY; groups];
    let mut table = engine.table::<f64>(groups, want).unwrap();
    table.accumulate(&case.slots, &case.floats, case.validity()).unwrap();
    table.read_into(&mut cells).unwrap();
    assert_floats(case, &cells, want);

    let mut cells = vec![Cell::EMPTY; groups];
    let mut table = engine.table::<i64>(groups, want).unwrap();
    table.accumulate(&case.slots, &case.ints, case.validity()).unwrap();
    table.read_into(&mut cells).unwrap();
    let mut expected = vec![Cell::EMPTY; groups];
    scalar::aggregate::accumulate(&mut expected, &case.slots, &case.ints, case.validity(), want);
    assert!(cells == expected, "{want:?}");

    if case.groups == 1 {
        let mut cells = [Cell::EMPTY];
        let mut table = engine.table::<f64>(1, want).unwrap();
        table.fold(&case.floats, case.validity()).unwrap();
        table.read_into(&mut cells).unwrap();
        assert_floats(case, &cells, want);
    }
    if want == Want::ALL {
        let (mut counts, mut expected) = (vec![1; groups], vec![1; groups]);
        let mut table = engine.counts(groups).unwrap();
        table.accumulate(&case.slots).unwrap();
        table.read_into(&mut counts).unwrap();
        scalar::aggregate::accumulate_count(&mut expected, &case.slots);
        assert!(counts == expected);
    }
}

/// Every `step`th case of the table of seeds, each with one of the wants in turn.
fn agree(options: &Options, step: usize) {
    let engine = Engine::open(options).unwrap();
    if !engine.uses_subgroups() {
        assert!(!options.subgroups || engine.adapter().subgroups.is_none());
    }
    for (index, case) in seeds().enumerate().step_by(step) {
        check(&engine, &case, WANTS[index / step % WANTS.len()]);
    }
    assert_eq!(engine.fault(), None);
}

fn agree_on_random_columns() {
    let engine = open();
    let index = Counter::new(0);
    let result = property(100).run(&any_case(), |case| {
        index.set(index.get() + 1);
        check(&engine, &case, WANTS[index.get() % WANTS.len()]);
        Ok(())
    });
    result.unwrap();
}

fn of(engine: &Engine, values: &[f64]) -> Cell {
    let mut cells = [Cell::EMPTY];
    let mut table = engine.table::<f64>(1, Want::ALL).unwrap();
    table.fold(values, None).unwrap();
    table.read_into(&mut cells).unwrap();
    cells[0]
}

fn sums_are_the_nearest_floats() {
    let engine = open();
    let large_and_small: Vec<f64> = [1e16].into_iter().chain([1.0; 10_000]).chain([-1e16]).collect();
    assert_eq!(of(&engine, &large_and_small).float_sum(), 10_000.0);
    assert_eq!(of(&engine, &[f64::MAX, 5e-324, -f64::MAX]).float_sum(), 5e-324);
    assert_eq!(of(&engine, &[0.1; 100_000]).float_sum(), 10_000.0);
    assert_eq!(of(&engine, &[1.0, -1.0].repeat(50_000)).float_sum().to_bits(), 0);
    let zeros = of(&engine, &[0.0, -0.0]);
    assert!(same(zeros.float_min(), -0.0) && same(zeros.float_max(), 0.0) && same(zeros.float_sum(), 0.0));
}

/// Carries across every limb boundary, in many workgroups at once, and against each other.
fn many_rows_of_few_groups() {
    for options in [software(), Options { subgroups: false, ..software() }, Options { private_words: 0, ..software() }] {
        let engine = Engine::open(&options).unwrap();
        let rows = 200_000;
        let slots: Vec<u32> = (0..rows as u32).map(|row| row / 700 % 3).collect();
        let random = |row: usize| testing::scramble(row as u64);
        let floats = (0..rows).map(|row| (random(row) as i64 >> (row % 50)) as f64 * 2f64.powi((row % 90) as i32 - 100)).collect();
        let ints = (0..rows).map(|row| if row % 2 == 0 { i64::MAX - (random(row) >> 40) as i64 } else { random(row) as i64 }).collect();
        let case = Case { groups: 3, slots, floats, ints, bitmap: vec![0xb7; rows / 8 + 1], offset: 3, nulls: true };
        check(&engine, &case, Want::ALL);
        check(&engine, &Case { nulls: false, ..case }, Want::ALL);
    }
}

fn accumulate(table: &mut Table<f64>, case: &Case) {
    table.accumulate(&case.slots, &case.floats, case.validity()).unwrap();
}

/// Batches of growing spread and groups in one table are one batch.
fn accumulators_stay_and_grow() {
    let engine = open();
    let mut whole = Case { groups: 900, slots: vec![], floats: vec![], ints: vec![], bitmap: vec![], offset: 0, nulls: false };
    let mut table = engine.table::<f64>(3, Want::ALL).unwrap();
    for batch in 0..40usize {
        let groups = 3 + batch * 20;
        table.grow(groups).unwrap();
        table.grow(2).unwrap();
        assert_eq!(table.groups(), groups);
        let random = |row: usize| testing::scramble((batch * 1000 + row) as u64);
        let slots = (0..500).map(|row| (random(row) % groups as u64) as u32).collect();
        let floats = (0..500).map(|row| (random(row) >> 9) as f64 * 2f64.powi((row % (1 + batch * 8)) as i32 * 3 - 80)).collect();
        let case = Case { slots, floats, ..whole.clone() };
        accumulate(&mut table, &case);
        whole.slots.extend(case.slots);
        whole.floats.extend(case.floats);
        if batch == 25 {
            table.start_read().unwrap();
        }
    }
    let mut cells = vec![Cell::EMPTY; 900];
    table.read_into(&mut cells).unwrap();
    table.read_into(&mut cells).unwrap();
    for (slot, cell) in cells.iter().enumerate() {
        let values: Vec<f64> =
            (0..whole.slots.len()).filter(|row| whole.slots[*row] as usize == slot).map(|row| whole.floats[row]).collect();
        let exact = nearest_sum(values.iter().copied());
        let magnitudes: f64 = values.iter().map(|value| value.abs()).sum();
        assert_eq!(cell.count, values.len() as u64);
        assert!((cell.float_sum() - exact).abs() <= 1e-15 * magnitudes, "{:e} for {exact:e}", cell.float_sum());
    }
}

/// Two batches into panes of their own, combined, are one batch; of windows and groups that differ as well.
fn tables_combine() {
    let engine = open();
    for (index, case) in seeds().filter(|case| case.slots.len() > 8).enumerate().step_by(11) {
        let (groups, want, third) = (case.groups as usize, WANTS[index % WANTS.len()], case.slots.len() / 3);
        let head = Case { nulls: false, ..case.clone() };
        let mut panes = [engine.table::<f64>(groups, want).unwrap(), engine.table::<f64>(1, want).unwrap()];
        panes[0].accumulate(&head.slots[..third], &head.floats[..third], None).unwrap();
        panes[1].grow(groups).unwrap();
        panes[1].accumulate(&head.slots[third..], &head.floats[third..], None).unwrap();
        let mut window = engine.table::<f64>(1, want).unwrap();
        panes.iter().for_each(|pane| window.combine(pane).unwrap());
        let mut cells = vec![Cell::EMPTY; groups];
        window.read_into(&mut cells).unwrap();
        assert_floats(&head, &cells, want);
        // The panes keep their rows.
        window.combine(&panes[1]).unwrap();
        let [mut pane, rest] = panes;
        pane.combine(&rest).unwrap();
        let mut cells = vec![Cell::EMPTY; groups];
        pane.read_into(&mut cells).unwrap();
        assert_floats(&head, &cells, want);

        let mut panes = [engine.table::<i64>(groups, want).unwrap(), engine.table::<i64>(groups, want).unwrap()];
        panes[0].accumulate(&head.slots[..third], &head.ints[..third], None).unwrap();
        panes[1].accumulate(&head.slots[third..], &head.ints[third..], None).unwrap();
        let [mut pane, rest] = panes;
        pane.combine(&rest).unwrap();
        let (mut cells, mut expected) = (vec![Cell::EMPTY; groups], vec![Cell::EMPTY; groups]);
        pane.read_into(&mut cells).unwrap();
        scalar::aggregate::accumulate(&mut expected, &head.slots, &head.ints, None, want);
        assert!(cells == expected);
    }
    let mut counts = [engine.counts(2).unwrap(), engine.counts(3).unwrap()];
    counts[0].accumulate(&[0, 1, 1]).unwrap();
    counts[1].accumulate(&[2, 1]).unwrap();
    let [mut sum, more] = counts;
    sum.combine(&more).unwrap();
    let mut counted = [10; 3];
    sum.read_into(&mut counted).unwrap();
    assert_eq!(counted, [11, 13, 11]);
}

/// Two tables that take each other in turn grow as Fibonacci's numbers: past 32 bits of rows and 96 of a sum, up to the
/// rows that a table takes between two reads.
fn trillions_of_rows_fit() {
    let engine = open();
    let mut floats = [engine.table::<f64>(1, Want::ALL).unwrap(), engine.table::<f64>(1, Want::ALL).unwrap()];
    let mut ints = [engine.table::<i64>(2, Want::ALL).unwrap(), engine.table::<i64>(2, Want::ALL).unwrap()];
    floats.iter_mut().for_each(|table| table.accumulate(&[0], &[-1.75 * 2f64.powi(63)], None).unwrap());
    ints.iter_mut().for_each(|table| table.accumulate(&[0, 1], &[i64::MIN, i64::MAX], None).unwrap());
    let mut rows = [1u64, 1];
    for turn in 0..57 {
        let [a, b] = &mut floats;
        if turn % 2 == 0 { a.combine(b) } else { b.combine(a) }.unwrap();
        let [a, b] = &mut ints;
        if turn % 2 == 0 { a.combine(b) } else { b.combine(a) }.unwrap();
        rows[turn % 2] += rows[1 - turn % 2];
    }
    assert!(rows[0] > 1 << 39);
    let (mut cells, mut cell) = ([Cell::EMPTY; 2], [Cell::EMPTY]);
    ints[0].read_into(&mut cells).unwrap();
    assert_eq!(cells.map(|cell| cell.count), [rows[0]; 2]);
    assert_eq!(cells[0].int_sum(), i128::from(i64::MIN) * i128::from(rows[0]));
    assert_eq!(cells[1].int_sum(), i128::from(i64::MAX) * i128::from(rows[0]));
    let [a, b] = &mut floats;
    let refused = (0..4).try_for_each(|_| b.combine(a).and_then(|()| a.combine(b)));
    assert_eq!(refused.unwrap_err().fault(), Fault::Limit, "more rows than the sum has room for");
    a.read_into(&mut cell).unwrap();
    assert_eq!(cell[0].float_sum(), -1.75 * 2f64.powi(63) * cell[0].count as f64);
    assert!(cell[0].count >= rows[0] && cell[0].count <= 1 << 42);
}

fn a_read_takes_what_came_before_it() {
    let engine = open();
    let mut table = engine.table::<f64>(2, Want::ALL).unwrap();
    table.accumulate(&[0, 1], &[1.0, 2.0], None).unwrap();
    table.start_read().unwrap();
    table.accumulate(&[0, 0], &[1e-300, 1e300], None).unwrap();
    table.accumulate(&[1], &[-7.0], None).unwrap();
    let mut cells = [Cell::EMPTY; 2];
    table.read_into(&mut cells).unwrap();
    assert_eq!(cells.map(|cell| (cell.count, cell.float_sum(), cell.float_max())), [(1, 1.0, 1.0), (1, 2.0, 2.0)]);
    let mut cells = [Cell::EMPTY; 2];
    table.read_into(&mut cells).unwrap();
    assert_eq!(cells.map(|cell| (cell.count, cell.float_min())), [(2, 1e-300), (1, -7.0)]);
    let mut cells = [Cell::EMPTY; 2];
    table.read_into(&mut cells).unwrap();
    assert_eq!(cells, [Cell::EMPTY; 2]);
}

fn stray_slots() {
    let engine = open();
    let mut table = engine.table::<f64>(2, Want::ALL).unwrap();
    let nulls = Some(Bits { bytes: &[0b101], offset: 0, len: 3 });
    table.accumulate(&[0, u32::MAX, 1], &[1.0, f64::NAN, 3.0], nulls).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| table.accumulate(&[0, 2, 1], &[1.0; 3], None))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| table.accumulate(&[0], &[1.0; 2], None))).is_err());
    let mut cells = [Cell::EMPTY; 2];
    table.read_into(&mut cells).unwrap();
    assert_eq!(cells.map(|cell| cell.float_sum()), [1.0, 3.0]);
}

fn software_is_refused() {
    let software: Vec<_> = adapters().into_iter().filter(|adapter| adapter.kind == AdapterKind::Software).collect();
    for adapter in &software {
        let error = Engine::open(&Options { name: Some(adapter.name.clone()), ..Options::default() }).unwrap_err();
        assert_eq!(error.fault(), Fault::Unavailable);
        assert!(error.to_string().contains("software"), "{error}");
    }
    let error = Engine::open(&Options { name: Some("no such device".into()), ..Options::default() }).unwrap_err();
    assert_eq!(error.fault(), Fault::Unavailable);
    for adapter in adapters() {
        assert!(adapter.to_string().contains(&adapter.name) && adapter.max_binding > 0);
    }
}

fn budget() {
    let engine = Engine::open(&Options { memory: 4 << 20, batch_rows: 1000, ..software() }).unwrap();
    let before = engine.memory_in_use();
    let table = engine.table::<f64>(10_000, Want::ALL).unwrap();
    assert_eq!(engine.memory_in_use(), before + 2 * 52 * 10_000 + 32);
    let error = engine.table::<f64>(100_000, Want::ALL).unwrap_err();
    assert_eq!(error.fault(), Fault::Memory);
    drop(table);
    assert_eq!(engine.memory_in_use(), before);
    assert_eq!(engine.fault(), None, "a refusal ends nothing");
    check(&engine, &seeds().find(|case| case.groups == 100).unwrap(), Want::ALL);
    assert_eq!(Engine::open(&Options { memory: 1000, ..software() }).unwrap_err().fault(), Fault::Memory);
}

fn threads_share_an_engine() {
    let engine = open();
    let (batches, expected) = stream();
    std::thread::scope(|scope| {
        for step in [1, 5, 9] {
            let (engine, batches, expected) = (engine.clone(), &batches, &expected);
            scope.spawn(move || {
                let mut table = engine.table::<i64>(100, Want::ALL).unwrap();
                let mut cells = vec![Cell::EMPTY; 100];
                for (index, case) in batches.iter().enumerate() {
                    table.accumulate(&case.slots, &case.ints, case.validity()).unwrap();
                    if index % step == 0 {
                        table.read_into(&mut cells).unwrap();
                    }
                }
                table.read_into(&mut cells).unwrap();
                assert!(cells == *expected);
            });
        }
    });
}

fn costs_are_measured() {
    let engine = open();
    let start = Instant::now();
    let [cpu, gpu] = engine.costs::<f64>(Backend::active(), 1000, Want::ALL, || start.elapsed()).unwrap();
    assert_eq!((gpu.transfer.bytes_per_row, gpu.transfer.bytes_per_group), (12, 52));
    assert!(gpu.launch > Duration::ZERO && gpu.rows_per_second > 0.0 && gpu.transfer.upload > 0.0, "{gpu:?}");
    assert!(cpu.rows_per_second.is_finite() && cpu.transfer == Transfer::NONE, "{cpu:?}");
    // Measured once: what stands is given again, without a look at the clock.
    let again = engine.costs::<f64>(Backend::active(), 1000, Want::ALL, || unreachable!()).unwrap();
    assert_eq!(again, [cpu, gpu]);
}

fn limits() {
    let engine = Engine::open(&Options { binding_limit: Some(52 * 1000), ..software() }).unwrap();
    assert_eq!(engine.table::<f64>(1001, Want::ALL).unwrap_err().fault(), Fault::Limit);
    let mut table = engine.table::<f64>(1000, Want::ALL).unwrap();
    assert_eq!(table.grow(1001).unwrap_err().fault(), Fault::Limit);
    let error = table.accumulate(&[0, 1], &[1e-300, 1e300], None).unwrap_err();
    assert_eq!(error.fault(), Fault::Limit, "such a spread takes more limbs");

    let mut cells = vec![Cell::EMPTY; 1000];
    let mut sums = Accumulator::<f64>::new(&engine, 1000, Want::ALL);
    sums.accumulate(&[0, 1], &[1.0, 2.0], None);
    assert!(sums.on_device());
    sums.accumulate(&[0, 1], &[1e-300, 1e300], None);
    assert!(!sums.on_device());
    assert_eq!(sums.take_fault().map(|error| error.fault()), Some(Fault::Limit));
    sums.read_into(&mut cells);
    assert_eq!(cells[0].count + cells[1].count, 4);
    assert_eq!((cells[0].float_sum(), cells[1].float_max()), (1.0, 1e300));
}

fn a_lost_device_is_an_error() {
    let engine = open();
    let mut table = engine.table::<i64>(3, Want::ALL).unwrap();
    table.accumulate(&[0, 1, 2], &[1, 2, 3], None).unwrap();
    engine.lose();
    let mut cells = [Cell::EMPTY; 3];
    assert_eq!(table.read_into(&mut cells).unwrap_err().fault(), Fault::Lost);
    assert_eq!(cells, [Cell::EMPTY; 3]);
    let mut later = || (0..3).try_for_each(|_| table.accumulate(&[0], &[1], None));
    assert_eq!(later().unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.table::<f64>(3, Want::ALL).unwrap_err().fault(), Fault::Lost);
    assert_eq!(engine.fault().map(|error| error.fault()), Some(Fault::Lost));
}

/// Batches of one stream, and the cells that the scalar twin makes of them.
fn stream() -> (Vec<Case>, Vec<Cell>) {
    let batches: Vec<Case> = seeds().filter(|case| case.groups == 100 && case.slots.len() > 60).collect();
    let mut expected = vec![Cell::EMPTY; 100];
    for case in &batches {
        scalar::aggregate::accumulate(&mut expected, &case.slots, &case.ints, case.validity(), Want::ALL);
    }
    (batches, expected)
}

/// Lost before any batch, after any batch, while a read is under way, and before the last read.
fn an_accumulator_outlives_its_device() {
    let (batches, expected) = stream();
    for lost_at in [0, 1, 7, 50, batches.len()] {
        for journal_rows in [1, 3000, 1 << 20] {
            let engine = open();
            let mut sums = Accumulator::<i64>::new(&engine, 50, Want::ALL).journal_rows(journal_rows);
            let mut faults = 0;
            for (index, case) in batches.iter().enumerate() {
                if index == lost_at {
                    engine.lose();
                }
                sums.grow(100);
                sums.accumulate(&case.slots, &case.ints, case.validity());
                faults += usize::from(sums.take_fault().is_some_and(|error| error.fault() == Fault::Lost));
            }
            if lost_at == batches.len() {
                assert!(sums.on_device());
                engine.lose();
            }
            let mut cells = vec![Cell::EMPTY; 100];
            sums.read_into(&mut cells);
            faults += usize::from(sums.take_fault().is_some());
            assert!(!sums.on_device());
            assert_eq!(faults, 1, "one warning");
            assert!(cells == expected, "lost at {lost_at}, {journal_rows} rows kept");
        }
    }
}

fn an_accumulator_does_without_memory() {
    let (batches, expected) = stream();
    let engine = Engine::open(&Options { memory: 200_000, batch_rows: 1000, ..software() }).unwrap();
    for groups in [100, 100_000] {
        let mut sums = Accumulator::<i64>::new(&engine, groups, Want::ALL);
        assert_eq!(sums.on_device(), groups == 100);
        for (index, case) in batches.iter().enumerate() {
            sums.accumulate(&case.slots, &case.ints, case.validity());
            if index == 20 {
                sums.grow(50_000);
            }
        }
        assert_eq!(sums.take_fault().map(|error| error.fault()), Some(Fault::Memory));
        let mut cells = vec![Cell::EMPTY; sums.groups()];
        sums.read_into(&mut cells);
        assert!(cells[..100] == expected && cells[100..].iter().all(|cell| *cell == Cell::EMPTY));
    }
    assert_eq!(engine.fault(), None);
}

fn an_accumulator_reads_back_in_time() {
    let (batches, expected) = stream();
    let engine = open();
    for journal_rows in [1, 1000, 100_000] {
        let mut sums = Accumulator::<i64>::new(&engine, 100, Want::ALL).journal_rows(journal_rows);
        for _ in 0..2 {
            for case in &batches {
                sums.accumulate(&case.slots, &case.ints, case.validity());
            }
            let mut cells = vec![Cell::EMPTY; 100];
            sums.read_into(&mut cells);
            assert!(cells == expected);
        }
        assert!(sums.on_device() && sums.take_fault().is_none());
    }
}
