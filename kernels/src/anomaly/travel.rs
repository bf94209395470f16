//! Travel: how fast a key would have had to go from where it was last.
//!
//! ```text
//! h        = sin²((lat2 - lat1) / 2) + cos(lat1) cos(lat2) sin²((lon2 - lon1) / 2)
//! distance = 2 · 6371.0088 km · asin(sqrt(h))                 haversine; R. W. Sinnott, "Virtues of the haversine", 1984
//! score    = max(0, distance - tolerance) / hours / most speed          hours between the two rows' event times, either way; at least a second
//! ```
//!
//! So from 1 on nobody can have gone that way. The earth counts as a sphere, which is right within 0.6%.
//!
//! * *Two alarms*: a row far away is one, and the next at home another, for the latest row is where the key was last.
//! * *Warm-up*: a key's first row scores 0.
//! * *Missing values*: a row without a latitude in ±90 and a longitude in ±180 scores NaN and leaves the key where it was.
//! * *Out of order*: rows count in the order in which they come, by how far apart their times are.
//!
//! State: 32 bytes a key. Scores are the same bits whatever the batches; the code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::anomaly::stepwise::MOST_SCORE;

/// Mean radius of the earth, in km.
const RADIUS: f64 = 6_371.008_8;

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Travel {
    /// The speed that is just possible, in km/h; above 0.
    pub most_speed: f64,
    /// Distance that counts as none, because places are not known better, in km; at least 0.
    pub tolerance: f64,
    /// Units of event time in an hour; above 0.
    pub per_hour: f64,
}

/// Where a key was last; the default is a key not yet seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// In degrees.
    pub latitude: f64,
    /// In degrees.
    pub longitude: f64,
    /// When, in units of event time.
    pub time: i64,
    /// Whether it has been anywhere.
    pub is_known: bool,
}

/// The distance between two places by the great circle, in km; latitudes and longitudes in degrees.
pub fn great_circle(from: (f64, f64), to: (f64, f64)) -> f64 {
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let h = half(to.0 - from.0) + from.0.to_radians().cos() * to.0.to_radians().cos() * half(to.1 - from.1);
    2.0 * RADIUS * h.clamp(0.0, 1.0).sqrt().asin()
}

/// Scores each row by the speed from its key's latest place, which it is then.
///
/// # Panics
/// If the columns differ in length, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn travel(
    cells: &mut [Place],
    slots: &[u32],
    times: &[i64],
    latitudes: &[f64],
    longitudes: &[f64],
    params: &Travel,
    scores: &mut [f64],
) {
    assert!(params.most_speed > 0.0 && params.tolerance >= 0.0 && params.per_hour > 0.0, "out of range: {params:?}");
    check_lengths("slots and times", slots.len(), times.len());
    check_lengths("slots and latitudes", slots.len(), latitudes.len());
    check_lengths("slots and longitudes", slots.len(), longitudes.len());
    check_lengths("slots and scores", slots.len(), scores.len());
    for (row, &slot) in slots.iter().enumerate() {
        let (latitude, longitude, time) = (latitudes[row], longitudes[row], times[row]);
        if !(latitude.abs() <= 90.0 && longitude.abs() <= 180.0) {
            scores[row] = f64::NAN;
            continue;
        }
        let last = std::mem::replace(&mut cells[slot as usize], Place { latitude, longitude, time, is_known: true });
        let far = (great_circle((last.latitude, last.longitude), (latitude, longitude)) - params.tolerance).max(0.0);
        let hours = (time.abs_diff(last.time) as f64 / params.per_hour).max(1.0 / 3_600.0);
        scores[row] = if last.is_known { (far / hours / params.most_speed).min(MOST_SCORE) } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Place, Travel, great_circle, travel};

    const PARAMS: Travel = Travel { most_speed: 900.0, tolerance: 50.0, per_hour: 3_600_000.0 };

    /// The angle between two places seen from the middle of the earth, in km on its surface.
    fn slow(from: (f64, f64), to: (f64, f64)) -> f64 {
        let vector = |(latitude, longitude): (f64, f64)| {
            let (latitude, longitude) = (latitude.to_radians(), longitude.to_radians());
            [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
        };
        let (a, b) = (vector(from), vector(to));
        let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
        let length = cross.iter().map(|x| x * x).sum::<f64>().sqrt();
        length.atan2(a.iter().zip(b).map(|(a, b)| a * b).sum()) * 6_371.008_8
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn scores_are_speeds_from_place_to_place(
            rows in prop::collection::vec((0..3_u32, -95.0..95.0_f64, -180.0..180.0_f64, 0..100_000_000_i64), 1..60), cut in any::<prop::sample::Index>(),
        ) {
            let column = |of: fn(&(u32, f64, f64, i64)) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
            let (latitudes, longitudes) = (column(|row| row.1), column(|row| row.2));
            let (slots, times): (Vec<u32>, Vec<i64>) = rows.iter().map(|row| (row.0, row.3)).unzip();
            let (mut cells, mut scores, cut) = ([Place::default(); 3], vec![9.0; rows.len()], cut.index(rows.len()));
            for part in [0..cut, cut..rows.len()] {
                let (slots, times) = (&slots[part.clone()], &times[part.clone()]);
                travel(&mut cells, slots, times, &latitudes[part.clone()], &longitudes[part.clone()], &PARAMS, &mut scores[part]);
            }
            for (row, (key, latitude, longitude, time)) in rows.iter().enumerate() {
                if latitude.abs() > 90.0 {
                    prop_assert!(scores[row].is_nan());
                    continue;
                }
                let last = rows[..row].iter().rev().find(|other| other.0 == *key && other.1.abs() <= 90.0);
                let right = last.map_or(0.0, |last| {
                    let far = (slow((last.1, last.2), (*latitude, *longitude)) - 50.0).max(0.0);
                    far / ((time - last.3).abs() as f64 / 3_600_000.0).max(1.0 / 3_600.0) / 900.0
                });
                prop_assert!((scores[row] - right).abs() <= 1e-6 * right.max(1.0), "row {row}: {} is not {right}", scores[row]);
            }
        }
    }

    #[test]
    fn distances_are_those_of_the_map() {
        let (berlin, paris, auckland) = ((52.52, 13.405), (48.8566, 2.3522), (-36.8485, 174.7633));
        assert!((great_circle(berlin, paris) - 877.5).abs() < 1.0, "{}", great_circle(berlin, paris));
        assert_eq!(great_circle(berlin, berlin), 0.0);
        assert!((great_circle(paris, auckland) - 18_500.0).abs() < 100.0, "{}", great_circle(paris, auckland));
        assert!((great_circle((0.0, 179.5), (0.0, -179.5)) - 111.2).abs() < 0.1, "across the date line");
    }
}
