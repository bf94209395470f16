//! Windows over Arrow columns in memory, beside engines over the same columns.

use thalweg::window::WindowSpec;
use thalweg::{count, hopping, secs, tumbling};

use crate::answer::Answer;
use crate::bench::Bench;
use crate::contest::{Contender, Contest};
use crate::events::{KEYS, wide};
use crate::peer::Question;
use crate::report::Report;
use crate::{Common, Result, distribution, parquet, reference, rolling, sessions, shared, workers};

/// What a value must exceed in the filter query: one in seven does.
const LIMIT: f64 = 57.0;

/// Panes in a hopping window.
const PANES: i64 = 10;

/// Measures tumbling, hopping and filtering queries.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let bench = Bench::new(common, report.machine.read_gb_per_s)?;
    let targets = [2.0, 7.0, 5.0];
    for ((key, keys), target) in KEYS.into_iter().zip(targets) {
        let name = format!("tumbling 1 s, count/sum/min/max/mean by key, K = {keys}");
        let expected = || reference::windows(&bench.events, (key, keys), 1);
        if let Some(contest) = windows(&bench, &name, key, tumbling(secs(1)), 1, 4, expected)? {
            report.add(contest.goal("Thalweg", "DuckDB", target));
        }
        if keys == KEYS[0].1 {
            continue;
        }
        let name = format!("the same, K = {keys} spread over int64");
        if let Some(contest) = windows(&bench, &name, &wide(key), tumbling(secs(1)), 1, 8, expected)? {
            report.add(contest);
        }
    }
    if let Some(contest) = hops(&bench)? {
        report.add(contest.goal("Thalweg, hopping", "Thalweg, tumbling", 0.6).goal("Thalweg, hopping", "DuckDB", 8.0));
    }
    if let Some(contest) = sessions::contest(&bench)? {
        report.add(contest.goal("Thalweg", "DuckDB", 3.0).goal("Thalweg", "Polars", 3.0));
    }
    if let Some(contest) = distribution::contest(&bench)? {
        report.add(contest.goal("Thalweg, sketches", "Thalweg, count", 0.5));
    }
    if let Some(contest) = filter(&bench)? {
        report.add(contest);
    }
    if let Some(contest) = rolling::contest(&bench)? {
        report.add(contest.goal("Thalweg", "Polars", 4.0).goal("Thalweg", "DuckDB", 10.0));
    }
    if let Some(contest) = parquet::contest(&bench)? {
        report.add(contest.goal("Thalweg", "the crate", 0.9));
    }
    shared::contests(&bench)?.into_iter().for_each(|contest| report.add(contest));
    workers::contests(&bench)?.into_iter().for_each(|contest| report.add(contest));
    Ok(())
}

/// Windows of `panes` panes by `key`, a column of `key_bytes` bytes a value.
fn windows(
    bench: &Bench<'_>,
    name: &str,
    key: &str,
    spec: WindowSpec,
    panes: i64,
    key_bytes: usize,
    expected: impl Fn() -> Result<Answer>,
) -> Result<Option<Contest>> {
    if !bench.common.wants(name) {
        return Ok(None);
    }
    let expected = expected()?;
    let mut contenders = vec![bench.aggregate("Thalweg", key, spec, expected)?];
    let question =
        Question { query: "windows", key, size: panes * reference::PANE, slide: reference::PANE, limit: 0.0, ..Question::default() };
    bench.with_peers(&mut contenders, question, expected);
    bench.hold(name, contenders, 16 + key_bytes).map(Some)
}

fn hops(bench: &Bench<'_>) -> Result<Option<Contest>> {
    let name = "hopping 10 s / 1 s, count/sum/min/max/mean by key, K = 10000";
    if !bench.common.wants(name) {
        return Ok(None);
    }
    let (key, keys) = KEYS[1];
    let expected = reference::windows(&bench.events, (key, keys), PANES)?;
    let single = reference::windows(&bench.events, (key, keys), 1)?;
    let mut contenders = vec![
        bench.aggregate("Thalweg, hopping", key, hopping(secs(PANES as u64), secs(1)), expected)?,
        bench.aggregate("Thalweg, tumbling 1 s", key, tumbling(secs(1)), single)?,
    ];
    let question =
        Question { query: "windows", key, size: PANES * reference::PANE, slide: reference::PANE, limit: 0.0, ..Question::default() };
    bench.with_peers(&mut contenders, question, expected);
    bench.hold(name, contenders, 20).map(Some)
}

fn filter(bench: &Bench<'_>) -> Result<Option<Contest>> {
    let name = "filter value > 57 (15% pass), tumbling 10 s, count";
    if !bench.common.wants(name) {
        return Ok(None);
    }
    let size = PANES * reference::PANE;
    let expected = reference::counts_above(&bench.events, LIMIT, size);
    let stream = bench.stream(&["ts", "value"])?.filter(format!("value > {LIMIT}").as_str()).window(tumbling(secs(PANES as u64)));
    let stream = stream.agg([count().alias("n")]);
    let mut contenders = vec![Contender::new("Thalweg", expected, || bench.run(&stream))];
    bench.with_peers(
        &mut contenders,
        Question { query: "filter", key: "", size, slide: size, limit: LIMIT, ..Question::default() },
        expected,
    );
    bench.hold(name, contenders, 16).map(Some)
}
