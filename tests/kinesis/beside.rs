//! Beside Amazon's own client library: a worker of it (see `tests/services/kcl`) and programs of ours read one stream by one lease table.
//!
//! These tests fetch some hundred megabytes of jars, so they run by `make kcl` alone and show as ignored otherwise.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thalweg::connector::kinesis::Kinesis;
use thalweg::millis;

use crate::Test;
use crate::live::{At, reading};
use crate::rig::Rig;

pub const TESTS: &[Test] = &[
    ("beside_kcl_2_ours_goes_on_behind_it", |rig| ours_goes_on(rig, KCL_2)),
    ("beside_kcl_2_it_goes_on_behind_ours", |rig| theirs_goes_on(rig, KCL_2)),
    ("beside_kcl_2_both_share_the_shards", |rig| both_share(rig, KCL_2)),
    ("beside_kcl_2_its_leases_are_taken_over_when_it_dies", |rig| it_dies(rig, KCL_2)),
    ("beside_kcl_2_ours_goes_on_after_a_split", |rig| ours_goes_on_after_a_split(rig, KCL_2)),
    ("beside_kcl_2_it_goes_on_after_a_split", |rig| theirs_goes_on_after_a_split(rig, KCL_2)),
    ("beside_kcl_3_ours_goes_on_behind_it", |rig| ours_goes_on(rig, KCL_3)),
    ("beside_kcl_3_it_goes_on_behind_ours", |rig| theirs_goes_on(rig, KCL_3)),
    ("beside_kcl_3_both_share_the_shards", |rig| both_share(rig, KCL_3)),
    ("beside_kcl_3_its_leases_are_taken_over_when_it_dies", |rig| it_dies(rig, KCL_3)),
    ("beside_kcl_3_ours_goes_on_after_a_split", |rig| ours_goes_on_after_a_split(rig, KCL_3)),
    ("beside_kcl_3_it_goes_on_after_a_split", |rig| theirs_goes_on_after_a_split(rig, KCL_3)),
    ("beside_kcl_3_only_ours_goes_on_behind_it", |rig| ours_goes_on(rig, KCL_3_ONLY)),
    ("beside_kcl_3_only_it_takes_what_ours_gives_up", |rig| it_takes_what_ours_gives_up(rig, KCL_3_ONLY)),
    ("beside_kcl_3_only_its_leases_are_taken_over_when_it_dies", |rig| it_dies(rig, KCL_3_ONLY)),
];

/// The last of version 2.
const KCL_2: Library = Library { version: "2.7.2", mode: None };
/// Version 3 as it runs beside workers of version 2.
const KCL_3: Library = Library { version: "3.5.1", mode: Some("CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X") };

/// Version 3 as it runs among its own.
const KCL_3_ONLY: Library = Library { version: "3.5.1", mode: Some("CLIENT_VERSION_CONFIG_3X") };

/// How long anything may take. The library waits for up to half a minute before it fills a lease table that is empty.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long a lease lasts, for both.
const FAILOVER: u64 = 3_000;

/// All that there is of a shard.
const ALL: usize = 1_000_000;

#[derive(Clone, Copy)]
struct Library {
    version: &'static str,
    /// Its `ClientVersionConfig`, which version 2 has not.
    mode: Option<&'static str>,
}

/// A running worker of the library.
struct Theirs {
    name: String,
    process: Child,
    lines: Receiver<String>,
    /// The numbers that it has read, as they came.
    seen: Vec<i64>,
}

impl Theirs {
    /// Starts one that takes so many records of each shard at most.
    fn start(rig: &Rig, library: Library, (at, stream, application): (&At, &str, &str), limit: usize) -> Theirs {
        let name = format!("{}-{}", rig.name("kcl"), std::process::id());
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services/kcl/run");
        let mut command = Command::new(script);
        command.args([library.version, &format!("http://{}", at.address), stream, application, &name]);
        command.args([FAILOVER.to_string(), limit.to_string()]).args(library.mode);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Theirs { name, process, lines, seen: Vec::new() }
    }

    fn take(&mut self, line: &str) {
        assert!(!line.starts_with("error"), "{line}");
        if let Some(record) = line.strip_prefix("record ") {
            let data: Value = serde_json::from_str(record.splitn(4, ' ').last().unwrap()).unwrap();
            self.seen.push(data["a"].as_i64().unwrap());
        }
    }

    /// Reads what it prints up to a line.
    fn wait_for_line(&mut self, wanted: impl Fn(&Theirs, &str) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("{} has read {:?} and says no more", self.name, self.seen));
            self.take(&line);
            if wanted(self, &line) {
                return;
            }
        }
    }

    fn wait_for(&mut self, count: usize) {
        if self.seen.len() < count {
            self.wait_for_line(|theirs, _| theirs.seen.len() >= count);
        }
    }

    /// Takes what has come.
    fn look(&mut self) {
        let lines: Vec<String> = self.lines.try_iter().collect();
        lines.iter().for_each(|line| self.take(line));
    }

    fn say(&mut self, command: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Has it write how far it has read.
    fn checkpoint(&mut self) {
        self.say("checkpoint");
        self.wait_for_line(|_, line| line == "checkpointed");
    }

    /// Has it write how far it has read and end; returns all numbers as they came.
    fn stop(mut self) -> Vec<i64> {
        self.say("stop");
        self.wait_for_line(|_, line| line == "stopped");
        std::mem::take(&mut self.seen)
    }

    /// Ends it as a crash does.
    fn die(&mut self) {
        self.say("halt");
        self.process.wait().unwrap();
        self.look();
    }
}

impl Drop for Theirs {
    /// Also if a test fails.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl At {
    fn beside(&self, stream: &str, application: &str) -> Kinesis {
        self.numbers_of(stream).application(application).failover(millis(FAILOVER)).shard_discovery(millis(1000))
    }

    /// The rows of shards in the lease table, as DynamoDB has them.
    fn rows(&self, application: &str) -> Vec<Value> {
        let mut rows = self.ask("DynamoDB_20120810.Scan", &json!({"TableName": application}))["Items"].as_array().unwrap().clone();
        rows.retain(|row| row["leaseKey"]["S"].as_str().unwrap().starts_with("shardId"));
        rows
    }

    /// Who owns how many shards: of this worker, of others, of nobody.
    fn owners(&self, application: &str, worker: &str) -> [usize; 3] {
        let mut owners = [0; 3];
        for row in self.rows(application) {
            owners[row["leaseOwner"]["S"].as_str().map_or(2, |owner| usize::from(owner != worker))] += 1;
        }
        owners
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    while let Err(state) = is_so() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}; {state}");
        std::thread::yield_now();
    }
}

fn so(is_so: bool, state: impl FnOnce() -> String) -> Result<(), String> {
    is_so.then_some(()).ok_or_else(state)
}

fn sorted(numbers: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut numbers: Vec<i64> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers
}

fn range(numbers: std::ops::Range<i64>) -> Vec<i64> {
    numbers.collect()
}

/// It stops in the middle of aggregated records; ours reads the rest, and nothing twice.
fn ours_goes_on(rig: &Rig, library: Library) {
    let service = rig.moto();
    let (stream, application) = (service.stream(rig, 3), rig.name("app"));
    service.write_aggregated(&stream, 0..60);
    service.put_numbers(&stream, 60..90);
    let mut theirs = Theirs::start(rig, library, (&service, &stream, &application), 7);
    theirs.wait_for(21);
    theirs.checkpoint();
    let first = theirs.stop();
    // It gives no lease up, so that ours waits until they expire.
    assert_eq!((first.len(), service.owners(&application, "")), (21, [0, 3, 0]));
    let row = &service.rows(&application)[0];
    assert_eq!(row["checkpointSubSequenceNumber"]["N"], json!("6"), "in the middle of a record: {row}");
    let mut live = reading(service.beside(&stream, &application));
    live.wait_for(69);
    assert_eq!(sorted(live.stop().into_iter().chain(first)), range(0..90));
    // And back again.
    service.write_aggregated(&stream, 90..120);
    let mut theirs = Theirs::start(rig, library, (&service, &stream, &application), ALL);
    theirs.wait_for(30);
    assert_eq!(sorted(theirs.stop()), range(90..120));
}

/// Ours makes the table and reads what is there; the library reads what came after, and nothing twice.
fn theirs_goes_on(rig: &Rig, library: Library) {
    let service = rig.moto();
    let (stream, application) = (service.stream(rig, 3), rig.name("app"));
    service.put_numbers(&stream, 0..30);
    service.write_aggregated(&stream, 30..60);
    let mut live = reading(service.beside(&stream, &application));
    live.wait_for(60);
    assert_eq!(sorted(live.stop()), range(0..60));
    service.write_aggregated(&stream, 60..90);
    service.put_numbers(&stream, 90..120);
    let mut theirs = Theirs::start(rig, library, (&service, &stream, &application), ALL);
    theirs.wait_for(60);
    assert_eq!(sorted(theirs.stop()), range(60..120));
    let mut live = reading(service.beside(&stream, &application));
    service.put_numbers(&stream, 120..130);
    live.wait_for(10);
    assert_eq!(sorted(live.stop()), range(120..130));
}

/// Ours has all shards, the library takes its share of them, and ours has them back when it stops.
fn both_share(rig: &Rig, library: Library) {
    let service = rig.moto();
    let (stream, application) = (service.stream(rig, 4), rig.name("app"));
    service.put_numbers(&stream, 0..80);
    let mut ours = reading(service.beside(&stream, &application));
    ours.wait_for(80);
    let mut theirs = Theirs::start(rig, library, (&service, &stream, &application), ALL);
    until("each has two shards", || {
        let owners = service.owners(&application, &theirs.name);
        so(owners == [2, 2, 0], || format!("they are {owners:?}"))
    });
    service.put_numbers(&stream, 80..160);
    until("all of it is read", || {
        ours.look();
        theirs.look();
        let all: BTreeSet<i64> = ours.seen.iter().chain(&theirs.seen).copied().collect();
        so(all.len() == 160, || format!("{:?} is", all))
    });
    assert!(ours.seen.iter().any(|number| *number >= 80) && theirs.seen.iter().any(|number| *number >= 80));
    let name = theirs.name.clone();
    theirs.stop();
    until("ours has all shards", || {
        let owners = service.owners(&application, &name);
        so(owners == [0, 4, 0], || format!("they are {owners:?}"))
    });
    service.put_numbers(&stream, 160..240);
    until("ours has all of the rest", || {
        ours.look();
        so((160..240).all(|number| ours.seen.contains(&number)), || format!("{:?}", ours.seen))
    });
    ours.stop();
}

/// The leader of version 3 does not know ours, which tells no metrics, and leaves it what it has. When ours stops, it hands all of that out.
fn it_takes_what_ours_gives_up(rig: &Rig, library: Library) {
    let service = rig.moto();
    let (stream, application) = (service.stream(rig, 4), rig.name("app"));
    service.put_numbers(&stream, 0..80);
    let mut ours = reading(service.beside(&stream, &application));
    ours.wait_for(80);
    let mut theirs = Theirs::start(rig, library, (&service, &stream, &application), ALL);
    until("the library has said that it is there", || {
        let rows = service.ask("DynamoDB_20120810.Scan", &json!({"TableName": application}))["Items"].to_string();
        so(rows.contains(&theirs.name), || rows.clone())
    });
    service.put_numbers(&stream, 80..160);
    ours.wait_for(160);
    assert_eq!(sorted(ours.stop()), range(0..160));
    service.put_numbers(&stream, 160..240);
    theirs.wait_for(80);
    assert_eq!(sorted(theirs.stop()), range(160..240));
}

/// The library has all shards, ours takes its share of them, and the rest when the library dies.
fn it_dies(rig: &Rig, library: Library) {
    let service = rig.moto();
    let (stream, application) = (service.stream(rig, 4), rig.name("app"));
    service.put_numbers(&stream, 0..80);
    let mut theirs = Theirs::start(rig, library, (&service, &stream, &application), ALL);
    theirs.wait_for(80);
    theirs.checkpoint();
    let mut ours = reading(service.beside(&stream, &application));
    until("each has two shards", || {
        let owners = service.owners(&application, &theirs.name);
        so(owners == [2, 2, 0], || format!("they are {owners:?}"))
    });
    theirs.die();
    service.put_numbers(&stream, 80..160);
    until("ours has all of the rest", || {
        ours.look();
        so((80..160).all(|number| ours.seen.contains(&number)), || format!("{:?}", ours.seen))
    });
    assert_eq!(service.owners(&application, &theirs.name), [0, 4, 0]);
    assert_eq!(sorted(ours.stop()), range(80..160), "and nothing before the library's checkpoints");
}

/// The library reads through a split; ours goes on behind that.
fn ours_goes_on_after_a_split(rig: &Rig, library: Library) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 1), rig.name("app"));
    service.put_numbers(&stream, 0..20);
    let mut theirs = Theirs::start(rig, library, (service, &stream, &application), ALL);
    theirs.wait_for(20);
    let parent = service.shards(&stream).remove(0);
    service.split(&stream, &parent);
    service.put_numbers(&stream, 20..60);
    theirs.wait_for(60);
    assert_eq!(sorted(theirs.stop()), range(0..60));
    service.put_numbers(&stream, 60..80);
    let mut live = reading(service.beside(&stream, &application));
    live.wait_for(20);
    assert_eq!(sorted(live.stop()), range(60..80));
}

/// Ours reads through a split; the library goes on behind that.
fn theirs_goes_on_after_a_split(rig: &Rig, library: Library) {
    let double = rig.double();
    let service = double.at();
    let (stream, application) = (service.stream(rig, 1), rig.name("app"));
    service.put_numbers(&stream, 0..20);
    let mut live = reading(service.beside(&stream, &application));
    live.wait_for(20);
    let parent = service.shards(&stream).remove(0);
    service.split(&stream, &parent);
    service.put_numbers(&stream, 20..60);
    live.wait_for(60);
    assert_eq!(sorted(live.stop()), range(0..60));
    service.put_numbers(&stream, 60..80);
    let mut theirs = Theirs::start(rig, library, (service, &stream, &application), ALL);
    theirs.wait_for(20);
    assert_eq!(sorted(theirs.stop()), range(60..80));
}
