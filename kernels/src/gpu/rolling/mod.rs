//! Twins of [`crate::rolling`] on the device: a key's rows, those that its window holds before them, and of each new row the span of its
//! window, which a thread puts together from a tree over all of them.

mod integers;
mod moments;
mod order;

use std::ops::Range;

use super::error::{Error, Fault};
use super::passes::{Chain, Passes, Shader};
use super::pipeline::THREADS;
use super::{Engine, Shared};
use crate::rolling::ring::Ring;
use crate::rolling::{Extent, Frame, RollingRows};

/// Leaves or nodes of a node, and levels of nodes, as in `shaders/rolling_tree.wgsl`.
const FAN: usize = 16;
const LEVELS: usize = 4;

/// Bytes up for a row's window.
const SPAN_BYTES: usize = 12;

/// What a kind of window takes on the device, in 32-bit words.
#[derive(Clone, Copy, Debug)]
struct Words {
    leaf: usize,
    node: usize,
    answer: usize,
}

/// Rows of a key, one after another: those that its window held, then `rows` new ones.
struct Series<'a> {
    held: usize,
    /// The numbers of the new ones in their columns.
    rows: &'a [u32],
    /// Of all, ascending; empty where windows are of rows.
    times: Vec<i64>,
}

impl<'a> Series<'a> {
    /// The new rows of a slot after those in its ring, whose times are `times`.
    fn new<T>(extent: Extent, ring: &Ring, times: &[i64], rows: &'a [u32], columns: &RollingRows<'_, T>) -> Self {
        let mut all = Vec::new();
        if let Extent::Range(_) = extent {
            all.extend((0..ring.rows).map(|row| times[ring.at(row)]));
            for row in rows {
                let time = columns.time(*row as usize);
                // A row that is earlier than the one before it counts as of that one's time.
                all.push(all.last().map_or(time, |last| time.max(*last)));
            }
        }
        Self { held: ring.rows as usize, rows, times: all }
    }

    /// Of each new row, which of all rows its window holds.
    fn spans(&self, extent: Extent, frame: Frame) -> Vec<Range<usize>> {
        let mut begin = 0;
        let span = |row: usize| {
            let at = self.held + row;
            let end = if frame == Frame::Including { at + 1 } else { at };
            begin = match extent {
                Extent::Rows(rows) => end.saturating_sub(rows as usize),
                Extent::Range(length) => {
                    let from = self.times[at].saturating_sub(length);
                    begin + self.times[begin..end].iter().take_while(|time| **time < from).count()
                }
            };
            begin..end
        };
        (0..self.rows.len()).map(span).collect()
    }
}

/// One call: leaves and spans are packed, passes sent.
struct Call<'e> {
    passes: Passes<'e>,
    words: Words,
    leaves: Vec<u32>,
    spans: Vec<[u32; 3]>,
}

impl<'e> Call<'e> {
    fn new(shared: &'e Shared, shader: Shader, words: Words) -> Result<Self, Error> {
        Ok(Self { passes: Passes::new(shared, shader)?, words, leaves: Vec::new(), spans: Vec::new() })
    }

    /// Packs the windows of a key's new rows, in as many passes as they need. `pack` appends the words of a range of the key's rows and is
    /// told which of the new rows they serve; `count` is how many values are in a window.
    fn take(
        &mut self,
        spans: &[Range<usize>],
        count: impl Fn(&Range<usize>) -> u32,
        mut pack: impl FnMut(Range<usize>, Range<usize>, &mut Vec<u32>),
    ) -> Result<(), Error> {
        let mut first = 0;
        while first < spans.len() {
            let (begin, end) = self.room(&spans[first..]);
            if end == 0 && self.spans.is_empty() {
                let message = format!("a window of {} rows is more than an upload takes; raise `batch_rows`", spans[first].len());
                return Err(Error::new(Fault::Limit, message));
            }
            if end == 0 {
                self.send()?;
                continue;
            }
            let base = self.leaves.len() / self.words.leaf;
            let taken = &spans[first..first + end];
            pack(begin..taken[end - 1].end, first..first + end, &mut self.leaves);
            let place = |at: usize| (base + at - begin) as u32;
            self.spans.extend(taken.iter().map(|span| [place(span.start), place(span.end), count(span)]));
            first += end;
        }
        Ok(())
    }

    /// Where the leaves of the first spans begin, and for how many of the spans there is room in the pass that is being packed.
    fn room(&self, spans: &[Range<usize>]) -> (usize, usize) {
        let begin = spans[0].start;
        let fits = |(number, span): &(usize, &Range<usize>)| self.fits(span.end - begin, number + 1);
        (begin, spans.iter().enumerate().take_while(fits).count())
    }

    fn fits(&self, leaves: usize, spans: usize) -> bool {
        let (leaves, spans) = (self.leaves.len() / self.words.leaf + leaves, self.spans.len() + spans);
        let bytes = [leaves * self.words.leaf * 4, spans * SPAN_BYTES];
        let answers = (spans * self.words.answer + nodes(leaves) * self.words.node) * 4;
        bytes[0] + bytes[1] <= self.passes.capacity() && bytes[0].max(bytes[1]).max(answers) <= self.passes.most_of_column()
    }

    fn send(&mut self) -> Result<(), Error> {
        if self.spans.is_empty() {
            return Ok(());
        }
        let (leaves, rows) = (self.leaves.len() / self.words.leaf, self.spans.len());
        let words = rows * self.words.answer;
        let header = [leaves as u32, rows as u32, words as u32, 0, 0, 0, 0, 0];
        let groups = |threads: usize| (threads as u32).div_ceil(THREADS);
        // Nodes are asked for where all that is below them is.
        let built = |level: usize| if width(leaves, level - 1) < FAN { 0 } else { groups(width(leaves, level)) };
        let workgroups = [built(1), built(2), built(3), built(LEVELS), groups(rows)];
        self.passes.send_chain(&Chain {
            header,
            columns: &[bytemuck::cast_slice(&self.leaves), bytemuck::cast_slice(&self.spans)],
            resident: None,
            words,
            scratch: nodes(leaves) * self.words.node,
            workgroups: &workgroups,
        })?;
        self.leaves.clear();
        self.spans.clear();
        Ok(())
    }

    /// The words of all answers, in the order of the spans.
    fn finish(mut self) -> Result<Vec<u32>, Error> {
        self.send()?;
        self.passes.finish()
    }
}

/// Nodes of a level over so many leaves.
fn width(leaves: usize, level: usize) -> usize {
    (0..level).fold(leaves, |below, _| below.div_ceil(FAN))
}

/// Nodes of all levels.
fn nodes(leaves: usize) -> usize {
    (1..=LEVELS).map(|level| width(leaves, level)).sum()
}

/// The numbers of all rows, key by key.
fn by_key(slots: &[u32]) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..slots.len() as u32).collect();
    rows.sort_by_key(|row| slots[*row as usize]);
    rows
}

/// The rows of each key, which is a slot.
fn keys<'a>(rows: &'a [u32], slots: &'a [u32]) -> impl Iterator<Item = (usize, &'a [u32])> {
    let keys = rows.chunk_by(|a, b| slots[*a as usize] == slots[*b as usize]);
    keys.map(|rows| (slots[rows[0] as usize] as usize, rows))
}

/// The last of a key's new rows that windows of this extent still hold when all have come.
fn left(extent: Extent, rows: &[u32]) -> &[u32] {
    match extent {
        Extent::Rows(most) => &rows[rows.len().saturating_sub(most as usize)..],
        Extent::Range(_) => rows,
    }
}
