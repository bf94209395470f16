//! Queries in the background whose numbers are looked at as they come.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use thalweg::sink::Callback;
use thalweg::{Config, Query, Running, Stream, Table, millis};

/// The longest that something is waited for which must come.
pub const SOON: Duration = Duration::from_secs(60);

/// The first column as numbers.
pub fn column(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// The first column of all, in order of size.
pub fn values(table: &Table) -> Vec<i64> {
    let mut all: Vec<i64> = table.batches().iter().flat_map(column).collect();
    all.sort_unstable();
    all
}

/// A query in the background whose numbers arrive here.
pub struct Live {
    pub query: Running,
    arrived: Receiver<Vec<i64>>,
    pub seen: Vec<i64>,
}

impl Live {
    /// Runs `stream`, committing often; `before` is called with each batch before it counts as taken.
    pub fn start(stream: &Stream, mut before: impl FnMut(&RecordBatch) + Send + 'static) -> Live {
        let (sender, arrived): (Sender<Vec<i64>>, _) = channel();
        let sink = Callback::new(move |batch: &RecordBatch| {
            before(batch);
            let _ = sender.send(column(batch));
            Ok(())
        });
        let mut config = Config::default();
        config.commit_every = millis(100);
        Live { query: Query::new().config(config).sink(stream, sink).start().unwrap(), arrived, seen: Vec::new() }
    }

    /// Waits until so many numbers have come in all.
    pub fn wait_for(&mut self, count: usize) {
        let until = Instant::now() + SOON;
        while self.seen.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            match self.arrived.recv_timeout(left) {
                Ok(numbers) => self.seen.extend(numbers),
                Err(_) => {
                    self.query.stop();
                    panic!("{} of {count} numbers came; the query: {:?}", self.seen.len(), self.query.wait());
                }
            }
        }
    }

    /// Takes what has come; returns how much that is in all.
    pub fn look(&mut self) -> usize {
        self.seen.extend(self.arrived.try_iter().flatten());
        self.seen.len()
    }

    /// Stops the query; returns all numbers as they came.
    pub fn stop(mut self) -> Vec<i64> {
        self.query.stop();
        self.query.wait().unwrap();
        self.look();
        self.seen
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        std::thread::yield_now();
    }
}
