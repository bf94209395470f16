//! Sums of integers.

use super::moments::{WORDS, sum_of, to_words};
use super::{Call, Engine, Error, Series, Shader, by_key, keys, left};
#[cfg(doc)]
use crate::gpu::Fault;
use crate::rolling::integers::{Held, Total};
use crate::rolling::{RollingRows, RollingSums, SumColumns};

impl Engine {
    /// Twin of [`crate::rolling_sums`]: takes rows into their keys' windows, and answers for each row what its window holds.
    ///
    /// The answers are the processor's, bit for bit. Windows may have been another backend's and can go on there.
    ///
    /// Up go 24 bytes a row, and 12 for each row that a key's window held before the call: batches of many rows a key are what this is
    /// for. 24 bytes a row come back. A row costs about 16 additions for each power of 16 in the length of its window.
    ///
    /// # Panics
    /// As [`crate::rolling_sums`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the window of one row is more than an upload takes, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The windows are then as they were, answers are of no meaning: [`crate::rolling_sums`] can
    /// take the rows.
    pub fn rolling_sums(&self, windows: &mut RollingSums, rows: &RollingRows<'_, i64>, answers: &mut SumColumns<'_>) -> Result<(), Error> {
        windows.check(rows, answers);
        let sorted = by_key(rows.slots);
        let mut call = Call::new(&self.shared, Shader::RollingMoments, WORDS)?;
        let own = |row: u32| Held::of(rows.values[row as usize], rows.is_valid(row as usize));
        let mut counts = Vec::with_capacity(sorted.len());
        for (slot, new) in keys(&sorted, rows.slots) {
            let ring = windows.heads[slot].ring;
            let series = Series::new(windows.extent, &ring, &windows.times, new, rows);
            let held = (0..ring.rows).map(|row| windows.rows[ring.at(row)]);
            let all: Vec<Held> = held.chain(new.iter().map(|row| own(*row))).collect();
            let mut before = vec![0];
            all.iter().for_each(|row| before.push(before[before.len() - 1] + row.count));
            let spans = series.spans(windows.extent, windows.frame);
            counts.extend(spans.iter().map(|span| before[span.end] - before[span.start]));
            let pack = |row: &Held| to_words(i128::from(row.value));
            call.take(&spans, |_| 0, |leaves, _, words| words.extend(all[leaves].iter().flat_map(pack)))?;
        }
        let found = call.finish()?;
        for ((words, row), count) in found.chunks_exact(WORDS.answer).zip(&sorted).zip(counts) {
            answers.put(*row as usize, Total { sum: sum_of(words), count });
        }
        for (slot, new) in keys(&sorted, rows.slots) {
            for row in left(windows.extent, new) {
                windows.step(slot, own(*row), rows.time(*row as usize));
            }
        }
        Ok(())
    }
}
