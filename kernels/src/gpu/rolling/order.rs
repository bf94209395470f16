//! Least and greatest values.

use super::{Call, Engine, Error, Series, Shader, Words, by_key, keys, left};
#[cfg(doc)]
use crate::gpu::Fault;
use crate::rolling::order::Order;
use crate::rolling::{OrderColumns, RollingOrder, RollingRows};
use crate::value::Value;

impl Engine {
    /// Twin of [`crate::rolling_order`]: takes rows into their keys' windows, and answers for each row what its window holds.
    ///
    /// The answers are the processor's, bit for bit. Windows may have been another backend's and can go on there.
    ///
    /// Up go 28 bytes a row, and 16 for each row that a key's window held before the call: batches of many rows a key are what this is
    /// for. 16 bytes a row come back. A row costs about 16 comparisons for each power of 16 in the length of its window.
    ///
    /// # Panics
    /// As [`crate::rolling_order`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the window of one row is more than an upload takes, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The windows are then as they were, answers are of no meaning: [`crate::rolling_order`] can
    /// take the rows.
    pub fn rolling_order<T: Value>(
        &self,
        windows: &mut RollingOrder,
        rows: &RollingRows<'_, T>,
        answers: &mut OrderColumns<'_, T>,
    ) -> Result<(), Error> {
        windows.check(rows, answers);
        let sorted = by_key(rows.slots);
        let mut call = Call::new(&self.shared, Shader::RollingOrder, Words { leaf: 4, node: 4, answer: 4 })?;
        let own = |row: u32| Order::of(rows.values[row as usize], rows.is_valid(row as usize));
        for (slot, new) in keys(&sorted, rows.slots) {
            let ring = windows.heads[slot].ring;
            let series = Series::new(windows.extent, &ring, &windows.times, new, rows);
            let order = |at: usize| match at.checked_sub(series.held) {
                Some(at) => own(new[at]),
                // That some of them stand for younger ones, too, is no matter: these are in the window as well.
                None => windows.orders[ring.at(at as u32)],
            };
            let spans = series.spans(windows.extent, windows.frame);
            call.take(&spans, |_| 0, |leaves, _, words| leaves.for_each(|at| words.extend(to_words(order(at)))))?;
        }
        let found = call.finish()?;
        for (words, row) in found.chunks_exact(4).zip(&sorted) {
            answers.put(*row as usize, of_words(words));
        }
        for (slot, new) in keys(&sorted, rows.slots) {
            for row in left(windows.extent, new) {
                windows.step(slot, own(*row), rows.time(*row as usize));
            }
        }
        Ok(())
    }
}

/// As unsigned numbers in the same order.
fn to_words(order: Order) -> [u32; 4] {
    let [least, greatest] = [order.min, order.max].map(|key| key as u64 ^ 1 << 63);
    [least as u32, (least >> 32) as u32, greatest as u32, (greatest >> 32) as u32]
}

fn of_words(words: &[u32]) -> Order {
    let key = |at: usize| ((u64::from(words[at + 1]) << 32 | u64::from(words[at])) ^ 1 << 63) as i64;
    Order { min: key(0), max: key(2) }
}
