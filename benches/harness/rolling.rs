//! Rolling windows over Arrow columns in memory: one row out for each row in.

use std::collections::VecDeque;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use thalweg::{mean, rolling_rows, std};

use crate::Result;
use crate::answer::Answer;
use crate::bench::Bench;
use crate::contest::{Contender, Contest};
use crate::events::{Events, KEYS};
use crate::peer::Question;

/// Rows of a window.
pub const ROWS: usize = 100;

/// Mean and standard deviation of the last rows of each row's key, in order of event time.
pub fn contest(bench: &Bench<'_>) -> Result<Option<Contest>> {
    let (key, keys) = KEYS[1];
    let name = format!("rolling mean and std of the last {ROWS} rows by key, K = {keys}, one row per row");
    if !bench.common.wants(&name) {
        return Ok(None);
    }
    let expected = expected(&bench.events, (key, keys))?;
    let aggregates = [mean("value").alias("mean"), std("value").alias("std")];
    let stream = bench.stream(&["ts", key, "value"])?.window(rolling_rows(ROWS as u32)).by([key]).agg(aggregates);
    let mut contenders = vec![Contender::new("Thalweg", expected, || bench.run(&stream))];
    let question = Question { query: "rolling", key, size: ROWS as i64, time: "ts", ..Question::default() };
    bench.with_peers(&mut contenders, question, expected);
    bench.hold(&name, contenders, 20).map(Some)
}

/// Every window from the values that it holds, rows of one time being in the order in which they came.
fn expected(events: &Events, (key, keys): (&str, u32)) -> Result<Answer> {
    let index = events.schema.index_of(key)?;
    let mut rows: Vec<(i64, i32, f64)> = Vec::with_capacity(events.rows);
    for batch in &events.batches {
        let times = batch.column(0).as_primitive::<Int64Type>().values();
        let values = batch.column(1).as_primitive::<Float64Type>().values();
        let keys = batch.column(index).as_primitive::<Int32Type>().values();
        rows.extend(times.iter().zip(keys).zip(values).map(|((&time, &key), &value)| (time, key, value)));
    }
    rows.sort_by_key(|(time, ..)| *time);
    Ok(answer(keys as usize, rows.into_iter().map(|(_, key, value)| (key as usize, value))))
}

/// Sums over all rows of the mean and the standard deviation of the last rows of the row's key, all values being finite.
pub fn answer(keys: usize, rows: impl Iterator<Item = (usize, f64)>) -> Answer {
    let mut windows = vec![VecDeque::with_capacity(ROWS + 1); keys];
    let mut answer = Answer::default();
    for (key, value) in rows {
        let window: &mut VecDeque<f64> = &mut windows[key];
        window.push_back(value);
        if window.len() > ROWS {
            window.pop_front();
        }
        let count = window.len() as f64;
        let mean = window.iter().sum::<f64>() / count;
        answer.rows += 1;
        answer.mean += mean;
        if window.len() > 1 {
            answer.std += (window.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1.0)).sqrt();
        }
    }
    answer
}
