//! Records into columns: first as a repetition of the last record's spelling, else field by field.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch};
use thalweg_kernels::{Backend, Task, Text};

use super::column::Column;
use super::number::window;
use super::text::{plain, skip, space, word};
use crate::error::Result;

/// Columns being filled from records.
#[derive(Debug)]
pub(super) struct Records {
    columns: Vec<Column>,
    /// Each column's position by the field's name.
    names: HashMap<Box<[u8]>, usize>,
    rows: usize,
    template: Template,
    /// Where the values of the record at hand are, in its own order.
    places: Vec<Place>,
    scratch: Vec<u8>,
}

/// A value of a record: its start and end in the line and its column, if it has one.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    column: Option<usize>,
}

/// The spelling of a record: what stands between its values.
#[derive(Debug, Default)]
struct Template {
    slots: Vec<Slot>,
    /// The columns that the record lacks.
    absent: Vec<usize>,
    /// What follows the last value, with the line's end; empty until a record is known.
    tail: Literal,
}

#[derive(Debug, Default)]
struct Slot {
    before: Literal,
    column: Option<usize>,
}

/// Bytes to be compared with at once.
#[derive(Debug, Default)]
struct Literal {
    bytes: Vec<u8>,
    /// The bytes and ones for each of their bits, if there are at most sixteen.
    word: u128,
    mask: u128,
    is_short: bool,
}

impl Literal {
    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.is_short = bytes.len() <= 16;
        if self.is_short {
            let (mut word, mut mask) = ([0; 16], [0; 16]);
            word[..bytes.len()].copy_from_slice(bytes);
            mask[..bytes.len()].fill(0xFF);
            (self.word, self.mask) = (u128::from_le_bytes(word), u128::from_le_bytes(mask));
        }
    }

    /// The position after these bytes if they are at `at`.
    #[inline(always)]
    fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        let end = at + self.bytes.len();
        match window(text, at) {
            Some(window) if self.is_short => ((u128::from_le_bytes(*window) ^ self.word) & self.mask == 0).then_some(end),
            _ => text.get(at..)?.starts_with(&self.bytes).then_some(end),
        }
    }
}

impl Template {
    /// Takes the spelling of the record that `line` holds.
    fn learn(&mut self, line: &[u8], places: &[Place], absent: impl Iterator<Item = usize>) {
        self.slots.resize_with(places.len(), Slot::default);
        let mut start = 0;
        for (slot, place) in self.slots.iter_mut().zip(places) {
            slot.before.set(&line[start..place.start]);
            slot.column = place.column;
            start = place.end;
        }
        self.tail.set(&line[start..]);
        self.absent.clear();
        self.absent.extend(absent);
    }
}

/// [`Records::repeat`] by the processor's best instructions.
struct Repeat<'a> {
    records: &'a mut Records,
    text: &'a [u8],
    at: usize,
}

impl Task for Repeat<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<T: Text>(self, how: T) -> usize {
        let Repeat { records, text, mut at } = self;
        while let Some(end) = records.same(how, text, at) {
            records.rows += 1;
            at = end;
        }
        at
    }
}

/// [`Records::fields`] likewise.
struct Fields<'a> {
    records: &'a mut Records,
    line: &'a [u8],
}

impl Task for Fields<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<T: Text>(self, how: T) -> Option<()> {
        self.records.fields(how, self.line)
    }
}

impl Records {
    /// Rows for `columns`, of which `names` are the fields.
    pub(super) fn new(columns: Vec<Column>, names: impl Iterator<Item = Box<[u8]>>) -> Records {
        let names = names.enumerate().map(|(column, name)| (name, column)).collect();
        Records { columns, names, rows: 0, template: Template::default(), places: Vec::new(), scratch: Vec::new() }
    }

    /// Whole records so far.
    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds records for as long as they are spelled as the last one, from `at` on; returns where the first other line starts.
    pub(super) fn repeat(&mut self, text: &[u8], at: usize) -> usize {
        if self.template.tail.bytes.is_empty() {
            return at;
        }
        let at = Backend::active().run(Repeat { records: self, text, at });
        self.undo();
        at
    }

    /// Adds the record at `at` if it is spelled as the last one; returns the start of the next line.
    #[inline(always)]
    fn same<T: Text>(&mut self, how: T, text: &[u8], mut at: usize) -> Option<usize> {
        for slot in &self.template.slots {
            at = slot.before.end(text, at)?;
            at = match slot.column {
                Some(column) => self.columns[column].parse(how, text, at, &mut self.scratch)?,
                None => skip(text, at, &mut self.scratch)?,
            };
        }
        for &column in &self.template.absent {
            self.columns[column].push_null()?;
        }
        self.template.tail.end(text, at)
    }

    /// Adds the record that `line`, with its `\n`, holds and takes its spelling for the next ones.
    /// `None`, with nothing added, if arrow-json has to judge it.
    pub(super) fn add(&mut self, line: &[u8]) -> Option<()> {
        match Backend::active().run(Fields { records: self, line }) {
            Some(()) => {
                let rows = self.rows;
                let lacking = self.columns.iter().enumerate().filter(|(_, column)| column.len() == rows);
                self.template.learn(line, &self.places, lacking.map(|(index, _)| index));
                for &column in &self.template.absent {
                    if self.columns[column].push_null().is_none() {
                        self.undo();
                        return None;
                    }
                }
                self.rows += 1;
                Some(())
            }
            None => {
                self.undo();
                None
            }
        }
    }

    /// Parses the fields of `line` in any order into their columns.
    #[inline(always)]
    fn fields<T: Text>(&mut self, how: T, line: &[u8]) -> Option<()> {
        self.places.clear();
        let mut at = space(line, word(line, space(line, 0), b"{")?);
        if *line.get(at)? == b'}' {
            return (line[space(line, at + 1)..] == *b"\n").then_some(());
        }
        loop {
            let (name, end) = plain(line, word(line, at, b"\"")?)?;
            let start = space(line, word(line, space(line, end), b":")?);
            let column = self.names.get(name).copied();
            let end = match column {
                // arrow-json takes the last of several fields of one name and does not look at the others.
                Some(column) if self.columns[column].len() > self.rows => return None,
                Some(column) => self.columns[column].parse(how, line, start, &mut self.scratch)?,
                None => skip(line, start, &mut self.scratch)?,
            };
            self.places.push(Place { start, end, column });
            at = space(line, end);
            match line.get(at)? {
                b',' => at = space(line, at + 1),
                b'}' => return (line[space(line, at + 1)..] == *b"\n").then_some(()),
                _ => return None,
            }
        }
    }

    /// Adds the row that arrow-json made of a line; `None`, with nothing added, if its text does not fit any more.
    pub(super) fn add_row(&mut self, row: &RecordBatch) -> Option<()> {
        for (column, array) in self.columns.iter_mut().zip(row.columns()) {
            if column.push_row(array).is_none() {
                self.undo();
                return None;
            }
        }
        self.rows += 1;
        Some(())
    }

    /// Drops what was parsed of an unfinished record.
    fn undo(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// The rows as arrays; the columns start again.
    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.columns.iter_mut().map(Column::finish).collect()
    }
}
