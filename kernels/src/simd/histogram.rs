//! Cells of a block of values in vectors, or by a search without branches; then counts.

use super::aggregate::{BLOCK, range};
use super::prefetch::{FAR, prefetch};
use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::bits::Bits;
use crate::histogram::Bins;

pub(crate) fn histogram(level: Level, counts: &mut [u64], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, bins: Bins<'_>) {
    launch(level, Histogram { counts, slots, values, validity, bins });
}

struct Histogram<'a> {
    counts: &'a mut [u64],
    slots: &'a [u32],
    values: &'a [f64],
    validity: Option<Bits<'a>>,
    bins: Bins<'a>,
}

impl Kernel for Histogram<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { counts, slots, values, validity, bins } = self;
        let (stride, far) = (bins.cells(), size_of_val(counts) > FAR);
        let mut cells = [0; BLOCK];
        for (block, (slots, values)) in slots.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
            match bins {
                Bins::Equal { low, high, bins } => equal_cells(values, low, high, bins, &mut cells),
                Bins::Edges(edges) => edge_cells(values, edges, &mut cells),
            }
            let rows = slots.iter().zip(&cells).map(|(&slot, &cell)| slot as usize * stride + cell as usize);
            match validity {
                None => {
                    if far {
                        rows.clone().for_each(|count| prefetch(counts, count));
                    }
                    let groups = counts.len() / stride;
                    assert!((range(slots).1 as usize) < groups, "slot {} is not below the number of groups, {groups}", range(slots).1);
                    rows.for_each(|count| counts[count] += 1);
                }
                Some(bits) => {
                    rows.enumerate().filter(|(row, _)| bits.get(block * BLOCK + row)).for_each(|(_, count)| counts[count] += 1);
                }
            }
        }
    }
}

#[inline(always)]
fn equal_cells(values: &[f64], low: f64, high: f64, bins: u32, cells: &mut [u32; BLOCK]) {
    let scale = f64::from(bins) / (high - low);
    for (cell, &value) in cells.iter_mut().zip(values) {
        let bin = (value - low) * scale;
        let bin = if bin < f64::from(bins - 1) { bin } else { f64::from(bins - 1) };
        let bin = if value < low { -1.0 } else { bin };
        let bin = if value >= high { f64::from(bins) } else { bin };
        let bin = if value.is_nan() { f64::from(bins + 1) } else { bin };
        // SAFETY: between -1 and 2^30 + 1, and not NaN, by the lines above.
        *cell = unsafe { bin.to_int_unchecked::<i32>() + 1 } as u32;
    }
}

#[inline(always)]
fn edge_cells(values: &[f64], edges: &[f64], cells: &mut [u32; BLOCK]) {
    for (cell, &value) in cells.iter_mut().zip(values) {
        let position = edges.partition_point(|&edge| edge <= value);
        *cell = if value.is_nan() { edges.len() + 1 } else { position } as u32;
    }
}
