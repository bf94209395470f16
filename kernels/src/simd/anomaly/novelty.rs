//! The nearest mark is found by words of marks and the counting of zeros, which each instruction set has an instruction for.

use core::mem::offset_of;

use crate::anomaly::novelty::{BINS, FAR, MOST, Novelty, NoveltyCell, NoveltyScale, WORDS, compress};
use crate::bits::Bits;
use crate::simd::prefetch::{FAR as FAR_STATE, ask};
use crate::simd::vector::Vector;
use crate::simd::{Kernel, Level, launch};

/// Rows from asking for a cell to its use.
const AHEAD: usize = 8;

pub(crate) fn novelty(
    level: Level,
    cells: &mut [NoveltyCell],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
    params: &Novelty,
    scores: &mut [f64],
) {
    launch(level, Scores { cells, slots, values, validity, params: *params, scores });
}

struct Scores<'a> {
    cells: &'a mut [NoveltyCell],
    slots: &'a [u32],
    values: &'a [f64],
    validity: Option<Bits<'a>>,
    params: Novelty,
    scores: &'a mut [f64],
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Self { cells, slots, values, validity, params, scores } = self;
        let (epoch, far) = (params.epoch(), size_of_val(cells) > FAR_STATE);
        for (row, ((&slot, &value), score)) in slots.iter().zip(values).zip(scores).enumerate() {
            if let Some(&soon) = slots.get(row + AHEAD).filter(|_| far) {
                ask_for(cells, soon);
            }
            let cell = &mut cells[slot as usize];
            let valid = value.is_finite() && validity.is_none_or(|bits| bits.get(row));
            *score = if valid { score_of(cell, value.clamp(-MOST, MOST), &params, epoch) } else { f64::NAN };
        }
    }
}

/// Asks for what a row reads of its cell: the heads of both scales with their marks, two lines each.
#[inline(always)]
fn ask_for(cells: &[NoveltyCell], slot: u32) {
    let address: *const u8 = cells.as_ptr().wrapping_add(slot as usize).cast();
    for head in [offset_of!(NoveltyCell, linear), offset_of!(NoveltyCell, compressed)] {
        ask(address.wrapping_add(head));
        ask(address.wrapping_add(head + 64));
    }
}

#[inline(always)]
fn score_of(cell: &mut NoveltyCell, value: f64, params: &Novelty, epoch: u32) -> f64 {
    let linear = step(&mut cell.linear, value, epoch);
    if cell.count < u64::from(params.warmup) {
        cell.warm(value, params.warmup, |scale, value| {
            step(scale, value, epoch);
        });
        return 0.0;
    }
    let compressed = step(&mut cell.compressed, compress(value, cell.unit), epoch);
    (linear * compressed).sqrt()
}

#[inline(always)]
fn step(scale: &mut NoveltyScale, value: f64, epoch: u32) -> f64 {
    if scale.per_unit == 0.0 {
        return scale.begin(value, epoch);
    }
    let position = value * scale.per_unit;
    if position.abs() >= FAR {
        return scale.take_far(value, epoch);
    }
    let bin = position.floor() as i64 - scale.base;
    if (bin as u64) < BINS as u64 {
        let bin = bin as usize;
        let score = if scale.is_marked(bin) { 0.0 } else { inside(scale, bin, position) };
        scale.take(bin, epoch);
        score
    } else {
        let score = outside(scale, bin, position);
        let bin = scale.room_for(value);
        scale.take(bin, epoch);
        score
    }
}

/// Score of a value in a bin without a mark.
#[inline(always)]
fn inside(scale: &NoveltyScale, bin: usize, position: f64) -> f64 {
    let (low, high) = (usize::from(scale.low), usize::from(scale.high));
    if bin < low || bin > high {
        return outside(scale, bin as i64, position);
    }
    let below = (scale.base + mark_below(&scale.marked, bin) as i64 + 1) as f64;
    let above = (scale.base + mark_above(&scale.marked, bin) as i64) as f64;
    let (down, up) = (position - below, above - position);
    let distance = if up < down { up } else { down };
    if distance > 0.0 { distance / (high - low) as f64 } else { 0.0 }
}

/// Score of a value below the first mark or above the last.
#[inline(always)]
fn outside(scale: &NoveltyScale, bin: i64, position: f64) -> f64 {
    let (low, high) = (i64::from(scale.low), i64::from(scale.high));
    let distance = if bin < low { (scale.base + low) as f64 - position } else { position - (scale.base + high + 1) as f64 };
    let range = high.max(bin) - low.min(bin);
    if distance > 0.0 { distance / range as f64 } else { 0.0 }
}

/// The last marked bin below `bin`, which has no mark and lies above the first.
#[inline(always)]
fn mark_below(marked: &[u64; WORDS], bin: usize) -> usize {
    let mut word = bin / 64;
    let mut bits = marked[word] & !(u64::MAX << (bin % 64));
    while bits == 0 && word > 0 {
        word -= 1;
        bits = marked[word];
    }
    word * 64 + (63 - (bits | 1).leading_zeros() as usize)
}

/// The first marked bin above `bin`, which has no mark and lies below the last.
#[inline(always)]
fn mark_above(marked: &[u64; WORDS], bin: usize) -> usize {
    let mut word = bin / 64;
    let mut bits = marked[word] & (u64::MAX << (bin % 64));
    while bits == 0 && word < WORDS - 1 {
        word += 1;
        bits = marked[word];
    }
    word * 64 + bits.trailing_zeros() as usize
}
