//! Session windows against a slow model. Whatever the batch size, the answer is the same.

use std::collections::BTreeMap;

use crate::lines::{Lines, keep};
use crate::trace::{Row, key_of, records, traces};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::plan::Windowed;
use thalweg::testing::{batch, eof, source};
use thalweg::{Config, Query, Stream, Table, collect_list, count, count_distinct, event_time, millis, secs, session, sum, tumbling};

/// One session: the sum of `whole`, how many different values it has, and its values in event time.
type Session = (i64, i64, usize, Option<i64>, usize, Vec<i64>);

fn summary(rows: &[Row], gap: i64) -> Session {
    let mut by_time = rows.to_vec();
    by_time.sort_by_key(|row| row.time);
    let wholes: Vec<i64> = by_time.iter().filter_map(|row| row.whole).collect();
    let mut distinct = wholes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let bounds = (by_time[0].time, by_time[by_time.len() - 1].time + gap);
    let sum = wholes.iter().copied().reduce(|a, b| a + b);
    (bounds.0, bounds.1, rows.len(), sum, distinct.len(), wholes.into_iter().take(5).collect())
}

/// A row joins the sessions of its key that it is near and that have not ended, or begins one, unless that would have ended.
fn model(rows: &[Row], gap: i64, delay: i64) -> (Vec<(Option<i64>, Session)>, usize) {
    let mut sessions: BTreeMap<Option<i64>, Vec<Vec<Row>>> = BTreeMap::new();
    let (mut late, mut greatest) = (0, i64::MIN);
    for row in rows {
        let watermark = greatest.saturating_sub(delay + 1);
        let ends_after = |last: i64| last + gap > watermark;
        let own = sessions.entry(row.key).or_default();
        let (joined, mut others): (Vec<_>, Vec<_>) = own.drain(..).partition(|rows: &Vec<Row>| {
            let (first, last) = (rows.iter().map(|row| row.time).min().unwrap(), rows.iter().map(|row| row.time).max().unwrap());
            ends_after(last) && row.time - last <= gap && first - row.time <= gap
        });
        if joined.is_empty() && !ends_after(row.time) {
            late += 1;
        } else {
            // In order of arrival does not matter: rows of one time keep their values apart only by order within a list.
            let mut rows = joined.concat();
            rows.push(row.clone());
            others.push(rows);
        }
        *own = others;
        greatest = greatest.max(row.time);
    }
    let summaries = sessions.into_iter().flat_map(|(key, own)| own.into_iter().map(move |rows| (key, summary(&rows, gap))));
    let mut summaries: Vec<_> = summaries.collect();
    summaries.sort();
    (summaries, late)
}

fn run(rows: &[Row], text_keys: bool, gap: i64, delay: i64, batch_rows: usize) -> Table {
    run_revised(rows, text_keys, gap, delay, batch_rows, |windowed| windowed)
}

fn run_revised(rows: &[Row], text_keys: bool, gap: i64, delay: i64, batch_rows: usize, revise: impl Fn(Windowed) -> Windowed) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    let stream = Stream::from_arrow([records(rows, text_keys)]).event_time(event_time("ts").max_delay(millis(delay as u64)));
    let windows = revise(stream.window(session(millis(gap as u64))).by(["key"])).agg([
        count().alias("n"),
        sum("whole"),
        count_distinct("whole"),
        collect_list("whole", 5),
    ]);
    windows.batches(config).unwrap().into_table().unwrap()
}

fn sessions_of(table: &Table) -> Vec<(Option<i64>, Session)> {
    let mut sessions = results_of(table);
    sessions.sort();
    sessions
}

/// The results in the order in which they came.
fn results_of(table: &Table) -> Vec<(Option<i64>, Session)> {
    let mut sessions = Vec::new();
    for batch in table.batches() {
        let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().value(row);
        let whole = |column: usize, row: usize| {
            let column = batch.column(column);
            (!column.is_null(row)).then(|| column.as_primitive::<Int64Type>().value(row))
        };
        for row in 0..batch.num_rows() {
            let list = batch.column(6).as_list::<i32>().value(row).as_primitive::<Int64Type>().values().to_vec();
            let counts = (whole(3, row).unwrap() as usize, whole(5, row).unwrap() as usize);
            sessions.push((key_of(batch, row), (time(1, row), time(2, row), counts.0, whole(4, row), counts.1, list)));
        }
    }
    sessions
}

/// No two rows of a key have one time, so that the order within lists is told by time alone.
fn without_ties(mut rows: Vec<Row>) -> Vec<Row> {
    let mut seen = std::collections::BTreeSet::new();
    rows.retain(|row| seen.insert((row.key, row.time)));
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_the_model_whatever_the_batch_size(
        rows in traces().prop_map(without_ties),
        text_keys in any::<bool>(),
        gap in prop_oneof![Just(1_i64), Just(7), Just(40), Just(700)],
        delay in prop_oneof![Just(0), Just(10), Just(150)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let (expected, late) = model(&rows, gap, delay);
        let table = run(&rows, text_keys, gap, delay, batch_rows);
        prop_assert_eq!(sessions_of(&table), expected);
        prop_assert_eq!(table.metrics().late_rows, late as u64);
        prop_assert_eq!(table.late().iter().map(RecordBatch::num_rows).sum::<usize>(), late);
    }

    /// What is put out last is of all rows that are not later than allowed; each of these sessions is among the results, as it was last.
    #[test]
    fn late_rows_join_sessions_that_have_ended(
        rows in traces().prop_map(without_ties),
        gap in prop_oneof![Just(1_i64), Just(7), Just(40), Just(700)],
        delay in prop_oneof![Just(0), Just(10)],
        lateness in prop_oneof![Just(0), Just(15), Just(300), Just(100_000)],
        (early, updates) in prop_oneof![Just((None, false)), Just((Some(40_u64), false)), Just((None, true)), Just((Some(7), true))],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let (expected, late) = model(&rows, gap, delay + lateness);
        let table = run_revised(&rows, false, gap, delay, batch_rows, |windowed| {
            let windowed = windowed.allowed_lateness(millis(lateness as u64));
            let windowed = early.map_or(windowed.clone(), |every| windowed.clone().early(millis(every)));
            if updates { windowed.updates() } else { windowed }
        });
        prop_assert_eq!(table.metrics().late_rows, late as u64);
        let results = results_of(&table);
        if lateness == 0 && early.is_none() && !updates {
            prop_assert_eq!(results.len(), expected.len());
        }
        let last: BTreeMap<_, _> = results.iter().map(|(key, session)| ((*key, session.0, session.1), session)).collect();
        for (key, session) in &expected {
            prop_assert_eq!(last.get(&(*key, session.0, session.1)), Some(&session));
        }
        for (key, session) in &results {
            let holds = |all: &Session| all.0 <= session.0 && session.1 <= all.1 && session.2 <= all.2;
            let is_part = expected.iter().any(|(other, all)| other == key && holds(all));
            prop_assert!(is_part, "{:?} {:?} is part of no session", key, session);
        }
    }

    /// Where no row is late, sessions are the runs of sorted rows at most the gap apart.
    #[test]
    fn of_rows_on_time_are_runs_of_sorted_rows(
        rows in traces().prop_map(without_ties),
        gap in prop_oneof![Just(1_i64), Just(7), Just(40), Just(700)],
        batch_rows in prop_oneof![Just(1), Just(64)],
    ) {
        let mut sorted = rows.clone();
        sorted.sort_by_key(|row| (row.key, row.time));
        let runs = sorted.chunk_by(|a, b| a.key == b.key && b.time - a.time <= gap);
        let mut expected: Vec<_> = runs.map(|run| (run[0].key, summary(run, gap))).collect();
        expected.sort();
        let table = run(&rows, false, gap, 10_000, batch_rows);
        prop_assert_eq!(sessions_of(&table), expected);
        prop_assert_eq!(table.metrics().late_rows, 0);
    }
}

#[test]
fn a_late_row_joins_ended_sessions_and_the_whole_is_put_out() {
    let at = |time, whole| Row { time, key: Some(1), value: None, whole: Some(whole) };
    let rows = [at(0, 1), at(50, 2), at(190, 3), at(500, 4), at(120, 5), at(900, 6), at(130, 7)];
    let table = run_revised(&rows, false, 100, 0, 1, |windowed| windowed.allowed_lateness(millis(500)));
    let bounds: Vec<_> = results_of(&table).into_iter().map(|(_, session)| (session.0, session.1, session.2)).collect();
    // The row at 120 comes when the watermark is 499; that at 130 when it is 899, more than 500 past the end of what it would join.
    assert_eq!(bounds, [(0, 150, 2), (190, 290, 1), (0, 290, 4), (500, 600, 1), (900, 1_000, 1)]);
    assert_eq!(table.metrics().late_rows, 1);
}

#[test]
fn a_row_between_two_sessions_makes_them_one() {
    let at = |time, whole| Row { time, key: Some(1), value: None, whole: Some(whole) };
    let rows = [at(0, 1), at(100, 2), at(300, 3), at(400, 4), at(200, 5), at(900, 6)];
    for batch_rows in [1, 2, 100] {
        let table = run(&rows, false, 100, 500, batch_rows);
        let whole = (0, 500, 5, Some(15), 5, vec![1, 2, 5, 3, 4]);
        assert_eq!(sessions_of(&table), [(Some(1), whole), (Some(1), (900, 1_000, 1, Some(6), 1, vec![6]))]);
    }
}

#[test]
fn without_a_key_all_rows_make_sessions_together() {
    let at = |time, key| Row { time, key: Some(key), value: None, whole: Some(1) };
    let rows = [at(0, 1), at(50, 2), at(400, 3), at(90, 4)];
    let stream = Stream::from_arrow([records(&rows, false)]).event_time(event_time("ts").max_delay(secs(1)));
    let table = stream.window(session(millis(50))).agg([count().alias("n")]).collect().unwrap();
    let counts: Vec<i64> = table.batches().iter().flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(counts, [3, 1]);
}

#[test]
fn windows_of_sessions_miss_none() {
    let at = |time, key| Row { time, key: Some(key), value: None, whole: Some(1) };
    let rows: Vec<Row> = (0..500).map(|row| at(row * 7, row % 11)).collect();
    for batch_rows in [1, 5, 1_000] {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let sessions = Stream::from_arrow([records(&rows, false)]).event_time("ts").window(session(millis(50))).by(["key"]);
        let seconds = sessions.agg([count().alias("rows")]).window(tumbling(millis(100))).agg([count(), sum("rows")]);
        let table = seconds.batches(config).unwrap().into_table().unwrap();
        let total: i64 = table.batches().iter().flat_map(|batch| batch.column(3).as_primitive::<Int64Type>().values().to_vec()).sum();
        assert_eq!((total, table.metrics().late_rows), (500, 0));
    }
}

#[test]
fn keys_come_and_go_without_growing_the_state() {
    let rows: Vec<Row> = (0..200_000).map(|row| Row { time: row, key: Some(row), value: Some(1.0), whole: Some(row) }).collect();
    let table = run(&rows, false, 10, 0, 1_000);
    assert_eq!(table.num_rows(), 200_000);
    let bytes = table.metrics().state_bytes;
    assert!(bytes < 2_000_000, "{bytes} bytes for some thousand keys at a time");
}

/// Keys are so far apart that no table of keys has a place for those between them.
const FAR: i64 = 0xffff_fffb;

/// In each round so many keys have a session at once, one of which is the same in all; the others are those of `key`.
fn rounds(count: i64, keys: i64, key: impl Fn(i64) -> i64) -> Vec<Row> {
    let row = |time, key| Row { time, key: Some(key), value: Some(1.0), whole: Some(key) };
    let round = |round: i64| {
        let others = (0..keys - 1).map(|number| row(round * 1_000 + number / 10, FAR * key(round * keys + number)));
        others.chain([row(round * 1_000 + 800, -1)]).collect::<Vec<_>>()
    };
    (0..count).flat_map(round).collect()
}

/// Keys that never come again, keys that all do, and keys of which some do.
const COMING: [fn(i64) -> i64; 3] = [|number| number, |number| number % 250, |number| if number % 3 == 0 { number % 300 } else { number }];

#[test]
fn keys_without_a_session_take_no_place_from_others() {
    for (key, text_keys, batch_rows) in
        COMING.into_iter().flat_map(|key| [(key, false, 100), (key, true, 100), (key, false, 1), (key, true, 20)])
    {
        let run = |keys| {
            let mut config = Config::default();
            (config.batch_rows, config.max_keys) = (batch_rows, 100);
            let stream = Stream::from_arrow([records(&rounds(30, keys, key), text_keys)]).event_time("ts");
            stream.window(session(millis(50))).by(["key"]).agg([count()]).batches(config).unwrap().into_table()
        };
        assert_eq!(run(100).unwrap().num_rows(), 3_000);
        let said = run(101).unwrap_err().to_string();
        assert!(said.contains("more than 100 keys are live at once"), "{said}");
    }
}

#[test]
fn keys_that_come_again_or_not_leave_the_state_as_it_is() {
    for (key, text_keys) in COMING.into_iter().flat_map(|key| [(key, false), (key, true)]) {
        let rows = records(&rounds(400, 100, key), text_keys);
        let batches: Vec<RecordBatch> = (0..rows.num_rows()).step_by(100).map(|start| rows.slice(start, 100)).collect();
        let lines = Lines::default();
        let stream = source(batches.into_iter().map(batch).chain([eof()])).unwrap().event_time("ts");
        let windows = stream.window(session(millis(50))).by(["key"]).agg([count(), sum("whole")]);
        let mut pipeline = Query::new().sink(&windows, keep(&lines)).build().unwrap();
        let counters = pipeline.counters();
        let mut most = [0, 0];
        for delivery in 0..400 {
            let mut asked = 0;
            let mut stop = || {
                asked += 1;
                asked > 1
            };
            assert!(!pipeline.step_until(std::time::Duration::from_secs(3_600), &mut stop).unwrap());
            let half = &mut most[delivery / 200];
            *half = counters.snapshot().state_bytes.max(*half);
        }
        // Memory comes in doublings, and the text of keys that are gone is given up now and then: what grew with the rows would be twice as much.
        assert!(most[0] > 0 && 2 * most[1] <= 3 * most[0], "{most:?} bytes in each half");
        // All but the last session have ended, and no snapshot knows their keys.
        let saved = pipeline.snapshot().unwrap().to_bytes().unwrap().len();
        assert!(saved < 10_000, "{saved} bytes");
        let before = counters.snapshot().state_bytes;
        pipeline.trim().unwrap();
        let after = counters.snapshot().state_bytes;
        assert!(4 * after < before, "{after} of {before} bytes are left");
    }
}
