//! Whole pipelines: from bytes on a socket or in a file to sinks, with everything accounted for.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt64Type};
use thalweg::config::IoBackend;
use thalweg::sink::Callback;
use thalweg::source::Listen;
use thalweg::testing::{assert_table, rows, source};
use thalweg::{Config, Kind, Query, Stream, count, event_time, ewma, millis, secs, sum, tumbling};

fn payments() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Int64, true),
        Field::new("card", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
    ]))
}

fn config(io: IoBackend, source_thread: bool) -> Config {
    let mut config = Config::default();
    (config.io, config.source_thread, config.batch_rows) = (io, source_thread, 100);
    config
}

fn listener() -> Stream {
    Stream::listen(Listen::tcp("127.0.0.1:0", payments()).end_on_disconnect(true)).unwrap()
}

fn per_card(stream: &Stream) -> Stream {
    stream
        .event_time(event_time("ts").max_delay(millis(500)))
        .window(tumbling(secs(1)))
        .by(["card"])
        .agg([count().alias("n"), sum("amount")])
}

#[test]
fn every_line_of_every_client_is_counted_once() {
    for (io, source_thread) in [(IoBackend::Auto, false), (IoBackend::Portable, false), (IoBackend::Auto, true)] {
        let stream = listener();
        let address = stream.local_addr().unwrap();
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let address = address.clone();
                std::thread::spawn(move || {
                    let mut socket = TcpStream::connect(address).unwrap();
                    for row in 0..5_000 {
                        writeln!(socket, r#"{{"ts":{},"card":"c{}","amount":1.5}}"#, row * 2, (row + client) % 7).unwrap();
                    }
                    socket.write_all(b"{\"ts\":oops}\n{\"ts\":1,\"card\":\"half").unwrap();
                })
            })
            .collect();
        let table = per_card(&stream).batches(config(io, source_thread)).unwrap().into_table().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let (mut rows, mut total) = (0, 0.0);
        for batch in table.batches() {
            rows += batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>();
            total += batch.column_by_name("sum_amount").unwrap().as_primitive::<Float64Type>().values().iter().sum::<f64>();
        }
        let metrics = table.metrics();
        assert_eq!(metrics.rows_in, 20_000);
        assert_eq!(rows as u64 + metrics.late_rows, metrics.rows_in);
        assert!((total - 1.5 * rows as f64).abs() < 1e-6);
        assert_eq!(metrics.quarantined_rows, 8, "a bad line and a half line from each client");
        assert_eq!(table.quarantined().iter().map(RecordBatch::num_rows).sum::<usize>(), 8);
        for batch in table.quarantined() {
            let bytes = batch.column_by_name("bytes").unwrap().as_binary::<i32>();
            let errors = batch.column_by_name("error").unwrap().as_string::<i32>();
            for row in 0..batch.num_rows() {
                assert!([&b"{\"ts\":oops}"[..], b"{\"ts\":1,\"card\":\"half"].contains(&bytes.value(row)), "{:?}", bytes.value(row));
                assert!(!errors.value(row).is_empty());
            }
        }
    }
}

#[test]
fn rows_without_event_time_go_to_quarantine() {
    let script = [rows(
        "ts: int64 | card: string | amount: float64
         1         | a            | 1
         null      | b            | 2
         3         | c            | 3",
    )];
    let table = per_card(&source(script).unwrap()).collect().unwrap();
    assert_eq!((table.metrics().rows_in, table.metrics().quarantined_rows), (3, 1));
    assert_table(table.batches(), "card | n | sum_amount\n a | 1 | 1\n c | 1 | 3");
    assert_table(table.quarantined(), "offset | error\n 1 | the event time `ts` is null");
    let bytes = table.quarantined()[0].column_by_name("bytes").unwrap();
    assert_eq!(bytes.as_binary::<i32>().value(0), br#"{"card":"b","amount":2.0}"#);
}

#[test]
fn rows_of_text_without_event_time_are_found_where_they_begin() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"ts\":1,\"card\":\"a\"}\n\n{\"card\":\"b\",\"amount\":1}\n{\"ts\":oops}\n{\"ts\":2}\n{\"amount\":2}\n";
    std::fs::write(folder.path().join("rows.ndjson"), text).unwrap();
    let path = format!("{}/rows.ndjson", folder.path().display());
    // Nobody asks for late rows: there is no step that rows could be late for.
    let timed = Stream::read_ndjson(&path, Some(payments())).unwrap().filter("amount is null or amount < 9").event_time("ts");
    let table = timed.collect().unwrap();
    assert_eq!(table.num_rows(), 2);
    let places: Vec<u64> = [text.find("{\"card\"").unwrap(), text.find("{\"amount\"").unwrap()].map(|place| place as u64).to_vec();
    let turned_away = |batch: &RecordBatch| {
        let offsets = batch.column_by_name("offset").unwrap().as_primitive::<UInt64Type>().clone();
        let errors = batch.column_by_name("error").unwrap().as_string::<i32>().clone();
        let timeless = errors.iter().zip(&offsets).filter(|(error, _)| error.is_some_and(|error| error.ends_with("is null")));
        timeless.filter_map(|(_, offset)| offset).collect::<Vec<_>>()
    };
    assert_eq!(table.quarantined().iter().flat_map(turned_away).collect::<Vec<_>>(), places);
}

#[test]
fn branches_share_one_source() {
    let rows = 1_000;
    let batch = RecordBatch::try_new(
        payments(),
        vec![
            Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row * 10))),
            Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("c{}", row % 3)))),
            Arc::new(Float64Array::from_iter_values((0..rows).map(|row| if row == 900 { 1e6 } else { 10.0 + (row % 5) as f64 }))),
        ],
    )
    .unwrap();
    let timed = Stream::from_arrow([batch]).event_time("ts");
    let windows = timed.window(tumbling(secs(1))).by(["card"]).agg([count().alias("n")]);
    let alerts = timed.detect(ewma(0.05).on(["amount"]).by(["card"]).threshold(6.0)).filter("is_anomaly").select(["ts", "card", "score"]);
    let counted = Arc::new(AtomicU64::new(0));
    let alerted = Arc::new(Mutex::new(Vec::new()));
    let (counts, caught) = (Arc::clone(&counted), Arc::clone(&alerted));
    let metrics = Query::new()
        .sink(
            &windows,
            Callback::new(move |batch: &RecordBatch| {
                counts
                    .fetch_add(batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().iter().sum::<i64>() as u64, Relaxed);
                Ok(())
            }),
        )
        .sink(
            &alerts,
            Callback::new(move |batch: &RecordBatch| {
                caught.lock().unwrap().extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                Ok(())
            }),
        )
        .run()
        .unwrap();
    assert_eq!((metrics.rows_in, counted.load(Relaxed)), (1_000, 1_000));
    assert_eq!(*alerted.lock().unwrap(), [9_000]);
}

#[test]
fn a_sink_that_fails_ends_the_run_with_its_error() {
    let stream = Stream::from_batches(payments(), vec![RecordBatch::new_empty(payments()), one_row()]);
    let failing = Callback::new(|_: &RecordBatch| Err(thalweg::Error::connector("the destination is down")));
    let error = stream.run(failing).unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), Kind::Connector);
    assert_eq!(error.to_string(), "sink 0: the destination is down");
}

fn one_row() -> RecordBatch {
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec!["a"])), Arc::new(Float64Array::from(vec![1.0]))];
    RecordBatch::try_new(payments(), columns).unwrap()
}

#[test]
fn a_wrong_step_is_named_with_what_would_be_right() {
    let stream = Stream::from_arrow([one_row()]);
    let said = |stream: &Stream| stream.schema().unwrap_err().to_string();
    let by = |column: &str| stream.event_time("ts").window(tumbling(secs(1))).by([column]).agg([count()]);
    assert!(said(&by("kard")).contains("there is no column `kard`; the columns are `ts`, `card`, `amount`"), "{}", said(&by("kard")));
    assert!(said(&stream.window(tumbling(secs(1))).agg([count()])).contains("call `event_time(column)` before `window`"));
    assert!(said(&stream.event_time("card")).contains("not a time"));
    assert!(said(&stream.filter("amuont > 1")).contains("amount"));
    assert!(said(&stream.detect(ewma(2.0).on(["amount"]))).contains("`alpha` is 2"));
    assert!(said(&stream.detect(ewma(0.1).on(["card"]))).contains("not a number"));
    assert!(said(&stream.event_time("ts").event_time("ts")).contains("once"));
    let taken = listener();
    let address = taken.local_addr().unwrap();
    let error = Stream::listen(Listen::tcp(address, payments())).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[test]
fn a_plan_explains_itself() {
    let text = per_card(&Stream::from_arrow([one_row()])).explain().unwrap();
    let steps: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(steps[0], "memory: 1 rows");
    assert_eq!(steps[1], "→ event_time(ts, max_delay 500ms, idle after 5s)");
    assert!(steps[2].starts_with("→ window(tumbling(1s) by [card]: count(*) AS n, sum(amount) AS sum_amount) on "), "{}", steps[2]);
    let timed = Stream::from_arrow([one_row()]).event_time(event_time("ts"));
    let spread = timed.window(tumbling(secs(1))).by(["card"]).agg([thalweg::std("amount")]).explain().unwrap();
    assert!(spread.contains(" on moments on ") && !text.contains("moments"), "{spread}");
}
