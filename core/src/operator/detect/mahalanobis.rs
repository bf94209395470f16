//! Mahalanobis distance: how far a row lies from the mean of its columns, along the way in which they vary together.

use std::fmt;

use thalweg_kernels::{self as kernels, CovarianceCell};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel, views};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// Most columns: a row costs their number cubed.
const MOST_COLUMNS: usize = 64;

/// Parameters of the Mahalanobis distance, see [`mahalanobis`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mahalanobis {
    /// Weight of the newest row, above 0, below 1: the memory is about 2/alpha rows.
    pub alpha: f64,
    /// How far correlations are shrunk towards none, above 0, at most 1.
    pub shrinkage: f64,
    /// Rows of a key that score 0 because too little is known of it.
    pub warmup: u64,
}

impl Default for Mahalanobis {
    fn default() -> Mahalanobis {
        Mahalanobis { alpha: 0.01, shrinkage: 0.1, warmup: 50 }
    }
}

/// Detection by the Mahalanobis distance from a mean and covariance weighted exponentially with 0.01 for the newest row: for columns that vary
/// together, such as load and temperature. Watches columns together, of any units; tells what it expects, the means, and attribution.
///
/// A score is a normal deviate, whatever the number of columns: 4 is as rare as 4 standard deviations, which is the threshold. A key's
/// first 50 rows score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::mahalanobis`]. State: 8 bytes for each pair of columns, a key.
pub fn mahalanobis() -> Detection {
    Detection::new(Mahalanobis::default())
}

impl fmt::Display for Mahalanobis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mahalanobis(alpha={}, shrinkage={}, warmup={})", self.alpha, self.shrinkage, self.warmup)
    }
}

impl DetectorSpec for Mahalanobis {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let columns = on.len();
        let Mahalanobis { alpha, shrinkage, warmup } = *self;
        if !(alpha > 0.0 && alpha < 1.0 && shrinkage > 0.0 && shrinkage <= 1.0) {
            return Err(Error::config(format!("`alpha` is {alpha} and `shrinkage` {shrinkage}; both must lie between 0 and 1")));
        }
        if columns > MOST_COLUMNS {
            return Err(Error::config(format!(
                "the Mahalanobis distance is of {MOST_COLUMNS} columns at most, not {columns}; use a forest"
            )));
        }
        let params = kernels::Mahalanobis { alpha, shrinkage, warmup };
        Ok(Box::new(ByKey::new(Covariances { params, columns })))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn tells_attribution(&self) -> bool {
        true
    }
}

struct Covariances {
    params: kernels::Mahalanobis,
    columns: usize,
}

impl Kernel for Covariances {
    type Cell = CovarianceCell;

    const HELD: Option<fn(&CovarianceCell) -> usize> = Some(CovarianceCell::bytes);

    fn score(&self, cells: &mut [CovarianceCell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) {
        let columns = observations.floats();
        let (expected, attribution) = (told.expected.as_deref_mut(), told.attribution.as_deref_mut());
        kernels::mahalanobis(cells, observations.slots, &views(&columns), &self.params, scores, expected, attribution);
    }

    fn save(&self, cell: &CovarianceCell, out: &mut Writer) {
        out.word(cell.count);
        out.floats(&cell.mean);
        out.floats(&cell.covariance);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<CovarianceCell> {
        let cell = CovarianceCell { count: from.word()?, mean: from.floats()?, covariance: from.floats()? };
        let columns = if cell.count == 0 { 0 } else { self.columns };
        match (cell.mean.len(), cell.covariance.len()) == (columns, columns * columns) {
            true => Ok(cell),
            false => Err(damaged("the covariance of a key is of another number of columns")),
        }
    }
}
