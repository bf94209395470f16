//! Peers in other languages: one process that answers a query per line, so that only the query is timed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::contest::Run;
use crate::data_file::DataFile;
use crate::{Result, machine};

/// A running peer.
pub struct Peer {
    pub name: String,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// A query in the words that the scripts know.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Question<'a> {
    pub query: &'static str,
    pub key: &'a str,
    /// Length and distance of the windows in milliseconds; of rolling windows, in rows.
    pub size: i64,
    pub slide: i64,
    /// What a value must exceed to count.
    pub limit: f64,
    /// The column of time by which the rows of a rolling window are ordered; none if they are in order.
    pub time: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Greeting {
    Engine(String),
    Missing(String),
}

#[derive(Deserialize)]
struct Reply {
    seconds: f64,
    cpu_seconds: f64,
    #[serde(flatten)]
    answer: Answer,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

impl Peer {
    /// Starts `benches/peers/<script>` over the Arrow file `data` on the first core.
    ///
    /// # Errors
    /// In words, if the interpreter or a package is not there; the measurement goes on without the peer.
    pub fn start(script: &str, python: &Path, data: &Path) -> Result<Peer, String> {
        let mut command = machine::pinned(0, python);
        command.arg(folder().join(script)).arg(data).env("POLARS_MAX_THREADS", "1");
        Peer::greet(script, command, |package| {
            let python = python.display();
            format!("{package} is not importable: install it with `{python} -m pip install {package} pyarrow`")
        })
    }

    /// Starts `benches/peers/<script>` with these arguments on any core.
    ///
    /// # Errors
    /// As [`Peer::start`].
    pub fn free(script: &str, python: &Path, arguments: &[&str]) -> Result<Peer, String> {
        let mut command = Command::new(python);
        command.arg(folder().join(script)).args(arguments);
        Peer::greet(script, command, |packages| format!("{packages} are not importable: install them for {}", python.display()))
    }

    /// Compiles `benches/peers/<source>` for this processor and starts it on the first core.
    ///
    /// # Errors
    /// In words, if there is no compiler; the measurement goes on without the peer.
    pub fn compile(source: &str, arguments: &[&OsStr]) -> Result<Peer, String> {
        let program = DataFile::new(source.trim_end_matches(".c")).map_err(|error| error.to_string())?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O3", "-march=native", "-o"]).arg(program.path()).arg(folder().join(source));
        match compiler.status() {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("{source} was left out: cc ended with {status}")),
            Err(error) => return Err(format!("{source} was left out: cc: {error}")),
        }
        let mut command = machine::pinned(0, program.path());
        command.args(arguments);
        Peer::greet(source, command, |missing| missing.to_owned())
    }

    fn greet(source: &str, mut command: Command, missing: impl Fn(&str) -> String) -> Result<Peer, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = command.get_program().to_owned();
        let mut child = command.spawn().map_err(|error| format!("{source} was left out: {}: {error}", program.display()))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{source} was left out: no pipes to it"));
        };
        let mut peer = Peer { name: String::new(), child, questions: Some(questions), answers: BufReader::new(answers) };
        match peer.read::<Greeting>().map_err(|error| format!("{source} was left out: {error}"))? {
            Greeting::Engine(name) => peer.name = name,
            Greeting::Missing(package) => return Err(missing(&package)),
        }
        Ok(peer)
    }

    /// Asks one query.
    ///
    /// # Errors
    /// If the peer fails.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<Run> {
        let Some(questions) = &mut self.questions else { return Err("the peer has ended".into()) };
        writeln!(questions, "{}", serde_json::to_string(question)?)?;
        questions.flush()?;
        let reply: Reply = self.read()?;
        Ok(Run { seconds: reply.seconds, cpu_seconds: Some(reply.cpu_seconds), answer: reply.answer })
    }

    fn read<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("the script ended without an answer".into()),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The script ends with its input.
        self.questions = None;
        let _ = self.child.wait();
    }
}
