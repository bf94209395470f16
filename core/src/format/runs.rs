//! Where decoded rows come from: runs of rows by partition and, if it is asked for, the offset of each.

use crate::batch::{Origins, PartitionId, Segment};

/// The runs of the rows since the last take.
#[derive(Debug, Default)]
pub(super) struct Runs {
    segments: Vec<Segment>,
    /// One per row, if somebody wants to know.
    offsets: Option<Vec<u64>>,
}

impl Runs {
    /// Tells the offset of each row from now on; asked before there are rows.
    pub fn keep_offsets(&mut self) {
        self.offsets.get_or_insert_default();
    }

    /// Adds rows at byte positions, the first of them at `offset`; `offsets` tells those of all, and is only asked if they are kept.
    pub fn add<O: IntoIterator<Item = u64>>(&mut self, partition: PartitionId, rows: usize, offset: u64, offsets: impl FnOnce() -> O) {
        match self.segments.last_mut() {
            Some(last) if last.partition == partition => last.rows += rows,
            _ => self.segments.push(Segment { partition, rows, offset }),
        }
        if let Some(known) = &mut self.offsets {
            known.extend(offsets());
        }
    }

    /// The runs and, if they are kept, the offsets.
    pub fn take(&mut self) -> (Vec<Segment>, Origins) {
        let segments = std::mem::take(&mut self.segments);
        let origins = match &mut self.offsets {
            Some(offsets) => Origins::told(&segments, std::mem::take(offsets)),
            None => Origins::default(),
        };
        (segments, origins)
    }
}

/// Adds rows whose offsets count rows: they continue the last run if they follow its last row.
pub(super) fn extend(segments: &mut Vec<Segment>, partition: PartitionId, rows: usize, offset: u64) {
    match segments.last_mut() {
        Some(last) if last.partition == partition && last.offset + last.rows as u64 == offset => last.rows += rows,
        _ => segments.push(Segment { partition, rows, offset }),
    }
}
