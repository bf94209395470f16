//! Apache Kafka for tests and benches: brokers on loopback for as long as the value lives, see `tests/services/kafka`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Set where tests that need services may not be left out.
pub const REQUIRED: &str = "THALWEG_REQUIRE_SERVICES";

/// A program that is told things line by line and answers likewise. It ends when its standard input is closed.
struct Service {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Service {
    fn start(arguments: &[&str]) -> Result<Service, String> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka");
        let mut command = Command::new(script);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().map_err(|error| format!("tests/services/kafka does not start: {error}"))?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let output = output.ok_or("no standard output")?;
        Ok(Service { process, input, output: BufReader::new(output).lines() })
    }

    fn tell(&mut self, line: &str) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("it was ended")?;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|error| format!("it does not listen: {error}"))
    }

    fn line(&mut self) -> Result<String, String> {
        match self.output.next() {
            Some(line) => line.map_err(|error| error.to_string()),
            None => Err("tests/services/kafka has ended; what it said is above".to_owned()),
        }
    }

    fn end(&mut self) {
        self.input = None;
        let _ = self.process.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Brokers, and Kafka's own client beside them.
pub struct Kafka {
    addresses: HashMap<String, String>,
    brokers: Mutex<Service>,
    client: Mutex<Service>,
}

impl Kafka {
    /// Starts brokers, or says why they cannot be had.
    pub fn start() -> Result<Kafka, String> {
        let mut brokers = Service::start(&["run"])?;
        let mut addresses = HashMap::new();
        loop {
            let line = brokers.line()?;
            match line.split_once('=') {
                Some((name, value)) => addresses.insert(name.to_owned(), value.to_owned()),
                None => break,
            };
        }
        let kafka = Kafka { addresses, brokers: Mutex::new(brokers), client: Mutex::new(Service::start(&["client"])?) };
        kafka.ask(&format!("connect {}", kafka.address("bootstrap")))?;
        Ok(kafka)
    }

    /// What `tests/services/kafka` says under this name.
    pub fn address(&self, name: &str) -> &str {
        &self.addresses[name]
    }

    /// The answer of Kafka's own client to a command, see `tests/services/Client.java`.
    pub fn ask(&self, command: &str) -> Result<String, String> {
        let mut client = locked(&self.client);
        client.tell(command)?;
        let answer = client.line()?;
        match answer.strip_prefix("ok") {
            Some(answer) => Ok(answer.trim().to_owned()),
            None => Err(format!("{command}: {answer}")),
        }
    }

    /// Ends the brokers; their logs stay.
    pub fn stop(&self) -> Result<(), String> {
        self.order("stop")
    }

    /// Starts brokers again that were ended.
    pub fn restart(&self) -> Result<(), String> {
        self.order("start")
    }

    /// Ends everything, without waiting to be dropped.
    pub fn end(&self) {
        locked(&self.client).end();
        locked(&self.brokers).end();
    }

    fn order(&self, order: &str) -> Result<(), String> {
        let mut brokers = locked(&self.brokers);
        brokers.tell(order)?;
        while brokers.line()? != "ready" {}
        Ok(())
    }
}

fn locked(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}
