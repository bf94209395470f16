//! Two passes per block: states in order of rows, which is a chain, then roots and divisions, which vectors do best.

use crate::aggregate::beyond;
use crate::anomaly::ewma::{Ewma, EwmaCell, LEAST_MEAN, RELATIVE_FLOOR};
use crate::bits::Bits;
use crate::simd::aggregate::{BLOCK, range};
use crate::simd::prefetch::{FAR, prefetch};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};

pub(crate) fn ewma(
    level: Level,
    cells: &mut [EwmaCell],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
    params: &Ewma,
    scores: &mut [f64],
) {
    launch(level, Scores { cells, slots, values, validity, params: *params, scores });
}

struct Scores<'a> {
    cells: &'a mut [EwmaCell],
    slots: &'a [u32],
    values: &'a [f64],
    validity: Option<Bits<'a>>,
    params: Ewma,
    scores: &'a mut [f64],
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { cells, slots, values, validity, params, scores } = self;
        let far = size_of_val(cells) > FAR;
        let (mut means, mut variances) = ([0.0; BLOCK], [0.0; BLOCK]);
        let blocks = slots.chunks(BLOCK).zip(values.chunks(BLOCK)).zip(scores.chunks_mut(BLOCK));
        for (block, ((slots, values), scores)) in blocks.enumerate() {
            let (_, high) = range(slots);
            if high as usize >= cells.len() {
                beyond(high, cells.len());
            }
            if far {
                slots.iter().for_each(|&slot| prefetch(cells, slot as usize));
            }
            let before = (&mut means[..slots.len()], &mut variances[..slots.len()]);
            // SAFETY: every slot of the block is at most `high`, which is below the number of cells.
            unsafe {
                match validity {
                    None => absorb(cells, slots, values, |_| true, &params, scores, before),
                    Some(bits) => absorb(cells, slots, values, |row| bits.get(block * BLOCK + row), &params, scores, before),
                }
            }
            for ((score, &mean), &variance) in scores.iter_mut().zip(&means).zip(&variances) {
                *score = score_of(*score, mean, variance);
            }
        }
    }
}

/// Takes rows into their cells, leaving each row's distance from the mean (0 where it shall score 0, NaN where it has no
/// value) in `diffs`, and the mean and variance that it met.
///
/// # Safety
/// Every slot is below `cells.len()`; the columns are of one length.
#[inline(always)]
unsafe fn absorb(
    cells: &mut [EwmaCell],
    slots: &[u32],
    values: &[f64],
    valid: impl Fn(usize) -> bool,
    params: &Ewma,
    diffs: &mut [f64],
    (means, variances): (&mut [f64], &mut [f64]),
) {
    let alpha = params.alpha;
    let columns = slots.iter().zip(values).zip(diffs).zip(means).zip(variances);
    for (row, ((((&slot, &value), diff_out), mean_out), variance_out)) in columns.enumerate() {
        if !(value.is_finite() && valid(row)) {
            *diff_out = f64::NAN;
            continue;
        }
        // SAFETY: the caller's promise.
        let cell = unsafe { cells.get_unchecked_mut(slot as usize) };
        let mean = if cell.count == 0 { value } else { cell.mean };
        let diff = (value - mean).clamp(f64::MIN, f64::MAX);
        *diff_out = if cell.count >= params.warmup { diff } else { 0.0 };
        (*mean_out, *variance_out) = (mean, cell.variance);
        let increment = alpha * diff;
        cell.mean = mean + increment;
        let variance = (1.0 - alpha) * (cell.variance + diff * increment);
        cell.variance = if variance < f64::MAX { variance } else { f64::MAX };
        cell.count += 1;
    }
}

#[inline(always)]
fn score_of(diff: f64, mean: f64, variance: f64) -> f64 {
    let floor = RELATIVE_FLOOR * most(mean.abs(), LEAST_MEAN);
    least(diff.abs() / most(variance.sqrt(), floor), f64::MAX)
}

/// Maximum of two numbers in one instruction: what `f64::max` does for NaN is not needed.
#[inline(always)]
fn most(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// Minimum of two numbers in one instruction; NaN in `a` stays.
#[inline(always)]
fn least(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}
