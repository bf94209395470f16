//! The ten queries, in our words and in the model's.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Datum, Int64Array, RecordBatch};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{filter_record_batch, max as greatest};
use arrow::datatypes::{Int64Type, SchemaRef};
use thalweg::operator::process::{Context, Process, Rows};
use thalweg::{Stream, count, hopping, max, mean, millis, sum, tumbling};

use super::bundle::{self, Bundle};
use super::model::{Group, Row, Values};
use crate::Result;
use crate::answer::Answer;

/// A query, and how fast LightSaber was at it.
pub struct Query {
    pub name: &'static str,
    pub text: &'static str,
    /// Its million events a second on one worker, if it runs.
    pub recorded: Option<f64>,
    /// How many times that is asked of us.
    pub at_least: Option<f64>,
    pub bundle: fn(&Path) -> Result<Bundle>,
    /// Size and slide of the windows in units of time.
    pub window: (i64, i64),
    pub stream: fn(&Stream) -> Stream,
    /// What a row is to the query, given its values by name.
    pub row: fn(Values<'_>) -> Row,
    /// Adds the results of a window to an answer.
    pub emit: fn(&mut Answer, &[Group]),
    /// What part of the rows asked for it gets: slow queries get fewer.
    pub share: usize,
}

/// Windows of `size` units of time that begin with every unit; a unit is a millisecond to us.
fn sliding(size: u64) -> thalweg::window::WindowSpec {
    hopping(millis(size), millis(1))
}

/// Adds to an answer the results that are counts.
fn counts<'a>(answer: &mut Answer, groups: impl IntoIterator<Item = &'a Group>) {
    for group in groups {
        answer.rows += 1;
        answer.n += group.count;
    }
}

/// Adds to an answer the results that are means.
fn means<'a>(answer: &mut Answer, groups: impl IntoIterator<Item = &'a Group>) {
    for group in groups {
        answer.rows += 1;
        answer.mean += group.mean(0);
    }
}

fn sums(answer: &mut Answer, groups: &[Group]) {
    answer.rows += groups.len() as u64;
    answer.sum += groups.iter().map(|group| group.sum(0)).sum::<f64>();
}

const PLUG: [&str; 3] = ["plug", "household", "house"];

fn plug(row: Values<'_>) -> Row {
    Some((PLUG.map(|name| row(name) as i64).to_vec(), [row("value"), 0.0, 0.0]))
}

fn segment(row: Values<'_>) -> [i64; 3] {
    [row("highway") as i64, row("direction") as i64, row("position") as i64 / 5_280]
}

fn cluster_and_grid() -> [Query; 5] {
    let [cm1, cm2] = ["CM1", "CM2"].map(|name| Query {
        name,
        text: "sum(cpu) [60/1] by category",
        recorded: Some(78.0),
        at_least: Some(1.0),
        bundle: bundle::cluster,
        window: (60, 1),
        stream: |rows| rows.window(sliding(60)).by(["category"]).agg([sum("cpu").alias("sum")]),
        row: |row| Some((vec![row("category") as i64], [row("cpu"), 0.0, 0.0])),
        emit: sums,
        share: 1,
    });
    let cm2 = Query {
        text: "sum(cpu) [60/1] by jobId where eventType = 3",
        recorded: Some(129.0),
        stream: |rows| rows.filter("\"eventType\" = 3").window(sliding(60)).by(["jobId"]).agg([sum("cpu").alias("sum")]),
        row: |row| (row("eventType") == 3.0).then(|| (vec![row("jobId") as i64], [row("cpu"), 0.0, 0.0])),
        ..cm2
    };
    let [sg1, sg2, sg3] = ["SG1", "SG2", "SG3"].map(|name| Query {
        name,
        text: "mean(value) [3600/1]",
        recorded: Some(171.0),
        at_least: Some(1.0),
        bundle: bundle::plugs_in_all,
        window: (3_600, 1),
        stream: |rows| rows.window(sliding(3_600)).agg([mean("value").alias("mean")]),
        row: |row| Some((Vec::new(), [row("value"), 0.0, 0.0])),
        emit: |answer, groups| means(answer, groups),
        share: 1,
    });
    let sg2 = Query {
        text: "mean(value) [128/1] by plug, household, house",
        recorded: Some(10.3),
        at_least: Some(3.0),
        bundle: bundle::plugs,
        window: (128, 1),
        stream: |rows| rows.window(sliding(128)).by(PLUG).agg([mean("value").alias("mean")]),
        row: plug,
        share: 4,
        ..sg2
    };
    let sg3 = Query {
        text: "mean(value) [3600/1] by plug, household, house where household = 3",
        recorded: None,
        at_least: None,
        bundle: bundle::plugs,
        stream: |rows| rows.filter("household = 3").window(sliding(3_600)).by(PLUG).agg([mean("value").alias("mean")]),
        row: |row| plug(row).filter(|_| row("household") == 3.0),
        share: 4,
        ..sg3
    };
    [cm1, cm2, sg1, sg2, sg3]
}

fn roads() -> [Query; 2] {
    let by_segment = Query {
        name: "LRB1",
        text: "mean(speed) [300/1] by highway, direction, position / 5280 having mean < 40",
        recorded: Some(3.8),
        at_least: Some(3.0),
        bundle: bundle::segments,
        window: (300, 1),
        stream: |rows| {
            let segments = rows.with_columns([("segment", "position / 5280")]);
            let means = segments.window(sliding(300)).by(["highway", "direction", "segment"]).agg([mean("speed").alias("mean")]);
            means.filter("mean < 40")
        },
        row: |row| Some((segment(row).to_vec(), [row("speed"), 0.0, 0.0])),
        emit: |answer, groups| means(answer, groups.iter().filter(|group| group.mean(0) < 40.0)),
        share: 20,
    };
    let by_vehicle = Query {
        name: "LRB2",
        text: "count(*) [30/1] by vehicle, highway, direction, position / 5280",
        recorded: Some(1.8),
        at_least: Some(3.0),
        bundle: bundle::vehicles,
        window: (30, 1),
        stream: |rows| {
            let segments = rows.with_columns([("segment", "position / 5280")]);
            segments.window(sliding(30)).by(["vehicle", "highway", "direction", "segment"]).agg([count().alias("n")])
        },
        row: |row| Some(([vec![row("vehicle") as i64], segment(row).to_vec()].concat(), [0.0; 3])),
        emit: |answer, groups| counts(answer, groups),
        share: 20,
    };
    [by_segment, by_vehicle]
}

/// All queries.
pub fn all() -> Vec<Query> {
    let advertisements = Query {
        name: "YSB",
        // A campaign has ten advertisements that follow each other: the table from one to the other is a division.
        text: "count(*), max(ts) [100/100] by ad_id / 10 where event_type = 0",
        recorded: Some(57.0),
        at_least: Some(1.0),
        bundle: bundle::advertisements,
        window: (100, 100),
        stream: |rows| {
            let campaigns = rows.filter("event_type = 0").with_columns([("campaign", "ad_id / 10")]);
            campaigns.window(tumbling(millis(100))).by(["campaign"]).agg([count().alias("n"), max("ts").alias("max")])
        },
        row: |row| (row("event_type") == 0.0).then(|| (vec![row("ad_id") as i64 / 10], [0.0; 3])),
        emit: |answer, groups| {
            counts(answer, groups);
            answer.max += groups.iter().map(|group| group.latest as f64).sum::<f64>();
        },
        share: 1,
    };
    let hot_auctions = Query {
        name: "NBQ5",
        text: "count(*) [60/1] by auction, the rows equal to the window's maximum",
        recorded: Some(21.0),
        at_least: Some(3.0),
        bundle: bundle::bids,
        window: (60, 1),
        stream: |rows| rows.window(sliding(60)).by(["auction"]).agg([count().alias("n")]).process([""; 0], Greatest),
        row: |row| Some((vec![row("auction") as i64], [0.0; 3])),
        emit: |answer, groups| {
            let most = groups.iter().map(|group| group.count).max();
            counts(answer, groups.iter().filter(|group| Some(group.count) == most));
        },
        share: 2,
    };
    let equipment = Query {
        name: "ME1",
        text: "mean(mf01), mean(mf02), mean(mf03) [60/1]",
        recorded: Some(94.0),
        at_least: Some(1.0),
        bundle: bundle::equipment,
        window: (60, 1),
        // The columns of an answer have one name each.
        stream: |rows| rows.window(sliding(60)).agg([mean("mf01").alias("mean"), mean("mf02").alias("min"), mean("mf03").alias("max")]),
        row: |row| Some((Vec::new(), ["mf01", "mf02", "mf03"].map(row))),
        emit: |answer, groups| {
            means(answer, groups);
            answer.min += groups[0].mean(1);
            answer.max += groups[0].mean(2);
        },
        share: 1,
    };
    cluster_and_grid().into_iter().chain(roads()).chain([advertisements, hot_auctions, equipment]).collect()
}

/// Of the results of each window, which have one event time, those with the greatest `n`.
struct Greatest;

impl Process for Greatest {
    type State = ();

    fn schema(&self, input: &SchemaRef) -> thalweg::Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn on_rows(&self, rows: &Rows<'_>, _state: &mut (), context: &mut Context<'_>) -> thalweg::Result<()> {
        let counts: Option<&Int64Array> = rows.records.column_by_name("n").and_then(|counts| counts.as_primitive_opt::<Int64Type>());
        if let Some((counts, most)) = counts.and_then(|counts| Some((counts, greatest(counts)?))) {
            let kept: RecordBatch = filter_record_batch(&rows.records, &eq(counts as &dyn Datum, &Int64Array::new_scalar(most))?)?;
            context.emit(kept);
        }
        Ok(())
    }

    fn in_order(&self) -> bool {
        true
    }
}
