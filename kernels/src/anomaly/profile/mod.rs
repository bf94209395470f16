//! Profile: how unlike its key a row is, by several habits at once: how much, at which hour, with whom and where.
//!
//! Each part of a row has a `p`, the share of the key's rows that are as unusual in it. Independent shares are put together by R. A. Fisher's method
//! (*Statistical Methods for Research Workers*, 4th edition, 1932):
//!
//! ```text
//! x     = sum of -ln p over the k parts
//! score = -log10 P,   P = e^(-x) · (1 + x + x² / 2 + … + x^(k-1) / (k-1)!)          the share of rows with so great an x, were parts independent
//! ```
//!
//! So a score of 3 is one row in a thousand, whatever the number of parts.
//!
//! * *Quantities*, such as amounts ([`quantity`]): `p = 2 · min((at least as great + 1) / (n + 1), (at most as great + 1) / (n + 1))` of the latest `window`
//!   values, kept in order: their exact quantiles. Beyond the outermost of them it falls as the generalised Pareto tail of the outermost tenth of them does.
//! * *Hours* ([`hours`]): the share of rows, smoothed over the neighbouring hours, that fall in hours no more usual than this one.
//! * *Names*, such as merchants ([`names`]): 1 for one that was seen among the latest `window` / 2 to `window` rows; of others the share of those rows that
//!   were new when they came. A set sketch keeps them.
//! * *Places* ([`places`]): the distance to the nearest of the latest 16 places, beyond what counts as the same, taken for a quantity that is unusual where great.
//!
//! * *Warm-up*: the first `warmup` rows of a key score 0.
//! * *Learning*: every row teaches, but a fraud should not make the next one usual. A quantity beyond what one row in ten windows reaches is learnt as that, and one
//!   within a tenth of a window of another that was beyond all others as the outermost, until a tenth of the window is that: then it is a new habit. A new
//!   name or place is known from its first row on.
//! * *Missing values*: a row in which a part has none, or a place that is not on earth, scores NaN and teaches nothing.
//! * *Attribution*: a column's part is in proportion to its `-ln p`, halved between latitude and longitude; below 0 for quantities below the median. The hour
//!   has no column: its part is what is missing from the score.
//! * *Drift*: followed within some `window` rows.
//!
//! State of a key: 16 bytes for each value of the window a quantity; a byte for each a name; 0.6 kB and 16 bytes for each a place; 0.1 kB for the hours. Cost a
//! row: a move of a part of the window and a look at a tenth of it a quantity. Scores are the same bits whatever the batches; the code is the same on every
//! backend.

pub mod hours;
pub mod names;
pub mod places;
pub mod quantity;

use crate::aggregate::check_lengths;
use crate::anomaly::forest::rows_by_slot;
use crate::anomaly::profile::hours::Hours;
use crate::anomaly::profile::names::KnownNames;
use crate::anomaly::profile::places::KnownPlaces;
use crate::anomaly::profile::quantity::{Quantity, Sides};
use crate::anomaly::stepwise::MOST;

/// What is watched of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfilePart {
    /// A quantity, in this column.
    Quantity(usize),
    /// A name, in this column, as a number that stands for it: equal names are equal numbers.
    Name(usize),
    /// A place: the columns of its latitude and longitude, in degrees.
    Place(usize, usize),
}

/// Parameters of the detector.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What is watched.
    pub parts: Vec<ProfilePart>,
    /// Units of event time in a day, above 0, if hours are watched.
    pub day: Option<i64>,
    /// Rows of a key that are looked back on; at least 2.
    pub window: u32,
    /// Rows of a key that score 0, at least 1.
    pub warmup: u32,
    /// What distance counts as the same place, in km; above 0.
    pub near: f64,
}

/// What is known of one part of a key's rows.
#[derive(Clone, Debug, PartialEq)]
pub enum ProfileHabit {
    /// Of a quantity: its latest values.
    Quantity(Quantity),
    /// Of a name.
    Name(KnownNames),
    /// Of a place.
    Place(KnownPlaces),
}

/// What is known of one key; the default is a key not yet seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileCell {
    /// Rows taken in.
    pub rows: u64,
    /// When they came.
    pub hours: Hours,
    /// By part; none before the first row.
    pub habits: Vec<ProfileHabit>,
}

impl Profile {
    /// What is known of a part before its first row.
    pub fn blank(&self, part: ProfilePart) -> ProfileHabit {
        match part {
            ProfilePart::Quantity(_) => ProfileHabit::Quantity(Quantity::default()),
            ProfilePart::Name(_) => ProfileHabit::Name(KnownNames::new(self.window)),
            ProfilePart::Place(..) => ProfileHabit::Place(KnownPlaces::default()),
        }
    }

    fn is_sound(&self, columns: usize) -> bool {
        let within = |part: &ProfilePart| match *part {
            ProfilePart::Quantity(column) | ProfilePart::Name(column) => column < columns,
            ProfilePart::Place(latitude, longitude) => latitude.max(longitude) < columns,
        };
        let is_watching = !self.parts.is_empty() || self.day.is_some();
        let numbers = self.window >= 2 && self.warmup >= 1 && self.near > 0.0 && self.day.is_none_or(|day| day > 0);
        is_watching && numbers && self.parts.iter().all(within)
    }
}

/// What a part of a row says.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// -ln p.
    surprise: f64,
    /// Which way it is unusual: 1 or -1.
    sign: f64,
}

impl ProfileHabit {
    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        match self {
            ProfileHabit::Quantity(quantity) => quantity.values.bytes(),
            ProfileHabit::Name(names) => names.bytes(),
            ProfileHabit::Place(places) => places.bytes(),
        }
    }

    /// Says how unusual a row is and takes it in. `is_warm` if enough is known to say anything; else what it says is of no use.
    fn take(&mut self, part: ProfilePart, value: impl Fn(usize) -> f64, params: &Profile, is_warm: bool) -> Said {
        match (self, part) {
            (ProfileHabit::Quantity(quantity), ProfilePart::Quantity(column)) => {
                quantity.take(value(column).clamp(-MOST, MOST), 0.0, Sides::Both, params.window, is_warm)
            }
            (ProfileHabit::Name(names), ProfilePart::Name(column)) => {
                Said { surprise: names.take(value(column), params.window), sign: 1.0 }
            }
            (ProfileHabit::Place(places), ProfilePart::Place(latitude, longitude)) => {
                places.take((value(latitude), value(longitude)), params, is_warm)
            }
            // Habits are made by the parts.
            _ => Said { surprise: 0.0, sign: 1.0 },
        }
    }
}

impl ProfileCell {
    /// Bytes held beside the value itself.
    pub fn bytes(&self) -> usize {
        self.habits.capacity() * size_of::<ProfileHabit>() + self.habits.iter().map(ProfileHabit::bytes).sum::<usize>()
    }

    /// Scores a row and takes it in; `said` gets what each part says.
    fn take(&mut self, time: Option<i64>, value: impl Fn(usize) -> f64, params: &Profile, said: &mut Vec<Said>) -> f64 {
        if self.habits.is_empty() {
            self.habits = params.parts.iter().map(|part| params.blank(*part)).collect();
        }
        let is_warm = self.rows >= u64::from(params.warmup);
        said.clear();
        said.extend(self.habits.iter_mut().zip(&params.parts).map(|(habit, part)| habit.take(*part, &value, params, is_warm)));
        let hour = time.zip(params.day).map(|(time, day)| self.hours.take(hours::hour(time, day), params.window));
        self.rows += 1;
        if !is_warm {
            said.iter_mut().for_each(|said| said.surprise = 0.0);
            return 0.0;
        }
        let sum = said.iter().map(|said| said.surprise).sum::<f64>() + hour.unwrap_or(0.0);
        // The parts are made to add up to the score.
        let score = together(sum, said.len() + usize::from(hour.is_some()));
        let scale = if sum > 0.0 { score / sum } else { 0.0 };
        said.iter_mut().for_each(|said| said.surprise *= scale);
        score
    }
}

/// How rare so great a sum of -ln p of `parts` independent parts is, as a power of ten.
fn together(sum: f64, parts: usize) -> f64 {
    let mut term = 1.0;
    let mut terms = 1.0;
    for k in 1..parts {
        term *= sum / k as f64;
        terms += term;
    }
    ((sum - terms.ln()) / std::f64::consts::LN_10).max(0.0)
}

/// Scores each row and takes it into its key's cell. `columns` are those that the parts name, `times` the event times, without which no hours are watched.
/// `attribution`, if it is asked for, gets for each column a number per row and is of the rows' length.
///
/// # Panics
/// If columns differ in length, a slot is not below `cells.len()`, or a parameter is out of range.
pub fn profile(
    cells: &mut [ProfileCell],
    slots: &[u32],
    times: Option<&[i64]>,
    columns: &[&[f64]],
    params: &Profile,
    scores: &mut [f64],
    mut attribution: Option<&mut [Vec<f64>]>,
) {
    assert!(params.is_sound(columns.len()), "out of range: {params:?}");
    check_lengths("slots and scores", slots.len(), scores.len());
    times.iter().for_each(|times| check_lengths("slots and times", slots.len(), times.len()));
    scores.fill(f64::NAN);
    let mut said = Vec::with_capacity(params.parts.len());
    for row in rows_by_slot(slots, columns, None) {
        let row = row as usize;
        let value = |column: usize| columns[column][row];
        if !params.parts.iter().all(|part| is_on_earth(*part, value)) {
            continue;
        }
        scores[row] = cells[slots[row] as usize].take(times.map(|times| times[row]), value, params, &mut said);
        let Some(attribution) = attribution.as_deref_mut() else { continue };
        attribution.iter_mut().for_each(|parts| parts[row] = 0.0);
        for (part, said) in params.parts.iter().zip(&said) {
            match *part {
                ProfilePart::Quantity(column) | ProfilePart::Name(column) => attribution[column][row] += said.sign * said.surprise,
                ProfilePart::Place(latitude, longitude) => {
                    [latitude, longitude].into_iter().for_each(|column| attribution[column][row] += said.surprise / 2.0);
                }
            }
        }
    }
}

/// Whether a place, if the part is one, is on earth.
fn is_on_earth(part: ProfilePart, value: impl Fn(usize) -> f64) -> bool {
    match part {
        ProfilePart::Place(latitude, longitude) => value(latitude).abs() <= 90.0 && value(longitude).abs() <= 180.0,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
