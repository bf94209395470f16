//! ADWIN: a window as long as its mean has stayed the same.

use std::fmt;

use thalweg_kernels::anomaly::adwin::Bucket;
use thalweg_kernels::{self as kernels, AdwinCell, Running};

use crate::error::{Error, Result};
use crate::operator::detect::stepwise::{Cell, State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: the bound of the paper.
pub const THRESHOLD: f64 = 1.0;

/// Most rows that a key may be learnt from before it is scored.
const MOST_WARMUP: u64 = 1 << 32;

/// Numbers by which a bucket is kept: count, mean, squares, least and greatest value.
const KEPT: usize = 5;

/// Parameters of ADWIN, see [`adwin`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adwin {
    /// Chance that a window without a change is taken for one with a change, above 0, below 1.
    pub delta: f64,
    /// Rows of a key that score 0, at least 10.
    pub warmup: u64,
}

impl Default for Adwin {
    fn default() -> Adwin {
        Adwin { delta: 0.002, warmup: 30 }
    }
}

/// Detection of lasting shifts by ADWIN: the key's window grows as long as no older and newer part of it differ in their means; the score is the
/// greatest difference, in units of the bound that a chance of 0.002 gives it. From 1 on, which is the threshold, the older part goes. Unlike
/// [`cusum`](crate::cusum) and [`page_hinkley`](crate::page_hinkley) it has no reference and no allowance to choose. A change is
/// some anomalies, until all before it has gone: a `refractory` makes one event of them. The mean is what it expects.
///
/// Equations and sources: [`thalweg_kernels::anomaly::adwin`]. State: 40 bytes for each bucket, some 3.5 kB for a key of a million rows.
pub fn adwin() -> Detection {
    Detection::new(Adwin::default())
}

impl fmt::Display for Adwin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "adwin(delta={}, warmup={})", self.delta, self.warmup)
    }
}

impl DetectorSpec for Adwin {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let Adwin { delta, warmup } = *self;
        if !(delta > 0.0 && delta < 1.0) {
            return Err(Error::config(format!("`delta` is {delta}; it must lie between 0 and 1, both excluded")));
        }
        check_rows("warmup", warmup, 10, MOST_WARMUP)?;
        Ok(Box::new(State::of(kernels::Adwin { delta, warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

impl Cell<kernels::Adwin> for AdwinCell {
    const HELD: Option<fn(&Self) -> usize> = Some(AdwinCell::bytes);

    fn save(&self, out: &mut Writer) {
        let (buckets, rows) = self.parts();
        out.word(rows);
        let numbers = |Bucket { moments, low, high }: &Bucket| [moments.count as f64, moments.mean, moments.squares, *low, *high];
        out.floats(&buckets.iter().flat_map(numbers).collect::<Vec<f64>>());
    }

    fn load(_params: &kernels::Adwin, from: &mut Reader<'_>) -> Result<AdwinCell> {
        let (rows, numbers) = (from.word()?, from.floats()?);
        // Counts are powers of two, which floats hold exactly.
        let bucket = |kept: &[f64]| Bucket {
            moments: Running { count: kept[0] as u64, mean: kept[1], squares: kept[2] },
            low: kept[3],
            high: kept[4],
        };
        let buckets = numbers.chunks_exact(KEPT).map(bucket).collect();
        AdwinCell::restored(buckets, rows).ok_or_else(|| damaged("the buckets of a key's window are none that could be"))
    }
}
