//! Kernels that keep something per slot, at few and at many slots: every backend beside the scalar twin.

use thalweg_kernels::{Arg, Backend, Bins, CoMoments, Ewma, EwmaCell, FirstLast, Moments, Timed};

use super::{BATCH, Plain, slots, values};
use crate::answer::Answer;
use crate::report::Report;
use crate::{Common, Result};

/// Few slots, whose cells a first-level cache holds, and many.
const SLOTS: [u32; 2] = [100, 10_000];

/// Weight of a row in exponential averages.
const ALPHA: f64 = 0.05;

const BINS: Bins<'static> = Bins::Equal { low: 0.0, high: 1_000.0, bins: 64 };

/// Columns of as many rows, in order of time.
struct Columns {
    values: Vec<f64>,
    others: Vec<f64>,
    times: Vec<i64>,
}

/// A kernel: what it does, bytes of the columns that it reads per row, and how it is called.
type Line = (&'static str, usize, fn(Backend, &Columns, &[u32], usize) -> Answer);

const LINES: [Line; 9] = [
    ("mean and variance by slot", 12, moments),
    ("covariance by slot", 20, co_moments),
    ("first row by slot", 20, first_last::<false>),
    ("last row by slot", 20, first_last::<true>),
    ("argmin by slot", 20, arg::<false>),
    ("argmax by slot", 20, arg::<true>),
    ("histogram of 64 bins by slot", 12, histogram),
    ("exponential smoothing by slot", 20, smooth),
    ("ewma score by slot", 20, ewma),
];

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let mut columns = None;
    for (what, bytes, run) in LINES {
        for count in SLOTS {
            let name = format!("{what}, {count} slots");
            if !common.wants(&name) {
                continue;
            }
            let columns = columns.get_or_insert_with(|| Columns::of(common.rows));
            let slots = slots(common.rows, count);
            let plain = Plain { name: &name, rows: common.rows, bytes };
            report.add(plain.contest(common, report, |backend| Ok(run(backend, columns, &slots, count as usize)))?);
        }
    }
    Ok(())
}

impl Columns {
    fn of(rows: usize) -> Columns {
        let values = values(rows);
        let others = values.iter().rev().map(|value| value + 1.0).collect();
        Columns { values, others, times: (0..rows as i64).collect() }
    }
}

fn moments(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let mut cells = vec![Moments::EMPTY; count];
    backend.accumulate_moments(&mut cells, slots, &columns.values, None);
    cells.iter().fold(Answer::of_rows(count as u64), |answer, cell| Answer {
        n: answer.n + cell.count as i64,
        mean: answer.mean + cell.mean(),
        std: answer.std + cell.std_dev(1),
        ..answer
    })
}

fn co_moments(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let mut cells = vec![CoMoments::EMPTY; count];
    backend.accumulate_co_moments(&mut cells, slots, &columns.values, &columns.others, None);
    cells.iter().fold(Answer::of_rows(count as u64), |answer, cell| Answer {
        n: answer.n + cell.count() as i64,
        mean: answer.mean + cell.x().mean() + cell.y().mean(),
        std: answer.std + cell.x().std_dev(1),
        // A covariance of columns that have little to do with each other is small beside what it is made of.
        sum: answer.sum + cell.co_moment() + cell.x().second_moment(),
        ..answer
    })
}

fn first_last<const LAST: bool>(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let mut cells = vec![FirstLast::<LAST>::EMPTY; count];
    let rows = Timed { times: &columns.times, values: &columns.values, sequence: 0 };
    backend.accumulate_first_last(&mut cells, slots, rows, None);
    cells.iter().fold(Answer::of_rows(count as u64), |answer, cell| Answer {
        n: answer.n + cell.time().unwrap_or_default(),
        sum: answer.sum + cell.value::<f64>().unwrap_or_default(),
        ..answer
    })
}

fn arg<const MAX: bool>(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let mut cells = vec![Arg::<MAX>::EMPTY; count];
    backend.accumulate_arg(&mut cells, slots, &columns.values, &columns.times, None);
    cells.iter().fold(Answer::of_rows(count as u64), |answer, cell| Answer {
        n: answer.n + cell.payload().unwrap_or_default(),
        sum: answer.sum + cell.value::<f64>().unwrap_or_default(),
        ..answer
    })
}

fn histogram(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let mut counts = vec![0; count * BINS.cells()];
    backend.histogram(&mut counts, slots, &columns.values, None, BINS);
    weighted(counts.iter().copied())
}

fn smooth(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let (mut levels, mut smoothed) = (vec![f64::NAN; count], vec![0.0; BATCH]);
    let mut answer = Answer::of_rows(count as u64);
    for (slots, values) in slots.chunks(BATCH).zip(columns.values.chunks(BATCH)) {
        backend.smooth(&mut levels, slots, values, None, ALPHA, &mut smoothed[..slots.len()]);
        answer.sum += smoothed[slots.len() / 2];
    }
    Answer { mean: levels.iter().sum(), ..answer }
}

fn ewma(backend: Backend, columns: &Columns, slots: &[u32], count: usize) -> Answer {
    let (mut cells, mut scores) = (vec![EwmaCell::default(); count], vec![0.0; BATCH]);
    let mut answer = Answer::of_rows(count as u64);
    for (slots, values) in slots.chunks(BATCH).zip(columns.values.chunks(BATCH)) {
        backend.ewma(&mut cells, slots, values, None, &Ewma { alpha: ALPHA, warmup: 10 }, &mut scores[..slots.len()]);
        answer.sum += scores[slots.len() / 2];
    }
    Answer { mean: cells.iter().map(|cell| cell.mean).sum(), ..answer }
}

/// Numbers in order as one: another order is another answer.
pub fn weighted(numbers: impl Iterator<Item = u64>) -> Answer {
    let mut answer = Answer::default();
    for number in numbers {
        answer.rows += 1;
        answer.n = answer.n.wrapping_add((answer.rows as i64).wrapping_mul(number as i64));
    }
    answer
}
