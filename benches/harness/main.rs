//! `thalweg-bench`: speed and latency beside the peers that a user would otherwise pick.
//!
//! Every run checks its answers and fails loudly when one is wrong; contenders take turns within one run, because a
//! machine drifts; figures are medians. See `benches/README.md`.

#![allow(clippy::print_stdout)]

mod ab;
mod anomaly;
mod answer;
mod bench;
mod contest;
mod data_file;
mod devices;
mod distribution;
mod events;
mod kafka;
mod kernels;
mod latency;
mod lightsaber;
mod machine;
mod memory;
mod ndjson;
mod parquet;
mod peer;
mod record;
mod reference;
mod report;
mod rolling;
mod sender;
mod sessions;
mod shared;
mod soak;
mod transport;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::contest::Timing;
use crate::machine::Machine;
use crate::report::Report;

/// What goes wrong in the harness ends it.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(name = "thalweg-bench", about = "Speed and latency of Thalweg beside its peers, answers checked")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Windows over Arrow columns in memory, beside DuckDB and Polars; NDJSON from a file and over TCP to windows.
    Throughput(Common),
    /// From when an event was due to when its result is handed over, in an open loop over TCP.
    Latency {
        #[command(flatten)]
        options: latency::Options,
        #[command(flatten)]
        common: Common,
    },
    /// io_uring or portable calls, ring beside ring, decoder beside decoder, one thread or two.
    Ab(Common),
    /// The kernels alone: every backend of this processor, beside a plain loop in C and a hash map.
    Kernels(Common),
    /// The queries of LightSaber over its data sets, beside its recorded figures.
    Lightsaber(Common),
    /// Topics of Kafka to columns and back, on a broker of its own, beside loops around librdkafka and Python's.
    Kafka(Common),
    /// Minutes at full rate while every key gives way to another: whether memory stays as it is.
    Soak(soak::Options),
    /// The detectors over labelled series: NAB's scores for its three profiles, speed and state, beside two cheap baselines.
    Anomaly(anomaly::Options),
    /// What kernels can run on: backends, adapters with features and limits, and from how many rows on a GPU pays.
    Devices,
    /// Everything, with a dated record in `benches/record`.
    All {
        #[command(flatten)]
        options: latency::Options,
        #[command(flatten)]
        common: Common,
    },
    /// The other side of a socket.
    #[command(hide = true)]
    Send(sender::Send),
}

/// Options of every measurement.
#[derive(Args, Clone)]
struct Common {
    /// Rounds; each contender runs once in each.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Events in memory.
    #[arg(long, default_value_t = 20_000_000)]
    rows: usize,
    /// The Python that has the peers (duckdb, polars, pyarrow).
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Writes the results here too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Seconds on the wall, or on the core for contenders of one thread: for machines that are busy with other things.
    #[arg(long, value_enum, default_value_t = Timing::Wall)]
    timing: Timing,
    /// Workers that are measured beside one, such as 2,4,8.
    #[arg(long, value_delimiter = ',', default_values_t = [2])]
    workers: Vec<usize>,
    /// Runs only measurements whose name contains this, or ends with it if it ends with `$`.
    #[arg(long)]
    only: Option<String>,
}

impl Common {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| match only.strip_suffix('$') {
            Some(end) => name.ends_with(end),
            None => name.contains(only.as_str()),
        })
    }
}

fn run(command: Command) -> Result<()> {
    let common = match &command {
        Command::Send(send) => return sender::run(send),
        Command::Devices => return devices::print(),
        Command::Soak(options) => return soak::run(options),
        Command::Anomaly(options) => return anomaly::run(options),
        Command::Throughput(common)
        | Command::Ab(common)
        | Command::Kernels(common)
        | Command::Lightsaber(common)
        | Command::Kafka(common)
        | Command::Latency { common, .. }
        | Command::All { common, .. } => common.clone(),
    };
    machine::pin(0);
    let machine = Machine::look();
    println!("{machine}\n");
    let mut report = Report::new(machine, common.timing);
    if matches!(command, Command::Throughput(_) | Command::All { .. }) {
        memory::measure(&common, &mut report)?;
        transport::measure(&common, &mut report)?;
    }
    if let Command::Latency { options, .. } | Command::All { options, .. } = &command {
        latency::measure(&common, options, &mut report)?;
    }
    if matches!(command, Command::Ab(_) | Command::All { .. }) {
        ab::measure(&common, &mut report)?;
    }
    if matches!(command, Command::Kernels(_) | Command::All { .. }) {
        kernels::measure(&common, &mut report)?;
    }
    if matches!(command, Command::Lightsaber(_) | Command::All { .. }) {
        lightsaber::measure(&common, &mut report)?;
    }
    if matches!(command, Command::Kafka(_) | Command::All { .. }) {
        kafka::measure(&common, &mut report)?;
    }
    if matches!(command, Command::All { .. }) {
        println!("recorded in {}", record::write(&report)?.display());
    }
    match &common.json {
        Some(path) => report.write_json(path),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thalweg-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
