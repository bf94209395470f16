//! Twin of [`crate::anomaly::knn`]'s search.

use crate::anomaly::knn::{LANES, MOST_SQUARE, Neighbour, Query, Search};

/// All rows one by one, put in order.
pub(crate) struct OneByOne;

impl Search for OneByOne {
    fn nearest(&mut self, query: &Query<'_>, found: &mut Vec<Neighbour>) {
        let Query { blocks, known, row, inverses, k } = *query;
        let value = |place: usize, column: usize| blocks[(place / LANES * row.len() + column) * LANES + place % LANES];
        let square = |place: usize, column: usize| ((row[column] - value(place, column)) * inverses[column]).powi(2).min(MOST_SQUARE);
        found.clear();
        found.extend((0..known).map(|place| {
            let square = (0..row.len()).fold(0.0, |sum, column| sum + square(place, column));
            Neighbour { square, place: place as u32 }
        }));
        found.sort_by(|a, b| a.square.total_cmp(&b.square));
        found.truncate(k);
    }
}
