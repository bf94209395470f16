//! A pipeline stopped between any two batches goes on in a fresh one as if nothing had happened, by however many workers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::trace::{Row, records, traces};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;
use thalweg::config::Exchange;
use thalweg::operator::process::heartbeat::Heartbeat;
use thalweg::operator::process::{Context, Process, Rows};
use thalweg::sink::Callback;
use thalweg::state::{Reader, Snapshot, Writer};
use thalweg::testing::{batch, eof, source};
use thalweg::window::Windowing;
use thalweg::{
    Aggregate, AggregateFunction, Config, Error, Kind, Query, Result, Stream, approx_distinct, arg_max, arg_min, collect_list, corr, count,
    count_distinct, count_window, covar, cumulate, custom, delta, event_time, ewma, first, global, histogram, hopping, last, max, mean,
    median, merge_distinct, merge_quantile, millis, min, novelty, quantile, rate, rolling_range, rolling_rows, session, std, sum, top_k,
    tumbling, var, windows_by, zscore,
};

/// Counts the rows of a key and says so by a timer some time after its first row.
struct Remind {
    in_order: bool,
    ttl: Option<Duration>,
}

impl Process for Remind {
    type State = i64;

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let int = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        Ok(Arc::new(Schema::new(vec![Arc::clone(&input.fields()[1]), int("n"), int("at")])))
    }

    fn on_rows(&self, rows: &Rows<'_>, state: &mut i64, context: &mut Context<'_>) -> Result<()> {
        if *state == 0 {
            context.set_timer(rows.times[0] + 70)?;
        }
        *state += rows.times.len() as i64;
        Ok(())
    }

    fn on_timer(&self, time: i64, state: &mut i64, context: &mut Context<'_>) -> Result<()> {
        let int = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let key = Arc::clone(context.key()?.column(0));
        context.emit(RecordBatch::try_from_iter_with_nullable([("key", key, true), ("n", int(*state), false), ("at", int(time), false)])?);
        context.set_timer(time + 50)?;
        Ok(())
    }

    fn in_order(&self) -> bool {
        self.in_order
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    fn save(&self, state: &i64, out: &mut Writer) -> Result<()> {
        out.word(*state as u64);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<i64> {
        Ok(from.word()? as i64)
    }
}

/// Counts rows, in an aggregate of its own.
struct RowCount;

impl AggregateFunction for RowCount {
    type State = i64;

    fn data_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulate(&self, state: &mut i64, rows: &[ArrayRef]) -> Result<()> {
        *state += rows[0].len() as i64;
        Ok(())
    }

    fn merge(&self, state: &mut i64, other: &i64) -> Result<()> {
        *state += other;
        Ok(())
    }

    fn finish(&self, states: &[&i64]) -> Result<ArrayRef> {
        Ok(Arc::new(states.iter().map(|state| Some(**state)).collect::<Int64Array>()))
    }

    fn save(&self, state: &i64, out: &mut Writer) -> Result<()> {
        out.word(*state as u64);
        Ok(())
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<i64> {
        Ok(from.word()? as i64)
    }
}

/// One of each kind of state.
fn aggregates() -> Vec<Aggregate> {
    vec![
        count().alias("n"),
        sum("whole").alias("whole"),
        mean("value").alias("mean"),
        min("value").alias("min"),
        max("whole").alias("max"),
        var("value").alias("var"),
        std("whole").alias("std"),
        corr("value", "whole").alias("corr"),
        covar("value", "whole").alias("covar"),
        first("text").alias("first"),
        last("value").alias("last"),
        arg_min("text", "value").alias("arg_min"),
        arg_max("whole", "value").alias("arg_max"),
        count_distinct("text").alias("distinct"),
        approx_distinct("value").alias("approx"),
        approx_distinct("whole").sketch().alias("distinct_sketch"),
        median("value").alias("median"),
        quantile("whole", 0.9).alias("p90"),
        quantile("value", 0.9).error(0.02).sketch().alias("quantile_sketch"),
        histogram("value", [-10.0, 0.0, 10.0]).alias("histogram"),
        top_k("text", 2).alias("top"),
        collect_list("text", 3).alias("list"),
        rate().alias("rate"),
        delta("whole").alias("delta"),
        sum("value").filter("whole > 0").alias("some"),
        custom(RowCount, ["value"]).filter("whole > 0").alias("own"),
    ]
}

/// What a pipeline does with its rows.
type Steps = Box<dyn Fn(&Stream) -> Stream>;

/// Windows with all aggregates by key.
fn windows(spec: impl Into<Windowing> + Clone + 'static) -> Steps {
    Box::new(move |stream| stream.window(spec.clone()).by(["key"]).agg(aggregates()))
}

/// Every kind of window that has one row for many, by name.
fn window_pipelines() -> Vec<(&'static str, Steps)> {
    vec![
        ("tumbling", windows(tumbling(millis(100)))),
        ("hopping", windows(hopping(millis(100), millis(30)))),
        (
            "many panes",
            Box::new(|stream| {
                let plain =
                    [count().alias("n"), sum("whole").alias("whole"), mean("value"), min("value").alias("lo"), max("whole").alias("hi")];
                stream.window(hopping(millis(100), millis(5))).by(["key"]).agg(plain)
            }),
        ),
        (
            "many panes, one key",
            Box::new(|stream| stream.window(hopping(millis(90), millis(3))).agg([count().alias("n"), max("value").alias("hi")])),
        ),
        ("cumulate", windows(cumulate(millis(120), millis(40)))),
        ("session", windows(session(millis(15)))),
        (
            "sessions, revised",
            Box::new(|stream| {
                stream.window(session(millis(15))).allowed_lateness(millis(60)).early(millis(25)).by(["key"]).agg(aggregates())
            }),
        ),
        ("rows", windows(count_window(5).slide(2))),
        (
            "rows of keys that are forgotten",
            Box::new(|stream| stream.window(count_window(4)).ttl(millis(40)).by(["key"]).agg(aggregates())),
        ),
        ("global", windows(global().rows(4).every(millis(70)))),
        (
            "global, begun anew",
            Box::new(|stream| stream.window(global().every(millis(50)).purge()).ttl(millis(60)).by(["key"]).agg(aggregates())),
        ),
        (
            "windows by a function",
            windows(windows_by("of 80, from its half on", |row, windows| {
                let start = row.time.div_euclid(80) * 80;
                windows.push((start, start + 80));
                windows.extend((row.time >= start + 40).then_some((start + 40, start + 80)));
            })),
        ),
        (
            "windows by a function, revised",
            Box::new(|stream| {
                let halves = windows_by("halves and wholes", |row, windows| {
                    windows.extend([40, 80].map(|size| (row.time.div_euclid(size) * size, (row.time.div_euclid(size) + 1) * size)));
                });
                stream.window(halves).allowed_lateness(millis(60)).early(millis(25)).by(["key"]).agg(aggregates())
            }),
        ),
        ("one key", Box::new(|stream| stream.window(hopping(millis(90), millis(30))).agg([count().alias("n"), first("text").alias("f")]))),
        ("two keys", Box::new(|stream| stream.window(tumbling(millis(90))).by(["text", "key"]).agg([count().alias("n")]))),
        (
            "lateness",
            Box::new(|stream| stream.window(hopping(millis(100), millis(50))).allowed_lateness(millis(80)).by(["key"]).agg(aggregates())),
        ),
        ("early", Box::new(|stream| stream.window(tumbling(millis(100))).early(millis(20)).by(["key"]).agg(aggregates()))),
        ("updates", Box::new(|stream| stream.window(tumbling(millis(100))).updates().by(["key"]).agg(aggregates()))),
    ]
}

/// Every kind of step that has a state, by name.
fn pipelines() -> Vec<(&'static str, Steps)> {
    let rolling =
        || [count().alias("n"), sum("whole").alias("total"), mean("value"), min("value").alias("min"), zscore("value").alias("z")];
    let remind = |in_order, ttl| -> Steps { Box::new(move |stream: &Stream| stream.process(["key"], Remind { in_order, ttl })) };
    let mut pipelines = window_pipelines();
    let others: Vec<(&'static str, Steps)> = vec![
        ("rolling rows", Box::new(move |stream| stream.window(rolling_rows(4)).by(["key"]).agg(rolling()))),
        ("rolling rows, forgotten", Box::new(move |stream| stream.window(rolling_rows(4)).ttl(millis(30)).by(["key"]).agg(rolling()))),
        ("rolling range", Box::new(move |stream| stream.window(rolling_range(millis(60))).by(["key"]).agg(rolling()))),
        ("dedup", Box::new(|stream| stream.dedup(["key", "whole"], millis(40)))),
        ("detect", Box::new(|stream| stream.detect(ewma(0.1).on(["value", "whole"]).by(["key"])))),
        ("detect with a ttl", Box::new(|stream| stream.detect(novelty().on(["value"]).by(["key"]).with_p().region(4).ttl(millis(40))))),
        ("detect with all columns", Box::new(|stream| stream.detect(novelty().on(["value"]).by(["key"]).with_p().refractory(3).region(4)))),
        ("heartbeat", Box::new(|stream| stream.heartbeat(["key"], Heartbeat { factor: 1.5, least: millis(3), warmup: 1 }))),
        ("process", remind(true, None)),
        ("process that forgets", remind(true, Some(millis(90)))),
        ("process as rows come", remind(false, None)),
        (
            "two windows",
            Box::new(|stream| {
                let inner = stream.window(tumbling(millis(50))).by(["key"]).agg([count().alias("n"), sum("whole").alias("whole")]);
                inner.window(tumbling(millis(100))).agg([count().alias("keys"), max("n").alias("most"), sum("whole").alias("whole")])
            }),
        ),
        (
            "many panes, a key of integers",
            Box::new(|stream| {
                let stream = stream.with_columns([("odd", "whole % 2"), ("much", "whole > 500")]);
                stream
                    .window(hopping(millis(100), millis(5)))
                    .by(["key", "odd", "much"])
                    .agg([count().alias("n"), max("value").alias("hi")])
            }),
        ),
        (
            "sketches rolled up",
            Box::new(|stream| {
                let sketches = [approx_distinct("value").sketch().alias("d"), median("whole").sketch().alias("q")];
                let rolled_up = [
                    merge_distinct("d").alias("distinct"),
                    merge_quantile("q", 0.5).alias("median"),
                    merge_distinct("d").sketch().alias("d"),
                    merge_quantile("q", 0.5).sketch().alias("q"),
                ];
                stream.window(tumbling(millis(10))).by(["key"]).agg(sketches).window(tumbling(millis(50))).by(["key"]).agg(rolled_up)
            }),
        ),
    ];
    pipelines.extend(others);
    pipelines
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A float in so many digits as do not depend on the order in which workers add.
fn rounded(value: f64) -> String {
    if value.abs() < 1e-9 { "0".to_owned() } else { format!("{value:.8e}") }
}

/// A sink that keeps each row as text.
fn keep(lines: &Lines) -> Callback<impl FnMut(&RecordBatch) -> Result<()> + Send + use<>> {
    let lines = Arc::clone(lines);
    Callback::new(move |batch: &RecordBatch| {
        let options = FormatOptions::default().with_null("-");
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let cell = |column: usize, row: usize| match batch.column(column).as_primitive_opt::<Float64Type>() {
            Some(floats) if floats.is_valid(row) => rounded(floats.value(row)),
            _ => columns[column].value(row).to_string(),
        };
        // Each part is a script of its own, whose offsets begin anew.
        let told: Vec<usize> = (0..columns.len()).filter(|&column| batch.schema_ref().field(column).name() != "offset").collect();
        let line = |row: usize| told.iter().map(|&column| cell(column, row)).collect::<Vec<_>>().join(" | ");
        lines.lock().unwrap().extend((0..batch.num_rows()).map(line));
        Ok(())
    })
}

/// Rows and late rows of a run, each sorted.
#[derive(Debug, PartialEq)]
struct Outcome {
    rows: Vec<String>,
    late: Vec<String>,
}

/// Runs the batches in parts, from snapshot to snapshot, each by so many workers.
fn run(parts: &[(&[RecordBatch], usize, Exchange)], delay: i64, steps: &dyn Fn(&Stream) -> Stream) -> Outcome {
    let (rows, late) = (Lines::default(), Lines::default());
    let mut snapshot: Option<Vec<u8>> = None;
    for (number, (part, workers, exchange)) in parts.iter().enumerate() {
        let schema = parts.iter().find_map(|(part, ..)| part.first()).unwrap().schema();
        let mut config = Config::default();
        (config.workers, config.exchange) = (*workers, *exchange);
        let script = std::iter::once(batch(RecordBatch::new_empty(schema))).chain(part.iter().cloned().map(batch)).chain([eof()]);
        let stream = steps(&source(script).unwrap().event_time(event_time("ts").max_delay(millis(delay as u64))));
        let mut query = Query::new().config(config).sink(&stream, keep(&rows));
        if stream.has_late_rows() {
            query = query.late(keep(&late));
        }
        if let Some(bytes) = &snapshot {
            query = query.restore(Snapshot::from_bytes(bytes).unwrap());
        }
        let mut pipeline = query.build().unwrap();
        if number + 1 == parts.len() {
            pipeline.run().unwrap();
        } else {
            // Asked before each delivery: the table of the columns, and the batches.
            let mut deliveries = 0;
            let ended = pipeline.step_until(Duration::from_secs(3_600), &mut || {
                deliveries += 1;
                deliveries > part.len() + 1
            });
            assert!(!ended.unwrap());
            snapshot = Some(pipeline.snapshot().unwrap().to_bytes().unwrap());
        }
    }
    let sorted = |lines: Lines| {
        let mut lines = std::mem::take(&mut *lines.lock().unwrap());
        lines.sort();
        lines
    };
    Outcome { rows: sorted(rows), late: sorted(late) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stopped_at_any_batch_it_goes_on_as_if_nothing_had_happened(
        rows in traces(),
        text_keys in any::<bool>(),
        delay in prop_oneof![Just(0), Just(30), Just(400)],
        batch_rows in prop_oneof![Just(1), Just(7), Just(64)],
        stops in prop::collection::vec((0.0..1.0_f64, 1..4_usize, 0..4_usize), 1..4),
        (last_workers, last_exchange) in (1..4_usize, 0..4_usize),
        pipeline in 0..pipelines().len(),
    ) {
        let all = records(&rows, text_keys);
        let starts = (0..rows.len()).step_by(batch_rows);
        let batches: Vec<RecordBatch> = starts.map(|start| all.slice(start, batch_rows.min(rows.len() - start))).collect();
        let exchange = |number: usize| [Exchange::Auto, Exchange::Hash, Exchange::TwoPhases, Exchange::Windows][number];
        let place = |stop: f64| (stop * (batches.len() + 1) as f64) as usize;
        let mut stops: Vec<_> = stops.iter().map(|&(stop, workers, by)| (place(stop), workers, exchange(by))).collect();
        stops.push((batches.len(), last_workers, exchange(last_exchange)));
        stops.sort_unstable_by_key(|stop| stop.0);
        let mut start = 0;
        let part = |(end, workers, by)| (&batches[std::mem::replace(&mut start, end)..end], workers, by);
        let parts: Vec<_> = stops.into_iter().map(part).collect();
        let (name, steps) = &pipelines()[pipeline];
        let undisturbed = run(&[(&batches, 1, Exchange::Auto)], delay, steps.as_ref());
        prop_assert_eq!(run(&parts, delay, steps.as_ref()), undisturbed, "{}", name);
    }
}

fn at(time: i64) -> Row {
    Row { time, key: Some(1), value: Some(1.5), whole: Some(2) }
}

fn pipeline(stream: &Stream, snapshot: Option<Snapshot>) -> Result<thalweg::Pipeline> {
    let query = Query::new().sink(stream, keep(&Lines::default()));
    match snapshot {
        Some(snapshot) => query.restore(snapshot).build(),
        None => query.build(),
    }
}

#[test]
fn a_snapshot_of_other_steps_is_refused() {
    let stream = source([batch(records(&[at(0)], false))]).unwrap().event_time("ts");
    let counts = stream.window(tumbling(millis(10))).by(["key"]).agg([count()]);
    let snapshot = pipeline(&counts, None).unwrap().snapshot().unwrap();
    assert!(pipeline(&counts, Some(snapshot.clone())).is_ok());
    let other = stream.window(tumbling(millis(20))).by(["key"]).agg([count()]);
    let error = pipeline(&other, Some(snapshot)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let said = error.to_string();
    assert!(
        said.contains("the snapshot is of another pipeline") && said.contains("tumbling(10ms)") && said.contains("tumbling(20ms)"),
        "{said}"
    );
}

/// A process without `save`.
struct Forgetful;

impl Process for Forgetful {
    type State = ();

    fn schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn on_rows(&self, _: &Rows<'_>, _: &mut (), _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_pipeline_that_has_ended_has_nothing_to_save() {
    let stream = source([batch(records(&[at(0)], false))]).unwrap().event_time("ts").window(tumbling(millis(10))).agg([count()]);
    let mut ended = pipeline(&stream, None).unwrap();
    ended.run().unwrap();
    assert!(ended.snapshot().unwrap_err().to_string().contains("the pipeline has ended"));
}

#[test]
fn a_process_that_cannot_be_saved_says_so() {
    let stream = source([batch(records(&[at(0)], false))]).unwrap().event_time("ts").process(["key"], Forgetful);
    let mut running = pipeline(&stream, None).unwrap();
    let mut asked = 0;
    let ended = running.step_until(Duration::from_secs(1), &mut || {
        asked += 1;
        asked > 1
    });
    assert!(!ended.unwrap());
    let error: Error = running.snapshot().unwrap_err();
    assert!(error.to_string().contains("implement `Process::save` and `Process::load`"), "{error}");
}
