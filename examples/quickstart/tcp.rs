//! Ten lines from a socket to alerts: payments as lines of JSON come in, those that are unusual for their card go out.
//!
//! ```text
//! cargo run --release --example quickstart_tcp
//! nc 127.0.0.1 9000 < examples/quickstart/payments.ndjson     # in another terminal; or anything that sends lines
//! ```

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use thalweg::format::parse_type;
use thalweg::sink::Ndjson;
use thalweg::source::Listen;
use thalweg::{Result, Stream, event_time, ewma, millis};

fn main() -> Result<()> {
    let columns = [("ts", "timestamp[ms]"), ("card", "string"), ("amount", "float64")];
    let fields = columns.map(|(name, kind)| parse_type(kind).map(|kind| Field::new(name, kind, true)));
    let schema = Arc::new(Schema::new(fields.into_iter().collect::<Result<Vec<_>>>()?));
    Stream::listen(Listen::tcp("127.0.0.1:9000", schema))?
        .event_time(event_time("ts").max_delay(millis(500)))
        .detect(ewma(0.05).on(["amount"]).by(["card"]).threshold(4.0))
        .filter("is_anomaly OR amount > 1000")
        .run(Ndjson::stdout())?
        .wait()?;
    Ok(())
}
