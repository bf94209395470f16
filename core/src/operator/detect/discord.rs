//! Left discord: how unlike the latest stretch of a series is to every earlier one, in shape.

use std::fmt;

use thalweg_kernels::placement::Discord;
use thalweg_kernels::{self as kernels, DiscordSeries};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::Tally;
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::operator::devices::{self, Devices};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// Values of a stretch unless another number is given.
pub const DEFAULT_LENGTH: u32 = 64;

/// Values of a key that stretches are looked for in unless another number is given.
pub const DEFAULT_HISTORY: u32 = 4_000;

/// The score from which a row is an anomaly unless another is given: no earlier stretch correlates by more than 0.36.
pub const THRESHOLD: f64 = 0.8;

/// Largest history.
const MOST_ROWS: u32 = 1 << 20;

/// Parameters of the left discord, see [`left_discord`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeftDiscord {
    /// Values of a stretch: at least 2.
    pub length: u32,
    /// Values of a key that stretches are looked for in: at least twice the length, at most 2²⁰.
    pub history: u32,
}

impl Default for LeftDiscord {
    fn default() -> LeftDiscord {
        LeftDiscord { length: DEFAULT_LENGTH, history: DEFAULT_HISTORY }
    }
}

/// Detection of shapes unlike those before: the z-normalised distance of a key's latest [`DEFAULT_LENGTH`] values to the nearest stretch
/// of the [`DEFAULT_HISTORY`] before, in [0, √2]. Exact. For series with a pattern; in noise all stretches are far from each other, so
/// choose by [`Detection::false_alarm_rate`] there. Threshold: [`THRESHOLD`]. A key's first 2 · length - 1 rows have no score.
///
/// Equations and sources: [`thalweg_kernels::anomaly::discord`]. State: 48 bytes for each value of the history, 0.2 MB a key.
///
/// On a GPU only where the configuration asks for one by name: scores are then within 2e-5 of the processor's.
pub fn left_discord() -> Detection {
    Detection::new(LeftDiscord::default())
}

impl fmt::Display for LeftDiscord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left_discord(length={}, history={})", self.length, self.history)
    }
}

impl DetectorSpec for LeftDiscord {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let LeftDiscord { length, history } = *self;
        if length < 2 || history / 2 < length || history > MOST_ROWS {
            return Err(Error::config(format!(
                "`length` is {length} and `history` {history} values; a stretch has at least 2, a history at least two stretches and at most \
                 {MOST_ROWS} values"
            )));
        }
        Ok(Box::new(State::of(self)))
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

/// The left discord as a part of another detector too: its series may lie on a GPU.
pub(super) struct State {
    params: kernels::LeftDiscord,
    series: Discord,
    tally: Tally,
}

impl State {
    /// With parameters that are in range.
    pub fn of(params: &LeftDiscord) -> State {
        let params = kernels::LeftDiscord { length: params.length, history: params.history };
        State { params, series: Discord::new(&devices::unused(), params), tally: Tally::default() }
    }
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) -> Result<()> {
        self.series.grow(observations.groups);
        let (values, validity) = (observations.values().values(), observations.validity());
        self.series.score(observations.slots, values, validity, scores);
        self.tally.look(scores.len(), self.series.series(), DiscordSeries::bytes);
        Ok(())
    }

    fn place(&mut self, devices: &Devices) {
        self.series = Discord::new(devices, self.params);
    }

    fn placement(&self) -> Option<String> {
        Some(self.series.explain())
    }

    fn state_bytes(&self) -> usize {
        self.series.bytes() + self.tally.bytes()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        let (count, values) = self.series.series().get(slot as usize).map_or((0, &[][..]), |series| (series.count(), series.values()));
        out.word(count);
        out.bytes(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.series.grow(slot as usize + 1);
        let (count, (values, rest)) = (from.word()?, from.bytes()?.as_chunks::<8>());
        let values: Vec<f64> = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let series = DiscordSeries::restored(count, &values, &self.params).filter(|_| rest.is_empty());
        let series = series.ok_or_else(|| damaged("a key's series has another length than its count of values makes"))?;
        self.series.restore(slot as usize, series);
        self.tally.look(1, self.series.series(), DiscordSeries::bytes);
        Ok(())
    }

    fn keep(&mut self, slots: &[u32], _groups: usize) -> Result<()> {
        self.series.keep(slots);
        self.tally.look(self.series.series().len(), self.series.series(), DiscordSeries::bytes);
        Ok(())
    }
}
