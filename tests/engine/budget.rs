//! A pipeline within a budget of bytes: what it does when its state is over it. Nothing is lost in silence.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use thalweg::config::OverBudget;
use thalweg::testing::{batch, pause, source};
use thalweg::{Config, Kind, Pulled, Stream, Table, count, event_time, millis, secs, session, sum, tumbling};

fn rows(rows: impl Iterator<Item = (i64, i64)>) -> RecordBatch {
    let (times, keys): (Vec<i64>, Vec<i64>) = rows.unzip();
    let columns: [(&str, ArrayRef); 2] = [("ts", Arc::new(Int64Array::from(times))), ("key", Arc::new(Int64Array::from(keys)))];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn within(bytes: usize, policy: OverBudget) -> Config {
    let mut config = Config::default();
    (config.state_budget, config.over_budget, config.batch_rows) = (Some(bytes), policy, 1_000);
    config
}

fn counted(table: &Table) -> i64 {
    let column = table.schema().index_of("n").unwrap();
    table.batches().iter().flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().values().to_vec()).sum()
}

/// 300,000 keys in one window, a hundred in the next.
fn flood() -> Stream {
    let flood = rows((0..300_000).map(|row| (row / 1_000, row)));
    let after = rows((0..50_000).map(|row| (1_000 + row / 10, row % 100)));
    Stream::from_arrow([flood, after]).event_time("ts")
}

#[test]
fn state_over_the_budget_is_an_error_that_names_the_step() {
    let windows = flood().window(tumbling(secs(1))).by(["key"]).agg([count().alias("n"), sum("ts")]);
    let run = |bytes| windows.batches(within(bytes, OverBudget::Error)).unwrap().into_table();
    let error = run(4_000_000).unwrap_err();
    assert_eq!(error.kind(), Kind::State);
    let said = error.to_string();
    assert!(said.contains("bytes of state") && said.contains("over its budget of 4000000 bytes"), "{said}");
    assert!(said.contains("in `window(tumbling(1s)"), "{said}");
    assert_eq!(counted(&run(100_000_000).unwrap()), 350_000);
}

#[test]
fn rows_that_there_is_no_room_for_are_shed_and_counted() {
    for (name, windows) in [
        ("tumbling", flood().window(tumbling(secs(1))).by(["key"]).agg([count().alias("n"), sum("ts")])),
        ("session", flood().window(session(millis(50))).by(["key"]).agg([count().alias("n"), sum("ts")])),
    ] {
        let table = windows.batches(within(2_000_000, OverBudget::Shed)).unwrap().into_table().unwrap();
        let (counted, metrics) = (counted(&table) as u64, table.metrics());
        assert!(metrics.shed_rows > 0, "{name}");
        assert_eq!((metrics.rows_in, counted + metrics.shed_rows, metrics.late_rows), (350_000, 350_000, 0), "{name}");
        // The flood has gone with its windows: what comes after it is counted.
        assert!(counted > 49_000, "{name}: {counted}");
        assert!(metrics.state_bytes < 2_000_000, "{name}: {}", metrics.state_bytes);
    }
}

#[test]
fn without_a_budget_the_flood_is_counted() {
    let table = flood().window(session(millis(50))).by(["key"]).agg([count().alias("n")]).collect().unwrap();
    assert_eq!((counted(&table), table.metrics().shed_rows), (350_000, 0));
}

#[test]
fn by_the_time_of_arrival_the_source_waits_for_the_clock() {
    let flood = rows((0..40_000).map(|row| (0, row)));
    let script = [batch(flood.clone()), pause(secs(2)), batch(flood)];
    let windows = source(script).unwrap().arrival_time("came").window(tumbling(secs(1))).by(["key"]).agg([count().alias("n")]);
    let run = |policy| windows.batches(within(400_000, policy)).unwrap().into_table();
    // A script is read on whatever it is asked for: it cannot be held back.
    let said = run(OverBudget::Backpressure).unwrap_err().to_string();
    assert!(said.contains("was not enough, or it cannot be held back"), "{said}");
    let table = run(OverBudget::Shed).unwrap();
    assert!(table.metrics().shed_rows > 0);
    assert_eq!(counted(&table) as u64 + table.metrics().shed_rows, 80_000);
}

/// The most state that was held while two files were read, one of which has short lines and so is read faster; and the rows counted.
fn peak(directory: &std::path::Path, config: Config) -> thalweg::Result<(u64, i64)> {
    let schema = Schema::new(vec![Field::new("ts", DataType::Int64, false), Field::new("key", DataType::Int64, false)]);
    let stream = Stream::read_ndjson(&format!("{}/*.ndjson", directory.display()), Some(Arc::new(schema)))?;
    let windows = stream.event_time(event_time("ts").idle_timeout(None)).window(tumbling(secs(1))).by(["key"]).agg([count().alias("n")]);
    let (mut batches, mut most, mut rows) = (windows.batches(config)?, 0, 0);
    loop {
        match batches.pull(Duration::from_millis(5))? {
            Pulled::Batch(batch) => rows += batch.column(3).as_primitive::<Int64Type>().values().iter().sum::<i64>(),
            Pulled::Nothing => {}
            Pulled::End => return Ok((most, rows)),
        }
        most = most.max(batches.metrics().state_bytes);
    }
}

#[test]
fn what_runs_ahead_is_held_back() {
    const ROWS: i64 = 400_000;
    let directory = tempfile::tempdir().unwrap();
    for (file, pad) in [(0, 0), (1, 60)] {
        let mut text = String::new();
        (0..ROWS).for_each(|time| {
            let key = 2 * time + file;
            writeln!(text, "{{\"ts\":{time},\"key\":{key},\"pad\":\"{:pad$}\"}}", "").unwrap();
        });
        std::fs::write(directory.path().join(format!("{file}.ndjson")), text).unwrap();
    }
    let (free, rows) = peak(directory.path(), Config::default()).unwrap();
    assert_eq!(rows, 2 * ROWS);
    let budget = free as usize / 3;
    let (held, rows) = peak(directory.path(), within(budget, OverBudget::Backpressure)).unwrap();
    assert_eq!(rows, 2 * ROWS);
    assert!(held <= 2 * budget as u64, "{held} of {budget}; without a budget {free}");
    assert!(peak(directory.path(), within(budget, OverBudget::Error)).is_err());
}
