//! Rolling minimum and maximum, which cannot be subtracted: two stacks per slot, in one ring.
//!
//! The older rows of a ring, its front, each hold the order of themselves and all younger ones of the front; the others, its
//! back, hold their own, and the slot holds the order of the whole back. A window is the oldest row combined with the
//! back. When the front runs empty the back becomes the front, in place: constant work per row, amortised, whatever the length
//! of the window. Source: Tangwongsan, Hirzel, Schneider, "Low-Latency Sliding-Window Aggregation in Worst-Case Constant
//! Time", DEBS 2017 (Two-Stacks); for windows of rows it is the algorithm of van Herk (1992) and Gil and Werman (1993).

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::cell::{Cell, resize_table};
use crate::rolling::ring::{Arena, Ring};
use crate::rolling::{Extent, Frame, Malformed, RollingRows, Words};
use crate::value::{Lane, Value};
use crate::{scalar, simd};

/// Order keys of the smallest and the largest value of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub min: i64,
    pub max: i64,
}

/// Windows of every slot.
///
/// Memory: 64 bytes per slot, and 16 bytes per row of a window (24 with times), in segments that hold up to four times as many rows
/// as the window does (eight times where the rows of a range of time have become fewer).
#[derive(Clone, Debug)]
pub struct RollingOrder {
    pub(crate) extent: Extent,
    pub(crate) frame: Frame,
    pub(crate) heads: Vec<OrderHead>,
    pub(crate) orders: Vec<Order>,
    pub(crate) times: Vec<i64>,
    arena: Arena,
}

/// State of one slot: one cache line.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderHead {
    pub ring: Ring,
    /// Rows of the front.
    front: u32,
    back: Order,
}

/// Where the answers go: one per row, each column being as long as the rows, or not asked for.
#[derive(Debug, Default)]
pub struct OrderColumns<'a, T = f64> {
    /// Smallest value in the window.
    pub mins: Option<&'a mut [T]>,
    /// Largest value in the window.
    pub maxs: Option<&'a mut [T]>,
    /// Whether there is any value in the window. Where not, the others are NaN, or 0 of integers.
    pub any: Option<&'a mut [bool]>,
}

/// Takes rows into their keys' windows, and answers for each row what its window holds. The values of one `windows` are all
/// of one type.
///
/// # Panics
/// If columns differ in length, a slot is not below [`RollingOrder::slots`], or one key has more than 2^31 rows in a
/// window of time.
pub fn rolling_order<T: Value>(windows: &mut RollingOrder, rows: &RollingRows<'_, T>, answers: OrderColumns<'_, T>) {
    Backend::active().rolling_order(windows, rows, answers);
}

impl Backend {
    /// [`rolling_order`] on this backend.
    pub fn rolling_order<T: Value>(self, windows: &mut RollingOrder, rows: &RollingRows<'_, T>, answers: OrderColumns<'_, T>) {
        windows.check(rows, &answers);
        match self {
            Self::Scalar => scalar::rolling::order(windows, rows, answers),
            Self::Simd(level) => simd::rolling::order(level, windows, rows, answers),
        }
    }
}

impl Order {
    /// Of no values.
    pub const NONE: Self = Self { min: Cell::EMPTY.min, max: Cell::EMPTY.max };

    /// Of one value, or of a null.
    #[inline(always)]
    pub fn of<T: Value>(value: T, valid: bool) -> Self {
        let key = value.to_lane().key();
        if valid { Self { min: key, max: key } } else { Self::NONE }
    }

    #[inline(always)]
    pub fn with(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

impl OrderHead {
    const EMPTY: Self = Self { ring: Ring::EMPTY, front: 0, back: Order::NONE };
}

impl<T: Value> OrderColumns<'_, T> {
    #[inline(always)]
    pub(crate) fn put(&mut self, row: usize, order: Order) {
        let any = order.min <= order.max;
        let value = |key| T::from_lane(if any { T::Lane::from_key(key) } else { T::Lane::NONE });
        if let Some(mins) = &mut self.mins {
            mins[row] = value(order.min);
        }
        if let Some(maxs) = &mut self.maxs {
            maxs[row] = value(order.max);
        }
        if let Some(column) = &mut self.any {
            column[row] = any;
        }
    }
}

impl RollingOrder {
    /// Windows of no slots yet.
    ///
    /// # Panics
    /// If the extent is not a valid one.
    pub fn new(extent: Extent, frame: Frame) -> Self {
        extent.check();
        Self { extent, frame, heads: Vec::new(), orders: Vec::new(), times: Vec::new(), arena: extent.arena() }
    }

    /// Panics unless these rows can be taken and answered so.
    pub(crate) fn check<T: Value>(&self, rows: &RollingRows<'_, T>, answers: &OrderColumns<'_, T>) {
        rows.check(self.extent, self.heads.len());
        let floats = [&answers.mins, &answers.maxs];
        floats.into_iter().flatten().for_each(|column| check_lengths("rows and answers", rows.slots.len(), column.len()));
        answers.any.iter().for_each(|column| check_lengths("rows and answers", rows.slots.len(), column.len()));
    }

    /// Slots that there are windows for.
    pub fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Makes empty windows for slots up to `slots`, not including it.
    pub fn reserve_slots(&mut self, slots: usize) {
        if slots > self.heads.len() {
            resize_table(&mut self.heads, slots, OrderHead::EMPTY);
        }
    }

    /// Empties the window of a slot, which then can be another key's.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn forget(&mut self, slot: u32) {
        let head = &mut self.heads[slot as usize];
        self.arena.release(&mut head.ring);
        *head = OrderHead::EMPTY;
    }

    /// Whether most of the memory for rows is free: windows that are saved and loaded anew would hold less than half as much.
    pub fn is_sparse(&self) -> bool {
        self.arena.is_sparse()
    }

    /// Memory held, in bytes.
    pub fn state_bytes(&self) -> usize {
        let rows = self.orders.capacity() * size_of::<Order>() + self.times.capacity() * size_of::<i64>();
        self.heads.capacity() * size_of::<OrderHead>() + rows + self.arena.bytes()
    }

    /// Appends the window of a slot to a snapshot; [`Self::load_slot`] gives it back.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn save_slot(&self, slot: u32, words: &mut Vec<u64>) {
        let head = &self.heads[slot as usize];
        let rows = head.ring.rows;
        words.push(u64::from(rows));
        if rows == 0 {
            return;
        }
        words.extend([u64::from(head.front), head.back.min as u64, head.back.max as u64]);
        for row in 0..rows {
            let at = head.ring.at(row);
            words.extend([self.orders[at].min as u64, self.orders[at].max as u64]);
            words.extend(self.times.get(at).map(|&time| time as u64));
        }
    }

    /// Gives an empty slot the window that was saved in `words`, which must be read to the last word.
    ///
    /// # Errors
    /// [`Malformed`] if they are not of such a window.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn load_slot(&mut self, slot: u32, words: &[u64]) -> Result<(), Malformed> {
        let mut words = Words(words);
        match words.rows(self.extent)? {
            0 => {}
            rows => self.restore(slot as usize, rows, &mut words)?,
        }
        words.end()
    }

    fn restore(&mut self, slot: usize, rows: u32, words: &mut Words<'_>) -> Result<(), Malformed> {
        let (head, has_times) = (&mut self.heads[slot], matches!(self.extent, Extent::Range(_)));
        let order = |words: &mut Words<'_>| Ok(Order { min: words.next()? as i64, max: words.next()? as i64 });
        let front = words.next()?;
        if front > u64::from(rows) {
            return Err(Malformed { what: "more rows in front than there are" });
        }
        (head.front, head.back) = (front as u32, order(words)?);
        self.arena.resize(&mut head.ring, rows, &mut self.orders, has_times.then_some(&mut self.times));
        head.ring.rows = rows;
        for row in 0..rows {
            let at = head.ring.at(row);
            self.orders[at] = order(words)?;
            if has_times {
                self.times[at] = words.next()? as i64;
            }
        }
        Ok(())
    }

    /// Takes a row in and answers what its window holds.
    #[inline(always)]
    pub(crate) fn step(&mut self, slot: usize, order: Order, time: i64) -> Order {
        let mut time = time;
        if let Extent::Range(length) = self.extent {
            time = self.take_time(slot, time);
            self.expire(slot, time.saturating_sub(length));
        }
        let before = if self.frame == Frame::Preceding { self.read(slot) } else { Order::NONE };
        if let Extent::Rows(rows) = self.extent
            && self.heads[slot].ring.rows == rows
        {
            self.drop_oldest(slot);
        }
        if self.heads[slot].ring.is_full() {
            self.resize(slot, self.heads[slot].ring.rows + 1);
        }
        let head = &mut self.heads[slot];
        let to = head.ring.at(head.ring.rows);
        self.orders[to] = order;
        if let Extent::Range(_) = self.extent {
            self.times[to] = time;
        }
        head.back = head.back.with(order);
        head.ring.rows += 1;
        if self.frame == Frame::Preceding { before } else { self.read(slot) }
    }

    /// The time that a row counts as of: not before the newest one's.
    #[inline(always)]
    pub(crate) fn take_time(&self, slot: usize, time: i64) -> i64 {
        let ring = self.heads[slot].ring;
        if ring.rows == 0 { time } else { time.max(self.times[ring.at(ring.rows - 1)]) }
    }

    #[inline(always)]
    fn expire(&mut self, slot: usize, from: i64) {
        while self.heads[slot].ring.rows > 0 && self.times[self.heads[slot].ring.at(0)] < from {
            self.drop_oldest(slot);
        }
        if self.heads[slot].ring.is_roomy() {
            self.resize(slot, self.heads[slot].ring.rows);
        }
    }

    #[cold]
    #[inline(never)]
    fn resize(&mut self, slot: usize, rows: u32) {
        let times = matches!(self.extent, Extent::Range(_)).then_some(&mut self.times);
        self.arena.resize(&mut self.heads[slot].ring, rows, &mut self.orders, times);
    }

    #[inline(always)]
    fn drop_oldest(&mut self, slot: usize) {
        if self.heads[slot].front == 0 {
            self.turn_over(slot);
        }
        let head = &mut self.heads[slot];
        head.ring.pop();
        head.front -= 1;
    }

    /// Makes the back the front.
    fn turn_over(&mut self, slot: usize) {
        let head = &mut self.heads[slot];
        let mut younger = Order::NONE;
        for row in (0..head.ring.rows).rev() {
            let order = &mut self.orders[head.ring.at(row)];
            *order = order.with(younger);
            younger = *order;
        }
        (head.front, head.back) = (head.ring.rows, Order::NONE);
    }

    #[inline(always)]
    fn read(&self, slot: usize) -> Order {
        let head = &self.heads[slot];
        if head.front == 0 { head.back } else { head.back.with(self.orders[head.ring.at(0)]) }
    }
}
