//! Results that are numbers made of one cell each, put behind each other as groups change: what windows that fire one after the other have in
//! common is read while it is near, and no cells are kept to be read again.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use thalweg_kernels::{Cell, gather};

use super::accumulators::Accumulators;
use super::{Function, Lane};

/// A result that is made of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// The number of rows.
    Rows,
    /// The number of values.
    Count,
    FloatSum,
    FloatMean,
    FloatMin,
    FloatMax,
    IntMean,
    IntMin,
    IntMax,
}

impl Number {
    /// What `function` makes of cells of values of `lane`, if that is a number that every cell has and `data_type` is its type as it is.
    pub fn of(function: &Function, lane: Lane, data_type: &DataType) -> Option<Number> {
        let number = match (function, lane) {
            (Function::Count, _) => Number::Count,
            (Function::Sum, Lane::Float) => Number::FloatSum,
            (Function::Mean, Lane::Float) => Number::FloatMean,
            (Function::Min, Lane::Float) => Number::FloatMin,
            (Function::Max, Lane::Float) => Number::FloatMax,
            (Function::Mean, Lane::Int) => Number::IntMean,
            (Function::Min, Lane::Int) => Number::IntMin,
            (Function::Max, Lane::Int) => Number::IntMax,
            _ => return None,
        };
        (number.data_type() == *data_type).then_some(number)
    }

    fn data_type(self) -> DataType {
        match self {
            Number::Rows | Number::Count | Number::IntMin | Number::IntMax => DataType::Int64,
            _ => DataType::Float64,
        }
    }

    /// Whether groups without values have none.
    fn is_nullable(self) -> bool {
        !matches!(self, Number::Rows | Number::Count)
    }
}

/// Results of some groups, one row each.
pub(crate) struct Finished {
    columns: Vec<Column>,
}

struct Column {
    /// The column of cells that it is made of; of rows none.
    cells: usize,
    number: Number,
    values: Values,
    /// Which rows have a value, once one has none.
    filled: Option<BooleanBufferBuilder>,
}

enum Values {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

impl Finished {
    /// Results of no groups, each of a column of cells.
    pub(super) fn new(results: &[(Number, usize)]) -> Finished {
        let column = |&(number, cells): &(Number, usize)| {
            let values = match number.data_type() {
                DataType::Int64 => Values::Int(Vec::new()),
                _ => Values::Float(Vec::new()),
            };
            Column { cells, number, values, filled: None }
        };
        Finished { columns: results.iter().map(column).collect() }
    }

    /// Adds those of the groups `slots`, which must be there.
    pub fn append(&mut self, groups: &Accumulators, slots: &[u32]) {
        self.columns.iter_mut().for_each(|column| column.append(groups, slots));
    }

    /// Takes the columns out, and leaves room for as many rows.
    pub fn take(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(Column::take).collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }
}

impl Column {
    fn append(&mut self, groups: &Accumulators, slots: &[u32]) {
        let known = self.len();
        let empty = match (&mut self.values, self.number) {
            (Values::Int(values), Number::Rows) => return append_rows(values, groups, slots),
            (Values::Int(values), number) => {
                let cells = groups.cells_of(self.cells);
                match number {
                    Number::IntMin => append(values, cells, slots, Cell::int_min),
                    Number::IntMax => append(values, cells, slots, Cell::int_max),
                    _ => append(values, cells, slots, |cell| cell.count as i64),
                }
            }
            (Values::Float(values), number) => {
                let cells = groups.cells_of(self.cells);
                match number {
                    Number::FloatSum => append(values, cells, slots, Cell::float_sum),
                    Number::FloatMin => append(values, cells, slots, Cell::float_min),
                    Number::FloatMax => append(values, cells, slots, Cell::float_max),
                    Number::IntMean => append(values, cells, slots, |cell| cell.int_sum() as f64 / cell.count as f64),
                    _ => append(values, cells, slots, |cell| cell.float_sum() / cell.count as f64),
                }
            }
        };
        if !self.number.is_nullable() || !(empty || self.filled.is_some()) {
            return;
        }
        let filled = self.filled.get_or_insert_with(|| {
            let mut filled = BooleanBufferBuilder::new(known + slots.len());
            filled.append_n(known, true);
            filled
        });
        let cells = groups.cells_of(self.cells);
        slots.iter().for_each(|&slot| filled.append(cells[slot as usize].count > 0));
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Int(values) => values.len(),
        }
    }

    fn take(&mut self) -> ArrayRef {
        let nulls = self.filled.take().map(|mut filled| NullBuffer::new(filled.finish()));
        match &mut self.values {
            Values::Float(values) => Arc::new(Float64Array::new(emptied(values).into(), nulls)),
            Values::Int(values) => Arc::new(Int64Array::new(emptied(values).into(), nulls)),
        }
    }

    fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Float(values) => values.capacity() * size_of::<f64>(),
            Values::Int(values) => values.capacity() * size_of::<i64>(),
        };
        values + self.filled.as_ref().map_or(0, |filled| filled.capacity() / 8)
    }
}

/// Adds what `number` makes of the cells in `slots`; whether one of these is empty.
#[inline(always)]
fn append<T>(values: &mut Vec<T>, cells: &[Cell], slots: &[u32], number: impl Fn(&Cell) -> T) -> bool {
    let mut empty = false;
    values.extend(slots.iter().map(|&slot| {
        let cell = &cells[slot as usize];
        empty |= cell.count == 0;
        number(cell)
    }));
    empty
}

fn append_rows(values: &mut Vec<i64>, groups: &Accumulators, slots: &[u32]) {
    match groups.plain_counts() {
        Some(counts) => gather(bytemuck::cast_slice(counts), slots, values),
        None => values.extend(slots.iter().map(|&slot| groups.count(slot) as i64)),
    }
}

/// The values, which leave an empty list of the same room.
fn emptied<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};

    use crate::operator::aggregate::{Accumulators, Aggregate, Aggregates, Placed, Spans, count, count_of, max, mean, min, rate, sum};
    use crate::operator::devices;
    use crate::operator::keys::Slots;
    use crate::time::Unit;

    fn records() -> RecordBatch {
        let x: Float64Array = (0..40).map(|row| (row % 3 > 0).then_some(f64::from(row) * 0.3 - 4.0)).collect();
        let n: Int64Array = (0..40).map(|row| (row % 4 > 0).then_some(row * 7 - 90)).collect();
        RecordBatch::try_from_iter_with_nullable([("x", Arc::new(x) as ArrayRef, true), ("n", Arc::new(n) as ArrayRef, true)]).unwrap()
    }

    /// The aggregates, and groups of them of which some have rows alone and the last has none.
    fn groups(of: &[Aggregate]) -> (Aggregates, Accumulators) {
        let records = records();
        let aggregates = Aggregates::new(of, &records.schema()).unwrap();
        let mut groups = Accumulators::new(&aggregates);
        let mut placed: Vec<Placed> = aggregates.columns.iter().map(|column| Placed::new(&devices::unused(), column)).collect();
        let slots: Vec<u32> = (0..40).map(|row| row % 12).collect();
        groups.reserve(13);
        groups.accumulate(&slots, &aggregates.values(&records, &vec![0; 40].into()).unwrap(), 0, &mut placed).unwrap();
        groups.settle(&mut placed);
        (aggregates, groups)
    }

    #[test]
    fn results_are_those_of_all_groups_finished_at_once() {
        let numbers = [mean("x"), sum("x"), min("x"), max("x"), mean("n"), min("n"), max("n"), count_of("n"), count()];
        for of in numbers.iter().map(std::slice::from_ref).chain([&numbers[..], &numbers[8..], &[count_of("x"), count()][..]]) {
            let (aggregates, groups) = groups(of);
            let mut finished = aggregates.finished().unwrap();
            for _ in 0..2 {
                let parts: [&[u32]; 4] = [&[1, 2], &[], &[3, 0, 12, 5], &[11, 1, 10]];
                parts.iter().for_each(|slots| finished.append(&groups, slots));
                let all = parts.concat();
                let expected = aggregates.finish(&groups, &Slots::List(&all), &Spans::same((0, 1), all.len(), Unit::Millisecond)).unwrap();
                assert!(finished.bytes() >= 9 * 8);
                assert_eq!(finished.take(), expected);
            }
        }
    }

    #[test]
    fn what_may_fail_or_is_of_another_type_is_finished_at_once_alone() {
        for other in [sum("n"), rate()] {
            assert!(groups(&[mean("x"), other]).0.finished().is_none());
        }
    }
}
