//! Twin of [`crate::histogram`](mod@crate::histogram): counts on the device.

use super::Engine;
use super::aggregate::check_slots;
use super::device::Buffer;
use super::error::{Error, Fault};
use super::passes::Shader;
use super::store::{Store, masked};
use crate::aggregate::check_lengths;
use crate::cell::{from_order_key, order_key};
use crate::scalar::histogram::cell;
use crate::{Bins, Bits};

/// Most bins of one width whose edges are looked for.
const MOST_EQUAL: u32 = 1 << 16;

/// Histograms of groups, which stay on the device from batch to batch.
///
/// Counts are the processor's: bins of one width are told by the least float of each, which the host finds in the arithmetic that defines
/// them, and floats are compared by their bits. Up go 12 bytes a row, a slot and a value, and the edges once; back come 8 bytes a count.
///
/// After an error the counts are no longer to be relied on: drop the table, and take the rows since the last read by
/// [`crate::histogram()`].
#[derive(Debug)]
pub struct HistogramTable {
    store: Store,
    edges: Buffer,
    cells: usize,
    groups: usize,
    slots: Vec<u32>,
}

impl Engine {
    /// Counts of 0 of so many groups.
    ///
    /// # Panics
    /// If the bins are no bins, as [`crate::histogram()`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if counts or edges fit no buffer or there are more than 65,536 bins of one width, [`Fault::Memory`] if the device
    /// has no room for them, [`Fault::Lost`] if it is gone.
    pub fn histogram_table(&self, bins: Bins<'_>, groups: usize) -> Result<HistogramTable, Error> {
        bins.check();
        let edges = edges(bins)?;
        let words: Vec<u32> = edges.iter().flat_map(|edge| key_words(*edge)).collect();
        let cells = bins.cells();
        let store = Store::new(self.shared(), "a table of histograms", groups * cells * 2, Shader::Histogram, None)?;
        let edges = store.constants("the edges of bins", &words)?;
        Ok(HistogramTable { store, edges, cells, groups, slots: Vec::new() })
    }
}

impl HistogramTable {
    /// Twin of [`crate::histogram()`]. Returns when the rows are staged.
    ///
    /// # Panics
    /// As [`crate::histogram()`].
    ///
    /// # Errors
    /// [`Fault::Lost`] if the device is gone.
    pub fn count(&mut self, slots: &[u32], values: &[f64], validity: Option<Bits<'_>>) -> Result<(), Error> {
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        check_slots(slots, self.groups, validity);
        let most = self.store.rows();
        for (number, (slots, values)) in slots.chunks(most).zip(values.chunks(most)).enumerate() {
            masked(&mut self.slots, slots, validity, number * most);
            let header = [slots.len() as u32, self.cells as u32 - 2, 0, 0, 0, 0, 0, 0];
            let columns = [bytemuck::cast_slice(&self.slots), bytemuck::cast_slice(values)];
            self.store.take(header, &columns, Some(&self.edges), &[slots.len()])?;
        }
        Ok(())
    }

    /// Adds the counts to `counts`, and leaves zeros on the device.
    ///
    /// # Panics
    /// If there are not as many.
    ///
    /// # Errors
    /// [`Fault::Memory`] if there is no room to read, [`Fault::Lost`] if the device is gone; `counts` are then as they were.
    pub fn read_into(&mut self, counts: &mut [u64]) -> Result<(), Error> {
        check_lengths("counts of all groups and the table", counts.len(), self.groups * self.cells);
        self.store.read(counts.len() * 2, |words| {
            let read = words.chunks_exact(2).map(|words| u64::from(words[1]) << 32 | u64::from(words[0]));
            counts.iter_mut().zip(read).for_each(|(count, read)| *count += read);
        })
    }
}

/// The least float of each bin, and the one from which on all are above the last.
fn edges(bins: Bins<'_>) -> Result<Vec<f64>, Error> {
    let (low, high, count) = match bins {
        Bins::Edges(edges) => return Ok(edges.to_vec()),
        Bins::Equal { low, high, bins } => (low, high, bins),
    };
    if count > MOST_EQUAL {
        return Err(Error::new(Fault::Limit, format!("{count} bins of one width are more than {MOST_EQUAL}; the processor counts them")));
    }
    // Bins ascend with values, rounding or not.
    let least = |bin: usize| {
        let (mut below, mut from) = (order_key(low), order_key(high));
        while below < from {
            // The distance may be beyond what a signed number holds.
            let middle = below.wrapping_add((from.wrapping_sub(below) as u64 / 2) as i64);
            if cell(from_order_key(middle), bins) > bin { from = middle } else { below = middle + 1 }
        }
        from_order_key(from)
    };
    Ok(std::iter::once(low).chain((1..count as usize).map(least)).chain([high]).collect())
}

/// An unsigned number in the order of the floats, both zeros being one, the low word first.
fn key_words(edge: f64) -> [u32; 2] {
    let key = order_key(edge + 0.0) as u64 ^ 1 << 63;
    [key as u32, (key >> 32) as u32]
}
