//! Watermarks: how far event time has come, per source partition and overall.
//!
//! The watermark of a partition is its greatest event time − the allowed delay − 1: no row at or before it is
//! expected any more. Where a column punctuates the stream, what that column says stands in for the greatest event
//! time, and there is no delay. The overall watermark is the minimum over the partitions that are neither idle nor
//! ended; it never goes back. When no such partition is left it is the greatest watermark of any partition, so
//! that a quiet stream does not withhold what it has already seen the end of (Flink's rule).
//!
//! Pure: event times and the clock's reading come in as numbers.

use std::collections::BTreeMap;

/// The watermark before anything was seen.
pub const NONE: i64 = i64::MIN;
/// The watermark at the end of a bounded input.
pub const END: i64 = i64::MAX;

/// The watermarks of one stream.
#[derive(Debug)]
pub struct Watermarks {
    delay: i64,
    idle_after: Option<u64>,
    partitions: BTreeMap<u32, Partition>,
    /// The greatest watermark of the partitions that have ended.
    ended: i64,
    overall: i64,
}

#[derive(Debug)]
struct Partition {
    /// The greatest event time so far, or the greatest that punctuation has said no row will be earlier than.
    greatest: i64,
    /// The clock's reading, in nanoseconds, when rows last came.
    seen: u64,
    idle: bool,
}

impl Watermarks {
    /// Watermarks `delay` units behind the greatest event time; a partition without rows for `idle_after`
    /// nanoseconds does not hold the others back.
    pub fn new(delay: i64, idle_after: Option<u64>) -> Watermarks {
        Watermarks { delay, idle_after, partitions: BTreeMap::new(), ended: NONE, overall: NONE }
    }

    /// Partition `id` has begun. It holds the overall watermark back until its first row or until it is idle.
    pub fn open(&mut self, id: u32, now: u64) {
        self.partitions.entry(id).or_insert(Partition::new(now));
    }

    /// Partition `id` has ended: no row of it will come.
    pub fn close(&mut self, id: u32) {
        if let Some(partition) = self.partitions.remove(&id) {
            self.ended = self.ended.max(partition.watermark(self.delay));
        }
    }

    /// The allowed delay, in units of event time.
    pub fn delay(&self) -> i64 {
        self.delay
    }

    /// The greatest event time (or punctuation) of partition `id` so far; [`NONE`] before the first.
    pub fn greatest(&self, id: u32) -> i64 {
        self.partitions.get(&id).map_or(NONE, |partition| partition.greatest)
    }

    /// Rows of partition `id` have come; the greatest event time (or punctuation) so far is `greatest`.
    pub fn observe(&mut self, id: u32, greatest: i64, now: u64) {
        let partition = self.partitions.entry(id).or_insert(Partition::new(now));
        (partition.greatest, partition.seen, partition.idle) = (partition.greatest.max(greatest), now, false);
    }

    /// Marks the partitions that are idle at `now` and returns the overall watermark if it has moved.
    pub fn progress(&mut self, now: u64) -> Option<i64> {
        if let Some(limit) = self.idle_after {
            for partition in self.partitions.values_mut() {
                partition.idle = partition.idle || now.saturating_sub(partition.seen) >= limit;
            }
        }
        let active = self.partitions.values().filter(|partition| !partition.idle).map(|partition| partition.watermark(self.delay)).min();
        let greatest = || self.partitions.values().map(|partition| partition.watermark(self.delay)).fold(self.ended, i64::max);
        let overall = active.unwrap_or_else(greatest).max(self.overall);
        let moved = overall > self.overall;
        self.overall = overall;
        moved.then_some(overall)
    }

    /// The overall watermark.
    pub fn overall(&self) -> i64 {
        self.overall
    }
}

impl Partition {
    fn new(now: u64) -> Partition {
        Partition { greatest: NONE, seen: now, idle: false }
    }

    fn watermark(&self, delay: i64) -> i64 {
        self.greatest.saturating_sub(delay).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_partition_decides_until_it_is_idle_or_ended() {
        let mut marks = Watermarks::new(500, Some(5_000));
        marks.open(0, 0);
        marks.open(1, 0);
        marks.observe(0, 10_000, 0);
        assert_eq!(marks.progress(0), None, "partition 1 has no rows yet");
        marks.observe(1, 2_000, 10);
        assert_eq!(marks.progress(10), Some(1_499));
        marks.observe(0, 11_000, 5_005);
        assert_eq!(marks.progress(5_010), Some(10_499), "partition 1 is idle");
        marks.observe(1, 3_000, 5_011);
        assert_eq!(marks.progress(5_011), None, "the overall watermark never goes back");
        marks.close(0);
        marks.close(1);
        assert_eq!(marks.overall(), 10_499);
    }

    #[test]
    fn when_none_is_left_the_greatest_counts() {
        let mut marks = Watermarks::new(0, None);
        marks.observe(0, 100, 0);
        marks.observe(1, 50, 0);
        assert_eq!(marks.progress(0), Some(49));
        marks.close(0);
        assert_eq!(marks.progress(0), None);
        marks.close(1);
        assert_eq!(marks.progress(0), Some(99));
    }
}
