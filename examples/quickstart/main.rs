//! What each card spends per second: ten lines from a file of events to a table. `cargo run --release --example quickstart`

#![allow(clippy::print_stdout, reason = "a program talks to its terminal")]

use thalweg::{Result, Stream, count, max, secs, sum, tumbling};

fn main() -> Result<()> {
    let table = Stream::read_ndjson(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart/payments.ndjson"), None)?
        .event_time("ts")
        .window(tumbling(secs(1)))
        .by(["card"])
        .agg([count().alias("n"), sum("amount").alias("total"), max("amount").alias("most")])
        .collect()?;
    println!("{table}");
    Ok(())
}
