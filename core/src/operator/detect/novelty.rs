//! Novelty: how far a value lies from the nearest value seen lately, as a share of the range seen lately.

use std::fmt;

use thalweg_kernels::{self as kernels, NoveltyCell, NoveltyScale};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// Rows of a key after which a value is forgotten unless another number is given.
pub const DEFAULT_HISTORY: u32 = 4096;

/// Rows of a key that are learnt from but not scored unless another number is given.
pub const DEFAULT_WARMUP: u32 = 64;

/// The score from which a row is an anomaly unless another is given: four bins of a histogram whose range is told by 256.
pub const THRESHOLD: f64 = 1.0 / 64.0;

/// Largest history.
const MOST_ROWS: u32 = 1 << 24;

/// Parameters of the novelty of values, see [`novelty`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Novelty {
    /// Rows of a key after which a value is forgotten, from 64 to 2²⁴.
    pub history: u32,
    /// Rows of a key that score 0 because too little is known of it, from 1 to 2²⁴.
    pub warmup: u32,
}

impl Default for Novelty {
    fn default() -> Novelty {
        Novelty { history: DEFAULT_HISTORY, warmup: DEFAULT_WARMUP }
    }
}

/// Detection of values unlike those of late: the distance to the nearest value of the key's latest [`DEFAULT_HISTORY`] rows, as a share
/// of their range, in [0, 1]; on a linear and on a compressed scale, of which the geometric mean is the score. For series of any shape
/// that come back to values they had; one that grows forever is novel forever. Threshold: [`THRESHOLD`]. A key's first
/// [`DEFAULT_WARMUP`] rows score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::novelty`]. State: 1.2 kB a key, whatever the history.
pub fn novelty() -> Detection {
    Detection::new(Novelty::default())
}

impl fmt::Display for Novelty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "novelty(history={}", self.history)?;
        match self.warmup {
            DEFAULT_WARMUP => f.write_str(")"),
            warmup => write!(f, ", warmup={warmup})"),
        }
    }
}

impl DetectorSpec for Novelty {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        for (name, rows, least) in [("history", self.history, 64), ("warmup", self.warmup, 1)] {
            if !(least..=MOST_ROWS).contains(&rows) {
                return Err(Error::config(format!("`{name}` is {rows} rows; it must lie between {least} and {MOST_ROWS}")));
            }
        }
        Ok(Box::new(State::of(self)))
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

/// Novelty as a part of another detector too.
pub(super) type State = ByKey<kernels::Novelty>;

impl State {
    /// With parameters that are in range.
    pub fn of(params: &Novelty) -> State {
        ByKey::new(kernels::Novelty { history: params.history, warmup: params.warmup })
    }
}

impl Kernel for kernels::Novelty {
    type Cell = NoveltyCell;

    fn score(&self, cells: &mut [NoveltyCell], observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) {
        kernels::novelty(cells, observations.slots, observations.values().values(), observations.validity(), self, scores);
    }

    fn save(&self, cell: &NoveltyCell, out: &mut Writer) {
        out.word(cell.count);
        out.float(cell.unit);
        save_scale(&cell.linear, out);
        save_scale(&cell.compressed, out);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<NoveltyCell> {
        let (count, unit) = (from.word()?, from.float()?);
        Ok(NoveltyCell { count, unit, linear: load_scale(from)?, compressed: load_scale(from)? })
    }
}

fn save_scale(scale: &NoveltyScale, out: &mut Writer) {
    out.float(scale.first);
    out.float(scale.per_unit);
    let NoveltyScale { base, left, low, high, step, .. } = *scale;
    out.words(&[base as u64, left.into(), low.into(), high.into(), step.into()]);
    out.words(&scale.marked);
    out.bytes(&scale.stamps);
}

fn load_scale(from: &mut Reader<'_>) -> Result<NoveltyScale> {
    let (first, per_unit) = (from.float()?, from.float()?);
    let [base, left, low, high, step] = from.words()?;
    let marked = from.words()?;
    let stamps = from.bytes()?.try_into().map_err(|_| damaged("a histogram of values has another number of bins"))?;
    let scale = NoveltyScale {
        first,
        per_unit,
        base: base as i64,
        left: left as u32,
        low: low as u16,
        high: high as u16,
        stamps,
        marked,
        step: step as u8,
    };
    if scale.is_sound() { Ok(scale) } else { Err(damaged("a histogram of values contradicts itself")) }
}
