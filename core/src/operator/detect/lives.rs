//! The lives of keys that are forgotten: a key without rows for longer than its time to live begins anew.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take_record_batch};

use super::Detect;
use crate::batch::EventTime;
use crate::error::{Error, Result};
use crate::operator::expiry::Expiry;
use crate::time::Unit;
use crate::watermark::{END, NONE};

/// Rows of a batch, none of which is of a key that begins anew after another of them.
#[derive(Debug, Default)]
pub(super) struct Life {
    rows: Vec<u32>,
    /// The slots of the keys that begin anew with them.
    anew: Vec<u32>,
}

/// When keys are forgotten, if there is a `ttl`.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if there is no event time, or `ttl` is finer than its unit.
pub(super) fn expiry(ttl: Option<Duration>, unit: Option<Unit>) -> Result<Option<Expiry>> {
    match (ttl, unit) {
        (None, _) => Ok(None),
        (Some(_), None) => {
            Err(Error::config("`ttl` counts event time, and the stream has none; call `event_time(column)` before `detect`"))
        }
        (Some(ttl), Some(unit)) => Ok(Some(Expiry::new(unit.count(ttl)?))),
    }
}

impl Detect {
    /// Notes the rows of a batch, by their slots. If keys begin anew with some of them, returns the rows by the life of their key: as keys
    /// have nothing to do with each other, there need be no more parts than one key has lives.
    pub(super) fn lives(&mut self, slots: &[u32], time: Option<&EventTime>) -> Vec<Life> {
        let (Some(expiry), Some(time)) = (&mut self.expiry, time) else { return Vec::new() };
        let mark = |row: usize| time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(self.watermark);
        let rows = slots.iter().zip(&*time.times).enumerate();
        let anew = rows.filter_map(|(row, (&slot, &time))| expiry.note(slot, time, mark(row)).map(|_| row));
        let mut anew = anew.collect::<Vec<_>>().into_iter().peekable();
        if anew.peek().is_none() {
            return Vec::new();
        }
        let (mut lives, mut of_key) = (vec![Life::default()], HashMap::new());
        for (row, &slot) in slots.iter().enumerate() {
            let begins = anew.next_if_eq(&row).is_some();
            let life = match begins {
                true => of_key.entry(slot).and_modify(|life| *life += 1).or_insert(1_usize),
                false => of_key.entry(slot).or_insert(0),
            };
            if *life == lives.len() {
                lives.push(Life::default());
            }
            lives[*life].rows.push(row as u32);
            if begins {
                lives[*life].anew.push(slot);
            }
        }
        lives
    }

    /// As [`Detect::judge`], part by part; keys that begin anew are forgotten first.
    pub(super) fn judge_lives(
        &mut self,
        records: &RecordBatch,
        times: Option<&[i64]>,
        slots: &[u32],
        lives: &[Life],
    ) -> Result<Vec<ArrayRef>> {
        let (mut parts, mut places) = (Vec::new(), vec![(0, 0); slots.len()]);
        for Life { rows, anew } in lives.iter().filter(|life| !life.rows.is_empty()) {
            self.forget(anew)?;
            let times: Option<Vec<i64>> = times.map(|times| rows.iter().map(|&row| times[row as usize]).collect());
            let own: Vec<u32> = rows.iter().map(|&row| slots[row as usize]).collect();
            rows.iter().enumerate().for_each(|(place, &row)| places[row as usize] = (parts.len(), place));
            let records = take_record_batch(records, &UInt32Array::from(rows.clone()))?;
            parts.push(self.judge(&records, times.as_deref(), &own)?);
        }
        let column = |number: usize| {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part[number].as_ref()).collect();
            interleave(&parts, &places)
        };
        Ok((0..parts[0].len()).map(column).collect::<Result<_, _>>()?)
    }

    /// Forgets the keys without rows for long enough.
    pub(super) fn expire(&mut self, watermark: i64) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        let Some(expiry) = self.expiry.as_mut().filter(|_| watermark != END) else { return Ok(()) };
        let gone: Vec<u32> = expiry.take(watermark).into_iter().map(|(_, slot)| slot).collect();
        self.forget(&gone)?;
        self.keys.remove_all(&gone);
        Ok(())
    }

    /// Forgets the keys in `slots`.
    fn forget(&mut self, slots: &[u32]) -> Result<()> {
        for &slot in slots {
            self.watched.iter_mut().try_for_each(|watched| watched.detector.forget(slot))?;
            self.requested.forget(slot)?;
        }
        Ok(())
    }
}
