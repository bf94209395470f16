//! HyperLogLog: how many distinct values each group has, in 2^lg_k bytes per group.
//!
//! P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
//! algorithm", AofA 2007. The low `lg_k` bits of a hash tell the register; its value is 1 more than the number of leading
//! zeros, of which the high 38 bits are looked at, so that it lies in 1..=39; a register keeps the largest, and 0 if it
//! had none. A table of groups is the registers of group 0, then those of group 1, and so on: `registers[(slot << lg_k) | index]`.
//! Zeros are the empty table.
//!
//! * **Error.** The standard error of an estimate is 1.04 / √(2^lg_k), relative ([`hll_standard_error`]): 1.6% for lg_k =
//!   12. Small counts do better: up to a tenth of 2^lg_k values or so, hardly any share a register. The estimator is the
//!   improved raw one of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284,
//!   section 2.4 (algorithm 6): no table of biases, and no switch between ranges.
//! * **Merging** takes the larger of two registers: commutative, associative and idempotent, so a value counts once however
//!   often, and in however many parts of the data, it occurs.
//! * **Null** rows are skipped. What counts as the same value is a matter of the hash: see [`super::hash`].

use crate::aggregate::check_lengths;
use crate::backend::Backend;
use crate::bits::Bits;
use crate::{scalar, simd};

/// Fewest registers of a group, as a power of two.
pub const MIN_LG_K: u32 = 4;

/// Most registers of a group, as a power of two.
pub const MAX_LG_K: u32 = 21;

/// Low bits of a hash that the value of a register does not look at: as many as a coupon of DataSketches keeps, of which a register's
/// address is the lowest.
pub(crate) const ADDRESS_BITS: u32 = 26;

/// Largest value of a register: all bits above the address are 0.
pub const MAX_VALUE: u8 = (64 - ADDRESS_BITS + 1) as u8;

/// Takes hashed rows into their groups' registers: group `slots[i]` takes `hashes[i]` where row `i` is valid.
///
/// # Panics
/// If `lg_k` is not in [`MIN_LG_K`]..=[`MAX_LG_K`], `registers` is no whole number of groups, the columns differ in length,
/// or the slot of a valid row is not below the number of groups.
pub fn hll_update(registers: &mut [u8], lg_k: u32, slots: &[u32], hashes: &[u64], validity: Option<Bits<'_>>) {
    Backend::active().hll_update(registers, lg_k, slots, hashes, validity);
}

/// Takes a hashed column into the registers of one group.
///
/// # Panics
/// If there are not 2^[`MIN_LG_K`] to 2^[`MAX_LG_K`] registers, a power of two, or `validity` is of another length.
pub fn hll_fold(registers: &mut [u8], hashes: &[u64], validity: Option<Bits<'_>>) {
    Backend::active().hll_fold(registers, hashes, validity);
}

/// Merges tables of the same shape, group by group: `into` becomes the table of both inputs' rows.
///
/// A plain loop, which compilers turn into vectors: the same code on every backend.
///
/// # Panics
/// If the lengths differ.
pub fn hll_merge(into: &mut [u8], from: &[u8]) {
    check_lengths("registers to merge", into.len(), from.len());
    for (into, from) in into.iter_mut().zip(from) {
        *into = (*into).max(*from);
    }
}

/// Estimated number of distinct values that the registers of one group took.
///
/// # Panics
/// If there are not 2^[`MIN_LG_K`] to 2^[`MAX_LG_K`] registers, a power of two, or one is above [`MAX_VALUE`].
pub fn hll_estimate(registers: &[u8]) -> f64 {
    check_group(registers);
    let mut counts = [[0u32; MAX_VALUE as usize + 1]; 4];
    for four in registers.chunks_exact(4) {
        // Four tables, so that equal registers in a row do not wait for each other.
        for (counts, &value) in counts.iter_mut().zip(four) {
            counts[value as usize] += 1;
        }
    }
    let count = |value: usize| counts.iter().map(|counts| f64::from(counts[value])).sum::<f64>();
    let m = registers.len() as f64;
    let mut z = m * tau(1.0 - count(MAX_VALUE as usize) / m);
    for value in (1..MAX_VALUE as usize).rev() {
        z = 0.5 * (z + count(value));
    }
    z += m * sigma(count(0) / m);
    m / (2.0 * std::f64::consts::LN_2) * (m / z)
}

/// Standard error of [`hll_estimate`], relative to the true count: 1.04 / √(2^lg_k).
pub fn hll_standard_error(lg_k: u32) -> f64 {
    1.04 / f64::from(1u32 << lg_k).sqrt()
}

/// What empty registers stand for: x + Σ x^(2^k) 2^(k−1), infinite at 1 (Ertl, algorithm 5).
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// What full registers stand for: (1 − x − Σ (1 − x^(2^−k))² 2^−k) / 3 (Ertl, algorithm 5).
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

impl Backend {
    /// [`hll_update`] on this backend.
    pub fn hll_update(self, registers: &mut [u8], lg_k: u32, slots: &[u32], hashes: &[u64], validity: Option<Bits<'_>>) {
        check_table(registers.len(), lg_k);
        check_lengths("slots and hashes", slots.len(), hashes.len());
        Bits::check(validity, hashes.len());
        match self {
            Self::Scalar => scalar::sketch::hll::update(registers, lg_k, slots, hashes, validity),
            Self::Simd(level) => simd::sketch::hll::update(level, registers, lg_k, slots, hashes, validity),
        }
    }

    /// [`hll_fold`] on this backend.
    pub fn hll_fold(self, registers: &mut [u8], hashes: &[u64], validity: Option<Bits<'_>>) {
        check_group(registers);
        Bits::check(validity, hashes.len());
        match self {
            Self::Scalar => scalar::sketch::hll::fold(registers, hashes, validity),
            Self::Simd(level) => simd::sketch::hll::fold(level, registers, hashes, validity),
        }
    }
}

/// Panics unless so many registers are a whole number of groups.
pub(crate) fn check_table(registers: usize, lg_k: u32) {
    assert!((MIN_LG_K..=MAX_LG_K).contains(&lg_k), "lg_k must be in {MIN_LG_K}..={MAX_LG_K}, not {lg_k}");
    let whole = registers.is_multiple_of(1 << lg_k);
    assert!(whole, "{registers} registers are no whole number of groups of {}", 1 << lg_k);
}

/// Panics unless these are the registers of one group; returns their number as a power of two.
pub(crate) fn check_group(registers: &[u8]) -> u32 {
    let lg_k = registers.len().checked_ilog2().unwrap_or(0);
    let whole = registers.len().is_power_of_two() && (MIN_LG_K..=MAX_LG_K).contains(&lg_k);
    assert!(whole, "{} registers are not a power of two from 2^{MIN_LG_K} to 2^{MAX_LG_K}", registers.len());
    lg_k
}

#[cfg(test)]
mod tests {
    use super::{MAX_LG_K, MAX_VALUE, MIN_LG_K, hll_estimate, hll_merge, hll_standard_error};
    use crate::sketch::hash::{Hash, hash_bytes};
    use crate::testing::{Case, on_every_backend, scramble};
    use crate::{Backend, Bits, scalar};

    on_every_backend!(updates, super::check_updates);
    on_every_backend!(folds, super::check_folds);
    on_every_backend!(merges, super::check_merges);

    /// Words of the edges among them: hashes of all zeros, all ones, and those of values.
    fn hashes(case: &Case) -> Vec<u64> {
        let mut hashes = vec![0; case.ints.len()];
        Backend::Scalar.hash_i64(&case.ints, Hash::Seeded(3), &mut hashes);
        hashes.iter().zip(&case.ints).map(|(&hash, &n)| if n % 7 == 0 { n as u64 } else { hash }).collect()
    }

    fn check_updates(backend: Backend, case: &Case) {
        let hashes = hashes(case);
        // The last is beyond the second-level cache from 33 groups on.
        for (lg_k, _) in [(MIN_LG_K, u32::MAX), (7, 1000), (13, 100)].into_iter().filter(|&(_, most)| case.groups <= most) {
            let (mut registers, mut expected) = (vec![0; (case.groups as usize) << lg_k], vec![0; (case.groups as usize) << lg_k]);
            backend.hll_update(&mut registers, lg_k, &case.slots, &hashes, case.validity());
            scalar::sketch::hll::update(&mut expected, lg_k, &case.slots, &hashes, case.validity());
            assert!(registers == expected, "{backend}, lg_k {lg_k}");
        }
    }

    fn check_folds(backend: Backend, case: &Case) {
        let hashes = hashes(case);
        for lg_k in [MIN_LG_K, 6, 12] {
            let (mut registers, mut expected) = (vec![0; 1 << lg_k], vec![0; 1 << lg_k]);
            for _ in 0..2 {
                // The second time, what the registers already hold tells most rows away.
                backend.hll_fold(&mut registers, &hashes, case.validity());
                scalar::sketch::hll::fold(&mut expected, &hashes, case.validity());
                assert!(registers == expected, "{backend}, lg_k {lg_k}");
            }
        }
    }

    /// The parts' tables, in any order, any number of times, merge to the table of the whole.
    fn check_merges(backend: Backend, case: &Case) {
        let (hashes, lg_k) = (hashes(case), MIN_LG_K);
        let table = |rows: std::ops::Range<usize>| {
            let mut registers = vec![0; (case.groups as usize) << lg_k];
            backend.hll_update(&mut registers, lg_k, &case.slots[rows.clone()], &hashes[rows], None);
            registers
        };
        let merged = |tables: &[&Vec<u8>]| {
            let mut all = tables[0].clone();
            tables[1..].iter().for_each(|table| hll_merge(&mut all, table));
            all
        };
        let (one, two) = (hashes.len() / 3, hashes.len() / 2);
        let [a, b, c] = [table(0..one), table(one..two), table(two..hashes.len())];
        let whole = table(0..hashes.len());
        for parts in [[&a, &b, &c], [&c, &a, &b], [&b, &merged(&[&c, &a]), &a], [&whole, &whole, &b]] {
            assert!(merged(&parts) == whole, "{backend}");
        }
    }

    /// Registers of `count` distinct values.
    fn registers(lg_k: u32, count: u64, seed: u64) -> Vec<u8> {
        let mut registers = vec![0; 1 << lg_k];
        for first in (0..count).step_by(4096) {
            let values: Vec<u64> = (first..count.min(first + 4096)).collect();
            let mut hashes = vec![0; values.len()];
            Backend::active().hash_u64(&values, Hash::Seeded(seed), &mut hashes);
            Backend::active().hll_fold(&mut registers, &hashes, None);
        }
        registers
    }

    #[test]
    fn estimates_are_within_four_standard_errors_from_none_to_a_million() {
        for lg_k in [4, 8, 10, 12, 14] {
            for count in [0, 1, 2, 3, 10, 50, 100, 300, 1000, 3000, 5000, 10_000, 20_000, 30_000, 100_000, 300_000, 1_000_000] {
                for seed in 0..if count > 100_000 { 2 } else { 5 } {
                    let estimate = hll_estimate(&registers(lg_k, count, seed));
                    let bound = 4.0 * hll_standard_error(lg_k) * count as f64;
                    // One collision among few values is the loss of one.
                    assert!((estimate - count as f64).abs() <= bound.max(0.5), "lg_k {lg_k}, seed {seed}: {estimate} for {count}");
                }
            }
        }
    }

    /// Registers of the strings that `string` makes of the numbers below `count`.
    fn registers_of_strings(lg_k: u32, count: u64, hash: Hash, string: fn(u64) -> Vec<u8>) -> Vec<u8> {
        let (mut data, mut offsets) = (Vec::new(), vec![0]);
        for n in 0..count {
            data.extend(string(n));
            offsets.push(data.len() as i32);
        }
        let (mut hashes, mut registers) = (vec![0; count as usize], vec![0; 1 << lg_k]);
        hash_bytes(&offsets, &data, hash, &mut hashes);
        Backend::active().hll_fold(&mut registers, &hashes, None);
        registers
    }

    const STRINGS: [fn(u64) -> Vec<u8>; 3] = [
        |n| n.to_string().into_bytes(),
        |n| vec![n as u8, (n >> 8) as u8, (n >> 16) as u8],
        |n| format!("https://example.org/{n}/index.html").into_bytes(),
    ];

    /// Bias and deviation over estimates of `count` values are those of a hash without pattern.
    fn assert_stated_error(lg_k: u32, count: u64, estimates: &[f64]) {
        let (rounds, stated) = (estimates.len() as f64, hll_standard_error(lg_k));
        let errors = estimates.iter().map(|estimate| estimate / count as f64 - 1.0);
        let mean = errors.clone().sum::<f64>() / rounds;
        let deviation = (errors.map(|error| error * error).sum::<f64>() / rounds).sqrt();
        assert!(mean.abs() < 4.0 * stated / rounds.sqrt(), "lg_k {lg_k}, {count} values: bias {mean}");
        assert!(deviation < 1.15 * stated, "lg_k {lg_k}, {count} values: {deviation} is more than {stated}");
    }

    #[test]
    fn the_error_over_many_sketches_is_the_stated_one_and_without_bias() {
        for (lg_k, count) in [(8, 2000), (10, 700), (10, 20_000)] {
            let of_numbers: Vec<f64> = (0..400).map(|seed| hll_estimate(&registers(lg_k, count, scramble(seed)))).collect();
            assert_stated_error(lg_k, count, &of_numbers);
            for string in STRINGS {
                let of_seed = |seed| hll_estimate(&registers_of_strings(lg_k, count, Hash::Seeded(seed), string));
                assert_stated_error(lg_k, count, &(0..300).map(of_seed).collect::<Vec<f64>>());
            }
        }
    }

    #[test]
    fn strings_count_as_well_as_numbers() {
        for (count, string) in STRINGS.into_iter().flat_map(|string| [500, 20_000, 200_000].map(|count| (count, string))) {
            for hash in [Hash::Seeded(0), Hash::Seeded(1), Hash::DataSketches] {
                let estimate = hll_estimate(&registers_of_strings(12, count, hash, string));
                let error = (estimate / count as f64 - 1.0).abs();
                assert!(error <= 4.0 * hll_standard_error(12), "{hash:?}: {estimate} for {count}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_have_an_estimate() {
        for lg_k in [MIN_LG_K, 12, MAX_LG_K] {
            assert_eq!(hll_estimate(&vec![0; 1 << lg_k]), 0.0);
            assert_eq!(hll_estimate(&vec![MAX_VALUE; 1 << lg_k]), f64::INFINITY);
            let mut nearly = vec![MAX_VALUE; 1 << lg_k];
            nearly[3] = MAX_VALUE - 1;
            assert!(hll_estimate(&nearly) > 1e12);
        }
    }

    #[test]
    fn bad_shapes_and_slots_panic_and_those_of_null_rows_do_not() {
        let panics = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
        for backend in Backend::available() {
            let update = |lg_k, registers: usize, slots: &[u32], validity| {
                backend.hll_update(&mut vec![0; registers], lg_k, slots, &[1; 3], validity);
            };
            assert!(panics(&|| update(4, 32, &[0, 2, 1], None)), "{backend}");
            assert!(!panics(&|| update(4, 32, &[0, 2, 1], Some(Bits { bytes: &[0b101], offset: 0, len: 3 }))), "{backend}");
            assert!(panics(&|| update(4, 33, &[0, 0, 0], None)));
            assert!(panics(&|| update(3, 32, &[0, 0, 0], None)));
            assert!(panics(&|| update(22, 1 << 22, &[0, 0, 0], None)));
            assert!(panics(&|| update(4, 16, &[0, 0], None)));
            assert!(panics(&|| backend.hll_fold(&mut [0; 24], &[1], None)));
        }
        assert!(panics(&|| _ = hll_estimate(&[MAX_VALUE + 1; 16])));
        assert!(panics(&|| _ = hll_estimate(&[])));
    }
}
