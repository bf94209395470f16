//! Twin of [`crate::anomaly::ewma`] on the device: keys side by side, the rows of each in their order.

use super::passes::{Detector, Pass, Passes};
use crate::aggregate::check_lengths;
use crate::gpu::Engine;
use crate::gpu::error::Error;
#[cfg(doc)]
use crate::gpu::error::Fault;
use crate::gpu::pipeline::THREADS;
use crate::{Backend, Bits, Ewma, EwmaCell};

/// Bytes of a row, and of a key with its state.
const ROW_BYTES: usize = 8;
const KEY_BYTES: usize = 12 + 16;

/// 32-bit words that come back for a row and for a key.
const ROW_WORDS: usize = 2;
const KEY_WORDS: usize = 4;

impl Engine {
    /// Twin of [`crate::ewma`]: scores each row and takes it into its key's state.
    ///
    /// In 64-bit floats, by the same steps, which a device may round in another way: where `m` is the largest magnitude of the key's
    /// values, a score is within 1e-14 · (1 + score) · (1 + m / (alpha · deviation)) of the processor's. That is wider than the same
    /// bits, which the processor's backends keep to, and so opt-in.
    ///
    /// Made for many keys: one is a chain of steps that only one thread can go. A key with more rows than an upload takes, or with
    /// magnitudes beyond 1e145 or below 1e-290, is the host's. Up go 8 bytes a row and 28 a key of the batch, 8 and 16 come back.
    ///
    /// # Panics
    /// As [`crate::ewma`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if the device has no 64-bit floats, [`Fault::Memory`] if there is no room for answers,
    /// [`Fault::Lost`] if the device is gone. The cells are then as they were, scores are of no meaning: [`crate::ewma`] can take
    /// the rows.
    pub fn ewma(
        &self,
        cells: &mut [EwmaCell],
        slots: &[u32],
        values: &[f64],
        validity: Option<Bits<'_>>,
        params: &Ewma,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        params.check();
        check_lengths("slots and values", slots.len(), values.len());
        check_lengths("values and scores", values.len(), scores.len());
        Bits::check(validity, values.len());
        let valid = |row: &u32| values[*row as usize].is_finite() && validity.is_none_or(|bits| bits.get(*row as usize));
        let slot = |row: u32| slots[row as usize] as usize;
        let mut rows: Vec<u32> = (0..slots.len() as u32).filter(valid).collect();
        rows.sort_by_key(|row| slot(*row));
        let greatest = rows.last().map_or(0, |row| slot(*row));
        assert!(rows.is_empty() || greatest < cells.len(), "slot {greatest} is beyond the {} cells", cells.len());
        scores.fill(f64::NAN);
        let passes = Passes::new(&self.shared, Detector::Ewma)?;
        let mut run = Run { passes, params, packed: Packed::new(params), sent: Vec::new(), left: Vec::new() };
        for rows in rows.chunk_by(|a, b| slot(*a) == slot(*b)) {
            run.take(cells[slot(rows[0])], rows, values)?;
        }
        run.send()?;
        let Run { passes, sent, mut left, .. } = run;
        let mut answers = passes.finish::<f64>()?.into_iter();
        for keys in sent {
            for row in keys.iter().copied().flatten() {
                scores[*row as usize] = answers.next().unwrap_or(f64::NAN);
            }
            for rows in keys {
                let (cell, mean, variance) = (&mut cells[slot(rows[0])], answers.next(), answers.next());
                match (mean, variance) {
                    (Some(mean), Some(variance)) if variance >= 0.0 => {
                        *cell = EwmaCell { mean, variance, count: cell.count + rows.len() as u64 };
                    }
                    _ => left.push(rows),
                }
            }
        }
        left.into_iter().for_each(|rows| on_host(&mut cells[slot(rows[0])], rows, values, params, scores));
        Ok(())
    }
}

/// Takes the rows of one key into its cell.
fn on_host(cell: &mut EwmaCell, rows: &[u32], values: &[f64], params: &Ewma, scores: &mut [f64]) {
    let own: Vec<f64> = rows.iter().map(|row| values[*row as usize]).collect();
    let mut found = vec![0.0; rows.len()];
    Backend::active().ewma(std::slice::from_mut(cell), &vec![0; rows.len()], &own, None, params, &mut found);
    rows.iter().zip(found).for_each(|(row, score)| scores[*row as usize] = score);
}

/// What goes up in one pass.
struct Packed<'a> {
    /// The rows of each key.
    keys: Vec<&'a [u32]>,
    /// Where a key's rows begin, how many there are, and how many of them score 0.
    places: Vec<[u32; 3]>,
    /// Alpha; then by key mean and variance.
    cells: Vec<f64>,
    values: Vec<f64>,
}

impl Packed<'_> {
    fn new(params: &Ewma) -> Self {
        Self { keys: Vec::new(), places: Vec::new(), cells: vec![params.alpha], values: Vec::new() }
    }
}

/// One call: keys are packed and sent; what the device cannot take is left.
struct Run<'a> {
    passes: Passes<'a>,
    params: &'a Ewma,
    packed: Packed<'a>,
    /// The keys of each pass.
    sent: Vec<Vec<&'a [u32]>>,
    left: Vec<&'a [u32]>,
}

impl<'a> Run<'a> {
    /// Packs the rows of one key, which has come to this cell before them.
    fn take(&mut self, cell: EwmaCell, rows: &'a [u32], values: &[f64]) -> Result<(), Error> {
        if !self.has_room(rows.len()) {
            self.send()?;
        }
        if !self.has_room(rows.len()) {
            self.left.push(rows);
            return Ok(());
        }
        let Packed { keys, places, cells, values: packed } = &mut self.packed;
        keys.push(rows);
        let silent = self.params.warmup.saturating_sub(cell.count).min(rows.len() as u64);
        places.push([packed.len() as u32, rows.len() as u32, silent as u32]);
        let mean = if cell.count == 0 { values[rows[0] as usize] } else { cell.mean };
        cells.extend([mean, cell.variance]);
        packed.extend(rows.iter().map(|row| values[*row as usize]));
        Ok(())
    }

    /// Whether one more key with so many rows finds room in the pass that is being packed.
    fn has_room(&self, rows: usize) -> bool {
        let (keys, rows) = (self.packed.keys.len() + 1, self.packed.values.len() + rows);
        let alpha = size_of::<f64>();
        rows * ROW_BYTES + keys * KEY_BYTES + alpha <= self.passes.capacity()
            && (rows * ROW_BYTES).max(keys * 16 + alpha) <= self.passes.most_of_column()
            && rows * ROW_WORDS + keys * KEY_WORDS <= self.passes.most_words()
    }

    fn send(&mut self) -> Result<(), Error> {
        let Packed { keys, places, cells, values } = std::mem::replace(&mut self.packed, Packed::new(self.params));
        if keys.is_empty() {
            return Ok(());
        }
        let header = [keys.len() as u32, values.len() as u32, 0, 0, 0, 0, 0, 0];
        let columns = [bytemuck::cast_slice(&places), bytemuck::cast_slice(&cells), bytemuck::cast_slice(&values)];
        let words = values.len() * ROW_WORDS + keys.len() * KEY_WORDS;
        let workgroups = (keys.len() as u32).div_ceil(THREADS);
        self.passes.send(&Pass { header, columns: &columns, resident: None, words, workgroups })?;
        self.sent.push(keys);
        Ok(())
    }
}
