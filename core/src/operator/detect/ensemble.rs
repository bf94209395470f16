//! Ensembles: several detectors, whose scores are brought to one measure, how rare they are, and put together.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::operator::detect::calibrations::Calibrations;
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::operator::devices::Devices;
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: one in a thousand.
pub const THRESHOLD: f64 = 3.0;

/// How the scores of several detectors become one, see [`ensemble`].
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// The greatest counts: what one detector finds is found.
    Max,
    /// The mean counts: what most detectors find strange is found.
    Mean,
    /// The mean by these weights counts, one for each detector, each at least 0, not all 0.
    Weighted(Vec<f64>),
}

/// Several detectors as one, see [`ensemble`].
#[derive(Debug, Clone)]
pub struct Ensemble {
    members: Vec<Arc<dyn DetectorSpec>>,
    how: How,
}

/// Detection by several detectors together, each with the parameters it has; what else the detections say does not count. Scores of different detectors
/// do not compare, but how rare each is for its key does:
///
/// ```text
/// s     = -log10 p                          p as in `with_p`: the share of the key's earlier scores of that detector that were at least as high
/// score = greatest s, or mean of s (that of the logarithms: the geometric mean of p)
/// ```
///
/// So a score of 3, the [`THRESHOLD`], is one in a thousand, for the greatest of k detectors up to k in a thousand. Detectors that watch a column each do so
/// here, the greatest of the columns' scores being theirs; those that watch columns together watch all. A detector that has no score for a row does not count
/// in it. A key's score can reach 3 only once it has a thousand rows.
///
/// State: that of the detectors, and 1.1 kB a key for each.
///
/// ```
/// use thalweg::operator::detect::How;
/// use thalweg::{ensemble, ewma, half_space_trees, robust_z};
/// let detection = ensemble([ewma(0.05), robust_z(), half_space_trees()], How::Max).on(["load", "temperature"]).by(["machine"]);
/// ```
pub fn ensemble(members: impl IntoIterator<Item = Detection>, how: How) -> Detection {
    Detection::new(Ensemble::new(members, how))
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Max => f.write_str("how=max"),
            How::Mean => f.write_str("how=mean"),
            How::Weighted(weights) => write!(f, "weights={weights:?}"),
        }
    }
}

impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.members.iter().map(|member| member.to_string()).collect();
        write!(f, "ensemble([{}], {})", members.join(", "), self.how)
    }
}

impl Ensemble {
    /// The detectors of these detections as one.
    pub fn new(members: impl IntoIterator<Item = Detection>, how: How) -> Ensemble {
        Ensemble { members: members.into_iter().map(|member| member.detector).collect(), how }
    }

    /// The weights of the members; `None` if the greatest counts.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if there is no member, or weights are not one for each or out of range.
    fn weights(&self) -> Result<Option<Vec<f64>>> {
        if self.members.is_empty() {
            return Err(Error::config("an ensemble needs at least one detector"));
        }
        match &self.how {
            How::Max => Ok(None),
            How::Mean => Ok(Some(vec![1.0; self.members.len()])),
            How::Weighted(weights) if weights.len() != self.members.len() => Err(Error::config(format!(
                "an ensemble of {} detectors has {} weights; give one for each",
                self.members.len(),
                weights.len()
            ))),
            How::Weighted(weights) => match weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
                && weights.iter().sum::<f64>() > 0.0
            {
                true => Ok(Some(weights.clone())),
                false => Err(Error::config(format!("the weights of an ensemble are {weights:?}; each must be at least 0, and not all 0"))),
            },
        }
    }
}

impl DetectorSpec for Ensemble {
    fn build(&self, on: &[String], unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let weights = self.weights()?;
        if let Some(name) = on.iter().find(|name| self.is_name(name) && !self.members.iter().all(|member| member.is_name(name))) {
            return Err(Error::config(format!(
                "an ensemble cannot watch `{name}` both as a name and as a number; give the detector that takes names a `detect` of its own"
            )));
        }
        let member = |spec: &Arc<dyn DetectorSpec>| {
            let each = if spec.is_joint() { on.len() } else { 1 };
            let detectors = on.chunks(each).map(|on| spec.build(on, unit)).collect::<Result<_>>()?;
            Ok(Member { detectors, each, calibrations: Calibrations::default() })
        };
        Ok(Box::new(State { members: self.members.iter().map(member).collect::<Result<_>>()?, weights }))
    }

    fn is_joint(&self) -> bool {
        self.members.iter().any(|member| member.is_joint())
    }

    fn is_name(&self, column: &str) -> bool {
        self.members.iter().any(|member| member.is_name(column))
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

/// A detector of an ensemble: itself, or one for each column.
struct Member {
    detectors: Vec<Box<dyn Detector>>,
    /// Columns that each watches.
    each: usize,
    calibrations: Calibrations,
}

impl Member {
    /// How rare its scores are, as powers of ten; NaN where it has none.
    fn rarities(&mut self, observations: &Observations<'_>) -> Result<Vec<f64>> {
        let mut scores = vec![f64::NAN; observations.slots.len()];
        let mut own = Vec::new();
        for (detector, columns) in self.detectors.iter_mut().zip(observations.columns.chunks(self.each)) {
            own.clear();
            own.resize(scores.len(), f64::NAN);
            detector.score(&Observations { columns, ..*observations }, &mut own, &mut Told::default())?;
            scores.iter_mut().zip(&own).for_each(|(score, own)| *score = score.max(*own));
        }
        let mut p = self.calibrations.p_values(observations.slots, observations.groups, &scores);
        p.iter_mut().for_each(|p| *p = -p.log10());
        Ok(p)
    }
}

struct State {
    members: Vec<Member>,
    /// `None` if the greatest counts.
    weights: Option<Vec<f64>>,
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) -> Result<()> {
        let rarities = self.members.iter_mut().map(|member| member.rarities(observations)).collect::<Result<Vec<_>>>()?;
        for (row, score) in scores.iter_mut().enumerate() {
            let known = || rarities.iter().map(|rarities| rarities[row]).enumerate().filter(|(_, rarity)| !rarity.is_nan());
            *score = match &self.weights {
                // Of p = 1 the logarithm is -0.
                None => known().map(|(_, rarity)| rarity.abs()).fold(f64::NAN, f64::max),
                Some(weights) => {
                    let (sum, all) =
                        known().fold((0.0, 0.0), |(sum, all), (at, rarity)| (sum + weights[at] * rarity.abs(), all + weights[at]));
                    if all > 0.0 { sum / all } else { f64::NAN }
                }
            };
        }
        Ok(())
    }

    fn place(&mut self, devices: &Devices) {
        self.members.iter_mut().flat_map(|member| &mut member.detectors).for_each(|detector| detector.place(devices));
    }

    /// Those of members with a twin on a GPU; the others are the processor's.
    fn placement(&self) -> Option<String> {
        self.members.iter().flat_map(|member| &member.detectors).find_map(|detector| detector.placement())
    }

    fn state_bytes(&self) -> usize {
        let of =
            |member: &Member| member.detectors.iter().map(|detector| detector.state_bytes()).sum::<usize>() + member.calibrations.bytes();
        self.members.iter().map(of).sum()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        for member in &self.members {
            member.detectors.iter().try_for_each(|detector| detector.save(slot, out))?;
            member.calibrations.save(slot, out);
        }
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        for member in &mut self.members {
            member.detectors.iter_mut().try_for_each(|detector| detector.load(slot, from))?;
            member.calibrations.load(slot, from)?;
        }
        Ok(())
    }

    fn keep(&mut self, slots: &[u32], groups: usize) -> Result<()> {
        for member in &mut self.members {
            member.detectors.iter_mut().try_for_each(|detector| detector.keep(slots, groups))?;
            member.calibrations.keep(slots);
        }
        Ok(())
    }
}
