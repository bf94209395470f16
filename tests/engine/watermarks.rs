//! How event time goes on: what moves the watermark, and what waits for it. On a clock that moves only when told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use proptest::prelude::*;
use thalweg::batch::{PartitionId, Segment};
use thalweg::sink::Callback;
use thalweg::source::{Delivery, Listen, OpenSource, Source};
use thalweg::testing::{assert_table, rows as rows_as, source};
use thalweg::time::{SharedClock, SimulatedClock};
use thalweg::{Batch, Config, Pipeline, Query, Stream, Table, count, event_time, hours, millis, mins, rolling_rows, secs, tumbling};

const SIZE: i64 = 100;

fn int64(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Counts by window, and how many rows were late.
fn counts(table: &Table) -> (BTreeMap<i64, i64>, u64) {
    let mut counts = BTreeMap::new();
    for batch in table.batches() {
        let starts = batch.column_by_name("window_start").unwrap().as_primitive::<TimestampMillisecondType>();
        let rows = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
        for (start, rows) in starts.values().iter().zip(rows.values()) {
            assert_eq!(counts.insert(*start, *rows), None, "the window at {start} fired twice");
        }
    }
    (counts, table.metrics().late_rows)
}

fn windows(stream: &Stream) -> Stream {
    stream.window(tumbling(millis(SIZE as u64))).agg([count().alias("n")])
}

fn run(stream: &Stream, batch_rows: usize) -> Table {
    let mut config = Config::default();
    config.batch_rows = batch_rows;
    windows(stream).batches(config).unwrap().into_table().unwrap()
}

/// A row counts unless what was said before it has closed its window. A row says up to when nothing will come after it.
fn model(rows: &[(i64, Option<i64>)]) -> (BTreeMap<i64, i64>, u64) {
    let (mut counts, mut late, mut watermark) = (BTreeMap::new(), 0, i64::MIN);
    for &(time, said) in rows {
        let start = time.div_euclid(SIZE) * SIZE;
        match start + SIZE - 1 <= watermark {
            true => late += 1,
            false => *counts.entry(start).or_default() += 1,
        }
        watermark = watermark.max(said.unwrap_or(i64::MIN));
    }
    (counts, late)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_punctuates_decides_whatever_the_batch_size(
        steps in prop::collection::vec((0..40_i64, 0..400_i64, prop::option::weighted(0.2, 0..150_i64)), 1..200),
        batch_rows in prop_oneof![Just(1), Just(7), Just(64), Just(10_000)],
    ) {
        let mut now = 0;
        let rows: Vec<(i64, Option<i64>)> = steps.into_iter().map(|(step, back, behind)| {
            now += step;
            (now - back, behind.map(|behind| now - behind))
        }).collect();
        let times = int64(rows.iter().map(|row| row.0));
        let said: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
        let flags: ArrayRef = Arc::new(rows.iter().map(|row| row.1.map(|_| true)).collect::<BooleanArray>());
        let records = RecordBatch::try_from_iter([("ts", times), ("said", said), ("flag", flags)]).unwrap();
        let stream = Stream::from_arrow([records]);

        let by_time = run(&stream.event_time(event_time("ts").punctuated_by("said")), batch_rows);
        prop_assert_eq!(counts(&by_time), model(&rows));

        let by_flag = run(&stream.event_time(event_time("ts").punctuated_by("flag")), batch_rows);
        let rows: Vec<_> = rows.iter().map(|&(time, said)| (time, said.map(|_| time - 1))).collect();
        prop_assert_eq!(counts(&by_flag), model(&rows));
    }
}

#[test]
fn rows_alone_move_no_punctuated_watermark() {
    let stream = source([rows_as(
        "ts: int64 | done: bool
         0         | null
         5_000     | false
         300       | true
         250       | null",
    )]);
    let table = run(&stream.unwrap().event_time(event_time("ts").punctuated_by("done")), 1);
    assert_table(table.batches(), "window_start | n\n 0 | 1\n 300 | 1\n 5_000 | 1");
    assert_table(table.late(), "ts | done\n 250 | null");
}

#[test]
fn a_column_that_cannot_punctuate_is_refused() {
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]));
    let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["a"]));
    let records = RecordBatch::try_from_iter([("ts", int64([1])), ("us", micros), ("text", text)]).unwrap();
    let said = |time| Stream::from_arrow([records.clone()]).event_time(time).schema().unwrap_err().to_string();
    let by = |column: &str| event_time("ts").punctuated_by(column);
    assert!(said(by("text")).contains("`text` is of type Utf8; a column that punctuates is a boolean or a time"), "{}", said(by("text")));
    assert!(said(by("us")).contains("`us` counts Microseconds and the event time `ts` counts Milliseconds"), "{}", said(by("us")));
    assert!(said(by("nope")).contains("there is no column `nope`"));
    let both = said(by("ts").max_delay(millis(5)));
    assert!(both.contains("`max_delay` has no say where `ts` punctuates the stream"), "{both}");
}

#[test]
fn seconds_punctuate_in_seconds() {
    let time = event_time("ts").unit(TimeUnit::Second).punctuated_by("said");
    let stream = source([rows_as("ts: int64 | said: int64\n 1 | null\n 2 | 1\n 1 | null")]).unwrap().event_time(time);
    assert_eq!(stream.to_string().lines().last().unwrap().trim(), "→ event_time(ts, punctuated by said, idle after 5s)");
    let seconds = stream.window(tumbling(millis(1))).agg([count().alias("n")]).collect().unwrap();
    assert_table(seconds.batches(), "window_start | n\n 1_000 | 1\n 2_000 | 1");
    assert_table(seconds.late(), "ts\n 1");
}

/// What a source hands over next; nothing while it is empty.
type Queue = Arc<Mutex<VecDeque<Delivery>>>;

struct Scripted(Queue);

fn times_only() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("ts", DataType::Int64, false)]))
}

impl OpenSource for Scripted {
    fn schema(&self) -> SchemaRef {
        times_only()
    }

    fn describe(&self) -> String {
        "script".to_owned()
    }

    fn open(&self, _config: &Config, _clock: &SharedClock) -> thalweg::Result<Box<dyn Source>> {
        Ok(Box::new(Scripted(Arc::clone(&self.0))))
    }
}

impl Source for Scripted {
    fn schema(&self) -> SchemaRef {
        times_only()
    }

    fn poll(&mut self, _wait: Duration) -> thalweg::Result<Delivery> {
        Ok(self.0.lock().unwrap().pop_front().unwrap_or_default())
    }
}

fn opened(names: &[Option<&str>]) -> Delivery {
    let mut delivery = Delivery::default();
    for (partition, name) in (0..).map(PartitionId).zip(names) {
        delivery.opened.push(partition);
        delivery.names.extend(name.map(|name| (partition, name.to_owned())));
    }
    delivery
}

fn rows(partition: u32, times: &[i64]) -> Delivery {
    let records = RecordBatch::try_new(times_only(), vec![int64(times.iter().copied())]).unwrap();
    let segments = vec![Segment { partition: PartitionId(partition), rows: times.len(), offset: 0 }];
    Delivery { batch: Some(Batch { segments, ..Batch::new(records, 0, 0) }), ..Delivery::default() }
}

fn ended(partition: u32) -> Delivery {
    Delivery { ended: vec![PartitionId(partition)], ..Delivery::default() }
}

/// A pipeline of windows on a simulated clock, which takes one delivery at a time.
struct Rig {
    clock: Arc<SimulatedClock>,
    queue: Queue,
    pipeline: Pipeline,
    /// Start and count of the windows that have fired.
    fired: Arc<Mutex<Vec<(i64, i64)>>>,
}

impl Rig {
    fn new(time: impl FnOnce(&Stream) -> Stream) -> Rig {
        let (clock, queue, fired) = (SimulatedClock::shared(), Queue::default(), Arc::new(Mutex::new(Vec::new())));
        let stream = windows(&time(&Stream::from_source(Scripted(Arc::clone(&queue)))));
        let log = Arc::clone(&fired);
        let sink = Callback::new(move |batch: &RecordBatch| {
            let starts = batch.column(0).as_primitive::<TimestampMillisecondType>().values();
            let counts = batch.column(2).as_primitive::<Int64Type>().values();
            log.lock().unwrap().extend(starts.iter().copied().zip(counts.iter().copied()));
            Ok(())
        });
        let pipeline = Query::new().clock(Arc::clone(&clock) as SharedClock).sink(&stream, sink).build().unwrap();
        Rig { clock, queue, pipeline, fired }
    }

    /// Lets the clock go on, takes one delivery, and says which windows that has fired.
    fn take(&mut self, after: Duration, delivery: Delivery) -> Vec<(i64, i64)> {
        self.clock.advance(after);
        self.queue.lock().unwrap().push_back(delivery);
        let mut taken = false;
        self.pipeline.step_until(secs(1), &mut || std::mem::replace(&mut taken, true)).unwrap();
        std::mem::take(&mut self.fired.lock().unwrap())
    }

    fn wait(&mut self, after: Duration) -> Vec<(i64, i64)> {
        self.take(after, Delivery::default())
    }

    fn late(&self) -> u64 {
        self.pipeline.counters().snapshot().late_rows
    }

    fn why(&self) -> String {
        self.pipeline.why_not_firing().unwrap().to_string()
    }
}

#[test]
fn windows_of_arrival_time_fire_when_the_clock_passes_their_end() {
    let mut rig = Rig::new(|stream| stream.arrival_time("arrived"));
    assert_eq!(rig.take(millis(30), rows(0, &[7, 8])), []);
    assert_eq!(rig.take(millis(69), rows(1, &[9])), []);
    assert!(rig.why().contains("which is at 1970-01-01 00:00:00.098; it follows the clock"), "{}", rig.why());
    assert_eq!(rig.wait(millis(1)), [(0, 3)], "at 100 ms, without a row");
    assert!(rig.pipeline.why_not_firing().is_none());
    assert_eq!(rig.take(millis(99), rows(0, &[1])), []);
    assert_eq!(rig.take(millis(1), rows(0, &[2])), [(100, 1)]);
    assert_eq!(rig.take(hours(1), Delivery { end: true, ..rows(0, &[3]) }), [(200, 1), (3_600_200, 1)]);
    assert_eq!(rig.late(), 0);
}

#[test]
fn arrival_time_is_a_column_like_others() {
    let stream = Stream::from_arrow([RecordBatch::try_from_iter([("ts", int64([5, 6, 7]))]).unwrap()]);
    let timed = stream.filter("ts > 5").arrival_time("arrived");
    let schema = timed.schema().unwrap();
    assert_eq!(*schema.field(1), Field::new("arrived", DataType::Timestamp(TimeUnit::Millisecond, None), false));
    assert_eq!(timed.select(["arrived"]).window(rolling_rows(2)).agg([count()]).collect().unwrap().num_rows(), 2);
    let said = |stream: &Stream| stream.schema().unwrap_err().to_string();
    assert!(said(&stream.arrival_time("ts")).contains("there is a column `ts` already"));
    assert!(said(&timed.event_time("ts")).contains("may be called once"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_late_for_its_arrival(steps in prop::collection::vec((0..300_u64, 0..5_usize), 1..60)) {
        let mut rig = Rig::new(|stream| stream.arrival_time("arrived"));
        let (mut now, mut expected, mut fired) = (0, BTreeMap::new(), Vec::new());
        for (after, count) in steps {
            now += after as i64;
            fired.extend(rig.take(millis(after), rows(0, &vec![0; count])));
            if count > 0 {
                *expected.entry(now / SIZE * SIZE).or_default() += count as i64;
            }
            prop_assert!(fired.iter().all(|(start, _)| start + SIZE <= now));
            prop_assert_eq!(fired.len(), expected.range(..=now - SIZE).count(), "whatever has ended has fired");
        }
        fired.extend(rig.take(millis(0), Delivery { end: true, ..Delivery::default() }));
        prop_assert_eq!(fired.into_iter().collect::<BTreeMap<i64, i64>>(), expected);
        prop_assert_eq!(rig.late(), 0);
    }
}

#[test]
fn a_quiet_stream_goes_on_with_the_clock_if_told_to() {
    let mut rig = Rig::new(|stream| stream.event_time(event_time("ts").max_delay(millis(50)).advance_after(secs(2))));
    rig.take(millis(0), opened(&[None]));
    assert_eq!(rig.wait(secs(3)), [], "there is no event time yet that could go on");
    assert_eq!(rig.take(millis(0), rows(0, &[5_000, 6_230])), [(5_000, 1)]);
    assert_eq!(rig.wait(millis(1_999)), []);
    assert_eq!(rig.wait(millis(1)), [(6_200, 1)], "two seconds on at once");
    // The watermark is at 6_230 - 50 - 1 + 2_000 = 8_179.
    rig.take(millis(0), rows(0, &[8_099, 8_100]));
    assert_eq!(rig.late(), 1);
    assert_eq!(rig.wait(millis(1_999)), [], "the rows have come from behind, and time stands still again");
    assert_eq!(rig.wait(millis(1)), [(8_100, 1)], "two seconds from 8_049");
}

#[test]
fn without_being_told_a_quiet_stream_waits() {
    let mut rig = Rig::new(|stream| stream.event_time("ts"));
    rig.take(millis(0), rows(0, &[6_230]));
    assert_eq!(rig.wait(hours(1)), []);
    assert!(rig.why().contains("partition 0 is at 1970-01-01 00:00:06.229 and last had rows 3600s ago; every partition is idle"));
    let zero = Stream::from_source(Scripted(Queue::default())).event_time(event_time("ts").advance_after(millis(0)));
    assert!(zero.schema().unwrap_err().to_string().contains("`advance_after` is zero"));
}

#[test]
fn whoever_holds_the_watermark_back_is_named() {
    let mut rig = Rig::new(|stream| stream.event_time(event_time("ts").idle_timeout(Some(secs(30)))));
    rig.take(millis(0), opened(&[Some("north.csv"), Some("south.csv"), None]));
    assert_eq!(rig.pipeline.why_not_firing(), None, "nothing waits");
    rig.take(secs(1), rows(1, &[1_000, 1_510]));
    rig.take(secs(1), rows(2, &[1_400]));
    let held = rig.pipeline.why_not_firing().unwrap();
    assert_eq!((held.window_end, held.watermark), (1_100, None));
    let north = held.partition.unwrap();
    assert_eq!((north.name.as_str(), north.watermark, north.quiet_for), ("north.csv", None, secs(2)));
    assert!(rig.why().contains("partition north.csv has had no rows since it began 2s ago; send it rows or close it"), "{}", rig.why());
    assert_eq!(rig.take(secs(1), ended(0)), [(1_000, 1)]);
    let held = rig.pipeline.why_not_firing().unwrap();
    assert_eq!((held.window_end, held.watermark), (1_500, Some(1_399)));
    let third = held.partition.unwrap();
    assert_eq!((third.name.as_str(), third.watermark, third.quiet_for), ("2", Some(1_399), secs(1)));
    rig.take(secs(1), ended(2));
    assert!(rig.why().contains("partition south.csv is at 1970-01-01 00:00:01.509"), "{}", rig.why());
    rig.take(millis(0), ended(1));
    assert!(
        rig.why().ends_with("no partition is open; it goes on when rows come, or, with `advance_after`, with the clock"),
        "{}",
        rig.why()
    );
    rig.take(millis(0), Delivery { end: true, ..Delivery::default() });
    assert_eq!(rig.pipeline.why_not_firing(), None, "everything has fired");
}

#[test]
fn rolling_windows_wait_too() {
    let stream = Stream::from_source(Scripted(Queue::from(Mutex::new(VecDeque::from([rows(0, &[30, 20])])))));
    let rolling = stream.event_time(event_time("ts").max_delay(secs(1))).window(rolling_rows(2)).agg([count()]);
    let mut batches = rolling.batches(Config::default()).unwrap();
    batches.work(millis(1)).unwrap();
    assert_eq!(batches.why_not_firing().unwrap().window_end, 21);
}

/// What is logged on this thread, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_watermark_that_stands_still_is_warned_of_once() {
    use tracing_subscriber::util::SubscriberInitExt;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = subscriber.set_default();
    let mut rig = Rig::new(|stream| stream.event_time(event_time("ts").idle_timeout(None)));
    rig.take(millis(0), opened(&[Some("10.0.0.7:4711"), Some("10.0.0.8:4712")]));
    rig.take(secs(200), rows(0, &[500]));
    rig.take(secs(59), rows(0, &[900]));
    let warnings = || {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("the watermark has stood still")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warnings(), Vec::<String>::new(), "windows have waited for 59 s");
    rig.wait(secs(1));
    rig.wait(mins(10));
    let [warning] = &warnings()[..] else { panic!("{:?}", warnings()) };
    assert!(
        warning.contains("WARN") && warning.contains("has stood still for 60s: the window that ends at 1970-01-01 00:00:00.600"),
        "{warning}"
    );
    assert!(warning.contains("partition 10.0.0.8:4712 has had no rows since it began 260s ago"), "{warning}");
    rig.take(secs(1), rows(1, &[700]));
    rig.wait(secs(61));
    assert_eq!(warnings().len(), 2, "it has moved in between");
}

#[test]
fn a_client_that_holds_a_background_query_back_is_named() {
    let stream = Stream::listen(Listen::tcp("127.0.0.1:0", times_only())).unwrap();
    let address = stream.local_addr().unwrap();
    let timed = stream.event_time(event_time("ts").idle_timeout(None));
    let mut running = windows(&timed).run(Callback::new(|_: &RecordBatch| Ok(()))).unwrap();
    let silent = TcpStream::connect(&address).unwrap();
    let mut busy = TcpStream::connect(&address).unwrap();
    writeln!(busy, r#"{{"ts":5}}"#).unwrap();
    let held = loop {
        match running.why_not_firing().filter(|held| held.partition.is_some()) {
            Some(held) => break held,
            None => std::thread::yield_now(),
        }
        assert!(!running.is_finished());
    };
    assert_eq!(held.partition.unwrap().name, silent.local_addr().unwrap().to_string());
    running.stop();
    running.wait().unwrap();
    assert_eq!(running.why_not_firing(), None);
}

/// How far the times of two files come apart, one of short lines and one of long ones, and how many rows come.
fn spread(directory: &std::path::Path, skew: Option<Duration>, source_thread: bool) -> (i64, i64) {
    let time = event_time("ts").idle_timeout(None);
    let time = skew.map_or(time.clone(), |skew| time.max_skew(skew));
    let schema = Schema::new(vec![Field::new("ts", DataType::Int64, false), Field::new("file", DataType::Int64, false)]);
    let stream = Stream::read_ndjson(&format!("{}/*.ndjson", directory.display()), Some(Arc::new(schema))).unwrap().event_time(time);
    let (latest, widest, counted) = (Mutex::new([0, 0]), Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (apart, counts) = (Arc::clone(&widest), Arc::clone(&counted));
    let watch = Callback::new(move |batch: &RecordBatch| {
        let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values();
        let mut latest = latest.lock().unwrap();
        column(0).iter().zip(column(1)).for_each(|(&time, &file)| latest[file as usize] = time);
        let mut apart = apart.lock().unwrap();
        *apart = (latest[0] - latest[1]).max(*apart);
        Ok(())
    });
    let count = Callback::new(move |batch: &RecordBatch| {
        *counts.lock().unwrap() += batch.column(2).as_primitive::<Int64Type>().values().iter().sum::<i64>();
        Ok(())
    });
    let mut config = Config::default();
    config.source_thread = source_thread;
    let metrics = Query::new().config(config).sink(&stream, watch).sink(&windows(&stream), count).run().unwrap();
    assert_eq!(metrics.late_rows, 0);
    let (widest, counted) = (*widest.lock().unwrap(), *counted.lock().unwrap());
    (widest, counted)
}

#[test]
fn files_that_run_ahead_wait_for_the_slowest() {
    const ROWS: i64 = 400_000;
    let directory = tempfile::tempdir().unwrap();
    for (file, pad) in [(0, 0), (1, 60)] {
        let line = |time| format!("{{\"ts\":{time},\"file\":{file},\"pad\":\"{:pad$}\"}}\n", "");
        std::fs::write(directory.path().join(format!("{file}.ndjson")), (0..ROWS).map(line).collect::<String>()).unwrap();
    }
    let (free, rows) = spread(directory.path(), None, false);
    assert_eq!(rows, 2 * ROWS);
    assert!(free > ROWS / 2, "short lines are far ahead: {free}");
    for source_thread in [false, true] {
        let (aligned, rows) = spread(directory.path(), Some(secs(20)), source_thread);
        assert_eq!(rows, 2 * ROWS);
        // What was under way when the file was paused: four reads, and what the ring holds.
        assert!(aligned < 100_000 + 120_000 * i64::from(source_thread), "{aligned}");
    }
}
