//! Distinct values and quantiles in bounded memory per group: exact while a group is small, then by a sketch.
//!
//! A group keeps its values until they are many and is a sketch from then on, so that a million small groups take the room of
//! their values. Which of the two it is depends on its values alone, not on batches or the order of combining, and so does the
//! answer: sketches of parts merge to the sketch of the whole, bit for bit.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use thalweg_kernels::{DdHead, DdLayout, ddsketch_fold, ddsketch_merge, hll_estimate, hll_fold, hll_merge};

use super::super::groups::by_group;
use super::super::table::CellKind;
use super::super::values::Values;
use super::super::{Function, unexpected};
use crate::error::Result;

/// A sketch of the values of one group.
pub(crate) trait Sketch: Clone + Send + 'static {
    /// A value, or what stands for it.
    type Item: Copy + Send;
    /// The sketch of many values.
    type Many: Clone + Send;

    /// Most values that a group keeps as they are.
    const FEW: usize;

    /// The input as items.
    fn items(values: &Values) -> &[Self::Item];
    /// Adds an item to those that are kept, if it makes a difference.
    fn keep(few: &mut Vec<Self::Item>, item: Self::Item);
    /// No values.
    fn many(&self) -> Self::Many;
    /// Takes values into a sketch.
    fn fold(&self, many: &mut Self::Many, items: &[Self::Item]);
    /// Merges two sketches.
    fn merge(&self, into: &mut Self::Many, from: &Self::Many);
    /// Empties a sketch.
    fn clear(&self, many: &mut Self::Many);
    /// Bytes of a sketch.
    fn bytes(&self) -> usize;
    /// Results of groups.
    fn finish(&self, function: &Function, groups: &[&Group<Self>]) -> ArrayRef;
}

/// The values of one group.
pub(crate) struct Group<S: Sketch> {
    few: Vec<S::Item>,
    /// Holds all values once it is in use, and is kept for reuse when it is not.
    many: Option<Box<S::Many>>,
    in_use: bool,
}

impl<S: Sketch> Clone for Group<S> {
    fn clone(&self) -> Self {
        let many = self.many.as_ref().filter(|_| self.in_use).cloned();
        Group { few: self.few.clone(), many, in_use: self.in_use }
    }

    fn clone_from(&mut self, from: &Self) {
        self.few.clone_from(&from.few);
        self.in_use = from.in_use;
        match (&mut self.many, from.many.as_ref().filter(|_| from.in_use)) {
            (Some(into), Some(from)) => (**into).clone_from(from),
            (into, Some(from)) => *into = Some(from.clone()),
            (_, None) => self.in_use = false,
        }
        if !self.in_use {
            self.many = None;
        }
    }
}

/// A table of sketches of one input.
#[derive(Clone)]
pub(crate) struct Sketched<S> {
    pub input: usize,
    pub sketch: S,
}

impl<S: Sketch> Sketched<S> {
    fn add(&self, group: &mut Group<S>, items: &[S::Item]) {
        let mut rest = items;
        while let (false, Some((&item, others))) = (group.in_use, rest.split_first()) {
            S::keep(&mut group.few, item);
            rest = others;
            if group.few.len() > S::FEW {
                self.promote(group);
            }
        }
        if let (Some(many), false) = (&mut group.many, rest.is_empty()) {
            self.sketch.fold(many, rest);
        }
    }

    fn promote(&self, group: &mut Group<S>) {
        group.in_use = true;
        let many = group.many.get_or_insert_with(|| Box::new(self.sketch.many()));
        self.sketch.fold(many, &group.few);
        group.few.clear();
    }
}

impl<S: Sketch> CellKind for Sketched<S> {
    type Cell = Group<S>;

    fn empty(&self) -> Group<S> {
        Group { few: Vec::new(), many: None, in_use: false }
    }

    fn accumulate(&self, cells: &mut [Group<S>], slots: &[u32], values: &[Values], _: u64) -> Result<()> {
        let input = &values[self.input];
        by_group(slots, S::items(input), input.nulls().as_ref(), cells.len(), |slot, items| self.add(&mut cells[slot], items));
        Ok(())
    }

    fn combine(&self, into: &mut [Group<S>], from: &[Group<S>]) {
        for (into, from) in into.iter_mut().zip(from) {
            match &from.many {
                Some(many) if from.in_use => {
                    if !into.in_use {
                        self.promote(into);
                    }
                    if let Some(into) = &mut into.many {
                        self.sketch.merge(into, many);
                    }
                }
                _ => self.add(into, &from.few),
            }
        }
    }

    fn clear(&self, group: &mut Group<S>) {
        group.few.clear();
        if let (true, Some(many)) = (group.in_use, &mut group.many) {
            self.sketch.clear(many);
        }
        group.in_use = false;
    }

    fn finish(&self, function: &Function, _: &DataType, cells: &[&Group<S>]) -> Result<ArrayRef> {
        Ok(self.sketch.finish(function, cells))
    }

    fn bytes(&self, group: &Group<S>) -> usize {
        let many = if group.many.is_some() { self.sketch.bytes() } else { 0 };
        group.few.capacity() * size_of::<S::Item>() + many
    }
}

/// Registers of a group of many distinct values, as a power of two: a standard error of 1.6%.
const LG_REGISTERS: u32 = 12;

/// HyperLogLog: see [`thalweg_kernels::sketch::hll`].
#[derive(Clone)]
pub(crate) struct Distinct;

impl Sketch for Distinct {
    /// A hash.
    type Item = u64;
    type Many = Vec<u8>;
    const FEW: usize = 64;

    fn items(values: &Values) -> &[u64] {
        match values {
            Values::Hash(hashes) => hashes.values(),
            _ => unreachable!("distinct values are told by their hashes"),
        }
    }

    fn keep(few: &mut Vec<u64>, hash: u64) {
        if !few.contains(&hash) {
            few.push(hash);
        }
    }

    fn many(&self) -> Vec<u8> {
        vec![0; 1 << LG_REGISTERS]
    }

    fn fold(&self, registers: &mut Vec<u8>, hashes: &[u64]) {
        hll_fold(registers, hashes, None);
    }

    fn merge(&self, into: &mut Vec<u8>, from: &Vec<u8>) {
        hll_merge(into, from);
    }

    fn clear(&self, registers: &mut Vec<u8>) {
        registers.fill(0);
    }

    fn bytes(&self) -> usize {
        1 << LG_REGISTERS
    }

    fn finish(&self, _: &Function, groups: &[&Group<Distinct>]) -> ArrayRef {
        let count = |group: &&Group<Distinct>| match &group.many {
            Some(registers) if group.in_use => hll_estimate(registers).round() as i64,
            _ => group.few.len() as i64,
        };
        Arc::new(Int64Array::from_iter_values(groups.iter().map(count)))
    }
}

/// DDSketch: see [`thalweg_kernels::sketch::ddsketch`].
#[derive(Clone)]
pub(crate) struct Quantiles {
    pub layout: DdLayout,
}

/// A group of many values.
type Buckets = (DdHead, Vec<u64>);

impl Sketch for Quantiles {
    type Item = f64;
    type Many = Buckets;
    const FEW: usize = 256;

    fn items(values: &Values) -> &[f64] {
        match values {
            Values::Float(array) => array.values(),
            _ => unreachable!("quantiles are of floats"),
        }
    }

    fn keep(few: &mut Vec<f64>, value: f64) {
        few.push(value);
    }

    fn many(&self) -> Buckets {
        (DdHead::EMPTY, vec![0; self.layout.counts_per_group()])
    }

    fn fold(&self, (head, counts): &mut Buckets, values: &[f64]) {
        ddsketch_fold(&self.layout, head, counts, values, None);
    }

    fn merge(&self, into: &mut Buckets, from: &Buckets) {
        ddsketch_merge(&self.layout, std::slice::from_mut(&mut into.0), &mut into.1, std::slice::from_ref(&from.0), &from.1);
    }

    fn clear(&self, (head, counts): &mut Buckets) {
        *head = DdHead::EMPTY;
        counts.fill(0);
    }

    fn bytes(&self) -> usize {
        size_of::<Buckets>() + self.layout.counts_per_group() * size_of::<u64>()
    }

    fn finish(&self, function: &Function, groups: &[&Group<Quantiles>]) -> ArrayRef {
        let Function::Quantile { q, .. } = function else { unexpected(function) };
        let mut values = Vec::new();
        let mut quantile = |group: &&Group<Quantiles>| match &group.many {
            Some(many) if group.in_use => self.layout.quantile(&many.0, &many.1, *q),
            _ => {
                values.clone_from(&group.few);
                exact_quantile(&mut values, *q)
            }
        };
        Arc::new(Float64Array::from_iter(groups.iter().map(&mut quantile)))
    }
}

/// The value of rank ⌊q (n − 1)⌋ of `n` values, NaN being the greatest.
fn exact_quantile(values: &mut [f64], q: f64) -> Option<f64> {
    let rank = (q * values.len().checked_sub(1)? as f64) as usize;
    let order = |a: &f64, b: &f64| a.is_nan().cmp(&b.is_nan()).then_with(|| a.total_cmp(b));
    Some(*values.select_nth_unstable_by(rank, order).1)
}
