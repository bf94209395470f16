//! What each card spends per second: ten lines from a file of events to a table. `cargo run --release --example quickstart`

#![allow(clippy::print_stdout, reason = "a program talks to its terminal")]

use thalweg::{Result, Stream, count, event_time, millis, secs, sum, tumbling};

fn main() -> Result<()> {
    let per_card = Stream::read_ndjson(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart/payments.ndjson"), None)?
        .event_time(event_time("ts").max_delay(millis(500)))
        .filter("amount > 0")
        .window(tumbling(secs(1)))
        .by(["card"])
        .agg([count().alias("n"), sum("amount")])
        .collect()?;
    println!("{per_card}");
    Ok(())
}
