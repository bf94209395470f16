//! k nearest neighbours: how far a row lies from those of its key's latest rows that are most like it.

use std::fmt;

use thalweg_kernels::{self as kernels, KnnCell, KnnScale};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel, views};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: as a root mean square over the columns, in deviations.
pub const THRESHOLD: f64 = 2.0;

/// Largest history: a row costs a step for each of its rows.
const MOST_ROWS: u32 = 1 << 16;

/// Parameters of the nearest neighbours, see [`knn`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knn {
    /// Which neighbour the distance is to, or how many: at least 1, at most the history. Rows that are like each other are usual once there have been so
    /// many, so more than an anomaly lasts for.
    pub k: u32,
    /// Rows of a key that neighbours are looked for in, at most 65,536.
    pub history: u32,
    /// Whether the score is the mean of the distances to the k nearest, not the distance to the k-th.
    pub mean: bool,
    /// Rows of a key that score 0 because too little is known of it.
    pub warmup: u64,
}

impl Default for Knn {
    fn default() -> Knn {
        Knn { k: 5, history: 512, mean: false, warmup: 50 }
    }
}

/// Detection by the distance to the fifth nearest neighbour among the key's latest 512 rows, each column in deviations of its own of late. Watches
/// columns together, of any units; needs no form of what is usual, which may be several clusters or a ring. Tells attribution.
///
/// A score is a root mean square over the columns, in deviations. What is usual depends on their number and on how they go together, so choose by
/// [`Detection::false_alarm_rate`] where there are several. Threshold: [`THRESHOLD`]. A key's first 50 rows score 0; rows like an anomaly are usual
/// from the sixth on.
///
/// Equations and sources: [`thalweg_kernels::anomaly::knn`]. State: 4 kB for each column, a key. Cost: 5 operations for each of them and each row of the
/// history, a row.
pub fn knn() -> Detection {
    Detection::new(Knn::default())
}

impl fmt::Display for Knn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Knn { k, history, mean, warmup } = self;
        write!(f, "knn(k={k}, history={history}, mean={mean}, warmup={warmup})")
    }
}

impl DetectorSpec for Knn {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let Knn { k, history, mean, warmup } = *self;
        if k == 0 || history < k || history > MOST_ROWS {
            return Err(Error::config(format!(
                "`k` is {k} and `history` {history} rows; `k` must be at least 1, `history` at least `k` and at most {MOST_ROWS} rows"
            )));
        }
        let params = kernels::Knn { k, history, mean, warmup };
        Ok(Box::new(ByKey::new(Neighbours { params, columns: on.len() })))
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

struct Neighbours {
    params: kernels::Knn,
    columns: usize,
}

impl Kernel for Neighbours {
    type Cell = KnnCell;

    const HELD: Option<fn(&KnnCell) -> usize> = Some(KnnCell::bytes);

    fn score(&self, cells: &mut [KnnCell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) {
        let columns = observations.floats();
        kernels::knn(cells, observations.slots, &views(&columns), &self.params, scores, told.attribution.as_deref_mut());
    }

    fn save(&self, cell: &KnnCell, out: &mut Writer) {
        let KnnScale { count, mean, variance } = cell.scale();
        out.word(*count);
        out.floats(mean);
        out.floats(variance);
        out.floats(&cell.latest(&self.params));
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<KnnCell> {
        let scale = KnnScale { count: from.word()?, mean: from.floats()?, variance: from.floats()? };
        KnnCell::restored(scale, &from.floats()?, self.columns, &self.params)
            .ok_or_else(|| damaged("the latest rows of a key are of another number, or of other columns"))
    }
}
