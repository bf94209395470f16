//! Twin of [`crate::smooth`](mod@crate::smooth) on the device: keys side by side, the rows of each in their order.

use super::Engine;
use super::error::Error;
#[cfg(doc)]
use super::error::Fault;
use super::passes::{Pass, Passes, Shader};
use super::pipeline::THREADS;
use crate::aggregate::check_lengths;
use crate::{Backend, Bits};

/// Bytes of a row, and of a key with its level.
const ROW_BYTES: usize = 8;
const KEY_BYTES: usize = 8 + 8;

/// Magnitudes whose steps stay within normal numbers: devices may take smaller ones for 0, and need not know infinities.
const TAME: std::ops::RangeInclusive<f64> = 1e-290..=1e290;

impl Engine {
    /// Twin of [`crate::smooth()`]: takes each row into the level of its key and answers with the level.
    ///
    /// In 64-bit floats, by the same steps, which a device may round in another way: a level is within 1e-15 / `alpha` of the largest
    /// magnitude of the key's values. That is wider than the same bits, which the processor's backends keep to, and so opt-in.
    ///
    /// Made for many keys: one is a chain of steps that only one thread can go. A key with more rows than an upload takes, or with
    /// magnitudes beyond 1e290 or below 1e-290, is the host's. Up go 8 bytes a row and 16 a key of the batch, 8 bytes a row come back.
    ///
    /// # Panics
    /// As [`crate::smooth()`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the device has no 64-bit floats, [`Fault::Memory`] if there is no room for answers, [`Fault::Lost`] if the device
    /// is gone. The levels are then as they were, answers are of no meaning: [`crate::smooth()`] can take the rows.
    pub fn smooth(
        &self,
        levels: &mut [f64],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        alpha: f64,
        smoothed: &mut [f64],
    ) -> Result<(), Error> {
        assert!(alpha > 0.0 && alpha <= 1.0, "alpha must be above 0 and at most 1, not {alpha}");
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and smoothed values", values.len(), smoothed.len());
        Bits::check(validity, values.len());
        let greatest = slots.iter().fold(0, |greatest, slot| *slot.max(&greatest)) as usize;
        assert!(slots.is_empty() || greatest < levels.len(), "slot {greatest} is beyond the {} levels", levels.len());
        let mut rows: Vec<u32> = (0..slots.len() as u32).collect();
        rows.sort_by_key(|row| slots[*row as usize]);
        let has_value = |row: u32| values[row as usize].is_finite() && validity.is_none_or(|bits| bits.get(row as usize));
        let passes = Passes::new(&self.shared, Shader::Smooth)?;
        let mut run = Run { passes, alpha, packed: Packed::new(alpha), sent: Vec::new() };
        let (mut left, mut own) = (Vec::new(), Vec::new());
        for rows in rows.chunk_by(|a, b| slots[*a as usize] == slots[*b as usize]) {
            own.clear();
            own.extend(rows.iter().filter(|row| has_value(**row)).map(|row| values[*row as usize]));
            if !run.take(levels[slots[rows[0] as usize] as usize], rows, &own)? {
                left.push(rows);
            }
        }
        run.send()?;
        let Run { passes, sent, .. } = run;
        let mut answers = passes.finish::<f64>()?.into_iter();
        for rows in sent {
            let level = &mut levels[slots[rows[0] as usize] as usize];
            for &row in rows {
                *level = if has_value(row) { answers.next().unwrap_or(f64::NAN) } else { *level };
                smoothed[row as usize] = *level;
            }
        }
        for rows in left {
            for &row in rows {
                let (at, level) = (row as usize, &mut levels[slots[row as usize] as usize]);
                let value = if has_value(row) { values[at] } else { f64::NAN };
                Backend::Scalar.smooth(std::slice::from_mut(level), &[0], &[value], None, alpha, &mut smoothed[at..=at]);
            }
        }
        Ok(())
    }
}

/// What goes up in one pass.
struct Packed {
    /// Where a key's rows begin, and how many there are.
    places: Vec<[u32; 2]>,
    /// Alpha; then by key its level.
    levels: Vec<f64>,
    values: Vec<f64>,
}

impl Packed {
    fn new(alpha: f64) -> Self {
        Self { places: Vec::new(), levels: vec![alpha], values: Vec::new() }
    }
}

/// One call.
struct Run<'a> {
    passes: Passes<'a>,
    alpha: f64,
    packed: Packed,
    /// The rows of each key, in the order of the answers.
    sent: Vec<&'a [u32]>,
}

impl<'a> Run<'a> {
    /// Packs the values of one key, whose rows these are; returns whether the device takes it.
    fn take(&mut self, level: f64, rows: &'a [u32], values: &[f64]) -> Result<bool, Error> {
        let tame = |value: &f64| *value == 0.0 || TAME.contains(&value.abs());
        if !values.iter().all(tame) || !(level.is_nan() || tame(&level)) {
            return Ok(false);
        }
        if !self.has_room(values.len()) {
            self.send()?;
        }
        if !self.has_room(values.len()) {
            return Ok(false);
        }
        let Packed { places, levels, values: packed } = &mut self.packed;
        self.sent.push(rows);
        places.push([packed.len() as u32, values.len() as u32]);
        levels.push(if level.is_nan() { values.first().copied().unwrap_or(0.0) } else { level });
        packed.extend(values);
        Ok(true)
    }

    /// Whether one more key with so many values finds room in the pass that is being packed.
    fn has_room(&self, values: usize) -> bool {
        let (keys, rows) = (self.packed.places.len() + 1, self.packed.values.len() + values);
        rows * ROW_BYTES + keys * KEY_BYTES + ROW_BYTES <= self.passes.capacity()
            && (rows * ROW_BYTES).max((keys + 1) * 8) <= self.passes.most_of_column()
            && rows * 2 <= self.passes.most_words()
    }

    fn send(&mut self) -> Result<(), Error> {
        let Packed { places, levels, values } = std::mem::replace(&mut self.packed, Packed::new(self.alpha));
        if values.is_empty() {
            return Ok(());
        }
        let header = [places.len() as u32, 0, 0, 0, 0, 0, 0, 0];
        let columns = [bytemuck::cast_slice(&places), bytemuck::cast_slice(&levels), bytemuck::cast_slice(&values)];
        let workgroups = (places.len() as u32).div_ceil(THREADS);
        self.passes.send(&Pass { header, columns: &columns, resident: None, words: values.len() * 2, workgroups })
    }
}
