//! The counts above a bucket are those of its group, then the sums of the groups above: two short sums in vectors.

use crate::anomaly::calibration::{BUCKETS, CalibrationCell, GROUP, bucket};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};

pub(crate) fn p_values(level: Level, cells: &mut [CalibrationCell], slots: &[u32], scores: &[f64], p: &mut [f64]) {
    launch(level, Shares { cells, slots, scores, p });
}

struct Shares<'a> {
    cells: &'a mut [CalibrationCell],
    slots: &'a [u32],
    scores: &'a [f64],
    p: &'a mut [f64],
}

impl Kernel for Shares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        for ((&slot, &score), p) in self.slots.iter().zip(self.scores).zip(self.p) {
            let cell = &mut self.cells[slot as usize];
            if score.is_nan() {
                *p = f64::NAN;
                continue;
            }
            let (bucket, share) = bucket(score);
            *p = cell.p(bucket, share, above(cell, bucket));
            cell.count(bucket);
        }
    }
}

/// Sum of the counts of the buckets above.
#[inline(always)]
fn above(cell: &CalibrationCell, bucket: usize) -> u32 {
    let group = bucket / GROUP;
    let start = group * GROUP;
    // All of a group or of the sums at once, those at or below the bucket as nothing: no branch, no odd length.
    let of_group: u32 = (0..GROUP).map(|i| if start + i > bucket { cell.counts[start + i] } else { 0 }).sum();
    let of_groups: u32 = (0..BUCKETS / GROUP).map(|i| if i > group { cell.sums[i] } else { 0 }).sum();
    of_group + of_groups
}
