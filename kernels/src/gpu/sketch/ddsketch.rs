//! Twin of [`crate::sketch::ddsketch`]: windows of buckets on the device.

use crate::aggregate::check_lengths;
use crate::gpu::Engine;
#[cfg(doc)]
use crate::gpu::Fault;
use crate::gpu::aggregate::check_slots;
use crate::gpu::error::Error;
use crate::gpu::passes::Shader;
use crate::gpu::store::{Store, masked};
use crate::sketch::ddsketch::NO_TOP;
use crate::{Bits, DdHead, DdLayout, ddsketch_merge};

/// Words of a group before its counters, as in `shaders/ddsketch_window.wgsl`.
const HEAD: usize = 16;
const COLLAPSED: usize = 2;
const APART: usize = 8;

/// Added to the number of a bucket, so that it has no sign: a multiple of the sizes of windows, and more than any bucket's number.
const BIAS: i32 = 1 << 27;

/// Codes of values that have no bucket, by their counters; others are a side in the lowest bit and a bucket.
const INFINITE: u32 = 0;
const ZERO: u32 = 2;
const NAN: u32 = 3;

/// DDSketch windows of groups, which stay on the device from batch to batch.
///
/// Heads and counters are the processor's, bit for bit: the number of a value's bucket, which is defined by the arithmetic of 64-bit floats
/// that a device need not have, is computed on the host. Up go 8 bytes a row, a slot and a bucket; back come 64 bytes a group and 8 for each
/// of its counters: transfer binds where a group has fewer rows than counters.
///
/// After an error the windows are no longer to be relied on: drop the table, and take the rows since the last read by
/// [`crate::ddsketch_update`].
#[derive(Debug)]
pub struct DdTable {
    store: Store,
    layout: DdLayout,
    groups: usize,
    slots: Vec<u32>,
    codes: Vec<u32>,
}

impl Engine {
    /// Empty windows of so many groups.
    ///
    /// # Errors
    /// [`Fault::Limit`] if they fit no buffer, [`Fault::Memory`] if the device has no room for them, [`Fault::Lost`] if it is gone.
    pub fn ddsketch_table(&self, layout: &DdLayout, groups: usize) -> Result<DdTable, Error> {
        let words = groups * words_of(layout);
        let store = Store::new(self.shared(), "a table of buckets", words, Shader::DdSketch, Some(Shader::DdSketchMerge))?;
        Ok(DdTable { store, layout: *layout, groups, slots: Vec::new(), codes: Vec::new() })
    }
}

impl DdTable {
    /// Twin of [`crate::ddsketch_update`], and of [`crate::ddsketch_fold`] where all slots are 0. Returns when the rows are staged.
    ///
    /// # Panics
    /// As [`crate::ddsketch_update`].
    ///
    /// # Errors
    /// [`Fault::Lost`] if the device is gone.
    pub fn update(&mut self, slots: &[u32], values: &[f64], validity: Option<Bits<'_>>) -> Result<(), Error> {
        check_lengths("slots and values", slots.len(), values.len());
        Bits::check(validity, values.len());
        check_slots(slots, self.groups, validity);
        let most = self.store.rows();
        for (number, (slots, values)) in slots.chunks(most).zip(values.chunks(most)).enumerate() {
            masked(&mut self.slots, slots, validity, number * most);
            self.codes.clear();
            self.codes.extend(values.iter().map(|value| code(&self.layout, *value)));
            let columns = [bytemuck::cast_slice(&self.slots), bytemuck::cast_slice(&self.codes)];
            self.store.take(self.header(slots.len()), &columns, None, &[slots.len(), self.groups * 2, slots.len()])?;
        }
        Ok(())
    }

    /// Twin of [`crate::ddsketch_merge`], without a way over the host; `from` keeps its rows.
    ///
    /// # Panics
    /// If the tables are of two engines, of different layouts or numbers of groups.
    ///
    /// # Errors
    /// [`Fault::Lost`] if the device is gone.
    pub fn merge(&mut self, from: &Self) -> Result<(), Error> {
        check_lengths("groups to merge", self.groups, from.groups);
        assert!(self.layout == from.layout, "windows of different layouts cannot be merged");
        self.store.merge(&from.store, self.header(0), self.groups * 2)
    }

    /// Merges the windows into `heads` and `counts`, as [`crate::ddsketch_merge`] does, and leaves empty ones on the device.
    ///
    /// # Panics
    /// If they are not of as many groups.
    ///
    /// # Errors
    /// [`Fault::Memory`] if there is no room to read, [`Fault::Lost`] if the device is gone; heads and counters are then as they were.
    pub fn read_into(&mut self, heads: &mut [DdHead], counts: &mut [u64]) -> Result<(), Error> {
        check_lengths("groups to merge", heads.len(), self.groups);
        let stride = words_of(&self.layout);
        let (from_heads, from_counts) = self.store.read(self.groups * stride, |words| {
            let groups = words.chunks_exact(stride);
            let counts: Vec<u64> = groups.clone().flat_map(|group| group[HEAD..].chunks_exact(2).map(wide)).collect();
            (groups.map(head).collect::<Vec<DdHead>>(), counts)
        })?;
        ddsketch_merge(&self.layout, heads, counts, &from_heads, &from_counts);
        Ok(())
    }

    fn header(&self, rows: usize) -> [u32; 8] {
        [rows as u32, self.groups as u32, self.layout.buckets() as u32, 0, 0, 0, 0, 0]
    }
}

fn words_of(layout: &DdLayout) -> usize {
    HEAD + 2 * layout.counts_per_group()
}

/// Where a value is counted.
#[inline(always)]
fn code(layout: &DdLayout, value: f64) -> u32 {
    let side = u32::from(value.is_sign_negative());
    if value.is_nan() {
        NAN
    } else if value.is_infinite() {
        INFINITE + side
    } else if value.abs() < f64::MIN_POSITIVE {
        ZERO
    } else {
        ((layout.bucket(value) + BIAS) as u32) << 1 | side
    }
}

fn wide(words: &[u32]) -> u64 {
    u64::from(words[1]) << 32 | u64::from(words[0])
}

fn head(words: &[u32]) -> DdHead {
    let top = |side: usize| if words[side] == 0 { NO_TOP } else { words[side] as i32 - BIAS };
    let apart = |code: u32| wide(&words[APART + 2 * code as usize..]);
    DdHead {
        tops: [top(0), top(1)],
        collapsed: [words[COLLAPSED], words[COLLAPSED + 1]],
        infinite: [apart(INFINITE), apart(INFINITE + 1)],
        zero: apart(ZERO),
        nan: apart(NAN),
    }
}
