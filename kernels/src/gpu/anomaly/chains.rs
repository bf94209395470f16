//! Detectors that take the values of a key one by one: on the device a thread for each key, in 64-bit floats.

use super::passes::{Detector, Pass, Passes};
use super::rows_of_keys;
use crate::Bits;
use crate::aggregate::check_lengths;
use crate::gpu::Shared;
use crate::gpu::error::Error;
use crate::gpu::pipeline::THREADS;

/// Bytes of a row, and of a key beside its state.
const ROW_BYTES: usize = 8;
const KEY_BYTES: usize = 12;

/// 32-bit words that come back for a row and for a number of a state.
const ROW_WORDS: usize = 2;
const STATE_WORDS: usize = 2;

/// A detector as its shader needs it.
pub(super) trait Chain {
    type Cell;

    const DETECTOR: Detector;

    /// Numbers of a state, which go up by key and come back.
    const STATE: usize;

    /// What the shader is told beside the numbers of keys and rows.
    fn mode(&self) -> u32 {
        0
    }

    /// Numbers that go up once.
    fn parameters(&self) -> Vec<f64>;

    /// The state of a key whose next value is `first`.
    fn state(&self, cell: &Self::Cell, first: f64) -> Vec<f64>;

    /// How many rows of a key score 0 from here on, if the shader is to be told.
    fn silent(&self, _cell: &Self::Cell) -> u64 {
        0
    }

    /// The cell of a state that came back, after so many rows; none if the host is to take them.
    fn cell(&self, before: &Self::Cell, state: &[f64], rows: usize) -> Option<Self::Cell>;

    /// Takes the values of one key on the processor.
    fn on_host(&self, cell: &mut Self::Cell, values: &[f64], scores: &mut [f64]);
}

/// Scores each row and takes it into its key's cell. After an error the cells are as they were.
pub(super) fn run<C: Chain>(
    chain: &C,
    shared: &Shared,
    cells: &mut [C::Cell],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
    scores: &mut [f64],
) -> Result<(), Error> {
    check_lengths("slots and scores", slots.len(), scores.len());
    let slot = |row: u32| slots[row as usize] as usize;
    let rows = rows_of_keys(slots, &[values], validity, cells.len());
    scores.fill(f64::NAN);
    let passes = Passes::new(shared, C::DETECTOR)?;
    let mut run = Run { chain, passes, packed: Packed::new(chain), sent: Vec::new(), left: Vec::new() };
    for rows in rows.chunk_by(|a, b| slot(*a) == slot(*b)) {
        run.take(&cells[slot(rows[0])], rows, values)?;
    }
    run.send()?;
    let Run { passes, sent, mut left, .. } = run;
    let answers = passes.finish::<f64>()?;
    let mut rest = &answers[..];
    for keys in sent {
        for row in keys.iter().copied().flatten() {
            scores[*row as usize] = next(&mut rest, 1)[0];
        }
        for rows in keys {
            let cell = &mut cells[slot(rows[0])];
            match chain.cell(cell, next(&mut rest, C::STATE), rows.len()) {
                Some(after) => *cell = after,
                None => left.push(rows),
            }
        }
    }
    for rows in left {
        let own: Vec<f64> = rows.iter().map(|row| values[*row as usize]).collect();
        let mut found = vec![0.0; rows.len()];
        chain.on_host(&mut cells[slot(rows[0])], &own, &mut found);
        rows.iter().zip(found).for_each(|(row, score)| scores[*row as usize] = score);
    }
    Ok(())
}

/// The next numbers of answers, of which there are as many as were asked for.
fn next<'a>(rest: &mut &'a [f64], count: usize) -> &'a [f64] {
    let (numbers, later) = rest.split_at(count);
    *rest = later;
    numbers
}

/// What goes up in one pass.
struct Packed<'a> {
    /// The rows of each key.
    keys: Vec<&'a [u32]>,
    /// Where a key's rows begin, how many there are, and how many of them score 0.
    places: Vec<[u32; 3]>,
    /// Parameters; then states by key.
    states: Vec<f64>,
    values: Vec<f64>,
}

impl Packed<'_> {
    fn new(chain: &impl Chain) -> Self {
        Self { keys: Vec::new(), places: Vec::new(), states: chain.parameters(), values: Vec::new() }
    }
}

/// One call: keys are packed and sent; what the device cannot take is left.
struct Run<'a, C> {
    chain: &'a C,
    passes: Passes<'a>,
    packed: Packed<'a>,
    /// The keys of each pass.
    sent: Vec<Vec<&'a [u32]>>,
    left: Vec<&'a [u32]>,
}

impl<'a, C: Chain> Run<'a, C> {
    /// Packs the rows of one key, which has come to this cell before them.
    fn take(&mut self, cell: &C::Cell, rows: &'a [u32], values: &[f64]) -> Result<(), Error> {
        if !self.has_room(rows.len()) {
            self.send()?;
        }
        if !self.has_room(rows.len()) {
            self.left.push(rows);
            return Ok(());
        }
        let Packed { keys, places, states, values: packed } = &mut self.packed;
        keys.push(rows);
        let silent = self.chain.silent(cell).min(rows.len() as u64);
        places.push([packed.len() as u32, rows.len() as u32, silent as u32]);
        states.extend(self.chain.state(cell, values[rows[0] as usize]));
        packed.extend(rows.iter().map(|row| values[*row as usize]));
        Ok(())
    }

    /// Whether one more key with so many rows finds room in the pass that is being packed.
    fn has_room(&self, rows: usize) -> bool {
        let (keys, rows) = (self.packed.keys.len() + 1, self.packed.values.len() + rows);
        let states = (self.packed.states.len() + C::STATE) * size_of::<f64>();
        rows * ROW_BYTES + keys * KEY_BYTES + states <= self.passes.capacity()
            && (rows * ROW_BYTES).max(states) <= self.passes.most_of_column()
            && rows * ROW_WORDS + keys * C::STATE * STATE_WORDS <= self.passes.most_words()
    }

    fn send(&mut self) -> Result<(), Error> {
        let Packed { keys, places, states, values } = std::mem::replace(&mut self.packed, Packed::new(self.chain));
        if keys.is_empty() {
            return Ok(());
        }
        let header = [keys.len() as u32, values.len() as u32, self.chain.mode(), 0, 0, 0, 0, 0];
        let columns = [bytemuck::cast_slice(&places), bytemuck::cast_slice(&states), bytemuck::cast_slice(&values)];
        let words = values.len() * ROW_WORDS + keys.len() * C::STATE * STATE_WORDS;
        let workgroups = (keys.len() as u32).div_ceil(THREADS);
        self.passes.send(&Pass { header, columns: &columns, resident: None, words, workgroups })?;
        self.sent.push(keys);
        Ok(())
    }
}
