//! Windows over Arrow columns in memory, beside engines over the same columns.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use thalweg::window::WindowSpec;
use thalweg::{Query, Stream, count, event_time, hopping, max, mean, millis, min, secs, sum, tumbling};

use crate::answer::{Answer, Collector};
use crate::contest::{Contender, Contest, Run, Work};
use crate::events::{Events, KEYS, MAX_DELAY, wide};
use crate::peer::{Peer, Question};
use crate::report::Report;
use crate::{Common, Result, distribution, parquet, reference, rolling, sessions, shared, workers};

/// What a value must exceed in the filter query: one in seven does.
const LIMIT: f64 = 57.0;

/// Panes in a hopping window.
const PANES: i64 = 10;

/// The engines beside Thalweg: script in `benches/peers`.
const PEERS: [&str; 2] = ["duckdb_windows.py", "polars_windows.py"];

/// Data in a file below `target/bench`; removed at the end.
pub struct DataFile(PathBuf);

impl DataFile {
    /// A name that no other run has.
    pub fn new(name: &str) -> Result<DataFile> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&folder)?;
        Ok(DataFile(folder.join(format!("{}-{name}", std::process::id()))))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Everything that the measurements share.
pub struct Bench<'a> {
    pub common: &'a Common,
    pub events: Events,
    peers: Vec<RefCell<Peer>>,
    missing: Vec<String>,
    gb_per_s: f64,
}

/// Measures tumbling, hopping and filtering queries.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let file = DataFile::new("events.arrow")?;
    let events = Events::generate(common.rows)?;
    events.write_arrow(file.path())?;
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for script in PEERS {
        match Peer::start(script, &common.python, file.path()) {
            Ok(peer) => peers.push(RefCell::new(peer)),
            Err(why) => missing.push(why),
        }
    }
    let bench = Bench { common, events, peers, missing, gb_per_s: report.machine.read_gb_per_s };
    let targets = [2.0, 7.0, 5.0];
    for ((key, keys), target) in KEYS.into_iter().zip(targets) {
        let name = format!("tumbling 1 s, count/sum/min/max/mean by key, K = {keys}");
        let expected = || reference::windows(&bench.events, (key, keys), 1);
        if let Some(contest) = bench.windows(&name, key, tumbling(secs(1)), 1, 4, expected)? {
            report.add(contest.goal("Thalweg", "DuckDB", target));
        }
        if keys == KEYS[0].1 {
            continue;
        }
        let name = format!("the same, K = {keys} spread over int64");
        if let Some(contest) = bench.windows(&name, &wide(key), tumbling(secs(1)), 1, 8, expected)? {
            report.add(contest);
        }
    }
    if let Some(contest) = bench.hopping()? {
        report.add(contest.goal("Thalweg, hopping", "Thalweg, tumbling", 0.6).goal("Thalweg, hopping", "DuckDB", 8.0));
    }
    if let Some(contest) = sessions::contest(&bench)? {
        report.add(contest.goal("Thalweg", "DuckDB", 3.0).goal("Thalweg", "Polars", 3.0));
    }
    if let Some(contest) = distribution::contest(&bench)? {
        report.add(contest.goal("Thalweg, sketches", "Thalweg, count", 0.5));
    }
    if let Some(contest) = bench.filter()? {
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

impl Bench<'_> {
    pub fn run(&self, stream: &Stream) -> Result<Run> {
        Run::time(|| {
            let collector = Collector::default();
            let metrics = Query::new().sink(stream, collector.clone()).run()?;
            match metrics.late_rows + metrics.quarantined_rows {
                0 => Ok(collector.answer()),
                lost => Err(format!("{lost} rows were late or quarantined; none is").into()),
            }
        })
    }

    pub fn stream(&self, columns: &[&str]) -> Result<Stream> {
        let batches = self.events.project(columns)?;
        Ok(Stream::from_arrow(batches).event_time(event_time("ts").max_delay(millis(MAX_DELAY as u64))))
    }

    /// A contender that aggregates by `key`.
    pub fn aggregate(&self, name: &str, key: &str, spec: WindowSpec, expected: Answer) -> Result<Contender<'_>> {
        let aggregates = [
            count().alias("n"),
            sum("value").alias("sum"),
            min("value").alias("min"),
            max("value").alias("max"),
            mean("value").alias("mean"),
        ];
        let stream = self.stream(&["ts", key, "value"])?.window(spec).by([key]).agg(aggregates);
        Ok(Contender::new(name, expected, move || self.run(&stream)))
    }

    pub fn with_peers<'a>(&'a self, contenders: &mut Vec<Contender<'a>>, question: Question<'a>, expected: Answer) {
        for peer in &self.peers {
            let question = question.clone();
            let name = peer.borrow().name.clone();
            contenders.push(Contender::new(name, expected, move || peer.borrow_mut().ask(&question)));
        }
    }

    pub fn hold(&self, name: &str, contenders: Vec<Contender<'_>>, bytes: usize) -> Result<Contest> {
        let mut contest = Contest::hold(name, Work::rows(self.events.rows), self.common, contenders)?.reading(bytes, self.gb_per_s);
        contest.notes.extend(self.missing.iter().cloned());
        Ok(contest)
    }

    /// Windows of `panes` panes by `key`, a column of `key_bytes` bytes a value.
    fn windows(
        &self,
        name: &str,
        key: &str,
        spec: WindowSpec,
        panes: i64,
        key_bytes: usize,
        expected: impl Fn() -> Result<Answer>,
    ) -> Result<Option<Contest>> {
        if !self.common.wants(name) {
            return Ok(None);
        }
        let expected = expected()?;
        let mut contenders = vec![self.aggregate("Thalweg", key, spec, expected)?];
        let question =
            Question { query: "windows", key, size: panes * reference::PANE, slide: reference::PANE, limit: 0.0, ..Question::default() };
        self.with_peers(&mut contenders, question, expected);
        self.hold(name, contenders, 16 + key_bytes).map(Some)
    }

    fn hopping(&self) -> Result<Option<Contest>> {
        let name = "hopping 10 s / 1 s, count/sum/min/max/mean by key, K = 10000";
        if !self.common.wants(name) {
            return Ok(None);
        }
        let (key, keys) = KEYS[1];
        let expected = reference::windows(&self.events, (key, keys), PANES)?;
        let single = reference::windows(&self.events, (key, keys), 1)?;
        let mut contenders = vec![
            self.aggregate("Thalweg, hopping", key, hopping(secs(PANES as u64), secs(1)), expected)?,
            self.aggregate("Thalweg, tumbling 1 s", key, tumbling(secs(1)), single)?,
        ];
        let question =
            Question { query: "windows", key, size: PANES * reference::PANE, slide: reference::PANE, limit: 0.0, ..Question::default() };
        self.with_peers(&mut contenders, question, expected);
        self.hold(name, contenders, 20).map(Some)
    }

    fn filter(&self) -> Result<Option<Contest>> {
        let name = "filter value > 57 (15% pass), tumbling 10 s, count";
        if !self.common.wants(name) {
            return Ok(None);
        }
        let size = PANES * reference::PANE;
        let expected = reference::counts_above(&self.events, LIMIT, size);
        let stream = self.stream(&["ts", "value"])?.filter(format!("value > {LIMIT}").as_str()).window(tumbling(secs(PANES as u64)));
        let stream = stream.agg([count().alias("n")]);
        let mut contenders = vec![Contender::new("Thalweg", expected, || self.run(&stream))];
        self.with_peers(
            &mut contenders,
            Question { query: "filter", key: "", size, slide: size, limit: LIMIT, ..Question::default() },
            expected,
        );
        self.hold(name, contenders, 16).map(Some)
    }
}
