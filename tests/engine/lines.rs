//! What comes out of a pipeline, as text: a line for each row.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use thalweg::Result;
use thalweg::sink::Callback;

/// Rows of results, in the order in which they came.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// A sink that keeps each row as text.
pub fn keep(lines: &Lines) -> Callback<impl FnMut(&RecordBatch) -> Result<()> + Send + use<>> {
    let lines = Arc::clone(lines);
    Callback::new(move |batch: &RecordBatch| {
        let options = FormatOptions::default().with_null("-");
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
        lines.lock().unwrap().extend((0..batch.num_rows()).map(line));
        Ok(())
    })
}
