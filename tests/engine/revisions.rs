//! Windows that put out results more than once: what comes last of a key and window is the whole of it.

use std::collections::BTreeMap;

use crate::trace::{Row, key_of, records, traces, windows_of};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::plan::Windowed;
use thalweg::window::{AssignedSpec, Windowing};
use thalweg::{
    Config, Stream, Table, collect_list, count, count_window, cumulate, event_time, global, hopping, millis, session, sum, tumbling,
    windows_by,
};

/// Row count, sum and first values of a group.
type Answer = (i64, Option<i64>, Vec<i64>);

/// All results in the order in which they came, by window and key.
type History = BTreeMap<(i64, i64, Option<i64>), Vec<Answer>>;

fn run(rows: &[Row], spec: impl Into<Windowing>, delay: i64, batch_rows: usize, revise: impl Fn(Windowed) -> Windowed) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    let windowed =
        Stream::from_arrow([records(rows, false)]).event_time(event_time("ts").max_delay(millis(delay as u64))).window(spec).by(["key"]);
    let stream = revise(windowed).agg([count().alias("n"), sum("whole"), collect_list("whole", 4)]);
    stream.batches(config).unwrap().into_table().unwrap()
}

fn history(table: &Table) -> History {
    let mut history = History::new();
    for batch in table.batches() {
        let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().value(row);
        let (counts, sums) = (batch.column(3).as_primitive::<Int64Type>(), batch.column(4).as_primitive::<Int64Type>());
        let lists = batch.column(5).as_list::<i32>();
        for row in 0..batch.num_rows() {
            let list = lists.value(row).as_primitive::<Int64Type>().values().to_vec();
            let answer = (counts.value(row), sums.is_valid(row).then(|| sums.value(row)), list);
            history.entry((time(1, row), time(2, row), key_of(batch, row))).or_default().push(answer);
        }
    }
    history
}

fn answer(rows: &[Row]) -> Answer {
    let mut by_time = rows.to_vec();
    by_time.sort_by_key(|row| row.time);
    let list = by_time.iter().filter_map(|row| row.whole).take(4).collect();
    (rows.len() as i64, rows.iter().filter_map(|row| row.whole).reduce(|a, b| a + b), list)
}

/// The last results, each of which is of more rows than the one before unless it may be repeated.
fn last(history: History, repeats: bool) -> BTreeMap<(i64, i64, Option<i64>), Answer> {
    for (group, answers) in &history {
        let grows = answers.is_sorted_by(|a, b| if repeats { a.0 <= b.0 } else { a.0 < b.0 });
        assert!(grows, "{group:?}: {answers:?}");
    }
    history.into_iter().map(|(group, mut answers)| (group, answers.pop().unwrap())).collect()
}

/// The windows of [`hopping`], from a function.
fn hopping_by_function(size: i64, slide: i64) -> AssignedSpec {
    windows_by("hopping", move |row, windows| {
        let last = row.time.div_euclid(slide) * slide;
        windows
            .extend((0..).map(|back| last - back * slide).take_while(|start| start + size > row.time).map(|start| (start, start + size)));
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A row counts until the watermark before it is the allowed lateness past the window's end.
    #[test]
    fn the_last_results_hold_every_row_that_is_not_too_late(
        rows in traces(),
        (size, slide) in prop_oneof![Just((100, 100)), Just((100, 25)), Just((100, 30)), Just((60, 40))],
        delay in prop_oneof![Just(0), Just(20)],
        lateness in prop_oneof![Just(0), Just(15), Just(300), Just(100_000)],
        (early, updates) in prop_oneof![Just((None, false)), Just((Some(40_u64), false)), Just((None, true)), Just((Some(7), true))],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
        by_function: bool,
    ) {
        let (expected, late) = windows_of(&rows, size, slide, delay + lateness);
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|((start, key), rows)| ((start, start + size, key), answer(&rows))).collect();
        let spec: Windowing = match by_function {
            true => hopping_by_function(size, slide).into(),
            false => hopping(millis(size as u64), millis(slide as u64)).into(),
        };
        let table = run(&rows, spec, delay, batch_rows, |windowed| {
            let windowed = windowed.allowed_lateness(millis(lateness as u64));
            let windowed = early.map_or(windowed.clone(), |every| windowed.clone().early(millis(every)));
            if updates { windowed.updates() } else { windowed }
        });
        // Early results may come though a group has not changed, if another of its window has; and so does that at the end.
        let repeats = early.is_some();
        prop_assert_eq!(last(history(&table), repeats), expected);
        prop_assert_eq!(table.metrics().late_rows, late as u64);
        prop_assert_eq!(table.late().iter().map(RecordBatch::num_rows).sum::<usize>(), late);
    }
}

fn at(time: i64, whole: i64) -> Row {
    Row { time, key: Some(1), value: None, whole: Some(whole) }
}

fn counts(table: &Table) -> Vec<(i64, Vec<i64>)> {
    history(table).into_iter().map(|((start, ..), answers)| (start, answers.into_iter().map(|answer| answer.0).collect())).collect()
}

#[test]
fn a_late_row_corrects_its_window_until_that_is_gone() {
    let rows = [at(0, 1), at(50, 2), at(150, 3), at(99, 4), at(240, 5), at(10, 6), at(260, 7), at(20, 8)];
    let table = run(&rows, tumbling(millis(100)), 0, 1, |windowed| windowed.allowed_lateness(millis(150)));
    assert_eq!(counts(&table), [(0, vec![2, 3, 4]), (100, vec![1]), (200, vec![2])]);
    assert_eq!(table.metrics().late_rows, 1, "the row at 20 came when the watermark was 259");
}

#[test]
fn a_late_row_corrects_a_window_of_a_function_until_that_is_gone() {
    // Windows of many lengths over one row: each is gone at a time of its own.
    let spec = windows_by("long and short", |row, windows| {
        let start = row.time.div_euclid(100) * 100;
        windows.extend([(start, start + 100), (start, start + 150)]);
    });
    let rows = [at(0, 1), at(50, 2), at(150, 3), at(99, 4), at(240, 5), at(10, 6), at(260, 7), at(20, 8), at(330, 9), at(30, 10)];
    let table = run(&rows, spec, 0, 1, |windowed| windowed.allowed_lateness(millis(150)));
    let counts: Vec<_> = history(&table)
        .into_iter()
        .map(|((start, end, _), answers)| (start, end, answers.into_iter().map(|answer| answer.0).collect::<Vec<_>>()))
        .collect();
    let expected = [
        (0, 100, vec![2, 3, 4]),
        (0, 150, vec![2, 3, 4, 5]),
        (100, 200, vec![1]),
        (100, 250, vec![1]),
        (200, 300, vec![2]),
        (200, 350, vec![2]),
        (300, 400, vec![1]),
        (300, 450, vec![1]),
    ];
    assert_eq!(counts, expected);
    assert_eq!(table.metrics().late_rows, 1, "the row at 30 came when the watermark was 329");
}

#[test]
fn early_results_come_when_the_watermark_passes_a_time_for_them() {
    let rows = [at(0, 1), at(30, 2), at(31, 3), at(45, 4), at(46, 5), at(100, 6)];
    let table = run(&rows, tumbling(millis(100)), 0, 1, |windowed| windowed.early(millis(20)));
    // The watermark passes 20 with the row at 30, 40 with that at 45, and 60 and 80 with that at 100.
    assert_eq!(counts(&table), [(0, vec![2, 4, 5]), (100, vec![1, 1])]);
}

#[test]
fn updates_come_with_every_batch() {
    let rows = [at(0, 1), at(30, 2), at(60, 3), at(100, 6)];
    let by_row = run(&rows, cumulate(millis(100), millis(50)), 0, 1, Windowed::updates);
    let both: Vec<_> = history(&by_row).into_iter().map(|((start, end, _), answers)| (start, end, answers.len())).collect();
    assert_eq!(both, [(0, 50, 2), (0, 100, 3), (100, 150, 1), (100, 200, 1)]);
    let at_once = run(&rows, tumbling(millis(100)), 0, 100, Windowed::updates);
    assert_eq!(counts(&at_once), [(0, vec![3]), (100, vec![1])]);
}

#[test]
fn what_cannot_be_revised_is_refused() {
    let stream = Stream::from_arrow([records(&[at(0, 1)], false)]).event_time("ts");
    let why = |windowed: Windowed| windowed.agg([count()]).schema().unwrap_err().to_string();
    let said = why(stream.window(count_window(5)).allowed_lateness(millis(1)));
    assert!(said.contains("count_window(5 rows) is not"), "{said}");
    let said = why(stream.window(global()).allowed_lateness(millis(1)));
    assert!(said.contains("windows that end, which global() does not: it takes rows in order of event time"), "{said}");
    let said = why(stream.window(session(millis(5))).early(millis(0)));
    assert!(said.contains("`early` is zero"), "{said}");
    let said = why(stream.window(tumbling(millis(5))).early(millis(0)));
    assert!(said.contains("`early` is zero"), "{said}");
    let plan = stream.window(tumbling(millis(5))).allowed_lateness(millis(3)).updates().agg([count()]).to_string();
    assert!(plan.contains("tumbling(5ms), allowed lateness 3ms, on every update by []"), "{plan}");
}
