//! The NDJSON decoder beside arrow-json.

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use thalweg::config::{BATCH_ROWS, RECV_BUFFER_BYTES};

use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::events::{Events, KEYS};
use crate::ndjson::{Shape, decode};
use crate::report::Report;
use crate::{Common, Result};

/// Lines per event in memory.
const SHARE: usize = 10;

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let cases = [
        ("NDJSON decoder beside arrow-json, three numbers a line", Shape::Numbers, 5.0),
        ("NDJSON decoder beside arrow-json, three numbers and two strings a line", Shape::Strings, 3.0),
    ];
    for (name, shape, target) in cases {
        if !common.wants(name) {
            continue;
        }
        let rows = (common.rows / SHARE).max(1);
        let lines = shape.lines(&Events::generate(rows)?, KEYS[1].0, rows)?;
        let schema = shape.schema();
        let expected = Answer::of_rows(rows as u64);
        let contenders = vec![
            Contender::new("Thalweg", expected, || Run::time(|| decode(&lines, &schema))),
            Contender::new("arrow-json", expected, || Run::time(|| arrow_json(&lines, &schema))),
        ];
        report.add(Contest::hold(name, Work::bytes(lines.len()), common, contenders)?.goal("Thalweg", "arrow-json", target));
    }
    Ok(())
}

/// The same pieces through arrow-json's push decoder.
fn arrow_json(lines: &[u8], schema: &SchemaRef) -> Result<Answer> {
    let mut decoder = ReaderBuilder::new(SchemaRef::clone(schema)).with_batch_size(BATCH_ROWS).build_decoder()?;
    let mut rows = 0;
    for mut piece in lines.chunks(RECV_BUFFER_BYTES) {
        while !piece.is_empty() {
            let used = decoder.decode(piece)?;
            if used < piece.len() {
                rows += decoder.flush()?.map_or(0, |batch| batch.num_rows() as u64);
            }
            piece = &piece[used..];
        }
    }
    rows += decoder.flush()?.map_or(0, |batch| batch.num_rows() as u64);
    Ok(Answer::of_rows(rows))
}
