//! io_uring or portable calls; one thread or a source thread beside the worker.

use thalweg::config::IoBackend;
use thalweg::{Config, Stream};

use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Timing, Work};
use crate::report::Report;
use crate::sender::Crowd;
use crate::transport::{Lines, connect, io, run, windows};
use crate::{Common, Result, machine};

/// Many clients that send little at a time: what a listener of devices or services sees.
const CROWD: Crowd = Crowd { clients: 256, piece: 1_024 };

const BACKENDS: [(&str, IoBackend); 2] = [("io_uring", IoBackend::Uring), ("portable", IoBackend::Portable)];

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let (socket, crowd, file, threads) = (
        "NDJSON over TCP to rows, io_uring beside epoll",
        "NDJSON over TCP to rows, 256 clients that send 1 KiB at a time, seconds of the receiver's core",
        "NDJSON file to rows, io_uring beside blocking reads",
        "NDJSON file to windows, one thread beside a source thread",
    );
    if ![socket, crowd, file, threads].iter().any(|name| common.wants(name)) {
        return Ok(());
    }
    let lines = Lines::prepare(common)?;
    let expected = Answer::of_rows(lines.rows as u64);
    let hold = |name: &str, contenders: Vec<Contender<'_>>| Contest::hold(name, Work::bytes(lines.bytes.len()), common, contenders);
    for (name, clients, timing) in [(socket, Crowd::ONE, common.timing), (crowd, CROWD, Timing::Cpu)] {
        if common.wants(name) {
            let (stream, sender) = connect(&lines, clients)?;
            let once = |backend: IoBackend| {
                Run::time(|| {
                    sender.borrow_mut().go()?;
                    rows(&stream, io(backend))
                })
            };
            let contender = |(name, backend)| Contender::new(name, expected, move || once(backend));
            let common = &Common { timing, ..common.clone() };
            report.add(Contest::hold(name, Work::bytes(lines.bytes.len()), common, BACKENDS.map(contender).into())?);
        }
    }
    let stream = lines.file()?;
    if common.wants(file) {
        let stream = &stream;
        let contender = |(name, backend)| Contender::new(name, expected, move || Run::time(|| rows(stream, io(backend))));
        report.add(hold(file, BACKENDS.map(contender).into())?);
    }
    if common.wants(threads) {
        let windows = windows(&stream);
        let contenders = vec![
            Contender::new("one thread", lines.windows, || Run::time(|| run(&windows, Config::default()))),
            Contender::new("source thread and worker", lines.windows, || {
                machine::unpin();
                let result = Run::time(|| run(&windows, with_source_thread()));
                machine::pin(0);
                // Two threads' work is not to be had on one core.
                result.map(|run| Run { cpu_seconds: None, ..run })
            }),
        ];
        report.add(hold(threads, contenders)?);
    }
    Ok(())
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
