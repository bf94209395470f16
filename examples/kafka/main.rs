//! From topic to topic: payments in, what each card spends per second out, poisoned records to a topic of their own; then the sums are
//! read back and compared with what was sent.
//!
//! ```text
//! tests/services/kafka start                                   # prints bootstrap=HOST:PORT, and the --dir to stop it with
//! cargo run --release --example kafka -- HOST:PORT
//! ```

#![allow(clippy::print_stdout)]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg::connector::kafka::{End, Kafka, KafkaSink, Value};
use thalweg::time::SystemClock;
use thalweg::{Format, Query, Result, Stream, count, event_time, millis, secs, sum, tumbling};

const PAYMENTS: i64 = 10_000;
const POISON: &str = "not a payment";

fn main() -> Result<()> {
    let brokers = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".to_owned());
    // Topics and a transactional id of this run alone, which the brokers make when they are first written to.
    let run = SystemClock::shared().wall();
    let topic = |name: &str| format!("{name}-{run}");

    // In: a batch of payments, and one record that is none.
    Query::new().sink(&Stream::from_arrow([payments()?]), KafkaSink::new(&brokers, topic("payments")).key(["card"])).run()?;
    let poison = RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(vec![POISON])) as ArrayRef)])?;
    let raw = KafkaSink::new(&brokers, topic("payments")).value(Value::Column("text".to_owned()));
    Query::new().sink(&Stream::from_arrow([poison]), raw).run()?;

    // Through: without `end` this would go on for ever, as a member of the group.
    let source = Kafka::new(&brokers, [topic("payments")]).group(topic("spending")).format(Format::Ndjson, schema()).end(End::Latest);
    let per_card = Stream::read_kafka(source)?
        .event_time(event_time("ts").max_delay(millis(500)))
        .window(tumbling(secs(1)))
        .by(["card"])
        .agg([count().alias("n"), sum("amount").alias("amount")]);
    let totals = KafkaSink::new(&brokers, topic("totals")).key(["card"]).transactional_id(topic("spending"));
    let metrics = Query::new().sink(&per_card, totals).quarantine(KafkaSink::dead_letters(&brokers, topic("dead"))).run()?;

    // Out: every payment is in one window.
    let fields = ["n", "amount"].map(|name| Field::new(name, DataType::Int64, true));
    let read = Kafka::new(&brokers, [topic("totals")]).format(Format::Ndjson, Arc::new(Schema::new(fields.to_vec()))).end(End::Latest);
    let table = Stream::read_kafka(read)?.collect()?;
    let total = |column: usize| -> i64 {
        table.batches().iter().filter_map(|batch| arrow::compute::sum(batch.column(column).as_primitive::<Int64Type>())).sum()
    };
    println!("{} payments, {} windows of a card, {} dead letters", metrics.rows_in, table.num_rows(), metrics.quarantined_rows);
    assert_eq!((total(0), total(1), metrics.quarantined_rows), (PAYMENTS, (0..PAYMENTS).sum(), 1), "something is missing or double");
    Ok(())
}

fn schema() -> SchemaRef {
    let fields = [("ts", DataType::Int64), ("card", DataType::Utf8), ("amount", DataType::Int64)];
    Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec()))
}

/// Ten thousand payments of a hundred cards within ten seconds.
fn payments() -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..PAYMENTS)),
        Arc::new(StringArray::from_iter_values((0..PAYMENTS).map(|number| format!("card {}", number % 100)))),
        Arc::new(Int64Array::from_iter_values(0..PAYMENTS)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
