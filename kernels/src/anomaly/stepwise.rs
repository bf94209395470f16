//! What detectors share that take values one by one, each from the state that the one before it left: the loop over rows, and running moments.
//!
//! Such states are chains: vectors gain nothing, and the code is the same on every backend.

use crate::aggregate::check_lengths;
use crate::bits::Bits;

/// Largest magnitude of a value, so that squares stay finite.
pub(crate) const MOST: f64 = 1e150;

/// Least deviation, relative to the mean.
pub(crate) const RELATIVE_FLOOR: f64 = 1e-9;

/// Least deviation that values are measured by.
pub(crate) const LEAST_FLOOR: f64 = 1e-300;

/// A score is at most this.
pub(crate) const MOST_SCORE: f64 = 1e12;

/// What is said of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The score, from 0 to 10¹².
    pub score: f64,
    /// The value that was expected before; NaN if none was.
    pub expected: f64,
}

/// A detector that takes the values of a key one by one.
pub trait Stepwise {
    /// What is known of one key; the default is a key not yet seen.
    type Cell: Default + Clone;

    /// Scores a finite value of magnitude at most 10¹⁵⁰, then takes it in.
    fn take(&self, cell: &mut Self::Cell, value: f64) -> Judged;
}

/// Scores each row and takes it into its key's cell. A null, NaN or infinite value scores NaN and leaves the cell as it was; a value beyond
/// ±10¹⁵⁰ counts as that. `expected`, if it is asked for, gets the values that were expected.
///
/// # Panics
/// If the columns differ in length or a slot is not below `cells.len()`.
pub fn judge<D: Stepwise>(
    detector: &D,
    cells: &mut [D::Cell],
    slots: &[u32],
    values: &[f64],
    validity: Option<Bits<'_>>,
    scores: &mut [f64],
    mut expected: Option<&mut [f64]>,
) {
    check_lengths("slots and values", slots.len(), values.len());
    check_lengths("values and scores", values.len(), scores.len());
    Bits::check(validity, values.len());
    for (row, (&slot, &value)) in slots.iter().zip(values).enumerate() {
        let valid = value.is_finite() && validity.is_none_or(|bits| bits.get(row));
        let judged = match valid {
            true => detector.take(&mut cells[slot as usize], value.clamp(-MOST, MOST)),
            false => Judged { score: f64::NAN, expected: f64::NAN },
        };
        scores[row] = judged.score;
        if let Some(expected) = expected.as_deref_mut() {
            expected[row] = judged.expected;
        }
    }
}

/// `distance` in units of `deviation`, which is at least a billionth of `middle`.
pub(crate) fn in_deviations(distance: f64, deviation: f64, middle: f64) -> f64 {
    (distance / deviation.max(RELATIVE_FLOOR * middle.abs()).max(LEAST_FLOOR)).clamp(-MOST_SCORE, MOST_SCORE)
}

/// Mean and sum of squared differences from it, after B. P. Welford, "Note on a method for calculating corrected sums of squares and
/// products", Technometrics 4(3), 1962.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Running {
    /// Values taken in.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Sum of their squared differences from the mean.
    pub squares: f64,
}

impl Running {
    /// Takes a value in.
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let diff = value - self.mean;
        self.mean += diff / self.count as f64;
        self.squares = (self.squares + diff * (value - self.mean)).min(f64::MAX);
    }

    /// The moments of these values and of others, after T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm
    /// for computing sample variances", 1979.
    pub(crate) fn combine(&self, others: &Running) -> Running {
        if self.count == 0 || others.count == 0 {
            return if self.count == 0 { *others } else { *self };
        }
        let count = self.count + others.count;
        let (diff, part) = (others.mean - self.mean, others.count as f64 / count as f64);
        let squares = self.squares + others.squares + diff * diff * self.count as f64 * part;
        Running { count, mean: self.mean + diff * part, squares: squares.min(f64::MAX) }
    }

    /// The standard deviation; 0 if there is no value.
    pub(crate) fn deviation(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }

    /// How many standard deviations a value lies above the mean.
    pub(crate) fn z(&self, value: f64) -> f64 {
        in_deviations(value - self.mean, self.deviation(), self.mean)
    }

    /// The mean, NaN if there is none.
    pub(crate) fn expected(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean }
    }
}

/// The two sums of a change detector, in deviations: how far values have drifted up, and down, beyond what is allowed for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drifts {
    /// Upwards.
    pub up: f64,
    /// Downwards.
    pub down: f64,
}

impl Drifts {
    /// Takes a deviation in; the greater of the two sums.
    pub(crate) fn add(&mut self, z: f64, allowance: f64) -> f64 {
        self.up = (self.up + z - allowance).clamp(0.0, MOST_SCORE);
        self.down = (self.down - z - allowance).clamp(0.0, MOST_SCORE);
        self.up.max(self.down)
    }
}
