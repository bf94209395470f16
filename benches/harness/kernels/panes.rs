//! Hopping windows of few and of many panes: closing one costs the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch};
use thalweg::{Query, Stream, count, hopping, max, millis, min, sum, tumbling};

use crate::answer::{Answer, Collector};
use crate::contest::{Contender, Contest, Run, Work};
use crate::report::Report;
use crate::{Common, Result};

/// Keys, each of which has one row in every pane.
const KEYS: i32 = 10_000;

/// Panes of a window: of a few, as columns that are combined, and of many, as lists of their groups.
const PANES: [usize; 4] = [6, 20, 60, 600];

/// Length of a pane in milliseconds.
const PANE: i64 = 1_000;

const NAME: &str = "hopping windows of 6 to 600 panes, 10000 keys";

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    if !common.wants(NAME) {
        return Ok(());
    }
    // At least twice as many panes as the longest window has.
    let panes = (common.rows / KEYS as usize).clamp(1_200, 2_000);
    let stream = Stream::from_arrow((0..panes).map(pane).collect::<Result<Vec<_>>>()?).event_time("ts");
    let run = |size: usize| {
        let pane = PANE as u64;
        let windows = if size == 1 { tumbling(millis(pane)) } else { hopping(millis(size as u64 * pane), millis(pane)) };
        let aggregates = [count().alias("n"), sum("value").alias("sum"), min("value").alias("min"), max("value").alias("max")];
        let stream = stream.window(windows).by(["key"]).agg(aggregates);
        move || {
            Run::time(|| {
                let collector = Collector::default();
                Query::new().sink(&stream, collector.clone()).run()?;
                Ok(collector.answer())
            })
        }
    };
    let contender = |size: usize| Contender::new(format!("{size} panes"), expected(panes, size), run(size));
    let contenders = PANES.into_iter().chain([1]).map(contender).collect();
    let work = Work { amount: panes as f64, unit: "panes/s", scale: 1.0 };
    let contest = Contest::hold(NAME, work, common, contenders)?;
    report.add(contest.goal("600 panes", "20 panes", 0.8).goal("60 panes", "20 panes", 0.8));
    Ok(())
}

/// The value of all keys in a pane.
fn value(pane: usize) -> f64 {
    (pane * 7_919 % 1_000) as f64
}

/// The rows of one pane.
fn pane(number: usize) -> Result<RecordBatch> {
    let times: Int64Array = (0..KEYS).map(|_| Some(number as i64 * PANE)).collect();
    let keys: Int32Array = (0..KEYS).map(Some).collect();
    let values: Float64Array = (0..KEYS).map(|_| Some(value(number))).collect();
    let columns = [("ts", Arc::new(times) as ArrayRef), ("key", Arc::new(keys)), ("value", Arc::new(values))];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Every window by itself; all keys have the same values.
fn expected(panes: usize, size: usize) -> Answer {
    let mut answer = Answer::default();
    for last in 0..panes + size - 1 {
        let values: Vec<f64> = ((last + 1).saturating_sub(size)..=last.min(panes - 1)).map(value).collect();
        let keys = f64::from(KEYS);
        answer.rows += KEYS as u64;
        answer.n += i64::from(KEYS) * values.len() as i64;
        answer.sum += keys * values.iter().sum::<f64>();
        answer.min += keys * values.iter().copied().fold(f64::INFINITY, f64::min);
        answer.max += keys * values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    }
    answer
}
