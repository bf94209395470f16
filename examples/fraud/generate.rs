//! Sends simulated transactions over TCP at the times they are due, whatever the receiver does (an open loop).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::simulator::{Simulator, World};
use crate::wire::Encoder;

/// Events in one write at most: some 400 KiB, more than a socket's buffer, so that at full speed a write is never short of work.
const CHUNK: u64 = 4_096;
/// How long to sleep when nothing is due: at 200,000 events a second 50 events come due meanwhile.
const NAP: Duration = Duration::from_micros(250);

/// How much traffic, and of which world.
#[derive(Debug, Clone, Args)]
pub struct Traffic {
    /// How long to send, in seconds
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
    /// Events per second; 0 sends as fast as the receiver takes them
    #[arg(long, default_value_t = 200_000)]
    pub rate: u64,
    /// Decides every transaction: the same seed sends the same events
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Card holders; together they make nearly two transactions a simulated day each
    #[arg(long, default_value_t = 5_000)]
    pub customers: usize,
    /// Terminals at which they pay
    #[arg(long, default_value_t = 10_000)]
    pub terminals: usize,
}

/// The arguments of `fraud generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Where the pipeline listens
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub addr: String,
    #[command(flatten)]
    pub traffic: Traffic,
    /// Where to write the ids of the frauds and their scenarios (CSV); the events themselves do not tell
    #[arg(long)]
    pub truth: Option<PathBuf>,
}

/// What was sent; printed as one line of JSON at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
    /// Seconds from the first to the last of them.
    pub seconds: f64,
    /// The longest that an event was sent after it was due, in milliseconds: the receiver held the sender up.
    pub behind_ms: f64,
    /// Simulated days.
    pub days: i64,
}

/// Which events are due by when.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// Events per second; infinite for as fast as possible.
    rate: f64,
    seconds: f64,
}

impl Schedule {
    /// How many events are due `elapsed` seconds after the start; `None` once all were sent.
    fn due(&self, elapsed: f64, sent: u64) -> Option<u64> {
        if self.rate.is_infinite() {
            return (elapsed < self.seconds).then_some(u64::MAX);
        }
        let total = (self.rate * self.seconds).round() as u64;
        (sent < total).then(|| total.min((self.rate * elapsed) as u64 + 1))
    }

    /// How many seconds after the start event number `index` is due.
    fn time_of(&self, index: u64) -> f64 {
        index as f64 / self.rate
    }
}

/// Runs `fraud generate`.
pub fn run(options: &Generate) -> Result<()> {
    let sent = send(options)?;
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// Sends everything and writes the truth.
pub fn send(options: &Generate) -> Result<Sent> {
    let traffic = &options.traffic;
    let world = World { customers: traffic.customers, terminals: traffic.terminals, radius: 5.0, seed: traffic.seed };
    let mut simulator = Simulator::new(world)?;
    let encoder = Encoder::new(&simulator.places);
    let mut truth = options.truth.as_deref().map(Truth::create).transpose()?;
    let mut socket = TcpStream::connect(&options.addr).map_err(|error| format!("cannot connect to {}: {error}", options.addr))?;

    let rate = if traffic.rate == 0 { f64::INFINITY } else { traffic.rate as f64 };
    let schedule = Schedule { rate, seconds: traffic.seconds };
    let mut sent = Sent { events: 0, bytes: 0, seconds: 0.0, behind_ms: 0.0, days: 0 };
    let mut buffer = Vec::with_capacity(CHUNK as usize * 160);
    let start = Instant::now();
    while let Some(due) = schedule.due(start.elapsed().as_secs_f64(), sent.events) {
        if due <= sent.events {
            std::thread::sleep(NAP);
            continue;
        }
        let first = sent.events;
        buffer.clear();
        for transaction in simulator.by_ref().take((due - first).min(CHUNK) as usize) {
            encoder.line(sent.events, &transaction, &mut buffer);
            if let (Some(truth), Some(scenario)) = (&mut truth, transaction.scenario) {
                truth.add(sent.events, scenario as u8)?;
            }
            sent.events += 1;
        }
        socket.write_all(&buffer).map_err(|error| format!("the receiver has gone after {} events: {error}", sent.events))?;
        sent.bytes += buffer.len() as u64;
        sent.seconds = start.elapsed().as_secs_f64();
        if schedule.rate.is_finite() {
            sent.behind_ms = sent.behind_ms.max((sent.seconds - schedule.time_of(first)) * 1e3);
        }
    }
    if let Some(truth) = truth {
        truth.close()?;
    }
    sent.days = simulator.days();
    Ok(sent)
}

/// The file that tells which events are frauds.
struct Truth {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Truth {
    fn create(path: &Path) -> Result<Truth> {
        let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let mut truth = Truth { path: path.to_owned(), file: BufWriter::new(file) };
        truth.write(format_args!("id,scenario\n"))?;
        Ok(truth)
    }

    fn add(&mut self, id: u64, scenario: u8) -> Result<()> {
        self.write(format_args!("{id},{scenario}\n"))
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) -> Result<()> {
        Ok(self.file.write_fmt(line).map_err(|error| format!("cannot write {}: {error}", self.path.display()))?)
    }

    fn close(mut self) -> Result<()> {
        Ok(self.file.flush().map_err(|error| format!("cannot write {}: {error}", self.path.display()))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_schedule_counts_events_by_time_alone() {
        let schedule = Schedule { rate: 1_000.0, seconds: 2.0 };
        assert_eq!(schedule.due(0.0, 0), Some(1));
        assert_eq!(schedule.due(0.5, 0), Some(501));
        assert_eq!(schedule.due(9.0, 501), Some(2_000), "a receiver that was stuck gets the rest at once");
        assert_eq!(schedule.due(9.0, 2_000), None);
        assert_eq!(schedule.time_of(500), 0.5);
        let fast = Schedule { rate: f64::INFINITY, seconds: 2.0 };
        assert_eq!((fast.due(1.0, 5), fast.due(2.0, 5)), (Some(u64::MAX), None));
    }

    #[test]
    fn sends_exactly_what_was_asked_for_and_keeps_the_truth_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let truth = folder.path().join("truth.csv");
        let traffic = Traffic { seconds: 0.05, rate: 400_000, seed: 1, customers: 1_000, terminals: 1_000 };
        let options = Generate { addr, traffic, truth: Some(truth.clone()) };
        let sender = std::thread::spawn(move || send(&options).map_err(|error| error.to_string()));
        let lines: Vec<String> = BufReader::new(listener.accept().unwrap().0).lines().map(Result::unwrap).collect();
        let sent = sender.join().unwrap().unwrap();

        assert_eq!((sent.events, lines.len()), (20_000, 20_000));
        assert_eq!(sent.bytes as usize, lines.iter().map(|line| line.len() + 1).sum::<usize>());
        let field = |line: &str, name: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[name].clone();
        assert!((0..).zip(&lines).all(|(id, line)| field(line, "id") == serde_json::json!(id)));
        let frauds: Vec<String> = std::fs::read_to_string(&truth).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(frauds[0], "id,scenario");
        let over_limit = lines.iter().filter(|line| field(line, "amount").as_f64().unwrap() > 220.0).count();
        assert!(over_limit > 0 && frauds.len() > over_limit, "{over_limit} over the limit of {} frauds", frauds.len() - 1);
    }
}
