//! Several workers give what one gives: every kind of step, however its rows are shared out, whatever the batch size.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::trace::{Row, records, traces};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use thalweg::config::Exchange;
use thalweg::operator::process::{Context, Process, Rows};
use thalweg::sink::{Callback, Memory};
use thalweg::source::Listen;
use thalweg::{
    Aggregate, Config, Error, Kind, Metrics, Pulled, Query, Result, Stream, Table, arg_max, arg_min, collect_list, count, count_distinct,
    count_window, cumulate, delta, event_time, ewma, first, hopping, last, max, mean, median, millis, min, rolling_range, rolling_rows,
    secs, session, sum, top_k, tumbling,
};

/// All that depends on the order of arrival, and exact sums.
fn aggregates() -> Vec<Aggregate> {
    vec![
        count().alias("n"),
        sum("value"),
        min("value"),
        max("value"),
        mean("whole"),
        first("value").alias("first"),
        last("text").alias("last"),
        arg_min("text", "value").alias("arg_min"),
        arg_max("whole", "value").alias("arg_max"),
        count_distinct("text").alias("texts"),
        median("value").alias("median"),
        top_k("text", 2).alias("top"),
        collect_list("whole", 3).alias("list"),
        delta("whole").alias("delta"),
        first("text").filter("whole % 2 = 0").alias("first_even"),
    ]
}

fn counts() -> Vec<Aggregate> {
    vec![count().alias("n"), sum("whole").alias("total"), first("value").alias("first"), last("text").alias("last")]
}

/// Counts the rows of a key up to `most`, and says so; a timer says what was left.
struct Counter {
    in_order: bool,
}

impl Counter {
    fn say(context: &mut Context<'_>, n: i64, at: i64) -> Result<()> {
        let int = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let key = Arc::clone(context.key()?.column(0));
        context.emit(RecordBatch::try_from_iter_with_nullable([("key", key, true), ("n", int(n), false), ("at", int(at), false)])?);
        Ok(())
    }
}

impl Process for Counter {
    type State = i64;

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let int = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        Ok(Arc::new(Schema::new(vec![Arc::clone(&input.fields()[1]), int("n"), int("at")])))
    }

    fn on_rows(&self, rows: &Rows<'_>, state: &mut i64, context: &mut Context<'_>) -> Result<()> {
        for &time in rows.times {
            *state += 1;
            if *state % 5 == 1 {
                context.set_timer(time + 200)?;
            }
            if *state % 3 == 0 {
                Counter::say(context, *state, time)?;
            }
        }
        Ok(())
    }

    fn on_timer(&self, time: i64, state: &mut i64, context: &mut Context<'_>) -> Result<()> {
        Counter::say(context, -*state, time)
    }

    fn in_order(&self) -> bool {
        self.in_order
    }
}

/// Its name, the columns that make a key, whether rows come out in order of a column's times, and the steps.
type Case = (&'static str, &'static [&'static str], Option<&'static str>, fn(&Stream) -> Stream);

const KEY: &[&str] = &["key"];
const END: Option<&str> = Some("window_end");

/// Every kind of step, with what is in order.
fn cases() -> Vec<Case> {
    vec![
        ("tumbling", KEY, END, |s| s.window(tumbling(millis(100))).by(["key"]).agg(aggregates())),
        ("hopping", KEY, END, |s| s.window(hopping(millis(100), millis(25))).by(["key"]).agg(aggregates())),
        ("hopping apart", KEY, END, |s| s.window(hopping(millis(100), millis(30))).by(["key"]).agg(aggregates())),
        ("cumulate", KEY, END, |s| s.window(cumulate(millis(120), millis(40))).by(["key"]).agg(aggregates())),
        ("two columns", &["key", "text"], END, |s| s.window(tumbling(millis(100))).by(["key", "text"]).agg(counts())),
        ("columns of integers", &["key", "odd", "much"], END, |s| {
            let s = s.with_columns([("odd", "whole % 2"), ("much", "whole > 500")]);
            s.window(tumbling(millis(100))).by(["key", "odd", "much"]).agg(counts())
        }),
        ("no key", &[], END, |s| s.window(hopping(millis(100), millis(50))).agg(aggregates())),
        ("steps before", KEY, END, |s| {
            let s =
                s.filter("whole > -500").with_columns([("twice", "whole * 2")]).select(["key", "twice", "twice AS whole", "value", "text"]);
            s.window(tumbling(millis(100))).by(["key"]).agg(counts())
        }),
        ("key made before", &["odd"], END, |s| {
            s.with_columns([("odd", "whole % 2")]).filter("value > 0").window(tumbling(millis(100))).by(["odd"]).agg(counts())
        }),
        ("session", KEY, END, |s| s.window(session(millis(60))).by(["key"]).agg(counts())),
        ("count window", KEY, None, |s| s.window(count_window(3)).by(["key"]).agg(counts())),
        ("rolling rows", KEY, Some("ts"), |s| s.window(rolling_rows(4)).by(["key"]).agg([count().alias("n"), sum("whole").alias("sum")])),
        ("rolling range", KEY, Some("ts"), |s| {
            s.window(rolling_range(millis(90))).by(["key"]).agg([count().alias("n"), max("whole").alias("most")])
        }),
        ("dedup", &["key", "whole"], None, |s| s.dedup(["key", "whole"], millis(80))),
        ("process", KEY, None, |s| s.process(["key"], Counter { in_order: false })),
        ("process in order", KEY, Some("at"), |s| s.process(["key"], Counter { in_order: true })),
        ("detect", KEY, None, |s| s.detect(ewma(0.1).on(["value"]).by(["key"]))),
        ("lateness", KEY, None, |s| s.window(tumbling(millis(100))).allowed_lateness(millis(150)).by(["key"]).agg(counts())),
        ("early", KEY, None, |s| s.window(hopping(millis(100), millis(50))).early(millis(20)).by(["key"]).agg(counts())),
        ("updates", KEY, None, |s| s.window(tumbling(millis(100))).updates().by(["key"]).agg(counts())),
        ("window of windows", KEY, END, |s| {
            let s = s.window(tumbling(millis(50))).by(["key", "text"]).agg(counts());
            s.window(tumbling(millis(200))).by(["key"]).agg([sum("n").alias("n"), count().alias("windows")])
        }),
        ("window of windows with its key", KEY, END, |s| {
            let s = s.window(tumbling(millis(50))).by(["key"]).agg(counts()).filter("n > 1");
            s.window(hopping(millis(200), millis(100))).by(["key"]).agg([sum("n").alias("n"), count().alias("windows")])
        }),
        ("windows of sessions over all", &[], END, |s| {
            let s = s.window(session(millis(50))).by(["key"]).agg(counts());
            s.window(tumbling(millis(200))).agg([sum("n").alias("n"), count().alias("sessions")])
        }),
        ("windows after dedup and process", KEY, END, |s| {
            let s = s.dedup(["key"], millis(5)).process(["key"], Counter { in_order: true });
            s.window(tumbling(millis(200))).by(["key"]).agg([sum("n").alias("n"), count().alias("said")])
        }),
    ]
}

fn config(batch_rows: usize, workers: usize, exchange: Exchange) -> Config {
    let mut config = Config::default();
    (config.batch_rows, config.workers, config.exchange) = (batch_rows, workers, exchange);
    config
}

fn source(rows: &[Row], text_keys: bool, delay: u64) -> Stream {
    Stream::from_arrow([records(rows, text_keys)]).event_time(event_time("ts").max_delay(millis(delay)))
}

fn run(stream: &Stream, config: Config) -> Table {
    stream.batches(config).unwrap().into_table().unwrap()
}

/// Every row in words, in order.
fn in_words(batches: &[RecordBatch]) -> Vec<String> {
    let row = |batch: &RecordBatch, row| {
        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        cells.collect::<Vec<_>>().join("|")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|number| row(batch, number)).collect::<Vec<_>>()).collect()
}

/// The rows of each key in order.
fn by_key(batches: &[RecordBatch], key: &[&str]) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut keys: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for batch in batches {
        let columns: Vec<_> = key.iter().map(|name| batch.column_by_name(name).unwrap()).collect();
        for (row, words) in in_words(std::slice::from_ref(batch)).into_iter().enumerate() {
            let key = columns.iter().map(|column| array_value_to_string(column, row).unwrap()).collect();
            keys.entry(key).or_default().push(words);
        }
    }
    keys
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_unstable();
    rows
}

fn times(batches: &[RecordBatch], name: &str) -> Vec<i64> {
    let of = |batch: &RecordBatch| {
        let column = batch.column_by_name(name).unwrap();
        match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().values().to_vec(),
            _ => column.as_primitive::<TimestampMillisecondType>().values().to_vec(),
        }
    };
    batches.iter().flat_map(of).collect()
}

fn counters(metrics: &Metrics) -> [u64; 5] {
    [metrics.rows_in, metrics.rows_out, metrics.late_rows, metrics.duplicate_rows, metrics.quarantined_rows]
}

/// Whether all steps that keep state before the last have their rows in the order of one worker.
fn is_whole(table: &Table) -> bool {
    table.metrics().exchanges.iter().all(|exchange| exchange.contains("in two phases") || exchange.contains("by window"))
}

/// The first that differs of what was expected and what there is.
fn difference<T: PartialEq + std::fmt::Debug>(one: &[T], several: &[T]) -> Option<String> {
    let at = (0..one.len().max(several.len())).find(|&at| one.get(at) != several.get(at))?;
    Some(format!("at {at}: {:?} expected, not {:?}", one.get(at), several.get(at)))
}

/// Holds what several workers gave against what one gave.
fn check((name, key, order, _): &Case, one: &Table, several: &Table) {
    let exchanges = &several.metrics().exchanges;
    assert_eq!(counters(one.metrics()), counters(several.metrics()), "{name}, {exchanges:?}");
    let same = |one: Vec<_>, several: Vec<_>| assert_eq!(difference(&one, &several), None, "{name}, {exchanges:?}");
    if is_whole(several) {
        same(in_words(one.batches()), in_words(several.batches()));
    }
    let keys = |table: &Table| by_key(table.batches(), key).into_values().flatten().collect();
    same(keys(one), keys(several));
    same(sorted(in_words(one.late())), sorted(in_words(several.late())));
    if let Some(column) = order {
        assert!(!times(one.batches(), column).is_sorted() || times(several.batches(), column).is_sorted(), "{name}, {exchanges:?}");
    }
}

/// Values whose sums are exact, whatever the order of additions.
fn exact(mut rows: Vec<Row>) -> Vec<Row> {
    rows.iter_mut().for_each(|row| row.value = row.value.map(|value| (value * 8.0).round() / 8.0));
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_workers_give_what_one_gives(
        rows in traces(),
        text_keys in any::<bool>(),
        delay in prop_oneof![Just(0), Just(10), Just(150)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
        workers in prop_oneof![Just(2), Just(3), Just(8)],
        exchange in prop_oneof![Just(Exchange::Auto), Just(Exchange::Hash), Just(Exchange::TwoPhases), Just(Exchange::Windows)],
    ) {
        let rows = exact(rows);
        let source = source(&rows, text_keys, delay);
        for case in cases() {
            let stream = case.3(&source);
            let one = run(&stream, config(batch_rows, 1, exchange));
            let several = run(&stream, config(batch_rows, workers, exchange));
            check(&case, &one, &several);
        }
    }
}

/// Rows of several shapes: in order, with ties, with stragglers, far apart, of one key and of many.
fn shapes() -> Vec<(&'static str, Vec<Row>)> {
    let row = |time: i64, key: i64, n: i64| Row { time, key: Some(key), value: Some(n as f64 / 4.0), whole: Some(n % 11) };
    let rows = |count: i64, at: fn(i64) -> i64, key: fn(i64) -> i64| (0..count).map(|n| row(at(n), key(n), n)).collect::<Vec<_>>();
    vec![
        ("in order", rows(3_000, |n| n, |n| n % 7)),
        ("ties", rows(3_000, |n| n / 50 * 50, |n| n * n % 13)),
        ("stragglers", rows(3_000, |n| if n % 97 == 0 { n - 900 } else { n - n * 31 % 40 }, |n| n % 5)),
        ("far apart", rows(600, |n| n * 1_700, |n| n % 3)),
        ("one key", rows(3_000, |n| n / 3, |_| 42)),
        ("many keys", rows(5_000, |n| n / 4, |n| n * 7_919 % 4_001)),
        ("hot key", rows(4_000, |n| n / 2, |n| if n % 10 == 0 { n } else { 1 })),
    ]
}

#[test]
fn shapes_of_rows_change_nothing() {
    for (shape, rows) in shapes() {
        for case in cases() {
            let stream = case.3(&source(&rows, false, 50));
            let one = run(&stream, config(512, 1, Exchange::Auto));
            for workers in [2, 3] {
                for exchange in [Exchange::Hash, Exchange::TwoPhases, Exchange::Windows] {
                    let several = run(&stream, config(512, workers, exchange));
                    check(&(shape, case.1, case.2, case.3), &one, &several);
                    let again = run(&stream, config(512, workers, exchange));
                    assert_eq!(in_words(several.batches()), in_words(again.batches()), "{shape}: one number of workers, one order");
                }
            }
        }
    }
}

#[test]
fn the_way_is_chosen_by_the_first_rows() {
    let chosen = |rows: &[Row], stream: fn(&Stream) -> Stream, exchange| {
        let table = run(&stream(&source(rows, false, 50)), config(4_096, 2, exchange));
        table.metrics().exchanges.join("; ")
    };
    let windows = |s: &Stream| s.window(tumbling(secs(1))).by(["key"]).agg([count()]);
    let all = |shape| shapes().into_iter().find(|(name, _)| *name == shape).unwrap().1;
    let few = chosen(&all("in order"), windows, Exchange::Auto);
    assert!(few.contains("2 workers share the rows in two phases; 7 keys in the first 3000 rows"), "{few}");
    let row = |n: i64| Row { time: n / 10, key: Some(n), value: None, whole: None };
    let many: Vec<Row> = (0..5_000).map(row).collect();
    let text = chosen(&many, windows, Exchange::Auto);
    assert!(text.contains("by window; 4096 keys in the first 4096 rows"), "{text}");
    let long = chosen(&many, |s| s.window(tumbling(secs(10))).by(["key"]).agg([count()]), Exchange::Auto);
    assert!(long.contains("by key hash; 4096 keys in the first 4096 rows"), "{long}");
    let followed =
        chosen(&many, |s| s.window(tumbling(secs(1))).by(["key"]).agg([count().alias("n")]).dedup(["key"], secs(9)), Exchange::Windows);
    assert!(followed.contains("by key hash"), "{followed}");
    let hopping = chosen(&many, |s| s.window(hopping(secs(1), millis(500))).by(["key"]).agg([count()]), Exchange::Windows);
    assert!(hopping.contains("by key hash"), "{hopping}");
    assert!(chosen(&all("in order"), windows, Exchange::Windows).contains("by window"));
    assert!(chosen(&many, windows, Exchange::TwoPhases).contains("in two phases"));
    assert!(chosen(&all("in order"), windows, Exchange::Hash).contains("by key hash"));
    assert!(chosen(&all("hot key"), windows, Exchange::Auto).contains("by window"));
    let long = chosen(&all("hot key"), |s| s.window(tumbling(secs(100))).by(["key"]).agg([count()]), Exchange::Auto);
    assert!(long.contains("in two phases"), "{long}");
    assert!(
        chosen(&all("one key"), |s| s.window(session(secs(1))).by(["key"]).agg([count()]), Exchange::TwoPhases).contains("by key hash")
    );
}

#[test]
fn branches_with_keys_of_their_own_share_one_source() {
    let rows = shapes().remove(2).1;
    let results = |workers| {
        let source = source(&rows, true, 50).filter("whole < 9");
        let streams = [
            source.window(tumbling(millis(100))).by(["key"]).agg(counts()),
            source.window(session(millis(40))).by(["text"]).agg([count().alias("n")]),
            source.window(count_window(100)).agg([sum("whole")]),
            source.select(["ts", "whole"]),
        ];
        let sinks: Vec<Memory> = streams.iter().map(|_| Memory::new()).collect();
        let collected: Vec<_> = sinks.iter().map(Memory::collected).collect();
        let late = Memory::new();
        let late_rows = late.collected();
        let mut query = Query::new().config(config(256, workers, Exchange::Hash));
        let mut late = Some(late);
        for (stream, sink) in streams.iter().zip(sinks) {
            query = query.sink(stream, sink);
            if let Some(late) = late.take() {
                query = query.late(late);
            }
        }
        let metrics = query.run().unwrap();
        let words: Vec<_> = collected.iter().chain([&late_rows]).map(|rows| sorted(in_words(&rows.take()))).collect();
        (words, counters(&metrics))
    };
    assert_eq!(results(1), results(3));
}

#[test]
fn a_plan_says_what_workers_share_and_why_not() {
    let source = source(&shapes().remove(0).1, false, 50);
    let explain = |stream: &Stream, exchange| stream.explain_with(&config(512, 2, exchange)).unwrap();
    let windows = source.window(tumbling(secs(1))).by(["key"]).agg([count().alias("n")]);
    let text = explain(&windows, Exchange::Auto);
    assert!(
        text.ends_with(
            "; 2 workers share its rows by key hash, in two phases if the first rows are of few or unequal keys, or by window if windows are short"
        ),
        "{text}"
    );
    assert!(explain(&windows, Exchange::Hash).ends_with("; 2 workers share its rows by key hash"));
    assert!(explain(&windows, Exchange::Windows).ends_with("; 2 workers share its rows by window"));
    let after = windows.filter("n > 1").window(tumbling(secs(5))).agg([sum("n")]);
    assert!(
        explain(&after, Exchange::Auto).contains("filter(n > 1); in the same workers, by key hash"),
        "{}",
        explain(&after, Exchange::Auto)
    );
    let alone = source.window(count_window(3)).agg([count()]);
    let text = explain(&alone, Exchange::Auto);
    assert!(text.contains("one worker has `window(") && text.contains("it has no key by which rows could be shared out"), "{text}");
    assert!(explain(&source.filter("whole > 1"), Exchange::Auto).contains("one worker: no step keeps state"));
    assert!(!windows.explain().unwrap().contains("worker"), "with one worker there is nothing to say");
    let none = windows.batches(config(512, 0, Exchange::Auto)).err().unwrap();
    assert_eq!(none.to_string(), "`workers` is 0; it may be 1 to 256");
}

/// Fails, or panics, at one row.
struct Trap {
    panics: bool,
}

impl Process for Trap {
    type State = ();

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn on_rows(&self, rows: &Rows<'_>, _state: &mut (), _context: &mut Context<'_>) -> Result<()> {
        let sprung = rows.records.column(0).as_primitive::<Int64Type>().values().contains(&1_500);
        assert!(!(sprung && self.panics), "the trap is sprung");
        if sprung { Err(Error::state("the trap is sprung")) } else { Ok(()) }
    }

    fn name(&self) -> String {
        "trap".to_owned()
    }
}

#[test]
fn errors_and_panics_of_workers_end_the_run() {
    let source = source(&shapes().remove(0).1, false, 50);
    let said = |stream: &Stream, config: Config| stream.batches(config).unwrap().into_table().unwrap_err();
    let trap = source.process(["key"], Trap { panics: false });
    let [one, two] = [1, 2].map(|workers| said(&trap, config(100, workers, Exchange::Auto)).to_string());
    assert_eq!(one, two);
    assert_eq!(one, "process(trap by [key]): the trap is sprung");
    let panicked = said(&source.process(["key"], Trap { panics: true }), config(100, 2, Exchange::Auto));
    assert_eq!(panicked.kind(), Kind::State);
    assert!(panicked.to_string().contains("a worker has panicked"), "{panicked}");
    for exchange in [Exchange::Hash, Exchange::TwoPhases, Exchange::Windows] {
        let mut small = config(100, 2, exchange);
        small.max_state_bytes = 100;
        let full = said(&source.window(tumbling(secs(1))).by(["key"]).agg([count()]), small);
        assert_eq!(full.kind(), Kind::State);
        assert!(full.to_string().contains("over its bound of 16384 panes and 50 bytes"), "{full}");
    }
}

#[test]
fn a_run_that_is_dropped_early_ends_its_threads() {
    let alive = Arc::new(AtomicUsize::new(0));
    struct Alive(Arc<AtomicUsize>);
    impl Process for Alive {
        type State = ();
        fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
            Ok(Arc::clone(input))
        }
        fn on_rows(&self, rows: &Rows<'_>, _state: &mut (), context: &mut Context<'_>) -> Result<()> {
            self.0.fetch_add(rows.times.len(), Relaxed);
            context.emit(rows.records.clone());
            Ok(())
        }
    }
    let rows = shapes().remove(0).1;
    let stream = source(&rows, false, 50).process(["key"], Alive(Arc::clone(&alive)));
    let mut batches = stream.batches(config(10, 3, Exchange::Auto)).unwrap();
    assert!(batches.next().unwrap().unwrap().num_rows() > 0);
    drop(batches);
    let seen = alive.load(Relaxed);
    assert!(seen > 0 && seen < rows.len());
    std::thread::yield_now();
    assert_eq!(alive.load(Relaxed), seen, "no thread works on");
}

#[test]
fn a_slow_sink_holds_the_source_back_and_loses_nothing() {
    let rows = shapes().remove(0).1;
    let stream = source(&rows, false, 50).window(rolling_rows(2)).by(["key"]).agg([count()]);
    let written = Arc::new(Mutex::new(0));
    let total = Arc::clone(&written);
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let slow = Callback::new(move |batch: &RecordBatch| {
        let _ = told.recv_timeout(Duration::from_millis(2));
        *total.lock().unwrap() += batch.num_rows();
        Ok(())
    });
    let mut running = Query::new().config(config(16, 2, Exchange::Auto)).sink(&stream, slow).start().unwrap();
    let metrics = running.wait().unwrap();
    drop(tell);
    assert_eq!((*written.lock().unwrap(), metrics.rows_out, metrics.rows_in), (rows.len(), rows.len() as u64, rows.len() as u64));
}

#[test]
fn results_do_not_wait_for_more_input_and_what_waits_is_known() {
    let field = |name, data_type| Field::new(name, data_type, false);
    let schema = Arc::new(Schema::new(vec![field("ts", DataType::Int64), field("key", DataType::Utf8)]));
    for exchange in [Exchange::Hash, Exchange::TwoPhases, Exchange::Windows] {
        let input = Stream::listen(Listen::tcp("127.0.0.1:0", Arc::clone(&schema))).unwrap();
        let mut client = TcpStream::connect(input.local_addr().unwrap()).unwrap();
        let stream = input.event_time("ts").window(tumbling(secs(1))).by(["key"]).agg([count().alias("n")]);
        let mut batches = stream.batches(config(100, 2, exchange)).unwrap();
        for (ts, key) in [(100, "a"), (250, "b"), (1_100, "a")] {
            writeln!(client, r#"{{"ts": {ts}, "key": "{key}"}}"#).unwrap();
        }
        let mut rows = 0;
        while rows < 2 {
            rows += batches.next().unwrap().unwrap().num_rows();
        }
        while batches.why_not_firing().is_none() {
            assert!(matches!(batches.pull(Duration::from_millis(5)).unwrap(), Pulled::Nothing));
        }
        assert_eq!(batches.why_not_firing().unwrap().window_end, 2_000);
    }
}

#[test]
fn a_stop_fires_what_is_open() {
    let rows = shapes().remove(0).1;
    let stream = source(&rows, true, 50).window(tumbling(secs(1_000_000))).by(["key"]).agg([count().alias("n")]);
    let memory = Memory::new();
    let collected = memory.collected();
    let mut pipeline = Query::new().config(config(8, 2, Exchange::Auto)).sink(&stream, memory).build().unwrap();
    pipeline.step(Duration::from_micros(200)).unwrap();
    pipeline.stop_flag().store(true, Relaxed);
    pipeline.run().unwrap();
    let counts = |batch: &RecordBatch| batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>();
    let counted: i64 = collected.take().iter().map(counts).sum();
    assert_eq!(counted as u64, pipeline.counters().snapshot().rows_in);
}
