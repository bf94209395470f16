//! LODA: how rare a row is in histograms of random projections of it.

use std::fmt;

use thalweg_kernels::{self as kernels, LodaCell, LodaProjections};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel, load_windows, save_windows, views};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given.
pub const THRESHOLD: f64 = 5.0;

/// Parameters of LODA, see [`loda`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loda {
    /// Projections, from 1 to 1,000.
    pub projections: u32,
    /// Bins of a histogram, from 2 to 1,024.
    pub bins: u32,
    /// Rows of a key that make the reference of the next ones, from 10 to 65,536.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Default for Loda {
    fn default() -> Loda {
        Loda { projections: 100, bins: 16, window_size: 256, seed: 42 }
    }
}

/// Detection by LODA: how rare a row is in histograms of 100 random projections of it, over windows of 256 rows. Watches columns together, each in
/// deviations from its mean in the latest whole window; for many columns, of which few are strange at once. Tells attribution.
///
/// A score is the mean of −ln p, some 2 to 3 where all is well, and less than 6.3; what is usual depends on the number of columns, so choose by
/// [`Detection::false_alarm_rate`] where there are several. Threshold: [`THRESHOLD`]. Rows of a key's first window score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::loda`]. State: 4 kB for each column and 18 kB, a key.
pub fn loda() -> Detection {
    Detection::new(Loda::default())
}

impl fmt::Display for Loda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loda { projections, bins, window_size, .. } = self;
        write!(f, "loda(projections={projections}, bins={bins}, window_size={window_size})")
    }
}

impl DetectorSpec for Loda {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let Loda { projections, bins, window_size, seed } = *self;
        let limits = [("projections", projections, 1, 1_000), ("bins", bins, 2, 1_024), ("window_size", window_size, 10, 1 << 16)];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(Error::config(format!("`{name}` is {value}; it must lie between {least} and {most}")));
            }
        }
        let params = kernels::Loda { projections, bins, window_size, seed };
        Ok(Box::new(ByKey::new(LodaProjections::new(on.len(), &params))))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn tells_attribution(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

impl Kernel for LodaProjections {
    type Cell = LodaCell;

    const HELD: Option<fn(&LodaCell) -> usize> = Some(LodaCell::bytes);

    fn score(&self, cells: &mut [LodaCell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) {
        let columns = observations.floats();
        kernels::loda(cells, observations.slots, &views(&columns), self, scores, told.attribution.as_deref_mut());
    }

    fn save(&self, cell: &LodaCell, out: &mut Writer) {
        save_windows(cell.rows(), out);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<LodaCell> {
        load_windows(from, |current, reference| LodaCell::restored(current, reference, self))
    }
}
