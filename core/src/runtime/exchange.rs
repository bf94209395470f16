//! The exchange before a step that workers share: which worker gets which rows.
//!
//! * **By key hash**: rows go to the worker that owns the key group of their key, which holds all state of the key.
//! * **In two phases**, for windows made of panes: batches go to the workers in turn, whole; what they make of them is combined, see
//!   [`window`](crate::operator::window). Costs the pipeline's thread next to nothing per row, but work for every key that several
//!   workers have in a pane, and shares the rows equally however they are spread over keys.
//!
//! Which suits is measured on the first rows.

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use thalweg_kernels::order_by_part;

use crate::batch::{Batch, EventTime, Segment};
use crate::config;
use crate::error::{Error, Result};
use crate::operator::{KeyColumn, KeyColumns};
use crate::state::{KEY_GROUPS, Saved, damaged};

/// Keys times workers up to which two phases are chosen. Measured, combining costs the pipeline's thread some 20 ns per key, pane and
/// worker; sharing out by hash costs it some 10 ns per row, and the workers as much again. So two phases suit keys that have a few rows in
/// a pane for each worker, which of more keys than this few streams have.
const FEW_KEYS: f64 = 40_000.0;

/// Times its equal share of the rows that the fullest worker may get by key hash.
const FULLEST: f64 = 1.5;

/// Rows that are looked at, and those without which shares of rows say nothing.
const SAMPLE_ROWS: usize = 1 << 16;
const MIN_SAMPLE_ROWS: usize = 1 << 10;

/// How rows are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Hash,
    TwoPhases,
}

/// What is known about an exchange when it is made.
pub(crate) struct Exchange {
    /// The step, for whoever reads.
    pub label: String,
    /// The key of the step on the rows that go into it.
    pub keys: KeyColumns,
    /// The steps before it that workers take along in two phases: the first of them, and the key on the rows that go into that.
    pub before: Option<(usize, KeyColumns)>,
    /// Whether rows may go by key hash, and in two phases.
    pub ways: [bool; 2],
    /// What combines panes in two phases, in the pipeline's graph: the step, or what takes in the rows of several windows that share panes.
    pub node: usize,
    /// The steps of the plan that take the rows.
    pub steps: Vec<usize>,
    /// How far apart the numbers of rows are, in order of arrival.
    pub stride: u64,
    /// Exits of the workers that results come from if rows go by key hash.
    pub exits: Vec<usize>,
}

/// An exchange at work.
pub(crate) struct Router {
    pub exchange: Exchange,
    asked: config::Exchange,
    way: Option<Way>,
    /// The worker of each key group.
    owners: Vec<u32>,
    workers: usize,
    /// The worker whose turn it is, and the number of the next row, in two phases.
    turn: usize,
    rows: u64,
    groups: Vec<u8>,
    parts: Vec<u32>,
    starts: Vec<u32>,
}

/// Rows of a batch for one worker. It is the worker who copies them, so that the pipeline's thread need not.
pub(crate) struct Share {
    batch: Batch,
    /// Which rows, in the order in which they came; all if there are none named.
    rows: Option<UInt32Array>,
}

impl Share {
    /// The rows.
    ///
    /// # Errors
    /// If Arrow cannot take rows of a column, which would be a defect.
    pub fn take(self) -> Result<Batch> {
        let Some(rows) = self.rows else { return Ok(self.batch) };
        let gather = |values: &ScalarBuffer<i64>| -> ScalarBuffer<i64> { rows.values().iter().map(|&row| values[row as usize]).collect() };
        let time = self.batch.time.as_ref().map(|time| EventTime {
            times: gather(&time.times),
            watermarks: time.watermarks.as_ref().map(gather),
            ..*time
        });
        let records = take_record_batch(&self.batch.records, &rows)?;
        let (mut end, mut taken) = (0, 0);
        let kept = |segment: &Segment| {
            end += segment.rows;
            let before = std::mem::replace(&mut taken, rows.values().partition_point(|&row| (row as usize) < end));
            (taken > before).then_some(Segment { rows: taken - before, ..*segment })
        };
        let segments = self.batch.segments.iter().filter_map(kept).collect();
        let origins = self.batch.origins.taken(&self.batch.segments, rows.values());
        Ok(Batch { records, time, segments, origins, received: self.batch.received, sequence: None })
    }
}

/// Where a batch goes.
pub(crate) enum Routed {
    /// To workers.
    Workers(Vec<(usize, Share)>),
    /// To a node of the pipeline's own graph, for the steps before the exchange.
    Node(usize, Batch),
}

impl Router {
    pub fn new(exchange: Exchange, workers: usize, asked: config::Exchange) -> Router {
        Router {
            exchange,
            asked,
            way: None,
            owners: (0..KEY_GROUPS).map(|group| (group * workers / KEY_GROUPS) as u32).collect(),
            workers,
            turn: 0,
            rows: 0,
            groups: Vec::new(),
            parts: Vec::new(),
            starts: vec![0; workers + 1],
        }
    }

    /// How rows are shared out, once that is known.
    pub fn way(&self) -> Option<Way> {
        self.way
    }

    /// Chooses by the first rows, which are `early` or not as in [`Router::route`]; says what and why.
    ///
    /// # Errors
    /// If keys cannot be encoded, which would be a defect.
    pub fn choose(&mut self, batch: &Batch, early: bool) -> Result<String> {
        let sample = batch.records.slice(0, batch.rows().min(SAMPLE_ROWS));
        let keys = match &mut self.exchange.before {
            Some((_, keys)) if early => keys,
            _ => &mut self.exchange.keys,
        };
        let column = keys.encode(&sample)?;
        let (mut known, mut slots) = (keys.dictionary(), Vec::new());
        let rows = column.len();
        // More keys than one operator may hold are many; whether that is an error is for the step to say.
        let seen = known.assign(&column, &mut slots).map_or(rows, |()| known.slots());
        let estimate = estimate_keys(seen, rows);
        let fullest = self.fullest(&column)? as f64 / rows.max(1) as f64;
        let unequal = rows >= MIN_SAMPLE_ROWS && fullest * self.workers as f64 > FULLEST;
        let how = self.decide(unequal || estimate.is_some_and(|keys| keys * self.workers as f64 <= FEW_KEYS));
        Ok(format!(
            "{}: {} workers share the rows {how}; {seen} keys in the first {rows} rows, {:.0}% of which one worker would get by key hash",
            self.exchange.label,
            self.workers,
            fullest * 100.0
        ))
    }

    /// Goes one of the ways that are open; in two phases, if `two_phases` suit.
    fn decide(&mut self, two_phases: bool) -> &'static str {
        let way = match (self.exchange.ways, self.asked) {
            ([true, false], _) => Way::Hash,
            ([false, _], _) => Way::TwoPhases,
            (_, config::Exchange::Hash) => Way::Hash,
            (_, config::Exchange::TwoPhases) => Way::TwoPhases,
            (_, config::Exchange::Auto) if two_phases => Way::TwoPhases,
            (_, config::Exchange::Auto) => Way::Hash,
        };
        self.way = Some(way);
        match way {
            Way::Hash => "by key hash",
            Way::TwoPhases => "in two phases",
        }
    }

    /// Chooses by the state that was restored, which holds so many groups of keys and windows; says what and why.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the state of a step, one of `saved`, is not that of such a step.
    pub fn resume(&mut self, groups: usize, saved: &[&Saved]) -> Result<String> {
        let how = self.decide((groups * self.workers) as f64 <= FEW_KEYS);
        if self.way == Some(Way::TwoPhases) {
            self.rows = saved.iter().try_fold(0, |rows, saved| Ok::<_, Error>(saved.marked("sequence")?.max(rows)))? as u64;
        }
        Ok(format!("{}: {} workers share the rows {how}; {groups} groups were restored", self.exchange.label, self.workers))
    }

    /// Which rows of a table of a snapshot belong to a worker, by key hash.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the table has not the columns of the key.
    pub fn owned(&self, worker: usize, table: &RecordBatch) -> Result<BooleanArray> {
        let mut groups = Vec::new();
        let keys = self.exchange.keys.in_table(&table.schema())?;
        let mut keys = keys.ok_or_else(|| damaged("a table has not the columns of the key"))?;
        keys.encode(table)?.groups(&mut groups)?;
        Ok(groups.iter().map(|&group| Some(self.owners[usize::from(group)] as usize == worker)).collect())
    }

    /// Rows that the fullest worker would get by key hash.
    fn fullest(&mut self, keys: &KeyColumn) -> Result<usize> {
        keys.groups(&mut self.groups)?;
        let mut rows = vec![0; self.workers];
        self.groups.iter().for_each(|&group| rows[self.owners[usize::from(group)] as usize] += 1);
        Ok(rows.into_iter().max().unwrap_or(0))
    }

    /// Where the rows of a batch go, once that has been chosen; `early` rows have the steps before the exchange still to go.
    ///
    /// # Errors
    /// If columns cannot be cut, which would be a defect.
    pub fn route(&mut self, mut batch: Batch, early: bool) -> Result<Routed> {
        match (self.way, &self.exchange.before) {
            (Some(Way::TwoPhases), _) => {
                batch.sequence = Some(self.rows);
                self.rows += self.exchange.stride * batch.rows() as u64;
                let worker = self.turn;
                self.turn = (worker + 1) % self.workers;
                Ok(Routed::Workers(vec![(worker, Share { batch, rows: None })]))
            }
            (_, Some((first, _))) if early => Ok(Routed::Node(*first, batch)),
            _ => self.by_hash(batch).map(Routed::Workers),
        }
    }

    /// The rows of each worker that has any.
    fn by_hash(&mut self, batch: Batch) -> Result<Vec<(usize, Share)>> {
        self.exchange.keys.encode(&batch.records)?.groups(&mut self.groups)?;
        self.parts.clear();
        self.parts.extend(self.groups.iter().map(|&group| self.owners[usize::from(group)]));
        let mut order = vec![0; batch.rows()];
        order_by_part(&self.parts, &mut self.starts, &mut order);
        let order = UInt32Array::from(order);
        let runs = self.starts.windows(2).enumerate().filter(|(_, run)| run[0] < run[1]);
        let share = |(worker, run): (usize, &[u32])| {
            let rows = order.slice(run[0] as usize, (run[1] - run[0]) as usize);
            // Who gets all rows gets them as they are.
            let rows = (rows.len() < batch.rows()).then_some(rows);
            (worker, Share { batch: batch.clone(), rows })
        };
        Ok(runs.map(share).collect())
    }
}

/// How many keys there are if `seen` of them came in `rows` rows, each as often as any other; `None` if hardly any came twice.
///
/// Of `k` keys, `k · (1 − e^(−rows/k))` are seen on average.
fn estimate_keys(seen: usize, rows: usize) -> Option<f64> {
    if seen * 20 > rows * 19 {
        return None;
    }
    let (seen, rows) = (seen as f64, rows as f64);
    let (mut low, mut high) = (seen, rows * 20.0);
    for _ in 0..40 {
        let keys = f64::midpoint(low, high);
        if keys * (1.0 - (-rows / keys).exp()) < seen {
            low = keys;
        } else {
            high = keys;
        }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::estimate_keys;

    #[test]
    fn keys_are_estimated_by_how_often_they_come_again() {
        let estimate = |keys: f64, rows: f64| estimate_keys((keys * (1.0 - (-rows / keys).exp())) as usize, rows as usize);
        for keys in [10.0, 1_000.0, 20_000.0, 60_000.0] {
            let estimate = estimate(keys, 16_384.0).unwrap_or(f64::INFINITY);
            assert!((estimate / keys - 1.0).abs() < 0.02, "{estimate} is not {keys}");
        }
        assert_eq!((estimate(1e6, 16_384.0), estimate_keys(1, 1), estimate_keys(0, 0)), (None, None, Some(0.0)));
    }
}
