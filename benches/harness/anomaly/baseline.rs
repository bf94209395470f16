//! What a detector must beat: the distance outside all that was seen so far, of two floats of state.

use std::fmt;

use arrow::array::Array;
use thalweg::operator::detect::{Detector, DetectorSpec, Observations, Told};
use thalweg::state::{Reader, Writer};
use thalweg::time::Unit;

/// How far a value lies outside the range of the key's values before it, as a share of that range; at most 1, and that where there is no
/// range yet.
#[derive(Debug)]
pub struct OutsideRange;

impl fmt::Display for OutsideRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outside_range()")
    }
}

impl DetectorSpec for OutsideRange {
    fn build(&self, _on: &[String], _unit: Option<Unit>) -> thalweg::Result<Box<dyn Detector>> {
        Ok(Box::new(Ranges(Vec::new())))
    }

    /// Any value outside at all.
    fn threshold(&self) -> f64 {
        1e-9
    }
}

/// Least and greatest value by slot; infinities without one.
struct Ranges(Vec<(f64, f64)>);

impl Ranges {
    fn reach(&mut self, groups: usize) {
        self.0.resize(groups.max(self.0.len()), (f64::INFINITY, f64::NEG_INFINITY));
    }
}

impl Detector for Ranges {
    fn score(&mut self, observations: &Observations<'_>, scores: &mut [f64], _told: &mut Told) -> thalweg::Result<()> {
        self.reach(observations.groups);
        let rows = observations.slots.iter().zip(observations.values().values()).zip(scores).enumerate();
        for (_, ((&slot, &value), score)) in rows.filter(|(row, ((_, value), _))| observations.values().is_valid(*row) && value.is_finite())
        {
            let (low, high) = &mut self.0[slot as usize];
            let outside = (*low - value).max(value - *high).max(0.0);
            *score = if outside.is_infinite() || outside == 0.0 { 0.0 } else { (outside / (*high - *low)).min(1.0) };
            (*low, *high) = (low.min(value), high.max(value));
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(f64, f64)>()
    }

    fn save(&self, slot: u32, out: &mut Writer) -> thalweg::Result<()> {
        let (low, high) = self.0.get(slot as usize).copied().unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
        out.float(low);
        out.float(high);
        Ok(())
    }

    fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> thalweg::Result<()> {
        self.reach(slot as usize + 1);
        self.0[slot as usize] = (from.float()?, from.float()?);
        Ok(())
    }
}
