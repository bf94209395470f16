//! Profile: how unlike its key a row is, by how much, at which hour, with whom and where.

use std::fmt;
use std::time::Duration;

use thalweg_kernels::{
    self as kernels, Hours, KnownNames, KnownPlaces, LatestValues, NameFilter, ProfileCell, ProfileHabit, ProfilePart, Quantity,
};

use crate::error::{Error, Result};
use crate::operator::detect::by_key::{ByKey, Kernel, views};
use crate::operator::detect::stepwise::check_rows;
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given: one in a thousand.
pub const THRESHOLD: f64 = 3.0;

const DAY: Duration = Duration::from_secs(86_400);

/// Parameters of a profile, see [`profile`].
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Watched columns that are names, such as a merchant or a country: of text or any other type. All others are quantities.
    pub names: Vec<String>,
    /// Watched columns that are the latitude and the longitude of a place, in degrees.
    pub place: Option<(String, String)>,
    /// Whether the hour of a row's event time is watched too.
    pub hours: bool,
    /// Rows of a key that are looked back on, from 10 to 65,536.
    pub window: u32,
    /// Rows of a key that score 0 because too little is known of it, at least 2, at most the window.
    pub warmup: u32,
    /// What distance counts as the same place, in km, above 0.
    pub near: f64,
}

impl Default for Profile {
    /// Quantities and hours.
    fn default() -> Profile {
        Profile { names: Vec::new(), place: None, hours: true, window: 256, warmup: 20, near: 10.0 }
    }
}

/// Detection of rows that are unlike their key's history in several ways at once: a card's payment by its amount, its hour of the day, its merchant and its
/// place. Watches columns together and tells attribution: which column, and how much of the score is its.
///
/// Each column is a quantity, unless [`Profile`] says that it is a name or a part of a place; the hour is that of the event time. Of each the share of the
/// key's rows that are as unusual is known, and all are put together by Fisher's method, so that a score of 3, the threshold, is one row in a thousand where
/// they are independent. A key's first 20 rows score 0; the latest 256 are looked back on.
///
/// Equations and sources: [`thalweg_kernels::anomaly::profile`]. State of a key: 4 kB a quantity, 0.3 kB a name, 4.7 kB a place, 0.1 kB the hours.
///
/// ```
/// use thalweg::Detection;
/// use thalweg::operator::detect::Profile;
/// let place = Some(("lat".to_owned(), "lon".to_owned()));
/// let habits = Profile { names: vec!["merchant".to_owned()], place, ..Profile::default() };
/// let unlike = Detection::new(habits).on(["amount", "merchant", "lat", "lon"]).by(["card"]);
/// ```
pub fn profile() -> Detection {
    Detection::new(Profile::default())
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("profile(")?;
        if !self.names.is_empty() {
            write!(f, "names=[{}], ", self.names.join(", "))?;
        }
        if let Some((latitude, longitude)) = &self.place {
            write!(f, "place=({latitude}, {longitude}), ")?;
        }
        write!(f, "hours={}, window={})", self.hours, self.window)
    }
}

impl Profile {
    /// What each watched column is.
    fn parts(&self, on: &[String]) -> Result<Vec<ProfilePart>> {
        let place = |name: &String| self.place.as_ref().is_some_and(|place| *name == place.0 || *name == place.1);
        let find = |name: &String| {
            let unknown =
                || Error::config(format!("`profile` is told what `{name}` is, but watches [{}]; name it in `on`, too", on.join(", ")));
            on.iter().position(|column| column == name).ok_or_else(unknown)
        };
        self.names.iter().try_for_each(|name| match place(name) {
            true => Err(Error::config(format!("`profile` cannot take `{name}` both for a name and for a part of a place"))),
            false => find(name).map(|_| ()),
        })?;
        let columns = on.iter().enumerate().filter(|(_, name)| !place(name));
        let mut parts: Vec<ProfilePart> = columns
            .map(|(column, name)| if self.is_name(name) { ProfilePart::Name(column) } else { ProfilePart::Quantity(column) })
            .collect();
        if let Some((latitude, longitude)) = &self.place {
            parts.push(ProfilePart::Place(find(latitude)?, find(longitude)?));
        }
        Ok(parts)
    }
}

impl DetectorSpec for Profile {
    fn build(&self, on: &[String], unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        check_rows("window", self.window.into(), 10, 1 << 16)?;
        check_rows("warmup", self.warmup.into(), 2, self.window.into())?;
        if !(self.near > 0.0 && self.near.is_finite()) {
            return Err(Error::config(format!("`near` is {} km; it must be above 0", self.near)));
        }
        let day = match (self.hours, unit) {
            (false, _) => None,
            (true, Some(unit)) => Some(unit.count(DAY)?),
            (true, None) => {
                return Err(Error::config(
                    "`profile` watches the hours of event times, but the stream has none; call `event_time(column)` before `detect`, or turn `hours` off",
                ));
            }
        };
        let params = kernels::Profile { parts: self.parts(on)?, day, window: self.window, warmup: self.warmup, near: self.near };
        Ok(Box::new(ByKey::new(params)))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn is_name(&self, column: &str) -> bool {
        self.names.iter().any(|name| name == column)
    }

    fn tells_attribution(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

impl Kernel for kernels::Profile {
    type Cell = ProfileCell;

    const HELD: Option<fn(&ProfileCell) -> usize> = Some(ProfileCell::bytes);

    fn score(&self, cells: &mut [ProfileCell], observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) {
        let (columns, attribution) = (observations.floats(), told.attribution.as_deref_mut());
        kernels::profile(cells, observations.slots, observations.times, &views(&columns), self, scores, attribution);
    }

    fn save(&self, cell: &ProfileCell, out: &mut Writer) {
        out.word(cell.rows);
        if cell.rows == 0 {
            return;
        }
        cell.hours.counts.iter().for_each(|count| out.word(u64::from(*count)));
        for habit in &cell.habits {
            match habit {
                ProfileHabit::Quantity(quantity) => save_quantity(quantity, out),
                ProfileHabit::Name(names) => names.filters.iter().for_each(|filter| save_filter(filter, out)),
                ProfileHabit::Place(known) => {
                    let (places, distances) = known.parts();
                    out.floats(&places.flat_map(|place| [place.0, place.1]).collect::<Vec<f64>>());
                    save_quantity(distances, out);
                }
            }
        }
    }

    fn load(&self, from: &mut Reader<'_>) -> Result<ProfileCell> {
        let mut cell = ProfileCell { rows: from.word()?, ..ProfileCell::default() };
        if cell.rows > 0 {
            let counts = from.words()?.map(|count: u64| u32::try_from(count).unwrap_or(u32::MAX));
            cell.hours = Hours { counts };
            cell.habits = self.parts.iter().map(|part| load_habit(*part, self.window, from)).collect::<Result<_>>()?;
            if !cell.hours.is_sound(self.window) {
                return Err(damaged("the hours of a key have more rows than its window"));
            }
        }
        Ok(cell)
    }
}

fn save_quantity(quantity: &Quantity, out: &mut Writer) {
    out.words(&quantity.quiet.map(u64::from));
    out.floats(&quantity.values.in_order_of_arrival().collect::<Vec<f64>>());
}

fn load_quantity(window: u32, from: &mut Reader<'_>) -> Result<Quantity> {
    let quiet = from.words()?.map(|rows: u64| u32::try_from(rows).unwrap_or(u32::MAX));
    let values = LatestValues::restored(from.floats()?, window as usize);
    let quantity = values.map(|values| Quantity { values, quiet }).filter(|quantity| quantity.is_sound(window));
    quantity.ok_or_else(|| damaged("a key has more values than its window"))
}

fn save_filter(filter: &NameFilter, out: &mut Writer) {
    out.words(&[filter.rows.into(), filter.new.into(), filter.bits.len() as u64]);
    out.words(&filter.bits);
}

fn load_filter(from: &mut Reader<'_>) -> Result<NameFilter> {
    let [rows, new] = from.words()?.map(|count: u64| u32::try_from(count).unwrap_or(u32::MAX));
    let words = from.count(size_of::<u64>())?;
    Ok(NameFilter { rows, new, bits: (0..words).map(|_| from.word()).collect::<Result<_>>()? })
}

fn load_habit(part: ProfilePart, window: u32, from: &mut Reader<'_>) -> Result<ProfileHabit> {
    match part {
        ProfilePart::Quantity(_) => load_quantity(window, from).map(ProfileHabit::Quantity),
        ProfilePart::Name(_) => {
            let names = KnownNames { filters: [load_filter(from)?, load_filter(from)?] };
            match names.is_sound(window) {
                true => Ok(ProfileHabit::Name(names)),
                false => Err(damaged("the names of a key are of another window")),
            }
        }
        ProfilePart::Place(..) => {
            let places = from.floats()?;
            let known = KnownPlaces::restored(places.chunks_exact(2).map(|place| (place[0], place[1])), load_quantity(window, from)?);
            known.map(ProfileHabit::Place).ok_or_else(|| damaged("the places of a key are too many or not on earth"))
        }
    }
}
