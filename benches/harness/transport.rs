//! NDJSON to windows, from a file and over loopback TCP, as a share of decoding the same bytes in memory.

use std::cell::RefCell;
use std::fs;

use thalweg::config::IoBackend;
use thalweg::source::Listen;
use thalweg::{Config, Query, Stream, count, event_time, max, mean, millis, min, secs, sum, tumbling};

use crate::answer::{Answer, Collector};
use crate::contest::{Contender, Contest, Run, Work};
use crate::data_file::DataFile;
use crate::events::{Events, KEYS, MAX_DELAY};
use crate::ndjson::{Shape, decode};
use crate::report::Report;
use crate::sender::{Crowd, Sender};
use crate::{Common, Result, reference};

/// NDJSON lines per event in memory: text takes ten times as long.
const SHARE: usize = 4;

/// Lines in memory and in a file, with the right answers.
pub struct Lines {
    pub bytes: Vec<u8>,
    pub path: DataFile,
    pub rows: usize,
    pub windows: Answer,
}

impl Lines {
    pub fn prepare(common: &Common) -> Result<Lines> {
        let rows = (common.rows / SHARE).max(1);
        let events = Events::generate(rows)?;
        let (key, keys) = KEYS[1];
        let bytes = Shape::Numbers.lines(&events, key, rows)?;
        let path = DataFile::new("events.ndjson")?;
        fs::write(path.path(), &bytes)?;
        Ok(Lines { bytes, path, rows, windows: reference::windows(&events, (key, keys), 1)? })
    }

    /// A stream of the file.
    pub fn file(&self) -> Result<Stream> {
        Ok(Stream::read_ndjson(&self.path.path().display().to_string(), Some(Shape::Numbers.schema()))?)
    }
}

/// The windows of a stream of events.
pub fn windows(stream: &Stream) -> Stream {
    let aggregates =
        [count().alias("n"), sum("value").alias("sum"), min("value").alias("min"), max("value").alias("max"), mean("value").alias("mean")];
    let timed = stream.event_time(event_time("ts").max_delay(millis(MAX_DELAY as u64)));
    timed.window(tumbling(secs(1))).by(["key"]).agg(aggregates)
}

/// Runs a stream to its end and sums up its results.
pub fn run(stream: &Stream, config: Config) -> Result<Answer> {
    let collector = Collector::default();
    let metrics = Query::new().config(config).sink(stream, collector.clone()).run()?;
    match metrics.late_rows + metrics.quarantined_rows {
        0 => Ok(collector.answer()),
        lost => Err(format!("{lost} rows were late or quarantined; none is").into()),
    }
}

/// The configuration with this way of bytes in.
pub fn io(backend: IoBackend) -> Config {
    let mut config = Config::default();
    config.io = backend;
    config
}

/// A listener and a sender on the other core that sends `lines` to it on command.
pub fn connect(lines: &Lines, crowd: Crowd) -> Result<(Stream, RefCell<Sender>)> {
    let stream = Stream::listen(Listen::tcp("127.0.0.1:0", Shape::Numbers.schema()).end_on_disconnect(true))?;
    let address = stream.local_addr().ok_or("the listener has no address")?;
    let sender = Sender::of_file(&address, lines.path.path(), crowd)?;
    Ok((stream, RefCell::new(sender)))
}

/// Measures bytes to windows beside decoding alone.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let name = "NDJSON to windows (1 s by key, K = 10000) beside decoding alone";
    if !common.wants(name) {
        return Ok(());
    }
    let lines = Lines::prepare(common)?;
    let file = windows(&lines.file()?);
    let (socket, sender) = connect(&lines, Crowd::ONE)?;
    let socket = windows(&socket);
    let contenders = vec![
        Contender::new("over TCP", lines.windows, || {
            Run::time(|| {
                sender.borrow_mut().go()?;
                run(&socket, Config::default())
            })
        }),
        Contender::new("from a file", lines.windows, || Run::time(|| run(&file, Config::default()))),
        Contender::new("decoding alone", Answer::of_rows(lines.rows as u64), || {
            Run::time(|| decode(&lines.bytes, &Shape::Numbers.schema()))
        }),
    ];
    let mut contest = Contest::hold(name, Work::bytes(lines.bytes.len()), common, contenders)?;
    contest.notes.push(format!("{} bytes a line; the sender is another process on the other core", lines.bytes.len() / lines.rows));
    report.add(contest.goal("over TCP", "decoding alone", 0.6).goal("from a file", "decoding alone", 0.6));
    Ok(())
}
