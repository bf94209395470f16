//! Rows placed in four streams, so that a row of a part need not wait for the row before it in the same part. Groups of keys without a
//! branch, which compilers turn into vectors.

use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::partition::{hash_key, part_of};
use crate::scalar;

pub(crate) fn group_keys<K: Copy + Into<i64>>(level: Level, keys: &[K], groups: &mut Vec<u8>) {
    launch(level, GroupKeys { keys, groups });
}

struct GroupKeys<'a, K> {
    keys: &'a [K],
    groups: &'a mut Vec<u8>,
}

impl<K: Copy + Into<i64>> Kernel for GroupKeys<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let start = self.groups.len();
        self.groups.resize(start + self.keys.len(), 0);
        let rows = self.groups[start..].iter_mut().zip(self.keys);
        rows.for_each(|(group, &key)| *group = part_of(hash_key(key.into()), 256) as u8);
    }
}

/// Quarters of the rows that are gone through together, each with its own counts.
const STREAMS: usize = 4;

/// Parts whose counts fit in the first-level cache for all streams.
const MOST_PARTS: usize = 256;

pub(crate) fn order<T>(level: Level, of: &[T], part: impl Fn(&T) -> u32, starts: &mut [u32], rows: &mut [u32]) {
    if starts.len() - 1 > MOST_PARTS {
        return scalar::partition::order(of, part, starts, rows);
    }
    launch(level, Order { of, part, starts, rows });
}

struct Order<'a, T, P> {
    of: &'a [T],
    /// The part that each is in.
    part: P,
    starts: &'a mut [u32],
    rows: &'a mut [u32],
}

impl<T, P: Fn(&T) -> u32> Kernel for Order<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { of, part, starts, rows } = self;
        let parts = starts.len() - 1;
        let quarter = of.len() / STREAMS;
        let [a, b, c, d]: [&[T]; STREAMS] = std::array::from_fn(|stream| &of[stream * quarter..(stream + 1) * quarter]);
        let abreast = a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| [a, b, c, d]);
        let rest = &of[STREAMS * quarter..];
        // Places: how many rows of the part there are in each stream, then where the next of them goes.
        let mut places = [[0u32; MOST_PARTS]; STREAMS];
        for abreast in abreast.clone() {
            for (places, of) in places.iter_mut().zip(abreast) {
                places[part(of) as usize] += 1;
            }
        }
        rest.iter().for_each(|of| places[STREAMS - 1][part(of) as usize] += 1);
        let mut sum = 0;
        for (number, start) in starts.iter_mut().enumerate() {
            *start = sum;
            for places in places.iter_mut().take(if number < parts { STREAMS } else { 0 }) {
                sum += std::mem::replace(&mut places[number], sum);
            }
        }
        let mut put = |places: &mut [u32; MOST_PARTS], of: &T, row: usize| {
            let place = &mut places[part(of) as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        };
        for (row, abreast) in abreast.enumerate() {
            for (stream, (places, of)) in places.iter_mut().zip(abreast).enumerate() {
                put(places, of, stream * quarter + row);
            }
        }
        for (row, of) in rest.iter().enumerate() {
            put(&mut places[STREAMS - 1], of, STREAMS * quarter + row);
        }
    }
}
