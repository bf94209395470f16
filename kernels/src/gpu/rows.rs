//! Twins of [`crate::selection`] and [`crate::partition`] on the device: what moves rows, by sums of what comes before them.

use super::Engine;
use super::error::{Error, Fault};
use super::passes::{Chain, Passes, Shader};
use super::pipeline::THREADS;
use crate::Bits;
use crate::aggregate::check_lengths;
use crate::partition::check_parts;

/// As in the shaders.
const TILE: usize = THREADS as usize;
const NOT_WANTED: u32 = u32::MAX;

/// Counts by part and tile in a pass at most: 8 MiB.
const MOST_COUNTS: usize = 1 << 20;

/// Words of so many numbers that are summed up, and of the totals of their tiles.
fn scanned(numbers: usize) -> usize {
    2 * (numbers + numbers.div_ceil(TILE))
}

/// Passes over rows, with the rows that one may take.
struct Run<'e> {
    passes: Passes<'e>,
    rows: usize,
    sent: Vec<usize>,
}

impl<'e> Run<'e> {
    /// `words` says how many words of answers and of scratch a number of rows takes, which each have so many bytes.
    fn new(engine: &'e Engine, shader: Shader, bytes: usize, words: impl Fn(usize) -> usize) -> Result<Self, Error> {
        let passes = Passes::new(&engine.shared, shader)?;
        let most = passes.capacity().min(passes.most_of_column()) / bytes;
        let mut rows = (most / TILE * TILE).max(TILE);
        while rows > TILE && words(rows) * 4 > passes.most_of_column() {
            rows = (rows / 2 / TILE * TILE).max(TILE);
        }
        if most < TILE || words(rows) * 4 > passes.most_of_column() {
            return Err(Error::new(Fault::Limit, format!("{TILE} rows are more than an upload takes; raise `batch_rows`")));
        }
        Ok(Self { passes, rows, sent: Vec::new() })
    }

    /// Sends rows, of which `length` numbers are summed up that lie behind `words` of answers.
    fn send(
        &mut self,
        rows: usize,
        length: usize,
        words: usize,
        [a, b, c]: [u32; 3],
        columns: &[&[u8]],
        parts: usize,
    ) -> Result<(), Error> {
        // A buffer is never empty.
        let (sums, answers) = (words + 2 * length, words.max(1));
        let shift = answers - words;
        let header = [rows as u32, length as u32, (words + shift) as u32, (sums + shift) as u32, a, b, c, 0];
        let groups = |threads: usize| (threads as u32).div_ceil(THREADS);
        let (summed, counted) = (groups(length), if parts == 0 { groups(length) } else { groups(rows) });
        let workgroups = [counted, summed, 1, summed, groups(rows), groups(parts)];
        self.passes.send_chain(&Chain {
            header,
            columns,
            resident: None,
            words: answers,
            scratch: scanned(length),
            workgroups: &workgroups,
        })?;
        self.sent.push(words);
        Ok(())
    }

    /// The words of each pass.
    fn finish(self, mut take: impl FnMut(usize, &[u32])) -> Result<(), Error> {
        let words: Vec<u32> = self.passes.finish()?;
        let mut at = 0;
        for (pass, sent) in self.sent.into_iter().enumerate() {
            take(pass, &words[at..at + sent]);
            at += sent.max(1);
        }
        Ok(())
    }
}

/// The words of the selected rows of a pass, and those of the others.
type Split = (Vec<u32>, Vec<u32>);

/// A selection of some rows, and how many of them are in it.
fn words_of(selection: Bits<'_>, first: usize, rows: usize) -> (Vec<u64>, usize) {
    let word = |at: usize| selection.word(first + at) & if rows - at < 64 { !(u64::MAX << (rows - at)) } else { u64::MAX };
    let words: Vec<u64> = (0..rows).step_by(64).map(word).collect();
    let selected = words.iter().map(|word| word.count_ones() as usize).sum();
    (words, selected)
}

impl Engine {
    /// Twin of [`crate::selected_rows`]: appends the numbers of the selected rows, ascending.
    ///
    /// Up goes a bit a row, back come 4 bytes a selected row.
    ///
    /// # Panics
    /// As [`crate::selected_rows`].
    ///
    /// # Errors
    /// [`Fault::Limit`] if an upload takes too few rows, [`Fault::Memory`] if there is no room for answers, [`Fault::Lost`] if the device is
    /// gone. Nothing is then appended.
    pub fn selected_rows(&self, selection: Bits<'_>, rows: &mut Vec<u32>) -> Result<(), Error> {
        assert!(u32::try_from(selection.len).is_ok(), "{} rows: their numbers do not fit in 32 bits", selection.len);
        let found = self.select(selection, &[], 0, false)?;
        found.into_iter().for_each(|(selected, _)| rows.extend(selected));
        Ok(())
    }

    /// Twin of [`crate::compact`]: appends the selected rows of a column, in their order. Values are of whole 32-bit words.
    ///
    /// Up go the values and a bit a row, back come the selected values: transfer binds, as on the processor a value costs less than its way.
    ///
    /// # Panics
    /// As [`crate::compact`].
    ///
    /// # Errors
    /// As [`Engine::selected_rows`]; [`Fault::Limit`] also if values are not of whole words.
    pub fn compact<T: bytemuck::Pod>(&self, values: &[T], selection: Bits<'_>, selected: &mut Vec<T>) -> Result<(), Error> {
        check_lengths("values and selection", values.len(), selection.len);
        let found = self.select(selection, bytemuck::cast_slice(values), size_of::<T>(), false)?;
        found.iter().for_each(|(words, _)| selected.extend(bytemuck::pod_collect_to_vec::<u32, T>(words)));
        Ok(())
    }

    /// Twin of [`crate::split`]: appends the selected rows of a column to `selected` and the others to `others`, each in their order.
    /// Values are of whole 32-bit words.
    ///
    /// Up go the values and a bit a row, back come the values.
    ///
    /// # Panics
    /// As [`crate::split`].
    ///
    /// # Errors
    /// As [`Engine::compact`].
    pub fn split<T: bytemuck::Pod>(
        &self,
        values: &[T],
        selection: Bits<'_>,
        others: &mut Vec<T>,
        selected: &mut Vec<T>,
    ) -> Result<(), Error> {
        check_lengths("values and selection", values.len(), selection.len);
        let found = self.select(selection, bytemuck::cast_slice(values), size_of::<T>(), true)?;
        for (first, second) in &found {
            selected.extend(bytemuck::pod_collect_to_vec::<u32, T>(first));
            others.extend(bytemuck::pod_collect_to_vec::<u32, T>(second));
        }
        Ok(())
    }

    /// The words of the selected rows, and of the others where they are wanted, pass by pass. Values of no bytes are the rows' numbers.
    fn select(&self, selection: Bits<'_>, values: &[u8], width: usize, others: bool) -> Result<Vec<Split>, Error> {
        Bits::check(Some(selection), selection.len);
        if !width.is_multiple_of(4) {
            let message = format!("values of {width} bytes are not of whole 32-bit words; the processor moves them");
            return Err(Error::new(Fault::Limit, message));
        }
        let words = width / 4;
        let taken = |rows: usize| rows * words.max(1) + scanned(rows.div_ceil(32));
        let mut run = Run::new(self, Shader::Selection, width.max(4) + 1, taken)?;
        let mut counts = Vec::new();
        for first in (0..selection.len).step_by(run.rows) {
            let rows = run.rows.min(selection.len - first);
            let (bits, selected) = words_of(selection, first, rows);
            let answers = if others { rows } else { selected } * words.max(1);
            let arguments = [words as u32, if others { selected as u32 } else { NOT_WANTED }, first as u32];
            let columns: [&[u8]; 2] = [bytemuck::cast_slice(&bits), &values[first * width..(first + rows) * width]];
            run.send(rows, rows.div_ceil(32), answers, arguments, &columns, 0)?;
            counts.push(selected * words.max(1));
        }
        let mut found = Vec::with_capacity(counts.len());
        run.finish(|pass, words| {
            let (selected, others) = words.split_at(counts[pass]);
            found.push((selected.to_vec(), others.to_vec()));
        })?;
        Ok(found)
    }

    /// Twin of [`crate::prefix_sum_u32`]: replaces each number by the sum of those before it, and returns the sum of all. Sums wrap.
    ///
    /// Up go 4 bytes a number and 4 come back: transfer binds, as the processor adds a number in less time than it is on its way.
    ///
    /// # Errors
    /// As [`Engine::selected_rows`]; the numbers are then as they were.
    pub fn prefix_sum_u32(&self, values: &mut [u32]) -> Result<u32, Error> {
        let (sums, total) = self.prefix_sums(bytemuck::cast_slice(values), 1)?;
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum as u32);
        Ok(total as u32)
    }

    /// [`Engine::prefix_sum_u32`] of wider numbers: 8 bytes up, 8 back.
    ///
    /// # Errors
    /// As [`Engine::prefix_sum_u32`].
    pub fn prefix_sum_u64(&self, values: &mut [u64]) -> Result<u64, Error> {
        let (sums, total) = self.prefix_sums(bytemuck::cast_slice(values), 2)?;
        values.copy_from_slice(&sums);
        Ok(total)
    }

    /// The sums before numbers of so many words, and that of all.
    fn prefix_sums(&self, values: &[u32], words: usize) -> Result<(Vec<u64>, u64), Error> {
        let mut run = Run::new(self, Shader::PrefixSum, words * 4, |rows| rows * words + scanned(rows))?;
        let chunks = values.chunks(run.rows * words);
        for values in chunks.clone() {
            let rows = values.len() / words;
            run.send(rows, rows, rows * words, [words as u32, 0, 0], &[bytemuck::cast_slice(values)], 0)?;
        }
        let number = |words: &[u32]| words.iter().rev().fold(0, |number, word| number << 32 | u64::from(*word));
        let last: Vec<u64> = chunks.map(|values| number(&values[values.len() - words..])).collect();
        let (mut sums, mut total) = (Vec::with_capacity(values.len() / words), 0u64);
        run.finish(|pass, found| {
            sums.extend(found.chunks_exact(words).map(|found| total.wrapping_add(number(found))));
            total = sums.last().map_or(0, |sum| sum.wrapping_add(last[pass]));
        })?;
        Ok((sums, total))
    }

    /// Twin of [`crate::partition_rows`]: orders rows by [`crate::part_of`] their hashes.
    ///
    /// Up go 8 bytes a row, back come 4 a row and 4 a part for each upload.
    ///
    /// # Panics
    /// As [`crate::partition_rows`].
    ///
    /// # Errors
    /// As [`Engine::selected_rows`]; [`Fault::Limit`] also beyond 2^20 parts. What `starts` and `rows` hold is then of no meaning.
    pub fn partition_rows(&self, hashes: &[u64], starts: &mut [u32], rows: &mut [u32]) -> Result<(), Error> {
        check_lengths("hashes and rows", hashes.len(), rows.len());
        check_parts(starts, rows);
        self.order(bytemuck::cast_slice(hashes), 8, starts, rows)
    }

    /// Twin of [`crate::order_by_part`]: orders rows by the part that each is in.
    ///
    /// Up go 4 bytes a row, back come 4 a row and 4 a part for each upload.
    ///
    /// # Panics
    /// As [`crate::order_by_part`].
    ///
    /// # Errors
    /// As [`Engine::partition_rows`].
    pub fn order_by_part(&self, parts: &[u32], starts: &mut [u32], rows: &mut [u32]) -> Result<(), Error> {
        check_lengths("parts and rows", parts.len(), rows.len());
        let count = check_parts(starts, rows);
        let last = parts.iter().fold(0, |last, &part| last.max(part));
        assert!(last < count, "part {last} is not below the number of parts, {count}");
        self.order(bytemuck::cast_slice(parts), 4, starts, rows)
    }

    /// Orders rows that come with so many bytes each: a hash, or a part.
    fn order(&self, of_rows: &[u8], width: usize, starts: &mut [u32], rows: &mut [u32]) -> Result<(), Error> {
        let parts = starts.len() - 1;
        if parts > MOST_COUNTS {
            return Err(Error::new(Fault::Limit, format!("{parts} parts are more than {MOST_COUNTS}; the processor orders the rows")));
        }
        let counts = |rows: usize| rows.div_ceil(TILE) * parts;
        let mut run = Run::new(self, Shader::Partition, width, |rows| rows + parts + scanned(counts(rows)))?;
        run.rows = run.rows.min((MOST_COUNTS / parts).max(1) * TILE);
        for chunk in of_rows.chunks(run.rows * width) {
            let rows = chunk.len() / width;
            let arguments = [parts as u32, rows.div_ceil(TILE) as u32, u32::from(width == 4)];
            run.send(rows, counts(rows), rows + parts, arguments, &[chunk], parts)?;
        }
        let (most, mut found) = (run.rows, Vec::new());
        run.finish(|pass, words| {
            let (order, begins) = words.split_at(words.len() - parts);
            found.push((pass * most, order.to_vec(), begins.to_vec()));
        })?;
        // The rows of a part, of one pass after another.
        let mut at = 0;
        for part in 0..parts {
            starts[part] = at as u32;
            for (first, order, begins) in &found {
                let end = begins.get(part + 1).map_or(order.len(), |end| *end as usize);
                for row in &order[begins[part] as usize..end] {
                    rows[at] = *first as u32 + row;
                    at += 1;
                }
            }
        }
        starts[parts] = at as u32;
        Ok(())
    }
}
