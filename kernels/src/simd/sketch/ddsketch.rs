//! Buckets: numbers of a block in vectors, then one look at the window and one counter per row.

use super::Valid;
use crate::aggregate::beyond;
use crate::bits::Bits;
use crate::scalar::sketch::ddsketch::take;
use crate::simd::aggregate::{BLOCK, range};
use crate::simd::prefetch::{FAR, prefetch};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};
use crate::sketch::ddsketch::{DdHead, DdLayout};

/// Rows between asking for a line of a large table and using it.
const AHEAD: usize = 24;

/// A number that is in no window: rows of it go the long way.
const NO_BUCKET: i32 = -(1 << 30);

pub(crate) fn update(
    level: Level,
    layout: &DdLayout,
    heads: &mut [DdHead],
    counts: &mut [u64],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
) {
    launch(level, Update { layout: *layout, heads, counts, slots, values, validity });
}

pub(crate) fn fold(level: Level, layout: &DdLayout, head: &mut DdHead, counts: &mut [u64], values: &[f64], validity: Option<Bits<'_>>) {
    launch(level, Fold { layout: *layout, head, counts, values, validity });
}

struct Update<'a> {
    layout: DdLayout,
    heads: &'a mut [DdHead],
    counts: &'a mut [u64],
    slots: &'a [u32],
    values: &'a [f64],
    validity: Option<Bits<'a>>,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { layout, heads, counts, slots, values, validity } = self;
        let far = size_of_val(counts) > FAR;
        let mut valid = Valid::room(validity);
        let mut buckets = [0; BLOCK];
        for (block, (slots, values)) in slots.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
            let (slots, values) = match &mut valid {
                None => (slots, values),
                Some((bits, valid)) => valid.take(slots, values, *bits, block * BLOCK),
            };
            let (low, high) = range(slots);
            if low <= high && high as usize >= heads.len() {
                beyond(high, heads.len());
            }
            let buckets = buckets_of(&layout, values, &mut buckets);
            if far {
                slots.iter().take(AHEAD).for_each(|&slot| prefetch(heads, slot as usize));
            }
            for (row, ((&slot, &value), &bucket)) in slots.iter().zip(values).zip(buckets).enumerate() {
                if far {
                    let ahead = (row + AHEAD).min(slots.len() - 1);
                    prefetch(heads, slots[ahead] as usize);
                    prefetch(counts, place(&layout, slots[ahead], values[ahead], buckets[ahead]));
                }
                // SAFETY: `slot` is at most `high`, which is below the number of heads; each has a row of counters.
                unsafe { put(&layout, heads, counts, slot, value, bucket) };
            }
        }
    }
}

struct Fold<'a> {
    layout: DdLayout,
    head: &'a mut DdHead,
    counts: &'a mut [u64],
    values: &'a [f64],
    validity: Option<Bits<'a>>,
}

impl Kernel for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { layout, head, counts, values, validity } = self;
        let heads = std::slice::from_mut(head);
        let mut valid = Valid::room(validity);
        let mut buckets = [0; BLOCK];
        for (block, values) in values.chunks(BLOCK).enumerate() {
            let values = match &mut valid {
                None => values,
                Some((bits, valid)) => valid.take(&[], values, *bits, block * BLOCK).1,
            };
            for (&value, &bucket) in values.iter().zip(buckets_of(&layout, values, &mut buckets)) {
                // SAFETY: there is one head, and its row of counters.
                unsafe { put(&layout, heads, counts, 0, value, bucket) };
            }
        }
    }
}

/// The bucket of each value, [`NO_BUCKET`] of one that is not a normal number.
#[inline(always)]
fn buckets_of<'a>(layout: &DdLayout, values: &[f64], buckets: &'a mut [i32; BLOCK]) -> &'a [i32] {
    for (&value, to) in values.iter().zip(buckets.iter_mut()) {
        *to = if value.is_normal() { layout.bucket(value) } else { NO_BUCKET };
    }
    &buckets[..values.len()]
}

/// Where a bucket is counted, if it is in the window.
#[inline(always)]
fn place(layout: &DdLayout, slot: u32, value: f64, bucket: i32) -> usize {
    let side = (value.to_bits() >> 63) as usize;
    (slot as usize * 2 + side) * layout.buckets() + layout.place(bucket)
}

/// # Safety
/// `slot` is below `heads.len()`, and there is a row of counters for each head.
#[inline(always)]
unsafe fn put(layout: &DdLayout, heads: &mut [DdHead], counts: &mut [u64], slot: u32, value: f64, bucket: i32) {
    let side = (value.to_bits() >> 63) as usize;
    // SAFETY: the caller's promise.
    let head = unsafe { heads.get_unchecked_mut(slot as usize) };
    // A distance above a top that is not there, or of no bucket, is beyond any window, and so is one below 0.
    if (head.tops[side].wrapping_sub(bucket) as u32 as usize) < layout.buckets() {
        // SAFETY: the place is within the row of the slot, by the caller's promise.
        unsafe { *counts.get_unchecked_mut(place(layout, slot, value, bucket)) += 1 };
    } else {
        take_apart(layout, head, counts, slot, value);
    }
}

#[cold]
#[inline(never)]
fn take_apart(layout: &DdLayout, head: &mut DdHead, counts: &mut [u64], slot: u32, value: f64) {
    let width = layout.counts_per_group();
    take(layout, head, &mut counts[slot as usize * width..][..width], value);
}
