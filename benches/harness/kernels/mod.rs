//! The kernels alone, on plain slices: every backend of this processor beside what one would write by hand.

mod by_slot;
mod columns;
mod gpu;
mod grouped;
mod keyed;
mod panes;
mod rolling;
mod rows;
mod sketches;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use thalweg_kernels::{Backend, Cell};

use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::report::Report;
use crate::{Common, Result};

const SEED: u64 = 0x6b65_726e_656c_7321;

/// Rows that a kernel is given at a time, as a pipeline does.
const BATCH: usize = 16_384;

/// Measures every kernel.
pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    columns::measure(common, report)?;
    grouped::measure(common, report)?;
    keyed::measure(common, report)?;
    by_slot::measure(common, report)?;
    rows::measure(common, report)?;
    rolling::measure(common, report)?;
    sketches::measure(common, report)?;
    panes::measure(common, report)
}

/// A kernel beside its scalar twin, whose answer is the right one: the kernels' tests see to that.
struct Plain<'a> {
    name: &'a str,
    rows: usize,
    /// Bytes of the columns that are read per row.
    bytes: usize,
}

impl Plain<'_> {
    fn contest(&self, common: &Common, report: &Report, run: impl Fn(Backend) -> Result<Answer>) -> Result<Contest> {
        let (run, expected) = (&run, run(Backend::Scalar)?);
        let contender = |backend: Backend| Contender::new(backend.to_string(), expected, move || Run::time(|| run(backend)));
        self.hold(common, report, backends().map(contender).collect())
    }

    /// A kernel that is the same code on every backend.
    fn one(&self, common: &Common, report: &Report, run: impl Fn() -> Result<Answer>) -> Result<Contest> {
        let expected = run()?;
        self.hold(common, report, vec![Contender::new("every backend", expected, || Run::time(&run))])
    }

    fn hold(&self, common: &Common, report: &Report, contenders: Vec<Contender<'_>>) -> Result<Contest> {
        Ok(Contest::hold(self.name, Work::rows(self.rows), common, contenders)?.reading(self.bytes, report.machine.read_gb_per_s))
    }
}

/// Every backend of this processor: the one in use first, the reference last.
fn backends() -> impl Iterator<Item = Backend> {
    Backend::available().filter(|backend| *backend != Backend::Scalar).chain([Backend::Scalar])
}

/// Values without a pattern, positive, as amounts are.
fn values(rows: usize) -> Vec<f64> {
    let mut random = SmallRng::seed_from_u64(SEED);
    (0..rows).map(|_| random.random_range(0.0..1_000.0)).collect()
}

/// Slots uniform below `groups`.
fn slots(rows: usize, groups: u32) -> Vec<u32> {
    let mut random = SmallRng::seed_from_u64(SEED + 1);
    (0..rows).map(|_| random.random_range(0..groups)).collect()
}

/// Sums over the groups that have rows.
fn answer(cells: &[Cell]) -> Answer {
    let mut answer = Answer::default();
    for cell in cells.iter().filter(|cell| cell.count > 0) {
        answer.rows += 1;
        answer.n += cell.count as i64;
        answer.sum += cell.float_sum();
        answer.min += cell.float_min();
        answer.max += cell.float_max();
    }
    answer
}

/// What a plain loop makes of the rows.
fn expected(groups: usize, slots: &[u32], values: &[f64]) -> Answer {
    let mut cells = vec![Cell::EMPTY; groups];
    thalweg_kernels::scalar::aggregate::accumulate(&mut cells, slots, values, None, thalweg_kernels::Want::ALL);
    answer(&cells)
}
