//! Session windows over Arrow columns in memory.

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use thalweg::{count, max, mean, millis, min, session, sum};

use crate::Result;
use crate::answer::Answer;
use crate::bench::Bench;
use crate::contest::{Contender, Contest};
use crate::events::{Events, KEYS};
use crate::peer::Question;

/// Milliseconds between the rows of a session, at most.
const GAP: i64 = 2_000;

/// Count, sum, min, max and mean of every session.
pub fn contest(bench: &Bench<'_>) -> Result<Option<Contest>> {
    let (key, keys) = KEYS[2];
    let name = format!("session, gap 2 s, count/sum/min/max/mean by key, K = {keys}");
    if !bench.common.wants(&name) {
        return Ok(None);
    }
    let expected = expected(&bench.events, key)?;
    let aggregates =
        [count().alias("n"), sum("value").alias("sum"), min("value").alias("min"), max("value").alias("max"), mean("value").alias("mean")];
    let stream = bench.stream(&["ts", key, "value"])?.window(session(millis(GAP as u64))).by([key]).agg(aggregates);
    let mut contenders = vec![Contender::new("Thalweg", expected, || bench.run(&stream))];
    bench.with_peers(&mut contenders, Question { query: "session", key, size: GAP, ..Question::default() }, expected);
    bench.hold(&name, contenders, 20).map(Some)
}

/// The runs of rows at most the gap apart, of the rows in order of key and time.
fn expected(events: &Events, key: &str) -> Result<Answer> {
    let index = events.schema.index_of(key)?;
    let mut rows: Vec<(i32, i64, f64)> = Vec::with_capacity(events.rows);
    for batch in &events.batches {
        let times = batch.column(0).as_primitive::<Int64Type>().values();
        let values = batch.column(1).as_primitive::<Float64Type>().values();
        let keys = batch.column(index).as_primitive::<Int32Type>().values();
        rows.extend(times.iter().zip(keys).zip(values).map(|((&time, &key), &value)| (key, time, value)));
    }
    rows.sort_unstable_by_key(|(key, time, _)| (*key, *time));
    let mut answer = Answer::default();
    for run in rows.chunk_by(|a, b| a.0 == b.0 && b.1 - a.1 <= GAP) {
        let values = || run.iter().map(|(.., value)| *value);
        let sum: f64 = values().sum();
        answer.rows += 1;
        answer.n += run.len() as i64;
        answer.sum += sum;
        answer.min += values().fold(f64::INFINITY, f64::min);
        answer.max += values().fold(f64::NEG_INFINITY, f64::max);
        answer.mean += sum / run.len() as f64;
    }
    Ok(answer)
}
