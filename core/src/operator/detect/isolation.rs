//! Isolation forest: by how few random cuts, each across a random projection, a row is parted from the rows of a window.

use std::fmt;

use thalweg_kernels::{self as kernels, IsolationCell};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel, load_windows, save_windows, views};
use crate::operator::detect::stepwise::check_rows;
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given.
pub const THRESHOLD: f64 = 0.65;

/// Parameters of an isolation forest, see [`isolation_forest`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IsolationForest {
    /// Trees, from 1 to 1,000.
    pub number_of_trees: u32,
    /// Rows that a tree is made of, from 2 to the window's.
    pub sample_size: u32,
    /// Rows of a key that are the reference of the next ones, from 10 to 65,536.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Default for IsolationForest {
    fn default() -> IsolationForest {
        IsolationForest { number_of_trees: 50, sample_size: 128, window_size: 512, seed: 42 }
    }
}

/// Detection by isolation: 50 trees of random cuts, each across a random projection of the columns, over windows of 512 rows, of which each tree has 128. For
/// columns that are strange together in any direction. Watches columns together, each in deviations from its mean.
///
/// A score is in (0, 1], the larger the fewer cuts part a row from those of the window; rows among others score a half or less. Threshold: [`THRESHOLD`].
/// Rows of a key's first window score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::isolation`]. State: some 0.1 MB and 11 kB a column, a key.
pub fn isolation_forest() -> Detection {
    Detection::new(IsolationForest::default())
}

impl fmt::Display for IsolationForest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IsolationForest { number_of_trees, sample_size, window_size, .. } = self;
        write!(f, "isolation_forest(number_of_trees={number_of_trees}, sample_size={sample_size}, window_size={window_size})")
    }
}

impl DetectorSpec for IsolationForest {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let IsolationForest { number_of_trees, sample_size, window_size, seed } = *self;
        if !(1..=1_000).contains(&number_of_trees) {
            return Err(Error::config(format!("`number_of_trees` is {number_of_trees}; it must lie between 1 and 1000")));
        }
        check_rows("window_size", window_size.into(), 10, 1 << 16)?;
        check_rows("sample_size", sample_size.into(), 2, window_size.into())?;
        let params = kernels::IsolationForest { number_of_trees, sample_size, window_size, seed };
        Ok(Box::new(ByKey::new(Isolation { params, columns: on.len() })))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

struct Isolation {
    params: kernels::IsolationForest,
    columns: usize,
}

impl Kernel for Isolation {
    type Cell = IsolationCell;

    const HELD: Option<fn(&IsolationCell) -> usize> = Some(IsolationCell::bytes);

    fn score(&self, cells: &mut [IsolationCell], observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) {
        let columns = observations.floats();
        kernels::isolation_forest(cells, observations.slots, &views(&columns), &self.params, scores);
    }

    fn save(&self, cell: &IsolationCell, out: &mut Writer) {
        save_windows(cell.rows(), out);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<IsolationCell> {
        load_windows(from, |current, reference| IsolationCell::restored(current, reference, self.columns, &self.params))
    }
}
