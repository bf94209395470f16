//! Places of a profile: how far a row is from where its key has been.

use crate::anomaly::profile::quantity::{Quantity, Sides};
use crate::anomaly::profile::{Profile, Said};
use crate::anomaly::travel::great_circle;

/// Places of a key that are kept.
pub const MOST_PLACES: usize = 16;

/// The places that a key was seen at, and how far from them it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownPlaces {
    /// That of the latest row first. One takes in all rows that are near.
    places: Vec<Known>,
    /// How much farther than near the latest rows were from the nearest place, in km.
    distances: Quantity,
}

/// A place in degrees, and where it is on a sphere of radius 1: the nearest is found by the straight line, which takes no trigonometry.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    place: (f64, f64),
    unit: [f64; 3],
}

impl Known {
    fn at(place: (f64, f64)) -> Known {
        let ((sin_lat, cos_lat), (sin_lon, cos_lon)) = (place.0.to_radians().sin_cos(), place.1.to_radians().sin_cos());
        Known { place, unit: [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat] }
    }

    /// The square of the straight line to another place.
    fn squared(&self, other: &Known) -> f64 {
        self.unit.iter().zip(&other.unit).map(|(a, b)| (a - b) * (a - b)).sum()
    }
}

impl KnownPlaces {
    /// The places, in degrees, that of the latest row first; and the latest distances.
    pub fn parts(&self) -> (impl Iterator<Item = (f64, f64)>, &Quantity) {
        (self.places.iter().map(|known| known.place), &self.distances)
    }

    /// What has these parts, if they can be what a kernel left: for what comes from a snapshot.
    pub fn restored(places: impl Iterator<Item = (f64, f64)>, distances: Quantity) -> Option<KnownPlaces> {
        let places: Vec<Known> = places.map(Known::at).collect();
        let is_sound =
            places.len() <= MOST_PLACES && places.iter().all(|known| known.place.0.abs() <= 90.0 && known.place.1.abs() <= 180.0);
        is_sound.then_some(KnownPlaces { places, distances })
    }

    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Known>() + self.distances.values.bytes()
    }

    /// Says how unusual a place is, which is then known.
    pub(super) fn take(&mut self, place: (f64, f64), params: &Profile, is_warm: bool) -> Said {
        let here = Known::at(place);
        let nearest = self.places.iter().map(|known| known.squared(&here)).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        let distance = nearest.map_or(0.0, |(at, _)| great_circle(self.places[at].place, place));
        let known = match nearest.filter(|_| distance <= params.near) {
            Some((at, _)) => self.places.remove(at),
            None => here,
        };
        self.places.truncate(MOST_PLACES - 1);
        self.places.insert(0, known);
        self.distances.take((distance - params.near).max(0.0), params.near, Sides::Upper, params.window, is_warm)
    }
}
