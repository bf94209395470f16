//! HyperLogLog sketches of the distinct values of groups.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use thalweg_kernels::sketch::hll::MAX_VALUE;
use thalweg_kernels::{
    HllImage, MAX_COUPONS, distinct_floats_in_runs, distinct_in_runs, hash_f64, hll_coupons_to_datasketches, hll_estimate, hll_merge,
    hll_to_datasketches, hll_update,
};

use super::super::Function;
use super::super::images::{self, LG_REGISTERS};
use super::super::values::{DISTINCT, Values};
use super::log::Items;
use super::sketched::Sketches;
use crate::error::Result;
use crate::state::{Reader, Writer, damaged};

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
    type Image<'a> = HllImage<'a>;
    const FEW: usize = MAX_COUPONS;
    const LISTS_OF_SKETCHES: bool = true;
    const LIST: usize = 2 * Self::FEW;

    fn none(&self) -> Distinct {
        Distinct::default()
    }

    fn items(values: &Values) -> Cow<'_, [u64]> {
        match values {
            Values::Hash(hashes) => Cow::Borrowed(hashes.values()),
            Values::Float(floats) => {
                let mut hashes = vec![0; floats.values().len()];
                hash_f64(floats.values(), DISTINCT, &mut hashes);
                Cow::Owned(hashes)
            }
            _ => unreachable!("distinct values are told by their hashes"),
        }
    }

    fn append(rows: &Items, run: Range<usize>, to: &mut Vec<u64>) {
        match rows {
            Items::Words(hashes) => to.extend_from_slice(&hashes[run]),
            Items::Floats(floats) => {
                let start = to.len();
                to.resize(start + run.len(), 0);
                hash_f64(&floats[run], DISTINCT, &mut to[start..]);
            }
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

    fn read<'a>(&self, image: &'a [u8], hashes: &mut Vec<u64>) -> Result<Option<HllImage<'a>>> {
        let image = images::distinct(image)?;
        match image.coupons() {
            Some(coupons) => hashes.extend(coupons),
            None if image.is_empty() => {}
            None => return Ok(Some(image)),
        }
        Ok(None)
    }

    fn merge_image(&mut self, number: u32, image: &HllImage<'_>) -> Result<()> {
        image.merge_into(self.registers_mut(number)).map_err(images::other_precision)
    }

    fn write_few(&self, hashes: &[u64], image: &mut Vec<u8>) {
        hll_coupons_to_datasketches(LG_REGISTERS, hashes, image);
    }

    fn write(&self, number: u32, image: &mut Vec<u8>) {
        hll_to_datasketches(self.registers(number), image);
    }

    fn thin(hashes: &mut Vec<u64>) {
        hashes.sort_unstable();
        hashes.dedup();
    }

    fn exact(few: &mut Vec<u64>, functions: &[&Function], mut answer: impl FnMut(Option<f64>)) {
        functions.iter().for_each(|_| answer(Some(few.len() as f64)));
    }

    fn exact_runs(starts: &[u32], rows: &Items, functions: &[&Function]) -> Vec<ArrayRef> {
        let mut counts = vec![0; starts.len() - 1];
        match rows {
            Items::Words(hashes) => distinct_in_runs(starts, hashes, &mut counts),
            // Equal exactly if their hashes are.
            Items::Floats(floats) => distinct_floats_in_runs(starts, floats, &mut counts),
        }
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(counts.into_iter().map(i64::from)));
        functions.iter().map(|_| Arc::clone(&column)).collect()
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
        if saved.len() != registers.len() || saved.iter().any(|&value| value > MAX_VALUE) {
            return Err(damaged("a sketch of distinct values is of another size"));
        }
        registers.copy_from_slice(saved);
        Ok(())
    }
}
