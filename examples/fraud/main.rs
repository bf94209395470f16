//! Card fraud, end to end: a simulator in a process of its own sends card transactions over TCP; the pipeline decides
//! on each of them within milliseconds, sums up what each card spends a day into Parquet, and is judged at the end by
//! the truth, which only the simulator knew.
//!
//! ```text
//! cargo run --release --example fraud                              # both, for 20 seconds
//! cargo run --release --example fraud -- detect --addr 127.0.0.1:9000 --truth truth.csv
//! cargo run --release --example fraud -- generate --addr 127.0.0.1:9000 --rate 0 --truth truth.csv
//! cargo run --release --example fraud -- evaluate                  # what each detector is worth
//! ```
//!
//! Event time runs fast: the simulated world makes some 9,700 transactions a day, so at 200,000 a second one second
//! of ours is about 20 days of theirs.

#![allow(clippy::print_stdout, reason = "a program talks to its terminal")]

mod detect;
mod evaluate;
mod generate;
mod live;
mod report;
#[path = "../support/screen.rs"]
mod screen;
mod signals;
mod simulator;
mod wire;
mod words;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::{Args, Parser, Subcommand};

use detect::{Detect, Pipeline};
use evaluate::Evaluate;
use generate::{Generate, Sent, Traffic};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Detects card fraud in a stream of simulated transactions
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    demo: Demo,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Only sends transactions
    Generate(Generate),
    /// Only listens and detects
    Detect(Detect),
    /// Only measures, without a socket, which frauds each detector finds
    Evaluate(Evaluate),
}

#[derive(Debug, Args)]
struct Demo {
    #[command(flatten)]
    traffic: Traffic,
    /// Folder for windows, alerts, late and quarantined rows, and the truth; those of an earlier run are replaced
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.part {
        None => demo(&cli.demo),
        Some(Part::Generate(options)) => generate::run(options),
        Some(Part::Detect(options)) => detect::run(options),
        Some(Part::Evaluate(options)) => evaluate::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fraud: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Both parts: the pipeline here, the simulator in a child process.
fn demo(options: &Demo) -> Result<()> {
    let pipeline = Pipeline::start("127.0.0.1:0", &options.out)?;
    let truth = options.out.join("truth.csv");
    let rate = match options.traffic.rate {
        0 => "as fast as they are taken".to_owned(),
        rate => format!("{} a second", words::grouped(rate)),
    };
    println!("sending transactions to {} for {} s, {rate}; some 9,700 make one simulated day", pipeline.addr, options.traffic.seconds);
    let mut sender = Sender::spawn(&pipeline.addr, &options.traffic, &truth)?;
    let outcome = pipeline.watch(|| sender.check())?;
    let sent = sender.finish()?;
    report::print(&outcome, Some(&sent), Some(&truth))
}

/// The simulator's process; killed if it is dropped before its end.
struct Sender(Child);

impl Sender {
    fn spawn(addr: &str, traffic: &Traffic, truth: &Path) -> Result<Sender> {
        let program = std::env::current_exe().map_err(|error| format!("cannot find this program again: {error}"))?;
        let mut command = Command::new(program);
        command.args(["generate", "--addr", addr, "--truth"]).arg(truth);
        command.args(["--seconds", &traffic.seconds.to_string(), "--rate", &traffic.rate.to_string()]);
        command.args(["--seed", &traffic.seed.to_string(), "--customers", &traffic.customers.to_string()]);
        command.args(["--terminals", &traffic.terminals.to_string()]);
        let child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cannot start the simulator: {error}"))?;
        Ok(Sender(child))
    }

    /// # Errors
    /// If the simulator has failed; it has said why itself.
    fn check(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            Some(status) if !status.success() => Err(format!("the simulator failed ({status})").into()),
            _ => Ok(()),
        }
    }

    /// Waits for the end and returns what was sent.
    fn finish(mut self) -> Result<Sent> {
        let mut text = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout.read_to_string(&mut text)?;
        }
        let status = self.0.wait()?;
        if !status.success() {
            return Err(format!("the simulator failed ({status})").into());
        }
        serde_json::from_str(&text).map_err(|error| format!("the simulator said `{}`: {error}", text.trim()).into())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Fails only if it has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_event_gets_a_decision_and_ends_in_a_window_or_late() {
        let folder = tempfile::tempdir().unwrap();
        let truth = folder.path().join("truth.csv");
        let pipeline = Pipeline::start("127.0.0.1:0", folder.path()).unwrap();
        let traffic = Traffic { seconds: 0.25, rate: 200_000, seed: 5, customers: 500, terminals: 1_000 };
        let options = Generate { addr: pipeline.addr.clone(), traffic, truth: Some(truth.clone()) };
        let sender = std::thread::spawn(move || generate::send(&options).map_err(|error| error.to_string()));
        let outcome = pipeline.watch(|| Ok(())).unwrap();
        let sent = sender.join().unwrap().unwrap();
        assert_eq!((sent.events, outcome.decided), (50_000, 50_000));
        assert!(outcome.metrics.late_rows > 0, "one in 10,000 is held back past its day");
        assert!(outcome.alerts.iter().any(|alert| alert.over_limit) && outcome.alerts.iter().any(|alert| !alert.over_limit));
        report::print(&outcome, Some(&sent), Some(&truth)).unwrap();
        let short = Sent { events: 1, ..sent };
        let error = report::print(&outcome, Some(&short), None).unwrap_err().to_string();
        assert_eq!(error, "events are missing or double: 1 events were sent, but 50000 arrived");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
