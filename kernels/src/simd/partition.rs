//! Rows placed in four streams, so that a row of a part need not wait for the row before it in the same part.

use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::partition::part_of;
use crate::scalar;

/// Quarters of the rows that are gone through together, each with its own counts.
const STREAMS: usize = 4;

/// Parts whose counts fit in the first-level cache for all streams.
const MOST_PARTS: usize = 256;

pub(crate) fn partition_rows(level: Level, hashes: &[u64], starts: &mut [u32], rows: &mut [u32]) {
    if starts.len() - 1 > MOST_PARTS {
        return scalar::partition::partition_rows(hashes, starts, rows);
    }
    launch(level, Partition { hashes, starts, rows });
}

struct Partition<'a> {
    hashes: &'a [u64],
    starts: &'a mut [u32],
    rows: &'a mut [u32],
}

impl Kernel for Partition<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { hashes, starts, rows } = self;
        let parts = (starts.len() - 1) as u32;
        let quarter = hashes.len() / STREAMS;
        let [a, b, c, d]: [&[u64]; STREAMS] = std::array::from_fn(|stream| &hashes[stream * quarter..(stream + 1) * quarter]);
        let abreast = a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| [a, b, c, d]);
        let rest = &hashes[STREAMS * quarter..];
        // Places: how many rows of the part there are in each stream, then where the next of them goes.
        let mut places = [[0u32; MOST_PARTS]; STREAMS];
        for abreast in abreast.clone() {
            for (places, &hash) in places.iter_mut().zip(abreast) {
                places[part_of(hash, parts) as usize] += 1;
            }
        }
        rest.iter().for_each(|&hash| places[STREAMS - 1][part_of(hash, parts) as usize] += 1);
        let mut sum = 0;
        for (part, start) in starts.iter_mut().enumerate() {
            *start = sum;
            for places in places.iter_mut().take(if part < parts as usize { STREAMS } else { 0 }) {
                sum += std::mem::replace(&mut places[part], sum);
            }
        }
        let mut put = |places: &mut [u32; MOST_PARTS], hash: u64, row: usize| {
            let place = &mut places[part_of(hash, parts) as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        };
        for (row, abreast) in abreast.enumerate() {
            for (stream, (places, &hash)) in places.iter_mut().zip(abreast).enumerate() {
                put(places, hash, stream * quarter + row);
            }
        }
        for (row, &hash) in rest.iter().enumerate() {
            put(&mut places[STREAMS - 1], hash, STREAMS * quarter + row);
        }
    }
}
