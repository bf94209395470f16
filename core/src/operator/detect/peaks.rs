//! Peaks over threshold: how rare a value is by the tail of the key's most extreme values.

use std::fmt;

use thalweg_kernels::{self as kernels, PeaksCell, Running, Tail};

use crate::error::{Error, Result};
use crate::operator::detect::rolling::{load_window, save_window};
use crate::operator::detect::stepwise::{Cell, State, check_rows};
use crate::operator::detect::{Detection, Detector, DetectorSpec};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// Most rows that levels are made of, and most that a mean is made of.
const MOST_ROWS: u64 = 1 << 20;

/// Parameters of peaks over threshold, see [`peaks_over_threshold`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeaksOverThreshold {
    /// How rare an anomaly is: the chance that a value lies as far out, above 0, below 0.1. Rarer ones are not learnt from.
    pub risk: f64,
    /// Share of the first rows that a level leaves within it, at least 0.5, below 1.
    pub level: f64,
    /// Rows of a key that the levels are made of, from 20 to 1,048,576; they score 0.
    pub calibration: u32,
    /// Latest rows whose mean values are measured from, for series that drift; 0 for values as they are.
    pub depth: u32,
}

impl Default for PeaksOverThreshold {
    fn default() -> PeaksOverThreshold {
        PeaksOverThreshold { risk: 1e-4, level: 0.98, calibration: 300, depth: 0 }
    }
}

/// Detection by extreme value theory (SPOT): how rare a value is by the tail that the key's most extreme values show, as a power of ten: a score of 4,
/// which is the threshold, is one in ten thousand. No distribution is assumed. With a `depth` (DSPOT) values are measured from the mean of that
/// many rows before them, which is then what is expected.
///
/// A key's first `depth` + 300 rows score 0, and so does every value that is not beyond the 2% furthest out.
///
/// Equations and sources: [`thalweg_kernels::anomaly::peaks`]. State: some 250 bytes a key and 32 for each row of the depth.
pub fn peaks_over_threshold() -> Detection {
    Detection::new(PeaksOverThreshold::default())
}

impl fmt::Display for PeaksOverThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeaksOverThreshold { risk, level, calibration, depth } = self;
        write!(f, "peaks_over_threshold(risk={risk}, level={level}, calibration={calibration}, depth={depth})")
    }
}

impl DetectorSpec for PeaksOverThreshold {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let PeaksOverThreshold { risk, level, calibration, depth } = *self;
        if !(risk > 0.0 && risk < 0.1 && (0.5..1.0).contains(&level)) {
            return Err(Error::config(format!(
                "`risk` is {risk} and `level` {level}; between 0 and 0.1, and between 0.5 and 1 are wanted"
            )));
        }
        check_rows("calibration", calibration.into(), 20, MOST_ROWS)?;
        check_rows("depth", depth.into(), 0, MOST_ROWS)?;
        Ok(Box::new(State::of(kernels::PeaksOverThreshold { limit: self.threshold(), level, calibration, depth })))
    }

    fn tells_expected(&self) -> bool {
        self.depth > 0
    }

    fn threshold(&self) -> f64 {
        -self.risk.log10()
    }
}

impl Cell<kernels::PeaksOverThreshold> for PeaksCell {
    const HELD: Option<fn(&Self) -> usize> = Some(PeaksCell::bytes);

    fn save(&self, out: &mut Writer) {
        save_window(&self.local, out);
        out.floats(&self.first);
        out.words(&[self.rows, self.in_a_row.into()]);
        for Tail { level, excesses } in &self.tails {
            out.word(excesses.count);
            [*level, excesses.mean, excesses.squares].into_iter().for_each(|number| out.float(number));
        }
    }

    fn load(params: &kernels::PeaksOverThreshold, from: &mut Reader<'_>) -> Result<PeaksCell> {
        let (local, first, [rows, in_a_row]) = (load_window(params.depth as usize, from)?, from.floats()?, from.words()?);
        let mut tail = || -> Result<Tail> {
            let (count, level) = (from.word()?, from.float()?);
            Ok(Tail { level, excesses: Running { count, mean: from.float()?, squares: from.float()? } })
        };
        let tails = [tail()?, tail()?];
        let in_a_row = u32::try_from(in_a_row).map_err(|_| damaged("a key has more anomalies in a row than are counted"))?;
        if first.len() >= params.calibration as usize || first.iter().any(|value| !value.is_finite()) {
            return Err(damaged("a key has more first values than its levels are made of"));
        }
        Ok(PeaksCell { local, first, rows, tails, in_a_row })
    }
}
