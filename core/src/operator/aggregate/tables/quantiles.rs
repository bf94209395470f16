//! Quantile sketches of groups.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use thalweg_kernels::{DdHead, DdImage, DdLayout, ddsketch_fold, ddsketch_merge, ddsketch_to_image, ddsketch_update, quantiles_in_runs};

use super::super::values::Values;
use super::super::{Function, images, unexpected};
use super::log::Items;
use super::sketched::Sketches;
use crate::error::Result;
use crate::state::{Reader, Writer, damaged};

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
    type Image<'a> = DdImage;
    const FEW: usize = 256;
    const LISTS_OF_SKETCHES: bool = false;
    const LIST: usize = Self::FEW;

    fn none(&self) -> Quantiles {
        Quantiles::new(self.layout)
    }

    fn items(values: &Values) -> Cow<'_, [f64]> {
        match values {
            Values::Float(array) => Cow::Borrowed(array.values()),
            _ => unreachable!("quantiles are of floats"),
        }
    }

    fn append(rows: &Items, run: Range<usize>, to: &mut Vec<f64>) {
        to.extend_from_slice(&floats(rows)[run]);
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

    fn read(&self, image: &[u8], values: &mut Vec<f64>) -> Result<Option<DdImage>> {
        let image = images::quantiles(image, self.layout.alpha())?;
        Ok(if image.few(&self.layout, Self::FEW, values) { None } else { Some(image) })
    }

    fn merge_image(&mut self, number: u32, image: &DdImage) -> Result<()> {
        let (layout, at, width) = (self.layout, number as usize, self.layout.counts_per_group());
        image.merge_into(&layout, &mut self.heads[at], &mut self.counts[at * width..][..width]);
        Ok(())
    }

    fn write_few(&self, values: &[f64], image: &mut Vec<u8>) {
        let (mut head, mut counts) = (DdHead::EMPTY, vec![0; self.layout.counts_per_group()]);
        ddsketch_fold(&self.layout, &mut head, &mut counts, values, None);
        ddsketch_to_image(&self.layout, &head, &counts, image);
    }

    fn write(&self, number: u32, image: &mut Vec<u8>) {
        ddsketch_to_image(&self.layout, &self.heads[number as usize], self.counts(number), image);
    }

    fn exact(few: &mut Vec<f64>, functions: &[&Function], mut answer: impl FnMut(Option<f64>)) {
        few.sort_unstable_by(|a, b| a.total_cmp(b));
        // The value of rank ⌊q (n − 1)⌋.
        functions.iter().for_each(|function| answer(few.len().checked_sub(1).map(|last| few[(part(function) * last as f64) as usize])));
    }

    fn exact_runs(starts: &[u32], rows: &Items, functions: &[&Function]) -> Vec<ArrayRef> {
        let parts: Vec<f64> = functions.iter().map(|function| part(function)).collect();
        let groups = starts.len() - 1;
        let mut quantiles = vec![0.0; groups * parts.len()];
        quantiles_in_runs(starts, floats(rows), &parts, &mut quantiles);
        let filled = starts.windows(2).map(|run| run[0] < run[1]);
        // Most often all are, which is seen at once.
        let nulls = if filled.clone().fold(true, |all, filled| all & filled) { None } else { Some(NullBuffer::from_iter(filled)) };
        let quantiles = ScalarBuffer::from(quantiles);
        let column = |part: usize| -> ArrayRef { Arc::new(Float64Array::new(quantiles.slice(part * groups, groups), nulls.clone())) };
        (0..parts.len()).map(column).collect()
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

fn floats(rows: &Items) -> &[f64] {
    match rows {
        Items::Floats(floats) => floats,
        Items::Words(_) => unreachable!("quantiles are of floats"),
    }
}

fn part(function: &Function) -> f64 {
    match function {
        Function::Quantile { q, .. } | Function::MergeQuantile { q, .. } => *q,
        other => unexpected(other),
    }
}
