//! Runs in lanes: each value of a short run is compared with all others of it at once.
//!
//! A value has the rank k of its run's sorted values if at most k others are less and more than k are not greater. Both counts of
//! all values lie in registers, so that nothing is branched on and nothing moved. Loops over arrays of fixed length are what
//! compilers turn into vectors of whatever width they have.

use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::runs::{SHORT, rank};
use crate::scalar;

pub(crate) fn distinct(level: Level, starts: &[u32], values: &[u64], counts: &mut [u32]) {
    launch(level, Distinct { starts, values, counts });
}

pub(crate) fn quantiles(level: Level, starts: &[u32], values: &[f64], parts: &[f64], quantiles: &mut [f64]) {
    launch(level, Quantiles { starts, values, parts, quantiles });
}

struct Distinct<'a> {
    starts: &'a [u32],
    values: &'a [u64],
    counts: &'a mut [u32],
}

impl Kernel for Distinct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { starts, values, counts } = self;
        let mut sorted = Vec::new();
        for (run, count) in starts.windows(2).zip(counts) {
            let (start, len) = (run[0] as usize, (run[1] - run[0]) as usize);
            *count = match len {
                0..=1 => len as u32,
                2..=8 => short_distinct::<8>(&values[start..], len),
                9..=16 => short_distinct::<16>(&values[start..], len),
                17..=SHORT => short_distinct::<SHORT>(&values[start..], len),
                _ => scalar::runs::distinct_in(&values[start..start + len], &mut sorted),
            };
        }
    }
}

/// The first `N` values of a column, of which `len` are of the run: what is behind them does not matter.
#[inline(always)]
fn lanes<T: Copy + Default, const N: usize>(column: &[T], len: usize) -> [T; N] {
    column.first_chunk().copied().unwrap_or_else(|| {
        let mut lanes = [T::default(); N];
        lanes[..len].copy_from_slice(&column[..len]);
        lanes
    })
}

/// The number of different values of the run of `len`, up to `N`, that a column begins with.
#[inline(always)]
fn short_distinct<const N: usize>(column: &[u64], len: usize) -> u32 {
    let all: [u64; N] = lanes(column, len);
    let mut seen = [0_u64; N];
    for (place, value) in column[..len].iter().enumerate() {
        for other in 0..N {
            seen[other] |= u64::from(all[other] == *value) & u64::from(other > place);
        }
    }
    let mut again = 0;
    for (place, seen) in seen.iter().enumerate() {
        again += seen & u64::from(place < len);
    }
    len as u32 - again as u32
}

struct Quantiles<'a> {
    starts: &'a [u32],
    values: &'a [f64],
    parts: &'a [f64],
    quantiles: &'a mut [f64],
}

impl Kernel for Quantiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { starts, values, parts, quantiles } = self;
        let mut sorted = Vec::new();
        for (run, quantiles) in starts.windows(2).zip(quantiles.chunks_exact_mut(parts.len().max(1))) {
            let (start, len) = (run[0] as usize, (run[1] - run[0]) as usize);
            match len {
                0 => quantiles.fill(f64::NAN),
                1 => quantiles.fill(values[start]),
                2..=8 => short_quantiles::<8>(&values[start..], len, parts, quantiles),
                9..=16 => short_quantiles::<16>(&values[start..], len, parts, quantiles),
                17..=SHORT => short_quantiles::<SHORT>(&values[start..], len, parts, quantiles),
                _ => scalar::runs::quantiles_of(&values[start..start + len], parts, quantiles, &mut sorted),
            }
        }
    }
}

/// The quantiles of the run of `len`, up to `N` values, that a column begins with.
#[inline(always)]
fn short_quantiles<const N: usize>(column: &[f64], len: usize, parts: &[f64], quantiles: &mut [f64]) {
    // Integers in the total order of floats.
    let all: [i64; N] = lanes::<f64, N>(column, len).map(|value| ordered(value.to_bits() as i64));
    let (mut less, mut not_greater) = ([0_i64; N], [0_i64; N]);
    for value in &column[..len] {
        let key = ordered(value.to_bits() as i64);
        for other in 0..N {
            less[other] += i64::from(key < all[other]);
            not_greater[other] += i64::from(key <= all[other]);
        }
    }
    for (part, quantile) in parts.iter().zip(quantiles) {
        let rank = rank(*part, len) as i64;
        // All that have the rank are one value.
        let mut found = 0;
        for place in 0..N {
            let hit = i64::from(less[place] <= rank) & i64::from(rank < not_greater[place]) & i64::from(place < len);
            found |= all[place] & -hit;
        }
        *quantile = f64::from_bits(ordered(found) as u64);
    }
}

/// Turns the bits of floats into integers in the same order, and back.
#[inline(always)]
fn ordered(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}
