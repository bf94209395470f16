//! What measurements over Arrow columns in memory share: the events, the engines beside Thalweg, and how a contest is held.

use std::cell::RefCell;

use thalweg::window::WindowSpec;
use thalweg::{Query, Stream, count, event_time, max, mean, millis, min, sum};

use crate::answer::{Answer, Collector};
use crate::contest::{Contender, Contest, Run, Work};
use crate::data_file::DataFile;
use crate::events::{Events, MAX_DELAY};
use crate::peer::{Peer, Question};
use crate::{Common, Result};

/// The engines beside Thalweg: script in `benches/peers`.
const PEERS: [&str; 2] = ["duckdb_windows.py", "polars_windows.py"];

/// Everything that the measurements share.
pub struct Bench<'a> {
    pub common: &'a Common,
    pub events: Events,
    peers: Vec<RefCell<Peer>>,
    missing: Vec<String>,
    gb_per_s: f64,
    /// What the peers read; it goes after them.
    _file: DataFile,
}

impl Bench<'_> {
    /// Makes the events and starts the peers; `gb_per_s` is what the machine reads from memory.
    pub fn new(common: &Common, gb_per_s: f64) -> Result<Bench<'_>> {
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
        Ok(Bench { common, events, peers, missing, gb_per_s, _file: file })
    }

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
}
