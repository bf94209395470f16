//! Traces of rows in several shapes, and the slow model of the windows over them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub struct Row {
    pub time: i64,
    pub key: Option<i64>,
    pub value: Option<f64>,
    pub whole: Option<i64>,
}

/// The rows of each window and key, by the window's start, in order of arrival.
pub type Groups = BTreeMap<(i64, Option<i64>), Vec<Row>>;

/// The rows of each window and key, by the window's start and end, in order of arrival.
pub type Windows = BTreeMap<(i64, i64, Option<i64>), Vec<Row>>;

/// Every window by itself: a row counts in each window that covers it and was not closed when the row came. Returns how many rows
/// were late, too.
pub fn windows_of(rows: &[Row], size: i64, slide: i64, delay: i64) -> (Groups, usize) {
    let hopping = |time: i64| {
        let last_start = time.div_euclid(slide) * slide;
        let starts = (0..).map(move |back| last_start - back * slide).take_while(move |start| start + size > time);
        starts.map(|start| (start, start + size)).collect()
    };
    let (groups, late) = windows_by(rows, delay, hopping);
    (groups.into_iter().map(|((start, _, key), rows)| ((start, key), rows)).collect(), late)
}

/// The rows by start, end and key of windows, and how many were late; `windows` are those that cover a time.
pub fn windows_by(rows: &[Row], delay: i64, windows: impl Fn(i64) -> Vec<(i64, i64)>) -> (Windows, usize) {
    let (mut groups, mut late, mut greatest) = (Windows::new(), 0, i64::MIN);
    for row in rows {
        let watermark = greatest.saturating_sub(delay + 1);
        let open: Vec<_> = windows(row.time).into_iter().filter(|(_, end)| end - 1 > watermark).collect();
        late += usize::from(open.is_empty());
        for (start, end) in open {
            groups.entry((start, end, row.key)).or_default().push(row.clone());
        }
        greatest = greatest.max(row.time);
    }
    (groups, late)
}

/// The rows as columns `ts`, `key`, `value`, `whole` and `text`, which is a word for each value of `whole`.
pub fn records(rows: &[Row], text_keys: bool) -> RecordBatch {
    let keys: ArrayRef = match text_keys {
        true => Arc::new(rows.iter().map(|row| row.key.map(|key| format!("key-{key}"))).collect::<StringArray>()),
        false => Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
    };
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Int64, false),
        Field::new("key", keys.data_type().clone(), true),
        Field::new("value", DataType::Float64, true),
        Field::new("whole", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.time)).collect::<Int64Array>()),
        keys,
        Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.whole).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.whole.map(word)).collect::<StringArray>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// Rows of at most `batch_rows` at a time.
pub fn cut(rows: &[Row], batch_rows: usize) -> Vec<RecordBatch> {
    let all = records(rows, rows.len().is_multiple_of(2));
    (0..rows.len()).step_by(batch_rows).map(|start| all.slice(start, batch_rows.min(rows.len() - start))).collect()
}

/// The text of a row whose `whole` is this.
pub fn word(whole: i64) -> String {
    format!("the word for {whole}")
}

/// The key in the first column of a row of results.
pub fn key_of(batch: &RecordBatch, row: usize) -> Option<i64> {
    let keys = batch.column(0);
    if keys.is_null(row) {
        return None;
    }
    Some(match keys.data_type() {
        DataType::Utf8 => keys.as_string::<i32>().value(row).trim_start_matches("key-").parse().unwrap(),
        _ => keys.as_primitive::<Int64Type>().value(row),
    })
}

/// Shapes of trace: steps forward by up to `step`, with rows up to `back` behind.
pub fn traces() -> impl Strategy<Value = Vec<Row>> {
    let shapes = prop_oneof![Just((2, 0)), Just((5, 20)), Just((3, 200)), Just((500, 50)), Just((40, 2_000))];
    let row = |step: i64, back: i64| {
        (
            0..=step,
            0..=back,
            prop::option::weighted(0.9, -3..8_i64),
            prop::option::weighted(0.8, -1e6..1e6),
            prop::option::weighted(0.8, -1_000..1_000_i64),
        )
    };
    (shapes, -5_000..5_000_i64).prop_flat_map(move |((step, back), start)| {
        prop::collection::vec(row(step, back), 1..300).prop_map(move |steps| {
            let mut now = start;
            let place = |(step, back, key, value, whole): (i64, i64, _, _, _)| {
                now += step;
                Row { time: now - back, key, value, whole }
            };
            steps.into_iter().map(place).collect()
        })
    })
}
