//! Twin of [`crate::anomaly::novelty`].

use crate::anomaly::novelty::{BINS, FAR, MOST, Novelty, NoveltyCell, NoveltyScale, compress};
use crate::bits::Bits;

/// Twin of [`crate::novelty()`].
pub fn novelty(cells: &mut [NoveltyCell], slots: &[u32], values: &[f64], validity: Option<Bits<'_>>, params: &Novelty, scores: &mut [f64]) {
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        let valid = value.is_finite() && validity.is_none_or(|bits| bits.get(row));
        scores[row] = if valid { score(&mut cells[slot as usize], value.clamp(-MOST, MOST), params) } else { f64::NAN };
    }
}

/// Score of one finite value, which then is taken in.
fn score(cell: &mut NoveltyCell, value: f64, params: &Novelty) -> f64 {
    let epoch = params.epoch();
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

/// Score of a value on one scale, which then takes it in.
fn step(scale: &mut NoveltyScale, value: f64, epoch: u32) -> f64 {
    if scale.per_unit == 0.0 {
        return scale.begin(value, epoch);
    }
    let position = value * scale.per_unit;
    if position.abs() >= FAR {
        return scale.take_far(value, epoch);
    }
    let bin = position.floor() as i64 - scale.base;
    let marks = || (0..BINS).filter(|&mark| scale.is_marked(mark)).map(|mark| mark as i64);
    let apart = |mark: i64| match mark {
        mark if mark < bin => position - (scale.base + mark + 1) as f64,
        mark if mark > bin => (scale.base + mark) as f64 - position,
        _ => 0.0,
    };
    let distance = marks().map(apart).fold(f64::INFINITY, f64::min);
    let range = marks().fold(bin, i64::max) - marks().fold(bin, i64::min);
    let score = if distance > 0.0 { distance / range as f64 } else { 0.0 };
    let bin = if (0..BINS as i64).contains(&bin) { bin as usize } else { scale.room_for(value) };
    scale.take(bin, epoch);
    score
}
