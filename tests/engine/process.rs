//! Functions over the rows of each key. In order of time every call is the same whatever the batch size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::trace::{Row, key_of, records, traces};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;
use thalweg::operator::process::heartbeat::Heartbeat;
use thalweg::operator::process::{Context, Process, Rows};
use thalweg::{Config, Error, Kind, Result, Stream, Table, count, event_time, millis, secs, tumbling};

/// After so long without rows of a key it says the key, how many rows there were and when, and forgets it; also at the `most`th row.
#[derive(Clone)]
struct Quiet {
    after: i64,
    most: i64,
    in_order: bool,
    ttl: Option<Duration>,
}

impl Quiet {
    fn say(context: &mut Context<'_>, count: i64, at: i64) -> Result<()> {
        let int = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let key = Arc::clone(context.key()?.column(0));
        context.emit(RecordBatch::try_from_iter_with_nullable([("key", key, true), ("n", int(count), false), ("at", int(at), false)])?);
        Ok(())
    }
}

impl Process for Quiet {
    /// How many rows, and the timer that is set.
    type State = (i64, Option<i64>);

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let int = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        Ok(Arc::new(Schema::new(vec![Arc::clone(&input.fields()[1]), int("n"), int("at")])))
    }

    fn on_rows(&self, rows: &Rows<'_>, state: &mut Self::State, context: &mut Context<'_>) -> Result<()> {
        if self.in_order {
            assert!(rows.times.iter().all(|time| context.watermark() == Some(time - 1)), "{:?} {rows:?}", context.watermark());
        }
        assert_eq!(rows.times, rows.records.column(0).as_primitive::<Int64Type>().values());
        for &time in rows.times {
            state.0 += 1;
            if state.0 == self.most {
                Quiet::say(context, state.0, time)?;
                if let (_, Some(set)) = std::mem::take(state) {
                    context.delete_timer(set);
                }
                continue;
            }
            let due = state.1.unwrap_or(i64::MIN).max(time + self.after);
            if let Some(set) = state.1.replace(due) {
                context.delete_timer(set);
            }
            context.set_timer(due)?;
        }
        if state.0 == 0 {
            context.clear();
        }
        Ok(())
    }

    fn on_timer(&self, time: i64, state: &mut Self::State, context: &mut Context<'_>) -> Result<()> {
        assert_eq!((state.1, context.time()), (Some(time), Some(time)));
        assert!(!self.in_order || context.watermark() == Some(time));
        Quiet::say(context, state.0, time)?;
        context.clear();
        Ok(())
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    fn in_order(&self) -> bool {
        self.in_order
    }
}

/// What is said of a key: its name, how many rows, when.
type Said = (Option<i64>, i64, i64);

/// Of each key: when its timer fires, which row was its first, how many came.
type Open = BTreeMap<Option<i64>, (i64, usize, i64)>;

/// Those of one time in the order of their keys.
fn by_time(mut said: Vec<Said>) -> Vec<Said> {
    assert!(said.is_sorted_by_key(|said| said.2));
    said.sort_by_key(|said| (said.2, *said));
    said
}

/// Rows that are on time, in order of time, against a clock that goes on with them; with how many are late.
fn model(rows: &[Row], quiet: &Quiet, delay: i64) -> (Vec<Said>, usize) {
    let (mut on_time, mut greatest) = (Vec::new(), i64::MIN);
    for row in rows {
        if row.time > greatest.saturating_sub(delay + 1) {
            on_time.push(row);
        }
        greatest = greatest.max(row.time);
    }
    let late = rows.len() - on_time.len();
    on_time.sort_by_key(|row| row.time);
    let (mut said, mut open): (Vec<Said>, Open) = (Vec::new(), Open::new());
    let fire = |open: &mut Open, before: i64, said: &mut Vec<Said>| {
        let mut due: Vec<_> = open.iter().filter(|(_, (at, ..))| *at < before).map(|(key, &(at, came, n))| (at, came, *key, n)).collect();
        due.sort_unstable();
        for (at, _, key, n) in due {
            said.push((key, n, at));
            open.remove(&key);
        }
    };
    for (number, row) in on_time.iter().enumerate() {
        fire(&mut open, row.time, &mut said);
        let (at, _, n) = open.entry(row.key).or_insert((i64::MIN, number, 0));
        (*at, *n) = ((*at).max(row.time + quiet.after), *n + 1);
        if *n == quiet.most {
            said.push((row.key, quiet.most, row.time));
            open.remove(&row.key);
        }
    }
    fire(&mut open, i64::MAX, &mut said);
    (by_time(said), late)
}

fn collect(stream: &Stream, batch_rows: usize) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    stream.batches(config).unwrap().into_table().unwrap()
}

fn said(table: &Table) -> Vec<Said> {
    let int = |batch: &RecordBatch, at: usize, row: usize| batch.column(at).as_primitive::<Int64Type>().value(row);
    let rows = table.batches().iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    rows.map(|(batch, row)| (key_of(batch, row), int(batch, 1, row), int(batch, 2, row))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_order_of_time_the_model_agrees(
        rows in traces(),
        after in prop_oneof![1..30_i64, 1..2_000_i64],
        most in 2..20_i64,
        delay in prop_oneof![Just(0_u64), 0..300_u64],
        text_keys: bool,
    ) {
        let quiet = Quiet { after, most, in_order: true, ttl: None };
        let (expected, late) = model(&rows, &quiet, delay as i64);
        let stream = Stream::from_arrow([records(&rows, text_keys)]).event_time(event_time("ts").max_delay(millis(delay)));
        let stream = stream.process(["key"], quiet);
        for batch_rows in [1, 7, 1_000] {
            let table = collect(&stream, batch_rows);
            prop_assert_eq!(&by_time(said(&table)), &expected, "in batches of {}", batch_rows);
            prop_assert_eq!(table.metrics().late_rows as usize, late);
        }
    }
}

/// Key, latest row, usual interval and begin of a silence.
type Silence = (Option<i64>, i64, i64, i64);

/// The silences of each key from the list of its times.
fn silences(rows: &[Row], heartbeat: &Heartbeat, delay: i64) -> Vec<Silence> {
    let (mut greatest, mut times) = (i64::MIN, BTreeMap::<Option<i64>, Vec<i64>>::new());
    for row in rows {
        if row.time > greatest.saturating_sub(delay + 1) {
            times.entry(row.key).or_default().push(row.time);
        }
        greatest = greatest.max(row.time);
    }
    let mut silences = Vec::new();
    for (key, mut times) in times {
        times.sort_unstable();
        times.dedup();
        for at in 0..times.len() {
            let mut latest: Vec<i64> = times[..=at].windows(2).map(|pair| pair[1] - pair[0]).rev().take(15).collect();
            latest.sort_unstable();
            if latest.len() < heartbeat.warmup as usize {
                continue;
            }
            let usual = latest[(latest.len() - 1) / 2];
            let due = times[at] + ((heartbeat.factor * usual as f64) as i64).max(heartbeat.least.as_millis() as i64);
            if times.get(at + 1).map_or(due <= greatest, |next| *next > due) {
                silences.push((key, times[at], usual, due));
            }
        }
    }
    silences.sort_by_key(|silence| (silence.3, silence.0));
    silences
}

fn told(table: &Table) -> Vec<Silence> {
    let int = |batch: &RecordBatch, at: usize, row: usize| {
        arrow::compute::cast(batch.column(at), &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row)
    };
    let rows = table.batches().iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    rows.map(|(batch, row)| (key_of(batch, row), int(batch, 1, row), int(batch, 2, row), int(batch, 3, row))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn silences_are_those_of_the_lists_of_times(
        rows in traces(), factor in 1.0..4.0_f64, least in prop_oneof![Just(0_u64), 0..100_u64], warmup in 1..4_u32,
        delay in prop_oneof![Just(0_u64), 0..300_u64],
    ) {
        let heartbeat = Heartbeat { factor, least: millis(least), warmup };
        let expected = silences(&rows, &heartbeat, delay as i64);
        let stream = Stream::from_arrow([records(&rows, false)]).event_time(event_time("ts").max_delay(millis(delay)));
        for (batch_rows, workers) in [(1, 1), (7, 3), (1_000, 1)] {
            let mut config = Config::default();
            (config.batch_rows, config.workers) = (batch_rows, workers);
            let table = stream.heartbeat(["key"], heartbeat).batches(config).unwrap().into_table().unwrap();
            let mut told = told(&table);
            prop_assert!(told.is_sorted_by_key(|silence| silence.3));
            told.sort_by_key(|silence| (silence.3, silence.0));
            prop_assert_eq!(&told, &expected, "in batches of {}", batch_rows);
        }
    }
}

#[test]
fn a_key_that_falls_silent_is_told_once_and_the_end_of_the_input_is_no_silence() {
    // Key 1 beats every 10 until 100 and from 200 on, key 2 every 50 to the end.
    let beats = (0..=10).chain(20..25).map(|n| (n * 10, 1)).chain((0..5).map(|n| (n * 50, 2)));
    let mut rows: Vec<(i64, i64)> = beats.collect();
    rows.sort_unstable();
    let stream = trace(&rows).event_time("ts").heartbeat(["key"], Heartbeat::default());
    assert_eq!(told(&stream.collect().unwrap()), [(Some(1), 100, 10, 130)]);
    assert!(stream.to_string().ends_with("process(heartbeat(factor=3) by [key])"), "{stream}");
    let refused = |heartbeat| trace(&rows).event_time("ts").heartbeat(["key"], heartbeat).schema().unwrap_err().to_string();
    assert!(refused(Heartbeat { factor: 0.5, ..Heartbeat::default() }).contains("`factor` is 0.5"));
    assert!(refused(Heartbeat { warmup: 16, ..Heartbeat::default() }).contains("`warmup` is 16 intervals"));
    let without = trace(&rows).heartbeat(["key"], Heartbeat::default()).schema().unwrap_err();
    assert!(without.to_string().contains("`heartbeat` needs event times"), "{without}");
}

fn trace(rows: &[(i64, i64)]) -> Stream {
    let rows: Vec<Row> = rows.iter().map(|&(time, key)| Row { time, key: Some(key), value: None, whole: None }).collect();
    Stream::from_arrow([records(&rows, false)])
}

#[test]
fn rows_come_as_they_arrive_and_timers_in_order_of_time() {
    let stream = trace(&[(0, 1), (5, 2), (3, 1), (90, 3), (4, 2), (300, 9), (120, 3)]).event_time(event_time("ts").max_delay(millis(50)));
    let quiet = Quiet { after: 100, most: 100, in_order: false, ttl: None };
    let process = stream.process(["key"], quiet);
    assert_eq!(process.to_string().lines().last().unwrap().trim(), "→ process(Quiet by [key])");
    // In one batch all rows come before any timer; row by row that of 3 has fired before its late row.
    let all = said(&collect(&process, 100));
    assert_eq!(all, [(Some(1), 2, 103), (Some(2), 2, 105), (Some(3), 2, 220), (Some(9), 1, 400)]);
    let single = said(&collect(&process, 1));
    assert_eq!(single, [(Some(1), 2, 103), (Some(2), 2, 105), (Some(3), 1, 190), (Some(3), 1, 220), (Some(9), 1, 400)]);
    assert_eq!(collect(&process, 1).metrics().late_rows, 0, "late rows are given too");
}

#[test]
fn emitted_rows_have_the_time_of_their_timer() {
    let stream = trace(&[(0, 1), (5, 2), (1_950, 1), (5_000, 4)]).event_time("ts");
    let quiet = Quiet { after: 100, most: 100, in_order: false, ttl: None };
    for batch_rows in [1, 100] {
        let windows = stream.process(["key"], quiet.clone()).window(tumbling(secs(1))).agg([count()]);
        let table = collect(&windows, batch_rows).to_batch().unwrap();
        let starts = arrow::compute::cast(table.column(0), &DataType::Int64).unwrap();
        let starts = starts.as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(starts, [0, 2_000, 5_000]);
    }
}

#[test]
fn a_key_is_forgotten_after_its_time_to_live() {
    let stream = trace(&[(0, 1), (10, 2), (40, 1), (61, 2), (200, 3)]).event_time("ts");
    let quiet = |ttl| Quiet { after: 1_000, most: 2, in_order: true, ttl };
    let ends = |ttl| said(&collect(&stream.process(["key"], quiet(ttl)), 2));
    assert_eq!(ends(None), [(Some(1), 2, 40), (Some(2), 2, 61), (Some(3), 1, 1_200)]);
    assert_eq!(ends(Some(millis(50))), [(Some(1), 2, 40)], "of 2 the first row was forgotten, and then the second with its timer");
    assert_eq!(ends(Some(millis(51))), [(Some(1), 2, 40), (Some(2), 2, 61)], "a row that comes at the last moment is in time");
}

/// Hands rows on as they came, and fails at negative times.
struct Pass;

impl Process for Pass {
    type State = ();

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn on_rows(&self, rows: &Rows<'_>, (): &mut (), context: &mut Context<'_>) -> Result<()> {
        if rows.times.iter().any(|&time| time < 0) {
            return Err(Error::decode("before its time"));
        }
        context.emit(match rows.times.contains(&1_000_013) {
            true => rows.records.project(&[0])?,
            false => rows.records.clone(),
        });
        Ok(())
    }

    fn event_time(&self) -> Option<&str> {
        Some("ts")
    }

    fn name(&self) -> String {
        "pass".to_owned()
    }
}

/// Sets a timer, and that one another.
struct Ticks(i64);

impl Process for Ticks {
    type State = ();

    fn schema(&self, _input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::new(vec![Field::new("at", DataType::Int64, false)])))
    }

    fn on_rows(&self, _rows: &Rows<'_>, (): &mut (), context: &mut Context<'_>) -> Result<()> {
        context.set_timer(context.time().unwrap_or_default() + 100)
    }

    fn on_timer(&self, time: i64, (): &mut (), context: &mut Context<'_>) -> Result<()> {
        context.emit(RecordBatch::try_from_iter([("at", Arc::new(Int64Array::from(vec![time])) as ArrayRef)])?);
        context.set_timer(time + self.0)
    }
}

#[test]
fn rows_may_hold_their_own_times() {
    let rows: Vec<(i64, i64)> = (0..5_000).map(|time| (time, time % 7)).collect();
    let counts = trace(&rows).event_time("ts").process(["key"], Pass).window(tumbling(secs(1))).agg([count()]);
    for batch_rows in [1, 1_000_000] {
        let table = collect(&counts, batch_rows);
        let values = table.to_batch().unwrap().column(2).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!((values, table.metrics().late_rows), (vec![1_000; 5], 0));
    }
}

#[test]
fn timers_may_set_others_until_the_input_ends() {
    let stream = trace(&[(0, 1), (350, 1)]).event_time("ts").process(["key"], Ticks(100));
    let table = collect(&stream, 1).to_batch().unwrap();
    let times = table.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(times, [100, 200, 300, 400, 450], "at the end those that were set before it");
}

#[test]
fn without_event_time_rows_come_all_the_same() {
    let stream = trace(&[(7, 1), (8, 2), (9, 1)]);
    let failing = stream.process(["key"], Ticks(1)).collect().unwrap_err().to_string();
    assert!(failing.contains("a timer needs event times"), "{failing}");
    struct Count;
    impl Process for Count {
        type State = i64;
        fn schema(&self, _input: &SchemaRef) -> Result<SchemaRef> {
            Ok(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])))
        }
        fn on_rows(&self, rows: &Rows<'_>, state: &mut i64, context: &mut Context<'_>) -> Result<()> {
            *state += rows.records.num_rows() as i64;
            assert_eq!((rows.times.len(), context.time(), context.watermark()), (0, None, None));
            context.emit(RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![*state])) as ArrayRef)])?);
            Ok(())
        }
    }
    let counts = |batch_rows| {
        let table = collect(&stream.process(["key"], Count), batch_rows).to_batch().unwrap();
        table.column(0).as_primitive::<Int64Type>().values().to_vec()
    };
    assert_eq!((counts(1), counts(10)), (vec![1, 1, 2], vec![2, 1]));
}

#[test]
fn what_goes_wrong_is_said() {
    let run = |time, process: &dyn Fn(&Stream) -> Stream| process(&trace(&[(time, 1)]).event_time("ts")).collect().unwrap_err();
    let error = run(-1, &|stream| stream.process(["key"], Pass));
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Decode, "process(pass by [key]): before its time"));
    let error = run(1_000_013, &|stream| stream.process(["key"], Pass));
    assert!(
        error.to_string().contains("rows of the columns `ts` Int64 were emitted, but the columns were said to be `ts` Int64, "),
        "{error}"
    );
    let error = run(0, &|stream| stream.process(["key"], Ticks(0)));
    assert!(error.to_string().contains("which would fire without end"), "{error}");
    let said = |stream: &Stream| stream.schema().unwrap_err().to_string();
    let stream = trace(&[(0, 1)]);
    assert!(said(&stream.process(["kay"], Ticks(1))).contains("there is no column `kay`"));
    assert!(said(&stream.process(["key"], Pass)).contains("`ts` cannot be the event time of the rows put out"));
    assert!(said(&stream.process(["key"], Ticks(1)).event_time("at")).contains("`process` must come after `event_time`"));
    let quiet = Quiet { after: 1, most: 2, in_order: true, ttl: None };
    assert!(said(&stream.process(["key"], quiet.clone())).contains("a process in order of time needs event times"));
    let living = Quiet { in_order: false, ttl: Some(secs(1)), ..quiet };
    assert!(said(&stream.process(["key"], living)).contains("`ttl` needs event times"));
    let mut config = Config::default();
    config.max_state_bytes = 100;
    let rows: Vec<(i64, i64)> = (0..100).map(|time| (time, time)).collect();
    let many = trace(&rows).event_time("ts").process(["key"], Ticks(1)).batches(config).unwrap().into_table().unwrap_err();
    assert!(many.kind() == Kind::State && many.to_string().contains("let it clear keys that are done"), "{many}");
}
