//! The benchmark queries of LightSaber (SIGMOD 2020) over its data: windows that slide by one unit of time over a bundle of rows, which
//! is replayed in a closed loop.
//!
//! As there, nothing is parsed and nothing crosses a network, and the time column alone is rewritten for each lap, inside the loop that
//! is timed. Unlike there, rows are Arrow columns, of those that the query names alone; sums are `f64`; and every answer is checked.

mod bundle;
mod model;
mod queries;
mod replay;

use std::path::Path;

use thalweg::{Query as Run, Stream, event_time};

use crate::answer::Collector;
use crate::contest::{Contender, Contest, Recorded, Run as Timed, Work};
use crate::report::Report;
use crate::{Common, Result, machine};
use queries::Query;
use replay::Replay;

/// Where LightSaber's figures are from.
const SOURCE: &str = "LightSaber d6158e7, one worker, recorded 2026-11 on 2 vCPU of an AMD EPYC (Zen 4), not in this run";

/// Measures every query; without the data it says so and goes on.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let folder = machine::data_folder();
    if !folder.join("streams").is_dir() {
        let folder = folder.display();
        println!(
            "LightSaber's queries were left out: no folder `streams` in {folder}; let {} name the folder of the data sets\n",
            machine::DATA.0
        );
        return Ok(());
    }
    for query in queries::all() {
        let name = format!("LightSaber's {}: {}", query.name, query.text);
        if common.wants(&name) {
            report.add(contest(&name, &query, &folder, common)?);
        }
    }
    Ok(())
}

fn contest(name: &str, query: &Query, folder: &Path, common: &Common) -> Result<Contest> {
    let bundle = (query.bundle)(folder)?;
    let laps = (common.rows / query.share / bundle.rows()).max(1);
    let rows = laps * bundle.rows();
    let expected = model::answer(&bundle, laps, query.window, query.row, query.emit);
    let source = Replay { records: bundle.records()?, lap: bundle.lap, laps };
    let stream = (query.stream)(&Stream::from_source(source).event_time(event_time("ts")));
    let contender = Contender::new("Thalweg", expected, || {
        Timed::time(|| {
            let collector = Collector::default();
            let metrics = Run::new().sink(&stream, collector.clone()).run()?;
            match metrics.late_rows + metrics.quarantined_rows {
                0 => Ok(collector.answer()),
                lost => Err(format!("{lost} rows were late or quarantined; none is").into()),
            }
        })
    });
    let mut contest = Contest::hold(name, Work::rows(rows), common, vec![contender])?;
    contest.recorded = query.recorded.map(|rate| Recorded::new(SOURCE, rate, query.at_least, &contest.entries[0]));
    contest.notes.push(format!(
        "{laps} laps of {} rows and {} units of time; {} rows out, {:.0} a lap",
        bundle.rows(),
        bundle.lap,
        expected.rows,
        expected.rows as f64 / laps as f64
    ));
    Ok(contest)
}
