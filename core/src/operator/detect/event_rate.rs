//! How often rows come, beside how often they came before.

use std::fmt;
use std::time::Duration;

use thalweg_kernels::{self as kernels, RateCell};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// Parameters of the rate of events, see [`event_rate`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventRate {
    /// The span of event time in which rows are counted.
    pub every: Duration,
    /// Weight of the newest span, above 0, at most 1: the memory is about 2/alpha spans.
    pub alpha: f64,
    /// Whole spans of a key whose rows score 0.
    pub warmup: u64,
}

/// Detection by how often rows come: the number of a key's rows in each span of event time `every`, beside mean and deviation of the spans before.
/// Too many rows are told while they come, too few by the first row after the span; a key that falls silent for good is told by
/// [`heartbeat`](crate::Stream::heartbeat). It needs an event time. Rows that have a value in the watched column count, whatever it is.
///
/// Alpha is 0.05; rows of a key's first 10 whole spans score 0. Threshold: 4 deviations.
///
/// Equations and sources: [`thalweg_kernels::anomaly::rate`]. State: 40 bytes a key.
pub fn event_rate(every: Duration) -> Detection {
    Detection::new(EventRate { every, alpha: 0.05, warmup: 10 })
}

impl fmt::Display for EventRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event_rate(every={:?}, alpha={}, warmup={})", self.every, self.alpha, self.warmup)
    }
}

impl DetectorSpec for EventRate {
    fn build(&self, _on: &[String], unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let EventRate { every, alpha, warmup } = *self;
        if !(alpha > 0.0 && alpha <= 1.0) {
            return Err(Error::config(format!("`alpha` is {alpha}; it must lie between 0 and 1, 0 excluded")));
        }
        let unit = unit.ok_or_else(|| {
            Error::config("`event_rate` counts rows by event time, but the stream has none; call `event_time(column)` before `detect`")
        })?;
        let span = unit.count(every)?;
        if span < 1 {
            return Err(Error::config("`every` is no time at all; give a span such as a minute"));
        }
        Ok(Box::new(ByKey::new(kernels::Rate { span, alpha, warmup })))
    }
}

impl Kernel for kernels::Rate {
    type Cell = RateCell;

    fn score(&self, cells: &mut [RateCell], observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) {
        // A stream with an event time has it in every batch.
        let Some(times) = observations.times else { return };
        kernels::rate(cells, observations.slots, times, observations.values().values(), observations.validity(), self, scores);
    }

    fn save(&self, cell: &RateCell, out: &mut Writer) {
        let RateCell { span, rows, spans, mean, variance } = *cell;
        out.words(&[span as u64, rows, spans]);
        out.float(mean);
        out.float(variance);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<RateCell> {
        let [span, rows, spans] = from.words()?;
        Ok(RateCell { span: span as i64, rows, spans, mean: from.float()?, variance: from.float()? })
    }
}
