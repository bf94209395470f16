//! Distinct values and quantiles in bounded memory per group: exact while a group is small, then by a sketch.
//!
//! A group keeps its values until they are many and is a sketch from then on, so that a million small groups take the room of
//! their values. Which of the two it is depends on its values alone, not on batches or the order of combining, and so does the
//! answer: sketches of parts merge to the sketch of the whole, bit for bit.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use thalweg_kernels::{DdHead, DdLayout, ddsketch_merge, ddsketch_update, hll_estimate, hll_merge, hll_update};

use super::super::table::{Table, Wanted, known};
use super::super::values::Values;
use super::super::{Function, unexpected};
use super::few::Few;
use crate::error::Result;
use crate::operator::keys::Slots;
use crate::state::{Reader, Writer, damaged};

/// Sketches of groups of many values, by number.
pub(crate) trait Sketches: Clone + Send + 'static {
    /// A value, or what stands for it.
    type Item: Copy + Default + PartialEq + Send;

    /// Most values that a group keeps as they are.
    const FEW: usize;

    /// Length of a list that is made shorter, or a sketch: more than there are values where some may be left out.
    const LIST: usize;

    /// No sketches, of the same kind.
    fn none(&self) -> Self;
    /// The input as items.
    fn items(values: &Values) -> &[Self::Item];
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

    /// Leaves out of a list what makes no difference.
    fn thin(values: &mut Vec<Self::Item>) {
        let _ = values;
    }
    /// The answers of a group of few values, which may be reordered, one after the other.
    fn exact(few: &mut Vec<Self::Item>, functions: &[&Function], answer: impl FnMut(Option<f64>));
    /// The same of a sketch.
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
    /// `many` is without sketches.
    pub fn boxed(input: usize, many: S) -> Box<dyn Table> {
        Box::new(Sketched { input, few: Few::new(), many, free: Vec::new(), numbers: Vec::new(), items: Vec::new(), thinned: Vec::new() })
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
        other.few.append_to(from, values);
        values.iter().for_each(|&item| self.add(into, item));
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
    }
}

impl<S: Sketches> Table for Sketched<S> {
    fn empty(&self) -> Box<dyn Table> {
        Sketched::boxed(self.input, self.many.none())
    }

    fn reserve(&mut self, groups: usize) {
        self.few.reserve(groups);
    }

    fn accumulate(&mut self, slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let input = &values[self.input];
        let rows = slots.iter().zip(S::items(input));
        match input.nulls() {
            None => rows.for_each(|(&slot, &item)| self.add(slot, item)),
            Some(nulls) => rows.zip(nulls.iter()).filter(|(_, valid)| *valid).for_each(|((&slot, &item), _)| self.add(slot, item)),
        }
        self.flush();
        Ok(())
    }

    fn combine(&mut self, from: &dyn Table) {
        let from = known::<Sketched<S>>(from);
        self.reserve(from.few.groups());
        let mut values = Vec::new();
        (0..from.few.groups() as u32).for_each(|slot| self.take(slot, from, slot, &mut values));
        self.flush();
    }

    fn place(&mut self, from: &dyn Table, slots: &[u32], groups: usize) {
        let from = known::<Sketched<S>>(from);
        self.clear_all();
        self.reserve(groups);
        let mut values = Vec::new();
        (0..from.few.groups() as u32).zip(slots).for_each(|(slot, &into)| self.take(into, from, slot, &mut values));
        self.flush();
    }

    fn gather(&mut self, from: &dyn Table, slots: &[u32]) {
        let from = known::<Sketched<S>>(from);
        self.clear_all();
        self.reserve(slots.len());
        let mut values = Vec::new();
        let known = (0u32..).zip(slots).filter(|(_, slot)| (**slot as usize) < from.few.groups());
        known.for_each(|(into, &slot)| self.take(into, from, slot, &mut values));
        self.flush();
    }

    fn copy(&mut self, from: &dyn Table) {
        let from = known::<Sketched<S>>(from);
        self.few.clone_from(&from.few);
        self.many.clone_from(&from.many);
        self.free.clone_from(&from.free);
    }

    fn merge(&mut self, into: u32, from: u32) {
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
            slots => slots.map(|slot| slot).into_iter().for_each(|slot| self.clear_one(slot)),
        }
    }

    fn finish(&self, wanted: &[Wanted<'_>], slots: &Slots<'_>) -> Result<Vec<ArrayRef>> {
        let functions: Vec<&Function> = wanted.iter().map(|(function, _)| *function).collect();
        let mut answers = vec![Vec::with_capacity(slots.len()); functions.len()];
        let mut values = Vec::new();
        slots.map(|slot| {
            let mut answers = answers.iter_mut();
            let answer = |value| answers.next().map_or((), |column| column.push(value));
            match self.few.replacement(slot) {
                Some(number) => self.many.estimate(number, &functions, answer),
                None => {
                    values.clear();
                    self.few.append_to(slot, &mut values);
                    S::thin(&mut values);
                    match values.len() > S::FEW {
                        true => {
                            let mut many = self.many.none();
                            many.push();
                            many.update(&vec![0; values.len()], &values);
                            many.estimate(0, &functions, answer);
                        }
                        false => S::exact(&mut values, &functions, answer),
                    }
                }
            }
        });
        Ok(answers.into_iter().map(S::column).collect())
    }

    fn bytes(&self) -> usize {
        let waiting = self.items.capacity() * size_of::<S::Item>() + self.numbers.capacity() * size_of::<u32>();
        self.few.bytes() + self.many.bytes() + waiting
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        if (slot as usize) >= self.few.groups() {
            out.words(&[0, 0]);
            return Ok(());
        }
        match self.few.replacement(slot) {
            Some(number) => {
                out.word(1);
                self.many.save(number, out);
            }
            None => {
                let mut values = Vec::new();
                self.few.append_to(slot, &mut values);
                out.words(&[0, values.len() as u64]);
                values.into_iter().for_each(|item| out.word(S::to_word(item)));
            }
        }
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
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

/// Registers of a group of many distinct values, as a power of two: a standard error of 1.6%.
const LG_REGISTERS: u32 = 12;

/// HyperLogLog: see [`thalweg_kernels::sketch::hll`].
#[derive(Clone, Default)]
pub(crate) struct Distinct {
    registers: Vec<u8>,
}

impl Distinct {
    fn registers(&self, number: u32) -> &[u8] {
        &self.registers[(number as usize) << LG_REGISTERS..][..1 << LG_REGISTERS]
    }

    fn registers_mut(&mut self, number: u32) -> &mut [u8] {
        &mut self.registers[(number as usize) << LG_REGISTERS..][..1 << LG_REGISTERS]
    }
}

impl Sketches for Distinct {
    /// A hash.
    type Item = u64;
    const FEW: usize = 64;
    const LIST: usize = 2 * Self::FEW;

    fn none(&self) -> Distinct {
        Distinct::default()
    }

    fn items(values: &Values) -> &[u64] {
        match values {
            Values::Hash(hashes) => hashes.values(),
            _ => unreachable!("distinct values are told by their hashes"),
        }
    }

    fn len(&self) -> usize {
        self.registers.len() >> LG_REGISTERS
    }

    fn push(&mut self) {
        self.registers.resize(self.registers.len() + (1 << LG_REGISTERS), 0);
    }

    fn update(&mut self, numbers: &[u32], hashes: &[u64]) {
        hll_update(&mut self.registers, LG_REGISTERS, numbers, hashes, None);
    }

    fn merge(&mut self, number: u32, from: &Distinct, other: u32) {
        hll_merge(self.registers_mut(number), from.registers(other));
    }

    fn clone_one(&self, number: u32) -> Distinct {
        Distinct { registers: self.registers(number).to_vec() }
    }

    fn clear(&mut self, number: u32) {
        self.registers_mut(number).fill(0);
    }

    fn bytes(&self) -> usize {
        self.registers.capacity()
    }

    fn thin(hashes: &mut Vec<u64>) {
        hashes.sort_unstable();
        hashes.dedup();
    }

    fn exact(few: &mut Vec<u64>, functions: &[&Function], mut answer: impl FnMut(Option<f64>)) {
        functions.iter().for_each(|_| answer(Some(few.len() as f64)));
    }

    fn estimate(&self, number: u32, functions: &[&Function], mut answer: impl FnMut(Option<f64>)) {
        let estimate = hll_estimate(self.registers(number)).round();
        functions.iter().for_each(|_| answer(Some(estimate)));
    }

    fn column(answers: Vec<Option<f64>>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(answers.into_iter().map(|answer| answer.unwrap_or(0.0) as i64)))
    }

    fn to_word(hash: u64) -> u64 {
        hash
    }

    fn from_word(word: u64) -> u64 {
        word
    }

    fn save(&self, number: u32, out: &mut Writer) {
        out.bytes(self.registers(number));
    }

    fn load(&mut self, number: u32, from: &mut Reader<'_>) -> Result<()> {
        let (registers, saved) = (self.registers_mut(number), from.bytes()?);
        if saved.len() != registers.len() {
            return Err(damaged("a sketch of distinct values is of another size"));
        }
        registers.copy_from_slice(saved);
        Ok(())
    }
}

/// DDSketch: see [`thalweg_kernels::sketch::ddsketch`].
#[derive(Clone)]
pub(crate) struct Quantiles {
    layout: DdLayout,
    heads: Vec<DdHead>,
    counts: Vec<u64>,
}

impl Quantiles {
    pub fn new(layout: DdLayout) -> Quantiles {
        Quantiles { layout, heads: Vec::new(), counts: Vec::new() }
    }

    fn counts(&self, number: u32) -> &[u64] {
        let width = self.layout.counts_per_group();
        &self.counts[number as usize * width..][..width]
    }

    fn counts_mut(&mut self, number: u32) -> &mut [u64] {
        let width = self.layout.counts_per_group();
        &mut self.counts[number as usize * width..][..width]
    }
}

impl Sketches for Quantiles {
    type Item = f64;
    const FEW: usize = 256;
    const LIST: usize = Self::FEW;

    fn none(&self) -> Quantiles {
        Quantiles::new(self.layout)
    }

    fn items(values: &Values) -> &[f64] {
        match values {
            Values::Float(array) => array.values(),
            _ => unreachable!("quantiles are of floats"),
        }
    }

    fn len(&self) -> usize {
        self.heads.len()
    }

    fn push(&mut self) {
        self.heads.push(DdHead::EMPTY);
        self.counts.resize(self.counts.len() + self.layout.counts_per_group(), 0);
    }

    fn update(&mut self, numbers: &[u32], values: &[f64]) {
        ddsketch_update(&self.layout, &mut self.heads, &mut self.counts, numbers, values, None);
    }

    fn merge(&mut self, number: u32, from: &Quantiles, other: u32) {
        let (layout, at, width) = (self.layout, number as usize, self.layout.counts_per_group());
        let counts = &mut self.counts[at * width..][..width];
        ddsketch_merge(&layout, &mut self.heads[at..=at], counts, std::slice::from_ref(&from.heads[other as usize]), from.counts(other));
    }

    fn clone_one(&self, number: u32) -> Quantiles {
        Quantiles { layout: self.layout, heads: vec![self.heads[number as usize]], counts: self.counts(number).to_vec() }
    }

    fn clear(&mut self, number: u32) {
        self.heads[number as usize] = DdHead::EMPTY;
        self.counts_mut(number).fill(0);
    }

    fn bytes(&self) -> usize {
        self.heads.capacity() * size_of::<DdHead>() + self.counts.capacity() * size_of::<u64>()
    }

    fn exact(few: &mut Vec<f64>, functions: &[&Function], mut answer: impl FnMut(Option<f64>)) {
        few.sort_unstable_by(|a, b| a.total_cmp(b));
        // The value of rank ⌊q (n − 1)⌋.
        functions.iter().for_each(|function| answer(few.len().checked_sub(1).map(|last| few[(part(function) * last as f64) as usize])));
    }

    fn estimate(&self, number: u32, functions: &[&Function], mut answer: impl FnMut(Option<f64>)) {
        let (head, counts) = (&self.heads[number as usize], self.counts(number));
        functions.iter().for_each(|function| answer(self.layout.quantile(head, counts, part(function))));
    }

    fn column(answers: Vec<Option<f64>>) -> ArrayRef {
        Arc::new(Float64Array::from(answers))
    }

    fn to_word(value: f64) -> u64 {
        value.to_bits()
    }

    fn from_word(word: u64) -> f64 {
        f64::from_bits(word)
    }

    fn save(&self, number: u32, out: &mut Writer) {
        out.words(&self.heads[number as usize].to_words());
        let filled: Vec<(usize, &u64)> = self.counts(number).iter().enumerate().filter(|(_, count)| **count > 0).collect();
        out.word(filled.len() as u64);
        filled.into_iter().for_each(|(bucket, count)| out.words(&[bucket as u64, *count]));
    }

    fn load(&mut self, number: u32, from: &mut Reader<'_>) -> Result<()> {
        self.heads[number as usize] = DdHead::from_words(from.words()?);
        for _ in 0..from.count(16)? {
            let [bucket, count] = from.words()?;
            let place = usize::try_from(bucket).ok().and_then(|bucket| self.counts_mut(number).get_mut(bucket));
            *place.ok_or_else(|| damaged("a sketch of quantiles is of another size"))? = count;
        }
        Ok(())
    }
}

fn part(function: &Function) -> f64 {
    match function {
        Function::Quantile { q, .. } => *q,
        other => unexpected(other),
    }
}
