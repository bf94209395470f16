//! Amazon's services for tests: a server on loopback that others wrote (moto), see `tests/services/aws`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// Set where tests that need services may not be left out.
pub const REQUIRED: &str = "THALWEG_REQUIRE_SERVICES";

/// The server, until it is ended.
pub struct Aws {
    /// `HOST:PORT`, where it speaks HTTP.
    pub address: String,
    process: Mutex<Child>,
}

impl Aws {
    /// Starts it, or says why it cannot be had.
    pub fn start() -> Result<Aws, String> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services/aws");
        let mut command = Command::new(script);
        command.arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().map_err(|error| format!("tests/services/aws does not start: {error}"))?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let mut address = None;
        for line in BufReader::new(output).lines() {
            let line = line.map_err(|error| error.to_string())?;
            if let Some(endpoint) = line.strip_prefix("endpoint=http://") {
                address = Some(endpoint.to_owned());
            }
            if line == "ready" {
                break;
            }
        }
        let address = address.ok_or("tests/services/aws has ended; what it said is above")?;
        Ok(Aws { address, process: Mutex::new(process) })
    }

    /// Ends it.
    pub fn end(&self) {
        let mut process = self.process.lock().unwrap();
        process.stdin = None;
        let _ = process.wait();
    }
}
