//! Watermarks: how far event time has come, per source partition and overall.
//!
//! The watermark of a partition is its greatest event time − the allowed delay − 1: no row at or before it is
//! expected any more. Where a column punctuates the stream, what that column says stands in for the greatest event
//! time, and there is no delay. The overall watermark is the minimum over the partitions that are neither idle nor
//! ended; it never goes back. When no such partition is left it is the greatest watermark of any partition, so
//! that a quiet stream does not withhold what it has already seen the end of (Flink's rule). On request event time goes
//! on with the clock when all partitions have been quiet for a while: the overall watermark is then as much further as
//! time has passed since the last rows.
//!
//! Pure: event times and the clock's reading come in as numbers.

use std::collections::{BTreeMap, BTreeSet};

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
    advance: Option<Advance>,
    max_skew: Option<i64>,
    /// Whether more is kept from being read than skew asks for.
    is_holding: bool,
    /// The clock's reading when rows of any partition last came.
    seen: Option<u64>,
}

/// Event time that goes on with the clock.
#[derive(Debug, Clone, Copy)]
struct Advance {
    /// Nanoseconds without rows from which on it does.
    after: u64,
    /// Nanoseconds in a unit of event time.
    unit: u64,
}

/// What is kept from being read for now, beside what runs too far ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    Nothing,
    /// The partitions that are ahead of the slowest.
    Ahead,
    /// All partitions.
    All,
}

/// The partition that decides where the overall watermark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub partition: u32,
    /// Its watermark; [`NONE`] if it has none yet.
    pub watermark: i64,
    /// The clock's reading, in nanoseconds, when its rows last came, or when it began.
    pub seen: u64,
    /// Whether it has had rows.
    pub rows: bool,
    /// Whether it is idle, and with it all others.
    pub idle: bool,
}

#[derive(Debug)]
struct Partition {
    /// The greatest event time so far, or the greatest that punctuation has said no row will be earlier than.
    greatest: i64,
    /// The clock's reading, in nanoseconds, when rows last came.
    seen: u64,
    rows: bool,
    idle: bool,
    /// Not read on, because it is far ahead.
    paused: bool,
}

impl Watermarks {
    /// Watermarks `delay` units behind the greatest event time; a partition without rows for `idle_after`
    /// nanoseconds does not hold the others back.
    pub fn new(delay: i64, idle_after: Option<u64>) -> Watermarks {
        Watermarks {
            delay,
            idle_after,
            partitions: BTreeMap::new(),
            ended: NONE,
            overall: NONE,
            advance: None,
            max_skew: None,
            is_holding: false,
            seen: None,
        }
    }

    /// Lets event time, whose unit is `unit` nanoseconds, go on with the clock once no rows have come for `after` nanoseconds.
    pub fn advance_after(&mut self, after: u64, unit: u64) {
        self.advance = Some(Advance { after, unit });
    }

    /// Lets [`align`](Watermarks::align) pause the partitions that are more than `skew` units ahead of the slowest.
    pub fn max_skew(&mut self, skew: i64) {
        self.max_skew = Some(skew);
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
        partition.greatest = partition.greatest.max(greatest);
        (partition.seen, partition.rows, partition.idle) = (now, true, false);
        self.seen = Some(now);
    }

    /// Marks the partitions that are idle at `now` and returns the overall watermark if it has moved.
    pub fn progress(&mut self, now: u64) -> Option<i64> {
        if let Some(limit) = self.idle_after {
            for partition in self.partitions.values_mut() {
                // It is not its own fault that a paused partition has no rows.
                partition.idle = partition.idle || !partition.paused && now.saturating_sub(partition.seen) >= limit;
            }
        }
        let active = self.partitions.values().filter(|partition| !partition.idle).map(|partition| partition.watermark(self.delay)).min();
        let greatest = || self.partitions.values().map(|partition| partition.watermark(self.delay)).fold(self.ended, i64::max);
        let reached = active.unwrap_or_else(greatest);
        self.reach(reached.saturating_add(if reached == NONE { 0 } else { self.gone_on(now) }))
    }

    /// Event time has reached `watermark` in all partitions: returns the overall watermark if it has moved.
    pub fn reach(&mut self, watermark: i64) -> Option<i64> {
        let moved = watermark > self.overall;
        self.overall = self.overall.max(watermark);
        moved.then_some(watermark)
    }

    /// How far, in units of event time, the clock has carried it since the last rows; zero unless it does.
    pub fn gone_on(&self, now: u64) -> i64 {
        let (Some(advance), Some(seen)) = (self.advance, self.seen) else { return 0 };
        let quiet = now.saturating_sub(seen);
        if quiet < advance.after { 0 } else { i64::try_from(quiet / advance.unit).unwrap_or(i64::MAX) }
    }

    /// The partition that holds the overall watermark back: the slowest that is not idle. If all are idle it is the one whose
    /// watermark is the greatest.
    pub fn holder(&self) -> Option<Holder> {
        let holder = |(&id, partition): (&u32, &Partition)| Holder {
            partition: id,
            watermark: partition.watermark(self.delay),
            seen: partition.seen,
            rows: partition.rows,
            idle: partition.idle,
        };
        let active = self.partitions.iter().filter(|(_, partition)| !partition.idle).map(holder).min_by_key(|holder| holder.watermark);
        active.or_else(|| self.partitions.iter().map(holder).max_by_key(|holder| holder.watermark))
    }

    /// The partitions not to be read on for now: those that are ahead, by more than is allowed, of the slowest that is not
    /// idle. `None` if they are the same as before.
    pub fn align(&mut self, now: u64, hold: Hold) -> Option<BTreeSet<u32>> {
        if hold == Hold::Nothing && self.max_skew.is_none() && !self.is_holding {
            return None;
        }
        self.is_holding = hold != Hold::Nothing;
        let active = self.partitions.values().filter(|partition| !partition.idle);
        let slowest = active.map(|partition| partition.watermark(self.delay)).min();
        // One that has just begun starts where the others have come together.
        let limit = |skew: i64| slowest.map_or(END, |slowest| slowest.max(self.overall).saturating_add(skew));
        let limit = match (hold, self.max_skew) {
            (Hold::All, _) => None,
            (Hold::Ahead, _) => Some(limit(0)),
            (Hold::Nothing, Some(skew)) => Some(limit(skew)),
            (Hold::Nothing, None) => Some(END),
        };
        let mut changed = false;
        for partition in self.partitions.values_mut() {
            let paused = limit.is_none_or(|limit| partition.watermark(self.delay) > limit);
            if partition.paused && !paused {
                partition.seen = now;
            }
            changed |= partition.paused != paused;
            partition.paused = paused;
        }
        let paused = || self.partitions.iter().filter(|(_, partition)| partition.paused).map(|(&id, _)| id).collect();
        changed.then(paused)
    }

    /// How far each partition has come, for a snapshot at `now`: its number, its greatest event time, and how long it has been quiet, in
    /// nanoseconds; [`NONE`] for one that had no rows.
    pub fn partitions(&self, now: u64) -> impl Iterator<Item = (u32, i64, u64)> {
        self.partitions.iter().map(move |(&id, partition)| (id, partition.greatest, now.saturating_sub(partition.seen)))
    }

    /// The greatest watermark of the partitions that have ended.
    pub fn ended(&self) -> i64 {
        self.ended
    }

    /// Takes up a partition of a snapshot, at `now`.
    pub fn restore_partition(&mut self, id: u32, greatest: i64, quiet: u64, now: u64) {
        let seen = now.saturating_sub(quiet);
        let rows = greatest != NONE;
        self.partitions.insert(id, Partition { greatest, seen, rows, idle: false, paused: false });
        if rows {
            self.seen = self.seen.max(Some(seen));
        }
    }

    /// Takes up how far the stream had come.
    pub fn restore(&mut self, overall: i64, ended: i64) {
        (self.overall, self.ended) = (overall, ended);
    }

    /// The overall watermark.
    pub fn overall(&self) -> i64 {
        self.overall
    }
}

impl Partition {
    fn new(now: u64) -> Partition {
        Partition { greatest: NONE, seen: now, rows: false, idle: false, paused: false }
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
    fn the_holder_is_the_slowest_that_is_not_idle() {
        let mut marks = Watermarks::new(0, Some(100));
        assert_eq!(marks.holder(), None);
        marks.open(3, 5);
        marks.observe(1, 50, 10);
        marks.observe(2, 70, 20);
        assert_eq!(marks.holder(), Some(Holder { partition: 3, watermark: NONE, seen: 5, rows: false, idle: false }));
        marks.progress(105);
        assert_eq!(marks.holder(), Some(Holder { partition: 1, watermark: 49, seen: 10, rows: true, idle: false }));
        marks.progress(200);
        assert_eq!(marks.holder(), Some(Holder { partition: 2, watermark: 69, seen: 20, rows: true, idle: true }));
    }

    #[test]
    fn event_time_goes_on_with_the_clock_when_no_rows_come() {
        let mut marks = Watermarks::new(10, None);
        marks.advance_after(2_000, 10);
        marks.open(0, 0);
        assert_eq!(marks.progress(90_000), None, "it has not begun");
        marks.observe(0, 111, 100_000);
        assert_eq!(marks.progress(101_999), Some(100));
        assert_eq!(marks.progress(101_999), None);
        assert_eq!(marks.progress(102_000), Some(300), "200 units since the last rows");
        assert_eq!(marks.progress(102_500), Some(350));
        marks.observe(0, 200, 102_600);
        assert_eq!(marks.progress(104_599), None, "rows came, from behind");
        assert_eq!(marks.progress(104_600), Some(389));
        marks.open(1, 104_700);
        assert_eq!(marks.progress(110_000), None, "one that has not begun and is never idle holds back");
    }

    #[test]
    fn what_is_held_back_goes_on_when_it_may() {
        let mut marks = Watermarks::new(0, None);
        marks.observe(0, 100, 0);
        marks.observe(1, 300, 0);
        marks.observe(2, 300, 0);
        assert_eq!(marks.align(1, Hold::Nothing), None);
        assert_eq!(marks.align(1, Hold::Ahead), Some(BTreeSet::from([1, 2])));
        assert_eq!(marks.align(2, Hold::Ahead), None, "as before");
        assert_eq!(marks.align(3, Hold::All), Some(BTreeSet::from([0, 1, 2])));
        assert_eq!(marks.align(4, Hold::Nothing), Some(BTreeSet::new()));
        assert_eq!(marks.align(5, Hold::Nothing), None);
    }

    #[test]
    fn who_is_far_ahead_pauses_until_the_slowest_has_come() {
        let mut marks = Watermarks::new(0, Some(50));
        marks.max_skew(100);
        marks.open(0, 0);
        marks.open(1, 0);
        marks.observe(0, 1_000, 0);
        assert_eq!(marks.align(0, Hold::Nothing), Some(BTreeSet::from([0])), "the other has not begun");
        marks.observe(1, 899, 10);
        assert_eq!(marks.align(10, Hold::Nothing), None, "101 behind");
        marks.observe(1, 900, 40);
        marks.progress(60);
        assert_eq!(marks.align(60, Hold::Nothing), Some(BTreeSet::new()));
        assert_eq!(marks.progress(60), None, "it was paused, not idle");
        marks.observe(1, 2_000, 61);
        assert_eq!(marks.progress(61), Some(999), "and is waited for");
        assert_eq!(marks.align(61, Hold::Nothing), Some(BTreeSet::from([1])));
        marks.progress(111);
        assert_eq!(marks.align(111, Hold::Nothing), Some(BTreeSet::new()), "the slowest is idle");
        marks.open(2, 112);
        assert_eq!(marks.align(112, Hold::Nothing), None, "it starts where the others are");
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
