//! Sketches beside the crate `datasketches`, at errors that are no larger than its.

use datasketches::common::SearchCriteria;
use datasketches::hll::{HllSketch, HllType};
use datasketches::kll::{KllFloat, KllSketch};
use datasketches::tdigest::TDigestMut;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};
use thalweg_kernels::gpu::Engine;
use thalweg_kernels::{Backend, DdHead, DdLayout, Hash, hll_estimate, hll_standard_error};

use super::{BATCH, SEED, backends, gpu, slots};
use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::report::Report;
use crate::{Common, Result};

const GROUPS: [u32; 2] = [1, 1_000];

/// Registers of theirs, whose estimator (HIP) has a standard error of 0.833 / √2^12 = 1.30%; ours is 1.04 / √2^13 = 1.15%.
const THEIR_LG_K: u8 = 12;
const OUR_LG_K: u32 = 13;

/// Relative error of our quantiles.
const ALPHA: f64 = 0.01;

/// Deviation of the logarithms of the values whose quantiles are asked for.
const SIGMA: f64 = 1.0;

/// Of values so spread, 1% of a value at the median is 0.4% of the ranks: a normalised rank error of 0.4% needs this k.
const KLL_K: u16 = 1_150;

const TDIGEST_K: u16 = 200;

/// How far an estimate may lie from the truth, in standard errors.
const ERRORS: f64 = 5.0;

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    for groups in GROUPS {
        let name = format!("distinct values of an int64 column, {groups} groups");
        if common.wants(&name) {
            let contest = distinct(common, &name, groups)?.reading(12, report.machine.read_gb_per_s);
            report.add(contest.goal("simd", "datasketches", 5.0));
        }
    }
    for groups in GROUPS {
        let name = format!("quantiles of an f64 column, {groups} groups");
        if common.wants(&name) {
            let contest = quantiles(common, &name, groups)?.reading(12, report.machine.read_gb_per_s);
            report.add(contest.goal("simd", "datasketches KLL", 5.0).goal("simd", "datasketches t-digest", 5.0));
        }
    }
    Ok(())
}

fn distinct(common: &Common, name: &str, groups: u32) -> Result<Contest> {
    let rows = common.rows;
    let mut random = SmallRng::seed_from_u64(SEED);
    let ids: Vec<i64> = (0..rows).map(|_| random.random_range(0..rows as i64)).collect();
    let slots = slots(rows, groups);
    let truth = count_distinct(&ids, &slots, groups);
    let right = |group: usize, estimate: f64, error: f64| (estimate / truth[group] - 1.0).abs() <= ERRORS * error;
    let expected = Answer::of_rows(u64::from(groups));
    let (ids, slots, right) = (&ids, &slots, &right);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for backend in backends() {
        let run = move || {
            let registers = our_registers(backend, ids, slots, groups);
            let estimates = registers.chunks(1 << OUR_LG_K).map(hll_estimate).enumerate();
            let error = hll_standard_error(OUR_LG_K);
            Ok(Answer::of_rows(estimates.filter(|(group, estimate)| right(*group, *estimate, error)).count() as u64))
        };
        contenders.push(Contender::new(backend.to_string(), expected, move || Run::time(run)));
    }
    let there = move |engine: &Engine| {
        let registers = registers_there(engine, ids, slots, groups)?;
        let estimates = registers.chunks(1 << OUR_LG_K).map(hll_estimate).enumerate();
        let error = hll_standard_error(OUR_LG_K);
        Ok(Answer::of_rows(estimates.filter(|(group, estimate)| right(*group, *estimate, error)).count() as u64))
    };
    contenders.extend(gpu::contenders(expected, there));
    let theirs = move || {
        let mut sketches = vec![HllSketch::new(THEIR_LG_K, HllType::Hll8)?; groups as usize];
        ids.iter().zip(slots).for_each(|(&id, &slot)| sketches[slot as usize].update(id));
        let estimates = sketches.iter().map(HllSketch::estimate).enumerate();
        let error = 0.833 / f64::from(1 << THEIR_LG_K).sqrt();
        Ok(Answer::of_rows(estimates.filter(|(group, estimate)| right(*group, *estimate, error)).count() as u64))
    };
    contenders.push(Contender::new("datasketches HLL", expected, move || Run::time(theirs)));
    Contest::hold(name, Work::rows(rows), common, contenders)
}

fn count_distinct(ids: &[i64], slots: &[u32], groups: u32) -> Vec<f64> {
    let mut rows: Vec<(u32, i64)> = slots.iter().copied().zip(ids.iter().copied()).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut counts = vec![0.0; groups as usize];
    rows.iter().for_each(|(slot, _)| counts[*slot as usize] += 1.0);
    counts
}

fn our_registers(backend: Backend, ids: &[i64], slots: &[u32], groups: u32) -> Vec<u8> {
    let (mut registers, mut hashes) = (vec![0; (groups as usize) << OUR_LG_K], vec![0; BATCH]);
    for (ids, slots) in ids.chunks(BATCH).zip(slots.chunks(BATCH)) {
        let hashes = &mut hashes[..ids.len()];
        backend.hash_i64(ids, Hash::Seeded(0), hashes);
        match groups {
            1 => backend.hll_fold(&mut registers, hashes, None),
            _ => backend.hll_update(&mut registers, OUR_LG_K, slots, hashes, None),
        }
    }
    registers
}

/// The same on a graphics processor: hashes are made here.
fn registers_there(engine: &Engine, ids: &[i64], slots: &[u32], groups: u32) -> Result<Vec<u8>> {
    let mut table = engine.hll_table(OUR_LG_K, groups as usize)?;
    let mut hashes = vec![0; ids.len()];
    Backend::active().hash_i64(ids, Hash::Seeded(0), &mut hashes);
    table.update(slots, &hashes, None)?;
    let mut registers = vec![0; (groups as usize) << OUR_LG_K];
    table.read_into(&mut registers)?;
    Ok(registers)
}

const ASKED: [f64; 3] = [0.5, 0.9, 0.99];

fn quantiles(common: &Common, name: &str, groups: u32) -> Result<Contest> {
    let rows = common.rows;
    let mut random = SmallRng::seed_from_u64(SEED);
    let spread = LogNormal::new(3.0, SIGMA)?;
    let values: Vec<f64> = (0..rows).map(|_| spread.sample(&mut random)).collect();
    let slots = slots(rows, groups);
    let sorted = sorted_groups(&values, &slots, groups);
    let expected = Answer::of_rows(u64::from(groups) * ASKED.len() as u64);
    let (values, slots, sorted) = (&values, &slots, &sorted);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for backend in backends() {
        let run = move || Ok(within_alpha(sorted, &our_quantiles(backend, values, slots, groups)));
        contenders.push(Contender::new(backend.to_string(), expected, move || Run::time(run)));
    }
    contenders.extend(gpu::contenders(expected, move |engine| Ok(within_alpha(sorted, &quantiles_there(engine, values, slots, groups)?))));
    let kll = move || {
        let mut sketches = vec![KllSketch::new(KLL_K)?; groups as usize];
        for (&value, &slot) in values.iter().zip(slots) {
            sketches[slot as usize].update(KllFloat::<f64>::new(value)?);
        }
        let error = ERRORS * sketches[0].normalized_rank_error();
        let mut found = Vec::new();
        for sketch in &sketches {
            found.extend(sketch.quantiles(&ASKED, SearchCriteria::Inclusive)?.into_iter().flatten().map(KllFloat::into_inner));
        }
        Ok(within_rank(sorted, &found, error))
    };
    contenders.push(Contender::new("datasketches KLL", expected, move || Run::time(kll)));
    let tdigest = move || {
        let mut sketches = vec![TDigestMut::new(TDIGEST_K)?; groups as usize];
        values.iter().zip(slots).for_each(|(&value, &slot)| sketches[slot as usize].update(value));
        let mut found = Vec::new();
        for sketch in &mut sketches {
            found.extend(sketch.quantiles(&ASKED)?.into_iter().flatten());
        }
        Ok(within_rank(sorted, &found, 0.01))
    };
    contenders.push(Contender::new("datasketches t-digest", expected, move || Run::time(tdigest)));
    Contest::hold(name, Work::rows(rows), common, contenders)
}

fn sorted_groups(values: &[f64], slots: &[u32], groups: u32) -> Vec<Vec<f64>> {
    let mut sorted = vec![Vec::new(); groups as usize];
    values.iter().zip(slots).for_each(|(&value, &slot)| sorted[slot as usize].push(value));
    sorted.iter_mut().for_each(|group| group.sort_unstable_by(f64::total_cmp));
    sorted
}

/// The quantiles that are asked for, group by group.
fn our_quantiles(backend: Backend, values: &[f64], slots: &[u32], groups: u32) -> Vec<f64> {
    let layout = DdLayout::new(ALPHA, 1_024);
    let width = layout.counts_per_group();
    let (mut heads, mut counts) = (vec![DdHead::EMPTY; groups as usize], vec![0; groups as usize * width]);
    for (values, slots) in values.chunks(BATCH).zip(slots.chunks(BATCH)) {
        match groups {
            1 => backend.ddsketch_fold(&layout, &mut heads[0], &mut counts, values, None),
            _ => backend.ddsketch_update(&layout, &mut heads, &mut counts, slots, values, None),
        }
    }
    let groups = heads.iter().zip(counts.chunks(width));
    groups.flat_map(|(head, counts)| ASKED.map(|q| layout.quantile(head, counts, q).unwrap_or(f64::NAN))).collect()
}

/// The same on a graphics processor.
fn quantiles_there(engine: &Engine, values: &[f64], slots: &[u32], groups: u32) -> Result<Vec<f64>> {
    let layout = DdLayout::new(ALPHA, 1_024);
    let width = layout.counts_per_group();
    let (mut heads, mut counts) = (vec![DdHead::EMPTY; groups as usize], vec![0; groups as usize * width]);
    let mut table = engine.ddsketch_table(&layout, groups as usize)?;
    table.update(slots, values, None)?;
    table.read_into(&mut heads, &mut counts)?;
    let groups = heads.iter().zip(counts.chunks(width));
    Ok(groups.flat_map(|(head, counts)| ASKED.map(|q| layout.quantile(head, counts, q).unwrap_or(f64::NAN))).collect())
}

/// How many quantiles are within [`ALPHA`] of the exact ones.
fn within_alpha(sorted: &[Vec<f64>], found: &[f64]) -> Answer {
    let exact = sorted.iter().flat_map(|group| ASKED.map(|q| group[(q * (group.len() - 1) as f64) as usize]));
    Answer::of_rows(exact.zip(found).filter(|(exact, found)| (*found - exact).abs() <= ALPHA * exact).count() as u64)
}

/// How many quantiles have a rank that is within `error` of the one asked for.
fn within_rank(sorted: &[Vec<f64>], found: &[f64], error: f64) -> Answer {
    let asked = sorted.iter().flat_map(|group| ASKED.map(|q| (group, q)));
    let rank = |group: &[f64], value: f64| group.partition_point(|&other| other <= value) as f64 / group.len() as f64;
    Answer::of_rows(asked.zip(found).filter(|((group, q), found)| (rank(group, **found) - q).abs() <= error).count() as u64)
}
