//! This machine watches itself: a thread samples `/proc` ten times a second and pushes typed events into the engine,
//! which sums each gauge up by second and raises an alert when one leaves its own recent past.
//!
//! ```text
//! cargo run --release --example host_watch -- --seconds 20 --stress
//! ```

#![allow(clippy::print_stdout, reason = "a program talks to its terminal")]

mod proc;
#[path = "../support/screen.rs"]
mod screen;
mod watch;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use thalweg::ring::Full;
use thalweg::sink::Callback;
use thalweg::source::events::EventSender;
use thalweg::{Query, Stream, count, ewma, max, mean, min, secs, tumbling};

use proc::Host;
use watch::{Watch, locked};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Samples that may wait for the engine: a minute's worth of a machine with a hundred cores.
const WAITING: usize = 1 << 16;
/// How long `--stress` keeps a core busy.
const STRESS_FOR: Duration = Duration::from_secs(2);

thalweg::event! {
    /// One gauge at one moment.
    pub struct Sample {
        /// Milliseconds since 1970.
        pub ts: i64 as timestamp_ms,
        /// Which gauge, by its place in [`Host::gauges`].
        pub gauge: i64,
        /// Percent, or megabytes a second.
        pub value: f64,
    }
}

/// Watches this machine's own telemetry
#[derive(Debug, Parser)]
struct Cli {
    /// Ends after this many seconds; without it, at Ctrl-C
    #[arg(long)]
    seconds: Option<u64>,
    /// Keeps one core busy for two seconds, five seconds from the start, so that there is something to see
    #[arg(long)]
    stress: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("host_watch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Cli) -> Result<()> {
    let host = Host::new()?;
    let watch = Arc::new(Mutex::new(Watch::new(host.gauges())));
    let (sender, samples) = Stream::events::<Sample>(WAITING, Full::DropOldest)?;
    let samples = samples.event_time("ts");
    let seconds = samples.window(tumbling(secs(1))).by(["gauge"]).agg([
        count().alias("n"),
        mean("value").alias("average"),
        min("value").alias("least"),
        max("value").alias("most"),
    ]);
    // A fifth of a core or of the memory, or 20 MB a second: below that, nothing is worth an alert however sudden.
    let alerts = samples.detect(ewma(0.02).on(["value"]).by(["gauge"]).threshold(6.0)).filter("is_anomaly AND value >= 20");

    let (of_seconds, of_alerts) = (Arc::clone(&watch), Arc::clone(&watch));
    let mut running = Query::new()
        .sink(&seconds, Callback::new(move |batch| locked(&of_seconds).second(batch)))
        .sink(&alerts, Callback::new(move |batch| locked(&of_alerts).alert(batch)))
        .start()?;
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let sampler = sample(host, sender, end)?;
    let stress = options.stress.then(stress).transpose()?;
    while !running.is_finished() {
        thread::sleep(SAMPLE_EVERY);
        locked(&watch).draw()?;
    }
    let metrics = running.wait()?;
    sampler.join().map_err(|_| "the sampler panicked")??;
    stress.map(JoinHandle::join);
    println!("{} samples, {} alerts, {} late", metrics.rows_in, locked(&watch).alerts(), metrics.late_rows);
    Ok(())
}

/// Samples on a thread of its own until `end`. When it drops its sender the stream ends, and with it the query.
fn sample(mut host: Host, sender: EventSender<Sample>, end: Option<Instant>) -> Result<JoinHandle<Result<()>>> {
    let body = move || {
        let mut due = Instant::now() + SAMPLE_EVERY;
        while end.is_none_or(|end| due <= end) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += SAMPLE_EVERY;
            let ts = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
            for (gauge, value) in (0..).zip(host.sample()?) {
                if sender.push(Sample { ts, gauge, value }).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    Ok(thread::Builder::new().name("sampler".to_owned()).spawn(body)?)
}

/// Waits for the gauges to settle, then burns a core for a while.
fn stress() -> Result<JoinHandle<()>> {
    let body = || {
        thread::sleep(Duration::from_secs(5));
        let start = Instant::now();
        while start.elapsed() < STRESS_FOR {
            std::hint::spin_loop();
        }
    };
    Ok(thread::Builder::new().name("stress".to_owned()).spawn(body)?)
}
