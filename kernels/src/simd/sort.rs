//! Rows sorted digit by digit of the distance from the earliest time, the lowest first: counts, sums of counts, places.

use super::vector::Vector;
use super::{Kernel, Level, launch};
use crate::partition::prefix_sum_u32;
use crate::scalar;

/// Bits of a digit: its counts fit in the first-level cache beside the rows.
const DIGIT: u32 = 11;

/// Below so many rows, going over the counts costs more than comparing rows.
const FEW_ROWS: usize = 192;

pub(crate) fn sorted_rows(level: Level, times: &[i64], rows: &mut Vec<u32>) {
    launch(level, Sorted { times, rows });
}

struct Sorted<'a> {
    times: &'a [i64],
    rows: &'a mut Vec<u32>,
}

impl Kernel for Sorted<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { times, rows } = self;
        let descents = times.iter().zip(times.iter().skip(1)).fold(0u32, |descents, (a, b)| descents + u32::from(a > b));
        if descents > 0 && times.len() < FEW_ROWS {
            return scalar::sort::sorted_rows(times, rows);
        }
        let all = 0..times.len() as u32;
        rows.clear();
        if descents == 0 {
            return rows.extend(all);
        }
        let (low, high) = times.iter().fold((i64::MAX, i64::MIN), |(low, high), &time| (low.min(time), high.max(time)));
        let distance = |row: u32| times[row as usize].wrapping_sub(low) as u64;
        let digits = (u64::BITS - (high.wrapping_sub(low) as u64).leading_zeros()).div_ceil(DIGIT);
        let mut counts = [0; 1 << DIGIT];
        // The first pass goes over the times as they are, without asking which row is next.
        rows.resize(times.len(), 0);
        place(&mut counts, times.iter().map(|time| time.wrapping_sub(low) as u64).zip(all), 0, rows);
        let mut sorted = if digits > 1 { vec![0; times.len()] } else { Vec::new() };
        for digit in 1..digits {
            place(&mut counts, rows.iter().map(|&row| (distance(row), row)), digit * DIGIT, &mut sorted);
            std::mem::swap(rows, &mut sorted);
        }
    }
}

/// Places rows, each with its distance, in order of the digit of the distance that begins at bit `shift`.
#[inline(always)]
fn place(counts: &mut [u32; 1 << DIGIT], rows: impl Iterator<Item = (u64, u32)> + Clone, shift: u32, sorted: &mut [u32]) {
    let digit = |distance: u64| (distance >> shift) as usize % (1 << DIGIT);
    counts.fill(0);
    rows.clone().for_each(|(distance, _)| counts[digit(distance)] += 1);
    prefix_sum_u32(counts);
    for (distance, row) in rows {
        let place = &mut counts[digit(distance)];
        sorted[*place as usize] = row;
        *place += 1;
    }
}
