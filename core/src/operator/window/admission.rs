//! Which rows of a batch still count, and in which windows.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::batch::{Batch, EventTime};
use crate::error::Result;
use crate::operator::Late;
use crate::operator::event_time::timed;
use crate::operator::keys::KeyColumns;
use crate::watermark::NONE;
use crate::window::Panes;

/// Rows with their event times.
pub(super) type Rows = (RecordBatch, EventTime);

/// The rows of a batch, sorted out. Of rows of one time in one partition, those of later parts came later.
pub(super) struct Admitted {
    /// Rows that all windows of theirs count.
    pub whole: Option<Rows>,
    /// Rows that only the windows of theirs from some window on count.
    pub parts: BTreeMap<i64, Rows>,
    /// Rows that no window counts any more.
    pub late: Option<Late>,
}

/// Sorts out the rows of a batch: a window counts rows until the watermark before them, or that which the operator was told, is
/// more than `lateness` past its end. `keys` are the columns of the operator's key.
pub(super) fn admit(
    batch: &Batch,
    time: &EventTime,
    panes: &Panes,
    (watermark, lateness): (i64, i64),
    keys: &mut KeyColumns,
) -> Result<Admitted> {
    if time.watermarks.is_none() && time.earliest > watermark {
        return Ok(Admitted { whole: Some((batch.records.clone(), time.clone())), parts: BTreeMap::new(), late: None });
    }
    let (mut keep, mut late) = (vec![true; batch.rows()], vec![false; batch.rows()]);
    let mut parts: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, &event_time) in time.times.iter().enumerate() {
        let watermark = time.watermarks.as_ref().map_or(NONE, |marks| marks[row]).max(watermark);
        if event_time > watermark {
            continue;
        }
        match first_open_window(panes, event_time, watermark.saturating_sub(lateness)) {
            Admission::All => {}
            Admission::None => (keep[row], late[row]) = (false, true),
            Admission::From(window) => {
                keep[row] = false;
                parts.entry(window).or_default().push(row as u32);
            }
        }
    }
    let late = late.contains(&true).then(|| Late::of(batch, &BooleanArray::from(late), watermark, keys)).transpose()?;
    let late = late.map(|late| late.missed(|time| panes.bounds(panes.last_window(panes.pane_of(time)))));
    let whole = batch.clone().filter(&BooleanArray::from(keep))?;
    // The bounds may be those of rows that are gone; panes of theirs must not be opened again.
    let whole = whole.time.map(|time| (whole.records, timed(time.times)));
    let part = |(window, rows): (i64, Vec<u32>)| {
        let time = timed(rows.iter().map(|&row| time.times[row as usize]).collect());
        Ok((window, (take_record_batch(&batch.records, &UInt32Array::from(rows))?, time)))
    };
    Ok(Admitted { whole, parts: parts.into_iter().map(part).collect::<Result<_>>()?, late })
}

/// Which windows of a row's pane may still count it.
enum Admission {
    All,
    None,
    From(i64),
}

fn first_open_window(panes: &Panes, event_time: i64, watermark: i64) -> Admission {
    let pane = panes.pane_of(event_time);
    let (first, last) = (panes.first_window(pane), panes.last_window(pane));
    if panes.is_closed(last, watermark) {
        return Admission::None;
    }
    if !panes.is_closed(first, watermark) {
        return Admission::All;
    }
    let mut window = last;
    while !panes.is_closed(window - 1, watermark) {
        window -= 1;
    }
    Admission::From(window)
}
