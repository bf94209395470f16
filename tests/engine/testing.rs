//! Scripted inputs and literal tables.

use arrow::array::RecordBatch;
use thalweg::sink::Memory;
use thalweg::testing::{abort, assert_table, batch, difference, difference_of, eof, pause, rows, rows_of, source, table};
use thalweg::{Config, Kind, Query, Stream, count, event_time, millis, secs, tumbling};

fn counts(stream: &Stream) -> Stream {
    stream.window(tumbling(secs(1))).agg([count().alias("n")])
}

#[test]
fn a_script_runs_alike_any_number_of_times() {
    let stream = source([rows("ts: int64\n100\n900"), pause(secs(7)), rows("ts\n1_200\n300")]).unwrap().event_time("ts");
    for batch_rows in [1, 100] {
        let mut config = Config::default();
        config.batch_rows = batch_rows;
        let table = counts(&stream).batches(config).unwrap().into_table().unwrap();
        assert_table(table.batches(), "window_start | n\n 0 | 2 \n 1_000 | 1");
        assert_table(table.late(), "ts\n 300");
    }
}

#[test]
fn pauses_alone_move_the_clock() {
    let idle_after = |silence| {
        let script = [rows("ts: int64\n5_000"), pause(silence), rows_of(1, "ts\n100")];
        let windows = counts(&source(script).unwrap().event_time(event_time("ts").idle_timeout(Some(secs(2)))));
        windows.collect().unwrap()
    };
    assert_table(idle_after(millis(1_999)).batches(), "window_start | n\n 0 | 1\n 5_000 | 1");
    assert_table(idle_after(secs(2)).batches(), "window_start | n\n 5_000 | 1");
    let arrived = source([rows("x: string\na"), pause(secs(90)), rows("x\n\"\"")]).unwrap().arrival_time("at");
    for _ in 0..2 {
        assert_table(arrived.collect().unwrap().batches(), "at | x\n 0 | a\n 90_000 | \"\"");
    }
}

#[test]
fn an_aborted_run_keeps_nothing_that_was_not_committed() {
    let first = || rows("ts: int64\n1\n2");
    let sink = Memory::new();
    let kept = sink.collected();
    let error = Query::new().sink(&source([first(), abort(), first()]).unwrap(), sink).run().unwrap_err();
    assert_eq!((error.kind(), kept.rows()), (Kind::Connector, 0));
    assert_eq!(source([first(), eof(), abort()]).unwrap().collect().unwrap().num_rows(), 2);
}

#[test]
fn cells_become_values_of_their_columns_types() {
    let records = table(
        r#"
        at: timestamp[us]       | day: date32 | n: uint32 | x: float64 | ok: bool | text: string
        1970-01-01 00:00:01.000 | 1970-01-03  | 1_000     | -1.5e3     | true     | "null"
        null                    | null        | null      | NaN        | null     | null
        "#,
    )
    .unwrap();
    let same = "at: timestamp[us] | day: date32 | n: uint32 | x: float64 | ok: bool | text: string
                1_000_000 | 2 | 1000 | -1500 | true | \"null\"\n null | null | null | NaN | null | null";
    assert_eq!(difference_of(std::slice::from_ref(&records), &[table(same).unwrap()]).unwrap(), None);
    assert_table(&[records.slice(0, 1)], "day | n | at\n 2 | 1_000 | 1_000_000");
    assert_eq!(source([batch(records.clone())]).unwrap().collect().unwrap().to_batch().unwrap(), records);
}

#[test]
fn a_difference_shows_what_is_missing_and_what_is_too_much() {
    let came = [table("key: string | n: int64\n a | 1\n b | 2\n c | 3").unwrap()];
    let text = difference(&came, "key | n\n a | 1\n c | 3\n d | 40").unwrap().unwrap();
    let expected = "3 rows came, 3 were expected (+ came, - was expected)\n  key | n\n  a   | 1\n+ b   | 2\n  c   | 3\n- d   | 40";
    assert_eq!(text, expected);
    assert_eq!(difference(&came, "n\n 1\n 2\n 3").unwrap(), None);
    let nothing: [RecordBatch; 0] = [];
    assert_eq!(difference(&nothing, "n").unwrap(), None);
    assert!(difference(&nothing, "n\n 1").unwrap().unwrap().ends_with("\n  n\n- 1"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let said = |text: &str| source([rows(text)]).err().unwrap().to_string();
    assert!(said("").contains("step 0: a table needs a first line"), "{}", said(""));
    assert!(said("ts\n1").contains("the type of column `ts` is unknown; write `ts: int64`"), "{}", said("ts\n1"));
    assert!(said("ts: int65").contains("column `ts`: `int65` is not the name of a type"), "{}", said("ts: int65"));
    assert!(said("ts: int64\n1 | 2").contains("the line `1 | 2` has 2 cells, the table has 1 columns"));
    assert!(said("ts: int64\nsoon").contains("column `ts`: a cell does not fit Int64"));
    let none = source([pause(secs(1))]).err().unwrap().to_string();
    assert!(none.contains("a script without rows has no columns"), "{none}");
    let other = source([rows("ts: int64\n1"), rows("at: int64\n1")]).err().unwrap().to_string();
    assert!(other.contains("step 1: the columns are `at`, those of the first rows `ts`"), "{other}");
    let lacking = difference(&[table("n: int64\n1").unwrap()], "m\n1").unwrap_err().to_string();
    assert!(lacking.contains("there is no column `m`"), "{lacking}");
}
