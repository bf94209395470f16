//! What is made of scores: how rare they are, the event that they belong to, and the region around it.

use std::time::Duration;

use thalweg_kernels::{TopWithin, smooth};

use crate::error::{Error, Result};
use crate::operator::detect::Told;
use crate::operator::detect::calibrations::Calibrations;
use crate::operator::detect::detection::{Among, Detection, MOST_SCORES_WITHIN, Refractory};
use crate::operator::detect::events::Events;
use crate::operator::detect::top::Top;
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The columns on request: `p`, `event_score` and `region`, with their state by key, and what detectors tell.
pub(super) struct Requested {
    calibration: Option<Calibrations>,
    top: Option<Top>,
    events: Option<Events>,
    /// Whether events are told by event time.
    timed: bool,
    /// The weight of the newest row in `region`, and the level of each key.
    region: Option<(f64, Vec<f64>)>,
    expected: bool,
    attribution: bool,
    /// Whether attribution follows from what was expected, which is then asked for too.
    signed: bool,
}

/// The values of the columns on request, in their order; NaN where there is no score.
#[derive(Default)]
pub(super) struct Made {
    /// No column, but what decides on anomalies: ranks among the latest scores.
    pub ranks: Option<Vec<u32>>,
    pub p: Option<Vec<f64>>,
    pub event_score: Option<Vec<f64>>,
    pub region: Option<Vec<f64>>,
}

/// A span in units of event time.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if it is no whole number of them, or the stream has no event time.
fn counted(name: &str, span: Duration, unit: Option<Unit>) -> Result<i64> {
    match unit {
        Some(unit) => unit.count(span),
        None => Err(Error::config(format!(
            "`{name}` is {span:?}, but the stream has no event time; call `event_time(column)` before `detect`, or give a number of rows"
        ))),
    }
}

/// What ranks scores, if that is asked for, of a rule that is in range.
///
/// # Errors
/// As [`counted`].
fn top(detection: &Detection, unit: Option<Unit>) -> Result<Option<Top>> {
    let top = |(k, among): (u32, Among)| match among {
        Among::Rows(rows) => Ok(Top::of_rows(rows)),
        Among::Time(span) => Ok(Top::within(TopWithin { k, span: counted("top_k", span, unit)?, most_rows: MOST_SCORES_WITHIN })),
    };
    detection.top().map(top).transpose()
}

impl Requested {
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a span is out of range, or one of event time is asked of a stream without.
    pub fn new(detection: &Detection, unit: Option<Unit>) -> Result<Requested> {
        let held_back = detection.held_back();
        let span = held_back.map(|refractory| match refractory {
            Refractory::Rows(rows) => Ok(rows),
            Refractory::Time(time) => counted("refractory", time, unit).map(|count| count as u64),
        });
        if detection.region == Some(0) {
            return Err(Error::config("`region` is 0 rows; give the number of rows to smooth over, such as 64, or leave it out"));
        }
        detection.check_told()?;
        Ok(Requested {
            expected: detection.expected,
            attribution: detection.attribution,
            signed: detection.attribution && !detection.detector.tells_attribution(),
            calibration: detection.wants_p().then(Calibrations::default),
            top: top(detection, unit)?,
            events: span.transpose()?.map(Events::new),
            timed: matches!(held_back, Some(Refractory::Time(_))),
            region: detection.region.map(|rows| (2.0 / (f64::from(rows) + 1.0), Vec::new())),
        })
    }

    /// Names of the columns, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let p = self.calibration.is_some().then_some("p");
        let event_score = self.events.is_some().then_some("event_score");
        p.into_iter().chain(event_score).chain(self.region.is_some().then_some("region"))
    }

    /// Names of the columns that detectors tell, in their order, after the others.
    pub fn told_names(&self) -> impl Iterator<Item = &'static str> {
        self.expected.then_some("expected").into_iter().chain(self.attribution.then_some("attribution"))
    }

    /// What a detector is asked of so many columns and rows.
    pub fn told(&self, columns: usize, rows: usize) -> Told {
        Told::asked(self.expected || self.signed, self.attribution, columns, rows)
    }

    /// Puts what one detector told beside what others did, as far as it is to be shown.
    pub fn gather(&self, told: Told, all: &mut Told) {
        let add = |all: &mut Option<Vec<Vec<f64>>>, told: Option<Vec<Vec<f64>>>| {
            all.iter_mut().zip(told).for_each(|(all, told)| all.extend(told))
        };
        add(&mut all.attribution, told.attribution);
        match self.expected {
            true => add(&mut all.expected, told.expected),
            false => all.expected = None,
        }
    }

    /// The columns of rows with these scores, NaN where there is none.
    pub fn make(&mut self, slots: &[u32], groups: usize, times: Option<&[i64]>, scores: &[f64]) -> Made {
        let p = self.calibration.as_mut().map(|calibrations| calibrations.p_values(slots, groups, scores));
        let ranks = self.top.as_mut().map(|top| top.ranks(slots, groups, times, scores));
        let mut made = Made { ranks, p, ..Made::default() };
        if let Some(events) = &mut self.events {
            made.event_score = Some(events.hold_back(slots, groups, times.filter(|_| self.timed), scores));
        }
        if let Some((alpha, levels)) = &mut self.region {
            levels.resize(groups.max(levels.len()), f64::NAN);
            let smoothed = made.region.insert(vec![f64::NAN; scores.len()]);
            smooth(levels, slots, scores, None, *alpha, smoothed);
        }
        made
    }

    /// Moves what is known of the keys in `slots` together in this order, and forgets all others.
    pub fn keep(&mut self, slots: &[u32]) {
        self.calibration.iter_mut().for_each(|calibrations| calibrations.keep(slots));
        self.top.iter_mut().for_each(|top| top.keep(slots));
        self.events.iter_mut().for_each(|events| events.keep(slots));
        if let Some((_, levels)) = &mut self.region {
            *levels = slots.iter().map(|&slot| levels.get(slot as usize).copied().unwrap_or(f64::NAN)).collect();
        }
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        self.calibration.as_ref().map_or(0, Calibrations::bytes)
            + self.top.as_ref().map_or(0, Top::bytes)
            + self.events.as_ref().map_or(0, Events::bytes)
            + self.region.as_ref().map_or(0, |(_, levels)| levels.capacity() * size_of::<f64>())
    }

    /// Writes what is known of the key in `slot`.
    pub fn save(&self, slot: u32, out: &mut Writer) {
        if let Some(calibrations) = &self.calibration {
            calibrations.save(slot, out);
        }
        if let Some(top) = &self.top {
            top.save(slot, out);
        }
        if let Some(events) = &self.events {
            events.save(slot, out);
        }
        if let Some((_, levels)) = &self.region {
            out.float(levels.get(slot as usize).copied().unwrap_or(f64::NAN));
        }
    }

    /// Takes up what was written of the key in `slot`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what these columns write.
    pub fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        if let Some(calibrations) = &mut self.calibration {
            calibrations.load(slot, from)?;
        }
        if let Some(top) = &mut self.top {
            top.load(slot, from)?;
        }
        if let Some(events) = &mut self.events {
            events.load(slot, from)?;
        }
        if let Some((_, levels)) = &mut self.region {
            levels.resize(levels.len().max(slot as usize + 1), f64::NAN);
            levels[slot as usize] = from.float()?;
        }
        Ok(())
    }

    /// Forgets the key in `slot`, as a [detector](super::Detector::forget) does.
    ///
    /// # Errors
    /// As [`Requested::load`], which would be a defect.
    pub fn forget(&mut self, slot: u32) -> Result<()> {
        let mut nothing = Writer::default();
        self.save(u32::MAX, &mut nothing);
        self.load(slot, &mut Reader::new(&nothing.take()))
    }
}
