use super::{DdHead, DdLayout, ddsketch_merge};
use crate::cell::order_key;
use crate::testing::{Case, on_every_backend, same, scramble};
use crate::{Backend, Bits, scalar};

on_every_backend!(updates, super::check_updates);
on_every_backend!(folds, super::check_folds);
on_every_backend!(merges, super::check_merges);
on_every_backend!(quantiles, super::check_quantiles);

const QS: [f64; 11] = [0.0, 0.001, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.99, 0.9999, 1.0];

type Table = (Vec<DdHead>, Vec<u64>);

fn empty(layout: &DdLayout, groups: u32) -> Table {
    (vec![DdHead::EMPTY; groups as usize], vec![0; groups as usize * layout.counts_per_group()])
}

fn check_updates(backend: Backend, case: &Case) {
    // One that collapses early and, where there is room for it, one that does so late.
    for layout in [DdLayout::new(0.02, 16), DdLayout::new(0.3, 1024)].iter().take(if case.groups > 1000 { 1 } else { 2 }) {
        let (mut table, mut expected) = (empty(layout, case.groups), empty(layout, case.groups));
        backend.ddsketch_update(layout, &mut table.0, &mut table.1, &case.slots, &case.floats, case.validity());
        scalar::sketch::ddsketch::update(layout, &mut expected.0, &mut expected.1, &case.slots, &case.floats, case.validity());
        assert!(table == expected, "{backend}, {layout:?}");
    }
}

fn check_folds(backend: Backend, case: &Case) {
    for layout in [DdLayout::new(0.02, 16), DdLayout::new(0.01, 2048)] {
        let (mut table, mut expected) = (empty(&layout, 1), empty(&layout, 1));
        backend.ddsketch_fold(&layout, &mut table.0[0], &mut table.1, &case.floats, case.validity());
        scalar::sketch::ddsketch::fold(&layout, &mut expected.0[0], &mut expected.1, &case.floats, case.validity());
        assert!(table == expected, "{backend}, {layout:?}");
    }
}

/// The parts' tables, merged in any order, are the table of the whole.
fn check_merges(backend: Backend, case: &Case) {
    for layout in [DdLayout::new(0.02, 16), DdLayout::new(0.4, 256)].iter().take(if case.groups > 1000 { 1 } else { 2 }) {
        let table = |rows: std::ops::Range<usize>| {
            let mut table = empty(layout, case.groups);
            backend.ddsketch_update(layout, &mut table.0, &mut table.1, &case.slots[rows.clone()], &case.floats[rows], None);
            table
        };
        let merged = |tables: [&Table; 3]| {
            let mut all = empty(layout, case.groups);
            tables.iter().for_each(|table| ddsketch_merge(layout, &mut all.0, &mut all.1, &table.0, &table.1));
            all
        };
        let rows = case.floats.len();
        let [a, b, c] = [table(0..rows / 3), table(rows / 3..rows / 2), table(rows / 2..rows)];
        let whole = table(0..rows);
        for parts in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c]] {
            assert!(merged(parts) == whole, "{backend}, {layout:?}");
        }
    }
}

/// A window for every normal number: nothing collapses.
fn check_quantiles(backend: Backend, case: &Case) {
    let layout = DdLayout::new(0.05, 16_384);
    let (mut head, mut counts) = (DdHead::EMPTY, vec![0; layout.counts_per_group()]);
    backend.ddsketch_fold(&layout, &mut head, &mut counts, &case.floats, case.validity());
    assert!(!head.collapsed());
    let sorted = sorted(case.floats.iter().copied().enumerate().filter(|(row, _)| case.valid(*row)).map(|(_, value)| value));
    assert_eq!(layout.count(&head, &counts), sorted.len() as u64);
    for q in QS {
        assert_within(&layout, layout.quantile(&head, &counts, q), exact(&sorted, q), q);
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.map(|value| if value.is_subnormal() { 0.0 } else { value }).collect();
    sorted.sort_by_key(|&value| order_key(value));
    sorted
}

fn exact(sorted: &[f64], q: f64) -> Option<f64> {
    sorted.get((q * sorted.len().saturating_sub(1) as f64) as usize).copied()
}

fn assert_within(layout: &DdLayout, answer: Option<f64>, exact: Option<f64>, q: f64) {
    let near = match (answer, exact) {
        (Some(answer), Some(exact)) => same(answer, exact) || (answer - exact).abs() <= layout.alpha() * exact.abs(),
        (answer, exact) => answer.is_none() && exact.is_none(),
    };
    assert!(near, "quantile {q} is {exact:?}, not {answer:?}, within {}", layout.alpha());
}

#[test]
fn every_bucket_tells_its_values_within_alpha() {
    for alpha in [0.5, 0.3, 0.1, 0.01, 0.001, 0.000_01] {
        let layout = DdLayout::new(alpha, 16);
        let check = |value: f64| {
            let answer = layout.value(layout.bucket(value));
            assert!((answer - value).abs() <= alpha * value, "alpha {alpha}: {value:e} is told as {answer:e}");
        };
        [f64::MIN_POSITIVE, f64::MAX, 1.0, 2.0, 1.0f64.next_down(), 2.0f64.next_down(), 5.0 / 3.0].into_iter().for_each(check);
        let (first, last) = (layout.bucket(f64::MIN_POSITIVE), layout.bucket(f64::MAX));
        let step = ((last - first) / 20_000).max(1) as usize;
        for bucket in (first + 1..=last).step_by(step) {
            // The last values of the bucket below, and the first of this one.
            let edge = layout.lower_bound(bucket);
            assert!((bucket - 1..=bucket).contains(&layout.bucket(edge)), "alpha {alpha}, bucket {bucket}");
            [edge.next_down(), edge, edge.next_up(), edge * (1.0 - 1e-9), edge * (1.0 + 1e-9)].into_iter().for_each(check);
        }
        for n in 0..100_000 {
            check(f64::from_bits(scramble(n) % (f64::MAX.to_bits() - f64::MIN_POSITIVE.to_bits()) + f64::MIN_POSITIVE.to_bits()));
        }
    }
}

#[test]
fn buckets_do_not_descend() {
    for alpha in [0.5, 0.01, 0.000_01] {
        let layout = DdLayout::new(alpha, 16);
        let mut values: Vec<f64> = (0..50_000).map(|n| 1.0 + scramble(n) as f64 / 2f64.powi(62)).collect();
        values.sort_by(f64::total_cmp);
        assert!(values.is_sorted_by_key(|&value| layout.bucket(value)), "alpha {alpha}");
    }
}

/// Log-normal and Pareto columns of both signs, as large as the tables of seeds are not.
#[test]
fn quantiles_of_common_distributions_are_within_alpha() {
    let uniform = |n: u64| (scramble(n) >> 11) as f64 / 2f64.powi(53);
    let normal = |n: u64| (0..12).map(|k| uniform(n * 12 + k)).sum::<f64>() - 6.0;
    let columns: [Vec<f64>; 3] = [
        (0..50_000).map(|n| normal(n).exp()).collect(),
        (0..50_000).map(|n| (1.0 - uniform(n)).powf(-1.0)).collect(),
        (0..50_000).map(|n| normal(n) * 100.0).collect(),
    ];
    for backend in Backend::available() {
        for (column, layout) in columns.iter().flat_map(|column| [0.01, 0.001].map(|alpha| (column, DdLayout::new(alpha, 16_384)))) {
            let (mut head, mut counts) = (DdHead::EMPTY, vec![0; layout.counts_per_group()]);
            backend.ddsketch_fold(&layout, &mut head, &mut counts, column, None);
            assert!(!head.collapsed());
            let sorted = sorted(column.iter().copied());
            for q in (0..=1000).map(|n| f64::from(n) / 1000.0) {
                assert_within(&layout, layout.quantile(&head, &counts, q), exact(&sorted, q), q);
            }
        }
    }
}

#[test]
fn a_collapsed_group_says_so_and_keeps_its_upper_quantiles() {
    let layout = DdLayout::new(0.01, 128);
    // 128 buckets of 2% span a factor of 12.
    let values: Vec<f64> = (1..=1000).map(f64::from).collect();
    for backend in Backend::available() {
        let (mut head, mut counts) = (DdHead::EMPTY, vec![0; layout.counts_per_group()]);
        backend.ddsketch_fold(&layout, &mut head, &mut counts, &values, None);
        assert!(head.collapsed());
        assert_eq!(layout.count(&head, &counts), 1000);
        for q in [0.1, 0.2, 0.5, 0.9, 1.0] {
            assert_within(&layout, layout.quantile(&head, &counts, q), exact(&values, q), q);
        }
        let lowest = layout.quantile(&head, &counts, 0.0).unwrap_or(f64::NAN);
        assert!((1000.0 / 14.0..1000.0 / 12.0).contains(&lowest), "{backend}: {lowest}");
    }
}

#[test]
fn nulls_nan_infinities_and_zeros_have_their_stated_places() {
    let layout = DdLayout::new(0.01, 64);
    let values = [f64::NAN, 1.0, -1.0, f64::INFINITY, 0.0, -5e-324, f64::NEG_INFINITY, 7.0, -0.0];
    let validity = Some(Bits { bytes: &[0b0111_1111, 1], offset: 0, len: 9 });
    for backend in Backend::available() {
        let (mut head, mut counts) = (DdHead::EMPTY, vec![0; layout.counts_per_group()]);
        assert_eq!(layout.quantile(&head, &counts, 0.5), None);
        backend.ddsketch_fold(&layout, &mut head, &mut counts, &values, validity);
        let all: Vec<f64> = (0..8).filter_map(|rank| layout.quantile(&head, &counts, f64::from(rank) / 7.0)).collect();
        let near = |a: f64, b: f64| same(a, b) || (a - b).abs() <= 0.01;
        let expected = [f64::NEG_INFINITY, -1.0, 0.0, 0.0, 0.0, 1.0, f64::INFINITY, f64::NAN];
        assert!(all.iter().zip(expected).all(|(&a, b)| near(a, b)) && all.len() == 8, "{backend}: {all:?}");
    }
}

#[test]
fn a_head_survives_its_words() {
    let head = DdHead { tops: [-5, super::NO_TOP], collapsed: [0, 1], infinite: [3, u64::MAX], zero: 4, nan: 5 };
    assert_eq!(DdHead::from_words(head.to_words()), head);
    assert_eq!(DdHead::from_words(DdHead::EMPTY.to_words()), DdHead::default());
}

#[test]
fn bad_shapes_and_slots_panic_and_those_of_null_rows_do_not() {
    let panics = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
    let layout = DdLayout::new(0.1, 16);
    for backend in Backend::available() {
        let update = |counts: usize, slots: &[u32], validity| {
            backend.ddsketch_update(&layout, &mut [DdHead::EMPTY; 2], &mut vec![0; counts], slots, &[1.0; 3], validity);
        };
        assert!(panics(&|| update(64, &[0, 2, 1], None)), "{backend}");
        assert!(!panics(&|| update(64, &[0, 2, 1], Some(Bits { bytes: &[0b101], offset: 0, len: 3 }))), "{backend}");
        assert!(panics(&|| update(63, &[0, 1, 1], None)));
        assert!(panics(&|| update(64, &[0, 1], None)));
        assert!(panics(&|| backend.ddsketch_fold(&layout, &mut DdHead::EMPTY.clone(), &mut [0; 31], &[1.0], None)));
    }
    for (alpha, buckets) in [(0.0, 64), (0.6, 64), (f64::NAN, 64), (0.1, 63), (0.1, 8)] {
        assert!(panics(&|| _ = DdLayout::new(alpha, buckets)));
    }
    assert!(panics(&|| _ = layout.quantile(&DdHead::EMPTY, &[0; 32], 1.1)));
}
