//! How rare scores are, key by key: [`thalweg_kernels::anomaly::calibration`] with its place in a snapshot.

use thalweg_kernels::anomaly::calibration::BUCKETS;
use thalweg_kernels::{CalibrationCell, p_values};

use crate::error::Result;
use crate::operator::compact::keep;
use crate::state::{Reader, Writer, damaged};

/// Bytes of a key's counts in a snapshot.
const BYTES: usize = BUCKETS * size_of::<u32>();

/// The scores of all keys so far, counted.
#[derive(Default)]
pub(super) struct Calibrations(Vec<CalibrationCell>);

impl Calibrations {
    fn reach(&mut self, groups: usize) {
        self.0.resize(groups.max(self.0.len()), CalibrationCell::default());
    }

    /// The p of each row's score, NaN where there is none; then counts it.
    pub fn p_values(&mut self, slots: &[u32], groups: usize, scores: &[f64]) -> Vec<f64> {
        self.reach(groups);
        let mut p = vec![f64::NAN; scores.len()];
        p_values(&mut self.0, slots, scores, &mut p);
        p
    }

    /// Moves the counts of the keys in `slots` together in this order, and forgets all others.
    pub fn keep(&mut self, slots: &[u32]) {
        keep(&mut self.0, slots);
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<CalibrationCell>()
    }

    /// Writes what is known of the key in `slot`.
    pub fn save(&self, slot: u32, out: &mut Writer) {
        let cell = self.0.get(slot as usize).cloned().unwrap_or_default();
        let bytes: Vec<u8> = cell.counts().iter().flat_map(|count| count.to_le_bytes()).collect();
        out.bytes(&bytes);
    }

    /// Takes up what was written of the key in `slot`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it is not what was written.
    pub fn load(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<()> {
        self.reach(slot as usize + 1);
        let bytes: &[u8; BYTES] =
            from.bytes()?.try_into().map_err(|_| damaged("the counts of a key's scores are of another number of buckets"))?;
        let counts = std::array::from_fn(|bucket| {
            let at = bucket * size_of::<u32>();
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        });
        self.0[slot as usize] =
            CalibrationCell::from_counts(counts).ok_or_else(|| damaged("a key has counts of more scores than are kept"))?;
        Ok(())
    }
}
