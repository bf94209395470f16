//! Random Cut Forest: how soon random cuts part a row from the rows of late.

use std::fmt;

use thalweg_kernels::anomaly::forest::{MOST_DIMENSIONS, MOST_SAMPLES};
use thalweg_kernels::{self as kernels, Forest, UsualScores};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{Cells, views};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Refractory, Told};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given.
pub const THRESHOLD: f64 = 1.5;

/// The same for the thresholded forest, in deviations of the scores.
pub const THRESHOLDED: f64 = 3.0;

/// Parameters of a Random Cut Forest, see [`random_cut_forest`]. Names are those of AWS's forest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomCutForest {
    /// Trees; from 1 to 1,000.
    pub number_of_trees: u32,
    /// Points that a tree keeps, from 2 to 16,384.
    pub sample_size: u32,
    /// How fast the chance of a point to be kept falls with each later one, from 0 (never) to 1; without it 1 / (10 · `sample_size`).
    pub time_decay: Option<f64>,
    /// Rows of a key that make a point, at least 1; rows times columns are 1,024 at most.
    pub shingle_size: u32,
    /// Points of a key that score 0 because too little is known of it; without it `sample_size` / 4.
    pub output_after: Option<u32>,
    /// Whether a score is in deviations above what the key's scores have been, and anomalies of one shingle are one event.
    pub thresholded: bool,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Default for RandomCutForest {
    fn default() -> RandomCutForest {
        RandomCutForest {
            number_of_trees: 50,
            sample_size: 256,
            time_decay: None,
            shingle_size: 1,
            output_after: None,
            thresholded: false,
            seed: 42,
        }
    }
}

/// Detection by a Random Cut Forest of 50 trees of 256 points with the latest row as a point; for shingles and the thresholded mode make
/// a [`RandomCutForest`]. Watches columns together and tells their attribution: columns of different units should be scaled first.
///
/// A score is about 1 where all is well, more where a point is strange. Threshold: [`THRESHOLD`]; of the thresholded forest, whose
/// scores are in deviations of the plain ones, [`THRESHOLDED`], and rows of a shingle are held back. A key's first rows score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::forest`]. State: 0.6 MB a key for one dimension, 1.7 MB for eight.
pub fn random_cut_forest() -> Detection {
    Detection::new(RandomCutForest::default())
}

impl RandomCutForest {
    fn decay(&self) -> f64 {
        self.time_decay.unwrap_or(0.1 / f64::from(self.sample_size))
    }

    fn check(&self, columns: usize) -> Result<()> {
        let RandomCutForest { number_of_trees, sample_size, shingle_size, .. } = *self;
        if !(1..=1_000).contains(&number_of_trees) || !(2..=MOST_SAMPLES).contains(&sample_size) {
            return Err(Error::config(format!(
                "`number_of_trees` is {number_of_trees} and `sample_size` {sample_size}; there are from 1 to 1000 trees, of 2 to {MOST_SAMPLES} points"
            )));
        }
        if !(0.0..=1.0).contains(&self.decay()) {
            return Err(Error::config(format!("`time_decay` is {}; it must lie between 0 and 1", self.decay())));
        }
        let dimensions = columns.saturating_mul(shingle_size as usize);
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(Error::config(format!(
                "a shingle of {shingle_size} rows with {columns} columns has {dimensions} dimensions; there may be from 1 to {MOST_DIMENSIONS}"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for RandomCutForest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RandomCutForest { number_of_trees, sample_size, shingle_size, .. } = self;
        write!(f, "random_cut_forest(number_of_trees={number_of_trees}, sample_size={sample_size}, shingle_size={shingle_size}")?;
        if let Some(decay) = self.time_decay {
            write!(f, ", time_decay={decay}")?;
        }
        if let Some(rows) = self.output_after {
            write!(f, ", output_after={rows}")?;
        }
        f.write_str(if self.thresholded { ", thresholded)" } else { ")" })
    }
}

impl DetectorSpec for RandomCutForest {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let columns = on.len();
        self.check(columns)?;
        let params = kernels::RandomCutForest {
            number_of_trees: self.number_of_trees,
            sample_size: self.sample_size,
            time_decay: self.decay(),
            shingle_size: self.shingle_size,
            output_after: self.output_after.unwrap_or(self.sample_size / 4),
            seed: self.seed,
        };
        let usual = self.thresholded.then(|| Cells::new(None));
        Ok(Box::new(State { params, columns, forests: Cells::new(Some(Forest::bytes)), usual }))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn tells_attribution(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        if self.thresholded { THRESHOLDED } else { THRESHOLD }
    }

    fn refractory(&self) -> Option<Refractory> {
        self.thresholded.then_some(Refractory::Rows(self.shingle_size.into()))
    }
}

struct State {
    params: kernels::RandomCutForest,
    columns: usize,
    forests: Cells<Forest>,
    /// What scores have been, for the thresholded forest.
    usual: Option<Cells<UsualScores>>,
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()> {
        let (forests, columns) = (self.forests.reach(observations.groups), observations.floats());
        let attribution = told.attribution.as_deref_mut();
        kernels::random_cut_forest(forests, observations.slots, &views(&columns), &self.params, scores, attribution);
        if let Some(usual) = &mut self.usual {
            let plain = scores.to_vec();
            kernels::above_usual(usual.reach(observations.groups), observations.slots, self.params.time_decay, scores);
            // Parts of the plain score become parts of the one that is given.
            for shares in told.attribution.iter_mut().flatten() {
                let rows = shares.iter_mut().zip(&plain).zip(scores.iter());
                rows.filter(|((_, plain), _)| **plain > 0.0).for_each(|((share, plain), score)| *share *= score / plain);
            }
        }
        self.forests.look(scores.len());
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.forests.bytes() + self.usual.as_ref().map_or(0, Cells::bytes)
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        self.forests.save(slot, |forest| out.bytes(&forest.to_bytes()));
        if let Some(usual) = &self.usual {
            usual.save(slot, |usual| {
                out.float(usual.mean);
                out.float(usual.variance);
                out.word(usual.count);
            });
        }
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        let forest = Forest::from_bytes(from.bytes()?, self.columns, &self.params);
        self.forests.load(slot, forest.ok_or_else(|| damaged("a forest contradicts itself, or is of other parameters"))?);
        if let Some(usual) = &mut self.usual {
            usual.load(slot, UsualScores { mean: from.float()?, variance: from.float()?, count: from.word()? });
        }
        Ok(())
    }

    fn keep(&mut self, slots: &[u32], _groups: usize) -> Result<()> {
        self.forests.keep(slots);
        self.usual.iter_mut().for_each(|usual| usual.keep(slots));
        Ok(())
    }
}
