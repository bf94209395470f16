//! The global window with its triggers, windows of one's own, and keys that are forgotten, against slow models. Whatever the batch size,
//! the answer is the same.

use std::collections::BTreeMap;

use crate::trace::{Row, key_of, records, traces, windows_by as model_windows};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::testing::{assert_table, rows as table, source};
use thalweg::window::{GlobalSpec, Windowing};
use thalweg::{
    Config, Stream, Table, collect_list, count, count_distinct, count_window, event_time, global, millis, rolling_rows, session, sum,
    tumbling, windows_by,
};

/// One result: earliest and latest row, how many, the sum of `whole`, how many different ones, the first of them.
type Summary = (i64, i64, i64, Option<i64>, i64, Vec<i64>);

/// Results by key, in order.
type Results = BTreeMap<Option<i64>, Vec<Summary>>;

fn summary(rows: &[Row]) -> Summary {
    let mut by_time = rows.to_vec();
    by_time.sort_by_key(|row| row.time);
    let wholes: Vec<i64> = by_time.iter().filter_map(|row| row.whole).collect();
    let mut distinct = wholes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let sum = wholes.iter().copied().reduce(|a, b| a + b);
    let (first, last) = (by_time[0].time, by_time[by_time.len() - 1].time);
    (first, last, rows.len() as i64, sum, distinct.len() as i64, wholes.into_iter().take(4).collect())
}

fn run(rows: &[Row], delay: i64, spec: impl Into<Windowing>, ttl: Option<i64>, (batch_rows, workers): (usize, usize)) -> Table {
    let mut config = Config::default();
    (config.batch_rows, config.workers) = (batch_rows, workers);
    let stream = Stream::from_arrow([records(rows, false)]).event_time(event_time("ts").max_delay(millis(delay as u64)));
    let mut windows = stream.window(spec).by(["key"]);
    if let Some(ttl) = ttl {
        windows = windows.ttl(millis(ttl as u64));
    }
    let windows = windows.agg([count().alias("n"), sum("whole"), count_distinct("whole"), collect_list("whole", 4)]);
    windows.batches(config).unwrap().into_table().unwrap()
}

fn summaries(batches: &[RecordBatch]) -> Results {
    let mut results = Results::new();
    for batch in batches {
        let bounds = [1, 2].map(|column| batch.column(column).as_primitive::<TimestampMillisecondType>());
        let numbers = [3, 4, 5].map(|column| batch.column(column).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let list = batch.column(6).as_list::<i32>();
            let list = if list.is_null(row) { Vec::new() } else { list.value(row).as_primitive::<Int64Type>().values().to_vec() };
            let sum = numbers[1].is_valid(row).then(|| numbers[1].value(row));
            let distinct = if numbers[2].is_valid(row) { numbers[2].value(row) } else { 0 };
            let result = (bounds[0].value(row), bounds[1].value(row), numbers[0].value(row), sum, distinct, list);
            results.entry(key_of(batch, row)).or_default().push(result);
        }
    }
    results
}

/// The rows that are on time, in order of it, by key; and how many were late.
fn on_time(rows: &[Row], delay: i64) -> (BTreeMap<Option<i64>, Vec<Row>>, usize) {
    let (mut keys, mut greatest): (BTreeMap<Option<i64>, Vec<Row>>, _) = (BTreeMap::new(), i64::MIN);
    for row in rows {
        if row.time > greatest.saturating_sub(delay + 1) {
            keys.entry(row.key).or_default().push(row.clone());
        }
        greatest = greatest.max(row.time);
    }
    keys.values_mut().for_each(|rows| rows.sort_by_key(|row| row.time));
    let kept: usize = keys.values().map(Vec::len).sum();
    (keys, rows.len() - kept)
}

#[derive(Debug, Clone, Copy)]
struct Triggers {
    rows: Option<usize>,
    every: Option<i64>,
    over: Option<i64>,
    purge: bool,
    ttl: Option<i64>,
}

fn triggers() -> impl Strategy<Value = Triggers> {
    let rows = prop::option::of(1..6_usize);
    let (every, over) = (prop::option::of(prop_oneof![Just(7_i64), Just(50), Just(400)]), prop::option::of(-500..900_i64));
    let ttl = prop::option::weighted(0.4, prop_oneof![Just(5_i64), Just(90), Just(1_000)]);
    (rows, every, over, any::<bool>(), ttl).prop_map(|(rows, every, over, purge, ttl)| Triggers { rows, every, over, purge, ttl })
}

impl Triggers {
    fn spec(self) -> GlobalSpec {
        let mut spec = global();
        if let Some(rows) = self.rows {
            spec = spec.rows(rows as u64);
        }
        if let Some(every) = self.every {
            spec = spec.every(millis(every as u64));
        }
        if let Some(over) = self.over {
            spec = spec.when("over", move |pending| {
                let wholes = pending.row.records["whole"].as_primitive::<Int64Type>();
                assert_eq!(pending.row.records["ts"].as_primitive::<Int64Type>().value(pending.row.index), pending.row.time);
                wholes.is_valid(pending.row.index) && wholes.value(pending.row.index) > over
            });
        }
        if self.purge { spec.purge() } else { spec }
    }

    /// The results of the rows of one key, which are in order of time.
    fn model(self, rows: &[Row]) -> Vec<Summary> {
        let (mut results, mut kept, mut pending): (Vec<Summary>, Vec<Row>, Vec<i64>) = (Vec::new(), Vec::new(), Vec::new());
        let fire = |kept: &mut Vec<Row>, pending: &mut Vec<i64>, results: &mut Vec<Summary>| {
            if !std::mem::take(pending).is_empty() {
                results.push(summary(kept));
                if self.purge {
                    kept.clear();
                }
            }
        };
        let mut latest = None;
        for row in rows {
            if self.every.is_some_and(|every| pending.first().is_some_and(|since| row.time >= (since.div_euclid(every) + 1) * every)) {
                fire(&mut kept, &mut pending, &mut results);
            }
            if self.ttl.is_some_and(|ttl| latest.is_some_and(|latest| row.time - latest > ttl)) {
                fire(&mut kept, &mut pending, &mut results);
                kept.clear();
            }
            latest = Some(row.time);
            kept.push(row.clone());
            pending.push(row.time);
            let over = self.over.is_some_and(|over| row.whole.is_some_and(|whole| whole > over));
            if over || self.rows.is_some_and(|rows| pending.len() >= rows) {
                fire(&mut kept, &mut pending, &mut results);
            }
        }
        fire(&mut kept, &mut pending, &mut results);
        results
    }
}

/// The rows as they would come without delay.
fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| row.time);
    rows
}

/// Rows in runs that end where more than `ttl` lies between two.
fn runs(rows: &[Row], ttl: i64) -> Vec<&[Row]> {
    rows.chunk_by(|a, b| b.time - a.time <= ttl).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_global_window_fires_when_its_triggers_say(
        rows in traces(),
        triggers in triggers(),
        delay in prop_oneof![Just(0_i64), Just(30), Just(300)],
        batch_rows in prop_oneof![Just(1_usize), Just(7), Just(1_000)],
        workers in 1..3_usize,
    ) {
        let (keys, late) = on_time(&rows, delay);
        let expected: Results = keys.iter().map(|(key, rows)| (*key, triggers.model(rows))).collect();
        let table = run(&rows, delay, triggers.spec(), triggers.ttl, (batch_rows, workers));
        prop_assert_eq!(summaries(table.batches()), expected);
        prop_assert_eq!(table.metrics().late_rows as usize, late);
    }

    #[test]
    fn windows_of_ones_own_hold_the_rows_that_their_function_says(
        rows in traces(),
        delay in prop_oneof![Just(0_i64), Just(30), Just(300)],
        batch_rows in prop_oneof![Just(1_usize), Just(7), Just(1_000)],
        workers in 1..3_usize,
    ) {
        // Of 70, and of the first 30 of these; in every third nothing.
        let spans = |time: i64| {
            let number = time.div_euclid(70);
            let spans = [(number * 70, number * 70 + 70), (number * 70, number * 70 + 30)];
            let holds = |(start, end): &(i64, i64)| (*start..*end).contains(&time) && number % 3 != 0;
            spans.into_iter().filter(holds).collect::<Vec<_>>()
        };
        let counted: Vec<Row> = rows.iter().filter(|row| !spans(row.time).is_empty()).cloned().collect();
        // Rows in no window move the watermark, and are not late.
        let (groups, missing) = model_windows(&rows, delay, spans);
        let uncounted = rows.len() - counted.len();
        let mut expected: BTreeMap<(i64, i64, Option<i64>), Summary> = BTreeMap::new();
        for ((start, end, key), rows) in groups {
            let (_, _, n, sum, distinct, list) = summary(&rows);
            expected.insert((start, end, key), (start, end, n, sum, distinct, list));
        }
        let spec = windows_by("parts of 70", move |row, windows| windows.extend(spans(row.time)));
        let table = run(&rows, delay, spec, None, (batch_rows, workers));
        let found = summaries(table.batches()).into_iter().flat_map(|(key, results)| {
            results.into_iter().map(move |result| ((result.0, result.1, key), result))
        });
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
        prop_assert_eq!(table.metrics().late_rows as usize, missing - uncounted);
    }

    #[test]
    fn windows_of_rows_forget_keys_that_are_gone(
        rows in traces(),
        ttl in prop_oneof![Just(5_i64), Just(90), Just(1_000)],
        (size, slide) in (1..6_usize, 1..6_usize),
        batch_rows in prop_oneof![Just(1_usize), Just(7), Just(1_000)],
    ) {
        let (rows, size) = (in_order(rows), size.max(slide));
        let windows = |rows: &[Row]| {
            let mut windows: Vec<Summary> =
                (slide..=rows.len()).step_by(slide).map(|end| summary(&rows[end.saturating_sub(size)..end])).collect();
            let complete = rows.len() / slide * slide;
            if complete < rows.len() {
                windows.push(summary(&rows[complete.saturating_sub(size - slide)..]));
            }
            windows
        };
        let (keys, _) = on_time(&rows, 0);
        let expected: Results = keys.iter().map(|(key, rows)| (*key, runs(rows, ttl).into_iter().flat_map(windows).collect())).collect();
        let table = run(&rows, 0, count_window(size as u32).slide(slide as u32), Some(ttl), (batch_rows, 1));
        prop_assert_eq!(summaries(table.batches()), expected);
    }

    #[test]
    fn rolling_windows_of_rows_forget_keys_that_are_gone(
        rows in traces(),
        ttl in prop_oneof![Just(5_i64), Just(90), Just(1_000)],
        size in 1..6_usize,
        batch_rows in prop_oneof![Just(1_usize), Just(7), Just(1_000)],
    ) {
        let (keys, _) = on_time(&rows, 60);
        let counts = |rows: &[Row]| (1..=rows.len()).map(|end| end.min(size) as i64).collect::<Vec<_>>();
        let expected: BTreeMap<Option<i64>, Vec<i64>> =
            keys.iter().map(|(key, rows)| (*key, runs(rows, ttl).into_iter().flat_map(counts).collect())).collect();
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let stream = Stream::from_arrow([records(&rows, false)]).event_time(event_time("ts").max_delay(millis(60)));
        let rolling = stream.window(rolling_rows(size as u32)).ttl(millis(ttl as u64)).by(["key"]).agg([count().alias("n")]);
        let mut found: BTreeMap<Option<i64>, Vec<i64>> = BTreeMap::new();
        for batch in rolling.batches(config).unwrap() {
            let batch = batch.unwrap().project(&[1, 5]).unwrap();
            let counts = batch.column(1).as_primitive::<Int64Type>();
            (0..batch.num_rows()).for_each(|row| found.entry(key_of(&batch, row)).or_default().push(counts.value(row)));
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_key_is_put_out_and_forgotten_while_others_go_on() {
    let script = source([
        table("ts: int64 | card: string\n 0 | a\n 10 | b\n 20 | a"),
        table("ts | card\n 150 | b"),
        table("ts | card\n 190 | a\n 400 | b"),
    ]);
    let stream = script.unwrap().event_time("ts");
    let results = stream.window(global().rows(3)).ttl(millis(100)).by(["card"]).agg([count().alias("n")]).collect().unwrap();
    assert_table(
        results.batches(),
        "
        card | window_start | window_end | n
        b    | 10           | 10         | 1
        a    | 0            | 20         | 2
        b    | 150          | 150        | 1
        a    | 190          | 190        | 1
        b    | 400          | 400        | 1",
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let stream = source([table("ts: int64\n 5")]).unwrap().event_time("ts");
    let why = |spec: Windowing, ttl: Option<u64>| {
        let windows = stream.window(spec);
        let windows = ttl.map(|ttl| windows.clone().ttl(millis(ttl))).unwrap_or(windows);
        windows.agg([count()]).schema().unwrap_err().to_string()
    };
    assert!(
        why(global().rows(0).into(), None).contains("must wait for a row or a unit of time at least; the window is global(every 0 rows)")
    );
    assert!(why(tumbling(millis(10)).into(), Some(1)).contains("a key is forgotten with its last window"));
    assert!(why(session(millis(10)).into(), Some(1)).contains("which session(10ms) does not"));
    let outside = stream.window(windows_by("wrong", |row, windows| windows.push((row.time + 1, row.time + 5)))).agg([count()]);
    let error = outside.collect().unwrap_err().to_string();
    assert!(error.contains("`wrong` puts a row at 5 into the window [6, 10), which does not hold it"), "{error}");
    assert!(stream.window(global().every(millis(5)).purge()).agg([count()]).explain().unwrap().contains("global(every 5ms, purging)"));
}
