//! A group's sketch as bytes: the published protobuf of DDSketch, written and read by hand.
//!
//! The schema is `DDSketch.proto` of sketches-go and sketches-java, <https://github.com/DataDog/sketches-go>, whose readers get the
//! buckets and answer within the same alpha: theirs is the same mapping of this base and offset. Everything is little-endian.
//!
//! | field | type | holds |
//! |---|---|---|
//! | 1 `mapping` | message | 1 `gamma`, double: 2^(1 / density); 2 `indexOffset`, double: 0.5, since buckets are rounded to; 3 `interpolation`: 3, cubic |
//! | 2 `positiveValues`, 3 `negativeValues` | `Store`; left out if empty | counts of buckets, as doubles |
//! | 4 `zeroCount` | double | values counted as 0 |
//! | 1000 | message, which other readers skip | 1 version: 1; 2 alpha, double; 3 and 4 how many values were +∞ and −∞; 5 NaN; 6 and 7 whether positive and negative ones collapsed |
//!
//! A `Store` is field 2, `contiguousBinCounts` from the bucket `contiguousBinIndexOffset` (3) on, if two thirds of the buckets between the
//! lowest and the highest have a count, else field 1, a `binCounts` entry for each that has, ascending. Numbers that are 0 are left out.
//! A group has one image, whatever way its values came together. It takes some 13 bytes for each bucket in use, or 8, and 60: at most
//! 22 KiB for 1,024 buckets of each sign.
//!
//! Counts above 2^53, which a double cannot tell apart, are written as 2^53.

use std::fmt;
use std::ops::RangeInclusive;

use super::{DdHead, DdLayout, NO_TOP};
use crate::scalar::sketch::ddsketch::advance;

const VERSION: u64 = 1;

/// Numbers of the fields of `DDSketch`.
const MAPPING: u64 = 1;
const STORES: [u64; 2] = [2, 3];
const ZERO_COUNT: u64 = 4;
const EXTENSION: u64 = 1_000;

/// The mapping that interpolates by a cubic.
const CUBIC: u64 = 3;
const INDEX_OFFSET: f64 = 0.5;

/// Bases that differ by less are of one alpha: logarithms of other machines may differ in their last bits.
const SAME_GAMMA: f64 = 1e-9;

/// Greatest whole number up to which a double tells all.
const MAX_COUNT: u64 = 1 << 53;

/// Bytes are not those of a sketch that [`DdImage`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DdImageError {
    /// They end within a field, or hold one that is no protobuf.
    Malformed,
    /// They are a protobuf without the fields of a DDSketch of ours, or of a mapping that is not its.
    Foreign,
    /// They are of a later version.
    Version(u64),
    /// A count is not a whole number from 0 to 2^53.
    Count,
    /// A bucket is one that no value falls into.
    Bucket(i64),
}

impl fmt::Display for DdImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not a DDSketch: the bytes are cut short or no protobuf"),
            Self::Foreign => f.write_str("not a DDSketch of this library: its mapping of values to buckets is another"),
            Self::Version(version) => {
                write!(f, "a DDSketch of version {version}, which is later than {VERSION}: read it with a later release")
            }
            Self::Count => f.write_str("not a DDSketch: a count is not a whole number from 0 to 2^53"),
            Self::Bucket(bucket) => write!(f, "not a DDSketch: no value falls into bucket {bucket}"),
        }
    }
}

impl std::error::Error for DdImageError {}

/// Appends the image of one group to `image`. `counts` is the group's row.
///
/// # Panics
/// If `counts` is not the row of one group.
pub fn ddsketch_to_image(layout: &DdLayout, head: &DdHead, counts: &[u64], image: &mut Vec<u8>) {
    crate::aggregate::check_lengths("counters of a group and its row", layout.counts_per_group(), counts.len());
    put_message(MAPPING, image, |mapping| {
        put_double(1, gamma(layout), mapping);
        put_double(2, INDEX_OFFSET, mapping);
        put_number(3, CUBIC, mapping);
    });
    for (side, window) in counts.chunks_exact(layout.buckets()).enumerate() {
        let count = |bucket: i32| window[layout.place(bucket)];
        let used: Vec<i32> = layout.window(head.tops[side]).filter(|&bucket| count(bucket) > 0).collect();
        if let (Some(&first), Some(&last)) = (used.first(), used.last()) {
            put_message(STORES[side], image, |store| put_store(first..=last, &used, count, store));
        }
    }
    put_double(ZERO_COUNT, double(head.zero), image);
    put_message(EXTENSION, image, |extension| {
        put_number(1, VERSION, extension);
        put_double(2, layout.alpha(), extension);
        let [positive, negative] = head.infinite;
        let counts = [positive, negative, head.nan].map(|count| count.min(MAX_COUNT));
        let numbers = counts.into_iter().chain(head.collapsed.map(u64::from));
        (3..).zip(numbers).for_each(|(field, number)| put_number(field, number, extension));
    });
}

fn put_store(range: RangeInclusive<i32>, used: &[i32], count: impl Fn(i32) -> u64, store: &mut Vec<u8>) {
    let len = (range.end() - range.start() + 1) as usize;
    if 3 * used.len() < 2 * len {
        for &bucket in used {
            put_message(1, store, |entry| {
                put_number(1, zigzag(bucket), entry);
                put_double(2, double(count(bucket)), entry);
            });
        }
        return;
    }
    let start = zigzag(*range.start());
    put_message(2, store, |packed| packed.extend(range.flat_map(|bucket| double(count(bucket)).to_le_bytes())));
    put_number(3, start, store);
}

/// The base of the mapping: the factor between the bounds of a bucket, if the logarithm were exact.
fn gamma(layout: &DdLayout) -> f64 {
    (1.0 / layout.density).exp2()
}

fn double(count: u64) -> f64 {
    count.min(MAX_COUNT) as f64
}

/// Signed numbers with the small ones of both signs first, as protobuf's `sint32`.
fn zigzag(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)) as u32)
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A field that is a varint, unless it is 0.
fn put_number(field: u64, number: u64, out: &mut Vec<u8>) {
    if number > 0 {
        put_varint(field << 3, out);
        put_varint(number, out);
    }
}

/// A field that is a double, unless it is 0.
fn put_double(field: u64, number: f64, out: &mut Vec<u8>) {
    if number != 0.0 {
        put_varint(field << 3 | 1, out);
        out.extend(number.to_le_bytes());
    }
}

fn put_message(field: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    write(&mut message);
    put_varint(field << 3 | 2, out);
    put_varint(message.len() as u64, out);
    out.extend(message);
}

/// A sketch that was read from its image.
#[derive(Clone, Debug)]
pub struct DdImage {
    alpha: f64,
    /// What it holds beside buckets; without tops.
    head: DdHead,
    /// Buckets and their counts, none of them 0.
    bins: [Vec<(i32, u64)>; 2],
}

impl DdImage {
    /// Reads an image.
    ///
    /// # Errors
    /// [`DdImageError`] if it is not one.
    pub fn new(image: &[u8]) -> Result<Self, DdImageError> {
        let (mut mapping, mut extension) = (Mapping::default(), Extension::default());
        let (mut stores, mut zero) = (<[Vec<(i64, f64)>; 2]>::default(), 0.0);
        for field in Fields(image) {
            match field? {
                (MAPPING, Wire::Bytes(bytes)) => mapping.read(bytes)?,
                (field, Wire::Bytes(bytes)) if STORES.contains(&field) => read_store(bytes, &mut stores[usize::from(field == STORES[1])])?,
                (ZERO_COUNT, Wire::Fixed(bits)) => zero = f64::from_bits(bits),
                (EXTENSION, Wire::Bytes(bytes)) => extension.read(bytes)?,
                _ => {}
            }
        }
        if extension.version > VERSION {
            return Err(DdImageError::Version(extension.version));
        }
        let ours = extension.version == VERSION && (1e-5..=0.5).contains(&extension.alpha);
        if !ours || mapping.interpolation != CUBIC || mapping.offset != INDEX_OFFSET {
            return Err(DdImageError::Foreign);
        }
        let layout = DdLayout::new(extension.alpha, 16);
        let same = (mapping.gamma - gamma(&layout)).abs() <= SAME_GAMMA;
        if !same {
            return Err(DdImageError::Foreign);
        }
        let known = i64::from(layout.bucket(f64::MIN_POSITIVE))..=i64::from(layout.bucket(f64::MAX));
        let mut bins = <[Vec<(i32, u64)>; 2]>::default();
        for (bins, store) in bins.iter_mut().zip(stores) {
            *bins = store.into_iter().map(|(bucket, count)| bin(&known, bucket, count)).collect::<Result<_, _>>()?;
            bins.retain(|(_, count)| *count > 0);
        }
        let [positive, negative, nan, ..] = extension.numbers;
        if [positive, negative, nan].iter().any(|count| *count > MAX_COUNT) {
            return Err(DdImageError::Count);
        }
        let collapsed = [extension.numbers[3], extension.numbers[4]].map(|number| u32::from(number > 0));
        let head = DdHead { collapsed, infinite: [positive, negative], zero: whole(zero)?, nan, ..DdHead::EMPTY };
        Ok(Self { alpha: extension.alpha, head, bins })
    }

    /// Bound of the relative error: that of the layout which it can be merged into.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// How many values it took.
    pub fn count(&self) -> u64 {
        let counts = self.bins.iter().flatten().map(|(_, count)| count).chain(&self.head.infinite);
        counts.chain([&self.head.zero, &self.head.nan]).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Appends to `values` one value for each that it took, of the same bucket, if they are at most `most` and tell all that it
    /// holds; returns whether.
    pub fn few(&self, layout: &DdLayout, most: usize, values: &mut Vec<f64>) -> bool {
        let start = values.len();
        if self.head.collapsed() || self.count() > most as u64 {
            return false;
        }
        for (sign, bins) in [1.0, -1.0].into_iter().zip(&self.bins) {
            for &(bucket, count) in bins {
                let value = layout.value(bucket);
                // The bucket of the least numbers may hold less than it promises.
                if layout.bucket(value) != bucket {
                    values.truncate(start);
                    return false;
                }
                values.extend(std::iter::repeat_n(sign * value, count as usize));
            }
        }
        let [positive, negative] = self.head.infinite;
        let others = [(f64::INFINITY, positive), (f64::NEG_INFINITY, negative), (0.0, self.head.zero), (f64::NAN, self.head.nan)];
        others.into_iter().for_each(|(value, count)| values.extend(std::iter::repeat_n(value, count as usize)));
        true
    }

    /// Merges it into one group, whose row `counts` is.
    ///
    /// # Panics
    /// If `counts` is not the row of one group, or `layout` is of another alpha.
    pub fn merge_into(&self, layout: &DdLayout, head: &mut DdHead, counts: &mut [u64]) {
        crate::aggregate::check_lengths("counters of a group and its row", layout.counts_per_group(), counts.len());
        assert!(layout.alpha() == self.alpha, "a sketch within {} cannot be merged into one within {}", self.alpha, layout.alpha());
        head.zero = head.zero.wrapping_add(self.head.zero);
        head.nan = head.nan.wrapping_add(self.head.nan);
        for (side, window) in counts.chunks_exact_mut(layout.buckets()).enumerate() {
            head.infinite[side] = head.infinite[side].wrapping_add(self.head.infinite[side]);
            head.collapsed[side] |= self.head.collapsed[side];
            let Some(top) = self.bins[side].iter().map(|(bucket, _)| *bucket).max() else { continue };
            if head.tops[side] == NO_TOP {
                head.tops[side] = top;
            } else if head.tops[side] < top {
                head.collapsed[side] |= u32::from(advance(layout, &mut head.tops[side], window, top));
            }
            let lowest = head.tops[side] - layout.buckets() as i32 + 1;
            for &(bucket, count) in &self.bins[side] {
                head.collapsed[side] |= u32::from(bucket < lowest);
                let counter = &mut window[layout.place(bucket.max(lowest))];
                *counter = counter.wrapping_add(count);
            }
        }
    }

    /// Value of rank ⌊q (n − 1)⌋ of the n values that it took, within [`Self::alpha`]; `None` of none.
    ///
    /// # Panics
    /// If `q` is not in 0..=1.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let spans = self.bins.iter().filter_map(|bins| {
            let buckets = || bins.iter().map(|(bucket, _)| *bucket);
            Some(buckets().max()?.abs_diff(buckets().min()?) as usize + 1)
        });
        // As wide as it needs, so that nothing collapses that has not before.
        let buckets = spans.max().unwrap_or(1).next_power_of_two().clamp(16, 65_536);
        let layout = DdLayout::new(self.alpha, buckets);
        let (mut head, mut counts) = (DdHead::EMPTY, vec![0; layout.counts_per_group()]);
        self.merge_into(&layout, &mut head, &mut counts);
        layout.quantile(&head, &counts, q)
    }
}

/// A bucket that values fall into, of those that are known, and its count.
fn bin(known: &RangeInclusive<i64>, bucket: i64, count: f64) -> Result<(i32, u64), DdImageError> {
    match known.contains(&bucket) {
        true => Ok((bucket as i32, whole(count)?)),
        false => Err(DdImageError::Bucket(bucket)),
    }
}

fn whole(count: f64) -> Result<u64, DdImageError> {
    let is_whole = (0.0..=MAX_COUNT as f64).contains(&count) && count.fract() == 0.0;
    if is_whole { Ok(count as u64) } else { Err(DdImageError::Count) }
}

/// What a field holds.
enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Four bytes, which no field of ours is.
    Word,
}

/// The fields of a message, by number; ends after an error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Wire::Word)?,
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), DdImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(DdImageError::Malformed))
    }
}

#[derive(Default)]
struct Mapping {
    gamma: f64,
    offset: f64,
    interpolation: u64,
}

impl Mapping {
    fn read(&mut self, bytes: &[u8]) -> Result<(), DdImageError> {
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Fixed(bits)) => self.gamma = f64::from_bits(bits),
                (2, Wire::Fixed(bits)) => self.offset = f64::from_bits(bits),
                (3, Wire::Varint(number)) => self.interpolation = number,
                _ => {}
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Extension {
    version: u64,
    alpha: f64,
    /// Fields 3 to 7.
    numbers: [u64; 5],
}

impl Extension {
    fn read(&mut self, bytes: &[u8]) -> Result<(), DdImageError> {
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Varint(number)) => self.version = number,
                (2, Wire::Fixed(bits)) => self.alpha = f64::from_bits(bits),
                (field @ 3..=7, Wire::Varint(number)) => self.numbers[field as usize - 3] = number,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Adds the bins of a store, whose fields may come in any order.
fn read_store(bytes: &[u8], bins: &mut Vec<(i64, f64)>) -> Result<(), DdImageError> {
    let (mut contiguous, mut offset) = (Vec::new(), 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => bins.push(read_bin(bytes)?),
            (2, Wire::Fixed(bits)) => contiguous.push(f64::from_bits(bits)),
            (2, Wire::Bytes(bytes)) => {
                let (words, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(DdImageError::Malformed);
                }
                contiguous.extend(words.iter().map(|word| f64::from_le_bytes(*word)));
            }
            (3, Wire::Varint(number)) => offset = signed(number),
            _ => {}
        }
    }
    bins.extend((offset..).zip(contiguous).filter(|(_, count)| *count != 0.0));
    Ok(())
}

fn read_bin(bytes: &[u8]) -> Result<(i64, f64), DdImageError> {
    let mut bin = (0, 0.0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => bin.0 = signed(number),
            (2, Wire::Fixed(bits)) => bin.1 = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok(bin)
}

/// The number of a zigzag.
fn signed(number: u64) -> i64 {
    i64::from((number as u32 >> 1) as i32 ^ -((number & 1) as i32))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
