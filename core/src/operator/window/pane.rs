//! A pane: its keys and their accumulators, sufficient in itself.
//!
//! Each pane has a dictionary of its own, so that its cells lie as dense as its keys, a tumbling window puts them out in
//! the order in which its keys first came, and forgetting a pane's keys is forgetting the pane.

use std::ops::Range;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use thalweg_kernels::{IntDictionary, assign_panes, order_by_part};

use super::results::Results;
use super::saved::LoadedGroups;
use super::waiting::{Room, Waiting};
use crate::batch::EventTime;
use crate::error::Result;
use crate::operator::aggregate::{Accumulators, Placed, Values};
use crate::operator::compact::is_sparse;
use crate::operator::devices::Devices;
use crate::operator::keys::{KeyColumn, Keys};
use crate::operator::split::in_range;
use crate::window::Panes;

/// The groups of one pane.
pub(super) struct Pane {
    pub keys: Keys,
    pub accumulators: Accumulators,
    placed: Vec<Placed>,
    /// Rows that were added.
    pub rows: u64,
    /// The number behind that of the last of them, in order of arrival.
    pub end: u64,
    /// The first of the slots that came with the same rows, with the number of the first of those, in order of arrival.
    pub firsts: Vec<(u64, usize)>,
    /// Groups that it has room for, from when it held others.
    held: usize,
    /// Whether rows wait before any was added, as would have suited those before.
    waits: bool,
    waiting: Waiting,
}

impl Pane {
    pub fn new(results: &Results, devices: &Devices) -> Pane {
        let (keys, aggregates) = (&results.keys, &results.aggregates);
        let placed = aggregates.columns.iter().map(|column| Placed::new(devices, column)).collect();
        Pane {
            keys: keys.dictionary(),
            accumulators: Accumulators::new(aggregates).deferring(),
            placed,
            rows: 0,
            end: 0,
            firsts: Vec::new(),
            held: 0,
            waits: false,
            waiting: Waiting::default(),
        }
    }

    /// Takes rows in, the first of which is number `sequence` in order of arrival, by the time of [`Pane::settle`]. At most `max_keys` keys
    /// may be in a pane.
    pub fn put(&mut self, rows: &Rows, sequence: u64, max_keys: usize, room: &mut Room) -> Result<()> {
        if self.waits && self.keys.slots() == 0 && self.waiting.take(rows, sequence, max_keys.min(IntDictionary::MOST_TOGETHER)) {
            self.count(rows.len(), sequence);
            return Ok(());
        }
        self.add_waiting(room)?;
        self.add(rows, sequence, room)
    }

    /// Takes rows in at once, and leaves their slots in `room`.
    pub fn add(&mut self, rows: &Rows, sequence: u64, room: &mut Room) -> Result<()> {
        let known = self.keys.slots();
        self.count(rows.len(), sequence);
        self.keys.assign(&rows.keys, &mut room.slots)?;
        if self.keys.slots() > known {
            self.firsts.push((sequence, known));
        }
        self.accumulators.reserve(self.keys.slots());
        self.accumulators.accumulate(&room.slots, &rows.values, sequence, &mut self.placed)
    }

    fn count(&mut self, rows: usize, sequence: u64) {
        self.rows += rows as u64;
        self.end = sequence + rows as u64;
    }

    /// Adds the rows that wait, the first of the pane.
    fn add_waiting(&mut self, room: &mut Room) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let parts = self.waiting.settle(&mut self.keys, room)?;
        self.accumulators.reserve(self.keys.slots());
        let mut known = 0;
        for part in parts {
            let slots = &room.slots[part.rows];
            // New keys have the next slots.
            let all = slots.iter().fold(known, |all, &slot| all.max(slot as usize + 1));
            if all > known {
                self.firsts.push((part.sequence, known));
            }
            known = all;
            self.accumulators.accumulate(slots, &part.values, part.sequence, &mut self.placed)?;
        }
        Ok(())
    }

    /// Adds groups of a snapshot, those of `rows`; returns their slots.
    pub fn take_up(&mut self, loaded: &LoadedGroups<'_>, rows: &[u32]) -> Result<Vec<u32>> {
        let (mut slots, known) = (Vec::new(), self.keys.slots());
        self.keys.assign(&loaded.keys(rows)?, &mut slots)?;
        if self.keys.slots() > known {
            self.firsts.push((0, known));
        }
        let groups = loaded.groups(&self.accumulators, rows)?;
        self.accumulators.add_at(&groups, &slots, self.keys.slots());
        Ok(slots)
    }

    /// Completes keys and accumulators: rows may wait or be on their way over the GPU until then.
    ///
    /// # Errors
    /// If Arrow cannot convert a column, which would be a defect.
    pub fn settle(&mut self, room: &mut Room) -> Result<()> {
        self.add_waiting(room)?;
        self.accumulators.settle(&mut self.placed);
        Ok(())
    }

    /// Gives back the memory of groups that it held before, if there were many more than now.
    ///
    /// # Errors
    /// If keys cannot be moved, which would be a defect.
    pub fn trim(&mut self, results: &Results) -> Result<()> {
        let groups = self.keys.slots();
        if is_sparse(groups, self.held) {
            // Rows that wait for their keys take less as they are.
            self.accumulators.settle(&mut self.placed);
            let all: Vec<u32> = (0..groups as u32).collect();
            self.keys = results.keys.compacted(&self.keys, &all)?;
            let mut kept = Accumulators::new(&results.aggregates).deferring();
            kept.gather(&self.accumulators, &all);
            (self.accumulators, self.held) = (kept, 0);
        }
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let firsts = self.firsts.capacity() * size_of::<(u64, usize)>();
        let placed: usize = self.placed.iter().map(Placed::bytes).sum();
        self.keys.bytes() + self.accumulators.bytes() + placed + firsts + self.waiting.bytes()
    }

    /// Forgets all groups and keeps the memory for others.
    pub fn clear(&mut self) {
        self.held = self.held.max(self.keys.slots());
        self.waits = self.keys.suits_together(self.rows);
        self.accumulators.clear(self.keys.slots());
        self.keys.clear();
        self.waiting.clear();
        self.firsts.clear();
        (self.rows, self.end) = (0, 0);
    }
}

/// What the panes take of a batch: its keys and values.
pub(super) struct Rows {
    pub keys: KeyColumn,
    pub values: Vec<Values>,
}

impl Rows {
    pub fn new(records: &RecordBatch, time: &EventTime, results: &mut Results) -> Result<Rows> {
        Ok(Rows { keys: results.keys.encode(records)?, values: results.aggregates.values(records, &time.times)? })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The rows that `selection` leaves out, and those that it selects.
    fn split(&self, selection: &BooleanBuffer) -> Result<[Rows; 2]> {
        let [keys, selected_keys] = self.keys.split(selection)?;
        let (mut values, mut selected_values) = (Vec::new(), Vec::new());
        for column in &self.values {
            let [others, selected] = column.split(selection)?;
            values.push(others);
            selected_values.push(selected);
        }
        Ok([Rows { keys, values }, Rows { keys: selected_keys, values: selected_values }])
    }

    /// The rows of these numbers, in that order.
    pub fn take(&self, rows: &UInt32Array) -> Result<Rows> {
        let values = self.values.iter().map(|values| values.take(rows)).collect::<Result<Vec<_>>>()?;
        Ok(Rows { keys: self.keys.take(rows)?, values })
    }

    fn slice(&self, rows: Range<usize>) -> Rows {
        let values = self.values.iter().map(|values| values.slice(rows.clone())).collect();
        Rows { keys: self.keys.slice(rows), values }
    }
}

/// How many of `times`, which ascend, lie before `edge`: looked for in steps that double, as those of a pane are often few.
fn before(times: &[i64], edge: i64) -> usize {
    let (mut known, mut step) = (0, 16);
    while times.get(known + step - 1).is_some_and(|&time| time < edge) {
        known += step;
        step *= 2;
    }
    known + times[known..times.len().min(known + step)].partition_point(|&time| time < edge)
}

/// Sorts rows of a batch by pane; the buffers live from batch to batch.
#[derive(Default)]
pub(super) struct Sorter {
    /// The number of each row's pane, counted from the batch's first or in order of appearance.
    numbers: Vec<u32>,
    /// Which pane each number is, where they were counted in order of appearance.
    seen: Vec<i64>,
    starts: Vec<u32>,
}

impl Sorter {
    /// Gives `add` the rows of each pane, in the order in which they came. `times` lie between `earliest` and `latest`.
    pub fn by_pane(
        &mut self,
        panes: &Panes,
        times: &[i64],
        (earliest, latest): (i64, i64),
        rows: &Rows,
        mut add: impl FnMut(i64, &Rows) -> Result<()>,
    ) -> Result<()> {
        let (first, last) = (panes.pane_of(earliest), panes.pane_of(latest));
        if first == last {
            return add(first, rows);
        }
        if last == first + 1 {
            let edge = panes.start_of(last);
            let [before, after] = rows.split(&in_range(times, edge..=i64::MAX))?;
            add(first, &before)?;
            return add(last, &after);
        }
        self.number(panes, times, first, last.saturating_sub(first) as u64);
        let mut order = vec![0; times.len()];
        order_by_part(&self.numbers, &mut self.starts, &mut order);
        let sorted = rows.take(&UInt32Array::from(order))?;
        for (number, run) in self.starts.windows(2).enumerate().filter(|(_, run)| run[0] < run[1]) {
            let pane = self.seen.get(number).copied().unwrap_or(first + number as i64);
            add(pane, &sorted.slice(run[0] as usize..run[1] as usize))?;
        }
        Ok(())
    }

    /// The runs of rows of one pane each; with the order that the rows must be brought into first, if they are not in that of their
    /// times. `times` lie between `earliest` and `latest`.
    pub fn runs(
        &mut self,
        panes: &Panes,
        times: &[i64],
        (earliest, latest): (i64, i64),
    ) -> (Option<UInt32Array>, Vec<(i64, Range<usize>)>) {
        let (first, last) = (panes.pane_of(earliest), panes.pane_of(latest));
        if first == last {
            return (None, vec![(first, 0..times.len())]);
        }
        let mut runs = Vec::new();
        if times.is_sorted() {
            let mut start = 0;
            while let Some(&time) = times.get(start) {
                let pane = panes.pane_of(time);
                let edge = panes.start_of(pane + 1);
                let end = start + before(&times[start..], edge);
                runs.push((pane, start..end));
                start = end;
            }
            return (None, runs);
        }
        self.number(panes, times, first, last.saturating_sub(first) as u64);
        let mut order = vec![0; times.len()];
        order_by_part(&self.numbers, &mut self.starts, &mut order);
        for (number, run) in self.starts.windows(2).enumerate().filter(|(_, run)| run[0] < run[1]) {
            let pane = self.seen.get(number).copied().unwrap_or(first + number as i64);
            runs.push((pane, run[0] as usize..run[1] as usize));
        }
        (Some(UInt32Array::from(order)), runs)
    }

    /// Numbers the panes from `first` on or, where few rows lie far apart, in order of appearance.
    fn number(&mut self, panes: &Panes, times: &[i64], first: i64, span: u64) {
        self.numbers.clear();
        self.seen.clear();
        let origin = panes.origin(first).filter(|_| span <= times.len() as u64 + 64);
        if let Some(origin) = origin {
            assign_panes(times, origin, panes.length, &mut self.numbers);
            self.starts.resize(span as usize + 2, 0);
            return;
        }
        let mut known = std::collections::BTreeMap::new();
        for &time in times {
            let pane = panes.pane_of(time);
            let next = self.seen.len() as u32;
            let number = *known.entry(pane).or_insert(next);
            if number == next {
                self.seen.push(pane);
            }
            self.numbers.push(number);
        }
        self.starts.resize(self.seen.len() + 1, 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::{IntDictionary, Pane, Results, Room, Rows, before};
    use crate::batch::EventTime;
    use crate::config::Config;
    use crate::operator::aggregate::{count, sum};
    use crate::operator::devices;
    use crate::operator::keys::Slots;
    use crate::time::Unit;

    /// Rows whose keys are far apart, from row `first` on.
    fn rows(results: &mut Results, first: i64, len: i64) -> Rows {
        let keys: Int64Array = (first..first + len).map(|row| row % 20_000 * 0x1_0000_0001).collect();
        let values: Int64Array = (first..first + len).collect();
        let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Int64, false)]));
        let records = RecordBatch::try_new(schema, vec![Arc::new(keys) as ArrayRef, Arc::new(values)]).unwrap();
        let time = EventTime { times: vec![0; len as usize].into(), watermarks: None, earliest: 0, latest: 0 };
        Rows::new(&records, &time, results).unwrap()
    }

    fn results() -> Results {
        let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Int64, false)]));
        Results::new(&["key".into()], &[count(), sum("value")], &schema, Unit::Millisecond, &Config::default()).unwrap()
    }

    #[test]
    fn rows_wait_where_few_keys_came_again_and_the_groups_are_those_of_rows_that_do_not() {
        let (mut results, mut room) = (results(), Room::default());
        let limit = results.keys.limit();
        let new = |results: &Results| Pane::new(results, &devices::unused());
        let (mut waiting, mut plain) = (new(&results), new(&results));
        for pane in 0..3 {
            for (first, len) in [(0, 10_000), (9_000, 3_000), (5_000, 20_000)] {
                let rows = rows(&mut results, first, len);
                waiting.put(&rows, first as u64, limit, &mut room).unwrap();
                plain.add(&rows, first as u64, &mut room).unwrap();
                assert_eq!(waiting.keys.slots() == 0, pane > 0, "of the first pane nothing is known yet");
            }
            let bytes = waiting.bytes();
            assert!(bytes > 33_000 * 16, "rows that wait count as state");
            waiting.trim(&results).unwrap();
            assert!(waiting.bytes() <= bytes && (waiting.keys.slots() == 0) == (pane > 0), "they go on waiting");
            waiting.settle(&mut room).unwrap();
            plain.settle(&mut room).unwrap();
            assert_eq!((waiting.rows, waiting.end), (plain.rows, plain.end));
            assert_eq!(waiting.firsts, plain.firsts);
            let all = Slots::Range(0..20_000);
            assert_eq!(results.keys.decode(&waiting.keys, &all).unwrap(), results.keys.decode(&plain.keys, &all).unwrap());
            assert_eq!(waiting.accumulators.save(&all).unwrap(), plain.accumulators.save(&all).unwrap());
            waiting.clear();
            plain.clear();
        }
    }

    #[test]
    fn no_more_rows_wait_than_stay_in_the_caches() {
        let (mut results, mut room) = (results(), Room::default());
        let mut pane = Pane::new(&results, &devices::unused());
        for _ in 0..2 {
            for part in 0..2 {
                let rows = rows(&mut results, part * 20_000, 20_000);
                pane.put(&rows, part as u64 * 20_000, usize::MAX, &mut room).unwrap();
            }
            pane.settle(&mut room).unwrap();
            pane.clear();
        }
        let rows = rows(&mut results, 0, 20_000);
        for part in 0..=(IntDictionary::MOST_TOGETHER as u64 / 20_000) {
            assert_eq!(pane.keys.slots(), 0);
            pane.put(&rows, part * 20_000, usize::MAX, &mut room).unwrap();
        }
        assert_eq!(pane.keys.slots(), 20_000, "those that came before are added first");
        pane.clear();
        pane.put(&rows, 0, 1_000, &mut room).unwrap();
        assert_eq!(pane.keys.slots(), 20_000, "so many rows may have too many keys");
    }

    #[test]
    fn rows_before_an_edge_are_counted_however_many() {
        for rows in [0, 1, 15, 16, 17, 47, 48, 49, 1_000] {
            let times: Vec<i64> = (0..rows).map(|row| row / 3).collect();
            for edge in [-1, 0, 1, 5, 16, 100, 333, 400] {
                assert_eq!(before(&times, edge), times.iter().filter(|time| **time < edge).count(), "{rows} rows, {edge}");
            }
        }
    }
}
