//! LODA: how rare a row is in histograms of random projections of it.

use std::borrow::Cow;
use std::fmt;

use thalweg_kernels::{self as kernels, LodaCell, LodaProjections};

use crate::error::{Error, Result};
use crate::operator::detect::tally::Tally;
use crate::operator::detect::{Detection, Detector, DetectorSpec, Observations, Told};
use crate::state::{Reader, Writer, damaged};
use crate::time::Unit;

/// The score from which a row is an anomaly unless another is given.
pub const THRESHOLD: f64 = 5.0;

/// Parameters of LODA, see [`loda`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loda {
    /// Projections, from 1 to 1,000.
    pub projections: u32,
    /// Bins of a histogram, from 2 to 1,024.
    pub bins: u32,
    /// Rows of a key that make the reference of the next ones, from 10 to 65,536.
    pub window_size: u32,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Default for Loda {
    fn default() -> Loda {
        Loda { projections: 100, bins: 16, window_size: 256, seed: 42 }
    }
}

/// Detection by LODA: how rare a row is in histograms of 100 random projections of it, over windows of 256 rows. Watches columns together, each in
/// deviations from its mean in the latest whole window; for many columns, of which few are strange at once. Tells attribution.
///
/// A score is the mean of −ln p, some 2 to 3 where all is well, and less than 6.3; what is usual depends on the number of columns, so choose by
/// [`Detection::false_alarm_rate`] where there are several. Threshold: [`THRESHOLD`]. Rows of a key's first window score 0.
///
/// Equations and sources: [`thalweg_kernels::anomaly::loda`]. State: 4 kB for each column and 18 kB, a key.
pub fn loda() -> Detection {
    Detection::new(Loda::default())
}

impl fmt::Display for Loda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loda { projections, bins, window_size, .. } = self;
        write!(f, "loda(projections={projections}, bins={bins}, window_size={window_size})")
    }
}

impl DetectorSpec for Loda {
    fn build(&self, on: &[String], _unit: Option<Unit>) -> Result<Box<dyn Detector>> {
        let columns = on.len();
        let Loda { projections, bins, window_size, seed } = *self;
        let limits = [("projections", projections, 1, 1_000), ("bins", bins, 2, 1_024), ("window_size", window_size, 10, 1 << 16)];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(Error::config(format!("`{name}` is {value}; it must lie between {least} and {most}")));
            }
        }
        let params = kernels::Loda { projections, bins, window_size, seed };
        Ok(Box::new(State { projections: LodaProjections::new(columns, &params), cells: Vec::new(), tally: Tally::default() }))
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn tells_attribution(&self) -> bool {
        true
    }

    fn threshold(&self) -> f64 {
        THRESHOLD
    }
}

struct State {
    projections: LodaProjections,
    cells: Vec<LodaCell>,
    tally: Tally,
}

impl State {
    fn reach(&mut self, groups: usize) {
        self.cells.resize_with(self.cells.len().max(groups), LodaCell::default);
    }
}

impl Detector for State {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], told: &mut Told) -> Result<()> {
        self.reach(observations.groups);
        let floats = observations.floats();
        let columns: Vec<&[f64]> = floats.iter().map(Cow::as_ref).collect();
        kernels::loda(&mut self.cells, observations.slots, &columns, &self.projections, scores, told.attribution.as_deref_mut());
        self.tally.look(scores.len(), &self.cells, LodaCell::bytes);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<LodaCell>() + self.tally.bytes()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> Result<()> {
        let (current, reference) = self.cells.get(slot as usize).map_or((&[][..], &[][..]), LodaCell::rows);
        out.floats(current);
        out.floats(reference);
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.reach(slot as usize + 1);
        let (current, reference) = (from.floats()?, from.floats()?);
        let cell = LodaCell::restored(&current, &reference, &self.projections);
        self.cells[slot as usize] = cell.ok_or_else(|| damaged("the windows of a key are of another size"))?;
        self.tally.look(1, &self.cells, LodaCell::bytes);
        Ok(())
    }
}
