//! The detector for a numeric series of which nothing is known.

use std::fmt;

use arrow::array::Float64Array;

use crate::error::Result;
use crate::operator::detect::discord::{self, LeftDiscord};
use crate::operator::detect::novelty::{self, Novelty};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Refractory, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given.
pub const THRESHOLD: f64 = 1.0 / 64.0;

/// Rows for which later rows of an event are held back unless something else is asked for.
pub const REFRACTORY_ROWS: u64 = 128;

/// What novelty of shape counts for beside novelty of value: shapes differ by more, as a share of their range, where all is well.
const SHAPE: f64 = 0.25;

/// The combination of detectors that is recommended for an unknown series, see [`auto`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Auto;

/// Detection for a numeric series of which nothing is known: the first version of the combination that is recommended, `auto-v1`.
///
/// ```text
/// score = max(novelty(x), novelty(left discord(x)) / 4)     in [0, 1]
/// ```
///
/// with the parameters that [`novelty`](crate::novelty()) and [`left_discord`](crate::left_discord()) have by default: a value is strange if
/// the key has shown none like it lately, or if the shape that it ends is unlike others by more, or less, than shapes have been lately.
/// Threshold: [`THRESHOLD`]; rows of an event are held back for [`REFRACTORY_ROWS`] rows. There is no parameter; another combination will
/// have another name. A key's first 64 rows score 0, shapes count from row 192 on. State: 0.2 MB a key.
pub fn auto() -> Detection {
    Detection::new(Auto)
}

impl fmt::Display for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auto-v1()")
    }
}

impl DetectorSpec for Auto {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        Ok(Box::new(State {
            values: novelty::State::of(&Novelty::default()),
            shapes: discord::State::of(&LeftDiscord::default()),
            shape_values: novelty::State::of(&Novelty::default()),
        }))
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }

    fn refractory(&self) -> Option<Refractory> {
        Some(Refractory::Rows(REFRACTORY_ROWS))
    }
}

struct State {
    values: novelty::State,
    shapes: discord::State,
    /// Takes the scores of `shapes` for values.
    shape_values: novelty::State,
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()> {
        self.values.score(observations, scores, told)?;
        let mut shapes = vec![f64::NAN; scores.len()];
        self.shapes.score(observations, &mut shapes, told)?;
        let shapes = Float64Array::from(shapes);
        let mut novel = vec![f64::NAN; scores.len()];
        self.shape_values.score(&Observations { columns: &[shapes], ..*observations }, &mut novel, told)?;
        scores.iter_mut().zip(novel).for_each(|(score, novel)| *score = score.max(SHAPE * novel));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.values.state_bytes() + self.shapes.state_bytes() + self.shape_values.state_bytes()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        self.values.save(slot, out)?;
        self.shapes.save(slot, out)?;
        self.shape_values.save(slot, out)
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.values.load(slot, from)?;
        self.shapes.load(slot, from)?;
        self.shape_values.load(slot, from)
    }

    fn keep(&mut self, slots: &[u32], groups: usize) -> Result<()> {
        self.values.keep(slots, groups)?;
        self.shapes.keep(slots, groups)?;
        self.shape_values.keep(slots, groups)
    }
}
