//! Results of several workers in one order: that of event time, as one worker would give them.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;

use crate::batch::{Batch, EventTime, Origins};
use crate::error::Result;

/// Rows of a batch of merged results: few enough for the caches.
const MERGED_ROWS: usize = 8_192;

/// Rows that a piece must have on average to be handed on as it is; shorter ones are copied together.
const PIECE_ROWS: usize = 256;

/// Neighbouring rows of one batch of one worker.
struct Piece {
    batch: usize,
    rows: Range<usize>,
}

/// What the workers have put out, each in an order of its own, in order of event time where theirs are; of rows of one time, those
/// of the first worker come first.
///
/// # Errors
/// If columns cannot be put together, which would be a defect.
pub(super) fn merge(workers: Vec<Vec<Batch>>) -> Result<Vec<Batch>> {
    let several = workers.iter().filter(|batches| !batches.is_empty()).count() > 1;
    if !several || workers.iter().flatten().any(|batch| batch.time.is_none()) {
        return Ok(workers.into_iter().flatten().collect());
    }
    let ends: Vec<usize> = workers.iter().map(Vec::len).collect();
    let batches: Vec<Batch> = workers.into_iter().flatten().collect();
    let pieces = order(&batches, &ends);
    if batches.iter().map(Batch::rows).sum::<usize>() >= pieces.len() * PIECE_ROWS {
        return Ok(pieces.into_iter().map(|piece| batches[piece.batch].slice(piece.rows)).collect());
    }
    let rows: Vec<(usize, usize)> = pieces.into_iter().flat_map(|piece| piece.rows.map(move |row| (piece.batch, row))).collect();
    rows.chunks(MERGED_ROWS).map(|rows| interleave(&batches, rows)).collect()
}

/// The pieces in order. Worker by worker there are `counts` batches.
fn order(batches: &[Batch], counts: &[usize]) -> Vec<Piece> {
    let time = |batch: usize, row: usize| batches[batch].time.as_ref().map_or(i64::MIN, |time| time.times[row]);
    let latest = |batch: usize| batches[batch].time.as_ref().map_or(i64::MIN, |time| time.latest);
    let mut heads: Vec<(Range<usize>, usize)> = Vec::with_capacity(counts.len());
    let mut start = 0;
    for count in counts {
        heads.push((start..start + count, 0));
        start += count;
    }
    let mut pieces = Vec::new();
    loop {
        heads.iter_mut().for_each(|(left, row)| {
            while left.start < left.end && *row >= batches[left.start].rows() {
                (left.start, *row) = (left.start + 1, 0);
            }
        });
        let next = |worker: usize| (time(heads[worker].0.start, heads[worker].1), worker);
        let mut alive: Vec<(i64, usize)> = (0..heads.len()).filter(|&worker| !heads[worker].0.is_empty()).map(next).collect();
        alive.sort_unstable();
        let Some(&(_, worker)) = alive.first() else { return pieces };
        let (left, row) = &mut heads[worker];
        let rows = batches[left.start].rows();
        let end = match alive.get(1) {
            None => rows,
            Some(&rival) if (latest(left.start), worker) <= rival => rows,
            Some(&rival) => (*row..rows).find(|&row| (time(left.start, row), worker) > rival).unwrap_or(rows),
        };
        pieces.push(Piece { batch: left.start, rows: *row..end });
        *row = end;
    }
}

fn interleave(batches: &[Batch], rows: &[(usize, usize)]) -> Result<Batch> {
    let records: Vec<&RecordBatch> = batches.iter().map(|batch| &batch.records).collect();
    let records = interleave_record_batch(&records, rows)?;
    let times: Vec<&EventTime> = batches.iter().filter_map(|batch| batch.time.as_ref()).collect();
    let marked = times.iter().any(|time| time.watermarks.is_some());
    let mark = |&(batch, row): &(usize, usize)| times[batch].watermarks.as_ref().map_or(i64::MIN, |marks| marks[row]);
    let merged: Vec<i64> = rows.iter().map(|&(batch, row)| times[batch].times[row]).collect();
    let time = EventTime {
        watermarks: marked.then(|| rows.iter().map(mark).collect()),
        earliest: merged.iter().copied().min().unwrap_or(i64::MAX),
        latest: merged.iter().copied().max().unwrap_or(i64::MIN),
        times: merged.into(),
    };
    let origins = Origins::interleaved(batches.iter().map(|batch| (&batch.origins, batch.segments.as_slice())), rows);
    Ok(Batch { origins, ..Batch::of_results(records, Some(time)) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(rows: &[(i64, i64)]) -> Batch {
        let names: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
        let records = RecordBatch::try_from_iter([("name", names)]).unwrap();
        let times: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let time = EventTime { times: times.into(), watermarks: None, earliest: 0, latest: 100 };
        Batch::of_results(records, Some(time))
    }

    fn names(batches: &[Batch]) -> Vec<i64> {
        batches.iter().flat_map(|batch| batch.records.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn rows_stand_in_order_of_time_then_worker() {
        let first = vec![batch(&[(1, 10), (1, 11), (5, 12)]), batch(&[(7, 13)])];
        let second = vec![batch(&[(1, 20), (3, 21), (7, 22), (9, 23)])];
        let merged = merge(vec![first, Vec::new(), second]).unwrap();
        assert_eq!(names(&merged), [10, 11, 20, 21, 12, 13, 22, 23]);
        assert_eq!(merged.len(), 1, "short pieces are copied together");
        assert_eq!(merged[0].time.as_ref().unwrap().times.as_ref(), [1, 1, 1, 3, 5, 7, 7, 9]);
    }

    #[test]
    fn the_order_of_each_worker_is_kept_where_it_is_not_that_of_time() {
        let merged = merge(vec![vec![batch(&[(5, 1), (2, 2)])], vec![batch(&[(3, 3), (4, 4)])]]).unwrap();
        assert_eq!(names(&merged), [3, 4, 1, 2]);
        assert_eq!(names(&merge(vec![vec![batch(&[(5, 1)])], Vec::new()]).unwrap()), [1]);
    }

    #[test]
    fn long_pieces_are_not_copied() {
        let long = |time: i64, name: i64| batch(&vec![(time, name); 1_000]);
        let merged = merge(vec![vec![long(1, 1), long(2, 1)], vec![long(1, 2), long(2, 2)]]).unwrap();
        assert_eq!(merged.iter().map(|batch| names(std::slice::from_ref(batch))[0]).collect::<Vec<_>>(), [1, 2, 1, 2]);
    }
}
