//! The exchange before a step that workers share: which worker gets which rows.
//!
//! * **By key hash**: rows go to the worker that owns the key group of their key, which holds all state of the key. Batches go to all workers,
//!   with the key group of each row, and each worker picks its rows. Costs the pipeline's thread some tenths of a nanosecond per row where
//!   keys are integers, and every worker about one for each row, be it its own or not.
//! * **In two phases**, for windows made of panes: batches go to the workers in turn, whole; what they make of them is combined, see
//!   [`window`](crate::operator::window). Costs nobody anything per row, but the pipeline's thread work for every key that several
//!   workers have in a pane, and shares the rows equally however they are spread over keys.
//!
//! * **By window**, where each window is one pane and nothing that follows keeps state: all rows of a window go to one worker, and the next
//!   windows to the next. Costs the rows of batches that lie in several windows a copy, and nobody anything per key. Suits windows
//!   of so few rows that those of all workers fit the rings at once; of longer ones, one worker would have all rows for a long time.
//!
//! Which suits is measured on the first rows.

use std::ops::RangeInclusive;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;

use crate::batch::Batch;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::operator::split::{in_range, kept};
use crate::operator::{KeyColumn, KeyColumns};
use crate::runtime::worker::Worker;
use crate::state::{KEY_GROUPS, Saved, damaged};
use crate::window::Panes;

/// Keys times workers up to which two phases are chosen. Measured, combining costs the pipeline's thread some 8 ns per key, pane and
/// worker, and every worker has its own beginnings of a key; sharing out by hash costs each worker 1 ns for every row. So two phases suit
/// keys that have a few rows in a pane for each worker, which of more keys than this few streams have.
const FEW_KEYS: f64 = 24_000.0;

/// Rows of a window for each of its keys and each worker from which on two phases cost little beside what rows cost.
const ROWS_PER_KEY: f64 = 8.0;

/// What a row that brings a new key may cost of a worker's state, in bytes: several aggregates, and a table that is half full.
const KEY_BYTES: f64 = 512.0;

/// Runs of windows in a batch from which on its rows are told apart one by one.
const MOST_RUNS: i64 = 8;

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
    /// Each worker has so many windows in a row.
    Windows(i64),
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
    /// The panes of windows by which rows may go.
    pub windows: Option<Panes>,
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
    workers: usize,
    /// Bytes of state that a worker may hold.
    most_bytes: usize,
    /// Rows of a batch of a stream that comes fast; the first may have fewer.
    batch_rows: usize,
    /// The worker whose turn it is, and the number of the next row, in two phases.
    turn: usize,
    rows: u64,
}

/// Rows of a batch for one worker. It is the worker who picks them, so that the pipeline's thread need not.
pub(crate) struct Share {
    batch: Batch,
    own: Own,
}

/// Which rows of a batch are a worker's.
enum Own {
    All,
    /// Those of these groups, of which each row has one.
    Groups(ScalarBuffer<u8>, RangeInclusive<u8>),
    /// Those whose event time lies in the range.
    Times(RangeInclusive<i64>),
}

impl Share {
    /// The rows, in the order in which they came, if there are any.
    ///
    /// # Errors
    /// If Arrow cannot take rows of a column, which would be a defect.
    pub fn take(self) -> Result<Option<Batch>> {
        let mut batch = self.batch;
        let selection = match (self.own, &mut batch.time) {
            (Own::Groups(groups, own), _) => in_range(&groups, own),
            (Own::Times(own), Some(time)) => {
                // So the step sees at once that the rows are of few windows.
                (time.earliest, time.latest) = (time.earliest.max(*own.start()), time.latest.min(*own.end()));
                in_range(&time.times, own)
            }
            (Own::All | Own::Times(_), _) => return Ok(Some(batch)),
        };
        kept(batch, &selection)
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
    /// The exchange between so many workers as it is configured.
    pub fn new(exchange: Exchange, workers: usize, config: &Config) -> Router {
        let (most_bytes, batch_rows) = (config.max_state_bytes / workers, config.batch_rows);
        Router { exchange, asked: config.exchange, way: None, workers, most_bytes, batch_rows, turn: 0, rows: 0 }
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
        let few = estimate.is_some_and(|keys| keys * self.workers as f64 <= FEW_KEYS);
        let how = self.decide(unequal || few, self.by_window(batch, estimate));
        Ok(format!(
            "{}: {} workers share the rows {how}; {seen} keys in the first {rows} rows, {:.0}% of which one worker would get by key hash",
            self.exchange.label,
            self.workers,
            fullest * 100.0
        ))
    }

    /// How many windows in a row each worker may have, if rows may go by window; `keys` is how many there are, `None` for very many.
    fn by_window(&self, batch: &Batch, keys: Option<f64>) -> Option<i64> {
        let (panes, time) = (self.exchange.windows?, batch.time.as_ref()?);
        let (workers, length) = (self.workers as f64, panes.length as f64);
        let (span, sampled) = most_of(&time.times[..batch.rows().min(SAMPLE_ROWS)]);
        let rows = sampled * length / span;
        let has_room =
            rows * workers <= (Worker::MOST_OWED_OF_WINDOWS / 2 * self.batch_rows) as f64 && rows * KEY_BYTES <= self.most_bytes as f64;
        let many_keys = keys.is_none_or(|keys| keys * workers * ROWS_PER_KEY >= rows);
        let suits = has_room && many_keys || self.asked == config::Exchange::Windows;
        suits.then(|| (span / length).ceil() as i64)
    }

    /// Goes one of the ways that are open: by window or in two phases, if these suit.
    fn decide(&mut self, two_phases: bool, windows: Option<i64>) -> &'static str {
        use config::Exchange::{Auto, Hash, TwoPhases, Windows};
        let way = match (self.exchange.ways, self.asked, windows) {
            ([true, _], Auto | Windows, Some(run)) => Way::Windows(run),
            ([true, false], ..) | ([true, true], Hash, _) => Way::Hash,
            ([false, _], ..) | (_, TwoPhases, _) => Way::TwoPhases,
            (_, Auto | Windows, None) if two_phases => Way::TwoPhases,
            (_, Auto | Windows, None) => Way::Hash,
        };
        self.way = Some(way);
        match way {
            Way::Hash => "by key hash",
            Way::TwoPhases => "in two phases",
            Way::Windows(_) => "by window",
        }
    }

    /// Chooses by the state that was restored, which holds so many groups of keys and windows; says what and why.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if the state of a step, one of `saved`, is not that of such a step.
    pub fn resume(&mut self, groups: usize, saved: &[&Saved]) -> Result<String> {
        // By key hash, what was saved can be told apart, and of windows to come nothing is known yet.
        let how = self.decide((groups * self.workers) as f64 <= FEW_KEYS, None);
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
        let own = self.own(worker);
        Ok(groups.iter().map(|group| Some(own.contains(group))).collect())
    }

    /// Rows that the fullest worker would get by key hash.
    fn fullest(&self, keys: &KeyColumn) -> Result<usize> {
        let (mut groups, mut rows) = (Vec::new(), vec![0; KEY_GROUPS]);
        keys.groups(&mut groups)?;
        groups.iter().for_each(|&group| rows[usize::from(group)] += 1);
        let of = |worker| self.own(worker).map(|group| rows[usize::from(group)]).sum();
        Ok((0..self.workers).map(of).max().unwrap_or(0))
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
                Ok(Routed::Workers(vec![(worker, Share { batch, own: Own::All })]))
            }
            (_, Some((first, _))) if early => Ok(Routed::Node(*first, batch)),
            (Some(Way::Windows(run)), _) => Ok(Routed::Workers(self.to_windows(batch, run))),
            _ => self.by_hash(&batch).map(Routed::Workers),
        }
    }

    /// Every worker gets the batch, and picks its own rows.
    fn by_hash(&mut self, batch: &Batch) -> Result<Vec<(usize, Share)>> {
        let mut groups = Vec::with_capacity(batch.rows());
        self.exchange.keys.encode(&batch.records)?.groups(&mut groups)?;
        let groups = ScalarBuffer::from(groups);
        let share = |worker| Share { batch: batch.clone(), own: Own::Groups(groups.clone(), self.own(worker)) };
        Ok((0..self.workers).map(|worker| (worker, share(worker))).collect())
    }

    /// The workers that have windows of a batch get it, and pick its rows of these.
    fn to_windows(&self, batch: Batch, run: i64) -> Vec<(usize, Share)> {
        let (Some(panes), Some(time)) = (self.exchange.windows, &batch.time) else { return vec![(0, Share { batch, own: Own::All })] };
        let run_of = |time| panes.pane_of(time).div_euclid(run);
        let worker_of = |number: i64| number.rem_euclid(self.workers as i64) as usize;
        let (first, last) = (run_of(time.earliest), run_of(time.latest));
        if first >= last {
            return vec![(worker_of(first), Share { batch, own: Own::All })];
        }
        let share = |own| Share { batch: batch.clone(), own };
        if last - first < MOST_RUNS {
            let start = |number: i64| panes.start_of(number.saturating_mul(run));
            let times = |number| start(number)..=start(number + 1).saturating_sub(1);
            return (first..=last).map(|number| (worker_of(number), share(Own::Times(times(number))))).collect();
        }
        let workers: ScalarBuffer<u8> = time.times.iter().map(|&time| worker_of(run_of(time)) as u8).collect();
        (0..self.workers).map(|worker| (worker, share(Own::Groups(workers.clone(), worker as u8..=worker as u8)))).collect()
    }

    /// The key groups of a worker: every one has some, as there are no more workers than groups.
    fn own(&self, worker: usize) -> RangeInclusive<u8> {
        let first = |worker: usize| (worker * KEY_GROUPS).div_ceil(self.workers);
        first(worker) as u8..=(first(worker + 1) - 1) as u8
    }
}

/// The span of event time of most of some rows, and how many these are. A few rows from long ago say nothing of the others. Of rows out of
/// order, it is longer than what they stand for.
fn most_of(times: &[i64]) -> (f64, f64) {
    let (mut times, few) = (times.to_vec(), times.len() / 10);
    times.sort_unstable();
    match times.get(few..times.len() - few) {
        Some([first, .., last]) => (last.abs_diff(*first) as f64 + 1.0, (times.len() - 2 * few) as f64),
        _ => (1.0, times.len() as f64),
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::{Exchange, KEY_GROUPS, KeyColumns, Router, estimate_keys, most_of};
    use crate::batch::{Batch, EventTime, PartitionId, Segment};
    use crate::config::Config;
    use crate::time::{Unit, millis};
    use crate::window::tumbling;

    fn router(batch: &Batch, workers: usize) -> Router {
        let keys = KeyColumns::new(&["key".to_owned()], &batch.records.schema(), 1 << 20).unwrap();
        let (label, steps, exits) = (String::new(), Vec::new(), Vec::new());
        Router::new(
            Exchange { label, keys, before: None, ways: [true, false], windows: None, node: 0, steps, stride: 1, exits },
            workers,
            &Config::default(),
        )
    }

    /// A batch of two partitions whose times are the column `time`, and of which each row is known by it.
    fn batch(rows: usize) -> Batch {
        let times: Int64Array = (0..rows as i64).collect::<Vec<_>>().into();
        let keys: Int32Array = (0..rows as i32).map(|row| row * 7_919 % 101).collect::<Vec<_>>().into();
        let names: StringArray = (0..rows).map(|row| (row % 3 > 0).then(|| row.to_string())).collect();
        let time = EventTime { times: times.values().clone(), watermarks: Some(times.values().clone()), earliest: 0, latest: rows as i64 };
        let columns: [(&str, ArrayRef); 3] = [("time", Arc::new(times)), ("key", Arc::new(keys)), ("name", Arc::new(names))];
        let half = |partition, rows| Segment { partition: PartitionId(partition), rows, offset: 0 };
        let segments = vec![half(0, rows / 3), half(1, rows - rows / 3)];
        Batch { time: Some(time), ..Batch::of_source(RecordBatch::try_from_iter(columns).unwrap(), segments, 9) }
    }

    #[test]
    fn all_rows_of_a_window_go_to_one_worker() {
        let batch = batch(1_000);
        for (length, run, workers) in [(7, 1, 2), (7, 30, 3), (100, 1, 2), (100, 3, 7), (400, 1, 3), (5_000, 1, 2)] {
            let panes = tumbling(millis(length)).panes(Unit::Millisecond).unwrap();
            let mut router = router(&batch, workers);
            router.exchange.windows = Some(panes);
            let (mut seen, mut owners) = (vec![0; 1_000], HashMap::new());
            for (worker, share) in router.to_windows(batch.clone(), run) {
                let Some(own) = share.take().unwrap() else { continue };
                let times = own.records.column(0).as_primitive::<Int64Type>().values();
                assert!(times.is_sorted() && own.time.as_ref().unwrap().times.as_ref() == times.as_ref());
                for &time in times {
                    seen[time as usize] += 1;
                    assert_eq!(*owners.entry(panes.pane_of(time)).or_insert(worker), worker, "{length} {run} {workers}");
                }
            }
            assert!(seen.iter().all(|seen| *seen == 1), "{length} {run} {workers}");
            let busy: HashSet<usize> = owners.values().copied().collect();
            assert_eq!(busy.len(), workers.min(1_000_usize.div_ceil(length as usize * run as usize)), "{length} {run} {workers}");
            assert!(owners.iter().all(|(pane, worker)| pane / run % workers as i64 == *worker as i64));
        }
    }

    #[test]
    fn rows_astray_do_not_tell_how_long_windows_are() {
        let mut times: Vec<i64> = (0..1_000).map(|row| row / 4).collect();
        assert_eq!(most_of(&times), (200.0, 800.0));
        (times[3], times[500], times[999]) = (i64::MIN, i64::MAX, -5);
        let (span, rows) = most_of(&times);
        assert!((198.0..=202.0).contains(&span) && rows == 800.0, "{span}");
        assert_eq!((most_of(&[7]), most_of(&[])), ((1.0, 1.0), (1.0, 0.0)));
    }

    #[test]
    fn every_row_goes_to_one_worker_and_all_of_a_key_to_the_same() {
        let batch = batch(1_000);
        for workers in [2, 3, 7, KEY_GROUPS] {
            let (mut seen, mut owners) = (vec![0; 1_000], vec![None; 101]);
            for (worker, share) in router(&batch, workers).by_hash(&batch).unwrap() {
                let Some(own) = share.take().unwrap() else { continue };
                let (rows, time) = (own.records.column(0).as_primitive::<Int64Type>().values(), own.time.as_ref().unwrap());
                assert!(rows.is_sorted() && time.times.as_ref() == rows.as_ref() && time.watermarks.as_ref() == Some(&time.times));
                assert_eq!(own.segments.iter().map(|segment| segment.rows).sum::<usize>(), rows.len());
                let origins = own.origins.of_rows(&own.segments, own.rows());
                for ((row, &number), origin) in rows.iter().enumerate().zip(origins) {
                    let number = number as usize;
                    seen[number] += 1;
                    let key = own.records.column(1).as_primitive::<Int32Type>().value(row);
                    assert_eq!(*owners[key as usize].get_or_insert(worker), worker);
                    assert_eq!(batch.records.column(2).slice(number, 1).as_ref(), own.records.column(2).slice(row, 1).as_ref());
                    let (partition, first) = if number < 333 { (0, 0) } else { (1, 333) };
                    assert_eq!(origin, Some((PartitionId(partition), (number - first) as u64)));
                }
            }
            assert!(seen.iter().all(|&times| times == 1), "{workers} workers");
        }
    }

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
