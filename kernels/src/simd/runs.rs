//! Runs in lanes: as many short runs as a register has lanes are sorted abreast, one in each.
//!
//! Row k of a block holds the k-th value of each of its runs, and a sorting network exchanges rows by minimum and maximum, so that
//! nothing is branched on. Runs are told apart by length first: those of a block take a network of one size.

use super::vector::{MAX_LANES, Vector, Words};
use super::{Kernel, Level, launch};
use crate::runs::{SHORT, rank};
use crate::scalar;

pub(crate) fn distinct(level: Level, starts: &[u32], values: &[u64], counts: &mut [u32]) {
    launch(level, InLanes { starts, column: values, answers: Distinct { counts, sorted: Vec::new() } });
}

pub(crate) fn distinct_floats(level: Level, starts: &[u32], values: &[f64], counts: &mut [u32]) {
    launch(level, InLanes { starts, column: values, answers: Distinct { counts, sorted: Vec::new() } });
}

pub(crate) fn quantiles(level: Level, starts: &[u32], values: &[f64], parts: &[f64], quantiles: &mut [f64]) {
    let runs = starts.len().saturating_sub(1);
    let ranks = parts.iter().map(|&part| std::array::from_fn(|len| rank(part, len.max(1)) as u8)).collect();
    launch(level, InLanes { starts, column: values, answers: Quantiles { parts, ranks, quantiles, runs, sorted: Vec::new() } });
}

/// What is wanted of the runs of a column of `T`, which has 64 bits.
trait Answers<T> {
    /// Integers in the order that values shall have, of their bits.
    fn keys<V: Vector>(v: V, bits: V::I) -> V::I;

    /// Takes the sorted keys of runs.
    fn take<V: Vector, const FULL: usize, const N: usize>(&mut self, v: V, lanes: &Lanes, rows: &[V::I; N]);

    /// Takes a run as it is.
    fn take_long(&mut self, run: usize, values: &[T]);
}

/// The runs that are in the lanes of a block.
struct Lanes {
    runs: [usize; MAX_LANES],
    lens: [i64; MAX_LANES],
}

struct InLanes<'a, T, A> {
    starts: &'a [u32],
    column: &'a [T],
    answers: A,
}

/// Runs that are told apart by length at a time.
const RUNS: usize = 512;

/// The class of a run by its length; those of a class take the same network.
const CLASSES: [u8; SHORT + 2] = {
    let mut classes = [LONG as u8; SHORT + 2];
    let mut len = 0;
    while len <= SHORT {
        classes[len] = match len {
            0..=4 => 0,
            5..=8 => 1,
            9..=12 => 2,
            13..=16 => 3,
            17..=24 => 4,
            _ => 5,
        };
        len += 1;
    }
    classes
};

/// The class of runs that are sorted one by one.
const LONG: usize = 6;

impl<T, A: Answers<T>> Kernel for InLanes<'_, T, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Self { starts, column, mut answers } = self;
        // A run is read as if it had as many values as its class: not where the column ends before.
        let readable = (column.len() + 1).saturating_sub(SHORT) as u32;
        let mut classes = [[0_u32; RUNS]; LONG + 1];
        let runs = starts.len().saturating_sub(1);
        for first in (0..runs).step_by(RUNS) {
            let mut sizes = [0; LONG + 1];
            for run in first..runs.min(first + RUNS) {
                let (start, len) = (starts[run], starts[run + 1] - starts[run]);
                let class = CLASSES[(len as usize).min(SHORT + 1)] as usize;
                let class = if start < readable { class } else { LONG };
                classes[class][sizes[class]] = run as u32;
                sizes[class] += 1;
            }
            let chosen = |class: usize| &classes[class][..sizes[class]];
            // SAFETY: of these classes, each run begins so far before the column's end.
            unsafe {
                abreast::<V, T, A, 0, 4>(v, chosen(0), starts, column, &mut answers);
                abreast::<V, T, A, 4, 8>(v, chosen(1), starts, column, &mut answers);
                abreast::<V, T, A, 8, 12>(v, chosen(2), starts, column, &mut answers);
                abreast::<V, T, A, 12, 16>(v, chosen(3), starts, column, &mut answers);
                abreast::<V, T, A, 16, 24>(v, chosen(4), starts, column, &mut answers);
                abreast::<V, T, A, 24, SHORT>(v, chosen(5), starts, column, &mut answers);
            }
            for &run in chosen(LONG) {
                let run = run as usize;
                answers.take_long(run, &column[starts[run] as usize..starts[run + 1] as usize]);
            }
        }
    }
}

/// Sorts the runs `chosen`, of `FULL` to `N` values each.
///
/// # Safety
/// The column has `N` values from the start of each run on, of 64 bits.
#[inline(always)]
unsafe fn abreast<V: Vector, T, A: Answers<T>, const FULL: usize, const N: usize>(
    v: V,
    chosen: &[u32],
    starts: &[u32],
    column: &[T],
    answers: &mut A,
) {
    const { assert!(size_of::<T>() == size_of::<u64>()) };
    for chosen in chosen.chunks(V::LANES) {
        let mut lanes = Lanes { runs: [0; MAX_LANES], lens: [0; MAX_LANES] };
        let mut at = [std::ptr::null::<T>(); MAX_LANES];
        for lane in 0..V::LANES {
            // Lanes that are left over get the last run again.
            let run = chosen[lane.min(chosen.len() - 1)] as usize;
            let start = starts[run] as usize;
            (lanes.runs[lane], lanes.lens[lane]) = (run, i64::from(starts[run + 1]) - start as i64);
            at[lane] = column.as_ptr().wrapping_add(start);
        }
        let mut rows = [v.splat_i(0); N];
        let lengths = v.load_i(&lanes.lens);
        for quarter in 0..N / 4 {
            let mut from = [std::ptr::null_mut::<Words>(); MAX_LANES];
            for lane in 0..V::LANES {
                from[lane] = at[lane].wrapping_add(quarter * 4).cast_mut().cast();
            }
            // SAFETY: the caller's promise, for four of `N` values; they are only read.
            let words = unsafe { v.load_words(&from) };
            for (place, word) in words.into_iter().enumerate() {
                let row = quarter * 4 + place;
                rows[row] = A::keys(v, word);
                if row >= FULL {
                    // The highest integer where the run has ended, else the lowest.
                    let behind = v.xor(v.sign(v.add_i(lengths, v.splat_i(-1 - row as i64))), v.splat_i(i64::MIN));
                    rows[row] = v.max(rows[row], behind);
                }
            }
        }
        sort(v, &mut rows);
        answers.take::<V, FULL, N>(v, &lanes, &rows);
    }
}

/// Sorts each lane by odd-even merging: K. E. Batcher, "Sorting networks and their applications", AFIPS 1968. Where `N` is no power
/// of two, the exchanges with rows that are not there are left out: those would be above all others.
#[inline(always)]
fn sort<V: Vector, const N: usize>(v: V, rows: &mut [V::I; N]) {
    exchange::<V, N, 1, 1>(v, rows);
    exchange::<V, N, 2, 2>(v, rows);
    exchange::<V, N, 2, 1>(v, rows);
    if N > 4 {
        exchange::<V, N, 4, 4>(v, rows);
        exchange::<V, N, 4, 2>(v, rows);
        exchange::<V, N, 4, 1>(v, rows);
    }
    if N > 8 {
        exchange::<V, N, 8, 8>(v, rows);
        exchange::<V, N, 8, 4>(v, rows);
        exchange::<V, N, 8, 2>(v, rows);
        exchange::<V, N, 8, 1>(v, rows);
    }
    if N > 16 {
        exchange::<V, N, 16, 16>(v, rows);
        exchange::<V, N, 16, 8>(v, rows);
        exchange::<V, N, 16, 4>(v, rows);
        exchange::<V, N, 16, 2>(v, rows);
        exchange::<V, N, 16, 1>(v, rows);
    }
}

/// Puts rows that lie `APART` in order, on the way to sorted stretches of twice `HALF`.
#[inline(always)]
fn exchange<V: Vector, const N: usize, const HALF: usize, const APART: usize>(v: V, rows: &mut [V::I; N]) {
    for low in 0..N.saturating_sub(APART) {
        let high = low + APART;
        let first = low % (2 * APART) < APART;
        if (first == (APART == HALF)) && low / (2 * HALF) == high / (2 * HALF) {
            (rows[low], rows[high]) = (v.min(rows[low], rows[high]), v.max(rows[low], rows[high]));
        }
    }
}

struct Distinct<'a> {
    counts: &'a mut [u32],
    sorted: Vec<u64>,
}

impl Distinct<'_> {
    /// Counts the values of each run that differ from the one before.
    #[inline(always)]
    fn count<V: Vector, const FULL: usize, const N: usize>(&mut self, v: V, lanes: &Lanes, rows: &[V::I; N]) {
        let (lengths, zero) = (v.load_i(&lanes.lens), v.splat_i(0));
        let mut sum = v.below(zero, lengths);
        for row in 1..N {
            let mut other = v.below(zero, v.xor(rows[row - 1], rows[row]));
            if row >= FULL {
                other = v.and(other, v.below(v.splat_i(row as i64), lengths));
            }
            sum = v.add_i(sum, other);
        }
        let mut sums = [0; MAX_LANES];
        v.store_i(&mut sums, sum);
        for (&sum, &run) in sums.iter().zip(&lanes.runs).take(V::LANES) {
            self.counts[run] = sum as u32;
        }
    }
}

impl Answers<u64> for Distinct<'_> {
    #[inline(always)]
    fn keys<V: Vector>(_: V, bits: V::I) -> V::I {
        bits
    }

    #[inline(always)]
    fn take<V: Vector, const FULL: usize, const N: usize>(&mut self, v: V, lanes: &Lanes, rows: &[V::I; N]) {
        self.count::<V, FULL, N>(v, lanes, rows);
    }

    fn take_long(&mut self, run: usize, values: &[u64]) {
        self.counts[run] = scalar::runs::distinct_in(values.iter().copied(), &mut self.sorted);
    }
}

impl Answers<f64> for Distinct<'_> {
    #[inline(always)]
    fn keys<V: Vector>(v: V, bits: V::I) -> V::I {
        // A sum with zero has no sign if it is zero.
        v.order_key(v.add(v.as_f(bits), v.as_f(v.splat_i(0))))
    }

    #[inline(always)]
    fn take<V: Vector, const FULL: usize, const N: usize>(&mut self, v: V, lanes: &Lanes, rows: &[V::I; N]) {
        self.count::<V, FULL, N>(v, lanes, rows);
    }

    fn take_long(&mut self, run: usize, values: &[f64]) {
        self.counts[run] = scalar::runs::distinct_floats_in(values, &mut self.sorted);
    }
}

struct Quantiles<'a> {
    parts: &'a [f64],
    /// Of each part, the rank in short runs by their length.
    ranks: Vec<[u8; SHORT + 1]>,
    quantiles: &'a mut [f64],
    runs: usize,
    sorted: Vec<f64>,
}

impl Answers<f64> for Quantiles<'_> {
    #[inline(always)]
    fn keys<V: Vector>(v: V, bits: V::I) -> V::I {
        v.xor(bits, v.down(v.sign(bits), 1))
    }

    #[inline(always)]
    fn take<V: Vector, const FULL: usize, const N: usize>(&mut self, v: V, lanes: &Lanes, rows: &[V::I; N]) {
        let mut sorted = [[0; MAX_LANES]; N];
        for (row, to) in rows.iter().zip(&mut sorted) {
            v.store_i(to, *row);
        }
        for (lane, (&run, &len)) in lanes.runs.iter().zip(&lanes.lens).enumerate().take(V::LANES) {
            for (part, ranks) in self.ranks.iter().enumerate() {
                let key = sorted[usize::from(ranks[len as usize]).min(N - 1)][lane];
                let value = f64::from_bits((key ^ ((key >> 63) as u64 >> 1) as i64) as u64);
                self.quantiles[part * self.runs + run] = if len > 0 { value } else { f64::NAN };
            }
        }
    }

    fn take_long(&mut self, run: usize, values: &[f64]) {
        let quantiles = self.quantiles.iter_mut().skip(run).step_by(self.runs);
        scalar::runs::quantiles_of(values, self.parts, quantiles, &mut self.sorted);
    }
}
