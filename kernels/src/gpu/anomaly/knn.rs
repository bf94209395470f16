//! Twin of [`crate::anomaly::knn`] on the device: every row against every one in its reach.

use super::passes::{Detector, MOST_WORK, Pass, Passes};
use super::rows_of_keys;
use crate::aggregate::check_lengths;
use crate::anomaly::knn::values_of;
use crate::gpu::Engine;
use crate::gpu::error::{Error, Fault};
use crate::gpu::pipeline::THREADS;
use crate::{Backend, Knn, KnnCell};

/// Neighbours that a thread keeps at most; the shader has the number too.
const MOST_K: u32 = 32;

/// Magnitudes of values, but for 0, that stay within 32-bit floats, whatever they are measured by.
const SMALL: f64 = 1e-12;
const LARGE: f64 = 1e15;

/// What differences are multiplied by at most: the least value is then so many deviations off that it counts as the most.
const MOST_INVERSE: f64 = 1e22;

/// Bytes of a value, and of a row beside what its columns are multiplied by.
const VALUE_BYTES: usize = 8;
const ROW_BYTES: usize = 8;
const INVERSE_BYTES: usize = 4;

impl Engine {
    /// Twin of [`crate::knn()`]: scores each row and takes it into its key's cell.
    ///
    /// Opt-in, as it is wider than the same bits, which the processor's backends keep to: of d columns a score is within
    /// (d + 10) · 2⁻²⁴ of itself and 2⁻⁴⁶ · m of the exact one, where m is the largest magnitude of a value in the row's reach in deviations. What
    /// columns are measured by is made on the host, in 64-bit floats, and values are differences of pairs of 32-bit floats, so that a
    /// large level costs no digits.
    ///
    /// A key with magnitudes beyond 1e15 or below 1e-12, but not 0, is the host's for the batch. But for these, scores of a device are the same bits
    /// whatever the batches. Up go 8 bytes a column for each row of the batch, and as
    /// much for each row of its keys' histories once a call; 4 bytes a column and 8 more a row. 4 bytes a row come back, k times that for a mean.
    /// A row costs `history` · d differences: batches of many rows a key are what this is for.
    ///
    /// # Panics
    /// As [`crate::knn()`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if `k` is above 32 or one row with its history is more than an upload takes, [`Fault::Memory`] if there is no room for
    /// answers, [`Fault::Lost`] if the device is gone. The cells are then as they were, scores are of no meaning: [`crate::knn()`] can take the rows.
    pub fn knn(&self, cells: &mut [KnnCell], slots: &[u32], columns: &[&[f64]], params: &Knn, scores: &mut [f64]) -> Result<(), Error> {
        params.check(columns.len());
        check_lengths("slots and scores", slots.len(), scores.len());
        if params.k > MOST_K {
            return Err(Error::new(Fault::Limit, format!("`k` is {}, a device keeps {MOST_K} neighbours at most", params.k)));
        }
        let slot = |row: u32| slots[row as usize] as usize;
        let rows = rows_of_keys(slots, columns, None, cells.len());
        scores.fill(f64::NAN);
        let passes = Passes::new(&self.shared, Detector::Knn)?;
        let mut search = Search { passes, params, packed: Packed::new(columns.len()), places: Vec::new() };
        let (mut sent, mut left) = (Vec::new(), Vec::new());
        for rows in rows.chunk_by(|a, b| slot(*a) == slot(*b)) {
            match Segment::of(&cells[slot(rows[0])], rows, columns, params) {
                Some(segment) => {
                    let early = rows.len() - segment.rows;
                    rows[..early].iter().for_each(|row| scores[*row as usize] = 0.0);
                    search.places.extend(&rows[early..]);
                    search.pack(&segment)?;
                    sent.push(rows);
                }
                None => left.push(rows),
            }
        }
        search.finish(scores)?;
        let mut row = Vec::new();
        for &number in sent.into_iter().flatten() {
            values_of(columns, number as usize, &mut row);
            cells[slot(number)].learn(&row, params);
        }
        left.into_iter().for_each(|rows| on_host(&mut cells[slot(rows[0])], rows, columns, params, scores));
        Ok(())
    }
}

/// Takes the rows of one key into its cell.
fn on_host(cell: &mut KnnCell, rows: &[u32], columns: &[&[f64]], params: &Knn, scores: &mut [f64]) {
    let own: Vec<Vec<f64>> = columns.iter().map(|column| rows.iter().map(|row| column[*row as usize]).collect()).collect();
    let own: Vec<&[f64]> = own.iter().map(Vec::as_slice).collect();
    let mut found = vec![0.0; rows.len()];
    Backend::active().knn(std::slice::from_mut(cell), &vec![0; rows.len()], &own, params, &mut found, None);
    rows.iter().zip(found).for_each(|(row, score)| scores[*row as usize] = score);
}

/// The rows of a key in a call, after those that they may be compared with.
struct Segment {
    /// Row by row.
    values: Vec<f64>,
    /// What the columns of rows that are to be scored are multiplied by, row by row.
    inverses: Vec<f32>,
    /// Rows that are to be scored: the last ones.
    rows: usize,
}

impl Segment {
    /// None if the device cannot have its values.
    fn of(cell: &KnnCell, rows: &[u32], columns: &[&[f64]], params: &Knn) -> Option<Segment> {
        let (mut scale, wide) = (cell.scale().clone(), cell.scale().mean.len());
        assert!(scale.count == 0 || wide == columns.len(), "a cell of {wide} columns is given rows of {}", columns.len());
        let mut segment = Segment { values: cell.latest(params), inverses: Vec::new(), rows: 0 };
        let (mut row, mut inverses) = (Vec::new(), Vec::new());
        for &number in rows {
            values_of(columns, number as usize, &mut row);
            if scale.count >= params.least() {
                scale.inverses(&mut inverses);
                segment.inverses.extend(inverses.iter().map(|inverse| inverse.min(MOST_INVERSE) as f32));
                segment.rows += 1;
            }
            segment.values.extend(&row);
            scale.learn(&row, 1.0 / f64::from(params.history));
        }
        segment.values.iter().all(|value| *value == 0.0 || (SMALL..=LARGE).contains(&value.abs())).then_some(segment)
    }
}

/// What goes up in one pass.
#[derive(Debug)]
struct Packed {
    /// By column: values in two parts.
    values: Vec<Vec<[f32; 2]>>,
    /// Of each row its place, and that of the first that it is compared with.
    rows: Vec<[u32; 2]>,
    /// By column.
    inverses: Vec<Vec<f32>>,
    work: u64,
}

impl Packed {
    fn new(columns: usize) -> Packed {
        Packed { values: vec![Vec::new(); columns], rows: Vec::new(), inverses: vec![Vec::new(); columns], work: 0 }
    }
}

/// One call: rows are packed, passes sent, and answers put into their places at the end.
struct Search<'a> {
    passes: Passes<'a>,
    params: &'a Knn,
    packed: Packed,
    /// The row of each answer.
    places: Vec<u32>,
}

impl Search<'_> {
    /// Packs the rows of a segment, in as many passes as they need.
    fn pack(&mut self, segment: &Segment) -> Result<(), Error> {
        let wide = self.packed.values.len();
        let (count, history) = (segment.values.len() / wide, self.params.history as usize);
        let mut end = count - segment.rows;
        while end < count {
            let begin = end.saturating_sub(history);
            let room = self.room(end - begin + 1);
            if room == 0 && self.packed.rows.is_empty() {
                let message = format!("a history of {history} rows of {wide} values is more than an upload takes; raise `batch_rows`");
                return Err(Error::new(Fault::Limit, message));
            }
            if room == 0 {
                self.send()?;
                continue;
            }
            let until = (end + room).min(count);
            let base = self.packed.values[0].len();
            for (column, values) in self.packed.values.iter_mut().enumerate() {
                values.extend(segment.values[begin * wide..until * wide].iter().skip(column).step_by(wide).map(|value| parts(*value)));
            }
            let first = (end - (count - segment.rows)) * wide;
            for (column, inverses) in self.packed.inverses.iter_mut().enumerate() {
                inverses.extend(segment.inverses[first..first + (until - end) * wide].iter().skip(column).step_by(wide));
            }
            let place = |at: usize| (base + at - begin) as u32;
            self.packed.rows.extend((end..until).map(|at| [place(at), place(at.saturating_sub(history))]));
            self.packed.work += ((until - end) * history.min(until) * wide) as u64;
            end = until;
        }
        Ok(())
    }

    /// How many rows of a segment there is room for in the pass that is being packed, if the first has `span` rows in reach, itself among them.
    fn room(&self, span: usize) -> usize {
        let Self { passes, packed, params, .. } = self;
        let wide = packed.values.len();
        let (values, rows) = (packed.values[0].len() + span - 1, packed.rows.len());
        let (value, row) = (wide * VALUE_BYTES, ROW_BYTES + wide * INVERSE_BYTES);
        let bytes = passes.capacity().saturating_sub(values * value + rows * row) / (value + row);
        let of_values = (passes.most_of_column() / value).saturating_sub(values);
        let of_rows = (passes.most_of_column() / ROW_BYTES.max(wide * INVERSE_BYTES)).saturating_sub(rows);
        let answers = (passes.most_words() / self.words()).saturating_sub(rows);
        let work = MOST_WORK.saturating_sub(packed.work) / (u64::from(params.history) * wide as u64);
        let work = (work as usize).max(usize::from(packed.rows.is_empty()));
        bytes.min(of_values).min(of_rows).min(answers).min(work)
    }

    /// Answers of a row.
    fn words(&self) -> usize {
        if self.params.mean { self.params.k as usize } else { 1 }
    }

    fn send(&mut self) -> Result<(), Error> {
        let wide = self.packed.values.len();
        let Packed { values, rows, inverses, .. } = std::mem::replace(&mut self.packed, Packed::new(wide));
        if rows.is_empty() {
            return Ok(());
        }
        let (values, inverses) = (values.concat(), inverses.concat());
        let header = [rows.len(), wide, values.len() / wide, self.params.k as usize, usize::from(self.params.mean), 0, 0, 0];
        let columns = [bytemuck::cast_slice(&values), bytemuck::cast_slice(&rows), bytemuck::cast_slice(&inverses)];
        let (words, workgroups) = (rows.len() * self.words(), (rows.len() as u32).div_ceil(THREADS));
        self.passes.send(&Pass { header: header.map(|number| number as u32), columns: &columns, resident: None, words, workgroups })
    }

    fn finish(mut self, scores: &mut [f64]) -> Result<(), Error> {
        self.send()?;
        let (words, wide) = (self.words(), self.packed.values.len());
        let answers = self.passes.finish::<f32>()?;
        for (row, squares) in self.places.iter().zip(answers.chunks_exact(words)) {
            scores[*row as usize] = self.params.score(squares.iter().map(|square| f64::from(*square)), wide);
        }
        Ok(())
    }
}

/// A number as the sum of two floats.
fn parts(value: f64) -> [f32; 2] {
    let high = value as f32;
    [high, (value - f64::from(high)) as f32]
}
