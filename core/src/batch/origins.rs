//! Which row of its partition each row of a batch is, told only when someone asks.
//!
//! Steps that take rows out or put them in another order note how, which costs nothing per row: the mask or the order is there anyway.
//! Who asks, for late rows, has them followed back to the runs that the source delivered.

use std::sync::Arc;

use arrow::buffer::{BooleanBuffer, ScalarBuffer};

use super::{PartitionId, Segment};

/// Where the rows of a batch stand in their partitions. The default says that they are those of the batch's segments, one after the other,
/// with offsets that count rows.
#[derive(Debug, Clone, Default)]
pub struct Origins(Option<Arc<Origin>>);

/// Where rows come from, or how they were taken from others.
#[derive(Debug)]
enum Origin {
    /// As the source delivered them; the offset of each, where segments do not tell.
    Runs { segments: Vec<Segment>, offsets: Option<ScalarBuffer<u64>> },
    /// Those from a row on.
    From(Arc<Origin>, usize),
    /// Those where the mask is true.
    Masked(Arc<Origin>, BooleanBuffer),
    /// Rows of several batches: which batch, which row. Those of a batch without origins have none.
    Interleaved(Vec<Origins>, Vec<(usize, usize)>),
}

impl Origins {
    /// Rows of `segments` of which each has its own offset in its partition; that of the segment is that of its first row.
    pub fn told(segments: &[Segment], offsets: Vec<u64>) -> Origins {
        Origins(Some(Arc::new(Origin::Runs { segments: segments.to_vec(), offsets: Some(offsets.into()) })))
    }

    /// The origins of a batch of these segments; none if it is made of results.
    fn of(&self, segments: &[Segment]) -> Option<Arc<Origin>> {
        let runs = || Arc::new(Origin::Runs { segments: segments.to_vec(), offsets: None });
        self.0.clone().or_else(|| (!segments.is_empty()).then(runs))
    }

    /// Those of the rows from `start` on; these are of a batch of `segments`.
    pub(super) fn from(&self, segments: &[Segment], start: usize) -> Origins {
        Origins(self.of(segments).map(|origin| Arc::new(Origin::From(origin, start))))
    }

    /// Those of the rows where `mask` is true.
    pub(super) fn masked(&self, segments: &[Segment], mask: &BooleanBuffer) -> Origins {
        Origins(self.of(segments).map(|origin| Arc::new(Origin::Masked(origin, mask.clone()))))
    }

    /// Those of rows of several batches, each with its segments: which batch, which row.
    pub(crate) fn interleaved<'a>(batches: impl Iterator<Item = (&'a Origins, &'a [Segment])>, rows: &[(usize, usize)]) -> Origins {
        let batches: Vec<Origins> = batches.map(|(origins, segments)| Origins(origins.of(segments))).collect();
        match batches.iter().any(|origins| origins.0.is_some()) {
            true => Origins(Some(Arc::new(Origin::Interleaved(batches, rows.to_vec())))),
            false => Origins::default(),
        }
    }

    /// Partition and offset of each row of a batch of `segments` that has so many rows; `None` of rows that are results of a step before.
    pub(crate) fn of_rows(&self, segments: &[Segment], rows: usize) -> Vec<Option<(PartitionId, u64)>> {
        let mut found = vec![None; rows];
        if let Some(origin) = self.of(segments) {
            origin.follow((0..rows).map(|row| (row, row)).collect(), &mut found);
        }
        found
    }
}

impl Origin {
    /// Tells of `rows`, each with its place in `found`.
    fn follow(&self, mut rows: Vec<(usize, usize)>, found: &mut [Option<(PartitionId, u64)>]) {
        match self {
            Origin::Runs { segments, offsets } => {
                let starts = segments.iter().scan(0, |end, segment| {
                    *end += segment.rows;
                    Some(*end - segment.rows)
                });
                let starts: Vec<usize> = starts.collect();
                for (row, place) in rows {
                    let run = starts.partition_point(|&start| start <= row).saturating_sub(1);
                    let Some(segment) = segments.get(run) else { continue };
                    let counted = || segment.offset + (row - starts[run]) as u64;
                    let offset = offsets.as_ref().and_then(|offsets| offsets.get(row).copied()).unwrap_or_else(counted);
                    found[place] = Some((segment.partition, offset));
                }
            }
            Origin::From(origin, start) => {
                rows.iter_mut().for_each(|(row, _)| *row += start);
                origin.follow(rows, found);
            }
            Origin::Masked(origin, mask) => {
                let kept: Vec<usize> = mask.set_indices().collect();
                rows.iter_mut().for_each(|(row, _)| *row = kept[*row]);
                origin.follow(rows, found);
            }
            Origin::Interleaved(batches, taken) => {
                let mut of_batch = vec![Vec::new(); batches.len()];
                for (row, place) in rows {
                    let (batch, row) = taken[row];
                    of_batch[batch].push((row, place));
                }
                for (origins, rows) in batches.iter().zip(of_batch) {
                    if let Some(origin) = &origins.0 {
                        origin.follow(rows, found);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Batch;

    /// A batch whose column says what the offset of each row is: that of row `n` of partition `p` is `100·p + 3·n`, if it is told.
    fn batch(runs: &[(u32, usize)], told: bool) -> Batch {
        let (mut next, mut segments, mut offsets) = ([0_u64; 3], Vec::new(), Vec::new());
        for &(partition, rows) in runs {
            let of = |row: u64| u64::from(partition) * 100 + if told { 3 * row } else { row };
            let start = next[partition as usize];
            segments.push(Segment { partition: PartitionId(partition), rows, offset: of(start) });
            offsets.extend((start..start + rows as u64).map(of));
            next[partition as usize] += rows as u64;
        }
        let column: ArrayRef = Arc::new(offsets.iter().map(|&offset| Some(offset as i64)).collect::<Int64Array>());
        let origins = if told { Origins::told(&segments, offsets) } else { Origins::default() };
        Batch { segments, origins, ..Batch::new(RecordBatch::try_from_iter([("offset", column)]).unwrap(), 0, 0) }
    }

    fn check(batch: &Batch) {
        let expected = batch.records.column(0).as_primitive::<Int64Type>().values();
        let found = batch.origins.of_rows(&batch.segments, batch.rows());
        let found: Vec<_> = found.into_iter().map(|origin| origin.map(|(partition, offset)| (partition.0, offset as i64))).collect();
        assert_eq!(found, expected.iter().map(|&offset| Some(((offset / 100) as u32, offset))).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn rows_know_their_offsets_through_any_steps(
            runs in prop::collection::vec((0_u32..3, 1_usize..6), 1..6), told: bool, steps in prop::collection::vec((any::<bool>(), any::<u64>()), 0..4),
        ) {
            let mut batch = batch(&runs, told);
            for (slices, seed) in steps {
                batch = match slices {
                    true => {
                        let start = seed as usize % (batch.rows() + 1);
                        batch.slice(start..batch.rows())
                    }
                    false => {
                        let mask = (0..batch.rows()).map(|row| match seed >> (row % 21 * 3) & 7 { 0 => None, bits => Some(bits % 2 == 1) });
                        batch.filter(&mask.collect::<BooleanArray>()).unwrap()
                    }
                };
                check(&batch);
            }
        }
    }

    #[test]
    fn rows_of_several_batches_know_theirs_and_results_have_none() {
        let (first, second) = (batch(&[(1, 3), (2, 2)], true), batch(&[(0, 4)], false));
        let results = Batch::of_results(second.records.clone(), None);
        let batches = [&first, &second, &results];
        let rows = [(1, 3), (0, 4), (2, 0), (0, 0), (1, 0)];
        let origins = Origins::interleaved(batches.iter().map(|batch| (&batch.origins, batch.segments.as_slice())), &rows);
        let found: Vec<_> =
            origins.of_rows(&[], 5).into_iter().map(|origin| origin.map(|(partition, offset)| (partition.0, offset))).collect();
        assert_eq!(found, [Some((0, 3)), Some((2, 203)), None, Some((1, 100)), Some((0, 0))]);
        let none = Origins::interleaved(std::iter::once((&results.origins, results.segments.as_slice())), &[(0, 0)]);
        assert_eq!(none.of_rows(&[], 1), [None]);
    }
}
