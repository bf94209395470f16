//! Quantile band: how far a value lies outside the band between two quantiles of the latest.

use std::fmt;

use thalweg_kernels::{self as kernels, BandCell, BandSketch, DdHead};

use crate::error::{Error, Result};
use crate::operator::detect::stepwise::{Cell, State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: as far outside as the band is wide.
pub const THRESHOLD: f64 = 1.0;

/// Largest window.
const MOST_ROWS: u64 = 1 << 31;

/// Parameters of the quantile band, see [`quantile_band`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileBand {
    /// The quantile that the band begins with, at least 0.
    pub lower: f64,
    /// The quantile that it ends with, above `lower`, at most 1.
    pub upper: f64,
    /// Rows of a key that are looked back on, at least half of them, from 64 on.
    pub window: u32,
    /// Rows of a key that score 0, from 2 to `window`.
    pub warmup: u32,
}

impl Default for QuantileBand {
    fn default() -> QuantileBand {
        QuantileBand { lower: 0.01, upper: 0.99, window: 4_096, warmup: 64 }
    }
}

/// Detection by a band between two quantiles, 1% and 99%, of a key's latest 2,048 to 4,096 rows: how far outside a value lies, in units of the band's
/// width. For values of any distribution, one-sided ones too, where deviations say little. Threshold: [`THRESHOLD`]. A key's first 64 rows score 0.
/// The median is what it expects.
///
/// Equations and sources: [`thalweg_kernels::anomaly::band`]. State: 16 kB a key, whatever the window.
pub fn quantile_band() -> Detection {
    Detection::new(QuantileBand::default())
}

impl fmt::Display for QuantileBand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuantileBand { lower, upper, window, warmup } = self;
        write!(f, "quantile_band(lower={lower}, upper={upper}, window={window}, warmup={warmup})")
    }
}

impl DetectorSpec for QuantileBand {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let QuantileBand { lower, upper, window, warmup } = *self;
        if !(lower >= 0.0 && lower < upper && upper <= 1.0) {
            return Err(Error::config(format!(
                "`lower` is {lower} and `upper` {upper}; two quantiles from 0 to 1 are wanted, the lower one first"
            )));
        }
        check_rows("window", window.into(), 64, MOST_ROWS)?;
        check_rows("warmup", warmup.into(), 2, window.into())?;
        Ok(Box::new(State::of(kernels::QuantileBand { lower, upper, window, warmup })))
    }

    fn tells_expected(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

impl Cell<kernels::QuantileBand> for BandCell {
    const HELD: Option<fn(&Self) -> usize> = Some(BandCell::bytes);

    fn save(&self, out: &mut Writer) {
        out.word(self.is_warm.into());
        out.floats(&self.first);
        self.band.into_iter().for_each(|end| out.float(end));
        for BandSketch { origin, head, counts, rows } in &self.sketches {
            out.float(*origin);
            out.word((*rows).into());
            out.words(&head.to_words());
            out.bytes(&counts.iter().flat_map(|count| count.to_le_bytes()).collect::<Vec<u8>>());
        }
    }

    fn load(params: &kernels::QuantileBand, from: &mut Reader<'_>) -> Result<BandCell> {
        let (is_warm, first) = (from.word()? != 0, from.floats()?);
        let band = [from.float()?, from.float()?, from.float()?];
        let mut sketch = || -> Result<BandSketch> {
            let origin = from.float()?;
            let rows = u32::try_from(from.word()?).map_err(|_| damaged("a sketch of a key has more values than its window"))?;
            let head = DdHead::from_words(from.words()?);
            let (counts, _) = from.bytes()?.as_chunks();
            Ok(BandSketch { origin, head, counts: counts.iter().map(|count| u64::from_le_bytes(*count)).collect(), rows })
        };
        let cell = BandCell { first, sketches: [sketch()?, sketch()?], band, is_warm };
        if cell.is_sound(params) { Ok(cell) } else { Err(damaged("the sketches of a key contradict themselves")) }
    }
}
