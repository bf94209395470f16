//! Impossible travel: how fast a key would have had to go from where it was last.

use std::fmt;
use std::time::Duration;

use thalweg_kernels::{self as kernels, Place};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel};
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: from there on the way is impossible.
pub const THRESHOLD: f64 = 1.0;

const HOUR: Duration = Duration::from_secs(3_600);

/// Parameters of impossible travel, see [`impossible_travel`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImpossibleTravel {
    /// The speed that is just possible, in km/h, above 0.
    pub most_speed: f64,
    /// Distance that counts as none, because places are not known better, in km, at least 0.
    pub tolerance: f64,
}

impl Default for ImpossibleTravel {
    /// An airliner's speed, and places known within a city.
    fn default() -> ImpossibleTravel {
        ImpossibleTravel { most_speed: 900.0, tolerance: 50.0 }
    }
}

/// Detection of rows that are too far from their key's latest for the time between them: a card paid with in two places, an account logged into from two.
/// Watches a latitude and a longitude, in degrees, in this order, and needs an event time. The score is the speed along the great circle, less a
/// tolerance of 50 km, in units of 900 km/h: from 1 on, the threshold, nobody can have gone that way.
///
/// Equations and sources: [`thalweg_kernels::anomaly::travel`]. State: 32 bytes a key.
pub fn impossible_travel() -> Detection {
    Detection::new(ImpossibleTravel::default())
}

impl fmt::Display for ImpossibleTravel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "impossible_travel(most_speed={}, tolerance={})", self.most_speed, self.tolerance)
    }
}

impl DetectorSpec for ImpossibleTravel {
    fn build(&self, on: &[String], unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let columns = on.len();
        let ImpossibleTravel { most_speed, tolerance } = *self;
        if !(most_speed > 0.0 && most_speed.is_finite() && tolerance >= 0.0 && tolerance.is_finite()) {
            return Err(Error::config(format!(
                "`most_speed` is {most_speed} and `tolerance` {tolerance}; above 0 and at least 0 are wanted"
            )));
        }
        if columns != 2 {
            return Err(Error::config(format!(
                "`impossible_travel` watches two columns, latitude and longitude, not {columns}; name both in `on`"
            )));
        }
        let unit = unit.ok_or_else(|| {
            Error::config("`impossible_travel` needs event times, but the stream has none; call `event_time(column)` before `detect`")
        })?;
        let per_hour = unit.count(HOUR)? as f64;
        Ok(Box::new(ByKey::new(kernels::Travel { most_speed, tolerance, per_hour })))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

impl Kernel for kernels::Travel {
    type Cell = Place;

    fn score(&self, cells: &mut [Place], observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) {
        // A stream with an event time has it in every batch, and there are two columns.
        if let (Some(times), [latitudes, longitudes]) = (observations.times, &observations.floats()[..]) {
            kernels::travel(cells, observations.slots, times, latitudes, longitudes, self, scores);
        }
    }

    fn save(&self, cell: &Place, out: &mut Writer) {
        let Place { latitude, longitude, time, is_known } = *cell;
        out.float(latitude);
        out.float(longitude);
        out.words(&[time as u64, is_known.into()]);
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<Place> {
        let (latitude, longitude, [time, is_known]) = (from.float()?, from.float()?, from.words()?);
        Ok(Place { latitude, longitude, time: time as i64, is_known: is_known != 0 })
    }
}
