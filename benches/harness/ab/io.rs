//! io_uring or portable calls; one thread or a source thread beside the worker.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;

use rustix::fs::Advice;
use thalweg::config::IoBackend;
use thalweg::source::Listen;
use thalweg::{Config, Stream};

use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Timing, Work};
use crate::ndjson::Shape;
use crate::report::Report;
use crate::sender::{Crowd, Sender};
use crate::transport::{Lines, connect, io, run, windows};
use crate::{Common, Result, machine};

/// Many clients that send little at a time: what a listener of devices or services sees.
const CROWD: Crowd = Crowd { clients: 256, piece: 1_024 };

const BACKENDS: [(&str, IoBackend); 2] = [("io_uring", IoBackend::Uring), ("portable", IoBackend::Portable)];

const SOCKET: &str = "NDJSON over TCP to rows, io_uring beside epoll";
const CROWDED: &str = "NDJSON over TCP to rows, 256 clients that send 1 KiB at a time, seconds of the receiver's core";
const DATAGRAMS: &str = "NDJSON in datagrams of one line to rows, seconds of the receiver's core";
const CACHED: &str = "NDJSON file to rows, io_uring beside blocking reads";
const COLD: &str = "NDJSON file that no cache holds to rows, io_uring beside blocking reads";
const DIRECT: &str = "NDJSON file past the cache (O_DIRECT) to rows, io_uring beside blocking reads";
const THREADS: &str = "NDJSON file to windows, one thread beside a source thread";

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    if ![SOCKET, CROWDED, DATAGRAMS, CACHED, COLD, DIRECT, THREADS].iter().any(|name| common.wants(name)) {
        return Ok(());
    }
    let lines = Lines::prepare(common)?;
    sockets(common, &lines, report)?;
    datagrams(common, &lines, report)?;
    let stream = lines.file()?;
    files(common, &lines, &stream, report)?;
    threads(common, &lines, &windows(&stream), report)
}

fn sockets(common: &Common, lines: &Lines, report: &mut Report) -> Result<()> {
    for (name, clients, timing) in [(SOCKET, Crowd::ONE, common.timing), (CROWDED, CROWD, Timing::Cpu)] {
        if common.wants(name) {
            let (stream, sender) = connect(lines, clients)?;
            let once = |backend: IoBackend| {
                Run::time(|| {
                    sender.borrow_mut().go()?;
                    rows(&stream, io(backend))
                })
            };
            let common = &Common { timing, ..common.clone() };
            report.add(hold(name, common, lines, &once)?);
        }
    }
    Ok(())
}

/// Datagrams that are sent at a time, and only when those before have come: the system drops what does not fit its buffer.
const BURST: usize = 200;
/// Bursts of a run.
const BURSTS: usize = 1_000;

fn datagrams(common: &Common, lines: &Lines, report: &mut Report) -> Result<()> {
    if !common.wants(DATAGRAMS) {
        return Ok(());
    }
    let stream = Stream::listen(Listen::udp("127.0.0.1:0", Shape::Numbers.schema()))?;
    let address = stream.local_addr().ok_or("the listener has no address")?;
    let sender = RefCell::new(Sender::of_datagrams(&address, lines.path.path(), BURST)?);
    let run = |backend: IoBackend| {
        let mut config = io(backend);
        // A batch is full when a burst has come, and nobody waits for a linger.
        config.batch_rows = BURST;
        Run::time(|| {
            let mut batches = stream.batches(config.clone())?;
            for _ in 0..BURSTS {
                sender.borrow_mut().go()?;
                let mut rows = 0;
                while rows < BURST {
                    rows += batches.next().ok_or("the stream has ended")??.num_rows();
                }
            }
            Ok(Answer::of_rows((BURST * BURSTS) as u64))
        })
    };
    let expected = Answer::of_rows((BURST * BURSTS) as u64);
    let contenders = BACKENDS.map(|(name, backend)| Contender::new(name, expected, move || run(backend))).into();
    let common = &Common { timing: Timing::Cpu, ..common.clone() };
    report.add(Contest::hold(DATAGRAMS, Work::rows(BURST * BURSTS), common, contenders)?);
    Ok(())
}

fn files(common: &Common, lines: &Lines, stream: &Stream, report: &mut Report) -> Result<()> {
    for name in [CACHED, COLD, DIRECT] {
        if common.wants(name) {
            let once = |backend: IoBackend| {
                if name == COLD {
                    forget(lines.path.path())?;
                }
                let mut config = io(backend);
                config.direct_io = name == DIRECT;
                Run::time(|| rows(stream, config))
            };
            report.add(hold(name, common, lines, &once)?);
        }
    }
    Ok(())
}

fn threads(common: &Common, lines: &Lines, windows: &Stream, report: &mut Report) -> Result<()> {
    if !common.wants(THREADS) {
        return Ok(());
    }
    let contenders = vec![
        Contender::new("one thread", lines.windows, || Run::time(|| run(windows, Config::default()))),
        Contender::new("source thread and worker", lines.windows, || {
            machine::unpin();
            let result = Run::time(|| run(windows, with_source_thread()));
            machine::pin(0);
            // Two threads' work is not to be had on one core.
            result.map(|run| Run { cpu_seconds: None, ..run })
        }),
    ];
    report.add(Contest::hold(THREADS, Work::bytes(lines.bytes.len()), common, contenders)?);
    Ok(())
}

/// Both backends at the same bytes.
fn hold(name: &str, common: &Common, lines: &Lines, once: &dyn Fn(IoBackend) -> Result<Run>) -> Result<Contest> {
    let expected = Answer::of_rows(lines.rows as u64);
    let contender = |(name, backend)| Contender::new(name, expected, move || once(backend));
    Contest::hold(name, Work::bytes(lines.bytes.len()), common, BACKENDS.map(contender).into())
}

/// Drops a file from the system's cache.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?)
}

/// Rows that come out of a stream of events without any step.
fn rows(stream: &Stream, config: Config) -> Result<Answer> {
    Ok(Answer::of_rows(run(stream, config)?.rows))
}

fn with_source_thread() -> Config {
    let mut config = Config::default();
    config.source_thread = true;
    config
}
