//! Distinct values and quantiles in bounded memory per group: exact while a group is small, then by a sketch.
//!
//! A group keeps its values until they are many and is a sketch from then on, so that a million small groups take the room of
//! their values. Which of the two it is depends on its values alone, not on batches or the order of combining, and so does the
//! answer: sketches of parts merge to the sketch of the whole, bit for bit.
//!
//! Sketches come out as a column of bytes and, of such a column, in again: the bytes of a small one are taken as its few values.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, LargeBinaryArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;

use super::super::Function;
use super::super::table::{Table, Wanted, known};
use super::super::values::Values;
use super::few::Few;
use super::log::{Items, Runs};
use crate::error::{Error, Result};
use crate::operator::keys::Slots;
use crate::state::{Reader, Writer};

/// Sketches of groups of many values, by number.
pub(crate) trait Sketches: Clone + Send + 'static {
    /// A value, or what stands for it.
    type Item: Copy + Default + PartialEq + Send;

    /// Most values that a group keeps as they are.
    const FEW: usize;

    /// Whether a list that sketches gave is answered as values are. Otherwise it is as the sketch that it stands for, which may tell
    /// less.
    const LISTS_OF_SKETCHES: bool;

    /// A sketch that was read from bytes.
    type Image<'a>;

    /// Length of a list that is made shorter, or a sketch: more than there are values where some may be left out.
    const LIST: usize;

    /// No sketches, of the same kind.
    fn none(&self) -> Self;
    /// The input as items.
    fn items(values: &Values) -> Cow<'_, [Self::Item]>;
    /// Appends the items of some rows that waited to `to`.
    fn append(rows: &Items, run: Range<usize>, to: &mut Vec<Self::Item>);
    /// How many sketches there are.
    fn len(&self) -> usize;
    /// Adds an empty one.
    fn push(&mut self);
    /// Takes items into the sketches `numbers`.
    fn update(&mut self, numbers: &[u32], items: &[Self::Item]);
    /// Merges sketch `other` of `from` into sketch `number`.
    fn merge(&mut self, number: u32, from: &Self, other: u32);
    /// A sketch by itself.
    fn clone_one(&self, number: u32) -> Self;
    /// Empties a sketch.
    fn clear(&mut self, number: u32);
    /// Bytes held.
    fn bytes(&self) -> usize;

    /// Reads a sketch: adds its values to `items` if they are few and all that it is, else gives it back.
    ///
    /// # Errors
    /// As [`images::distinct`](super::super::images::distinct) and its like.
    fn read<'a>(&self, image: &'a [u8], items: &mut Vec<Self::Item>) -> Result<Option<Self::Image<'a>>>;
    /// Merges it into sketch `number`.
    ///
    /// # Errors
    /// As [`Sketches::read`].
    fn merge_image(&mut self, number: u32, image: &Self::Image<'_>) -> Result<()>;
    /// Appends the bytes of a group of few values.
    fn write_few(&self, few: &[Self::Item], image: &mut Vec<u8>);
    /// The same of a sketch.
    fn write(&self, number: u32, image: &mut Vec<u8>);

    /// Leaves out of a list what makes no difference.
    fn thin(values: &mut Vec<Self::Item>) {
        let _ = values;
    }
    /// The answers of a group of few values, which may be reordered, one after the other.
    fn exact(few: &mut Vec<Self::Item>, functions: &[&Function], answer: impl FnMut(Option<f64>));
    /// The answers of groups of few values each, a column for each function: the rows of group `g` are
    /// `rows[starts[g]..starts[g + 1]]`.
    fn exact_runs(starts: &[u32], rows: &Items, functions: &[&Function]) -> Vec<ArrayRef>;
    /// The answers of a sketch.
    fn estimate(&self, number: u32, functions: &[&Function], answer: impl FnMut(Option<f64>));
    /// Answers as a column.
    fn column(answers: Vec<Option<f64>>) -> ArrayRef;

    /// An item as a number.
    fn to_word(item: Self::Item) -> u64;
    /// The item of a number.
    fn from_word(word: u64) -> Self::Item;
    /// Writes a sketch.
    fn save(&self, number: u32, out: &mut Writer);
    /// Fills an empty sketch with one that was written.
    fn load(&mut self, number: u32, from: &mut Reader<'_>) -> Result<()>;
}

/// A table of groups of one input.
pub(crate) struct Sketched<S: Sketches> {
    input: usize,
    /// Whether the input is sketches rather than values.
    of_sketches: bool,
    /// Groups that there is room for.
    groups: usize,
    /// Rows that waited; where there are any, all groups are empty but for them.
    runs: Option<Arc<Runs>>,
    /// Of the first groups; those behind are empty.
    few: Few<S::Item>,
    many: S,
    free: Vec<u32>,
    /// Rows of a batch that go into sketches.
    numbers: Vec<u32>,
    items: Vec<S::Item>,
    /// The values of one group.
    thinned: Vec<S::Item>,
}

impl<S: Sketches> Sketched<S> {
    /// Of values. `many` is without sketches.
    pub fn boxed(input: usize, many: S) -> Box<dyn Table> {
        Sketched::of(input, false, many)
    }

    /// Of sketches as bytes.
    pub fn merging(input: usize, many: S) -> Box<dyn Table> {
        Sketched::of(input, true, many)
    }

    fn of(input: usize, of_sketches: bool, many: S) -> Box<dyn Table> {
        Box::new(Sketched {
            input,
            of_sketches,
            groups: 0,
            runs: None,
            few: Few::new(),
            many,
            free: Vec::new(),
            numbers: Vec::new(),
            items: Vec::new(),
            thinned: Vec::new(),
        })
    }

    /// Makes lists of all groups, and takes the rows that waited into them.
    fn open_groups(&mut self) {
        self.few.reserve(self.groups);
        let Some(runs) = self.runs.take() else { return };
        let mut items = Vec::new();
        for slot in 0..runs.groups() as u32 {
            items.clear();
            S::append(runs.items(), runs.of(slot), &mut items);
            items.iter().for_each(|&item| self.add(slot, item));
        }
        self.flush();
    }

    /// The same of `groups` groups, or more.
    fn open(&mut self, groups: usize) {
        self.reserve(groups);
        self.open_groups();
    }

    #[inline]
    fn add(&mut self, slot: u32, item: S::Item) {
        if let Some(number) = self.few.replacement(slot) {
            self.numbers.push(number);
            self.items.push(item);
        } else if self.few.push(slot, item) > S::LIST {
            self.overflow(slot);
        }
    }

    /// Makes a list that is full shorter, or its group a sketch.
    #[cold]
    fn overflow(&mut self, slot: u32) {
        let mut values = std::mem::take(&mut self.thinned);
        values.clear();
        self.few.append_to(slot, &mut values);
        S::thin(&mut values);
        if values.len() > S::FEW {
            self.promote(slot);
        } else {
            self.few.clear(slot);
            values.iter().for_each(|&item| {
                self.few.push(slot, item);
            });
        }
        self.thinned = values;
    }

    /// The sketch of a group, which it becomes if it is none.
    fn promote(&mut self, slot: u32) -> u32 {
        if let Some(number) = self.few.replacement(slot) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.many.push();
            (self.many.len() - 1) as u32
        });
        self.few.append_to(slot, &mut self.items);
        self.numbers.resize(self.items.len(), number);
        self.few.replace(slot, number);
        number
    }

    /// Takes the rows into sketches that wait for it.
    fn flush(&mut self) {
        self.many.update(&self.numbers, &self.items);
        self.numbers.clear();
        self.items.clear();
    }

    /// Adds group `from` of another table to group `into`.
    fn take(&mut self, into: u32, other: &Sketched<S>, from: u32, values: &mut Vec<S::Item>) {
        if let Some(sketch) = other.few.replacement(from) {
            let number = self.promote(into);
            self.many.merge(number, &other.many, sketch);
            return;
        }
        values.clear();
        other.append_to(from, values);
        values.iter().for_each(|&item| self.add(into, item));
    }

    /// Appends the values of a group that is a list to `values`, in no order.
    fn append_to(&self, slot: u32, values: &mut Vec<S::Item>) {
        self.few.append_to(slot, values);
        if let Some(runs) = &self.runs {
            S::append(runs.items(), runs.of(slot), values);
        }
    }

    fn accumulate_sketches(&mut self, slots: &[u32], images: &LargeBinaryArray) -> Result<()> {
        let mut values = Vec::new();
        for (&slot, image) in slots.iter().zip(images).filter_map(|(slot, image)| Some((slot, image?))) {
            values.clear();
            match self.many.read(image, &mut values)? {
                None => values.iter().for_each(|&item| self.add(slot, item)),
                Some(sketch) => {
                    let number = self.promote(slot);
                    self.many.merge_image(number, &sketch)?;
                }
            }
        }
        Ok(())
    }

    /// What answers for the group in `slot`, whose values, if it is a list, come into `values`.
    fn state(&self, slot: u32, values: &mut Vec<S::Item>) -> State<'_, S> {
        values.clear();
        if let Some(number) = self.few.replacement(slot) {
            return State::Sketch(&self.many, number);
        }
        self.append_to(slot, values);
        S::thin(values);
        if values.len() <= S::FEW { State::List } else { State::Made(self.made(values)) }
    }

    /// A sketch of `values` by itself.
    fn made(&self, values: &[S::Item]) -> S {
        let mut many = self.many.none();
        many.push();
        many.update(&vec![0; values.len()], values);
        many
    }

    /// The numbers that are wanted, a column each.
    fn answers(&self, functions: &[&Function], slots: &Slots<'_>) -> Vec<ArrayRef> {
        if let Some(runs) = &self.runs
            && let Some(starts) = runs.short(slots, S::FEW)
        {
            return S::exact_runs(starts, runs.items(), functions);
        }
        let mut answers = vec![Vec::with_capacity(slots.len()); functions.len()];
        let mut values = Vec::new();
        for slot in slots.map(|slot| slot) {
            let mut answers = answers.iter_mut();
            let answer = |value| answers.next().map_or((), |column| column.push(value));
            match self.state(slot, &mut values) {
                State::Sketch(many, number) => many.estimate(number, functions, answer),
                State::Made(many) => many.estimate(0, functions, answer),
                State::List if self.of_sketches && !S::LISTS_OF_SKETCHES => self.made(&values).estimate(0, functions, answer),
                State::List => S::exact(&mut values, functions, answer),
            }
        }
        answers.into_iter().map(S::column).collect()
    }

    /// The sketches as bytes; null where there is no value.
    fn images(&self, slots: &Slots<'_>) -> Result<ArrayRef> {
        let (mut images, mut offsets, mut valid, mut values) = (Vec::new(), vec![0], Vec::with_capacity(slots.len()), Vec::new());
        for slot in slots.map(|slot| slot) {
            let state = self.state(slot, &mut values);
            valid.push(!matches!(state, State::List) || !values.is_empty());
            match state {
                State::Sketch(many, number) => many.write(number, &mut images),
                State::Made(many) => many.write(0, &mut images),
                State::List if values.is_empty() => {}
                State::List => self.many.write_few(&values, &mut images),
            }
            let end = i32::try_from(images.len());
            offsets.push(end.map_err(|_| Error::state("sketches of one batch of results take more than 2 GiB; ask for fewer groups"))?);
        }
        let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(Arc::new(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), images.into(), nulls)?))
    }

    fn clear_one(&mut self, slot: u32) {
        if let Some(number) = self.few.replacement(slot) {
            self.many.clear(number);
            self.free.push(number);
        }
        self.few.clear(slot);
    }

    fn clear_all(&mut self) {
        for slot in 0..self.few.groups() as u32 {
            if let Some(number) = self.few.replacement(slot) {
                self.many.clear(number);
                self.free.push(number);
            }
        }
        self.few.clear_all();
        self.runs = None;
    }
}

/// What answers for a group.
enum State<'a, S> {
    /// A few values.
    List,
    Sketch(&'a S, u32),
    /// A sketch of more values than are few.
    Made(S),
}

impl<S: Sketches> Table for Sketched<S> {
    fn empty(&self) -> Box<dyn Table> {
        Sketched::of(self.input, self.of_sketches, self.many.none())
    }

    fn reserve(&mut self, groups: usize) {
        self.groups = self.groups.max(groups);
    }

    fn accumulate(&mut self, slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let input = &values[self.input];
        self.open_groups();
        if self.of_sketches {
            self.accumulate_sketches(slots, input.as_whole().as_binary())?;
            self.flush();
            return Ok(());
        }
        let items = S::items(input);
        let rows = slots.iter().zip(items.iter());
        match input.nulls() {
            None => rows.for_each(|(&slot, &item)| self.add(slot, item)),
            Some(nulls) => rows.zip(nulls.iter()).filter(|(_, valid)| *valid).for_each(|((&slot, &item), _)| self.add(slot, item)),
        }
        self.flush();
        Ok(())
    }

    fn waits_for(&self) -> Option<usize> {
        (!self.of_sketches).then_some(self.input)
    }

    fn take_runs(&mut self, runs: &Arc<Runs>) {
        self.runs = Some(Arc::clone(runs));
    }

    fn combine(&mut self, from: &dyn Table) {
        let from = known::<Sketched<S>>(from);
        self.open(from.groups);
        let mut values = Vec::new();
        (0..from.groups as u32).for_each(|slot| self.take(slot, from, slot, &mut values));
        self.flush();
    }

    fn place(&mut self, from: &dyn Table, slots: &[u32], groups: usize) {
        let from = known::<Sketched<S>>(from);
        self.clear_all();
        self.open(groups);
        let mut values = Vec::new();
        (0..from.groups as u32).zip(slots).for_each(|(slot, &into)| self.take(into, from, slot, &mut values));
        self.flush();
    }

    fn gather(&mut self, from: &dyn Table, slots: &[u32]) {
        let from = known::<Sketched<S>>(from);
        self.clear_all();
        self.open(slots.len());
        let mut values = Vec::new();
        let known = (0u32..).zip(slots).filter(|(_, slot)| (**slot as usize) < from.groups);
        known.for_each(|(into, &slot)| self.take(into, from, slot, &mut values));
        self.flush();
    }

    fn copy(&mut self, from: &dyn Table) {
        let from = known::<Sketched<S>>(from);
        self.groups = from.groups;
        self.runs.clone_from(&from.runs);
        self.few.clone_from(&from.few);
        self.many.clone_from(&from.many);
        self.free.clone_from(&from.free);
    }

    fn merge(&mut self, into: u32, from: u32) {
        self.open_groups();
        if let Some(sketch) = self.few.replacement(from) {
            let number = self.promote(into);
            self.flush();
            let other = self.many.clone_one(sketch);
            self.many.merge(number, &other, 0);
        } else {
            let mut values = Vec::new();
            self.few.append_to(from, &mut values);
            values.into_iter().for_each(|item| self.add(into, item));
            self.flush();
        }
        self.clear_one(from);
    }

    fn clear(&mut self, slots: &Slots<'_>) {
        match slots {
            // A range from the start is that of all groups in use.
            Slots::Range(range) if range.start == 0 => self.clear_all(),
            slots => {
                self.open_groups();
                slots.map(|slot| slot).into_iter().for_each(|slot| self.clear_one(slot));
            }
        }
    }

    fn finish(&self, wanted: &[Wanted<'_>], slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        let is_number = |data_type: &DataType| *data_type != DataType::Binary;
        let functions: Vec<&Function> =
            wanted.iter().filter(|(_, data_type)| is_number(data_type)).map(|(function, _)| *function).collect();
        let images = if functions.len() < wanted.len() { Some(self.images(slots)?) } else { None };
        let mut numbers = if functions.is_empty() { Vec::new() } else { self.answers(&functions, slots) }.into_iter();
        let column = |(_, data_type): &Wanted<'_>| if is_number(data_type) { numbers.next() } else { images.clone() };
        Ok(wanted.iter().filter_map(column).collect())
    }

    fn bytes(&self) -> usize {
        let waiting = self.items.capacity() * size_of::<S::Item>() + self.numbers.capacity() * size_of::<u32>();
        self.runs.as_ref().map_or(0, Runs::share) + self.few.bytes() + self.many.bytes() + waiting
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        match self.few.replacement(slot) {
            Some(number) => {
                out.word(1);
                self.many.save(number, out);
            }
            None => {
                let mut values = Vec::new();
                self.append_to(slot, &mut values);
                out.words(&[0, values.len() as u64]);
                values.into_iter().for_each(|item| out.word(S::to_word(item)));
            }
        }
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.open_groups();
        if from.word()? == 1 {
            let number = self.promote(slot);
            return self.many.load(number, from);
        }
        for _ in 0..from.count(8)? {
            self.few.push(slot, S::from_word(from.word()?));
        }
        Ok(())
    }
}
