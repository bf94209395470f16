//! Sum, minimum and maximum of a column that no cache holds.

use std::hint::black_box;

use thalweg_kernels::{Backend, Want};

use super::{answer, backends, values};
use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::report::Report;
use crate::{Common, Result};

const FOLDS: [(&str, Want); 3] = [
    ("sum of an f64 column", Want { sum: true, order: false }),
    ("minimum and maximum of an f64 column", Want { sum: false, order: true }),
    ("sum, minimum and maximum of an f64 column", Want::ALL),
];

/// Sums side by side in the loop that does nothing but read.
const LANES: usize = 16;

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    if !FOLDS.iter().any(|(name, _)| common.wants(name)) {
        return Ok(());
    }
    let values = &values(common.rows);
    for (name, want) in FOLDS.into_iter().filter(|(name, _)| common.wants(name)) {
        let expected = fold(Backend::Scalar, values, want);
        let contender = |backend: Backend| Contender::new(backend.to_string(), expected, move || run(backend, values, want));
        let mut contenders: Vec<Contender<'_>> = backends().map(contender).collect();
        contenders.push(Contender::new("reading alone", Answer::default(), || Run::time(|| Ok(read(values)))));
        let contest = Contest::hold(name, Work::rows(values.len()), common, contenders)?.reading(8, report.machine.read_gb_per_s);
        report.add(contest.goal("simd", "reading alone", 0.85));
    }
    Ok(())
}

fn run(backend: Backend, values: &[f64], want: Want) -> Result<Run> {
    Run::time(|| Ok(fold(backend, values, want)))
}

fn fold(backend: Backend, values: &[f64], want: Want) -> Answer {
    let cell = backend.fold(black_box(values), None, want);
    let whole = answer(&[cell]);
    Answer {
        sum: if want.sum { whole.sum } else { 0.0 },
        min: if want.order { whole.min } else { 0.0 },
        max: if want.order { whole.max } else { 0.0 },
        ..whole
    }
}

/// Sums without compensation: as little work as reading every value takes.
fn read(values: &[f64]) -> Answer {
    let mut lanes = [0.0; LANES];
    for chunk in black_box(values).chunks_exact(LANES) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
    }
    black_box(lanes);
    Answer::default()
}
