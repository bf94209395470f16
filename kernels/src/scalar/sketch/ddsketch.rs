//! Twin of [`crate::sketch::ddsketch`].

use crate::bits::Bits;
use crate::sketch::ddsketch::{DdHead, DdLayout, NO_TOP};

/// Twin of [`crate::ddsketch_update`].
pub fn update(layout: &DdLayout, heads: &mut [DdHead], counts: &mut [u64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>) {
    let width = layout.counts_per_group();
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            let first = slot as usize * width;
            take(layout, &mut heads[slot as usize], &mut counts[first..first + width], value);
        }
    }
}

/// Twin of [`crate::ddsketch_fold`].
pub fn fold(layout: &DdLayout, head: &mut DdHead, counts: &mut [u64], values: &[f64], validity: Option<Bits<'_>>) {
    for (row, &value) in values.iter().enumerate() {
        if validity.is_none_or(|bits| bits.get(row)) {
            take(layout, head, counts, value);
        }
    }
}

/// One value into one group.
pub(crate) fn take(layout: &DdLayout, head: &mut DdHead, counts: &mut [u64], value: f64) {
    let side = usize::from(value.is_sign_negative());
    if value.is_nan() {
        head.nan += 1;
    } else if value.is_infinite() {
        head.infinite[side] += 1;
    } else if value.abs() < f64::MIN_POSITIVE {
        head.zero += 1;
    } else {
        let window = &mut counts[side * layout.buckets()..][..layout.buckets()];
        let mut bucket = layout.bucket(value);
        if head.tops[side] == NO_TOP {
            head.tops[side] = bucket;
        } else if bucket > head.tops[side] {
            head.collapsed[side] |= u32::from(advance(layout, &mut head.tops[side], window, bucket));
        }
        let lowest = head.tops[side] - layout.buckets() as i32 + 1;
        if bucket < lowest {
            (bucket, head.collapsed[side]) = (lowest, 1);
        }
        window[layout.place(bucket)] += 1;
    }
}

/// Moves the top of a window up, its buckets below the new lowest one into that; returns whether they held any value.
pub(crate) fn advance(layout: &DdLayout, top: &mut i32, window: &mut [u64], new_top: i32) -> bool {
    let lowest = new_top - layout.buckets() as i32 + 1;
    let falling = layout.window(*top).take_while(|&bucket| bucket < lowest);
    let fallen = falling.fold(0u64, |sum, bucket| sum.wrapping_add(std::mem::take(&mut window[layout.place(bucket)])));
    window[layout.place(lowest)] = window[layout.place(lowest)].wrapping_add(fallen);
    *top = new_top;
    fallen > 0
}
