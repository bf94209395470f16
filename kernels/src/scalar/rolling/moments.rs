//! Twin of the rolling moments.

use crate::cell::two_sum;
use crate::rolling::answers::{BLOCK, Buffer, Moments};
use crate::rolling::sums::{is_null, stored};
use crate::rolling::{Extent, Frame, MomentColumns, RollingMoments, RollingRows};

/// Twin of [`crate::rolling_moments`].
pub fn moments(windows: &mut RollingMoments, rows: &RollingRows<'_>, mut answers: MomentColumns<'_>) {
    let mut buffer = Buffer::NEW;
    for start in (0..rows.slots.len()).step_by(BLOCK) {
        let len = BLOCK.min(rows.slots.len() - start);
        for row in 0..len {
            let (slot, time) = (rows.slots[start + row] as usize, rows.time(start + row));
            let value = stored(rows.values[start + row], rows.is_valid(start + row));
            let before = moments_of(&preceding(windows, slot, time));
            windows.step(slot, value, time);
            buffer.values[row] = value;
            buffer.put(row, if windows.frame == Frame::Preceding { before } else { moments_of(&held(windows, slot, i64::MIN)) });
        }
        answers.write(start, len, &mut buffer);
    }
}

/// Values of the window before a row of time `time`.
fn preceding(windows: &RollingMoments, slot: usize, time: i64) -> Vec<f64> {
    match windows.extent {
        Extent::Rows(_) => held(windows, slot, i64::MIN),
        Extent::Range(length) => held(windows, slot, windows.take_time(slot, time).saturating_sub(length)),
    }
}

/// Values that a slot holds whose time is not before `from`, nulls left out.
fn held(windows: &RollingMoments, slot: usize, from: i64) -> Vec<f64> {
    let ring = windows.heads[slot].ring;
    let recent = (0..ring.rows).map(|row| ring.at(row)).filter(|&at| windows.times.get(at).is_none_or(|&time| time >= from));
    recent.map(|at| windows.values[at]).filter(|&value| !is_null(value)).collect()
}

/// Mean by a compensated sum, then the squared distances from it.
pub(crate) fn moments_of(values: &[f64]) -> Moments {
    if values.is_empty() {
        return Moments::NONE;
    }
    let count = values.len() as f64;
    let (sum, low) = values.iter().fold((0.0, 0.0), |(sum, low), &value| {
        let (sum, error) = two_sum(sum, value);
        (sum, low + error)
    });
    let mean = if sum.is_finite() { sum / count } else { values.iter().map(|value| value / count).sum() };
    let mean_low = if sum.is_finite() { ((-mean).mul_add(count, sum) + low) / count } else { 0.0 };
    let m2 = values.iter().map(|value| (value - mean) - mean_low).map(|distance| distance * distance).sum();
    let sum = if sum.is_finite() { sum + low } else { mean * count };
    Moments { count, sum, mean: mean + mean_low, m2 }
}
