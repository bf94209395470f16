//! Kernels that choose, place or order rows: every backend beside the scalar twin.

use thalweg_kernels::{Backend, Bits, hash_keys, prefix_sum_u32};

use super::by_slot::weighted;
use super::{BATCH, Plain, slots, values};
use crate::answer::Answer;
use crate::report::Report;
use crate::{Common, Result};

/// How many of 256 rows a selection takes: few, half, nearly all.
const SELECTED: [(&str, u32); 3] = [("1%", 3), ("50%", 128), ("99%", 253)];

const PARTS: [usize; 2] = [8, 256];

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let rows = common.rows;
    for parts in PARTS {
        let name = format!("partition into {parts} parts by hash");
        if common.wants(&name) {
            let hashes = hashes(rows);
            let plain = Plain { name: &name, rows, bytes: 8 };
            report.add(plain.contest(common, report, |backend| Ok(partition(backend, &hashes, parts)))?);
        }
    }
    for (share, of_256) in SELECTED {
        let names = [format!("numbers of the selected rows, {share}"), format!("selected rows of an f64 column, {share}")];
        if !names.iter().any(|name| common.wants(name)) {
            continue;
        }
        let (bytes, values) = (bitmap(rows, of_256), values(rows));
        if common.wants(&names[0]) {
            let plain = Plain { name: &names[0], rows, bytes: 1 };
            report.add(plain.contest(common, report, |backend| Ok(select(backend, &bytes, rows)))?);
        }
        if common.wants(&names[1]) {
            let plain = Plain { name: &names[1], rows, bytes: 8 };
            report.add(plain.contest(common, report, |backend| Ok(compact(backend, &bytes, &values)))?);
        }
    }
    let name = "prefix sum";
    if common.wants(name) {
        let counts = slots(rows, 100);
        let plain = Plain { name, rows, bytes: 4 };
        report.add(plain.one(common, report, || Ok(prefix_sum(&counts)))?);
    }
    let name = "rows in order of time, disordered by up to 500 ms";
    if common.wants(name) {
        let times: Vec<i64> = slots(rows, 500).iter().enumerate().map(|(row, &late)| row as i64 / 100 - i64::from(late)).collect();
        let plain = Plain { name, rows, bytes: 8 };
        report.add(plain.contest(common, report, |backend| Ok(sort(backend, &times)))?);
    }
    Ok(())
}

fn hashes(rows: usize) -> Vec<u64> {
    let keys: Vec<i64> = (0..rows as i64).collect();
    let mut hashes = vec![0; rows];
    hash_keys(&keys, &mut hashes);
    hashes
}

/// A bit per row, set for about so many of 256.
fn bitmap(rows: usize, of_256: u32) -> Vec<u8> {
    let draws = slots(rows.next_multiple_of(8), 256);
    draws.chunks(8).map(|eight| eight.iter().enumerate().fold(0, |byte, (bit, &draw)| byte | u8::from(draw < of_256) << bit)).collect()
}

fn partition(backend: Backend, hashes: &[u64], parts: usize) -> Answer {
    let (mut starts, mut rows) = (vec![0; parts + 1], vec![0; BATCH]);
    let mut answer = Answer::default();
    for hashes in hashes.chunks(BATCH) {
        let rows = &mut rows[..hashes.len()];
        backend.partition_rows(hashes, &mut starts, rows);
        answer.rows += u64::from(starts[parts]);
        answer.n += i64::from(starts[parts / 2]) * i64::from(rows[rows.len() / 3]);
    }
    answer
}

fn select(backend: Backend, bytes: &[u8], len: usize) -> Answer {
    let (mut rows, mut answer) = (Vec::with_capacity(BATCH), Answer::default());
    for start in (0..len).step_by(BATCH) {
        rows.clear();
        backend.selected_rows(Bits { bytes, offset: start, len: BATCH.min(len - start) }, &mut rows);
        answer.rows += rows.len() as u64;
        answer.n += i64::from(rows.last().copied().unwrap_or_default());
    }
    answer
}

fn compact(backend: Backend, bytes: &[u8], values: &[f64]) -> Answer {
    let (mut selected, mut answer) = (Vec::with_capacity(BATCH), Answer::default());
    for (batch, values) in values.chunks(BATCH).enumerate() {
        selected.clear();
        backend.compact(values, Bits { bytes, offset: batch * BATCH, len: values.len() }, &mut selected);
        answer.rows += selected.len() as u64;
        answer.sum += selected.last().copied().unwrap_or_default();
    }
    answer
}

fn prefix_sum(counts: &[u32]) -> Answer {
    let (mut sums, mut answer) = (vec![0; BATCH], Answer::of_rows(counts.len() as u64));
    for counts in counts.chunks(BATCH) {
        let sums = &mut sums[..counts.len()];
        sums.copy_from_slice(counts);
        answer.n += i64::from(prefix_sum_u32(sums)) + i64::from(sums[sums.len() / 2]);
    }
    answer
}

fn sort(backend: Backend, times: &[i64]) -> Answer {
    let (mut rows, mut answer) = (Vec::new(), Answer::default());
    for times in times.chunks(BATCH) {
        backend.sorted_rows(times, &mut rows);
        let sample = weighted(rows.iter().step_by(61).map(|&row| u64::from(row)));
        answer.rows += rows.len() as u64;
        answer.n = answer.n.wrapping_add(sample.n);
    }
    answer
}
