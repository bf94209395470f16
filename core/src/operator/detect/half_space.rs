//! Half-Space Trees: how thinly the rows of late lie where a row lies.

use std::fmt;

use thalweg_kernels::anomaly::half_space::MOST_HEIGHT;
use thalweg_kernels::{self as kernels, HalfSpaces};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel, load_windows, save_windows, views};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given.
pub const THRESHOLD: f64 = 0.75;

/// Parameters of Half-Space Trees, see [`half_space_trees`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HalfSpaceTrees {
    /// Trees, from 1 to 1,000.
    pub number_of_trees: u32,
    /// Halvings one after the other, from 1 to 30.
    pub height: u32,
    /// Rows of a key that make the reference of the next ones, from 10 to 65,536.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Default for HalfSpaceTrees {
    fn default() -> HalfSpaceTrees {
        HalfSpaceTrees { number_of_trees: 25, height: 15, window_size: 250, seed: 42 }
    }
}

/// Detection by Half-Space Trees, 25 of depth 15 over windows of 250 rows, as in the paper. Watches columns together, each by its range in
/// the latest whole window. The cheapest detector of several columns.
///
/// A score is in (0, 1], the larger the fewer rows of the window lie near; what is usual depends on the number of columns, so choose by
/// [`Detection::false_alarm_rate`] where there are several. Threshold: [`THRESHOLD`]. Rows of a key's first window score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::half_space`]. State: 4 kB for each column and some 30 kB, a key.
pub fn half_space_trees() -> Detection {
    Detection::new(HalfSpaceTrees::default())
}

impl fmt::Display for HalfSpaceTrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HalfSpaceTrees { number_of_trees, height, window_size, .. } = self;
        write!(f, "half_space_trees(number_of_trees={number_of_trees}, height={height}, window_size={window_size})")
    }
}

impl DetectorSpec for HalfSpaceTrees {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let columns = on.len();
        let HalfSpaceTrees { number_of_trees, height, window_size, seed } = *self;
        let limits =
            [("number_of_trees", number_of_trees, 1, 1_000), ("height", height, 1, MOST_HEIGHT), ("window_size", window_size, 10, 1 << 16)];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(Error::config(format!("`{name}` is {value}; it must lie between {least} and {most}")));
            }
        }
        let params = kernels::HalfSpaceTrees { number_of_trees, height, window_size, seed };
        Ok(Box::new(ByKey::new(Spaces { params, columns })))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

struct Spaces {
    params: kernels::HalfSpaceTrees,
    columns: usize,
}

impl Kernel for Spaces {
    type Cell = HalfSpaces;

    const HELD: Option<fn(&HalfSpaces) -> usize> = Some(HalfSpaces::bytes);

    fn score(&self, cells: &mut [HalfSpaces], observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) {
        let columns = observations.floats();
        kernels::half_space_trees(cells, observations.slots, &views(&columns), &self.params, scores);
    }

    fn save(&self, cell: &HalfSpaces, out: &mut Writer) {
        save_windows(cell.rows(), out);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<HalfSpaces> {
        load_windows(from, |current, reference| HalfSpaces::restored(current, reference, self.columns, &self.params))
    }
}
